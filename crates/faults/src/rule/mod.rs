//! Rules as people write them: which requests, what happens to them, how often.

mod budget;
mod effect;
mod file;
mod matcher;

use kubeapi::{RequestInfo, Verb};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use budget::Budget;
pub(crate) use budget::{Count, random};
pub use effect::{
    BandwidthEffect, BodyEffect, BreakEffect, DelayEffect, Effect, HangEffect, Pause, Phase, StaleEffect, StatusEffect,
    StreamCode, TlsEffect, Unit, WatchEffect,
};
pub use file::{read_located, read_rules};
pub use matcher::{Asked, ClientMatch, Matcher, Numbers, OneOrMany, glob};

use crate::ledger::Entry;

/// A fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in lists and in the ledger.
    pub name: String,
    /// Which requests.
    #[serde(default, rename = "match")]
    pub matcher: Matcher,
    /// What happens to them.
    pub effect: Effect,
    /// How often.
    #[serde(default)]
    pub budget: Budget,
}

/// A rule that cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("fault {name:?}: {why}")]
pub struct RuleError {
    /// The rule's name.
    pub name: String,
    /// What is wrong and what to do.
    pub why: String,
}

impl Rule {
    /// Whether it speaks of this request or connection, whatever its budget.
    pub fn is_about(&self, entry: &Entry) -> bool {
        let is_dial = entry.verb == "dial";
        if self.effect.phase() != Phase::Request {
            // Each connection that is there was opened once, by its first request at the latest.
            return self.matcher.matches_dial(&entry.client);
        }
        let (path, query) =
            entry.target.split_once('?').map_or((entry.target.as_str(), None), |(path, query)| (path, Some(query)));
        let info = RequestInfo::parse(&entry.method, path, query);
        let asked = Asked { client: &entry.client, info: &info, of_client: entry.of_client, on_connection: entry.on_connection };
        !is_dial && self.matcher.matches(&asked)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When a setting is out of range, a verb is unknown, or the matcher asks for what the
    /// effect cannot know.
    pub fn check(&self) -> Result<(), RuleError> {
        let error = |why: String| RuleError { name: self.name.clone(), why };
        if self.name.is_empty() {
            return Err(error("a name is required".to_owned()));
        }
        self.effect.check().map_err(error)?;
        self.budget.check().map_err(error)?;
        let conditions = [&self.budget.from_request, &self.budget.until_request];
        let matchers = conditions.into_iter().flatten().map(|matcher| &**matcher).chain([&self.matcher]);
        for verb in matchers.flat_map(|matcher| matcher.verb.values()) {
            let word = verb.trim_start_matches('!');
            if word != "*" && Verb::parse(word).is_none() {
                let all: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
                return Err(error(format!("unknown verb {word:?}; use one of {}", all.join(", "))));
            }
        }
        if self.effect.phase() != Phase::Request && self.matcher.speaks_of_requests() {
            let effect = self.effect.name();
            return Err(error(format!("{effect} acts on a connection, before a request is known; match only the client")));
        }
        if matches!(self.effect, Effect::Watch(_)) && !self.matcher.may_be("watch") {
            return Err(error("watch changes events, but the match excludes watches; set verb: watch".to_owned()));
        }
        if matches!(self.effect, Effect::Stale(_)) && !self.matcher.may_be("get") && !self.matcher.may_be("list") {
            return Err(error("stale answers reads, but the match excludes them; set verb: [get, list]".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_one_effect() {
        for (rule, expected) in [
            (r#"{"name":"a","effect":{}}"#, "an effect is required: one of pass, status"),
            (r#"{"name":"a","effect":{"pass":{},"reset":{}}}"#, "an effect has one key, not pass and reset"),
            (r#"{"name":"a","effect":{"delay":{}}}"#, "a delay needs one of"),
            (r#"{"name":"a","effect":{"delay":{"for":1,"normal":[1,1]}}}"#, "exactly one of"),
        ] {
            let error = serde_json::from_str::<Rule>(rule).unwrap_err().to_string();
            assert!(error.contains(expected), "{rule}: {error}");
        }
        let text = r#"{"name":"a","match":{},"effect":{"delay":{"for":2.0,"after":true}},"budget":{}}"#;
        let rule: Rule = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&rule.effect).unwrap(), serde_json::json!({"delay": {"for": 2.0, "after": true}}));
    }

    #[test]
    fn every_effect_is_written_as_it_is_named() {
        for key in <Effect as wire::OneKey>::KEYS {
            let settings = match *key {
                "status" => r#"{"code":500}"#,
                "delay" => r#"{"for":1}"#,
                "bandwidth" => r#"{"bytesPerSecond":1}"#,
                "tls" => r#""expired""#,
                "body" => r#""empty""#,
                "watch" => r#""duplicate""#,
                "stale" => r#"{"age":1}"#,
                _ => "{}",
            };
            let effect: Effect = serde_json::from_str(&format!("{{\"{key}\":{settings}}}")).unwrap();
            assert_eq!(effect.name(), *key);
            assert!(serde_json::to_value(&effect).unwrap().get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn impossible_rules_are_refused() {
        for (rule, expected) in [
            (r#"{"name":"a","effect":{"status":{"code":200}}}"#, "is no failure"),
            (r#"{"name":"a","match":{"verb":"read"},"effect":{"reset":{}}}"#, "unknown verb"),
            (r#"{"name":"a","match":{"verb":"list"},"effect":{"refuse":{}}}"#, "before a request is known"),
            (r#"{"name":"a","effect":{"hang":{"for":-1}}}"#, "out of range"),
            (r#"{"name":"a","effect":{"delay":{"between":[3,1]}}}"#, "smaller number first"),
            (r#"{"name":"a","effect":{"reset":{"afterHeaders":true,"afterBytes":3}}}"#, "exclude each other"),
            (r#"{"name":"a","effect":{"status":{"code":500,"headers":{"a b":"c"}}}}"#, "is no header"),
            (r#"{"name":"a","effect":{"bandwidth":{"bytesPerSecond":0}}}"#, "use hang"),
            (r#"{"name":"a","match":{"resource":"pods"},"effect":{"tls":"expired"}}"#, "before a request is known"),
            (r#"{"name":"a","match":{"client":{"userAgent":"x"}},"effect":{"drop":{}}}"#, "before a request is known"),
            (r#"{"name":"a","match":{"verb":"list"},"effect":{"watch":"duplicate"}}"#, "excludes watches"),
            (r#"{"name":"a","match":{"verb":"create"},"effect":{"stale":{"age":3}}}"#, "set verb: [get, list]"),
            (r#"{"name":"a","match":{"nthOnConnection":1},"effect":{"refuse":{}}}"#, "before a request is known"),
            (r#"{"name":"a","effect":{"reset":{"connection":true,"code":"CANCEL"}}}"#, "a code is for a stream"),
            (r#"{"name":"a","effect":{"status":{"code":502,"body":"x","message":"y"}}}"#, "set one of them"),
            (r#"{"name":"a","effect":{"pass":{}},"budget":{"untilRequest":{"verb":"read"}}}"#, "unknown verb"),
            (r#"{"name":"a","effect":{"reset":{}},"budget":{"every":0}}"#, "every: 0"),
        ] {
            let rule: Rule = serde_json::from_str(rule).unwrap();
            assert!(rule.check().unwrap_err().to_string().contains(expected), "{rule:?}");
        }
    }
}
