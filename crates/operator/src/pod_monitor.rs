//! PodMonitor endpoints to scrape configurations (facts/kube-prometheus.md §3.6).

use kubeapi::object;
use serde_json::{Value, json};

use crate::config::filled;
use crate::relabel::{copy, sanitize, selector_rules, sharding, strings};
use crate::scrape::{self, Monitor, Scope};

/// The scrape configurations of a monitor.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, monitor: &Value) -> Result<Vec<Value>, String> {
    let rules = |endpoint: &Value, by_role| relabel_configs(scope, monitor, endpoint, by_role);
    let kind = Monitor {
        job: "podMonitor",
        endpoints: ("podMetricsEndpoints", "endpoint"),
        role: "pod",
        attaches_since: (2, 35),
        selects: &["pod"],
        selector_error: "failed to parse label selector: ",
        files: false,
        rules: &rules,
    };
    scrape::of_monitor(scope, monitor, &kind)
}

fn relabel_configs(scope: Scope<'_>, monitor: &Value, endpoint: &Value, by_role: bool) -> Vec<Value> {
    let spec = &monitor["spec"];
    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    if endpoint["filterRunning"] != false {
        rules.push(json!({
            "action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)",
        }));
    }
    if !by_role {
        rules.extend(selector_rules(&spec["selector"], "pod"));
    }
    let keep = |of: &str, value: &Value| json!({"action": "keep", "source_labels": [format!("__meta_kubernetes_pod_container_port_{of}")], "regex": value});
    let (port, number, target) = (&endpoint["port"], &endpoint["portNumber"], &endpoint["targetPort"]);
    let is_number = |value: &Value| value.as_i64().is_some_and(|number| number != 0);
    if filled(port).is_some() {
        rules.push(keep("name", port));
    } else if is_number(number) {
        rules.push(keep("number", number));
    } else if filled(target).is_some() {
        rules.push(keep("name", target));
    } else if is_number(target) {
        rules.push(keep("number", target));
    }
    for (source, target) in [("namespace", "namespace"), ("pod_container_name", "container"), ("pod_name", "pod")] {
        rules.push(json!({"source_labels": [format!("__meta_kubernetes_{source}")], "target_label": target}));
    }
    for label in strings(&spec["podTargetLabels"]).chain(strings(&scope.spec["podTargetLabels"])).map(sanitize) {
        rules.push(copy(format!("__meta_kubernetes_pod_label_{label}"), label));
    }
    rules.push(json!({"target_label": "job", "replacement": format!("{}/{}", scope.namespace, object::name(monitor))}));
    if let Some(label) = spec["jobLabel"].as_str().filter(|label| !label.is_empty()) {
        rules.push(copy(format!("__meta_kubernetes_pod_label_{}", sanitize(label)), "job".to_owned()));
    }
    // A number alone names no endpoint.
    let name = match (port, target) {
        (Value::String(port), _) if !port.is_empty() => Some(port.clone()),
        (_, Value::String(name)) if !name.is_empty() => Some(name.clone()),
        (_, Value::Number(target)) => Some(target.to_string()),
        _ => None,
    };
    if let Some(name) = name {
        rules.push(json!({"target_label": "endpoint", "replacement": name}));
    }
    rules.extend(scope.target_rules(&endpoint["relabelings"]));
    rules.extend(sharding(scope.shards(), "__address__"));
    rules
}
