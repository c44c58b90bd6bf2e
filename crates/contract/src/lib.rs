//! What dashboards and rules read, compared with what is exposed.
//!
//! A panel or an alert that reads a metric, a label or a value that is not there shows nothing, and says nothing. [`AtHand`] is what there
//! is: pages of metrics with their labels and values. [`Shape`] is a page with types, bounds and numbers, and [`diff`] compares two of
//! these. [`readers`] finds what reads them in dashboards, rules and alerts of many forms; [`check`] gives each reader an [`Outcome`]: all is
//! there, something is missing, it could not be read, or the page of its job is not at hand.
//!
//! Architecture invariant: functions of texts; where the series come from this crate does not know.

mod at_hand;
mod diff;
mod expression;
mod findings;
mod outcome;
mod page;
mod readers;
mod rules;
mod schema;
mod shape;
mod values;
mod variables;

pub use at_hand::{AtHand, Owned, Page};
pub use diff::{Change, Diff, Effect, diff};
pub use expression::{Found, check_expression};
pub use findings::{Finding, NotAtHand};
pub use outcome::{Checked, Outcome, Tally, Verdict};
pub use readers::{Contents, Query, ReadError, Reader, Without, readers};
pub use rules::{Ruled, Rules, rules};
pub use schema::Schema;
pub use shape::{OF_TARGET, Shape, Shaped};
pub use values::Values;
pub use variables::Variables;

/// A rule that records: the name, the expression, and the labels that it adds.
pub(crate) type Recording<'a> = (&'a str, &'a str, Vec<&'a str>);

/// What rules record of what is at hand.
pub(crate) fn recorded(recordings: &[Recording<'_>], at_hand: &AtHand) -> Schema {
    let mut recorded = Schema::default();
    // A rule may read what a later one records.
    for _ in 0..=recordings.len() {
        let mut with = at_hand.clone();
        with.pages.push(Page { schema: recorded.clone(), ..Page::default() });
        let mut next = Schema::default();
        for (name, expression, labels) in recordings {
            let added = labels.iter().map(|label| ((*label).to_owned(), Values::Any));
            match check_expression(expression, None, &with) {
                Ok(Found { labels: Some(found), .. }) => next.record_values(name, found.into_iter().chain(added)),
                Ok(Found { labels: None, .. }) | Err(_) => next.record_unknown(name),
            }
        }
        if next == recorded {
            break;
        }
        recorded = next;
    }
    recorded
}

impl AtHand {
    /// The same with what rules among the readers record.
    #[must_use]
    pub fn with_recordings(&self, readers: &[Reader]) -> Self {
        let of_reader = |reader: &&Reader| reader.records.is_some();
        let recordings: Vec<Recording<'_>> = readers
            .iter()
            .filter(of_reader)
            .map(|reader| {
                let labels = reader.labels.iter().map(String::as_str).collect();
                (reader.records.as_deref().unwrap_or_default(), reader.expression(), labels)
            })
            .collect();
        let mut with = self.clone();
        if !recordings.is_empty() {
            let schema = recorded(&recordings, self);
            with.pages.push(Page { schema, ..Page::default() });
        }
        with
    }
}

/// Compares readers with what is at hand, and with what those among them record.
pub fn check(readers: &[Reader], at_hand: &AtHand) -> Vec<Checked> {
    let at_hand = at_hand.with_recordings(readers);
    readers.iter().map(|reader| Checked::of(reader, &at_hand)).collect()
}

#[cfg(test)]
mod tests;
