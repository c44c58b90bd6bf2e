//! `lab vm`: virtual machines, many at a time. With one, kubectl is as good.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use futures_util::{StreamExt as _, TryStreamExt as _};
use install::{Api, ApiError, Served};
use kubeapi::object;
use serde_json::{Value, json};
use wire::counted;

use super::{Output, Which, table};
use crate::exit::{Exit, Failure};

/// Requests at a time.
const AT_ONCE: usize = 16;
/// The label that these VMs have.
const MADE_HERE: &str = "lab.kubevirt.io/made-by";
/// The most VMs that are made at once; more than that no node is for.
const MOST: u32 = 10_000;

#[derive(Subcommand)]
pub(super) enum Vm {
    /// Create VMs, started.
    Create(Create),
    /// List VMs with what runs of them.
    List(List),
    /// Delete VMs by name, or all that `vm create` has made.
    Delete(Delete),
}

#[derive(Args)]
struct Where {
    #[command(flatten)]
    which: Which,
    /// The namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

#[derive(Args)]
pub(super) struct Create {
    #[command(flatten)]
    place: Where,
    /// The VM's name; with --count the beginning of it.
    vm: String,
    /// So many, called NAME-0, NAME-1 …
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    count: Option<u32>,
    /// Virtual processors.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    cpus: u32,
    /// Memory of the guest.
    #[arg(long, default_value = "256Mi", value_name = "QUANTITY")]
    memory: String,
    /// The image of its disk: what its name says decides which system the guest reports, and whether it has an agent.
    #[arg(long, default_value = "quay.io/containerdisks/fedora:41")]
    image: String,
    /// Labels of its VMI, which its metrics have as kubernetes_vmi_label_*.
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Do not start them.
    #[arg(long)]
    stopped: bool,
    /// Wait until they run.
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    place: Where,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    place: Where,
    /// Names.
    #[arg(required_unless_present = "all")]
    vms: Vec<String>,
    /// All that `vm create` has made in the namespace.
    #[arg(long, conflicts_with = "vms")]
    all: bool,
}

/// The API of a lab, and where its VMs are.
struct Machines {
    api: Api,
    vms: Served,
    vmis: Served,
}

impl Where {
    async fn open(&self) -> Result<Machines> {
        let dir = self.which.dir()?;
        super::reachable(&dir)?;
        let api = Api::new(crate::reach::kube_client(&dir.kubeconfig(), None).await?);
        let kinds = api.all_kinds().await?;
        let find = |plural: &str| {
            let found = kinds.iter().find(|kind| kind.is("kubevirt.io", plural));
            let missing = || {
                Failure::new(Exit::EnvironmentMissing, "this cluster has no VirtualMachines")
                    .hint("is KubeVirt up? see `lab status`")
            };
            found.cloned().ok_or_else(missing)
        };
        Ok(Machines { vms: find("virtualmachines")?, vmis: find("virtualmachineinstances")?, api })
    }
}

impl Create {
    fn labels(&self) -> Result<serde_json::Map<String, Value>> {
        let mut labels = serde_json::Map::new();
        for label in &self.labels {
            let Some((key, value)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                bail!(Failure::new(Exit::Usage, format!("{label:?} is no label")).hint("write KEY=VALUE"));
            };
            labels.insert(key.to_owned(), value.into());
        }
        Ok(labels)
    }

    fn names(&self) -> Vec<String> {
        self.count.map_or_else(|| vec![self.vm.clone()], |count| (0..count).map(|index| format!("{}-{index}", self.vm)).collect())
    }

    fn object(&self, api_version: &str, name: &str, labels: &serde_json::Map<String, Value>) -> Value {
        let mut of_vmi = labels.clone();
        of_vmi.insert("kubevirt.io/vm".to_owned(), name.into());
        json!({
            "apiVersion": api_version, "kind": "VirtualMachine",
            "metadata": {"name": name, "namespace": self.place.namespace, "labels": {MADE_HERE: "vm-create"}},
            "spec": {
                "running": !self.stopped,
                "template": {
                    "metadata": {"labels": of_vmi},
                    "spec": {
                        "domain": {
                            "cpu": {"cores": self.cpus}, "memory": {"guest": self.memory},
                            "devices": {
                                "disks": [{"name": "rootdisk", "disk": {"bus": "virtio"}}],
                                "interfaces": [{"name": "default", "masquerade": {}, "model": "virtio"}],
                            },
                        },
                        "networks": [{"name": "default", "pod": {}}],
                        "volumes": [{"name": "rootdisk", "containerDisk": {"image": self.image}}],
                    },
                },
            },
        })
    }

    async fn run(self) -> Result<Exit> {
        if kubeapi::quantity(&self.memory).is_none_or(|bytes| bytes < 1_048_576.0) {
            bail!(
                Failure::new(Exit::Usage, format!("{:?} is no memory of a guest", self.memory))
                    .hint("write a quantity such as 512Mi or 2Gi")
            );
        }
        let labels = self.labels()?;
        let machines = self.place.open().await?;
        let collection = machines.vms.collection(&self.place.namespace);
        let names = self.names();
        let progress = Progress::new("created", names.len());
        let create = |name: String| {
            let object = self.object(machines.vms.base.trim_start_matches("/apis/"), &name, &labels);
            let (api, collection, progress) = (&machines.api, &collection, &progress);
            async move {
                let created = api.create(collection, &object).await;
                created.map_err(|error| match error.code() {
                    409 => anyhow::Error::from(Failure::new(Exit::Usage, format!("there is a VM {name:?} already"))),
                    _ => anyhow::Error::from(error),
                })?;
                progress.one();
                Ok::<(), anyhow::Error>(())
            }
        };
        futures_util::stream::iter(names.iter().cloned()).map(create).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        progress.end();
        say!("{} created in {}", counted(names.len(), "VM"), self.place.namespace);
        if self.wait && !self.stopped {
            self.wait(&machines, &names).await?;
        }
        Ok(Exit::Success)
    }

    async fn wait(&self, machines: &Machines, names: &[String]) -> Result<()> {
        let started = Instant::now();
        let progress = Progress::new("running", names.len());
        let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
        loop {
            let vmis = machines.api.list(&machines.vmis.collection(&self.place.namespace)).await?;
            let running =
                vmis.iter().filter(|vmi| wanted.contains(object::name(vmi)) && vmi["status"]["phase"] == "Running").count();
            progress.at(running);
            if running == names.len() {
                progress.end();
                say!("{} running after {:.1} s", counted(running, "VM"), started.elapsed().as_secs_f64());
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(self.timeout) {
                bail!(
                    Failure::new(Exit::LabFailed, format!("{running} of {} run after {} s", names.len(), self.timeout))
                        .hint("see `lab vm list` and `lab logs virt-controller`")
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// How far many things are, on one line of a terminal.
struct Progress {
    word: &'static str,
    all: usize,
    done: std::sync::atomic::AtomicUsize,
}

impl Progress {
    fn new(word: &'static str, all: usize) -> Self {
        Self { word, all, done: Default::default() }
    }

    fn one(&self) {
        let done = self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if done.is_multiple_of(50) {
            self.at(done);
        }
    }

    fn at(&self, done: usize) {
        if self.all >= 50 && std::io::stderr().is_terminal() {
            eprint!("\r{done} of {} {}", self.all, self.word);
        }
    }

    fn end(&self) {
        if self.all >= 50 && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

impl List {
    async fn run(self) -> Result<Exit> {
        let machines = self.place.open().await?;
        let vms = machines.api.list(&machines.vms.collection(&self.place.namespace)).await?;
        let vmis = machines.api.list(&machines.vmis.collection(&self.place.namespace)).await?;
        let by_name: HashMap<&str, &Value> = vmis.iter().map(|vmi| (object::name(vmi), vmi)).collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |vm: &Value| {
            let vmi = by_name.get(object::name(vm)).copied().unwrap_or(&Value::Null);
            let status = &vmi["status"];
            [
                object::name(vm).to_owned(),
                text(&vm["status"]["printableStatus"]),
                text(&status["phase"]),
                text(&status["nodeName"]),
                text(&status["interfaces"][0]["ipAddress"]),
                text(&status["guestOSInfo"]["prettyName"]),
            ]
        };
        let rows: Vec<[String; 6]> = vms.iter().map(row).collect();
        const HEADS: [&str; 6] = ["name", "status", "phase", "node", "address", "guest"];
        let document: Vec<Value> = rows
            .iter()
            .map(|row| {
                HEADS
                    .iter()
                    .zip(row)
                    .map(|(head, value)| ((*head).to_owned(), value.as_str().into()))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            })
            .collect();
        if !self.output.json(&document) {
            if rows.is_empty() {
                say!("no VMs in {}", self.place.namespace);
            } else {
                say_text!(table(&HEADS, rows.into_iter().map(Vec::from).collect()));
            }
        }
        Ok(Exit::Success)
    }
}

impl Delete {
    async fn run(self) -> Result<Exit> {
        let machines = self.place.open().await?;
        let names = if self.all {
            let all = machines.api.list(&machines.vms.collection(&self.place.namespace)).await?;
            all.iter().filter(|vm| object::label(vm, MADE_HERE).is_some()).map(|vm| object::name(vm).to_owned()).collect()
        } else {
            self.vms.clone()
        };
        let delete = |name: String| {
            let (api, path) = (&machines.api, machines.vms.object(&self.place.namespace, &name));
            async move {
                let there = api.delete(&path).await?;
                Ok::<_, ApiError>((!there).then_some(name))
            }
        };
        let missing: Vec<Option<String>> =
            futures_util::stream::iter(names.iter().cloned()).map(delete).buffer_unordered(AT_ONCE).try_collect().await?;
        let missing: Vec<String> = missing.into_iter().flatten().collect();
        say!("{} deleted in {}", counted(names.len() - missing.len(), "VM"), self.place.namespace);
        if !missing.is_empty() {
            bail!(Failure::new(Exit::Usage, format!("no VM {}", missing.join(", "))).hint("see `lab vm list`"));
        }
        Ok(Exit::Success)
    }
}

impl Vm {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Create(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}
