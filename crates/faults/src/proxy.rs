//! The proxy: decisions applied to connections.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use kubeapi::{RequestInfo, Status};
use wire::{Abort, Answer, Body, ConnectionInfo, Gate, Handler, IncomingConnection};

use crate::engine::Engine;
use crate::ledger::{Client, Ledger, LedgerKey, Opening, Outcome};
use crate::rule::{Effect, StatusEffect};

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

/// The `kubernetes` Service: it lets requests through to the API server, unless a rule says otherwise.
pub struct Proxy {
    engine: Arc<Engine>,
    ledger: Arc<Ledger>,
    upstream: Box<dyn Upstream>,
    pods: Box<dyn PodDirectory>,
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
        Self { engine: Arc::default(), ledger: Arc::default(), upstream: Box::new(upstream), pods: Box::new(pods) }
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
                user: format!("system:serviceaccount:{}:{}", pod.namespace, pod.service_account),
                service_account: Some(format!("{}/{}", pod.namespace, pod.service_account)),
                pod: Some(pod.name),
                address: address.to_string(),
                ..Client::default()
            },
        }
    }

    /// Whether a client at `source` may connect. Simulated components ask before they dial, since nobody but the kernel
    /// can refuse a connection to a port that is listened on.
    pub fn admits_dial(&self, source: IpAddr) -> bool {
        let client = self.client_at(source);
        let decision = self.engine.decide_dial(&client);
        let Some((_, rule)) = decision.rule else { return true };
        let number = self.ledger.open(Opening {
            now: Timestamp::now(),
            connection: 0,
            client: &client,
            method: "CONNECT",
            target: String::new(),
            info: None,
            rule: Some(rule.name.clone()),
            verdict: "refuse",
        });
        let key = LedgerKey {
            client: client.key().to_owned(),
            method: "CONNECT".to_owned(),
            verb: "dial".to_owned(),
            resource: String::new(),
            code: "<error>".to_owned(),
        };
        self.ledger.close(number, key, Outcome::Failed);
        false
    }

    /// Decides over a request and opens its entry in the ledger.
    fn decide(&self, request: &Request<Body>, connection: &ConnectionInfo) -> (Effect, Open) {
        let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let mut client = Client::from_authorization(text(header::AUTHORIZATION));
        client.user_agent = text(header::USER_AGENT).unwrap_or_default().to_owned();
        client.address = connection.peer.to_string();
        if client.pod.is_none()
            && let Some(pod) = self.pods.find(connection.peer.ip())
        {
            client.pod = Some(pod.name);
        }
        let info = RequestInfo::parse(request.method().as_str(), request.uri().path(), request.uri().query());
        let decision = self.engine.decide(&client, &info);
        let effect = decision.effect();
        let number = self.ledger.open(Opening {
            now: Timestamp::now(),
            connection: connection.id,
            client: &client,
            method: request.method().as_str(),
            target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            info: Some(&info),
            rule: decision.rule.as_ref().map(|(_, rule)| rule.name.clone()),
            verdict: effect.name(),
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
        (effect, open)
    }

    async fn apply(&self, request: Request<Body>) -> Answer {
        let connection = request.extensions().get::<ConnectionInfo>().cloned().unwrap_or_else(ConnectionInfo::in_process);
        let (effect, open) = self.decide(&request, &connection);
        match effect {
            Effect { status: Some(status), .. } => {
                open.close(Outcome::Answered { status: status.code });
                Ok(injected(&status))
            }
            Effect { reset: Some(_), .. } => {
                connection.reset_on_close();
                open.close(Outcome::Failed);
                Err(Abort("injected reset"))
            }
            Effect { hang: Some(_), .. } => {
                match effect.hang_limit() {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
                open.close(Outcome::Failed);
                Err(Abort("injected hang"))
            }
            _ => match self.upstream.call(request).await {
                Ok(response) => {
                    open.close(Outcome::Passed { status: response.status().as_u16() });
                    Ok(response)
                }
                Err(abort) => {
                    open.close(Outcome::Failed);
                    Err(abort)
                }
            },
        }
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
    response
}

impl Handler for Proxy {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Answer> {
        Box::pin(async move { self.apply(request.map(wire::incoming)).await })
    }
}

impl Gate for Proxy {
    fn admit(&self, connection: IncomingConnection) -> BoxFuture<'_, Option<IncomingConnection>> {
        // A pod of the directory has asked before it dialled; asking again would take the budget twice.
        let peer = connection.info.peer.ip();
        let admitted = self.pods.find(peer).is_some() || self.admits_dial(peer);
        Box::pin(async move {
            if admitted {
                return Some(connection);
            }
            // The nearest thing to a refusal that user space can do to a client that has connected.
            connection.info.reset_on_close();
            None
        })
    }
}
