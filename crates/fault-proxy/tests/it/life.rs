//! Restarts, of the proxy and of what is behind it; certificates that are replaced; tokens.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, start};

const LIST: &str = "/api/v1/namespaces";

fn total(totals: &Value, code: &str) -> u64 {
    let all = totals["totals"].as_array().unwrap();
    all.iter().filter(|pair| pair[0]["code"] == code).map(|pair| pair[1].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_proxy_goes_on_with_its_ledger() {
    let bench = Bench::start().await;
    bench.write("faults.yaml", "- {name: first, effect: {status: {code: 503}}, budget: {first: 1}}\n");
    let folder = bench.folder.path();
    let program = bench.run(&["--ledger", "ledger", "--faults", "faults.yaml"]);
    let client = bench.client();
    let codes = [client.get(LIST).await.0, client.get(LIST).await.0, client.get(LIST).await.0];
    assert_eq!(codes, [503, 200, 200]);
    let before = program.control(folder, "/ledger/totals").await;
    program.kill();
    let program = bench.run(&["--ledger", "ledger"]);
    assert_eq!(program.control(folder, "/ledger/totals").await, before);
    bench.client().get(LIST).await;
    let after = program.control(folder, "/ledger/totals").await;
    assert_eq!((total(&after, "200"), total(&after, "503")), (3, 1));
    for secret in ["ledger", "lab-fault-proxy.token", "proxied"] {
        assert_eq!(std::fs::metadata(bench.path(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
    let kept = std::fs::read_to_string(bench.path("ledger")).unwrap();
    assert!(!kept.contains(bench.server.admin_token()), "tokens are not in the ledger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_gives_no_answer_and_is_found_again() {
    let bench = Bench::start().await;
    let address = bench.server.address().unwrap();
    let program = bench.run(&[]);
    let client = bench.client();
    assert_eq!(client.get(LIST).await.0, 200);
    let Bench { server, authority, folder } = bench;
    let token = server.admin_token().to_owned();
    drop(server);
    assert!(client.request("GET", LIST).send().await.is_err(), "no answer, as without the proxy");
    let entries = program.control(folder.path(), "/ledger?limit=1").await;
    assert_eq!((&entries[0]["outcome"]["kind"], &entries[0]["code"]), (&"unanswered".into(), &"<error>".into()));
    let identity = kubeapi::Identity::admin("kubernetes-admin");
    let again = apiserver::ApiServer::builder().authority(authority).token(token, identity).start(address).await.unwrap();
    assert_eq!(client.get(LIST).await.0, 200);
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_replaced_is_shown_to_new_connections() {
    let bench = Bench::start().await;
    let loopback = [std::net::IpAddr::from([127, 0, 0, 1])];
    let put = |name: &str| {
        let identity = bench.authority.server(name, &["localhost"], &loopback).unwrap();
        bench.write("cert.pem", &identity.certificate_pem);
        bench.write("key.pem", &identity.key_pem);
    };
    put("old");
    let program = start(bench.folder.path(), &["--kubeconfig", "kubeconfig", "--certificate", "cert.pem", "--key", "key.pem"]);
    let address = program.url().trim_start_matches("https://").to_owned();
    let shown = || async {
        let tls = wire::pki::client_config(&bench.authority.certificate_pem(), &[]).unwrap();
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.unwrap();
        wire::pki::Subject::of(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap().common_name
    };
    assert_eq!(shown().await, "old");
    // Half of a pair is no pair: the old one stays.
    bench.write("cert.pem", "nonsense");
    put("new");
    let replaced = async {
        while shown().await != "new" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), replaced).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_endpoint_needs_its_token() {
    let bench = Bench::start().await;
    let program = bench.run(&[]);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let control = program.ready["control"].as_str().unwrap();
    for token in ["", "wrong", bench.server.admin_token()] {
        for path in ["/faults", "/ledger", "/metrics"] {
            let response = http.get(format!("{control}{path}")).bearer_auth(token).send().await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
        }
    }
}
