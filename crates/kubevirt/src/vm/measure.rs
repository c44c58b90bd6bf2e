//! What can be told of VMs, whatever a release calls it. A release's family names its measure, and which part of it if it shows one
//! part alone; labels that a family does not have are dropped. So names, labels and splits are data, and only what is measured is code.

use super::curves::{Seed, Wave};
use super::machine::{Vm, Vmi};
use super::measures::{OfDisks, OfDomain, OfGuest, OfMemory, OfNetworks, OfProcessors, OfVm, OfVmi};

/// Labels and a value.
pub(crate) type Point<'a> = dyn FnMut(&[(&str, &str)], f64) + 'a;

/// How many processors the simulated node has.
const NODE_CPUS: u32 = 8;
/// Bytes of a page.
const PAGE: f64 = 4096.0;

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// What virt-controller tells of a VMI; `other` is the name of its launcher, or of its migration.
pub(crate) fn of_vmi(measure: OfVmi, vmi: &Vmi, other: &str, point: &mut Point<'_>) {
    let base = [("node", vmi.node.as_str()), ("namespace", &vmi.namespace), ("name", &vmi.name)];
    let mut with = |more: &[(&str, &str)], value: f64| point(&[&base[..], more].concat(), value);
    let hardware = &vmi.hardware;
    match measure {
        OfVmi::VmiInfo => with(
            &[
                ("phase", &vmi.phase.to_lowercase()),
                ("os", &hardware.os),
                ("workload", &hardware.workload),
                ("flavor", &hardware.flavor),
                ("instance_type", &hardware.instance_type),
                ("preference", &hardware.preference),
                ("guest_os_kernel_release", &vmi.kernel),
                ("guest_os_machine", &vmi.machine),
                ("guest_os_arch", &vmi.arch),
                ("guest_os_name", &vmi.os_name),
                ("guest_os_version_id", &vmi.os_version),
                ("evictable", flag(vmi.evictable)),
                ("outdated", flag(vmi.outdated)),
                ("vmi_pod", other),
            ],
            1.0,
        ),
        OfVmi::VmiNonEvictable => with(&[], f64::from(u8::from(!vmi.evictable))),
        OfVmi::VmiAddress => {
            for found in &vmi.addresses {
                let kind = if found.address.is_empty() { "SystemInterface" } else { "ExternalInterface" };
                let more = [
                    ("vnic_name", found.vnic.as_str()),
                    ("interface_name", &found.interface),
                    ("network_name", &found.vnic),
                    ("address", &found.address),
                    ("type", kind),
                ];
                with(&more, 1.0);
            }
        }
        OfVmi::VmiVnic => {
            if vmi.phase == "Running" {
                vnics(&hardware.vnics, &mut with);
            }
        }
        OfVmi::VmiOverhead => with(&[], vmi.overhead),
        OfVmi::MigrationStart => {
            if let Some(migration) = &vmi.migration {
                with(&[("migration_name", other)], migration.start);
            }
        }
        OfVmi::MigrationEnd => {
            if let Some(migration) = &vmi.migration
                && let Some(end) = migration.end
            {
                let status = if migration.failed { "failed" } else { "succeeded" };
                with(&[("migration_name", other), ("status", status)], end);
            }
        }
    }
}

fn vnics(cards: &[super::machine::Vnic], with: &mut impl FnMut(&[(&str, &str)], f64)) {
    // A card whose binding is neither known nor a plugin's is left out.
    for card in cards.iter().filter(|card| !card.binding_type.is_empty()) {
        let more = [
            ("vnic_name", card.name.as_str()),
            ("binding_type", &card.binding_type),
            ("network", &card.network),
            ("binding_name", &card.binding_name),
            ("model", &card.model),
        ];
        with(&more, 1.0);
    }
}

/// What virt-controller tells of a VM; `claim` tells size and mode of a PersistentVolumeClaim.
pub(crate) fn of_vm(measure: OfVm, vm: &Vm, claim: &dyn Fn(&str) -> Option<(f64, String)>, point: &mut Point<'_>) {
    let base = [("name", vm.name.as_str()), ("namespace", &vm.namespace)];
    let mut with = |more: &[(&str, &str)], value: f64| point(&[&base[..], more].concat(), value);
    let hardware = &vm.hardware;
    match measure {
        OfVm::VmInfo => with(
            &[
                ("os", &hardware.os),
                ("workload", &hardware.workload),
                ("flavor", &hardware.flavor),
                ("machine_type", &hardware.machine_type),
                ("instance_type", &hardware.instance_type),
                ("preference", &hardware.preference),
                ("status", &vm.status.to_lowercase()),
                // As kubectl shows it, and v1.4.0.
                ("printable_status", &vm.status),
                ("status_group", vm.group()),
            ],
            1.0,
        ),
        OfVm::VmTransition => {
            // A status of no group counts as an error.
            let current = if vm.group() == "<unknown>" { "error" } else { vm.group() };
            for group in ["starting", "running", "migrating", "non_running", "error"] {
                with(&[("group", group)], if group == current { vm.changed } else { 0.0 });
            }
        }
        OfVm::VmRequests => {
            for (resource, unit, source, value) in &vm.requests {
                with(&[("resource", resource), ("unit", unit), ("source", source)], *value);
            }
        }
        OfVm::VmLimits => {
            for (resource, unit, value) in &vm.limits {
                with(&[("resource", resource), ("unit", unit)], *value);
            }
        }
        OfVm::VmDisk => {
            for (name, device) in &vm.claims {
                if let Some((size, mode)) = claim(&format!("{}/{name}", vm.namespace)) {
                    with(&[("persistentvolumeclaim", name), ("volume_mode", &mode), ("device", device)], size);
                }
            }
        }
        OfVm::VmCreated => with(&[], vm.created),
        OfVm::VmVnic => vnics(&hardware.vnics, &mut with),
    }
}

/// A domain at a moment.
pub(crate) struct Domain<'a> {
    vmi: &'a Vmi,
    seed: Seed,
    /// Seconds since it came to run.
    age: f64,
    /// Seconds that its processors have run, which is less where it was paused.
    active: f64,
}

impl<'a> Domain<'a> {
    /// A VMI's domain at a time in seconds since 1970; `paused_for` is how long it has been paused in all.
    pub(crate) fn new(vmi: &'a Vmi, now: f64, paused_for: f64) -> Self {
        let age = (now - vmi.running_since.unwrap_or(now)).max(0.0);
        let seed = Seed::of(&vmi.namespace, &vmi.name);
        Self { vmi, seed, age, active: (age - paused_for).max(0.0) }
    }

    fn wave(&self, word: &str, low: f64, high: f64) -> Wave {
        let seed = self.seed.with(word);
        Wave::new(seed, seed.with("mean").between(low, high))
    }

    /// A counter of whole things.
    fn counted(&self, word: &str, low: f64, high: f64) -> f64 {
        self.wave(word, low, high).passed(self.active).floor()
    }

    /// Processor seconds of one virtual processor: busy when it boots, then in waves.
    fn vcpu(&self, id: u32) -> f64 {
        let boot = self.active.min(20.0) * 0.3;
        boot + self.wave(&format!("vcpu {id}"), 0.02, 0.35).passed(self.active)
    }

    /// The share of its memory that the guest uses: it fills while it boots, then in waves.
    fn used(&self) -> f64 {
        let full = self.wave("memory", 0.25, 0.5).at(self.active).min(0.97);
        full * (self.active / 30.0).clamp(0.1, 1.0)
    }

    /// What virt-handler tells of it.
    pub(crate) fn points(&self, measure: OfDomain, point: &mut Point<'_>) {
        let name = format!("{}_{}", self.vmi.namespace, self.vmi.name);
        let base =
            [("node", self.vmi.node.as_str()), ("namespace", &self.vmi.namespace), ("name", &self.vmi.name), ("domain", &name)];
        let mut with = |more: &[(&str, &str)], value: f64| point(&[&base[..], more].concat(), value);
        match measure {
            OfDomain::Processors(measure) => self.processors(measure, &mut with),
            OfDomain::Memory(measure) => self.memory(measure, &mut with),
            OfDomain::Disks(measure) => self.disks(measure, &mut with),
            OfDomain::Networks(measure) => self.networks(measure, &mut with),
            OfDomain::Guest(OfGuest::MigrationBytes) => self.migration(&mut with),
            OfDomain::Guest(measure @ (OfGuest::FilesystemCapacity | OfGuest::FilesystemUsed)) => {
                if !self.vmi.agent {
                    return;
                }
                let capacity = 10.0 * 1024.0 * 1024.0 * 1024.0;
                let used = capacity * self.seed.with("root").between(0.15, 0.6) + self.counted("files", 100.0, 2000.0);
                let value = if measure == OfGuest::FilesystemCapacity { capacity } else { used.min(capacity).floor() };
                with(&[("disk_name", "vda1"), ("mount_point", "/"), ("file_system_type", "xfs")], value);
            }
        }
    }

    fn processors(&self, measure: OfProcessors, with: &mut impl FnMut(&[(&str, &str)], f64)) {
        let vcpus = self.vmi.hardware.vcpus;
        let of_each = |show: &mut dyn FnMut(u32, &str)| (0..vcpus).for_each(|id| show(id, &id.to_string()));
        match measure {
            OfProcessors::Cpu => {
                let total: f64 = (0..vcpus).map(|id| self.vcpu(id)).sum::<f64>() * 1.05;
                let user = self.seed.with("user").between(0.5, 0.8);
                for (mode, value) in [("total", total), ("user", total * user), ("system", total * (1.0 - user) * 0.9)] {
                    with(&[("mode", mode)], value);
                }
            }
            // Nothing is pinned: each may run everywhere.
            OfProcessors::CpuAffinity => with(&[], f64::from(vcpus * NODE_CPUS)),
            OfProcessors::Load => {
                if !self.vmi.agent {
                    return;
                }
                let wave = self.wave("vcpu 0", 0.02, 0.35);
                for (window, seconds) in [("1m", 60.0), ("5m", 300.0), ("15m", 900.0)] {
                    let from = (self.active - seconds).max(0.0);
                    let mean = (wave.passed(self.active) - wave.passed(from)) / seconds * f64::from(vcpus);
                    with(&[("window", window)], (mean * 100.0).round() / 100.0);
                }
            }
            // Of a paused domain libvirt says "blocked" of each processor; old releases show its number.
            OfProcessors::VcpuTime => {
                let (state, number) = if self.vmi.paused { ("blocked", "2") } else { ("running", "1") };
                of_each(&mut |id, text| with(&[("id", text), ("state", state), ("state_number", number)], self.vcpu(id)));
            }
            OfProcessors::VcpuWait => {
                let waited = |id: u32| self.wave(&format!("wait {id}"), 0.0005, 0.01).passed(self.active);
                of_each(&mut |id, text| with(&[("id", text)], waited(id)));
            }
            OfProcessors::VcpuDelay => {
                let delayed = |id: u32| self.wave(&format!("delay {id}"), 0.0002, 0.02).passed(self.active);
                of_each(&mut |id, text| with(&[("id", text)], delayed(id)));
            }
        }
    }

    fn memory(&self, measure: OfMemory, with: &mut impl FnMut(&[(&str, &str)], f64)) {
        let total = self.vmi.hardware.memory;
        let pages = |share: f64| (total * share / PAGE).floor() * PAGE;
        match measure {
            OfMemory::Memory => {
                let used = self.used();
                let cached = (1.0 - used) * 0.4;
                // The kernel keeps some of it to itself.
                let kernel = 0.04;
                for (kind, share) in [
                    ("resident", (used + cached).min(0.98) + 0.02),
                    ("available", 1.0 - kernel),
                    ("unused", ((1.0 - used - cached) - kernel).max(0.01)),
                    ("cached", cached),
                    ("usable", ((1.0 - used) - kernel).max(0.02)),
                    ("domain", 1.0),
                    ("balloon", 1.0),
                ] {
                    with(&[("kind", kind)], pages(share));
                }
            }
            OfMemory::Swap => {
                for direction in ["in", "out"] {
                    with(&[("type", direction)], 0.0);
                }
            }
            OfMemory::PageFaults => {
                with(&[("kind", "major")], self.counted("major", 0.01, 0.5));
                with(&[("kind", "minor")], self.counted("minor", 50.0, 2000.0));
            }
            // It is measured of a domain that runs and does not move.
            OfMemory::DirtyRate => {
                let moving = self.vmi.migration.as_ref().is_some_and(|migration| migration.end.is_none());
                if !self.vmi.paused && !moving {
                    let mib = 1024.0 * 1024.0;
                    with(&[], (self.wave("dirty", 1.0, 40.0).at(self.active)).round() * mib);
                }
            }
        }
    }

    fn disks(&self, measure: OfDisks, with: &mut impl FnMut(&[(&str, &str)], f64)) {
        for drive in &self.vmi.hardware.drives {
            for (kind, low, high, bytes, seconds) in
                [("read", 2.0, 40.0, 16_384.0, 0.000_4), ("write", 5.0, 60.0, 8_192.0, 0.000_9), ("flush", 0.2, 3.0, 0.0, 0.002)]
            {
                let boot = if kind == "read" { self.active.min(15.0) * 300.0 } else { 0.0 };
                let operations = boot + self.counted(&format!("{drive} {kind}"), low, high);
                let value = match measure {
                    OfDisks::DiskOperations => operations.floor(),
                    OfDisks::DiskBytes => operations.floor() * bytes,
                    OfDisks::DiskSeconds => operations * seconds,
                    OfDisks::DiskMilliseconds => (operations * seconds * 1e3).floor(),
                    OfDisks::DiskNanoseconds => (operations * seconds * 1e9).floor(),
                };
                with(&[("drive", drive), ("type", kind)], value);
            }
        }
    }

    fn networks(&self, measure: OfNetworks, with: &mut impl FnMut(&[(&str, &str)], f64)) {
        for card in &self.vmi.hardware.vnics {
            for (direction, low, high, size) in [("rx", 5.0, 400.0, 900.0), ("tx", 4.0, 300.0, 700.0)] {
                let packets = self.counted(&format!("{} {direction}", card.name), low, high);
                let value = match measure {
                    OfNetworks::NetworkBytes => packets * size,
                    OfNetworks::NetworkPackets => packets,
                    OfNetworks::NetworkErrors => 0.0,
                    OfNetworks::NetworkDropped => (packets / 100_000.0).floor(),
                };
                with(&[("interface", &card.name), ("type", direction)], value);
            }
        }
    }

    /// While it moves: what is left falls, what is done rises.
    fn migration(&self, with: &mut impl FnMut(&[(&str, &str)], f64)) {
        let Some(migration) = &self.vmi.migration else { return };
        let now = self.vmi.running_since.unwrap_or_default() + self.age;
        if migration.end.is_some_and(|end| end <= now) {
            return;
        }
        let total = self.vmi.hardware.memory;
        let rate = 64.0 * 1024.0 * 1024.0;
        let done = ((now - migration.start).max(0.0) * rate).min(total);
        let dirty = self.wave("dirty", 1.0, 40.0).at(self.active).round() * 1024.0 * 1024.0;
        for (kind, value) in [
            ("total", total),
            ("remaining", total - done),
            ("processed", done),
            ("dirtyRate", dirty),
            ("transferRate", rate),
            ("diskRate", 0.0),
        ] {
            with(&[("kind", kind)], value);
        }
    }
}
