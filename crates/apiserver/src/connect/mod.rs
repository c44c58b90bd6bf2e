//! The subresources that Kubernetes calls connecting: logs, attach, exec, port-forward and proxy.
//!
//! They lead to whoever runs the pods ([`PodBackend`]). attach, exec and port-forward upgrade the connection: to SPDY/3.1, to a
//! WebSocket with numbered channels, or to SPDY inside a WebSocket, whichever the client offers; kubectl and kube-rs each want
//! another one.

mod exec;
mod port_forward;
mod proxy;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubeapi::{Query, RequestInfo, Status, object};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use wire::Body;
use wire::mux::{spdy, websocket};

pub(crate) use proxy::{behind_service, forward, is_handed_on, join, name};

/// What the server asks of whoever runs the pods.
pub trait PodBackend: Send + Sync + 'static {
    /// The log of a container of a pod, as the query wants it.
    fn logs<'a>(&'a self, pod: &'a Value, container: &'a str, query: &'a Query) -> BoxFuture<'a, Result<Response<Body>, Status>>;

    /// Connects to a port of a pod.
    fn dial<'a>(&'a self, pod: &'a Value, port: u16) -> BoxFuture<'a, io::Result<TcpStream>>;

    /// Starts a program beside the one that runs in a container.
    fn exec<'a>(
        &'a self,
        pod: &'a Value,
        container: &'a str,
        command: &'a [String],
    ) -> BoxFuture<'a, Result<Execution, ExecError>>;

    /// Joins the program that runs in a container: what it writes from now on.
    fn attach<'a>(&'a self, pod: &'a Value, container: &'a str) -> BoxFuture<'a, Result<Execution, ExecError>>;
}

/// A program that runs in a container, seen from outside.
pub struct Execution {
    /// What it reads.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes.
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// What it complains about.
    pub stderr: Pin<Box<dyn AsyncRead + Send>>,
    /// Its exit code. Dropping this stops the program.
    pub exit: BoxFuture<'static, i32>,
}

/// Why no program was started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container does not run.
    #[error("container not found (\"{0}\")")]
    NoContainer(String),
    /// The program cannot be started there.
    #[error("{0}")]
    Start(String),
}

/// Whether a request is for one of these subresources.
pub(crate) fn is_for(info: &RequestInfo) -> bool {
    info.is_resource
        && info.group.is_empty()
        && match info.resource.as_str() {
            "pods" => matches!(info.subresource.as_str(), "log" | "attach" | "exec" | "portforward" | "proxy"),
            "services" => info.subresource == "proxy",
            _ => false,
        }
}

/// A request as it arrived, with all that is needed to hand it on.
pub(crate) struct Arrived<'a> {
    pub(crate) method: &'a Method,
    /// Path and query as they were sent.
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The connection, if it can become something else than HTTP.
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) body: Body,
}

/// A request for a connecting subresource of a pod.
pub(crate) struct Connect<'a> {
    pub(crate) pods: &'a Arc<dyn PodBackend>,
    pub(crate) pod: Value,
    pub(crate) info: &'a RequestInfo,
    pub(crate) arrived: Arrived<'a>,
}

impl Connect<'_> {
    /// Answers the request; streams go on in tasks of their own.
    pub(crate) async fn answer(self) -> Result<Response<Body>, Status> {
        match self.info.subresource.as_str() {
            "log" => {
                let container = container_of(&self.pod, &self.info.query)?;
                self.pods.logs(&self.pod, container, &self.info.query).await
            }
            "proxy" => proxy::pod(self).await,
            subresource => {
                if !matches!(*self.arrived.method, Method::GET | Method::POST) {
                    return Err(Status::new(405, "the server does not allow this method on the requested resource")
                        .with_reason("MethodNotAllowed"));
                }
                if self.pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
                    let message = format!("pod {} does not have a host assigned", object::name(&self.pod));
                    return Err(Status::bad_request(message));
                }
                if subresource == "portforward" { port_forward::answer(self) } else { exec::answer(self).await }
            }
        }
    }
}

/// The container that a query names, or the only one there is (`pkg/registry/core/pod/strategy.go` `validateContainer`).
///
/// # Errors
/// When there is no such container, or none is named and there are several.
pub fn container_of<'a>(pod: &'a Value, query: &Query) -> Result<&'a str, Status> {
    let name = object::name(pod);
    let names =
        |list: &str| pod["spec"][list].as_array().into_iter().flatten().filter_map(|container| container["name"].as_str());
    let regular: Vec<&str> = names("containers").collect();
    match query.get("container").filter(|container| !container.is_empty()) {
        Some(wanted) => regular
            .iter()
            .copied()
            .chain(names("initContainers"))
            .chain(names("ephemeralContainers"))
            .find(|container| *container == wanted)
            .ok_or_else(|| Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None if regular.len() == 1 => Ok(regular[0]),
        None => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            regular.join(" ")
        ))),
    }
}

/// What a connection becomes.
enum Carrier {
    /// SPDY/3.1 by itself.
    Spdy,
    /// SPDY/3.1 in the messages of a WebSocket.
    TunnelledSpdy,
    /// Numbered channels in the messages of a WebSocket.
    Channels,
}

/// An upgrade that both sides agree on.
struct Agreement {
    carrier: Carrier,
    /// The subprotocol that was chosen.
    protocol: String,
    response: Response<Body>,
}

fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// Whether a request asks to go on as something else than HTTP.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, "connection", "upgrade") && headers.contains_key(header::UPGRADE)
}

/// Finds the first of our subprotocols that the client offers too: `over_spdy` for SPDY streams, `over_websocket` for numbered
/// channels. SPDY in a WebSocket is offered as `SPDY/3.1+` and the former.
fn negotiate(headers: &HeaderMap, over_spdy: &[&str], over_websocket: &[&str]) -> Result<Agreement, Status> {
    if !wants_upgrade(headers) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let mut response = Response::new(wire::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Status::bad_request("malformed upgrade"));
    let refused = |offered: Vec<&str>, ours: &[&str]| {
        let (offered, ours) = (offered.join(" "), ours.join(" "));
        let message =
            format!("unable to upgrade: unable to negotiate protocol: client supports [{offered}], server accepts [{ours}]");
        Status::new(403, message)
    };
    if has_token(headers, "upgrade", "websocket") {
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| Status::bad_request("Sec-WebSocket-Key is missing"))?;
        let offered: Vec<&str> = tokens(headers, "sec-websocket-protocol").collect();
        let tunnelled = offered.iter().find(|offer| offer.strip_prefix("SPDY/3.1+").is_some_and(|of| over_spdy.contains(&of)));
        let direct = over_websocket.iter().find(|ours| offered.contains(ours));
        let (carrier, protocol) = match (tunnelled, direct) {
            (Some(offer), _) => (Carrier::TunnelledSpdy, *offer),
            (None, Some(ours)) => (Carrier::Channels, *ours),
            (None, None) => return Err(refused(offered, over_websocket)),
        };
        out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        out.insert(header::SEC_WEBSOCKET_ACCEPT, value(&websocket::accept_key(key.as_bytes()))?);
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, value(protocol)?);
        let protocol = protocol.strip_prefix("SPDY/3.1+").unwrap_or(protocol).to_owned();
        return Ok(Agreement { carrier, protocol, response });
    }
    if has_token(headers, "upgrade", "SPDY/3.1") {
        let offered: Vec<&str> = tokens(headers, "x-stream-protocol-version").collect();
        let Some(protocol) = over_spdy.iter().find(|ours| offered.contains(ours)) else {
            return Err(refused(offered, over_spdy));
        };
        out.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        out.insert("x-stream-protocol-version", value(protocol)?);
        return Ok(Agreement { carrier: Carrier::Spdy, protocol: (*protocol).to_owned(), response });
    }
    Err(Status::bad_request("unable to upgrade: the server speaks websocket and SPDY/3.1"))
}

/// The upgrade of a request, or why there can be none.
fn upgrade_of(upgrade: Option<OnUpgrade>) -> Result<OnUpgrade, Status> {
    upgrade.ok_or_else(|| Status::bad_request("unable to upgrade: only HTTP/1.1 connections can be upgraded"))
}

/// The session on a connection that becomes SPDY, with or without a WebSocket around it.
async fn spdy_session(upgrade: OnUpgrade, carrier: &Carrier) -> Result<spdy::Session, hyper::Error> {
    let io = TokioIo::new(upgrade.await?);
    Ok(match carrier {
        Carrier::TunnelledSpdy => spdy::serve(websocket::tunnel(io).await),
        Carrier::Spdy | Carrier::Channels => spdy::serve(io),
    })
}
