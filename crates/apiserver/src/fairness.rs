//! API Priority and Fairness, as far as it refuses: a priority level without a share of the server, whose limit response is `Reject`, answers
//! every request that a FlowSchema gives it with 429. Everything else passes; nothing is queued, and no seats are counted.

use http::{Method, Response, StatusCode, header};
use kubeapi::{Identity, RequestInfo};
use serde_json::Value;
use wire::Body;

use crate::core::State;
use crate::rbac::{Attributes, Rule, strings};
use crate::resource::StorageKey;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// FlowSchemas without a precedence (`FlowSchemaDefaultMatchingPrecedence`).
const DEFAULT_PRECEDENCE: i64 = 1000;

/// The FlowSchemas in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Flows(Vec<Flow>);

/// A FlowSchema.
struct Flow {
    /// Its uid, which a refusal names.
    uid: String,
    rules: Vec<FlowRule>,
    /// Whether its priority level refuses.
    shut: bool,
}

/// Whom it speaks of, and of which of their requests.
struct FlowRule {
    subjects: Vec<Value>,
    resources: Vec<ResourceRule>,
    urls: Vec<Rule>,
}

/// Requests to resources: what they are, as in a role, and where.
struct ResourceRule {
    rule: Rule,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

/// Whether a level has no share at all and refuses what it has no room for.
fn refuses(level: &Value) -> bool {
    let limited = &level["spec"]["limited"];
    level["spec"]["type"] == "Limited"
        && limited["nominalConcurrencyShares"] == 0
        && limited["limitResponse"]["type"] == "Reject"
        && limited["borrowingLimitPercent"] == 0
}

fn is_subject(subject: &Value, who: &Identity) -> bool {
    let is = |value: &Value, name: &str| *value == "*" || *value == name;
    match subject["kind"].as_str() {
        Some("User") => is(&subject["user"]["name"], &who.name),
        Some("Group") => {
            let wanted = subject["group"]["name"].as_str().unwrap_or_default();
            wanted == "*" || who.is_in(wanted)
        }
        Some("ServiceAccount") => who.as_service_account().is_some_and(|(namespace, name)| {
            let account = &subject["serviceAccount"];
            account["namespace"] == namespace && is(&account["name"], name)
        }),
        _ => false,
    }
}

impl FlowRule {
    fn of(rule: &Value) -> Self {
        let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
        let resource = |rule: &Value| ResourceRule {
            rule: Rule::from_value(rule),
            cluster_scope: rule["clusterScope"] == true,
            namespaces: strings(&rule["namespaces"]),
        };
        Self {
            subjects: list(&rule["subjects"]),
            resources: list(&rule["resourceRules"]).iter().map(resource).collect(),
            urls: list(&rule["nonResourceRules"]).iter().map(Rule::from_value).collect(),
        }
    }

    fn speaks_of(&self, who: &Identity, wanted: &Attributes<'_>) -> bool {
        if !self.subjects.iter().any(|subject| is_subject(subject, who)) {
            return false;
        }
        if wanted.resource.is_empty() {
            return self.urls.iter().any(|rule| rule.allows(wanted));
        }
        self.resources.iter().any(|of| {
            let there = match wanted.namespace {
                "" => of.cluster_scope,
                namespace => of.namespaces.iter().any(|known| known == "*" || known == namespace),
            };
            there && of.rule.allows(wanted)
        })
    }
}

impl Flows {
    pub(crate) fn of(state: &State) -> Self {
        let read = |plural: &str| -> Vec<Value> {
            state.store.list(&StorageKey::new(GROUP, plural), "", None).map(|stored| stored.value()).collect()
        };
        Self::read(read("flowschemas"), &read("prioritylevelconfigurations"))
    }

    fn read(mut schemas: Vec<Value>, levels: &[Value]) -> Self {
        // Equal ones by name, which is the order of the store.
        schemas.sort_by_key(|schema| schema["spec"]["matchingPrecedence"].as_i64().unwrap_or(DEFAULT_PRECEDENCE));
        let flow = |schema: &Value| {
            let spec = &schema["spec"];
            let name = &spec["priorityLevelConfiguration"]["name"];
            Flow {
                uid: kubeapi::object::uid(schema).to_owned(),
                rules: spec["rules"].as_array().into_iter().flatten().map(FlowRule::of).collect(),
                shut: levels.iter().find(|level| level["metadata"]["name"] == *name).is_some_and(refuses),
            }
        };
        Self(schemas.iter().map(flow).collect())
    }

    /// The uid of the FlowSchema that has a request refused. Administrators are exempt (`exempt`, the first of the mandatory ones).
    pub(crate) fn refused(&self, who: &Identity, info: &RequestInfo, method: &Method) -> Option<&str> {
        if self.0.is_empty() || who.is_in("system:masters") {
            return None;
        }
        let wanted = Attributes::of(info, method);
        let found = self.0.iter().find(|flow| flow.rules.iter().any(|rule| rule.speaks_of(who, &wanted)))?;
        found.shut.then_some(found.uid.as_str())
    }
}

/// The answer to a request that is refused (`tooManyRequests` of k8s.io/apiserver).
pub(crate) fn too_many(flow: &str) -> Response<Body> {
    let mut response = wire::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    if let Ok(uid) = header::HeaderValue::from_str(flow) {
        headers.insert("x-kubernetes-pf-flowschema-uid", uid);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_level_without_a_share_refuses_what_is_given_to_it() {
        let schema = json!({"spec": {"priorityLevelConfiguration": {"name": "shut"}, "rules": [{
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kubevirt", "name": "kubevirt-handler"}}],
            "resourceRules": [{"verbs": ["list", "get"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/api*"]}],
        }]}});
        let open = json!({"spec": {"rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "system:authenticated"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "namespaces": ["*"]}],
        }]}});
        let level = |shares: i64, response: &str| {
            json!({"metadata": {"name": "shut"}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "borrowingLimitPercent": 0, "limitResponse": {"type": response}}}})
        };
        let flows = Flows::read(vec![open, schema], &[level(0, "Reject")]);
        let handler = Identity::service_account("kubevirt", "kubevirt-handler");
        let other = Identity::service_account("kubevirt", "kubevirt-controller");
        let mut admin = handler.clone();
        admin.groups.push("system:masters".to_owned());
        for (who, method, path, refused) in [
            (&handler, "GET", "/api/v1/pods", true),
            (&handler, "GET", "/api/v1/namespaces/a/pods/b", true),
            (&handler, "POST", "/api/v1/namespaces/a/pods", false),
            (&handler, "GET", "/api", true),
            (&handler, "GET", "/version", false),
            // A schema before it lets it pass.
            (&handler, "GET", "/api/v1/namespaces/a/secrets/b", false),
            (&other, "GET", "/api/v1/pods", false),
            (&admin, "GET", "/api/v1/pods", false),
        ] {
            let info = RequestInfo::parse(method, path, None);
            let of = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(flows.refused(who, &info, &of).is_some(), refused, "{} {method} {path}", who.name);
        }
        assert_eq!(
            [refuses(&level(0, "Reject")), refuses(&level(1, "Reject")), refuses(&level(0, "Queue"))],
            [true, false, false]
        );
    }
}
