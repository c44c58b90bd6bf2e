//! The scheduler: a pod goes to the first node that its node selector admits; otherwise it says why not.

use kubeapi::{LabelSelector, object};
use serde_json::json;

use super::{Action, PODS, View, is_active};

pub(crate) fn reconcile(view: &View, actions: &mut Vec<Action>) {
    for pod in view.pods.objects().filter(|pod| pod["spec"]["nodeName"].is_null() && is_active(pod)) {
        let (namespace, name) = (object::namespace(pod).to_owned(), object::name(pod).to_owned());
        let selector = LabelSelector::from_map(&pod["spec"]["nodeSelector"]);
        let total = view.nodes.objects().count();
        let node = view
            .nodes
            .objects()
            .find(|node| node["spec"]["unschedulable"] != true && selector.matches(&node["metadata"]["labels"]));
        if let Some(node) = node {
            let node = object::name(node);
            actions.push(Action::Bind { namespace: namespace.clone(), name: name.clone(), node: node.to_owned() });
            actions.push(Action::Event {
                about: pod.clone(),
                component: "default-scheduler",
                kind: "Normal",
                reason: "Scheduled",
                message: format!("Successfully assigned {namespace}/{name} to {node}"),
            });
        } else if object::condition(pod, "PodScheduled") != Some("False") && total > 0 {
            let message = format!("0/{total} nodes are available: {total} node(s) didn't match Pod's node affinity/selector.");
            actions.push(Action::Merge {
                gr: PODS,
                namespace,
                name,
                subresource: "status",
                patch: json!({"status": {"conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
                ]}}),
            });
            actions.push(Action::Event {
                about: pod.clone(),
                component: "default-scheduler",
                kind: "Warning",
                reason: "FailedScheduling",
                message,
            });
        }
    }
}
