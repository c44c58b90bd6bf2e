//! What the operator checks of credentials before it takes an object, in its words (`pkg/assets/store.go`, the `Validate` methods of
//! `pkg/apis/monitoring/v1`). Certificates that pass are noted as files.

use serde_json::{Value, json};

use crate::assets::Assets;
use crate::config::{filled, is_empty};

/// The Secrets of one namespace, to be checked.
#[derive(Clone, Copy)]
pub(crate) struct Checks<'a> {
    pub(crate) assets: Assets<'a>,
    pub(crate) namespace: &'a str,
}

/// What comes before the reason of an error.
pub(crate) fn within<T>(what: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|why| format!("{what}: {why}"))
}

/// How the operator shows a reference.
fn shown(reference: &Value) -> String {
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    for kind in ["secret", "configMap"] {
        let source = &reference[kind];
        if source.is_object() {
            return format!("<{}={},key={}>", kind.to_lowercase(), text(source, "name"), text(source, "key"));
        }
    }
    "<empty>".to_owned()
}

fn is_basic(authorization: &Value) -> bool {
    authorization["type"].as_str().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("basic"))
}

const BASIC: &str = "authorization type cannot be set to \"basic\", use \"basicAuth\" instead";

impl Checks<'_> {
    fn secret(&self, reference: &Value) -> Result<String, String> {
        self.assets.secret(self.namespace, reference)
    }

    /// A reference to a Secret, if there is one.
    pub(crate) fn key(&self, reference: &Value) -> Result<(), String> {
        if reference.is_object() { self.secret(reference).map(drop) } else { Ok(()) }
    }

    pub(crate) fn bearer_token(&self, reference: &Value) -> Result<(), String> {
        if filled(&reference["name"]).is_some() { within("bearerTokenSecret", self.secret(reference)).map(drop) } else { Ok(()) }
    }

    pub(crate) fn basic(&self, from: &Value) -> Result<(), String> {
        if from.is_object() {
            within("failed to get basic auth username", self.secret(&from["username"]))?;
            within("failed to get basic auth password", self.secret(&from["password"]))?;
        }
        Ok(())
    }

    /// An `authorization` of a kind that knows no files.
    pub(crate) fn authorization(&self, from: &Value) -> Result<(), String> {
        if !from["credentials"].is_object() {
            return Ok(());
        }
        if is_basic(from) {
            return Err(BASIC.to_owned());
        }
        self.credentials(from)
    }

    /// An `authorization` that may name a file.
    pub(crate) fn authorization_or_file(&self, from: &Value) -> Result<(), String> {
        if !from["credentials"].is_object() {
            return Ok(());
        }
        of_class(from)?;
        self.credentials(from)
    }

    fn credentials(&self, from: &Value) -> Result<(), String> {
        if filled(&from["credentials"]["name"]).is_none() {
            return Ok(());
        }
        let kind = from["type"].as_str().unwrap_or_default();
        within(&format!("failed to get authorization token of type {kind:?}"), self.secret(&from["credentials"])).map(drop)
    }

    pub(crate) fn oauth2(&self, from: &Value) -> Result<(), String> {
        if !from.is_object() {
            return Ok(());
        }
        oauth2(from)?;
        within("failed to get oauth2 client id", self.assets.either(self.namespace, &from["clientId"]))?;
        within("failed to get oauth2 client secret", self.secret(&from["clientSecret"]))?;
        within("failed to get oauth2 proxyConfig", self.proxy_headers(from))?;
        within("failed to get oauth2 tlsConfig", self.safe_tls(&from["tlsConfig"]))
    }

    /// A `tlsConfig` of a kind that knows no files.
    pub(crate) fn safe_tls(&self, from: &Value) -> Result<(), String> {
        if !from.is_object() {
            return Ok(());
        }
        within("failed to validate TLS configuration", safe_tls(from))?;
        self.certificates(from)
    }

    /// A `tlsConfig` that may name files.
    pub(crate) fn tls(&self, from: &Value) -> Result<(), String> {
        if !from.is_object() {
            return Ok(());
        }
        within("failed to validate TLS configuration", tls(from))?;
        self.certificates(from)
    }

    /// Whether certificates can be read; they are noted as files.
    fn certificates(&self, from: &Value) -> Result<(), String> {
        let get = |what: &str| {
            let of = &from[what];
            within(&format!("failed to get {what} {:?}", shown(of)), self.assets.either(self.namespace, of))
                .map(Option::unwrap_or_default)
        };
        let (authority, certificate) = (get("ca")?, get("cert")?);
        let reference = &from["keySecret"];
        let text = |key: &str| reference[key].as_str().unwrap_or_default();
        let key = if reference.is_object() {
            within(&format!("failed to get key {}/{}", text("name"), text("key")), self.secret(reference))?
        } else {
            String::new()
        };
        if !authority.is_empty() {
            within(&format!("ca {}", shown(&from["ca"])), wire::pki::check_certificate(&authority))?;
            self.assets.needs_file(self.namespace, &from["ca"], authority);
        }
        if !certificate.is_empty() && !key.is_empty() {
            let what = format!("cert {}, key <{}/{}>", shown(&from["cert"]), text("name"), text("key"));
            within(&what, wire::pki::check_pair(&certificate, &key))?;
            self.assets.needs_file(self.namespace, &from["cert"], certificate);
            self.assets.needs_file(self.namespace, &json!({"secret": reference}), key);
        }
        Ok(())
    }

    /// The Secrets of `proxyConnectHeader`.
    pub(crate) fn proxy_headers(&self, from: &Value) -> Result<(), String> {
        for (name, list) in from["proxyConnectHeader"].as_object().into_iter().flatten() {
            for (index, reference) in list.as_array().into_iter().flatten().enumerate() {
                within(&format!("header[{name}][{index}]"), self.secret(reference))?;
            }
        }
        Ok(())
    }

    /// Proxy settings, with their Secrets.
    pub(crate) fn proxy(&self, from: &Value) -> Result<(), String> {
        proxy(from)?;
        self.proxy_headers(from)
    }

    /// Access keys of AWS, which go together.
    pub(crate) fn sigv4(&self, from: &Value) -> Result<(), String> {
        match (from["accessKey"].is_object(), from["secretKey"].is_object()) {
            (false, false) => Ok(()),
            (true, true) => {
                within("failed to read SigV4 access-key", self.secret(&from["accessKey"]))?;
                within("failed to read SigV4 secret-key", self.secret(&from["secretKey"])).map(drop)
            }
            _ => Err("both accessKey and secretKey should be provided".to_owned()),
        }
    }

    /// The HTTP settings of a PodMonitor's endpoint.
    pub(crate) fn http(&self, from: &Value) -> Result<(), String> {
        exclusive(from)?;
        within("authorization", safe_authorization(&from["authorization"]))?;
        within("oauth2", oauth2(&from["oauth2"]))?;
        within("tlsConfig", safe_tls(&from["tlsConfig"]))?;
        proxy(from)?;
        if filled(&from["bearerTokenSecret"]["key"]).is_some() {
            self.bearer_token(&from["bearerTokenSecret"])?;
        }
        within("basicAuth", self.basic(&from["basicAuth"]))?;
        within("tlsConfig", self.safe_tls(&from["tlsConfig"]))?;
        within("oauth2", self.oauth2(&from["oauth2"]))?;
        within("authorization", self.authorization(&from["authorization"]))?;
        within("proxyConfig", self.proxy(from))
    }
}

/// What a PodMonitor's endpoint may have only one of.
fn exclusive(from: &Value) -> Result<(), String> {
    const PAIRS: [(&str, &str); 6] = [
        ("authorization", "basicAuth"),
        ("authorization", "bearerTokenSecret"),
        ("authorization", "oauth2"),
        ("basicAuth", "bearerTokenSecret"),
        ("basicAuth", "oauth2"),
        ("bearerTokenSecret", "oauth2"),
    ];
    match PAIRS.into_iter().find(|(one, other)| from[*one].is_object() && from[*other].is_object()) {
        Some((one, other)) => Err(format!("{one} and {other} cannot be configured at the same time")),
        None => Ok(()),
    }
}

pub(crate) fn safe_authorization(from: &Value) -> Result<(), String> {
    if !from.is_object() {
        return Ok(());
    }
    if is_basic(from) {
        return Err(BASIC.to_owned());
    }
    if from["credentials"].is_object() { Ok(()) } else { Err("authorization credentials are required".to_owned()) }
}

/// The `authorization` of a scrape class, which may name a file.
pub(crate) fn of_class(from: &Value) -> Result<(), String> {
    if from["credentials"].is_object() && filled(&from["credentialsFile"]).is_some() {
        return Err("authorization can not specify both \"credentials\" and \"credentialsFile\"".to_owned());
    }
    if is_basic(from) { Err(BASIC.to_owned()) } else { Ok(()) }
}

pub(crate) fn oauth2(from: &Value) -> Result<(), String> {
    if !from.is_object() {
        return Ok(());
    }
    if filled(&from["tokenUrl"]).is_none() {
        return Err("OAuth2 tokenURL must be specified".to_owned());
    }
    if is_empty(&from["clientId"]) {
        return Err("OAuth2 clientID must be specified".to_owned());
    }
    within("invalid OAuth2 clientID", one_of(&from["clientId"]))?;
    within("invalid OAuth2 tlsConfig", safe_tls(&from["tlsConfig"]))
}

/// A reference is to a Secret or to a ConfigMap.
pub(crate) fn one_of(reference: &Value) -> Result<(), String> {
    let both = reference["secret"].is_object() && reference["configMap"].is_object();
    if both { Err("cannot specify both Secret and ConfigMap".to_owned()) } else { Ok(()) }
}

fn versions(from: &Value) -> Result<(), String> {
    match (filled(&from["minVersion"]), filled(&from["maxVersion"])) {
        (Some(least), Some(most)) if most < least => Err("maxVersion must more than or equal to minVersion".to_owned()),
        _ => Ok(()),
    }
}

pub(crate) fn safe_tls(from: &Value) -> Result<(), String> {
    for what in ["ca", "cert"] {
        within(&format!("{what} {}", shown(&from[what])), one_of(&from[what]))?;
    }
    match (is_empty(&from["cert"]), from["keySecret"].is_object()) {
        (false, false) => Err("client cert specified without client key".to_owned()),
        (true, true) => Err("client key specified without client cert".to_owned()),
        _ => versions(from),
    }
}

/// A `tlsConfig` that may name files.
pub(crate) fn tls(from: &Value) -> Result<(), String> {
    let file = |name: &str| filled(&from[name]).is_some();
    for (what, path) in [("ca", "caFile"), ("cert", "certFile")] {
        if !is_empty(&from[what]) && file(path) {
            return Err(format!("cannot specify both {path} and {what}"));
        }
        within(&format!("SecretOrConfigMap {what}"), one_of(&from[what]))?;
    }
    let key = from["keySecret"].is_object();
    if file("keyFile") && key {
        return Err("cannot specify both keyFile and keySecret".to_owned());
    }
    match (file("certFile") || !is_empty(&from["cert"]), file("keyFile") || key) {
        (true, false) => Err("cannot specify client cert without client key".to_owned()),
        (false, true) => Err("cannot specify client key without client cert".to_owned()),
        _ => versions(from),
    }
}

/// Settings of a proxy that exclude or need one another.
pub(crate) fn proxy(from: &Value) -> Result<(), String> {
    let by_environment = from["proxyFromEnvironment"] == true;
    let (url, exceptions) = (filled(&from["proxyUrl"]).is_some(), filled(&from["noProxy"]).is_some());
    let headers = &from["proxyConnectHeader"];
    let said = if !is_empty(headers) && !by_environment && !url {
        "if proxyConnectHeader is configured, proxyUrl or proxyFromEnvironment must also be configured"
    } else if by_environment && url {
        "if proxyFromEnvironment is configured, proxyUrl must not be configured"
    } else if by_environment && exceptions {
        "if proxyFromEnvironment is configured, noProxy must not be configured"
    } else if exceptions && !url {
        "if noProxy is configured, proxyUrl must also be configured"
    } else {
        let mut empty = headers.as_object().into_iter().flatten().filter(|(_, list)| is_empty(list));
        return match empty.next() {
            // The misspelling is upstream's.
            Some((name, _)) => Err(format!("proxyConnetHeader[{name}]: selector must not be empty")),
            None => Ok(()),
        };
    };
    Err(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Store;

    #[test]
    fn what_excludes_or_needs_one_another() {
        for (check, from, expected) in [
            (proxy as fn(&Value) -> Result<(), String>, json!({"noProxy": "a"}), Some("proxyUrl must also")),
            (proxy, json!({"proxyUrl": "http://p", "noProxy": "a"}), None),
            (proxy, json!({"proxyFromEnvironment": true, "proxyUrl": "http://p"}), Some("proxyUrl must not")),
            (proxy, json!({"proxyConnectHeader": {"a": [{}]}}), Some("proxyConnectHeader is configured")),
            (tls, json!({"caFile": "/a", "ca": {"secret": {}}}), Some("both caFile and ca")),
            (tls, json!({"certFile": "/a", "keySecret": {"name": "s"}}), None),
            (tls, json!({"certFile": "/a"}), Some("without client key")),
            (tls, json!({"minVersion": "TLS13", "maxVersion": "TLS12"}), Some("maxVersion")),
            (safe_tls, json!({"keySecret": {"name": "s"}}), Some("without client cert")),
            (
                safe_tls,
                json!({"ca": {"secret": {"name": "s", "key": "k"}, "configMap": {}}}),
                Some("ca <secret=s,key=k>: cannot specify both"),
            ),
            (exclusive, json!({"basicAuth": {}, "oauth2": {}}), Some("basicAuth and oauth2 cannot")),
            (safe_authorization, json!({"type": " Basic "}), Some("use \"basicAuth\" instead")),
            (safe_authorization, json!({}), Some("credentials are required")),
            (oauth2, json!({"tokenUrl": "http://t"}), Some("clientID must be specified")),
        ] {
            let found = check(&from).err().unwrap_or_default();
            assert!(found.contains(expected.unwrap_or_default()) && expected.is_some() != found.is_empty(), "{from}: {found:?}");
        }
    }

    #[test]
    fn certificates_are_read_and_noted() {
        let authority = wire::pki::CertificateAuthority::new("a").unwrap();
        let own = authority.server("x", &["x"], &[]).unwrap();
        let other = authority.server("y", &["y"], &[]).unwrap();
        let data = json!({"ca": authority.certificate_pem(), "crt": own.certificate_pem, "key": own.key_pem, "other": other.key_pem, "bad": "x"});
        let secrets = [json!({"metadata": {"namespace": "a", "name": "s"}, "stringData": data})];
        let store = Store::new(&secrets, &[]);
        let checks = Checks { assets: store.assets(), namespace: "a" };
        let of = |key: &str| json!({"secret": {"name": "s", "key": key}});
        let key = |key: &str| json!({"name": "s", "key": key});
        assert_eq!(checks.tls(&json!({"ca": of("ca"), "cert": of("crt"), "keySecret": key("key")})), Ok(()));
        assert_eq!(store.take_files().into_keys().collect::<Vec<_>>(), ["0_a_s_ca", "0_a_s_crt", "0_a_s_key"]);
        for (tls, expected) in [
            (json!({"ca": of("bad")}), "ca <secret=s,key=bad>: failed to decode PEM block"),
            (json!({"ca": of("no")}), "failed to get ca \"<secret=s,key=no>\": key \"no\" in secret \"s\" not found"),
            (
                json!({"cert": of("crt"), "keySecret": key("other")}),
                "cert <secret=s,key=crt>, key <s/other>: tls: private key does not match public key",
            ),
        ] {
            assert_eq!(checks.tls(&tls), Err(expected.to_owned()));
        }
    }
}
