//! Releases as data: what each exposes, does and installs. What differs between releases is in `releases/*.yaml`, not in code.

mod chain;
mod known;
mod objects;
mod rules;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use metrics::{Family, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use chain::Rename;
pub use known::ReleaseError;
pub use rules::Rule;

use crate::vm::Measure;

/// The numbers of `100..599`, both among them; nothing of another text.
fn numbers(text: &str) -> Option<Vec<String>> {
    let (first, last) = text.split_once("..")?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    Some((first..=last).map(|number| number.to_string()).collect())
}

/// A family of the catalogue, with what it shows at first.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CatalogueFamily {
    /// Its name; in the files, the key.
    #[schemars(skip)]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its help text, in our words.
    pub help: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// All values that a label has, where they are few and the same on every cluster; `100..599` stands for these numbers and those between
    /// them. A label may be absent besides.
    #[serde(default)]
    pub values: BTreeMap<String, Vec<String>>,
    /// Upper bounds of its buckets.
    #[serde(default)]
    pub buckets: Vec<f64>,
    /// The value that it has from the start; without it there is no series before first use.
    #[serde(default)]
    pub initial: Option<f64>,
    /// Whether it appears on the leader only.
    #[serde(default)]
    pub leader: bool,
    /// What it tells of VMs, if it does.
    #[serde(default)]
    pub measure: Option<Measure>,
    /// Which part of the measure it tells, by the labels of that part.
    #[serde(default)]
    pub only: BTreeMap<String, String>,
    /// Labels that the measure has under another name: the family's name for it, then the measure's.
    #[serde(default)]
    pub from: BTreeMap<String, String>,
    /// Whether its samples are taken every five seconds and shown once, each with its time.
    #[serde(default)]
    pub queued: bool,
    /// Whether the labels of a VMI come along, as `kubernetes_vmi_label_*`.
    #[serde(default)]
    pub vmi_labels: bool,
    /// What stands for a label without a value, where the release shows such labels.
    #[serde(default)]
    pub empty: Option<String>,
}

impl CatalogueFamily {
    /// The values of its labels, for each label of which all are known.
    pub fn closed_values(&self) -> BTreeMap<&str, BTreeSet<String>> {
        // What stands for a label without a value is one.
        let whole = |values: &Vec<String>| {
            let mut whole: BTreeSet<String> = self.empty.iter().cloned().collect();
            for text in values {
                whole.extend(numbers(text).unwrap_or_else(|| vec![text.clone()]));
            }
            whole
        };
        self.values.iter().map(|(label, values)| (label.as_str(), whole(values))).collect()
    }

    /// As the registry takes it.
    pub fn family(&self) -> Family {
        Family {
            name: self.name.clone(),
            kind: self.kind,
            help: self.help.clone(),
            labels: self.labels.clone(),
            buckets: self.buckets.clone(),
        }
    }
}

/// How a component watches a resource.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InformerSpec {
    /// The collection's path; `{namespace}` is the release's namespace.
    pub path: String,
    /// Another namespace for `{namespace}`.
    #[serde(default, rename = "in")]
    pub namespace: Option<String>,
    /// Selector; `{node}` is the node's name.
    #[serde(default)]
    pub label_selector: Option<String>,
    /// Selector.
    #[serde(default)]
    pub field_selector: Option<String>,
    /// The Go type in log lines.
    #[serde(default, rename = "type")]
    pub go_type: Option<String>,
    /// File and line that started the informer, in log lines of old releases.
    #[serde(default)]
    pub origin: Option<String>,
}

/// When a component labels its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodePatch {
    /// When it starts.
    Start,
    /// When it becomes leader.
    Leader,
    /// Before anything else it says that nothing is to be scheduled there (kubevirt `cmd/virt-handler` `markNodeAsUnschedulable`).
    Unschedulable,
}

fn yes() -> bool {
    true
}

/// What a component does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ComponentSpec {
    /// Names of groups of families.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Families of its own, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, CatalogueFamily>")]
    pub families: Vec<CatalogueFamily>,
    /// The gauge that tells whether it leads.
    #[serde(default)]
    pub leading: Option<String>,
    /// The gauge that tells whether it is ready.
    #[serde(default)]
    pub ready: Option<String>,
    /// Its work queues.
    #[serde(default)]
    pub queues: Vec<String>,
    /// Requests a second of its client.
    pub qps: f64,
    /// Requests at once of its client.
    pub burst: f64,
    /// How often it reads the API's groups at start.
    #[serde(default)]
    pub discovery: u32,
    /// Objects that it reads at start.
    #[serde(default)]
    pub gets: Vec<String>,
    /// Informers of every replica, by a word for each.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, InformerSpec>")]
    pub informers: Vec<InformerSpec>,
    /// Informers of the leader, by a word for each.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, InformerSpec>")]
    pub leader_informers: Vec<InformerSpec>,
    /// The Lease it elects a leader with.
    #[serde(default)]
    pub lease: Option<String>,
    /// The Endpoints object it elects a leader with, before there were Leases.
    #[serde(default)]
    pub endpoints_lock: Option<String>,
    /// Whether, leading, it installs the other components.
    #[serde(default)]
    pub installs: bool,
    /// When it labels its node.
    #[serde(default)]
    pub node_patch: Option<NodePatch>,
    /// Seconds between two heartbeats on its node.
    #[serde(default)]
    pub heartbeat: Option<u64>,
    /// Objects that each heartbeat reads first.
    #[serde(default)]
    pub heartbeat_gets: Vec<String>,
    /// Whether its client has the counting hook.
    #[serde(default = "yes")]
    pub counted: bool,
    /// Resources for which it has a client of its own without the hook: they are in the ledger and in no counter.
    #[serde(default)]
    pub uncounted: Vec<String>,
    /// How many scrapes it serves at once (`--max-metric-requests`); more are answered with 503.
    #[serde(default)]
    pub max_scrapes: Option<usize>,
    /// Whether, leading, it controls VMs.
    #[serde(default)]
    pub controls: bool,
}

/// How the client's metrics and log lines look.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientSpec {
    /// The counter of requests.
    pub requests: String,
    /// The histogram of latencies.
    pub latency: String,
    /// Whether the latency's `verb` is the HTTP method, as before kubevirt#12716, and not the Kubernetes verb.
    #[serde(default)]
    pub latency_verb_is_method: bool,
    /// Whether a watch is known by its query, and not only by `/watch/` in its path; else it counts as LIST.
    #[serde(default = "yes")]
    pub watches_by_query: bool,
    /// The histogram of waits, if the release has it.
    #[serde(default)]
    pub limiter: Option<String>,
    /// Whether Go quotes the URL in errors (since Go 1.14).
    pub quote_urls: bool,
    /// Whether Go says that it is a certificate that failed (since Go 1.20).
    #[serde(default = "yes")]
    pub verify_prefix: bool,
    /// How often one call is sent at most, where the server says Retry-After: 11 since client-go 0.23, 10 before.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// Whether a GET is sent again after an answer that was cut off, and not only after a reset (client-go `rest/with_retry.go`).
    #[serde(default = "yes")]
    pub retries_cut_off: bool,
    /// How a leader is elected.
    #[serde(default)]
    pub election: ElectionSpec,
    /// Log lines of reflectors.
    pub reflector: ReflectorSpec,
}

/// What has changed in client-go's leader election.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ElectionSpec {
    /// Whether a request is given up after the renew deadline (since client-go 0.18); it waits for ever otherwise.
    #[serde(default = "yes")]
    pub deadlines: bool,
    /// Whether a leader reads its lock before each renewal (until client-go 0.31).
    #[serde(default)]
    pub reads_first: bool,
}

impl Default for ElectionSpec {
    fn default() -> Self {
        Self { deadlines: true, reads_first: false }
    }
}

fn attempts() -> u32 {
    11
}

/// In which form the lines of client-go's own logger are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogForm {
    /// As KubeVirt's own lines: while client-go logged through glog, which KubeVirt had replaced.
    #[default]
    Json,
    /// klog's text: `E1130 18:33:32.431684       1 reflector.go:205] MESSAGE`.
    Klog,
    /// The same, with a message of keys and values (client-go since 0.33, `HandleErrorWithContext`).
    KlogStructured,
}

/// Log lines of reflectors.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReflectorSpec {
    /// Their form.
    #[serde(default)]
    pub form: LogForm,
    /// File and line of client-go.
    pub pos: String,
    /// File and line that start informers, where an informer has none of its own.
    #[serde(default)]
    pub origin: String,
    /// When a list fails; `{origin}`, `{type}`, `{error}` are filled in. Of structured lines, the error.
    pub message: String,
    /// When a watch fails.
    pub watch_message: String,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Column {
    /// Its head.
    pub name: String,
    /// `string`, `date`, `boolean` or `integer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where its value is.
    pub json_path: String,
}

/// A custom resource that virt-operator defines.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Definition {
    /// The API group; in the files, the key is `PLURAL.GROUP`.
    #[schemars(skip)]
    pub group: String,
    /// The resource's name.
    #[schemars(skip)]
    pub plural: String,
    /// The version that components use; the only one that is served here.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// Short names.
    #[serde(default)]
    pub short_names: Vec<String>,
    /// `Namespaced` or `Cluster`.
    #[serde(default = "namespaced")]
    pub scope: String,
    /// Whether its status is a subresource; a VirtualMachineInstance's is not.
    #[serde(default)]
    pub status: bool,
    /// Columns.
    #[serde(default)]
    pub columns: Vec<Column>,
}

fn namespaced() -> String {
    "Namespaced".to_owned()
}

/// A release of KubeVirt.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Release {
    /// Its tag.
    pub release: String,
    /// Where it is installed.
    pub namespace: String,
    /// Group and version of VirtualMachines and what belongs to them.
    pub api_version: String,
    /// What a user applies, below the manifests folder.
    pub manifests: Vec<String>,
    /// The manifest that virt-operator installs, below the manifests folder.
    #[serde(default)]
    pub install: Option<String>,
    /// Whether virt-operator looks for Prometheus' ServiceAccount, and makes no objects of monitoring where there is none.
    #[serde(default)]
    pub looks_for_prometheus: bool,
    /// How the release's objects differ from those in the manifests, by a word for the difference.
    #[serde(default)]
    objects: BTreeMap<String, objects::Difference>,
    /// Its rules by name, alerts and recording rules; two of one name differ by a slash and a word.
    #[serde(default)]
    pub rules: BTreeMap<String, Rule>,
    /// The groups that they are in, each in its order; without them recording rules are one group and alerts another, sorted by name.
    #[serde(default)]
    rule_groups: BTreeMap<String, Vec<String>>,
    /// The Go version it was built with.
    pub go_version: String,
    /// What the data was compared with: `sources` at the tag, its `rule generator`, its `promtool tests`, its `metrics page`, or
    /// `recorded pages` of real programs.
    #[serde(default)]
    pub compared_with: Vec<String>,
    /// Its client.
    pub client: ClientSpec,
    /// Groups of families that components share, by name.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, CatalogueFamily>>")]
    pub groups: BTreeMap<String, Vec<CatalogueFamily>>,
    /// Its components by name.
    pub components: BTreeMap<String, ComponentSpec>,
    /// Custom resources that virt-operator defines, by `PLURAL.GROUP`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Definition>")]
    pub definitions: Vec<Definition>,
}

impl Release {
    /// The JSON schema of the files that tell releases, for editors.
    pub fn schema() -> Value {
        schema::schema()
    }

    /// What has another name since a release, oldest first.
    ///
    /// # Errors
    /// When the data is broken: a bug of this crate.
    pub fn renames() -> Result<&'static [Rename], ReleaseError> {
        chain::renames().map_err(|why| ReleaseError::Broken { release: "chain".to_owned(), why })
    }

    /// A release by its tag, with or without the `v`; a minor release such as `1.7` means its newest patch that is known.
    ///
    /// # Errors
    /// When it is not simulated.
    pub fn load(tag: &str) -> Result<Self, ReleaseError> {
        let broken = |why: String| ReleaseError::Broken { release: tag.to_owned(), why };
        let links = chain::links().map_err(broken)?;
        let meant = Self::meant(tag)?;
        let whole = links.iter().find(|link| link.tag == meant).map(|link| &link.whole).unwrap_or(&Value::Null);
        Self::deserialize(whole).map_err(|error| broken(error.to_string()))
    }

    /// The families of a component: its groups' and its own.
    ///
    /// # Errors
    /// When the data names a group that is not there.
    pub fn families(&self, component: &ComponentSpec) -> Result<Vec<CatalogueFamily>, ReleaseError> {
        let mut families = Vec::new();
        for group in &component.groups {
            let broken =
                || ReleaseError::Broken { release: self.release.clone(), why: format!("no group of families {group:?}") };
            families.extend(self.groups.get(group).ok_or_else(broken)?.iter().cloned());
        }
        families.extend(component.families.iter().cloned());
        Ok(families)
    }

    /// The family of a component that tells this.
    pub(crate) fn family_of(&self, component: &ComponentSpec, measure: Measure) -> Option<String> {
        component.families.iter().find(|family| family.measure == Some(measure)).map(|family| family.name.clone())
    }

    /// Where VirtualMachines and what belongs to them are: `/apis/kubevirt.io/v1`.
    pub(crate) fn root(&self) -> String {
        format!("/apis/{}", self.api_version)
    }

    /// Objects of a manifest as this release has them: those that it does not have are left out.
    ///
    /// # Errors
    /// When a difference of the release does not fit: a bug of this crate.
    pub fn objects(&self, manifests: Vec<Value>) -> Result<Vec<Value>, ReleaseError> {
        objects::differ(self, manifests).map_err(|why| ReleaseError::Broken { release: self.release.clone(), why })
    }

    /// The PrometheusRule that its virt-operator makes, if it makes any.
    ///
    /// # Errors
    /// As for [`Release::objects`].
    pub fn prometheus_rule(&self) -> Result<Option<Value>, ReleaseError> {
        Ok(self.objects(rules::object(self).into_iter().collect())?.pop())
    }

    /// The groups of its rules, for a KubeVirt that is installed in this namespace.
    pub fn rule_groups(&self, namespace: &str) -> Vec<Value> {
        rules::groups(self, namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_is_whole() {
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            assert_eq!(release.release, tag);
            for (name, component) in &release.components {
                let families = release.families(component).unwrap();
                let mut names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
                names.sort_unstable();
                let count = names.len();
                names.dedup();
                assert_eq!(names.len(), count, "{tag} {name}: a family comes twice");
                let shown = |family: &CatalogueFamily| {
                    !(family.labels.is_empty() && family.measure.is_none() && family.initial.is_none())
                };
                let odd: Vec<&str> =
                    component.families.iter().filter(|family| !shown(family)).map(|family| family.name.as_str()).collect();
                assert!(odd.is_empty(), "{tag} {name}: nothing would ever show {odd:?}");
                for gauge in component.leading.iter().chain(&component.ready) {
                    assert!(names.contains(&gauge.as_str()), "{tag} {name}: {gauge} is not declared");
                }
            }
        }
        assert!(Release::load("1.9.0").is_ok());
    }

    /// Values are those of labels that are there, and none is told twice.
    #[test]
    fn values_are_those_of_labels() {
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            for component in release.components.values() {
                for family in release.families(component).unwrap() {
                    for (label, values) in &family.values {
                        assert!(
                            family.labels.contains(label),
                            "{tag}: {} has values of {label:?}, but no such label",
                            family.name
                        );
                        assert!(values.iter().collect::<BTreeSet<_>>().len() == values.len(), "{tag}: {} {label}", family.name);
                    }
                }
            }
        }
        let release = Release::load("v1.9.0").unwrap();
        let families = release.families(&release.components["virt-controller"]).unwrap();
        let closed =
            |name: &str, label: &str| families.iter().find(|family| family.name == name).unwrap().closed_values()[label].clone();
        let codes = closed("kubevirt_rest_client_requests_total", "code");
        assert!(["100", "404", "599", "<error>"].iter().all(|code| codes.contains(*code)) && codes.len() == 501);
        // The metric has them in small letters, kubectl does not.
        let statuses = closed("kubevirt_vm_info", "status");
        assert!(statuses.contains("running") && statuses.contains("waitingforreceiver") && !statuses.contains("Running"));
        assert!(closed("kubevirt_vmi_phase_transition_time_seconds", "phase").contains("Running"));
        assert!(closed("kubevirt_vmi_info", "phase").contains("running"));
    }

    #[test]
    fn what_a_release_watches_it_also_defines() {
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            if release.install.is_none() {
                continue;
            }
            for (name, component) in &release.components {
                for informer in component.informers.iter().chain(&component.leader_informers) {
                    let path = informer.path.replace("{kubevirt}", &release.root());
                    let parts: Vec<&str> = path.trim_start_matches("/apis/").split('/').collect();
                    let [group, version, plural] = parts[..] else { continue };
                    if !group.ends_with("kubevirt.io") || plural == "kubevirts" {
                        continue;
                    }
                    let defined = release.definitions.iter().any(|definition| {
                        (definition.group.as_str(), definition.version.as_str(), definition.plural.as_str())
                            == (group, version, plural)
                    });
                    assert!(defined, "{tag} {name}: {path} is not defined");
                }
            }
        }
    }

    #[test]
    fn renames_are_told_with_their_release() {
        let renames = Release::renames().unwrap();
        let of = |before: &str| renames.iter().find(|rename| rename.before == before).unwrap();
        let rename = of("rest_client_requests_total");
        assert_eq!((rename.after.as_str(), rename.release.as_str()), ("kubevirt_rest_client_requests_total", "v1.3.0"));
        assert_eq!(of("kubevirt_vmi_vcpu_seconds").after, "kubevirt_vmi_vcpu_seconds_total");
    }
}
