//! An API server that is reached over the network.
//!
//! What passes is to fare as it would without the proxy: bodies are streamed both ways, upgraded connections are joined, and a
//! server that gives no answer makes the proxy give none. HTTP/1.1 is spoken on purpose: each watch has a connection of its own, so
//! no limit of streams is met. A read without an answer is sent once more if its connection had been idle, since the server may
//! have closed it meanwhile; Go's transport does the same (`net/http` `shouldRetryRequest`).

mod link;
mod pool;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper_util::rt::TokioIo;
use kubeapi::Status;
use wire::{Abort, Answer, Body, ConnectionInfo};

use crate::proxy::Upstream;
use link::Server;
use pool::{Failure, Pools};

/// Headers that speak of one connection and not of the request (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What the proxy shows the server for clients that have no credentials which the server could see.
pub enum Credentials {
    /// A bearer token.
    Token(String),
    /// A client certificate, in the configuration of TLS.
    Certificate(Arc<rustls::ClientConfig>),
}

/// The proxy's own way to the server.
struct Own {
    pools: Arc<Pools>,
    authorization: Option<HeaderValue>,
    /// The token that stands for these credentials.
    token: HeaderValue,
}

struct Shared {
    server: Server,
    /// How requests name the server.
    host: HeaderValue,
    /// What the server's own paths begin with, without a slash at its end.
    prefix: String,
    pools: Arc<Pools>,
    own: Option<Own>,
}

/// An API server at a URL. Tokens of clients are passed on. A client certificate cannot be: who shows one is impersonated, with
/// credentials of the proxy's own.
#[derive(Clone)]
pub struct NetworkUpstream(Arc<Shared>);

impl NetworkUpstream {
    /// The server at `url`, trusted by `tls`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the URL is none of a server.
    pub fn new(url: &str, tls: &rustls::ClientConfig) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        let parts = uri.into_parts();
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority)) if scheme == Scheme::HTTPS || scheme == Scheme::HTTP => {
                let prefix = parts.path_and_query.map_or_else(String::new, |path| path.path().trim_end_matches('/').to_owned());
                let server = Server::new(&authority, scheme == Scheme::HTTPS).map_err(|error| format!("{url:?}: {error}"))?;
                let host = HeaderValue::try_from(authority.as_str()).map_err(|error| format!("{url:?}: {error}"))?;
                let pools = Arc::new(Pools::new(&server, tls));
                Ok(Self(Arc::new(Shared { server, host, prefix, pools, own: None })))
            }
            _ => Err(format!("{url:?} is no URL of a server; write https://HOST:PORT")),
        }
    }

    /// The same with credentials of the proxy's own: for requests that bear `token`, and for those of clients with certificates.
    ///
    /// # Errors
    /// When a token cannot be a header.
    pub fn with_credentials(self, token: &str, credentials: Credentials, tls: &rustls::ClientConfig) -> Result<Self, String> {
        let bearer = |token: &str| {
            let mut value =
                HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "a token has characters that no header has")?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        let (pools, authorization) = match credentials {
            Credentials::Token(own) => (Pools::new(&self.0.server, tls), Some(bearer(&own)?)),
            Credentials::Certificate(tls) => (Pools::new(&self.0.server, &tls), None),
        };
        let Shared { server, host, prefix, pools: plain, .. } = &*self.0;
        let own = Some(Own { pools: Arc::new(pools), authorization, token: bearer(token)? });
        let (server, host, prefix) = (server.clone(), host.clone(), prefix.clone());
        Ok(Self(Arc::new(Shared { server, host, prefix, pools: plain.clone(), own })))
    }
}

impl Shared {
    /// The way that a request goes; its headers are made fit for it. An error is what the client is answered.
    fn way(&self, headers: &mut HeaderMap, connection: Option<&ConnectionInfo>) -> Result<&Pools, Status> {
        let Some(own) = &self.own else { return Ok(&self.pools) };
        let subject = connection.and_then(|connection| connection.client.as_ref());
        if let Some(subject) = subject {
            if headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
                return Err(Status::new(403, "who shows a certificate may not impersonate others through the proxy"));
            }
            // A name that a server would take for none, or for another after trimming, must never go with the proxy's own rights.
            let name = |text: &str| {
                let whole = !text.is_empty() && text.trim() == text;
                let value = HeaderValue::try_from(text).ok().filter(|_| whole);
                value.ok_or_else(|| Status::new(401, "the certificate names nobody, or a name that no header holds"))
            };
            headers.insert("impersonate-user", name(&subject.common_name)?);
            for group in &subject.organisations {
                headers.append("impersonate-group", name(group)?);
            }
        } else if headers.get(header::AUTHORIZATION) != Some(&own.token) {
            return Ok(&self.pools);
        }
        headers.remove(header::AUTHORIZATION);
        if let Some(authorization) = &own.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        Ok(&own.pools)
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let (mut head, body) = request.into_parts();
        let connection = head.extensions.remove::<ConnectionInfo>();
        let upgraded = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let upgrade = wanted_upgrade(&head.headers).filter(|_| head.version == Version::HTTP_11 && upgraded.is_some()).cloned();
        strip(&mut head.headers);
        head.headers.insert(header::HOST, self.host.clone());
        let pools = match self.way(&mut head.headers, connection.as_ref()) {
            Ok(pools) => pools,
            Err(status) => {
                return Ok(wire::json(
                    StatusCode::from_u16(status.code).unwrap_or(StatusCode::FORBIDDEN),
                    status.body().to_string(),
                ));
            }
        };
        let asked = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let path = if self.prefix.is_empty() { Ok(asked) } else { format!("{}{asked}", self.prefix).parse() };
        head.uri = path.map_err(|_| Abort::new("the request has no path that could be asked for"))?.into();
        head.version = Version::HTTP_11;
        let answered = match (upgrade, upgraded) {
            (Some(protocol), Some(client)) => {
                head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                head.headers.insert(header::UPGRADE, protocol);
                let answered = Box::pin(pools.send_alone(Request::from_parts(head, body))).await;
                answered.map(|response| join(response, client))
            }
            _ => {
                let again = head.method == Method::GET && body.is_end_stream();
                pools.of_this_thread().send(Request::from_parts(head, body), again).await.map(passed)
            }
        };
        answered.map_err(|failure: Failure| {
            tracing::warn!(server = %self.server, error = %told(&failure), "the API server gives no answer");
            Abort::new("the API server gives no answer")
        })
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The headers that `Connection` names.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

/// The protocol that a client wants to change to. HTTP/2 without TLS is none: what is asked over it nobody would see.
fn wanted_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let wanted = named(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|protocol| wanted && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

fn strip(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = named(headers).filter_map(|name| name.parse().ok()).collect();
    for name in names {
        headers.remove(name);
    }
    // Most messages have none, and looking at a few names costs less than looking for nine.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// The server's answer as one of ours.
fn passed(mut response: Response<Body>) -> Response<Body> {
    strip(response.headers_mut());
    response.extensions_mut().clear();
    response
}

/// The server's answer to a wish for another protocol; where it consents, both connections are joined.
fn join(mut response: Response<Body>, client: hyper::upgrade::OnUpgrade) -> Response<Body> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return passed(response);
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        }
    });
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let mut switched = passed(response);
    *switched.body_mut() = wire::empty();
    switched.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        switched.headers_mut().insert(header::UPGRADE, protocol);
    }
    switched
}

impl Upstream for NetworkUpstream {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Answer> {
        let shared = self.0.clone();
        Box::pin(async move { shared.call(request).await })
    }
}
