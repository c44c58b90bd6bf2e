//! VirtualMachineInstances: pending, then a launcher, then handed over to virt-handler, and at the end cleared away.

use std::sync::Arc;
use std::time::Duration;

use kubeapi::object;
use serde_json::{Value, json};

use super::super::curves::Seed;
use super::super::machine::seconds;
use super::super::queue::Outcome;
use super::super::status;
use super::{CREATED_BY, Controller, VMI_NAME};

/// What keeps a deleted VMI until its launcher is gone.
pub(super) const FINALIZER: &str = "foregroundDeleteVirtualMachine";
/// The namespace in labels of launchers.
const LAUNCHER: &str = "virt-launcher";

impl Controller {
    pub(super) fn launcher_of(&self, vmi: &Value) -> Option<Arc<Value>> {
        self.stores.pods.get(&format!("{}/{}", object::namespace(vmi), launcher_name(vmi)))
    }

    pub(super) async fn sync_vmi(&self, key: &str) -> Outcome {
        let Some(vmi) = self.stores.vmis.get(key) else { return Outcome::Done };
        let pod = self.launcher_of(&vmi);
        if status::is_final(&vmi) {
            return self.clear(&vmi, pod.as_deref()).await;
        }
        match status::phase(&vmi) {
            _ if object::is_deleting(&vmi) && matches!(status::phase(&vmi), "" | "Pending" | "Scheduling") => {
                self.patch_vmi(&vmi, json!({"status": status::entering(&vmi, "Succeeded")})).await
            }
            "" => {
                let patch = json!({"metadata": {"finalizers": [FINALIZER]}, "status": status::entering(&vmi, "Pending")});
                self.patch_vmi(&vmi, patch).await
            }
            "Pending" => self.launch(&vmi, pod.is_some()).await,
            "Scheduling" => match pod {
                None => self.fail(&vmi, "its launcher is gone").await,
                Some(pod) if status::phase(&pod) == "Failed" => self.fail(&vmi, "its launcher failed").await,
                Some(pod) => self.hand_over(&vmi, &pod).await,
            },
            // Deleted on purpose, virt-handler brings it down.
            _ if pod.is_none() && !object::is_deleting(&vmi) => self.fail(&vmi, "its launcher is gone").await,
            _ if pod.is_none() => self.patch_vmi(&vmi, json!({"status": status::entering(&vmi, "Failed")})).await,
            _ => Outcome::Done,
        }
    }

    async fn fail(&self, vmi: &Value, why: &str) -> Outcome {
        self.writer.log.info("vmi.go:630", &format!("{} has failed: {why}", object::key(vmi)));
        self.patch_vmi(vmi, json!({"status": status::entering(vmi, "Failed")})).await
    }

    async fn launch(&self, vmi: &Value, launched: bool) -> Outcome {
        if !launched {
            let collection = format!("/api/v1/namespaces/{}/pods", object::namespace(vmi));
            let outcome = self.writer.create(&collection, &launcher(vmi, &self.launcher)).await;
            if outcome != Outcome::Done {
                return outcome;
            }
        }
        self.patch_vmi(vmi, json!({"status": status::entering(vmi, "Scheduling")})).await
    }

    /// When the launcher is ready, and not sooner than one is ready on a real node, virt-handler gets the VMI.
    async fn hand_over(&self, vmi: &Value, pod: &Value) -> Outcome {
        if status::phase(pod) != "Running" || pod["status"]["ready"] != "True" {
            return Outcome::Done;
        }
        let takes = Seed::of(object::namespace(vmi), object::name(vmi)).with("launch").between(0.8, 2.0);
        let age = status::seconds_now() - seconds(&pod["metadata"]["creationTimestamp"]).unwrap_or_default();
        if age < takes {
            return Outcome::Again(Duration::from_secs_f64(takes - age));
        }
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let mut new = status::entering(vmi, "Scheduled");
        new["nodeName"] = node.into();
        new["activePods"] = json!({object::uid(pod): node});
        new["interfaces"] = json!([{"ipAddress": pod["status"]["podIP"]}]);
        self.patch_vmi(vmi, json!({"metadata": {"labels": {"kubevirt.io/nodeName": node}}, "status": new})).await
    }

    /// A VMI that has ended keeps no launcher, and one that is deleted besides may go.
    async fn clear(&self, vmi: &Value, pod: Option<&Value>) -> Outcome {
        if let Some(pod) = pod.filter(|pod| !object::is_deleting(pod)) {
            let path = format!("/api/v1/namespaces/{}/pods/{}", object::namespace(pod), object::name(pod));
            let outcome = self.writer.delete(&path).await;
            if outcome != Outcome::Done {
                return outcome;
            }
        }
        let held = vmi["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        if object::is_deleting(vmi) && held && pod.is_none() {
            return self.patch_vmi(vmi, json!({"metadata": {"finalizers": null}})).await;
        }
        Outcome::Done
    }
}

/// A launcher's name: the API server adds five random letters (apimachinery `pkg/util/rand`), here they follow from the uid, so that it
/// can be found again.
fn launcher_name(vmi: &Value) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digits = object::uid(vmi).chars().filter_map(|letter| letter.to_digit(16)).take(12);
    let mut number = digits.fold(0, |number: u64, digit| number * 16 + u64::from(digit));
    let letters = std::iter::repeat_with(|| {
        let letter = ALPHABET[(number % ALPHABET.len() as u64) as usize];
        number /= ALPHABET.len() as u64;
        char::from(letter)
    });
    format!("{LAUNCHER}-{}-{}", object::name(vmi), letters.take(5).collect::<String>())
}

fn launcher(vmi: &Value, image: &str) -> Value {
    let mut labels = object::labels(vmi);
    for (key, value) in [("kubevirt.io", LAUNCHER), (CREATED_BY, object::uid(vmi)), (VMI_NAME, object::name(vmi))] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let memory =
        vmi["spec"]["domain"]["memory"]["guest"].as_str().or(vmi["spec"]["domain"]["resources"]["requests"]["memory"].as_str());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": launcher_name(vmi), "generateName": format!("{LAUNCHER}-{}-", object::name(vmi)), "namespace": object::namespace(vmi), "labels": labels,
            "annotations": {"kubevirt.io/domain": object::name(vmi)},
            "ownerReferences": [object::owner_reference(vmi)],
        },
        "spec": {
            "automountServiceAccountToken": false, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"kubevirt.io/schedulable": "true"},
            "containers": [{"name": "compute", "image": image, "resources": {"requests": {"cpu": "100m", "memory": memory.unwrap_or("256Mi")}}}],
        },
    })
}
