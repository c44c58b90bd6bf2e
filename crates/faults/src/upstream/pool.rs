//! Connections that are kept for the next request, of each thread by itself: what a thread of connections opens stays on it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;
use wire::{Body, BodyError};

use super::link::{Link, Server};

/// How long an idle connection is kept: less than any server in use keeps it.
const IDLE: Duration = Duration::from_secs(30);

/// How often idle connections are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("the connection failed")]
    Http(#[source] hyper::Error),
}

/// The pools of all threads for one way to a server.
pub(super) struct Pools {
    id: u64,
    server: Server,
    tls: Arc<rustls::ClientConfig>,
}

thread_local! {
    static POOLS: RefCell<HashMap<u64, Arc<Pool>>> = RefCell::default();
}

impl Pools {
    pub(super) fn new(server: &Server, tls: &rustls::ClientConfig) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), server: server.clone(), tls: Arc::new(tls) }
    }

    pub(super) fn of_this_thread(&self) -> Arc<Pool> {
        POOLS.with_borrow_mut(|pools| {
            let new = || Pool::start(self.server.clone(), self.tls.clone());
            pools.entry(self.id).or_insert_with(new).clone()
        })
    }

    /// Sends a request that asks for another protocol, on a connection of its own.
    pub(super) async fn send_alone(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let mut sender = Link::open(&self.server, &self.tls).await.map_err(Failure::Connect)?.into_task();
        let response = sender.send_request(request).await.map_err(Failure::Http)?;
        Ok(response.map(wire::incoming))
    }
}

/// Idle connections to one server.
pub(super) struct Pool {
    server: Server,
    tls: Arc<rustls::ClientConfig>,
    /// Since when each is idle; the newest last.
    idle: Mutex<Vec<(Instant, Link)>>,
}

impl Pool {
    fn start(server: Server, tls: Arc<rustls::ClientConfig>) -> Arc<Self> {
        let pool = Arc::new(Self { server, tls, idle: Mutex::default() });
        tokio::spawn(forget_old(Arc::downgrade(&pool)));
        pool
    }

    /// A connection that was used before and still can be.
    async fn idle(&self) -> Option<Link> {
        loop {
            let (since, mut link) = self.idle.lock().expect("no panic while held").pop()?;
            if since.elapsed() < IDLE && poll_fn(|cx| Poll::Ready(link.poll_is_free(cx))).await {
                return Some(link);
            }
        }
    }

    fn keep(&self, link: Link) {
        self.idle.lock().expect("no panic while held").push((Instant::now(), link));
    }

    /// Sends a request. With `again` it is one that may be sent twice, and has no body: it is, if a connection that had been idle
    /// fails under it. A request that never left is sent on the next connection, whatever it is.
    pub(super) async fn send(self: &Arc<Self>, mut request: Request<Body>, again: bool) -> Result<Response<Body>, Failure> {
        loop {
            let idle = self.idle().await;
            let was_idle = idle.is_some();
            let mut link = match idle {
                Some(link) => link,
                None => {
                    // Boxed, for it is rare and large.
                    let mut link = Box::pin(Link::open(&self.server, &self.tls)).await.map_err(Failure::Connect)?;
                    // hyper's connection is ready after its first look at the socket.
                    poll_fn(|cx| Poll::Ready(link.poll_is_free(cx))).await;
                    link
                }
            };
            let copy = (was_idle && again).then(|| copy(&request));
            match link.send(request).await {
                Ok(response) => return Ok(self.driven(response, link)),
                Err(mut error) => match error.take_message().or(copy).filter(|_| was_idle) {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Http(error.into_error())),
                },
            }
        }
    }

    /// The answer, whose body drives the connection and gives it back.
    fn driven(self: &Arc<Self>, response: Response<Incoming>, link: Link) -> Response<Body> {
        response.map(|body| {
            if body.is_end_stream() {
                self.keep(link);
                return wire::empty();
            }
            Driven { body, ended: false, link: Some(link), pool: self.clone() }.boxed_unsync()
        })
    }
}

/// Closes connections that nobody needed for a while.
async fn forget_old(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle.lock().expect("no panic while held").retain(|(since, _)| since.elapsed() < IDLE);
    }
}

/// A request without a body, once more.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(wire::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// The body of an answer.
struct Driven {
    body: Incoming,
    /// Whether its end was seen; a body of unknown length does not know it itself.
    ended: bool,
    /// `None` when it was given back.
    link: Option<Link>,
    pool: Arc<Pool>,
}

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(link) = &mut self.link
        {
            link.drive(cx);
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        self.ended |= matches!(frame, Poll::Ready(None));
        frame.map_err(BodyError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Driven {
    /// Keeps the connection if the answer was read to its end. Else it is closed, as the server is to see that the client is gone.
    fn drop(&mut self) {
        if let Some(link) = self.link.take()
            && (self.ended || self.body.is_end_stream())
        {
            self.pool.keep(link);
        }
    }
}
