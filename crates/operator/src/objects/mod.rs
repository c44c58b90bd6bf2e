//! The objects that the operator keeps for a Prometheus object: configuration Secret, rule ConfigMaps, certificates, governing Service and
//! a StatefulSet a shard, shaped as prometheus-operator 0.87 shapes them.

mod arguments;
mod merge;
mod pod;
mod prometheus;
mod web;

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, write::GzEncoder};
use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::compile::{Compiled, workload_name};

pub(crate) use arguments::alertmanager_arguments;
pub(crate) use arguments::replicas as alertmanager_replicas;
pub(crate) use pod::{
    Place, Reloader, SetParts, containers, extra_mounts, image, pod_fields, pod_metadata, probe, reloader, resources, restricted,
    set_metadata, storage, text,
};
pub(crate) use web::{Web, scheme, web};

/// The key of the configuration in its Secret; its content is gzipped YAML.
pub const CONFIG_KEY: &str = "prometheus.yaml.gz";

/// The most that one Secret of certificates holds, in bytes: a Secret's own limit without room for its metadata.
const ASSETS: usize = 1024 * 1024 - 50_000;

/// What is to exist for an object, in the order in which it is to be written.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    /// The objects; what is not among them because of a failure stays as it is.
    pub objects: Vec<Value>,
    /// Why the rest is not among them.
    pub failed: Option<String>,
}

impl Owned {
    /// The same without the StatefulSets, which a failure keeps as they are.
    #[must_use]
    pub fn without_sets(&self, why: String) -> Self {
        let objects = self.objects.iter().filter(|object| object::kind(object) != "StatefulSet").cloned().collect();
        Self { objects, failed: Some(self.failed.clone().unwrap_or(why)) }
    }

    /// Whether an object that the owner controls is left over: one of a kind that comes in numbers, and no longer wanted.
    pub fn is_superfluous(&self, owner: &Value, present: &Value) -> bool {
        // After a failure only the rules are known, and they alone can be tidied up.
        let numbered: &[(&str, &str)] = match &self.failed {
            None => &[("ConfigMap", "-rulefiles-"), ("Secret", "-tls-assets-"), ("StatefulSet", "-shard-")],
            Some(_) => &[("ConfigMap", "-rulefiles-")],
        };
        let (kind, name) = (object::kind(present), object::name(present));
        let is_numbered = numbered.iter().any(|(of, infix)| {
            let number = name.rsplit_once(infix).map(|(_, number)| number);
            *of == kind && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let wanted = || self.objects.iter().any(|wanted| object::kind(wanted) == kind && object::name(wanted) == name);
        is_numbered && object::is_controlled_by(present, owner) && !wanted()
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}

/// A configuration as a Secret holds it: YAML, gzipped, in base64.
pub(crate) fn packed(config: &Value) -> Result<String, String> {
    let text = wire::yaml::to_string(config).map_err(|error| error.to_string())?;
    Ok(STANDARD.encode(gzip(&text)))
}

/// The metadata of an object that belongs to a Prometheus or Alertmanager object.
pub(crate) fn metadata(owner: &Value, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": object::namespace(owner),
        "labels": {"app.kubernetes.io/managed-by": "prometheus-operator", "managed-by": "prometheus-operator"},
        "ownerReferences": [object::owner_reference(owner)],
    })
}

/// A Secret of the operator's.
pub(crate) fn secret(owner: &Value, name: &str, data: Map<String, Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata(owner, name), "data": data})
}

/// Certificates and keys in as many Secrets as they need, in order of their names; one, if there are none.
pub(crate) fn tls_assets(owner: &Value, workload: &str, files: &BTreeMap<String, String>) -> Vec<Value> {
    let mut bins = vec![(0, Map::new())];
    for (name, text) in files {
        let size = name.len() + text.len();
        if bins.last().is_some_and(|(used, _)| used + size > ASSETS) {
            bins.push((0, Map::new()));
        }
        if let Some((used, bin)) = bins.last_mut() {
            *used += size;
            bin.insert(name.clone(), STANDARD.encode(text).into());
        }
    }
    let bins = bins.into_iter().enumerate();
    bins.map(|(index, (_, data))| secret(owner, &format!("{workload}-tls-assets-{index}"), data)).collect()
}

/// The volume that shows certificates and keys of any number of Secrets in one folder.
pub(crate) fn tls_volume(assets: &[Value]) -> Value {
    let sources: Vec<Value> = assets.iter().map(|asset| json!({"secret": {"name": object::name(asset)}})).collect();
    json!({"name": "tls-assets", "projected": {"sources": sources}})
}

/// The Service that gives pods their names, unless the object names one. All workloads of a namespace own it together, so that it goes
/// with the last one; none controls it.
pub(crate) fn governing_service(owner: &Value, name: &str, application: &str, ports: Value) -> Option<Value> {
    if owner["spec"]["serviceName"].is_string() {
        return None;
    }
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(owner, name),
        "spec": {"clusterIP": "None", "ports": ports, "selector": {"app.kubernetes.io/name": application}},
    });
    service["metadata"]["labels"][format!("operated-{application}")] = "true".into();
    if let Some(reference) = service["metadata"]["ownerReferences"][0].as_object_mut() {
        reference.retain(|key, _| !["controller", "blockOwnerDeletion"].contains(&key.as_str()));
    }
    Some(service)
}

/// Whether the Service that the object names instead of the operator's own is there and means the pods.
///
/// # Errors
/// Why it does not.
pub fn governed<'a>(owner: &Value, find: impl FnOnce(&str) -> Option<&'a Value>) -> Result<(), String> {
    let Some(name) = owner["spec"]["serviceName"].as_str() else { return Ok(()) };
    let key = format!("{}/{name}", object::namespace(owner));
    let service =
        find(&key).ok_or_else(|| format!("failed to get custom governing service {key}: services {name:?} not found"))?;
    let labels = if object::kind(owner) == "Alertmanager" { alertmanager_labels(owner) } else { prometheus_labels(owner) };
    let selector = &service["spec"]["selector"];
    if selector.as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value) {
        return Ok(());
    }
    let (selector, labels) = (label_text(selector), label_text(&labels));
    Err(format!("custom governing service {key} with selector {selector:?} does not select pods with labels {labels:?}"))
}

/// The storage class that the object's claims name, which must be there before anything is done.
pub fn storage_class(owner: &Value) -> Option<&str> {
    text(&owner["spec"]["storage"]["volumeClaimTemplate"]["spec"], "storageClassName")
}

/// Labels as a selector is written: `a=b,c=d`.
pub(crate) fn label_text(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

/// The name of the web port.
pub(crate) fn port_name(spec: &Value) -> &str {
    text(spec, "portName").unwrap_or("web")
}

/// How many shards a Prometheus has.
pub(crate) fn shards(prometheus: &Value) -> i64 {
    prometheus["spec"]["shards"].as_i64().unwrap_or(1).max(1)
}

/// The names of the StatefulSets of a Prometheus, one a shard.
pub fn stateful_set_names(prometheus: &Value) -> Vec<String> {
    let workload = workload_name(prometheus);
    let name = |shard| if shard == 0 { workload.clone() } else { format!("{workload}-shard-{shard}") };
    (0..shards(prometheus)).map(name).collect()
}

/// The labels by which the pods of a Prometheus are known, those of all shards.
pub(crate) fn prometheus_labels(prometheus: &Value) -> Value {
    let name = object::name(prometheus);
    json!({
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "prometheus-operator",
        "app.kubernetes.io/name": "prometheus",
        "operator.prometheus.io/name": name,
        "prometheus": name,
    })
}

/// The labels by which the pods of an Alertmanager are known.
pub(crate) fn alertmanager_labels(alertmanager: &Value) -> Value {
    let name = object::name(alertmanager);
    json!({
        "alertmanager": name,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "prometheus-operator",
        "app.kubernetes.io/name": "alertmanager",
    })
}

/// The ConfigMaps of rules: those that are needed, and one at least. Pods mount some more, which may come later.
fn rule_maps(prometheus: &Value, compiled: &Compiled, workload: &str) -> Vec<Value> {
    let files = &compiled.rules;
    let names = files.mounts(workload).into_iter().take(files.bins.len().max(1));
    let map = |(index, name): (usize, String)| {
        let data = files.bins.get(index).cloned().unwrap_or_default();
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(prometheus, &name), "data": data});
        map["metadata"]["labels"]["prometheus-name"] = object::name(prometheus).into();
        map
    };
    names.enumerate().map(map).collect()
}

/// Everything that is to exist for a Prometheus object.
pub fn owned_objects(prometheus: &Value, compiled: &Compiled) -> Owned {
    let workload = workload_name(prometheus);
    let mut owned = Owned { objects: rule_maps(prometheus, compiled, &workload), failed: compiled.failed.clone() };
    if owned.failed.is_some() {
        return owned;
    }
    match packed(&compiled.config) {
        Ok(encoded) => {
            let data = Map::from_iter([(CONFIG_KEY.to_owned(), encoded.into())]);
            owned.objects.push(secret(prometheus, &workload, data));
        }
        Err(error) => {
            owned.failed = Some(format!("creating config failed: {error}"));
            return owned;
        }
    }
    let assets = tls_assets(prometheus, &workload, &compiled.files);
    let volume = tls_volume(&assets);
    owned.objects.extend(assets);
    let web = match web(prometheus, &workload, "/etc/prometheus") {
        Ok(web) => web,
        Err(error) => {
            owned.failed = Some(format!("synchronizing web config secret failed: {error}"));
            return owned;
        }
    };
    owned.objects.push(web.secret.clone());
    let port = port_name(&prometheus["spec"]);
    let ports = json!([{"name": port, "port": 9090, "targetPort": port}]);
    owned.objects.extend(governing_service(prometheus, "prometheus-operated", "prometheus", ports));
    let rule_mounts = compiled.rules.mounts(&workload);
    for (shard, name) in stateful_set_names(prometheus).iter().enumerate() {
        match prometheus::stateful_set(prometheus, name, shard, &rule_mounts, &volume, &web) {
            Ok(set) => owned.objects.push(set),
            Err(error) => {
                owned.failed = Some(format!("making statefulset failed: make StatefulSet spec: {error}"));
                return owned;
            }
        }
    }
    owned
}

#[cfg(test)]
mod tests;
