//! Which requests and connections a rule means.

use kubeapi::RequestInfo;
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

    fn matches_any(&self, values: &[String]) -> bool {
        self.matches_by(|wanted| values.iter().any(|value| glob(wanted, value)))
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
}

impl Matcher {
    /// Whether a request is meant.
    pub fn matches(&self, client: &Client, info: &RequestInfo) -> bool {
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
        fields.iter().any(|field| !field.is_empty())
    }

    /// Whether it can mean a watch.
    pub(super) fn may_be_watch(&self) -> bool {
        self.verb.matches("watch")
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

    proptest::proptest! {
        #[test]
        fn a_pattern_matches_what_it_was_made_from(parts in proptest::collection::vec("[a-z]{0,4}", 1..4), fill in "[a-z]{0,3}") {
            proptest::prop_assert!(glob(&parts.join("*"), &parts.join(&fill)));
        }
    }
}
