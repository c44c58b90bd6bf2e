//! How each reader ends, and what may be said of all of them.
//!
//! A sentence such as "all that is read is there" is only as true as what was looked at. So each reader ends in one [`Outcome`], and
//! [`Tally::verdict`] and the sentences are made of these alone: an expression that was not read cannot be among those that are in order.

use std::collections::BTreeSet;

use serde::Serialize;
use wire::counted_as;

use crate::at_hand::AtHand;
use crate::expression::check_expression;
use crate::findings::{Finding, NotAtHand};
use crate::readers::{Query, Reader};

/// How a reader ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It was read, and all that it asks for was looked for and is there.
    There {
        /// The metrics that it reads; none, for example, of `vector(1)`.
        metrics: BTreeSet<String>,
    },
    /// It was read, and something that it asks for is missing.
    Broken {
        /// What, at least one.
        findings: Vec<Finding>,
        /// The metrics that are there.
        metrics: BTreeSet<String>,
        /// Metrics that were not looked for.
        not_at_hand: BTreeSet<NotAtHand>,
    },
    /// It was read, nothing is missing, and some metrics were not looked for, because the page of their job is not at hand.
    NotAtHand {
        /// The metrics that are there.
        metrics: BTreeSet<String>,
        /// The metrics that were not looked for, at least one.
        not_at_hand: BTreeSet<NotAtHand>,
    },
    /// It could not be read.
    NotRead {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// How a reader ends with what is at hand.
    pub fn of(reader: &Reader, at_hand: &AtHand) -> Self {
        let expression = match &reader.query {
            Query::Expression(expression) => expression,
            Query::Unreadable { why } => return Self::NotRead { why: why.clone() },
        };
        let found = match check_expression(expression, reader.variables.as_deref(), at_hand) {
            Ok(found) => found,
            Err(why) => return Self::NotRead { why },
        };
        let mut findings = found.findings;
        if let Some(labels) = &found.labels {
            let missing =
                reader.templated.iter().filter(|label| !crate::schema::has(labels, label) && !reader.labels.contains(label));
            findings.extend(missing.map(|label| Finding::NoTemplateLabel { label: label.clone() }));
        }
        let (metrics, not_at_hand) = (found.read, found.not_at_hand);
        match (findings.is_empty(), not_at_hand.is_empty()) {
            (false, _) => Self::Broken { findings, metrics, not_at_hand },
            (true, false) => Self::NotAtHand { metrics, not_at_hand },
            (true, true) => Self::There { metrics },
        }
    }

    /// What is missing.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Broken { findings, .. } => findings,
            Self::There { .. } | Self::NotAtHand { .. } | Self::NotRead { .. } => &[],
        }
    }

    /// The metrics that are there.
    pub fn metrics(&self) -> impl Iterator<Item = &String> {
        let metrics = match self {
            Self::There { metrics } | Self::Broken { metrics, .. } | Self::NotAtHand { metrics, .. } => Some(metrics),
            Self::NotRead { .. } => None,
        };
        metrics.into_iter().flatten()
    }

    /// The metrics that were not looked for.
    pub fn not_at_hand(&self) -> impl Iterator<Item = &NotAtHand> {
        let metrics = match self {
            Self::Broken { not_at_hand, .. } | Self::NotAtHand { not_at_hand, .. } => Some(not_at_hand),
            Self::There { .. } | Self::NotRead { .. } => None,
        };
        metrics.into_iter().flatten()
    }
}

/// A reader with how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Which reader, such as `panel "404"`.
    pub reader: String,
    /// The line of its expression in its file, from 1.
    pub line: usize,
    /// Its expression; empty where it has none.
    pub expression: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Checked {
    /// A reader, checked.
    pub fn of(reader: &Reader, at_hand: &AtHand) -> Self {
        let outcome = Outcome::of(reader, at_hand);
        Self { reader: reader.name.clone(), line: reader.line, expression: reader.expression().to_owned(), outcome }
    }
}

/// How many readers ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// All readers.
    pub readers: usize,
    /// Those of which all is there.
    pub there: usize,
    /// Those of which something is missing.
    pub broken: usize,
    /// Those that could not be read.
    pub not_read: usize,
    /// Those of which nothing is missing that was looked for, and some metrics were not looked for.
    pub in_part: usize,
    /// Those that read a metric that is at hand.
    pub own: usize,
    /// The metrics that were not looked for.
    pub not_at_hand: BTreeSet<NotAtHand>,
}

/// What may be said of all readers together; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Something is missing.
    Broken,
    /// Nothing is missing of what was read, but not all was read.
    NotAllRead,
    /// All was read, and nothing is missing of what was looked for, but some metrics of others were not.
    NotAllLookedFor,
    /// All was read, was looked for, and is there.
    AllThere,
}

impl Tally {
    /// Counts outcomes.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            tally.readers += 1;
            tally.own += usize::from(outcome.metrics().next().is_some());
            tally.not_at_hand.extend(outcome.not_at_hand().cloned());
            match outcome {
                Outcome::There { .. } => tally.there += 1,
                Outcome::Broken { .. } => tally.broken += 1,
                Outcome::NotAtHand { .. } => tally.in_part += 1,
                Outcome::NotRead { .. } => tally.not_read += 1,
            }
        }
        tally
    }

    /// What follows.
    pub fn verdict(&self) -> Verdict {
        if self.broken > 0 {
            Verdict::Broken
        } else if self.not_read > 0 {
            Verdict::NotAllRead
        } else if self.in_part > 0 {
            Verdict::NotAllLookedFor
        } else {
            Verdict::AllThere
        }
    }

    /// One sentence about all of them; `what` is what they were compared with.
    pub fn sentence(&self, what: &str) -> String {
        let sum = |count: usize| wire::counted(count, "expression");
        let reads = |count: usize| if count == 1 { "reads" } else { "read" };
        let others = match self.not_at_hand.len() {
            0 => String::new(),
            count => format!("; {} not looked for", counted_as(count, "metric of others was", "metrics of others were")),
        };
        match self.verdict() {
            Verdict::Broken => {
                let unread = if self.not_read == 0 { String::new() } else { format!(", and {} not read", self.not_read) };
                let verb = if self.broken == 1 { "asks" } else { "ask" };
                format!("{} of {} {verb} for what is not there{unread} ({what}){others}", self.broken, sum(self.readers))
            }
            Verdict::NotAllRead => {
                let verb = if self.not_read == 1 { "was" } else { "were" };
                let rest = match self.readers - self.not_read {
                    0 => String::new(),
                    _ if self.own == 0 => format!("; the rest reads nothing of {what}"),
                    count if self.in_part > 0 => format!("; what the other {count} {} of {what} is there", reads(count)),
                    count => format!("; what the other {count} {} is there ({what})", reads(count)),
                };
                format!("{} of {} {verb} not read{rest}{others}", self.not_read, sum(self.readers))
            }
            Verdict::NotAllLookedFor if self.own == 0 => format!("reads nothing of {what}{others}"),
            Verdict::NotAllLookedFor => {
                format!("all that {} {} of {what} is there{others}", sum(self.readers), reads(self.readers))
            }
            Verdict::AllThere if self.own == 0 => format!("reads no metric ({what})"),
            Verdict::AllThere => format!("all that {} {} is there ({what})", sum(self.readers), reads(self.readers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(word: &str) -> Outcome {
        let metrics = BTreeSet::from(["m".to_owned()]);
        let not_at_hand = BTreeSet::from([NotAtHand { metric: "other".to_owned(), job: None }]);
        match word {
            "there" => Outcome::There { metrics },
            "nothing" => Outcome::There { metrics: BTreeSet::new() },
            "broken" => {
                let findings = vec![Finding::NoTemplateLabel { label: "l".to_owned() }];
                Outcome::Broken { findings, metrics, not_at_hand: BTreeSet::new() }
            }
            "part" => Outcome::NotAtHand { metrics, not_at_hand },
            "other" => Outcome::NotAtHand { metrics: BTreeSet::new(), not_at_hand },
            _ => Outcome::NotRead { why: "why".to_owned() },
        }
    }

    #[test]
    fn what_is_said_follows_from_how_readers_ended() {
        for (outcomes, verdict, sentence) in [
            ("there", Verdict::AllThere, "all that 1 expression reads is there (X)"),
            ("there there", Verdict::AllThere, "all that 2 expressions read is there (X)"),
            ("nothing", Verdict::AllThere, "reads no metric (X)"),
            ("", Verdict::AllThere, "reads no metric (X)"),
            ("other", Verdict::NotAllLookedFor, "reads nothing of X; 1 metric of others was not looked for"),
            (
                "there other",
                Verdict::NotAllLookedFor,
                "all that 2 expressions read of X is there; 1 metric of others was not looked for",
            ),
            (
                "part",
                Verdict::NotAllLookedFor,
                "all that 1 expression reads of X is there; 1 metric of others was not looked for",
            ),
            ("unread", Verdict::NotAllRead, "1 of 1 expression was not read"),
            ("unread unread there", Verdict::NotAllRead, "2 of 3 expressions were not read; what the other 1 reads is there (X)"),
            (
                "unread other",
                Verdict::NotAllRead,
                "1 of 2 expressions was not read; the rest reads nothing of X; 1 metric of others was not looked for",
            ),
            ("broken", Verdict::Broken, "1 of 1 expression asks for what is not there (X)"),
            ("broken broken unread there", Verdict::Broken, "2 of 4 expressions ask for what is not there, and 1 not read (X)"),
        ] {
            let all: Vec<Outcome> = outcomes.split_whitespace().map(outcome).collect();
            let tally = Tally::of(&all);
            assert_eq!((tally.verdict(), tally.sentence("X").as_str()), (verdict, sentence), "{outcomes}");
        }
    }

    #[test]
    fn all_is_there_only_if_each_is() {
        let words = ["there", "nothing", "broken", "part", "other", "unread"];
        for one in words {
            for other in words {
                let tally = Tally::of(&[outcome(one), outcome(other)]);
                let fine = |word: &str| matches!(word, "there" | "nothing");
                assert_eq!(tally.verdict() == Verdict::AllThere, fine(one) && fine(other), "{one} {other}");
                let says = tally.sentence("X");
                assert!(
                    !says.contains("all that") || !matches!((one, other), ("unread" | "broken", _) | (_, "unread" | "broken")),
                    "{says}"
                );
            }
        }
    }
}
