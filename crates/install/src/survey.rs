//! What a cluster has already: a monitoring stack of somebody else, whole or half, and what would collide with ours.

use kubeapi::object;
use serde_json::Value;

use crate::INSTALLED_BY;
use crate::api::{Api, ApiError};
use crate::profile::{MONITORING, Monitor};

/// A cluster before an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// Labs, other than the one that asks, whose objects are there.
    pub other_labs: Vec<String>,
    /// The Prometheus object of a stack of somebody else that is whole: `NAMESPACE/NAME`.
    pub prometheus: Option<String>,
    /// Its ServiceAccount; that of kube-prometheus where there is no such stack.
    pub monitor: Monitor,
    /// Parts of a kube-prometheus that nobody's lab installed and that make no whole.
    pub parts: Vec<String>,
    /// The namespace and name of a KubeVirt object that no lab installed.
    pub kubevirt: Option<String>,
    /// Whether resource metrics are served by somebody else.
    pub resource_metrics: bool,
}

/// The workloads of kube-prometheus. What has one of these names in its namespace would be in the way.
const WORKLOADS: [&str; 8] = [
    "prometheus-operator",
    "kube-state-metrics",
    "node-exporter",
    "grafana",
    "blackbox-exporter",
    "prometheus-adapter",
    "prometheus-k8s",
    "alertmanager-main",
];

fn lab_of(found: &Value) -> Option<&str> {
    found["metadata"]["labels"][INSTALLED_BY].as_str()
}

/// Looks at a cluster for a lab.
///
/// # Errors
/// When the API server does not answer, or the user may not look.
pub async fn survey(api: &Api, lab: &str) -> Result<Survey, ApiError> {
    let mut survey = Survey { kubernetes: api.version().await?, ..Survey::default() };
    let foreign = |found: &Value| lab_of(found).is_none();
    let of_monitoring = "/apis/monitoring.coreos.com/v1";
    let prometheuses = api.list(&format!("{of_monitoring}/prometheuses")).await?;
    let workloads = [
        api.list("/apis/apps/v1/deployments").await?,
        api.list(&format!("/apis/apps/v1/namespaces/{MONITORING}/daemonsets")).await?,
        api.list(&format!("/apis/apps/v1/namespaces/{MONITORING}/statefulsets")).await?,
    ]
    .concat();
    let is_operator = |found: &&Value| {
        let containers = found["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
        containers.filter_map(|container| container["image"].as_str()).any(|image| {
            image
                .split('@')
                .next()
                .is_some_and(|image| image.contains("/prometheus-operator:") || image.ends_with("/prometheus-operator"))
        })
    };
    let operator = workloads.iter().filter(|found| foreign(found)).find(is_operator);
    let of_others: Vec<&Value> = prometheuses.iter().filter(|found| foreign(found)).collect();
    let in_monitoring = workloads
        .iter()
        .filter(|found| foreign(found) && object::namespace(found) == MONITORING && WORKLOADS.contains(&object::name(found)));
    // What an object of ours made is ours too.
    let not_made = |found: &&Value| found["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
    let mut parts: Vec<String> = in_monitoring
        .filter(not_made)
        .map(|found| format!("{} {}", object::kind(found).to_lowercase(), object::key(found)))
        .collect();
    parts.extend(of_others.iter().map(|found| format!("prometheus {}", object::key(found))));
    match (operator, of_others.first()) {
        (Some(_), Some(prometheus)) => {
            survey.prometheus = Some(object::key(prometheus));
            let account = prometheus["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
            survey.monitor = Monitor { namespace: object::namespace(prometheus).to_owned(), account };
        }
        _ => survey.parts = parts,
    }
    let kubevirts = api.list("/apis/kubevirt.io/v1/kubevirts").await?;
    survey.kubevirt = kubevirts.iter().find(|found| foreign(found)).map(object::key);
    let service = api.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io").await?;
    survey.resource_metrics = service.as_ref().is_some_and(foreign);
    let labs = prometheuses.iter().chain(&workloads).chain(&kubevirts).filter_map(lab_of).filter(|name| *name != lab);
    survey.other_labs = labs.map(str::to_owned).collect();
    survey.other_labs.sort();
    survey.other_labs.dedup();
    Ok(survey)
}
