//! What a user with few rights reaches, by whatever path he tries.

use apiserver::ApiServer;
use http::Request;
use serde_json::{Value, json};

use crate::{Answer, get, merge, post, server};

/// Sends a request as an administrator who impersonates, with these headers.
async fn with(server: &ApiServer, headers: &[(&str, &str)], method: &str, path: &str, body: Value) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", if method == "PATCH" { "application/merge-patch+json" } else { "application/json" })
        .header("authorization", format!("Bearer {}", server.admin_token()));
    for (name, value) in headers {
        request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = server.handle(request.body(wire::full(body)).unwrap()).await.unwrap();
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes =
        if path.contains("watch") { Vec::new().into() } else { wire::collect(response.into_body(), 1 << 24).await.unwrap() };
    Answer { code, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

/// A server on which jane has these rules in namespace `mine`, and `other` is there too.
async fn with_jane(rules: Value) -> ApiServer {
    let server = server();
    for name in ["mine", "other"] {
        assert_eq!(post(&server, "/api/v1/namespaces", json!({"metadata": {"name": name}})).await.code, 201);
    }
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/mine";
    let role = post(&server, &format!("{rbac}/roles"), json!({"metadata": {"name": "r"}, "rules": rules})).await;
    assert_eq!(role.code, 201, "{}", role.message());
    let binding = json!({"metadata": {"name": "r"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "jane"}]});
    assert_eq!(post(&server, &format!("{rbac}/rolebindings"), binding).await.code, 201);
    server
}

#[tokio::test]
async fn no_path_leads_around_the_rules() {
    let jane = [("impersonate-user", "jane")];
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let named = json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"], "resourceNames": ["x"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["*"]}]);
    let update = json!([{"apiGroups": ["", "coordination.k8s.io"], "resources": ["*"], "verbs": ["get", "update", "patch"]}]);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}});
    for (rules, method, path, body, expected) in [
        // A namespace lies in itself alone.
        (&all, "DELETE", "/api/v1/namespaces/mine/namespaces/other", Value::Null, 404),
        (&all, "GET", "/api/v1/namespaces/mine/namespaces", Value::Null, 404),
        (&all, "GET", "/api/v1/namespaces/mine", Value::Null, 200),
        (&all, "GET", "/api/v1/namespaces/other", Value::Null, 403),
        (&all, "GET", "/api/v1/namespaces/mine%2Fnamespaces%2Fother", Value::Null, 404),
        // One object by name is that object, however it is asked for.
        (&named, "GET", "/api/v1/namespaces/mine/secrets?fieldSelector=metadata.name%3Dx", Value::Null, 200),
        (&named, "GET", "/api/v1/namespaces/mine/secrets?fieldSelector=metadata.name%3Dy", Value::Null, 403),
        (&named, "GET", "/api/v1/namespaces/mine/secrets", Value::Null, 403),
        (&named, "GET", "/api/v1/namespaces/mine/secrets?watch=true&fieldSelector=metadata.name=x", Value::Null, 200),
        (&named, "GET", "/api/v1/namespaces/mine/secrets?watch=true", Value::Null, 403),
        (&named, "GET", "/api/v1/namespaces/mine/secrets/x%2F..%2Fy", Value::Null, 403),
        // A star is no name.
        (&named, "GET", "/api/v1/namespaces/mine/configmaps/a", Value::Null, 403),
        // Who may update may not create.
        (&update, "PUT", "/apis/coordination.k8s.io/v1/namespaces/mine/leases/l", lease, 403),
    ] {
        let server = with_jane(rules.clone()).await;
        let answer = with(&server, &jane, method, path, body).await;
        assert_eq!(answer.code, expected, "{method} {path}: {}", answer.message());
    }
}

#[tokio::test]
async fn the_old_watch_path_shows_the_one_object_that_it_names() {
    let server = server();
    for name in ["x", "y"] {
        post(&server, "/api/v1/namespaces/default/secrets", json!({"metadata": {"name": name}})).await;
    }
    let path = "/api/v1/watch/namespaces/default/secrets/x?timeoutSeconds=1";
    let request = Request::get(path).header("authorization", format!("Bearer {}", server.admin_token()));
    let response = server.handle(request.body(wire::empty()).unwrap()).await.unwrap();
    let bytes = wire::collect(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"name\":\"x\"") && !text.contains("\"name\":\"y\""), "{text}");
}

#[tokio::test]
async fn impersonation_fails_closed() {
    let server = server();
    for (headers, expected) in [
        (&[("impersonate-user", "jane")][..], 403),
        (&[("impersonate-user", "jos\u{e9}")], 403),
        (&[("impersonate-group", "system:masters")], 500),
        (&[("impersonate-uid", "1")], 500),
        (&[("impersonate-user", "jane"), ("impersonate-group", "system:masters")], 200),
        (&[("impersonate-user", "system:serviceaccount:default:default")], 403),
    ] {
        let answer = with(&server, headers, "GET", "/api/v1/nodes", Value::Null).await;
        assert_eq!(answer.code, expected, "{headers:?}: {}", answer.message());
    }
    let headers = [("impersonate-user", "jane"), ("impersonate-uid", "u"), ("impersonate-extra-a%2fb", "c")];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let who = with(&server, &headers, "POST", path, json!({})).await;
    assert_eq!(who.body["status"]["userInfo"]["uid"], "u");
    assert_eq!(who.body["status"]["userInfo"]["extra"], json!({"a/b": ["c"]}));
}

#[tokio::test]
async fn nobody_becomes_an_administrator_by_aggregation() {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let server = with_jane(rules).await;
    let jane = [("impersonate-user", "jane")];
    let bind = |role: &str| {
        json!({"metadata": {"name": role}, "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "jane"}]})
    };
    for role in ["admin", "edit", "view", "cluster-admin"] {
        let answer = with(&server, &jane, "POST", &format!("{rbac}/namespaces/mine/rolebindings"), bind(role)).await;
        assert_eq!(answer.code, 403, "{role}: {}", answer.message());
    }
    let own = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["*"]}]);
    // `*` has `escalate` in it; these verbs have not.
    let own = json!([{"apiGroups": own[0]["apiGroups"], "resources": ["clusterroles"], "verbs": ["get", "patch", "update"]}]);
    assert_eq!(
        post(&server, &format!("{rbac}/clusterroles"), json!({"metadata": {"name": "own"}, "rules": own})).await.code,
        201
    );
    assert_eq!(post(&server, &format!("{rbac}/clusterrolebindings"), bind("own")).await.code, 201);
    let patch = json!({"aggregationRule": {"clusterRoleSelectors": [{}]}});
    let answer = with(&server, &jane, "PATCH", &format!("{rbac}/clusterroles/own"), patch).await;
    assert_eq!(answer.code, 403, "{}", answer.message());
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let harmless = with(&server, &jane, "PATCH", &format!("{rbac}/clusterroles/own"), labels).await;
    assert_eq!(harmless.code, 200);
}

#[tokio::test]
async fn a_token_ends_with_what_it_belongs_to() {
    let server = server();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    post(&server, accounts, json!({"metadata": {"name": "bot"}})).await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "bot", "containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(post(&server, "/api/v1/namespaces/default/pods", pod).await.code, 201);
    let token =
        async |bound: Value| post(&server, &format!("{accounts}/bot/token"), json!({"spec": {"boundObjectRef": bound}})).await;
    for (bound, expected) in [
        (json!({"kind": "Pod", "apiVersion": "v1", "name": "nope"}), 404),
        (json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "other"}), 409),
        (json!({"kind": "Node", "apiVersion": "v1", "name": "n"}), 400),
    ] {
        assert_eq!(token(bound.clone()).await.code, expected, "{bound}");
    }
    let token = token(json!({"kind": "Pod", "apiVersion": "v1", "name": "p"})).await.body["status"]["token"].clone();
    let review = async || {
        let spec = json!({"spec": {"token": token, "audiences": ["x", "https://kubernetes.default.svc.cluster.local"]}});
        post(&server, "/apis/authentication.k8s.io/v1/tokenreviews", spec).await.body["status"].clone()
    };
    let status = review().await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    let gone = crate::send(&server, "DELETE", "/api/v1/namespaces/default/pods/p", "application/json", "").await;
    assert_eq!(gone.code, 200);
    assert!(review().await.get("authenticated").is_none());
    let token = token.as_str().unwrap();
    let answer = crate::send_as(&server, Some(token), "GET", "/version", "application/json", "").await;
    assert_eq!(answer.code, 401);
}

#[tokio::test]
async fn definitions_do_not_reach_what_is_built_in() {
    let server = server();
    let definition = |group: &str, plural: &str| {
        json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": "Deployment"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    };
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let protected = post(&server, path, definition("things.k8s.io", "things")).await;
    assert_eq!(protected.code, 422);
    assert!(protected.message().contains("protected groups must have approval annotation"), "{}", protected.message());
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(post(&server, deployments, deployment).await.code, 201);
    assert_eq!(post(&server, path, definition("apps", "deployments")).await.code, 201);
    crate::send(&server, "DELETE", &format!("{path}/deployments.apps"), "application/json", "").await;
    let there = get(&server, &format!("{deployments}/d")).await;
    assert_eq!((there.code, &there.body["spec"]["replicas"]), (200, &json!(1)));
}

#[tokio::test]
async fn a_namespace_keeps_its_finalizer_until_it_is_empty() {
    let server = server();
    post(&server, "/api/v1/namespaces", json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["a.example/b"]}})).await;
    let patched = merge(&server, "/api/v1/namespaces/n", json!({"spec": {"finalizers": []}})).await;
    assert_eq!(patched.body["spec"]["finalizers"], json!(["a.example/b", "kubernetes"]));
}
