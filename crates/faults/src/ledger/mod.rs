//! The record of every decision: the last entries in full, and exact totals of all.

mod entry;
mod journal;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kubeapi::RequestInfo;
use metrics::{Family, Kind, Registry};
use serde::{Deserialize, Serialize};

pub(crate) use entry::Word;
pub use entry::{Entry, LedgerKey, Outcome, Protocol};
use journal::Journal;

use crate::client::Client;

/// Entries that are kept in full.
const KEEP: usize = 32_768;

/// Totals that are told apart; what would be one more is counted by [`others`].
const MAX_TOTALS: usize = 200_000;

/// The total of all that are too many to tell apart: they keep their code.
fn others(code: Word) -> LedgerKey {
    let none = Word::Borrowed("");
    LedgerKey { client: "(others)".to_owned(), method: none.clone(), verb: none, resource: String::new(), code }
}

/// A consistent reading of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Number of the last entry.
    pub last: u64,
    /// Requests that have no outcome yet, by client.
    pub under_way: BTreeMap<String, u64>,
    /// Finished requests.
    pub totals: Vec<(LedgerKey, u64)>,
    /// Injected failures by rule.
    pub by_rule: BTreeMap<String, u64>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    last: u64,
    /// The highest number of a connection before the last restart.
    connections: u64,
    totals: HashMap<LedgerKey, u64>,
    /// Requests without an outcome, by number.
    under_way: HashMap<u64, LedgerKey>,
    by_rule: BTreeMap<String, u64>,
    journal: Option<Journal>,
}

/// All decisions of one proxy.
#[derive(Default)]
pub struct Ledger {
    state: Mutex<State>,
}

/// What is known when a request comes in.
pub(crate) struct Opening<'a> {
    pub(crate) now: Timestamp,
    pub(crate) connection: u64,
    pub(crate) on_connection: u64,
    pub(crate) of_client: u64,
    pub(crate) protocol: Protocol,
    pub(crate) client: Arc<Client>,
    pub(crate) method: Word,
    pub(crate) target: String,
    pub(crate) info: Option<&'a RequestInfo>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) verdict: &'static str,
}

impl State {
    fn snapshot(&self) -> Snapshot {
        let mut under_way = BTreeMap::<String, u64>::new();
        for key in self.under_way.values() {
            *under_way.entry(key.client.clone()).or_default() += 1;
        }
        let mut totals: Vec<_> = self.totals.iter().map(|(key, count)| (key.clone(), *count)).collect();
        totals.sort();
        Snapshot { last: self.last, under_way, totals, by_rule: self.by_rule.clone() }
    }

    fn push(&mut self, entry: Entry) {
        self.last = entry.number;
        self.under_way.insert(entry.number, entry.key_with(Word::Borrowed("")));
        if let Some(rule) = &entry.rule {
            match self.by_rule.get_mut(&**rule) {
                Some(count) => *count += 1,
                None => drop(self.by_rule.insert(rule.to_string(), 1)),
            }
        }
        if self.entries.len() == KEEP {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// An entry that is kept. Numbers follow one another but where a journal was shortened, so its place is mostly known.
    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let first = self.entries.front()?.number;
        let guess = usize::try_from(number.checked_sub(first)?).ok()?;
        let index = match self.entries.get(guess) {
            Some(entry) if entry.number == number => guess,
            _ => self.entries.binary_search_by_key(&number, |entry| entry.number).ok()?,
        };
        self.entries.get_mut(index)
    }

    /// Notes an outcome; false if there was one already.
    fn finish(&mut self, number: u64, outcome: &Outcome, now: Timestamp) -> bool {
        let Some(mut key) = self.under_way.remove(&number) else { return false };
        key.code = outcome.code();
        if let Some(entry) = self.entry(number) {
            entry.outcome = Some(outcome.clone());
            entry.code = Some(key.code.clone());
            entry.ended = Some(now);
        }
        if let Some(count) = self.totals.get_mut(&key) {
            *count += 1;
            return true;
        }
        if self.totals.len() >= MAX_TOTALS {
            key = others(key.code);
        }
        *self.totals.entry(key).or_default() += 1;
        true
    }

    /// Writes the journal anew, short.
    fn shorten(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        if let Err(error) = journal.rewrite(&self.before(), self.entries.iter()) {
            tracing::error!(%error, "the ledger's journal cannot be shortened");
        }
        self.journal = Some(journal);
    }

    /// All that the entries which are kept do not tell.
    fn before(&self) -> journal::Before {
        let mut totals = self.totals.clone();
        let mut by_rule = self.by_rule.clone();
        for entry in &self.entries {
            // A total is never taken away, so one that is not there was never told apart.
            let key = entry.key().map(|key| if self.totals.contains_key(&key) { key } else { others(key.code) });
            if let Some(count) = key.and_then(|key| totals.get_mut(&key)) {
                *count -= 1;
            }
            if let Some(count) = entry.rule.as_deref().and_then(|rule| by_rule.get_mut(rule)) {
                *count -= 1;
            }
        }
        totals.retain(|_, count| *count > 0);
        by_rule.retain(|_, count| *count > 0);
        let first = self.entries.front().map_or(u64::MAX, |entry| entry.number);
        let under_way = self.under_way.iter().filter(|(number, _)| **number < first);
        journal::Before {
            last: self.last,
            connections: self.connections,
            totals: totals.into_iter().collect(),
            by_rule,
            under_way: under_way.map(|(number, key)| (*number, key.clone())).collect(),
        }
    }
}

impl Ledger {
    /// A ledger that is kept in a file, and goes on where that file ends. What was under way when it was written last has the
    /// outcome [`Outcome::Interrupted`].
    ///
    /// # Errors
    /// When the file cannot be read or written, or is none of this kind; the message names the line.
    pub fn with_journal(path: &Path, now: Timestamp) -> Result<Self, String> {
        let mut state = State::default();
        let journal = Journal::open(path, &mut |line| match line {
            journal::Line::Before(before) => {
                state.last = before.last;
                state.connections = before.connections;
                state.by_rule = before.by_rule;
            }
            journal::Line::Total(key, count) => drop(state.totals.insert(key, count)),
            journal::Line::UnderWay(number, key) => drop(state.under_way.insert(number, key)),
            journal::Line::Open(entry) => {
                state.connections = state.connections.max(entry.connection);
                let (outcome, number, ended) = (entry.outcome.clone(), entry.number, entry.ended);
                state.push(*entry);
                if let Some(outcome) = outcome {
                    state.finish(number, &outcome, ended.unwrap_or(now));
                }
            }
            journal::Line::Close(number, outcome, ended) => drop(state.finish(number, &outcome, ended)),
        })?;
        state.journal = Some(journal);
        let mut cut_off: Vec<u64> = state.under_way.keys().copied().collect();
        cut_off.sort_unstable();
        let ledger = Self { state: Mutex::new(state) };
        for number in cut_off {
            ledger.close(number, &Outcome::Interrupted, now);
        }
        Ok(ledger)
    }

    pub(crate) fn open(&self, opening: Opening<'_>) -> u64 {
        let mut state = self.state.lock().expect("no panic while held");
        let number = state.last + 1;
        let connection = if opening.connection == 0 { 0 } else { opening.connection + state.connections };
        let entry = Entry {
            number,
            time: opening.now,
            ended: None,
            connection,
            on_connection: opening.on_connection,
            of_client: opening.of_client,
            protocol: opening.protocol,
            client: opening.client,
            method: opening.method,
            target: opening.target,
            verb: Word::Borrowed(opening.info.map_or("dial", |info| info.verb.as_str())),
            resource: opening.info.map(RequestInfo::resource_path).unwrap_or_default(),
            rule: opening.rule.map(Arc::from),
            verdict: Word::Borrowed(opening.verdict),
            outcome: None,
            code: None,
        };
        if let Some(journal) = &mut state.journal {
            journal.write_open(&entry);
        }
        state.push(entry);
        number
    }

    /// Notes what became of an entry, once.
    pub(crate) fn close(&self, number: u64, outcome: &Outcome, now: Timestamp) {
        let mut state = self.state.lock().expect("no panic while held");
        if state.finish(number, outcome, now)
            && let Some(journal) = &mut state.journal
        {
            journal.write_close(number, outcome, now);
            if journal.is_long() {
                state.shorten();
            }
        }
    }

    #[cfg(test)]
    fn shorten(&self) {
        self.state.lock().expect("no panic while held").shorten();
    }

    /// Totals and what is under way, of one moment.
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().expect("no panic while held").snapshot()
    }

    /// The entries after a number, oldest first, as far as they are kept; `limit` of them at most, the newest ones.
    pub fn entries(&self, after: u64, limit: usize) -> Vec<Entry> {
        let state = self.state.lock().expect("no panic while held");
        let matching = state.entries.iter().filter(|entry| entry.number > after).count();
        state.entries.iter().filter(|entry| entry.number > after).skip(matching.saturating_sub(limit)).cloned().collect()
    }

    /// The totals as metrics, in Prometheus' text format.
    pub fn exposition(&self) -> String {
        let snapshot = self.snapshot();
        let registry = Registry::default();
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let family = |name: &str, kind, help: &str, names: &[&str]| Family {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            labels: labels(names),
            ..Family::default()
        };
        const REQUESTS: &str = "fault_proxy_requests_total";
        const FAULTS: &str = "fault_proxy_faults_total";
        const UNDER_WAY: &str = "fault_proxy_requests_under_way";
        let names = ["client", "method", "verb", "resource", "code"];
        let help = "Finished requests, by the code that a client-go client counts for them.";
        registry.declare(family(REQUESTS, Kind::Counter, help, &names));
        registry.declare(family(FAULTS, Kind::Counter, "Decisions of each fault.", &["fault"]));
        registry.declare(family(UNDER_WAY, Kind::Gauge, "Requests that have no outcome yet.", &["client"]));
        for (key, count) in &snapshot.totals {
            let values = [&*key.client, &*key.method, &*key.verb, &*key.resource, &*key.code];
            let pairs: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
            registry.add(REQUESTS, &pairs, *count as f64);
        }
        for (rule, count) in &snapshot.by_rule {
            registry.add(FAULTS, &[("fault", rule)], *count as f64);
        }
        for (client, count) in &snapshot.under_way {
            registry.set(UNDER_WAY, &[("client", client)], *count as f64);
        }
        registry.page()
    }
}
