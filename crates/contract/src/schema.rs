//! Metrics with their labels.

use std::collections::{BTreeMap, BTreeSet};

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Schema(BTreeMap<String, Option<BTreeSet<String>>>);

impl Schema {
    /// Adds a metric that has these labels, or more labels to one that is there.
    pub fn record(&mut self, name: &str, labels: impl IntoIterator<Item = String>) {
        if let Some(known) = self.0.entry(name.to_owned()).or_insert_with(|| Some(BTreeSet::new())) {
            known.extend(labels);
        }
    }

    /// Adds a metric of which nobody knows the labels; it may have any.
    pub fn record_unknown(&mut self, name: &str) {
        self.0.insert(name.to_owned(), None);
    }

    /// The labels of a metric; nothing when it may have any, or is not there.
    pub fn labels(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.0.get(name)?.as_ref()
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|labels| labels.as_ref().map_or(1000, BTreeSet::len) + 1).sum()
    }
}
