//! Whether the ledger equals the clients' counters, over real sockets, under every kind of fault at once.
//!
//!     cargo xtask bench exact [--requests N]
//!
//! 64 clients, half of them over HTTP/1.1 and half over HTTP/2, send requests of eight verbs for twenty resources to the embedded
//! API server through the proxy. Each counts a round trip as client-go's transport does: the status when there is a head, `<error>`
//! when there is none. In the end the ledger's totals less the clients' counts must be nought for every client, method, verb,
//! resource and code.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apiserver::ApiServer;
use faults::{Proxy, Rule, WrongIdentities};
use http::Request;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kubeapi::Identity;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;
use wire::{Connection, Dial, Protocol};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 64;

/// Group and version, resource.
const RESOURCES: [(&str, &str); 20] = [
    ("api/v1", "configmaps"),
    ("api/v1", "secrets"),
    ("api/v1", "pods"),
    ("api/v1", "services"),
    ("api/v1", "serviceaccounts"),
    ("api/v1", "endpoints"),
    ("api/v1", "events"),
    ("api/v1", "persistentvolumeclaims"),
    ("api/v1", "replicationcontrollers"),
    ("api/v1", "podtemplates"),
    ("apis/apps/v1", "deployments"),
    ("apis/apps/v1", "daemonsets"),
    ("apis/apps/v1", "statefulsets"),
    ("apis/apps/v1", "replicasets"),
    ("apis/batch/v1", "jobs"),
    ("apis/batch/v1", "cronjobs"),
    ("apis/coordination.k8s.io/v1", "leases"),
    ("apis/networking.k8s.io/v1", "networkpolicies"),
    ("apis/rbac.authorization.k8s.io/v1", "roles"),
    ("apis/policy/v1", "poddisruptionbudgets"),
];

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// The faults, each with a share of the requests or connections that it meets.
fn rules() -> Vec<Rule> {
    let effects = [
        ("refuse", json!({"refuse": {}}), 0.02),
        ("tls-abort", json!({"tls": "abort"}), 0.02),
        ("tls-expired", json!({"tls": "expired"}), 0.02),
        ("plain-http", json!({"tls": "plainHttp"}), 0.02),
        ("reset", json!({"reset": {}}), 0.01),
        ("refused-stream", json!({"reset": {"code": "REFUSED_STREAM"}}), 0.005),
        ("reset-connection", json!({"reset": {"connection": true}}), 0.005),
        ("reset-after-headers", json!({"reset": {"afterHeaders": true}}), 0.005),
        ("close", json!({"close": {}}), 0.01),
        ("close-in-body", json!({"close": {"afterBytes": 20}}), 0.005),
        ("lose", json!({"lose": {}}), 0.01),
        ("hang", json!({"hang": {"for": 0.002}}), 0.005),
        ("status-500", json!({"status": {"code": 500}}), 0.03),
        ("status-429", json!({"status": {"code": 429, "retryAfter": 1}}), 0.02),
        ("status-302", json!({"status": {"code": 302}}), 0.01),
        ("delay", json!({"delay": {"between": [0.0001, 0.002]}}), 0.02),
        ("bandwidth", json!({"bandwidth": {"bytesPerSecond": 1_000_000}}), 0.01),
        ("garbled", json!({"body": "garbled"}), 0.01),
        ("html", json!({"body": "html"}), 0.01),
        ("end-of-watch", json!({"watch": {"endAfter": 0}}), 0.1),
        ("stale", json!({"stale": {"age": 0.05}}), 0.01),
        ("goaway", json!({"goaway": {}}), 0.005),
    ];
    let rule = |(seed, (name, effect, share)): (usize, (&str, serde_json::Value, f64))| {
        let budget = json!({"probability": share, "seed": seed});
        serde_json::from_value(json!({"name": name, "effect": effect, "budget": budget})).expect("these are rules")
    };
    effects.into_iter().enumerate().map(rule).collect()
}

/// Client, method, verb, resource, code.
type Key = (String, String, String, String, String);

type Counts = BTreeMap<Key, u64>;

/// splitmix64, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most as u64) as usize
    }
}

struct Worker {
    number: usize,
    dial: Dial,
    token: String,
    counts: Counts,
    random: Random,
}

impl Worker {
    fn count(&mut self, method: &str, verb: &str, resource: &str, code: &str) {
        // A dial carries no token yet.
        let client = if verb == "dial" { "system:anonymous" } else { &user(&self.token) };
        let key = [client, method, verb, resource, code].map(str::to_owned);
        *self.counts.entry(key.into()).or_default() += 1;
    }

    fn request(&mut self) -> Result<(Request<wire::Body>, &'static str, &'static str), Failure> {
        let (version, resource) = RESOURCES[self.random.below(RESOURCES.len())];
        // A watch costs HTTP/1.1 a connection.
        let mut verb = VERBS[self.random.below(VERBS.len())];
        if verb == "watch" && self.number.is_multiple_of(2) && self.random.below(8) > 0 {
            verb = "get";
        }
        let many = format!("/{version}/namespaces/default/{resource}");
        let name = format!("w{}-{}", self.number, self.random.below(4));
        let one = format!("{many}/{name}");
        let object = json!({"metadata": {"name": name, "labels": {"worker": self.number.to_string()}}}).to_string();
        let (method, target, body) = match verb {
            "get" => ("GET", one, String::new()),
            "list" => ("GET", many, String::new()),
            "watch" => ("GET", format!("{many}?watch=true&timeoutSeconds=1"), String::new()),
            "create" => ("POST", many, object),
            "update" => ("PUT", one, object),
            "patch" => ("PATCH", one, r#"{"metadata":{"annotations":{"a":"b"}}}"#.to_owned()),
            "delete" => ("DELETE", one, String::new()),
            _ => ("DELETE", format!("{many}?labelSelector=worker%3D{}", self.number), String::new()),
        };
        let kind = if verb == "patch" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{target}", self.dial.address))
            .header("host", self.dial.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", kind)
            .body(wire::full(body))?;
        Ok((request, verb, resource))
    }

    async fn run(mut self, left: Arc<AtomicU64>) -> Result<Counts, Failure> {
        let mut open: Option<Connection> = None;
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let (request, verb, resource) = self.request()?;
            let method = request.method().to_string();
            let connection = loop {
                match open.take() {
                    Some(connection) if !connection.is_closed().await => break connection,
                    _ => match Connection::open(&self.dial).await {
                        Ok(connection) => open = Some(connection),
                        Err(_) => self.count("CONNECT", "dial", "", "<error>"),
                    },
                }
            };
            match connection.send(request).await {
                Ok(response) => {
                    self.count(&method, verb, resource, response.status().as_str());
                    if verb == "watch" {
                        if connection.protocol() == Protocol::Http1 {
                            continue;
                        }
                    } else if response.into_body().collect().await.is_err() && connection.protocol() == Protocol::Http1 {
                        continue;
                    }
                    open = Some(connection);
                }
                // The connection had been retired meanwhile.
                Err(error) if wire::never_begun(&error) => drop(left.fetch_add(1, Ordering::Relaxed)),
                Err(_) => {
                    self.count(&method, verb, resource, "<error>");
                    if connection.protocol() == Protocol::Http2 {
                        open = Some(connection);
                    }
                }
            }
        }
        Ok(self.counts)
    }
}

/// How the ledger calls who bears a token.
fn user(token: &str) -> String {
    faults::Client::from_authorization(Some(&format!("Bearer {token}"))).user
}

/// Resident memory in MB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

async fn check(requests: u64) -> Result<bool, Failure> {
    let tokens: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}-token")).collect();
    let mut builder = ApiServer::builder().seed(1);
    for token in &tokens {
        builder = builder.token(token, Identity::admin(&user(token)));
    }
    let server = builder.build()?;
    let authority = CertificateAuthority::new("exact")?;
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let wrong = Arc::new(WrongIdentities::new(&authority, address)?);
    let proxy = Arc::new(Proxy::new(server.handler(), ()).with_wrong_identities(wrong));
    proxy.engine().add_all(Timestamp::now(), rules())?;
    let listener = wire::bind((address, 0).into())?;
    let dial = Dial { address: listener.local_addr()?, source: None, tls: None, server_name: None };
    let tls = authority.server("exact", &["localhost"], &[address])?.server_config(&["h2", "http/1.1"])?;
    let stop = CancellationToken::new();
    tokio::spawn(wire::serve(listener, Some(tls), proxy.clone(), proxy.clone(), stop.clone()));

    let left = Arc::new(AtomicU64::new(requests));
    let (began, fresh) = (Instant::now(), memory());
    let workers: Vec<_> = tokens
        .iter()
        .enumerate()
        .map(|(number, token)| {
            let protocol = if number.is_multiple_of(2) { "http/1.1" } else { "h2" };
            let tls = wire::pki::client_config(&authority.certificate_pem(), &[protocol])?;
            // Addresses of their own, so that ports do not run out.
            let source = Some(IpAddr::from([127, 1, 0, number as u8 + 1]));
            let dial = Dial { tls: Some(tls), source, ..dial.clone() };
            let worker = Worker { number, dial, token: token.clone(), counts: Counts::new(), random: Random(number as u64 * 77) };
            Ok::<_, Failure>(tokio::spawn(worker.run(left.clone())))
        })
        .collect::<Result<_, _>>()?;
    let progress = tokio::spawn(async move {
        let mut said = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let tenths = (requests - left.load(Ordering::Relaxed)) * 10 / requests.max(1);
            if tenths > said {
                said = tenths;
                eprintln!("{}0 %: {:.0} s, {:.0} MB", tenths, began.elapsed().as_secs_f64(), memory());
            }
        }
    });
    let mut counted = Counts::new();
    for worker in workers {
        for (key, count) in worker.await?? {
            *counted.entry(key).or_default() += count;
        }
    }
    progress.abort();
    let seconds = began.elapsed().as_secs_f64();
    while !proxy.ledger().snapshot().under_way.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let snapshot = proxy.ledger().snapshot();
    let mut noted = Counts::new();
    for (key, count) in &snapshot.totals {
        let key = (key.client.clone(), key.method.to_string(), key.verb.to_string(), key.resource.clone(), key.code.to_string());
        *noted.entry(key).or_default() += count;
    }
    let mut differences = 0;
    for key in counted.keys().chain(noted.keys().filter(|key| !counted.contains_key(*key))) {
        let (client, ledger) = (counted.get(key).copied().unwrap_or(0), noted.get(key).copied().unwrap_or(0));
        if client != ledger {
            differences += 1;
            eprintln!("{key:?}: counted {client}, ledger {ledger}");
        }
    }
    let injected: u64 = snapshot.by_rule.values().sum();
    for (rule, count) in &snapshot.by_rule {
        eprintln!("{rule}: {count}");
    }
    println!("requests {}", counted.values().sum::<u64>());
    println!("series {}", counted.len());
    println!("kinds {}", snapshot.by_rule.len());
    println!("injected {injected}");
    println!("seconds {seconds}");
    println!("fresh_mb {fresh}");
    println!("mb {}", memory());
    println!("differences {differences}");
    stop.cancel();
    Ok(differences == 0)
}

fn main() -> Result<(), Failure> {
    // `cargo test` and `cargo bench` add flags of their own.
    let requests = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let Some(requests) = requests else {
        println!("not run: it wants a number of requests; see `cargo xtask bench exact`");
        return Ok(());
    };
    wire::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if runtime.block_on(check(requests.parse()?))? { Ok(()) } else { Err("the ledger does not equal the counters".into()) }
}
