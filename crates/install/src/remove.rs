//! Takes off a cluster what a lab has put there, and nothing else.
//!
//! The label is the inventory: it is in the cluster, so it is true even if the lab's folder is lost. Definitions and namespaces go last,
//! and only if nothing of somebody else would go with them.

use std::time::Duration;

use kubeapi::object;
use serde_json::Value;

use crate::INSTALLED_BY;
use crate::api::{Api, ApiError};
use crate::run::Progress;

/// How often it is looked whether something is gone.
const PERIOD: Duration = Duration::from_millis(250);

/// Something of the lab's that was left, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The object.
    pub what: String,
    /// Why it was left.
    pub why: String,
}

/// An object of ours, with its path.
struct Ours {
    path: String,
    object: Value,
}

/// In which turn a kind goes: what others act on first, what everything is in last.
fn turn(kind: &str, base: &str) -> usize {
    match kind {
        // Its operator has to be there to take it apart.
        "KubeVirt" => 0,
        "Namespace" => 5,
        "CustomResourceDefinition" => 4,
        // What the operators of custom resources need is among the rest.
        _ if base.contains('.') && !base.contains(".k8s.io/") && base != "/apis/rbac.authorization.k8s.io/v1" => 1,
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" | "APIService" => 2,
        _ => 3,
    }
}

async fn find(api: &Api, lab: &str) -> Result<Vec<(usize, Ours)>, ApiError> {
    let mut found = Vec::new();
    for served in api.all_kinds().await? {
        let path = format!("{}?labelSelector={INSTALLED_BY}%3D{lab}", served.collection(""));
        for object in api.list(&path).await? {
            // What an object of ours made goes with it.
            if object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty()) {
                continue;
            }
            let path = served.object(object::namespace(&object), object::name(&object));
            found.push((turn(&served.kind, &served.base), Ours { path, object }));
        }
    }
    found.sort_by_key(|(turn, _)| *turn);
    Ok(found)
}

/// Objects of a definition's kind that are not the lab's: they would be deleted with it.
async fn foreign_of(api: &Api, definition: &Value, lab: &str) -> Result<Vec<String>, ApiError> {
    let spec = &definition["spec"];
    let group = spec["group"].as_str().unwrap_or_default();
    let served = spec["versions"].as_array().into_iter().flatten().find(|version| version["served"] == true);
    let version = served.and_then(|version| version["name"].as_str()).unwrap_or_default();
    let plural = spec["names"]["plural"].as_str().unwrap_or_default();
    let all = api.list(&format!("/apis/{group}/{version}/{plural}")).await?;
    Ok(foreign(&all, lab))
}

/// Those that are not the lab's and were not made by anything.
fn foreign(objects: &[Value], lab: &str) -> Vec<String> {
    let others = objects.iter().filter(|found| {
        found["metadata"]["labels"][INSTALLED_BY] != lab
            && found["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
            && !object::is_deleting(found)
    });
    others.map(|found| format!("{} {}", object::kind(found).to_lowercase(), object::key(found))).collect()
}

/// Workloads and claims of somebody else in a namespace.
async fn foreign_in(api: &Api, namespace: &str, lab: &str) -> Result<Vec<String>, ApiError> {
    let mut all = Vec::new();
    for path in [
        "/apis/apps/v1/namespaces/NS/deployments",
        "/apis/apps/v1/namespaces/NS/statefulsets",
        "/apis/apps/v1/namespaces/NS/daemonsets",
        "/apis/batch/v1/namespaces/NS/jobs",
        "/api/v1/namespaces/NS/pods",
        "/api/v1/namespaces/NS/persistentvolumeclaims",
    ] {
        all.extend(foreign(&api.list(&path.replace("NS", namespace)).await?, lab));
    }
    Ok(all)
}

impl super::Installer<'_> {
    /// Deletes everything that bears the lab's name; what had to be left, and why. Waits until it is gone.
    ///
    /// # Errors
    /// When the API server does not answer, or the user may not delete.
    pub async fn remove(&self) -> Result<Vec<Left>, ApiError> {
        self.api.forget_kinds();
        let all = find(self.api, self.lab).await?;
        let mut left = Vec::new();
        let count = all.len();
        let mut done = 0;
        let mut rest = all.into_iter().peekable();
        while let Some((turn, _)) = rest.peek() {
            let turn = *turn;
            let mut going = Vec::new();
            while let Some((_, ours)) = rest.next_if(|(next, _)| *next == turn) {
                (self.told)(Progress::Doing(&format!("removing {done} of {count} objects")));
                done += 1;
                let others = match object::kind(&ours.object) {
                    "CustomResourceDefinition" => foreign_of(self.api, &ours.object, self.lab).await?,
                    "Namespace" => foreign_in(self.api, object::name(&ours.object), self.lab).await?,
                    _ => Vec::new(),
                };
                let what = format!("{} {}", object::kind(&ours.object), object::key(&ours.object));
                if !others.is_empty() {
                    left.push(Left { what, why: format!("it holds what the lab has not installed: {}", others.join(", ")) });
                    continue;
                }
                self.api.delete(&ours.path).await?;
                going.push((what, ours.path));
            }
            left.extend(self.gone(going).await?);
        }
        (self.told)(Progress::Done(&format!("{} objects removed", count - left.len())));
        Ok(left)
    }

    /// Waits until objects are gone; those that stay are told.
    async fn gone(&self, mut going: Vec<(String, String)>) -> Result<Vec<Left>, ApiError> {
        let mut deadline = wire::patience::Deadline::after(self.patience);
        loop {
            let mut still = Vec::new();
            for (what, path) in going {
                if let Some(found) = self.api.get(&path).await? {
                    let finalizers: Vec<&str> =
                        found["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    still.push((what, path, finalizers.join(", ")));
                }
            }
            let Some((first, ..)) = still.first() else { return Ok(Vec::new()) };
            if deadline.is_over() {
                let why = |finalizers: String| match finalizers.as_str() {
                    "" => format!("it was still there {} s after it was deleted", self.patience.as_secs()),
                    finalizers => format!("it waits for its finalizers: {finalizers}"),
                };
                return Ok(still.into_iter().map(|(what, _, finalizers)| Left { what, why: why(finalizers) }).collect());
            }
            (self.told)(Progress::Doing(&format!("waiting until {first} is gone")));
            going = still.into_iter().map(|(what, path, _)| (what, path)).collect();
            tokio::time::sleep(PERIOD).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_acts_on_others_goes_before_them() {
        let order = [
            turn("KubeVirt", "/apis/kubevirt.io/v1"),
            turn("ServiceMonitor", "/apis/monitoring.coreos.com/v1"),
            turn("APIService", "/apis/apiregistration.k8s.io/v1"),
            turn("Deployment", "/apis/apps/v1"),
            turn("CustomResourceDefinition", "/apis/apiextensions.k8s.io/v1"),
            turn("Namespace", "/api/v1"),
        ];
        assert!(order.is_sorted() && order.first() < order.last(), "{order:?}");
        assert_eq!(turn("Role", "/apis/rbac.authorization.k8s.io/v1"), turn("Service", "/api/v1"));
    }

    #[test]
    fn what_is_not_ours_is_seen() {
        let object = |name: &str, labels: Value, owners: Value| json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": labels, "ownerReferences": owners}});
        let all = [
            object("ours", json!({INSTALLED_BY: "lab"}), json!([])),
            object("made", json!({}), json!([{"name": "x"}])),
            object("other", json!({}), Value::Null),
        ];
        assert_eq!(foreign(&all, "lab"), ["pod n/other"]);
    }
}
