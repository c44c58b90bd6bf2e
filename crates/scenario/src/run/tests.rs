//! Runs against a lab that is played: what is absent passes only with what shows that it could have been there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faults::{Entry, Rule};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::{RuleState, Sample, Series, Target};
use serde_json::{Value, json};

use super::{ToRun, run};
use crate::lab::{FaultUse, Lab, LabError, Notification, PageAnswer, PodLog};
use crate::model::{Delete, ObjectCheck};
use crate::reconcile::{Hookless, Reading};
use crate::report::{Outcome, Report, Verdict};
use crate::resolve::tests::scenario;

/// A lab without anything behind it; each answer is as it was set.
#[derive(Default)]
struct Played {
    /// Milliseconds since it began; pausing takes no time.
    clock: AtomicU64,
    queries: BTreeMap<&'static str, Vec<f64>>,
    targets: usize,
    scraped: usize,
    rules: Vec<(&'static str, &'static str, &'static str)>,
    /// Whether rules are evaluated again and again.
    evaluates: bool,
    alertmanagers: usize,
    log: Option<&'static str>,
    page: Option<&'static str>,
    objects: BTreeMap<&'static str, Vec<Value>>,
    declares: bool,
    exposed: bool,
    hits: u64,
    restarts: AtomicU64,
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, LabError>> {
    async { Ok(value) }.boxed()
}

impl Lab for Played {
    fn namespace(&self) -> String {
        "kubevirt".to_owned()
    }
    fn requests_metric(&self) -> String {
        "kubevirt_rest_client_requests_total".to_owned()
    }
    fn declares(&self, _: &str) -> bool {
        self.declares
    }
    fn is_exposed<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<bool, LabError>> {
        ready(self.exposed)
    }
    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.load(Ordering::Relaxed))
    }
    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
        async {}.boxed()
    }
    fn missing(&self) -> BoxFuture<'_, Result<Vec<String>, LabError>> {
        ready(Vec::new())
    }
    fn scraped_pods(&self) -> BoxFuture<'_, Result<usize, LabError>> {
        ready(self.scraped)
    }
    fn query(&self, expression: String) -> BoxFuture<'_, Result<Vec<Sample>, LabError>> {
        let values = self.queries.get(expression.as_str()).cloned().unwrap_or_default();
        ready(values.into_iter().map(|value| Sample { series: Series::default(), value }).collect())
    }
    fn targets(&self) -> BoxFuture<'_, Result<Vec<Target>, LabError>> {
        let target: Target = serde_json::from_value(json!({"health": "up"})).unwrap_or_else(|error| panic!("{error}"));
        ready(vec![target; self.targets])
    }
    fn rules(&self) -> BoxFuture<'_, Result<Vec<RuleState>, LabError>> {
        let seconds = if self.evaluates { self.clock.load(Ordering::Relaxed) } else { 7 };
        let rules = self.rules.iter().map(|(name, state, health)| {
            let rule = json!({"name": name, "state": state, "health": health, "lastEvaluation": format!("2026-{seconds}")});
            serde_json::from_value(rule).unwrap_or_else(|error| panic!("{error}"))
        });
        ready(rules.collect())
    }
    fn alertmanagers(&self) -> BoxFuture<'_, Result<usize, LabError>> {
        ready(self.alertmanagers)
    }
    fn restarts(&self) -> BoxFuture<'_, Result<BTreeMap<String, u64>, LabError>> {
        ready([("kubevirt/virt-api-1/virt-api".to_owned(), self.restarts.fetch_add(1, Ordering::Relaxed))].into())
    }
    fn notifications(&self) -> BoxFuture<'_, Result<Vec<Notification>, LabError>> {
        ready(Vec::new())
    }
    fn logs<'a>(&'a self, pod: &'a str, _: Option<&'a str>) -> BoxFuture<'a, Result<Vec<PodLog>, LabError>> {
        ready(self.log.map(|text| PodLog { pod: format!("{pod}-1"), text: text.to_owned() }).into_iter().collect())
    }
    fn why(&self, _: String) -> BoxFuture<'_, Result<String, LabError>> {
        ready(String::new())
    }
    fn pages<'a>(&'a self, pod: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<PageAnswer>, LabError>> {
        let page =
            |text: &str| PageAnswer { pod: pod.to_owned(), answer: Ok((200, text.to_owned())), content_type: String::new() };
        ready(self.page.map(page).into_iter().collect())
    }
    fn objects<'a>(&'a self, wanted: &'a ObjectCheck) -> BoxFuture<'a, Result<Vec<Value>, LabError>> {
        match self.objects.get(wanted.resource.as_str()) {
            Some(objects) => ready(objects.clone()),
            None => async { Err(LabError("no such resource is served".to_owned())) }.boxed(),
        }
    }
    fn contract<'a>(&'a self, _: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, LabError>> {
        ready(Vec::new())
    }
    fn arm(&self, _: Rule) -> BoxFuture<'_, Result<(), LabError>> {
        ready(())
    }
    fn faults(&self) -> BoxFuture<'_, Result<Vec<FaultUse>, LabError>> {
        ready(vec![("a".to_owned(), self.hits, Some(2))])
    }
    fn clear_faults<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<usize, LabError>> {
        ready(1)
    }
    fn reading(&self) -> BoxFuture<'_, Result<Reading, LabError>> {
        async { Err(LabError("no page".to_owned())) }.boxed()
    }
    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>, LabError>> {
        ready(Vec::new())
    }
    fn hookless(&self) -> Vec<Hookless> {
        Vec::new()
    }
    fn delete<'a>(&'a self, _: &'a Delete) -> BoxFuture<'a, Result<usize, LabError>> {
        ready(1)
    }
    fn apply(&self, _: Value) -> BoxFuture<'_, Result<(), LabError>> {
        ready(())
    }
}

fn report(text: &str, lab: &Played) -> Report {
    let scenario = scenario(text);
    let to_run = ToRun { name: "s", release: "v1.9.0", provider: "embedded", variation: &scenario.variations()[0] };
    run(to_run, lab, &|_| ()).now_or_never().unwrap_or_else(|| panic!("a played lab never waits"))
}

/// What the last expectation came to.
fn expecting(expectation: &str, lab: &Played) -> Outcome {
    let text = format!("description: x\nsteps: [{{wait: {{up: true}}}}]\nexpect:\n  - {expectation}\n");
    let report = report(&text, lab);
    report.lines.last().map_or_else(|| panic!("no line"), |line| line.outcome.clone())
}

#[test]
fn what_is_absent_passes_only_with_evidence() {
    let otherwise = |outcome: Outcome| {
        let Outcome::Passed { otherwise: Some(otherwise), .. } = &outcome else { panic!("{outcome:?}") };
        otherwise.clone()
    };
    let why = |outcome: Outcome| {
        let Outcome::Failed { why } = &outcome else { panic!("{outcome:?}") };
        why.clone()
    };
    let nothing = Played::default;
    let inactive = || vec![("VirtAPIDown", "inactive", "ok")];

    let alerts = "alerts: {names: [VirtAPIDown], state: inactive}";
    assert!(why(expecting(alerts, &nothing())).contains("VirtAPIDown is no alert of Prometheus"));
    let still = Played { rules: inactive(), ..nothing() };
    assert!(why(expecting(alerts, &still)).contains("was not evaluated again yet"));
    let ill = Played { rules: vec![("VirtAPIDown", "inactive", "err")], evaluates: true, ..nothing() };
    assert!(why(expecting(alerts, &ill)).contains("VirtAPIDown inactive (err)"));
    let live = Played { rules: inactive(), evaluates: true, ..nothing() };
    assert_eq!(otherwise(expecting(alerts, &live)), "the rule is loaded, evaluated once");

    let rules = "rules: {health: ok, firing: []}";
    assert!(why(expecting(rules, &still)).contains("was not evaluated again yet"));
    assert_eq!(otherwise(expecting(rules, &live)), "the rule is loaded, evaluated once");

    let silent = "notification: {alert: 'Virt*', count: 0}";
    assert!(why(expecting(silent, &live)).contains("Prometheus knows no Alertmanager"));
    let connected = Played { rules: inactive(), evaluates: true, alertmanagers: 1, ..nothing() };
    assert!(otherwise(expecting(silent, &connected)).ends_with("Prometheus knows 1 Alertmanager"));
    let foreign = Played { evaluates: true, alertmanagers: 1, ..nothing() };
    assert!(why(expecting(silent, &foreign)).contains("no such rule is loaded"));

    let query = "query: {expr: 'kubevirt_info{a=\"b\"}', series: 0}";
    assert!(why(expecting(query, &nothing())).contains("neither the release nor a target declares it"));
    assert_eq!(otherwise(expecting(query, &Played { exposed: true, ..nothing() })), "a target declares kubevirt_info");
    assert_eq!(otherwise(expecting(query, &Played { declares: true, ..nothing() })), "the release declares kubevirt_info");
    let some = BTreeMap::from([("count(last_over_time({__name__=\"kubevirt_info\"}[1h]))", vec![3.0])]);
    assert!(otherwise(expecting(query, &Played { queries: some, ..nothing() })).starts_with("3 series of"));
    let zero = "query: {expr: 'sum(kubevirt_info) or vector(0)', equals: 0}";
    let of_nothing = || BTreeMap::from([("sum(kubevirt_info) or vector(0)", vec![0.0])]);
    assert!(why(expecting(zero, &Played { queries: of_nothing(), ..nothing() })).contains("neither the release nor a target"));
    otherwise(expecting(zero, &Played { queries: of_nothing(), declares: true, ..nothing() }));
    let alone = Played { queries: BTreeMap::from([("vector(0)", vec![0.0])]), declares: true, ..nothing() };
    assert!(why(expecting("query: {expr: vector(0), equals: 0}", &alone)).contains("selects no series at all"));
    let firing = "query: {expr: 'ALERTS{alertname=\"VirtAPIDown\"}', series: 0}";
    assert!(why(expecting(firing, &nothing())).contains("no such rule is loaded"));
    assert!(otherwise(expecting(firing, &live)).contains("the rule is loaded"));

    let targets = "targets: {count: 0}";
    assert!(why(expecting(targets, &nothing())).contains("no pod with metrics runs"));
    assert_eq!(otherwise(expecting(targets, &Played { scraped: 8, ..nothing() })), "8 pods run with metrics");

    let logs = "logs: {pod: virt-api, contains: [panic], count: 0}";
    assert!(why(expecting(logs, &nothing())).contains("no pod is called virt-api*"));
    assert!(why(expecting(logs, &Played { log: Some(""), ..nothing() })).contains("the logs are empty"));
    assert_eq!(otherwise(expecting(logs, &Played { log: Some("a\nb\n"), ..nothing() })), "2 lines of 1 pod were read");

    let page = "page: {pod: virt-api, metric: kubevirt_info, labels: {code: '5'}, atMostSeries: 0}";
    assert!(why(expecting(page, &nothing())).contains("no pod is called virt-api*"));
    assert!(why(expecting(page, &Played { page: Some("up 1\n"), ..nothing() })).contains("the release does not declare it"));
    let other = Played { page: Some("kubevirt_info{code=\"4\"} 1\n"), ..nothing() };
    assert_eq!(otherwise(expecting(page, &other)), "kubevirt_info has 1 series with other labels");

    let objects = "object: {resource: pods, namespace: a, count: 0}";
    let served = |namespaces| Played { objects: [("pods", Vec::new()), ("namespaces", namespaces)].into(), ..nothing() };
    assert!(why(expecting(objects, &nothing())).contains("no such resource is served"));
    assert!(why(expecting(objects, &served(Vec::new()))).contains("there is no namespace a"));
    assert!(otherwise(expecting(objects, &served(vec![json!({})]))).contains("pods are served"));
}

#[test]
fn a_fault_that_met_nothing_fails_the_run() {
    let text = "description: x\nsteps:\n  - fault: {name: a, effect: {reset: {}}, budget: {first: 2}}\n  - wait: {up: true}\n";
    let missed = report(text, &Played::default());
    assert_eq!(missed.verdict(), Verdict::Failed);
    assert!(missed.to_string().contains("it decided over no request"), "{missed}");
    assert_eq!(report(text, &Played { hits: 1, ..Played::default() }).verdict(), Verdict::Passed);
    let cleared = format!("{text}  - clearFaults: true\n");
    assert_eq!(report(&cleared, &Played::default()).verdict(), Verdict::Failed);
    let spent = format!("{text}  - wait: {{faultSpent: a}}\n");
    assert_eq!(report(&spent, &Played { hits: 1, ..Played::default() }).verdict(), Verdict::Failed);
    assert_eq!(report(&spent, &Played { hits: 2, ..Played::default() }).verdict(), Verdict::Passed);
}

#[test]
fn a_restart_that_nobody_asked_for_is_noted() {
    let report = report("description: x\nsteps: [{wait: {up: true}}]\n", &Played::default());
    assert_eq!(report.notes, ["kubevirt/virt-api-1/virt-api restarted once, and no step asked for it"]);
}
