//! The control endpoint of a running lab, and its client: faults, ledger, status, stop.
//!
//! It listens on the lab's own loopback address and every request needs the administrator's token.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use faults::{ArmedRule, Entry, Rule, Snapshot, bears_token, control_answer, control_refusal};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use scenario::Notification;
use scenario::reconcile::Reconciliation;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wire::Body;

use crate::embedded::Lab;
use crate::exit::{Exit, Failure};
use crate::provider::access::Forward;
use crate::state::LabRecord;

/// The port of the control endpoint, beside the API server's.
const PORT: u16 = 6444;

/// The longest time between two readings, in seconds.
const MAX_RECONCILE: u64 = 3600;

/// Starts the endpoint; the address it got.
///
/// # Errors
/// When no port is free.
pub fn serve(lab: &Arc<Lab>, token: &str, stop: CancellationToken) -> Result<SocketAddr> {
    let listener = wire::bind((lab.address(), PORT).into())
        .or_else(|_| wire::bind((lab.address(), 0).into()))
        .context("cannot listen for control requests")?;
    let address = listener.local_addr()?;
    let expected = token.to_owned();
    let (weak, asked) = (Arc::downgrade(lab), stop.clone());
    let handler = move |request: Request<Incoming>| {
        let (lab, expected, asked) = (weak.upgrade(), expected.clone(), asked.clone());
        async move {
            if !bears_token(&request, &expected) {
                return Ok(control_refusal(StatusCode::UNAUTHORIZED, "the lab's token is needed"));
            }
            match lab {
                Some(lab) => Ok(handle(&lab, request, &asked).await),
                None => Ok(control_refusal(StatusCode::SERVICE_UNAVAILABLE, "the lab is stopping")),
            }
        }
    };
    tokio::spawn(wire::serve(listener, None, Arc::new(handler), Arc::new(()), stop));
    Ok(address)
}

async fn handle(lab: &Lab, request: Request<Incoming>, stop: &CancellationToken) -> Response<Body> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/missing") => control_answer(StatusCode::OK, &lab.missing()),
        (&Method::GET, "/notifications") => control_answer(StatusCode::OK, &lab.notifications().list()),
        (&Method::GET, "/reconcile") => {
            let query = kubeapi::Query::parse(head.uri.query().unwrap_or_default());
            let seconds = query.get("seconds").and_then(|text| text.parse().ok()).unwrap_or(0).min(MAX_RECONCILE);
            control_answer(StatusCode::OK, &lab.reconcile(Duration::from_secs(seconds)).await)
        }
        (&Method::POST, "/stop") => {
            stop.cancel();
            control_answer(StatusCode::OK, &json!({"stopping": true}))
        }
        _ => {
            let control = faults::Control::new(lab.proxy().engine().clone(), lab.proxy().ledger().clone());
            let answer = control.handle(&head.method, &head.uri, wire::incoming(body)).await;
            answer.unwrap_or_else(|| control_refusal(StatusCode::NOT_FOUND, "no such control request"))
        }
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of a lab's control endpoint.
pub struct Control {
    http: reqwest::Client,
    base: String,
    token: String,
    /// What leads there, on a cluster; it ends with the client.
    _way: Option<Forward>,
}

impl Control {
    /// The endpoint of a running lab.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn of(record: &LabRecord) -> Result<Self> {
        wire::install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, base: record.control_url.clone(), token: record.token.clone(), _way: None })
    }

    /// The endpoint of a fault proxy that stands alone.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn of_proxy(url: &str, token_file: &Path) -> Result<Self> {
        wire::install_crypto_provider();
        let token = std::fs::read_to_string(token_file).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read {}: {error}", token_file.display()))
                .hint("lab-fault-proxy prints the path of its token as tokenFile")
        })?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), token: token.trim().to_owned(), _way: None })
    }

    /// The endpoint of a fault proxy in a cluster, by a local port that leads there.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub(crate) fn through(way: Forward, token: String) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, base: format!("http://{}", way.address()), token, _way: Some(way) })
    }

    async fn send<T: DeserializeOwned>(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<T> {
        self.send_within(PATIENCE, method, path, body).await
    }

    async fn send_within<T: DeserializeOwned>(
        &self,
        within: Duration,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token).timeout(within);
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

    /// What Alertmanager has sent.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn notifications(&self) -> Result<Vec<Notification>> {
        self.send(reqwest::Method::GET, "/notifications", None).await
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
    pub async fn faults(&self) -> Result<Vec<ArmedRule>> {
        self.send(reqwest::Method::GET, "/faults", None).await
    }

    /// Arms faults, all of them or none.
    ///
    /// # Errors
    /// When the lab does not answer or refuses one of them.
    pub async fn add_faults(&self, rules: &[Rule]) -> Result<()> {
        self.send::<Value>(reqwest::Method::POST, "/faults", Some(&serde_json::to_value(rules)?)).await.map(|_| ())
    }

    /// What each fault would have met in the last minute; nothing is armed.
    ///
    /// # Errors
    /// When a fault cannot work or the lab does not answer.
    pub async fn try_faults(&self, rules: &[Rule]) -> Result<Vec<Vec<Entry>>> {
        self.send(reqwest::Method::POST, "/faults?dryRun=true", Some(&serde_json::to_value(rules)?)).await
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
    pub async fn ledger(&self, after: u64, limit: usize) -> Result<Vec<Entry>> {
        self.send(reqwest::Method::GET, &format!("/ledger?after={after}&limit={limit}"), None).await
    }

    /// The ledger's totals.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn totals(&self) -> Result<Snapshot> {
        self.send(reqwest::Method::GET, "/ledger/totals", None).await
    }

    /// Holds the counters of components and of Prometheus' discovery against the ledger, over so many seconds.
    ///
    /// # Errors
    /// When the lab does not answer.
    pub async fn reconcile(&self, seconds: u64) -> Result<[Reconciliation; 2]> {
        let within = PATIENCE + Duration::from_secs(seconds);
        self.send_within(within, reqwest::Method::GET, &format!("/reconcile?seconds={seconds}"), None).await
    }

    /// Asks the lab to stop.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stop(&self) -> Result<()> {
        self.send::<Value>(reqwest::Method::POST, "/stop", None).await.map(|_| ())
    }
}
