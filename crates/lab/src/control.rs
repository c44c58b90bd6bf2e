//! The control endpoint of a running lab, and its client: faults, ledger, status, stop.
//!
//! It listens on the lab's own loopback address and every request needs the administrator's token.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use faults::{Ledger, Rule};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wire::Body;

use crate::embedded::{self, Lab};
use crate::exit::{Exit, Failure};
use crate::state::LabRecord;

/// The port of the control endpoint, beside the API server's.
const PORT: u16 = 6444;
const MAX_BODY: usize = 1024 * 1024;

fn answer(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    wire::json(status, serde_json::to_vec(value).unwrap_or_default())
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    answer(status, &json!({"error": message}))
}

/// Starts the endpoint; the address it got.
///
/// # Errors
/// When no port is free.
pub fn serve(lab: &Arc<Lab>, token: &str, stop: CancellationToken) -> Result<SocketAddr> {
    let listener = wire::bind((lab.address(), PORT).into())
        .or_else(|_| wire::bind((lab.address(), 0).into()))
        .context("cannot listen for control requests")?;
    let address = listener.local_addr()?;
    let expected = format!("Bearer {token}");
    let (weak, asked) = (Arc::downgrade(lab), stop.clone());
    let handler = move |request: Request<Incoming>| {
        let (lab, expected, asked) = (weak.upgrade(), expected.clone(), asked.clone());
        async move {
            let authorization = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            if authorization != Some(&expected) {
                return Ok(refuse(StatusCode::UNAUTHORIZED, "the lab's token is needed"));
            }
            match lab {
                Some(lab) => Ok(handle(&lab, request, &asked).await),
                None => Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, "the lab is stopping")),
            }
        }
    };
    tokio::spawn(wire::serve(listener, None, Arc::new(handler), Arc::new(()), stop));
    Ok(address)
}

async fn handle(lab: &Lab, request: Request<Incoming>, stop: &CancellationToken) -> Response<Body> {
    let (head, body) = request.into_parts();
    let query = kubeapi::Query::parse(head.uri.query().unwrap_or_default());
    let engine = lab.proxy().engine();
    let ledger = lab.proxy().ledger();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/missing") => answer(StatusCode::OK, &embedded::missing(&lab.client(), lab.release())),
        (&Method::GET, "/faults") => answer(StatusCode::OK, &engine.list()),
        (&Method::POST, "/faults") => {
            let Ok(bytes) = wire::collect(wire::incoming(body), MAX_BODY).await else {
                return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the fault is too large");
            };
            match serde_json::from_slice::<Rule>(&bytes) {
                Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
                Ok(rule) if query.flag("dryRun") => match rule.check() {
                    Ok(()) => answer(StatusCode::OK, &would_match(ledger, &rule)),
                    Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
                },
                Ok(rule) => match engine.add(jiff::Timestamp::now(), rule) {
                    Ok(id) => answer(StatusCode::CREATED, &json!({"id": id})),
                    Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
                },
            }
        }
        (&Method::DELETE, "/faults") => answer(StatusCode::OK, &json!({"cleared": engine.clear(query.get("name"))})),
        (&Method::GET, "/ledger") => {
            let number = |key: &str, default: u64| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
            let limit = usize::try_from(number("limit", 100)).unwrap_or(usize::MAX);
            answer(StatusCode::OK, &ledger.entries(number("after", 0), limit))
        }
        (&Method::GET, "/ledger/totals") => answer(StatusCode::OK, &ledger.snapshot()),
        (&Method::POST, "/stop") => {
            stop.cancel();
            answer(StatusCode::OK, &json!({"stopping": true}))
        }
        _ => refuse(StatusCode::NOT_FOUND, "no such control request"),
    }
}

/// The requests of the last minute that a rule speaks of, oldest first.
fn would_match(ledger: &Ledger, rule: &Rule) -> Vec<faults::Entry> {
    let since = (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60)).to_string();
    let entries = ledger.entries(0, usize::MAX);
    entries.into_iter().filter(|entry| entry.time >= since && rule.is_about(entry)).collect()
}

/// A client of a lab's control endpoint.
pub struct Control {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Control {
    /// The endpoint of a running lab.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn of(record: &LabRecord) -> Result<Self> {
        wire::install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { http, base: record.control_url.clone(), token: record.token.clone() })
    }

    async fn send<T: DeserializeOwned>(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<T> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            Failure::new(Exit::LabFailed, format!("the lab does not answer: {error}")).hint("see `lab status`")
        })?;
        let good = response.status().is_success();
        let bytes = response.bytes().await?;
        if good {
            return serde_json::from_slice(&bytes).context("the lab's answer cannot be read");
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        bail!(Failure::new(Exit::Usage, value["error"].as_str().unwrap_or("the lab refused").to_owned()))
    }

    /// What is not up yet.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn missing(&self) -> Result<Vec<String>> {
        self.send(reqwest::Method::GET, "/missing", None).await
    }

    /// All faults.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn faults(&self) -> Result<Vec<Value>> {
        self.send(reqwest::Method::GET, "/faults", None).await
    }

    /// Arms a fault.
    ///
    /// # Errors
    /// When the lab does not answer or refuses the fault.
    pub async fn add_fault(&self, rule: &Rule) -> Result<u64> {
        let answer: Value = self.send(reqwest::Method::POST, "/faults", Some(&serde_json::to_value(rule)?)).await?;
        Ok(answer["id"].as_u64().unwrap_or_default())
    }

    /// What a fault would have met in the last minute; nothing is armed.
    ///
    /// # Errors
    /// When the fault cannot work or the lab does not answer.
    pub async fn try_fault(&self, rule: &Rule) -> Result<Vec<Value>> {
        self.send(reqwest::Method::POST, "/faults?dryRun=true", Some(&serde_json::to_value(rule)?)).await
    }

    /// Clears one fault, or all; how many.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn clear_faults(&self, name: Option<&str>) -> Result<u64> {
        let path = match name {
            None => "/faults".to_owned(),
            Some(name) => {
                let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
                format!("/faults?name={encoded}")
            }
        };
        let answer: Value = self.send(reqwest::Method::DELETE, &path, None).await?;
        Ok(answer["cleared"].as_u64().unwrap_or_default())
    }

    /// Entries of the ledger.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn ledger(&self, after: u64, limit: usize) -> Result<Vec<Value>> {
        self.send(reqwest::Method::GET, &format!("/ledger?after={after}&limit={limit}"), None).await
    }

    /// Asks the lab to stop.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stop(&self) -> Result<()> {
        self.send::<Value>(reqwest::Method::POST, "/stop", None).await.map(|_| ())
    }
}
