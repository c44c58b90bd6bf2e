//! What was gathered before the chain is walked.

use metrics::{Exposition, RuleState, Sample, Series, Targets};
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

/// A series of the last hour.
#[derive(Clone, Debug)]
pub struct Recent {
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
    /// Why the last reload of the configuration failed, if it did.
    pub reload_failed: Option<String>,
    /// Its targets.
    pub targets: Targets,
    /// The rules that it evaluates.
    pub rules: Vec<RuleState>,
    /// Its version.
    pub version: String,
    /// Series of the metric now.
    pub now: Vec<Sample>,
    /// Series of the metric in the last hour.
    pub recent: Vec<Recent>,
    /// All metric names that Prometheus knows.
    pub names: Vec<String>,
    /// Pages of the pods that may have metrics.
    pub pages: Vec<Page>,
    /// Metrics that were renamed between releases.
    pub renames: Vec<Rename>,
}

/// An object of a list by namespace and name.
pub(crate) fn find<'a>(objects: &'a [Value], namespace: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|found| kubeapi::object::namespace(found) == namespace && kubeapi::object::name(found) == name)
}
