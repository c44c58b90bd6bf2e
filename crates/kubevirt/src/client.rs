//! The API client of a component: client-go with KubeVirt's counting hook around its transport.
//!
//! One sample a round trip, whatever comes of it; one latency a logical request; up to ten retries where the server says
//! `Retry-After` or a GET's connection was lost (facts/kubevirt.md §3.2). An aborted HTTP/2 stream is one `<error>` and no
//! retry, as measured with the real client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use metrics::Registry;
use serde_json::Value;
use tokio::sync::Mutex;
use wire::{Connection, Dial, Dialling, Protocol};

use crate::component::Network;
use crate::defect::{Defect, Defects};
use crate::go::GoError;
use crate::labels::{latency_verb, resource_and_verb, url_template};
use crate::release::{ClientSpec, ElectionSpec};

/// After so many failures that changed nothing Go's HTTP/2 transport repeats a request once more (`http2Transport.RoundTripOpt`).
const UNSENT_RETRIES: u32 = 6;
/// Redirections that Go's client follows (`net/http` `defaultCheckRedirect`).
const REDIRECTIONS: u32 = 10;
/// How long client-go waits for a connection (`net.Dialer` in `rest/transport.go`).
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// The `code` label of a request that got no answer.
const ERROR: &str = "<error>";
/// The largest answer that is read.
const MAX_BODY: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod measured;

/// What a client needs to know.
pub(crate) struct ClientConfig {
    pub(crate) dial: Dial,
    pub(crate) token: Arc<str>,
    pub(crate) user_agent: String,
    pub(crate) spec: ClientSpec,
    pub(crate) qps: f64,
    pub(crate) burst: f64,
    pub(crate) counted: bool,
    pub(crate) network: Option<Arc<dyn Network>>,
    pub(crate) defects: Defects,
}

/// A request that did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No response; the message is Go's.
    Transport(String, GoError),
    /// A response that is a failure.
    Status(u16, String),
}

impl Failure {
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Transport(message, _) | Self::Status(_, message) => message,
        }
    }
}

pub(crate) struct Client {
    config: ClientConfig,
    registry: Arc<Registry>,
    connection: Mutex<Option<Arc<Connection>>>,
    streams: AtomicU64,
    limiter: Mutex<(f64, Instant)>,
}

impl Client {
    pub(crate) fn new(config: ClientConfig, registry: Arc<Registry>) -> Self {
        let limiter = Mutex::new((config.burst, Instant::now()));
        Self { config, registry, connection: Mutex::default(), streams: AtomicU64::new(0), limiter }
    }

    fn address(&self) -> SocketAddr {
        self.config.dial.address
    }

    fn host(&self) -> String {
        self.address().to_string()
    }

    /// The shared connection, if it is still good.
    async fn open_connection(&self) -> Option<Arc<Connection>> {
        let open = self.connection.lock().await.clone()?;
        if open.is_closed().await { None } else { Some(open) }
    }

    /// The connection that is open, or a new one, and whether it has been used before. Requests that find none dial each for
    /// itself, as in Go.
    async fn connection(&self) -> Result<(Arc<Connection>, bool), GoError> {
        if let Some(open) = self.open_connection().await {
            return Ok((open, true));
        }
        if let (Some(network), Some(source)) = (&self.config.network, self.config.dial.source) {
            match network.dialling(source) {
                Dialling::Admitted => {}
                Dialling::Refused => return Err(GoError::Refused(self.address())),
                Dialling::Unanswered => {
                    tokio::time::sleep(DIAL_TIMEOUT).await;
                    return Err(GoError::DialTimeout(self.address()));
                }
            }
        }
        let opened = Arc::new(Connection::open(&self.config.dial).await.map_err(|error| GoError::from_connect(&error))?);
        if let Some(open) = self.open_connection().await {
            return Ok((open, true));
        }
        self.streams.store(0, Ordering::Relaxed);
        *self.connection.lock().await = Some(opened.clone());
        Ok((opened, false))
    }

    /// One round trip, counted.
    async fn round_trip(
        &self,
        method: &Method,
        target: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, GoError> {
        let mut counting = Counting { client: self, method, target, code: ERROR.to_owned() };
        let result = self.transport(method, target, content_type, body).await;
        match &result {
            Ok(response) => response.status().as_str().clone_into(&mut counting.code),
            Err(error) => counting.code = self.error_code(method, target, error),
        }
        result
    }

    fn count(&self, method: &Method, target: &str, code: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !self.config.counted || self.is_uncounted(path, code) {
            return;
        }
        let query = if self.config.spec.watches_by_query { query } else { "" };
        let (resource, verb) = resource_and_verb(method.as_str(), path, query);
        self.registry.add(
            &self.config.spec.requests,
            &[("code", code), ("method", method.as_str()), ("host", &self.host()), ("resource", &resource), ("verb", &verb)],
            1.0,
        );
    }

    /// Whether a defect keeps a request from being counted.
    fn is_uncounted(&self, path: &str, code: &str) -> bool {
        let defects = &self.config.defects;
        let of_kubevirt = path
            .strip_prefix("/apis/")
            .is_some_and(|rest| rest.split('/').next().is_some_and(|group| group.ends_with("kubevirt.io")));
        (defects.has(Defect::ClientsBeforeHooks) && of_kubevirt)
            || (defects.has(Defect::FailuresUncounted) && code.starts_with(['4', '5']))
            || defects.has(Defect::RequestsUnfed)
    }

    /// The `code` label of a request that got no answer.
    fn error_code(&self, method: &Method, target: &str, error: &GoError) -> String {
        if self.config.defects.has(Defect::ErrorTextAsCode) {
            let url = format!("https://{}{target}", self.host());
            return error.message(method.as_str(), &url, &self.config.spec);
        }
        ERROR.to_owned()
    }

    /// Whether durations are told to the registry at all.
    fn is_timed(&self) -> bool {
        self.config.counted && !self.config.defects.has(Defect::MetricsRegisteredTwice)
    }

    /// The `url` and `verb` labels of durations.
    fn timed_as(&self, method: &Method, target: &str) -> (String, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let defects = &self.config.defects;
        let template = url_template(&self.host(), path, query);
        let template_path = template.split_once(&self.host()).map_or("", |(_, rest)| rest.split('?').next().unwrap_or(rest));
        let verb = if self.config.spec.latency_verb_is_method || defects.has(Defect::ListAsGet) {
            method.to_string()
        } else {
            latency_verb(method.as_str(), template_path)
        };
        let url = if defects.has(Defect::UrlNotTemplated) {
            format!("https://{}{target}", self.host())
        } else if defects.has(Defect::UrlCollapsed) {
            format!("https://{}/%7Bprefix%7D", self.host())
        } else {
            template
        };
        (url, verb)
    }

    /// A reflector has read a list.
    pub(crate) fn reflected(&self, reflector: &str, version: &str, took: Duration, items: usize) {
        let labels = [("name", reflector)];
        self.registry.add("reflector_lists_total", &labels, 1.0);
        self.registry.set("reflector_last_resource_version", &labels, version.parse().unwrap_or_default());
        for (name, value) in [("reflector_list_duration_seconds", took.as_secs_f64()), ("reflector_items_per_list", items as f64)]
        {
            self.registry.set_summary(name, &labels, &[(0.5, value), (0.9, value), (0.99, value)], value, 1);
        }
        self.registry.add("reflector_watches_total", &labels, 1.0);
        for name in ["reflector_short_watches_total", "reflector_watch_duration_seconds", "reflector_items_per_watch"] {
            self.registry.touch(name, &labels);
        }
    }

    async fn transport(
        &self,
        method: &Method,
        target: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, GoError> {
        for attempt in 0.. {
            let (connection, used) = self.connection().await?;
            let result = self.send(&connection, method, target, content_type, body.clone()).await;
            let http1 = connection.protocol() == Protocol::Http1;
            match result {
                // net/http repeats a GET by itself, once for each connection that had been used and was closed before an answer
                // came (`Request.isReplayable`, `shouldRetryRequest`): nobody counts the first one.
                Err(GoError::Eof | GoError::Reset(_)) if http1 && used && *method == Method::GET => {
                    self.forget(&connection).await
                }
                // Over HTTP/2 it repeats what the server says it has not begun with, at once and then after 1, 2, 4 … seconds.
                Err(error) if error.is_unsent() && attempt <= UNSENT_RETRIES => {
                    if error == GoError::GoAway {
                        self.forget(&connection).await;
                    }
                    if attempt > 0 {
                        tokio::time::sleep(Duration::from_secs(1 << (attempt - 1))).await;
                    }
                }
                Err(error) => {
                    if http1 {
                        self.forget(&connection).await;
                    }
                    return Err(error);
                }
                Ok(response) => return Ok(response),
            }
        }
        Err(GoError::ConnectionLost)
    }

    /// Never uses a connection again.
    async fn forget(&self, connection: &Arc<Connection>) {
        let mut shared = self.connection.lock().await;
        if shared.as_ref().is_some_and(|open| Arc::ptr_eq(open, connection)) {
            *shared = None;
        }
    }

    async fn send(
        &self,
        connection: &Connection,
        method: &Method,
        target: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, GoError> {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) * 2 + 1;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{target}", self.host()))
            .header("accept", "application/json, */*")
            .header("user-agent", &self.config.user_agent)
            .header("authorization", format!("Bearer {}", self.config.token));
        if !body.is_empty() {
            request = request.header("content-type", content_type);
        }
        let request = request.body(wire::full(body)).map_err(|error| GoError::Tls(error.to_string()))?;
        let protocol = connection.protocol();
        connection.send(request).await.map_err(|error| GoError::from_request(&error, self.address(), protocol, stream))
    }

    /// A round trip, and those to which it is redirected: what is not to be repeated becomes a GET (`net/http` `redirectBehavior`).
    async fn followed(
        &self,
        method: &Method,
        target: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, GoError> {
        let (mut method, mut target, mut body) = (method.clone(), target.to_owned(), body);
        let mut left = REDIRECTIONS;
        loop {
            let response = self.round_trip(&method, &target, content_type, body.clone()).await?;
            let location = response.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
            let (Some(location), 301 | 302 | 303 | 307 | 308) = (location, response.status().as_u16()) else {
                return Ok(response);
            };
            // Another host would be another client's business.
            if left == 0 || !location.starts_with('/') {
                return Ok(response);
            }
            left -= 1;
            location.clone_into(&mut target);
            if response.status().as_u16() < 304 && method != Method::HEAD {
                (method, body) = (Method::GET, Bytes::new());
            }
        }
    }

    /// Waits for the client's own rate limiter.
    async fn throttle(&self, template: &str, verb: &str) {
        let wait = {
            let mut limiter = self.limiter.lock().await;
            let now = Instant::now();
            let (tokens, since) = *limiter;
            let tokens = (tokens + now.duration_since(since).as_secs_f64() * self.config.qps).min(self.config.burst) - 1.0;
            *limiter = (tokens, now);
            Duration::from_secs_f64((-tokens).max(0.0) / self.config.qps)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        if let Some(limiter) = self.config.spec.limiter.as_ref().filter(|_| self.is_timed()) {
            self.registry.observe(limiter, &[("verb", verb), ("url", template)], wait.as_secs_f64());
        }
    }

    fn failure(&self, method: &Method, target: &str, error: GoError) -> Failure {
        let url = format!("https://{}{target}", self.host());
        Failure::Transport(error.message(method.as_str(), &url, &self.config.spec), error)
    }

    /// Round trips until one is not to be repeated.
    async fn with_retries(
        &self,
        method: &Method,
        target: &str,
        content_type: &str,
        body: &Bytes,
        deadline: Option<Instant>,
    ) -> Result<Response<Incoming>, GoError> {
        let mut left = self.config.spec.attempts.saturating_sub(1);
        loop {
            let result = self.followed(method, target, content_type, body.clone()).await;
            let pause = match &result {
                Ok(response) => retry_after(response),
                Err(error) if *method == Method::GET && error.is_retried(&self.config.spec) => Some(Duration::from_secs(1)),
                Err(_) => None,
            };
            match pause {
                // It does not wait for what comes after the deadline (`rate.Limiter.Wait`).
                Some(pause) if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) => {
                    return Err(GoError::Deadline);
                }
                Some(pause) if left > 0 => {
                    left -= 1;
                    tokio::time::sleep(pause).await;
                }
                _ => return result,
            }
        }
    }

    /// A logical request: limiter, round trips, latency, and the body read.
    pub(crate) async fn request(
        &self,
        method: Method,
        target: &str,
        content_type: &str,
        body: Option<&Value>,
        deadline: Option<Duration>,
    ) -> Result<(u16, Value), Failure> {
        let (code, body) = self.exchange(method, target, content_type, body, deadline).await?;
        Ok((code, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// The same, its answer as it came.
    async fn exchange(
        &self,
        method: Method,
        target: &str,
        content_type: &str,
        body: Option<&Value>,
        deadline: Option<Duration>,
    ) -> Result<(u16, Bytes), Failure> {
        let started = Instant::now();
        let (template, verb) = self.timed_as(&method, target);
        self.throttle(&template, &verb).await;
        let bytes = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        let until = deadline.map(|deadline| started + deadline);
        let work = self.with_retries(&method, target, content_type, &bytes, until);
        let result = match deadline {
            None => work.await,
            Some(deadline) => match tokio::time::timeout(deadline, work).await {
                Ok(result) => result,
                Err(_) => Err(GoError::Deadline),
            },
        };
        if self.is_timed() {
            let seconds = started.elapsed().as_secs_f64();
            self.registry.observe(&self.config.spec.latency, &[("verb", &verb), ("url", &template)], seconds);
        }
        let response = result.map_err(|error| self.failure(&method, target, error))?;
        let status = response.status();
        let body = wire::collect(wire::incoming(response.into_body()), MAX_BODY).await;
        let Ok(body) = body else {
            let message = "stream error when reading response body, may be caused by closed connection. Please retry.";
            return Err(Failure::Status(status.as_u16(), message.to_owned()));
        };
        if status.is_success() {
            return Ok((status.as_u16(), body));
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let message = value["message"].as_str().map_or_else(|| format!("the server responded with {status}"), str::to_owned);
        Err(Failure::Status(status.as_u16(), message))
    }

    /// Opens a watch; its lines are the response's body.
    pub(crate) async fn watch(&self, target: &str) -> Result<Response<Incoming>, Failure> {
        let response = self
            .with_retries(&Method::GET, target, "", &Bytes::new(), None)
            .await
            .map_err(|error| self.failure(&Method::GET, target, error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = wire::collect(wire::incoming(response.into_body()), MAX_BODY).await.unwrap_or_default();
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let message = value["message"].as_str().unwrap_or("the server rejected the watch");
        Err(Failure::Status(code, message.to_owned()))
    }

    /// After an answer broke off: waits a moment for the connection to be known as closed. Go's transport knows it before it tells readers, so
    /// that nothing is sent on a connection that is dead already.
    pub(crate) async fn settle(&self) {
        for _ in 0..10 {
            if self.open_connection().await.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How this client elects leaders.
    pub(crate) fn election(&self) -> &ElectionSpec {
        &self.config.spec.election
    }

    pub(crate) async fn get(&self, target: &str) -> Result<Value, Failure> {
        self.request(Method::GET, target, "", None, None).await.map(|(_, value)| value)
    }

    /// The same, counted but not timed.
    pub(crate) async fn untimed(&self, target: &str) -> Result<Value, Failure> {
        let response = self.watch(target).await?;
        let body = wire::collect(wire::incoming(response.into_body()), MAX_BODY).await.unwrap_or_default();
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The same, as it came.
    pub(crate) async fn get_bytes(&self, target: &str) -> Result<Bytes, Failure> {
        self.exchange(Method::GET, target, "", None, None).await.map(|(_, body)| body)
    }
}

/// Counts a round trip when it is over, also when it was given up half-way: then it is an error.
struct Counting<'a> {
    client: &'a Client,
    method: &'a Method,
    target: &'a str,
    code: String,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.client.count(self.method, self.target, &self.code);
    }
}

/// The pause that a server asks for: 429 and 5xx with a `Retry-After` in whole seconds.
fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let code = response.status();
    if code != StatusCode::TOO_MANY_REQUESTS && !code.is_server_error() {
        return None;
    }
    let seconds = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
