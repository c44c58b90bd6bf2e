//! `httpConfig` and `tlsConfig`: which settings exclude each other, the Secrets behind them, and what they become.

use serde_json::{Map, Value, json};

use super::text::parse_url;
use super::{Of, told};
use crate::assets::file_name;
use crate::checks::{self, Checks};

/// Where certificates are mounted in an Alertmanager's pod.
const CERTS: &str = "/etc/alertmanager/certs";

fn text<'v>(of: &'v Value, field: &str) -> &'v str {
    of[field].as_str().unwrap_or_default()
}

/// Whether the settings fit together, whatever the version.
///
/// # Errors
/// The first thing that does not.
pub(super) fn check(http: &Value) -> Result<(), String> {
    let is = |field: &str| http[field].is_object();
    if (is("basicAuth") || is("oauth2")) && is("bearerTokenSecret") {
        return told("at most one of basicAuth, oauth2, bearerTokenSecret must be configured");
    }
    if is("authorization") {
        if is("bearerTokenSecret") {
            return told("authorization is not compatible with bearerTokenSecret");
        }
        if is("basicAuth") || is("oauth2") {
            return told("at most one of basicAuth, oauth2 & authorization must be configured");
        }
        checks::safe_authorization(&http["authorization"])?;
    }
    if is("oauth2") {
        if is("basicAuth") {
            return told("at most one of basicAuth, oauth2 & authorization must be configured");
        }
        checks::oauth2(&http["oauth2"])?;
    }
    checks::safe_tls(&http["tlsConfig"])?;
    checks::proxy(http)?;
    parse_url(text(http, "proxyUrl")).map(drop)
}

/// An `httpConfig` in Alertmanager's words.
///
/// # Errors
/// What the version does not know, or which Secret is missing.
pub(super) fn convert(of: Of<'_>, http: &Value) -> Result<Value, String> {
    check_version(of, http)?;
    let mut out = Map::new();
    let secret = |reference: &Value| of.assets.secret(of.namespace(), reference);
    if http["bearerTokenSecret"].is_object() {
        out.insert("bearer_token".to_owned(), secret(&http["bearerTokenSecret"])?.into());
    }
    let authorization = &http["authorization"];
    if authorization.is_object() {
        let kind = text(authorization, "type");
        let why = |why: String| format!("failed to get authorization token of type {kind:?}: {why}");
        let credentials = secret(&authorization["credentials"]).map_err(why)?;
        if !credentials.is_empty() {
            let kind = if kind.is_empty() { "Bearer" } else { kind };
            out.insert("authorization".to_owned(), json!({"type": kind, "credentials": credentials}));
        }
    }
    let basic = &http["basicAuth"];
    if basic.is_object() {
        let part = |name: &str| secret(&basic[name]).map_err(|why| format!("failed to get basic auth {name}: {why}"));
        let (username, password) = (part("username")?, part("password")?);
        if !username.is_empty() || !password.is_empty() {
            out.insert("basic_auth".to_owned(), json!({"username": username, "password": password}));
        }
    }
    if http["tlsConfig"].is_object() {
        out.insert("tls_config".to_owned(), tls(of, &http["tlsConfig"], true)?);
    }
    out.extend(proxy(of, http)?);
    if http["oauth2"].is_object() {
        out.insert("oauth2".to_owned(), oauth2(of, &http["oauth2"])?);
    }
    for (field, name) in [("followRedirects", "follow_redirects"), ("enableHttp2", "enable_http2")] {
        out.insert(name.to_owned(), http[field].clone());
    }
    // The older of the two spellings goes before the other.
    if !text(http, "proxyURL").is_empty() {
        out.insert("proxy_url".to_owned(), http["proxyURL"].clone());
    }
    Ok(Value::Object(out))
}

/// What versions do not know: the fields, since when, and how the message calls them.
const VERSIONS: [(&[&str], u32, &str); 3] = [
    (&["authorization"], 22, "authorization"),
    (&["oauth2"], 22, "oauth2"),
    (&["noProxy", "proxyFromEnvironment", "proxyConnectHeader"], 25, "ProxyConfig"),
];

fn check_version(of: Of<'_>, http: &Value) -> Result<(), String> {
    for (fields, minor, name) in VERSIONS {
        if fields.iter().any(|field| !http[*field].is_null()) && !of.release.at_least(minor) {
            return Err(format!(
                "'{name}' config set in 'httpConfig' but supported in Alertmanager >= 0.{minor}.0 only - current {}",
                of.release.text
            ));
        }
    }
    Ok(())
}

fn proxy(of: Of<'_>, from: &Value) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (field, name) in [("proxyUrl", "proxy_url"), ("noProxy", "no_proxy"), ("proxyFromEnvironment", "proxy_from_environment")]
    {
        if !from[field].is_null() {
            out.insert(name.to_owned(), from[field].clone());
        }
    }
    let mut headers = Map::new();
    for (name, selectors) in from["proxyConnectHeader"].as_object().into_iter().flatten() {
        let mut values: Vec<Value> = Vec::new();
        for (index, selector) in selectors.as_array().into_iter().flatten().enumerate() {
            let value = of.assets.secret(of.namespace(), selector);
            values.push(value.map_err(|why| format!("header[{name}][{index}]: {why}"))?.into());
        }
        headers.insert(name.clone(), values.into());
    }
    if !headers.is_empty() {
        out.insert("proxy_connect_header".to_owned(), headers.into());
    }
    Ok(out)
}

fn oauth2(of: Of<'_>, from: &Value) -> Result<Value, String> {
    let id = of.assets.either(of.namespace(), &from["clientId"]);
    let id = id.map_err(|why| format!("failed to get oauth2 client id: {why}"))?.unwrap_or_default();
    let secret = of.assets.secret(of.namespace(), &from["clientSecret"]);
    let secret = secret.map_err(|why| format!("failed to get oauth2 client secret: {why}"))?;
    let mut out = proxy(of, from).map_err(|why| format!("failed to get oauth2 proxyConfig: {why}"))?;
    if from["tlsConfig"].is_object() {
        // Its certificates are mounted, and it is not written.
        tls(of, &from["tlsConfig"], true).map_err(|why| format!("failed to get oauth2 tlsConfig: {why}"))?;
    }
    out.insert("client_id".to_owned(), id.into());
    out.insert("client_secret".to_owned(), secret.into());
    for (field, name) in [("tokenUrl", "token_url"), ("scopes", "scopes"), ("endpointParams", "endpoint_params")] {
        out.insert(name.to_owned(), from[field].clone());
    }
    Ok(Value::Object(out))
}

/// A `tlsConfig` in Alertmanager's words. Its certificates are read, and kept to be mounted if they are to be.
///
/// # Errors
/// Which certificate is missing or none.
pub(super) fn tls(of: Of<'_>, from: &Value, mounted: bool) -> Result<Value, String> {
    if mounted {
        Checks { assets: of.assets, namespace: of.namespace() }.safe_tls(from)?;
    }
    let mut out = Map::new();
    let key = json!({"secret": from["keySecret"]});
    for (name, reference) in [("ca_file", &from["ca"]), ("cert_file", &from["cert"]), ("key_file", &key)] {
        if let Some(file) = file_name(of.namespace(), reference) {
            out.insert(name.to_owned(), format!("{CERTS}/{file}").into());
        }
    }
    for (field, name) in [
        ("serverName", "server_name"),
        ("minVersion", "min_version"),
        ("maxVersion", "max_version"),
        ("insecureSkipVerify", "insecure_skip_verify"),
    ] {
        out.insert(name.to_owned(), from[field].clone());
    }
    Ok(Value::Object(out))
}
