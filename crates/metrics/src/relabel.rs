//! Relabelling as Prometheus does it (`model/relabel/relabel.go`), with a record of what each rule changed.
//!
//! Rules are read from the YAML of a configuration (`relabel_configs`, `metric_relabel_configs`), defaults included.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use regex::Regex;
use serde_json::Value;

use crate::go_regex;
use crate::series::{Labels, write_labels};

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets a label to the replacement, where the sources match.
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops what differs from the target label.
    KeepEqual,
    /// Drops what equals the target label.
    DropEqual,
    /// Sets a label to a hash of the sources, modulo the modulus.
    HashMod,
    /// Copies labels whose names match to other names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets a label to the sources in lower case.
    Lowercase,
    /// Sets a label to the sources in upper case.
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

/// A rule, with its defaults filled in.
#[derive(Clone, Debug)]
pub struct Rule {
    action: Action,
    sources: Vec<String>,
    separator: String,
    target: String,
    /// As it was written.
    pattern: String,
    regex: Regex,
    replacement: String,
    modulus: u64,
    names: Names,
}

/// Which names labels may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Letters, digits and underscores: before Prometheus 3.
    Legacy,
    /// Anything: Prometheus 3.
    #[default]
    Utf8,
}

impl Names {
    /// The names of a version such as `2.53.3`.
    pub fn of_version(version: &str) -> Self {
        let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
        if major.is_some_and(|major: u32| major < 3) { Self::Legacy } else { Self::Utf8 }
    }

    /// Whether a label may have this name.
    pub fn allow(self, name: &str) -> bool {
        let mut letters = name.chars();
        let legacy = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        legacy || (self == Self::Utf8 && !name.is_empty())
    }
}

/// A rule that Prometheus would not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

/// What a rule did to a set of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Unchanged,
    /// Labels are other than before.
    Changed,
    /// There are no labels any more.
    Dropped,
}

/// The rule that dropped a set of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedBy {
    /// Its place in the list.
    pub index: usize,
    /// The labels that it looked at.
    pub before: Labels,
    /// What it compared: the sources' values, joined by the separator.
    pub value: String,
}

/// A value of YAML as text, as Prometheus' decoder takes it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Letter by letter, as Go does it: no letter becomes two.
fn lower(text: &str) -> String {
    text.chars().filter_map(|letter| letter.to_lowercase().next()).collect()
}

fn upper(text: &str) -> String {
    let of = |letter: char| {
        let mut upper = letter.to_uppercase();
        if upper.len() == 1 { upper.next().unwrap_or(letter) } else { letter }
    };
    text.chars().map(of).collect()
}

impl Rule {
    /// Reads a rule of a configuration.
    ///
    /// # Errors
    /// When Prometheus would not load it.
    pub fn read(rule: &Value, names: Names) -> Result<Self, RuleError> {
        let name = text(&rule["action"]).map_or_else(|| "replace".to_owned(), |action| action.to_lowercase());
        let found = ACTIONS.iter().find(|(known, _)| *known == name);
        let action = found.map(|(_, action)| *action).ok_or_else(|| RuleError(format!("unknown relabel action {name:?}")))?;
        // A key without a value is the empty expression, not the default (`Config.UnmarshalYAML`).
        let pattern = match rule.get("regex") {
            None => "(.*)".to_owned(),
            Some(pattern) => text(pattern).unwrap_or_default(),
        };
        let regex = go_regex::compile(&pattern)
            .map_err(|why| RuleError(format!("the regular expression {pattern:?} does not compile: {why}")))?;
        let target = text(&rule["target_label"]).unwrap_or_default();
        let modulus = rule["modulus"].as_u64().unwrap_or(0);
        let needs_target = matches!(
            action,
            Action::Replace | Action::HashMod | Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual
        );
        if needs_target && target.is_empty() {
            return Err(RuleError(format!("relabel configuration for {name} action requires 'target_label' value")));
        }
        if action == Action::HashMod && modulus == 0 {
            return Err(RuleError("relabel configuration for hashmod requires non-zero modulus".to_owned()));
        }
        let sources = rule["source_labels"].as_array().into_iter().flatten().filter_map(text).collect();
        Ok(Self {
            action,
            sources,
            separator: text(&rule["separator"]).unwrap_or_else(|| ";".to_owned()),
            target,
            pattern,
            regex,
            replacement: text(&rule["replacement"]).unwrap_or_else(|| "$1".to_owned()),
            modulus,
            names,
        })
    }

    /// Reads a list of rules; null is none.
    ///
    /// # Errors
    /// When Prometheus would not load one of them.
    pub fn read_all(rules: &Value, names: Names) -> Result<Vec<Self>, RuleError> {
        rules.as_array().into_iter().flatten().map(|rule| Self::read(rule, names)).collect()
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The sources' values, joined.
    pub fn value(&self, labels: &Labels) -> String {
        let values: Vec<&str> = self.sources.iter().map(|name| labels.get(name).map_or("", String::as_str)).collect();
        values.join(&self.separator)
    }

    fn set(labels: &mut Labels, name: &str, value: String) {
        // A label without a value is none.
        if value.is_empty() {
            labels.remove(name);
        } else {
            labels.insert(name.to_owned(), value);
        }
    }

    /// Applies the rule; `false` when the labels are dropped.
    fn apply(&self, labels: &mut Labels) -> bool {
        let value = self.value(labels);
        let of_target = || labels.get(&self.target).map_or("", String::as_str);
        match self.action {
            Action::Drop => return !self.regex.is_match(&value),
            Action::Keep => return self.regex.is_match(&value),
            Action::DropEqual => return of_target() != value,
            Action::KeepEqual => return of_target() == value,
            Action::Replace => {
                if let Some(found) = self.regex.captures(&value) {
                    let (mut target, mut replacement) = (String::new(), String::new());
                    found.expand(&self.target, &mut target);
                    found.expand(&self.replacement, &mut replacement);
                    if self.names.allow(&target) {
                        Self::set(labels, &target, replacement);
                    }
                }
            }
            Action::Lowercase => Self::set(labels, &self.target, lower(&value)),
            Action::Uppercase => Self::set(labels, &self.target, upper(&value)),
            Action::HashMod => {
                let digest = Md5::digest(value.as_bytes());
                let mut last = [0; 8];
                last.copy_from_slice(&digest[8..]);
                Self::set(labels, &self.target, (u64::from_be_bytes(last) % self.modulus).to_string());
            }
            Action::LabelMap => {
                for (name, value) in labels.clone() {
                    if self.regex.is_match(&name) {
                        let to = self.regex.replace_all(&name, self.replacement.as_str()).into_owned();
                        Self::set(labels, &to, value);
                    }
                }
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }

    /// Applies the rule and tells what it did.
    pub fn step(&self, labels: &mut Labels) -> Effect {
        let before = labels.clone();
        if !self.apply(labels) {
            return Effect::Dropped;
        }
        if *labels == before { Effect::Unchanged } else { Effect::Changed }
    }

    /// The rule in a line, as a person would say it.
    pub fn describe(&self) -> String {
        let name = ACTIONS.iter().find(|(_, action)| *action == self.action).map_or("", |(name, _)| name);
        let mut told = name.to_owned();
        if !self.sources.is_empty() {
            let _ = write!(told, " source_labels=[{}]", self.sources.join(", "));
        }
        match self.action {
            Action::KeepEqual | Action::DropEqual | Action::Lowercase | Action::Uppercase => {
                let _ = write!(told, " target_label={}", self.target);
            }
            Action::HashMod => {
                let _ = write!(told, " modulus={} target_label={}", self.modulus, self.target);
            }
            Action::Replace => {
                let _ = write!(told, " regex={:?} target_label={} replacement={:?}", self.pattern, self.target, self.replacement);
            }
            Action::LabelMap => {
                let _ = write!(told, " regex={:?} replacement={:?}", self.pattern, self.replacement);
            }
            Action::Keep | Action::Drop | Action::LabelDrop | Action::LabelKeep => {
                let _ = write!(told, " regex={:?}", self.pattern);
            }
        }
        told
    }
}

/// Applies rules in order.
///
/// # Errors
/// The rule that dropped the labels.
pub fn relabel(labels: &Labels, rules: &[Rule]) -> Result<Labels, DroppedBy> {
    let mut labels = labels.clone();
    for (index, rule) in rules.iter().enumerate() {
        let value = rule.value(&labels);
        if !rule.apply(&mut labels) {
            return Err(DroppedBy { index, before: labels, value });
        }
    }
    Ok(labels)
}

/// Labels as `{a="b", …}`, those alone whose names are wanted.
pub fn labels_text(labels: &Labels, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_labels(&mut text, labels.iter().filter(|(name, _)| wanted(name)));
    text
}

impl DroppedBy {
    /// The labels that the rule read.
    pub fn read_by(&self, rule: &Rule) -> Labels {
        let names = rule.sources.iter().chain(std::iter::once(&rule.target).filter(|name| !name.is_empty()));
        names.map(|name| (name.clone(), self.before.get(name).cloned().unwrap_or_default())).collect()
    }
}

#[cfg(test)]
mod tests;
