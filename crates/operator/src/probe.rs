//! Probes to scrape configurations: targets become parameters of a prober (facts/kube-prometheus.md §3.6).

use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use crate::relabel::{check_lists, enforced_namespace, selector_rules, sharding, user_rules};
use crate::scrape::{self, Config, Scope};

/// The scrape configuration of a probe.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, probe: &Value) -> Result<Vec<Value>, String> {
    let spec = &probe["spec"];
    let (fixed, ingress) = (&spec["targets"]["staticConfig"], &spec["targets"]["ingress"]);
    match (fixed.is_object(), ingress.is_object()) {
        (false, false) => {
            return Err("at least one of .spec.targets.staticConfig and .spec.targets.ingress is required".to_owned());
        }
        (_, true) => drop(
            LabelSelector::from_object(&ingress["selector"])
                .map_err(|error| format!("failed to parse label selector: {error}"))?,
        ),
        _ => {}
    }
    let prober = &spec["prober"];
    let url = prober["url"].as_str().unwrap_or_default();
    if url.is_empty() || url.contains("://") || url.contains('/') {
        return Err(format!("invalid prober URL {url:?}: write HOST:PORT, scheme and path apart"));
    }
    scrape::check_times(scope, &spec["interval"], &spec["scrapeTimeout"])?;
    check_lists(spec, &["metricRelabelings"], scope.version)?;
    check_lists(if fixed.is_object() { fixed } else { ingress }, &["relabelingConfigs"], scope.version)?;
    scope.assets.check_tls(scope.namespace, &spec["tlsConfig"])?;

    let mut config = Config::default();
    config.set("job_name", format!("probe/{}/{}", scope.namespace, object::name(probe)));
    config.set("honor_timestamps", scope.spec["overrideHonorTimestamps"] != true);
    let path = prober["path"].as_str().filter(|path| !path.is_empty()).unwrap_or("/probe");
    config.set("metrics_path", path);
    config.copy(spec, &[("interval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout")]);
    config.set("scheme", prober["scheme"].as_str().map(str::to_lowercase));
    let mut params = serde_json::Map::new();
    for param in spec["params"].as_array().into_iter().flatten() {
        params.insert(param["name"].as_str().unwrap_or_default().to_owned(), param["values"].clone());
    }
    if let Some(module) = spec["module"].as_str().filter(|module| !module.is_empty()) {
        params.insert("module".to_owned(), json!([module]));
    }
    if !params.is_empty() {
        config.set("params", params);
    }
    scrape::http(scope, spec, &mut config)?;
    scrape::http(scope, prober, &mut config)?;

    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    if let Some(name) = spec["jobName"].as_str().filter(|name| !name.is_empty()) {
        rules.push(json!({"target_label": "job", "replacement": name}));
    }
    let own = if fixed.is_object() {
        let mut labels = fixed["labels"].as_object().cloned().unwrap_or_default();
        labels.insert("namespace".to_owned(), scope.namespace.into());
        config.set("static_configs", json!([{"targets": fixed["static"], "labels": labels}]));
        rules.push(json!({"source_labels": ["__address__"], "target_label": "__param_target"}));
        fixed
    } else {
        config.set("kubernetes_sd_configs", vec![scrape::discovery(scope, "ingress", ingress)]);
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
    rules.push(json!({"target_label": "__address__", "replacement": url}));
    rules.extend(user_rules(&scope.class["relabelings"]));
    rules.extend(user_rules(&own["relabelingConfigs"]));
    rules.extend(enforced_namespace(scope.spec, scope.namespace));
    rules.extend(sharding(scope.spec, "__param_target"));
    config.set("relabel_configs", rules);
    scrape::limits(scope, spec, &Value::Null, &mut config);
    scrape::protocols(scope, spec, &mut config);
    scrape::metric_rules(scope, &spec["metricRelabelings"], &mut config);
    Ok(vec![config.finish()])
}
