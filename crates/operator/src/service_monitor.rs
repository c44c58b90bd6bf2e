//! ServiceMonitor endpoints to scrape configurations; the relabelling rules stand in the order of
//! facts/kube-prometheus.md §3.4, where Prometheus evaluates them.

use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use crate::compile::{discovery_role, meta_prefix};
use crate::relabel::{copy, enforced_namespace, sanitize, selector_rules, sharding, strings, user_rules};
use crate::scrape::{self, Config, Scope};

/// The scrape configurations of a monitor.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, monitor: &Value) -> Result<Vec<Value>, String> {
    let spec = &monitor["spec"];
    LabelSelector::from_object(&spec["selector"]).map_err(|error| format!("failed to parse label selector: {error}"))?;
    let endpoints = spec["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            scrape::check_endpoint(scope, endpoint)
                .and_then(|()| scrape_config(scope, monitor, endpoint, index))
                .map_err(|why| format!("endpoint[{index}]: {why}"))
        })
        .collect()
}

fn scrape_config(scope: Scope<'_>, monitor: &Value, endpoint: &Value, index: usize) -> Result<Value, String> {
    let spec = &monitor["spec"];
    let role = discovery_role(spec, scope.spec, scope.version);
    let mut config = Config::default();
    config.set("job_name", format!("serviceMonitor/{}/{}/{index}", scope.namespace, object::name(monitor)));
    let mut discovery = scrape::discovery(scope, role, spec);
    let by_role = spec["selectorMechanism"] == "RoleSelector";
    if by_role {
        let text = label_selector(&spec["selector"]);
        discovery["selectors"] = json!([{"role": role, "label": text}, {"role": "service", "label": text}]);
    }
    config.set("kubernetes_sd_configs", vec![discovery]);
    scrape::endpoint(scope, endpoint, &mut config)?;
    config.set("relabel_configs", relabel_configs(scope, monitor, endpoint, role, by_role));
    scrape::limits(scope, spec, &spec["bodySizeLimit"], &mut config);
    scrape::protocols(scope, spec, &mut config);
    scrape::metric_rules(scope, &endpoint["metricRelabelings"], &mut config);
    Ok(config.finish())
}

/// A selector as the API server reads it in a query.
pub(crate) fn label_selector(selector: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut labels: Vec<(&String, &Value)> = selector["matchLabels"].as_object().into_iter().flatten().collect();
    labels.sort_by_key(|(key, _)| *key);
    parts.extend(labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())));
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = strings(&expression["values"]).collect();
        values.sort_unstable();
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.join(",")
}

fn relabel_configs(scope: Scope<'_>, monitor: &Value, endpoint: &Value, role: &str, by_role: bool) -> Vec<Value> {
    let spec = &monitor["spec"];
    let prefix = meta_prefix(role);
    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    if !by_role {
        rules.extend(selector_rules(&spec["selector"], "service"));
    }
    let port = endpoint["port"].as_str().filter(|port| !port.is_empty());
    let target_port = &endpoint["targetPort"];
    let keep = |source: String, value: Value| json!({"action": "keep", "source_labels": [source], "regex": value});
    if let Some(port) = port {
        rules.push(keep(format!("__meta_kubernetes_{prefix}_port_name"), port.into()));
    } else if target_port.is_string() {
        rules.push(keep("__meta_kubernetes_pod_container_port_name".to_owned(), target_port.clone()));
    } else if target_port.is_i64() {
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
        (None, Value::String(name)) => Some(name.clone()),
        (None, Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    if let Some(name) = endpoint_name {
        rules.push(json!({"target_label": "endpoint", "replacement": name}));
    }
    rules.extend(user_rules(&scope.class["relabelings"]));
    rules.extend(user_rules(&endpoint["relabelings"]));
    rules.extend(enforced_namespace(scope.spec, scope.namespace));
    rules.extend(sharding(scope.spec, "__address__"));
    rules
}
