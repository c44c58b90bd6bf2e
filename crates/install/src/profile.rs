//! What a lab changes of kube-prometheus and KubeVirt before it installs them: the size, and the known traps, each by its name.
//!
//! Functions from objects to objects; whether an object is changed depends on nothing but itself and the profile.

use kubeapi::object;
use serde_json::{Value, json};

/// Where kube-prometheus lives; its manifests name it in many places.
pub const MONITORING: &str = "monitoring";
/// Where KubeVirt lives.
pub const KUBEVIRT: &str = "kubevirt";

/// The ServiceAccount of a Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub account: String,
}

impl Default for Monitor {
    /// That of kube-prometheus.
    fn default() -> Self {
        Self { namespace: MONITORING.to_owned(), account: "prometheus-k8s".to_owned() }
    }
}

/// How much of kube-prometheus is installed, and how.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Who scrapes KubeVirt.
    pub monitor: Monitor,
    /// Replicas and requests as upstream has them, and all components.
    pub full: bool,
    /// Keep the NetworkPolicies, which shut out everything but kube-prometheus' own pods.
    pub network_policies: bool,
    /// Whether the cluster has an API of resource metrics already, with which prometheus-adapter collides.
    pub resource_metrics: bool,
    /// Whether virtual machines need to be emulated: a node has no /dev/kvm.
    pub emulation: bool,
    /// Dashboards that Grafana shows besides its own: file name and JSON.
    pub dashboards: Vec<(String, String)>,
}

/// A change or omission, and why; told to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trap {
    /// NetworkPolicies of kube-prometheus since 0.11 admit only its own pods.
    NetworkPolicies,
    /// The APIService of prometheus-adapter collides with metrics-server's.
    ResourceMetrics,
    /// kube-state-metrics shows no labels unless it is told which.
    LabelAllowList,
    /// kubeadm's clusters have no Services for the scheduler's and the controller manager's metrics.
    ControlPlaneServices,
    /// The Role that KubeVirt makes for Prometheus knows no EndpointSlices before its next release.
    EndpointSlices,
    /// One replica where upstream has two or three, and no disruption budget for it.
    Size,
}

impl Trap {
    /// What is done, in a line.
    pub fn told(self) -> &'static str {
        match self {
            Self::NetworkPolicies => "NetworkPolicies are left out: they admit only kube-prometheus' own pods",
            Self::ResourceMetrics => "prometheus-adapter is left out: it would take the API of resource metrics",
            Self::LabelAllowList => {
                "kube-state-metrics shows the labels of nodes, namespaces, pods and claims, which KubeVirt's rules read"
            }
            Self::ControlPlaneServices => "Services lead to the scheduler's and the controller manager's metrics",
            Self::EndpointSlices => "Prometheus may list EndpointSlices in namespace kubevirt",
            Self::Size => "one replica each, without disruption budgets, blackbox-exporter and prometheus-adapter",
        }
    }
}

/// What becomes of an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Shaped {
    /// It is installed, as it is now.
    Kept(Option<Trap>),
    /// It is left out.
    Omitted(Trap),
}

fn component(of: &Value) -> &str {
    of["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap_or_default()
}

/// Brings an object of kube-prometheus into the lab's form.
pub(crate) fn shape(of: &mut Value, profile: &Profile) -> Shaped {
    let kind = object::kind(of).to_owned();
    if kind == "NetworkPolicy" && !profile.network_policies {
        return Shaped::Omitted(Trap::NetworkPolicies);
    }
    if component(of) == "prometheus-adapter" && (profile.resource_metrics || !profile.full) {
        return Shaped::Omitted(if profile.resource_metrics { Trap::ResourceMetrics } else { Trap::Size });
    }
    if kind == "Deployment" && component(of) == "kube-state-metrics" {
        let containers = of["spec"]["template"]["spec"]["containers"].as_array_mut().into_iter().flatten();
        for container in containers.filter(|container| container["name"] == "kube-state-metrics") {
            let allowed = ["nodes", "namespaces", "pods", "persistentvolumeclaims"].map(|kind| format!("{kind}=[*]"));
            let argument = format!("--metric-labels-allowlist={}", allowed.join(","));
            match container["args"].as_array_mut() {
                Some(arguments) => arguments.push(argument.into()),
                None => container["args"] = json!([argument]),
            }
        }
        return Shaped::Kept(Some(Trap::LabelAllowList));
    }
    if kind == "Deployment" && component(of) == "grafana" && !profile.dashboards.is_empty() {
        provision(of);
        return Shaped::Kept(None);
    }
    if profile.full {
        return Shaped::Kept(None);
    }
    if kind == "PodDisruptionBudget" || component(of) == "blackbox-exporter" {
        return Shaped::Omitted(Trap::Size);
    }
    if matches!(kind.as_str(), "Prometheus" | "Alertmanager") {
        of["spec"]["replicas"] = 1.into();
        of["spec"]["resources"] = json!({"requests": {"memory": if kind == "Prometheus" { "200Mi" } else { "50Mi" }}});
        return Shaped::Kept(Some(Trap::Size));
    }
    Shaped::Kept(None)
}

/// The ConfigMap of the lab's dashboards.
const DASHBOARDS: &str = "kubevirt-lab-dashboards";

/// Gives Grafana the lab's dashboards: kube-prometheus' file provider reads every folder below /grafana-dashboard-definitions/0.
fn provision(grafana: &mut Value) {
    let spec = &mut grafana["spec"]["template"]["spec"];
    let add = |list: &mut Value, element: Value| match list.as_array_mut() {
        Some(list) => list.push(element),
        None => *list = json!([element]),
    };
    add(&mut spec["volumes"], json!({"name": DASHBOARDS, "configMap": {"name": DASHBOARDS}}));
    let mount = json!({"name": DASHBOARDS, "mountPath": "/grafana-dashboard-definitions/0/kubevirt", "readOnly": true});
    for container in spec["containers"].as_array_mut().into_iter().flatten().filter(|container| container["name"] == "grafana") {
        add(&mut container["volumeMounts"], mount.clone());
    }
}

/// The ConfigMap of the lab's dashboards, if there are any.
pub(crate) fn dashboards(profile: &Profile) -> Option<Value> {
    let data: serde_json::Map<String, Value> =
        profile.dashboards.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
    (!data.is_empty()).then(|| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": DASHBOARDS, "namespace": MONITORING}, "data": data})
    })
}

/// Headless Services for the metrics of the two components of the control plane that kubeadm gives none.
pub(crate) fn control_plane_services() -> Vec<Value> {
    [("kube-scheduler", 10259), ("kube-controller-manager", 10257)]
        .map(|(name, port)| {
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": format!("{name}-prometheus-discovery"), "namespace": "kube-system",
                    "labels": {"app.kubernetes.io/name": name},
                },
                "spec": {
                    "clusterIP": "None", "selector": {"component": name},
                    "ports": [{"name": "https-metrics", "port": port, "targetPort": port}],
                },
            })
        })
        .into()
}

/// What Prometheus' ServiceAccount lacks in KubeVirt's namespace if it discovers by EndpointSlices (kubevirt#19041).
pub(crate) fn discovery_rights(monitor: &Monitor) -> Vec<Value> {
    let metadata = json!({"name": "lab-endpointslices", "namespace": KUBEVIRT});
    let verbs = ["get", "list", "watch"];
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lab-endpointslices"},
            "subjects": [{"kind": "ServiceAccount", "name": monitor.account, "namespace": monitor.namespace}],
        }),
    ]
}

/// The KubeVirt object: monitored by kube-prometheus, emulating where it must.
pub(crate) fn shape_kubevirt(of: &mut Value, profile: &Profile) {
    if object::kind(of) != "KubeVirt" {
        return;
    }
    let spec = &mut of["spec"];
    spec["monitorNamespace"] = profile.monitor.namespace.as_str().into();
    spec["monitorAccount"] = profile.monitor.account.as_str().into();
    if profile.emulation {
        spec["configuration"]["developerConfiguration"]["useEmulation"] = true.into();
    }
}

/// How often in a row virt-operator may leave its liveness probe unanswered. The default of 3 kills it on a machine that is busy with the
/// installation, and each restart begins with the caches that took so long.
const PATIENT: u64 = 18;

/// virt-operator's Deployment: it is given time.
pub(crate) fn shape_operator(of: &mut Value) {
    if object::kind(of) != "Deployment" || object::name(of) != "virt-operator" {
        return;
    }
    for container in of["spec"]["template"]["spec"]["containers"].as_array_mut().into_iter().flatten() {
        if container["livenessProbe"].is_object() {
            container["livenessProbe"]["failureThreshold"] = PATIENT.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, component: &str) -> Value {
        json!({"kind": kind, "metadata": {"labels": {"app.kubernetes.io/name": component}}, "spec": {"replicas": 3}})
    }

    #[test]
    fn traps_are_handled() {
        let lab = Profile::default();
        let full = Profile { full: true, ..Profile::default() };
        let colliding = Profile { full: true, resource_metrics: true, ..Profile::default() };
        let open = Profile { network_policies: true, full: true, ..Profile::default() };
        for (kind, component, profile, wanted) in [
            ("NetworkPolicy", "prometheus", &full, Shaped::Omitted(Trap::NetworkPolicies)),
            ("NetworkPolicy", "prometheus", &open, Shaped::Kept(None)),
            ("APIService", "prometheus-adapter", &lab, Shaped::Omitted(Trap::Size)),
            ("APIService", "prometheus-adapter", &colliding, Shaped::Omitted(Trap::ResourceMetrics)),
            ("APIService", "prometheus-adapter", &full, Shaped::Kept(None)),
            ("PodDisruptionBudget", "prometheus", &lab, Shaped::Omitted(Trap::Size)),
            ("Deployment", "grafana", &lab, Shaped::Kept(None)),
        ] {
            assert_eq!(shape(&mut object(kind, component), profile), wanted, "{kind} {component}");
        }
    }

    #[test]
    fn sizes_and_arguments_are_set() {
        let mut prometheus = object("Prometheus", "prometheus");
        shape(&mut prometheus, &Profile::default());
        assert_eq!(prometheus["spec"]["replicas"], 1);
        let mut exporter = object("Deployment", "kube-state-metrics");
        exporter["spec"]["template"] =
            json!({"spec": {"containers": [{"name": "kube-state-metrics", "args": ["--a"]}, {"name": "kube-rbac-proxy-main"}]}});
        shape(&mut exporter, &Profile::default());
        let containers = &exporter["spec"]["template"]["spec"]["containers"];
        assert!(containers[0]["args"][1].as_str().unwrap().starts_with("--metric-labels-allowlist=nodes=[*],"));
        assert!(containers[1]["args"].is_null());
        let mut kubevirt =
            json!({"kind": "KubeVirt", "spec": {"configuration": {"developerConfiguration": {"featureGates": ["A"]}}}});
        shape_kubevirt(&mut kubevirt, &Profile { emulation: true, ..Profile::default() });
        assert_eq!(
            kubevirt["spec"]["configuration"]["developerConfiguration"],
            json!({"featureGates": ["A"], "useEmulation": true})
        );
        assert_eq!(kubevirt["spec"]["monitorNamespace"], "monitoring");
        // As many replicas as upstream has: scenarios need a second virt-controller.
        assert!(kubevirt["spec"]["infra"].is_null());
        let mut operator = json!({"kind": "Deployment", "metadata": {"name": "virt-operator"}, "spec": {"template": {"spec": {"containers": [
            {"livenessProbe": {"httpGet": {"path": "/metrics"}}}, {}]}}}});
        shape_operator(&mut operator);
        let containers = &operator["spec"]["template"]["spec"]["containers"];
        assert_eq!((&containers[0]["livenessProbe"]["failureThreshold"], &containers[1]), (&json!(PATIENT), &json!({})));
    }
}
