//! Probes to scrape configurations: targets become parameters of a prober (facts/kube-prometheus.md §3.6).

use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::checks::within;
use crate::config::{Config, filled, lower};
use crate::credentials::{with_class_authorization, with_class_safe_tls};
use crate::relabel::{check_list, selector_rules, sharding};
use crate::scrape::{self, Scope};

/// Checks a probe, in the operator's order.
fn check(scope: Scope<'_>, spec: &Value) -> Result<(), String> {
    let (fixed, ingress) = (&spec["targets"]["staticConfig"], &spec["targets"]["ingress"]);
    if !fixed.is_object() && !ingress.is_object() {
        return Err("at least one of .spec.targets.staticConfig and .spec.targets.ingress is required".to_owned());
    }
    let checks = scope.checks();
    if filled(&spec["bearerTokenSecret"]["key"]).is_some() {
        checks.bearer_token(&spec["bearerTokenSecret"])?;
    }
    within("basicAuth", checks.basic(&spec["basicAuth"]))?;
    within("tlsConfig", checks.safe_tls(&spec["tlsConfig"]))?;
    within("authorization", checks.authorization(&spec["authorization"]))?;
    within("oauth2", checks.oauth2(&spec["oauth2"]))?;
    scrape::check_times(&spec["interval"], &scope.spec["scrapeInterval"], &spec["scrapeTimeout"])?;
    within("metricRelabelConfigs", check_list(&spec["metricRelabelings"], scope.version))?;
    within("targets.staticConfig.relabelConfigs", check_list(&fixed["relabelingConfigs"], scope.version))?;
    within("targets.ingress.relabelConfigs", check_list(&ingress["relabelingConfigs"], scope.version))?;
    within("proxy configuration", checks.proxy(&spec["prober"]))?;
    let url = spec["prober"]["url"].as_str().unwrap_or_default();
    check_url(url).map_err(|why| {
        format!("{url:?} url specified in proberSpec is invalid, it should be of the format `hostname` or `hostname:port`: {why}")
    })
}

/// A prober is named by its host, with or without a port.
fn check_url(url: &str) -> Result<(), String> {
    let mut parts = url.split(':');
    let host = parts.next().unwrap_or_default();
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
            && !label.starts_with('-')
    };
    if host.is_empty() || host.len() > 255 || !host.trim_end_matches('.').split('.').all(is_label) {
        return Err(format!("invalid host: {host:?}"));
    }
    match parts.next() {
        Some(port) if port.parse::<u16>().ok().is_none_or(|port| port == 0) => Err(format!("invalid port: {port:?}")),
        _ => Ok(()),
    }
}

/// The parameters of the request: the module, and those that the probe names.
fn params(spec: &Value) -> Map<String, Value> {
    let mut params = Map::new();
    for param in spec["params"].as_array().into_iter().flatten() {
        let values = if param["values"].is_array() { param["values"].clone() } else { json!([]) };
        params.insert(param["name"].as_str().unwrap_or_default().to_owned(), values);
    }
    if let Some(module) = filled(&spec["module"]) {
        params.insert("module".to_owned(), json!([module]));
    }
    params
}

/// The scrape configuration of a probe.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, probe: &Value) -> Result<Vec<Value>, String> {
    let spec = &probe["spec"];
    check(scope, spec)?;
    let (fixed, ingress) = (&spec["targets"]["staticConfig"], &spec["targets"]["ingress"]);
    let prober = &spec["prober"];
    let mut config = Config::new(scope.version);
    config.set("job_name", format!("probe/{}/{}", scope.namespace, object::name(probe)));
    scrape::honor_timestamps(scope, &Value::Bool(true), &mut config);
    // The API server writes the default into stored objects; files do not have it.
    config.set("metrics_path", prober["path"].as_str().unwrap_or("/probe"));
    config.copy_filled(spec, &[("interval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout")]);
    config.set("scheme", lower(&prober["scheme"]));
    let params = params(spec);
    if !params.is_empty() {
        config.set("params", params);
    }
    let credentials = scope.credentials();
    credentials.proxy(&mut config, prober);

    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    if let Some(name) = filled(&spec["jobName"]) {
        rules.push(json!({"target_label": "job", "replacement": name}));
    }
    let own = if fixed.is_object() {
        let mut labels = fixed["labels"].as_object().cloned().unwrap_or_default();
        labels.entry("namespace").or_insert_with(|| scope.namespace.into());
        let targets = if fixed["static"].is_array() { fixed["static"].clone() } else { json!([]) };
        config.set("static_configs", json!([{"targets": targets, "labels": labels}]));
        rules.push(json!({"source_labels": ["__address__"], "target_label": "__param_target"}));
        fixed
    } else {
        config.set("kubernetes_sd_configs", vec![scrape::discovery(scope, "ingress", &ingress["namespaceSelector"], None)]);
        rules.extend(selector_rules(&ingress["selector"], "ingress"));
        rules.push(json!({
            "source_labels": ["__meta_kubernetes_ingress_scheme", "__address__", "__meta_kubernetes_ingress_path"],
            "separator": ";", "regex": "(.+);(.+);(.+)", "target_label": "__param_target", "replacement": "${1}://${2}${3}",
            "action": "replace",
        }));
        rules.push(json!({"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"}));
        rules.push(json!({"source_labels": ["__meta_kubernetes_ingress_name"], "target_label": "ingress"}));
        rules.push(json!({"source_labels": ["__address__"], "separator": ";", "regex": "(.*)", "target_label": "__tmp_ingress_address", "replacement": "$1", "action": "replace"}));
        ingress
    };
    rules.push(json!({"source_labels": ["__param_target"], "target_label": "instance"}));
    rules.push(json!({"target_label": "__address__", "replacement": prober["url"]}));
    rules.extend(scope.target_rules(&own["relabelingConfigs"]));
    rules.extend(sharding(scope.shards(), "__param_target"));
    config.set("relabel_configs", rules);

    credentials.tls(&mut config, &with_class_safe_tls(&spec["tlsConfig"], scope.class));
    credentials.bearer_token(&mut config, &spec["bearerTokenSecret"]);
    credentials.basic(&mut config, &spec["basicAuth"]);
    credentials.oauth2(&mut config, &spec["oauth2"]);
    credentials.authorization(&mut config, &with_class_authorization(&spec["authorization"], scope.class));
    scrape::limits(scope, spec, &mut config);
    scrape::protocols(scope, spec, &mut config);
    scrape::body_size(scope, &Value::Null, &mut config);
    scope.metric_rules(&spec["metricRelabelings"], &mut config);
    Ok(vec![config.finish()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probers_are_named_by_host_and_port() {
        for (url, expected) in [
            ("blackbox:9115", None),
            ("blackbox.monitoring.svc", None),
            ("10.0.0.1:80", None),
            ("http://blackbox", Some("invalid port")),
            ("", Some("invalid host")),
            ("a/b", Some("invalid host")),
            ("a:0", Some("invalid port: \"0\"")),
        ] {
            let found = check_url(url).err();
            assert_eq!(found.is_some(), expected.is_some(), "{url}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }
}
