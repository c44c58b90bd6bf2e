//! The ordered list of rules and their budgets.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kubeapi::RequestInfo;
use serde::Serialize;

use crate::ledger::Client;
use crate::rule::{Effect, Rule, RuleError};

/// A rule in force, with what it did so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmedRule {
    /// Counts rules of this engine from 1.
    pub id: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: Arc<Rule>,
    /// How often it decided.
    pub hits: u64,
    /// When it was armed, RFC 3339.
    pub since: String,
}

impl ArmedRule {
    fn has_budget(&self) -> bool {
        self.rule.budget.first.is_none_or(|first| self.hits < first)
    }
}

/// What happens to one request or connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The rule that decided; none if no rule matched.
    pub rule: Option<(u64, Arc<Rule>)>,
}

impl Decision {
    /// The effect; pass where no rule matched.
    pub fn effect(&self) -> Effect {
        self.rule.as_ref().map_or_else(Effect::default, |(_, rule)| rule.effect.clone())
    }
}

/// Decides over requests. Budgets are exact: a decision and its count are one step.
#[derive(Default)]
pub struct Engine {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<ArmedRule>,
    next_id: u64,
}

impl Engine {
    /// Puts a rule at the end of the list; its id.
    ///
    /// # Errors
    /// When the rule cannot work, or a rule of that name is armed.
    pub fn add(&self, now: Timestamp, rule: Rule) -> Result<u64, RuleError> {
        rule.check()?;
        let mut state = self.state.lock().expect("no panic while held");
        if state.rules.iter().any(|armed| armed.rule.name == rule.name) {
            return Err(RuleError { why: "a fault of that name is armed; clear it first".to_owned(), name: rule.name });
        }
        state.next_id += 1;
        let id = state.next_id;
        state.rules.push(ArmedRule { id, rule: Arc::new(rule), hits: 0, since: now.to_string() });
        Ok(id)
    }

    /// All rules in order.
    pub fn list(&self) -> Vec<ArmedRule> {
        self.state.lock().expect("no panic while held").rules.clone()
    }

    /// Takes rules out, by name, or all of them; how many.
    pub fn clear(&self, name: Option<&str>) -> usize {
        let mut state = self.state.lock().expect("no panic while held");
        let before = state.rules.len();
        state.rules.retain(|armed| name.is_some_and(|name| armed.rule.name != name));
        before - state.rules.len()
    }

    /// Decides over a request.
    pub fn decide(&self, client: &Client, info: &RequestInfo) -> Decision {
        self.first(|rule| rule.effect.refuse.is_none() && rule.matcher.matches(client, info))
    }

    /// Decides over a connection that a client is about to open: `true` refuses it.
    pub fn decide_dial(&self, client: &Client) -> Decision {
        self.first(|rule| rule.effect.refuse.is_some() && rule.matcher.matches_dial(client))
    }

    fn first(&self, matches: impl Fn(&Rule) -> bool) -> Decision {
        let mut state = self.state.lock().expect("no panic while held");
        let found = state.rules.iter_mut().find(|armed| armed.has_budget() && matches(&armed.rule));
        Decision {
            rule: found.map(|armed| {
                armed.hits += 1;
                (armed.id, armed.rule.clone())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Budget, Matcher, StatusEffect, Unit};

    fn rule(name: &str, effect: Effect, first: Option<u64>) -> Rule {
        Rule { name: name.to_owned(), matcher: Matcher::default(), effect, budget: Budget { first } }
    }

    fn reset() -> Effect {
        Effect { reset: Some(Unit {}), ..Effect::default() }
    }

    fn info() -> RequestInfo {
        RequestInfo::parse("GET", "/api/v1/pods", None)
    }

    #[test]
    fn the_first_rule_with_budget_decides() {
        let engine = Engine::default();
        let status = Effect { status: Some(StatusEffect { code: 500, retry_after: None, message: None }), ..Effect::default() };
        engine.add(Timestamp::UNIX_EPOCH, rule("a", reset(), Some(1))).unwrap();
        engine.add(Timestamp::UNIX_EPOCH, rule("b", status, Some(1))).unwrap();
        let names: Vec<Option<String>> =
            (0..3).map(|_| engine.decide(&Client::default(), &info()).rule.map(|(_, rule)| rule.name.clone())).collect();
        assert_eq!(names, [Some("a".to_owned()), Some("b".to_owned()), None]);
        assert!(engine.add(Timestamp::UNIX_EPOCH, rule("a", reset(), None)).is_err());
        assert_eq!((engine.clear(Some("a")), engine.clear(None)), (1, 1));
    }

    #[test]
    fn a_budget_is_exact_under_concurrency() {
        let engine = Engine::default();
        engine.add(Timestamp::UNIX_EPOCH, rule("a", reset(), Some(100))).unwrap();
        let hits: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| engine.decide(&Client::default(), &info()).rule.is_some()).count()))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((hits, engine.list()[0].hits), (100, 100));
    }
}
