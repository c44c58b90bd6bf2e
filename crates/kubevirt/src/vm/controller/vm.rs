//! VirtualMachines: a VMI while one is wanted, and a status that people read.

use std::time::Duration;

use kubeapi::object;
use serde_json::{Value, json};

use super::super::machine::seconds;
use super::super::queue::Outcome;
use super::super::status;
use super::Controller;
use super::vmi::FINALIZER as VMI_FINALIZER;

/// What keeps a deleted VM until its VMI is gone.
const FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";
/// First and longest pause before a VM that failed is started again (kubevirt `vm.go`: 10 s, 300 s).
const RESTART: f64 = 10.0;
const MAX_RESTART: f64 = 300.0;

/// Whether a VM is to run; `ended` is whether its VMI has ended, and well.
fn is_wanted(vm: &Value, ended: Option<bool>) -> bool {
    let spec = &vm["spec"];
    match spec["runStrategy"].as_str() {
        Some("Always") => true,
        Some("RerunOnFailure") => ended != Some(true),
        Some("Once") => ended.is_none(),
        Some(_) => false,
        None => spec["running"] == true,
    }
}

/// The VMI of a VM.
fn instance(vm: &Value, api_version: &str) -> Value {
    let template = &vm["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    for (field, annotation) in
        [("instancetype", "kubevirt.io/cluster-instancetype-name"), ("preference", "kubevirt.io/cluster-preference-name")]
    {
        if let Some(name) = vm["spec"][field]["name"].as_str() {
            metadata["annotations"][annotation] = name.into();
        }
    }
    metadata["name"] = object::name(vm).into();
    metadata["namespace"] = object::namespace(vm).into();
    metadata["finalizers"] = json!([VMI_FINALIZER]);
    metadata["ownerReferences"] = json!([object::owner_reference(vm)]);
    let pending = json!({"phase": "Pending", "phaseTransitionTimestamps": [{"phase": "Pending", "phaseTransitionTimestamp": status::now()}]});
    json!({"apiVersion": api_version, "kind": "VirtualMachineInstance", "metadata": metadata, "spec": template["spec"], "status": pending})
}

impl Controller {
    pub(super) async fn sync_vm(&self, key: &str) -> Outcome {
        let Some(vm) = self.stores.vms.get(key) else { return Outcome::Done };
        let vmi = self.stores.vmis.get(key).filter(|vmi| object::is_controlled_by(vmi, &vm));
        let path = self.writer.path("virtualmachines", &vm);
        if object::is_deleting(&vm) {
            if let Some(vmi) = &vmi {
                if !object::is_deleting(vmi) {
                    return self.writer.delete(&self.writer.path("virtualmachineinstances", vmi)).await;
                }
                return self.tell(&vm, Some(vmi), false).await;
            }
            let held = vm["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
            return if held {
                self.writer.patch(&path, &vm, json!({"metadata": {"finalizers": null}})).await
            } else {
                Outcome::Done
            };
        }
        if vm["metadata"]["finalizers"].is_null() {
            return self.writer.patch(&path, &vm, json!({"metadata": {"finalizers": [FINALIZER]}})).await;
        }
        let failures = vm["status"]["startFailure"]["consecutiveFailCount"].as_f64().unwrap_or_default();
        match &vmi {
            None if is_wanted(&vm, None) => {
                let since = seconds(&vm["status"]["startFailure"]["lastFailedAt"]).unwrap_or_default();
                let left = (RESTART * failures).min(MAX_RESTART) - (status::seconds_now() - since);
                if failures > 0.0 && left > 0.0 {
                    let told = self.tell(&vm, None, true).await;
                    return if told == Outcome::Done { Outcome::Again(Duration::from_secs_f64(left)) } else { told };
                }
                let collection = format!("{}/namespaces/{}/virtualmachineinstances", self.writer.root, object::namespace(&vm));
                let outcome =
                    self.writer.create(&collection, &instance(&vm, vm["apiVersion"].as_str().unwrap_or("kubevirt.io/v1"))).await;
                if outcome != Outcome::Done { outcome } else { self.tell(&vm, None, true).await }
            }
            Some(vmi) if !object::is_deleting(vmi) && self.makes_room(&vm, vmi) => {
                let uid = object::uid(vmi);
                if status::phase(vmi) == "Failed" && vm["status"]["startFailure"]["lastFailedVMIUID"] != uid {
                    let failure =
                        json!({"consecutiveFailCount": failures + 1.0, "lastFailedAt": status::now(), "lastFailedVMIUID": uid});
                    let patch = json!({"status": {"startFailure": failure}});
                    let outcome = self.writer.patch(&format!("{path}/status"), &vm, patch).await;
                    if outcome != Outcome::Done {
                        return outcome;
                    }
                }
                self.writer.delete(&self.writer.path("virtualmachineinstances", vmi)).await
            }
            vmi => self.tell(&vm, vmi.as_deref(), false).await,
        }
    }

    /// Whether a VMI is deleted: since none is wanted, or since it has ended and another one is.
    fn makes_room(&self, vm: &Value, vmi: &Value) -> bool {
        let ended = status::is_final(vmi).then(|| status::phase(vmi) == "Succeeded");
        !is_wanted(vm, None) || (ended.is_some() && is_wanted(vm, ended))
    }

    /// Writes the status that people read, if it has changed.
    async fn tell(&self, vm: &Value, vmi: Option<&Value>, wanted: bool) -> Outcome {
        let mut conditions = vm["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let holds = |kind: &str| vmi.and_then(|vmi| object::condition(vmi, kind)) == Some("True");
        let running = vmi.is_some_and(|vmi| status::phase(vmi) == "Running");
        let ready = running && holds("Ready");
        status::set_condition(&mut conditions, "Ready", Some(ready));
        status::set_condition(&mut conditions, "Paused", holds("Paused").then_some(true));
        let printable = self.printable(vm, vmi, wanted);
        let mut new = json!({"printableStatus": printable, "created": vmi.is_some(), "ready": ready, "conditions": conditions});
        // One that runs well again has no failures behind it.
        if ready && !vm["status"]["startFailure"].is_null() {
            new["startFailure"] = Value::Null;
        }
        let same = new.as_object().into_iter().flatten().all(|(field, value)| vm["status"][field] == *value);
        if same {
            return Outcome::Done;
        }
        self.writer.patch(&format!("{}/status", self.writer.path("virtualmachines", vm)), vm, json!({"status": new})).await
    }

    fn printable(&self, vm: &Value, vmi: Option<&Value>, wanted: bool) -> &'static str {
        if object::is_deleting(vm) {
            return "Terminating";
        }
        let Some(vmi) = vmi else {
            let failed = !vm["status"]["startFailure"].is_null();
            return match (wanted, failed) {
                (true, true) => "CrashLoopBackOff",
                (true, false) => "Starting",
                _ => "Stopped",
            };
        };
        if object::is_deleting(vmi) {
            return "Stopping";
        }
        let migration = &vmi["status"]["migrationState"];
        match status::phase(vmi) {
            "Running" if object::condition(vmi, "Paused") == Some("True") => "Paused",
            "Running" if migration.is_object() && migration["completed"] != true => "Migrating",
            "Running" => "Running",
            "Succeeded" | "Failed" => "Stopped",
            "Scheduling" if self.is_unschedulable(vmi) => "ErrorUnschedulable",
            _ => "Starting",
        }
    }

    fn is_unschedulable(&self, vmi: &Value) -> bool {
        self.launcher_of(vmi).is_some_and(|pod| pod["status"]["scheduled"] == "False")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_strategies() {
        for (spec, ended, expected) in [
            (json!({"running": true}), None, true),
            (json!({"running": false}), None, false),
            (json!({}), None, false),
            (json!({"runStrategy": "Always"}), Some(true), true),
            (json!({"runStrategy": "RerunOnFailure"}), Some(true), false),
            (json!({"runStrategy": "RerunOnFailure"}), Some(false), true),
            (json!({"runStrategy": "Once"}), None, true),
            (json!({"runStrategy": "Once"}), Some(false), false),
            (json!({"runStrategy": "Halted"}), None, false),
            (json!({"runStrategy": "Manual"}), None, false),
        ] {
            assert_eq!(is_wanted(&json!({"spec": spec}), ended), expected, "{spec} {ended:?}");
        }
    }
}
