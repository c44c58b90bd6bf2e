//! The names of what can be measured of VMs, as the files of releases say them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is measured: by the one who shows it, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Measure {
    /// Of each VMI.
    Vmi(OfVmi),
    /// Of each VM.
    Vm(OfVm),
    /// Of all of them.
    All(OfAll),
    /// From phase to phase.
    Way(Way),
    /// Of domains.
    Domain(OfDomain),
}

/// What virt-handler shows of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OfDomain {
    /// Its processors.
    Processors(OfProcessors),
    /// Its memory.
    Memory(OfMemory),
    /// Its disks.
    Disks(OfDisks),
    /// Its network cards.
    Networks(OfNetworks),
    /// Its guest.
    Guest(OfGuest),
}

/// What virt-controller shows of each VMI, or of its migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfVmi {
    /// 1 for each VMI, with what it is.
    VmiInfo,
    /// Whether an eviction would fail.
    VmiNonEvictable,
    /// 1 for each address of a guest.
    VmiAddress,
    /// 1 for each network card of a VMI.
    VmiVnic,
    /// Memory of a launcher besides its guest's, in bytes.
    VmiOverhead,
    /// When a migration began.
    MigrationStart,
    /// When a migration ended.
    MigrationEnd,
}

/// What virt-controller shows of each VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfVm {
    /// 1 for each VM, with what it is.
    VmInfo,
    /// When a VM's conditions last changed, in the group of its status, and 0 in the others; part `group`.
    VmTransition,
    /// What a VM asks for.
    VmRequests,
    /// What a VM is limited to.
    VmLimits,
    /// Size of the claims of a VM.
    VmDisk,
    /// When a VM was made.
    VmCreated,
    /// 1 for each network card of a VM.
    VmVnic,
}

/// What virt-controller shows of all of them together, or of objects around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfAll {
    /// VMIs by phase, and by node or what else there is of them.
    VmiCount,
    /// VMs by namespace.
    VmCount,
    /// 1 for each migration in a phase, or their number; part `phase`.
    Migrations,
    /// Whether a migration went well or not; part `outcome`.
    MigrationOutcome,
    /// 1 for each VM, with its labels.
    VmLabels,
    /// When a snapshot of a VM succeeded.
    VmSnapshot,
}

/// Histograms of the way from phase to phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// A VMI's way from one phase to the next: a histogram.
    PhaseTransition,
    /// The same from its creation.
    PhaseFromCreation,
    /// The same from its deletion.
    PhaseFromDeletion,
    /// The same of migrations, from their creation.
    MigrationPhaseFromCreation,
}

/// What virt-handler shows of the processors of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfProcessors {
    /// Processor seconds; part `mode`: total, user or system.
    Cpu,
    /// Load averages inside; part `window`: 1m, 5m, 15m.
    Load,
    /// Virtual processors that are pinned, times processors.
    CpuAffinity,
    /// Seconds of virtual processors by state.
    VcpuTime,
    /// Seconds that virtual processors waited for input and output.
    VcpuWait,
    /// Seconds that virtual processors waited to be run.
    VcpuDelay,
}

/// Of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfMemory {
    /// Bytes of memory; part `kind`.
    Memory,
    /// Bytes that were swapped; part `type`: in or out.
    Swap,
    /// Page faults; part `kind`: major or minor.
    PageFaults,
    /// Bytes of memory that are written a second.
    DirtyRate,
}

/// Of its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfDisks {
    /// Disk operations; part `type`: read, write or flush.
    DiskOperations,
    /// Disk bytes; part `type`.
    DiskBytes,
    /// Seconds of disk operations; part `type`.
    DiskSeconds,
    /// The same in milliseconds.
    DiskMilliseconds,
    /// The same in nanoseconds, as an old release had it under a name that says milliseconds.
    DiskNanoseconds,
}

/// Of its network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfNetworks {
    /// Network bytes; part `type`: rx or tx.
    NetworkBytes,
    /// Network packets; part `type`.
    NetworkPackets,
    /// Network errors; part `type`.
    NetworkErrors,
    /// Dropped packets; part `type`.
    NetworkDropped,
}

/// What virt-handler shows of what the guest, or a migration, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OfGuest {
    /// Size of file systems.
    FilesystemCapacity,
    /// Used bytes of file systems.
    FilesystemUsed,
    /// A migration's bytes; part `kind`.
    MigrationBytes,
}
