//! Snapshots: in progress for a moment, then there. They have no content.

use std::time::Duration;

use kubeapi::object;
use serde_json::json;

use super::super::curves::Seed;
use super::super::machine::seconds;
use super::super::queue::Outcome;
use super::super::status;
use super::Controller;

impl Controller {
    pub(super) async fn sync_snapshot(&self, key: &str) -> Outcome {
        let Some(snapshot) = self.stores.snapshots.as_ref().and_then(|snapshots| snapshots.get(key)) else {
            return Outcome::Done;
        };
        if matches!(status::phase(&snapshot), "Succeeded" | "Failed") || object::is_deleting(&snapshot) {
            return Outcome::Done;
        }
        let group = snapshot["apiVersion"].as_str().unwrap_or_default();
        let (namespace, name) = (object::namespace(&snapshot), object::name(&snapshot));
        let path = format!("/apis/{group}/namespaces/{namespace}/virtualmachinesnapshots/{name}/status");
        let source = format!("{namespace}/{}", snapshot["spec"]["source"]["name"].as_str().unwrap_or_default());
        if self.stores.vms.get(&source).is_none() {
            // It waits for its VM.
            return Outcome::Again(Duration::from_secs(5));
        }
        if status::phase(&snapshot).is_empty() {
            let new = json!({"phase": "InProgress", "readyToUse": false});
            return self.writer.patch(&path, &snapshot, json!({"status": new})).await;
        }
        let takes = Seed::of(namespace, name).with("snapshot").between(0.5, 2.0);
        let age = status::seconds_now() - seconds(&snapshot["metadata"]["creationTimestamp"]).unwrap_or_default();
        if age < takes {
            return Outcome::Again(Duration::from_secs_f64(takes - age));
        }
        let new =
            json!({"phase": "Succeeded", "readyToUse": true, "creationTime": status::now(), "sourceUID": object::uid(&snapshot)});
        self.writer.patch(&path, &snapshot, json!({"status": new})).await
    }
}
