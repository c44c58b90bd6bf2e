//! A scenario as it is run: every value was read and checked, and each enum has exactly the variants that a file can mean.

use std::time::Duration;

use metrics::go_float as number;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::place::Place;
use crate::variant::Variants;
use crate::word::{AlertState, LabelPatterns, NotificationStatus, Pattern, ProviderName, RuleHealth, Stack};

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows.
    pub description: String,
    /// What it runs on.
    pub given: Given,
    /// What is done, in order.
    pub steps: Vec<Placed<Step>>,
    /// What must hold afterwards, in order.
    pub expect: Vec<Placed<Expectation>>,
    /// Series that are compared with a file.
    pub snapshots: Vec<Placed<SnapshotSpec>>,
    /// Whether the ledger must equal the change of the components' counters, and where the file says so.
    pub reconcile: Option<Placed<()>>,
    /// What it reproduces, if it is one of the catalogue of regressions.
    pub regression: Option<Regression>,
    /// The variants of a regression.
    pub variants: Option<Variants>,
    /// What may differ from provider to provider.
    pub parity: Vec<Declared>,
    /// Mutants that may pass, each with its reason.
    pub survivors: Vec<Survivor>,
}

/// A part of a scenario with its place in the file.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// Where it begins, where known.
    pub at: Option<Place>,
    /// The part.
    pub value: T,
}

/// What a scenario reproduces.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// Where it was reported and fixed, such as `kubevirt#12096`.
    pub sources: Vec<String>,
    /// What people saw.
    pub symptom: String,
    /// Why it was so.
    pub cause: String,
}

/// A difference between providers that is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What differs: the line of a report, or `snapshot NAME`.
    pub differs: String,
    /// On which provider; on any without it.
    pub on: Option<ProviderName>,
    /// Why.
    pub reason: String,
}

/// A change of the scenario that does not make it fail, and why that is right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Survivor {
    /// The change, as `scenario mutate` prints it; `*` stands for any characters.
    pub mutant: String,
    /// Why the scenario holds with it.
    pub reason: String,
}

/// What a scenario runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Releases of KubeVirt.
    pub kubevirt: Releases,
    /// Whether alerts have no pending times and ranges of a minute.
    pub fast_alerts: bool,
    /// How much of kube-prometheus there is.
    pub stack: Stack,
    /// Defects that the simulated components have, by their names.
    pub defects: Vec<String>,
}

/// Releases of KubeVirt that a scenario is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Releases {
    /// These; where releases are simulated, the scenario runs once on each.
    Each(Vec<String>),
    /// Those of the known ones that fit what was written, the newest first; where releases are simulated, the scenario runs on the
    /// newest of them.
    Fitting {
        /// What was written, such as `>=1.5`.
        written: String,
        /// The known releases that fit; not empty.
        known: Vec<String>,
    },
}

impl Default for Releases {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl Releases {
    /// All known releases that it is for.
    pub fn all(&self) -> &[String] {
        match self {
            Self::Each(known) | Self::Fitting { known, .. } => known,
        }
    }

    /// Those that it runs on where any can be had.
    pub fn to_run(&self) -> &[String] {
        match self {
            Self::Each(known) => known,
            Self::Fitting { known, .. } => &known[..known.len().min(1)],
        }
    }

    /// As it was written.
    pub fn text(&self) -> String {
        match self {
            Self::Each(known) => known.join(", "),
            Self::Fitting { written, .. } => written.clone(),
        }
    }
}

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Wait for a state.
    Wait(Wait),
    /// Arm a fault.
    Fault(Box<faults::Rule>),
    /// Clear the fault of this name.
    ClearFault(String),
    /// Clear all faults.
    ClearFaults,
    /// Delete objects.
    Delete(Delete),
    /// Apply an object.
    Apply(Value),
}

/// A state to wait for.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The state.
    pub state: State,
    /// The deadline; the runner's own without it.
    pub within: Option<Duration>,
}

/// What can be waited for.
#[derive(Clone, Debug)]
pub enum State {
    /// All workloads are there and their pods ready.
    Up,
    /// A fault has used its budget up.
    FaultSpent(String),
    /// What an expectation could ask for, too.
    Holds(Check),
}

/// Objects to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// API group; empty for core.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Namespace; empty means all.
    pub namespace: String,
    /// Which of them.
    pub which: Which,
}

/// Which objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of this name.
    Named(String),
    /// Those that fit a label selector.
    Labelled(String),
}

impl Which {
    /// The name or the selector.
    pub fn text(&self) -> &str {
        match self {
            Self::Named(text) | Self::Labelled(text) => text,
        }
    }
}

/// Something that must hold.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// What.
    pub check: Check,
    /// It must hold at the latest after this time; the runner's own without it.
    pub within: Option<Duration>,
    /// It must hold all this time, from when it first holds.
    pub hold: Option<Duration>,
    /// Only on these releases; on all where it is empty.
    pub only: Vec<String>,
}

/// What is expected.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A query's result.
    Query(QueryCheck),
    /// Targets of the KubeVirt Service.
    Targets(TargetCheck),
    /// Alerts.
    Alerts(AlertCheck),
    /// A notification.
    Notification(NotificationCheck),
    /// Rules.
    Rules(RuleCheck),
    /// Log lines.
    Logs(LogCheck),
    /// The lab's explanation.
    Why(WhyCheck),
    /// A component's page.
    Page(PageCheck),
    /// Objects.
    Object(ObjectCheck),
    /// A contract.
    Contract(ContractCheck),
}

/// A query and what its result must be; at least one series where nothing else is said.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryCheck {
    /// PromQL; `{requests}` and `{namespace}` are filled in.
    pub expr: String,
    /// Every value equals this.
    pub equals: Option<f64>,
    /// Every value is at least this.
    pub at_least: Option<f64>,
    /// Every value is at most this.
    pub at_most: Option<f64>,
    /// So many series.
    pub series: Option<usize>,
    /// Each series has these labels.
    pub labels: LabelPatterns,
}

/// What is expected of the targets of the KubeVirt Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetCheck {
    /// All are up, and there are as many as pods with metrics.
    AllUp,
    /// So many, up or down.
    Count(usize),
    /// As many as pods with metrics, up or down.
    Expected,
    /// So many, as many as pods with metrics, and all are up.
    AllUpOf(usize),
}

/// Alerts by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCheck {
    /// Their names; at least one.
    pub names: Vec<String>,
    /// What each is.
    pub state: AlertState,
    /// Labels that one alert of each, pending or firing, has.
    pub labels: LabelPatterns,
}

/// A notification that Alertmanager has sent to the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationCheck {
    /// The alert's name.
    pub alert: Pattern,
    /// What it says; either without it.
    pub status: Option<NotificationStatus>,
    /// Labels that it has.
    pub labels: LabelPatterns,
    /// So many in all; at least one without it.
    pub count: Option<usize>,
}

/// Prometheus' rules, all or those of some names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCheck {
    /// What each says of itself.
    pub health: RuleHealth,
    /// Which; all without it.
    pub names: Option<Pattern>,
    /// So many; at least one without it.
    pub count: Option<usize>,
    /// The alerts among them that fire, all of them and no other; whichever without it.
    pub firing: Option<Vec<String>>,
}

/// Lines in the logs of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCheck {
    /// The beginning of the pods' names.
    pub pod: String,
    /// The container; the only one without it.
    pub container: Option<String>,
    /// What a line contains, all of it; at least one part.
    pub contains: Vec<String>,
    /// So many lines in all; at least one without it.
    pub count: Option<usize>,
}

/// The lab's explanation of what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyCheck {
    /// The question, as `lab why` takes it.
    pub ask: String,
    /// What the answer contains.
    pub contains: String,
}

/// What the pages of a component's pods show, all together.
#[derive(Clone, Debug, PartialEq)]
pub struct PageCheck {
    /// The beginning of the pods' names.
    pub pod: String,
    /// The metric.
    pub metric: String,
    /// Labels that series have that are counted.
    pub labels: LabelPatterns,
    /// So many series; at least one without it.
    pub series: Option<usize>,
    /// So many series at most.
    pub at_most_series: Option<usize>,
    /// Every value equals this.
    pub equals: Option<f64>,
    /// The sum of the values is at least this.
    pub sum_at_least: Option<f64>,
    /// What the media type of the page begins with.
    pub content_type: Option<String>,
    /// How many times each pod is asked at once; at least 1.
    pub at_once: usize,
}

/// Objects of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectCheck {
    /// API group; empty for core.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Namespace; empty means all.
    pub namespace: String,
    /// Name; any without it.
    pub name: Option<String>,
    /// Fields by their path with dots, and what each is.
    pub fields: LabelPatterns,
    /// What its text, as JSON, contains.
    pub contains: Option<String>,
    /// So many; at least one without it.
    pub count: Option<usize>,
}

/// Expressions all of whose metrics and labels the release has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractCheck {
    /// The expressions; at least one.
    pub reads: Vec<String>,
}

/// Series that are compared with a file.
#[derive(Clone, Debug)]
pub struct SnapshotSpec {
    /// The snapshot's name; the file is `SCENARIO@RELEASE.NAME.snap`.
    pub name: String,
    /// A regular expression over whole metric names.
    pub metrics: String,
    /// What is taken of them.
    pub redactor: metrics::Redactor,
}

fn of_labels(labels: &LabelPatterns) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={:?}", value.text())).collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

impl Check {
    /// The line of a report.
    pub fn describe(&self) -> String {
        match self {
            Self::Query(query) => {
                let mut text = query.expr.split_whitespace().collect::<Vec<_>>().join(" ");
                for (word, value) in [("=", query.equals), (">=", query.at_least), ("<=", query.at_most)] {
                    if let Some(value) = value {
                        text = format!("{text} {word} {}", number(value));
                    }
                }
                text
            }
            Self::Targets(TargetCheck::AllUp) => "all targets up".to_owned(),
            Self::Targets(TargetCheck::AllUpOf(count)) => format!("all {count} targets up"),
            Self::Targets(TargetCheck::Count(count)) => format!("{count} targets"),
            Self::Targets(TargetCheck::Expected) => "as many targets as pods with metrics".to_owned(),
            Self::Alerts(alerts) => format!("{} {}", alerts.names.join(", "), alerts.state),
            Self::Notification(wanted) => {
                let status = wanted.status.map_or("firing or resolved", NotificationStatus::word);
                match wanted.count {
                    Some(0) => format!("not notified that {} is {status}", wanted.alert),
                    Some(_) | None => format!("notified that {} is {status}", wanted.alert),
                }
            }
            Self::Rules(wanted) => {
                let firing = wanted.firing.as_ref().map(|names| format!(", firing: {}", names.join(", ")));
                let names = wanted.names.as_ref().map_or("*", Pattern::text);
                format!("rules {names} {}{}", wanted.health, firing.unwrap_or_default())
            }
            Self::Logs(logs) => format!("log of {}: {}", logs.pod, logs.contains.join(" … ")),
            Self::Why(why) => format!("asked why {}, the lab says: {}", why.ask, why.contains),
            Self::Page(page) => format!("page of {}: {}{}", page.pod, page.metric, of_labels(&page.labels)),
            Self::Object(object) => {
                let fields: Vec<String> = object.fields.iter().map(|(path, value)| format!(" {path}={value}")).collect();
                let name = object.name.as_deref().unwrap_or_default();
                let contains = object.contains.as_deref().unwrap_or_default();
                let text = format!("{} {}/{name}{} {contains}", object.resource, object.namespace, fields.concat());
                text.trim_end().to_owned()
            }
            Self::Contract(contract) => format!("there is what is read by {}", contract.reads.join(", ")),
        }
    }

    /// The same where it is waited for.
    pub(crate) fn describe_wait(&self) -> String {
        match self {
            Self::Targets(TargetCheck::AllUp) => "wait for all targets".to_owned(),
            Self::Notification(_) => format!("wait to be {}", self.describe()),
            Self::Query(_)
            | Self::Targets(_)
            | Self::Alerts(_)
            | Self::Rules(_)
            | Self::Logs(_)
            | Self::Why(_)
            | Self::Page(_)
            | Self::Object(_)
            | Self::Contract(_) => format!("wait for {}", self.describe()),
        }
    }
}

impl Wait {
    /// The line of a report.
    pub fn describe(&self) -> String {
        match &self.state {
            State::Up => "wait for all pods".to_owned(),
            State::FaultSpent(name) => format!("wait for fault {name:?} to be spent"),
            State::Holds(check) => check.describe_wait(),
        }
    }
}

/// Kind and name of an object, for a line of a report.
pub(crate) fn kind_and_name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

impl Step {
    /// The word that files have.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Wait(_) => "wait",
            Self::Fault(_) => "fault",
            Self::ClearFault(_) => "clearFault",
            Self::ClearFaults => "clearFaults",
            Self::Delete(_) => "delete",
            Self::Apply(_) => "apply",
        }
    }

    /// The line of a report.
    pub fn describe(&self) -> String {
        match self {
            Self::Wait(wait) => wait.describe(),
            Self::Fault(rule) => format!("fault {:?} armed: {}", rule.name, rule.effect.name()),
            Self::ClearFault(name) => format!("fault {name:?} cleared"),
            Self::ClearFaults => "faults cleared".to_owned(),
            Self::Delete(delete) => format!("delete {} {}", delete.resource, delete.which.text()),
            Self::Apply(object) => format!("apply {}", kind_and_name(object)),
        }
    }
}
