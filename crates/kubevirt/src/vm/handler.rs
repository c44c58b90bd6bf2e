//! What virt-handler does for the VMIs of its node: it brings domains up and down, and tells what guests tell.
//!
//! Nothing is virtualised. A domain comes up after a time that depends on its name, and runs on curves. What no guest is there to do,
//! an annotation asks for: `lab.kubevirt.io/state: paused` or `crashed`; `lab.kubevirt.io/guest-agent: "false"` for a guest without agent.

use std::sync::Arc;
use std::time::Duration;

use kubeapi::object;
use metrics::Registry;
use serde_json::{Value, json};

use super::curves::Seed;
use super::machine::seconds;
use super::pause::Pauses;
use super::queue::{Outcome, WorkQueue};
use super::status::{self, Writer};
use crate::informer::{Change, Informer};

/// What a person wants a guest to be.
pub(crate) const STATE: &str = "lab.kubevirt.io/state";
/// Whether the guest has an agent.
const AGENT: &str = "lab.kubevirt.io/guest-agent";
/// VMIs at a time.
const WORKERS: usize = 10;

pub(crate) struct Handler {
    pub(crate) writer: Writer,
    pub(crate) vmis: Arc<Informer>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) queues: Vec<String>,
}

/// The system that an image brings, as far as its name tells, and whether an agent is in it.
fn guest(vmi: &Value) -> (Value, bool) {
    let volumes = vmi["spec"]["volumes"].as_array().into_iter().flatten();
    let image = volumes.filter_map(|volume| volume["containerDisk"]["image"].as_str()).next().unwrap_or_default();
    let known = [
        ("cirros", "CirrOS", "0.6.2", "5.15.0-71-generic", false),
        ("alpine", "Alpine Linux", "3.20.2", "6.6.41-0-virt", false),
        ("ubuntu", "Ubuntu", "24.04", "6.8.0-41-generic", true),
        ("centos", "CentOS Stream", "9", "5.14.0-503.el9.x86_64", true),
    ];
    let fedora = ("fedora", "Fedora Linux", "41", "6.11.4-301.fc41.x86_64", true);
    let (id, name, version, kernel, agent) = known.into_iter().find(|(word, ..)| image.contains(word)).unwrap_or(fedora);
    let system = json!({
        "id": id, "name": name, "versionId": version, "version": version, "prettyName": format!("{name} {version}"),
        "kernelRelease": kernel, "kernelVersion": "#1 SMP PREEMPT_DYNAMIC", "machine": "x86_64",
    });
    (system, object::annotation(vmi, AGENT).map_or(agent, |wanted| wanted != "false"))
}

/// The addresses of a guest: that of its pod on the first card; others only where an agent tells.
fn interfaces(vmi: &Value, agent: bool) -> Value {
    let address = vmi["status"]["interfaces"][0]["ipAddress"].clone();
    let cards = vmi["spec"]["domain"]["devices"]["interfaces"].as_array().into_iter().flatten().enumerate();
    cards
        .map(|(index, card)| {
            let mut found = json!({"name": card["name"], "mac": format!("02:00:00:00:00:{index:02x}"), "queueCount": 1});
            if agent {
                found["interfaceName"] = format!("eth{index}").into();
                found["infoSource"] = "domain, guest-agent".into();
            } else {
                found["infoSource"] = "domain".into();
            }
            if index == 0 && address.is_string() {
                found["ipAddress"] = address.clone();
                found["ipAddresses"] = json!([address]);
            }
            found
        })
        .collect()
}

impl Handler {
    /// Never ends.
    pub(crate) async fn run(self) {
        let queue = WorkQueue::new("virt-handler-vm", &self.queues, self.registry.clone());
        let mut changes = self.vmis.handler();
        let handler = &self;
        let feed = async {
            while let Some(Change { key, before, after }) = changes.recv().await {
                if let (Some(gone), None) = (before, after) {
                    handler.pauses.forget(object::uid(&gone));
                    handler.forget(&gone);
                }
                queue.add(key);
            }
        };
        let work = queue.clone().work(WORKERS, |key| async move { handler.sync(&key).await });
        tokio::join!(feed, work);
    }

    fn forget(&self, vmi: &Value) {
        let labels = [("namespace", object::namespace(vmi)), ("name", object::name(vmi))];
        self.registry.remove("kubevirt_vmi_sync_total", &labels);
    }

    async fn patch(&self, vmi: &Value, status: Value) -> Outcome {
        let path = self.writer.path("virtualmachineinstances", vmi);
        let outcome = self.writer.patch(&path, vmi, json!({"status": status})).await;
        if outcome == Outcome::Done {
            let labels = [("namespace", object::namespace(vmi)), ("name", object::name(vmi))];
            self.registry.add("kubevirt_vmi_sync_total", &labels, 1.0);
        }
        outcome
    }

    /// How long ago a VMI came to its phase.
    fn age(vmi: &Value) -> f64 {
        let times = vmi["status"]["phaseTransitionTimestamps"].as_array();
        let since = times.and_then(|times| seconds(&times.last()?["phaseTransitionTimestamp"]));
        since.map_or(f64::MAX, |since| status::seconds_now() - since)
    }

    /// What is left of a time that something takes, counted from when the VMI came to its phase.
    fn left(vmi: &Value, word: &str, low: f64, high: f64) -> Option<Duration> {
        let takes = Seed::of(object::namespace(vmi), object::name(vmi)).with(word).between(low, high);
        let left = takes - Self::age(vmi);
        (left > 0.0).then(|| Duration::from_secs_f64(left))
    }

    async fn sync(&self, key: &str) -> Outcome {
        let Some(vmi) = self.vmis.get(key) else { return Outcome::Done };
        match status::phase(&vmi) {
            "Scheduled" if object::is_deleting(&vmi) => self.patch(&vmi, status::entering(&vmi, "Succeeded")).await,
            "Scheduled" => match Self::left(&vmi, "boot", 1.0, 2.5) {
                Some(left) => Outcome::Again(left),
                None => self.start(&vmi).await,
            },
            "Running" => self.keep(&vmi).await,
            _ => Outcome::Done,
        }
    }

    async fn start(&self, vmi: &Value) -> Outcome {
        let mut new = status::entering(vmi, "Running");
        let (system, agent) = guest(vmi);
        let mut conditions = vmi["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let claims =
            vmi["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| volume["persistentVolumeClaim"].is_object());
        for (kind, holds) in [("Ready", Some(true)), ("LiveMigratable", Some(!claims)), ("AgentConnected", agent.then_some(true))]
        {
            status::set_condition(&mut conditions, kind, holds);
        }
        new["conditions"] = conditions.into();
        new["interfaces"] = interfaces(vmi, agent);
        if agent {
            new["guestOSInfo"] = system;
        }
        let machine = vmi["spec"]["domain"]["machine"]["type"].as_str().filter(|machine| *machine != "q35");
        new["machine"] = json!({"type": machine.unwrap_or("pc-q35-rhel9.6.0")});
        self.patch(vmi, new).await
    }

    async fn keep(&self, vmi: &Value) -> Outcome {
        let wanted = object::annotation(vmi, STATE).unwrap_or_default();
        let paused = object::condition(vmi, "Paused") == Some("True");
        self.pauses.note(object::uid(vmi), paused, status::seconds_now());
        if object::is_deleting(vmi) {
            let since = seconds(&vmi["metadata"]["deletionTimestamp"]).unwrap_or_default();
            let takes = Seed::of(object::namespace(vmi), object::name(vmi)).with("stop").between(0.3, 1.2);
            let left = takes - (status::seconds_now() - since);
            return if left > 0.0 {
                Outcome::Again(Duration::from_secs_f64(left))
            } else {
                self.patch(vmi, status::entering(vmi, "Succeeded")).await
            };
        }
        if wanted == "crashed" {
            let labels = [
                ("namespace", object::namespace(vmi)),
                ("name", object::name(vmi)),
                ("type", "unknown"),
                ("bugcheck_code", "unknown"),
            ];
            let mut new = status::entering(vmi, "Failed");
            new["conditions"] = status::condition(vmi, "Ready", Some(false));
            let outcome = self.patch(vmi, new).await;
            if outcome == Outcome::Done {
                self.registry.add("kubevirt_vmi_guest_os_panic_total", &labels, 1.0);
                self.writer.log.error("vm.go:1801", &format!("domain of {} has crashed", object::key(vmi)));
            }
            return outcome;
        }
        if (wanted == "paused") != paused {
            let holds = (wanted == "paused").then_some(true);
            return self.patch(vmi, json!({"conditions": status::condition(vmi, "Paused", holds)})).await;
        }
        Outcome::Done
    }
}
