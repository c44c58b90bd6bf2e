//! Metrics with their labels.

use std::collections::{BTreeMap, BTreeSet};

use crate::values::Values;

/// The labels of a metric, with what is known of their values. One that ends in `*` stands for all that begin like it.
pub(crate) type Known = BTreeMap<String, Values>;

/// Whether a label is among these.
pub(crate) fn has(labels: &Known, label: &str) -> bool {
    labels.contains_key(label) || labels.keys().any(|known| known.strip_suffix('*').is_some_and(|start| label.starts_with(start)))
}

/// Adds labels to others. What both have can have the values of both.
pub(crate) fn join(labels: &mut Known, more: impl IntoIterator<Item = (String, Values)>) {
    for (label, values) in more {
        match labels.get_mut(&label) {
            Some(known) => *known = known.or(&values),
            None => {
                labels.insert(label, values);
            }
        }
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema(BTreeMap<String, Option<Known>>);

impl Schema {
    /// Adds a metric that has these labels with any values, or more labels to one that is there. A label that ends in `*` stands for all
    /// that begin like it.
    pub fn record(&mut self, name: &str, labels: impl IntoIterator<Item = String>) {
        self.record_values(name, labels.into_iter().map(|label| (label, Values::Any)));
    }

    /// The same where something is known of the labels' values.
    pub fn record_values(&mut self, name: &str, labels: impl IntoIterator<Item = (String, Values)>) {
        if let Some(known) = self.0.entry(name.to_owned()).or_insert_with(|| Some(Known::new())) {
            join(known, labels);
        }
    }

    /// Adds a metric of which nobody knows the labels; it may have any.
    pub fn record_unknown(&mut self, name: &str) {
        self.0.insert(name.to_owned(), None);
    }

    /// The labels of a metric; nothing when it may have any, or is not there.
    pub fn labels(&self, name: &str) -> Option<BTreeSet<&str>> {
        Some(self.known(name)?.keys().map(String::as_str).collect())
    }

    pub(crate) fn known(&self, name: &str) -> Option<&Known> {
        self.0.get(name)?.as_ref()
    }

    /// Whether a metric is there.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Adds all that another one has.
    pub fn extend(&mut self, other: &Self) {
        for (name, labels) in &other.0 {
            match labels {
                Some(labels) => self.record_values(name, labels.clone()),
                None => self.record_unknown(name),
            }
        }
    }

    /// Adds the names and labels of another one that this has not.
    pub fn fill(&mut self, other: &Self) {
        for (name, labels) in &other.0 {
            match (self.0.get_mut(name), labels) {
                (None, _) => {
                    self.0.insert(name.clone(), labels.clone());
                }
                (Some(Some(own)), Some(labels)) => {
                    for (label, values) in labels {
                        own.entry(label.clone()).or_insert_with(|| values.clone());
                    }
                }
                (Some(_), _) => {}
            }
        }
    }

    /// Gives the labels of this the values that another one knows of them, where this has only seen some.
    pub fn learn(&mut self, other: &Self) {
        for (name, labels) in &mut self.0 {
            let (Some(labels), Some(known)) = (labels, other.known(name)) else { continue };
            for (label, values) in labels {
                if let Some(better) = known.get(label) {
                    *values = values.known_as(better);
                }
            }
        }
    }
}
