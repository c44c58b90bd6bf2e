//! The pages that expressions are compared with, and whose a metric is.
//!
//! A page belongs to a job. An expression may read series of other jobs, of which there is no page; these are *not at hand*, which is
//! neither there nor missing. A metric is a page's if the page has it, or if its name says so ([`Owned`]). Names of libraries
//! ([`is_shared`]) say nothing: every program of Kubernetes has `up` and `workqueue_depth`, so there the matchers decide.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matcher};
use regex::Regex;

use crate::schema::Schema;
use crate::variables::has_placeholder;

/// How names begin that libraries give to metrics of every program: client_golang, client-go, apimachinery and component-base.
const SHARED: [&str; 8] =
    ["go_", "leader_election_", "process_", "promhttp_", "reflector_", "rest_client_", "workqueue_", "scrape_"];

/// Whether a name may be of any program.
pub(crate) fn is_shared(name: &str) -> bool {
    name == "up" || SHARED.iter().any(|start| name.starts_with(start))
}

/// The names of which a page has all: one that it does not have is missing.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    /// Names that this matches somewhere.
    pub pattern: Option<Regex>,
    /// But for those that this matches.
    pub except: Option<Regex>,
    /// Further names.
    pub names: BTreeSet<String>,
    /// Further names by their first word, with its underscore.
    pub words: BTreeSet<String>,
}

impl Owned {
    /// Those of a page of which nothing else is known: the first words of its names. A page that has `haproxy_up` has all of
    /// `haproxy_`.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let word = |name: &str| name.split_once('_').map(|(word, _)| format!("{word}_"));
        let words = names.into_iter().filter(|name| !is_shared(name) && !name.contains(':')).filter_map(word);
        Self { words: words.collect(), ..Self::default() }
    }

    fn has(&self, name: &str) -> bool {
        let by_pattern = self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
            && !self.except.as_ref().is_some_and(|except| except.is_match(name));
        by_pattern || self.names.contains(name) || self.words.iter().any(|word| name.starts_with(word.as_str()))
    }
}

/// The series of a job.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Its metrics.
    pub schema: Schema,
    /// The values that labels of its targets have, `job` above all; one that ends in `*` can go on in any way. Of labels that are not here
    /// nothing is known.
    pub target: BTreeMap<String, Vec<String>>,
    /// The names that are its own.
    pub owned: Owned,
}

/// What an expression says of a page's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// It names the job.
    ForIt,
    /// It names none.
    ForAny,
    /// It names the job by a variable.
    Perhaps,
    /// It names another.
    ForAnother,
}

impl Page {
    /// What matchers say of the page's job. The labels of targets other than `job` can say that it is another, not that it is this one:
    /// series about a pod have the pod's name too.
    fn asked_by(&self, matchers: &[Matcher]) -> Asks {
        let mut asks = Asks::ForAny;
        for matcher in matchers {
            let Some(own) = self.target.get(&matcher.name) else { continue };
            let is_job = matcher.name == "job";
            if has_placeholder(&matcher.value) {
                if is_job {
                    asks = Asks::Perhaps;
                }
            } else if !meets(matcher, own) {
                return Asks::ForAnother;
            } else if is_job && !matcher.is_match(NOBODY) {
                asks = Asks::ForIt;
            }
        }
        asks
    }
}

/// A value that no job and no pod has: a matcher that takes it takes anything.
const NOBODY: &str = "\u{1}";

/// Whether a matcher takes one of these values.
fn meets(matcher: &Matcher, own: &[String]) -> bool {
    own.iter().any(|value| {
        let Some(start) = value.strip_suffix('*') else { return matcher.is_match(value) };
        match &matcher.op {
            MatchOp::Equal => matcher.value.starts_with(start),
            MatchOp::NotEqual => true,
            // What a name goes on with is not known: one of a generated name's form, or what the matcher itself has.
            MatchOp::Re(regex) => {
                let generated = ["", "7d9c6b5f44-x2x7k", "x2x7k"].iter().any(|rest| regex.is_match(&format!("{start}{rest}")));
                generated || matcher.value.split('|').any(|part| part.trim_start_matches('(').starts_with(start))
            }
            MatchOp::NotRe(_) => matcher.is_match(&format!("{start}7d9c6b5f44-x2x7k")),
        }
    })
}

/// All pages that there are.
#[derive(Clone, Debug, Default)]
pub struct AtHand {
    /// One a job.
    pub pages: Vec<Page>,
    /// Whether there are no other jobs: a metric that no page has is missing.
    pub complete: bool,
}

impl From<Schema> for AtHand {
    /// A schema of all that there is.
    fn from(schema: Schema) -> Self {
        Self { pages: vec![Page { schema, ..Page::default() }], complete: true }
    }
}

/// What a name stands for: one name, or all that matchers and variables allow.
pub(crate) struct Wanted<'a> {
    /// As people are to read it.
    pub(crate) asked: &'a str,
    pub(crate) takes: &'a dyn Fn(&str) -> bool,
    pub(crate) matchers: &'a [Matcher],
}

/// Where a metric is.
pub(crate) enum Place<'a> {
    /// On these pages, with these names there. Not all of them need to be what is asked for if `certain` is false.
    There { found: Vec<(&'a Schema, &'a str)>, certain: bool },
    /// On none, and one of them would have it.
    Missing,
    /// On none, and none would.
    NotAtHand,
}

impl AtHand {
    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pages.iter().flat_map(|page| page.schema.names())
    }

    /// Whether a name can be that of a metric of these pages alone: a pattern says so.
    pub(crate) fn is_owned(&self, name: &str) -> bool {
        self.pages.iter().any(|page| page.owned.pattern.is_some() && !page.owned.names.contains(name) && page.owned.has(name))
    }

    pub(crate) fn place(&self, wanted: &Wanted<'_>) -> Place<'_> {
        // A pattern's letters are enough to know whose it is.
        let plain: String =
            wanted.asked.chars().filter(|letter| letter.is_alphanumeric() || *letter == '_' || *letter == ':').collect();
        let plain = plain.strip_prefix("__name__").unwrap_or(&plain);
        let shared = is_shared(plain);
        let mut found = Vec::new();
        let (mut certain, mut missing) = (self.complete, self.complete);
        for page in &self.pages {
            let asks = page.asked_by(wanted.matchers);
            let owned = page.owned.has(plain);
            // A name that nobody else has is the page's, whatever its job is called where it is scraped.
            let could_be = match asks {
                Asks::ForIt | Asks::ForAny => true,
                Asks::Perhaps | Asks::ForAnother => !shared && owned || self.complete,
            };
            if !could_be {
                continue;
            }
            let before = found.len();
            found.extend(page.schema.names().filter(|name| (wanted.takes)(name)).map(|name| (&page.schema, name)));
            certain |= found.len() > before && (asks == Asks::ForIt || owned || !shared);
            missing |= owned || asks == Asks::ForIt;
        }
        match (found.is_empty(), missing) {
            (false, _) => Place::There { found, certain },
            (true, true) => Place::Missing,
            (true, false) => Place::NotAtHand,
        }
    }
}
