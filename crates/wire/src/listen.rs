//! Listeners: accept, optional TLS with a deadline, then HTTP/1.1 or HTTP/2 by ALPN or preface.
//!
//! The steps are separate functions because the fault proxy fails a connection between any two of them. A stream can
//! be told to close with a TCP reset (`SO_LINGER 0`), which hyper alone cannot do.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt as _};
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
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

/// Says that a connection is to end before its client ends it. Looked at whenever the connection does anything, so it costs one read.
#[derive(Debug, Default)]
struct Ending {
    wanted: AtomicU8,
    waker: AtomicWaker,
}

impl Ending {
    const RETIRE: u8 = 1;
    const BREAK_OFF: u8 = 2;

    fn want(&self, what: u8) {
        self.wanted.fetch_or(what, Ordering::AcqRel);
        self.waker.wake();
    }

    /// What is wanted and was not taken yet; the task is woken when something is.
    fn take(&self, cx: &Context<'_>) -> u8 {
        self.waker.register(cx.waker());
        if self.wanted.load(Ordering::Acquire) == 0 { 0 } else { self.wanted.swap(0, Ordering::AcqRel) }
    }
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
        self.ending.want(Ending::RETIRE);
    }

    /// A place for what a handler has found out about the connection; it goes with it.
    pub fn notes(&self) -> &OnceLock<Arc<dyn Any + Send + Sync>> {
        &self.notes
    }

    /// Ends the connection at once, with all requests on it.
    pub fn break_off(&self) {
        self.ending.want(Ending::BREAK_OFF);
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
        let (connection, tls) = match self.gate.admit(IncomingConnection::new(stream, peer)).await {
            Admission::Serve(connection) => (connection, self.tls.clone()),
            Admission::ServeWith(connection, other) => (connection, Some(other)),
            Admission::ServePlain(connection) => (connection, None),
            Admission::Gone => return,
        };
        let mut info = connection.info.clone();
        match tls {
            None => serve_connection(connection.stream, None, info, self.handler.clone()).await,
            Some(_) if connection.begins_like_http().await => connection.refuse_plain_http().await,
            Some(config) => {
                if let Some(stream) = accept_tls(connection.stream, config).await {
                    let (_, session) = stream.get_ref();
                    let shown = session.peer_certificates().and_then(|chain| chain.first());
                    info.client = shown.and_then(|certificate| Subject::of(certificate)).map(Arc::new);
                    // Without an agreement Go's servers speak HTTP/1.1 too.
                    let protocol = session.alpn_protocol().unwrap_or(b"http/1.1").to_vec();
                    serve_connection(stream, Some(&protocol), info, self.handler.clone()).await;
                }
            }
        }
    }

    /// Serves connections until `stop`; those that are open end with it.
    async fn serve_all(self, connections: impl Stream<Item = (TcpStream, SocketAddr)>) {
        let mut connections = std::pin::pin!(connections);
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(_) = open.join_next() => {}
                accepted = connections.next() => match accepted {
                    Some((stream, peer)) => drop(open.spawn(self.clone().serve(stream, peer))),
                    None => {
                        self.stop.cancelled().await;
                        return;
                    }
                },
            }
        }
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
    let accepted = stream::unfold(listener, async |listener| Some((accept(&listener).await, listener)));
    Service { tls, handler, gate, stop }.serve_all(accepted).await;
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
            let accepted = stream::poll_fn(move |cx| connections.poll_recv(cx));
            // It belongs to this thread's reactor from here on.
            let taken = accepted.filter_map(async |(stream, peer)| Some((TcpStream::from_std(stream).ok()?, peer)));
            runtime.block_on(service.serve_all(taken));
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

/// Speaks HTTP on one connection until it ends: the protocol that was agreed on (ALPN), or the one that the client begins with.
fn serve_connection<S, H>(stream: S, protocol: Option<&[u8]>, info: ConnectionInfo, handler: Arc<H>) -> BoxFuture<'static, ()>
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
    const STREAMS: u32 = 1000;
    const HEADERS: u32 = 64 * 1024;
    let stream = TokioIo::new(stream);
    match protocol {
        Some(b"http/1.1") => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(IDLE_DEADLINE);
            let connection = builder.serve_connection(stream, service).with_upgrades();
            Box::pin(until_end(connection, http1::UpgradeableConnection::graceful_shutdown, ending))
        }
        Some(b"h2") => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
            let connection = builder.serve_connection(stream, service);
            Box::pin(until_end(connection, http2::Connection::graceful_shutdown, ending))
        }
        _ => {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_DEADLINE);
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
            let connection = builder.serve_connection_with_upgrades(stream, service).into_owned();
            Box::pin(until_end(connection, auto::UpgradeableConnection::graceful_shutdown, ending))
        }
    }
}

/// Drives a connection to its end, which may come earlier than its client wants.
async fn until_end<C, E>(connection: C, retire: fn(Pin<&mut C>), ending: Arc<Ending>)
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut connection = std::pin::pin!(connection);
    let ended = std::future::poll_fn(|cx| {
        let wanted = ending.take(cx);
        if wanted & Ending::BREAK_OFF != 0 {
            return Poll::Ready(Ok(()));
        }
        if wanted & Ending::RETIRE != 0 {
            retire(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::trace!(%error, "connection ended");
    }
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
