//! Metrics with their labels.

use std::collections::{BTreeMap, BTreeSet};

use metrics::Series;

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Schema(BTreeMap<String, BTreeSet<String>>);

impl Schema {
    /// Adds a metric that has these labels, or more labels to one that is there.
    pub fn record(&mut self, name: &str, labels: impl IntoIterator<Item = String>) {
        self.0.entry(name.to_owned()).or_default().extend(labels);
    }

    /// What a list of series shows.
    pub fn of_series<'a>(series: impl IntoIterator<Item = &'a Series>) -> Self {
        let mut schema = Self::default();
        for one in series {
            schema.record(&one.name, one.labels.keys().cloned());
        }
        schema
    }

    /// The labels of a metric.
    pub fn labels(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.0.get(name)
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|labels| labels.len() + 1).sum()
    }
}
