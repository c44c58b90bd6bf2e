//! What a Prometheus object says of the whole of its Prometheus: `global`, `runtime`, `storage`, `otlp`, `tracing`.

use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::config::{Config, filled, is_empty, quantity};
use crate::credentials::Credentials;
use crate::scrape;

/// How names of metrics are checked and escaped.
const ESCAPING: [(&str, &str); 4] =
    [("AllowUTF8", "allow-utf-8"), ("Underscores", "underscores"), ("Dots", "dots"), ("Values", "values")];

/// Name schemes, which the Prometheus object and ScrapeConfigs have.
pub(crate) fn name_schemes(spec: &Value, config: &mut Config) {
    let validation = spec["nameValidationScheme"].as_str().map(str::to_lowercase);
    config.set_since((3, 0), "metric_name_validation_scheme", validation);
    let escaping = ESCAPING.iter().find(|(name, _)| spec["nameEscapingScheme"] == *name).map(|(_, word)| *word);
    config.set_since((3, 4), "metric_name_escaping_scheme", escaping);
}

/// The labels that series get when they leave this Prometheus.
fn external_labels(prometheus: &Value) -> Map<String, Value> {
    let spec = &prometheus["spec"];
    let mut labels = Map::new();
    let name = |key: &str, default: &str| spec[key].as_str().unwrap_or(default).to_owned();
    let own = [
        (name("prometheusExternalLabelName", "prometheus"), object::key(prometheus)),
        (name("replicaExternalLabelName", "prometheus_replica"), "$(POD_NAME)".to_owned()),
    ];
    for (key, value) in own.into_iter().filter(|(key, _)| !key.is_empty()) {
        labels.insert(key, value.into());
    }
    for (key, value) in spec["externalLabels"].as_object().into_iter().flatten() {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    labels
}

/// A log's path: a bare name lies in the folder that the operator mounts.
fn log_path(file: &Value) -> Value {
    match file.as_str() {
        Some(name) if !name.is_empty() && !name.contains('/') => format!("/var/log/prometheus/{name}").into(),
        _ => file.clone(),
    }
}

pub(crate) fn global(prometheus: &Value, config: &mut Config) {
    let spec = &prometheus["spec"];
    let mut global = config.section();
    global.set("scrape_interval", filled(&spec["scrapeInterval"]).unwrap_or("30s"));
    global.copy_filled(spec, &[("scrapeTimeout", "scrape_timeout")]);
    scrape::scrape_protocols(spec, &mut global);
    global.set("external_labels", external_labels(prometheus));
    scrape::global_limits(spec, &mut global);
    global.set_since((2, 55), "scrape_failure_log_file", log_path(&spec["scrapeFailureLogFile"]));
    name_schemes(spec, &mut global);
    global.copy_since(
        spec,
        &[
            ("convertClassicHistogramsToNHCB", "convert_classic_histograms_to_nhcb", (3, 4)),
            ("scrapeClassicHistograms", "always_scrape_classic_histograms", (3, 5)),
            ("ruleQueryOffset", "rule_query_offset", (2, 53)),
        ],
    );
    global.set("evaluation_interval", filled(&spec["evaluationInterval"]).unwrap_or("30s"));
    if filled(&spec["queryLogFile"]).is_some() {
        global.set_since((2, 16), "query_log_file", log_path(&spec["queryLogFile"]));
    }
    config.set("global", global.finish());
    let runtime = &spec["runtime"];
    if runtime.is_object() {
        let mut out = config.section();
        out.copy(runtime, &[("goGC", "gogc")]);
        config.set_since((2, 53), "runtime", out.finish());
    }
}

/// Exemplars and the database.
pub(crate) fn storage(spec: &Value, config: &mut Config) {
    let mut storage = config.section();
    let exemplars = &spec["exemplars"]["maxSize"];
    if !exemplars.is_null() {
        storage.set_since((2, 29), "exemplars", json!({"max_exemplars": exemplars}));
    }
    let window = &spec["tsdb"]["outOfOrderTimeWindow"];
    if !window.is_null() {
        storage.set_since((2, 39), "tsdb", json!({"out_of_order_time_window": window}));
    }
    if !storage.is_empty() {
        config.set("storage", storage.finish());
    }
}

/// What is done with metrics of OpenTelemetry.
///
/// # Errors
/// What cannot go together, or not with this version: the operator then writes no configuration at all.
pub(crate) fn otlp(spec: &Value, config: &mut Config) -> Result<(), String> {
    let from = &spec["otlp"];
    if !from.is_object() {
        return Ok(());
    }
    let version = config.version();
    if !version.at_least(2, 55) {
        return Err("OTLP configuration is only supported from Prometheus version 2.55.0".to_owned());
    }
    let strategy = from["translationStrategy"].as_str().unwrap_or_default();
    if strategy == "NoUTF8EscapingWithSuffixes" && spec["nameValidationScheme"] == "Legacy" {
        return Err(format!("nameValidationScheme \"Legacy\" is not compatible with OTLP translation strategy {strategy:?}"));
    }
    for (name, minor) in [("NoTranslation", 4), ("UnderscoreEscapingWithoutSuffixes", 6)] {
        if strategy == name && !version.at_least(3, minor) {
            return Err(format!("nameValidationScheme {name:?} is only supported from Prometheus version 3.{minor}.0 "));
        }
    }
    let all = from["promoteAllResourceAttributes"] == true;
    let filled_list = |key: &str| !is_empty(&from[key]);
    if version.at_least(3, 5) && all && filled_list("promoteResourceAttributes") {
        return Err(
            "'promoteAllResourceAttributes' cannot be set to 'true' simultaneously with 'promoteResourceAttributes'".to_owned()
        );
    }
    if version.at_least(3, 5) && !all && filled_list("ignoreResourceAttributes") {
        return Err("'ignoreResourceAttributes' can only be set when 'promoteAllResourceAttributes' is true".to_owned());
    }
    let mut out = config.section();
    out.copy_filled(from, &[("promoteResourceAttributes", "promote_resource_attributes")]);
    if filled_list("ignoreResourceAttributes") {
        out.copy_since(from, &[("ignoreResourceAttributes", "ignore_resource_attributes", (3, 5))]);
    }
    out.copy_since(
        from,
        &[
            ("translationStrategy", "translation_strategy", (3, 0)),
            ("keepIdentifyingResourceAttributes", "keep_identifying_resource_attributes", (3, 1)),
            ("convertHistogramsToNHCB", "convert_histograms_to_nhcb", (3, 4)),
            ("promoteAllResourceAttributes", "promote_all_resource_attributes", (3, 5)),
            ("promoteScopeMetadata", "promote_scope_metadata", (3, 6)),
        ],
    );
    if !out.is_empty() {
        config.set("otlp", out.finish());
    }
    Ok(())
}

/// Where Prometheus sends its own traces.
pub(crate) fn tracing(spec: &Value, credentials: Credentials<'_>, config: &mut Config) {
    let from = &spec["tracingConfig"];
    if !from.is_object() {
        return;
    }
    let mut out = config.section();
    out.set("endpoint", from["endpoint"].as_str().unwrap_or_default());
    out.set("sampling_fraction", quantity(&from["samplingFraction"]));
    out.copy(
        from,
        &[("clientType", "client_type"), ("insecure", "insecure"), ("compression", "compression"), ("timeout", "timeout")],
    );
    out.copy_filled(from, &[("headers", "headers")]);
    credentials.tls(&mut out, &from["tlsConfig"]);
    config.set("tracing", out.finish());
}
