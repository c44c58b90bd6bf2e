//! The client under each fault, against what client-go 0.34 with KubeVirt's hook was measured to count.
//!
//! The expectations are those of a recording of the real client over both protocols, on fresh and on used connections, with
//! three seconds for each call; nothing in them was taken from this client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use faults::{Effect, Proxy, Rule, WrongIdentities};
use futures_util::StreamExt as _;
use http::{Method, Request};
use metrics::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;
use wire::{Body, Dial};

use super::{Client, ClientConfig};
use crate::release::Release;

/// How long the recorded calls had.
const DEADLINE: Duration = Duration::from_secs(3);

/// Cases that run at the same time.
const AT_ONCE: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

use Operation::{Create, Delete, Get, List, Patch, Update, Watch};

const ALL: [Operation; 7] = [Get, List, Watch, Create, Update, Patch, Delete];

impl Operation {
    fn request(self) -> (Method, &'static str) {
        let (collection, one) = ("/api/v1/namespaces/t/configmaps", "/api/v1/namespaces/t/configmaps/x");
        match self {
            Get => (Method::GET, one),
            List => (Method::GET, collection),
            Watch => (Method::GET, "/api/v1/namespaces/t/configmaps?watch=true"),
            Create => (Method::POST, collection),
            Update => (Method::PUT, one),
            Patch => (Method::PATCH, one),
            Delete => (Method::DELETE, one),
        }
    }
}

/// What was counted by code, and how many requests the server saw.
type Seen = (BTreeMap<String, u64>, u64);

fn seen(codes: &[(&str, u64)], requests: u64) -> Seen {
    (codes.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect(), requests)
}

/// What the real client does: by fault, operation, whether HTTP/2 is spoken, whether the connection was used before.
fn recorded(fault: &str, operation: Operation, http2: bool, used: bool) -> Seen {
    let reads = matches!(operation, Get | List | Watch);
    let good = if operation == Create { "201" } else { "200" };
    let error = |samples, requests| seen(&[("<error>", samples)], requests);
    match fault {
        "none" | "delay" => seen(&[(good, 1)], 1),
        "reset" | "close" => match (http2, reads, used) {
            (false, true, false) => error(3, 3),
            (false, true, true) => error(3, 4),
            _ => error(1, 1),
        },
        "reset-once" => match (http2, reads, used) {
            (false, true, false) => seen(&[("200", 1), ("<error>", 1)], 2),
            (false, true, true) => seen(&[("200", 1)], 2),
            _ => error(1, 1),
        },
        // Whatever it was, it is asked for again as a read.
        "redirect" => seen(&[("200", 1), ("302", 1)], 2),
        "502-html" => seen(&[("502", 1)], 1),
        "429-once" => seen(&[("429", 1), (good, 1)], 2),
        "429-retry-after-0" => seen(&[("429", 11)], 11),
        "429-retry-after-1" => seen(&[("429", 3)], 3),
        "500-retry-after-0" => seen(&[("500", 11)], 11),
        "503-retry-after-0" => seen(&[("503", 11)], 11),
        "empty" | "garbled" | "html" | "reset-after-headers" | "truncated" => {
            // The recorded server answered all of these with 200.
            seen(&[(good, 1)], 1)
        }
        "hang" => error(1, 1),
        "refuse" | "tls-expired" | "tls-wrong-name" | "tls-unknown-authority" | "tls-plain-http" => error(1, 0),
        "tls-abort" if reads => error(3, 0),
        "tls-abort" => error(1, 0),
        status => seen(&[(status, 1)], 1),
    }
}

/// The faults, and how they are written.
fn faults() -> Vec<(&'static str, serde_json::Value)> {
    let rule = |effect: serde_json::Value| json!({"effect": effect});
    let first = |effect: serde_json::Value| json!({"effect": effect, "budget": {"first": 1}});
    let status = |code: u16| rule(json!({"status": {"code": code}}));
    let again = |code: u16, seconds: u16| json!({"status": {"code": code, "retryAfter": seconds}});
    vec![
        ("none", rule(json!({"pass": {}}))),
        ("delay", rule(json!({"delay": {"for": 0.5}}))),
        ("reset", rule(json!({"reset": {}}))),
        ("close", rule(json!({"close": {}}))),
        ("reset-once", first(json!({"reset": {}}))),
        ("reset-after-headers", rule(json!({"reset": {"afterHeaders": true}}))),
        ("truncated", rule(json!({"close": {"afterBytes": 10}}))),
        ("empty", rule(json!({"body": "empty"}))),
        ("garbled", rule(json!({"body": "garbled"}))),
        ("html", rule(json!({"body": "html"}))),
        ("hang", rule(json!({"hang": {}}))),
        ("400", status(400)),
        ("401", status(401)),
        ("403", status(403)),
        ("404", status(404)),
        ("409", status(409)),
        ("410", status(410)),
        ("422", status(422)),
        ("429", status(429)),
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("504", status(504)),
        ("redirect", first(json!({"status": {"code": 302}}))),
        ("502-html", rule(json!({"status": {"code": 502, "body": "<html>bad gateway</html>"}}))),
        ("429-once", first(again(429, 0))),
        ("429-retry-after-0", rule(again(429, 0))),
        ("429-retry-after-1", rule(again(429, 1))),
        ("500-retry-after-0", rule(again(500, 0))),
        ("503-retry-after-0", rule(again(503, 0))),
        ("refuse", rule(json!({"refuse": {}}))),
        ("tls-expired", rule(json!({"tls": "expired"}))),
        ("tls-wrong-name", rule(json!({"tls": "wrongName"}))),
        ("tls-unknown-authority", rule(json!({"tls": "unknownAuthority"}))),
        ("tls-abort", rule(json!({"tls": "abort"}))),
        ("tls-plain-http", rule(json!({"tls": "plainHttp"}))),
    ]
}

fn upstream(request: Request<Body>) -> futures_util::future::BoxFuture<'static, wire::Answer> {
    let created = request.method() == Method::POST;
    let status = if created { http::StatusCode::CREATED } else { http::StatusCode::OK };
    let body = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x", "resourceVersion": "1"}}).to_string();
    Box::pin(async move { Ok(wire::json(status, body)) })
}

/// Asks the proxy before it dials, as in a lab.
struct Asks(Arc<Proxy>);

impl crate::component::Network for Asks {
    fn dialling(&self, source: std::net::IpAddr) -> wire::Dialling {
        self.0.dialling(source)
    }
}

/// Knows every address as a pod, so that the proxy leaves the dial to who asks it.
struct Pods;

impl faults::PodDirectory for Pods {
    fn find(&self, _address: std::net::IpAddr) -> Option<faults::PodIdentity> {
        let text = || "t".to_owned();
        Some(faults::PodIdentity { namespace: text(), name: text(), service_account: text() })
    }
}

/// Certificates, made once for all cases.
struct Bench {
    authority: CertificateAuthority,
    identity: wire::pki::Identity,
    wrong: Arc<WrongIdentities>,
    release: Release,
}

impl Bench {
    fn new() -> Self {
        let authority = CertificateAuthority::new("test").unwrap();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        Self {
            identity: authority.server("s", &["localhost"], &[address]).unwrap(),
            wrong: Arc::new(WrongIdentities::new(&authority, address).unwrap()),
            release: Release::load("v1.9.0").unwrap(),
            authority,
        }
    }
}

/// What the client counts for one call under a fault, and what the server saw.
async fn observe(bench: &Bench, fault: &serde_json::Value, operation: Operation, http2: bool, used: bool) -> Seen {
    let Bench { authority, identity, wrong, release } = bench;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let listener = wire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let protocols: &[&str] = if http2 { &["h2"] } else { &["http/1.1"] };
    let tls = identity.server_config(protocols).unwrap();
    let proxy = Arc::new(Proxy::new(upstream, Pods).with_wrong_identities(wrong.clone()));
    tokio::spawn(wire::serve(listener, Some(tls), proxy.clone(), proxy.clone(), stop.clone()));
    let registry = Arc::new(Registry::default());
    let component = release.components.values().find(|component| component.counted).unwrap();
    for family in release.families(component).unwrap() {
        registry.declare(family.family());
    }
    let tls = wire::pki::client_config(&authority.certificate_pem(), protocols).unwrap();
    let client = Client::new(
        ClientConfig {
            dial: Dial { address, source: Some(address.ip()), tls: Some(tls), server_name: None },
            token: "".into(),
            user_agent: "test".to_owned(),
            spec: release.client.clone(),
            qps: 1000.0,
            burst: 1000.0,
            counted: true,
            network: Some(Arc::new(Asks(proxy.clone()))),
            defects: Default::default(),
        },
        registry.clone(),
    );
    if used {
        client.get("/version").await.unwrap();
    }
    let mut rule = fault.clone();
    rule["name"] = "fault".into();
    let rule: Rule = serde_json::from_value(rule).unwrap();
    proxy.engine().add(jiff::Timestamp::now(), rule).unwrap();
    let before = proxy.ledger().snapshot().last;
    let (method, target) = operation.request();
    let body = json!({"metadata": {"name": "x"}});
    let body = (!matches!(operation, Get | List | Watch | Delete)).then_some(&body);
    let _ = client.request(method, target, "application/json", body, Some(DEADLINE)).await;
    let page = metrics::parse(&registry.page()).unwrap();
    let mut codes = BTreeMap::new();
    for sample in page.of(&release.client.requests).filter(|sample| sample.series.label("resource") == "configmaps") {
        *codes.entry(sample.series.label("code").to_owned()).or_default() += sample.value as u64;
    }
    let entries = proxy.ledger().entries(before, usize::MAX);
    let requests = entries.iter().filter(|entry| entry.verb != "dial").count() as u64;
    (codes, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_counts_what_the_real_client_counts() {
    wire::install_crypto_provider();
    let mut cases = Vec::new();
    for (name, fault) in faults() {
        let on_connections = Effect::is_of_connections(&serde_json::from_value(fault["effect"].clone()).unwrap());
        for operation in ALL {
            for http2 in [false, true] {
                // A connection that is there cannot be refused any more: only fresh ones were recorded.
                for used in [false, true].into_iter().filter(|used| !(*used && on_connections)) {
                    cases.push((name, fault.clone(), operation, http2, used));
                }
            }
        }
    }
    let bench = Bench::new();
    let bench = &bench;
    // Some at a time: three seconds must be enough for a call's own pauses.
    let results = futures_util::stream::iter(&cases).map(|(name, fault, operation, http2, used)| async move {
        (name, operation, http2, used, observe(bench, fault, *operation, *http2, *used).await)
    });
    let results: Vec<_> = results.buffer_unordered(AT_ONCE).collect().await;
    let mut differences = Vec::new();
    for (name, operation, http2, used, found) in &results {
        let wanted = recorded(name, **operation, **http2, **used);
        if *found != wanted {
            let protocol = if **http2 { "h2" } else { "http/1.1" };
            differences.push(format!("{name} {operation:?} {protocol} used={used}: {found:?}, recorded {wanted:?}"));
        }
    }
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), cases.len(), differences.join("\n"));
    let cell = |name: &str, operation: Operation, http2: bool, used: bool| {
        let found = results.iter().find(|(of, op, h2, us, _)| **of == name && **op == operation && **h2 == http2 && **us == used);
        let Some((.., (codes, requests))) = found else { return "–".to_owned() };
        let codes: Vec<String> = codes.iter().map(|(code, count)| format!("`{code}` × {count}")).collect();
        format!("{} ({requests})", codes.join(", "))
    };
    let mut table = String::from(
        "| fault | HTTP/2: reads | HTTP/2: writes | HTTP/1.1: reads, new connection | reads, used connection | writes |\n|---|---|---|---|---|---|\n",
    );
    for (name, fault) in faults() {
        let mut written = fault["effect"].to_string().replace('"', "").replace(':', ": ").replace(',', ", ");
        if let Some(first) = fault["budget"]["first"].as_u64() {
            written.push_str(&format!(" first: {first}"));
        }
        let cells = [
            cell(name, Get, true, false),
            cell(name, Update, true, false),
            cell(name, Get, false, false),
            cell(name, Get, false, true),
            cell(name, Update, false, false),
        ];
        table.push_str(&format!("| `{written}` | {} |\n", cells.join(" | ")));
    }
    check_page(&table);
}

/// The table stands in docs/faults.md as this run made it; with `LAB_WRITE_DOCS` set it is put there.
fn check_page(table: &str) {
    const MARKS: [&str; 2] = ["<!-- table: counted -->\n", "<!-- end: counted -->"];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once(MARKS[0]).unwrap();
    let (present, tail) = rest.split_once(MARKS[1]).unwrap();
    if std::env::var_os("LAB_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{}{table}{}{tail}", MARKS[0], MARKS[1])).unwrap();
    } else {
        assert_eq!(present, table, "docs/faults.md is out of date: LAB_WRITE_DOCS=1 cargo test -p kubevirt measured");
    }
}
