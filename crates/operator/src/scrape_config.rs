//! ScrapeConfigs to scrape configurations: what Prometheus has, in Kubernetes' spelling (facts/kube-prometheus.md §3.6).

use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::relabel::{check_lists, enforced_namespace, sharding, user_rules};
use crate::scrape::{self, Config, Scope};

/// `refreshInterval` as `refresh_interval`; a word in capitals stays one word.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let begins = letter.is_uppercase() && at > 0;
        let before = begins && (!letters[at - 1].is_uppercase() || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if before {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// Kinds of discovery whose name is spelled otherwise than by rule.
const NAMES: [(&str, &str); 12] = [
    ("staticConfigs", "static_configs"),
    ("fileSDConfigs", "file_sd_configs"),
    ("httpSDConfigs", "http_sd_configs"),
    ("kubernetesSDConfigs", "kubernetes_sd_configs"),
    ("consulSDConfigs", "consul_sd_configs"),
    ("dnsSDConfigs", "dns_sd_configs"),
    ("ec2SDConfigs", "ec2_sd_configs"),
    ("azureSDConfigs", "azure_sd_configs"),
    ("gceSDConfigs", "gce_sd_configs"),
    ("openstackSDConfigs", "openstack_sd_configs"),
    ("dockerSDConfigs", "docker_sd_configs"),
    ("digitalOceanSDConfigs", "digitalocean_sd_configs"),
];

/// Settings that [`scrape::http`] writes.
const HTTP: [&str; 11] = [
    "tlsConfig",
    "basicAuth",
    "authorization",
    "oauth2",
    "followRedirects",
    "enableHTTP2",
    "enableHttp2",
    "proxyUrl",
    "noProxy",
    "proxyFromEnvironment",
    "proxyConnectHeader",
];

/// One entry of a discovery.
fn entry(scope: Scope<'_>, kind: &str, from: &Value) -> Result<Value, String> {
    let mut config = Config::default();
    for (name, value) in from.as_object().into_iter().flatten().filter(|(name, _)| !HTTP.contains(&name.as_str())) {
        let value = match (kind, name.as_str()) {
            // Enumerations are written in lower case.
            ("kubernetesSDConfigs", "role") => value.as_str().unwrap_or_default().to_lowercase().into(),
            ("kubernetesSDConfigs", "selectors") => selectors(value),
            ("kubernetesSDConfigs", "namespaces") => namespaces(value, scope.namespace),
            ("staticConfigs", _) => value.clone(),
            _ if value["name"].is_string() && value["key"].is_string() => scope.assets.secret(scope.namespace, value)?.into(),
            _ => value.clone(),
        };
        config.set(&snake(name), value);
    }
    scope.assets.check_tls(scope.namespace, &from["tlsConfig"])?;
    scrape::http(Scope { class: &Value::Null, ..scope }, from, &mut config)?;
    Ok(config.finish())
}

fn selectors(from: &Value) -> Value {
    let lower = |selector: &Value| {
        let mut selector = selector.clone();
        selector["role"] = selector["role"].as_str().unwrap_or_default().to_lowercase().into();
        selector
    };
    from.as_array().into_iter().flatten().map(lower).collect()
}

fn namespaces(from: &Value, own: &str) -> Value {
    let mut out = Map::new();
    let mut names: Vec<Value> = from["names"].as_array().cloned().unwrap_or_default();
    if from["ownNamespace"] == true {
        names.push(own.into());
    }
    out.insert("names".to_owned(), names.into());
    Value::Object(out)
}

/// The scrape configuration of a ScrapeConfig.
///
/// # Errors
/// Why the operator would reject it.
pub(crate) fn scrape_configs(scope: Scope<'_>, object: &Value) -> Result<Vec<Value>, String> {
    let spec = &object["spec"];
    scrape::check_times(scope, &spec["scrapeInterval"], &spec["scrapeTimeout"])?;
    check_lists(spec, &["relabelings", "metricRelabelings"], scope.version)?;
    scope.assets.check_tls(scope.namespace, &spec["tlsConfig"])?;
    let mut config = Config::default();
    config.set("job_name", format!("scrapeConfig/{}/{}", scope.namespace, object::name(object)));
    config.copy(
        spec,
        &[
            ("honorLabels", "honor_labels"),
            ("honorTimestamps", "honor_timestamps"),
            ("scrapeInterval", "scrape_interval"),
            ("scrapeTimeout", "scrape_timeout"),
            ("metricsPath", "metrics_path"),
            ("params", "params"),
            ("enableCompression", "enable_compression"),
        ],
    );
    if scope.version.at_least(2, 48) {
        config.copy(spec, &[("trackTimestampsStaleness", "track_timestamps_staleness")]);
    }
    config.set("scheme", spec["scheme"].as_str().map(str::to_lowercase));
    scrape::http(scope, spec, &mut config)?;
    let by_rule =
        |name: &str| name.ends_with("SDConfigs").then(|| format!("{}_sd_configs", snake(name.trim_end_matches("SDConfigs"))));
    for (name, entries) in spec.as_object().into_iter().flatten() {
        let key = NAMES.iter().find(|(known, _)| known == name).map(|(_, key)| (*key).to_owned()).or_else(|| by_rule(name));
        let Some(key) = key else { continue };
        let entries: Result<Vec<Value>, String> = entries
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, from)| entry(scope, name, from).map_err(|why| format!("{name}[{index}]: {why}")))
            .collect();
        config.set(&key, entries?);
    }
    let mut rules = vec![json!({"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"})];
    rules.extend(user_rules(&scope.class["relabelings"]));
    if let Some(name) = spec["jobName"].as_str().filter(|name| !name.is_empty()) {
        rules.push(json!({"target_label": "job", "action": "replace", "replacement": name}));
    }
    rules.extend(user_rules(&spec["relabelings"]));
    rules.extend(enforced_namespace(scope.spec, scope.namespace));
    let shards = scope.spec["shards"].as_u64().unwrap_or(1);
    let shares_itself = user_rules(&spec["relabelings"]).any(|rule| rule["action"] == "hashmod");
    if shards > 1 && !shares_itself {
        rules.extend(sharding(scope.spec, "__address__"));
    }
    config.set("relabel_configs", rules);
    scrape::limits(scope, spec, &spec["bodySizeLimit"], &mut config);
    scrape::protocols(scope, spec, &mut config);
    scrape::metric_rules(scope, &spec["metricRelabelings"], &mut config);
    Ok(vec![config.finish()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_prometheus_spells_them() {
        for (name, expected) in [
            ("refreshInterval", "refresh_interval"),
            ("tagSeparator", "tag_separator"),
            ("apiURL", "api_url"),
            ("port", "port"),
            ("ec2", "ec2"),
        ] {
            assert_eq!(snake(name), expected);
        }
    }
}
