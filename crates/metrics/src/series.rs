//! A metric name with its labels.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Labels in order of their names.
pub type Labels = BTreeMap<String, String>;

/// A series.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// The metric's name.
    pub name: String,
    /// Its labels without the name.
    pub labels: Labels,
}

impl Series {
    /// A series of a label set that holds `__name__`.
    pub fn from_labels(mut labels: Labels) -> Self {
        let name = labels.remove("__name__").unwrap_or_default();
        Self { name, labels }
    }

    /// One label's value; empty where it is absent, which is the same to Prometheus.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.labels.is_empty() {
            write_labels(f, self.labels.iter())?;
        }
        Ok(())
    }
}

/// Writes `{a="b",c="d"}`.
pub(crate) fn write_labels<'a>(f: &mut impl fmt::Write, labels: impl Iterator<Item = (&'a String, &'a String)>) -> fmt::Result {
    f.write_char('{')?;
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        write!(f, "{name}=\"")?;
        for character in value.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('"')?;
    }
    f.write_char('}')
}

/// A series with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series.
    pub series: Series,
    /// Its value.
    pub value: f64,
}
