//! Mutants of scenarios: one thing is changed at a time, and the scenario must fail. One that still passes shows that nothing depends
//! on what was changed.
//!
//! What is expected is changed in place: an expectation changes nothing in a lab, so its mutants are looked at right after it held, in
//! the same run ([`crate::run::probe`]). A change of what is done, such as a fault that is left out, needs a run of its own
//! ([`reruns`]).

use crate::model::{Check, LogCheck, ObjectCheck, PageCheck, Placed, QueryCheck, RuleCheck, State, Step, TargetCheck, Wait};
use crate::place::Place;
use crate::variant::Variation;
use crate::word::{AlertState, LabelPatterns, Pattern};

/// What stands for something that is not there.
const NOWHERE: &str = "mutant";

/// A changed expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// What was changed, such as `equals 2 → 3`.
    pub what: String,
    /// What is expected then.
    pub check: Check,
}

/// A variant of a scenario in which something else is done.
#[derive(Clone, Debug)]
pub struct Rerun {
    /// What was changed.
    pub what: String,
    /// Where the file has it.
    pub at: Option<Place>,
    /// What is run.
    pub variation: Variation,
}

/// Labels with one of them changed.
fn labels(labels: &LabelPatterns) -> Vec<(String, LabelPatterns)> {
    labels
        .iter()
        .map(|(name, pattern)| {
            let mut changed = labels.clone();
            changed.insert(name.clone(), Pattern::new(NOWHERE));
            (format!("label {name} {:?} → {NOWHERE:?}", pattern.text()), changed)
        })
        .collect()
}

fn one_more(word: &str, count: usize) -> String {
    format!("{word} {count} → {}", count + 1)
}

impl Check {
    /// The expectation with one thing changed, in every way that is known; none of them may hold where this one does.
    pub fn mutants(&self) -> Vec<Changed> {
        let of = |what: String, check: Self| Changed { what, check };
        match self {
            Self::Query(query) => of_query(query),
            Self::Targets(TargetCheck::AllUp | TargetCheck::Expected) => {
                vec![of("all targets → no target".to_owned(), Self::Targets(TargetCheck::Count(0)))]
            }
            Self::Targets(TargetCheck::Count(count)) => {
                vec![of(one_more("count", *count), Self::Targets(TargetCheck::Count(count + 1)))]
            }
            Self::Targets(TargetCheck::AllUpOf(count)) => {
                vec![of(one_more("count", *count), Self::Targets(TargetCheck::AllUpOf(count + 1)))]
            }
            Self::Alerts(alerts) => {
                let state = match alerts.state {
                    AlertState::Inactive | AlertState::Resolved => AlertState::Firing,
                    AlertState::Pending | AlertState::Firing => AlertState::Inactive,
                };
                let mut changed = alerts.clone();
                changed.state = state;
                changed.labels.clear();
                let mut mutants = vec![of(format!("state {} → {state}", alerts.state), Self::Alerts(changed))];
                for (index, name) in alerts.names.iter().enumerate() {
                    let mut changed = alerts.clone();
                    changed.names[index] = format!("{name}Mutant");
                    mutants.push(of(format!("alert {name} → {name}Mutant"), Self::Alerts(changed)));
                }
                mutants.extend(labels(&alerts.labels).into_iter().map(|(what, labels)| {
                    let mut changed = alerts.clone();
                    changed.labels = labels;
                    of(what, Self::Alerts(changed))
                }));
                mutants
            }
            Self::Notification(wanted) => {
                let mut changed = wanted.clone();
                let what = match wanted.count {
                    Some(count) => one_more("count", count),
                    None => "at least one → count 0".to_owned(),
                };
                changed.count = Some(wanted.count.map_or(0, |count| count + 1));
                let mut mutants = vec![of(what, Self::Notification(changed))];
                if wanted.count != Some(0) {
                    let mut changed = wanted.clone();
                    changed.alert = Pattern::new(format!("{}Mutant", wanted.alert));
                    mutants.push(of(format!("alert {} → {}", wanted.alert, changed.alert), Self::Notification(changed)));
                    mutants.extend(labels(&wanted.labels).into_iter().map(|(what, labels)| {
                        let mut changed = wanted.clone();
                        changed.labels = labels;
                        of(what, Self::Notification(changed))
                    }));
                }
                mutants
            }
            Self::Rules(rules) => of_rules(rules),
            Self::Logs(logs) => of_logs(logs),
            Self::Why(why) => {
                let mut changed = why.clone();
                changed.contains = format!("{} {NOWHERE}", why.contains);
                vec![of(format!("contains {:?} → {:?}", why.contains, changed.contains), Self::Why(changed))]
            }
            Self::Page(page) => of_page(page),
            Self::Object(object) => of_object(object),
            Self::Contract(contract) => {
                let mut changed = contract.clone();
                changed.reads.push("kubevirt_mutant".to_owned());
                vec![of("reads also kubevirt_mutant".to_owned(), Self::Contract(changed))]
            }
        }
    }
}

/// An expression with one of its comparisons negated, in every way. What stands in quotes or braces is no comparison of the expression.
fn negated(expression: &str) -> Vec<(String, String)> {
    const OPERATORS: [(&str, &str); 6] = [("==", "!="), ("!=", "=="), (">=", "<"), ("<=", ">"), (">", "<="), ("<", ">=")];
    let (mut quote, mut depth, mut found) = (None, 0usize, Vec::new());
    let mut rest = expression.char_indices();
    while let Some((at, letter)) = rest.next() {
        match (quote, letter) {
            (Some('"' | '\''), '\\') => drop(rest.next()),
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(letter),
            (None, '{') => depth += 1,
            (None, '}') => depth = depth.saturating_sub(1),
            (None, _) if depth == 0 => {
                let after = &expression[at..];
                let Some((operator, opposite)) = OPERATORS.iter().find(|(operator, _)| after.starts_with(operator)) else {
                    continue;
                };
                let changed = format!("{}{opposite}{}", &expression[..at], &after[operator.len()..]);
                found.push((format!("{operator} → {opposite}"), changed));
                if operator.len() == 2 {
                    rest.next();
                }
            }
            (None, _) => {}
        }
    }
    found
}

fn of_query(query: &QueryCheck) -> Vec<Changed> {
    let mut mutants = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut QueryCheck)| {
        let mut changed = query.clone();
        change(&mut changed);
        mutants.push(Changed { what, check: Check::Query(changed) });
    };
    let number = metrics::go_float;
    if let Some(wanted) = query.equals {
        add(format!("equals {} → {}", number(wanted), number(wanted + 1.0)), &|query| query.equals = Some(wanted + 1.0));
    }
    if let Some(least) = query.at_least {
        add(format!("at least {0} → below {0}", number(least)), &|query| {
            (query.at_least, query.at_most) = (None, Some(least.next_down()));
        });
    }
    if let Some(most) = query.at_most {
        add(format!("at most {0} → above {0}", number(most)), &|query| {
            (query.at_most, query.at_least) = (None, Some(most.next_up()));
        });
    }
    match query.series {
        Some(count) => add(one_more("series", count), &|query| query.series = Some(count + 1)),
        None if query.equals.is_none() && query.at_least.is_none() && query.at_most.is_none() => {
            add("at least one series → none".to_owned(), &|query| query.series = Some(0));
        }
        None => {}
    }
    for (what, labels) in labels(&query.labels) {
        add(what, &|query| query.labels.clone_from(&labels));
    }
    for (what, expression) in negated(&query.expr) {
        add(what, &|query| query.expr.clone_from(&expression));
    }
    mutants
}

fn of_rules(rules: &RuleCheck) -> Vec<Changed> {
    let mut mutants = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut RuleCheck)| {
        let mut changed = rules.clone();
        change(&mut changed);
        mutants.push(Changed { what, check: Check::Rules(changed) });
    };
    match rules.count {
        Some(count) => add(one_more("count", count), &|rules| rules.count = Some(count + 1)),
        None => add("at least one → count 0".to_owned(), &|rules| rules.count = Some(0)),
    }
    if let Some(firing) = &rules.firing {
        add("one more fires".to_owned(), &|rules| {
            rules.firing = Some(firing.iter().cloned().chain([NOWHERE.to_owned()]).collect());
        });
        for (index, name) in firing.iter().enumerate() {
            add(format!("{name} does not fire"), &|rules| {
                let mut fewer = firing.clone();
                fewer.remove(index);
                rules.firing = Some(fewer);
            });
        }
    }
    mutants
}

fn of_logs(logs: &LogCheck) -> Vec<Changed> {
    let mut mutants = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut LogCheck)| {
        let mut changed = logs.clone();
        change(&mut changed);
        mutants.push(Changed { what, check: Check::Logs(changed) });
    };
    match logs.count {
        Some(count) => add(one_more("count", count), &|logs| logs.count = Some(count + 1)),
        None => add("at least one line → none".to_owned(), &|logs| logs.count = Some(0)),
    }
    if logs.count != Some(0) {
        for (index, part) in logs.contains.iter().enumerate() {
            add(format!("contains {part:?} → {NOWHERE:?}"), &|logs| logs.contains[index] = NOWHERE.to_owned());
        }
    }
    mutants
}

fn of_page(page: &PageCheck) -> Vec<Changed> {
    let mut mutants = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut PageCheck)| {
        let mut changed = page.clone();
        change(&mut changed);
        mutants.push(Changed { what, check: Check::Page(changed) });
    };
    if let Some(count) = page.series {
        add(one_more("series", count), &|page| page.series = Some(count + 1));
    }
    if let Some(most) = page.at_most_series {
        add(format!("at most {most} series → {}", most + 1), &|page| {
            (page.at_most_series, page.series) = (None, Some(most + 1));
        });
    }
    if page.series.is_none() && page.at_most_series.is_none() {
        add("at least one series → none".to_owned(), &|page| {
            (page.series, page.equals, page.sum_at_least) = (Some(0), None, None);
        });
    }
    if let Some(wanted) = page.equals {
        let number = metrics::go_float;
        add(format!("equals {} → {}", number(wanted), number(wanted + 1.0)), &|page| page.equals = Some(wanted + 1.0));
    }
    // Where no series is expected, none with another label is one of what is expected.
    if page.series != Some(0) && page.at_most_series.is_none() {
        for (what, labels) in labels(&page.labels) {
            add(what, &|page| page.labels.clone_from(&labels));
        }
    }
    mutants
}

fn of_object(object: &ObjectCheck) -> Vec<Changed> {
    let mut mutants = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut ObjectCheck)| {
        let mut changed = object.clone();
        change(&mut changed);
        mutants.push(Changed { what, check: Check::Object(changed) });
    };
    match object.count {
        Some(count) => add(one_more("count", count), &|object| object.count = Some(count + 1)),
        None => add("at least one → none".to_owned(), &|object| object.count = Some(0)),
    }
    if object.count != Some(0) {
        for (what, fields) in labels(&object.fields) {
            add(what.replacen("label", "field", 1), &|object| object.fields.clone_from(&fields));
        }
        if let Some(part) = &object.contains {
            add(format!("contains {part:?} → {NOWHERE:?}"), &|object| object.contains = Some(NOWHERE.to_owned()));
        }
    }
    mutants
}

/// Whether a step is about the fault of a name.
fn is_about(step: &Step, fault: &str) -> bool {
    match step {
        Step::Fault(rule) => rule.name == fault,
        Step::ClearFault(name) | Step::Wait(Wait { state: State::FaultSpent(name), .. }) => name == fault,
        Step::Wait(_) | Step::ClearFaults | Step::Delete(_) | Step::Apply(_) => false,
    }
}

/// The variant with something else done, in every way that is known: each fault left out, each fault with twice its budget. None of a
/// variant that must fail: it would fail for another reason, and its twin that must pass has the same faults.
pub fn reruns(variation: &Variation) -> Vec<Rerun> {
    if !variation.fails.is_empty() {
        return Vec::new();
    }
    let mut reruns = Vec::new();
    let steps = &variation.scenario.steps;
    let with = |steps: Vec<Placed<Step>>| {
        let mut changed = variation.clone();
        changed.scenario.steps = steps;
        // What comes of other requests is no matter of the expectations.
        changed.scenario.reconcile = None;
        changed.scenario.snapshots.clear();
        changed
    };
    for (index, Placed { at, value }) in steps.iter().enumerate() {
        let Step::Fault(rule) = value else { continue };
        let only_one = steps.iter().filter(|step| matches!(step.value, Step::Fault(_))).count() == 1;
        let left = steps.iter().filter(|step| !is_about(&step.value, &rule.name));
        let left = left.filter(|step| !(only_one && matches!(step.value, Step::ClearFaults)));
        reruns.push(Rerun { what: format!("without fault {:?}", rule.name), at: *at, variation: with(left.cloned().collect()) });
        if let Some(first) = rule.budget.first {
            let mut doubled = rule.clone();
            doubled.budget.first = Some(first * 2);
            let mut changed = steps.clone();
            changed[index].value = Step::Fault(doubled);
            reruns.push(Rerun {
                what: format!("fault {:?}: first {first} → {}", rule.name, first * 2),
                at: *at,
                variation: with(changed),
            });
        }
    }
    reruns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::scenario;

    fn mutants(expectation: &str) -> Vec<String> {
        let text = format!("description: x\nsteps: [{{wait: {{up: true}}}}]\nexpect:\n  - {expectation}\n");
        scenario(&text).expect[0].value.check.mutants().into_iter().map(|mutant| mutant.what).collect()
    }

    #[test]
    fn every_number_label_and_name_is_changed_once() {
        for (expectation, expected) in [
            ("query: {expr: up}", vec!["at least one series → none"]),
            (
                "query: {expr: up, equals: 2, series: 1, labels: {pod: a}}",
                vec!["equals 2 → 3", "series 1 → 2", "label pod \"a\" → \"mutant\""],
            ),
            ("query: {expr: up, atLeast: 1, atMost: 3}", vec!["at least 1 → below 1", "at most 3 → above 3"]),
            ("query: {expr: 'rate(up{a!=\"<b\"}[1m]) >= 2 or up == 1'}", vec!["at least one series → none", ">= → <", "== → !="]),
            ("targets: {allUp: true}", vec!["all targets → no target"]),
            ("targets: {count: 8}", vec!["count 8 → 9"]),
            (
                "alerts: {names: [VirtAPIDown], state: inactive}",
                vec!["state inactive → firing", "alert VirtAPIDown → VirtAPIDownMutant"],
            ),
            ("notification: {alert: 'Virt*', count: 0}", vec!["count 0 → 1"]),
            (
                "notification: {alert: 'Virt*', labels: {a: b}}",
                vec!["at least one → count 0", "alert Virt* → Virt*Mutant", "label a \"b\" → \"mutant\""],
            ),
            (
                "rules: {health: ok, count: 2, firing: [VirtAPIDown]}",
                vec!["count 2 → 3", "one more fires", "VirtAPIDown does not fire"],
            ),
            (
                "logs: {pod: virt-api, contains: [a, b], count: 2}",
                vec!["count 2 → 3", "contains \"a\" → \"mutant\"", "contains \"b\" → \"mutant\""],
            ),
            ("logs: {pod: virt-api, contains: [a], count: 0}", vec!["count 0 → 1"]),
            ("why: {ask: up, contains: a}", vec!["contains \"a\" → \"a mutant\""]),
            ("page: {pod: virt-api, metric: kubevirt_info, labels: {code: a}, atMostSeries: 0}", vec!["at most 0 series → 1"]),
            (
                "page: {pod: virt-api, metric: kubevirt_info, series: 1, equals: 1, labels: {code: a}}",
                vec!["series 1 → 2", "equals 1 → 2", "label code \"a\" → \"mutant\""],
            ),
            (
                "object: {resource: pods, fields: {status.phase: Running}}",
                vec!["at least one → none", "field status.phase \"Running\" → \"mutant\""],
            ),
            ("contract: {reads: [up]}", vec!["reads also kubevirt_mutant"]),
        ] {
            assert_eq!(mutants(expectation), expected, "{expectation}");
        }
    }

    #[test]
    fn comparisons_are_negated_where_they_compare() {
        for (expression, expected) in [
            ("up", vec![]),
            ("up > 0", vec!["up <= 0"]),
            ("up < bool 1 != 3", vec!["up >= bool 1 != 3", "up < bool 1 == 3"]),
            (
                r#"label_replace(up{a="}>"}, "a", "\"<", 'b', `>=`) == 1"#,
                vec![r#"label_replace(up{a="}>"}, "a", "\"<", 'b', `>=`) != 1"#],
            ),
        ] {
            let changed: Vec<String> = negated(expression).into_iter().map(|(_, changed)| changed).collect();
            assert_eq!(changed, expected, "{expression}");
        }
    }

    #[test]
    fn faults_are_left_out_and_doubled_with_what_is_about_them() {
        let text = "description: x\nsteps:\n  - fault: {name: a, effect: {reset: {}}, budget: {first: 2}}\n  - wait: {faultSpent: a}\n  - wait: {up: true}\n  - clearFaults: true\n";
        let reruns = reruns(&scenario(text).variations()[0]);
        let what: Vec<(&str, usize)> =
            reruns.iter().map(|rerun| (rerun.what.as_str(), rerun.variation.scenario.steps.len())).collect();
        assert_eq!(what, [("without fault \"a\"", 1), ("fault \"a\": first 2 → 4", 4)]);
        assert_eq!(reruns[0].at.map(|at| at.line), Some(3));
    }
}
