//! Normal form: what differs from run to run is replaced, so that two runs give the same text.
//!
//! What is replaced is decided by the label's name where the name says what the value is (`pod`, `node`, `uid`), and by the value's shape
//! everywhere (UUIDs, addresses, MAC addresses). Placeholders are in brackets, as KubeVirt's own `<none>` and `<other>` are not.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::generated;
use crate::nodes::Nodes;
use crate::redaction::Redactor;
use crate::rendering::{self, Bound};
use crate::series::{Sample, Series};

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
            "node" | "exported_node" | "nodename" | "node_name" | "kubernetes_node" => Self::Node,
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
            // Of labels of objects: kubevirt.io/nodeName, kubernetes.io/hostname.
            _ if label.ends_with("_node") || label.ends_with("odeName") || label.ends_with("kubernetes_io_hostname") => {
                Self::Node
            }
            _ if label.ends_with("_uid") => Self::Uid,
            _ if label.ends_with("pod_template_hash") || label.ends_with("controller_revision_hash") => Self::Hash,
            _ if label.contains("version") => Self::OtherVersion,
            _ => Self::Other,
        }
    }
}

/// The name and the labels without `le` of series that are one line of a snapshot.
type Line<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Values that stand for no node.
pub(crate) fn is_no_node(value: &str) -> bool {
    matches!(value, "" | "<none>" | "<unknown>" | "none" | "unknown" | "true" | "false")
}

/// Whether a value may have a shape that is replaced whatever its label is; cheap, and true more often than it is.
pub(crate) fn is_suspect(value: &str) -> bool {
    value.len() >= 36
        || memchr::memchr(b':', value.as_bytes()).is_some()
        || (value.len() >= 7 && value.as_bytes()[0].is_ascii_digit())
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

    /// Whether this is the name of a node that is known beforehand, or the placeholder of one in a text that is normal already.
    pub(crate) fn knows_node(&self, value: &str) -> bool {
        let number = value.strip_prefix("[node-").and_then(|rest| rest.strip_suffix(']'));
        self.names.nodes.contains(value) || number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
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
        rendering::write(
            all.iter().map(|(series, values)| (series, if self.redactor.has_values() { values.as_slice() } else { &none })),
        )
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
        let mut lines: BTreeMap<Line<'_>, (Vec<Bound<'_>>, Vec<u64>)> = BTreeMap::new();
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
    use proptest::prelude::*;

    use super::*;
    use crate::redaction::Redaction;
    use crate::{Recorder, render};

    fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sample { series: Series { name: name.to_owned(), labels }, value }
    }

    fn redacting(json: serde_json::Value) -> Normaliser {
        let redaction: Redaction = serde_json::from_value(json).unwrap();
        Normaliser::new(redaction.compile().unwrap(), Names::default())
    }

    #[test]
    fn volatile_values_go_and_words_stay() {
        let normal = Normaliser::default();
        let (uuid, id) = ("0a1b2c3d-0000-4000-8000-0123456789ab", "0123456789abcdef".repeat(4));
        for (label, value, expected) in [
            ("pod", "virt-api-69c9ccc49f-wvbvz", "virt-api-*"),
            ("pod", "virt-handler-qpxjh", "virt-handler-*"),
            ("pod", "prometheus-k8s-0", "prometheus-k8s-0"),
            ("exported_pod", "web-69c9ccc49f-wvbvz", "web-*"),
            ("vmi_pod", "virt-launcher-fedora-b8hhd", "virt-launcher-fedora-*"),
            ("name", "web-qpxjh", "web-qpxjh"),
            ("instance", "127.9.1.2:8443", "[address]:8443"),
            ("instance", "[fd00::1]:8443", "[address]:8443"),
            ("instance", "localhost:9090", "localhost:9090"),
            ("address", "10.244.0.7", "[address]"),
            ("address", "fd00:10:244::7", "[address]"),
            ("version", "1.2.3.4", "1.2.3.4"),
            ("host", "10.96.0.1:443", "[apiserver]"),
            ("host", "[fd00:10:96::1]:443", "[apiserver]"),
            ("host", "api.example.com:6443", "api.example.com:6443"),
            ("url", "https://10.96.0.1:443/api/v1/pods", "https://[apiserver]/api/v1/pods"),
            ("url", "https://[fd00::1]:443/api?timeout=32s", "https://[apiserver]/api?timeout=32s"),
            ("target", "http://10.0.0.7:8080/x", "http://[address]:8080/x"),
            ("uid", uuid, "[uid]"),
            ("pod_uid", uuid, "[uid]"),
            ("uid", "107", "107"),
            ("persistentvolume", &format!("pvc-{uuid}"), "pvc-[uuid]"),
            ("container_id", &format!("containerd://{id}"), "containerd://[id]"),
            ("id", &format!("/kubepods/burstable/pod{uuid}/{id}"), "/kubepods/burstable/pod[uuid]/[id]"),
            ("mac", "02:00:00:ab:cd:ef", "[mac]"),
            ("machine_id", "0123456789abcdef0123456789abcdef", "[id]"),
            ("replicaset", "virt-api-69c9ccc49f", "virt-api-*"),
            ("owner_name", "backup-28394825", "backup-*"),
            ("label_pod_template_hash", "69c9ccc49f", "[hash]"),
            ("migration_name", "kubevirt-evacuation-x7k2p", "kubevirt-evacuation-*"),
            ("goversion", "go1.24.1", "[version]"),
            ("le", "1.0", "1"),
            ("le", "0.5", "0.5"),
            ("quantile", "-1.0", "-1"),
            ("code", "200", "200"),
            ("device", "0000:00:02.0", "0000:00:02.0"),
        ] {
            assert_eq!(normal.series(&sample("m", &[(label, value)], 1.0).series).label(label), expected, "{label}={value}");
        }
    }

    #[test]
    fn names_that_are_known_go_before_shapes() {
        let generated = [("db-https", "db-https"), ("odd-name", "odd-*"), ("web-bcdfg", "web-bcdfg")];
        let generated = generated.map(|(name, normal)| (name.to_owned(), normal.to_owned())).into();
        let names = Names { generated, nodes: ["10.0.0.5".to_owned(), "worker".to_owned()].into() };
        let normal = Normaliser::new(Redactor::default(), names);
        let text = normal.snapshot(&[
            sample("a", &[("pod", "db-https"), ("instance", "10.0.0.5")], 1.0),
            sample("a", &[("pod", "odd-name"), ("instance", "worker")], 1.0),
            sample("a", &[("pod", "web-bcdfg"), ("instance", "10.0.0.5:10250"), ("node", "10.0.0.5")], 1.0),
            sample("a", &[("pod", "web-bcdfh"), ("instance", "other"), ("node", "<none>")], 1.0),
        ]);
        insta::assert_snapshot!(text, @r#"
        a
          {instance="[address]:10250",node="[node-1]",pod="web-bcdfg"}
          {instance="[node-1]",pod="db-https"}
          {instance="[node-2]",pod="odd-*"}
          {instance="other",node="<none>",pod="web-*"}
        "#);
    }

    #[test]
    fn nodes_have_numbers_that_do_not_follow_from_their_names() {
        let of = |first: &str, second: &str| {
            Normaliser::default().snapshot(&[
                sample("moved", &[("source_node", second), ("target_node", first)], 1.0),
                sample("up", &[("node", first), ("pod", "virt-handler-qpxjh")], 1.0),
                sample("up", &[("node", second), ("pod", "virt-handler-bbbbb")], 1.0),
                sample("z", &[("node", second)], 1.0),
            ])
        };
        insta::assert_snapshot!(of("a", "b"), @r#"
        moved
          all {source_node="[node-1]",target_node="[node-2]"}
          {}
        up
          all {pod="virt-handler-*"}
          {node="[node-1]"}
          {node="[node-2]"}
        z
          all {node="[node-1]"}
          {}
        "#);
        assert_eq!(of("a", "b"), of("b", "a"));
    }

    #[test]
    fn a_user_chooses_metrics_labels_and_values() {
        let normal = redacting(serde_json::json!({
            "metrics": "kubevirt_.+|h_bucket",
            "labels": {"drop": ["pod"], "replace": {"node": "[node]", "volume": {"match": "[0-9]+$", "with": "[number]"}, "gone": {"match": ".*", "with": ""}}},
            "values": true,
        }));
        let text = normal.snapshot(&[
            sample("up", &[], 1.0),
            sample("kubevirt_a", &[("pod", "x"), ("node", "one"), ("volume", "dv-17"), ("gone", "x")], 2.0),
            sample("kubevirt_a", &[("pod", "y"), ("node", "two"), ("volume", "dv-18")], 1.5),
            sample("kubevirt_b", &[("instance", "10.0.0.1:80")], f64::NAN),
            sample("h_bucket", &[("le", "1.0"), ("pod", "x")], 3.0),
            sample("h_bucket", &[("le", "1.0"), ("pod", "y")], 4.0),
            sample("h_bucket", &[("le", "+Inf"), ("pod", "x")], 5.0),
        ]);
        insta::assert_snapshot!(text, @r#"
        h_bucket
          {} le 1=3,4 +Inf=5
        kubevirt_a
          all {node="[node]",volume="dv-[number]"}
          {} 1.5 2
        kubevirt_b
          all {instance="[address]:80"}
          {} NaN
        "#);
        // It can be read again, without its values.
        let read = crate::read(&text).unwrap();
        assert_eq!(read.len(), 4);
        assert!(render(&read).contains("  {} le 1 +Inf\n"));
    }

    #[test]
    fn a_recorder_takes_the_same_wishes() {
        let wish = serde_json::json!({
            "metrics": "a|h", "labels": {"drop": ["pod"], "replace": {"node": "[node]", "le": {"match": "^\\+Inf$", "with": "all"}, "x": {"match": ".", "with": ""}}},
        });
        let page = "a{pod=\"p\",node=\"n\",x=\"1\"} 1\na{pod=\"q\",node=\"m\",x=\"2\"} 1\nb 1\nh{le=\"+Inf\",pod=\"p\"} 1\nh{le=\"1\",pod=\"p\"} 1\n";
        let mut recorder = Recorder::new(redacting(wish.clone()));
        recorder.page(page, &|_| true).unwrap();
        let samples = crate::parse(page).unwrap().samples;
        assert_eq!(recorder.render(), redacting(wish.clone()).snapshot(&samples));
        let mut of_series = Recorder::new(redacting(wish));
        samples.iter().for_each(|sample| of_series.series(&sample.series));
        assert_eq!(of_series.render(), recorder.render());
        assert!(recorder.render().starts_with("a\n  all {node=\"[node]\"}\n  {}\nh\n"), "{}", recorder.render());
    }

    /// Labels and values of every kind, with names that are easily confused.
    fn pairs() -> impl Strategy<Value = (String, String)> {
        let label = prop::sample::select(vec![
            "pod",
            "vmi_pod",
            "node",
            "exported_node",
            "source_node",
            "target_node",
            "instance",
            "host",
            "url",
            "uid",
            "id",
            "name",
            "le",
            "owner_name",
            "container_id",
            "x",
            "address",
            "version",
            "migration_name",
        ]);
        let value = prop_oneof![
            "[ab]{1,2}",
            "\\PC{0,12}",
            "(virt-[a-z]{1,4}|a)(-[bcdf4-9]{8,10})?(-[bcdfgkz2-9]{5}){0,2}",
            "\\[node-[0-9]{1,2}\\]",
            "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}",
            "(https?://)?(10\\.0\\.0\\.[0-9]|\\[fd00::[1-9]\\])(:[1-9][0-9]{0,3})?(/[a-z]{0,3})?",
            "(containerd://)?[0-9a-f]{64}",
        ];
        (label.prop_map(str::to_owned), value)
    }

    /// Series that share nodes, pods, machines: numbers that stand for names.
    fn structure() -> impl Strategy<Value = Vec<(u8, Vec<(&'static str, u8)>)>> {
        let label = prop::sample::select(vec!["pod", "node", "source_node", "target_node", "uid", "instance", "vmi_pod", "name"]);
        let labels = prop::collection::btree_map(label, 0u8..5, 0..4);
        prop::collection::vec((0u8..3, labels.prop_map(|labels| labels.into_iter().collect())), 0..12)
    }

    /// What a machine makes up for the number, by the label; `run` is another run.
    fn made_up(label: &str, number: u8, run: u64) -> String {
        let letters: Vec<char> = "bcdfghjklmnpqrstvwxz2456789".chars().collect();
        let digits: Vec<char> = "456789bcdf".chars().collect();
        // Different for each number, and mixed up by the run.
        let mut state = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ run.wrapping_mul(0xd134_2543_de82_ef95);
        let mut some = |alphabet: &[char], count: usize| -> String {
            let letter = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                alphabet[(state >> 33) as usize % alphabet.len()]
            };
            (0..count).map(letter).collect()
        };
        match label {
            "pod" => format!("app-{number}-{}-{}", some(&digits, 10), some(&letters, 5)),
            "vmi_pod" => format!("virt-launcher-vm-{number}-{}", some(&letters, 5)),
            "uid" => {
                let hex: Vec<char> = "0123456789abcdef".chars().collect();
                format!("{}-{}-4{}-8{}-{}", some(&hex, 8), some(&hex, 4), some(&hex, 3), some(&hex, 3), some(&hex, 12))
            }
            "instance" => format!("10.{}.0.{number}:8443", run % 256),
            "name" => format!("vm-{number}"),
            _ => format!("{}-{number}", some(&letters, 6)),
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(
            all in prop::collection::vec(("[ab]", prop::collection::btree_map("le|x", "[0-9.]{0,3}", 0..1), prop::collection::vec(pairs(), 0..5)), 0..10)
        ) {
            let normal = Normaliser::default();
            let samples = all.into_iter().map(|(name, labels, more)| {
                Sample { series: Series { name, labels: labels.into_iter().chain(more).collect() }, value: 1.0 }
            });
            let once = normal.all(&samples.collect::<Vec<_>>());
            let again: Vec<Sample> = once.keys().map(|series| Sample { series: series.clone(), value: 1.0 }).collect();
            let twice = normal.all(&again);
            prop_assert_eq!(twice.keys().collect::<Vec<_>>(), once.keys().collect::<Vec<_>>());
        }

        #[test]
        fn two_runs_are_alike(structure in structure(), runs in (any::<u64>(), any::<u64>())) {
            let of = |run: u64| {
                let samples: Vec<Sample> = structure.iter().map(|(name, labels)| {
                    let labels = labels.iter().map(|(label, number)| ((*label).to_owned(), made_up(label, *number, run)));
                    Sample { series: Series { name: format!("m{name}"), labels: labels.collect() }, value: 1.0 }
                }).collect();
                let text = Normaliser::default().snapshot(&samples);
                let mut recorder = Recorder::default();
                samples.iter().for_each(|sample| recorder.series(&sample.series));
                (text, recorder.render())
            };
            let (one, other) = (of(runs.0), of(runs.1));
            prop_assert_eq!(&one.0, &other.0);
            prop_assert_eq!(&one.0, &one.1);
        }
    }
}
