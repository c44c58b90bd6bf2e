//! Who may do what: certificates, impersonation, escalation, tokens.

use apiserver::ApiServer;
use serde_json::json;
use wire::{Connection, Dial};

use crate::{get, post, send, send_as, server};

#[tokio::test]
async fn a_certificate_of_the_authority_names_its_user() {
    wire::install_crypto_provider();
    let authority = std::sync::Arc::new(wire::pki::CertificateAuthority::new("test").unwrap());
    let server = ApiServer::builder().authority(authority.clone()).start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let who = async |identity: &wire::pki::Identity| {
        let tls = identity.client_config(Some(&server.authority_pem()), &["http/1.1"]).unwrap();
        let dial = Dial { address: server.address().unwrap(), source: None, tls: Some(tls), server_name: None };
        let connection = Connection::open(&dial).await?;
        let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("content-type", "application/json")
            .body(wire::full("{}"))
            .unwrap();
        let response =
            connection.send(request).await.map_err(|source| wire::ConnectError::Http { address: dial.address, source })?;
        let bytes = wire::collect(wire::incoming(response.into_body()), 1 << 20).await.unwrap();
        Ok::<serde_json::Value, wire::ConnectError>(serde_json::from_slice(&bytes).unwrap())
    };
    let known = who(&authority.client("jane", Some("team")).unwrap()).await.unwrap();
    assert_eq!(known["status"]["userInfo"], json!({"username": "jane", "groups": ["team", "system:authenticated"]}));
    let stranger = wire::pki::CertificateAuthority::new("other").unwrap();
    assert!(who(&stranger.client("jane", Some("system:masters")).unwrap()).await.is_err());
}

/// A request for a serving certificate is signed once somebody has approved it, and only if it is what its signer signs.
#[tokio::test]
async fn approved_requests_are_signed() {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let server = server();
    server.run_controllers();
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let ask = async |name: &str, common_name: &str, usages: serde_json::Value| {
        let own =
            wire::pki::NewRequest::server(common_name, "system:nodes", &["proxy.lab.svc"], &[[10, 0, 0, 7].into()]).unwrap();
        let request = json!({"metadata": {"name": name}, "spec": {
            "request": base64.encode(&own.request_pem), "signerName": "kubernetes.io/kubelet-serving", "usages": usages,
            "expirationSeconds": 3600}});
        let made = post(&server, path, request).await;
        assert_eq!(made.code, 201, "{}", made.message());
        // Nobody has approved it.
        tokio::task::yield_now().await;
        let mut seen = get(&server, &format!("{path}/{name}")).await.body;
        assert!(seen["status"]["certificate"].is_null(), "{seen}");
        seen["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]});
        let approved = send(&server, "PUT", &format!("{path}/{name}/approval"), "application/json", &seen).await;
        assert_eq!(approved.code, 200, "{}", approved.message());
        for _ in 0..500 {
            let found = get(&server, &format!("{path}/{name}")).await.body;
            let failed = found["status"]["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Failed"));
            if let Some(failed) = failed {
                return Err(failed["message"].as_str().unwrap().to_owned());
            }
            if let Some(certificate) = found["status"]["certificate"].as_str() {
                return Ok((String::from_utf8(base64.decode(certificate).unwrap()).unwrap(), own.key_pem));
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("nobody has signed");
    };
    let usages = json!(["digital signature", "key encipherment", "server auth"]);
    let (certificate, key) = ask("good", "system:node:proxy", usages.clone()).await.unwrap();
    wire::pki::check_pair(&certificate, &key).unwrap();
    let why = ask("nobody", "proxy", usages).await.unwrap_err();
    assert_eq!(why, "subject common name does not begin with system:node:");
    let why = ask("client", "system:node:proxy", json!(["client auth"])).await.unwrap_err();
    assert_eq!(why, "usages did not match [digital signature key encipherment server auth]");
}

#[tokio::test]
async fn nobody_grants_more_than_he_has() {
    let server = server();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    post(&server, &format!("{rbac}/clusterroles"), json!({"metadata": {"name": "some"}, "rules": rules})).await;
    let bound = post(
        &server,
        &format!("{rbac}/clusterrolebindings"),
        json!({"metadata": {"name": "some"}, "roleRef": {"kind": "ClusterRole", "name": "some"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "bot"}]}),
    )
    .await;
    assert_eq!(bound.code, 201, "{}", bound.message());
    post(&server, "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "bot"}})).await;
    let token = post(&server, "/api/v1/namespaces/default/serviceaccounts/bot/token", json!({})).await;
    let token = token.body["status"]["token"].as_str().unwrap().to_owned();
    let path = format!("{rbac}/namespaces/default/roles");
    let role = |name: &str, verb: &str| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]});
    let same = send_as(&server, Some(&token), "POST", &path, "application/json", role("same", "get")).await;
    assert_eq!(same.code, 201, "{}", same.message());
    let more = send_as(&server, Some(&token), "POST", &path, "application/json", role("more", "delete")).await;
    assert_eq!(more.code, 403);
    assert!(more.message().contains("is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}"), "{}", more.message());
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": "x"}]});
    let path = format!("{rbac}/namespaces/default/rolebindings");
    assert_eq!(send_as(&server, Some(&token), "POST", &path, "application/json", binding).await.code, 403);
}

#[tokio::test]
async fn tokens_are_for_their_audience() {
    let server = server();
    post(&server, "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "bot"}})).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/bot/token";
    let token = post(&server, path, json!({"spec": {"audiences": ["vault"]}})).await;
    let token = token.body["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(send_as(&server, Some(&token), "GET", "/api", "", "").await.code, 401);
    let review = |audiences: serde_json::Value| json!({"spec": {"token": token, "audiences": audiences}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    assert_eq!(post(&server, reviews, review(json!(["vault"]))).await.body["status"]["authenticated"], true);
    assert_eq!(post(&server, reviews, review(json!(["else"]))).await.body["status"]["authenticated"], serde_json::Value::Null);
    assert_eq!(get(&server, "/api").await.code, 200);
}
