//! Series of VMs on a component's page, as they are when the page is asked for.
//!
//! Each object is read once for each of its versions ([`super::machine`]); what changes with time alone is computed ([`super::measure`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use kubeapi::object;
use metrics::{Collector, Family, Samples};
use serde_json::Value;
use tokio::sync::Notify;

use super::labels_config::LabelsConfig;
use super::machine::{Vm, Vmi, vm_labels};
use super::measure::{Domain, of_vm, of_vmi};
use super::measures::{Measure, OfAll, OfDomain, OfVm, OfVmi};
use super::pause::Pauses;
use crate::defect::{Defect, Defects};
use crate::informer::Informer;
use crate::release::CatalogueFamily;

/// What a family shows of a measure.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    measure: Measure,
    /// Labels that a point must have, each with its value.
    only: BTreeMap<String, String>,
    /// Labels of the family that a point has under another name: the family's, then the point's.
    renamed: Vec<(String, String)>,
    /// Whether the labels of the VMI come along, as `kubernetes_vmi_label_*`.
    with_labels: bool,
    /// Whether samples are taken every [`POLL`] seconds and shown once, each with its time.
    queued: bool,
    /// What stands for what a VM does not say of itself.
    empty: Option<String>,
}

/// What a VM may say of itself or not.
const SAID: [&str; 8] = ["os", "workload", "flavor", "machine_type", "instance_type", "preference", "vmi_pod", "volume_mode"];

/// The families of a component that are measured, by name.
pub(crate) fn shown(families: &[CatalogueFamily]) -> HashMap<String, Shown> {
    let measured = families.iter().filter_map(|family| {
        let shown = Shown {
            measure: family.measure?,
            only: family.only.clone(),
            renamed: family.from.iter().map(|(label, point)| (label.clone(), point.clone())).collect(),
            with_labels: family.vmi_labels,
            queued: family.queued,
            empty: family.empty.clone(),
        };
        Some((family.name.clone(), shown))
    });
    measured.collect()
}

/// An object that was read, at one of its versions.
struct Read<T> {
    version: Arc<str>,
    found: Arc<T>,
}

/// Objects that were read, as of a generation of their informer: a page asks for them once for each family.
struct Reads<T>(Mutex<Known<T>>);

struct Known<T> {
    generation: Option<u64>,
    by_key: HashMap<String, Read<T>>,
    all: Arc<[Arc<T>]>,
}

impl<T> Default for Reads<T> {
    fn default() -> Self {
        Self(Mutex::new(Known { generation: None, by_key: HashMap::new(), all: Arc::new([]) }))
    }
}

impl<T> Reads<T> {
    /// In order of the keys.
    fn of(&self, informer: &Informer, read: impl Fn(&Value) -> T) -> Arc<[Arc<T>]> {
        let mut known = self.0.lock().expect("no panic while held");
        let generation = informer.generation();
        if known.generation == Some(generation) {
            return known.all.clone();
        }
        let mut by_key = HashMap::with_capacity(known.by_key.len());
        let mut all = Vec::with_capacity(known.by_key.len());
        for (key, object) in informer.cached() {
            let found = match known.by_key.remove(&key) {
                Some(read) if read.version == *object.version() => read.found,
                _ => Arc::new(read(&object.value())),
            };
            all.push(found.clone());
            by_key.insert(key, Read { version: object.version().clone(), found });
        }
        *known = Known { generation: Some(generation), by_key, all: all.into() };
        known.all.clone()
    }
}

/// Writes points of a family.
struct Writer<'a, 'b> {
    family: &'a Family,
    shown: &'a Shown,
    samples: &'a mut Samples<'b>,
    /// When the points were taken, in milliseconds since 1970; nothing for now.
    at: Option<i64>,
}

impl Writer<'_, '_> {
    /// A point of this VMI or VM, with labels that are not the family's.
    fn point(&mut self, labels: &[(&str, &str)], value: f64, more: &[(String, String)]) {
        let find = |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| *value);
        if self.shown.only.iter().any(|(label, wanted)| find(label) != wanted) {
            return;
        }
        let family = self.family.labels.iter().map(|label| {
            let of = self.shown.renamed.iter().find(|(name, _)| name == label).map_or(label.as_str(), |(_, of)| of);
            let value = match (find(of), &self.shown.empty) {
                ("", Some(empty)) if SAID.contains(&label.as_str()) => empty,
                (value, _) => value,
            };
            (label.as_str(), value)
        });
        let more = more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.samples.push_at(merged(family, more), value, self.at);
    }
}

/// Two lists in order of their names as one.
fn merged<'a>(
    left: impl Iterator<Item = (&'a str, &'a str)>,
    right: impl Iterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if a.0 <= b.0 => left.next(),
        (Some(_), None) => left.next(),
        _ => right.next(),
    })
}

/// What the leading virt-controller tells; until it leads, its stores are empty.
pub(crate) struct ControllerCollector {
    shown: HashMap<String, Shown>,
    defects: Defects,
    stores: Mutex<Option<Stores>>,
    vmis: Reads<Vmi>,
    vms: Reads<Vm>,
    launchers: Reads<Option<(String, String)>>,
    /// Which labels of VMs are shown, once somebody has asked for them.
    labels_config: OnceLock<Arc<Informer>>,
    labels_wanted: Notify,
}

/// The caches that virt-controller's collectors read.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) vmis: Arc<Informer>,
    pub(crate) vms: Arc<Informer>,
    pub(crate) pods: Arc<Informer>,
    pub(crate) migrations: Arc<Informer>,
    pub(crate) claims: Option<Arc<Informer>>,
    pub(crate) snapshots: Option<Arc<Informer>>,
}

impl ControllerCollector {
    pub(crate) fn new(families: &[CatalogueFamily], defects: Defects) -> Self {
        Self {
            shown: shown(families),
            defects,
            stores: Mutex::default(),
            vmis: Reads::default(),
            vms: Reads::default(),
            launchers: Reads::default(),
            labels_config: OnceLock::new(),
            labels_wanted: Notify::new(),
        }
    }

    /// From now on it leads.
    pub(crate) fn lead(&self, stores: Stores) {
        *self.stores.lock().expect("no panic while held") = Some(stores);
    }

    fn vmis(&self, measure: OfVmi, stores: &Stores, writer: &mut Writer<'_, '_>) {
        let others = match measure {
            OfVmi::VmiInfo => self.launchers.of(&stores.pods, launcher).iter().filter_map(|found| (**found).clone()).collect(),
            OfVmi::MigrationStart | OfVmi::MigrationEnd => by_uid(&stores.migrations),
            OfVmi::VmiNonEvictable | OfVmi::VmiAddress | OfVmi::VmiVnic | OfVmi::VmiOverhead => HashMap::new(),
        };
        for vmi in self.vmis.of(&stores.vmis, Vmi::of).iter() {
            let of_migration = matches!(measure, OfVmi::MigrationStart | OfVmi::MigrationEnd);
            let uid = vmi.migration.as_ref().filter(|_| of_migration).map_or(&vmi.uid, |migration| &migration.uid);
            let other = others.get(uid).map_or("", String::as_str);
            let more: &[(String, String)] = if writer.shown.with_labels { &vmi.labels } else { &[] };
            let anonymous = self.defects.has(Defect::AddressesWithoutNames) && measure == OfVmi::VmiAddress && !vmi.agent;
            let mut named = |labels: &[(&str, &str)], value: f64| {
                let nameless: Vec<(&str, &str)>;
                let mut labels = labels;
                if anonymous {
                    // Without a guest agent nobody tells names and addresses: the card's own name was not asked for.
                    let of_vmi = ["node", "namespace", "name"];
                    let kept = labels.iter().filter(|(name, _)| of_vmi.contains(name));
                    nameless = kept.copied().collect();
                    labels = &nameless;
                }
                writer.point(labels, value, more);
            };
            of_vmi(measure, vmi, other, &mut named);
        }
    }

    /// VMIs by phase and node, with what else tells them apart.
    fn counts(&self, stores: &Stores, writer: &mut Writer<'_, '_>) {
        type Key = [String; 10];
        let mut counts: BTreeMap<Key, f64> = BTreeMap::new();
        for vmi in self.vmis.of(&stores.vmis, Vmi::of).iter() {
            let hardware = &vmi.hardware;
            let phase = if self.defects.has(Defect::PhaseUnknown) { String::new() } else { vmi.phase.to_lowercase() };
            let node = vmi.node.clone();
            let key = [
                node,
                phase,
                hardware.os.clone(),
                hardware.workload.clone(),
                hardware.flavor.clone(),
                hardware.instance_type.clone(),
                hardware.preference.clone(),
                vmi.kernel.clone(),
                vmi.arch.clone(),
                vmi.os_name.clone(),
            ];
            *counts.entry(key).or_default() += 1.0;
        }
        const NAMES: [&str; 10] = [
            "node",
            "phase",
            "os",
            "workload",
            "flavor",
            "instance_type",
            "preference",
            "guest_os_kernel_release",
            "guest_os_machine",
            "guest_os_name",
        ];
        // A family that has fewer labels shows the sums.
        let mut sums: BTreeMap<Vec<(&str, String)>, f64> = BTreeMap::new();
        for (key, count) in counts {
            let labels = NAMES.into_iter().zip(key).filter(|(name, _)| writer.family.labels.iter().any(|label| label == name));
            *sums.entry(labels.collect()).or_default() += count;
        }
        for (labels, count) in sums {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            writer.point(&labels, count, &[]);
        }
    }

    fn vms(&self, measure: OfVm, stores: &Stores, writer: &mut Writer<'_, '_>) {
        let claim = |key: &str| {
            let claim = stores.claims.as_ref()?.get(key)?;
            let size = &claim["spec"]["resources"]["requests"]["storage"];
            let mode = claim["spec"]["volumeMode"].as_str().unwrap_or("Filesystem");
            Some((kubeapi::quantity(size.as_str().unwrap_or_default())?, mode.to_owned()))
        };
        for vm in self.vms.of(&stores.vms, Vm::of).iter() {
            of_vm(measure, vm, &claim, &mut |labels, value| writer.point(labels, value, &[]));
        }
    }

    /// Labels of users, as they are wanted. The first VM makes the controller look for who says which are.
    fn vm_labels(&self, stores: &Stores, writer: &mut Writer<'_, '_>) {
        let vms = self.vms.of(&stores.vms, Vm::of);
        let config = match self.labels_config.get() {
            Some(informer) => LabelsConfig::of(informer.objects().first().map(Arc::as_ref)),
            None => LabelsConfig::of(None),
        };
        for vm in vms.iter() {
            self.labels_wanted.notify_one();
            let shown = vm_labels(vm.labels.iter().filter(|(key, _)| config.shows(key)));
            if !shown.is_empty() {
                writer.point(&[("name", &vm.name), ("namespace", &vm.namespace)], 1.0, &shown);
            }
        }
    }

    /// Waits until labels of VMs are shown for the first time.
    pub(crate) async fn labels_wanted(&self) {
        self.labels_wanted.notified().await;
    }

    /// From now on it knows which labels are wanted.
    pub(crate) fn know_labels(&self, informer: Arc<Informer>) {
        let _ = self.labels_config.set(informer);
    }

    fn migrations(&self, stores: &Stores, writer: &mut Writer<'_, '_>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut phases = BTreeMap::from(["pending", "scheduling", "running", "unset"].map(|phase| (phase, 0.0)));
        for (_, migration) in stores.migrations.entries() {
            let phase = text(&migration["status"]["phase"]);
            let outcome = match phase.as_str() {
                "Pending" => "pending",
                "Scheduling" | "Scheduled" | "PreparingTarget" | "TargetReady" => "scheduling",
                "Running" => "running",
                "" => "unset",
                "Succeeded" => "succeeded",
                _ => "failed",
            };
            if let Some(count) = phases.get_mut(outcome) {
                *count += 1.0;
            } else if writer.shown.measure == Measure::All(OfAll::MigrationOutcome) {
                let (vmi, name) = (text(&migration["spec"]["vmiName"]), object::name(&migration));
                let labels =
                    [("vmi", vmi.as_str()), ("vmim", name), ("namespace", object::namespace(&migration)), ("outcome", outcome)];
                writer.point(&labels, 1.0, &[]);
            }
        }
        if writer.shown.measure == Measure::All(OfAll::Migrations) {
            for (phase, count) in phases {
                writer.point(&[("phase", phase)], count, &[]);
            }
        }
    }

    fn snapshots(stores: &Stores, writer: &mut Writer<'_, '_>) {
        for (_, snapshot) in stores.snapshots.iter().flat_map(|informer| informer.entries()) {
            let status = &snapshot["status"];
            if let Some(at) = super::machine::seconds(&status["creationTime"]).filter(|_| status["phase"] == "Succeeded") {
                let vm = snapshot["spec"]["source"]["name"].as_str().unwrap_or_default();
                let labels =
                    [("name", vm), ("snapshot_name", object::name(&snapshot)), ("namespace", object::namespace(&snapshot))];
                writer.point(&labels, at, &[]);
            }
        }
    }

    fn vm_counts(&self, stores: &Stores, writer: &mut Writer<'_, '_>) {
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for vm in self.vms.of(&stores.vms, Vm::of).iter() {
            *counts.entry(vm.namespace.clone()).or_default() += 1.0;
        }
        for (namespace, count) in counts {
            writer.point(&[("namespace", &namespace)], count, &[]);
        }
    }
}

/// The names of objects by their uid.
fn by_uid(informer: &Informer) -> HashMap<String, String> {
    informer.entries().map(|(_, found)| (object::uid(&found).to_owned(), object::name(&found).to_owned())).collect()
}

/// The VMI's uid and the name of a running launcher.
fn launcher(pod: &Value) -> Option<(String, String)> {
    let created_by = object::label(pod, "kubevirt.io/created-by")?;
    (pod["status"]["phase"] == "Running").then(|| (created_by.to_owned(), object::name(pod).to_owned()))
}

impl Collector for ControllerCollector {
    fn collect(&self, family: &Family, samples: &mut Samples<'_>) {
        let Some(shown) = self.shown.get(&family.name) else { return };
        let stores = self.stores.lock().expect("no panic while held").clone();
        let mut writer = Writer { family, shown, samples, at: None };
        let Some(stores) = stores else {
            // Numbers of migrations are shown by every replica; who does not lead knows of none.
            if shown.measure == Measure::All(OfAll::Migrations) {
                for phase in ["pending", "scheduling", "running", "unset"] {
                    writer.point(&[("phase", phase)], 0.0, &[]);
                }
            }
            return;
        };
        match shown.measure {
            Measure::All(OfAll::VmiCount) => self.counts(&stores, &mut writer),
            Measure::All(OfAll::VmCount) => self.vm_counts(&stores, &mut writer),
            Measure::All(OfAll::Migrations | OfAll::MigrationOutcome) => self.migrations(&stores, &mut writer),
            Measure::All(OfAll::VmSnapshot) => Self::snapshots(&stores, &mut writer),
            Measure::All(OfAll::VmLabels) => self.vm_labels(&stores, &mut writer),
            Measure::Vm(measure) => self.vms(measure, &stores, &mut writer),
            Measure::Vmi(measure) => self.vmis(measure, &stores, &mut writer),
            // Histograms are observed when something happens, and domains are virt-handler's.
            Measure::Way(_) | Measure::Domain(_) => {}
        }
    }
}

/// Seconds between two samples of a migration, and how many wait for a page at most (kubevirt `migrationdomainstats/queue.go`).
const POLL: f64 = 5.0;
const QUEUE: usize = 10;

/// When samples of a migration were taken until now: at once, then every five seconds while it lasts.
fn taken(from: f64, end: Option<f64>, now: f64) -> Vec<f64> {
    let times = (0..).map(|number| from + f64::from(number) * POLL);
    times.take_while(|at| *at <= now && end.is_none_or(|end| *at < end)).collect()
}

/// What a virt-handler tells of the domains on its node.
pub(crate) struct HandlerCollector {
    shown: HashMap<String, Shown>,
    defects: Defects,
    store: Mutex<Option<Arc<Informer>>>,
    vmis: Reads<Vmi>,
    pauses: Arc<Pauses>,
    /// When it came to be, in seconds since 1970.
    since: f64,
    /// Samples of migrations that were shown, by family and migration.
    shown_once: Mutex<HashMap<(String, String), usize>>,
}

impl HandlerCollector {
    pub(crate) fn new(families: &[CatalogueFamily], defects: Defects, pauses: Arc<Pauses>) -> Self {
        Self {
            shown: shown(families),
            defects,
            store: Mutex::default(),
            vmis: Reads::default(),
            pauses,
            since: super::status::seconds_now(),
            shown_once: Mutex::default(),
        }
    }

    /// What was taken of migrations since the last page. Who reads a page takes it away from the next reader, as with the real one.
    fn queued(&self, measure: OfDomain, vmis: &[Arc<Vmi>], now: f64, writer: &mut Writer<'_, '_>) {
        let mut shown_once = self.shown_once.lock().expect("no panic while held");
        shown_once
            .retain(|(_, uid), _| vmis.iter().any(|vmi| vmi.migration.as_ref().is_some_and(|migration| migration.uid == *uid)));
        for vmi in vmis {
            let Some(migration) = &vmi.migration else { continue };
            let times = taken(migration.start.max(self.since), migration.end, now);
            let shown = shown_once.entry((writer.family.name.clone(), migration.uid.clone())).or_default();
            for at in &times[(*shown).max(times.len().saturating_sub(QUEUE)).min(times.len())..] {
                writer.at = Some((at * 1000.0) as i64);
                let domain = Domain::new(vmi, *at, self.pauses.of(&vmi.uid, *at));
                domain.points(measure, &mut |labels, value| writer.point(labels, value, &[]));
            }
            *shown = times.len();
        }
    }

    /// VMIs of the node by phase, as old releases show them.
    fn phases(&self, vmis: &[Arc<Vmi>], writer: &mut Writer<'_, '_>) {
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for vmi in vmis {
            let phase = if self.defects.has(Defect::PhaseUnknown) { String::new() } else { vmi.phase.to_lowercase() };
            *counts.entry(phase).or_default() += 1.0;
        }
        let node = vmis.first().map_or("", |vmi| vmi.node.as_str());
        for (phase, count) in counts {
            writer.point(&[("node", node), ("phase", &phase)], count, &[]);
        }
    }

    /// From now on it knows the VMIs of its node.
    pub(crate) fn know(&self, vmis: Arc<Informer>) {
        *self.store.lock().expect("no panic while held") = Some(vmis);
    }
}

impl Collector for HandlerCollector {
    fn collect(&self, family: &Family, samples: &mut Samples<'_>) {
        let Some(shown) = self.shown.get(&family.name) else { return };
        let Some(store) = self.store.lock().expect("no panic while held").clone() else { return };
        let now = super::status::seconds_now();
        let mut writer = Writer { family, shown, samples, at: None };
        let vmis = self.vmis.of(&store, Vmi::of);
        let measure = match shown.measure {
            Measure::All(OfAll::VmiCount) => return self.phases(&vmis, &mut writer),
            Measure::Domain(measure) => measure,
            // The rest is virt-controller's.
            Measure::All(_) | Measure::Vmi(_) | Measure::Vm(_) | Measure::Way(_) => return,
        };
        if shown.queued {
            return self.queued(measure, &vmis, now, &mut writer);
        }
        for vmi in vmis.iter().filter(|vmi| vmi.has_domain()) {
            let domain = Domain::new(vmi, now, self.pauses.of(&vmi.uid, now));
            let more: &[(String, String)] = if shown.with_labels { &vmi.labels } else { &[] };
            domain.points(measure, &mut |labels, value| writer.point(labels, value, more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_sampled_while_they_last() {
        for (end, now, expected) in [
            (None, 100.0, &[100.0][..]),
            (None, 99.0, &[]),
            (None, 111.0, &[100.0, 105.0, 110.0]),
            (Some(105.0), 200.0, &[100.0]),
            (Some(107.0), 106.0, &[100.0, 105.0]),
        ] {
            assert_eq!(taken(100.0, end, now), expected, "{end:?} {now}");
        }
    }
}
