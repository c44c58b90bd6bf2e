//! A document of a manifest as kubectl reads it (`sigs.k8s.io/yaml`, which converts YAML 1.1 to JSON).
//!
//! Keys are scalars like values: `on:` is the key `"true"`, `0x10:` is `"16"`. Reading goes in one pass that keeps no places; where it
//! fails, the text is read once more to say which key is at fault and in which lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A document, or a part of one.
pub(super) struct Manifest(pub(super) Value);

/// A key as JSON has it.
pub(super) enum Key {
    Text(String),
    /// kubectl refuses it.
    Not(&'static str),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Key;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a key")
    }

    fn visit_bool<E>(self, key: bool) -> Result<Key, E> {
        Ok(Key::Text(key.to_string()))
    }

    fn visit_i64<E>(self, key: i64) -> Result<Key, E> {
        Ok(Key::Text(key.to_string()))
    }

    fn visit_u64<E>(self, key: u64) -> Result<Key, E> {
        Ok(if i64::try_from(key).is_ok() { Key::Text(key.to_string()) } else { Key::Not("a number of more than 63 bits") })
    }

    fn visit_f64<E>(self, key: f64) -> Result<Key, E> {
        Ok(Key::Text(float_key(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(Key::Text(key.to_owned()))
    }

    fn visit_string<E>(self, key: String) -> Result<Key, E> {
        Ok(Key::Text(key))
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key::Not("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Key, A::Error> {
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Key::Not("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Key, A::Error> {
        while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(Key::Not("a mapping"))
    }
}

/// A number as a key: Go's `strconv.FormatFloat(key, 'g', -1, 32)`, with YAML's names for what is no number.
fn float_key(key: f64) -> String {
    if key.is_nan() {
        return ".nan".to_owned();
    }
    if key.is_infinite() {
        return if key > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let short = key as f32;
    let text = format!("{short:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // Go writes an exponent where it is below -4 or above 5.
    if (-4..6).contains(&exponent) {
        return format!("{short}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Manifests).map(Self)
    }
}

struct Manifests;

/// Below this, each whole number is a float of its own.
const WHOLE: f64 = (1_u64 << 53) as f64;

impl<'de> Visitor<'de> for Manifests {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // JSON has one kind of numbers: `1e3` and `1.0` are whole there.
        if value.fract() == 0.0 && value.abs() < WHOLE {
            return Ok((value as i64).into());
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut found = Vec::with_capacity(list.size_hint().unwrap_or_default());
        while let Some(Manifest(element)) = list.next_element()? {
            found.push(element);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some((key, Manifest(value))) = map.next_entry::<Key, Manifest>()? {
            // Which one, and where, is said by who reads the text again.
            match key {
                Key::Text(key) if !found.contains_key(&key) => drop(found.insert(key, value)),
                Key::Text(key) => return Err(A::Error::custom(format!("key {key:?} is given twice"))),
                Key::Not(what) => return Err(A::Error::custom(format!("{what} is no key"))),
            }
        }
        Ok(Value::Object(found))
    }
}
