//! The scalars of scenario files: words of a closed set, durations, patterns, names of releases.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::place::{Located, Place};

/// What a scalar of a file can mean.
pub(crate) trait Meaning: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// A fragment that names the text and what was expected.
    fn of(text: &str) -> Result<Self, String>;
    /// The JSON schema of what may be written.
    fn schema() -> Schema;
}

/// A scalar as it was written. What it means is read when the whole file is resolved, so that every problem of a file is reported.
#[derive(Clone, Debug)]
pub(crate) struct Written<T> {
    /// Where.
    pub(crate) at: Option<Place>,
    /// What was written.
    pub(crate) text: String,
    meaning: PhantomData<T>,
}

impl<T: Meaning> Written<T> {
    /// What it means.
    pub(crate) fn read(&self) -> Result<T, String> {
        T::of(&self.text)
    }
}

impl<'de, T> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Located { at, value: text } = Located::<String>::deserialize(deserializer)?;
        Ok(Self { at, text, meaning: PhantomData })
    }
}

impl<T: Meaning> JsonSchema for Written<T> {
    fn schema_name() -> Cow<'static, str> {
        "Written".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// Declares an enum of words, each with what it stands for.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that files have.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Meaning for $name {
            fn of(text: &str) -> Result<Self, String> {
                let words = || Self::ALL.iter().map(|one| one.word()).collect::<Vec<_>>().join(", ");
                Self::ALL.iter().copied().find(|one| one.word() == text)
                    .ok_or_else(|| format!(concat!("invalid ", $what, " {:?}; expected one of {}"), text, words()))
            }

            fn schema() -> Schema {
                let words: Vec<&str> = Self::ALL.iter().map(|one| one.word()).collect();
                json_schema!({"type": "string", "enum": words})
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// What an alert is expected to be.
    AlertState, "state of an alert" {
        /// Its rule is loaded and evaluated, and nothing is pending or firing.
        Inactive = "inactive",
        /// Its expression holds, and its `for` has not passed.
        Pending = "pending",
        /// It fires.
        Firing = "firing",
        /// It has fired, and is inactive again.
        Resolved = "resolved",
    }
}

words! {
    /// What a notification says of its alert.
    NotificationStatus, "status of a notification" {
        /// The alert fires.
        Firing = "firing",
        /// It does not any more.
        Resolved = "resolved",
    }
}

words! {
    /// What rules say of themselves after an evaluation.
    RuleHealth, "health of rules" {
        /// The last evaluation succeeded.
        Ok = "ok",
    }
}

words! {
    /// How much of kube-prometheus a lab has.
    Stack, "stack" {
        /// Nothing: KubeVirt alone, for what its components' own pages show.
        None = "none",
        /// Prometheus, Alertmanager and the operator.
        Small = "small",
        /// Also kube-state-metrics, node-exporter, the kubelet's metrics, and stand-ins for Grafana and prometheus-adapter.
        Full = "full",
    }
}

words! {
    /// What a scenario can be run on.
    ProviderName, "provider" {
        /// The embedded lab.
        Embedded = "embedded",
        /// A kind cluster.
        Kind = "kind",
        /// A minikube cluster.
        Minikube = "minikube",
        /// Any cluster that a kubeconfig reaches.
        Existing = "existing",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro has no place for #[default]")]
impl Default for Stack {
    fn default() -> Self {
        Self::Small
    }
}

/// Reads `500ms`, `30s`, `5m`, `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    match &text[split..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

impl Meaning for Duration {
    fn of(text: &str) -> Result<Self, String> {
        duration(text).ok_or_else(|| format!("invalid duration {text:?}; expected e.g. 500ms, 30s, 5m"))
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})
    }
}

/// A text in which `*` stands for any characters, as often as it is there. `{namespace}` and `{requests}` are filled in when it is
/// compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What series or alerts must have: labels and the patterns of their values.
pub type LabelPatterns = BTreeMap<String, Pattern>;

impl Meaning for Pattern {
    fn of(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "description": "`*` stands for any characters."})
    }
}

/// Some text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Meaning for Text {
    fn of(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("an empty text is in everything; write what is expected".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("5m", Some(Duration::from_secs(300))),
            ("1h", Some(Duration::from_secs(3600))),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("18446744073709551615h", None),
            ("", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
        assert_eq!(Duration::of("soon").unwrap_err(), "invalid duration \"soon\"; expected e.g. 500ms, 30s, 5m");
    }

    #[test]
    fn a_word_outside_of_its_set_names_the_set() {
        assert_eq!(AlertState::of("firing"), Ok(AlertState::Firing));
        let error = AlertState::of("loud").unwrap_err();
        assert_eq!(error, "invalid state of an alert \"loud\"; expected one of inactive, pending, firing, resolved");
    }
}
