//! The ledger against the clients' counters: every difference has a name, or it is a failure.
//!
//! Two readings of the clients' pages span a time. In it each counter rose by so much, and the ledger by so much. Where they differ,
//! the causes that are known to make them differ are looked for, one after the other; what none of them accounts for stays
//! unexplained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use faults::{Entry, LedgerKey, Outcome, Protocol, Snapshot};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::lab::PodPage;

/// A client counts a request some time before or after the ledger does: the answer has to travel.
const SLACK: SignedDuration = SignedDuration::from_millis(500);

/// How soon Go's transport repeats a request by itself.
const REPEATED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The labels that counters of requests have besides the code and `host`.
const LABELS: [&str; 3] = ["method", "resource", "verb"];

/// A counter of requests by their clients.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    /// The family.
    pub name: &'a str,
    /// The label that has the code.
    pub code: &'a str,
}

impl<'a> Counter<'a> {
    /// The counter of a component.
    pub fn of_component(name: &'a str) -> Self {
        Self { name, code: "code" }
    }

    /// What Prometheus counts of its own discovery.
    pub fn of_discovery() -> Counter<'static> {
        Counter { name: "prometheus_sd_kubernetes_http_request_total", code: "status_code" }
    }
}

/// A reading of clients and ledger.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When the first page was asked for.
    pub began: Timestamp,
    /// When the last one was there.
    pub ended: Timestamp,
    /// The ledger at both instants.
    pub ledger: [Snapshot; 2],
    /// The pages of those that answered.
    pub pages: Vec<PodPage>,
}

/// Clients that are not counted, by how they were built (facts of a release, not of a run).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hookless {
    /// The beginning of the pods' names.
    pub pod: String,
    /// Only its requests for this resource; all of them without it.
    pub resource: Option<String>,
}

impl Hookless {
    fn sends(&self, key: &LedgerKey) -> bool {
        key.client.starts_with(&self.pod) && self.resource.as_ref().is_none_or(|resource| *resource == key.resource)
    }
}

/// Why a counter and the ledger may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The process is another one than at the first reading: it counts from nought.
    ProcessRestart,
    /// The counter is lower than at the first reading, in the same process.
    CounterReset,
    /// A connection was refused: a request that the proxy never saw.
    ConnectionRefused,
    /// Go's transport repeated a request by itself and counted once.
    TransportRetry,
    /// A request was answered while a page was read.
    InFlight,
    /// The client is not counted.
    WithoutHook,
    /// A reading of the client is missing.
    MissedScrape,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessRestart => "process restart",
            Self::CounterReset => "counter reset",
            Self::ConnectionRefused => "connection refused before a request",
            Self::TransportRetry => "transparent retry by the transport",
            Self::InFlight => "request in flight at a reading",
            Self::WithoutHook => "client without the hook",
            Self::MissedScrape => "missed scrape",
        })
    }
}

/// Labels with values, in the counter's order.
type Labels = Vec<(String, String)>;

/// One count that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The pod.
    pub pod: String,
    /// The counter's labels.
    pub labels: Labels,
    /// By how much the counter rose.
    pub counter: f64,
    /// By how much the ledger rose.
    pub ledger: f64,
    /// What accounts for the difference, with its share: negative where the ledger has more.
    pub causes: Vec<(Cause, f64)>,
}

impl Row {
    /// What nothing accounts for.
    pub fn unexplained(&self) -> f64 {
        self.counter - self.ledger - self.causes.iter().map(|(_, share)| share).sum::<f64>()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "{} {}: counter {}, ledger {}", self.pod, labels.join(" "), self.counter, self.ledger)?;
        for (cause, share) in &self.causes {
            write!(f, "; {cause}: {}", share.abs())?;
        }
        match self.unexplained() {
            0.0 => Ok(()),
            left => write!(f, "; unexplained: {}", left.abs()),
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconciliation {
    /// Requests that were compared.
    pub requests: f64,
    /// The counts that differ, explained or not.
    pub rows: Vec<Row>,
    /// Clients whose requests could not be compared at all, with the cause and how many.
    pub left_out: Vec<(String, Cause, f64)>,
}

impl fmt::Display for Reconciliation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.requests)?;
        for (pod, cause, requests) in &self.left_out {
            write!(f, "\n{pod}: {cause}: {requests} requests")?;
        }
        self.rows.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

impl Reconciliation {
    /// Whether every difference has a name.
    pub fn is_explained(&self) -> bool {
        self.rows.iter().all(|row| row.unexplained() == 0.0)
    }
}

/// What a page tells of one pod.
struct Counted<'a> {
    values: BTreeMap<Labels, f64>,
    /// The labels that its release counts by.
    names: Vec<&'a str>,
    started: Option<f64>,
}

fn counted<'a>(counter: Counter<'a>, page: &PodPage) -> Counted<'a> {
    let mut values = BTreeMap::<Labels, f64>::new();
    let mut names = Vec::new();
    for sample in page.page.of(counter.name) {
        names = [counter.code].into_iter().chain(LABELS).filter(|name| sample.series.labels.contains_key(*name)).collect();
        let labels = names.iter().map(|name| ((*name).to_owned(), sample.series.label(name).to_owned())).collect();
        *values.entry(labels).or_default() += sample.value;
    }
    let started = page.page.of("process_start_time_seconds").next().map(|sample| sample.value);
    Counted { values, names, started }
}

/// The labels that a counter has for what the ledger noted.
fn labels(key: &LedgerKey, names: &[&str], counter: Counter<'_>) -> Labels {
    let none = key.resource.is_empty();
    let value = |name: &str| match name {
        name if name == counter.code => key.code.to_string(),
        "method" => key.method.to_string(),
        "resource" if none => "none".to_owned(),
        "resource" => key.resource.clone(),
        _ if none => "none".to_owned(),
        _ => key.verb.to_uppercase(),
    };
    names.iter().map(|name| ((*name).to_owned(), value(name))).collect()
}

/// Seconds since 1970, as `process_start_time_seconds` has them.
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1e3
}

/// By how much each total rose between two snapshots.
fn rise<'a>(from: &Snapshot, to: &'a Snapshot) -> Vec<(&'a LedgerKey, f64)> {
    let before: BTreeMap<&LedgerKey, u64> = from.totals.iter().map(|(key, count)| (key, *count)).collect();
    to.totals.iter().map(|(key, count)| (key, *count as f64 - before.get(key).copied().unwrap_or(0) as f64)).collect()
}

/// How many requests of one series may have been counted on the other side of a reading.
#[derive(Clone, Copy, Default)]
struct Edge {
    /// Which the counter may have and the ledger's rise not.
    more: f64,
    /// The other way round.
    fewer: f64,
}

/// Compares what counters and ledger rose by between two readings; without the first one, since clients and ledger began.
///
/// `expected`: the pods whose pages belong to the second reading. `entries`: the ledger's entries as far as they are kept; those
/// around the readings are enough.
pub fn explain(
    counter: Counter<'_>,
    expected: &[String],
    hookless: &[Hookless],
    (before, after): (Option<&Reading>, &Reading),
    entries: &[Entry],
) -> Reconciliation {
    let empty = Snapshot::default();
    let from = before.map_or(&empty, |reading| &reading.ledger[1]);
    let rises = rise(from, &after.ledger[0]);
    let mut result = Reconciliation::default();
    let pods: BTreeSet<&str> =
        after.pages.iter().map(|page| page.pod.as_str()).chain(expected.iter().map(String::as_str)).collect();
    for pod in pods {
        let is_hookless = |key: &LedgerKey| hookless.iter().any(|hookless| hookless.sends(key));
        let of_pod = || rises.iter().filter(|(key, rise)| key.client == pod && *rise != 0.0).copied();
        let sum = |rises: &mut dyn Iterator<Item = (&LedgerKey, f64)>| rises.map(|(_, rise)| rise).sum::<f64>();
        let Some(page) = after.pages.iter().find(|page| page.pod == pod) else {
            result.left_out.push((pod.to_owned(), Cause::MissedScrape, sum(&mut of_pod())));
            continue;
        };
        let not_counted = sum(&mut of_pod().filter(|(key, _)| is_hookless(key)));
        if not_counted > 0.0 {
            result.left_out.push((pod.to_owned(), Cause::WithoutHook, not_counted));
        }
        let now = counted(counter, page);
        if now.values.is_empty() && of_pod().all(|(key, _)| is_hookless(key)) {
            continue;
        }
        let names = if now.names.is_empty() { vec![counter.code, "method"] } else { now.names.clone() };
        let then =
            before.and_then(|reading| reading.pages.iter().find(|page| page.pod == pod)).map(|page| counted(counter, page));
        // Without a first reading, a process that is younger than its pod's requests is another one than that which sent them.
        let older = |started: f64| entries.iter().any(|entry| entry.client.key() == pod && seconds(entry.time) < started - 1.0);
        let restarted = match &then {
            Some(then) => then.started != now.started,
            None => before.is_none() && now.started.is_some_and(older),
        };
        // A counter is read from nought only if its process began after the first reading.
        let began = before.map(|before| seconds(before.began));
        if then.is_none() && began.is_some_and(|began| now.started.is_none_or(|started| started < began - 1.0)) {
            result.left_out.push((pod.to_owned(), Cause::MissedScrape, sum(&mut of_pod())));
            continue;
        }
        let mut pod = Pod {
            name: pod,
            now,
            then,
            restarted,
            ledger: BTreeMap::new(),
            edges: BTreeMap::new(),
            refused: 0.0,
            late_refusals: 0.0,
            retried: BTreeMap::new(),
            before_restart: BTreeMap::new(),
        };
        for (key, rise) in of_pod().filter(|(key, _)| !is_hookless(key)) {
            result.requests += rise;
            if key.verb == "dial" {
                pod.refused += rise;
            } else {
                *pod.ledger.entry(labels(key, &names, counter)).or_default() += rise;
            }
        }
        let own = entries.iter().filter(|entry| entry.client.key() == pod.name);
        pod.look_at(own.collect(), |key| (!is_hookless(key)).then(|| labels(key, &names, counter)), before, after);
        result.rows.extend(pod.rows(counter));
    }
    result
}

/// One pod's side of it.
struct Pod<'a> {
    name: &'a str,
    now: Counted<'a>,
    then: Option<Counted<'a>>,
    restarted: bool,
    ledger: BTreeMap<Labels, f64>,
    edges: BTreeMap<Labels, Edge>,
    refused: f64,
    late_refusals: f64,
    retried: BTreeMap<Labels, f64>,
    before_restart: BTreeMap<Labels, f64>,
}

impl Pod<'_> {
    /// Finds among the ledger's entries what may have been counted otherwise.
    fn look_at(
        &mut self,
        entries: Vec<&Entry>,
        labels: impl Fn(&LedgerKey) -> Option<Labels>,
        before: Option<&Reading>,
        after: &Reading,
    ) {
        let near = |at: Timestamp, from: Timestamp, to: Timestamp| at > from && at <= to;
        for (index, entry) in entries.iter().enumerate() {
            let (Some(key), Some(ended)) = (entry.key(), entry.ended) else { continue };
            if entry.verb == "dial" {
                self.late_refusals += f64::from(near(ended, after.began - SLACK, after.began));
                continue;
            }
            let Some(labels) = labels(&key) else { continue };
            let edge = self.edges.entry(labels.clone()).or_default();
            if let Some(before) = before {
                // Between the first reading's beginning and its end the counter was read; the ledger rose from the end on.
                edge.more += f64::from(near(ended, before.began - SLACK, before.ended));
                edge.fewer += f64::from(near(ended, before.ended, before.ended + SLACK));
            }
            edge.fewer += f64::from(near(ended, after.began - SLACK, after.began));
            edge.more += f64::from(near(ended, after.began, after.ended + SLACK));
            if self.restarted
                && before.is_none_or(|before| ended > before.ended)
                && let Some(started) = self.now.started
                && seconds(entry.time) < started + 1.0
            {
                *self.before_restart.entry(labels.clone()).or_default() += 1.0;
            }
            let in_time = before.is_none_or(|before| ended > before.ended) && ended <= after.ended;
            if in_time && is_repeated(entry, &entries[index + 1..]) {
                *self.retried.entry(labels).or_default() += 1.0;
            }
        }
    }

    fn rows(mut self, counter: Counter<'_>) -> Vec<Row> {
        let mut rows = Vec::new();
        let all: BTreeSet<Labels> = self.now.values.keys().chain(self.ledger.keys()).cloned().collect();
        for labels in all {
            let now = self.now.values.get(&labels).copied().unwrap_or_default();
            let then = self.then.as_ref().and_then(|then| then.values.get(&labels)).copied().unwrap_or_default();
            let ledger = self.ledger.get(&labels).copied().unwrap_or_default();
            let reset = !self.restarted && now < then;
            let rose = if self.restarted || reset { now } else { now - then };
            let mut row = Row { pod: self.name.to_owned(), labels, counter: rose, ledger, causes: Vec::new() };
            let is_error = row.labels.iter().any(|(name, value)| name == counter.code && value == "<error>");
            let of = |counts: &BTreeMap<Labels, f64>| counts.get(&row.labels).copied().unwrap_or_default();
            let edge = self.edges.get(&row.labels).copied().unwrap_or_default();
            let refused = if is_error { self.refused } else { 0.0 };
            // Each with the range in which it can make the counter differ from the ledger.
            let known = [
                (Cause::ProcessRestart, -of(&self.before_restart), 0.0),
                (Cause::CounterReset, if reset { -ledger } else { 0.0 }, 0.0),
                (Cause::ConnectionRefused, 0.0, refused),
                (Cause::TransportRetry, -of(&self.retried), 0.0),
                (Cause::InFlight, -edge.fewer, edge.more),
            ];
            for (cause, least, most) in known {
                let share = row.unexplained().clamp(least, most);
                if share != 0.0 {
                    row.causes.push((cause, share));
                }
                if cause == Cause::ConnectionRefused {
                    self.refused -= share.max(0.0);
                }
            }
            if row.counter != row.ledger {
                rows.push(row);
            }
        }
        // Refusals that no counter shows; one that came last may not be counted yet.
        if self.refused > 0.0 {
            let labels = vec![(counter.code.to_owned(), "<error>".to_owned()), ("connection".to_owned(), "refused".to_owned())];
            let late = self.refused.min(self.late_refusals);
            let causes = if late > 0.0 { vec![(Cause::InFlight, -late)] } else { Vec::new() };
            rows.push(Row { pod: self.name.to_owned(), labels, counter: 0.0, ledger: self.refused, causes });
        }
        rows
    }
}

/// Whether Go's transport sent a request again that the ledger has as failed, without telling its caller: a read on an HTTP/1.1
/// connection that had been used (`net/http` `shouldRetryRequest`), or a stream that was refused.
fn is_repeated(entry: &Entry, later: &[&Entry]) -> bool {
    let refused = entry.outcome == Some(Outcome::Refused);
    let closed = matches!(entry.outcome, Some(Outcome::Failed | Outcome::Unanswered | Outcome::Lost { .. }))
        && entry.protocol == Protocol::Http1
        && entry.method == "GET"
        && entry.on_connection > 1;
    let again = |other: &&Entry| {
        other.target == entry.target && other.method == entry.method && other.time.duration_since(entry.time) <= REPEATED_WITHIN
    };
    (refused || closed) && later.iter().any(again)
}

#[cfg(test)]
mod tests;
