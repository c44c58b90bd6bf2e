//! The proxy: decisions applied to connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use kubeapi::{RequestInfo, Status, Verb};
use wire::{Abort, Admission, Answer, Body, ConnectionInfo, Dialling, Gate, Handler, IncomingConnection};

use crate::engine::{Decision, Engine};
use crate::ledger::{Client, Ledger, LedgerKey, Opening, Outcome};
use crate::rule::{Effect, Phase, StatusEffect, TlsEffect};
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
}

/// Closes a ledger entry exactly once, also when the client goes away first.
struct Open {
    ledger: Arc<Ledger>,
    number: u64,
    key: Option<LedgerKey>,
}

impl Open {
    fn close(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(mut key) = self.key.take() {
            key.code = outcome.code();
            self.ledger.close(self.number, key, outcome);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.finish(Outcome::Cancelled);
    }
}

impl Proxy {
    /// A proxy without rules.
    pub fn new(upstream: impl Upstream, pods: impl PodDirectory) -> Self {
        Self { engine: Arc::default(), ledger: Arc::default(), upstream: Box::new(upstream), pods: Box::new(pods), wrong: None }
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
            Some(Effect { drop: Some(_), .. }) => Dialling::Unanswered,
            Some(_) => Dialling::Refused,
            None => Dialling::Admitted,
        }
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
            client: &client,
            method: "CONNECT",
            target: String::new(),
            info: None,
            rule: Some(rule.name.clone()),
            verdict: effect.name(),
        });
        let key = LedgerKey {
            client: client.key().to_owned(),
            method: "CONNECT".to_owned(),
            verb: "dial".to_owned(),
            resource: String::new(),
            code: "<error>".to_owned(),
        };
        self.ledger.close(number, key, Outcome::Failed);
        Some(effect)
    }

    /// Decides over a request and opens its entry in the ledger.
    fn decide(&self, request: &Request<Body>, connection: &ConnectionInfo) -> (Decision, Verb, Open) {
        let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let mut client = match &connection.client {
            // A certificate counts before a token, as it does at the API server.
            Some(subject) => {
                Client { user: subject.common_name.clone(), groups: subject.organisations.clone(), ..Client::default() }
            }
            None => Client::from_authorization(text(header::AUTHORIZATION)),
        };
        client.user_agent = text(header::USER_AGENT).unwrap_or_default().to_owned();
        client.address = connection.peer.to_string();
        if client.pod.is_none()
            && let Some(pod) = self.pods.find(connection.peer.ip())
        {
            client.pod = Some(pod.name);
        }
        let info = RequestInfo::parse(request.method().as_str(), request.uri().path(), request.uri().query());
        let now = Timestamp::now();
        let decision = self.engine.decide(now, &client, &info);
        let number = self.ledger.open(Opening {
            now,
            connection: connection.id,
            client: &client,
            method: request.method().as_str(),
            target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            info: Some(&info),
            rule: decision.rule.as_ref().map(|(rule, _)| rule.name.clone()),
            verdict: decision.effect().name(),
        });
        let open = Open {
            ledger: self.ledger.clone(),
            number,
            key: Some(LedgerKey {
                client: client.key().to_owned(),
                method: request.method().to_string(),
                verb: info.verb.to_string(),
                resource: info.resource,
                code: String::new(),
            }),
        };
        (decision, info.verb, open)
    }

    async fn apply(&self, request: Request<Body>) -> Answer {
        let connection = request.extensions().get::<ConnectionInfo>().cloned().unwrap_or_else(ConnectionInfo::in_process);
        let (decision, verb, open) = self.decide(&request, &connection);
        let effect = decision.effect();
        match effect {
            Effect { status: Some(status), .. } => {
                open.close(Outcome::Answered { status: status.code });
                Ok(injected(status))
            }
            Effect { reset: Some(broken), .. } if broken.body().is_none() => {
                connection.reset_on_close();
                open.close(Outcome::Failed);
                Err(Abort("injected reset"))
            }
            Effect { close: Some(broken), .. } if broken.body().is_none() => {
                open.close(Outcome::Failed);
                Err(Abort("injected close"))
            }
            Effect { hang: Some(_), .. } => {
                match effect.hang_limit() {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
                open.close(Outcome::Failed);
                Err(Abort("injected hang"))
            }
            _ => self.pass(request, &connection, &decision, verb, open).await,
        }
    }

    /// Hands a request on, and does to its answer what the effect wants.
    async fn pass(
        &self,
        request: Request<Body>,
        connection: &ConnectionInfo,
        decision: &Decision,
        verb: Verb,
        open: Open,
    ) -> Answer {
        let effect = decision.effect();
        let pause = effect.delay.as_ref().map(|delay| delay.pause(decision.randoms())).unwrap_or_default();
        let late = effect.delay.as_ref().is_some_and(|delay| delay.after);
        if !late && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let is_watch = verb == Verb::Watch;
        let response = match self.upstream.call(request).await {
            Ok(response) => response,
            Err(abort) => {
                open.close(Outcome::Failed);
                return Err(abort);
            }
        };
        if late && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let status = response.status().as_u16();
        let (outcome, answer) = match effect {
            Effect { lose: Some(_), .. } => {
                connection.reset_on_close();
                (Outcome::Lost { status }, Err(Abort("injected loss of the answer")))
            }
            Effect { reset: Some(broken), .. } => {
                let after = broken.body().unwrap_or(0);
                (Outcome::Damaged { status }, Ok(tamper::cut(response, after, connection.clone(), true)))
            }
            Effect { close: Some(broken), .. } => {
                (Outcome::Damaged { status }, Ok(tamper::cut(response, broken.body().unwrap_or(0), connection.clone(), false)))
            }
            Effect { bandwidth: Some(bandwidth), .. } => {
                (Outcome::Passed { status }, Ok(tamper::throttle(response, bandwidth.bytes_per_second)))
            }
            Effect { body: Some(body), .. } if !is_watch => {
                (Outcome::Damaged { status }, Ok(tamper::replace(response, body).await))
            }
            Effect { watch: Some(watch), .. } if is_watch => {
                (Outcome::Damaged { status }, Ok(tamper::watch(response, watch.clone())))
            }
            _ => (Outcome::Passed { status }, Ok(response)),
        };
        open.close(outcome);
        answer
    }
}

/// The answer of a `status` effect: a `Status` body as the API server would send it.
fn injected(effect: &StatusEffect) -> Response<Body> {
    let message = effect.message.clone().unwrap_or_else(|| "injected".to_owned());
    let mut status = Status::new(effect.code, message);
    if let Some(seconds) = effect.retry_after {
        status.details = serde_json::json!({"retryAfterSeconds": seconds});
    }
    let code = http::StatusCode::from_u16(effect.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = wire::json(code, status.body().to_string());
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
        let dialling = if self.pods.find(peer).is_some() { Dialling::Admitted } else { self.dialling(peer) };
        let handshake = match dialling {
            Dialling::Admitted => self.decide_connection(Phase::Handshake, peer).and_then(|effect| effect.tls),
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
