//! One connection to the server, driven by the request that has it.
//!
//! hyper's connections are futures that somebody must poll. As tasks of their own they cost each request four wake-ups, and an
//! answer's head is written before its body is there. Here the request polls its connection, and after it the answer's body
//! does: head and body of a short answer leave in one write.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Authority;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use wire::Body;

/// How long a connection may take to come about, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the server is.
#[derive(Clone)]
pub(super) struct Server {
    host: String,
    port: u16,
    /// The name that its certificate must have; none without TLS.
    name: Option<ServerName<'static>>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

impl Server {
    /// The server of a URL.
    ///
    /// # Errors
    /// When its host is no name that a certificate could have.
    pub(super) fn new(authority: &Authority, tls: bool) -> Result<Self, String> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = tls.then(|| ServerName::try_from(host.clone())).transpose();
        let name = name.map_err(|error| format!("{host:?} is no name of a server: {error}"))?;
        Ok(Self { host, port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }), name })
    }
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Driver = http1::Connection<TokioIo<Box<dyn Transport>>, Body>;

/// A connection that carries one request at a time.
pub(super) struct Link {
    sender: http1::SendRequest<Body>,
    /// `None` when it is over.
    driver: Option<Driver>,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When there is no connection after [`CONNECT`], or the server's certificate is not trusted.
    pub(super) async fn open(server: &Server, tls: &Arc<rustls::ClientConfig>) -> std::io::Result<Self> {
        let connecting = async {
            let stream = TcpStream::connect((&*server.host, server.port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Transport> = match &server.name {
                None => Box::new(stream),
                Some(name) => Box::new(tokio_rustls::TlsConnector::from(tls.clone()).connect(name.clone(), stream).await?),
            };
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
            Ok(Self { sender, driver: Some(driver) })
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in 10 s")))
    }

    /// Lets the connection get on with what it has to do.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // Whoever waits for something of it is told by hyper.
            self.driver = None;
        }
    }

    /// Whether it can take a request now.
    pub(super) fn poll_is_free(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.driver.is_some() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }

    /// Sends a request; resolves when the head of its answer is there.
    ///
    /// # Errors
    /// When the connection ends before. The error has the request if it never left.
    pub(super) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        let mut sending = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            if let Some(running) = driver
                && Pin::new(running).poll(cx).is_ready()
            {
                *driver = None;
            }
            sending.as_mut().poll(cx)
        })
        .await
    }

    /// The connection as a task of its own, and what sends requests on it: for a request that turns it into something else.
    pub(super) fn into_task(self) -> http1::SendRequest<Body> {
        if let Some(driver) = self.driver {
            tokio::spawn(driver.with_upgrades());
        }
        self.sender
    }
}
