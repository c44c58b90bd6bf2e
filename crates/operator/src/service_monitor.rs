//! ServiceMonitor endpoints to scrape configurations; the relabelling rules stand in the order of
//! facts/kube-prometheus.md §3.4, where Prometheus evaluates them.

use serde_json::{Value, json};

use crate::compile::{discovery_role, meta_prefix};
use crate::config::filled;
use crate::relabel::{copy, sanitize, selector_rules, sharding, strings};
use crate::scrape::{self, Monitor, Scope};

/// The scrape configurations of a monitor.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, monitor: &Value) -> Result<Vec<Value>, String> {
    let role = discovery_role(&monitor["spec"], scope.spec, scope.version);
    let rules = |endpoint: &Value, by_role| relabel_configs(scope, monitor, endpoint, role, by_role);
    let kind = Monitor {
        job: "serviceMonitor",
        endpoints: ("endpoints", "endpoints"),
        role,
        attaches_since: (2, 37),
        selects: &[role, "service"],
        selector_error: "",
        files: true,
        rules: &rules,
    };
    scrape::of_monitor(scope, monitor, &kind)
}

fn relabel_configs(scope: Scope<'_>, monitor: &Value, endpoint: &Value, role: &str, by_role: bool) -> Vec<Value> {
    let spec = &monitor["spec"];
    let prefix = meta_prefix(role);
    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    if !by_role {
        rules.extend(selector_rules(&spec["selector"], "service"));
    }
    let port = filled(&endpoint["port"]);
    let target_port = &endpoint["targetPort"];
    let keep = |source: String, value: Value| json!({"action": "keep", "source_labels": [source], "regex": value});
    if let Some(port) = port {
        rules.push(keep(format!("__meta_kubernetes_{prefix}_port_name"), port.into()));
    } else if filled(target_port).is_some() {
        rules.push(keep("__meta_kubernetes_pod_container_port_name".to_owned(), target_port.clone()));
    } else if target_port.as_i64().is_some_and(|number| number != 0) {
        rules.push(keep("__meta_kubernetes_pod_container_port_number".to_owned(), target_port.clone()));
    }
    let kind_and_name =
        [format!("__meta_kubernetes_{prefix}_address_target_kind"), format!("__meta_kubernetes_{prefix}_address_target_name")];
    for (kind, label) in [("Node", "node"), ("Pod", "pod")] {
        rules.push(json!({
            "source_labels": kind_and_name, "separator": ";", "regex": format!("{kind};(.*)"),
            "replacement": "${1}", "target_label": label,
        }));
    }
    for (source, target) in [
        ("__meta_kubernetes_namespace", "namespace"),
        ("__meta_kubernetes_service_name", "service"),
        ("__meta_kubernetes_pod_name", "pod"),
        ("__meta_kubernetes_pod_container_name", "container"),
    ] {
        rules.push(json!({"source_labels": [source], "target_label": target}));
    }
    if endpoint["filterRunning"] != false {
        rules.push(json!({
            "action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)",
        }));
    }
    for label in strings(&spec["targetLabels"]).map(sanitize) {
        rules.push(copy(format!("__meta_kubernetes_service_label_{label}"), label));
    }
    for label in strings(&spec["podTargetLabels"]).chain(strings(&scope.spec["podTargetLabels"])).map(sanitize) {
        rules.push(copy(format!("__meta_kubernetes_pod_label_{label}"), label));
    }
    rules.push(json!({"source_labels": ["__meta_kubernetes_service_name"], "target_label": "job", "replacement": "${1}"}));
    if let Some(label) = spec["jobLabel"].as_str().filter(|label| !label.is_empty()) {
        rules.push(copy(format!("__meta_kubernetes_service_label_{}", sanitize(label)), "job".to_owned()));
    }
    let endpoint_name = match (port, target_port) {
        (Some(port), _) => Some(port.to_owned()),
        (None, Value::String(name)) if !name.is_empty() => Some(name.clone()),
        (None, Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    if let Some(name) = endpoint_name {
        rules.push(json!({"target_label": "endpoint", "replacement": name}));
    }
    rules.extend(scope.target_rules(&endpoint["relabelings"]));
    rules.extend(sharding(scope.shards(), "__address__"));
    rules
}
