//! Recording rules and alerts as part of what is exposed: who reads a recording rule, or is woken by an alert, depends on them too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::diff::Change;
use crate::expression::asked_for;

/// A rule, without what it says to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ruled {
    /// PromQL, with single spaces.
    pub expression: String,
    /// The metrics that it reads.
    pub reads: BTreeSet<String>,
    /// Whether it is an alert.
    pub alert: bool,
    /// How long an alert is pending; empty for not at all.
    pub pending: String,
    /// An alert's severity; empty where it has none.
    pub severity: String,
    /// The labels that it adds.
    pub labels: BTreeSet<String>,
}

impl Ruled {
    fn word(&self) -> &'static str {
        if self.alert { "alert" } else { "recording rule" }
    }
}

/// How often a metric has changed its name at most: more would go round in a circle.
const MAX_RENAMES: usize = 9;

/// All rules by name. Some names have more than one rule.
pub type Rules = BTreeMap<String, Vec<Ruled>>;

/// The rules of a PrometheusRule's or rule file's `groups`.
pub fn rules(groups: &Value) -> Rules {
    let mut rules = Rules::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for rule in groups.as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
        let alert = rule["alert"].is_string();
        let name = if alert { &rule["alert"] } else { &rule["record"] };
        let expression = text(&rule["expr"]).split_whitespace().collect::<Vec<_>>().join(" ");
        let (reads, pending) = (asked_for(&expression), text(&rule["for"]));
        let labels = rule["labels"].as_object().into_iter().flat_map(|labels| labels.keys().cloned()).collect();
        let ruled = Ruled { expression, reads, alert, pending, severity: text(&rule["labels"]["severity"]), labels };
        rules.entry(text(name)).or_default().push(ruled);
    }
    rules.values_mut().for_each(|same| same.sort());
    rules
}

/// What differs between two sets of rules. Of expressions it is what they read: the same can be worded in many ways. `known` are metrics
/// and rules that have another name; a rule that follows them reads what it read.
pub(crate) fn diff(before: &Rules, after: &Rules, known: &[(String, String)]) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone: BTreeSet<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    let new: BTreeSet<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    let mut renamed: BTreeMap<&String, &String> = BTreeMap::new();
    for old in &gone {
        let named = known.iter().find(|(was, is)| was == *old && new.contains(is)).map(|(_, is)| is);
        // A rule that reads the same is the same.
        let alike =
            || new.iter().copied().find(|young| after[*young] == before[*old] && !renamed.values().any(|taken| taken == young));
        if let Some(young) = named.or_else(alike) {
            renamed.insert(old, young);
        }
    }
    let word = |rules: &[Ruled]| rules.first().map_or("rule", Ruled::word).to_owned();
    for name in gone {
        let metric = name.clone();
        changes.push(match renamed.get(name) {
            Some(to) => Change::RuleRenamed { metric, to: (*to).clone(), rule: word(&before[name]) },
            None => Change::RuleRemoved { metric, rule: word(&before[name]) },
        });
    }
    for name in new.into_iter().filter(|name| !renamed.values().any(|taken| taken == name)) {
        changes.push(Change::RuleAdded { metric: name.clone(), rule: word(&after[name]) });
    }
    for (name, was) in before {
        let Some(is) = after.get(renamed.get(name).copied().unwrap_or(name)) else { continue };
        let step = |metric: &str| renamed.get(&metric.to_owned()).map(|now| (*now).clone()).or_else(|| follow(metric, known));
        changes.extend(of_one(name, was, is, &step));
    }
    changes
}

/// The new name of a metric, or of a series of a histogram.
fn follow(metric: &str, known: &[(String, String)]) -> Option<String> {
    ["", "_bucket", "_sum", "_count"].into_iter().find_map(|part| {
        let family = metric.strip_suffix(part)?;
        known.iter().find(|(was, _)| was == family).map(|(_, is)| format!("{is}{part}"))
    })
}

/// What differs between the rules of one name. `step` gives what a metric was called next, if it got another name.
fn of_one(name: &str, was: &[Ruled], is: &[Ruled], step: &dyn Fn(&str) -> Option<String>) -> Vec<Change> {
    let told = |of: &[Ruled], field: fn(&Ruled) -> String| of.iter().map(field).collect::<Vec<_>>().join(" / ");
    type Field = (&'static str, fn(&Ruled) -> String);
    let fields: [Field; 3] = [
        ("reads", |rule| rule.reads.iter().cloned().collect::<Vec<_>>().join(", ")),
        ("for", |rule| rule.pending.clone()),
        ("severity", |rule| rule.severity.clone()),
    ];
    // Of several rules of one name it does not matter which of them reads what.
    let reads = |of: &[Ruled]| of.iter().flat_map(|rule| &rule.reads).cloned().collect::<BTreeSet<String>>();
    let after = reads(is);
    // A name may have changed more than once between two releases, and not at all if it is read still.
    let latest = |metric: String| {
        let mut names = std::iter::successors(Some(metric.clone()), |name| step(name)).take(MAX_RENAMES);
        names.find(|name| after.contains(name)).unwrap_or(metric)
    };
    let follows = reads(was).into_iter().map(latest).collect::<BTreeSet<_>>() == after;
    let differs = fields.into_iter().filter_map(|(field, of)| {
        let (before, after) = (told(was, of), told(is, of));
        (before != after && !(field == "reads" && follows)).then(|| Change::RuleChanged {
            metric: name.to_owned(),
            field: field.to_owned(),
            before,
            after,
        })
    });
    differs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Rules {
        rules(&wire::yaml::first_document(text).unwrap())
    }

    #[test]
    fn rules_are_told_apart_by_what_they_do() {
        let before = of(
            "[{rules: [{record: a, expr: up}, {record: gone, expr: b}, {alert: A, expr: 'a ==  0', for: 5m, labels: {severity: critical}}, {alert: B, expr: a + b}]}]",
        );
        let after = of(
            "[{rules: [{record: c, expr: up}, {record: new, expr: d}, {alert: A, expr: 'c == 0', for: 10m, labels: {severity: warning}}, {alert: B, expr: c + e}]}]",
        );
        let told: Vec<String> = diff(&before, &after, &[]).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "the recording rule a is called c now",
                "the recording rule gone is gone",
                "the recording rule new is new",
                "A is pending for 10m and was for 5m",
                "A has severity warning and had critical",
                "B reads c, e and read a, b",
            ]
        );
        assert_eq!(diff(&before, &before, &[]), []);
        let known = [("gone".to_owned(), "new".to_owned())];
        assert!(
            diff(&before, &after, &known).iter().any(|change| change.to_string() == "the recording rule gone is called new now")
        );
    }
}
