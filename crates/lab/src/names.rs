//! Names that a cluster has made up, and their normal form, as the objects themselves say it.
//!
//! Where a cluster is at hand, a pod named `db-https` that a person wrote stays, and `web-5bc-x7k2p` of a Deployment is `web-*` though its
//! hash is too short to be recognised. Without one, [`metrics::Normaliser`] goes by the shape of names.

use std::collections::BTreeMap;

use anyhow::Result;
use kubeapi::object;
use metrics::Names;
use serde_json::Value;

use crate::why::Cluster;

/// How many letters the API server adds to `generateName`, and how long the whole may be (k8s.io/apiserver `pkg/storage/names`).
const SUFFIX: usize = 5;
const LONGEST: usize = 63;

/// The names of a cluster's pods, of what owns them, and of its nodes, as they are now.
///
/// # Errors
/// When the cluster does not list them.
pub(crate) async fn of_cluster(cluster: &Cluster) -> Result<Names> {
    let pods = cluster.list("/api/v1/pods").await?;
    let mut owners = cluster.list("/apis/apps/v1/replicasets").await?;
    owners.extend(cluster.list("/apis/batch/v1/jobs").await?);
    Ok(of(&pods, &owners, &cluster.list("/api/v1/nodes").await?))
}

/// The names of pods, of ReplicaSets and Jobs (`owners`), and of nodes.
pub fn of(pods: &[Value], owners: &[Value], nodes: &[Value]) -> Names {
    let by_uid: BTreeMap<&str, &Value> = owners.iter().map(|owner| (object::uid(owner), owner)).collect();
    let mut generated = BTreeMap::new();
    for one in owners {
        generated.insert(object::name(one).to_owned(), of_owner(one));
    }
    for pod in pods {
        generated.extend(of_pod(pod, &by_uid).map(|normal| (object::name(pod).to_owned(), normal)));
    }
    Names { generated, nodes: nodes.iter().map(|node| object::name(node).to_owned()).collect() }
}

fn kind_and_name(owner: &Value) -> (&str, &str) {
    (owner["kind"].as_str().unwrap_or_default(), owner["name"].as_str().unwrap_or_default())
}

/// A Deployment's ReplicaSet and a CronJob's Job are called after their owners.
fn of_owner(object: &Value) -> String {
    match object::controller(object).map(kind_and_name) {
        Some(("Deployment" | "CronJob", name)) => format!("{name}-*"),
        Some(_) | None => generated(object).unwrap_or_else(|| object::name(object).to_owned()),
    }
}

/// Nothing where the pod does not say how its name was made.
fn of_pod(pod: &Value, owners: &BTreeMap<&str, &Value>) -> Option<String> {
    let name = object::name(pod);
    let Some(owner) = object::controller(pod) else {
        // A pod without an owner has the name that a person gave it.
        return Some(generated(pod).unwrap_or_else(|| name.to_owned()));
    };
    match (kind_and_name(owner), owners.get(owner["uid"].as_str().unwrap_or_default())) {
        (("StatefulSet", _), _) => Some(name.to_owned()),
        // A static pod is called after its node.
        (("Node", node), _) => name.strip_suffix(node).map(|base| format!("{base}*")),
        (("ReplicaSet" | "Job", _), Some(known)) if of_owner(known) != object::name(known) => Some(of_owner(known)),
        // The ReplicaSet is not at hand: its name without the hash that its pods bear.
        (("ReplicaSet", owner), None) => {
            let hash = object::label(pod, "pod-template-hash").map(|hash| format!("-{hash}")).unwrap_or_default();
            Some(format!("{}-*", owner.strip_suffix(hash.as_str()).unwrap_or(owner)))
        }
        _ => generated(pod),
    }
}

/// The normal form of a name that the API server has made of `generateName`.
fn generated(object: &Value) -> Option<String> {
    let prefix = object["metadata"]["generateName"].as_str().filter(|prefix| !prefix.is_empty())?;
    let cut = prefix.get(..prefix.len().min(LONGEST - SUFFIX)).unwrap_or(prefix);
    object::name(object).starts_with(cut).then(|| format!("{cut}*"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, generate: Option<&str>, owner: Option<(&str, &str, &str)>) -> Value {
        let mut metadata = json!({"name": name, "uid": format!("uid of {name}"), "labels": {"pod-template-hash": "5bc"}});
        if let Some(generate) = generate {
            metadata["generateName"] = generate.into();
        }
        if let Some((kind, name, uid)) = owner {
            metadata["ownerReferences"] = json!([{"kind": kind, "name": name, "uid": uid, "controller": true}]);
        }
        json!({"metadata": metadata})
    }

    #[test]
    fn owners_say_what_was_made_up() {
        let owners = [
            object("web-5bc", None, Some(("Deployment", "web", "d"))),
            object("alone", None, None),
            object("backup-28394825", None, Some(("CronJob", "backup", "c"))),
        ];
        let long = "a".repeat(70);
        let cut = &long[..58];
        let pods = [
            (object("web-5bc-x7k2p", Some("web-5bc-"), Some(("ReplicaSet", "web-5bc", "uid of web-5bc"))), "web-*"),
            (object("gone-5bc-x7k2p", Some("gone-5bc-"), Some(("ReplicaSet", "gone-5bc", "gone"))), "gone-*"),
            (object("alone-x7k2p", Some("alone-"), Some(("ReplicaSet", "alone", "uid of alone"))), "alone-*"),
            (
                object(
                    "backup-28394825-x7k2p",
                    Some("backup-28394825-"),
                    Some(("Job", "backup-28394825", "uid of backup-28394825")),
                ),
                "backup-*",
            ),
            (object("job-0-x7k2p", Some("job-0-"), Some(("Job", "job", "j"))), "job-0-*"),
            (object("agent-x7k2p", Some("agent-"), Some(("DaemonSet", "agent", "d"))), "agent-*"),
            (object("db-0", None, Some(("StatefulSet", "db", "s"))), "db-0"),
            (
                object("virt-launcher-vm-x7k2p", Some("virt-launcher-vm-"), Some(("VirtualMachineInstance", "vm", "v"))),
                "virt-launcher-vm-*",
            ),
            (object("etcd-worker-1", None, Some(("Node", "worker-1", "n"))), "etcd-*"),
            (object("db-bcdfg", None, None), "db-bcdfg"),
            (object(&format!("{cut}x7k2p"), Some(&long), None), &format!("{cut}*")),
        ];
        let objects: Vec<Value> = pods.iter().map(|(pod, _)| pod.clone()).collect();
        let names = of(&objects, &owners, &[object("worker-1", None, None)]);
        for (pod, expected) in &pods {
            assert_eq!(names.generated[object::name(pod)], *expected);
        }
        for (owner, expected) in [("web-5bc", "web-*"), ("alone", "alone"), ("backup-28394825", "backup-*")] {
            assert_eq!(names.generated[owner], expected);
        }
        assert!(names.nodes.contains("worker-1"));
        // How this name was made, its owner does not say.
        let unknown = object("x-bcdfg", None, Some(("Odd", "x", "o")));
        assert!(of(&[unknown], &[], &[]).generated.is_empty());
        // What the cluster says and what the shape says agree where both know it.
        for name in ["web-69c9ccc49f-x7k2p", "agent-x7k2p"] {
            let sample = metrics::Sample {
                series: metrics::Series { name: "a".to_owned(), labels: [("pod".to_owned(), name.to_owned())].into() },
                value: 1.0,
            };
            let normal = metrics::Normaliser::default().snapshot(&[sample]);
            let base = name.split('-').next().unwrap_or_default();
            assert!(normal.contains(&format!("{{pod=\"{base}-*\"}}")), "{normal}");
        }
    }
}
