//! Each cause of a difference by itself, and what no cause accounts for.

use std::sync::Arc;

use faults::Client;

use super::*;

const M: &str = "requests_total";

fn at(second: f64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + (second * 1e3) as i64).unwrap()
}

/// A page of pod `a`: the process's start, and samples as `CODE METHOD RESOURCE VERB VALUE`.
fn page(started: f64, samples: &[&str]) -> PodPage {
    let started = at(started).as_millisecond() as f64 / 1e3;
    let mut text = format!("process_start_time_seconds {started}\n");
    for sample in samples {
        let [code, method, resource, verb, value] = sample.split(' ').collect::<Vec<_>>()[..] else { panic!("{sample}") };
        text.push_str(&format!(
            "{M}{{code=\"{code}\",host=\"h\",method=\"{method}\",resource=\"{resource}\",verb=\"{verb}\"}} {value}\n"
        ));
    }
    PodPage { pod: "a".to_owned(), page: metrics::parse(&text).unwrap() }
}

/// Entries of pod `a`, one for each line: `SECOND CODE METHOD VERB RESOURCE`, each over in a hundredth of a second.
struct Log(Vec<Entry>);

impl Log {
    fn of(lines: &[&str]) -> Self {
        let mut log = Self(Vec::new());
        for line in lines {
            let [second, code, method, verb, resource] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let second: f64 = second.parse().unwrap();
            let outcome = match code.parse() {
                Ok(status) => Outcome::Passed { status },
                Err(_) => Outcome::Failed,
            };
            log.0.push(Entry {
                number: log.0.len() as u64 + 1,
                time: at(second - 0.01),
                ended: Some(at(second)),
                connection: 1,
                on_connection: 2,
                of_client: 1,
                protocol: Protocol::Http2,
                client: Arc::new(Client { pod: Some("a".to_owned()), ..Client::default() }),
                method: method.to_owned().into(),
                target: format!("/api/v1/{resource}"),
                verb: verb.to_owned().into(),
                resource: resource.to_owned(),
                rule: None,
                verdict: "pass".into(),
                code: Some(outcome.code()),
                outcome: Some(outcome),
            });
        }
        log
    }

    fn snapshot(&self, second: f64) -> Snapshot {
        let mut totals = BTreeMap::<LedgerKey, u64>::new();
        for entry in self.0.iter().filter(|entry| entry.ended.is_some_and(|ended| ended <= at(second))) {
            *totals.entry(entry.key().unwrap()).or_default() += 1;
        }
        Snapshot { totals: totals.into_iter().collect(), ..Snapshot::default() }
    }

    /// A reading that takes a hundredth of a second.
    fn reading(&self, second: f64, pages: Vec<PodPage>) -> Reading {
        let ended = second + 0.01;
        Reading { began: at(second), ended: at(ended), ledger: [self.snapshot(second), self.snapshot(ended)], pages }
    }

    fn explain(&self, before: Option<Reading>, after: Reading) -> Reconciliation {
        let expected = ["a".to_owned()];
        explain(Counter::of_component(M), &expected, &[], (before.as_ref(), &after), &self.0)
    }
}

fn lines(found: &Reconciliation) -> Vec<String> {
    found.rows.iter().map(ToString::to_string).collect()
}

const GOOD: &str = "5 200 GET list pods";

#[test]
fn equal_counts_leave_nothing_to_explain() {
    let log = Log::of(&[GOOD, "6 <error> GET list pods"]);
    let after = log.reading(10.0, vec![page(0.0, &["200 GET pods LIST 1", "<error> GET pods LIST 1"])]);
    let found = log.explain(None, after);
    assert_eq!((found.requests, found.rows.len(), found.is_explained()), (2.0, 0, true));
}

#[test]
fn what_has_no_cause_is_unexplained() {
    let log = Log::of(&[GOOD, "6 200 GET list pods"]);
    let found = log.explain(None, log.reading(10.0, vec![page(0.0, &["200 GET pods LIST 1", "<error> GET pods LIST 1"])]));
    assert_eq!(
        lines(&found),
        [
            "a code=200 method=GET resource=pods verb=LIST: counter 1, ledger 2; unexplained: 1",
            "a code=<error> method=GET resource=pods verb=LIST: counter 1, ledger 0; unexplained: 1"
        ]
    );
    assert!(!found.is_explained());
    // A counter that is missing altogether explains nothing by itself.
    assert!(!log.explain(None, log.reading(10.0, vec![page(0.0, &[])])).is_explained());
}

#[test]
fn requests_around_a_reading_may_be_counted_on_either_side() {
    let log = Log::of(&["1 200 GET list pods", "9.9 200 GET list pods", "10.005 200 GET list pods"]);
    for (value, expected) in [
        (2, None),
        (1, Some("counter 1, ledger 2; request in flight at a reading: 1")),
        (3, Some("counter 3, ledger 2; request in flight at a reading: 1")),
        (4, Some("counter 4, ledger 2; request in flight at a reading: 1; unexplained: 1")),
        (0, Some("counter 0, ledger 2; request in flight at a reading: 1; unexplained: 1")),
    ] {
        let found = log.explain(None, log.reading(10.0, vec![page(0.0, &[&format!("200 GET pods LIST {value}")])]));
        assert_eq!(
            lines(&found).first().map(|line| line.split(": ").skip(1).collect::<Vec<_>>().join(": ")).as_deref(),
            expected
        );
    }
    // The same at the first reading: the request at 0.99 was counted after the page was read.
    let log = Log::of(&["0.99 200 GET list pods", GOOD]);
    let before = log.reading(1.0, vec![page(0.0, &["200 GET pods LIST 0"])]);
    let found = log.explain(Some(before), log.reading(10.0, vec![page(0.0, &["200 GET pods LIST 2"])]));
    assert_eq!(found.rows[0].causes, [(Cause::InFlight, 1.0)]);
}

#[test]
fn a_new_process_counts_from_nought() {
    let log = Log::of(&["1 200 GET list pods", "4 200 GET list pods", "8 200 GET list pods"]);
    let before = || log.reading(2.0, vec![page(0.0, &["200 GET pods LIST 1"])]);
    let restarted = |value: u32| log.reading(12.0, vec![page(6.0, &[&format!("200 GET pods LIST {value}")])]);
    let found = log.explain(Some(before()), restarted(1));
    assert_eq!(found.rows[0].causes, [(Cause::ProcessRestart, -1.0)]);
    assert!(found.is_explained());
    // The same where there was no first reading.
    let found = log.explain(None, restarted(1));
    assert_eq!((found.rows[0].causes.clone(), found.is_explained()), (vec![(Cause::ProcessRestart, -2.0)], true));
    // It explains only what came before it.
    assert!(!log.explain(None, restarted(0)).is_explained());
    assert!(!log.explain(Some(before()), restarted(0)).is_explained());
}

#[test]
fn a_counter_that_fell_in_the_same_process_was_reset() {
    let log = Log::of(&["1 200 GET list pods", "1.1 200 GET list pods", "4 200 GET list pods", "8 200 GET list pods"]);
    let before = log.reading(2.0, vec![page(0.0, &["200 GET pods LIST 2"])]);
    let found = log.explain(Some(before), log.reading(12.0, vec![page(0.0, &["200 GET pods LIST 1"])]));
    assert_eq!(found.rows[0].causes, [(Cause::CounterReset, -1.0)]);
    assert!(found.is_explained());
}

#[test]
fn a_refused_connection_explains_one_error_and_no_more() {
    let page = || page(0.0, &["<error> GET none none 2"]);
    for (dials, explained) in [(2, true), (1, false), (3, false)] {
        let log = Log::of(&vec!["5 <error> CONNECT dial x"; dials]);
        let found = log.explain(None, log.reading(10.0, vec![page()]));
        assert_eq!(found.is_explained(), explained, "{dials}: {:?}", lines(&found));
        assert_eq!(found.rows[0].causes[0].0, Cause::ConnectionRefused);
    }
    // One that came last may not be counted yet.
    let log = Log::of(&["5 <error> CONNECT dial x", "5 <error> CONNECT dial x", "9.8 <error> CONNECT dial x"]);
    assert!(log.explain(None, log.reading(10.0, vec![page()])).is_explained());
}

#[test]
fn the_transport_repeats_reads_on_used_connections_and_refused_streams() {
    let counter = || vec![page(0.0, &["200 GET pods LIST 1"])];
    let log = |change: &dyn Fn(&mut Entry)| {
        let mut log = Log::of(&["5 <error> GET list pods", "5.1 200 GET list pods"]);
        change(&mut log.0[0]);
        log
    };
    let http1 = log(&|entry| entry.protocol = Protocol::Http1);
    let found = http1.explain(None, http1.reading(10.0, counter()));
    assert_eq!(found.rows[0].causes, [(Cause::TransportRetry, -1.0)]);
    let refused = log(&|entry| entry.outcome = Some(Outcome::Refused));
    assert!(refused.explain(None, refused.reading(10.0, counter())).is_explained());
    // A stream that was reset otherwise is not repeated; nor is the first request of a connection.
    let reset = log(&|_| {});
    assert!(!reset.explain(None, reset.reading(10.0, counter())).is_explained());
    let fresh = log(&|entry| {
        entry.protocol = Protocol::Http1;
        entry.on_connection = 1;
    });
    assert!(!fresh.explain(None, fresh.reading(10.0, counter())).is_explained());
}

#[test]
fn clients_that_cannot_be_compared_are_named() {
    let log = Log::of(&[GOOD, "6 201 POST create subjectaccessreviews"]);
    let found = log.explain(None, log.reading(10.0, Vec::new()));
    assert_eq!(found.left_out, [("a".to_owned(), Cause::MissedScrape, 2.0)]);
    // The same where the first reading is missing and the process is older; a new one counts from nought.
    for (started, expected) in [(0.0, 1), (3.0, 0)] {
        let before = log.reading(2.0, Vec::new());
        let after = log.reading(10.0, vec![page(started, &["200 GET pods LIST 1", "201 POST subjectaccessreviews CREATE 1"])]);
        let found = log.explain(Some(before), after);
        assert_eq!((found.left_out.len(), found.is_explained()), (expected, true));
    }
    let hookless = [Hookless { pod: "a".to_owned(), resource: Some("subjectaccessreviews".to_owned()) }];
    let after = log.reading(10.0, vec![page(0.0, &["200 GET pods LIST 1"])]);
    let found = explain(Counter::of_component(M), &[], &hookless, (None, &after), &log.0);
    assert_eq!(found.left_out, [("a".to_owned(), Cause::WithoutHook, 1.0)]);
    assert!(found.is_explained() && found.requests == 1.0);
}

#[test]
fn discovery_counts_by_code_alone() {
    let log = Log::of(&[GOOD, "6 200 GET watch pods", "7 <error> GET watch pods"]);
    let text = "prometheus_sd_kubernetes_http_request_total{status_code=\"200\"} 2\n\
                prometheus_sd_kubernetes_http_request_total{status_code=\"<error>\"} 1\n";
    let after = log.reading(10.0, vec![PodPage { pod: "a".to_owned(), page: metrics::parse(text).unwrap() }]);
    let found = explain(Counter::of_discovery(), &[], &[], (None, &after), &log.0);
    assert_eq!((found.requests, found.rows.len()), (3.0, 0));
}
