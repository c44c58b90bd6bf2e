//! Methods, bodies, options and messages, case by case as the real server answers them.

use serde_json::json;

use crate::{get, merge, post, send, server};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn codes_by_table() {
    let server = server();
    post(&server, CONFIG_MAPS, json!({"metadata": {"name": "c"}})).await;
    let json = "application/json";
    let one = format!("{CONFIG_MAPS}/c");
    for (method, path, content_type, body, code, reason) in [
        ("POST", one.as_str(), json, "{}", 405, "MethodNotAllowed"),
        ("PUT", CONFIG_MAPS, json, "{}", 405, "MethodNotAllowed"),
        ("PATCH", CONFIG_MAPS, "application/merge-patch+json", "{}", 405, "MethodNotAllowed"),
        ("OPTIONS", CONFIG_MAPS, json, "", 405, "MethodNotAllowed"),
        ("POST", CONFIG_MAPS, "text/plain", "x", 415, "UnsupportedMediaType"),
        ("POST", CONFIG_MAPS, json, "", 400, "BadRequest"),
        ("POST", CONFIG_MAPS, json, "{\"metadata\":", 400, "BadRequest"),
        ("POST", CONFIG_MAPS, json, "[]", 400, "BadRequest"),
        ("POST", CONFIG_MAPS, json, "{}", 422, "Invalid"),
        ("POST", CONFIG_MAPS, "application/vnd.kubernetes.protobuf", "k8s", 400, "BadRequest"),
        ("PATCH", &one, json, "{}", 415, "UnsupportedMediaType"),
        ("PATCH", &one, "application/merge-patch+json", "[]", 400, "BadRequest"),
        ("PATCH", &one, "application/json-patch+json", "[{\"op\":\"remove\",\"path\":\"/nope\"}]", 422, "Invalid"),
        ("GET", "/api/v1/namespaces/default/configmaps/c/x/y", json, "", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nothings", json, "", 404, "NotFound"),
        ("GET", "/api/v1/configmaps?limit=1&resourceVersionMatch=Exact", json, "", 422, "Invalid"),
        ("GET", "/api/v1/pods?fieldSelector=a.b%3Dc", json, "", 400, "BadRequest"),
        ("DELETE", "/api/v1/namespaces/kube-system", json, "", 403, "Forbidden"),
        ("DELETE", &format!("{one}?propagationPolicy=Never"), json, "", 422, "Invalid"),
    ] {
        let answer = send(&server, method, path, content_type, body).await;
        assert_eq!(
            (answer.code, answer.body["reason"].as_str()),
            (code, Some(reason)),
            "{method} {path} {body}: {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn unknown_and_duplicate_fields_follow_field_validation() {
    let server = server();
    let body = r#"{"metadata": {"name": "c"}, "datta": {}, "data": {"a": "1", "a": "2"}}"#;
    let path = |mode: &str| format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={mode}");
    let warned = send(&server, "POST", &path("Warn"), "application/json", body).await;
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(warnings, ["299 - \"duplicate field \\\"data.a\\\"\"", "299 - \"unknown field \\\"datta\\\"\""]);
    let ignored = send(&server, "POST", &path("Ignore"), "application/json", body).await;
    assert!(ignored.code == 201 && !ignored.headers.contains_key("warning"));
    let strict = send(&server, "POST", &path("Strict"), "application/json", body).await;
    assert_eq!(
        (strict.code, strict.message()),
        (
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.a\", unknown field \"datta\""
        )
    );
}

#[tokio::test]
async fn a_patch_that_makes_no_sense_is_refused_as_a_whole() {
    let server = server();
    post(&server, CONFIG_MAPS, json!({"metadata": {"name": "c"}})).await;
    let answer = merge(&server, &format!("{CONFIG_MAPS}/c?fieldValidation=Strict"), json!({"datta": 1})).await;
    assert_eq!(
        (answer.code, answer.message()),
        (422, " \"\" is invalid: patch: Invalid value: \"{\\\"datta\\\":1}\": strict decoding error: unknown field \"datta\"")
    );
}

#[tokio::test]
async fn pages_show_the_list_as_it_was_when_it_began() {
    let server = server();
    for name in ["a", "b", "c", "d"] {
        post(&server, CONFIG_MAPS, json!({"metadata": {"name": name}})).await;
    }
    let first = get(&server, &format!("{CONFIG_MAPS}?limit=2")).await;
    let token = first.body["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(first.body["metadata"]["remainingItemCount"], 2);
    send(&server, "DELETE", &format!("{CONFIG_MAPS}/d"), "application/json", "").await;
    post(&server, CONFIG_MAPS, json!({"metadata": {"name": "bb"}})).await;
    merge(&server, &format!("{CONFIG_MAPS}/c"), json!({"data": {"x": "1"}})).await;
    let rest = get(&server, &format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    let names: Vec<_> =
        rest.body["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "d"]);
    assert!(rest.body["items"][0]["data"].is_null(), "the page shows the object as it was");
    assert_eq!(rest.body["metadata"]["resourceVersion"], first.body["metadata"]["resourceVersion"]);
}
