//! CustomResourceDefinitions: schema, versions, scale, deletion.

use serde_json::{Value, json};

use crate::{get, merge, post, send, server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 9},
            "mode": {"type": "string", "default": "a", "enum": ["a", "b"]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            "x-kubernetes-validations": [
                {"rule": "self.mode != 'b' || self.size > 3", "message": "b is for the big"},
                {"rule": "self.size >= oldSelf.size", "message": "things only grow"}]},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": schema,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}}},
            {"name": "v2", "served": true, "storage": false, "schema": schema, "subresources": {"status": {}}}]}})
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec})
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let server = server();
    assert_eq!(post(&server, DEFINITIONS, definition()).await.code, 201);
    let created = post(&server, THINGS, thing(json!({"size": 2, "nope": 1, "free": {"any": 1}}))).await;
    assert_eq!(created.body["spec"], json!({"size": 2, "mode": "a", "free": {"any": 1}}), "{}", created.message());
    assert_eq!(created.headers["warning"], "299 - \"unknown field \\\"spec.nope\\\"\"");
    let strict = post(&server, &format!("{THINGS}?fieldValidation=Strict"), thing(json!({"size": 2, "nope": 1}))).await;
    assert_eq!(
        (strict.code, strict.message()),
        (400, "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"spec.nope\"")
    );
    let path = format!("{THINGS}/t");
    let rule = merge(&server, &path, json!({"spec": {"mode": "b"}})).await;
    assert_eq!(
        (rule.code, rule.message()),
        (422, "Thing.example.com \"t\" is invalid: spec: Invalid value: \"object\": b is for the big")
    );
    let transition = merge(&server, &path, json!({"spec": {"size": 1}})).await;
    assert!(transition.message().contains("things only grow"), "{}", transition.message());
}

#[tokio::test]
async fn versions_show_the_same_object_and_scale_follows_its_paths() {
    let server = server();
    post(&server, DEFINITIONS, definition()).await;
    post(&server, THINGS, thing(json!({"size": 2}))).await;
    let other = get(&server, "/apis/example.com/v2/namespaces/default/things/t").await;
    assert_eq!((other.body["apiVersion"].as_str(), other.body["spec"]["size"].as_i64()), (Some("example.com/v2"), Some(2)));
    let scaled = merge(&server, &format!("{THINGS}/t/scale"), json!({"spec": {"replicas": 5}})).await;
    assert_eq!(scaled.body["spec"]["replicas"], 5, "{}", scaled.message());
    assert_eq!(get(&server, &format!("{THINGS}/t")).await.body["spec"]["size"], 5);
}

#[tokio::test]
async fn a_definition_waits_for_the_finalizers_of_its_objects() {
    let server = server();
    post(&server, DEFINITIONS, definition()).await;
    let mut held = thing(json!({"size": 2}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    post(&server, THINGS, held).await;
    let path = format!("{DEFINITIONS}/things.example.com");
    let waiting = send(&server, "DELETE", &path, "application/json", "").await;
    assert!(waiting.body["metadata"]["deletionTimestamp"].is_string(), "{}", waiting.body);
    merge(&server, &format!("{THINGS}/t"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(get(&server, &path).await.code, 404);
    assert_eq!(get(&server, THINGS).await.code, 404);
}

#[tokio::test]
async fn what_is_no_structural_schema_is_refused() {
    let server = server();
    let mut wrong = definition();
    wrong["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] = json!({});
    let answer = post(&server, DEFINITIONS, wrong).await;
    assert_eq!(answer.code, 422);
    let field = "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].type";
    assert_eq!(answer.body["details"]["causes"][0]["field"], field);
}
