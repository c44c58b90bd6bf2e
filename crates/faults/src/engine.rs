//! The ordered list of rules and their budgets.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jiff::Timestamp;
use kubeapi::RequestInfo;
use serde::Serialize;

use crate::ledger::Client;
use crate::rule::{Count, Effect, Phase, Rule, RuleError, random};

/// How many clients a rule with `perClient` tells apart; those that come later share a count.
const MAX_CLIENTS: usize = 10_000;

/// A rule in force, with what it did so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
}

impl Armed {
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
}

impl Decision {
    /// The effect; pass where no rule matched.
    pub fn effect(&self) -> &Effect {
        static PASS: LazyLock<Effect> = LazyLock::new(Effect::default);
        self.rule.as_ref().map_or(&*PASS, |(rule, _)| &rule.effect)
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
}

impl Engine {
    /// Puts a rule at the end of the list; its id.
    ///
    /// # Errors
    /// When the rule cannot work, or a rule of that name is armed.
    pub fn add(&self, now: Timestamp, mut rule: Rule) -> Result<u64, RuleError> {
        rule.check()?;
        let mut state = self.state.lock().expect("no panic while held");
        if state.rules.iter().any(|armed| armed.rule.name == rule.name) {
            return Err(RuleError { why: "a fault of that name is armed; clear it first".to_owned(), name: rule.name });
        }
        state.next_id += 1;
        let id = state.next_id;
        if rule.budget.probability.is_some() && rule.budget.seed.is_none() {
            // Any number will do, as long as it is shown.
            rule.budget.seed = Some(now.as_nanosecond().unsigned_abs() as u64 % 1_000_000);
        }
        let (total, by_client) = (Count::default(), HashMap::new());
        state.rules.push(Armed { id, rule: Arc::new(rule), since: now, total, by_client });
        Ok(id)
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

    /// Decides over a request.
    pub fn decide(&self, now: Timestamp, client: &Client, info: &RequestInfo) -> Decision {
        self.first(now, client, |rule| rule.effect.phase() == Phase::Request && rule.matcher.matches(client, info))
    }

    /// Decides over a connection that a client is about to open, or over its handshake.
    pub fn decide_connection(&self, now: Timestamp, phase: Phase, client: &Client) -> Decision {
        self.first(now, client, |rule| rule.effect.phase() == phase && rule.matcher.matches_dial(client))
    }

    fn first(&self, now: Timestamp, client: &Client, matches: impl Fn(&Rule) -> bool) -> Decision {
        let mut state = self.state.lock().expect("no panic while held");
        let found = state.rules.iter_mut().find_map(|armed| {
            let decides = matches(&armed.rule) && armed.takes(now, client);
            decides.then(|| (armed.rule.clone(), armed.total.hits))
        });
        Decision { rule: found }
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
        Effect { reset: Some(BreakEffect::default()), ..Effect::default() }
    }

    fn info() -> RequestInfo {
        RequestInfo::parse("GET", "/api/v1/pods", None)
    }

    #[test]
    fn the_first_rule_with_budget_decides() {
        let engine = Engine::default();
        let status = StatusEffect { code: 500, retry_after: None, message: None, headers: Default::default() };
        let status = Effect { status: Some(status), ..Effect::default() };
        engine.add(NOW, rule("a", reset(), Some(1))).unwrap();
        engine.add(NOW, rule("b", status, Some(1))).unwrap();
        let names: Vec<Option<String>> =
            (0..3).map(|_| engine.decide(NOW, &Client::default(), &info()).rule.map(|(rule, _)| rule.name.clone())).collect();
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
                    scope.spawn(|| (0..1000).filter(|_| engine.decide(NOW, &Client::default(), &info()).rule.is_some()).count())
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
            (0..5).filter(|_| engine.decide(NOW, &client, &info()).rule.is_some()).count()
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
        engine.add(NOW, rule("b", Effect { pass: Some(crate::rule::Unit {}), ..Effect::default() }, None)).unwrap();
        let names: Vec<String> = (0..3)
            .filter_map(|_| engine.decide(NOW, &Client::default(), &info()).rule.map(|(rule, _)| rule.name.clone()))
            .collect();
        assert_eq!(names, ["b", "a", "b"]);
    }
}
