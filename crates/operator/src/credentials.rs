//! Credentials, TLS and proxies of HTTP clients, as Prometheus is told them. That they can be had was checked before ([`crate::checks`]);
//! what is missing all the same is left out, as the operator leaves it out.

use serde_json::{Map, Value, json};

use crate::assets::{Assets, file_name};
use crate::config::{Config, filled, is_empty};
use crate::relabel::strings;

/// Where the operator mounts certificates.
const CERTIFICATES: &str = "/etc/prometheus/certs";

/// The Secrets of one namespace.
#[derive(Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) assets: Assets<'a>,
    pub(crate) namespace: &'a str,
    /// Whether Secrets of this namespace were read before. The operator writes only what it has read: credentials for the API server
    /// are read in the Prometheus object's namespace and written from the monitor's.
    pub(crate) read: bool,
}

impl Credentials<'_> {
    fn secret(&self, reference: &Value) -> Option<String> {
        self.read.then(|| self.assets.secret(self.namespace, reference).ok())?
    }

    /// The value of a Secret's key under a name, if a reference to one is there.
    pub(crate) fn set_secret(&self, config: &mut Config, key: &str, reference: &Value) {
        if reference.is_object() {
            config.set(key, self.secret(reference));
        }
    }

    pub(crate) fn basic(&self, config: &mut Config, from: &Value) {
        if from.is_object() {
            let part = |name: &str| self.secret(&from[name]).unwrap_or_default();
            config.set("basic_auth", json!({"username": part("username"), "password": part("password")}));
        }
    }

    /// A token; an older way that monitors still have.
    pub(crate) fn bearer_token(&self, config: &mut Config, reference: &Value) {
        if filled(&reference["name"]).is_some() {
            config.set("bearer_token", self.secret(reference));
        }
    }

    pub(crate) fn authorization(&self, config: &mut Config, from: &Value) {
        if !from.is_object() {
            return;
        }
        let mut out = config.section();
        out.set("type", filled(&from["type"]).unwrap_or("Bearer").trim());
        self.set_secret(&mut out, "credentials", &from["credentials"]);
        out.copy_filled(from, &[("credentialsFile", "credentials_file")]);
        config.set_since((2, 26), "authorization", out.finish());
    }

    pub(crate) fn proxy(&self, config: &mut Config, from: &Value) {
        config.set("proxy_url", from["proxyUrl"].clone());
        config.copy_since(from, &[("noProxy", "no_proxy", (2, 43)), ("proxyFromEnvironment", "proxy_from_environment", (2, 43))]);
        if let Some(headers) = from["proxyConnectHeader"].as_object() {
            let values = |list: &Value| -> Value {
                let references = list.as_array().into_iter().flatten();
                references.map(|reference| Value::from(self.secret(reference).unwrap_or_default())).collect()
            };
            let headers: Map<String, Value> = headers.iter().map(|(name, list)| (name.clone(), values(list))).collect();
            config.set_since((2, 43), "proxy_connect_header", headers);
        }
    }

    /// The same where the operator does not load the Secrets and ConfigMaps that are named: it writes what other references of the
    /// object have made it load, and nothing else.
    pub(crate) fn oauth2_if_loaded(&self, config: &mut Config, from: &Value) {
        if self.assets.is_loaded(self.namespace, &from["clientId"])
            && self.assets.is_loaded(self.namespace, &json!({"secret": from["clientSecret"]}))
        {
            self.oauth2(config, from);
        }
    }

    pub(crate) fn oauth2(&self, config: &mut Config, from: &Value) {
        if !from.is_object() {
            return;
        }
        let id = self.assets.either(self.namespace, &from["clientId"]).unwrap_or_default();
        let (Some(id), Some(secret)) = (id, self.secret(&from["clientSecret"])) else { return };
        let mut out = config.section();
        out.set("client_id", id);
        out.set("client_secret", secret);
        out.set("token_url", from["tokenUrl"].as_str().unwrap_or_default());
        out.copy_filled(from, &[("scopes", "scopes"), ("endpointParams", "endpoint_params")]);
        if config.version().at_least(2, 43) {
            self.proxy(&mut out, from);
            self.tls(&mut out, &safe(&from["tlsConfig"]));
        }
        config.set_since((2, 27), "oauth2", out.finish());
    }

    /// A `tlsConfig`; certificates of Secrets and ConfigMaps are named by the files that the operator makes of them.
    pub(crate) fn tls(&self, config: &mut Config, from: &Value) {
        if !from.is_object() {
            return;
        }
        let mut out = config.section();
        out.copy(from, &[("insecureSkipVerify", "insecure_skip_verify")]);
        let key = json!({"secret": from["keySecret"]});
        for (name, reference, file) in [
            ("ca_file", &from["ca"], &from["caFile"]),
            ("cert_file", &from["cert"], &from["certFile"]),
            ("key_file", &key, &from["keyFile"]),
        ] {
            let path = file_name(self.namespace, reference).map(|name| format!("{CERTIFICATES}/{name}"));
            out.set(name, filled(file).map(str::to_owned).or(path));
        }
        out.copy_filled(from, &[("serverName", "server_name")]);
        out.copy_since(from, &[("minVersion", "min_version", (2, 35)), ("maxVersion", "max_version", (2, 41))]);
        config.set("tls_config", out.finish());
    }

    pub(crate) fn sigv4(&self, config: &mut Config, from: &Value) {
        if !from.is_object() {
            return;
        }
        let mut out = config.section();
        out.copy_filled(from, &[("region", "region"), ("profile", "profile"), ("roleArn", "role_arn")]);
        if from["accessKey"].is_object() && from["secretKey"].is_object() {
            let both = (self.secret(&from["accessKey"]), self.secret(&from["secretKey"]));
            if let (Some(access), Some(secret)) = both
                && !access.is_empty()
                && !secret.is_empty()
            {
                out.set("access_key", access);
                out.set("secret_key", secret);
            }
        }
        out.copy_since(from, &[("useFIPSSTSEndpoint", "use_fips_sts_endpoint", (2, 54))]);
        config.set("sigv4", out.finish());
    }
}

/// Whether Go's type for a `tlsConfig` or `authorization` without files would be its zero value.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, field)| match name.as_str() {
            "ca" | "cert" => is_zero(field),
            _ => field.is_null() || field.as_str().is_some_and(str::is_empty),
        }),
        other => is_empty(other),
    }
}

/// A `tlsConfig` of a kind that knows no files.
pub(crate) fn safe(tls: &Value) -> Value {
    let mut safe = tls.clone();
    for (name, field) in safe.as_object_mut().into_iter().flatten() {
        if matches!(name.as_str(), "caFile" | "certFile" | "keyFile") {
            field.take();
        }
    }
    safe
}

/// A monitor's `tlsConfig` completed by that of its scrape class (prometheus-operator `mergeTLSConfigWithScrapeClass`).
pub(crate) fn with_class_tls(own: &Value, class: &Value) -> Value {
    let mut merged = own.clone();
    if !own.is_object() {
        return class["tlsConfig"].clone();
    }
    for (file, reference) in [("caFile", "ca"), ("certFile", "cert"), ("keyFile", "keySecret")] {
        let absent = filled(&own[file]).is_none() && (is_empty(&own[reference]) || is_zero(&own[reference]));
        if absent && let Some(path) = filled(&class["tlsConfig"][file]) {
            merged[file] = path.into();
        }
    }
    merged
}

/// The same for a kind that knows no files, of which an empty one is none.
pub(crate) fn with_class_safe_tls(own: &Value, class: &Value) -> Value {
    if is_zero(own) { class["tlsConfig"].clone() } else { with_class_tls(&safe(own), class) }
}

/// An `authorization` of a kind that knows no files.
pub(crate) fn without_file(authorization: &Value) -> Value {
    let mut rest = authorization.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("credentialsFile");
    }
    rest
}

/// A monitor's `authorization` completed by that of its scrape class. The class' Secret is never read, so its credentials are only
/// had as a file.
pub(crate) fn with_class_authorization(own: &Value, class: &Value) -> Value {
    let without_secret = |authorization: &Value| {
        let mut rest = authorization.clone();
        if let Some(fields) = rest.as_object_mut() {
            fields.remove("credentials");
        }
        rest
    };
    let class = &class["authorization"];
    if is_zero(own) {
        return without_secret(class);
    }
    let mut merged = without_file(own);
    if own["credentials"].is_null() && class["credentials"].is_null() && filled(&class["credentialsFile"]).is_some() {
        merged["credentialsFile"] = class["credentialsFile"].clone();
    }
    merged
}

/// The names of scopes, protocols and the like as a list; nothing for none.
pub(crate) fn texts(value: &Value) -> Option<Vec<&str>> {
    let list: Vec<&str> = strings(value).collect();
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_class_completes_what_a_monitor_says_of_tls() {
        let class = json!({"tlsConfig": {"caFile": "/ca", "certFile": "/c", "keyFile": "/k"}});
        let by_class = json!({"caFile": "/ca", "certFile": "/c", "keyFile": "/k"});
        assert_eq!(with_class_tls(&Value::Null, &class), by_class);
        assert_eq!(with_class_tls(&json!({}), &class), by_class);
        assert_eq!(with_class_safe_tls(&json!({"ca": {}}), &class), by_class);
        assert_eq!(
            with_class_tls(&json!({"ca": {"secret": {"name": "s", "key": "k"}}, "serverName": "x"}), &class),
            json!({"ca": {"secret": {"name": "s", "key": "k"}}, "serverName": "x", "certFile": "/c", "keyFile": "/k"})
        );
        assert_eq!(with_class_tls(&json!({}), &Value::Null), json!({}));
    }

    #[test]
    fn a_scrape_class_gives_credentials_by_file_alone() {
        let class = json!({"authorization": {"type": "Token", "credentialsFile": "/t"}});
        assert_eq!(with_class_authorization(&Value::Null, &class), class["authorization"]);
        assert_eq!(with_class_authorization(&json!({"type": "X"}), &class), json!({"type": "X", "credentialsFile": "/t"}));
        let by_secret = json!({"authorization": {"credentials": {"name": "s", "key": "k"}}});
        assert_eq!(with_class_authorization(&json!({}), &by_secret), json!({}));
    }
}
