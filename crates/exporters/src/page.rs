//! Writing a page in the text format, family by family: what a family is, and what it says of one object.
//!
//! Labels are written in the order in which they are given, as kube-state-metrics writes them; its label sets differ from object to
//! object, which a registry with fixed labels cannot hold.

use std::fmt::Write as _;

use metrics::{Kind, go_float};
use serde_json::Value;

/// A label with its value.
pub(crate) type Label<'a> = (&'a str, &'a str);

/// A family about objects of one kind.
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its type.
    pub(crate) kind: Kind,
    /// Its help text.
    pub(crate) help: &'static str,
    /// What it says of one object.
    pub(crate) each: fn(&Value, &mut Samples<'_>),
}

/// Takes the samples of a family.
pub(crate) struct Samples<'a> {
    out: &'a mut String,
    name: &'a str,
    /// Labels that every sample has.
    identity: &'a [Label<'a>],
    /// Labels of objects that may be shown.
    pub(crate) allowed: &'a [String],
}

impl<'a> Samples<'a> {
    /// Samples of a family that has been begun with [`head`].
    pub(crate) fn new(out: &'a mut String, name: &'a str, identity: &'a [Label<'a>], allowed: &'a [String]) -> Self {
        Self { out, name, identity, allowed }
    }

    /// A sample with nothing but the object's identity.
    pub(crate) fn one(&mut self, value: f64) {
        self.with(&[], value);
    }

    /// A sample with labels of its own after the identity.
    pub(crate) fn with(&mut self, labels: &[Label<'_>], value: f64) {
        sample(self.out, self.name, self.identity.iter().chain(labels).copied(), value);
    }

    /// One sample for each of these words, 1 for the one that holds and 0 for the others.
    pub(crate) fn one_of(&mut self, label: &str, words: &[&str], holds: &str) {
        for word in words {
            self.with(&[(label, word)], f64::from(u8::from(*word == holds)));
        }
    }

    /// One sample each for true, false and unknown, as conditions are shown; `before` comes first.
    pub(crate) fn condition(&mut self, before: &[Label<'_>], label: &str, status: &Value) {
        for word in ["true", "false", "unknown"] {
            let holds = status.as_str().is_some_and(|status| status.eq_ignore_ascii_case(word));
            let labels: Vec<Label<'_>> = before.iter().copied().chain([(label, word)]).collect();
            self.with(&labels, f64::from(u8::from(holds)));
        }
    }
}

/// Begins a family: its HELP and TYPE.
pub(crate) fn head(out: &mut String, name: &str, kind: Kind, help: &str) {
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", help.replace('\\', "\\\\").replace('\n', "\\n"), kind.as_str());
}

/// Writes one sample.
pub(crate) fn sample<'a>(out: &mut String, name: &str, labels: impl Iterator<Item = Label<'a>>, value: f64) {
    out.push_str(name);
    let mut open = false;
    for (label, text) in labels {
        out.push(if open { ',' } else { '{' });
        open = true;
        out.push_str(label);
        out.push_str("=\"");
        for character in text.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    if open {
        out.push('}');
    }
    let _ = writeln!(out, " {}", go_float(value));
}

/// A text of an object; empty where it is absent.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number of an object; 0 where it is absent, as Go has it.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// The items of a list of an object; none where it is absent.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Seconds since 1970 of a time in an object.
pub(crate) fn seconds(value: &Value) -> Option<f64> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_second() as f64)
}
