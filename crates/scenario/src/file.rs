//! A scenario file as it is written. Parsing has no side effects; what the types cannot say is checked in [`crate::parse`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::variant::{Regression, Variant};

/// A scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence or two.
    pub description: String,
    /// What it runs on.
    #[serde(default)]
    pub given: Given,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What must hold afterwards, in order.
    #[serde(default)]
    pub expect: Vec<Expectation>,
    /// Series that are held against a file.
    #[serde(default)]
    pub snapshot: Vec<SnapshotSpec>,
    /// Whether the ledger must equal the change of the components' counters, for every code.
    #[serde(default)]
    pub reconcile: bool,
    /// What it reproduces, if it is one of the catalogue of regressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regression: Option<Regression>,
    /// What is otherwise where the regression is; the scenario must fail there, and as it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Variant>,
    /// What is otherwise where it is mended; the scenario must pass there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mended: Option<Variant>,
    /// What may differ from provider to provider; what differs and is not here fails `scenario run --parity`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parity: Vec<Declared>,
}

/// A difference between providers that is as it should be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// What differs: the line of a report, or `snapshot NAME`.
    pub differs: String,
    /// On which provider; on any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Why.
    pub reason: String,
}

/// What a scenario runs on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Releases of KubeVirt; the scenario runs once on each.
    pub kubevirt: Vec<String>,
    /// How alerts are evaluated.
    pub alerts: Alerts,
    /// How much of kube-prometheus there is: `none`, `small` or `full`.
    pub stack: Stack,
    /// Defects that the simulated components have, by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<String>,
}

/// How much of kube-prometheus a lab has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// Nothing: KubeVirt alone, for what its components' own pages show.
    None,
    /// Prometheus, Alertmanager and the operator.
    #[default]
    Small,
    /// Also kube-state-metrics, node-exporter, the kubelet's metrics, and stand-ins for Grafana and prometheus-adapter.
    Full,
}

/// How alerts are evaluated.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Without pending times and with ranges of a minute, so that they come soon; the objects stay as they are.
    pub fast: bool,
}

/// One step; exactly one key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Step {
    /// Wait for a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Arm a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<faults::Rule>,
    /// Clear the fault of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_fault: Option<String>,
    /// Clear all faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_faults: Option<bool>,
    /// Delete objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<Delete>,
    /// Apply an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<Value>,
}

impl Step {
    /// The step's word.
    pub fn name(&self) -> &'static str {
        match self {
            Self { wait: Some(_), .. } => "wait",
            Self { fault: Some(_), .. } => "fault",
            Self { clear_fault: Some(_), .. } => "clearFault",
            Self { clear_faults: Some(_), .. } => "clearFaults",
            Self { delete: Some(_), .. } => "delete",
            Self { apply: Some(_), .. } => "apply",
            _ => "nothing",
        }
    }

    pub(crate) fn count(&self) -> usize {
        let set = [
            self.wait.is_some(),
            self.fault.is_some(),
            self.clear_fault.is_some(),
            self.clear_faults.is_some(),
            self.delete.is_some(),
            self.apply.is_some(),
        ];
        set.into_iter().filter(|set| *set).count()
    }
}

fn a_minute() -> String {
    "60s".to_owned()
}

/// A state to wait for; exactly one besides `within`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wait {
    /// All workloads are there and their pods ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// All KubeVirt targets are up: as many as there are pods with metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<bool>,
    /// A query's first value meets a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryExpectation>,
    /// Alertmanager has sent a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationExpectation>,
    /// A fault has used its budget up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_spent: Option<String>,
    /// A component's own page shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<PageExpectation>,
    /// Objects are as they are to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectExpectation>,
    /// The deadline, such as `30s`.
    #[serde(default = "a_minute")]
    pub within: String,
}

/// Objects to delete, by name or by labels.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Delete {
    /// API group; empty for core.
    #[serde(default)]
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Namespace; `{namespace}` is that of KubeVirt.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default)]
    pub name: Option<String>,
    /// Label selector.
    #[serde(default)]
    pub labels: Option<String>,
}

/// Something that must hold; exactly one besides the times.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// A query's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryExpectation>,
    /// Targets of the KubeVirt Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<TargetExpectation>,
    /// Alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertExpectation>,
    /// What Alertmanager has sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationExpectation>,
    /// Prometheus' rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RuleExpectation>,
    /// Lines of logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogExpectation>,
    /// What the lab says about a series that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyExpectation>,
    /// What a component's own page shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<PageExpectation>,
    /// Objects of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectExpectation>,
    /// What expressions read is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractExpectation>,
    /// It must hold at the latest after this time; `60s` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// It must hold all this time, from when it first holds.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Only on these releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}

impl Expectation {
    /// The single thing that is expected.
    pub fn check(&self) -> Option<Check<'_>> {
        self.query
            .as_ref()
            .map(Check::Query)
            .or_else(|| self.targets.as_ref().map(Check::Targets))
            .or_else(|| self.alerts.as_ref().map(Check::Alerts))
            .or_else(|| self.notification.as_ref().map(Check::Notification))
            .or_else(|| self.rules.as_ref().map(Check::Rules))
            .or_else(|| self.logs.as_ref().map(Check::Logs))
            .or_else(|| self.why.as_ref().map(Check::Why))
            .or_else(|| self.page.as_ref().map(Check::Page))
            .or_else(|| self.object.as_ref().map(Check::Object))
            .or_else(|| self.contract.as_ref().map(Check::Contract))
    }

    pub(crate) fn count(&self) -> usize {
        let set = [
            self.query.is_some(),
            self.targets.is_some(),
            self.alerts.is_some(),
            self.notification.is_some(),
            self.rules.is_some(),
            self.logs.is_some(),
            self.why.is_some(),
            self.page.is_some(),
            self.object.is_some(),
            self.contract.is_some(),
        ];
        set.into_iter().filter(|set| *set).count()
    }
}

/// What is expected, by kind.
#[derive(Clone, Copy, Debug)]
pub enum Check<'a> {
    /// A query's result.
    Query(&'a QueryExpectation),
    /// Targets.
    Targets(&'a TargetExpectation),
    /// Alerts.
    Alerts(&'a AlertExpectation),
    /// A notification.
    Notification(&'a NotificationExpectation),
    /// Rules.
    Rules(&'a RuleExpectation),
    /// Log lines.
    Logs(&'a LogExpectation),
    /// The lab's explanation.
    Why(&'a WhyExpectation),
    /// A component's page.
    Page(&'a PageExpectation),
    /// Objects.
    Object(&'a ObjectExpectation),
    /// A contract.
    Contract(&'a ContractExpectation),
}

/// A query and what its result must be. Without a condition it must have at least one series.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct QueryExpectation {
    /// PromQL; `{requests}` is the release's counter of requests, `{namespace}` its namespace.
    pub expr: String,
    /// Every value equals this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<f64>,
    /// Every value is this at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// So many series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<usize>,
    /// Each series has these labels; `*` stands for anything.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// Targets of the KubeVirt Service.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TargetExpectation {
    /// So many in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Every one that there is is up, and there are as many as pods with metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_up: Option<bool>,
}

/// Alerts by name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AlertExpectation {
    /// Their names; each must be there with healthy rules.
    pub names: Vec<String>,
    /// `inactive`, `pending` or `firing`; `resolved` for one that has fired and is inactive.
    pub state: String,
    /// Labels that one alert of each, pending or firing, has; `*` stands for anything.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A notification that Alertmanager has sent to the lab.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NotificationExpectation {
    /// The alert's name; `*` stands for anything.
    pub alert: String,
    /// `firing` or `resolved`; either without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Labels that it has; `*` stands for anything.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// So many in all; at least one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// Prometheus' rules, all or those of some names.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RuleExpectation {
    /// What each says of itself after an evaluation; only `ok` can be asked for.
    pub health: String,
    /// Which rules, recording or alerting; `*` stands for anything, and without it all are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// So many of them; at least one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// The alerts among them that fire, all of them and no other; whichever without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<Vec<String>>,
}

/// Lines in the logs of pods.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LogExpectation {
    /// The beginning of the pods' names.
    pub pod: String,
    /// The container; the only one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What a line must contain, all of it.
    pub contains: Vec<String>,
    /// How many such lines there are in all; at least one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// The lab's explanation of what is missing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WhyExpectation {
    /// What is asked, as `lab why` takes it: a metric with label matchers, or `servicemonitor/NAMESPACE/NAME`.
    pub ask: String,
    /// What it must contain.
    pub contains: String,
}

/// What the pages of a component show, read from its pods and not from Prometheus; the series of all its pods together.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PageExpectation {
    /// The beginning of the pods' names.
    pub pod: String,
    /// The metric.
    pub metric: String,
    /// Labels that series must have to be counted; `*` stands for anything.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// So many series; at least one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<usize>,
    /// So many series at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_series: Option<usize>,
    /// Every value equals this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<f64>,
    /// The sum of the values is this at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_at_least: Option<f64>,
    /// The media type that the page says it has begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Each pod is asked so often at once, and each answer must show it; 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<usize>,
}

/// Objects of the API, by name or all of a namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectExpectation {
    /// API group; empty for core.
    #[serde(default)]
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Namespace; `{namespace}` is that of KubeVirt, and empty means all.
    #[serde(default)]
    pub namespace: String,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fields by their path with dots, such as `status.phase`, and what each is.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub fields: std::collections::BTreeMap<String, String>,
    /// What its text, as JSON, contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// So many; at least one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// PromQL that dashboards, alerts or people use: every metric of KubeVirt and every label that it reads must be one that the release has,
/// or records by a rule.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContractExpectation {
    /// The expressions.
    pub reads: Vec<String>,
}

/// Series that are held against a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SnapshotSpec {
    /// The snapshot's name; the file is `SCENARIO@RELEASE.NAME.snap`.
    pub name: String,
    /// A regular expression over whole metric names.
    pub metrics: String,
}

/// Reads `500ms`, `30s`, `5m`, `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    match &text[split..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}
