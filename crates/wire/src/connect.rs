//! Client connections: dial from a chosen source address, TLS, HTTP/1.1 or HTTP/2 by ALPN.
//!
//! One [`Connection`] is one TCP connection, on purpose: pools retry and reconnect behind the caller's back, and a
//! simulated client must count each attempt as client-go does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream};

use crate::Body;

/// Where and how to connect.
#[derive(Clone)]
pub struct Dial {
    /// The server.
    pub address: SocketAddr,
    /// The local address to come from; a pod's own.
    pub source: Option<IpAddr>,
    /// TLS, or plain text without it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The name that the server's certificate must have; its address unless given.
    pub server_name: Option<String>,
}

/// What becomes of a connection that is about to be opened, where that can be asked beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialling {
    /// It may be opened.
    Admitted,
    /// It is refused.
    Refused,
    /// Nobody answers: the client waits as long as it waits for connections.
    Unanswered,
}

/// Why no connection came about. The variant tells the phase, which decides how Go words the failure.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The TCP connection failed.
    #[error("dial tcp {address}")]
    Dial {
        /// The server.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The TLS handshake failed.
    #[error("tls handshake with {address}")]
    Tls {
        /// The server.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP connection could not be set up.
    #[error("http connection to {address}")]
    Http {
        /// The server.
        address: SocketAddr,
        /// Why.
        #[source]
        source: hyper::Error,
    },
}

/// What HTTP/2 says of a failed request, if it says anything.
fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return Some(error);
        }
        source = cause.source();
    }
    None
}

/// The error code with which the server reset the stream of a request (RFC 9113 §7), if that is what happened.
pub fn stream_code(error: &hyper::Error) -> Option<u32> {
    of_http2(error).filter(|error| error.is_reset()).and_then(h2::Error::reason).map(u32::from)
}

/// Whether a request was certainly not begun with: it never left, or the server had said with GOAWAY that it takes no more.
pub fn never_begun(error: &hyper::Error) -> bool {
    let refused = |error: &h2::Error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_canceled() || of_http2(error).is_some_and(refused)
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one request at a time.
    Http1,
    /// HTTP/2: many at once.
    Http2,
}

enum Sender {
    Http1(tokio::sync::Mutex<http1::SendRequest<Body>>),
    Http2(http2::SendRequest<Body>),
}

/// An open connection to a server.
pub struct Connection {
    sender: Sender,
}

impl Connection {
    /// Dials, and drives the connection in a task that ends with it.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(dial: &Dial) -> Result<Self, ConnectError> {
        let address = dial.address;
        let stream = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(source) = dial.source {
                socket.bind(SocketAddr::new(source, 0))?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        .await
        .map_err(|source| ConnectError::Dial { address, source })?;
        Self::over(stream, dial).await
    }

    /// The same on a TCP connection that is open already; only TLS and the server's name are taken from `dial`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn over(stream: TcpStream, dial: &Dial) -> Result<Self, ConnectError> {
        let address = dial.address;
        let Some(config) = &dial.tls else { return Self::http1(TokioIo::new(stream), address).await };
        let name = match &dial.server_name {
            None => rustls::pki_types::ServerName::IpAddress(address.ip().into()),
            Some(name) => rustls::pki_types::ServerName::try_from(name.clone())
                .map_err(|error| ConnectError::Tls { address, source: std::io::Error::other(error) })?,
        };
        let stream = tokio_rustls::TlsConnector::from(config.clone())
            .connect(name, stream)
            .await
            .map_err(|source| ConnectError::Tls { address, source })?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Self::http1(TokioIo::new(stream), address).await;
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|source| ConnectError::Http { address, source })?;
        tokio::spawn(connection);
        Ok(Self { sender: Sender::Http2(sender) })
    }

    async fn http1<S>(stream: S, address: SocketAddr) -> Result<Self, ConnectError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(stream).await.map_err(|source| ConnectError::Http { address, source })?;
        // An upgraded connection goes on without HTTP.
        tokio::spawn(connection.with_upgrades());
        Ok(Self { sender: Sender::Http1(tokio::sync::Mutex::new(sender)) })
    }

    /// The protocol that was negotiated.
    pub fn protocol(&self) -> Protocol {
        match self.sender {
            Sender::Http1(_) => Protocol::Http1,
            Sender::Http2(_) => Protocol::Http2,
        }
    }

    /// Whether the server has gone away; a request on it would fail.
    pub async fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.lock().await.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends one request, once. Over HTTP/1.1 the response's body must be read before the next request.
    ///
    /// # Errors
    /// When the connection fails before the response's head arrived.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        match &self.sender {
            Sender::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                let mut sender = sender.clone();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}
