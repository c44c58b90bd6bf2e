//! kube-state-metrics: what is known of each kind of object, as families. The names, labels and values are those of kube-state-metrics
//! 2.19 (`internal/store/*.go`), which kube-prometheus runs today; the help texts are ours.
//!
//! A resource's part of the page is written anew only when one of its objects has changed, as the real one does; a scrape of a quiet
//! cluster copies text.

mod cluster_objects;
mod network;
mod pods;
mod workloads;

use std::sync::Arc;

use apiserver::{Client, Gr};
use cluster::Informer;
use kubeapi::object;
use metrics::Kind;
use serde_json::Value;

use crate::allow_list::{AllowList, shown};
use crate::page::{Family, Label, Samples, head, items, seconds, text};

/// A resource that is told about.
pub(crate) struct Resource {
    /// Its name in flags.
    pub(crate) name: &'static str,
    /// Where its objects are.
    pub(crate) gr: Gr,
    /// Its type in the self metrics.
    pub(crate) go_type: &'static str,
    /// Labels that every sample of an object has, from the object.
    pub(crate) identity: fn(&Value) -> Vec<Label<'_>>,
    /// What is told.
    pub(crate) families: &'static [Family],
}

const RESOURCES: [&Resource; 12] = [
    &workloads::DAEMON_SETS,
    &workloads::DEPLOYMENTS,
    &network::ENDPOINTS,
    &cluster_objects::NAMESPACES,
    &cluster_objects::NODES,
    &cluster_objects::CLAIMS,
    &workloads::BUDGETS,
    &pods::PODS,
    &workloads::REPLICA_SETS,
    &cluster_objects::SECRETS,
    &network::SERVICES,
    &workloads::STATEFUL_SETS,
];

/// The part of the page that tells of a resource's objects.
pub(crate) fn render<'a>(
    resource: &Resource,
    objects: impl Iterator<Item = &'a Arc<Value>> + Clone,
    allowed: &AllowList,
) -> String {
    let mut out = String::new();
    let allowed = allowed.of(resource.name);
    for family in resource.families {
        head(&mut out, family.name, family.kind, family.help);
        for object in objects.clone() {
            let identity = (resource.identity)(object);
            (family.each)(object, &mut Samples::new(&mut out, family.name, &identity, allowed));
        }
    }
    out
}

/// The page of kube-state-metrics about the objects of a cluster.
pub struct StatePage {
    allowed: AllowList,
    parts: Vec<Part>,
}

struct Part {
    resource: &'static Resource,
    informer: Informer,
    text: String,
    objects: usize,
}

impl StatePage {
    /// A page that has not looked yet.
    pub fn new(client: &Client, allowed: AllowList) -> Self {
        let part = |resource: &&'static Resource| Part {
            resource,
            informer: Informer::new(client, resource.gr),
            text: String::new(),
            objects: 0,
        };
        Self { allowed, parts: RESOURCES.iter().map(part).collect() }
    }

    /// The names of all resources, as flags have them.
    pub fn resources() -> Vec<&'static str> {
        RESOURCES.iter().map(|resource| resource.name).collect()
    }

    /// The page as the cluster is now.
    pub fn text(&mut self) -> String {
        for part in &mut self.parts {
            if part.informer.sync() || part.text.is_empty() {
                part.text = render(part.resource, part.informer.objects(), &self.allowed);
                part.objects = part.informer.objects().count();
            }
        }
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }

    /// Of each resource its Go type, how many objects there are, and how often it was listed.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, usize, u64)> {
        self.parts.iter().map(|part| (part.resource.go_type, part.objects, part.informer.lists()))
    }
}

/// The identity of an object in a namespace, with the label that its name goes by.
macro_rules! in_namespace {
    ($label:literal) => {
        |object| vec![("namespace", kubeapi::object::namespace(object)), ($label, kubeapi::object::name(object))]
    };
}
pub(crate) use in_namespace;

/// A gauge.
const fn gauge(name: &'static str, help: &'static str, each: fn(&Value, &mut Samples<'_>)) -> Family {
    Family { name, kind: Kind::Gauge, help, each }
}

/// When the object was made.
fn created(object: &Value, samples: &mut Samples<'_>) {
    if let Some(time) = seconds(&object["metadata"]["creationTimestamp"]) {
        samples.one(time);
    }
}

/// When the object is to be gone.
fn deletion(object: &Value, samples: &mut Samples<'_>) {
    if let Some(time) = seconds(&object["metadata"]["deletionTimestamp"]) {
        samples.one(time);
    }
}

/// The labels that are allowed; nothing at all where none is.
fn labels(object: &Value, samples: &mut Samples<'_>) {
    if samples.allowed.is_empty() {
        return;
    }
    let shown = shown(&object["metadata"]["labels"], samples.allowed);
    let shown: Vec<Label<'_>> = shown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    samples.with(&shown, 1.0);
}

/// Who owns the object; one sample of empty labels where nobody does.
fn owners(object: &Value, samples: &mut Samples<'_>) {
    let mut any = false;
    for owner in items(&object["metadata"]["ownerReferences"]) {
        any = true;
        let controls = if owner["controller"] == true { "true" } else { "false" };
        let of = [("owner_kind", text(&owner["kind"])), ("owner_name", text(&owner["name"])), ("owner_is_controller", controls)];
        samples.with(&of, 1.0);
    }
    if !any {
        samples.with(&[("owner_kind", ""), ("owner_name", ""), ("owner_is_controller", "")], 1.0);
    }
}

/// The number of the spec that this status is about.
fn observed(object: &Value, samples: &mut Samples<'_>) {
    samples.one(crate::page::number(&object["status"]["observedGeneration"]));
}

/// The number of the spec.
fn generation(object: &Value, samples: &mut Samples<'_>) {
    samples.one(crate::page::number(&object["metadata"]["generation"]));
}

/// Resource, unit and amount of a list of resources such as `requests` or `allocatable` (`internal/store/pod.go`).
fn amounts(list: &Value) -> Vec<(String, &'static str, f64)> {
    let mut found = Vec::new();
    for (name, value) in list.as_object().into_iter().flatten() {
        let unit = match name.as_str() {
            "cpu" => "core",
            "memory" | "storage" | "ephemeral-storage" => "byte",
            "pods" => "integer",
            name if name.starts_with("hugepages-") || name.starts_with("attachable-volumes-") => "byte",
            // What vendors add, such as devices.kubevirt.io/kvm.
            name if name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.") => "integer",
            _ => continue,
        };
        let as_text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let Some(amount) = kubeapi::quantity(&as_text) else { continue };
        // Cores are told in thousands of one, everything else in whole pieces; both are rounded up.
        let amount = if unit == "core" { (amount * 1000.0).ceil() / 1000.0 } else { amount.ceil() };
        let name: String =
            name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
        found.push((name, unit, amount));
    }
    found
}

/// The pod, node or other object's name.
fn named(object: &Value) -> &str {
    object::name(object)
}

#[cfg(test)]
mod tests;
