//! What reads series: panels, annotations and variables of dashboards, rules, alerts, and tests of rules.
//!
//! [`readers`] goes through a text of any form: JSON or YAML, one document or many, objects of Kubernetes and lists of them, ConfigMaps with
//! files inside. Whatever is a dashboard or a rule gives readers, each with an expression or with the reason why there is none to be read.
//! What holds neither is named too ([`Contents::without`]): nothing of a text is passed over in silence.

mod containers;
mod grafana;
mod grafana_v2;
mod perses;
mod places;
mod queries;
mod rules;

use std::sync::Arc;

use serde_json::Value;

use crate::variables::Variables;
use places::Places;

/// What a reader asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// An expression of PromQL.
    Expression(String),
    /// Something that cannot be had from the file, or is of a form that is not known.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// An expression with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// What it is, such as `panel "404"`.
    pub name: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// What it asks.
    pub query: Query,
    /// The metric that it records.
    pub records: Option<String>,
    /// Labels that a rule adds.
    pub labels: Vec<String>,
    /// Labels that annotations show.
    pub templated: Vec<String>,
    /// The variables of its dashboard; nothing where variables mean nothing.
    pub variables: Option<Arc<Variables>>,
}

impl Reader {
    /// Its expression; empty where it has none.
    pub fn expression(&self) -> &str {
        match &self.query {
            Query::Expression(expression) => expression,
            Query::Unreadable { .. } => "",
        }
    }
}

/// A file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Line and column, from 1, where they are known.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

/// A document without a dashboard or a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Without {
    /// Its kind, such as `Deployment`; `a document` where it says nothing of itself.
    pub what: String,
    /// Whether it is of a kind that never reads series. Of others nobody knows.
    pub never_reads: bool,
}

/// What a text has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// What reads series.
    pub readers: Vec<Reader>,
    /// How many dashboards, groups of rules and tests of rules were found, those that read nothing among them.
    pub found: usize,
    /// The documents that hold none.
    pub without: Vec<Without>,
}

/// Goes through a text and gathers readers.
struct Gatherer<'a> {
    places: Places<'a>,
    contents: Contents,
    /// The variables of the dashboard that is gone through.
    variables: Option<Arc<Variables>>,
}

impl Gatherer<'_> {
    fn add(&mut self, name: String, query: Query) {
        let line = match &query {
            Query::Expression(expression) => self.places.line_of(expression),
            Query::Unreadable { .. } => self.places.line_near(&name),
        };
        self.add_at(line, name, query);
    }

    /// The same where the file has another text for it.
    fn add_written(&mut self, name: String, expression: String, written: &str) {
        let line = self.places.line_of(written);
        self.add_at(line, name, Query::Expression(expression));
    }

    fn add_at(&mut self, line: usize, name: String, query: Query) {
        let variables = self.variables.clone();
        self.contents.readers.push(Reader {
            name,
            line,
            query,
            records: None,
            labels: Vec::new(),
            templated: Vec::new(),
            variables,
        });
    }

    /// An expression; an empty one reads nothing.
    fn add_expression(&mut self, name: String, expression: &str) {
        if !expression.trim().is_empty() {
            self.add(name, Query::Expression(expression.to_owned()));
        }
    }

    fn add_unreadable(&mut self, name: String, why: impl Into<String>) {
        self.add(name, Query::Unreadable { why: why.into() });
    }
}

/// The documents of a text, which may begin with a byte order mark.
///
/// # Errors
/// When it is neither JSON nor YAML.
fn documents(text: &str) -> Result<Vec<Value>, ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with(['{', '[']) {
        let mut all = Vec::new();
        for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            match document {
                Ok(document) => all.push(document),
                // A flow mapping of YAML begins alike. If it is no YAML either, it was meant to be JSON.
                Err(error) => {
                    let found = wire::yaml::manifests(text);
                    let wrong = ReadError { at: Some((error.line(), error.column())), message: error.to_string() };
                    return found.map_err(|_| wrong);
                }
            }
        }
        return Ok(all);
    }
    wire::yaml::manifests(text).map_err(|error| ReadError { at: error.at, message: error.message })
}

/// What reads series in a text: dashboards of Grafana (classic and of schema version 2) and Perses, rules and alerts of Prometheus and
/// Grafana, tests of rules, and objects of Kubernetes that hold any of these.
///
/// # Errors
/// When the text is neither JSON nor YAML.
pub fn readers(text: &str) -> Result<Contents, ReadError> {
    let documents = documents(text)?;
    let mut gatherer = Gatherer { places: Places::new(text), contents: Contents::default(), variables: None };
    for document in &documents {
        gatherer.document(document, 0);
    }
    // Beside what is read, what is not known is no less in the way.
    if gatherer.contents.found > 0 || !gatherer.contents.readers.is_empty() {
        let unknown: Vec<String> =
            gatherer.contents.without.iter().filter(|one| !one.never_reads).map(|one| one.what.clone()).collect();
        for what in unknown {
            gatherer.add_unreadable(what, "there is no dashboard or rule in it");
        }
    }
    Ok(gatherer.contents)
}
