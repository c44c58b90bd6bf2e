//! The objects that the operator keeps for an Alertmanager object: generated configuration, governing Service and StatefulSet, shaped as
//! prometheus-operator 0.93 shapes them.

use kubeapi::object;
use serde_json::{Value, json};

use crate::objects::{RELOADER, metadata, packed, resources};

/// The version that runs where the object names none (prometheus-operator `pkg/operator/defaults.go`).
const VERSION: &str = "0.33.1";

/// The key of the generated configuration in its Secret; its content is gzipped YAML.
const CONFIG_KEY: &str = "alertmanager.yaml.gz";

/// Everything that is to exist for an Alertmanager object, in the order in which it is to be created.
///
/// # Errors
/// When the configuration cannot be written as YAML.
pub fn alertmanager_objects(alertmanager: &Value, config: &Value) -> Result<Vec<Value>, wire::yaml::YamlError> {
    let workload = format!("alertmanager-{}", object::name(alertmanager));
    let generated = format!("{workload}-generated");
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(alertmanager, "alertmanager-operated"),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "ports": [
                {"name": "web", "port": 9093, "targetPort": "web", "protocol": "TCP"},
                {"name": "tcp-mesh", "port": 9094, "targetPort": "mesh-tcp", "protocol": "TCP"},
                {"name": "udp-mesh", "port": 9094, "targetPort": "mesh-udp", "protocol": "UDP"},
            ],
            "selector": {"app.kubernetes.io/name": "alertmanager"},
        },
    });
    service["metadata"]["labels"]["operated-alertmanager"] = "true".into();
    Ok(vec![
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": metadata(alertmanager, &generated),
            "data": {CONFIG_KEY: packed(config)?},
        }),
        service,
        stateful_set(alertmanager, &workload, &generated),
    ])
}

fn stateful_set(alertmanager: &Value, workload: &str, generated: &str) -> Value {
    let spec = &alertmanager["spec"];
    let name = object::name(alertmanager);
    let version = spec["version"].as_str().unwrap_or(VERSION).trim_start_matches('v');
    let image = spec["image"].as_str().map_or_else(|| format!("quay.io/prometheus/alertmanager:v{version}"), str::to_owned);
    let selector = json!({
        "alertmanager": name,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "prometheus-operator",
        "app.kubernetes.io/name": "alertmanager",
    });
    let mut labels = selector.clone();
    labels["app.kubernetes.io/version"] = version.into();
    for (key, value) in spec["podMetadata"]["labels"].as_object().into_iter().flatten() {
        labels[key.as_str()] = value.clone();
    }
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    let listen = if replicas == 1 { "" } else { "[$(POD_IP)]:9094" };
    let arguments = json!([
        "--config.file=/etc/alertmanager/config_out/alertmanager.env.yaml",
        "--storage.path=/alertmanager",
        format!("--data.retention={}", spec["retention"].as_str().unwrap_or("120h")),
        format!("--cluster.listen-address={listen}"),
        "--web.listen-address=:9093",
        "--web.route-prefix=/",
        format!("--cluster.label={}/{name}", object::namespace(alertmanager)),
        "--cluster.reconnect-timeout=5m",
    ]);
    let config_volumes = json!([
        {"name": "config-volume", "mountPath": "/etc/alertmanager/config", "readOnly": true},
        {"name": "config-out", "mountPath": "/etc/alertmanager/config_out"},
    ]);
    let reloader = |container: &str, port_name: &str, port: u16, more: &[&str]| {
        let mut all = vec![
            format!("--listen-address=:{port}"),
            "--config-file=/etc/alertmanager/config/alertmanager.yaml.gz".to_owned(),
            "--config-envsubst-file=/etc/alertmanager/config_out/alertmanager.env.yaml".to_owned(),
        ];
        all.extend(more.iter().map(|argument| (*argument).to_owned()));
        json!({
            "name": container, "image": RELOADER, "command": ["/bin/prometheus-config-reloader"], "args": all,
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "SHARD", "value": "-1"}],
            "ports": [{"name": port_name, "containerPort": port}],
            "volumeMounts": config_volumes,
        })
    };
    let probe = |path: &str, failures: u32| {
        json!({"httpGet": {"path": path, "port": "web", "scheme": "HTTP"}, "initialDelaySeconds": if path == "/-/ready" { 3 } else { 0 },
               "timeoutSeconds": 3, "periodSeconds": if path == "/-/ready" { 5 } else { 10 }, "failureThreshold": failures})
    };
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": metadata(alertmanager, workload),
        "spec": {
            "replicas": replicas,
            "serviceName": "alertmanager-operated",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": labels, "annotations": {"kubectl.kubernetes.io/default-container": "alertmanager"}},
                "spec": {
                    "serviceAccountName": spec["serviceAccountName"].as_str().unwrap_or("default"),
                    "terminationGracePeriodSeconds": 120,
                    "initContainers": [reloader("init-config-reloader", "reloader-init", 8081, &["--watch-interval=0"])],
                    "containers": [
                        {
                            "name": "alertmanager", "image": image, "args": arguments,
                            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                            "ports": [
                                {"name": "web", "containerPort": 9093},
                                {"name": "mesh-tcp", "containerPort": 9094},
                                {"name": "mesh-udp", "containerPort": 9094, "protocol": "UDP"},
                            ],
                            "readinessProbe": probe("/-/ready", 10),
                            "livenessProbe": probe("/-/healthy", 10),
                            "resources": resources(spec),
                            "volumeMounts": [
                                {"name": "config-volume", "mountPath": "/etc/alertmanager/config"},
                                {"name": "config-out", "mountPath": "/etc/alertmanager/config_out", "readOnly": true},
                                {"name": format!("{workload}-db"), "mountPath": "/alertmanager"},
                            ],
                        },
                        reloader("config-reloader", "reloader-web", 8080, &["--reload-url=http://localhost:9093/-/reload"]),
                    ],
                    "volumes": [
                        {"name": "config-volume", "secret": {"secretName": generated}},
                        {"name": "config-out", "emptyDir": {"medium": "Memory"}},
                        {"name": format!("{workload}-db"), "emptyDir": {}},
                    ],
                },
            },
        },
    });
    for (key, value) in alertmanager["metadata"]["labels"].as_object().into_iter().flatten() {
        set["metadata"]["labels"][key.as_str()] = value.clone();
    }
    set["metadata"]["labels"]["alertmanager"] = name.into();
    set
}
