//! StatefulSets: pods NAME-0, NAME-1, …, in order or at once; a pod of an old revision is replaced, the last one first.

use kubeapi::object;
use serde_json::{Value, json};

use super::template::{Name, hash, pod};
use super::{Action, PODS, STATEFUL_SETS, View, is_active, is_ready, number};

const REVISION: &str = "controller-revision-hash";

pub(crate) fn reconcile(view: &View, actions: &mut Vec<Action>) {
    for set in view.stateful_sets.objects().filter(|set| !object::is_deleting(set)) {
        super::adopt(PODS, set, view.pods.in_namespace(object::namespace(set)), actions);
        let name = object::name(set);
        let revision = format!("{name}-{}", hash(&set["spec"]["template"]));
        let wanted = number(&set["spec"]["replicas"], 1);
        let parallel = set["spec"]["podManagementPolicy"] == "Parallel";
        let pods: Vec<&Value> = view.pods_of(set).map(|pod| &**pod).collect();
        let find = |index: i64| pods.iter().find(|pod| object::name(pod) == format!("{name}-{index}"));
        for index in 0..wanted {
            match find(index) {
                None => {
                    let pod_name = format!("{name}-{index}");
                    let labels = [
                        ("statefulset.kubernetes.io/pod-name", pod_name.as_str()),
                        ("apps.kubernetes.io/pod-index", &index.to_string()),
                        (REVISION, &revision),
                    ];
                    let mut created = pod(set, &set["spec"]["template"], Name::Fixed(&pod_name), &labels);
                    created["spec"]["hostname"] = pod_name.as_str().into();
                    created["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
                    actions.push(Action::Create(PODS, created));
                    if !parallel {
                        break;
                    }
                }
                Some(pod) if !is_ready(pod) && !parallel => break,
                Some(_) => {}
            }
        }
        for surplus in pods.iter().filter(|pod| is_active(pod)) {
            let index = object::name(surplus).rsplit('-').next().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
            if index >= wanted {
                actions.push(Action::Delete(PODS, object::namespace(surplus).to_owned(), object::name(surplus).to_owned()));
            }
        }
        // One pod of an old revision at a time, while all others are ready.
        let all_ready = pods.len() as i64 == wanted && pods.iter().all(|pod| is_ready(pod) && is_active(pod));
        let outdated = pods.iter().rfind(|pod| object::label(pod, REVISION) != Some(&revision) && is_active(pod));
        if let Some(old) = outdated
            && (all_ready || !is_ready(old))
        {
            actions.push(Action::Delete(PODS, object::namespace(old).to_owned(), object::name(old).to_owned()));
        }
        let count = |test: &dyn Fn(&Value) -> bool| pods.iter().filter(|pod| is_active(pod) && test(pod)).count();
        let ready = count(&is_ready);
        let updated = count(&|pod| object::label(pod, REVISION) == Some(&revision));
        let status = json!({
            "observedGeneration": set["metadata"]["generation"],
            "replicas": count(&|_| true),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": updated,
            "updatedReplicas": updated,
            "currentRevision": revision,
            "updateRevision": revision,
            "collisionCount": 0,
        });
        actions.extend(Action::status(STATEFUL_SETS, set, status));
    }
}
