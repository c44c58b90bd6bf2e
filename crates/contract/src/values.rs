//! What is known of the values of labels.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use regex::RegexBuilder;

use crate::variables::has_placeholder;

/// Labels whose values come from a cluster, not from a program: whatever a page shows of them, others are possible.
const UNBOUNDED: [&str; 24] = [
    "address",
    "container",
    "device",
    "endpoint",
    "host",
    "id",
    "image",
    "instance",
    "interface",
    "ip",
    "job",
    "le",
    "name",
    "namespace",
    "node",
    "persistentvolumeclaim",
    "pod",
    "quantile",
    "service",
    "uid",
    "url",
    "version",
    "vmi",
    "vmim",
];
/// A word of at least this many letters may be a misspelling of one that differs in one letter.
const LONG: usize = 5;

/// What is known of the values that a label can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// It can have any value.
    #[default]
    Any,
    /// A page shows these; there may be others.
    Seen(BTreeSet<String>),
    /// It has these values and no others.
    Closed(BTreeSet<String>),
}

/// Letters and digits alone, in lower case.
fn folded(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether one word is the other with one letter more, less, or changed.
fn one_letter_apart(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if long.len() - short.len() > 1 || short.len() < LONG || long.iter().any(|letter| !letter.is_alphabetic()) {
        return false;
    }
    let same = short.iter().zip(long.iter()).take_while(|(one, other)| one == other).count();
    let rest = if short.len() == long.len() { &short[(same + 1).min(short.len())..] } else { &short[same..] };
    long.ends_with(rest) && short != long
}

/// Whether a value is another one that was misspelt: in letters' case, in what is between the letters, or in one letter of a long word.
fn misspelt(asked: &str, known: &str) -> bool {
    let (asked, known) = (folded(asked), folded(known));
    !asked.is_empty() && (asked == known || one_letter_apart(&asked, &known))
}

impl Values {
    /// A label with more values than this on a page is taken for one that can have any.
    pub(crate) const FEW: usize = 30;

    /// Whether the values of a label may be few: of some it is known that they come from a cluster.
    pub(crate) fn are_few(label: &str) -> bool {
        !UNBOUNDED.contains(&label) && !label.contains("label_")
    }

    /// What a page shows of a label.
    pub fn seen(label: &str, values: BTreeSet<String>) -> Self {
        let any = !Self::are_few(label) || values.len() > Self::FEW || values.is_empty();
        if any { Self::Any } else { Self::Seen(values) }
    }

    /// Both at once: what holds where one or the other has the label.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let both = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.union(b).cloned().collect();
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (Self::Closed(a), Self::Closed(b)) => Self::Closed(both(a, b)),
            (Self::Closed(a) | Self::Seen(a), Self::Closed(b) | Self::Seen(b)) => Self::Seen(both(a, b)),
        }
    }

    /// What a page shows of a label whose values are known otherwise: they are the known ones, and what the page has besides.
    #[must_use]
    pub fn known_as(&self, known: &Self) -> Self {
        match (self, known) {
            (Self::Seen(seen), Self::Closed(closed)) => Self::Closed(seen.union(closed).cloned().collect()),
            (Self::Any | Self::Seen(_) | Self::Closed(_), Self::Any | Self::Seen(_) | Self::Closed(_)) => self.clone(),
        }
    }

    /// Whether what was seen is among values that are known to be all; of others nothing speaks against it.
    pub(crate) fn are_among(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Seen(seen), Self::Closed(closed)) => seen.is_subset(closed),
            (Self::Any | Self::Seen(_) | Self::Closed(_), Self::Any | Self::Seen(_) | Self::Closed(_)) => true,
        }
    }

    fn all(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Any => None,
            Self::Seen(values) | Self::Closed(values) => Some(values),
        }
    }

    /// The values that a matcher could have meant, the likeliest first, where it asks for one that the label never has, or excludes one that
    /// it never has. Nothing where there is nothing to say.
    ///
    /// Of a page not all values are known: there a value is wrong only if it is a misspelling of one that the page has.
    pub(crate) fn instead_of(&self, matcher: &Matcher) -> Option<Vec<String>> {
        let values = self.all()?;
        // An absent label is an empty one, and every label may be absent.
        let wants_none = match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => matcher.value.is_empty(),
            MatchOp::Re(regex) | MatchOp::NotRe(regex) => regex.is_match(""),
        };
        if wants_none || has_placeholder(&matcher.value) {
            return None;
        }
        let meant = |value: &String| match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => *value == matcher.value,
            MatchOp::Re(regex) | MatchOp::NotRe(regex) => regex.is_match(value),
        };
        if values.iter().any(meant) {
            return None;
        }
        let near: Vec<&String> = match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => values.iter().filter(|value| misspelt(&matcher.value, value)).collect(),
            MatchOp::Re(regex) | MatchOp::NotRe(regex) => {
                let in_any_case = RegexBuilder::new(regex.as_str()).case_insensitive(true).build().ok();
                values.iter().filter(|value| in_any_case.as_ref().is_some_and(|regex| regex.is_match(value))).collect()
            }
        };
        if matches!(self, Self::Seen(_)) && near.is_empty() {
            return None;
        }
        // What stands for no value, such as `<none>`, is what hardly anybody means.
        let (last, others): (Vec<&String>, Vec<&String>) =
            values.iter().filter(|value| !near.contains(value)).partition(|value| value.starts_with('<'));
        Some(near.into_iter().chain(others).chain(last).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use promql_parser::parser::{Expr, parse};

    use super::*;

    fn matcher(text: &str) -> Matcher {
        match parse(&format!("m{{{text}}}")).unwrap() {
            Expr::VectorSelector(selector) => selector.matchers.matchers[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    fn set(words: &str) -> BTreeSet<String> {
        words.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn values_that_a_label_never_has() {
        let closed = Values::Closed(set("running stopped paused"));
        let seen = Values::Seen(set("running stopped"));
        // The matcher, and the first value instead of it, where the values are closed and where a page shows some of them.
        for (asked, of_closed, of_seen) in [
            ("status=\"running\"", None, None),
            ("status=\"Running\"", Some("running"), Some("running")),
            ("status!=\"Running\"", Some("running"), Some("running")),
            ("status!=\"running\"", None, None),
            ("status=\"\"", None, None),
            ("status!=\"\"", None, None),
            ("status=\"gone\"", Some("paused"), None),
            ("status=\"runing\"", Some("running"), Some("running")),
            ("status=\"paused\"", None, None),
            ("status=~\"running|gone\"", None, None),
            ("status=~\"Running|Stopped\"", Some("running"), Some("running")),
            ("status!~\"Running|Stopped\"", Some("running"), Some("running")),
            ("status=~\"gone.*\"", Some("paused"), None),
            ("status=~\".*\"", None, None),
            ("status!~\"|Running\"", None, None),
            ("status=~\".+\"", None, None),
            ("status=~\"(?i)RUNNING\"", None, None),
        ] {
            let first = |values: &Values| values.instead_of(&matcher(asked)).map(|instead| instead[0].clone());
            assert_eq!(first(&closed).as_deref(), of_closed, "{asked}");
            assert_eq!(first(&seen).as_deref(), of_seen, "{asked}");
            assert_eq!(first(&Values::Any), None, "{asked}");
        }
    }

    #[test]
    fn what_a_page_shows_is_not_all() {
        assert_eq!(Values::seen("pod", set("a b")), Values::Any);
        assert_eq!(Values::seen("kubernetes_vmi_label_app", set("a b")), Values::Any);
        assert_eq!(Values::seen("code", set("200")), Values::Seen(set("200")));
        // Another code may come any day.
        assert_eq!(Values::seen("code", set("200")).instead_of(&matcher("code=\"500\"")), None);
        assert_eq!(Values::seen("number", (0..=Values::FEW).map(|number| number.to_string()).collect()), Values::Any);
        let (closed, seen) = (Values::Closed(set("a b")), Values::Seen(set("b c")));
        assert_eq!(seen.known_as(&closed), Values::Closed(set("a b c")));
        assert_eq!((closed.or(&seen), closed.or(&closed)), (Values::Seen(set("a b c")), closed.clone()));
        assert_eq!(closed.or(&Values::Any), Values::Any);
        assert!(Values::Seen(set("a")).are_among(&closed) && !seen.are_among(&closed) && Values::Any.are_among(&closed));
    }
}
