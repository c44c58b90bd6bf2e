//! What Secrets and ConfigMaps hold for scrape configurations.

use kubeapi::object;
use serde_json::Value;

/// Secrets and ConfigMaps by reference.
#[derive(Clone, Copy)]
pub(crate) struct Assets<'a> {
    pub(crate) secrets: &'a [Value],
    pub(crate) config_maps: &'a [Value],
}

impl Assets<'_> {
    /// The text under a key of a Secret (`{name, key}`).
    pub(crate) fn secret(&self, namespace: &str, reference: &Value) -> Result<String, String> {
        self.value("secret", self.secrets, namespace, reference)
    }

    /// The text of a reference that is to a Secret or to a ConfigMap (`{secret}` or `{configMap}`).
    pub(crate) fn either(&self, namespace: &str, reference: &Value) -> Result<Option<String>, String> {
        if reference["secret"].is_object() {
            return self.secret(namespace, &reference["secret"]).map(Some);
        }
        if reference["configMap"].is_object() {
            return self.value("configmap", self.config_maps, namespace, &reference["configMap"]).map(Some);
        }
        Ok(None)
    }

    fn value(&self, kind: &str, all: &[Value], namespace: &str, reference: &Value) -> Result<String, String> {
        use base64::Engine as _;
        let text = |key: &str| reference[key].as_str().unwrap_or_default();
        let (name, key) = (text("name"), text("key"));
        let found = all.iter().find(|found| object::namespace(found) == namespace && object::name(found) == name);
        let found = found.ok_or_else(|| format!("unable to get {kind} {name:?}: {kind}s {name:?} not found"))?;
        let plain = if kind == "secret" { &found["stringData"][key] } else { &found["data"][key] };
        if let Some(plain) = plain.as_str() {
            return Ok(plain.to_owned());
        }
        let encoded = found[if kind == "secret" { "data" } else { "binaryData" }][key].as_str();
        let encoded = encoded.ok_or_else(|| format!("key {key:?} in {kind} {name:?} not found"))?;
        let decoded =
            base64::engine::general_purpose::STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.ok_or_else(|| format!("key {key:?} in {kind} {name:?} is no text"))
    }

    /// Whether the certificates of a `tlsConfig` can be read, as the operator checks before it mounts them.
    pub(crate) fn check_tls(&self, namespace: &str, tls: &Value) -> Result<(), String> {
        let is_pem = |text: &str, label: &str| text.contains(&format!("-----BEGIN {label}")) && text.contains("-----END ");
        let authority = self.either(namespace, &tls["ca"])?;
        let certificate = self.either(namespace, &tls["cert"])?;
        let key = if tls["keySecret"].is_object() { Some(self.secret(namespace, &tls["keySecret"])?) } else { None };
        if authority.is_some_and(|text| !is_pem(&text, "CERTIFICATE")) {
            return Err("tlsConfig.ca: failed to find any PEM data in certificate input".to_owned());
        }
        match (certificate, key) {
            (None, None) => Ok(()),
            (Some(_), None) => Err("tlsConfig: client certificate given, but no key".to_owned()),
            (None, Some(_)) => Err("tlsConfig: client key given, but no certificate".to_owned()),
            (Some(certificate), Some(key)) => {
                if !is_pem(&certificate, "CERTIFICATE") {
                    return Err("tlsConfig.cert: tls: failed to find any PEM data in certificate input".to_owned());
                }
                if !key.contains("PRIVATE KEY-----") {
                    return Err("tlsConfig.keySecret: tls: failed to find any PEM data in key input".to_owned());
                }
                Ok(())
            }
        }
    }
}
