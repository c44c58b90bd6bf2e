//! The ordered list of rules and their budgets.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kubeapi::RequestInfo;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::rule::{Asked, Count, Effect, Phase, Rule, RuleError, Unit, random};

/// How many clients are told apart; those that come later share a count.
const MAX_CLIENTS: usize = 10_000;

/// A rule in force, with what it did so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmedRule {
    /// Counts rules of this engine from 1.
    pub id: u64,
    /// The rule; a seed was chosen if it needs one and had none.
    #[serde(flatten)]
    pub rule: Arc<Rule>,
    /// How many requests matched while it was asked.
    pub seen: u64,
    /// How often it decided.
    pub hits: u64,
    /// When it was armed, RFC 3339.
    pub since: String,
}

struct Armed {
    id: u64,
    rule: Arc<Rule>,
    since: Timestamp,
    total: Count,
    by_client: HashMap<String, Count>,
    /// Whether the request that it begins with, and the one that it ends with, have come.
    begun: bool,
    ended: bool,
}

impl Armed {
    fn new(id: u64, now: Timestamp, mut rule: Rule) -> Self {
        if rule.budget.probability.is_some() && rule.budget.seed.is_none() {
            // Any number will do, as long as it is shown.
            rule.budget.seed = Some(now.as_nanosecond().unsigned_abs() as u64 % 1_000_000 + id);
        }
        let begun = rule.budget.from_request.is_none();
        let (total, by_client) = (Count::default(), HashMap::new());
        Self { id, rule: Arc::new(rule), since: now, total, by_client, begun, ended: false }
    }

    /// Whether its conditions let it act on this request; it takes note of the requests that they speak of.
    fn is_open(&mut self, asked: &Asked<'_>) -> bool {
        let budget = &self.rule.budget;
        self.ended |= budget.until_request.as_ref().is_some_and(|end| end.matches(asked));
        let open = self.begun && !self.ended;
        if !self.begun {
            self.begun = budget.from_request.as_ref().is_none_or(|begin| begin.matches(asked));
        }
        open
    }

    fn takes(&mut self, now: Timestamp, client: &Client) -> bool {
        let elapsed = now.duration_since(self.since).as_secs_f64();
        let budget = &self.rule.budget;
        if !budget.per_client {
            return budget.takes(&mut self.total, elapsed);
        }
        let key = client.key();
        let key = if self.by_client.len() < MAX_CLIENTS || self.by_client.contains_key(key) { key } else { "" };
        let takes = budget.takes(self.by_client.entry(key.to_owned()).or_default(), elapsed);
        self.total.seen += 1;
        self.total.hits += u64::from(takes);
        takes
    }

    fn shown(&self) -> ArmedRule {
        ArmedRule {
            id: self.id,
            rule: self.rule.clone(),
            seen: self.total.seen,
            hits: self.total.hits,
            since: self.since.to_string(),
        }
    }
}

/// What happens to one request or connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The rule that decided, and which of its hits this is, from 1; none if no rule matched.
    pub rule: Option<(Arc<Rule>, u64)>,
    /// Which request of its client this is, from 1; 0 for a connection.
    pub of_client: u64,
    /// For how long the answer is to be kept, since a `stale` rule speaks of the request, whether or not it decided.
    pub keep: Option<Duration>,
    /// Whether any `stale` rule is armed; if not, nothing needs to be kept any more.
    pub keeps: bool,
}

impl Decision {
    /// The effect; pass where no rule matched.
    pub fn effect(&self) -> &Effect {
        const PASS: &Effect = &Effect::Pass(Unit {});
        self.rule.as_ref().map_or(PASS, |(rule, _)| &rule.effect)
    }

    /// Two numbers between 0 and 1 for this hit, the same in every run with the rule's seed.
    pub fn randoms(&self) -> [f64; 2] {
        let (seed, hit) = self.rule.as_ref().map_or((0, 0), |(rule, hit)| (rule.budget.seed.unwrap_or_default(), *hit));
        [random(!seed, 2 * hit), random(!seed, 2 * hit + 1)]
    }
}

/// Decides over requests. Budgets are exact: a decision and its count are one step.
#[derive(Default)]
pub struct Engine {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Armed>,
    next_id: u64,
    /// Requests by client.
    clients: HashMap<String, u64>,
}

impl Engine {
    /// Puts a rule at the end of the list; its id.
    ///
    /// # Errors
    /// When the rule cannot work, or a rule of that name is armed.
    pub fn add(&self, now: Timestamp, rule: Rule) -> Result<u64, RuleError> {
        self.add_all(now, vec![rule]).map(|ids| ids.start)
    }

    /// Puts rules at the end of the list, all of them or none; their ids.
    ///
    /// # Errors
    /// See [`Engine::add`].
    pub fn add_all(&self, now: Timestamp, rules: Vec<Rule>) -> Result<Range<u64>, RuleError> {
        let mut state = self.state.lock().expect("no panic while held");
        for (index, rule) in rules.iter().enumerate() {
            rule.check()?;
            let why = if state.rules.iter().any(|armed| armed.rule.name == rule.name) {
                "a fault of that name is armed; clear it first"
            } else if rules[..index].iter().any(|other| other.name == rule.name) {
                "there are two faults of that name"
            } else {
                continue;
            };
            return Err(RuleError { why: why.to_owned(), name: rule.name.clone() });
        }
        let first = state.next_id + 1;
        for rule in rules {
            state.next_id += 1;
            let armed = Armed::new(state.next_id, now, rule);
            state.rules.push(armed);
        }
        Ok(first..state.next_id + 1)
    }

    /// All rules in order.
    pub fn list(&self) -> Vec<ArmedRule> {
        self.state.lock().expect("no panic while held").rules.iter().map(Armed::shown).collect()
    }

    /// Takes rules out, by name, or all of them; how many.
    pub fn clear(&self, name: Option<&str>) -> usize {
        let mut state = self.state.lock().expect("no panic while held");
        let before = state.rules.len();
        state.rules.retain(|armed| name.is_some_and(|name| armed.rule.name != name));
        before - state.rules.len()
    }

    /// Decides over a request. `on_connection`: which request of its connection it is, from 1.
    pub fn decide(&self, now: Timestamp, client: &Client, info: &RequestInfo, on_connection: u64) -> Decision {
        let mut state = self.state.lock().expect("no panic while held");
        let of_client = state.count(client.key());
        let asked = Asked { client, info, of_client, on_connection };
        let mut keep = None;
        let mut keeps = false;
        let mut rule = None;
        // Every rule looks at every request, for what its conditions wait for; the first that may and will decides.
        for armed in &mut state.rules {
            let open = armed.is_open(&asked);
            keeps |= armed.rule.effect.stale_age().is_some();
            if armed.rule.effect.phase() != Phase::Request || !armed.rule.matcher.matches(&asked) {
                continue;
            }
            keep = keep.max(armed.rule.effect.stale_age());
            if open && rule.is_none() && armed.takes(now, client) {
                rule = Some((armed.rule.clone(), armed.total.hits));
            }
        }
        Decision { rule, of_client, keep, keeps }
    }

    /// Decides over a connection that a client is about to open, or over its handshake.
    pub fn decide_connection(&self, now: Timestamp, phase: Phase, client: &Client) -> Decision {
        let mut state = self.state.lock().expect("no panic while held");
        let rule = state.rules.iter_mut().find_map(|armed| {
            let speaks = armed.rule.effect.phase() == phase && armed.rule.matcher.matches_dial(client);
            let decides = speaks && armed.begun && !armed.ended && armed.takes(now, client);
            decides.then(|| (armed.rule.clone(), armed.total.hits))
        });
        Decision { rule, of_client: 0, keep: None, keeps: true }
    }
}

impl State {
    /// Counts a request of a client; 0 where there are too many clients.
    fn count(&mut self, client: &str) -> u64 {
        if let Some(count) = self.clients.get_mut(client) {
            *count += 1;
            return *count;
        }
        if self.clients.len() >= MAX_CLIENTS {
            return 0;
        }
        self.clients.insert(client.to_owned(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{BreakEffect, Budget, Matcher, StatusEffect};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn rule(name: &str, effect: Effect, first: Option<u64>) -> Rule {
        Rule { name: name.to_owned(), matcher: Matcher::default(), effect, budget: Budget { first, ..Budget::default() } }
    }

    fn reset() -> Effect {
        Effect::Reset(BreakEffect::default())
    }

    fn info() -> RequestInfo {
        RequestInfo::parse("GET", "/api/v1/pods", None)
    }

    #[test]
    fn the_first_rule_with_budget_decides() {
        let engine = Engine::default();
        let status = Effect::Status(StatusEffect::of(500));
        engine.add(NOW, rule("a", reset(), Some(1))).unwrap();
        engine.add(NOW, rule("b", status, Some(1))).unwrap();
        let names: Vec<Option<String>> =
            (0..3).map(|_| engine.decide(NOW, &Client::default(), &info(), 1).rule.map(|(rule, _)| rule.name.clone())).collect();
        assert_eq!(names, [Some("a".to_owned()), Some("b".to_owned()), None]);
        assert!(engine.add(NOW, rule("a", reset(), None)).is_err());
        assert_eq!((engine.clear(Some("a")), engine.clear(None)), (1, 1));
    }

    #[test]
    fn a_budget_is_exact_under_concurrency() {
        let engine = Engine::default();
        engine.add(NOW, rule("a", reset(), Some(100))).unwrap();
        let hits: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope
                        .spawn(|| (0..1000).filter(|_| engine.decide(NOW, &Client::default(), &info(), 1).rule.is_some()).count())
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((hits, engine.list()[0].hits), (100, 100));
    }

    #[test]
    fn each_client_has_a_budget_of_its_own_where_the_rule_says_so() {
        let engine = Engine::default();
        let mut once = rule("a", reset(), Some(1));
        once.budget.per_client = true;
        engine.add(NOW, once).unwrap();
        let hits = |pod: &str| {
            let client = Client { pod: Some(pod.to_owned()), ..Client::default() };
            (0..5).filter(|_| engine.decide(NOW, &client, &info(), 1).rule.is_some()).count()
        };
        assert_eq!((hits("a"), hits("b"), hits("a")), (1, 1, 0));
        assert_eq!((engine.list()[0].seen, engine.list()[0].hits), (15, 2));
    }

    #[test]
    fn a_rule_whose_turn_it_is_not_leaves_the_request_to_the_next() {
        let engine = Engine::default();
        let mut second = rule("a", reset(), None);
        second.budget.ordinals = vec![2];
        engine.add(NOW, second).unwrap();
        engine.add(NOW, rule("b", Effect::Pass(Unit {}), None)).unwrap();
        let names: Vec<String> = (0..3)
            .filter_map(|_| engine.decide(NOW, &Client::default(), &info(), 1).rule.map(|(rule, _)| rule.name.clone()))
            .collect();
        assert_eq!(names, ["b", "a", "b"]);
    }

    #[test]
    fn rules_are_armed_together_or_not_at_all() {
        let engine = Engine::default();
        engine.add(NOW, rule("b", reset(), None)).unwrap();
        for rules in
            [vec![rule("a", reset(), None), rule("b", reset(), None)], vec![rule("a", reset(), None), rule("a", reset(), None)]]
        {
            assert!(engine.add_all(NOW, rules).is_err());
            assert_eq!(engine.list().len(), 1);
        }
        assert_eq!(engine.add_all(NOW, vec![rule("c", reset(), None), rule("d", reset(), None)]).unwrap(), 2..4);
    }

    #[test]
    fn a_rule_begins_and_ends_with_requests() {
        let engine = Engine::default();
        let mut between = rule("a", reset(), None);
        let matcher = |text: &str| Some(Box::new(serde_json::from_str::<Matcher>(text).unwrap()));
        between.budget.from_request = matcher(r#"{"verb":"create"}"#);
        between.budget.until_request = matcher(r#"{"verb":"delete"}"#);
        engine.add(NOW, between).unwrap();
        let hits: Vec<&str> = ["GET", "POST", "GET", "PUT", "POST", "DELETE", "GET", "POST"]
            .into_iter()
            .filter(|method| {
                let info = RequestInfo::parse(method, "/api/v1/namespaces/a/pods/p", None);
                engine.decide(NOW, &Client::default(), &info, 1).rule.is_some()
            })
            .collect();
        assert_eq!(hits, ["GET", "PUT", "POST"]);
    }

    #[test]
    fn requests_are_numbered_by_client_and_kept_where_a_rule_wants_the_past() {
        let engine = Engine::default();
        let mut second: Rule = rule("a", reset(), None);
        second.matcher = serde_json::from_str(r#"{"nthOfClient": 2}"#).unwrap();
        let stale: Rule = serde_json::from_str(r#"{"name":"s","effect":{"stale":{"age":3}},"budget":{"first":1}}"#).unwrap();
        engine.add_all(NOW, vec![second, stale]).unwrap();
        let names = |pod: &str| {
            let client = Client { pod: Some(pod.to_owned()), ..Client::default() };
            let decision = engine.decide(NOW, &client, &info(), 1);
            assert_eq!(decision.keep, Some(Duration::from_secs(3)), "whether or not it decides");
            decision.rule.map_or_else(String::new, |(rule, _)| rule.name.clone())
        };
        assert_eq!([names("x"), names("x"), names("y"), names("y")], ["s", "a", "", "a"]);
    }
}
