//! What Secrets and ConfigMaps hold for configurations, and the certificates among it that must lie in files.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use kubeapi::object;
use serde_json::Value;

/// Objects by namespace and name.
type ByName<'a> = HashMap<(&'a str, &'a str), &'a Value>;

/// Secrets and ConfigMaps by name.
pub(crate) struct Store<'a> {
    secrets: ByName<'a>,
    config_maps: ByName<'a>,
    /// Certificates and keys that were named, by the name of their file.
    files: RefCell<BTreeMap<String, String>>,
    /// Secrets (`true`) and ConfigMaps that were read for the object at hand, by namespace and name.
    loaded: RefCell<HashSet<(bool, String, String)>>,
}

/// Secrets and ConfigMaps by reference.
#[derive(Clone, Copy)]
pub(crate) struct Assets<'a> {
    store: &'a Store<'a>,
}

impl<'a> Store<'a> {
    pub(crate) fn new(secrets: &'a [Value], config_maps: &'a [Value]) -> Self {
        let by_name =
            |all: &'a [Value]| all.iter().map(|found| ((object::namespace(found), object::name(found)), found)).collect();
        Self {
            secrets: by_name(secrets),
            config_maps: by_name(config_maps),
            files: RefCell::default(),
            loaded: RefCell::default(),
        }
    }

    pub(crate) fn assets(&'a self) -> Assets<'a> {
        Assets { store: self }
    }

    /// The files that were named since this was asked last. What was read since then is forgotten.
    pub(crate) fn take_files(&self) -> BTreeMap<String, String> {
        self.loaded.borrow_mut().clear();
        self.files.take()
    }
}

impl Assets<'_> {
    /// The text under a key of a Secret (`{name, key}`).
    ///
    /// # Errors
    /// As the operator words them: there is no such Secret, or no such key in it.
    pub(crate) fn secret(&self, namespace: &str, reference: &Value) -> Result<String, String> {
        let text = value("secret", &self.store.secrets, namespace, reference)?;
        self.note(true, namespace, reference);
        Ok(text)
    }

    fn note(&self, is_secret: bool, namespace: &str, reference: &Value) {
        let name = reference["name"].as_str().unwrap_or_default();
        self.store.loaded.borrow_mut().insert((is_secret, namespace.to_owned(), name.to_owned()));
    }

    /// Whether what a reference (`{secret}` or `{configMap}`) names was read for the object at hand.
    pub(crate) fn is_loaded(&self, namespace: &str, reference: &Value) -> bool {
        let loaded = self.store.loaded.borrow();
        [("secret", true), ("configMap", false)].into_iter().any(|(kind, is_secret)| {
            let name = reference[kind]["name"].as_str();
            name.is_some_and(|name| loaded.contains(&(is_secret, namespace.to_owned(), name.to_owned())))
        })
    }

    /// The text of a reference that is to a Secret or to a ConfigMap (`{secret}` or `{configMap}`).
    ///
    /// # Errors
    /// See [`Assets::secret`].
    pub(crate) fn either(&self, namespace: &str, reference: &Value) -> Result<Option<String>, String> {
        if reference["secret"].is_object() {
            return self.secret(namespace, &reference["secret"]).map(Some);
        }
        if reference["configMap"].is_object() {
            let text = value("configmap", &self.store.config_maps, namespace, &reference["configMap"])?;
            self.note(false, namespace, &reference["configMap"]);
            return Ok(Some(text));
        }
        Ok(None)
    }

    /// A Secret as it is, if it is there.
    pub(crate) fn find_secret(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.store.secrets.get(&(namespace, name)).copied()
    }

    /// Notes that what a reference (`{secret}` or `{configMap}`) holds must be there as a file.
    pub(crate) fn needs_file(&self, namespace: &str, reference: &Value, text: String) {
        if let Some(name) = file_name(namespace, reference)
            && !text.is_empty()
        {
            self.store.files.borrow_mut().insert(name, text);
        }
    }
}

/// The name of the file for a reference: `0_NAMESPACE_NAME_KEY` for Secrets, with 1 for ConfigMaps (prometheus-operator
/// `pkg/assets/tls.go`).
pub(crate) fn file_name(namespace: &str, reference: &Value) -> Option<String> {
    [("secret", "0"), ("configMap", "1")].into_iter().find_map(|(kind, prefix)| {
        let source = reference[kind].as_object()?;
        let text = |key: &str| source.get(key).and_then(Value::as_str).unwrap_or_default();
        Some(format!("{prefix}_{namespace}_{}_{}", text("name"), text("key")))
    })
}

fn value(kind: &str, all: &ByName<'_>, namespace: &str, reference: &Value) -> Result<String, String> {
    use base64::Engine as _;
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (name, key) = (text("name"), text("key"));
    if name.is_empty() {
        return Err(format!("unable to get {kind} \"\": resource name may not be empty"));
    }
    let found =
        all.get(&(namespace, name)).ok_or_else(|| format!("unable to get {kind} {name:?}: {kind}s {name:?} not found"))?;
    let plain = if kind == "secret" { &found["stringData"][key] } else { &found["data"][key] };
    if let Some(plain) = plain.as_str() {
        return Ok(plain.to_owned());
    }
    let missing = || format!("key {key:?} in {kind} {name:?} not found");
    let encoded = if kind == "secret" { found["data"][key].as_str() } else { None }.ok_or_else(missing)?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| format!("key {key:?} in {kind} {name:?} is no text"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let secrets = [json!({"metadata": {"namespace": "a", "name": "s"}, "data": {"k": "dg=="}})];
        let maps = [json!({"metadata": {"namespace": "a", "name": "m"}, "data": {"k": "w"}})];
        let store = Store::new(&secrets, &maps);
        let assets = store.assets();
        assert_eq!(assets.secret("a", &json!({"name": "s", "key": "k"})), Ok("v".to_owned()));
        assert_eq!(assets.either("a", &json!({"configMap": {"name": "m", "key": "k"}})), Ok(Some("w".to_owned())));
        assert_eq!(assets.either("a", &json!({})), Ok(None));
        for (namespace, name, key, expected) in [
            ("a", "no", "k", "unable to get secret \"no\": secrets \"no\" not found"),
            ("b", "s", "k", "unable to get secret \"s\": secrets \"s\" not found"),
            ("a", "s", "no", "key \"no\" in secret \"s\" not found"),
            ("a", "", "k", "unable to get secret \"\": resource name may not be empty"),
        ] {
            assert_eq!(assets.secret(namespace, &json!({"name": name, "key": key})), Err(expected.to_owned()));
        }
        assets.needs_file("a", &json!({"secret": {"name": "s", "key": "k"}}), "v".to_owned());
        assert_eq!(store.take_files(), BTreeMap::from([("0_a_s_k".to_owned(), "v".to_owned())]));
    }
}
