//! Why a series is not there.
//!
//! Between an object that somebody wrote and a series in Prometheus there is a chain of links: the object is accepted, selected, in the
//! configuration; Prometheus may discover; a Service matches; it has the port; there are endpoints; no rule drops the target; the
//! scrape works; no rule drops the series; no label is renamed; the samples are not old. [`explain`] walks them in this order and
//! names the first that is broken, with the object, the field and what to do.
//!
//! Architecture invariant: a function of [`Facts`]. Who gathers them, and from which kind of cluster, it does not know.

mod chain;
mod endpoint;
mod explanation;
mod facts;
mod names;
mod question;
mod series;
mod target;

pub use explanation::{Broken, Explanation, Link, LinkName, Verdict};
pub use facts::{Denied, Facts, Page, Review, Seen, seconds};
pub use names::Rename;
pub use question::{MonitorKind, Question, QuestionError};

/// What has to be asked about Prometheus' rights before the chain is walked: list and watch of what its discovery needs.
pub fn reviews(facts: &Facts) -> Vec<Review> {
    let compiled = operator::compile(&facts.prometheus, &facts.input);
    let written = compiled.config["scrape_configs"].as_array().into_iter().flatten();
    let mut all: Vec<Review> = written.chain(facts.running.iter().flatten()).flat_map(chain::needed_reviews).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Walks the chain.
pub fn explain(question: &Question, facts: &Facts) -> Explanation {
    match question {
        Question::Series(selector) => series::explain(selector, facts),
        Question::Monitor { kind, namespace, name } => chain::explain_monitor(*kind, namespace, name, facts),
    }
}
