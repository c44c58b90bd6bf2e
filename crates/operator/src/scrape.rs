//! What the endpoints of all kinds of monitors have in common: HTTP, credentials, limits, intervals.

use kubeapi::{LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::assets::Assets;
use crate::relabel::{check_lists, label_selector, user_rules};
use crate::version::Version;

/// What a monitor is compiled for and with.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// `spec` of the Prometheus object.
    pub(crate) spec: &'a Value,
    pub(crate) version: Version,
    pub(crate) assets: Assets<'a>,
    /// The monitor's namespace.
    pub(crate) namespace: &'a str,
    /// The scrape class of the monitor, or null.
    pub(crate) class: &'a Value,
}

/// A duration such as `1m30s` in milliseconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let mut total = 0u64;
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
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit.len()..];
    }
    Some(total)
}

/// Keys with values; null is left out.
#[derive(Default)]
pub(crate) struct Config(Map<String, Value>);

impl Config {
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        if !value.is_null() {
            self.0.insert(key.to_owned(), value);
        }
    }

    /// Copies settings that are called otherwise.
    pub(crate) fn copy(&mut self, from: &Value, names: &[(&str, &str)]) {
        for (name, key) in names {
            self.set(key, from[*name].clone());
        }
    }

    pub(crate) fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

/// Checks interval and timeout; `interval` is that of the monitor, if it has one.
pub(crate) fn check_times(scope: Scope<'_>, interval: &Value, timeout: &Value) -> Result<(), String> {
    let interval = interval.as_str().or_else(|| scope.spec["scrapeInterval"].as_str()).unwrap_or("30s");
    let read = |text: &str| duration(text).ok_or_else(|| format!("not a valid duration string: {text:?}"));
    let parsed = read(interval)?;
    let Some(timeout) = timeout.as_str() else { return Ok(()) };
    if read(timeout)? > parsed {
        return Err(format!("scrapeTimeout {timeout:?} greater than scrapeInterval {interval:?}"));
    }
    Ok(())
}

/// Checks what an endpoint of a ServiceMonitor or PodMonitor has of all these.
pub(crate) fn check_endpoint(scope: Scope<'_>, endpoint: &Value) -> Result<(), String> {
    check_times(scope, &endpoint["interval"], &endpoint["scrapeTimeout"])?;
    check_lists(endpoint, &["relabelings", "metricRelabelings"], scope.version)?;
    let denied = scope.spec["arbitraryFSAccessThroughSMs"]["deny"] == true;
    let files = ["caFile", "certFile", "keyFile"].into_iter().any(|key| endpoint["tlsConfig"][key].is_string());
    if denied && (files || endpoint["bearerTokenFile"].is_string()) {
        return Err(
            "it accesses file system via tls config or bearer token file which Prometheus specification prohibits".to_owned()
        );
    }
    scope.assets.check_tls(scope.namespace, &endpoint["tlsConfig"])?;
    http(scope, endpoint, &mut Config::default())
}

/// The HTTP settings and credentials of an endpoint.
///
/// # Errors
/// When a Secret is missing.
pub(crate) fn http(scope: Scope<'_>, from: &Value, config: &mut Config) -> Result<(), String> {
    config.copy(
        from,
        &[
            ("followRedirects", "follow_redirects"),
            ("enableHttp2", "enable_http2"),
            ("enableHTTP2", "enable_http2"),
            ("proxyUrl", "proxy_url"),
            ("noProxy", "no_proxy"),
            ("proxyFromEnvironment", "proxy_from_environment"),
            ("bearerTokenFile", "bearer_token_file"),
        ],
    );
    let tls = if from["tlsConfig"].is_object() { &from["tlsConfig"] } else { &scope.class["tlsConfig"] };
    config.set("tls_config", tls_config(scope.namespace, tls));
    let secret = |reference: &Value| scope.assets.secret(scope.namespace, reference);
    if from["bearerTokenSecret"]["name"].as_str().is_some_and(|name| !name.is_empty()) {
        config.set("bearer_token", secret(&from["bearerTokenSecret"])?);
    }
    let basic = &from["basicAuth"];
    if basic.is_object() {
        let mut out = Config::default();
        for (name, key) in [("username", "username"), ("password", "password")] {
            if basic[name].is_object() {
                out.set(key, secret(&basic[name])?);
            }
        }
        config.set("basic_auth", out.finish());
    }
    let authorization = if from["authorization"].is_object() { &from["authorization"] } else { &scope.class["authorization"] };
    if authorization.is_object() {
        let mut out = Config::default();
        let kind = authorization["type"].as_str().unwrap_or("Bearer").trim();
        if kind.eq_ignore_ascii_case("basic") {
            return Err("authorization type cannot be set to \"basic\", use \"basic_auth\" instead".to_owned());
        }
        out.set("type", if kind.is_empty() { "Bearer" } else { kind });
        if authorization["credentials"].is_object() {
            out.set("credentials", secret(&authorization["credentials"])?);
        }
        out.set("credentials_file", authorization["credentialsFile"].clone());
        config.set("authorization", out.finish());
    }
    let oauth2 = &from["oauth2"];
    if oauth2.is_object() {
        let mut out = Config::default();
        let id = scope.assets.either(scope.namespace, &oauth2["clientId"])?;
        out.set("client_id", id.ok_or("oauth2: clientId is missing")?);
        out.set("client_secret", secret(&oauth2["clientSecret"])?);
        out.copy(oauth2, &[("tokenUrl", "token_url"), ("scopes", "scopes"), ("endpointParams", "endpoint_params")]);
        out.set("tls_config", tls_config(scope.namespace, &oauth2["tlsConfig"]));
        config.set("oauth2", out.finish());
    }
    Ok(())
}

/// Where the operator mounts an asset: `0_NAMESPACE_NAME_KEY`, Secrets by 0 and ConfigMaps by 1.
fn asset(namespace: &str, reference: &Value) -> Value {
    for (kind, prefix) in [("secret", "0"), ("configMap", "1")] {
        let source = &reference[kind];
        if source.is_object() {
            let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
            return format!("/etc/prometheus/certs/{prefix}_{namespace}_{}_{}", text("name"), text("key")).into();
        }
    }
    Value::Null
}

/// A `tlsConfig` in Prometheus' words.
pub(crate) fn tls_config(namespace: &str, tls: &Value) -> Value {
    if !tls.is_object() {
        return Value::Null;
    }
    let mut config = Config::default();
    config.copy(tls, &[("insecureSkipVerify", "insecure_skip_verify")]);
    let key = json!({"secret": tls["keySecret"]});
    for (name, from_asset, file) in [
        ("ca_file", asset(namespace, &tls["ca"]), &tls["caFile"]),
        ("cert_file", asset(namespace, &tls["cert"]), &tls["certFile"]),
        ("key_file", asset(namespace, &key), &tls["keyFile"]),
    ] {
        config.set(name, if from_asset.is_null() { file.clone() } else { from_asset });
    }
    config.copy(tls, &[("serverName", "server_name"), ("minVersion", "min_version"), ("maxVersion", "max_version")]);
    config.finish()
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

/// The smaller of two limits, as far as they are set.
fn least(wanted: Option<u64>, enforced: Option<u64>) -> Option<u64> {
    [wanted, enforced].into_iter().flatten().filter(|limit| *limit > 0).min().or(wanted)
}

/// The limits of a monitor (facts/kube-prometheus.md §3.5).
pub(crate) fn limits(scope: Scope<'_>, monitor_spec: &Value, body_size: &Value, config: &mut Config) {
    // What is only enforced stands in `global` where Prometheus has limits there.
    let in_global = scope.version.at_least(2, 45);
    for (field, enforced, key, (major, minor)) in LIMITS {
        let wanted = monitor_spec[field].as_u64();
        let enforced = scope.spec[enforced].as_u64();
        if scope.version.at_least(major, minor) && !(in_global && wanted.is_none()) {
            config.set(key, least(wanted, enforced));
        }
    }
    if scope.version.at_least(2, 28) {
        let enforced = if in_global { &Value::Null } else { &scope.spec["enforcedBodySizeLimit"] };
        config.set("body_size_limit", if body_size.is_null() { enforced.clone() } else { body_size.clone() });
    }
}

/// The limits of all scrapes, where Prometheus has them in `global`.
pub(crate) fn global_limits(spec: &Value, version: Version, config: &mut Config) {
    if !version.at_least(2, 45) {
        return;
    }
    for (field, enforced, key, (major, minor)) in LIMITS {
        if version.at_least(major, minor) {
            config.set(key, least(spec[field].as_u64(), spec[enforced].as_u64()));
        }
    }
    let body = if spec["bodySizeLimit"].is_null() { &spec["enforcedBodySizeLimit"] } else { &spec["bodySizeLimit"] };
    config.set("body_size_limit", body.clone());
}

/// Settings of histograms and protocols that monitors of newer operators have.
pub(crate) fn protocols(scope: Scope<'_>, monitor_spec: &Value, config: &mut Config) {
    let set = |since: (u32, u32), from: &str, to: &str, config: &mut Config| {
        if scope.version.at_least(since.0, since.1) {
            config.set(to, monitor_spec[from].clone());
        }
    };
    set((2, 49), "scrapeProtocols", "scrape_protocols", config);
    set((3, 0), "fallbackScrapeProtocol", "fallback_scrape_protocol", config);
    set(
        (2, 45),
        "scrapeClassicHistograms",
        if scope.version.at_least(3, 0) { "always_scrape_classic_histograms" } else { "scrape_classic_histograms" },
        config,
    );
    set((2, 45), "nativeHistogramBucketLimit", "native_histogram_bucket_limit", config);
    set((2, 50), "nativeHistogramMinBucketFactor", "native_histogram_min_bucket_factor", config);
    set((3, 0), "convertClassicHistogramsToNHCB", "convert_classic_histograms_to_nhcb", config);
}

/// What ServiceMonitors and PodMonitors say of their endpoints in the same words.
pub(crate) fn endpoint(scope: Scope<'_>, endpoint: &Value, config: &mut Config) -> Result<(), String> {
    let honor = endpoint["honorLabels"] == true && scope.spec["overrideHonorLabels"] != true;
    config.set("honor_labels", honor);
    if scope.spec["overrideHonorTimestamps"] == true {
        config.set("honor_timestamps", false);
    } else {
        config.copy(endpoint, &[("honorTimestamps", "honor_timestamps")]);
    }
    if scope.version.at_least(2, 48) {
        config.copy(endpoint, &[("trackTimestampsStaleness", "track_timestamps_staleness")]);
    }
    config.copy(
        endpoint,
        &[("interval", "scrape_interval"), ("scrapeTimeout", "scrape_timeout"), ("path", "metrics_path"), ("params", "params")],
    );
    config.set("scheme", endpoint["scheme"].as_str().map(str::to_lowercase));
    http(scope, endpoint, config)
}

/// What ServiceMonitors and PodMonitors differ in.
pub(crate) struct Monitor<'a> {
    /// How the names of its jobs begin.
    pub(crate) job: &'static str,
    /// The field with its endpoints.
    pub(crate) endpoints: &'static str,
    /// The role of its discovery.
    pub(crate) role: &'static str,
    /// The roles whose objects its selector selects, where the API server does that.
    pub(crate) selects: &'a [&'static str],
    /// Its relabelling rules, for an endpoint; whether the selector is left to the API server.
    pub(crate) rules: &'a dyn Fn(&Value, bool) -> Vec<Value>,
}

/// The scrape configurations of a ServiceMonitor or PodMonitor, one for each endpoint.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn of_monitor(scope: Scope<'_>, object: &Value, monitor: &Monitor<'_>) -> Result<Vec<Value>, String> {
    let spec = &object["spec"];
    LabelSelector::from_object(&spec["selector"]).map_err(|error| format!("failed to parse label selector: {error}"))?;
    let by_role = spec["selectorMechanism"] == "RoleSelector";
    let one = |(index, from): (usize, &Value)| {
        check_endpoint(scope, from)?;
        let mut config = Config::default();
        config.set("job_name", format!("{}/{}/{}/{index}", monitor.job, scope.namespace, object::name(object)));
        let mut discovery = discovery(scope, monitor.role, spec);
        if by_role {
            let text = label_selector(&spec["selector"]);
            discovery["selectors"] = monitor.selects.iter().map(|role| json!({"role": role, "label": text})).collect();
        }
        config.set("kubernetes_sd_configs", vec![discovery]);
        endpoint(scope, from, &mut config)?;
        config.set("relabel_configs", (monitor.rules)(from, by_role));
        limits(scope, spec, &spec["bodySizeLimit"], &mut config);
        protocols(scope, spec, &mut config);
        metric_rules(scope, &from["metricRelabelings"], &mut config);
        Ok(config.finish())
    };
    let endpoints = spec[monitor.endpoints].as_array().into_iter().flatten().enumerate();
    endpoints.map(|(index, from)| one((index, from)).map_err(|why: String| format!("endpoint[{index}]: {why}"))).collect()
}

/// The rules for metrics: those of the scrape class first.
pub(crate) fn metric_rules(scope: Scope<'_>, rules: &Value, config: &mut Config) {
    let mut all: Vec<Value> = user_rules(&scope.class["metricRelabelings"]).chain(user_rules(rules)).collect();
    all.extend(crate::relabel::enforced_namespace(scope.spec, scope.namespace));
    if !all.is_empty() {
        config.set("metric_relabel_configs", all);
    }
}

/// Where Kubernetes is asked, and about which namespaces.
pub(crate) fn discovery(scope: Scope<'_>, role: &str, monitor_spec: &Value) -> Value {
    let mut discovery = Config::default();
    discovery.set("role", role);
    let selector = &monitor_spec["namespaceSelector"];
    let own = || json!([scope.namespace]);
    let names = match selector["matchNames"].as_array() {
        _ if scope.spec["ignoreNamespaceSelectors"] == true => Some(own()),
        _ if selector["any"] == true => None,
        Some(names) if !names.is_empty() => Some(json!(names)),
        _ => Some(own()),
    };
    if let Some(names) = names {
        discovery.set("namespaces", json!({"names": names}));
    }
    let since = if role == "pod" { (2, 35) } else { (2, 37) };
    if monitor_spec["attachMetadata"]["node"] == true && scope.version.at_least(since.0, since.1) {
        discovery.set("attach_metadata", json!({"node": true}));
    }
    if let Some(host) = scope.spec["apiserverConfig"]["host"].as_str() {
        discovery.set("api_server", host);
    }
    discovery.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("x", None),
            ("5", None),
            ("99999999999999999999y", None),
            ("9999999999999y", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn limits_are_the_smaller_ones() {
        for (wanted, enforced, expected) in [
            (Some(5), Some(3), Some(3)),
            (Some(2), Some(3), Some(2)),
            (None, Some(3), Some(3)),
            (Some(0), Some(3), Some(3)),
            (Some(0), None, Some(0)),
        ] {
            assert_eq!(least(wanted, enforced), expected);
        }
    }
}
