//! Which requests and connections a rule means.

use kubeapi::RequestInfo;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::client::Client;

/// A request as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// What for.
    pub info: &'a RequestInfo,
    /// Which request of that client this is, from 1; 0 where too many clients are known to count each.
    pub of_client: u64,
    /// Which request of its connection this is, from 1; 0 where it came over none.
    pub on_connection: u64,
}

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

    fn matches_any(&self, values: &[String]) -> bool {
        self.matches_by(|wanted| values.iter().any(|value| glob(wanted, value)))
    }
}

/// Whether a text fits a pattern in which `*` stands for any characters, as often as it is there.
///
/// Each piece between two stars is taken where it comes first, which is always right and never goes back.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One value, or a list any of which will do; `*` stands for any characters, `!` in front must not match.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        })
    }
}

/// Numbers counted from 1: `3`, `"2..5"`, `"10.."`, or a list of such. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenNumbers", into = "Vec<String>")]
pub struct Numbers(Vec<(u64, u64)>);

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenNumber {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenNumbers {
    One(WrittenNumber),
    Many(Vec<WrittenNumber>),
}

impl TryFrom<WrittenNumbers> for Numbers {
    type Error = String;

    fn try_from(written: WrittenNumbers) -> Result<Self, String> {
        let written = match written {
            WrittenNumbers::One(one) => vec![one],
            WrittenNumbers::Many(many) => many,
        };
        let ranges: Result<Vec<(u64, u64)>, String> = written
            .into_iter()
            .map(|written| match written {
                WrittenNumber::Number(number) => Self::range(&number.to_string()),
                WrittenNumber::Text(text) => Self::range(&text),
            })
            .collect();
        ranges.map(Self)
    }
}

impl From<Numbers> for Vec<String> {
    fn from(numbers: Numbers) -> Self {
        let text = |(from, to): (u64, u64)| match to {
            u64::MAX => format!("{from}.."),
            to if to == from => from.to_string(),
            to => format!("{from}..{to}"),
        };
        numbers.0.into_iter().map(text).collect()
    }
}

impl std::str::FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|part| Self::range(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl Numbers {
    fn range(text: &str) -> Result<(u64, u64), String> {
        let bad = || format!("{text:?} is no number from 1; write 3, \"2..5\" or \"10..\"");
        let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(bad);
        let range = match text.split_once("..") {
            None => (number(text)?, number(text)?),
            Some((from, "")) => (number(from)?, u64::MAX),
            Some((from, to)) => (number(from)?, number(to)?),
        };
        if range.0 <= range.1 { Ok(range) } else { Err(bad()) }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn matches(&self, number: u64) -> bool {
        self.0.is_empty() || self.0.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }
}

impl JsonSchema for Numbers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Numbers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one =
            serde_json::json!([{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+(\\.\\.[0-9]*)?$"}]);
        json_schema!({
            "description": "Numbers counted from 1: 3, \"2..5\", \"10..\", or a list of such.",
            "anyOf": [{"anyOf": one.clone()}, {"type": "array", "items": {"anyOf": one}}],
        })
    }
}

/// Which client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ClientMatch {
    /// Full user name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub user: OneOrMany,
    /// `NAMESPACE/NAME` or `NAME` of a ServiceAccount.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub service_account: OneOrMany,
    /// A group that the client is in, by its certificate; ServiceAccounts are in `system:serviceaccounts` and in
    /// `system:serviceaccounts:NAMESPACE`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub group: OneOrMany,
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
            && (self.group.is_empty() || self.group.matches_any(&client.groups))
            && self.pod.matches(client.pod.as_deref().unwrap_or_default())
            && self.user_agent.matches(&client.user_agent)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which requests. What is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// API version, such as `v1`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub version: OneOrMany,
    /// Plural resource name.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub resource: OneOrMany,
    /// Subresource.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub subresource: OneOrMany,
    /// Namespace.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub namespace: OneOrMany,
    /// Object name; that of a list or watch with `metadata.name=NAME` for its field selector is NAME.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub name: OneOrMany,
    /// The label selector as it was sent; none is the empty text.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub label_selector: OneOrMany,
    /// The field selector as it was sent.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub field_selector: OneOrMany,
    /// The path, for what is no resource (`/version`, `/openapi/*`), or for all of it.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub path: OneOrMany,
    /// Which requests of each client, counted from the proxy's start.
    #[serde(skip_serializing_if = "Numbers::is_empty")]
    pub nth_of_client: Numbers,
    /// Which requests of each connection; `1` is a new connection's first.
    #[serde(skip_serializing_if = "Numbers::is_empty")]
    pub nth_on_connection: Numbers,
}

impl Matcher {
    /// Whether a request is meant.
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let Asked { client, info, .. } = *asked;
        let group = if info.group.is_empty() { "core" } else { info.group.as_str() };
        self.client.matches(client)
            && self.verb.matches(info.verb.as_str())
            && (self.group.is_empty() || (info.is_resource && self.group.matches(group)))
            && self.version.matches(&info.version)
            && self.resource.matches(&info.resource)
            && self.subresource.matches(&info.subresource)
            && self.namespace.matches(&info.namespace)
            && self.name.matches(info.selected_name().unwrap_or(&info.name))
            && self.label_selector.matches(info.query.get("labelSelector").unwrap_or_default())
            && self.field_selector.matches(info.query.get("fieldSelector").unwrap_or_default())
            && self.path.matches(&info.path)
            && self.nth_of_client.matches(asked.of_client)
            && self.nth_on_connection.matches(asked.on_connection)
    }

    /// Whether a connection of this client is meant, before any request on it.
    pub fn matches_dial(&self, client: &Client) -> bool {
        self.client.matches(client)
    }

    pub(super) fn speaks_of_requests(&self) -> bool {
        let fields = [
            &self.verb,
            &self.group,
            &self.version,
            &self.resource,
            &self.subresource,
            &self.namespace,
            &self.name,
            &self.label_selector,
            &self.field_selector,
            &self.path,
            &self.client.user_agent,
        ];
        fields.iter().any(|field| !field.is_empty()) || !self.nth_of_client.is_empty() || !self.nth_on_connection.is_empty()
    }

    /// Whether it can mean a request with this verb.
    pub(super) fn may_be(&self, verb: &str) -> bool {
        self.verb.matches(verb)
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
        let info = RequestInfo::parse(method, path, query);
        matcher.matches(&Asked { client: &client(), info: &info, of_client: 7, on_connection: 2 })
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
            (r#"{"nthOfClient":7}"#, "GET", vmis, true),
            (r#"{"nthOfClient":[1,"8.."]}"#, "GET", vmis, false),
            (r#"{"nthOnConnection":"2..3"}"#, "GET", vmis, true),
            (r#"{"nthOnConnection":1}"#, "GET", vmis, false),
        ] {
            assert_eq!(matches(rule, method, target), expected, "{rule} {target}");
        }
    }

    #[test]
    fn numbers_are_read_and_written() {
        let read = |text: &str| serde_json::from_str::<Numbers>(text);
        for text in ["3", r#"["1","4..6","9.."]"#] {
            let numbers = read(text).unwrap();
            assert_eq!(serde_json::from_value::<Numbers>(serde_json::to_value(&numbers).unwrap()).unwrap(), numbers);
        }
        assert_eq!("1, 4..".parse::<Numbers>().unwrap(), read(r#"[1, "4.."]"#).unwrap());
        for text in ["0", r#""x""#, r#""5..2""#, r#""-1""#] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    /// The obvious way: try every length for every star.
    fn slow_glob(pattern: &str, text: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == text,
            Some((head, tail)) => {
                text.strip_prefix(head).is_some_and(|rest| (0..=rest.len()).any(|at| slow_glob(tail, &rest[at..])))
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn stars_mean_what_trying_everything_means(pattern in "[ab*]{0,7}", text in "[ab]{0,8}") {
            proptest::prop_assert_eq!(glob(&pattern, &text), slow_glob(&pattern, &text));
        }

        #[test]
        fn a_pattern_matches_what_it_was_made_from(parts in proptest::collection::vec("[a-z]{0,4}", 1..4), fill in "[a-z]{0,3}") {
            proptest::prop_assert!(glob(&parts.join("*"), &parts.join(&fill)));
        }
    }
}
