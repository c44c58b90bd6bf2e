//! A Prometheus object and the objects it selects, compiled to `prometheus.yml`.

use kubeapi::{LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::service_monitor;

/// All objects that a compilation looks at.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Namespaces, for namespace selectors.
    pub namespaces: Vec<Value>,
    /// ServiceMonitors of all namespaces.
    pub service_monitors: Vec<Value>,
    /// PrometheusRules of all namespaces.
    pub rules: Vec<Value>,
}

/// An object that was selected but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its kind.
    pub kind: String,
    /// `NAMESPACE/NAME`.
    pub key: String,
    /// Why, as the Event says it.
    pub reason: String,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The configuration, to be written as YAML.
    pub config: Value,
    /// What was left out, and why.
    pub rejected: Vec<Rejection>,
}

/// Selection by the two selectors of a kind: null selects nothing, or only the own namespace.
pub(crate) fn select<'a>(
    prometheus: &Value,
    selector: &str,
    namespace_selector: &str,
    namespaces: &[Value],
    objects: &'a [Value],
) -> Vec<&'a Value> {
    let spec = &prometheus["spec"];
    let Ok(by_labels) = LabelSelector::from_object(&spec[selector]) else { return Vec::new() };
    let by_namespace = LabelSelector::from_object(&spec[namespace_selector]);
    let mut selected: Vec<&Value> = objects
        .iter()
        .filter(|candidate| by_labels.matches(&candidate["metadata"]["labels"]))
        .filter(|candidate| {
            let namespace = object::namespace(candidate);
            match (&by_namespace, spec[namespace_selector].is_null()) {
                (_, true) => namespace == object::namespace(prometheus),
                (Ok(by_namespace), false) => namespaces
                    .iter()
                    .any(|known| object::name(known) == namespace && by_namespace.matches(&known["metadata"]["labels"])),
                (Err(_), false) => false,
            }
        })
        .collect();
    selected.sort_by_key(|candidate| object::key(candidate));
    selected
}

/// The name of the StatefulSet and of what belongs to it.
pub(crate) fn workload_name(prometheus: &Value) -> String {
    format!("prometheus-{}", object::name(prometheus))
}

/// Compiles the configuration of one Prometheus object.
pub fn compile(prometheus: &Value, input: &Input) -> Compiled {
    let spec = &prometheus["spec"];
    let mut config = Map::new();
    config.insert("global".to_owned(), global(prometheus));
    if !spec["ruleSelector"].is_null() {
        let files = crate::rules::rule_files(prometheus, input).mounts(&workload_name(prometheus));
        let paths: Vec<String> = files.iter().map(|name| format!("/etc/prometheus/rules/{name}/*.yaml")).collect();
        config.insert("rule_files".to_owned(), json!(paths));
    }
    let mut rejected = Vec::new();
    let mut scrape_configs = Vec::new();
    let monitors = select(
        prometheus,
        "serviceMonitorSelector",
        "serviceMonitorNamespaceSelector",
        &input.namespaces,
        &input.service_monitors,
    );
    for monitor in monitors {
        match service_monitor::check(monitor, spec) {
            Err(reason) => {
                let kind = "ServiceMonitor".to_owned();
                rejected.push(Rejection { kind, key: object::key(monitor), reason });
            }
            Ok(()) => {
                let endpoints = monitor["spec"]["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
                for (index, endpoint) in endpoints.iter().enumerate() {
                    scrape_configs.push(service_monitor::scrape_config(prometheus, monitor, endpoint, index));
                }
            }
        }
    }
    config.insert("scrape_configs".to_owned(), Value::Array(scrape_configs));
    if let Some(alerting) = alerting(prometheus) {
        config.insert("alerting".to_owned(), alerting);
    }
    Compiled { config: Value::Object(config), rejected }
}

fn global(prometheus: &Value) -> Value {
    let spec = &prometheus["spec"];
    let mut labels = Map::new();
    let name = |key: &str, default: &str| spec[key].as_str().unwrap_or(default).to_owned();
    for (key, value) in spec["externalLabels"].as_object().into_iter().flatten() {
        labels.insert(key.clone(), value.clone());
    }
    let of_prometheus = name("prometheusExternalLabelName", "prometheus");
    if !of_prometheus.is_empty() {
        labels.insert(of_prometheus, object::key(prometheus).into());
    }
    let of_replica = name("replicaExternalLabelName", "prometheus_replica");
    if !of_replica.is_empty() {
        labels.insert(of_replica, "$(POD_NAME)".into());
    }
    let mut global = json!({
        "scrape_interval": spec["scrapeInterval"].as_str().unwrap_or("30s"),
        "external_labels": labels,
        "evaluation_interval": spec["evaluationInterval"].as_str().unwrap_or("30s"),
    });
    if let Some(timeout) = spec["scrapeTimeout"].as_str() {
        global["scrape_timeout"] = timeout.into();
    }
    global
}

fn alerting(prometheus: &Value) -> Option<Value> {
    let spec = &prometheus["spec"];
    let of_replica = spec["replicaExternalLabelName"].as_str().unwrap_or("prometheus_replica");
    let role = discovery_role(&Value::Null, spec);
    let managers: Vec<Value> = spec["alerting"]["alertmanagers"]
        .as_array()?
        .iter()
        .map(|manager| {
            let port = match &manager["port"] {
                Value::Number(number) => number.to_string(),
                port => port.as_str().unwrap_or_default().to_owned(),
            };
            let namespace = manager["namespace"].as_str().unwrap_or_else(|| object::namespace(prometheus));
            json!({
                "kubernetes_sd_configs": [{"role": role, "namespaces": {"names": [namespace]}}],
                "api_version": manager["apiVersion"].as_str().unwrap_or("v2"),
                "relabel_configs": [
                    {"action": "keep", "source_labels": ["__meta_kubernetes_service_name"], "regex": manager["name"]},
                    {"action": "keep", "source_labels": [format!("__meta_kubernetes_{}_port_name", meta_prefix(role))], "regex": port},
                ],
            })
        })
        .collect();
    let mut alerting = json!({"alertmanagers": managers});
    if !of_replica.is_empty() {
        alerting["alert_relabel_configs"] = json!([{"action": "labeldrop", "regex": of_replica}]);
    }
    Some(alerting)
}

/// The discovery role of a monitor: its own wish, else the Prometheus object's; endpoints by default.
pub(crate) fn discovery_role(monitor_spec: &Value, prometheus_spec: &Value) -> &'static str {
    let wanted = monitor_spec["serviceDiscoveryRole"].as_str().or_else(|| prometheus_spec["serviceDiscoveryRole"].as_str());
    if wanted == Some("EndpointSlice") { "endpointslice" } else { "endpoints" }
}

/// How the meta labels of a role's ports begin.
pub(crate) fn meta_prefix(role: &str) -> &'static str {
    if role == "endpointslice" { "endpointslice" } else { "endpoint" }
}
