//! Admission webhooks and aggregated APIs, with a real server behind TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use apiserver::ApiServer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{get, post, server};

/// A server that labels what is created, refuses what is called `bad`, and serves an API group.
async fn backend(authority: &wire::pki::CertificateAuthority, stop: &CancellationToken) -> SocketAddr {
    let listener = wire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let identity = authority.server("hook", &["hook.default.svc"], &[address.ip()]).unwrap();
    let handler = |request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        if head.uri.path() == "/apis/remote.example.com/v1" {
            let list = json!({"kind": "APIResourceList", "groupVersion": "remote.example.com/v1", "resources": [
                {"name": "things", "singularName": "thing", "kind": "Thing", "namespaced": true, "verbs": ["get"]}]});
            return Ok(wire::json(StatusCode::OK, list.to_string()));
        }
        if head.uri.path().starts_with("/apis/remote.example.com") {
            let answer = json!({"user": header("x-remote-user"), "token": header("authorization"), "path": head.uri.path()});
            return Ok(wire::json(StatusCode::OK, answer.to_string()));
        }
        let bytes = wire::collect(wire::incoming(body), 1 << 20).await.unwrap();
        let review: Value = serde_json::from_slice(&bytes).unwrap();
        let request = &review["request"];
        let mut response = json!({"uid": request["uid"], "allowed": request["object"]["metadata"]["name"] != "bad"});
        if head.uri.path() == "/mutate" {
            response["allowed"] = true.into();
            let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"hooked": "yes"}}]);
            response["patch"] = STANDARD.encode(patch.to_string()).into();
            response["patchType"] = "JSONPatch".into();
        } else if response["allowed"] == false {
            response["status"] = json!({"code": 403, "message": "no bad things"});
        }
        let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        Ok::<_, wire::Abort>(wire::json(StatusCode::OK, answer.to_string()))
    };
    let tls = identity.server_config(&["http/1.1"]).unwrap();
    tokio::spawn(wire::serve(listener, Some(tls), Arc::new(handler), Arc::new(()), stop.clone()));
    address
}

async fn service(server: &ApiServer, address: SocketAddr) {
    let spec = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]}});
    assert_eq!(post(server, "/api/v1/namespaces/default/services", spec).await.code, 201);
    let endpoints = json!({"metadata": {"name": "hook"}, "subsets": [
        {"addresses": [{"ip": address.ip().to_string()}], "ports": [{"port": address.port()}]}]});
    assert_eq!(post(server, "/api/v1/namespaces/default/endpoints", endpoints).await.code, 201);
}

fn configuration(kind: &str, name: &str, path: &str, bundle: &str) -> Value {
    json!({"kind": kind, "apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}, "webhooks": [{
        "name": format!("{name}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"caBundle": bundle, "service": {"namespace": "default", "name": "hook", "path": path}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]}]})
}

#[tokio::test]
async fn webhooks_change_and_refuse() {
    let server = server();
    let authority = wire::pki::CertificateAuthority::new("hooks").unwrap();
    let stop = CancellationToken::new();
    service(&server, backend(&authority, &stop).await).await;
    let bundle = STANDARD.encode(authority.certificate_pem());
    let root = "/apis/admissionregistration.k8s.io/v1";
    let mutating = configuration("MutatingWebhookConfiguration", "mutate", "/mutate", &bundle);
    assert_eq!(post(&server, &format!("{root}/mutatingwebhookconfigurations"), mutating).await.code, 201);
    let validating = configuration("ValidatingWebhookConfiguration", "validate", "/validate", &bundle);
    assert_eq!(post(&server, &format!("{root}/validatingwebhookconfigurations"), validating).await.code, 201);
    let path = "/api/v1/namespaces/default/configmaps";
    let good = post(&server, path, json!({"metadata": {"name": "good"}})).await;
    assert_eq!((good.code, good.body["metadata"]["labels"]["hooked"].as_str()), (201, Some("yes")), "{}", good.message());
    let bad = post(&server, path, json!({"metadata": {"name": "bad"}})).await;
    assert_eq!((bad.code, bad.message()), (403, "admission webhook \"validate.example.com\" denied the request: no bad things"));
    assert_eq!(get(&server, &format!("{path}/bad")).await.code, 404);
    stop.cancel();
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_fails_the_write() {
    let server = server();
    service(&server, "127.0.0.1:1".parse().unwrap()).await;
    let authority = wire::pki::CertificateAuthority::new("hooks").unwrap();
    let bundle = STANDARD.encode(authority.certificate_pem());
    let root = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    post(&server, root, configuration("ValidatingWebhookConfiguration", "gone", "/", &bundle)).await;
    let answer = post(&server, "/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "c"}})).await;
    assert_eq!(answer.code, 500);
    assert!(
        answer.message().starts_with("Internal error occurred: failed calling webhook \"gone.example.com\""),
        "{}",
        answer.message()
    );
}

#[tokio::test]
async fn an_aggregated_api_gets_the_request_with_who_asks() {
    let server = server();
    let authority = wire::pki::CertificateAuthority::new("hooks").unwrap();
    let stop = CancellationToken::new();
    service(&server, backend(&authority, &stop).await).await;
    let registered = post(
        &server,
        "/apis/apiregistration.k8s.io/v1/apiservices",
        json!({"metadata": {"name": "v1.remote.example.com"}, "spec": {"group": "remote.example.com", "version": "v1",
            "groupPriorityMinimum": 1000, "versionPriority": 15, "caBundle": STANDARD.encode(authority.certificate_pem()),
            "service": {"namespace": "default", "name": "hook"}}}),
    )
    .await;
    assert_eq!(registered.code, 201, "{}", registered.message());
    let answer = get(&server, "/apis/remote.example.com/v1/namespaces/default/things/t/go").await;
    let path = "/apis/remote.example.com/v1/namespaces/default/things/t/go";
    assert_eq!(answer.body, json!({"user": "kubernetes-admin", "token": "", "path": path}));
    let groups = get(&server, "/apis").await;
    assert!(groups.body["groups"].as_array().unwrap().iter().any(|group| group["name"] == "remote.example.com"));
    stop.cancel();
}
