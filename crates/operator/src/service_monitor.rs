//! ServiceMonitor endpoints to scrape configurations; the relabelling rules stand in the order of
//! facts/kube-prometheus.md §3.4, where Prometheus evaluates them.

use kubeapi::{LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::compile::{discovery_role, meta_prefix};

/// Label names of Prometheus have no other characters.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

/// A duration such as `1m30s` in milliseconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut total = 0;
    let mut rest = text;
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
            ("w", 604_800_000),
            ("y", 31_536_000_000),
        ];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    Some(total)
}

/// Why the operator would reject a monitor.
pub(crate) fn check(monitor: &Value, prometheus_spec: &Value) -> Result<(), String> {
    let spec = &monitor["spec"];
    LabelSelector::from_object(&spec["selector"]).map_err(|error| format!("failed to parse label selector: {error}"))?;
    for (index, endpoint) in spec["endpoints"].as_array().into_iter().flatten().enumerate() {
        let at = |why: String| format!("endpoint[{index}]: {why}");
        let interval = endpoint["interval"].as_str().or_else(|| prometheus_spec["scrapeInterval"].as_str()).unwrap_or("30s");
        let parsed = duration(interval).ok_or_else(|| at(format!("not a valid duration string: \"{interval}\"")))?;
        if let Some(timeout) = endpoint["scrapeTimeout"].as_str() {
            let limit = duration(timeout).ok_or_else(|| at(format!("not a valid duration string: \"{timeout}\"")))?;
            if limit > parsed {
                return Err(at(format!("scrapeTimeout \"{timeout}\" greater than scrapeInterval \"{interval}\"")));
            }
        }
        for list in ["relabelings", "metricRelabelings"] {
            for (number, rule) in endpoint[list].as_array().into_iter().flatten().enumerate() {
                check_rule(rule).map_err(|why| at(format!("{list}[{number}]: {why}")))?;
            }
        }
    }
    Ok(())
}

fn check_rule(rule: &Value) -> Result<(), String> {
    let action = rule["action"].as_str().unwrap_or("replace").to_lowercase();
    if let Some(regex) = rule["regex"].as_str() {
        regex::Regex::new(&format!("^(?:{regex})$")).map_err(|_| format!("invalid regex {regex:?}"))?;
    }
    let no_target = rule["targetLabel"].as_str().unwrap_or_default().is_empty();
    match action.as_str() {
        "hashmod" if rule["modulus"].as_u64().unwrap_or(0) == 0 => {
            Err("relabel configuration for hashmod requires non-zero modulus".to_owned())
        }
        "replace" | "hashmod" | "lowercase" | "uppercase" | "keepequal" | "dropequal" if no_target => {
            Err(format!("relabel configuration for {action} action needs targetLabel value"))
        }
        "replace" | "hashmod" | "lowercase" | "uppercase" | "keepequal" | "dropequal" | "keep" | "drop" | "labelmap"
        | "labeldrop" | "labelkeep" => Ok(()),
        other => Err(format!("unknown relabel action {other:?}")),
    }
}

/// The configuration of endpoint `index` of a monitor.
pub(crate) fn scrape_config(prometheus: &Value, monitor: &Value, endpoint: &Value, index: usize) -> Value {
    let spec = &monitor["spec"];
    let prometheus_spec = &prometheus["spec"];
    let role = discovery_role(spec, prometheus_spec);
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| {
        if !value.is_null() {
            config.insert(key.to_owned(), value);
        }
    };
    set("job_name", format!("serviceMonitor/{}/{}/{index}", object::namespace(monitor), object::name(monitor)).into());
    let honor = endpoint["honorLabels"] == true && prometheus_spec["overrideHonorLabels"] != true;
    set("honor_labels", honor.into());
    if prometheus_spec["overrideHonorTimestamps"] == true {
        set("honor_timestamps", false.into());
    } else {
        set("honor_timestamps", endpoint["honorTimestamps"].clone());
    }
    set("track_timestamps_staleness", endpoint["trackTimestampsStaleness"].clone());
    set("kubernetes_sd_configs", json!([discovery(prometheus, monitor, role)]));
    set("scrape_interval", endpoint["interval"].clone());
    set("scrape_timeout", endpoint["scrapeTimeout"].clone());
    set("metrics_path", endpoint["path"].clone());
    set("params", endpoint["params"].clone());
    set("scheme", endpoint["scheme"].as_str().map_or(Value::Null, |scheme| scheme.to_lowercase().into()));
    set("follow_redirects", endpoint["followRedirects"].clone());
    set("enable_http2", endpoint["enableHttp2"].clone());
    set("proxy_url", endpoint["proxyUrl"].clone());
    set("tls_config", tls_config(monitor, &endpoint["tlsConfig"]));
    set("bearer_token_file", endpoint["bearerTokenFile"].clone());
    set("relabel_configs", Value::Array(relabel_configs(prometheus, monitor, endpoint, role)));
    for (from, to) in [
        ("sampleLimit", "sample_limit"),
        ("targetLimit", "target_limit"),
        ("labelLimit", "label_limit"),
        ("labelNameLengthLimit", "label_name_length_limit"),
        ("labelValueLengthLimit", "label_value_length_limit"),
        ("keepDroppedTargets", "keep_dropped_targets"),
        ("bodySizeLimit", "body_size_limit"),
    ] {
        set(to, spec[from].clone());
    }
    let metric_rules: Vec<Value> = endpoint["metricRelabelings"].as_array().into_iter().flatten().map(user_rule).collect();
    if !metric_rules.is_empty() {
        set("metric_relabel_configs", Value::Array(metric_rules));
    }
    Value::Object(config)
}

fn discovery(prometheus: &Value, monitor: &Value, role: &str) -> Value {
    let spec = &monitor["spec"];
    let mut discovery = json!({"role": role});
    let selector = &spec["namespaceSelector"];
    let own = || json!([object::namespace(monitor)]);
    let ignored = prometheus["spec"]["ignoreNamespaceSelectors"] == true;
    let names = match selector["matchNames"].as_array() {
        _ if ignored => Some(own()),
        _ if selector["any"] == true => None,
        Some(names) if !names.is_empty() => Some(json!(names)),
        _ => Some(own()),
    };
    if let Some(names) = names {
        discovery["namespaces"] = json!({"names": names});
    }
    if spec["attachMetadata"]["node"] == true {
        discovery["attach_metadata"] = json!({"node": true});
    }
    if let Some(host) = prometheus["spec"]["apiserverConfig"]["host"].as_str() {
        discovery["api_server"] = host.into();
    }
    discovery
}

/// Where the operator mounts an asset: `0_NAMESPACE_NAME_KEY`, Secrets by 0 and ConfigMaps by 1.
fn asset(monitor: &Value, reference: &Value) -> Value {
    for (kind, prefix) in [("secret", "0"), ("configMap", "1")] {
        let source = &reference[kind];
        if source.is_object() {
            let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
            return format!("/etc/prometheus/certs/{prefix}_{}_{}_{}", object::namespace(monitor), text("name"), text("key"))
                .into();
        }
    }
    Value::Null
}

fn tls_config(monitor: &Value, tls: &Value) -> Value {
    if !tls.is_object() {
        return Value::Null;
    }
    let mut config = Map::new();
    // The operator writes this one for every tlsConfig that is there.
    if !tls["insecureSkipVerify"].is_null() {
        config.insert("insecure_skip_verify".to_owned(), tls["insecureSkipVerify"].clone());
    }
    let secret = json!({"secret": tls["keySecret"]});
    for (key, from_asset, file) in [
        ("ca_file", asset(monitor, &tls["ca"]), &tls["caFile"]),
        ("cert_file", asset(monitor, &tls["cert"]), &tls["certFile"]),
        ("key_file", asset(monitor, &secret), &tls["keyFile"]),
    ] {
        let value = if from_asset.is_null() { file.clone() } else { from_asset };
        if !value.is_null() {
            config.insert(key.to_owned(), value);
        }
    }
    for (from, to) in [("serverName", "server_name"), ("minVersion", "min_version"), ("maxVersion", "max_version")] {
        if !tls[from].is_null() {
            config.insert(to.to_owned(), tls[from].clone());
        }
    }
    Value::Object(config)
}

/// A rule of the user's, in Prometheus' words.
fn user_rule(rule: &Value) -> Value {
    let mut out = Map::new();
    for (from, to) in [
        ("sourceLabels", "source_labels"),
        ("separator", "separator"),
        ("targetLabel", "target_label"),
        ("regex", "regex"),
        ("modulus", "modulus"),
        ("replacement", "replacement"),
    ] {
        if !rule[from].is_null() {
            out.insert(to.to_owned(), rule[from].clone());
        }
    }
    if let Some(action) = rule["action"].as_str() {
        out.insert("action".to_owned(), action.to_lowercase().into());
    }
    Value::Object(out)
}

fn relabel_configs(prometheus: &Value, monitor: &Value, endpoint: &Value, role: &str) -> Vec<Value> {
    let spec = &monitor["spec"];
    let prometheus_spec = &prometheus["spec"];
    let prefix = meta_prefix(role);
    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    rules.extend(selector_rules(&spec["selector"]));
    let port = endpoint["port"].as_str().filter(|port| !port.is_empty());
    let target_port = &endpoint["targetPort"];
    if let Some(port) = port {
        rules.push(json!({
            "action": "keep", "source_labels": [format!("__meta_kubernetes_{prefix}_port_name")], "regex": port,
        }));
    } else if let Some(name) = target_port.as_str() {
        rules.push(json!({
            "action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": name,
        }));
    } else if let Some(number) = target_port.as_i64() {
        rules.push(json!({
            "action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_number"], "regex": number,
        }));
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
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let copy = |source: String, target: String| json!({"source_labels": [source], "target_label": target, "regex": "(.+)", "replacement": "${1}"});
    for label in strings(&spec["targetLabels"]) {
        let label = sanitize(&label);
        rules.push(copy(format!("__meta_kubernetes_service_label_{label}"), label));
    }
    for label in strings(&spec["podTargetLabels"]).into_iter().chain(strings(&prometheus_spec["podTargetLabels"])) {
        let label = sanitize(&label);
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
    rules.extend(endpoint["relabelings"].as_array().into_iter().flatten().map(user_rule));
    if let Some(label) = prometheus_spec["enforcedNamespaceLabel"].as_str().filter(|label| !label.is_empty()) {
        rules.push(json!({"target_label": label, "replacement": object::namespace(monitor)}));
    }
    rules.extend(sharding(prometheus_spec));
    rules
}

/// Shards share targets by the hash of their address; with one shard every target is kept.
pub(crate) fn sharding(prometheus_spec: &Value) -> [Value; 3] {
    let shards = prometheus_spec["shards"].as_u64().unwrap_or(1).max(1);
    [
        json!({
            "source_labels": ["__address__", "__tmp_hash"], "target_label": "__tmp_hash", "regex": "(.+);",
            "replacement": "$1", "action": "replace",
        }),
        json!({"source_labels": ["__tmp_hash"], "target_label": "__tmp_hash", "modulus": shards, "action": "hashmod"}),
        json!({
            "source_labels": ["__tmp_hash", "__tmp_disable_sharding"], "regex": "$(SHARD);|.+;.+", "action": "keep",
        }),
    ]
}

/// A label selector on the Service as relabelling rules. Values are not escaped, as the operator does not escape them.
fn selector_rules(selector: &Value) -> Vec<Value> {
    let label = |key: &str| format!("__meta_kubernetes_service_label_{}", sanitize(key));
    let present = |key: &str| format!("__meta_kubernetes_service_labelpresent_{}", sanitize(key));
    let mut rules = Vec::new();
    let mut labels: Vec<(&String, &Value)> = selector["matchLabels"].as_object().into_iter().flatten().collect();
    labels.sort_by_key(|(key, _)| *key);
    for (key, value) in labels {
        rules.push(json!({
            "action": "keep", "source_labels": [label(key), present(key)],
            "regex": format!("({});true", value.as_str().unwrap_or_default()),
        }));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = format!("({});true", values.join("|"));
        rules.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => json!({"action": "keep", "source_labels": [label(key), present(key)], "regex": values}),
            "NotIn" => json!({"action": "drop", "source_labels": [label(key), present(key)], "regex": values}),
            "Exists" => json!({"action": "keep", "source_labels": [present(key)], "regex": "true"}),
            _ => json!({"action": "drop", "source_labels": [present(key)], "regex": "true"}),
        });
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [("30s", Some(30_000)), ("1m30s", Some(90_000)), ("500ms", Some(500)), ("x", None), ("5", None)] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn an_empty_label_value_matches_only_the_empty_value() {
        let rules = selector_rules(&json!({"matchLabels": {"prometheus.kubevirt.io": ""}}));
        assert_eq!(rules[0]["regex"], "();true");
        assert_eq!(rules[0]["source_labels"][1], "__meta_kubernetes_service_labelpresent_prometheus_kubevirt_io");
    }

    #[test]
    fn what_the_operator_rejects_is_rejected_with_its_reason() {
        for (endpoint, expected) in [
            (json!({"interval": "10s", "scrapeTimeout": "11s"}), "greater than scrapeInterval"),
            (json!({"relabelings": [{"action": "keep", "regex": "("}]}), "invalid regex"),
            (json!({"relabelings": [{"action": "hashmod", "targetLabel": "x"}]}), "non-zero modulus"),
            (json!({"metricRelabelings": [{"action": "replace"}]}), "needs targetLabel"),
        ] {
            let monitor = json!({"spec": {"selector": {}, "endpoints": [endpoint]}});
            assert!(check(&monitor, &json!({})).unwrap_err().contains(expected), "{expected}");
        }
    }
}
