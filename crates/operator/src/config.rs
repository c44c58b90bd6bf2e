//! Sections of a configuration while they are made.

use serde_json::{Map, Value};

use crate::version::Version;

/// Keys with values; what is null is left out, and so is what the Prometheus that reads it does not know yet.
pub(crate) struct Config {
    version: Version,
    map: Map<String, Value>,
}

/// Whether Go's types would hold nothing there: null, an empty text, an empty list or map.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A text that is there and not empty.
pub(crate) fn filled(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// A text in lower case.
pub(crate) fn lower(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, |text| text.to_lowercase().into())
}

/// A quantity of Kubernetes as the number that it is: `1500m` is 1.5.
pub(crate) fn quantity(value: &Value) -> Value {
    let Some(number) = value.as_str().and_then(kubeapi::quantity) else { return value.clone() };
    // A whole number is written without a fraction.
    if number.fract() == 0.0 && number.abs() < 1e15 { (number as i64).into() } else { number.into() }
}

impl Config {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, map: Map::new() }
    }

    /// Another section for the same Prometheus.
    pub(crate) fn section(&self) -> Self {
        Self::new(self.version)
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        if !value.is_null() {
            self.map.insert(key.to_owned(), value);
        }
    }

    /// The same for what Prometheus knows since a version.
    pub(crate) fn set_since(&mut self, since: (u32, u32), key: &str, value: impl Into<Value>) {
        if self.version.at_least(since.0, since.1) {
            self.set(key, value);
        }
    }

    /// Copies settings that are called otherwise.
    pub(crate) fn copy(&mut self, from: &Value, names: &[(&str, &str)]) {
        for (name, key) in names {
            self.set(key, from[*name].clone());
        }
    }

    /// The same for settings of which an empty one is none.
    pub(crate) fn copy_filled(&mut self, from: &Value, names: &[(&str, &str)]) {
        for (name, key) in names.iter().filter(|(name, _)| !is_empty(&from[*name])) {
            self.set(key, from[*name].clone());
        }
    }

    /// The same for settings of which an empty one is none, and that Prometheus knows since a version.
    pub(crate) fn copy_filled_since(&mut self, from: &Value, names: &[(&str, &str, (u32, u32))]) {
        for (name, key, since) in names.iter().filter(|(name, ..)| !is_empty(&from[*name])) {
            self.set_since(*since, key, from[*name].clone());
        }
    }

    /// The same for settings that Prometheus knows since a version.
    pub(crate) fn copy_since(&mut self, from: &Value, names: &[(&str, &str, (u32, u32))]) {
        for (name, key, since) in names {
            self.set_since(*since, key, from[*name].clone());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(crate) fn finish(self) -> Value {
        Value::Object(self.map)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_numbers() {
        for (text, expected) in
            [("12.124", json!(12.124)), ("1500m", json!(1.5)), ("2", json!(2)), ("1Ki", json!(1024)), ("x", json!("x"))]
        {
            assert_eq!(quantity(&json!(text)), expected, "{text}");
        }
    }
}
