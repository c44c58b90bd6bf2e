//! StatefulSets: pods NAME-0, NAME-1, …, in order or at once; a pod of an old revision is replaced, the last one first.

use apiserver::Gr;
use kubeapi::object;
use serde_json::{Value, json};

use super::template::{Name, hash, pod};
use super::{Action, PODS, STATEFUL_SETS, View, is_active, is_ready, number};

const REVISION: &str = "controller-revision-hash";

const CLAIMS: Gr = Gr::core("persistentvolumeclaims");

/// Gives a pod a claim for each of its set's templates. One that is there from an earlier pod of the name is used again.
fn claim(set: &Value, pod: &mut Value, actions: &mut Vec<Action>) {
    for template in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let volume = object::name(template).to_owned();
        let name = format!("{volume}-{}", object::name(pod));
        let mut metadata = template["metadata"].clone();
        metadata["name"] = name.as_str().into();
        metadata["namespace"] = object::namespace(set).into();
        for (key, value) in set["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
            metadata["labels"][key] = value.clone();
        }
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]});
        actions.push(Action::Create(CLAIMS, claim));
        let claimed = json!({"name": volume, "persistentVolumeClaim": {"claimName": name}});
        match pod["spec"]["volumes"].as_array_mut() {
            Some(volumes) => {
                volumes.retain(|other| other["name"] != claimed["name"]);
                volumes.push(claimed);
            }
            None => pod["spec"]["volumes"] = json!([claimed]),
        }
    }
}

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
                    claim(set, &mut created, actions);
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
