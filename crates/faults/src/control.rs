//! The control endpoint: rules and ledger over HTTP, for whoever has the token.
//!
//! `GET|POST|DELETE /faults`, `GET /ledger`, `GET /ledger/totals`, `GET /metrics`. A lab adds requests of its own beside them.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use wire::{Answer, Body, Handler};

use crate::engine::Engine;
use crate::ledger::{Entry, Ledger};
use crate::rule::Rule;

/// The longest list of rules that is read, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// How far back `dryRun` looks.
const LOOK_BACK: SignedDuration = SignedDuration::from_secs(60);

/// Rules and ledger of one proxy.
#[derive(Clone)]
pub struct Control {
    engine: Arc<Engine>,
    ledger: Arc<Ledger>,
}

/// One rule, or several that are armed together.
fn rules(bytes: &[u8]) -> serde_json::Result<Vec<Rule>> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(bytes),
        _ => serde_json::from_slice(bytes).map(|rule| vec![rule]),
    }
}

/// An answer of a control endpoint.
pub fn control_answer(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    wire::json(status, serde_json::to_vec(value).unwrap_or_default())
}

/// A refusal of a control endpoint.
pub fn control_refusal(status: StatusCode, message: &str) -> Response<Body> {
    control_answer(status, &json!({"error": message}))
}

/// Whether a request bears the token. The comparison takes as long for a wrong token as for the right one.
pub fn bears_token<B>(request: &Request<B>, token: &str) -> bool {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    shown.and_then(|shown| shown.strip_prefix("Bearer ")).is_some_and(|shown| Sha256::digest(shown) == Sha256::digest(token))
}

impl Control {
    /// Over rules and a ledger.
    pub fn new(engine: Arc<Engine>, ledger: Arc<Ledger>) -> Self {
        Self { engine, ledger }
    }

    /// Answers a request; nothing if it is none of these.
    pub async fn handle(&self, method: &Method, uri: &Uri, body: Body) -> Option<Response<Body>> {
        let query = kubeapi::Query::parse(uri.query().unwrap_or_default());
        Some(match (method, uri.path()) {
            (&Method::GET, "/faults") => control_answer(StatusCode::OK, &self.engine.list()),
            (&Method::POST, "/faults") => self.add(body, query.flag("dryRun")).await,
            (&Method::DELETE, "/faults") => {
                control_answer(StatusCode::OK, &json!({"cleared": self.engine.clear(query.get("name"))}))
            }
            (&Method::GET, "/ledger") => {
                let number = |key: &str, default: u64| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
                let limit = usize::try_from(number("limit", 100)).unwrap_or(usize::MAX);
                control_answer(StatusCode::OK, &self.ledger.entries(number("after", 0), limit))
            }
            (&Method::GET, "/ledger/totals") => control_answer(StatusCode::OK, &self.ledger.snapshot()),
            (&Method::GET, "/metrics") => wire::text(StatusCode::OK, self.ledger.exposition()),
            _ => return None,
        })
    }

    async fn add(&self, body: Body, dry_run: bool) -> Response<Body> {
        let Ok(bytes) = wire::collect(body, MAX_BODY).await else {
            return control_refusal(StatusCode::PAYLOAD_TOO_LARGE, "the faults are too large");
        };
        let rules = match rules(&bytes) {
            Ok(rules) => rules,
            Err(error) => return control_refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        if dry_run {
            if let Some(error) = rules.iter().find_map(|rule| rule.check().err()) {
                return control_refusal(StatusCode::BAD_REQUEST, &error.to_string());
            }
            let met: Vec<Vec<Entry>> = rules.iter().map(|rule| self.would_match(rule)).collect();
            return control_answer(StatusCode::OK, &met);
        }
        match self.engine.add_all(Timestamp::now(), rules) {
            Ok(ids) => control_answer(StatusCode::CREATED, &json!({"ids": ids.collect::<Vec<u64>>()})),
            Err(error) => control_refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }

    /// The requests of the last minute that a rule speaks of, oldest first.
    fn would_match(&self, rule: &Rule) -> Vec<Entry> {
        let since = Timestamp::now() - LOOK_BACK;
        let entries = self.ledger.entries(0, usize::MAX);
        entries.into_iter().filter(|entry| entry.time >= since && rule.is_about(entry)).collect()
    }

    /// A handler of these requests and no others, for those who bear the token.
    pub fn handler(self, token: String) -> Arc<impl Handler> {
        let token: Arc<str> = token.into();
        Arc::new(move |request: Request<Incoming>| {
            let (control, token) = (self.clone(), token.clone());
            async move {
                if !bears_token(&request, &token) {
                    return Ok(control_refusal(StatusCode::UNAUTHORIZED, "the proxy's token is needed"));
                }
                let (head, body) = request.into_parts();
                let answer = control.handle(&head.method, &head.uri, wire::incoming(body)).await;
                let unknown = || control_refusal(StatusCode::NOT_FOUND, "no such control request");
                Answer::Ok(answer.unwrap_or_else(unknown))
            }
        })
    }
}
