//! A proxy in front of a server that notes what it is asked, and a client that notes what comes back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use faults::{Proxy, Rule, WrongIdentities};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;
use wire::{Answer, Body, Connection, Dial};

/// How long the client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(400);

pub(crate) struct Bench {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) dial: Dial,
    /// Requests that the server saw.
    pub(crate) asked: Arc<AtomicU64>,
    _stop: tokio_util::sync::DropGuard,
}

/// What a client saw of a request.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// What client-go would count.
    pub(crate) code: String,
    /// The body, as far as it came.
    pub(crate) body: Bytes,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

/// A server that answers reads with a list that has the number of the request, and watches with three events.
fn server(asked: Arc<AtomicU64>) -> impl Fn(Request<Body>) -> BoxFuture<'static, Answer> + Send + Sync {
    move |request| {
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            let _ = wire::collect(request.into_body(), 1 << 20).await;
            let event = |kind: &str, version| {
                format!("{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n")
            };
            let body = format!("{{\"kind\":\"List\",\"number\":{number}}}\n");
            let events = [event("ADDED", 11), event("BOOKMARK", 12), event("DELETED", 13)].concat();
            Ok(Response::new(wire::full(body + &events)))
        })
    }
}

impl Bench {
    pub(crate) fn start(protocol: &'static str) -> Self {
        wire::install_crypto_provider();
        let authority = CertificateAuthority::new("test").unwrap();
        let address = Ipv4Addr::LOCALHOST.into();
        let identity = authority.server("s", &["localhost"], &[address]).unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        let wrong = Arc::new(WrongIdentities::new(&authority, address).unwrap());
        let proxy = Arc::new(Proxy::new(server(asked.clone()), ()).with_wrong_identities(wrong));
        let listener = wire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let tls = identity.server_config(&[protocol]).unwrap();
        tokio::spawn(wire::serve(listener, Some(tls), proxy.clone(), proxy.clone(), stop.clone()));
        let tls = wire::pki::client_config(&authority.certificate_pem(), &[protocol]).unwrap();
        let dial = Dial { address: at, source: None, tls: Some(tls), server_name: None };
        Self { proxy, dial, asked, _stop: stop.drop_guard() }
    }

    pub(crate) fn arm(&self, rule: serde_json::Value) {
        let mut rule = rule;
        rule["name"] = "fault".into();
        let rule: Rule = serde_json::from_value(rule).unwrap();
        self.proxy.engine().clear(None);
        self.proxy.engine().add(Timestamp::now(), rule).unwrap();
    }

    /// A new connection, if one comes about.
    pub(crate) async fn connect(&self) -> Option<Connection> {
        tokio::time::timeout(PATIENCE, Connection::open(&self.dial)).await.ok()?.ok()
    }

    /// Opens a connection and sends a request on it.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Seen {
        match self.connect().await {
            Some(connection) => ask(&connection, method, target).await,
            None => Seen { code: "<error>".to_owned(), body: Bytes::new(), whole: false },
        }
    }
}

pub(crate) fn request(method: &str, target: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{target}"))
        .header("host", "localhost")
        .header("user-agent", "test")
        .body(wire::empty())
        .unwrap()
}

/// Sends a request and reads its answer, as far as it comes.
pub(crate) async fn ask(connection: &Connection, method: &str, target: &str) -> Seen {
    let mut seen = Seen { code: "<error>".to_owned(), body: Bytes::new(), whole: false };
    let sent = tokio::time::timeout(PATIENCE, connection.send(request(method, target))).await;
    let Ok(Ok(response)) = sent else { return seen };
    response.status().as_str().clone_into(&mut seen.code);
    let mut body = response.into_body();
    let mut parts = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => parts.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Ok(None) => {
                seen.whole = true;
                break;
            }
            Ok(Some(Err(_))) | Err(_) => break,
        }
    }
    seen.body = parts.into();
    seen
}
