//! Other servers that series are written to and read from.

use serde_json::{Value, json};

use crate::checks::{Checks, within};
use crate::config::{Config, filled, is_empty};
use crate::credentials::Credentials;
use crate::relabel::user_rules;
use crate::version::Version;

fn list<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> + use<'a> {
    spec[field].as_array().into_iter().flatten().enumerate()
}

/// What the two directions check alike.
fn check_credentials(checks: Checks<'_>, from: &Value) -> Result<(), String> {
    checks.basic(&from["basicAuth"])?;
    checks.oauth2(&from["oauth2"])?;
    checks.tls(&from["tlsConfig"])?;
    checks.authorization_or_file(&from["authorization"])
}

/// Ways to be known at Azure, as errors name them; two of them do not go together.
const AZURE: [(&str, &str); 3] = [("managedIdentity", "Azure Managed Identity"), ("oauth", "Azure OAuth"), ("sdk", "Azure SDK")];

fn check_azure(checks: Checks<'_>, from: &Value, version: Version) -> Result<(), String> {
    if !from.is_object() {
        return Ok(());
    }
    let given: Vec<&str> = AZURE.iter().filter(|(name, _)| from[*name].is_object()).map(|(_, words)| *words).collect();
    match given.as_slice() {
        [] => return Err("must provide Azure Managed Identity or Azure OAuth or Azure SDK in the Azure AD config".to_owned()),
        [one, other, ..] => return Err(format!("cannot provide both {one} and {other} in the Azure AD config")),
        [_] => {}
    }
    let client = &from["managedIdentity"]["clientId"];
    if from["managedIdentity"].is_object() && filled(client).is_none() && !version.at_least(3, 5) {
        return Err("managedIdentidy: clientId is required with Prometheus < 3.5.0".to_owned());
    }
    let oauth = &from["oauth"];
    if oauth.is_object() {
        let id = oauth["clientId"].as_str().unwrap_or_default();
        let is_id = id.len() == 36 && id.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
        if !is_id {
            return Err("the provided Azure OAuth clientId is invalid".to_owned());
        }
        within("failed to read AzureOAuth clientSecret", checks.key(&oauth["clientSecret"]))?;
    }
    Ok(())
}

/// Checks both directions.
///
/// # Errors
/// What the operator says of the first that it would not take.
pub(crate) fn check(checks: Checks<'_>, spec: &Value, version: Version) -> Result<(), String> {
    for (index, from) in list(spec, "remoteRead") {
        let checked = || {
            check_credentials(checks, from)?;
            checks.proxy(from)
        };
        within(&format!("remoteRead[{index}]"), checked())?;
    }
    for (index, from) in list(spec, "remoteWrite") {
        let ways = ["basicAuth", "oauth2", "authorization", "sigv4", "azureAd"];
        let given: Vec<String> =
            ways.into_iter().filter(|name| from[*name].is_object()).map(|name| format!("{name:?}")).collect();
        let checked = || {
            if given.len() > 1 {
                let all = given.join(" and ");
                return Err(format!("{all} can't be set at the same time, at most one of them must be defined"));
            }
            check_azure(checks, &from["azureAd"], version)?;
            crate::checks::proxy(from)?;
            check_credentials(checks, from)?;
            checks.sigv4(&from["sigv4"])?;
            checks.proxy_headers(from)
        };
        within(&format!("remoteWrite[{index}]"), checked())?;
    }
    Ok(())
}

/// Credentials, which both directions write alike.
fn write_credentials(credentials: Credentials<'_>, from: &Value, config: &mut Config) {
    credentials.basic(config, &from["basicAuth"]);
    config.copy_filled(from, &[("bearerToken", "bearer_token"), ("bearerTokenFile", "bearer_token_file")]);
    credentials.oauth2(config, &from["oauth2"]);
    credentials.tls(config, &from["tlsConfig"]);
    credentials.authorization(config, &from["authorization"]);
    credentials.proxy(config, from);
    config.copy_since(from, &[("followRedirects", "follow_redirects", (2, 26))]);
}

fn azure(credentials: Credentials<'_>, from: &Value, config: &mut Config) {
    if !from.is_object() {
        return;
    }
    let mut out = config.section();
    if from["managedIdentity"].is_object() {
        let mut identity = config.section();
        identity.copy_filled(&from["managedIdentity"], &[("clientId", "client_id")]);
        out.set("managed_identity", identity.finish());
    }
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let oauth = &from["oauth"];
    if oauth.is_object() {
        let mut section = config.section();
        section.set("client_id", text(oauth, "clientId"));
        credentials.set_secret(&mut section, "client_secret", &oauth["clientSecret"]);
        section.set("tenant_id", text(oauth, "tenantId"));
        out.set_since((2, 48), "oauth", section.finish());
    }
    if from["sdk"].is_object() {
        out.set_since((2, 52), "sdk", json!({"tenant_id": text(&from["sdk"], "tenantId")}));
    }
    out.copy(from, &[("cloud", "cloud")]);
    config.set_since((2, 45), "azuread", out.finish());
}

/// How a queue is served: numbers of which 0 is none, times, and a switch.
fn queue(from: &Value, config: &mut Config) {
    if !from.is_object() {
        return;
    }
    let mut out = config.section();
    // Since 2.11 Prometheus tries for ever.
    let retries = if config.version().at_least(2, 11) { "" } else { "maxRetries" };
    for (name, key, since) in [
        ("capacity", "capacity", (0, 0)),
        ("minShards", "min_shards", (2, 6)),
        ("maxShards", "max_shards", (0, 0)),
        ("maxSamplesPerSend", "max_samples_per_send", (0, 0)),
        (retries, "max_retries", (0, 0)),
    ] {
        if from[name].as_i64().is_some_and(|number| number != 0) {
            out.set_since(since, key, from[name].clone());
        }
    }
    out.copy(from, &[("batchSendDeadline", "batch_send_deadline"), ("minBackoff", "min_backoff"), ("maxBackoff", "max_backoff")]);
    if from["retryOnRateLimit"] == true {
        out.set_since((2, 26), "retry_on_http_429", true);
    }
    out.copy_since(from, &[("sampleAgeLimit", "sample_age_limit", (2, 50))]);
    config.set("queue_config", out.finish());
}

fn write_one(credentials: Credentials<'_>, from: &Value, version: Version) -> Value {
    let mut config = Config::new(version);
    config.set("url", from["url"].as_str().unwrap_or_default());
    config.copy(from, &[("remoteTimeout", "remote_timeout")]);
    config.copy_since(from, &[("sendExemplars", "send_exemplars", (2, 27))]);
    config.copy_filled_since(from, &[("headers", "headers", (2, 15)), ("name", "name", (2, 15))]);
    let message = match from["messageVersion"].as_str() {
        None => None,
        Some("V2.0") => Some("io.prometheus.write.v2.Request"),
        Some(_) => Some("prometheus.WriteRequest"),
    };
    config.set_since((2, 54), "protobuf_message", message);
    config.copy_since(from, &[("sendNativeHistograms", "send_native_histograms", (2, 40))]);
    if !is_empty(&from["writeRelabelConfigs"]) {
        config.set("write_relabel_configs", user_rules(&from["writeRelabelConfigs"]).collect::<Vec<_>>());
    }
    write_credentials(credentials, from, &mut config);
    if version.at_least(2, 26) {
        credentials.sigv4(&mut config, &from["sigv4"]);
    }
    azure(credentials, &from["azureAd"], &mut config);
    config.copy_since(from, &[("enableHTTP2", "enable_http2", (2, 35)), ("enableHttp2", "enable_http2", (2, 35))]);
    queue(&from["queueConfig"], &mut config);
    let metadata = &from["metadataConfig"];
    if metadata.is_object() {
        let mut out = config.section();
        out.set("send", metadata["send"] == true);
        out.copy_filled(metadata, &[("sendInterval", "send_interval")]);
        out.copy_since(metadata, &[("maxSamplesPerSend", "max_samples_per_send", (2, 29))]);
        config.set_since((2, 23), "metadata_config", out.finish());
    }
    config.copy_since(from, &[("roundRobinDNS", "round_robin_dns", (3, 1))]);
    config.finish()
}

fn read_one(credentials: Credentials<'_>, from: &Value, version: Version) -> Value {
    let mut config = Config::new(version);
    config.set("url", from["url"].as_str().unwrap_or_default());
    config.copy(from, &[("remoteTimeout", "remote_timeout")]);
    config.copy_filled_since(from, &[("headers", "headers", (2, 26)), ("name", "name", (2, 15))]);
    config.copy_filled(from, &[("requiredMatchers", "required_matchers")]);
    if from["readRecent"] == true {
        config.set("read_recent", true);
    }
    write_credentials(credentials, from, &mut config);
    config.copy_since(from, &[("filterExternalLabels", "filter_external_labels", (2, 34))]);
    config.finish()
}

/// Both sections, as far as there is something in them.
pub(crate) fn write(credentials: Credentials<'_>, spec: &Value, config: &mut Config) {
    type One = fn(Credentials<'_>, &Value, Version) -> Value;
    for (field, key, one) in [("remoteWrite", "remote_write", write_one as One), ("remoteRead", "remote_read", read_one)] {
        let made: Vec<Value> = list(spec, field).map(|(_, from)| one(credentials, from, config.version())).collect();
        if !made.is_empty() {
            config.set(key, made);
        }
    }
}
