//! The proxy: decisions applied to connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use kubeapi::{RequestInfo, Status, Verb};
use wire::{Abort, Admission, Answer, Body, ConnectionInfo, Dialling, Gate, Handler, IncomingConnection};

use crate::client::Client;
use crate::engine::{Decision, Engine};
use crate::ledger::{Ledger, Opening, Outcome, Protocol, Word};
use crate::rule::{BreakEffect, Effect, Phase, StatusEffect, StreamCode, TlsEffect};
use crate::stale::{self, Past};
use crate::tamper;
use crate::tls::WrongIdentities;

/// Where passed requests go.
pub trait Upstream: Send + Sync + 'static {
    /// Answers a request.
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Answer>;
}

impl<F> Upstream for F
where
    F: Fn(Request<Body>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
{
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Answer> {
        self(request)
    }
}

/// A pod that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ServiceAccount.
    pub service_account: String,
}

/// Tells which pod has an address, for connections that carry no request yet.
pub trait PodDirectory: Send + Sync + 'static {
    /// The pod at an address.
    fn find(&self, address: IpAddr) -> Option<PodIdentity>;

    /// Whether its pods ask ([`Proxy::dialling`]) before they dial; of those that have, a connection is not decided over twice.
    fn asks_first(&self) -> bool {
        false
    }
}

/// No pod has an address.
impl PodDirectory for () {
    fn find(&self, _address: IpAddr) -> Option<PodIdentity> {
        None
    }
}

/// How long a connection without an answer is held for clients that did not ask before. Go gives up a handshake after 10 s.
const UNANSWERED: Duration = Duration::from_secs(60);

/// The `kubernetes` Service: it lets requests through to the API server, unless a rule says otherwise.
pub struct Proxy {
    engine: Arc<Engine>,
    ledger: Arc<Ledger>,
    upstream: Box<dyn Upstream>,
    pods: Box<dyn PodDirectory>,
    wrong: Option<Arc<WrongIdentities>>,
    past: Past,
}

/// How much of a request is read before it is answered by a fault, in bytes, and for how long.
const MAX_DRAINED: usize = 16 * 1024 * 1024;
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Closes a ledger entry exactly once, also when the client goes away first.
struct Open {
    ledger: Arc<Ledger>,
    number: u64,
    outcome: Option<Outcome>,
}

impl Open {
    fn close(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Outcome::Cancelled);
        self.ledger.close(self.number, &outcome, Timestamp::now());
    }
}

impl Proxy {
    /// A proxy without rules.
    pub fn new(upstream: impl Upstream, pods: impl PodDirectory) -> Self {
        Self {
            engine: Arc::default(),
            ledger: Arc::default(),
            upstream: Box::new(upstream),
            pods: Box::new(pods),
            wrong: None,
            past: Past::default(),
        }
    }

    /// With a record that exists already.
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.ledger = Arc::new(ledger);
        self
    }

    /// With certificates for connections that are to fail in the handshake; without them they are reset.
    pub fn with_wrong_identities(mut self, wrong: Arc<WrongIdentities>) -> Self {
        self.wrong = Some(wrong);
        self
    }

    /// Its rules.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Its record.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    fn client_at(&self, address: IpAddr) -> Client {
        match self.pods.find(address) {
            None => Client { user: "system:anonymous".to_owned(), address: address.to_string(), ..Client::default() },
            Some(pod) => Client {
                pod: Some(pod.name),
                address: address.to_string(),
                ..Client::service_account(&pod.namespace, &pod.service_account)
            },
        }
    }

    /// What happens to a connection that a client at `source` is about to open. Simulated components ask before they dial,
    /// since nobody but the kernel can refuse a connection to a port that is listened on.
    pub fn dialling(&self, source: IpAddr) -> Dialling {
        match self.decide_connection(Phase::Dial, source) {
            Some(Effect::Drop(_)) => Dialling::Unanswered,
            Some(_) => Dialling::Refused,
            None => Dialling::Admitted,
        }
    }

    /// How the handshake of a connection from `peer` fails, if it is to fail.
    fn handshake(&self, peer: IpAddr) -> Option<TlsEffect> {
        if let Effect::Tls(tls) = self.decide_connection(Phase::Handshake, peer)? { Some(tls) } else { None }
    }

    /// Decides over a connection, and notes it if something happens to it.
    fn decide_connection(&self, phase: Phase, source: IpAddr) -> Option<Effect> {
        let client = self.client_at(source);
        let now = Timestamp::now();
        let decision = self.engine.decide_connection(now, phase, &client);
        let (rule, _) = decision.rule.as_ref()?;
        let effect = decision.effect().clone();
        let number = self.ledger.open(Opening {
            now,
            connection: 0,
            on_connection: 0,
            of_client: 0,
            protocol: Protocol::Http1,
            client: Arc::new(client),
            method: Word::Borrowed("CONNECT"),
            target: String::new(),
            info: None,
            rule: Some(&rule.name),
            verdict: effect.name(),
        });
        self.ledger.close(number, &Outcome::Failed, now);
        Some(effect)
    }

    /// Decides over a request and opens its entry in the ledger.
    fn decide(&self, request: &Request<Body>, connection: &ConnectionInfo) -> (Decision, RequestInfo, Open) {
        let client = Client::of_request(request.headers(), connection, &*self.pods);
        let info = RequestInfo::parse(request.method().as_str(), request.uri().path(), request.uri().query());
        let now = Timestamp::now();
        let decision = self.engine.decide(now, &client, &info, connection.request);
        if !decision.keeps {
            self.past.clear();
        }
        let number = self.ledger.open(Opening {
            now,
            connection: connection.id,
            on_connection: connection.request,
            of_client: decision.of_client,
            protocol: request.version().into(),
            client,
            method: word(request.method()),
            target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            info: Some(&info),
            rule: decision.rule.as_ref().map(|(rule, _)| rule.name.as_str()),
            verdict: decision.effect().name(),
        });
        (decision, info, Open { ledger: self.ledger.clone(), number, outcome: None })
    }

    async fn apply(&self, mut request: Request<Body>) -> Answer {
        let connection = request.extensions().get::<ConnectionInfo>().cloned().unwrap_or_else(ConnectionInfo::in_process);
        let (decision, info, open) = self.decide(&request, &connection);
        let effect = decision.effect();
        match effect {
            Effect::Status(status) => {
                // Over HTTP/1.1 an answer that comes before the request is read may be lost with the connection.
                let _ = tokio::time::timeout(DRAIN_WITHIN, wire::drain(request.body_mut(), MAX_DRAINED)).await;
                open.close(Outcome::Answered { status: status.code });
                Ok(injected(status, request.uri()))
            }
            Effect::Reset(broken) if broken.body().is_none() => {
                let refused = broken.code == Some(StreamCode::RefusedStream) && request.version() == Version::HTTP_2;
                open.close(if refused { Outcome::Refused } else { Outcome::Failed });
                Err(break_off(&connection, *broken, resets_connection(request.version(), *broken)).await)
            }
            Effect::Close(broken) if broken.body().is_none() => {
                open.close(Outcome::Failed);
                Err(break_off(&connection, *broken, false).await)
            }
            Effect::Hang(hang) => {
                let limit = async {
                    match hang.seconds {
                        Some(limit) => tokio::time::sleep(Duration::from_secs_f64(limit)).await,
                        None => std::future::pending().await,
                    }
                };
                // A client that goes away is noticed only when all that it had sent is read.
                let body = async {
                    wire::drain(request.body_mut(), usize::MAX).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! { () = limit => {}, () = body => {} }
                open.close(Outcome::Failed);
                Err(Abort::new("injected hang"))
            }
            Effect::Pass(_)
            | Effect::Delay(_)
            | Effect::Bandwidth(_)
            | Effect::Reset(_)
            | Effect::Close(_)
            | Effect::Lose(_)
            | Effect::Body(_)
            | Effect::Watch(_)
            | Effect::Stale(_)
            | Effect::Goaway(_)
            // Those of connections never decide over a request.
            | Effect::Refuse(_)
            | Effect::Drop(_)
            | Effect::Tls(_) => self.pass(request, &connection, &decision, &info, open).await,
        }
    }

    /// Hands a request on, and does to its answer what the effect wants.
    async fn pass(
        &self,
        request: Request<Body>,
        connection: &ConnectionInfo,
        decision: &Decision,
        info: &RequestInfo,
        open: Open,
    ) -> Answer {
        let effect = decision.effect();
        let (pause, late) = if let Effect::Delay(delay) = effect {
            (delay.pause(decision.randoms()), delay.after)
        } else {
            (Duration::ZERO, false)
        };
        if !late && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let version = request.version();
        let keep = decision.keep.filter(|_| stale::is_kept(&request, info));
        let past = keep.map(|age| (stale::key(&request, connection), age));
        let mut response = match self.upstream.call(request).await {
            Ok(response) => response,
            Err(abort) => {
                open.close(Outcome::Unanswered);
                return Err(abort);
            }
        };
        if late && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let mut old = None;
        if let Some((key, age)) = past {
            response = self.past.keep(key.clone(), Timestamp::now(), response, age).await;
            if let Some(age) = effect.stale_age() {
                old = self.past.find(&key, Timestamp::now(), age);
            }
        }
        if let Some(old) = old {
            open.close(Outcome::Damaged { status: old.status().as_u16() });
            return Ok(old);
        }
        let status = response.status().as_u16();
        let is_watch = info.verb == Verb::Watch;
        let (outcome, answer) = match effect {
            Effect::Lose(_) => {
                if version != Version::HTTP_2 {
                    connection.reset_on_close();
                }
                (Outcome::Lost { status }, Err(Abort::new("injected loss of the answer")))
            }
            Effect::Reset(broken) => (
                Outcome::Damaged { status },
                Ok(tamper::cut(response, *broken, connection.clone(), resets_connection(version, *broken))),
            ),
            Effect::Close(broken) => (Outcome::Damaged { status }, Ok(tamper::cut(response, *broken, connection.clone(), false))),
            Effect::Bandwidth(bandwidth) => {
                (Outcome::Passed { status }, Ok(tamper::throttle(response, bandwidth.bytes_per_second)))
            }
            Effect::Body(body) if !is_watch => (Outcome::Damaged { status }, Ok(tamper::replace(response, body).await)),
            Effect::Watch(watch) if is_watch => (Outcome::Damaged { status }, Ok(tamper::watch(response, watch.clone()))),
            Effect::Goaway(_) if status != 101 => {
                if version == Version::HTTP_2 {
                    connection.retire();
                } else {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                (Outcome::Passed { status }, Ok(response))
            }
            Effect::Pass(_)
            | Effect::Status(_)
            | Effect::Delay(_)
            | Effect::Hang(_)
            | Effect::Refuse(_)
            | Effect::Drop(_)
            | Effect::Tls(_)
            | Effect::Body(_)
            | Effect::Watch(_)
            | Effect::Stale(_)
            | Effect::Goaway(_) => (Outcome::Passed { status }, Ok(response)),
        };
        open.close(outcome);
        answer
    }
}

/// Whether a reset is one of the connection: over HTTP/2 it is one of the stream, unless the connection is meant.
fn resets_connection(version: Version, broken: BreakEffect) -> bool {
    version != Version::HTTP_2 || broken.connection
}

/// A method as the ledger keeps it.
fn word(method: &http::Method) -> Word {
    match *method {
        http::Method::GET => Word::Borrowed("GET"),
        http::Method::POST => Word::Borrowed("POST"),
        http::Method::PUT => Word::Borrowed("PUT"),
        http::Method::PATCH => Word::Borrowed("PATCH"),
        http::Method::DELETE => Word::Borrowed("DELETE"),
        ref other => Word::Owned(other.to_string()),
    }
}

/// Ends a request before its headers: the stream alone (HTTP/2), or the connection.
async fn break_off(connection: &ConnectionInfo, broken: BreakEffect, reset: bool) -> Abort {
    if reset {
        connection.reset_on_close();
    }
    if broken.connection {
        connection.break_off();
        // The connection takes this request with it; an answer of any kind could overtake its end.
        std::future::pending::<()>().await;
    }
    match broken.code {
        Some(code) => Abort::with_code("injected reset", code.number()),
        None => Abort::new("injected reset"),
    }
}

/// The answer of a `status` effect: a `Status` body as the API server would send it, unless it has a body of its own.
fn injected(effect: &StatusEffect, asked: &http::Uri) -> Response<Body> {
    let message = effect.message.clone().unwrap_or_else(|| "injected".to_owned());
    let mut status = Status::new(effect.code, message);
    if let Some(seconds) = effect.retry_after {
        status.details = serde_json::json!({"retryAfterSeconds": seconds});
    }
    let code = http::StatusCode::from_u16(effect.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match &effect.body {
        None => wire::json(code, status.body().to_string()),
        Some(body) => wire::text(code, body.clone()),
    };
    if code.is_redirection()
        && let Ok(location) = HeaderValue::try_from(asked.path_and_query().map_or("/", |asked| asked.as_str()))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if let Some(seconds) = effect.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    for (name, value) in &effect.headers {
        // They were checked when the rule was armed.
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

impl Handler for Proxy {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Answer> {
        Box::pin(async move { self.apply(request.map(wire::incoming)).await })
    }
}

impl Gate for Proxy {
    fn admit(&self, connection: IncomingConnection) -> BoxFuture<'_, Admission> {
        let peer = connection.info.peer.ip();
        // A pod of the directory has asked before it dialled; asking again would take the budget twice.
        let dialling =
            if self.pods.asks_first() && self.pods.find(peer).is_some() { Dialling::Admitted } else { self.dialling(peer) };
        let handshake = match dialling {
            Dialling::Admitted => self.handshake(peer),
            Dialling::Refused | Dialling::Unanswered => None,
        };
        Box::pin(async move {
            match (dialling, handshake) {
                (Dialling::Refused, _) => {
                    // The nearest thing to a refusal that user space can do to a client that has connected.
                    connection.info.reset_on_close();
                    Admission::Gone
                }
                (Dialling::Unanswered, _) => {
                    // The kernel has answered already; the handshake is what the client waits for in vain.
                    tokio::time::sleep(UNANSWERED).await;
                    connection.info.reset_on_close();
                    Admission::Gone
                }
                (Dialling::Admitted, None) => Admission::Serve(connection),
                (Dialling::Admitted, Some(TlsEffect::PlainHttp)) => Admission::ServePlain(connection),
                (Dialling::Admitted, Some(effect)) => {
                    match self.wrong.as_ref().and_then(|wrong| wrong.config(effect)) {
                        Some(config) => Admission::ServeWith(connection, config),
                        None => {
                            // The client has sent its first words when it is cut off.
                            connection.wait_for_bytes().await;
                            connection.info.reset_on_close();
                            Admission::Gone
                        }
                    }
                }
            }
        })
    }
}
