//! The web configuration of Prometheus and Alertmanager, `spec.web`: its Secret, and where the pods mount it.
//!
//! The file is there even if nothing is asked for, so that TLS can be turned on without new pods (prometheus-operator
//! `pkg/webconfig/config.go`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::pod::label;
use super::secret;
use crate::checks::one_of;

/// The key of the configuration in its Secret, and the name of its file.
const KEY: &str = "web-config.yaml";

/// What `spec.web` makes of a workload.
pub(crate) struct Web {
    /// Where the pods find the file.
    pub(crate) file: String,
    /// The Secret that holds the configuration.
    pub(crate) secret: Value,
    /// The volumes of configuration and certificates.
    pub(crate) volumes: Vec<Value>,
    /// Their mounts.
    pub(crate) mounts: Vec<Value>,
}

/// How a probe and the reloader speak to the program.
pub(crate) fn scheme(spec: &Value) -> &'static str {
    if spec["web"]["tlsConfig"].is_object() { "https" } else { "http" }
}

/// What is given of a Secret or ConfigMap: its kind in a path, the name of the object, its key.
fn source(reference: &Value) -> Option<(&'static str, &str, &str)> {
    [("secret", "secret"), ("configMap", "configmap")].into_iter().find_map(|(field, kind)| {
        let found = reference.get(field).filter(|found| found.is_object())?;
        let part = |key: &str| found[key].as_str().unwrap_or_default();
        Some((kind, part("name"), part("key")))
    })
}

/// `WebTLSConfig.Validate` of `pkg/apis/monitoring/v1/types.go`.
fn check(tls: &Value) -> Result<(), String> {
    let is_file = |key: &str| tls[key].as_str().is_some_and(|file| !file.is_empty());
    let is_given = |key: &str| tls[key].as_object().is_some_and(|fields| !fields.is_empty());
    for (field, file, what, both) in [
        ("client_ca", "clientCAFile", "client CA", "cannot specify both clientCAFile and clientCA"),
        ("cert", "certFile", "TLS certificate", "cannot specify both cert and certFile"),
    ] {
        if is_given(field) {
            if is_file(file) {
                return Err(both.to_owned());
            }
            one_of(&tls[field]).map_err(|error| format!("invalid {what}: {error}"))?;
        }
    }
    match (is_file("keyFile"), is_given("keySecret")) {
        (true, true) => return Err("cannot specify both keyFile and keySecret".to_owned()),
        (false, false) => return Err("TLS private key must be defined".to_owned()),
        _ => {}
    }
    if is_file("certFile") || is_given("cert") { Ok(()) } else { Err("TLS certificate must be defined".to_owned()) }
}

/// The part of the file about TLS, with the volumes and mounts that it needs.
fn tls_server(tls: &Value, folder: &str, web: &mut Web) -> Value {
    let key_secret = if tls["keySecret"].is_object() { json!({"secret": tls["keySecret"]}) } else { Value::Null };
    let mut out = Map::new();
    for (name, file, reference, mount, volume) in [
        ("cert_file", "certFile", &tls["cert"], "cert", "cert"),
        ("key_file", "keyFile", &key_secret, "key", "key"),
        ("client_ca_file", "clientCAFile", &tls["client_ca"], "ca", "client-ca"),
    ] {
        let mounted = source(reference).map(|(kind, of, key)| {
            // The operator adds a hash of the object's name, which keeps apart what is cut off at 63 characters.
            let volume = label(&format!("web-config-tls-{kind}-{volume}"), of);
            let path = format!("{folder}/{kind}/{of}-{mount}");
            web.volumes.push(match kind {
                "secret" => json!({"name": volume, "secret": {"secretName": of}}),
                _ => json!({"name": volume, "configMap": {"name": of}}),
            });
            web.mounts.push(json!({"name": volume, "readOnly": true, "mountPath": path}));
            format!("{path}/{key}")
        });
        let written = tls[file].as_str().filter(|file| !file.is_empty()).map(str::to_owned);
        if let Some(path) = written.or(mounted) {
            out.insert(name.to_owned(), path.into());
        }
    }
    for (name, field) in [
        ("client_auth_type", "clientAuthType"),
        ("min_version", "minVersion"),
        ("max_version", "maxVersion"),
        ("cipher_suites", "cipherSuites"),
        ("prefer_server_cipher_suites", "preferServerCipherSuites"),
        ("curve_preferences", "curvePreferences"),
    ] {
        if !crate::config::is_empty(&tls[field]) {
            out.insert(name.to_owned(), tls[field].clone());
        }
    }
    out.into()
}

/// The part of the file about HTTP.
fn http_server(http: &Value) -> Value {
    let mut out = Map::new();
    if http["http2"].is_boolean() {
        out.insert("http2".to_owned(), http["http2"].clone());
    }
    if http["headers"].is_object() {
        let mut headers = Map::new();
        for (name, field, lower) in [
            ("Content-Security-Policy", "contentSecurityPolicy", false),
            ("Strict-Transport-Security", "strictTransportSecurity", false),
            ("X-Content-Type-Options", "xContentTypeOptions", true),
            ("X-Frame-Options", "xFrameOptions", true),
            ("X-XSS-Protection", "xXSSProtection", false),
        ] {
            if let Some(text) = http["headers"][field].as_str().filter(|text| !text.is_empty()) {
                let text = if lower { text.to_lowercase() } else { text.to_owned() };
                headers.insert(name.to_owned(), text.into());
            }
        }
        out.insert("headers".to_owned(), headers.into());
    }
    out.into()
}

/// What `spec.web` makes of a workload whose files lie in `folder`, such as `/etc/prometheus`.
///
/// # Errors
/// What contradicts itself in it, or is missing.
pub(crate) fn web(owner: &Value, workload: &str, folder: &str) -> Result<Web, String> {
    let asked = &owner["spec"]["web"];
    let folder = format!("{folder}/web_config");
    let name = format!("{workload}-web-config");
    let path = format!("{folder}/{KEY}");
    let mut web = Web {
        secret: Value::Null,
        volumes: vec![json!({"name": "web-config", "secret": {"secretName": name}})],
        mounts: vec![json!({"name": "web-config", "readOnly": true, "subPath": KEY, "mountPath": path})],
        file: path,
    };
    let mut file = Map::new();
    if asked["tlsConfig"].is_object() {
        check(&asked["tlsConfig"]).map_err(|error| format!("failed to initialize web config: {error}"))?;
        file.insert("tls_server_config".to_owned(), tls_server(&asked["tlsConfig"], &folder, &mut web));
    }
    if asked["httpConfig"].is_object() {
        file.insert("http_server_config".to_owned(), http_server(&asked["httpConfig"]));
    }
    let text = if file.is_empty() { String::new() } else { wire::yaml::to_string(&file).map_err(|error| error.to_string())? };
    web.secret = secret(owner, &name, Map::from_iter([(KEY.to_owned(), STANDARD.encode(text).into())]));
    Ok(web)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(web_field: Value) -> Result<Web, String> {
        let owner =
            json!({"kind": "Prometheus", "metadata": {"name": "k8s", "namespace": "m", "uid": "u"}, "spec": {"web": web_field}});
        web(&owner, "prometheus-k8s", "/etc/prometheus")
    }

    fn file(web: &Web) -> Value {
        let bytes = STANDARD.decode(web.secret["data"][KEY].as_str().unwrap()).unwrap();
        wire::yaml::manifests(&String::from_utf8(bytes).unwrap()).unwrap().pop().unwrap_or_default()
    }

    #[test]
    fn what_is_asked_for_is_in_the_file() {
        let secret = |name: &str| json!({"name": name, "key": "k"});
        for (asked, expected, mounts) in [
            (json!({}), json!(null), 1),
            (json!({"pageTitle": "x"}), json!(null), 1),
            (json!({"httpConfig": {}}), json!({"http_server_config": {}}), 1),
            (
                json!({"httpConfig": {"http2": false, "headers": {"xFrameOptions": "Deny", "xXSSProtection": "1; Mode"}}}),
                json!({"http_server_config": {"http2": false, "headers": {"X-Frame-Options": "deny", "X-XSS-Protection": "1; Mode"}}}),
                1,
            ),
            (
                json!({"tlsConfig": {"keySecret": secret("s"), "cert": {"configMap": secret("c")}, "client_ca": {"secret": secret("ca")},
                    "minVersion": "TLS12", "cipherSuites": ["A"], "clientAuthType": "", "preferServerCipherSuites": false}}),
                json!({"tls_server_config": {
                    "cert_file": "/etc/prometheus/web_config/configmap/c-cert/k", "key_file": "/etc/prometheus/web_config/secret/s-key/k",
                    "client_ca_file": "/etc/prometheus/web_config/secret/ca-ca/k", "min_version": "TLS12", "cipher_suites": ["A"],
                    "prefer_server_cipher_suites": false}}),
                4,
            ),
            (
                json!({"tlsConfig": {"keyFile": "/k", "certFile": "/c", "clientCAFile": "/ca"}}),
                json!({"tls_server_config": {"cert_file": "/c", "key_file": "/k", "client_ca_file": "/ca"}}),
                1,
            ),
        ] {
            let web = of(asked.clone()).unwrap();
            assert_eq!(file(&web), expected, "{asked}");
            assert_eq!((web.mounts.len(), web.volumes.len()), (mounts, mounts), "{asked}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let secret = json!({"name": "s", "key": "k"});
        for (tls, expected) in [
            (json!({}), "TLS private key must be defined"),
            (json!({"keySecret": secret}), "TLS certificate must be defined"),
            (json!({"keySecret": secret, "keyFile": "/k"}), "cannot specify both keyFile and keySecret"),
            (json!({"keyFile": "/k", "certFile": "/c", "cert": {"secret": secret}}), "cannot specify both cert and certFile"),
            (
                json!({"keyFile": "/k", "certFile": "/c", "clientCAFile": "/c", "client_ca": {"secret": secret}}),
                "cannot specify both clientCAFile and clientCA",
            ),
            (
                json!({"keyFile": "/k", "cert": {"secret": secret, "configMap": secret}}),
                "invalid TLS certificate: cannot specify both Secret and ConfigMap",
            ),
        ] {
            let error = of(json!({"tlsConfig": tls})).err().unwrap_or_default();
            assert_eq!(error, format!("failed to initialize web config: {expected}"), "{tls}");
        }
    }
}
