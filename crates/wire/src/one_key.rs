//! Enums written as a mapping with one key: `{reset: {}}`, `{wait: {up: true}}`.
//!
//! serde's own reading of such an enum fails on a mapping of no or of two keys with words about the format. [`one_key`] names the
//! keys that were written and those that may be.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{EnumAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, VariantAccess, Visitor};

/// An enum that is written as a mapping with one key.
///
/// `read` is what `#[derive(Deserialize)] #[serde(remote = "Self")]` makes; the type's own `Deserialize` calls [`one_key`].
pub trait OneKey: Sized {
    /// What it is, with its article, such as `an effect`.
    const WHAT: &'static str;
    /// All keys.
    const KEYS: &'static [&'static str];

    /// Reads the variant as serde does.
    ///
    /// # Errors
    /// When the key's value does not fit.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Reads an enum from a mapping that must have exactly one of its keys.
///
/// # Errors
/// When there is no key, an unknown key or a second one, or the value does not fit.
pub fn one_key<'de, T: OneKey, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(OneKeyVisitor(PhantomData))
}

struct OneKeyVisitor<T>(PhantomData<T>);

impl<'de, T: OneKey> Visitor<'de> for OneKeyVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: a mapping with one of {}", T::WHAT, T::KEYS.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let Some(key) = map.next_key::<String>()? else {
            return Err(A::Error::custom(format!("{} is required: one of {}", T::WHAT, T::KEYS.join(", "))));
        };
        if !T::KEYS.contains(&key.as_str()) {
            return Err(A::Error::custom(format!("unknown key {key:?} in {}; expected one of {}", T::WHAT, T::KEYS.join(", "))));
        }
        let value = T::read(EnumAccessDeserializer::new(Single { key: &key, map: &mut map }))?;
        if let Some(other) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            return Err(A::Error::custom(format!("{} has one key, not {key} and {other}", T::WHAT)));
        }
        Ok(value)
    }
}

struct Single<'a, A> {
    key: &'a str,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Single<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), A::Error> {
        let variant = seed.deserialize(StrDeserializer::<A::Error>::new(self.key))?;
        Ok((variant, self))
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Single<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.map.next_value::<Nothing>().map(|_| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("a list of values is not read here"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("the fields of a variant are a type of their own"))
    }
}

/// The value of a variant without settings: `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(remote = "Self", rename_all = "camelCase")]
    enum Pet {
        Cat(Cat),
        Fish,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Cat {
        lives: u8,
    }

    impl OneKey for Pet {
        const WHAT: &'static str = "a pet";
        const KEYS: &'static [&'static str] = &["cat", "fish"];
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Self::deserialize(deserializer)
        }
    }

    struct Any(Pet);

    impl<'de> Deserialize<'de> for Any {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            one_key(deserializer).map(Any)
        }
    }

    #[test]
    fn exactly_one_key_is_read() {
        let pet = |text: &str| crate::yaml::strict::<Any>(text).map(|any| any.0).map_err(|error| error.to_string());
        assert_eq!(pet("{cat: {lives: 9}}").unwrap(), Pet::Cat(Cat { lives: 9 }));
        assert_eq!(pet("{fish: {}}").unwrap(), Pet::Fish);
        for (text, expected) in [
            ("{}", "a pet is required: one of cat, fish"),
            ("{cat: {lives: 9}, fish: {}}", "a pet has one key, not cat and fish"),
            ("{dog: {}}", "unknown key \"dog\" in a pet; expected one of cat, fish"),
            ("{fish: {scales: 3}}", "scales"),
            ("5", "expected mapping"),
        ] {
            let error = pet(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let json = serde_json::from_str::<Any>("{\"fish\": {}, \"cat\": {\"lives\": 9}}").map(|any| any.0).unwrap_err();
        assert!(json.to_string().starts_with("a pet has one key, not fish and cat"), "{json}");
    }
}
