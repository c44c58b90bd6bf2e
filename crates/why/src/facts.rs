//! What was gathered before the chain is walked.

use metrics::{Exposition, RuleState, Series, Targets};
use operator::Input;
use serde_json::Value;

use crate::names::Rename;

/// What Prometheus' ServiceAccount would do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Review {
    /// `list` or `watch`.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Namespace; empty for all.
    pub namespace: String,
}

/// What the API server would not let it do.
pub type Denied = Review;

/// A pod's page of metrics, or why it could not be read.
#[derive(Clone, Debug)]
pub struct Page {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The port's number.
    pub port: u16,
    /// The page.
    pub page: Result<Exposition, String>,
}

/// A series, and how old its last sample is.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub series: Series,
    /// Seconds since its last sample.
    pub age: f64,
}

/// What was gathered, at one time as nearly as may be.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The Prometheus object.
    pub prometheus: Value,
    /// Monitoring objects, namespaces, and the Secrets and ConfigMaps that they name.
    pub input: Input,
    /// Services.
    pub services: Vec<Value>,
    /// Endpoints.
    pub endpoints: Vec<Value>,
    /// EndpointSlices.
    pub slices: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
    /// What Prometheus' ServiceAccount may not do, of what it was asked about.
    pub denied: Vec<Denied>,
    /// The scrape configurations that run, as Prometheus shows them; nothing when it does not answer.
    pub running: Option<Vec<Value>>,
    /// Why Prometheus does not answer, if it does not.
    pub unanswered: Option<String>,
    /// Why the last reload of the configuration failed, if it did.
    pub reload_failed: Option<String>,
    /// Its targets.
    pub targets: Targets,
    /// The rules that it evaluates.
    pub rules: Vec<RuleState>,
    /// Its version.
    pub version: String,
    /// The global scrape interval, in seconds.
    pub interval: f64,
    /// Series of the metric that a query finds now. It finds what is up to five minutes old.
    pub now: Vec<Seen>,
    /// Series of the metric in the last hour.
    pub recent: Vec<Seen>,
    /// All metric names that Prometheus knows.
    pub names: Vec<String>,
    /// Pages of the pods that may have metrics.
    pub pages: Vec<Page>,
    /// Metrics that were renamed between releases.
    pub renames: Vec<Rename>,
}

impl Facts {
    /// The series that get new samples.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = &Series> {
        // Three scrapes of the slowest job, and a moment for the query.
        let configs = self.running.iter().flatten().filter_map(|config| seconds(config["scrape_interval"].as_str()?));
        let slowest = configs.fold(self.interval, f64::max);
        self.now.iter().filter(move |seen| seen.age <= 3.0 * slowest + 2.0).map(|seen| &seen.series)
    }
}

/// A duration such as `1m30s` in seconds.
pub fn seconds(text: &str) -> Option<f64> {
    promql_parser::util::parse_duration(text).ok().map(|duration| duration.as_secs_f64())
}

/// An object of a list by namespace and name.
pub(crate) fn find<'a>(objects: &'a [Value], namespace: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|found| kubeapi::object::namespace(found) == namespace && kubeapi::object::name(found) == name)
}
