//! ScrapeConfigs to scrape configurations: what Prometheus has, in Kubernetes' spelling (facts/kube-prometheus.md §3.6).

use kubeapi::object;
use serde_json::{Value, json};

use crate::checks::within;
use crate::config::{Config, is_empty, lower};
use crate::credentials::{with_class_authorization, with_class_safe_tls};
use crate::global::name_schemes;
use crate::relabel::{check_list, shared, user_rules};
use crate::scrape::{self, Scope};
use crate::service_discovery;

/// Checks what a ScrapeConfig has of credentials, times and rules, in the operator's order.
fn check(scope: Scope<'_>, spec: &Value) -> Result<(), String> {
    let checks = scope.checks();
    within("relabelConfigs", check_list(&spec["relabelings"], scope.version))?;
    within("basicAuth", checks.basic(&spec["basicAuth"]))?;
    within("authorization", checks.authorization(&spec["authorization"]))?;
    within("oauth2", checks.oauth2(&spec["oauth2"]))?;
    within("tlsConfig", checks.safe_tls(&spec["tlsConfig"]))?;
    scrape::check_times(&spec["scrapeInterval"], &scope.spec["scrapeInterval"], &spec["scrapeTimeout"])?;
    checks.proxy(spec)?;
    within("metricRelabelConfigs", check_list(&spec["metricRelabelings"], scope.version))
}

/// The scrape configuration of a ScrapeConfig.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, object: &Value) -> Result<Vec<Value>, String> {
    let spec = &object["spec"];
    check(scope, spec)?;
    let mut config = Config::new(scope.version);
    config.set("job_name", format!("scrapeConfig/{}/{}", scope.namespace, object::name(object)));
    if spec["honorTimestamps"].is_boolean() {
        scrape::honor_timestamps(scope, &spec["honorTimestamps"], &mut config);
    }
    if spec["honorLabels"].is_boolean() {
        scrape::honor_labels(scope, &spec["honorLabels"], &mut config);
    }
    config.copy_since(
        spec,
        &[
            ("trackTimestampsStaleness", "track_timestamps_staleness", (2, 48)),
            ("enableCompression", "enable_compression", (2, 49)),
            ("enableHTTP2", "enable_http2", (2, 35)),
        ],
    );
    config.copy(
        spec,
        &[("metricsPath", "metrics_path"), ("scrapeInterval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout")],
    );
    config.copy_filled(spec, &[("params", "params")]);
    config.set("scheme", lower(&spec["scheme"]));
    let credentials = scope.credentials();
    credentials.proxy(&mut config, spec);
    credentials.basic(&mut config, &spec["basicAuth"]);
    credentials.authorization(&mut config, &with_class_authorization(&spec["authorization"], scope.class));
    credentials.oauth2(&mut config, &spec["oauth2"]);
    credentials.tls(&mut config, &with_class_safe_tls(&spec["tlsConfig"], scope.class));
    scrape::limits(scope, spec, &mut config);
    scrape::protocols(scope, spec, &mut config);
    // Its own limit of a body's size the operator does not write.
    scrape::body_size(scope, &Value::Null, &mut config);
    service_discovery::write(scope, spec, &mut config)?;

    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    rules.extend(user_rules(&scope.class["relabelings"]));
    if let Some(name) = spec["jobName"].as_str() {
        rules.push(json!({"target_label": "job", "action": "replace", "replacement": name}));
    }
    if !is_empty(&spec["relabelings"]) {
        rules.extend(user_rules(&spec["relabelings"]));
        rules.extend(scope.enforced.map(|label| crate::enforcement::relabeling(label, scope.namespace)));
    }
    if scope.shards() > 1 {
        shared(&mut rules, scope.shards());
    }
    config.set("relabel_configs", rules);
    scope.metric_rules(&spec["metricRelabelings"], &mut config);
    name_schemes(spec, &mut config);
    Ok(vec![config.finish()])
}

/// Whether a label may have a name: what Prometheus before 3.0 would not take is refused.
pub(crate) fn check_labels(scope: Scope<'_>, labels: &Value) -> Result<(), String> {
    let legacy = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let bad = labels.as_object().into_iter().flatten().map(|(name, _)| name);
    match bad.into_iter().find(|name| name.is_empty() || (!scope.version.at_least(3, 0) && !legacy(name))) {
        Some(name) => Err(format!("invalid label in map {name}")),
        None => Ok(()),
    }
}
