//! What a user wants of a snapshot: which metrics, which labels, whether values. Written in YAML, compiled once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::go_regex;

/// Which series a snapshot has, and what of them. Labels that are dropped or replaced here come before the built-in normal form, which
/// leaves a value that was replaced as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// A regular expression over whole metric names.
    #[serde(default = "every_metric")]
    pub metrics: String,
    /// Labels that are left out or replaced.
    #[serde(default)]
    pub labels: LabelRedaction,
    /// Whether values are in the snapshot; without it only series are, since most values differ from run to run.
    #[serde(default)]
    pub values: bool,
}

fn every_metric() -> String {
    ".*".to_owned()
}

impl Default for Redaction {
    fn default() -> Self {
        Self { metrics: every_metric(), labels: LabelRedaction::default(), values: false }
    }
}

/// Labels that a snapshot leaves out or replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelRedaction {
    /// Labels that are left out. Series that then are the same are one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// What stands for the value of a label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replace: BTreeMap<String, Replacement>,
}

impl LabelRedaction {
    /// Whether nothing is left out or replaced.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.replace.is_empty()
    }
}

/// What stands for a label's value: a text for the whole value, or `{match: REGEX, with: TEXT}` for the parts that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Replacement {
    /// This text instead of every value.
    Whole(String),
    /// A text instead of each match.
    Matches(Pattern),
}

/// A regular expression and what stands for what it matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// A regular expression; it matches anywhere in the value unless it has `^` and `$`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What stands for each match; `$1` and `${name}` are groups, `$$` is a dollar sign.
    pub with: String,
}

impl<'de> Deserialize<'de> for Replacement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Replacement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or {match: REGEX, with: TEXT}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Replacement, E> {
                Ok(Replacement::Whole(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Replacement, A::Error> {
                Pattern::deserialize(de::value::MapAccessDeserializer::new(map)).map(Replacement::Matches)
            }
        }

        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Replacement {
    fn schema_name() -> Cow<'static, str> {
        "Replacement".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pattern = generator.subschema_for::<Pattern>();
        json_schema!({
            "description": "A text for the whole value, or {match: REGEX, with: TEXT} for the parts that match.",
            "anyOf": [{"type": "string", "minLength": 1}, pattern],
        })
    }
}

/// Something wrong in a redaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct RedactionError {
    /// The text in the file that is wrong, so that its place can be found.
    pub written: String,
    /// What is wrong with it; it names the text.
    pub why: String,
}

fn wrong(written: &str, why: String) -> RedactionError {
    RedactionError { written: written.to_owned(), why }
}

impl Redaction {
    /// Checks everything and compiles expressions.
    ///
    /// # Errors
    /// Everything that is wrong, in the order metrics, drop, replace.
    pub fn compile(&self) -> Result<Redactor, Vec<RedactionError>> {
        let mut errors = Vec::new();
        let metrics = match go_regex::compile(&self.metrics) {
            Ok(compiled) => Some(compiled),
            Err(why) => {
                errors.push(wrong(&self.metrics, format!("invalid regular expression {:?} in metrics: {why}", self.metrics)));
                None
            }
        };
        let mut drop = BTreeSet::new();
        for label in &self.labels.drop {
            if let Some(why) = no_label(label) {
                errors.push(wrong(label, format!("invalid label {label:?} in labels.drop: {why}")));
            } else if !drop.insert(label.clone()) {
                errors.push(wrong(label, format!("label {label:?} is twice in labels.drop")));
            }
        }
        let mut replace = BTreeMap::new();
        for (label, replacement) in &self.labels.replace {
            if let Some(why) = no_label(label) {
                errors.push(wrong(label, format!("invalid label {label:?} in labels.replace: {why}")));
            }
            if drop.contains(label) {
                errors
                    .push(wrong(label, format!("label {label:?} is in labels.drop and in labels.replace; expected one of them")));
            }
            match compiled(label, replacement) {
                Ok(compiled) => {
                    replace.insert(label.clone(), compiled);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Redactor { metrics, drop, replace, values: self.values }) } else { Err(errors) }
    }
}

/// Why this is no label that can be left out or replaced.
fn no_label(label: &str) -> Option<&'static str> {
    match label {
        "" => Some("it is empty; expected the name of a label, such as pod"),
        "__name__" => Some("it is the metric's name; select metrics with metrics"),
        _ => None,
    }
}

fn compiled(label: &str, replacement: &Replacement) -> Result<Compiled, RedactionError> {
    match replacement {
        Replacement::Whole(text) if text.is_empty() => Err(wrong(
            label,
            format!("empty text for {label:?} in labels.replace; to leave the label out, list it in labels.drop"),
        )),
        Replacement::Whole(text) => Ok(Compiled::Whole(text.clone())),
        Replacement::Matches(Pattern { pattern, with }) => {
            let expression = go_regex::compile_within(pattern).map_err(|why| {
                wrong(pattern, format!("invalid regular expression {pattern:?} for {label:?} in labels.replace: {why}"))
            })?;
            if let Some(group) = unknown_group(&expression, with) {
                return Err(wrong(
                    with,
                    format!(
                        "invalid text {with:?} for {label:?} in labels.replace: {pattern:?} has no group {group:?}; write $$ for a dollar sign"
                    ),
                ));
            }
            Ok(Compiled::Matches(expression, with.clone()))
        }
    }
}

/// The first group that a text names and an expression has not.
fn unknown_group<'a>(expression: &Regex, with: &'a str) -> Option<&'a str> {
    let mut rest = with;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').map_or(inner, |(name, _)| name),
            None => &rest[..rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(rest.len())],
        };
        let is_known = match name.parse::<usize>() {
            Ok(number) => number < expression.captures_len(),
            Err(_) => expression.capture_names().flatten().any(|known| known == name),
        };
        if !is_known {
            return Some(name);
        }
    }
    None
}

#[derive(Clone, Debug)]
enum Compiled {
    Whole(String),
    Matches(Regex, String),
}

/// A redaction that was checked. The default one takes every metric, every label and no value.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Nothing takes every metric.
    metrics: Option<Regex>,
    drop: BTreeSet<String>,
    replace: BTreeMap<String, Compiled>,
    values: bool,
}

impl Redactor {
    /// Whether series of this metric are taken.
    pub fn takes(&self, metric: &str) -> bool {
        self.metrics.as_ref().is_none_or(|metrics| metrics.is_match(metric))
    }

    /// Whether values are kept.
    pub fn has_values(&self) -> bool {
        self.values
    }

    /// Whether a label is left out.
    pub(crate) fn drops(&self, label: &str) -> bool {
        self.drop.contains(label)
    }

    /// Whether values of a label may be replaced.
    pub(crate) fn replaces(&self, label: &str) -> bool {
        self.replace.contains_key(label)
    }

    /// What stands for a value; nothing where it stays.
    pub(crate) fn replaced(&self, label: &str, value: &str) -> Option<String> {
        match self.replace.get(label)? {
            Compiled::Whole(text) => Some(text.clone()),
            Compiled::Matches(expression, with) => match expression.replace_all(value, with) {
                Cow::Owned(replaced) => Some(replaced),
                Cow::Borrowed(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(json: serde_json::Value) -> Redaction {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_label_is_replaced_whole_or_in_part() {
        let redactor = redaction(serde_json::json!({
            "metrics": "kubevirt_vm.*",
            "labels": {"drop": ["pod"], "replace": {
                "node": "[node]", "volume": {"match": "^(dv)-[0-9]+", "with": "${1}-[number]"}, "price": {"match": "E", "with": "$$"},
            }},
            "values": true,
        }));
        let redactor = redactor.compile().unwrap();
        assert!(redactor.takes("kubevirt_vmi_info") && !redactor.takes("a_kubevirt_vmi_info") && redactor.has_values());
        assert!(redactor.drops("pod") && !redactor.drops("node"));
        for (label, value, expected) in [
            ("node", "anything", Some("[node]")),
            ("volume", "dv-17-root", Some("dv-[number]-root")),
            ("volume", "root", None),
            ("price", "E1E", Some("$1$")),
            ("name", "a", None),
        ] {
            assert_eq!(redactor.replaced(label, value).as_deref(), expected, "{label}={value}");
        }
    }

    #[test]
    fn without_a_word_everything_is_taken_without_values() {
        let redactor = redaction(serde_json::json!({})).compile().unwrap();
        assert!(redactor.takes("up") && !redactor.has_values());
        assert_eq!(redaction(serde_json::json!({})), Redaction::default());
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_text() {
        let redaction = redaction(serde_json::json!({
            "metrics": "(", "labels": {"drop": ["pod", "pod", "__name__", "le"], "replace": {
                "le": "x", "a": "", "b": {"match": "[", "with": ""}, "c": {"match": "(x)", "with": "$2"}, "d": {"match": "(?P<n>x)", "with": "${m}"},
            }},
        }));
        let errors = redaction.compile().unwrap_err();
        let said: Vec<(&str, &str)> = errors.iter().map(|error| (error.written.as_str(), error.why.as_str())).collect();
        let expected = [
            ("(", "invalid regular expression \"(\" in metrics: "),
            ("pod", "label \"pod\" is twice in labels.drop"),
            ("__name__", "invalid label \"__name__\" in labels.drop: "),
            ("a", "empty text for \"a\" in labels.replace; to leave the label out, list it in labels.drop"),
            ("[", "invalid regular expression \"[\" for \"b\" in labels.replace: "),
            ("$2", "invalid text \"$2\" for \"c\" in labels.replace: \"(x)\" has no group \"2\""),
            ("${m}", "invalid text \"${m}\" for \"d\" in labels.replace: "),
            ("le", "label \"le\" is in labels.drop and in labels.replace"),
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for ((written, why), (wanted, begins)) in said.iter().zip(expected) {
            assert!(*written == wanted && why.starts_with(begins), "{written}: {why}");
        }
    }

    #[test]
    fn unknown_keys_and_other_kinds_are_refused() {
        for (json, expected) in [
            (serde_json::json!({"label": {}}), "unknown field `label`"),
            (serde_json::json!({"labels": {"dropp": []}}), "unknown field `dropp`"),
            (serde_json::json!({"labels": {"replace": {"a": 5}}}), "expected a text, or {match: REGEX, with: TEXT}"),
            (serde_json::json!({"labels": {"replace": {"a": {"match": "x"}}}}), "missing field `with`"),
            (serde_json::json!({"labels": {"replace": {"a": {"match": "x", "with": "", "all": true}}}}), "unknown field `all`"),
            (serde_json::json!({"values": "keep"}), "expected a boolean"),
        ] {
            let error = serde_json::from_value::<Redaction>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let written = serde_json::json!({"metrics": "a", "labels": {"drop": ["b"], "replace": {"c": "d", "e": {"match": "f", "with": "g"}}}, "values": true});
        assert_eq!(serde_json::to_value(redaction(written.clone())).unwrap(), written);
    }
}
