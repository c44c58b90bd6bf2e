//! Migrations: through their phases, with times as on a quiet network. There is one node, so source and target are the same.

use std::time::Duration;

use kubeapi::object;
use serde_json::{Value, json};

use super::super::curves::Seed;
use super::super::machine::{Vmi, seconds};
use super::super::queue::Outcome;
use super::super::status;
use super::{Controller, entered};

/// Bytes a second that memory moves with (KubeVirt's `bandwidthPerMigration` of 64Mi).
const BANDWIDTH: f64 = 64.0 * 1024.0 * 1024.0;

/// The way of a migration: each phase, and how long it takes at least and at most.
const WAY: [(&str, f64, f64); 6] = [
    ("Pending", 0.1, 0.4),
    ("Scheduling", 0.8, 2.0),
    ("Scheduled", 0.1, 0.5),
    ("PreparingTarget", 0.2, 0.8),
    ("TargetReady", 0.1, 0.4),
    ("Running", 1.0, 2.0),
];

impl Controller {
    pub(super) async fn sync_migration(&self, key: &str) -> Outcome {
        let Some(migration) = self.stores.migrations.get(key) else { return Outcome::Done };
        let phase = status::phase(&migration);
        if matches!(phase, "Succeeded" | "Failed") || object::is_deleting(&migration) {
            return Outcome::Done;
        }
        let vmi_key = format!("{}/{}", object::namespace(&migration), migration["spec"]["vmiName"].as_str().unwrap_or_default());
        let vmi = self.stores.vmis.get(&vmi_key).filter(|vmi| status::phase(vmi) == "Running" && !object::is_deleting(vmi));
        let Some(vmi) = vmi else { return self.enter(&migration, "Failed").await };
        let Some(index) = WAY.iter().position(|(name, ..)| *name == phase) else {
            return self.enter(&migration, "Pending").await;
        };
        let (_, low, high) = WAY[index];
        let mut takes = Seed::of(object::namespace(&migration), object::name(&migration)).with(phase).between(low, high);
        if phase == "Running" {
            takes += Vmi::of(&vmi).hardware.memory / BANDWIDTH;
        }
        let since = entered(&migration, phase).unwrap_or_default();
        let left = takes - (status::seconds_now() - since);
        if left > 0.0 {
            return Outcome::Again(Duration::from_secs_f64(left));
        }
        let next = WAY.get(index + 1).map_or("Succeeded", |(name, ..)| name);
        let told = match next {
            "Running" | "Succeeded" => self.tell_vmi(&vmi, &migration, next).await,
            _ => Outcome::Done,
        };
        if told == Outcome::Done { self.enter(&migration, next).await } else { told }
    }

    async fn enter(&self, migration: &Value, phase: &str) -> Outcome {
        let path = format!("{}/status", self.writer.path("virtualmachineinstancemigrations", migration));
        self.writer.patch(&path, migration, json!({"status": status::entering(migration, phase)})).await
    }

    /// The VMI knows of the migration while it runs, and afterwards how it ended.
    async fn tell_vmi(&self, vmi: &Value, migration: &Value, phase: &str) -> Outcome {
        let node = &vmi["status"]["nodeName"];
        let mut state = json!({
            "migrationUid": object::uid(migration), "sourceNode": node, "targetNode": node,
            "startTimestamp": vmi["status"]["migrationState"]["startTimestamp"],
        });
        let known = vmi["status"]["migrationState"]["migrationUid"] == object::uid(migration);
        if phase == "Running" {
            if known {
                return Outcome::Done;
            }
            state["startTimestamp"] = status::now().into();
            state["completed"] = false.into();
            state["endTimestamp"] = Value::Null;
        } else {
            if seconds(&vmi["status"]["migrationState"]["endTimestamp"]).is_some() && known {
                return Outcome::Done;
            }
            state["endTimestamp"] = status::now().into();
            state["completed"] = true.into();
        }
        self.patch_vmi(vmi, json!({"status": {"migrationState": state}})).await
    }
}
