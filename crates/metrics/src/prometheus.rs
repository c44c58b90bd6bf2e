//! Prometheus' HTTP API, as much of it as a harness asks for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::series::{Labels, Sample, Series};

/// A query failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer.
    #[error("prometheus at {url} does not answer")]
    Transport {
        /// The base URL.
        url: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// An answer that says no.
    #[error("prometheus refused {query:?}: {message}")]
    Refused {
        /// What was asked.
        query: String,
        /// Why not.
        message: String,
    },
}

/// A target.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Labels after relabelling.
    #[serde(default)]
    pub labels: Labels,
    /// Labels before it.
    #[serde(default)]
    pub discovered_labels: Labels,
    /// The job's name in the configuration.
    #[serde(default)]
    pub scrape_pool: String,
    /// Where it is scraped.
    #[serde(default)]
    pub scrape_url: String,
    /// What went wrong last.
    #[serde(default)]
    pub last_error: String,
    /// When it was scraped last, RFC 3339.
    #[serde(default)]
    pub last_scrape: String,
    /// `up`, `down` or `unknown`.
    #[serde(default)]
    pub health: String,
}

/// All targets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// Those that are scraped.
    #[serde(default)]
    pub active_targets: Vec<Target>,
    /// Those that relabelling dropped.
    #[serde(default)]
    pub dropped_targets: Vec<Target>,
}

/// An alert that is pending or fires.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// Its labels, the name included.
    #[serde(default)]
    pub labels: Labels,
    /// `pending` or `firing`.
    #[serde(default)]
    pub state: String,
}

/// An alerting or recording rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleState {
    /// Its name.
    pub name: String,
    /// `inactive`, `pending` or `firing`; empty for a recording rule.
    #[serde(default)]
    pub state: String,
    /// `ok`, `unknown` or `err`.
    #[serde(default)]
    pub health: String,
    /// Its expression.
    #[serde(default)]
    pub query: String,
    /// What went wrong last.
    #[serde(default, rename = "lastError")]
    pub last_error: String,
    /// When it was evaluated last, RFC 3339; the year 1 where it never was.
    #[serde(default, rename = "lastEvaluation")]
    pub last_evaluation: String,
    /// The alerts that come of it at the moment.
    #[serde(default)]
    pub alerts: Vec<ActiveAlert>,
}

impl RuleState {
    /// Whether it was evaluated at all since it was loaded.
    pub fn was_evaluated(&self) -> bool {
        !self.last_evaluation.is_empty() && !self.last_evaluation.starts_with("0001-")
    }
}

/// Why there is no answer.
pub type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// The code of an answer and its text.
pub type Fetched<'a> = Pin<Box<dyn Future<Output = Result<(u16, String), FetchError>> + Send + 'a>>;

/// A way to a Prometheus: through its address, or through the API server of its cluster.
pub trait Fetch: Send + Sync {
    /// Gets a path such as `/api/v1/query?query=up`.
    fn get(&self, path: String) -> Fetched<'_>;
    /// What it leads to, for messages.
    fn place(&self) -> String;
}

/// The way through an address.
struct Direct {
    http: reqwest::Client,
    base: String,
}

impl Fetch for Direct {
    fn get(&self, path: String) -> Fetched<'_> {
        Box::pin(async move {
            let response = self.http.get(format!("{}{path}", self.base)).send().await?;
            let code = response.status().as_u16();
            Ok((code, response.text().await?))
        })
    }

    fn place(&self) -> String {
        self.base.clone()
    }
}

/// A value in a query, percent-encoded.
fn encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// A client of one Prometheus.
#[derive(Clone)]
pub struct Client {
    way: Arc<dyn Fetch>,
}

impl Client {
    /// A client of the Prometheus at a base URL such as `http://127.0.0.1:9090`.
    ///
    /// # Panics
    /// When no TLS provider is installed.
    pub fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(std::time::Duration::from_secs(10))
            .build()
            .expect("a TLS provider is installed");
        Self::through(Arc::new(Direct { http, base: base.trim_end_matches('/').to_owned() }))
    }

    /// A client that goes another way.
    pub fn through(way: Arc<dyn Fetch>) -> Self {
        Self { way }
    }

    /// The data of an answer, as it is: of `targets`, `series`, `alerts`, and other paths below `/api/v1`.
    ///
    /// # Errors
    /// When Prometheus does not answer or refuses.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, HttpError> {
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let path_and_query = format!("/api/v1/{path}{mark}{}", pairs.join("&"));
        let transport = |source| HttpError::Transport { url: self.way.place(), source };
        let (code, text) = self.way.get(path_and_query).await.map_err(transport)?;
        let refused = |message: String| HttpError::Refused {
            query: query.first().map_or_else(|| path.to_owned(), |(_, value)| (*value).to_owned()),
            message,
        };
        let mut body: Value = serde_json::from_str(&text)
            .map_err(|_| refused(format!("{code}: {}", text.chars().take(200).collect::<String>())))?;
        if body["status"] != "success" {
            return Err(refused(body["error"].as_str().unwrap_or("no reason given").to_owned()));
        }
        Ok(body["data"].take())
    }

    /// Whether it is ready to serve.
    pub async fn is_ready(&self) -> bool {
        matches!(self.way.get("/-/ready".to_owned()).await, Ok((200, _)))
    }

    /// An instant query; a scalar is a sample without labels.
    ///
    /// # Errors
    /// When Prometheus does not answer or refuses the query.
    pub async fn query(&self, query: &str) -> Result<Vec<Sample>, HttpError> {
        let data = self.get("query", &[("query", query)]).await?;
        let number = |value: &Value| match value[1].as_str() {
            Some("+Inf") => f64::INFINITY,
            Some("-Inf") => f64::NEG_INFINITY,
            Some(text) => text.parse().unwrap_or(f64::NAN),
            None => f64::NAN,
        };
        if data["resultType"] == "scalar" {
            return Ok(vec![Sample { series: Series::default(), value: number(&data["result"]) }]);
        }
        let mut samples: Vec<Sample> = data["result"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| Sample {
                series: Series::from_labels(serde_json::from_value(entry["metric"].clone()).unwrap_or_default()),
                value: number(&entry["value"]),
            })
            .collect();
        samples.sort_by(|a, b| a.series.cmp(&b.series));
        Ok(samples)
    }

    /// All targets.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn targets(&self) -> Result<Targets, HttpError> {
        let mut targets: Targets = serde_json::from_value(self.get("targets", &[("state", "any")]).await?).unwrap_or_default();
        targets.active_targets.sort_by(|a, b| (&a.scrape_pool, &a.labels).cmp(&(&b.scrape_pool, &b.labels)));
        Ok(targets)
    }

    /// All rules.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn rules(&self) -> Result<Vec<RuleState>, HttpError> {
        let data = self.get("rules", &[]).await?;
        let mut rules: Vec<RuleState> = data["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|group| group["rules"].as_array().into_iter().flatten())
            .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
            .collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rules)
    }

    /// Whether a target declares a metric (`# TYPE`, `# HELP`), whether or not it has series.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn is_declared(&self, metric: &str) -> Result<bool, HttpError> {
        let data = self.get("metadata", &[("metric", metric)]).await?;
        Ok(data.as_object().is_some_and(|known| known.contains_key(metric)))
    }

    /// How many Alertmanagers it sends alerts to.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn alertmanagers(&self) -> Result<usize, HttpError> {
        let data = self.get("alertmanagers", &[]).await?;
        Ok(data["activeAlertmanagers"].as_array().map_or(0, Vec::len))
    }

    /// The configuration that runs, as YAML.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn config(&self) -> Result<String, HttpError> {
        let data = self.get("status/config", &[]).await?;
        Ok(data["yaml"].as_str().unwrap_or_default().to_owned())
    }

    /// Whether the last reload of the configuration succeeded.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn reloaded(&self) -> Result<bool, HttpError> {
        Ok(self.get("status/runtimeinfo", &[]).await?["reloadConfigSuccess"] != false)
    }

    /// The names of all metrics.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn names(&self) -> Result<Vec<String>, HttpError> {
        Ok(serde_json::from_value(self.get("label/__name__/values", &[]).await?).unwrap_or_default())
    }

    /// The version it says it is.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn version(&self) -> Result<String, HttpError> {
        let data = self.get("status/buildinfo", &[]).await?;
        Ok(data["version"].as_str().unwrap_or_default().to_owned())
    }
}
