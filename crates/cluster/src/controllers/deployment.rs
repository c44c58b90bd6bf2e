//! Deployments: one ReplicaSet a template. The new one is filled up first; old ones are emptied when it is ready.

use std::sync::Arc;

use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};

use super::template::hash;
use super::{Action, DEPLOYMENTS, REPLICA_SETS, View, number};

const REVISION: &str = "deployment.kubernetes.io/revision";

pub(crate) fn reconcile(view: &View, actions: &mut Vec<Action>) {
    for deployment in view.deployments.objects().filter(|deployment| !object::is_deleting(deployment)) {
        let sets: Vec<&Arc<Value>> = view
            .replica_sets
            .in_namespace(object::namespace(deployment))
            .filter(|set| object::is_controlled_by(set, deployment))
            .collect();
        super::adopt(REPLICA_SETS, deployment, view.replica_sets.in_namespace(object::namespace(deployment)), actions);
        one(deployment, &sets, actions);
    }
}

fn revision(set: &Value) -> i64 {
    object::annotation(set, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn one(deployment: &Arc<Value>, sets: &[&Arc<Value>], actions: &mut Vec<Action>) {
    let template = &deployment["spec"]["template"];
    let hash = hash(template);
    let wanted = number(&deployment["spec"]["replicas"], 1);
    let current = sets.iter().find(|set| object::label(set, "pod-template-hash") == Some(&hash));
    let last_revision = sets.iter().map(|set| revision(set)).max().unwrap_or(0);
    let ready = |set: &Value| number(&set["status"]["readyReplicas"], 0);
    match current {
        None => {
            let name = format!("{}-{hash}", object::name(deployment));
            actions.push(Action::Create(REPLICA_SETS, new_set(deployment, &name, &hash, wanted, last_revision + 1)));
            actions.push(Action::Event {
                about: deployment.clone(),
                component: "deployment-controller",
                kind: "Normal",
                reason: "ScalingReplicaSet",
                message: format!("Scaled up replica set {name} from 0 to {wanted}"),
            });
        }
        Some(set) => {
            scale(deployment, set, wanted, actions);
            if ready(set) >= wanted {
                sets.iter().filter(|other| !Arc::ptr_eq(other, set)).for_each(|other| scale(deployment, other, 0, actions));
            }
        }
    }
    let total = |key: &str| sets.iter().map(|set| number(&set["status"][key], 0)).sum::<i64>();
    let updated = current.map_or(0, |set| number(&set["status"]["replicas"], 0));
    let revision = current.map_or(last_revision + 1, |set| revision(set)).to_string();
    if object::annotation(deployment, REVISION) != Some(&revision) && current.is_some() {
        actions.push(Action::Merge {
            gr: DEPLOYMENTS,
            namespace: object::namespace(deployment).to_owned(),
            name: object::name(deployment).to_owned(),
            subresource: "",
            patch: json!({"metadata": {"annotations": {REVISION: revision}}}),
        });
        return;
    }
    let available = total("availableReplicas");
    let enough = available >= wanted;
    let complete = enough && updated == wanted && total("replicas") == wanted;
    let progressing = if complete {
        ("NewReplicaSetAvailable", "has successfully progressed.")
    } else {
        ("ReplicaSetUpdated", "is progressing.")
    };
    let name = current.map_or("", |set| object::name(set));
    let mut status = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": total("replicas"),
        "updatedReplicas": updated,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "conditions": [
            condition(deployment, "Available", enough,
                if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
                if enough { "Deployment has minimum availability." } else { "Deployment does not have minimum availability." }),
            condition(deployment, "Progressing", true, progressing.0, &format!("ReplicaSet \"{name}\" {}", progressing.1)),
        ],
    });
    if wanted > available {
        status["unavailableReplicas"] = (wanted - available).into();
    }
    actions.extend(Action::status(DEPLOYMENTS, deployment, status));
}

/// A condition that keeps its times while nothing about it changes.
fn condition(owner: &Value, kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let old = owner["status"]["conditions"].as_array().into_iter().flatten().find(|old| old["type"] == kind);
    if let Some(old) = old
        && old["status"] == status
        && old["reason"] == reason
        && old["message"] == message
    {
        return old.clone();
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let since = match old {
        Some(old) if old["status"] == status => old["lastTransitionTime"].clone(),
        _ => now.as_str().into(),
    };
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastUpdateTime": now, "lastTransitionTime": since})
}

fn scale(deployment: &Arc<Value>, set: &Value, wanted: i64, actions: &mut Vec<Action>) {
    let present = number(&set["spec"]["replicas"], 1);
    if present != wanted {
        actions.push(Action::Merge {
            gr: REPLICA_SETS,
            namespace: object::namespace(set).to_owned(),
            name: object::name(set).to_owned(),
            subresource: "",
            patch: json!({"spec": {"replicas": wanted}}),
        });
        let direction = if wanted > present { "up" } else { "down" };
        actions.push(Action::Event {
            about: deployment.clone(),
            component: "deployment-controller",
            kind: "Normal",
            reason: "ScalingReplicaSet",
            message: format!("Scaled {direction} replica set {} from {present} to {wanted}", object::name(set)),
        });
    }
}

fn new_set(deployment: &Value, name: &str, hash: &str, replicas: i64, revision: i64) -> Value {
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"]["pod-template-hash"] = hash.into();
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"]["pod-template-hash"] = hash.into();
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": object::namespace(deployment),
            "labels": template["metadata"]["labels"],
            "annotations": {REVISION: revision.to_string(), "deployment.kubernetes.io/desired-replicas": replicas.to_string()},
            "ownerReferences": [object::owner_reference(deployment)],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    })
}
