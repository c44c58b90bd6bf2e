//! Running a checked scenario against a lab.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Labels, Normaliser, Sample, Series, render};

use crate::file::{
    AlertExpectation, Check, Expectation, LogExpectation, NotificationExpectation, QueryExpectation, RuleExpectation,
    SnapshotSpec, Step, TargetExpectation, Wait, duration,
};
use crate::lab::{Lab, LabError, Notification};
use crate::look;
use crate::needs::Need;
use crate::reconcile::{self, Cause, Counter, Reconciliation};
use crate::report::{Line, Report, SnapshotText, Verdict};
use crate::variant::Variation;

/// How often a state is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// How long a state may take without a time of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// A snapshot is taken when so many looks in a row, a scrape apart, show the same.
const STEADY: usize = 3;
/// Longer than a scrape interval of the lab.
const SCRAPE: Duration = Duration::from_millis(1_100);

/// What was seen: it holds, or not yet.
pub(crate) type Seen = Result<String, String>;

/// Runs a variant of a scenario on one release. A step that fails ends the run; every expectation is looked at. The report of a variant
/// that must fail is turned round.
pub async fn run(name: &str, release: &str, provider: &str, variation: &Variation, lab: &dyn Lab) -> Report {
    let name = variation.word.map_or_else(|| name.to_owned(), |word| format!("{name} ({word})"));
    let report = of_one(&name, release, provider, variation, lab).await;
    if report.not_runnable.is_some() { report } else { variation.turned(report) }
}

async fn of_one(name: &str, release: &str, provider: &str, variation: &Variation, lab: &dyn Lab) -> Report {
    let scenario = &variation.scenario;
    let mut report = Report {
        scenario: name.to_owned(),
        release: release.to_owned(),
        provider: provider.to_owned(),
        not_runnable: None,
        lines: Vec::new(),
        snapshots: Vec::new(),
    };
    let lacking: Vec<&str> =
        scenario.needs().into_iter().filter(|need| need.is_essential() && lab.lacks().contains(need)).map(Need::told).collect();
    if !lacking.is_empty() {
        report.not_runnable = Some(format!("it needs {}", lacking.join(" and ")));
        return report;
    }
    let start = lab.now();
    let push = |report: &mut Report, what: String, seen: Seen| {
        let verdict = match seen {
            Ok(seen) => Verdict::Passed { seen },
            Err(why) => Verdict::Failed { why },
        };
        report.lines.push(Line { at: lab.now().saturating_sub(start), what, verdict });
    };
    let skip = |report: &mut Report, what: String, need: Need| {
        let verdict = Verdict::Skipped { why: format!("this provider has no {}", need.told().trim_start_matches("a ")) };
        report.lines.push(Line { at: lab.now().saturating_sub(start), what, verdict });
    };
    for step in &scenario.steps {
        if let Some(wanted) = step.wait.as_ref().and_then(|wait| wait.notification.as_ref())
            && lab.lacks().contains(&Need::Notifications)
        {
            skip(&mut report, format!("wait to be {}", describe(Check::Notification(wanted))), Need::Notifications);
            continue;
        }
        let (what, seen) = do_step(step, lab).await;
        let failed = seen.is_err();
        push(&mut report, what, seen);
        if failed {
            return report;
        }
    }
    for expectation in &scenario.expect {
        if !expectation.only.is_empty() && !expectation.only.iter().any(|only| only == release) {
            continue;
        }
        if let Some(wanted) = expectation.notification.as_ref().filter(|_| lab.lacks().contains(&Need::Notifications)) {
            skip(&mut report, describe(Check::Notification(wanted)), Need::Notifications);
            continue;
        }
        let (what, seen) = expect(expectation, variation, lab).await;
        push(&mut report, what, seen);
    }
    if scenario.reconcile {
        let what = "the ledger equals the counters, for every code".to_owned();
        if lab.lacks().contains(&Need::Ledger) {
            skip(&mut report, what, Need::Ledger);
        } else {
            let seen = reconcile_all(lab).await;
            push(&mut report, what, seen);
        }
    }
    if !scenario.snapshot.is_empty() {
        match take_snapshots(&scenario.snapshot, lab).await {
            Ok(texts) => {
                for (spec, text) in scenario.snapshot.iter().zip(texts) {
                    push(&mut report, format!("snapshot {}", spec.name), Ok(format!("{} lines", text.lines().count())));
                    report.snapshots.push(SnapshotText { name: spec.name.clone(), text });
                }
            }
            Err(why) => push(&mut report, "snapshots".to_owned(), Err(why)),
        }
    }
    report
}

pub(crate) fn fill(text: &str, lab: &dyn Lab) -> String {
    text.replace("{requests}", &lab.requests_metric()).replace("{namespace}", &lab.namespace())
}

async fn do_step(step: &Step, lab: &dyn Lab) -> (String, Seen) {
    let told = |result: Result<String, LabError>| result.map_err(|error| error.to_string());
    match step {
        Step { wait: Some(wait), .. } => do_wait(wait, lab).await,
        Step { fault: Some(rule), .. } => {
            let result = lab.arm(rule.clone()).await.map(|()| String::new());
            (format!("fault {:?} armed: {}", rule.name, rule.effect.name()), told(result))
        }
        Step { delete: Some(delete), .. } => {
            let mut delete = delete.clone();
            delete.namespace = fill(&delete.namespace, lab);
            let result = lab.delete(&delete).await.and_then(|count| match count {
                0 => Err(LabError("nothing matched".to_owned())),
                count => Ok(format!("{count} deleted")),
            });
            let which = delete.name.as_deref().or(delete.labels.as_deref()).unwrap_or_default();
            (format!("delete {} {which}", delete.resource), told(result))
        }
        Step { apply: Some(object), .. } => {
            let text = fill(&object.to_string(), lab);
            let object = serde_json::from_str(&text).unwrap_or_default();
            let what = format!("apply {}", kind_and_name(&object));
            (what, told(lab.apply(object).await.map(|()| String::new())))
        }
        Step { clear_fault: Some(name), .. } => {
            let result = lab.clear_faults(Some(name)).await.and_then(|count| match count {
                0 => Err(LabError("no such fault is armed".to_owned())),
                _ => Ok(String::new()),
            });
            (format!("fault {name:?} cleared"), told(result))
        }
        _ => ("faults cleared".to_owned(), told(lab.clear_faults(None).await.map(|_| String::new()))),
    }
}

fn kind_and_name(object: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

async fn do_wait(wait: &Wait, lab: &dyn Lab) -> (String, Seen) {
    let within = duration(&wait.within).unwrap_or(PATIENCE);
    if let Some(query) = &wait.query {
        let seen = eventually(lab, within, || look_query(query, lab)).await;
        return (format!("wait for {}", query.expr), seen);
    }
    if let Some(wanted) = &wait.notification {
        let seen = eventually(lab, within, || look_notification(wanted, lab)).await;
        return (format!("wait to be {}", describe(Check::Notification(wanted))), seen);
    }
    if let Some(check) = wait.page.as_ref().map(Check::Page).or(wait.object.as_ref().map(Check::Object)) {
        return (format!("wait for {}", describe(check)), eventually(lab, within, || look(check, lab)).await);
    }
    if let Some(name) = &wait.fault_spent {
        let look = || async move {
            let faults = lab.faults().await.map_err(|error| error.to_string())?;
            match faults.iter().find(|(fault, ..)| fault == name) {
                Some((_, hits, Some(budget))) if hits >= budget => Ok(format!("{hits} of {budget}")),
                Some((_, hits, budget)) => Err(format!("fault {name:?} decided {hits} of {budget:?}")),
                None => Err(format!("no fault {name:?} is armed")),
            }
        };
        return (format!("wait for fault {name:?} to be spent"), eventually(lab, within, look).await);
    }
    if wait.targets.is_some() {
        let all_up = TargetExpectation { all_up: Some(true), count: None };
        return ("wait for all targets".to_owned(), eventually(lab, within, || look_targets(&all_up, lab)).await);
    }
    let look = || async move {
        let missing = lab.missing().await.map_err(|error| error.to_string())?;
        if missing.is_empty() { Ok(String::new()) } else { Err(missing.join(", ")) }
    };
    ("wait for all pods".to_owned(), eventually(lab, within, look).await)
}

/// Looks until it holds; the error quotes the last look.
async fn eventually<F, Fut>(lab: &dyn Lab, within: Duration, mut look: F) -> Seen
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Seen>,
{
    let deadline = lab.now() + within;
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(last) if lab.now() >= deadline => {
                return Err(format!("not within {} s; last seen: {last}", within.as_secs_f64()));
            }
            Err(_) => lab.pause(EVERY).await,
        }
    }
}

async fn expect(expectation: &Expectation, variation: &Variation, lab: &dyn Lab) -> (String, Seen) {
    let hold = expectation.hold.as_deref().and_then(duration);
    let Some(check) = expectation.check() else { return ("nothing".to_owned(), Ok(String::new())) };
    let what = describe(check);
    let patience = variation.patience(&what).or(expectation.within.as_deref());
    let within = patience.and_then(duration).unwrap_or(PATIENCE);
    let seen = eventually(lab, within, || look(check, lab)).await;
    let (Ok(mut seen), Some(hold)) = (seen.clone(), hold) else { return (what, seen) };
    let end = lab.now() + hold;
    while lab.now() < end {
        lab.pause(EVERY).await;
        match look(check, lab).await {
            Ok(again) => seen = again,
            Err(broke) => return (what, Err(format!("it did not hold for {} s: {broke}", hold.as_secs_f64()))),
        }
    }
    (what, Ok(seen))
}

fn describe(check: Check<'_>) -> String {
    match check {
        Check::Query(query) => {
            let mut text = query.expr.split_whitespace().collect::<Vec<_>>().join(" ");
            for (word, value) in [("=", query.equals), (">=", query.at_least)] {
                if let Some(value) = value {
                    text = format!("{text} {word} {value}");
                }
            }
            text
        }
        Check::Targets(TargetExpectation { count: Some(count), .. }) => format!("{count} targets"),
        Check::Targets(_) => "all targets up".to_owned(),
        Check::Alerts(alerts) => format!("{} {}", alerts.names.join(", "), alerts.state),
        Check::Notification(wanted) => {
            let status = wanted.status.as_deref().unwrap_or("firing or resolved");
            format!("notified that {} is {status}", wanted.alert)
        }
        Check::Rules(wanted) => {
            let firing = wanted.firing.as_ref().map(|names| format!(", firing: {}", names.join(", ")));
            format!("rules {} {}{}", wanted.names.as_deref().unwrap_or("*"), wanted.health, firing.unwrap_or_default())
        }
        Check::Logs(logs) => format!("log of {}: {}", logs.pod, logs.contains.join(" … ")),
        Check::Why(why) => format!("asked why {}, the lab says: {}", why.ask, why.contains),
        Check::Page(page) => {
            let labels: Vec<String> = page.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            format!("page of {}: {}{labels}", page.pod, page.metric)
        }
        Check::Object(object) => {
            let fields: Vec<String> = object.fields.iter().map(|(path, value)| format!(" {path}={value}")).collect();
            let (name, contains) = (object.name.as_deref().unwrap_or_default(), object.contains.as_deref().unwrap_or_default());
            format!("{} {}/{name}{} {contains}", object.resource, object.namespace, fields.concat()).trim_end().to_owned()
        }
        Check::Contract(contract) => format!("there is what is read by {}", contract.reads.join(", ")),
    }
}

async fn look(check: Check<'_>, lab: &dyn Lab) -> Seen {
    match check {
        Check::Query(query) => look_query(query, lab).await,
        Check::Targets(targets) => look_targets(targets, lab).await,
        Check::Alerts(alerts) => look_alerts(alerts, lab).await,
        Check::Notification(wanted) => look_notification(wanted, lab).await,
        Check::Rules(wanted) => look_rules(wanted, lab).await,
        Check::Logs(logs) => look_logs(logs, lab).await,
        Check::Why(why) => {
            let said = lab.why(fill(&why.ask, lab)).await.map_err(|error| error.to_string())?;
            if said.contains(&fill(&why.contains, lab)) { Ok(said) } else { Err(said) }
        }
        Check::Page(page) => look::page(page, lab).await,
        Check::Object(object) => look::object(object, lab).await,
        Check::Contract(contract) => look::contract(contract, lab).await,
    }
}

pub(crate) fn list(samples: &[Sample]) -> String {
    if samples.is_empty() {
        return "no series".to_owned();
    }
    let lines: Vec<String> =
        samples.iter().take(10).map(|sample| format!("{} {}", sample.series, metrics::go_float(sample.value))).collect();
    lines.join("\n")
}

/// One `*` stands for anything.
pub(crate) fn fits(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => value.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => pattern == value,
    }
}

async fn look_query(query: &QueryExpectation, lab: &dyn Lab) -> Seen {
    let samples = lab.query(fill(&query.expr, lab)).await.map_err(|error| error.to_string())?;
    let count_fits = query.series.map_or(!samples.is_empty(), |wanted| samples.len() == wanted);
    let values_fit = samples.iter().all(|sample| {
        query.equals.is_none_or(|wanted| sample.value == wanted) && query.at_least.is_none_or(|least| sample.value >= least)
    });
    let labels_fit = samples
        .iter()
        .all(|sample| query.labels.iter().all(|(name, pattern)| fits(&fill(pattern, lab), sample.series.label(name))));
    if count_fits && values_fit && labels_fit { Ok(list(&samples)) } else { Err(list(&samples)) }
}

async fn look_targets(wanted: &TargetExpectation, lab: &dyn Lab) -> Seen {
    let targets = lab.targets().await.map_err(|error| error.to_string())?;
    let up = targets.iter().filter(|target| target.health == "up").count();
    let down: Vec<String> = targets
        .iter()
        .filter(|target| target.health != "up")
        .map(|target| format!("{} {} {}", target.scrape_url, target.health, target.last_error))
        .collect();
    let mut seen = format!("{up} of {} targets up", targets.len());
    if !down.is_empty() {
        seen = format!("{seen}\n{}", down.join("\n"));
    }
    let pods = lab.scraped_pods().await.map_err(|error| error.to_string())?;
    let all_up = wanted.all_up != Some(true) || (up == targets.len() && up == pods && up > 0);
    let count = wanted.count.is_none_or(|count| targets.len() == count);
    if all_up && count { Ok(seen) } else { Err(seen) }
}

/// Whether labels have all that is wanted of them.
fn labels_fit(wanted: &BTreeMap<String, String>, labels: &Labels, lab: &dyn Lab) -> bool {
    wanted.iter().all(|(name, pattern)| fits(&fill(pattern, lab), labels.get(name).map_or("", String::as_str)))
}

async fn look_alerts(wanted: &AlertExpectation, lab: &dyn Lab) -> Seen {
    let rules = lab.rules().await.map_err(|error| error.to_string())?;
    let resolved = wanted.state == "resolved";
    let state = if resolved { "inactive" } else { &wanted.state };
    let mut seen = Vec::new();
    let mut fine = true;
    for name in &wanted.names {
        let Some(rule) = rules.iter().find(|rule| rule.name == *name) else {
            fine = false;
            seen.push(format!("{name} is no rule of Prometheus"));
            continue;
        };
        let with_labels = rule.alerts.iter().any(|alert| labels_fit(&wanted.labels, &alert.labels, lab));
        fine &= rule.state == state && rule.health == "ok" && (wanted.labels.is_empty() || state == "inactive" || with_labels);
        let mut told = format!("{name} {} ({})", rule.state, rule.health);
        for alert in &rule.alerts {
            told = format!("{told}\n  {} {}", Series { name: String::new(), labels: alert.labels.clone() }, alert.state);
        }
        if resolved {
            let fired = format!("count_over_time(ALERTS{{alertname={name:?},alertstate=\"firing\"}}[1h])");
            let fired = lab.query(fired).await.map_err(|error| error.to_string())?;
            let fired = fired.iter().any(|sample| labels_fit(&wanted.labels, &sample.series.labels, lab));
            fine &= fired;
            told = format!("{told}, has {}fired", if fired { "" } else { "not " });
        }
        seen.push(told);
    }
    let seen = seen.join("\n");
    if fine { Ok(seen) } else { Err(seen) }
}

async fn look_rules(wanted: &RuleExpectation, lab: &dyn Lab) -> Seen {
    let rules = lab.rules().await.map_err(|error| error.to_string())?;
    let meant = |name: &str| wanted.names.as_deref().is_none_or(|pattern| fits(pattern, name));
    let rules: Vec<_> = rules.iter().filter(|rule| meant(&rule.name)).collect();
    let mut ill = rules.iter().filter(|rule| rule.health != wanted.health);
    let mut firing: Vec<&str> = rules.iter().filter(|rule| rule.state == "firing").map(|rule| rule.name.as_str()).collect();
    firing.sort_unstable();
    firing.dedup();
    let seen =
        format!("{} rules, firing: {}", rules.len(), if firing.is_empty() { "none".to_owned() } else { firing.join(", ") });
    if let Some(rule) = ill.next() {
        return Err(format!("{seen}\n{} is {} {}", rule.name, rule.health, rule.last_error));
    }
    let count_fits = wanted.count.map_or(!rules.is_empty(), |count| rules.len() == count);
    let firing_fits = wanted.firing.as_ref().is_none_or(|names| {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        names == firing
    });
    if count_fits && firing_fits { Ok(seen) } else { Err(seen) }
}

async fn look_notification(wanted: &NotificationExpectation, lab: &dyn Lab) -> Seen {
    let all = lab.notifications().await.map_err(|error| error.to_string())?;
    let alert = BTreeMap::from([("alertname".to_owned(), wanted.alert.clone())]);
    let of_alert: Vec<&Notification> = all.iter().filter(|one| labels_fit(&alert, &one.labels, lab)).collect();
    let fitting = of_alert
        .iter()
        .filter(|one| {
            wanted.status.as_ref().is_none_or(|status| one.status == *status) && labels_fit(&wanted.labels, &one.labels, lab)
        })
        .count();
    let told = |one: &&Notification| format!("{} {}", one.status, Series { name: String::new(), labels: one.labels.clone() });
    let seen = if of_alert.is_empty() {
        format!("{} notifications, none of {}", all.len(), wanted.alert)
    } else {
        of_alert.iter().map(told).collect::<Vec<_>>().join("\n")
    };
    let fine = wanted.count.map_or(fitting > 0, |count| fitting == count);
    if fine { Ok(seen) } else { Err(seen) }
}

async fn look_logs(wanted: &LogExpectation, lab: &dyn Lab) -> Seen {
    let logs = lab.logs(&wanted.pod, wanted.container.as_deref()).await.map_err(|error| error.to_string())?;
    let parts: Vec<String> = wanted.contains.iter().map(|part| fill(part, lab)).collect();
    let lines: Vec<String> = logs
        .iter()
        .flat_map(|log| log.text.lines().map(move |line| format!("{}: {line}", log.pod)))
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .collect();
    let fine = wanted.count.map_or(!lines.is_empty(), |count| lines.len() == count);
    let shown = format!("{} such lines in the logs of {} pods\n{}", lines.len(), logs.len(), lines.join("\n"));
    if fine { Ok(shown) } else { Err(shown) }
}

/// Compares in a moment in which nothing is under way, as long as there is hope for one; then every difference needs a name.
async fn reconcile_all(lab: &dyn Lab) -> Seen {
    let metric = lab.requests_metric();
    let (metric, hookless) = (metric.as_str(), lab.hookless());
    let compare = || async {
        let reading = lab.reading().await.map_err(|error| error.to_string())?;
        let entries = lab.entries().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(reconcile::explain(Counter::of_component(metric), &[], &hookless, (None, &reading), &entries))
    };
    let look = || async {
        let found = compare().await?;
        let quiet = found.rows.iter().all(|row| row.causes.iter().all(|(cause, _)| *cause != Cause::InFlight));
        if quiet { told(&found) } else { Err("requests came while the counters were read".to_owned()) }
    };
    match eventually(lab, Duration::from_secs(30), look).await {
        Ok(seen) => Ok(seen),
        Err(_) => told(&compare().await?),
    }
}

/// A reconciliation in words.
fn told(found: &Reconciliation) -> Seen {
    let text = found.to_string();
    if found.is_explained() && found.requests > 0.0 { Ok(text) } else { Err(text) }
}

/// Takes all snapshots of one moment in which none of them changes any more.
async fn take_snapshots(specs: &[SnapshotSpec], lab: &dyn Lab) -> Result<Vec<String>, String> {
    let normal = Normaliser::default();
    let deadline = lab.now() + PATIENCE;
    let (mut last, mut same) = (Vec::new(), 0);
    loop {
        let mut texts = Vec::new();
        for spec in specs {
            let expression = format!("{{__name__=~\"{}\",service=\"kubevirt-prometheus-metrics\"}}", spec.metrics);
            let samples = lab.query(expression).await.map_err(|error| error.to_string())?;
            let series: Vec<_> = samples.iter().map(|sample| normal.series(&sample.series)).collect();
            texts.push(render(&series));
        }
        same = if texts == last && texts.iter().all(|text| !text.is_empty()) { same + 1 } else { 1 };
        last = texts;
        if same >= STEADY {
            return Ok(last);
        }
        if lab.now() >= deadline {
            return Err(format!("the series did not settle within {} s", PATIENCE.as_secs()));
        }
        lab.pause(SCRAPE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_once() {
        for (pattern, value, expected) in [
            ("VirtAPIDown", "VirtAPIDown", true),
            ("VirtAPIDown", "VirtAPIDow", false),
            ("*", "", true),
            ("Virt*", "VirtAPIDown", true),
            ("Virt*Down", "VirtAPIDown", true),
            ("Virt*Down", "VirtAPIRESTErrorsBurst", false),
            ("*Down", "VirtAPIDown", true),
            // What stands before the star and what stands after it are not the same letters.
            ("aba*ba", "aba", false),
        ] {
            assert_eq!(fits(pattern, value), expected, "{pattern} {value}");
        }
    }
}
