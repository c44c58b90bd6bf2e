//! Rules as people write them.

use std::time::Duration;

use kubeapi::{RequestInfo, Verb};
use serde::{Deserialize, Serialize};

use crate::ledger::Client;

/// One value or a list of values, any of which will do. A value that begins with `!` must not match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Vec<String>")]
pub struct OneOrMany(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Many(Vec<String>),
}

impl From<Written> for OneOrMany {
    fn from(written: Written) -> Self {
        match written {
            Written::One(one) => Self(vec![one]),
            Written::Many(many) => Self(many),
        }
    }
}

impl From<OneOrMany> for Vec<String> {
    fn from(values: OneOrMany) -> Self {
        values.0
    }
}

impl From<&str> for OneOrMany {
    fn from(text: &str) -> Self {
        Self(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }
}

impl OneOrMany {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values as written.
    pub fn values(&self) -> &[String] {
        &self.0
    }

    fn matches_by(&self, test: impl Fn(&str) -> bool) -> bool {
        let (denied, wanted): (Vec<&str>, Vec<&str>) =
            self.0.iter().map(String::as_str).partition(|value| value.starts_with('!'));
        !denied.iter().any(|value| test(&value[1..])) && (wanted.is_empty() || wanted.iter().any(|value| test(value)))
    }

    fn matches(&self, value: &str) -> bool {
        self.matches_by(|wanted| glob(wanted, value))
    }
}

/// `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| glob(tail, &rest[at..]))),
    }
}

/// Which client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClientMatch {
    /// Full user name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub user: OneOrMany,
    /// `NAMESPACE/NAME` or `NAME` of a ServiceAccount.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub service_account: OneOrMany,
    /// Name of the pod that the request comes from.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub pod: OneOrMany,
    /// The `User-Agent` header.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub user_agent: OneOrMany,
}

impl ClientMatch {
    fn matches(&self, client: &Client) -> bool {
        let account = client.service_account.as_deref().unwrap_or_default();
        let short = account.rsplit('/').next().unwrap_or_default();
        self.user.matches(&client.user)
            && (self.service_account.is_empty()
                || self.service_account.matches_by(|wanted| glob(wanted, if wanted.contains('/') { account } else { short })))
            && self.pod.matches(client.pod.as_deref().unwrap_or_default())
            && self.user_agent.matches(&client.user_agent)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which requests. What is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Matcher {
    /// Who asks.
    #[serde(skip_serializing_if = "ClientMatch::is_empty")]
    pub client: ClientMatch,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `connect`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub verb: OneOrMany,
    /// API group; the core group is `core`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub group: OneOrMany,
    /// Plural resource name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub resource: OneOrMany,
    /// Subresource.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub subresource: OneOrMany,
    /// Namespace.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub namespace: OneOrMany,
    /// Object name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub name: OneOrMany,
}

impl Matcher {
    /// Whether a request is meant.
    pub fn matches(&self, client: &Client, info: &RequestInfo) -> bool {
        let group = if info.group.is_empty() { "core" } else { info.group.as_str() };
        self.client.matches(client)
            && self.verb.matches(info.verb.as_str())
            && (self.group.is_empty() || (info.is_resource && self.group.matches(group)))
            && self.resource.matches(&info.resource)
            && self.subresource.matches(&info.subresource)
            && self.namespace.matches(&info.namespace)
            && self.name.matches(&info.name)
    }

    /// Whether a connection of this client is meant, before any request on it.
    pub fn matches_dial(&self, client: &Client) -> bool {
        self.client.matches(client)
    }

    fn speaks_of_requests(&self) -> bool {
        [&self.verb, &self.group, &self.resource, &self.subresource, &self.namespace, &self.name]
            .iter()
            .any(|field| !field.is_empty())
    }
}

/// An effect without settings; written as `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StatusEffect {
    /// The HTTP status code, 400 to 599.
    pub code: u16,
    /// Seconds of a `Retry-After` header. client-go retries up to ten times where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The message of the `Status` body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// No answer at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HangEffect {
    /// After this many seconds the request is aborted; without it only the client ends it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What happens. Exactly one is to be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Effect {
    /// Let it through; shields from later rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Unit>,
    /// Answer with a status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusEffect>,
    /// Refuse the connection. It acts before a request is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<Unit>,
    /// Reset before headers: the connection (HTTP/1.1) or the stream (HTTP/2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Unit>,
    /// Do not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang: Option<HangEffect>,
}

impl Effect {
    /// The effect's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self { status: Some(_), .. } => "status",
            Self { refuse: Some(_), .. } => "refuse",
            Self { reset: Some(_), .. } => "reset",
            Self { hang: Some(_), .. } => "hang",
            _ => "pass",
        }
    }

    fn count(&self) -> usize {
        [self.pass.is_some(), self.status.is_some(), self.refuse.is_some(), self.reset.is_some(), self.hang.is_some()]
            .into_iter()
            .filter(|set| *set)
            .count()
    }

    /// How long a hanging request may hang.
    pub(crate) fn hang_limit(&self) -> Option<Duration> {
        self.hang.as_ref()?.seconds.map(Duration::from_secs_f64)
    }
}

/// How often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// The first N matching requests; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When no or more than one effect is set, a verb is unknown, a code is out of range, or the matcher asks for what the
    /// effect cannot know.
    pub fn check(&self) -> Result<(), RuleError> {
        let error = |why: String| Err(RuleError { name: self.name.clone(), why });
        if self.name.is_empty() {
            return error("a name is required".to_owned());
        }
        match self.effect.count() {
            0 => return error("an effect is required: one of pass, status, refuse, reset, hang".to_owned()),
            1 => {}
            _ => return error("only one effect may be set".to_owned()),
        }
        for verb in self.matcher.verb.values() {
            let word = verb.trim_start_matches('!');
            if word != "*" && Verb::parse(word).is_none() {
                let all: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
                return error(format!("unknown verb {word:?}; use one of {}", all.join(", ")));
            }
        }
        if let Some(status) = &self.effect.status
            && !(400..600).contains(&status.code)
        {
            return error(format!("status code {} is no failure; use 400 to 599", status.code));
        }
        if self.effect.refuse.is_some() && self.matcher.speaks_of_requests() {
            return error("refuse acts on a connection, before a request is known; match only the client".to_owned());
        }
        if let Some(seconds) = self.effect.hang.as_ref().and_then(|hang| hang.seconds)
            && !(seconds.is_finite() && (0.0..=86_400.0).contains(&seconds))
        {
            return error(format!("hang for {seconds} seconds is out of range (0 to 86400)"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            user: "system:serviceaccount:kubevirt:kubevirt-handler".to_owned(),
            service_account: Some("kubevirt/kubevirt-handler".to_owned()),
            pod: Some("virt-handler-abcde".to_owned()),
            user_agent: "virt-handler/v1.9.0".to_owned(),
            ..Client::default()
        }
    }

    fn matches(rule: &str, method: &str, target: &str) -> bool {
        let matcher: Matcher = serde_json::from_str(rule).unwrap();
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        matcher.matches(&client(), &RequestInfo::parse(method, path, query))
    }

    #[test]
    fn matchers_by_table() {
        let vmis = "/apis/kubevirt.io/v1/virtualmachineinstances?limit=500";
        for (rule, method, target, expected) in [
            ("{}", "GET", "/version", true),
            (r#"{"verb":"list","resource":"virtualmachineinstances"}"#, "GET", vmis, true),
            (r#"{"verb":["get","watch"]}"#, "GET", vmis, false),
            (r#"{"verb":"!list"}"#, "GET", vmis, false),
            (r#"{"verb":"!list"}"#, "GET", "/api/v1/nodes/x", true),
            (r#"{"group":"kubevirt.io"}"#, "GET", vmis, true),
            (r#"{"group":"core"}"#, "GET", "/api/v1/pods", true),
            (r#"{"group":"core"}"#, "GET", "/version", false),
            (r#"{"client":{"serviceAccount":"kubevirt-handler"}}"#, "GET", vmis, true),
            (r#"{"client":{"serviceAccount":"kubevirt/kubevirt-handler"}}"#, "GET", vmis, true),
            (r#"{"client":{"serviceAccount":"other/kubevirt-handler"}}"#, "GET", vmis, false),
            (r#"{"client":{"pod":"virt-handler-*"}}"#, "GET", vmis, true),
            (r#"{"client":{"userAgent":"!virt-*"}}"#, "GET", vmis, false),
        ] {
            assert_eq!(matches(rule, method, target), expected, "{rule} {target}");
        }
    }

    #[test]
    fn impossible_rules_are_refused() {
        for (rule, expected) in [
            (r#"{"name":"a","effect":{}}"#, "an effect is required"),
            (r#"{"name":"a","effect":{"pass":{},"reset":{}}}"#, "only one effect"),
            (r#"{"name":"a","effect":{"status":{"code":200}}}"#, "is no failure"),
            (r#"{"name":"a","match":{"verb":"read"},"effect":{"reset":{}}}"#, "unknown verb"),
            (r#"{"name":"a","match":{"verb":"list"},"effect":{"refuse":{}}}"#, "before a request is known"),
            (r#"{"name":"a","effect":{"hang":{"for":-1}}}"#, "out of range"),
        ] {
            let rule: Rule = serde_json::from_str(rule).unwrap();
            assert!(rule.check().unwrap_err().to_string().contains(expected), "{rule:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_matches_what_it_was_made_from(parts in proptest::collection::vec("[a-z]{0,4}", 1..4), fill in "[a-z]{0,3}") {
            proptest::prop_assert!(glob(&parts.join("*"), &parts.join(&fill)));
        }
    }
}
