//! What controllers rely on beyond single requests: events of two groups, evictions, dry runs, garbage collection, sizes.

use std::time::Duration;

use apiserver::ApiServer;
use serde_json::{Value, json};

use crate::{apply, get, merge, post, send, server};

#[tokio::test]
async fn an_event_has_two_shapes() {
    let server = server();
    let event = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}, "note": "hello",
        "reason": "Seen", "action": "look", "type": "Normal", "reportingController": "c", "reportingInstance": "i",
        "eventTime": "2026-01-01T00:00:00.000000Z"});
    let made = post(&server, "/apis/events.k8s.io/v1/namespaces/default/events", event).await;
    assert_eq!((made.code, &made.body["note"]), (201, &json!("hello")), "{}", made.message());
    let old = get(&server, "/api/v1/namespaces/default/events/e").await.body;
    assert_eq!(
        (&old["message"], &old["involvedObject"]["name"], &old["apiVersion"]),
        (&json!("hello"), &json!("p"), &json!("v1"))
    );
    let found = get(&server, "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp").await.body;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    let patched = send(
        &server,
        "PATCH",
        "/apis/events.k8s.io/v1/namespaces/default/events/e",
        "application/strategic-merge-patch+json",
        json!({"note": "again"}),
    )
    .await;
    assert_eq!((patched.code, &patched.body["note"]), (200, &json!("again")), "{}", patched.message());
    let listed = get(&server, "/apis/events.k8s.io/v1/events").await.body;
    assert_eq!((&listed["items"][0]["note"], listed["items"][0].get("message")), (&json!("again"), None));
}

#[tokio::test]
async fn a_dry_run_in_the_body_deletes_nothing() {
    let server = server();
    let path = "/api/v1/namespaces/default/configmaps";
    post(&server, path, json!({"metadata": {"name": "a"}})).await;
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]});
    for target in [path.to_owned(), format!("{path}/a")] {
        assert_eq!(send(&server, "DELETE", &target, "application/json", &options).await.code, 200);
        assert_eq!(get(&server, &format!("{path}/a")).await.code, 200, "{target}");
    }
}

#[tokio::test]
async fn an_eviction_answers_as_one() {
    let server = server();
    let pods = "/api/v1/namespaces/default/pods";
    post(&server, pods, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    let answer = post(&server, &format!("{pods}/p/eviction"), eviction).await;
    assert_eq!((answer.code, &answer.body["status"]), (201, &json!("Success")));
    assert_eq!(get(&server, &format!("{pods}/p")).await.code, 404);
}

#[tokio::test]
async fn services_do_not_share_addresses() {
    let server = server();
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let first = post(&server, path, service("a", json!({"type": "NodePort", "ports": [{"port": 80}]}))).await;
    assert_eq!(first.code, 201, "{}", first.message());
    let (address, port) = (first.body["spec"]["clusterIP"].clone(), first.body["spec"]["ports"][0]["nodePort"].clone());
    assert!(port.as_i64().is_some_and(|port| (30_000..=32_767).contains(&port)), "{port}");
    let same = post(&server, path, service("b", json!({"clusterIP": address, "ports": [{"port": 80}]}))).await;
    assert!(same.code == 422 && same.message().contains("provided IP is already allocated"), "{}", same.message());
    let same = post(&server, path, service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}))).await;
    assert!(same.code == 422 && same.message().contains("provided port is already allocated"), "{}", same.message());
    let kept = merge(&server, &format!("{path}/a"), json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!((kept.code, &kept.body["spec"]["clusterIP"]), (200, &address), "{}", kept.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn services_that_are_made_at_the_same_time_share_nothing() {
    let server = std::sync::Arc::new(server());
    let making = (0..40).map(|number| {
        let server = server.clone();
        tokio::spawn(async move {
            let spec =
                json!({"metadata": {"name": format!("s-{number}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            let made = post(&server, "/api/v1/namespaces/default/services", spec).await;
            assert_eq!(made.code, 201, "{}", made.message());
            (made.body["spec"]["clusterIP"].to_string(), made.body["spec"]["ports"][0]["nodePort"].to_string())
        })
    });
    let (mut addresses, mut ports) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for made in making.collect::<Vec<_>>() {
        let (address, port) = made.await.unwrap();
        assert!(addresses.insert(address.clone()), "{address} twice");
        assert!(ports.insert(port.clone()), "{port} twice");
    }
}

#[tokio::test]
async fn no_patch_makes_an_object_that_no_request_could_bring() {
    let server = server();
    let path = "/api/v1/namespaces/default/configmaps";
    post(&server, path, json!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(1000)}})).await;
    // Each copy doubles what is there.
    let bomb: Vec<Value> = (0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/a{n}")})).collect();
    let answer = send(&server, "PATCH", &format!("{path}/a"), "application/json-patch+json", json!(bomb)).await;
    assert_eq!(answer.code, 413, "{}", answer.message());
    let deep: Vec<Value> =
        (0..30).map(|n| json!({"op": "copy", "from": "/metadata", "path": format!("/metadata{}", "/a".repeat(n + 1))})).collect();
    let answer = send(&server, "PATCH", &format!("{path}/a"), "application/json-patch+json", json!(deep)).await;
    assert!((400..500).contains(&answer.code), "{} {}", answer.code, answer.message());
    // A little more each time ends as well.
    let mut codes = Vec::new();
    for n in 0..5 {
        let change = json!({"data": {format!("k{n}"): "z".repeat(900_000)}});
        codes.push(merge(&server, &format!("{path}/a"), change).await.code);
    }
    assert_eq!(codes[0], 200);
    assert!(codes.contains(&422) || codes.contains(&413), "{codes:?}");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"m": "n"}});
    assert_eq!(apply(&server, &format!("{path}/a"), "m", true, config).await.code, 200);
}

#[tokio::test]
async fn dependents_go_with_their_owner_also_when_they_come_late() {
    let server = ApiServer::builder().seed(1).start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let path = "/api/v1/namespaces/default/configmaps";
    let owner = post(&server, path, json!({"metadata": {"name": "owner"}})).await.body["metadata"]["uid"].clone();
    let child = |name: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner}]}})
    };
    assert_eq!(post(&server, path, child("early")).await.code, 201);
    assert_eq!(send(&server, "DELETE", &format!("{path}/owner"), "application/json", "").await.code, 200);
    assert_eq!(post(&server, path, child("late")).await.code, 201);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    for name in ["early", "late"] {
        while get(&server, &format!("{path}/{name}")).await.code != 404 {
            assert!(tokio::time::Instant::now() < deadline, "{name} stays");
            tokio::task::yield_now().await;
        }
    }
    // What aggregates has the rules of the others.
    let admin = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin";
    while get(&server, admin).await.body["rules"].as_array().is_none_or(Vec::is_empty) {
        assert!(tokio::time::Instant::now() < deadline, "the role admin has no rules");
        tokio::task::yield_now().await;
    }
}
