//! What was answered before, for faults that answer with the past.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kubeapi::{RequestInfo, Verb};
use sha2::{Digest as _, Sha256};
use wire::{Body, ConnectionInfo};

/// All answers together, in bytes; further ones are not kept.
const MOST: usize = 64 * 1024 * 1024;

/// The longest answer that is kept, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

#[derive(Clone)]
struct Answer {
    at: Timestamp,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, VecDeque<Answer>>,
    bytes: usize,
}

/// Answers by client and request.
#[derive(Default)]
pub(crate) struct Past {
    /// Whether anything was kept; it is asked for each request.
    any: AtomicBool,
    state: Mutex<State>,
}

/// Whether a request's answers can be of the past: a GET of objects. Logs and streams have no end that could be waited for.
pub(crate) fn is_kept(request: &Request<Body>, info: &RequestInfo) -> bool {
    let reads = matches!(info.verb, Verb::Get | Verb::List) && request.method() == Method::GET;
    reads && info.subresource != "log" && !info.query.flag("follow") && !request.headers().contains_key(header::UPGRADE)
}

/// What must be the same for an answer to be one to the same request. Of credentials only a hash is kept.
pub(crate) fn key(request: &Request<Body>, connection: &ConnectionInfo) -> String {
    let mut hash = Sha256::new();
    hash.update(connection.client.as_ref().map_or("", |subject| subject.common_name.as_str()));
    for (name, value) in request.headers() {
        if *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-") {
            hash.update([0]);
            hash.update(name.as_str());
            hash.update([0]);
            hash.update(value.as_bytes());
        }
    }
    let accept = request.headers().get(header::ACCEPT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let hash: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{hash} {} {}", accept.unwrap_or_default(), request.uri())
}

/// What an answer costs to keep, in bytes, beside its body.
const OVERHEAD: usize = 512;

impl Past {
    /// Keeps an answer, and of older ones the youngest that is `age` old and all that are younger. The answer comes back as it
    /// was; one that is too long is not kept.
    pub(crate) async fn keep(&self, key: String, at: Timestamp, response: Response<Body>, age: Duration) -> Response<Body> {
        let (head, mut body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Response::from_parts(head, body);
        }
        let mut parts: Vec<Bytes> = Vec::new();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let data = match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue,
                Err(error) => {
                    let all = parts.into_iter().map(Ok).chain([Err(error)]);
                    return Response::from_parts(head, wire::stream(futures_util::stream::iter(all)));
                }
            };
            size += data.len();
            parts.push(data);
            if size > LONGEST {
                let all = futures_util::stream::iter(parts.into_iter().map(Ok)).chain(body.into_data_stream());
                return Response::from_parts(head, wire::stream(all));
            }
        }
        let whole = Bytes::from(parts.concat());
        self.put(key, Answer { at, status: head.status, headers: head.headers.clone(), body: whole.clone() }, age);
        Response::from_parts(head, wire::full(whole))
    }

    fn put(&self, key: String, answer: Answer, age: Duration) {
        self.any.store(true, Ordering::Relaxed);
        let mut state = self.state.lock().expect("no panic while held");
        let State { answers, bytes } = &mut *state;
        let size = |answer: &Answer| answer.body.len() + OVERHEAD;
        let at = answer.at;
        if *bytes + size(&answer) + key.len() > MOST {
            // All of it: which answers are needed again nobody knows, and the newest ones are.
            answers.clear();
            *bytes = 0;
        }
        if !answers.contains_key(&key) {
            *bytes += key.len();
        }
        *bytes += size(&answer);
        let kept = answers.entry(key).or_default();
        kept.push_back(answer);
        while kept.get(1).is_some_and(|second| is_old(second.at, at, age)) {
            *bytes -= kept.pop_front().as_ref().map_or(0, size);
        }
    }

    /// The youngest answer that is at least `age` old.
    pub(crate) fn find(&self, key: &str, now: Timestamp, age: Duration) -> Option<Response<Body>> {
        let state = self.state.lock().expect("no panic while held");
        let answer = state.answers.get(key)?.iter().rev().find(|answer| is_old(answer.at, now, age))?.clone();
        drop(state);
        let mut response = Response::new(wire::full(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Some(response)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        if self.any.swap(false, Ordering::Relaxed) {
            *self.state.lock().expect("no panic while held") = State::default();
        }
    }
}

fn is_old(at: Timestamp, now: Timestamp, age: Duration) -> bool {
    now.duration_since(at).as_secs_f64() >= age.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_youngest_that_is_old_enough_is_found_and_older_ones_are_forgotten() {
        let past = Past::default();
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        for at in 0..10 {
            let answer = Response::new(wire::full(at.to_string()));
            let passed = past.keep("k".to_owned(), second(at), answer, Duration::from_secs(3)).await;
            assert_eq!(wire::collect(passed.into_body(), 10).await.unwrap(), at.to_string());
        }
        let found = |now| past.find("k", second(now), Duration::from_secs(3)).map(Response::into_body);
        for (now, expected) in [(9, Some("6")), (10, Some("7")), (5, None)] {
            let body = match found(now) {
                Some(body) => Some(wire::collect(body, 10).await.unwrap()),
                None => None,
            };
            assert_eq!(body.as_deref(), expected.map(str::as_bytes), "{now}");
        }
        assert_eq!(past.state.lock().unwrap().answers["k"].len(), 4);
        past.clear();
        assert!(found(20).is_none());
    }
}
