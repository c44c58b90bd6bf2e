//! Where a Prometheus sends alerts, and what is done to them before.

use kubeapi::object;
use serde_json::{Value, json};

use crate::checks::{Checks, within};
use crate::compile::{discovery_role, meta_prefix};
use crate::config::{Config, filled, is_empty, lower};
use crate::credentials::without_file;
use crate::relabel::{check_list, user_rules};
use crate::scrape::{self, Scope};

/// Lists of the user's that are added as they are.
pub(crate) struct Additional {
    pub(crate) relabel_configs: Option<Vec<Value>>,
    pub(crate) managers: Option<Vec<Value>>,
}

/// Checks the Alertmanagers of a Prometheus object.
///
/// # Errors
/// What the operator says of the first that it would not take.
pub(crate) fn check(checks: Checks<'_>, spec: &Value, config: &Config) -> Result<(), String> {
    for (index, manager) in managers(spec).enumerate() {
        let mut given: Vec<String> = ["basicAuth", "authorization", "sigv4"]
            .into_iter()
            .filter(|name| manager[*name].is_object())
            .map(|name| format!("{name:?}"))
            .collect();
        if filled(&manager["bearerTokenFile"]).is_some() {
            given.insert(0, "\"bearerTokenFile\"".to_owned());
        }
        let checked = || {
            if given.len() > 1 {
                let all = given.join(" and ");
                return Err(format!("{all} can't be set at the same time, at most one of them must be defined"));
            }
            within("invalid relabelings", check_list(&manager["relabelings"], config.version()))?;
            within("invalid alertRelabelings", check_list(&manager["alertRelabelings"], config.version()))?;
            checks.basic(&manager["basicAuth"])?;
            checks.authorization(&manager["authorization"])?;
            checks.sigv4(&manager["sigv4"])?;
            checks.tls(&manager["tlsConfig"])?;
            checks.proxy_headers(manager)
        };
        within(&format!("alertmanager {index}"), checked())?;
    }
    Ok(())
}

fn managers(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["alerting"]["alertmanagers"].as_array().into_iter().flatten()
}

fn manager(scope: Scope<'_>, prometheus: &Value, from: &Value) -> Value {
    let mut config = Config::new(scope.version);
    config.set("scheme", lower(&from["scheme"]));
    config.copy(from, &[("pathPrefix", "path_prefix"), ("timeout", "timeout")]);
    config.copy_since(from, &[("enableHttp2", "enable_http2", (2, 35)), ("enableHTTP2", "enable_http2", (2, 35))]);
    let credentials = scope.credentials();
    credentials.tls(&mut config, &from["tlsConfig"]);
    credentials.proxy(&mut config, from);
    let role = discovery_role(&Value::Null, scope.spec, scope.version);
    let namespace = from["namespace"].as_str().unwrap_or_else(|| object::namespace(prometheus));
    let mut discovery = scrape::discovery(scope, role, &Value::Null, None);
    discovery["namespaces"] = json!({"names": [namespace]});
    config.set("kubernetes_sd_configs", vec![discovery]);
    config.copy_filled(from, &[("bearerTokenFile", "bearer_token_file")]);
    if scope.version.at_least(2, 26) {
        credentials.basic(&mut config, &from["basicAuth"]);
    }
    credentials.authorization(&mut config, &without_file(&from["authorization"]));
    if scope.version.at_least(2, 48) {
        credentials.sigv4(&mut config, &from["sigv4"]);
    }
    match from["apiVersion"].as_str().map(str::to_lowercase).as_deref() {
        Some("v1") if scope.version.major() <= 2 => config.set_since((2, 11), "api_version", "v1"),
        Some("v2") => config.set_since((2, 11), "api_version", "v2"),
        _ => {}
    }
    let keep = |source: String, regex: Value| json!({"action": "keep", "source_labels": [source], "regex": regex});
    let mut rules = vec![keep("__meta_kubernetes_service_name".to_owned(), from["name"].as_str().unwrap_or_default().into())];
    match &from["port"] {
        Value::String(name) if !name.is_empty() => {
            rules.push(keep(format!("__meta_kubernetes_{}_port_name", meta_prefix(role)), name.as_str().into()));
        }
        Value::Number(number) if number.as_i64() != Some(0) => {
            rules.push(keep("__meta_kubernetes_pod_container_port_number".to_owned(), number.to_string().into()));
        }
        _ => {}
    }
    rules.extend(user_rules(&from["relabelings"]));
    config.set("relabel_configs", rules);
    if !is_empty(&from["alertRelabelings"]) {
        let rules: Vec<Value> = user_rules(&from["alertRelabelings"]).collect();
        config.set_since((2, 51), "alert_relabel_configs", rules);
    }
    config.finish()
}

/// A text that a regular expression matches and nothing else (Go's `regexp.QuoteMeta`).
fn quoted(text: &str) -> String {
    text.chars().flat_map(|letter| r"\.+*?()|[]{}^$".contains(letter).then_some('\\').into_iter().chain([letter])).collect()
}

/// The section, if anything is said of alerts.
pub(crate) fn alerting(scope: Scope<'_>, prometheus: &Value, additional: Additional, config: &mut Config) {
    let said = scope.spec["alerting"].is_object();
    if !said && additional.relabel_configs.is_none() && additional.managers.is_none() {
        return;
    }
    let mut made: Vec<Value> = managers(scope.spec).map(|from| manager(scope, prometheus, from)).collect();
    made.extend(additional.managers.into_iter().flatten());
    let replica = scope.spec["replicaExternalLabelName"].as_str().unwrap_or("prometheus_replica");
    let mut rules = Vec::new();
    if !replica.is_empty() {
        rules.push(json!({"action": "labeldrop", "regex": quoted(replica)}));
    }
    rules.extend(additional.relabel_configs.into_iter().flatten());
    config.set("alerting", json!({"alert_relabel_configs": rules, "alertmanagers": made}));
}
