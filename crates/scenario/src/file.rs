//! A scenario file as it is written, for serde and for the JSON schema. [`crate::resolve`] makes a [`crate::Scenario`] of it, in which
//! nothing is left to be wrong; only that one is run.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::model::{Declared, Regression, Survivor};
use crate::place::Located;
use crate::word::{AlertState, NotificationStatus, Pattern, ProviderName, RuleHealth, Stack, Text, Written};

/// A scenario.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scenario")]
pub(crate) struct ScenarioFile {
    /// What it shows, in a sentence or two.
    pub(crate) description: String,
    /// What it runs on.
    #[serde(default)]
    pub(crate) given: GivenFile,
    /// What is done, in order.
    pub(crate) steps: Located<Vec<Located<StepFile>>>,
    /// What must hold afterwards, in order.
    #[serde(default)]
    pub(crate) expect: Vec<Located<ExpectationFile>>,
    /// Series that are compared with a file.
    #[serde(default)]
    pub(crate) snapshot: Vec<Located<SnapshotFile>>,
    /// Whether the ledger must equal the change of the components' counters, for every code.
    #[serde(default)]
    pub(crate) reconcile: Option<Located<bool>>,
    /// What it reproduces, if it is one of the catalogue of regressions.
    #[serde(default)]
    pub(crate) regression: Option<Regression>,
    /// What is otherwise where the regression is; the scenario must fail there, as `fails` says.
    #[serde(default)]
    pub(crate) broken: Option<Located<VariantFile>>,
    /// What is otherwise where it is fixed; the scenario must pass there.
    #[serde(default)]
    pub(crate) mended: Option<Located<VariantFile>>,
    /// What may differ from provider to provider; what differs and is not here fails `scenario run --parity`.
    #[serde(default)]
    pub(crate) parity: Vec<Located<DeclaredFile>>,
    /// Changes that `scenario mutate` makes without the scenario failing, each with the reason why that is right.
    #[serde(default)]
    pub(crate) survivors: Vec<Located<Survivor>>,
}

/// A difference between providers that is as it should be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Declared")]
pub(crate) struct DeclaredFile {
    /// What differs: the line of a report, or `snapshot NAME`.
    pub(crate) differs: Written<Text>,
    /// On which provider; on any without it.
    #[serde(default)]
    pub(crate) on: Option<Written<ProviderName>>,
    /// Why.
    pub(crate) reason: Written<Text>,
}

impl DeclaredFile {
    pub(crate) fn into_declared(self, on: Option<ProviderName>) -> Declared {
        Declared { differs: self.differs.text, on, reason: self.reason.text }
    }
}

/// Releases of KubeVirt: a list, on each of which the scenario runs once; `any`; or a range such as `">=1.5"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Releases")]
pub(crate) enum ReleasesFile {
    /// One release, `any`, or comparisons with a space between them, such as `">=1.5 <1.9"`.
    One(#[schemars(with = "ReleaseWords")] String),
    /// Releases; the scenario runs once on each.
    Many(#[schemars(with = "Vec<ReleaseName>")] Vec<String>),
}

impl Default for ReleasesFile {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// Stands for the names of releases in the schema.
#[derive(JsonSchema)]
#[schemars(rename = "Release")]
pub(crate) struct ReleaseName(#[expect(dead_code, reason = "only its schema is used")] String);

/// Stands for `any` and ranges in the schema.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(crate) struct ReleaseWords(
    #[schemars(regex(pattern = r"^(any|v?[0-9]+(\.[0-9]+)*|((>=|<=|>|<|=)\s*v?[0-9]+(\.[0-9]+)*\s*,?\s*)+)$"))]
    #[expect(dead_code, reason = "only its schema is used")]
    String,
);

/// What a scenario runs on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Given")]
pub(crate) struct GivenFile {
    /// Releases of KubeVirt: a list, on each of which the scenario runs once; `any`; or a range such as `">=1.5"`.
    #[schemars(with = "ReleasesFile")]
    pub(crate) kubevirt: Option<Located<ReleasesFile>>,
    /// How alerts are evaluated.
    pub(crate) alerts: AlertsFile,
    /// How much of kube-prometheus there is: `none`, `small` or `full`.
    pub(crate) stack: Option<Written<Stack>>,
    /// Defects that the simulated components have, by their names.
    #[schemars(with = "Vec<DefectName>")]
    pub(crate) defects: Vec<Located<String>>,
}

/// Stands for the names of defects in the schema.
#[derive(JsonSchema)]
#[schemars(rename = "Defect")]
pub(crate) struct DefectName(#[expect(dead_code, reason = "only its schema is used")] String);

/// How alerts are evaluated.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Alerts")]
pub(crate) struct AlertsFile {
    /// Without pending times and with ranges of a minute, so that they come soon; the objects stay as they are.
    pub(crate) fast: bool,
}

/// What is otherwise in one of the two variants of a regression.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Variant")]
pub(crate) struct VariantFile {
    /// Another release of KubeVirt.
    #[schemars(with = "Option<ReleaseName>")]
    pub(crate) kubevirt: Option<Located<String>>,
    /// Defects of the simulated components.
    #[schemars(with = "Vec<DefectName>")]
    pub(crate) defects: Vec<Located<String>>,
    /// Steps after the common ones.
    pub(crate) steps: Vec<Located<StepFile>>,
    /// Expectations before the common ones.
    pub(crate) expect: Vec<Located<ExpectationFile>>,
    /// Which expectations fail, and how; of the broken variant alone.
    pub(crate) fails: Vec<Located<FailingFile>>,
}

/// An expectation that is not met.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Failing")]
pub(crate) struct FailingFile {
    /// A part of its line in the report.
    pub(crate) expect: Written<Text>,
    /// A part of what the report says.
    pub(crate) says: Written<Text>,
    /// How long it is looked at before it is said to fail; `1s` without it.
    #[serde(default)]
    pub(crate) within: Option<Written<Duration>>,
}

/// One step; exactly one key.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "Step", extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct StepFile {
    /// Wait for a state.
    pub(crate) wait: Option<Located<WaitFile>>,
    /// Arm a fault.
    pub(crate) fault: Option<faults::Rule>,
    /// Clear the fault of this name.
    pub(crate) clear_fault: Option<String>,
    /// Clear all faults.
    #[schemars(with = "Option<True>")]
    pub(crate) clear_faults: Option<bool>,
    /// Delete objects.
    pub(crate) delete: Option<DeleteFile>,
    /// Apply an object.
    #[schemars(with = "Option<ObjectFile>")]
    pub(crate) apply: Option<Value>,
}

/// Stands for `true` in the schema.
#[derive(JsonSchema)]
#[schemars(transparent, extend("const" = true))]
pub(crate) struct True(#[expect(dead_code, reason = "only its schema is used")] bool);

/// Stands for objects of the API in the schema.
#[derive(JsonSchema)]
#[schemars(rename = "Object", rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ObjectFile {
    /// Group and version, such as `apps/v1`.
    pub(crate) api_version: String,
    /// The kind.
    pub(crate) kind: String,
    /// At least a name.
    pub(crate) metadata: Value,
}

/// A state to wait for; exactly one besides `within`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "Wait")]
pub(crate) struct WaitFile {
    /// All workloads are there and their pods ready.
    #[schemars(with = "Option<True>")]
    pub(crate) up: Option<bool>,
    /// All KubeVirt targets are up: as many as there are pods with metrics.
    #[schemars(with = "Option<True>")]
    pub(crate) targets: Option<bool>,
    /// A query's result meets a condition.
    pub(crate) query: Option<QueryFile>,
    /// Alertmanager has sent a notification.
    pub(crate) notification: Option<NotificationFile>,
    /// A fault has used its budget up.
    pub(crate) fault_spent: Option<String>,
    /// A component's own page shows it.
    pub(crate) page: Option<PageFile>,
    /// Objects are as they are to be.
    pub(crate) object: Option<ObjectsFile>,
    /// The deadline, such as `30s`; `60s` without it.
    pub(crate) within: Option<Written<Duration>>,
}

/// Objects to delete, by name or by labels.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Delete")]
pub(crate) struct DeleteFile {
    /// API group; empty for core.
    #[serde(default)]
    pub(crate) group: String,
    /// Plural resource name.
    pub(crate) resource: String,
    /// Namespace; `{namespace}` is that of KubeVirt.
    #[serde(default)]
    pub(crate) namespace: String,
    /// Name.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Label selector.
    #[serde(default)]
    pub(crate) labels: Option<String>,
}

/// Something that must hold; exactly one besides the times and `only`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "Expectation")]
pub(crate) struct ExpectationFile {
    /// A query's result.
    pub(crate) query: Option<QueryFile>,
    /// Targets of the KubeVirt Service.
    pub(crate) targets: Option<TargetsFile>,
    /// Alerts.
    pub(crate) alerts: Option<AlertsExpectedFile>,
    /// What Alertmanager has sent.
    pub(crate) notification: Option<NotificationFile>,
    /// Prometheus' rules.
    pub(crate) rules: Option<RulesFile>,
    /// Lines of logs.
    pub(crate) logs: Option<LogsFile>,
    /// What the lab says about a series that is missing.
    pub(crate) why: Option<WhyFile>,
    /// What a component's own page shows.
    pub(crate) page: Option<PageFile>,
    /// Objects of the API.
    pub(crate) object: Option<ObjectsFile>,
    /// What expressions read is there.
    pub(crate) contract: Option<ContractFile>,
    /// It must hold at the latest after this time; `60s` without it.
    pub(crate) within: Option<Written<Duration>>,
    /// It must hold all this time, from when it first holds.
    #[serde(rename = "for")]
    pub(crate) hold: Option<Written<Duration>>,
    /// Only on these releases.
    #[schemars(with = "Vec<ReleaseName>")]
    pub(crate) only: Vec<Located<String>>,
}

/// A query and what its result must be. Without a condition it must have at least one series.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Query")]
pub(crate) struct QueryFile {
    /// PromQL; `{requests}` is the release's counter of requests, `{namespace}` its namespace.
    pub(crate) expr: Written<Text>,
    /// Every value equals this.
    #[serde(default)]
    pub(crate) equals: Option<f64>,
    /// Every value is at least this.
    #[serde(default)]
    pub(crate) at_least: Option<f64>,
    /// Every value is at most this.
    #[serde(default)]
    pub(crate) at_most: Option<f64>,
    /// So many series.
    #[serde(default)]
    pub(crate) series: Option<usize>,
    /// Each series has these labels; `*` stands for anything.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, Written<Pattern>>,
}

/// Targets of the KubeVirt Service; at least one of the two.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Targets", extend("minProperties" = 1))]
pub(crate) struct TargetsFile {
    /// So many in all; `expected` is as many as there are pods with metrics.
    #[serde(default)]
    pub(crate) count: Option<CountFile>,
    /// Every one that there is is up, and there are as many as pods with metrics.
    #[serde(default)]
    #[schemars(with = "Option<True>")]
    pub(crate) all_up: Option<bool>,
}

/// A number, or `expected`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Count")]
pub(crate) enum CountFile {
    /// So many.
    Number(usize),
    /// As many as there are pods with metrics: `expected`.
    Word(#[schemars(regex(pattern = "^expected$"))] String),
}

/// Alerts by name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "AlertsExpected")]
pub(crate) struct AlertsExpectedFile {
    /// Their names; each must be there with healthy rules.
    #[schemars(length(min = 1))]
    pub(crate) names: Vec<Written<Text>>,
    /// `inactive`, `pending` or `firing`; `resolved` for one that has fired and is inactive.
    pub(crate) state: Written<AlertState>,
    /// Labels that one alert of each, pending or firing, has; `*` stands for anything.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, Written<Pattern>>,
}

/// A notification that Alertmanager has sent to the lab.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Notification")]
pub(crate) struct NotificationFile {
    /// The alert's name; `*` stands for anything.
    pub(crate) alert: Written<Text>,
    /// `firing` or `resolved`; either without it.
    #[serde(default)]
    pub(crate) status: Option<Written<NotificationStatus>>,
    /// Labels that it has; `*` stands for anything.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, Written<Pattern>>,
    /// So many in all; at least one without it.
    #[serde(default)]
    pub(crate) count: Option<usize>,
}

/// Prometheus' rules, all or those of some names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Rules")]
pub(crate) struct RulesFile {
    /// What each says of itself after an evaluation; only `ok` can be asked for.
    pub(crate) health: Written<RuleHealth>,
    /// Which rules, recording or alerting; `*` stands for anything, and without it all are meant.
    #[serde(default)]
    pub(crate) names: Option<Written<Text>>,
    /// So many of them; at least one without it.
    #[serde(default)]
    pub(crate) count: Option<usize>,
    /// The alerts among them that fire, all of them and no other; whichever without it.
    #[serde(default)]
    pub(crate) firing: Option<Vec<Written<Text>>>,
}

/// Lines in the logs of pods.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Logs")]
pub(crate) struct LogsFile {
    /// The beginning of the pods' names.
    pub(crate) pod: Written<Text>,
    /// The container; the only one without it.
    #[serde(default)]
    pub(crate) container: Option<String>,
    /// What a line must contain, all of it.
    #[schemars(length(min = 1))]
    pub(crate) contains: Vec<Written<Text>>,
    /// How many such lines there are in all; at least one without it.
    #[serde(default)]
    pub(crate) count: Option<usize>,
}

/// The lab's explanation of what is missing.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Why")]
pub(crate) struct WhyFile {
    /// What is asked, as `lab why` takes it: a metric with label matchers, or `servicemonitor/NAMESPACE/NAME`.
    pub(crate) ask: Written<Text>,
    /// What it must contain.
    pub(crate) contains: Written<Text>,
}

/// What the pages of a component show, read from its pods and not from Prometheus; the series of all its pods together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Page")]
pub(crate) struct PageFile {
    /// The beginning of the pods' names.
    pub(crate) pod: Written<Text>,
    /// The metric.
    pub(crate) metric: Written<Text>,
    /// Labels that series must have to be counted; `*` stands for anything.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, Written<Pattern>>,
    /// So many series; at least one without it.
    #[serde(default)]
    pub(crate) series: Option<usize>,
    /// So many series at most.
    #[serde(default)]
    pub(crate) at_most_series: Option<usize>,
    /// Every value equals this.
    #[serde(default)]
    pub(crate) equals: Option<f64>,
    /// The sum of the values is at least this.
    #[serde(default)]
    pub(crate) sum_at_least: Option<f64>,
    /// The media type that the page says it has begins so.
    #[serde(default)]
    pub(crate) content_type: Option<Written<Text>>,
    /// Each pod is asked so many times at once, and each answer must show it; 1 without it.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) at_once: Option<usize>,
}

/// Objects of the API, by name or all of a namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Objects")]
pub(crate) struct ObjectsFile {
    /// API group; empty for core.
    #[serde(default)]
    pub(crate) group: String,
    /// Plural resource name.
    pub(crate) resource: String,
    /// Namespace; `{namespace}` is that of KubeVirt, and empty means all.
    #[serde(default)]
    pub(crate) namespace: String,
    /// Name.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Fields by their path with dots, such as `status.phase`, and what each is.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, Written<Pattern>>,
    /// What its text, as JSON, contains.
    #[serde(default)]
    pub(crate) contains: Option<Written<Text>>,
    /// So many; at least one without it.
    #[serde(default)]
    pub(crate) count: Option<usize>,
}

/// PromQL that dashboards, alerts or people use: every metric of KubeVirt and every label that it reads must be one that the release has,
/// or records by a rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Contract")]
pub(crate) struct ContractFile {
    /// The expressions.
    #[schemars(length(min = 1))]
    pub(crate) reads: Vec<Written<Text>>,
}

/// Series that are compared with a file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Snapshot")]
pub(crate) struct SnapshotFile {
    /// The snapshot's name; the file is `SCENARIO@RELEASE.NAME.snap`.
    pub(crate) name: Written<Text>,
    /// A regular expression over whole metric names.
    pub(crate) metrics: Written<Text>,
    /// Labels that are left out or replaced.
    #[serde(default)]
    pub(crate) labels: metrics::LabelRedaction,
    /// Whether values are in the snapshot; without it only series are, since most values differ from run to run.
    #[serde(default)]
    pub(crate) values: bool,
}
