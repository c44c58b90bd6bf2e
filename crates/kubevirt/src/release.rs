//! Releases as data.

use std::collections::BTreeMap;

use metrics::{Family, Kind};
use serde::Deserialize;

/// The releases that are built in, newest first.
const BUILT_IN: &[(&str, &str)] =
    &[("v1.9.0", include_str!("../releases/v1.9.0.yaml")), ("v0.11.0", include_str!("../releases/v0.11.0.yaml"))];

const COMMON: &str = include_str!("../releases/common.yaml");

/// No such release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It is not simulated.
    #[error("KubeVirt {wanted} is not simulated; there are {}", .known.join(", "))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// Its data is broken: a bug of this crate.
    #[error("the data of KubeVirt {release} is broken: {why}")]
    Broken {
        /// Which.
        release: String,
        /// Where and why.
        why: String,
    },
}

/// A family of the catalogue, with what it shows at first.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueFamily {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its help text, in our words.
    pub help: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Upper bounds of its buckets.
    #[serde(default)]
    pub buckets: Vec<f64>,
    /// The value that it has from the start; without it there is no series before first use.
    #[serde(default)]
    pub initial: Option<f64>,
    /// Whether it appears on the leader only.
    #[serde(default)]
    pub leader: bool,
}

impl CatalogueFamily {
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
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodePatch {
    /// When it starts.
    Start,
    /// When it becomes leader.
    Leader,
}

fn yes() -> bool {
    true
}

/// What a component does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ComponentSpec {
    /// Names of groups of families.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Families of its own.
    #[serde(default)]
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
    /// Informers of every replica.
    #[serde(default)]
    pub informers: Vec<InformerSpec>,
    /// Informers of the leader.
    #[serde(default)]
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
}

/// How the client's metrics and log lines look.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientSpec {
    /// The counter of requests.
    pub requests: String,
    /// The histogram of latencies.
    pub latency: String,
    /// Whether the latency's `verb` is the HTTP method, as before kubevirt#12716, and not the Kubernetes verb.
    #[serde(default)]
    pub latency_verb_is_method: bool,
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
#[derive(Clone, Debug, Deserialize)]
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

/// Log lines of reflectors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReflectorSpec {
    /// File and line.
    pub pos: String,
    /// When a list fails; `{origin}`, `{type}`, `{error}` are filled in.
    pub message: String,
    /// When a watch fails.
    pub watch_message: String,
}

/// A release of KubeVirt.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Release {
    /// Its tag.
    pub release: String,
    /// Where it is installed.
    pub namespace: String,
    /// The manifest that virt-operator installs, below the manifests folder.
    #[serde(default)]
    pub install: Option<String>,
    /// The manifest of its PrometheusRule, which virt-operator installs besides.
    #[serde(default)]
    pub rules: Option<String>,
    /// The Go version it was built with.
    pub go_version: String,
    /// Its client.
    pub client: ClientSpec,
    /// Groups of families that components share.
    pub groups: BTreeMap<String, Vec<CatalogueFamily>>,
    /// Its components by name.
    pub components: BTreeMap<String, ComponentSpec>,
    /// Custom resources that virt-operator defines: group, version, plural, kind, short names, scope.
    #[serde(default)]
    pub definitions: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    families: Vec<CatalogueFamily>,
}

impl Release {
    /// The tags of all releases, newest first.
    pub fn known() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(tag, _)| *tag).collect()
    }

    /// A release by its tag, with or without the `v`.
    ///
    /// # Errors
    /// When it is not simulated.
    pub fn load(tag: &str) -> Result<Self, ReleaseError> {
        let wanted = format!("v{}", tag.trim_start_matches('v'));
        let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == wanted) else {
            return Err(ReleaseError::Unknown { wanted: tag.to_owned(), known: Self::known() });
        };
        let broken = |error: wire::yaml::YamlError| ReleaseError::Broken { release: (*name).to_owned(), why: error.message };
        wire::yaml::strict(text).map_err(broken)
    }

    /// The families of a component: those of every Go program, its groups', its own.
    ///
    /// # Errors
    /// When the data names a group that is not there.
    pub fn families(&self, component: &ComponentSpec) -> Result<Vec<CatalogueFamily>, ReleaseError> {
        let broken = |why: String| ReleaseError::Broken { release: self.release.clone(), why };
        let common: Common = wire::yaml::strict(COMMON).map_err(|error| broken(error.message))?;
        let mut families = common.families;
        for group in &component.groups {
            let found = self.groups.get(group).ok_or_else(|| broken(format!("no group of families {group:?}")))?;
            families.extend(found.iter().cloned());
        }
        families.extend(component.families.iter().cloned());
        Ok(families)
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
                for gauge in component.leading.iter().chain(&component.ready) {
                    assert!(names.contains(&gauge.as_str()), "{tag} {name}: {gauge} is not declared");
                }
            }
        }
        assert!(Release::load("1.9.0").is_ok());
        assert!(Release::load("v9").unwrap_err().to_string().contains("there are v1.9.0"));
    }
}
