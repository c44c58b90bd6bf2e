//! Listeners: accept, optional TLS with a deadline, then HTTP/1.1 or HTTP/2 by ALPN or preface.
//!
//! The steps are separate functions because the fault proxy fails a connection between any two of them. A stream can
//! be told to close with a TCP reset (`SO_LINGER 0`), which hyper alone cannot do.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Body;
use crate::pki::Subject;

/// A client that does not finish its TLS handshake in this time is dropped.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// An HTTP/1.1 connection on which no whole request head comes in this time is closed. hyper counts from the last answer on, so it is
/// how long a connection may be idle: as long as at kube-apiserver (`IdleTimeout` in `pkg/server/secure_serving.go`).
const IDLE_DEADLINE: Duration = Duration::from_secs(90);

/// A TCP stream that can be told, while in use, to end with a reset instead of an orderly close.
pub struct PeerStream {
    stream: TcpStream,
    reset_on_close: Arc<AtomicBool>,
    /// Bytes that the kernel has taken.
    written: Arc<AtomicU64>,
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        if self.reset_on_close.load(Ordering::Relaxed) {
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            self.written.fetch_add(count as u64, Ordering::Relaxed);
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.reset_on_close.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How long a connection may be idle before the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a request handler may know about the connection a request came on; found in the request's extensions.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Counts connections of this process from 1.
    pub id: u64,
    /// The client's address. In a lab a simulated pod's connections come from the pod's own address.
    pub peer: SocketAddr,
    /// Whom the client's certificate names, if it showed one; it was verified.
    pub client: Option<Arc<Subject>>,
    /// Which request of the connection this is, from 1; 0 before the first.
    pub request: u64,
    reset_on_close: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    ending: Arc<Ending>,
    notes: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

/// Says that a connection is to end before its client ends it.
#[derive(Debug, Default)]
struct Ending {
    retire: Notify,
    break_off: Notify,
}

impl ConnectionInfo {
    /// Bytes that went out on the connection so far, TLS included.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Makes the connection end with a TCP reset when it is closed next.
    pub fn reset_on_close(&self) {
        self.reset_on_close.store(true, Ordering::Relaxed);
    }

    /// Tells the client that the connection takes no more requests, and closes it when those that are under way are answered:
    /// GOAWAY over HTTP/2, `Connection: close` over HTTP/1.1.
    pub fn retire(&self) {
        self.ending.retire.notify_one();
    }

    /// A place for what a handler has found out about the connection; it goes with it.
    pub fn notes(&self) -> &OnceLock<Arc<dyn Any + Send + Sync>> {
        &self.notes
    }

    /// Ends the connection at once, with all requests on it.
    pub fn break_off(&self) {
        self.ending.break_off.notify_one();
    }

    /// The connection of a request that came over no socket (in-process calls).
    pub fn in_process() -> Self {
        Self {
            id: 0,
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            client: None,
            request: 0,
            reset_on_close: Arc::default(),
            written: Arc::default(),
            ending: Arc::default(),
            notes: Arc::default(),
        }
    }
}

/// A connection that was accepted and nothing more.
pub struct IncomingConnection {
    /// The stream, before TLS.
    pub stream: PeerStream,
    /// Who it is.
    pub info: ConnectionInfo,
}

impl IncomingConnection {
    fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let reset_on_close = Arc::new(AtomicBool::new(false));
        let _ = stream.set_nodelay(true);
        // A peer that vanished without a word is noticed, so that its watches end.
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let info = ConnectionInfo {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            peer,
            client: None,
            request: 0,
            reset_on_close: reset_on_close.clone(),
            written: Arc::default(),
            ending: Arc::default(),
            notes: Arc::default(),
        };
        let written = info.written.clone();
        Self { stream: PeerStream { stream, reset_on_close, written }, info }
    }
}

impl IncomingConnection {
    /// Waits until the client has sent something, or is gone.
    pub async fn wait_for_bytes(&self) {
        let _ = self.stream.stream.peek(&mut [0]).await;
    }

    /// Whether the client's first byte is a letter, with which no record of TLS begins.
    async fn begins_like_http(&self) -> bool {
        let mut first = [0];
        let peeked = tokio::time::timeout(HANDSHAKE_DEADLINE, self.stream.stream.peek(&mut first)).await;
        matches!(peeked, Ok(Ok(1))) && first[0].is_ascii_uppercase()
    }

    /// Tells a client without TLS what Go's servers tell it (`net/http` `conn.serve`).
    async fn refuse_plain_http(mut self) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        // What was not read would turn the end of the connection into a reset, and the answer would be lost.
        let _ = self.stream.stream.read(&mut [0; 4096]).await;
        let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        let _ = self.stream.stream.write_all(answer).await;
        let _ = self.stream.stream.shutdown().await;
    }
}

/// What a [`Handler`] comes to.
pub type Answer = Result<Response<Body>, Abort>;

/// The request is given up without an answer.
#[derive(Debug, thiserror::Error)]
#[error("request aborted: {why}")]
pub struct Abort {
    why: &'static str,
    /// hyper looks for the stream's error code among the sources.
    #[source]
    code: Option<h2::Error>,
}

impl Abort {
    /// An abort; over HTTP/2 the stream is reset with INTERNAL_ERROR.
    pub fn new(why: &'static str) -> Self {
        Self { why, code: None }
    }

    /// The same with another error code (RFC 9113 §7) for the stream; HTTP/1.1 knows none.
    pub fn with_code(why: &'static str, code: u32) -> Self {
        Self { why, code: Some(h2::Reason::from(code).into()) }
    }
}

/// Answers requests. An `Err` aborts the request without an answer: HTTP/1.1 closes the connection, HTTP/2 resets the
/// stream.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; its extensions hold the [`ConnectionInfo`].
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Answer>;
}

/// What is to become of a new connection.
pub enum Admission {
    /// It is served as usual.
    Serve(IncomingConnection),
    /// It is served with other certificates.
    ServeWith(IncomingConnection, Arc<rustls::ServerConfig>),
    /// It is served without TLS, whatever the client expects.
    ServePlain(IncomingConnection),
    /// It is over, or somebody else has it.
    Gone,
}

/// Decides what happens to a new connection before a byte of it is read.
pub trait Gate: Send + Sync + 'static {
    /// Takes the connection over, and returns it to be served.
    fn admit(&self, connection: IncomingConnection) -> BoxFuture<'_, Admission>;
}

/// Lets every connection in.
impl Gate for () {
    fn admit(&self, connection: IncomingConnection) -> BoxFuture<'_, Admission> {
        Box::pin(std::future::ready(Admission::Serve(connection)))
    }
}

/// Binds a listener whose address can be used again at once after the process died.
///
/// # Errors
/// When the address is taken or may not be bound.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// What a listener serves its connections with.
struct Service<H, G> {
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: Arc<H>,
    gate: Arc<G>,
    stop: CancellationToken,
}

impl<H, G> Clone for Service<H, G> {
    fn clone(&self) -> Self {
        Self { tls: self.tls.clone(), handler: self.handler.clone(), gate: self.gate.clone(), stop: self.stop.clone() }
    }
}

impl<H: Handler, G: Gate> Service<H, G> {
    /// One connection, from its first byte to its last.
    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        let work = async {
            let (connection, tls) = match self.gate.admit(IncomingConnection::new(stream, peer)).await {
                Admission::Serve(connection) => (connection, self.tls.clone()),
                Admission::ServeWith(connection, other) => (connection, Some(other)),
                Admission::ServePlain(connection) => (connection, None),
                Admission::Gone => return,
            };
            let mut info = connection.info.clone();
            match tls {
                None => serve_connection(connection.stream, info, self.handler.clone()).await,
                Some(_) if connection.begins_like_http().await => connection.refuse_plain_http().await,
                Some(config) => {
                    if let Some(stream) = accept_tls(connection.stream, config).await {
                        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                        info.client = shown.and_then(|certificate| Subject::of(certificate)).map(Arc::new);
                        serve_connection(stream, info, self.handler.clone()).await;
                    }
                }
            }
        };
        tokio::select! { () = self.stop.cancelled() => {}, () = work => {} }
    }
}

/// Takes the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Out of file descriptors, say: waiting a moment is all that can help.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Serves a listener until `stop` is cancelled; open connections are then closed at once.
pub async fn serve<H: Handler, G: Gate>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: Arc<H>,
    gate: Arc<G>,
    stop: CancellationToken,
) {
    let service = Service { tls, handler, gate, stop: stop.clone() };
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener) => accepted,
        };
        tokio::spawn(service.clone().serve(stream, peer));
    }
}

/// Serves a listener as [`serve`] does, on threads of its own: a connection stays on the thread that it was given to, with all that is
/// done for it, so nothing is handed from core to core.
///
/// # Errors
/// When a thread cannot be started.
pub async fn serve_on_threads<H: Handler, G: Gate>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: Arc<H>,
    gate: Arc<G>,
    stop: CancellationToken,
    threads: usize,
) -> std::io::Result<()> {
    let service = Service { tls, handler, gate, stop: stop.clone() };
    let mut workers = Vec::new();
    for number in 0..threads.max(1) {
        let (sender, mut connections) = tokio::sync::mpsc::channel::<(std::net::TcpStream, SocketAddr)>(1024);
        let service = service.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
            runtime.block_on(async move {
                while let Some((stream, peer)) = connections.recv().await {
                    // It belongs to this thread's reactor from here on.
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        tokio::spawn(service.clone().serve(stream, peer));
                    }
                }
                service.stop.cancelled().await;
            });
        })?;
        workers.push(sender);
    }
    for worker in workers.iter().cycle() {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = accept(&listener) => accepted,
        };
        if let Ok(stream) = stream.into_std() {
            let _ = worker.send((stream, peer)).await;
        }
    }
    Ok(())
}

/// Does the TLS handshake; `None` if the client failed it or took too long.
pub async fn accept_tls(
    stream: PeerStream,
    config: Arc<rustls::ServerConfig>,
) -> Option<tokio_rustls::server::TlsStream<PeerStream>> {
    match tokio::time::timeout(HANDSHAKE_DEADLINE, tokio_rustls::TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Speaks HTTP on one connection until it ends.
pub fn serve_connection<S, H>(stream: S, info: ConnectionInfo, handler: Arc<H>) -> BoxFuture<'static, ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let ending = info.ending.clone();
    let count = AtomicU64::new(0);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        request.extensions_mut().insert(ConnectionInfo { request: number, ..info.clone() });
        handler.clone().handle(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_DEADLINE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000).max_header_list_size(64 * 1024);
    Box::pin(async move {
        let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        loop {
            tokio::select! {
                biased;
                () = ending.break_off.notified() => return,
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::trace!(%error, "connection ended");
                    }
                    return;
                }
                () = ending.retire.notified() => connection.as_mut().graceful_shutdown(),
            }
        }
    })
}

impl<F, R> Handler for F
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Answer> {
        Box::pin(self(request))
    }
}
