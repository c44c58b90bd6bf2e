//! Normal form: what differs from run to run is replaced, so that two runs give the same text.
//!
//! What is replaced is decided by the label's name where the name says what the value is (`pod`, `node`, `uid`), and by the value's shape
//! everywhere (UUIDs, addresses, MAC addresses). Placeholders are in brackets, as KubeVirt's own `<none>` and `<other>` are not.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::generated;
use crate::nodes::Nodes;
use crate::redaction::Redactor;
use crate::series::{Sample, Series};
use crate::rendering::{self, Bound};

/// Names that a cluster is known to have made up. Where there is no cluster, names are known by their shape.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Names of pods, ReplicaSets and Jobs, and the normal form of each; one that is its own normal form stays as it is.
    pub generated: BTreeMap<String, String>,
    /// Names of nodes, wherever an instance or an owner may be one.
    pub nodes: BTreeSet<String>,
}

/// Replaces what differs between runs: names of pods and nodes, addresses, identifiers, versions of tools.
#[derive(Default)]
pub struct Normaliser {
    redactor: Redactor,
    names: Names,
}

/// What a label's name says of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The name of a pod.
    Pod,
    /// The name of a node.
    Node,
    /// The name of what owns pods, or of a node.
    Owner,
    /// A name to which a suffix was added.
    Suffixed,
    /// An address or a node: where a target is.
    Instance,
    /// Where the Kubernetes API is.
    Host,
    /// A URL of the Kubernetes API.
    Url,
    /// The identifier of an object.
    Uid,
    /// The identifier of a container, or of what it runs in.
    Container,
    /// The identifier of a machine.
    Machine,
    /// A hash of a template.
    Hash,
    /// The version of a tool.
    Version,
    /// A version of something else: `1.2.3.4` is no address.
    OtherVersion,
    /// A number that Prometheus 3 writes as `1.0` where 2 writes `1`.
    Number,
    /// Nothing.
    Other,
}

impl Role {
    pub(crate) fn of(label: &str) -> Self {
        match label {
            "pod" | "exported_pod" | "pod_name" => Self::Pod,
            "node" | "exported_node" | "nodename" | "node_name" | "kubernetes_node" | "kubernetes_io_hostname" => Self::Node,
            "replicaset" | "job_name" | "owner_name" | "created_by_name" => Self::Owner,
            "endpointslice" | "vmim" | "migration_name" => Self::Suffixed,
            "instance" => Self::Instance,
            "host" => Self::Host,
            "url" => Self::Url,
            "uid" => Self::Uid,
            "container_id" | "id" | "name" => Self::Container,
            "machine_id" => Self::Machine,
            "goversion" | "kubeversion" => Self::Version,
            "le" | "quantile" => Self::Number,
            _ if label.ends_with("_pod") => Self::Pod,
            _ if label.ends_with("_node") => Self::Node,
            _ if label.ends_with("_uid") => Self::Uid,
            _ if label.ends_with("pod_template_hash") || label.ends_with("controller_revision_hash") => Self::Hash,
            _ if label.contains("version") => Self::OtherVersion,
            _ => Self::Other,
        }
    }
}

/// Values that stand for no node.
pub(crate) fn is_no_node(value: &str) -> bool {
    matches!(value, "" | "<none>" | "<unknown>" | "none" | "unknown")
}

/// Whether a value may have a shape that is replaced whatever its label is; cheap, and true more often than it is.
pub(crate) fn is_suspect(value: &str) -> bool {
    value.len() >= 36 || memchr::memchr(b':', value.as_bytes()).is_some() || (value.len() >= 7 && value.as_bytes()[0].is_ascii_digit())
}

/// What is replaced whatever the label is.
fn by_shape(role: Role, value: &str) -> Option<String> {
    if !is_suspect(value) {
        return None;
    }
    if generated::is_mac(value) {
        return Some("[mac]".to_owned());
    }
    let is_version = matches!(role, Role::Version | Role::OtherVersion);
    if let Some(found) = generated::address(value).filter(|_| !is_version) {
        return Some(found);
    }
    let of_url = generated::url(value).map(|(scheme, authority, path)| {
        let host = generated::address(authority).unwrap_or_default();
        format!("{scheme}://{host}{path}")
    });
    let without = generated::uuids(of_url.as_deref().unwrap_or(value));
    without.or(of_url)
}

impl Normaliser {
    /// One that leaves out and replaces what a user wants before it replaces what is made up.
    pub fn new(redactor: Redactor, names: Names) -> Self {
        Self { redactor, names }
    }

    /// What the user wants.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// A label's value in normal form, but for nodes, which are numbered when all series are known.
    pub(crate) fn value<'a>(&self, label: &str, value: &'a str) -> Cow<'a, str> {
        if let Some(new) = self.redactor.replaced(label, value) {
            return new.into();
        }
        let role = Role::of(label);
        let by_name = match role {
            Role::Pod => self.known(value, generated::pod),
            Role::Owner => self.known(value, generated::owner),
            Role::Suffixed => generated::suffixed(value),
            Role::Host => generated::address(value).map(|_| "[apiserver]".to_owned()),
            Role::Url => generated::url(value).map(|(scheme, _, path)| {
                let whole = format!("{scheme}://[apiserver]{path}");
                generated::uuids(&whole).unwrap_or(whole)
            }),
            // A number is a user of the system, such as that of a process.
            Role::Uid if value.len() <= 10 && value.bytes().all(|digit| digit.is_ascii_digit()) => None,
            Role::Uid => Some("[uid]".to_owned()),
            Role::Container => {
                let without = generated::container_ids(value);
                let both = generated::uuids(without.as_deref().unwrap_or(value));
                both.or(without)
            }
            Role::Machine if generated::is_hex(value, 32) => Some("[id]".to_owned()),
            Role::Hash => Some("[hash]".to_owned()),
            Role::Version => Some("[version]".to_owned()),
            Role::Number => whole_number(value).map(str::to_owned),
            Role::Node | Role::Instance | Role::Machine | Role::OtherVersion | Role::Other => None,
        };
        // A name of a node may be an address; it is a node for all that.
        let is_node = role == Role::Node || (matches!(role, Role::Instance | Role::Owner) && self.names.nodes.contains(value));
        if by_name.is_none() && is_node {
            return value.into();
        }
        match by_name.or_else(|| by_shape(role, value)) {
            Some(new) => new.into(),
            None => value.into(),
        }
    }

    /// The normal form of a name that the cluster is known to have made up, or that looks so.
    fn known(&self, name: &str, by_shape: impl Fn(&str) -> Option<String>) -> Option<String> {
        match self.names.generated.get(name) {
            Some(normal) => (normal != name).then(|| normal.clone()),
            None => by_shape(name),
        }
    }

    /// Whether a value of a label, which is in normal form but for nodes, is a node's name.
    pub(crate) fn is_node(&self, label: &str, value: &str) -> bool {
        Role::of(label) == Role::Node && !self.redactor.replaces(label) && !is_no_node(value)
    }

    /// Whether a node's name may be the value of a label that mostly has something else.
    pub(crate) fn may_be_node(&self, label: &str) -> bool {
        matches!(Role::of(label), Role::Instance | Role::Owner) && !self.redactor.replaces(label)
    }

    /// Whether this is the name of a node that is known beforehand.
    pub(crate) fn knows_node(&self, value: &str) -> bool {
        self.names.nodes.contains(value)
    }

    /// A series in normal form, but for nodes, whose numbers follow from all series: see [`Normaliser::all`].
    pub fn series(&self, series: &Series) -> Series {
        let kept = series.labels.iter().filter(|(label, value)| !value.is_empty() && !self.redactor.drops(label));
        let labels = kept.map(|(label, value)| (label.clone(), self.value(label, value).into_owned()));
        Series { name: series.name.clone(), labels: labels.filter(|(_, value)| !value.is_empty()).collect() }
    }

    /// All series that the user wants, in normal form, each once, with the values of those that it stands for in order.
    pub fn all(&self, samples: &[Sample]) -> BTreeMap<Series, Vec<f64>> {
        let mut found: BTreeMap<Series, Vec<f64>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| self.redactor.takes(&sample.series.name)) {
            found.entry(self.series(&sample.series)).or_default().push(sample.value);
        }
        found.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
        self.numbered(found)
    }

    /// The text of a snapshot: what [`crate::render`] writes of these series, with values if the user wants them.
    pub fn snapshot(&self, samples: &[Sample]) -> String {
        let all = self.all(samples);
        let none = [];
        rendering::write(all.iter().map(|(series, values)| {
            (series, if self.redactor.has_values() { values.as_slice() } else { &none })
        }))
    }

    /// Nodes replaced by their numbers.
    fn numbered(&self, series: BTreeMap<Series, Vec<f64>>) -> BTreeMap<Series, Vec<f64>> {
        let mut nodes = Nodes::default();
        for (label, value) in series.keys().flat_map(|series| &series.labels) {
            if self.is_node(label, value) || (self.may_be_node(label) && self.knows_node(value)) {
                nodes.add(value.as_bytes());
            }
        }
        if nodes.is_empty() {
            return series;
        }
        let may_be = |label: &str, value: &str| self.is_node(label, value) || self.may_be_node(label);
        // Bounds of one histogram are one series, as they are one line.
        let mut lines: BTreeMap<(&str, Vec<(&str, &str)>), (Vec<Bound<'_>>, Vec<u64>)> = BTreeMap::new();
        for (one, values) in &series {
            let own = one.labels.iter().filter(|(label, _)| *label != "le");
            let own = own.map(|(label, value)| (label.as_str(), value.as_str())).collect();
            let line = lines.entry((one.name.as_str(), own)).or_default();
            line.0.extend(one.labels.get("le").map(|bound| Bound(bound)));
            // Values that are shown tell nodes apart, too.
            if self.redactor.has_values() {
                line.1.extend(values.iter().map(|value| value.to_bits()));
            }
        }
        for ((name, labels), (mut bounds, values)) in lines {
            bounds.sort();
            let pairs = labels.iter().map(|(label, value)| (label.as_bytes(), value.as_bytes(), may_be(label, value)));
            nodes.occur(pairs, |text| (name, text, bounds, values));
        }
        let numbers = nodes.numbers();
        let renamed = series.iter().map(|(one, values)| {
            let labels = one.labels.iter().map(|(label, value)| {
                let number = numbers.get(value.as_bytes()).filter(|_| may_be(label, value));
                (label.clone(), number.cloned().unwrap_or_else(|| value.clone()))
            });
            (Series { name: one.name.clone(), labels: labels.collect() }, values.clone())
        });
        renamed.collect()
    }
}

/// A number without the `.0` that Prometheus 3 writes.
fn whole_number(value: &str) -> Option<&str> {
    let whole = value.strip_suffix(".0")?;
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { name: name.to_owned(), labels }
    }

    #[test]
    fn volatile_values_go_and_words_stay() {
        let normal = Normaliser::default();
        for (label, value, expected) in [
            ("pod", "virt-api-69c9ccc49f-wvbvz", "virt-api-*"),
            ("pod", "virt-handler-qpxjh", "virt-handler-*"),
            ("pod", "prometheus-k8s-0", "prometheus-k8s-0"),
            ("instance", "127.9.1.2:8443", "<address>:8443"),
            ("host", "10.96.0.1:443", "<apiserver>"),
            ("url", "https://10.96.0.1:443/api/v1/pods", "https://<apiserver>/api/v1/pods"),
            ("le", "1.0", "1"),
            ("le", "0.5", "0.5"),
            ("code", "200", "200"),
        ] {
            assert_eq!(normal.series(&series("m", &[(label, value)])).label(label), expected, "{label}={value}");
        }
    }




    proptest::proptest! {
        #[test]
        fn normal_form_is_a_fixed_point(value in ".{0,30}") {
            let normal = Normaliser::default();
            for label in ["pod", "instance", "host", "url", "le"] {
                let once = normal.series(&series("m", &[(label, &value)]));
                proptest::prop_assert_eq!(&normal.series(&once), &once);
            }
        }
    }
}
