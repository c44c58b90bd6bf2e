//! The objects of the fault proxy. Functions of a lab's image: what they make depends on nothing else.

use serde_json::{Value, json};

/// The namespace that holds the proxy and nothing else.
pub const NAMESPACE: &str = "kubevirt-lab";
/// The name of everything in it, and of the program.
pub(super) const NAME: &str = "lab-fault-proxy";
/// The labels of its pod, as a selector.
pub const LABELS: &str = "app.kubernetes.io/name=lab-fault-proxy";
/// The port of its Service and its pod that components connect to: above 1023, so that no right is needed to listen there.
pub(super) const PORT: u16 = 6443;
/// The port for rules and ledger. It is on the pod's own loopback address: only a port-forward gets there.
pub const CONTROL_PORT: u16 = 8444;
/// The port of its probe.
const HEALTH_PORT: u16 = 8080;
/// The Secret with the token of the control port.
pub(super) const CONTROL_SECRET: &str = "lab-fault-proxy-control";
/// The Secret with the serving certificate.
pub(super) const SERVING_SECRET: &str = "lab-fault-proxy-serving";

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME})
}

fn named(kind: &str, api_version: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels()}})
}

/// What the certificate needs to be made: the namespace, the ServiceAccount and the Service whose address it is for.
///
/// The account may see the pods of KubeVirt's namespace and nothing else: the proxy hands on the tokens of its clients.
pub(super) fn foundation(kubevirt: &str) -> Vec<Value> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
        "pod-security.kubernetes.io/enforce": "restricted"}}});
    let mut service = named("Service", "v1", NAME);
    service["spec"] = json!({"selector": labels(), "ports": [{"name": "https", "port": PORT, "targetPort": "https"}]});
    let [mut role, mut binding] = rights(kubevirt);
    role["rules"] = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]);
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME});
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]);
    vec![namespace, named("ServiceAccount", "v1", NAME), service, role, binding]
}

/// What of the proxy is in KubeVirt's namespace, by name.
pub(super) fn rights(kubevirt: &str) -> [Value; 2] {
    ["Role", "RoleBinding"].map(|kind| {
        let mut object = named(kind, "rbac.authorization.k8s.io/v1", NAME);
        object["metadata"]["namespace"] = kubevirt.into();
        object
    })
}

/// A Secret of the proxy's.
pub(super) fn secret(name: &str, kind: &str, data: Value, annotations: Value) -> Value {
    let mut secret = named("Secret", "v1", name);
    secret["type"] = kind.into();
    secret["stringData"] = data;
    secret["metadata"]["annotations"] = annotations;
    secret
}

/// The Deployment. `build` tells builds of one tag apart, so that a new one is rolled out.
pub(super) fn deployment(image: &str, build: &str, kubevirt: &str) -> Value {
    let mut deployment = named("Deployment", "apps/v1", NAME);
    let container = json!({
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--in-cluster",
            format!("--pods-of={kubevirt}"),
            format!("--listen=0.0.0.0:{PORT}"),
            format!("--control=127.0.0.1:{CONTROL_PORT}"),
            format!("--health=0.0.0.0:{HEALTH_PORT}"),
            "--certificate=/etc/lab/serving/tls.crt",
            "--key=/etc/lab/serving/tls.key",
            "--token-file=/etc/lab/control/token",
            "--ledger=/var/lib/lab/ledger",
        ],
        "ports": [{"name": "https", "containerPort": PORT}, {"name": "health", "containerPort": HEALTH_PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "health"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "serving", "mountPath": "/etc/lab/serving", "readOnly": true},
            {"name": "control", "mountPath": "/etc/lab/control", "readOnly": true},
            {"name": "ledger", "mountPath": "/var/lib/lab"},
        ],
    });
    deployment["spec"] = json!({
        "replicas": 1,
        // Two would have a ledger each.
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels()},
        "template": {
            "metadata": {"labels": labels(), "annotations": {"lab.local/build": build}},
            "spec": {
                "serviceAccountName": NAME,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [
                    {"name": "serving", "secret": {"secretName": SERVING_SECRET, "defaultMode": 0o440}},
                    {"name": "control", "secret": {"secretName": CONTROL_SECRET, "defaultMode": 0o440}},
                    // It survives the container, not the pod.
                    {"name": "ledger", "emptyDir": {"sizeLimit": "256Mi"}},
                ],
            },
        },
    });
    deployment
}
