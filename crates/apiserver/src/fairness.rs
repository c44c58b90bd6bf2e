//! API Priority and Fairness, as far as it refuses: a priority level without a share of the server, whose limit response is `Reject`, answers
//! every request that a FlowSchema gives it with 429. Everything else passes; nothing is queued, and no seats are counted.

use http::{Response, StatusCode, header};
use kubeapi::{Identity, RequestInfo};
use serde_json::Value;
use wire::Body;

use crate::core::State;
use crate::resource::StorageKey;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// FlowSchemas without a precedence (`FlowSchemaDefaultMatchingPrecedence`).
const DEFAULT_PRECEDENCE: i64 = 1000;

/// The FlowSchemas in the order in which they are tried, each with whether its level refuses.
#[derive(Default)]
pub(crate) struct Flows {
    schemas: Vec<(Value, bool)>,
}

/// Whether a level has no share at all and refuses what it has no room for.
fn refuses(level: &Value) -> bool {
    let limited = &level["spec"]["limited"];
    level["spec"]["type"] == "Limited"
        && limited["nominalConcurrencyShares"] == 0
        && limited["limitResponse"]["type"] == "Reject"
        && limited["borrowingLimitPercent"] == 0
}

fn has(list: &Value, wanted: &str) -> bool {
    list.as_array().into_iter().flatten().any(|known| known == "*" || *known == wanted)
}

fn is_subject(subject: &Value, who: &Identity) -> bool {
    let is = |value: &Value, name: &str| *value == "*" || *value == name;
    match subject["kind"].as_str() {
        Some("User") => is(&subject["user"]["name"], &who.name),
        Some("Group") => {
            let wanted = &subject["group"]["name"];
            *wanted == "*" || who.groups.iter().any(|group| *wanted == group.as_str())
        }
        Some("ServiceAccount") => {
            let Some((namespace, name)) = who.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
            else {
                return false;
            };
            let account = &subject["serviceAccount"];
            account["namespace"] == namespace && is(&account["name"], name)
        }
        _ => false,
    }
}

fn speaks_of(rule: &Value, info: &RequestInfo) -> bool {
    let verb = info.verb.as_str();
    if !info.is_resource {
        let covers = |url: &str| match url.strip_suffix('*') {
            Some(prefix) => info.path.starts_with(prefix),
            None => info.path == url,
        };
        return rule["nonResourceRules"].as_array().into_iter().flatten().any(|rule| {
            let urls = rule["nonResourceURLs"].as_array();
            has(&rule["verbs"], verb) && urls.into_iter().flatten().filter_map(Value::as_str).any(covers)
        });
    }
    let resource =
        if info.subresource.is_empty() { info.resource.clone() } else { format!("{}/{}", info.resource, info.subresource) };
    rule["resourceRules"].as_array().into_iter().flatten().any(|rule| {
        let of_scope =
            if info.namespace.is_empty() { rule["clusterScope"] == true } else { has(&rule["namespaces"], &info.namespace) };
        has(&rule["verbs"], verb) && has(&rule["apiGroups"], &info.group) && has(&rule["resources"], &resource) && of_scope
    })
}

impl Flows {
    pub(crate) fn of(state: &State) -> Self {
        let read = |plural: &str| -> Vec<Value> {
            state.store.list(&StorageKey::new(GROUP, plural), "", None).map(|stored| stored.value()).collect()
        };
        let levels = read("prioritylevelconfigurations");
        let mut schemas: Vec<(Value, bool)> = read("flowschemas")
            .into_iter()
            .map(|schema| {
                let name = &schema["spec"]["priorityLevelConfiguration"]["name"];
                let level = levels.iter().find(|level| level["metadata"]["name"] == *name);
                let shut = level.is_some_and(refuses);
                (schema, shut)
            })
            .collect();
        let precedence = |schema: &Value| schema["spec"]["matchingPrecedence"].as_i64().unwrap_or(DEFAULT_PRECEDENCE);
        // Equal ones by name, which is the order of the store.
        schemas.sort_by_key(|(schema, _)| precedence(schema));
        Self { schemas }
    }

    /// The FlowSchema that has a request refused. Administrators are exempt (`exempt`, the first of the mandatory ones).
    pub(crate) fn refused(&self, who: &Identity, info: &RequestInfo) -> Option<&Value> {
        if self.schemas.is_empty() || who.is_in("system:masters") {
            return None;
        }
        let found = self.schemas.iter().find(|(schema, _)| {
            schema["spec"]["rules"].as_array().into_iter().flatten().any(|rule| {
                let subjects = rule["subjects"].as_array();
                subjects.into_iter().flatten().any(|subject| is_subject(subject, who)) && speaks_of(rule, info)
            })
        });
        found.filter(|(_, shut)| *shut).map(|(schema, _)| schema)
    }
}

/// The answer to a request that is refused (`tooManyRequests` of k8s.io/apiserver).
pub(crate) fn too_many(schema: &Value) -> Response<Body> {
    let mut response = wire::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    if let Ok(uid) = header::HeaderValue::from_str(schema["metadata"]["uid"].as_str().unwrap_or_default()) {
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
        let schema = json!({"spec": {"rules": [{
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kubevirt", "name": "kubevirt-handler"}}],
            "resourceRules": [{"verbs": ["list", "get"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/api*"]}],
        }]}});
        let open = json!({"spec": {"rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "system:authenticated"}}],
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "namespaces": ["*"]}],
        }]}});
        let flows = Flows { schemas: vec![(open, false), (schema, true)] };
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
            assert_eq!(flows.refused(who, &info).is_some(), refused, "{} {method} {path}", who.name);
        }
        let level = |shares: i64, response: &str| {
            json!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "borrowingLimitPercent": 0, "limitResponse": {"type": response}}}})
        };
        assert_eq!(
            [refuses(&level(0, "Reject")), refuses(&level(1, "Reject")), refuses(&level(0, "Queue"))],
            [true, false, false]
        );
    }
}
