//! What the endpoints of all kinds of monitors have in common: HTTP, discovery, limits, intervals.

use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use crate::assets::Assets;
use crate::checks::{Checks, within};
use crate::config::{Config, filled, is_empty, lower, quantity};
use crate::credentials::{Credentials, texts, with_class_authorization, with_class_safe_tls, with_class_tls};
use crate::relabel::{check_list, label_selector, user_rules};
use crate::version::Version;

/// What a monitor is compiled for and with.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// `spec` of the Prometheus object.
    pub(crate) spec: &'a Value,
    /// Its namespace.
    pub(crate) home: &'a str,
    pub(crate) version: Version,
    pub(crate) assets: Assets<'a>,
    /// The monitor's namespace.
    pub(crate) namespace: &'a str,
    /// The scrape class of the monitor, or null.
    pub(crate) class: &'a Value,
    /// The label that is enforced on it, if one is.
    pub(crate) enforced: Option<&'a str>,
}

impl<'a> Scope<'a> {
    pub(crate) fn credentials(self) -> Credentials<'a> {
        Credentials { assets: self.assets, namespace: self.namespace, read: true }
    }

    pub(crate) fn checks(self) -> Checks<'a> {
        Checks { assets: self.assets, namespace: self.namespace }
    }

    /// The rules for targets: those of the scrape class, the monitor's own, and the label that is enforced.
    pub(crate) fn target_rules(self, own: &Value) -> impl Iterator<Item = Value> {
        let enforced = self.enforced.map(|label| crate::enforcement::relabeling(label, self.namespace));
        user_rules(&self.class["relabelings"]).chain(user_rules(own)).chain(enforced).collect::<Vec<_>>().into_iter()
    }

    /// The same for metrics.
    pub(crate) fn metric_rules(self, own: &Value, config: &mut Config) {
        let enforced = self.enforced.map(|label| crate::enforcement::relabeling(label, self.namespace));
        let rules: Vec<Value> = user_rules(&self.class["metricRelabelings"]).chain(user_rules(own)).chain(enforced).collect();
        if !rules.is_empty() {
            config.set("metric_relabel_configs", rules);
        }
    }

    pub(crate) fn shards(self) -> u64 {
        shards(self.spec)
    }
}

/// Over how many shards targets are spread.
pub(crate) fn shards(prometheus_spec: &Value) -> u64 {
    prometheus_spec["shards"].as_u64().unwrap_or(1).max(1)
}

/// A duration such as `1m30s` in milliseconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    promql::parse_duration(text).ok().and_then(|duration| u64::try_from(duration.as_millis()).ok())
}

/// Whether a timeout fits its interval; without a timeout nothing is asked.
pub(crate) fn check_times(interval: &Value, default: &Value, timeout: &Value) -> Result<(), String> {
    let Some(timeout) = filled(timeout) else { return Ok(()) };
    let interval = filled(interval).or_else(|| filled(default)).unwrap_or("30s");
    let invalid = |text: &str| format!("not a valid duration string: {text:?}");
    let parsed = duration(interval).ok_or_else(|| format!("invalid scrapeInterval {interval:?}: {}", invalid(interval)))?;
    let given = duration(timeout).ok_or_else(|| format!("invalid scrapeTimeout: {timeout:?}: {}", invalid(timeout)))?;
    if given > parsed {
        return Err(format!("scrapeTimeout {timeout:?} greater than scrapeInterval {interval:?}"));
    }
    Ok(())
}

/// A limit: the monitor's field, the Prometheus object's that enforces one, Prometheus' own name, and since when it knows it.
const LIMITS: [(&str, &str, &str, (u32, u32)); 6] = [
    ("sampleLimit", "enforcedSampleLimit", "sample_limit", (0, 0)),
    ("targetLimit", "enforcedTargetLimit", "target_limit", (2, 21)),
    ("labelLimit", "enforcedLabelLimit", "label_limit", (2, 27)),
    ("labelNameLengthLimit", "enforcedLabelNameLengthLimit", "label_name_length_limit", (2, 27)),
    ("labelValueLengthLimit", "enforcedLabelValueLengthLimit", "label_value_length_limit", (2, 27)),
    ("keepDroppedTargets", "enforcedKeepDroppedTargets", "keep_dropped_targets", (2, 47)),
];

/// The limit of a job: the smaller one. What is only enforced stands in `global`, where Prometheus has limits there.
fn job_limit(wanted: Option<u64>, enforced: Option<u64>, in_global: bool) -> Option<u64> {
    match (wanted, enforced.unwrap_or(0)) {
        (wanted, 0) => wanted,
        (None | Some(0), enforced) => (!in_global).then_some(enforced),
        (Some(wanted), enforced) => Some(wanted.min(enforced)),
    }
}

/// The limits of a monitor (facts/kube-prometheus.md §3.5), but for the size of a body.
pub(crate) fn limits(scope: Scope<'_>, monitor_spec: &Value, config: &mut Config) {
    let in_global = scope.version.at_least(2, 45);
    for (field, enforced, key, since) in LIMITS {
        let limit = job_limit(monitor_spec[field].as_u64(), scope.spec[enforced].as_u64(), in_global);
        config.set_since(since, key, limit);
    }
}

/// A size such as `10MB` in bytes; units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let power = "BKMGTPE".find(text[split..].chars().next().unwrap_or('B'))?;
    number.checked_mul(1024u64.checked_pow(u32::try_from(power).ok()?)?)
}

/// The size that a page may have: the smaller of the monitor's own and the enforced one.
pub(crate) fn body_size(scope: Scope<'_>, own: &Value, config: &mut Config) {
    let enforced = filled(&scope.spec["enforcedBodySizeLimit"]);
    let limit = match (filled(own), enforced) {
        (Some(own), Some(enforced)) if bytes(own) > bytes(enforced) => Some(enforced),
        (own, enforced) => own.or(enforced),
    };
    config.set_since((2, 28), "body_size_limit", limit);
}

/// The limits of all scrapes, where Prometheus has them in `global`.
pub(crate) fn global_limits(spec: &Value, config: &mut Config) {
    if !config.version().at_least(2, 45) {
        return;
    }
    for (field, enforced, key, since) in LIMITS {
        let set = |name: &str| spec[name].as_u64().filter(|limit| *limit > 0);
        config.set_since(since, key, [set(field), set(enforced)].into_iter().flatten().min());
    }
    let enforced = filled(&spec["enforcedBodySizeLimit"]).map(Value::from);
    config.set("body_size_limit", spec["bodySizeLimit"].as_str().map(Value::from).or(enforced));
}

/// The protocols in which metrics are asked for, as far as this Prometheus knows them.
pub(crate) fn scrape_protocols(from: &Value, config: &mut Config) {
    if let Some(mut protocols) = texts(&from["scrapeProtocols"]) {
        protocols.retain(|name| *name != "PrometheusText1.0.0" || config.version().major() >= 3);
        config.set_since((2, 49), "scrape_protocols", protocols);
    }
}

/// Settings of histograms and protocols.
pub(crate) fn protocols(scope: Scope<'_>, monitor_spec: &Value, config: &mut Config) {
    config.copy_since(monitor_spec, &[("nativeHistogramBucketLimit", "native_histogram_bucket_limit", (2, 45))]);
    let factor = quantity(&monitor_spec["nativeHistogramMinBucketFactor"]);
    config.set_since((2, 50), "native_histogram_min_bucket_factor", factor);
    let classic = if scope.version.major() >= 3 { "always_scrape_classic_histograms" } else { "scrape_classic_histograms" };
    config.copy_since(
        monitor_spec,
        &[
            ("scrapeClassicHistograms", classic, (2, 45)),
            ("convertClassicHistogramsToNHCB", "convert_classic_histograms_to_nhcb", (3, 0)),
        ],
    );
    scrape_protocols(monitor_spec, config);
    let own = &monitor_spec["fallbackScrapeProtocol"];
    let fallback = if own.is_null() { &scope.class["fallbackScrapeProtocol"] } else { own };
    config.set_since((3, 0), "fallback_scrape_protocol", fallback.clone());
}

/// Whether timestamps of metrics are kept: what the monitor says, unless the Prometheus object overrides it.
pub(crate) fn honor_timestamps(scope: Scope<'_>, own: &Value, config: &mut Config) {
    let overridden = scope.spec["overrideHonorTimestamps"] == true;
    if own.is_boolean() || overridden {
        config.set_since((2, 9), "honor_timestamps", *own == true && !overridden);
    }
}

/// Whether labels of metrics win over those of targets.
pub(crate) fn honor_labels(scope: Scope<'_>, own: &Value, config: &mut Config) {
    config.set("honor_labels", *own == true && scope.spec["overrideHonorLabels"] != true);
}

/// What ServiceMonitors and PodMonitors differ in.
pub(crate) struct Monitor<'a> {
    /// How the names of its jobs begin.
    pub(crate) job: &'static str,
    /// The field with its endpoints, and how an error names one.
    pub(crate) endpoints: (&'static str, &'static str),
    /// The role of its discovery, and since when that attaches metadata of nodes.
    pub(crate) role: &'static str,
    pub(crate) attaches_since: (u32, u32),
    /// The roles whose objects its selector selects, where the API server does that.
    pub(crate) selects: &'a [&'static str],
    /// How an error about its selector begins.
    pub(crate) selector_error: &'static str,
    /// Whether its endpoints may name files.
    pub(crate) files: bool,
    /// Its relabelling rules, for an endpoint; whether the selector is left to the API server.
    pub(crate) rules: &'a dyn Fn(&Value, bool) -> Vec<Value>,
}

/// Checks an endpoint of a ServiceMonitor.
fn check_with_files(scope: Scope<'_>, endpoint: &Value) -> Result<(), String> {
    let checks = scope.checks();
    if scope.spec["arbitraryFSAccessThroughSMs"]["deny"] == true {
        let tls = &endpoint["tlsConfig"];
        let by = if filled(&endpoint["bearerTokenFile"]).is_some() {
            Some("bearer token file")
        } else {
            ["caFile", "certFile", "keyFile"].into_iter().any(|key| filled(&tls[key]).is_some()).then_some("tls config")
        };
        if let Some(by) = by {
            return Err(format!("it accesses file system via {by} which Prometheus specification prohibits"));
        }
    }
    checks.bearer_token(&endpoint["bearerTokenSecret"])?;
    within("basicAuth", checks.basic(&endpoint["basicAuth"]))?;
    within("tlsConfig", checks.tls(&endpoint["tlsConfig"]))?;
    within("oauth2", checks.oauth2(&endpoint["oauth2"]))?;
    within("authorization", checks.authorization(&endpoint["authorization"]))?;
    check_scraping(scope, endpoint)?;
    checks.proxy(endpoint)
}

/// Checks times and rules of an endpoint.
fn check_scraping(scope: Scope<'_>, endpoint: &Value) -> Result<(), String> {
    check_times(&endpoint["interval"], &scope.spec["scrapeInterval"], &endpoint["scrapeTimeout"])?;
    within("relabelConfigs", check_list(&endpoint["relabelings"], scope.version))?;
    within("metricRelabelConfigs", check_list(&endpoint["metricRelabelings"], scope.version))
}

/// What ServiceMonitors and PodMonitors say of their endpoints in the same words.
fn endpoint(scope: Scope<'_>, from: &Value, files: bool, config: &mut Config) {
    config.copy_filled(from, &[("interval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout"), ("path", "metrics_path")]);
    config.copy(from, &[("params", "params")]);
    config.set("scheme", lower(&from["scheme"]));
    config.copy_since(
        from,
        &[
            ("followRedirects", "follow_redirects", (2, 26)),
            ("enableHttp2", "enable_http2", (2, 35)),
            ("enableHTTP2", "enable_http2", (2, 35)),
        ],
    );
    let credentials = scope.credentials();
    credentials.proxy(config, from);
    credentials.oauth2(config, &from["oauth2"]);
    let own = &from["tlsConfig"];
    let tls = if files { with_class_tls(own, scope.class) } else { with_class_safe_tls(own, scope.class) };
    credentials.tls(config, &tls);
    if files {
        config.copy_filled(from, &[("bearerTokenFile", "bearer_token_file")]);
    }
    credentials.bearer_token(config, &from["bearerTokenSecret"]);
    credentials.basic(config, &from["basicAuth"]);
    credentials.authorization(config, &with_class_authorization(&from["authorization"], scope.class));
}

/// The scrape configurations of a ServiceMonitor or PodMonitor, one for each endpoint.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn of_monitor(scope: Scope<'_>, object: &Value, monitor: &Monitor<'_>) -> Result<Vec<Value>, String> {
    let spec = &object["spec"];
    LabelSelector::from_object(&spec["selector"]).map_err(|error| format!("{}{error}", monitor.selector_error))?;
    let by_role = spec["selectorMechanism"] == "RoleSelector";
    if by_role && !scope.version.at_least(2, 17) {
        return Err("RoleSelector selectorMechanism is only supported in Prometheus 2.17.0 and newer".to_owned());
    }
    let (field, named) = monitor.endpoints;
    let mut configs = Vec::new();
    for (index, from) in spec[field].as_array().into_iter().flatten().enumerate() {
        let checked = if monitor.files {
            check_with_files(scope, from)
        } else {
            check_scraping(scope, from).and_then(|()| scope.checks().http(from))
        };
        within(&format!("{named}[{index}]"), checked)?;
        let mut config = Config::new(scope.version);
        config.set("job_name", format!("{}/{}/{}/{index}", monitor.job, scope.namespace, object::name(object)));
        honor_labels(scope, &from["honorLabels"], &mut config);
        honor_timestamps(scope, &from["honorTimestamps"], &mut config);
        config.copy_since(from, &[("trackTimestampsStaleness", "track_timestamps_staleness", (2, 48))]);
        let own = &spec["attachMetadata"];
        let attached = if own.is_object() { own } else { &scope.class["attachMetadata"] };
        let mut discovery = discovery(scope, monitor.role, &spec["namespaceSelector"], Some((attached, monitor.attaches_since)));
        if by_role {
            let text = label_selector(&spec["selector"]);
            discovery["selectors"] = monitor.selects.iter().map(|role| json!({"role": role, "label": text})).collect();
        }
        config.set("kubernetes_sd_configs", vec![discovery]);
        endpoint(scope, from, monitor.files, &mut config);
        config.set("relabel_configs", (monitor.rules)(from, by_role));
        limits(scope, spec, &mut config);
        protocols(scope, spec, &mut config);
        body_size(scope, &spec["bodySizeLimit"], &mut config);
        scope.metric_rules(&from["metricRelabelings"], &mut config);
        configs.push(config.finish());
    }
    Ok(configs)
}

/// Where Kubernetes is asked, and about which namespaces; what is attached of nodes, and since when that can be.
pub(crate) fn discovery(scope: Scope<'_>, role: &str, namespaces: &Value, attached: Option<(&Value, (u32, u32))>) -> Value {
    let mut discovery = Config::new(scope.version);
    discovery.set("role", role);
    let own = || json!([scope.namespace]);
    let names = match namespaces["matchNames"].as_array() {
        _ if scope.spec["ignoreNamespaceSelectors"] == true => Some(own()),
        _ if namespaces["any"] == true => None,
        Some(names) if !names.is_empty() => Some(json!(names)),
        _ => Some(own()),
    };
    if let Some(names) = names {
        discovery.set("namespaces", json!({"names": names}));
    }
    api_server(scope, &mut discovery);
    if let Some((attached, since)) = attached.filter(|(attached, _)| attached.is_object()) {
        discovery.set_since(since, "attach_metadata", json!({"node": attached["node"] == true}));
    }
    discovery.finish()
}

/// The API server that is asked, where it is not the cluster's own. Its Secrets are read in the Prometheus object's namespace.
fn api_server(scope: Scope<'_>, discovery: &mut Config) {
    let from = &scope.spec["apiserverConfig"];
    if !from.is_object() {
        return;
    }
    discovery.set("api_server", from["host"].as_str().unwrap_or_default());
    let credentials = Credentials { read: scope.namespace == scope.home, ..scope.credentials() };
    credentials.basic(discovery, &from["basicAuth"]);
    discovery.copy_filled(from, &[("bearerToken", "bearer_token"), ("bearerTokenFile", "bearer_token_file")]);
    credentials.authorization(discovery, &from["authorization"]);
    credentials.tls(discovery, &from["tlsConfig"]);
    credentials.proxy(discovery, from);
}

/// Checks `apiserverConfig`.
pub(crate) fn check_api_server(checks: Checks<'_>, from: &Value) -> Result<(), String> {
    if is_empty(from) {
        return Ok(());
    }
    let checked = || {
        checks.basic(&from["basicAuth"])?;
        checks.authorization_or_file(&from["authorization"])?;
        checks.tls(&from["tlsConfig"])?;
        checks.proxy_headers(from)
    };
    within("apiserver config", checked())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("x", None),
            ("5", None),
            ("99999999999999999999y", None),
            ("9999999999999y", None),
            ("300y", None),
            ("1m1h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
        for (text, expected) in [("5MB", Some(5 << 20)), ("5KiB", Some(5 << 10)), ("7", Some(7)), ("3B", Some(3)), ("x", None)] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn a_timeout_fits_its_interval() {
        for (interval, timeout, expected) in [
            ("", "", None),
            ("x", "", None),
            ("30s", "40s", Some("scrapeTimeout \"40s\" greater than scrapeInterval \"30s\"")),
            ("", "1m", Some("greater than scrapeInterval \"10s\"")),
            ("x", "1s", Some("invalid scrapeInterval \"x\"")),
            ("1s", "x", Some("invalid scrapeTimeout: \"x\"")),
        ] {
            let found = check_times(&json!(interval), &json!("10s"), &json!(timeout)).err();
            assert_eq!(found.is_some(), expected.is_some());
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn limits_are_the_smaller_ones() {
        for (wanted, enforced, in_global, expected) in [
            (Some(5), Some(3), true, Some(3)),
            (Some(2), Some(3), true, Some(2)),
            (None, Some(3), true, None),
            (None, Some(3), false, Some(3)),
            (Some(0), Some(3), true, None),
            (Some(0), None, true, Some(0)),
        ] {
            assert_eq!(job_limit(wanted, enforced, in_global), expected);
        }
    }
}
