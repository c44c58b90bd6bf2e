//! Why a series is not there.
//!
//! Between an object that somebody wrote and a series in Prometheus there is a chain of links: the object is accepted, selected, in the
//! configuration; Prometheus may discover; a Service matches; it has the port; there are endpoints; no rule drops the target; the
//! scrape works; no rule drops the series; no label is renamed; the samples are not old. [`explain`] walks them in this order and
//! names the first that is broken, with the object, the field and what to do.
//!
//! Architecture invariant: a function of [`Facts`]. Who gathers them, and from which kind of cluster, it does not know.

mod chain;
mod explanation;
mod facts;
mod names;
mod question;
mod series;
mod target;

pub use explanation::{Broken, Explanation, Link, LinkName, Verdict};
pub use facts::{Denied, Facts, Page, Recent, Review};
pub use names::Rename;
pub use question::{MonitorKind, Question, QuestionError};

/// Walks the chain.
pub fn explain(question: &Question, facts: &Facts) -> Explanation {
    match question {
        Question::Series(selector) => series::explain(selector, facts),
        Question::Monitor { kind, namespace, name } => chain::explain_monitor(*kind, namespace, name, facts),
    }
}

#[cfg(test)]
mod tests;
