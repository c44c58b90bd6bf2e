//! What differs between two shapes, and what that breaks.
//!
//! A metric that is gone and one that is new are a rename where they are alike enough: by type, labels, help text, bounds and the words of
//! their names. Each is paired once, the most alike first.

use std::collections::BTreeSet;
use std::fmt;

use metrics::Kind;
use serde::Serialize;

use crate::at_hand::{AtHand, Page};
use crate::findings::Finding;
use crate::outcome::{Checked, Outcome};
use crate::readers::Reader;
use crate::shape::{Shape, Shaped};
use crate::{check, rules};

/// From this on, of 1, two metrics are one that was renamed.
const ALIKE: f64 = 0.6;
/// What is left of a likeness where the type is another.
const OTHER_TYPE: f64 = 0.7;
/// A number of series that changes by this factor is told.
const FACTOR: usize = 2;
/// Fewer series than this change as they like.
const FEW: usize = 10;
/// So many pairs of metrics are compared for renames; of more only those that are known are found. It is two thousand gone and two
/// thousand new.
const MOST_PAIRS: usize = 4_000_000;

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Change {
    /// It is new.
    Added {
        /// The metric.
        metric: String,
    },
    /// It is gone.
    Removed {
        /// The metric.
        metric: String,
    },
    /// It has another name.
    Renamed {
        /// The metric, as it was called.
        metric: String,
        /// Its new name.
        to: String,
        /// How alike they are, from 0 to 1.
        likeness: f64,
    },
    /// It has a label more.
    LabelGained {
        /// The metric.
        metric: String,
        /// The label.
        label: String,
    },
    /// It has a label less.
    LabelLost {
        /// The metric.
        metric: String,
        /// The label.
        label: String,
    },
    /// Its type is another.
    TypeChanged {
        /// The metric.
        metric: String,
        /// As it was.
        before: Kind,
        /// As it is.
        after: Kind,
    },
    /// Its buckets are others.
    BucketsChanged {
        /// The metric.
        metric: String,
        /// Bounds that are new.
        gained: Vec<f64>,
        /// Bounds that are gone.
        lost: Vec<f64>,
    },
    /// It has many more or many fewer series.
    SeriesChanged {
        /// The metric.
        metric: String,
        /// How many it had.
        before: usize,
        /// How many it has.
        after: usize,
    },
    /// It is recorded by a rule now: pages do not have it, and nobody has it without the rules.
    BecameRule {
        /// The metric.
        metric: String,
    },
    /// A rule is new.
    RuleAdded {
        /// Its name.
        metric: String,
        /// `alert` or `recording rule`.
        rule: String,
    },
    /// A rule is gone.
    RuleRemoved {
        /// Its name.
        metric: String,
        /// `alert` or `recording rule`.
        rule: String,
    },
    /// A rule has another name.
    RuleRenamed {
        /// Its name, as it was.
        metric: String,
        /// Its new name.
        to: String,
        /// `alert` or `recording rule`.
        rule: String,
    },
    /// A rule does something else.
    RuleChanged {
        /// Its name.
        metric: String,
        /// What of it: `reads` (the metrics), `for` or `severity`.
        field: String,
        /// As it was.
        before: String,
        /// As it is.
        after: String,
    },
}

impl Change {
    /// The metric, as it was called.
    pub fn metric(&self) -> &str {
        match self {
            Self::Added { metric }
            | Self::Removed { metric }
            | Self::Renamed { metric, .. }
            | Self::LabelGained { metric, .. }
            | Self::LabelLost { metric, .. }
            | Self::TypeChanged { metric, .. }
            | Self::BucketsChanged { metric, .. }
            | Self::SeriesChanged { metric, .. }
            | Self::BecameRule { metric }
            | Self::RuleAdded { metric, .. }
            | Self::RuleRemoved { metric, .. }
            | Self::RuleRenamed { metric, .. }
            | Self::RuleChanged { metric, .. } => metric,
        }
    }

    /// Whether somebody who reads the metric or is told of the alert may find less than before. What is new, how many series there are,
    /// and what a rule computes, breaks nobody; another severity goes to other people.
    pub fn breaks(&self) -> bool {
        match self {
            Self::Added { .. } | Self::LabelGained { .. } | Self::SeriesChanged { .. } | Self::RuleAdded { .. } => false,
            Self::RuleChanged { field, .. } => field == "severity",
            Self::Removed { .. }
            | Self::Renamed { .. }
            | Self::LabelLost { .. }
            | Self::TypeChanged { .. }
            | Self::BucketsChanged { .. }
            | Self::BecameRule { .. }
            | Self::RuleRemoved { .. }
            | Self::RuleRenamed { .. } => true,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |all: &[f64]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Added { metric } => write!(f, "{metric} is new"),
            Self::Removed { metric } => write!(f, "{metric} is gone"),
            Self::Renamed { metric, to, likeness } => write!(f, "{metric} is called {to} now ({:.0} % alike)", likeness * 100.0),
            Self::LabelGained { metric, label } => write!(f, "{metric} has a new label {label}"),
            Self::LabelLost { metric, label } => write!(f, "{metric} has no label {label} any more"),
            Self::TypeChanged { metric, before, after } => {
                write!(f, "{metric} is a {} and was a {}", after.as_str(), before.as_str())
            }
            Self::BucketsChanged { metric, gained, lost } => {
                write!(f, "{metric} has other buckets: new {{{}}}, gone {{{}}}", numbers(gained), numbers(lost))
            }
            Self::SeriesChanged { metric, before, after } => write!(f, "{metric} has {after} series and had {before}"),
            Self::BecameRule { metric } => write!(f, "{metric} is recorded by a rule now: pages do not have it any more"),
            Self::RuleAdded { metric, rule } => write!(f, "the {rule} {metric} is new"),
            Self::RuleRemoved { metric, rule } => write!(f, "the {rule} {metric} is gone"),
            Self::RuleRenamed { metric, to, rule } => write!(f, "the {rule} {metric} is called {to} now"),
            Self::RuleChanged { metric, field, before, after } => match field.as_str() {
                "for" => {
                    let told = |time: &str| if time.is_empty() { "no time".to_owned() } else { time.to_owned() };
                    write!(f, "{metric} is pending for {} and was for {}", told(after), told(before))
                }
                "severity" => {
                    let told = |severity: &str| if severity.is_empty() { "none".to_owned() } else { severity.to_owned() };
                    write!(f, "{metric} has severity {} and had {}", told(after), told(before))
                }
                _ => write!(f, "{metric} reads {after} and read {before}"),
            },
        }
    }
}

/// What a difference does to a reader.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// The reader's number among those that were given, from 0.
    pub number: usize,
    /// Which reader, such as `panel "404"`.
    pub reader: String,
    /// The line of its expression in its file, from 1.
    pub line: usize,
    /// Its expression.
    pub expression: String,
    /// What is missing.
    #[serde(flatten)]
    pub finding: Finding,
}

/// What differs, and what it breaks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// In order of the metrics' names as they were.
    pub changes: Vec<Change>,
    /// What readers found before, and do not find now.
    pub broken: Vec<Effect>,
    /// What readers found neither before nor now: no fault of the difference.
    pub broken_before: Vec<Effect>,
    /// Readers that could not be read, by their numbers: of them nobody knows.
    pub not_read: Vec<(usize, Checked)>,
    /// Metrics that were looked for on neither side, because the pages of their jobs are not at hand.
    pub not_at_hand: BTreeSet<crate::NotAtHand>,
    /// How many metrics are gone and how many are new, where these are too many to be compared with each other: then only known renames
    /// are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<(usize, usize)>,
}

impl Diff {
    /// Whether anybody finds less than before: a reader, or, where no readers were given, anybody who may read.
    pub fn breaks(&self, readers: &[Reader]) -> bool {
        if readers.is_empty() { self.changes.iter().any(Change::breaks) } else { !self.broken.is_empty() }
    }

    /// What the difference does to readers: `page` is whose pages the two sides are.
    fn effects(&mut self, readers: &[Reader], sides: [&Shape; 2], page: &Page) {
        let [before, after] = sides.map(|side| {
            let mut page = page.clone();
            page.schema = side.schema();
            page
        });
        // What one side has is missing on the other, whatever it is called.
        let both: BTreeSet<String> = before.schema.names().chain(after.schema.names()).map(str::to_owned).collect();
        let [before, after] = [before, after].map(|mut page| {
            page.owned.names.extend(both.iter().cloned());
            check(readers, &AtHand { pages: vec![page], complete: false })
        });
        for (number, (was, is)) in before.into_iter().zip(after).enumerate() {
            self.not_at_hand.extend(is.outcome.not_at_hand().cloned());
            // A metric that was not there had no labels and no values either.
            let known = |finding: &Finding| {
                let gone =
                    |old: &Finding| matches!(old, Finding::NoMetric { metric, nearest: _ } if metric == finding.subject().1);
                was.outcome.findings().iter().any(|old| old.subject() == finding.subject() || gone(old))
            };
            for finding in is.outcome.findings() {
                let effect = Effect {
                    number,
                    reader: is.reader.clone(),
                    line: is.line,
                    expression: is.expression.clone(),
                    finding: finding.clone(),
                };
                let of = if known(finding) { &mut self.broken_before } else { &mut self.broken };
                of.push(effect);
            }
            if matches!(is.outcome, Outcome::NotRead { .. }) {
                self.not_read.push((number, is));
            }
        }
    }
}

fn words(text: &str) -> BTreeSet<String> {
    let split = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    split.map(str::to_ascii_lowercase).collect()
}

/// The share of what both have in what either has; 1 where neither has anything.
fn overlap<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> f64 {
    let both = a.intersection(b).count();
    let either = a.len() + b.len() - both;
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

/// How alike two metrics are, from 0 to 1. What only one of them tells does not count.
fn likeness(a: (&str, &Shaped), b: (&str, &Shaped)) -> f64 {
    // A gauge may have become a counter when it got its name; a histogram nothing else.
    let of_type = match (a.1.kind, b.1.kind) {
        (Some(Kind::Gauge), Some(Kind::Counter)) | (Some(Kind::Counter), Some(Kind::Gauge)) => OTHER_TYPE,
        (Some(before), Some(after)) if before != after => return 0.0,
        _ => 1.0,
    };
    let names = overlap(&words(a.0), &words(b.0));
    // Two that share hardly a word are no rename, whatever else they share.
    if names < 0.3 {
        return 0.0;
    }
    let mut parts = vec![(0.35, names), (0.2, overlap(&a.1.labels, &b.1.labels))];
    if !a.1.help.is_empty() && !b.1.help.is_empty() {
        parts.push((0.35, overlap(&words(&a.1.help), &words(&b.1.help))));
    }
    if !a.1.bounds.is_empty() && !b.1.bounds.is_empty() {
        parts.push((0.1, if a.1.bounds == b.1.bounds { 1.0 } else { 0.0 }));
    }
    let weight: f64 = parts.iter().map(|(weight, _)| weight).sum();
    of_type * parts.iter().map(|(weight, value)| weight * value).sum::<f64>() / weight
}

/// What differs of one metric.
fn of_one(metric: &str, before: &Shaped, after: &Shaped, changes: &mut Vec<Change>) {
    let metric = || metric.to_owned();
    if let (Some(was), Some(is)) = (before.kind, after.kind)
        && was != is
    {
        changes.push(Change::TypeChanged { metric: metric(), before: was, after: is });
    }
    // A family without series shows no labels.
    let shows = |family: &Shaped| family.series != Some(0);
    if shows(before) && shows(after) {
        let gained = after.labels.difference(&before.labels).cloned();
        changes.extend(gained.map(|label| Change::LabelGained { metric: metric(), label }));
        let lost = before.labels.difference(&after.labels).cloned();
        changes.extend(lost.map(|label| Change::LabelLost { metric: metric(), label }));
    }
    if before.bounds != after.bounds && !before.bounds.is_empty() && !after.bounds.is_empty() {
        let without = |of: &[f64], other: &[f64]| of.iter().filter(|bound| !other.contains(bound)).copied().collect();
        let (gained, lost) = (without(&after.bounds, &before.bounds), without(&before.bounds, &after.bounds));
        changes.push(Change::BucketsChanged { metric: metric(), gained, lost });
    }
    if let (Some(was), Some(is)) = (before.series, after.series)
        && was.max(is) >= FEW
        && (was >= is.saturating_mul(FACTOR) || is >= was.saturating_mul(FACTOR))
    {
        changes.push(Change::SeriesChanged { metric: metric(), before: was, after: is });
    }
}

/// What differs between two shapes, and which readers that breaks. `known` are renames that are known: before, after. `page` says whose
/// series they are; its schema is not looked at.
pub fn diff(before: &Shape, after: &Shape, readers: &[Reader], known: &[(String, String)], page: &Page) -> Diff {
    let whole = (before, after);
    let bare = before.with_target != after.with_target;
    let stripped = bare.then(|| (before.without_target(), after.without_target()));
    let (before, after) = stripped.as_ref().map_or(whole, |(before, after)| (before, after));
    let gone: Vec<&String> = before.families.keys().filter(|name| !after.families.contains_key(*name)).collect();
    let new: Vec<&String> = after.families.keys().filter(|name| !before.families.contains_key(*name)).collect();
    let mut pairs: Vec<(f64, &String, &String)> = Vec::new();
    for (was, is) in known {
        if let (Ok(old), Ok(young)) = (gone.binary_search(&was), new.binary_search(&is)) {
            pairs.push((1.0, gone[old], new[young]));
        }
    }
    let not_compared = (gone.len().saturating_mul(new.len()) > MOST_PAIRS).then_some((gone.len(), new.len()));
    for old in gone.iter().filter(|_| not_compared.is_none()) {
        for young in &new {
            let alike = likeness((old, &before.families[*old]), (young, &after.families[*young]));
            if alike >= ALIKE {
                pairs.push((alike, old, young));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
    let mut changes = Vec::new();
    for (alike, old, young) in pairs {
        if from.contains(old) || to.contains(young) {
            continue;
        }
        from.insert(old);
        to.insert(young);
        let likeness = (alike * 100.0).round() / 100.0;
        changes.push(Change::Renamed { metric: old.clone(), to: young.clone(), likeness });
        of_one(old, &before.families[old], &after.families[young], &mut changes);
    }
    let recorded = |name: &str| after.rules.as_ref().is_some_and(|rules| rules.contains_key(name));
    let lost = gone.iter().filter(|name| !from.contains(*name)).map(|name| (*name).clone());
    changes.extend(lost.map(|metric| if recorded(&metric) { Change::BecameRule { metric } } else { Change::Removed { metric } }));
    changes.extend(new.iter().filter(|name| !to.contains(*name)).map(|name| Change::Added { metric: (*name).clone() }));
    for (name, family) in &before.families {
        if let Some(other) = after.families.get(name) {
            of_one(name, family, other, &mut changes);
        }
    }
    if let (Some(before), Some(after)) = (&before.rules, &after.rules) {
        let became = |change: &Change| matches!(change, Change::RuleAdded { metric, .. } if gone.contains(&metric) && !from.contains(metric));
        let mut renamed = known.to_vec();
        renamed.extend(changes.iter().filter_map(|change| {
            let Change::Renamed { metric, to, .. } = change else { return None };
            Some((metric.clone(), to.clone()))
        }));
        changes.extend(rules::diff(before, after, &renamed).into_iter().filter(|change| !became(change)));
    }
    changes.sort_by(|a, b| a.metric().cmp(b.metric()));
    let mut found = Diff { changes, not_compared, ..Diff::default() };
    if !readers.is_empty() {
        found.effects(readers, [whole.0, whole.1], page);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(page: &str) -> Shape {
        Shape::of_page(&metrics::parse(page).unwrap())
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        diff(&shape(before), &shape(after), &[], &[], &Page::default()).changes.iter().map(ToString::to_string).collect()
    }

    const REQUESTS: &str = "# HELP rest_client_requests_total Number of HTTP requests, by code, method and host.\n\
         # TYPE rest_client_requests_total counter\nrest_client_requests_total{code=\"200\",method=\"GET\",host=\"h\"} 1\n";

    #[test]
    fn a_rename_is_found_by_likeness() {
        let after =
            REQUESTS.replace("rest_client", "kubevirt_rest_client").replace("method=\"GET\"", "method=\"GET\",verb=\"LIST\"");
        let expected = [
            "rest_client_requests_total is called kubevirt_rest_client_requests_total now (87 % alike)",
            "rest_client_requests_total has a new label verb",
        ];
        assert_eq!(told(REQUESTS, &after), expected);
        assert!(diff(&shape(REQUESTS), &shape(&after), &[], &[], &Page::default()).breaks(&[]));
    }

    #[test]
    fn each_difference_has_its_line() {
        let histogram = |name: &str, bounds: &[&str]| {
            let buckets: String = bounds.iter().map(|bound| format!("{name}_bucket{{le=\"{bound}\"}} 1\n")).collect();
            format!("# TYPE {name} histogram\n{buckets}{name}_sum 1\n{name}_count 1\n")
        };
        let many: String = (0..30).map(|number| format!("m{{n=\"{number}\"}} 1\n")).collect();
        for (before, after, expected) in [
            (REQUESTS.to_owned(), REQUESTS.to_owned(), vec![]),
            ("# TYPE a gauge\na 1\n".to_owned(), "# TYPE a counter\na 1\n".to_owned(), vec!["a is a counter and was a gauge"]),
            ("a{x=\"1\"} 1\n".to_owned(), "a{y=\"1\"} 1\n".to_owned(), vec!["a has a new label y", "a has no label x any more"]),
            (histogram("h", &["1", "+Inf"]), histogram("h", &["2", "+Inf"]), vec!["h has other buckets: new {2}, gone {1}"]),
            ("m{n=\"1\"} 1\n".to_owned(), many, vec!["m has 30 series and had 1"]),
            ("apples 1\n".to_owned(), "pears 1\n".to_owned(), vec!["apples is gone", "pears is new"]),
            // Of another type it is another metric, unless it is a gauge that was a counter all along.
            (
                "# TYPE a_b summary\na_b_sum 1\n".to_owned(),
                "# TYPE a_b_c counter\na_b_c 1\n".to_owned(),
                vec!["a_b is gone", "a_b_c is new"],
            ),
            (
                "# TYPE vm_cpu_usage_seconds gauge\nvm_cpu_usage_seconds 1\n".to_owned(),
                "# TYPE vm_cpu_usage_seconds_total counter\nvm_cpu_usage_seconds_total 1\n".to_owned(),
                vec![
                    "vm_cpu_usage_seconds is called vm_cpu_usage_seconds_total now (61 % alike)",
                    "vm_cpu_usage_seconds is a counter and was a gauge",
                ],
            ),
        ] {
            assert_eq!(told(&before, &after), expected);
        }
    }

    #[test]
    fn of_very_many_metrics_only_known_renames_are_found() {
        let page = |prefix: &str| (0..3_000).map(|number| format!("{prefix}_{number}_total 1\n")).collect::<String>();
        let (before, after) = (shape(&page("old")), shape(&page("new")));
        let known = [("old_7_total".to_owned(), "new_7_total".to_owned())];
        let found = diff(&before, &after, &[], &known, &Page::default());
        assert_eq!(found.not_compared, Some((3_000, 3_000)));
        assert_eq!(found.changes.len(), 2 * 2_999 + 1);
        assert!(found.changes.iter().any(|change| matches!(change, Change::Renamed { to, .. } if to == "new_7_total")));
    }

    #[test]
    fn only_what_worked_before_is_broken() {
        let rules = "groups: [{name: g, rules: [{alert: A, expr: 'rest_client_requests_total > 1'}, {alert: B, expr: 'never_there > 1'},\
             {alert: C, expr: 'foreign > 1'}, {alert: D, expr: 'rest_client_requests_total{job=\"other\"} > 1'}, {alert: E, expr: 'sum('},\
             {alert: F, expr: 'never_there + rest_client_requests_total'}]}]";
        let readers = crate::readers(rules).unwrap().readers;
        let after = REQUESTS.replace("rest_client", "kubevirt_rest_client");
        let owned = crate::Owned { names: BTreeSet::from(["never_there".to_owned()]), ..crate::Owned::default() };
        let target = std::collections::BTreeMap::from([("job".to_owned(), vec!["own".to_owned()])]);
        let page = Page { owned, target, ..Page::default() };
        let found = diff(&shape(REQUESTS), &shape(&after), &readers, &[], &page);
        let named = |effects: &[Effect]| effects.iter().map(|one| format!("{}: {}", one.reader, one.finding)).collect::<Vec<_>>();
        assert_eq!(
            named(&found.broken),
            [
                "alert A: there is no metric rest_client_requests_total; nearest is kubevirt_rest_client_requests_total",
                "alert F: there is no metric rest_client_requests_total; nearest is kubevirt_rest_client_requests_total"
            ]
        );
        assert_eq!(
            named(&found.broken_before),
            ["alert B: there is no metric never_there", "alert F: there is no metric never_there"]
        );
        assert_eq!(found.not_read.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4]);
        let others: Vec<String> = found.not_at_hand.iter().map(ToString::to_string).collect();
        assert_eq!(others, ["foreign", "rest_client_requests_total of job other"]);
        assert!(found.breaks(&readers) && !diff(&shape(REQUESTS), &shape(REQUESTS), &readers, &[], &page).breaks(&readers));
    }

    #[test]
    fn what_was_broken_before_is_so_whatever_is_nearest() {
        let readers = crate::readers("groups: [{name: g, rules: [{alert: A, expr: 'kubevirt_vmi > 1'}]}]").unwrap().readers;
        let owned = crate::Owned { names: BTreeSet::from(["kubevirt_vmi".to_owned()]), ..crate::Owned::default() };
        let page = Page { owned, ..Page::default() };
        let found = diff(&shape("kubevirt_vm 1\n"), &shape("kubevirt_vmis 1\n"), &readers, &[], &page);
        assert_eq!((found.broken.len(), found.broken_before.len()), (0, 1));
        // A metric that comes without the label was no better before.
        let readers = crate::readers("groups: [{name: g, rules: [{alert: A, expr: 'new{a=\"b\"} > 1'}]}]").unwrap().readers;
        let found = diff(&shape("old 1\n"), &shape("new 1\n"), &readers, &[], &page);
        assert_eq!((found.broken.len(), found.broken_before.len()), (0, 1));
    }

    proptest::proptest! {
        #[test]
        fn a_shape_does_not_differ_from_itself(names in proptest::collection::btree_set("[a-c]{1,3}(_total)?", 0..8)) {
            let page: String = names.iter().map(|name| format!("{name}{{x=\"1\"}} 1\n")).collect();
            assert_eq!(told(&page, &page), Vec::<String>::new());
        }
    }
}
