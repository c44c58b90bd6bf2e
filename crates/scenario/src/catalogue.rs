//! What a scenario may name: releases, defects, metrics, rules, kinds of objects. The scenario language knows none of them itself.

use std::collections::BTreeSet;

/// What an expression reads, by what a release is known to have.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// KubeVirt's metrics that the release does not have, each with a sentence that names the nearest.
    pub missing: Vec<(String, String)>,
    /// What else is not there of what is asked of the release's metrics: a label, a value.
    pub findings: Vec<String>,
    /// The labels of the result; nothing where they are not known.
    pub labels: Option<BTreeSet<String>>,
}

/// What there is for a scenario to name.
pub trait Catalogue {
    /// Releases that can be run, the newest first.
    fn releases(&self) -> Vec<String>;
    /// Names of defects.
    fn defects(&self) -> Vec<String>;
    /// The namespace and the counter of requests of a release, for `{namespace}` and `{requests}`.
    fn words(&self, release: &str) -> (String, String);
    /// Names of the release's metrics, those of histograms' parts included.
    fn metrics(&self, release: &str) -> BTreeSet<String>;
    /// The labels of a metric on the components' pages; nothing where they are not known.
    fn labels(&self, release: &str, metric: &str) -> Option<BTreeSet<String>>;
    /// Names of the release's recording rules and alerts.
    fn rules(&self, release: &str) -> BTreeSet<String>;
    /// Names of the release's components, which their pods' names begin with.
    fn components(&self, release: &str) -> BTreeSet<String>;
    /// Kinds of objects that a lab serves, as `(group, plural)`.
    fn resources(&self) -> BTreeSet<(String, String)>;
    /// What a query reads of a release.
    ///
    /// # Errors
    /// When it is no PromQL, or its types do not fit.
    fn reads(&self, release: &str, expression: &str) -> Result<Reads, String>;
}

/// The name among `known` that is nearest to one that is not among them, if any is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |other: &str| strsim::normalized_damerau_levenshtein(name, other);
    let best = known.into_iter().max_by(|a, b| close(a).total_cmp(&close(b)))?;
    (close(best) >= 0.6).then_some(best)
}

/// `; did you mean …?` where a name is near.
pub(crate) fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// A text with the lab's words in place of `{namespace}` and `{requests}`.
pub(crate) fn fill(text: &str, lab: &dyn crate::lab::Lab) -> String {
    text.replace("{requests}", &lab.requests_metric()).replace("{namespace}", &lab.namespace())
}
