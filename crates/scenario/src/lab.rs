//! What a scenario needs of a lab, whatever it runs on.

use std::collections::BTreeMap;
use std::time::Duration;

use faults::{Entry, Rule};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use metrics::{Exposition, Labels, RuleState, Sample, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Delete, ObjectCheck};
use crate::needs::Need;
use crate::reconcile::{Hookless, Reading};

/// The lab could not do or tell something.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LabError(pub String);

/// A pod's log.
#[derive(Clone, Debug)]
pub struct PodLog {
    /// The pod.
    pub pod: String,
    /// Its lines.
    pub text: String,
}

/// What a pod's /metrics shows at the moment.
#[derive(Clone, Debug)]
pub struct PodPage {
    /// The pod.
    pub pod: String,
    /// The page.
    pub page: Exposition,
}

/// What a pod answers at /metrics.
#[derive(Clone, Debug)]
pub struct PageAnswer {
    /// The pod.
    pub pod: String,
    /// The status code and the text; or why there is none.
    pub answer: Result<(u16, String), String>,
    /// The media type that it says it has; empty for none.
    pub content_type: String,
}

/// What somebody was told about an alert.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// When.
    pub at: Timestamp,
    /// By which receiver of the configuration.
    pub receiver: String,
    /// `firing` or `resolved`.
    pub status: String,
    /// The alert's labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
}

/// A fault's name with how often it decided and may decide.
pub type FaultUse = (String, u64, Option<u64>);

/// A lab that a scenario runs on.
pub trait Lab: Send + Sync {
    /// The release's namespace.
    fn namespace(&self) -> String;
    /// The release's counter of requests.
    fn requests_metric(&self) -> String;
    /// What the provider does not have.
    fn lacks(&self) -> &'static [Need] {
        &[]
    }
    /// Whether the release declares a metric, whether or not it has series.
    fn declares(&self, metric: &str) -> bool;
    /// Whether a target of Prometheus declares a metric, whether or not it has series.
    fn is_exposed<'a>(&'a self, metric: &'a str) -> BoxFuture<'a, Result<bool, LabError>>;
    /// By how much deadlines and holds are longer than they say: 1 on a machine that has time for the lab.
    fn patience(&self) -> f64 {
        1.0
    }
    /// Time since the lab was started.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn pause(&self, time: Duration) -> BoxFuture<'_, ()>;
    /// What is not up yet.
    fn missing(&self) -> BoxFuture<'_, Result<Vec<String>, LabError>>;
    /// How many pods have metrics that are to be scraped.
    fn scraped_pods(&self) -> BoxFuture<'_, Result<usize, LabError>>;
    /// Asks Prometheus.
    fn query(&self, expression: String) -> BoxFuture<'_, Result<Vec<Sample>, LabError>>;
    /// The targets of the KubeVirt Service.
    fn targets(&self) -> BoxFuture<'_, Result<Vec<Target>, LabError>>;
    /// Prometheus' rules.
    fn rules(&self) -> BoxFuture<'_, Result<Vec<RuleState>, LabError>>;
    /// How many Alertmanagers Prometheus knows.
    fn alertmanagers(&self) -> BoxFuture<'_, Result<usize, LabError>>;
    /// How often each container was restarted by its node, as `NAMESPACE/POD/CONTAINER`.
    fn restarts(&self) -> BoxFuture<'_, Result<BTreeMap<String, u64>, LabError>>;
    /// What Alertmanager has sent, oldest first.
    fn notifications(&self) -> BoxFuture<'_, Result<Vec<Notification>, LabError>>;
    /// The logs of pods whose names begin so.
    fn logs<'a>(&'a self, pod: &'a str, container: Option<&'a str>) -> BoxFuture<'a, Result<Vec<PodLog>, LabError>>;
    /// Why a series is not there, or a monitor yields nothing.
    fn why(&self, question: String) -> BoxFuture<'_, Result<String, LabError>>;
    /// What the pods of KubeVirt with names that begin so answer at /metrics, each asked so often at once; a pod's answers follow each other.
    fn pages<'a>(&'a self, pod: &'a str, at_once: usize) -> BoxFuture<'a, Result<Vec<PageAnswer>, LabError>>;
    /// Objects of the API; an error where the kind is not served.
    fn objects<'a>(&'a self, wanted: &'a ObjectCheck) -> BoxFuture<'a, Result<Vec<Value>, LabError>>;
    /// What expressions read that the release does not have, and expressions that cannot be read.
    fn contract<'a>(&'a self, expressions: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, LabError>>;
    /// Arms a fault.
    fn arm(&self, rule: Rule) -> BoxFuture<'_, Result<(), LabError>>;
    /// The faults and their use.
    fn faults(&self) -> BoxFuture<'_, Result<Vec<FaultUse>, LabError>>;
    /// Clears the fault of this name, or all; how many.
    fn clear_faults<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<usize, LabError>>;
    /// Reads the pages of all components, and the ledger before and after.
    fn reading(&self) -> BoxFuture<'_, Result<Reading, LabError>>;
    /// The ledger's entries, as far as they are kept.
    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>, LabError>>;
    /// Clients of the release that are not counted.
    fn hookless(&self) -> Vec<Hookless>;
    /// Deletes objects; how many.
    fn delete<'a>(&'a self, delete: &'a Delete) -> BoxFuture<'a, Result<usize, LabError>>;
    /// Applies an object.
    fn apply(&self, object: Value) -> BoxFuture<'_, Result<(), LabError>>;
}
