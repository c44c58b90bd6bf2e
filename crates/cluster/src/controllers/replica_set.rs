//! ReplicaSets: as many pods as wanted; the youngest and unready go first.

use kubeapi::object;
use serde_json::{Value, json};

use super::template::{Name, pod};
use super::{Action, PODS, REPLICA_SETS, View, is_active, is_ready, number};

pub(crate) fn reconcile(view: &View, actions: &mut Vec<Action>) {
    for set in view.replica_sets.objects().filter(|set| !object::is_deleting(set)) {
        super::adopt(PODS, set, view.pods.in_namespace(object::namespace(set)), actions);
        let mut pods: Vec<&Value> = view.pods_of(set).map(|pod| &**pod).filter(|pod| is_active(pod)).collect();
        let wanted = usize::try_from(number(&set["spec"]["replicas"], 1)).unwrap_or(0);
        for _ in pods.len()..wanted {
            let prefix = format!("{}-", object::name(set));
            actions.push(Action::Create(PODS, pod(set, &set["spec"]["template"], Name::Prefix(&prefix), &[])));
        }
        if pods.len() > wanted {
            pods.sort_by_key(|pod| (is_ready(pod), std::cmp::Reverse(pod["metadata"]["creationTimestamp"].to_string())));
            for surplus in &pods[..pods.len() - wanted] {
                actions.push(Action::Delete(PODS, object::namespace(surplus).to_owned(), object::name(surplus).to_owned()));
            }
        }
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let status = json!({
            "replicas": pods.len(),
            "fullyLabeledReplicas": pods.len(),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": set["metadata"]["generation"],
        });
        actions.extend(Action::status(REPLICA_SETS, set, status));
    }
}
