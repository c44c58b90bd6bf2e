//! `httpConfig` and `tlsConfig`: which settings exclude each other, the Secrets behind them, and what they become.

use serde_json::{Map, Value, json};

use super::text::parse_url;
use super::{Of, told};

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
        check_authorization(&http["authorization"])?;
    }
    if is("oauth2") {
        if is("basicAuth") {
            return told("at most one of basicAuth, oauth2 & authorization must be configured");
        }
        check_oauth2(&http["oauth2"])?;
    }
    check_tls(&http["tlsConfig"])?;
    check_proxy(http)
}

fn check_authorization(authorization: &Value) -> Result<(), String> {
    if text(authorization, "type").trim().eq_ignore_ascii_case("basic") {
        return told("authorization type cannot be set to \"basic\", use \"basicAuth\" instead");
    }
    if authorization["credentials"].is_object() { Ok(()) } else { told("authorization credentials are required") }
}

fn check_oauth2(oauth2: &Value) -> Result<(), String> {
    if text(oauth2, "tokenUrl").is_empty() {
        return told("OAuth2 tokenURL must be specified");
    }
    if !is_reference(&oauth2["clientId"]) {
        return told("OAuth2 clientID must be specified");
    }
    check_one(&oauth2["clientId"]).map_err(|why| format!("invalid OAuth2 clientID: {why}"))?;
    check_tls(&oauth2["tlsConfig"]).map_err(|why| format!("invalid OAuth2 tlsConfig: {why}"))
}

fn is_reference(reference: &Value) -> bool {
    reference["secret"].is_object() || reference["configMap"].is_object()
}

fn check_one(reference: &Value) -> Result<(), String> {
    if reference["secret"].is_object() && reference["configMap"].is_object() {
        return told("cannot specify both Secret and ConfigMap");
    }
    Ok(())
}

fn check_tls(tls: &Value) -> Result<(), String> {
    for side in ["ca", "cert"] {
        check_one(&tls[side]).map_err(|why| format!("{side} {}: {why}", named(&tls[side])))?;
    }
    let (cert, key) = (is_reference(&tls["cert"]), tls["keySecret"].is_object());
    if cert && !key {
        return told("client cert specified without client key");
    }
    if key && !cert {
        return told("client key specified without client cert");
    }
    match (tls["maxVersion"].as_str(), tls["minVersion"].as_str()) {
        (Some(most), Some(least)) if most < least => told("maxVersion must more than or equal to minVersion"),
        _ => Ok(()),
    }
}

fn check_proxy(http: &Value) -> Result<(), String> {
    let is = |field: &str| !text(http, field).is_empty();
    let environment = http["proxyFromEnvironment"] == true;
    let headers = http["proxyConnectHeader"].as_object().filter(|headers| !headers.is_empty());
    if headers.is_some() && !environment && !is("proxyUrl") {
        return told("if proxyConnectHeader is configured, proxyUrl or proxyFromEnvironment must also be configured");
    }
    if environment && is("proxyUrl") {
        return told("if proxyFromEnvironment is configured, proxyUrl must not be configured");
    }
    if environment && is("noProxy") {
        return told("if proxyFromEnvironment is configured, noProxy must not be configured");
    }
    if is("noProxy") && !is("proxyUrl") {
        return told("if noProxy is configured, proxyUrl must also be configured");
    }
    for (name, selectors) in headers.into_iter().flatten() {
        if selectors.as_array().is_none_or(Vec::is_empty) {
            return Err(format!("proxyConnetHeader[{name}]: selector must not be empty"));
        }
    }
    parse_url(text(http, "proxyUrl")).map(drop)
}

/// How the operator writes a reference in a message.
fn named(reference: &Value) -> String {
    for (kind, field) in [("secret", "secret"), ("configmap", "configMap")] {
        if reference[field].is_object() {
            return format!("<{kind}={},key={}>", text(&reference[field], "name"), text(&reference[field], "key"));
        }
    }
    "<empty>".to_owned()
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

/// The name of the file that a reference is mounted as.
fn file(namespace: &str, reference: &Value) -> Option<String> {
    let (kind, of) = [(0, &reference["secret"]), (1, &reference["configMap"])].into_iter().find(|(_, of)| of.is_object())?;
    Some(format!("{kind}_{namespace}_{}_{}", text(of, "name"), text(of, "key")))
}

/// A `tlsConfig` in Alertmanager's words. Its certificates are read, and kept to be mounted if they are to be.
///
/// # Errors
/// Which certificate is missing or none.
pub(super) fn tls(of: Of<'_>, from: &Value, mounted: bool) -> Result<Value, String> {
    if mounted {
        mount(of, from)?;
    }
    let mut out = Map::new();
    let key = json!({"secret": from["keySecret"]});
    for (name, reference) in [("ca_file", &from["ca"]), ("cert_file", &from["cert"]), ("key_file", &key)] {
        if let Some(file) = file(of.namespace(), reference) {
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

fn mount(of: Of<'_>, from: &Value) -> Result<(), String> {
    check_tls(from).map_err(|why| format!("failed to validate TLS configuration: {why}"))?;
    let namespace = of.namespace();
    let read = |side: &str| {
        let found = of.assets.either(namespace, &from[side]);
        found.map(Option::unwrap_or_default).map_err(|why| format!("failed to get {side} {:?}: {why}", named(&from[side])))
    };
    let (authority, certificate) = (read("ca")?, read("cert")?);
    let key_from = &from["keySecret"];
    let key_name = format!("{}/{}", text(key_from, "name"), text(key_from, "key"));
    let key = if key_from.is_object() {
        of.assets.secret(namespace, key_from).map_err(|why| format!("failed to get key {key_name}: {why}"))?
    } else {
        String::new()
    };
    let keep = |reference: &Value, text: String| {
        if let Some(name) = file(namespace, reference) {
            of.files.borrow_mut().insert(name, text);
        }
    };
    if !authority.is_empty() {
        if !is_pem(&authority, "") {
            return Err(format!("ca {}: failed to decode PEM block", named(&from["ca"])));
        }
        keep(&from["ca"], authority);
    }
    if !certificate.is_empty() && !key.is_empty() {
        let wrong = [(&certificate, "CERTIFICATE", "certificate"), (&key, "PRIVATE KEY", "key")]
            .into_iter()
            .find(|(text, label, _)| !is_pem(text, label));
        if let Some((_, _, what)) = wrong {
            let cert = named(&from["cert"]);
            return Err(format!("cert {cert}, key <{key_name}>: tls: failed to find any PEM data in {what} input"));
        }
        keep(&from["cert"], certificate);
        keep(&json!({"secret": key_from}), key);
    }
    Ok(())
}

/// Whether there is a block of a kind.
fn is_pem(text: &str, label: &str) -> bool {
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----"));
    text.lines().any(begins) && text.contains("-----END ")
}
