//! Who may scrape: a bearer token is reviewed, and its user's access, as kube-rbac-proxy and a kubelet do.

use apiserver::{Client, Gr};
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Value, json};
use wire::Body;

const TOKEN_REVIEWS: Gr = Gr::of("authentication.k8s.io", "tokenreviews");
const ACCESS_REVIEWS: Gr = Gr::of("authorization.k8s.io", "subjectaccessreviews");

/// What somebody must be allowed to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A path that is no resource's (kube-rbac-proxy without a configuration).
    Path,
    /// The metrics of the node (kubelet, `pkg/kubelet/server/auth.go`).
    NodeMetrics,
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// What is asked about a user.
fn question(access: Access, path: &str, node: &str, user: &Value) -> Value {
    let mut spec = json!({"user": user["username"], "groups": user["groups"], "uid": user["uid"]});
    match access {
        Access::Path => spec["nonResourceAttributes"] = json!({"path": path, "verb": "get"}),
        Access::NodeMetrics => {
            spec["resourceAttributes"] =
                json!({"version": "v1", "resource": "nodes", "subresource": "metrics", "name": node, "verb": "get"});
        }
    }
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
}

/// Lets a request through, or answers it.
pub(crate) fn refused(client: &Client, access: Access, node: &str, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let unauthorized = || Some(wire::text(StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned()));
    let Some(token) = token(headers) else { return unauthorized() };
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let Ok(reviewed) = client.create(TOKEN_REVIEWS, &review) else { return unauthorized() };
    if reviewed["status"]["authenticated"] != true {
        return unauthorized();
    }
    let user = &reviewed["status"]["user"];
    let allowed = client
        .create(ACCESS_REVIEWS, &question(access, path, node, user))
        .is_ok_and(|answer| answer["status"]["allowed"] == true);
    if allowed {
        return None;
    }
    let (resource, subresource) = if access == Access::NodeMetrics { ("nodes", "metrics") } else { ("", "") };
    let user = user["username"].as_str().unwrap_or_default();
    let text = format!("Forbidden (user={user}, verb=get, resource={resource}, subresource={subresource})\n");
    Some(wire::text(StatusCode::FORBIDDEN, text))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_bearer_with_the_right_is_let_through() {
        let server = apiserver::ApiServer::builder().service_account_admission().build().unwrap();
        let client = server.client();
        let apply = |object: Value| {
            client.apply(&object).unwrap();
        };
        apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}));
        for name in ["may", "may-not"] {
            apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "n"}}));
        }
        apply(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}]}));
        apply(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "may", "namespace": "n"}]}));
        let bearer = |name: &str| format!("Bearer {}", client.token("n", name, None, 600).unwrap());
        for (authorization, access, path, expected) in [
            (None, Access::Path, "/metrics", Some(StatusCode::UNAUTHORIZED)),
            (Some("Bearer nonsense".to_owned()), Access::Path, "/metrics", Some(StatusCode::UNAUTHORIZED)),
            (Some("Basic x".to_owned()), Access::Path, "/metrics", Some(StatusCode::UNAUTHORIZED)),
            (Some(bearer("may-not")), Access::Path, "/metrics", Some(StatusCode::FORBIDDEN)),
            (Some(bearer("may-not")), Access::NodeMetrics, "/metrics", Some(StatusCode::FORBIDDEN)),
            (Some(bearer("may")), Access::Path, "/other", Some(StatusCode::FORBIDDEN)),
            (Some(bearer("may")), Access::Path, "/metrics", None),
            (Some(bearer("may")), Access::NodeMetrics, "/metrics/cadvisor", None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = &authorization {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            let answer = refused(&client, access, "lab", path, &headers).map(|response| response.status());
            assert_eq!(answer, expected, "{access:?} {path} {}", authorization.is_some());
        }
    }
}
