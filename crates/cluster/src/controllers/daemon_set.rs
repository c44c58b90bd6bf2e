//! DaemonSets: one pod on each node that the node selector admits.

use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use super::template::{Name, hash, pod};
use super::{Action, DAEMON_SETS, PODS, View, is_active, is_ready};

const REVISION: &str = "controller-revision-hash";

pub(crate) fn reconcile(view: &View, actions: &mut Vec<Action>) {
    for set in view.daemon_sets.objects().filter(|set| !object::is_deleting(set)) {
        super::adopt(PODS, set, view.pods.in_namespace(object::namespace(set)), actions);
        let template = &set["spec"]["template"];
        let revision = hash(template);
        let selector = LabelSelector::from_map(&template["spec"]["nodeSelector"]);
        let nodes: Vec<&str> = view
            .nodes
            .objects()
            .filter(|node| selector.matches(&node["metadata"]["labels"]))
            .map(|node| object::name(node))
            .collect();
        let pods: Vec<&Value> = view.pods_of(set).map(|pod| &**pod).collect();
        let on = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        for node in &nodes {
            // A pod that is on its way out keeps its place until it is gone, as with maxSurge 0.
            if pods.iter().any(|pod| on(pod) == *node) {
                continue;
            }
            let prefix = format!("{}-", object::name(set));
            let labels = [(REVISION, revision.as_str()), ("pod-template-generation", "1")];
            let mut created = pod(set, template, Name::Prefix(&prefix), &labels);
            created["spec"]["nodeName"] = (*node).into();
            actions.push(Action::Create(PODS, created));
        }
        for surplus in pods.iter().filter(|pod| is_active(pod)) {
            let old = object::label(surplus, REVISION) != Some(&revision);
            if old || !nodes.contains(&on(surplus).as_str()) {
                actions.push(Action::Delete(PODS, object::namespace(surplus).to_owned(), object::name(surplus).to_owned()));
            }
        }
        let active: Vec<&&Value> = pods.iter().filter(|pod| is_active(pod) && nodes.contains(&on(pod).as_str())).collect();
        let ready = active.iter().filter(|pod| is_ready(pod)).count();
        let misscheduled = pods.iter().filter(|pod| is_active(pod) && !nodes.contains(&on(pod).as_str())).count();
        let updated = active.iter().filter(|pod| object::label(pod, REVISION) == Some(&revision)).count();
        let mut status = json!({
            "observedGeneration": set["metadata"]["generation"],
            "desiredNumberScheduled": nodes.len(),
            "currentNumberScheduled": active.len(),
            "numberReady": ready,
            "numberMisscheduled": misscheduled,
            "updatedNumberScheduled": updated,
        });
        if ready > 0 {
            status["numberAvailable"] = ready.into();
        }
        if nodes.len() > ready {
            status["numberUnavailable"] = (nodes.len() - ready).into();
        }
        actions.extend(Action::status(DAEMON_SETS, set, status));
    }
}
