//! What dashboards and rules read, held against what is exposed.
//!
//! A panel or an alert that reads a metric or a label that is not there shows nothing, and says nothing. [`Schema`] is what there is:
//! metrics with their labels. [`Shape`] is the same with types, bounds and numbers, and [`diff`] tells two of them apart. [`readers`] finds what reads them in Grafana dashboards, rule files and PrometheusRules; [`check`] tells
//! which reader asks for what is not there, and which metrics nobody reads.
//!
//! Architecture invariant: functions of texts; where the series come from this crate does not know.

mod diff;
mod expression;
mod page;
mod readers;
mod rules;
mod schema;
mod shape;

pub use diff::{Change, Diff, diff};
pub use expression::{Finding, Found, check_expression};
pub use readers::{ReadError, Reader, readers};
pub use rules::{Ruled, Rules, rules};
pub use schema::Schema;
pub use shape::{OF_TARGET, Shape, Shaped};

use serde::Serialize;

/// What a reader asks for in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which reader, such as `panel "404"`.
    pub reader: String,
    /// The line of its expression in its file, from 1.
    pub line: usize,
    /// Its expression.
    pub expression: String,
    /// What is not there.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What is read in vain.
    pub broken: Vec<Broken>,
    /// Metrics that nobody reads.
    pub unread: Vec<String>,
}

/// What there is with what rules record of it.
pub fn with_recordings(readers: &[Reader], schema: &Schema) -> Schema {
    let mut schema = schema.clone();
    let recording: Vec<&Reader> = readers.iter().filter(|reader| reader.records.is_some()).collect();
    // A rule may read what a later one records.
    for _ in 0..recording.len() {
        let before = schema.len();
        for reader in &recording {
            let Some(name) = &reader.records else { continue };
            match check_expression(&reader.expression, &schema) {
                Ok(Found { labels: Some(labels), .. }) => {
                    schema.record(name, labels.into_iter().chain(reader.labels.iter().cloned()))
                }
                _ => schema.record_unknown(name),
            }
        }
        if schema.len() == before {
            break;
        }
    }
    schema
}

/// Holds readers against what there is, and against what those among them record.
pub fn check(readers: &[Reader], schema: &Schema) -> Report {
    let schema = with_recordings(readers, schema);
    let mut report = Report::default();
    let mut read = std::collections::BTreeSet::new();
    for reader in readers {
        let broken =
            |finding| Broken { reader: reader.name.clone(), line: reader.line, expression: reader.expression.clone(), finding };
        match check_expression(&reader.expression, &schema) {
            Err(why) => report.broken.push(broken(Finding::Unreadable { why })),
            Ok(found) => {
                read.extend(found.read);
                report.broken.extend(found.findings.into_iter().map(broken));
                let known = |label: &String| {
                    found.labels.as_ref().is_none_or(|labels| labels.contains(label)) || reader.labels.contains(label)
                };
                let missing = reader.templated.iter().filter(|label| !known(label)).cloned();
                report.broken.extend(missing.map(|label| broken(Finding::NoTemplateLabel { label })));
            }
        }
    }
    report.unread = schema.names().filter(|name| !read.contains(*name)).map(str::to_owned).collect();
    report
}

#[cfg(test)]
mod tests;
