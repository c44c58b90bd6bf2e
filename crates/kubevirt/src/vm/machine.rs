//! What metrics need to know of a VirtualMachine or VirtualMachineInstance, read off the object once for each version of it.
//!
//! Sources: kubevirt `pkg/monitoring/metrics/virt-controller/{vmistats,vmstats}_collector.go` of v1.9.0 for what a label is made of.

use std::collections::BTreeMap;

use kubeapi::object;
use serde_json::Value;

/// Where `vm.kubevirt.io/os` and its like are kept.
const SYSTEM: &str = "vm.kubevirt.io/";
/// Where the name of a cluster-wide or namespaced instance type is kept.
const INSTANCE_TYPES: [&str; 2] = ["kubevirt.io/instancetype-name", "kubevirt.io/cluster-instancetype-name"];
/// The same of preferences.
const PREFERENCES: [&str; 2] = ["kubevirt.io/preference-name", "kubevirt.io/cluster-preference-name"];
/// What KubeVirt writes for instance types and preferences of unknown vendors, so that users' names do not become label values.
const OTHER: &str = "<other>";

/// An address of a guest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Address {
    pub(crate) vnic: String,
    pub(crate) interface: String,
    pub(crate) address: String,
}

/// A virtual network card as it is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vnic {
    pub(crate) name: String,
    pub(crate) binding_type: String,
    pub(crate) network: String,
    pub(crate) binding_name: String,
    pub(crate) model: String,
}

/// The migration that a VMI has under way or behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Migration {
    pub(crate) uid: String,
    /// Seconds since 1970.
    pub(crate) start: f64,
    /// Seconds since 1970, when it is over.
    pub(crate) end: Option<f64>,
    pub(crate) failed: bool,
}

/// What domain, annotations and devices say, of a VM's template or a VMI.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hardware {
    pub(crate) os: String,
    pub(crate) workload: String,
    pub(crate) flavor: String,
    pub(crate) machine_type: String,
    pub(crate) instance_type: String,
    pub(crate) preference: String,
    pub(crate) vcpus: u32,
    /// Bytes of the guest.
    pub(crate) memory: f64,
    pub(crate) drives: Vec<String>,
    pub(crate) vnics: Vec<Vnic>,
}

/// A VirtualMachineInstance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vmi {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    /// As the object has it, such as `Running`.
    pub(crate) phase: String,
    pub(crate) hardware: Hardware,
    pub(crate) kernel: String,
    pub(crate) arch: String,
    pub(crate) os_name: String,
    pub(crate) os_version: String,
    pub(crate) machine: String,
    pub(crate) evictable: bool,
    pub(crate) outdated: bool,
    pub(crate) addresses: Vec<Address>,
    pub(crate) overhead: f64,
    /// `kubernetes_vmi_label_*` by name, sorted.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) agent: bool,
    pub(crate) paused: bool,
    pub(crate) migration: Option<Migration>,
    /// When it came to run, in seconds since 1970.
    pub(crate) running_since: Option<f64>,
}

/// A VirtualMachine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vm {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) hardware: Hardware,
    /// As the object has it, such as `Stopped`.
    pub(crate) status: String,
    pub(crate) created: f64,
    /// The last change of one of the conditions that count, in seconds since 1970; -1 where there is none.
    pub(crate) changed: f64,
    /// Resource, unit, source, amount.
    pub(crate) requests: Vec<(&'static str, &'static str, &'static str, f64)>,
    /// Resource, unit, amount.
    pub(crate) limits: Vec<(&'static str, &'static str, f64)>,
    /// Labels of the VM and, rather, of its template, by key.
    pub(crate) labels: BTreeMap<String, String>,
    /// Claim and device.
    pub(crate) claims: Vec<(String, String)>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A quantity in base units; 0 where there is none.
fn amount(value: &Value) -> f64 {
    match value {
        Value::String(text) => kubeapi::quantity(text).unwrap_or_default(),
        other => other.as_f64().unwrap_or_default(),
    }
}

/// A time of the API in seconds since 1970.
pub(crate) fn seconds(value: &Value) -> Option<f64> {
    let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(time.as_millisecond() as f64 / 1000.0)
}

/// The labels of `kubevirt_vm_labels`, by name: `label_` and the key, with `_` for what a name may not have, and before a digit
/// (`sanitizeLabelName`).
pub(crate) fn vm_labels<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<(String, String)> {
    let named = labels.map(|(key, value)| {
        let key: String = key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        let digit = key.starts_with(|first: char| first.is_ascii_digit());
        (format!("label_{}{key}", if digit { "_" } else { "" }), value.clone())
    });
    // Two keys that become one would be one label twice.
    named.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// What is not allowed in a label's name becomes `_` (`kubernetes_vmi_label_*`).
fn sanitised(prefix: &str, labels: &Value) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let key: String = key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
            (format!("{prefix}{key}"), text(value))
        })
        .collect();
    found.sort();
    // Two keys that become one would be one label twice.
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

fn annotated(annotations: &Value, keys: [&str; 2]) -> String {
    let named = keys.iter().find_map(|key| annotations[*key].as_str());
    // The objects' vendors are not looked at: those that KubeVirt ships have its prefixes.
    match named {
        Some(name) if ["u1.", "o1.", "cx1.", "m1.", "n1.", "rt1."].iter().any(|known| name.starts_with(known)) => name.to_owned(),
        Some(_) => OTHER.to_owned(),
        None => String::new(),
    }
}

impl Hardware {
    /// From the metadata that has the annotations, and a VMI's spec.
    fn of(metadata: &Value, spec: &Value) -> Self {
        let annotations = &metadata["annotations"];
        let system = |word: &str| text(&annotations[format!("{SYSTEM}{word}")]);
        let domain = &spec["domain"];
        let count = |field: &str| domain["cpu"][field].as_u64().filter(|count| *count > 0).unwrap_or(1) as u32;
        let requested = amount(&domain["resources"]["requests"]["memory"]);
        let guest = amount(&domain["memory"]["guest"]);
        let names = |list: &Value| list.as_array().into_iter().flatten().map(|item| text(&item["name"])).collect::<Vec<_>>();
        let vnics = domain["devices"]["interfaces"].as_array().into_iter().flatten().map(|card| {
            let name = text(&card["name"]);
            let network = spec["networks"].as_array().into_iter().flatten().find(|network| network["name"] == card["name"]);
            let network = match network {
                Some(network) if network["multus"].is_object() => text(&network["multus"]["networkName"]),
                Some(network) if network["pod"].is_object() => "pod networking".to_owned(),
                _ => String::new(),
            };
            let core =
                ["bridge", "masquerade", "sriov", "passt", "slirp", "macvtap"].into_iter().find(|way| card[way].is_object());
            let plugin = text(&card["binding"]["name"]);
            let (binding_type, binding_name) = match core {
                Some(way) => ("core".to_owned(), way.to_owned()),
                None if !plugin.is_empty() => ("plugin".to_owned(), plugin),
                None => (String::new(), String::new()),
            };
            let model = Some(text(&card["model"])).filter(|model| !model.is_empty()).unwrap_or_else(|| "<none>".to_owned());
            Vnic { name, binding_type, network, binding_name, model }
        });
        Self {
            os: system("os"),
            workload: system("workload"),
            flavor: system("flavor"),
            machine_type: text(&domain["machine"]["type"]),
            instance_type: annotated(annotations, INSTANCE_TYPES),
            preference: annotated(annotations, PREFERENCES),
            vcpus: count("cores") * count("sockets") * count("threads"),
            memory: if guest > 0.0 { guest } else { requested },
            drives: names(&domain["devices"]["disks"]),
            vnics: vnics.collect(),
        }
    }
}

impl Vmi {
    pub(crate) fn of(vmi: &Value) -> Self {
        let (metadata, spec, status) = (&vmi["metadata"], &vmi["spec"], &vmi["status"]);
        let guest = &status["guestOSInfo"];
        let condition = |kind: &str| object::condition(vmi, kind) == Some("True");
        let addresses = status["interfaces"].as_array().into_iter().flatten().map(|found| Address {
            vnic: text(&found["name"]),
            interface: text(&found["interfaceName"]),
            address: text(&found["ipAddress"]),
        });
        let migration = status["migrationState"].as_object().map(|state| {
            let field = |name: &str| state.get(name).unwrap_or(&Value::Null);
            Migration {
                uid: text(field("migrationUid")),
                start: seconds(field("startTimestamp")).unwrap_or_default(),
                end: seconds(field("endTimestamp")),
                failed: *field("failed") == true,
            }
        });
        let running =
            status["phaseTransitionTimestamps"].as_array().into_iter().flatten().find(|step| step["phase"] == "Running");
        let evicted_by_migration = spec["evictionStrategy"].as_str().is_some_and(|strategy| strategy.starts_with("LiveMigrate"));
        let hardware = Hardware::of(metadata, spec);
        Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            node: text(&status["nodeName"]),
            phase: text(&status["phase"]),
            kernel: text(&guest["kernelRelease"]),
            arch: text(&guest["machine"]),
            os_name: text(&guest["name"]),
            os_version: text(&guest["versionId"]),
            machine: text(&status["machine"]["type"]),
            evictable: !evicted_by_migration || condition("LiveMigratable"),
            outdated: metadata["labels"].get("kubevirt.io/outdatedLauncherImage").is_some(),
            addresses: addresses.collect(),
            overhead: overhead(&hardware),
            labels: sanitised("kubernetes_vmi_label_", &metadata["labels"]),
            agent: condition("AgentConnected"),
            paused: condition("Paused"),
            migration,
            running_since: running.and_then(|step| seconds(&step["phaseTransitionTimestamp"])),
            hardware,
        }
    }

    /// Whether a domain runs, paused or not: only then its statistics can be asked for.
    pub(crate) fn has_domain(&self) -> bool {
        self.phase == "Running"
    }
}

/// What a launcher needs besides its guest, in bytes: page tables of a 512th of the memory, and fixed parts in MiB (kubevirt
/// `pkg/virt-controller/services/renderresources.go`: monitor 25, launcher 100, libvirtd 35, virtlogd 25, qemu 75, 8 for each vCPU, and
/// 8 for IO threads), 16 of video memory included.
fn overhead(hardware: &Hardware) -> f64 {
    const MIB: f64 = 1024.0 * 1024.0;
    (hardware.memory / 512.0 + (25.0 + 100.0 + 35.0 + 25.0 + 75.0 + 8.0 + 16.0 + 8.0 * f64::from(hardware.vcpus)) * MIB).floor()
}

impl Vm {
    pub(crate) fn of(vm: &Value) -> Self {
        let template = &vm["spec"]["template"];
        let domain = &template["spec"]["domain"];
        let mut hardware = Hardware::of(&template["metadata"], &template["spec"]);
        for (field, label) in [("instancetype", &mut hardware.instance_type), ("preference", &mut hardware.preference)] {
            if let Some(name) = vm["spec"][field]["name"].as_str() {
                *label = annotated(&serde_json::json!({INSTANCE_TYPES[0]: name}), INSTANCE_TYPES);
            }
        }
        let conditions = vm["status"]["conditions"].as_array().into_iter().flatten();
        let changed = conditions
            .filter(|condition| ["Ready", "Failure", "Paused"].iter().any(|kind| condition["type"] == *kind))
            .filter_map(|condition| seconds(&condition["lastTransitionTime"]));
        let claims = template["spec"]["volumes"].as_array().into_iter().flatten().filter_map(|volume| {
            let claim = volume["persistentVolumeClaim"]["claimName"].as_str().or(volume["dataVolume"]["name"].as_str())?;
            Some((claim.to_owned(), text(&volume["name"])))
        });
        Self {
            namespace: object::namespace(vm).to_owned(),
            name: object::name(vm).to_owned(),
            status: text(&vm["status"]["printableStatus"]),
            created: seconds(&vm["metadata"]["creationTimestamp"]).unwrap_or_default(),
            changed: changed.fold(-1.0, f64::max),
            requests: requests(domain, &hardware),
            limits: limits(domain),
            labels: object::labels(vm).into_iter().chain(object::labels(template)).collect(),
            claims: claims.collect(),
            hardware,
        }
    }

    /// The group of statuses that it is in (`getVMStatusGroup`).
    pub(crate) fn group(&self) -> &'static str {
        match self.status.as_str() {
            "Provisioning" | "Starting" | "WaitingForVolumeBinding" => "starting",
            "Running" => "running",
            "Migrating" => "migrating",
            "Stopped" | "Paused" | "Stopping" | "Terminating" => "non_running",
            "CrashLoopBackOff" | "Unknown" | "ErrorUnschedulable" | "ErrImagePull" | "ImagePullBackOff" | "ErrorPvcNotFound"
            | "DataVolumeError" => "error",
            _ => "<unknown>",
        }
    }
}

fn requests(domain: &Value, hardware: &Hardware) -> Vec<(&'static str, &'static str, &'static str, f64)> {
    let mut found = Vec::new();
    let mut add = |resource, unit, source, value: f64| {
        if value > 0.0 {
            found.push((resource, unit, source, value));
        }
    };
    let requested = &domain["resources"]["requests"];
    add("memory", "bytes", "domain", amount(&requested["memory"]));
    add("memory", "bytes", "guest", amount(&domain["memory"]["guest"]));
    add("memory", "bytes", "hugepages", amount(&domain["memory"]["hugepages"]["pageSize"]));
    for (field, unit) in [("cores", "cores"), ("threads", "threads"), ("sockets", "sockets")] {
        add("cpu", unit, "domain", amount(&domain["cpu"][field]));
    }
    let cpu = amount(&requested["cpu"]);
    add("cpu", "cores", "requests", cpu);
    if cpu == 0.0 && domain["cpu"].is_null() {
        for unit in ["cores", "threads", "sockets"] {
            add("cpu", unit, "default", 1.0);
        }
    }
    add("cpu", "cores", "guest_effective", f64::from(hardware.vcpus));
    add("memory", "bytes", "guest_effective", hardware.memory);
    found
}

fn limits(domain: &Value) -> Vec<(&'static str, &'static str, f64)> {
    let of = |name: &str| amount(&domain["resources"]["limits"][name]);
    let all = [("memory", "bytes", of("memory")), ("cpu", "cores", of("cpu"))];
    all.into_iter().filter(|(.., value)| *value > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vm_is_read_as_kubevirt_reads_it() {
        let vm = json!({
            "metadata": {"namespace": "default", "name": "a", "labels": {"app.kubernetes.io/name": "x"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"template": {
                "metadata": {"annotations": {"vm.kubevirt.io/os": "fedora"}, "labels": {"1st": "template's"}},
                "spec": {
                    "domain": {"cpu": {"cores": 2}, "memory": {"guest": "1Gi"}, "resources": {"limits": {"cpu": "2500m"}},
                        "devices": {"disks": [{"name": "root"}], "interfaces": [{"name": "default", "masquerade": {}}]}},
                    "networks": [{"name": "default", "pod": {}}],
                    "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": "c"}}]}}},
            "status": {"printableStatus": "Paused", "conditions": [
                {"type": "Ready", "lastTransitionTime": "2026-01-01T00:00:05Z"}, {"type": "Other", "lastTransitionTime": "2026-02-01T00:00:00Z"}]},
        });
        let vm = Vm::of(&vm);
        assert_eq!((vm.group(), vm.changed - vm.created), ("non_running", 5.0));
        let shown = vm_labels(vm.labels.iter());
        assert_eq!(shown[0], ("label__1st".to_owned(), "template's".to_owned()));
        assert_eq!(shown[1], ("label_app_kubernetes_io_name".to_owned(), "x".to_owned()));
        assert_eq!(
            vm.requests,
            [
                ("memory", "bytes", "guest", 1073741824.0),
                ("cpu", "cores", "domain", 2.0),
                ("cpu", "cores", "guest_effective", 2.0),
                ("memory", "bytes", "guest_effective", 1073741824.0)
            ]
        );
        assert_eq!(vm.limits, [("cpu", "cores", 2.5)]);
        assert_eq!(vm.claims, [("c".to_owned(), "root".to_owned())]);
        let card = &vm.hardware.vnics[0];
        assert_eq!(
            [&card.binding_type, &card.network, &card.binding_name, &card.model],
            ["core", "pod networking", "masquerade", "<none>"]
        );
    }

    #[test]
    fn a_vm_that_says_nothing_of_cpus_has_one() {
        let requests = Vm::of(&json!({"spec": {"template": {"spec": {"domain": {}}}}})).requests;
        let default: Vec<_> = requests.iter().filter(|(.., source, _)| *source == "default").map(|(_, unit, ..)| *unit).collect();
        assert_eq!(default, ["cores", "threads", "sockets"]);
        assert!(requests.contains(&("cpu", "cores", "guest_effective", 1.0)));
    }

    #[test]
    fn instance_types_of_others_are_not_named() {
        let vmi = |name: &str| {
            Vmi::of(&json!({"metadata": {"annotations": {"kubevirt.io/cluster-instancetype-name": name}}})).hardware.instance_type
        };
        assert_eq!((vmi("u1.small").as_str(), vmi("mine").as_str()), ("u1.small", "<other>"));
    }
}
