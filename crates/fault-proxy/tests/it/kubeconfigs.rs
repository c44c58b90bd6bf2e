//! Whose credentials reach the API server.

use serde_json::json;
use wire::{Connection, Dial};

use crate::bench::{Bench, refused};

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn who(client: &crate::bench::Client) -> String {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let request = client.request("POST", WHO).header("content-type", "application/json").body(body);
    let review: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    review["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_passed_on() {
    let bench = Bench::start().await;
    let _program = bench.run(&[]);
    let mut client = bench.client();
    assert_eq!(client.token, bench.server.admin_token());
    assert_eq!(who(&client).await, "kubernetes-admin");
    client.token = "another-token".to_owned();
    assert_eq!(client.get("/api/v1/namespaces").await.0, 401, "what the proxy knows is nobody else's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_stood_for_by_a_token_of_the_proxy() {
    use base64::Engine as _;
    let bench = Bench::start().await;
    let identity = bench.authority.client("carla", Some("system:masters")).unwrap();
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut config: serde_json::Value =
        wire::yaml::manifests(&std::fs::read_to_string(bench.path("kubeconfig")).unwrap()).unwrap().remove(0);
    let user =
        json!({"client-certificate-data": encode(&identity.certificate_pem), "client-key-data": encode(&identity.key_pem)});
    config["users"][0]["user"] = user;
    bench.write("kubeconfig", &config.to_string());
    let _program = bench.run(&[]);
    let mut client = bench.client();
    assert_eq!(who(&client).await, "carla");
    client.token.push('x');
    assert_eq!(client.get("/api/v1/namespaces").await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_certificate_to_the_proxy_is_impersonated() {
    let bench = Bench::start().await;
    bench.write("own-token", bench.server.admin_token());
    bench.write("ca.pem", &bench.authority.certificate_pem());
    let program = bench.run(&["--client-ca", "ca.pem", "--upstream-token-file", "own-token"]);
    let client = bench.client();
    let identity = bench.authority.client("dora", Some("readers")).unwrap();
    let tls = identity.client_config(Some(&client.authority), &["http/1.1"]).unwrap();
    let address = program.url().trim_start_matches("https://").parse().unwrap();
    let dial = Dial { address, source: None, tls: Some(tls), server_name: None };
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let request =
        || http::Request::builder().method("POST").uri(WHO).header("host", "x").header("content-type", "application/json");
    let connection = Connection::open(&dial).await.unwrap();
    let response = connection.send(request().body(wire::full(body.clone())).unwrap()).await.unwrap();
    let bytes = wire::collect(wire::incoming(response.into_body()), 1 << 20).await.unwrap();
    let review: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(review["status"]["userInfo"]["username"], "dora");
    assert!(review["status"]["userInfo"]["groups"].to_string().contains("readers"));
    // Nobody becomes somebody else with the proxy's rights.
    let other = request().header("impersonate-user", "kubernetes-admin").body(wire::full(body)).unwrap();
    assert_eq!(connection.send(other).await.unwrap().status(), 403);
    let entries = program.control(bench.folder.path(), "/ledger").await;
    assert_eq!(entries[0]["client"]["user"], "dora");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("f.yaml"), "- name: a\n  effect: {reset: {}, pass: {}}\n").unwrap();
    std::fs::write(path.join("short"), "short\n").unwrap();
    let upstream = ["--upstream", "https://127.0.0.1:1", "--upstream-insecure"];
    for (arguments, expected) in [
        (vec!["--upstream", "https://127.0.0.1:1"], "how is https://127.0.0.1:1 known? Give --upstream-ca"),
        (vec!["--upstream", "nonsense", "--upstream-insecure"], "is no URL of a server"),
        (vec!["--kubeconfig", "nowhere"], "cannot read nowhere"),
        ([&upstream[..], &["--faults", "f.yaml"]].concat(), "f.yaml:2:11: an effect has one key, not reset and pass"),
        ([&upstream[..], &["--control", "0.0.0.0:0"]].concat(), "0.0.0.0:0 is not a loopback address"),
        ([&upstream[..], &["--client-ca", "f.yaml"]].concat(), "needs credentials of the proxy's own"),
        ([&upstream[..], &["--token-file", "short"]].concat(), "16 characters at least"),
        ([&upstream[..], &["--ledger", "f.yaml"]].concat(), "f.yaml:1: this is no line of a ledger"),
    ] {
        let (code, said) = refused(path, &arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}
