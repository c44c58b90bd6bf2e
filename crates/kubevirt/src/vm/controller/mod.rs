//! What the leading virt-controller does for VMs: VirtualMachines get their VirtualMachineInstances, those get launchers, migrations and
//! snapshots are brought to their end.
//!
//! As in KubeVirt each kind has a work queue, and what is to be done is decided on what the caches know. There is one node, so a migration
//! ends where it began; a snapshot has no content.

mod migration;
mod snapshot;
mod vm;
mod vmi;

use std::sync::Arc;

use kubeapi::object;
use metrics::Registry;
use serde_json::Value;

use super::collect::Stores;
use super::machine::seconds;
use super::measures::{Measure, Way};
use super::queue::{Outcome, WorkQueue};
use super::status::{self, Writer};
use crate::informer::{Change, Informer};

/// Objects of one kind at a time.
const WORKERS: usize = 10;
/// The label of a launcher that names its VMI.
pub(crate) const VMI_NAME: &str = "vm.kubevirt.io/name";
/// The label of a launcher that has its VMI's uid.
const CREATED_BY: &str = "kubevirt.io/created-by";

/// The families that the controller observes phases in.
#[derive(Clone, Default)]
pub(crate) struct Transitions {
    between: Option<String>,
    from_creation: Option<String>,
    from_deletion: Option<String>,
    migration: Option<String>,
}

impl Transitions {
    pub(crate) fn of(find: impl Fn(Measure) -> Option<String>) -> Self {
        Self {
            between: find(Measure::Way(Way::PhaseTransition)),
            from_creation: find(Measure::Way(Way::PhaseFromCreation)),
            from_deletion: find(Measure::Way(Way::PhaseFromDeletion)),
            migration: find(Measure::Way(Way::MigrationPhaseFromCreation)),
        }
    }
}

pub(crate) struct Controller {
    pub(crate) writer: Writer,
    pub(crate) stores: Stores,
    pub(crate) registry: Arc<Registry>,
    /// Names of work queues that have metrics.
    pub(crate) queues: Vec<String>,
    pub(crate) transitions: Transitions,
    /// The image of launchers.
    pub(crate) launcher: String,
}

/// When an object came to a phase, in seconds since 1970.
fn entered(object: &Value, phase: &str) -> Option<f64> {
    let mut times = object["status"]["phaseTransitionTimestamps"].as_array()?.iter();
    seconds(&times.find(|step| step["phase"] == phase)?["phaseTransitionTimestamp"])
}

impl Controller {
    /// Never ends.
    pub(crate) async fn run(self) {
        let queue = |name: &str| WorkQueue::new(name, &self.queues, self.registry.clone());
        let (vms, vmis) = (queue("virt-controller-vm"), queue("virt-controller-vmi"));
        let (migrations, snapshots) = (queue("virt-controller-migration"), queue("virt-controller-snapshot-vmsnapshot"));
        let controller = &self;
        let stores = &self.stores;
        let of_vms = feed(&stores.vms, |change| vms.add(change.key));
        let of_vmis = feed(&stores.vmis, |change| {
            controller.observe(&change);
            // A VMI has its VM's name.
            vms.add(change.key.clone());
            vmis.add(change.key);
        });
        let of_pods = feed(&stores.pods, |change| {
            let pod = change.after.as_ref().or(change.before.as_ref());
            if let Some((pod, name)) = pod.and_then(|pod| Some((pod, object::label(pod, VMI_NAME)?))) {
                vmis.add(format!("{}/{name}", object::namespace(pod)));
            }
        });
        let of_migrations = feed(&stores.migrations, |change| {
            controller.observe_migration(&change);
            migrations.add(change.key);
        });
        let of_snapshots = async {
            if let Some(informer) = &stores.snapshots {
                feed(informer, |change| snapshots.add(change.key)).await;
            }
        };
        tokio::join!(
            of_vms,
            of_vmis,
            of_pods,
            of_migrations,
            of_snapshots,
            vms.clone().work(WORKERS, |key| async move { controller.sync_vm(&key).await }),
            vmis.clone().work(WORKERS, |key| async move { controller.sync_vmi(&key).await }),
            migrations.clone().work(WORKERS, |key| async move { controller.sync_migration(&key).await }),
            snapshots.clone().work(WORKERS, |key| async move { controller.sync_snapshot(&key).await }),
        );
    }

    /// Observes the way from one phase to the next (kubevirt `perfscale_metrics.go`): times are the object's, so whole seconds.
    fn observe(&self, change: &Change) {
        let Some(before) = &change.before else { return };
        let Some(after) = &change.after else {
            let labels = [("namespace", object::namespace(before)), ("name", object::name(before))];
            self.registry.remove("kubevirt_vmi_sync_total", &labels);
            return;
        };
        let (last, phase) = (status::phase(before), status::phase(after));
        // A VMI is pending from the start.
        if last == phase || phase == "Pending" {
            return;
        }
        let Some(now) = entered(after, phase) else { return };
        let observe = |family: &Option<String>, labels: &[(&str, &str)], since: Option<f64>| {
            if let (Some(family), Some(since)) = (family, since) {
                self.registry.observe(family, labels, (now - since).max(0.0));
            }
        };
        let created = seconds(&after["metadata"]["creationTimestamp"]);
        let since = if last.is_empty() { created } else { entered(after, last) };
        observe(&self.transitions.between, &[("phase", phase), ("last_phase", last)], since);
        observe(&self.transitions.from_creation, &[("phase", phase)], created);
        if status::is_final(after) {
            observe(&self.transitions.from_deletion, &[("phase", phase)], seconds(&after["metadata"]["deletionTimestamp"]));
        }
    }

    fn observe_migration(&self, change: &Change) {
        let (Some(before), Some(after), Some(family)) = (&change.before, &change.after, &self.transitions.migration) else {
            return;
        };
        let phase = status::phase(after);
        if phase == status::phase(before) {
            return;
        }
        if let (Some(created), Some(now)) = (seconds(&after["metadata"]["creationTimestamp"]), entered(after, phase)) {
            self.registry.observe(family, &[("phase", phase)], (now - created).max(0.0));
        }
    }

    /// Patches a VMI and counts that it was.
    async fn patch_vmi(&self, vmi: &Value, patch: Value) -> Outcome {
        let outcome = self.writer.patch(&self.writer.path("virtualmachineinstances", vmi), vmi, patch).await;
        if outcome == Outcome::Done {
            let labels = [("namespace", object::namespace(vmi)), ("name", object::name(vmi))];
            self.registry.add("kubevirt_vmi_sync_total", &labels, 1.0);
        }
        outcome
    }
}

/// Hands each change on, for ever.
async fn feed(informer: &Informer, mut take: impl FnMut(Change)) {
    let mut changes = informer.handler();
    while let Some(change) = changes.recv().await {
        take(change);
    }
}
