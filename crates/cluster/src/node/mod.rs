//! The node agent: it does for pods what a kubelet does, with programs of this machine.

mod container;
mod pod;
mod probe;
mod volumes;

pub use volumes::ACCOUNT_PATH;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{Client, Gr, WatchEvent};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::PodAddresses;
use crate::program::Images;
use crate::runtime::Runtime;

const NODES: Gr = Gr::core("nodes");
const PODS: Gr = Gr::core("pods");

/// Settings of the one node of a lab.
pub struct NodeConfig {
    /// The node's name.
    pub name: String,
    /// Labels besides the standard ones.
    pub labels: Vec<(String, String)>,
    /// First two bytes of the pods' addresses.
    pub network: [u8; 2],
    /// Where pods reach the API server.
    pub api: SocketAddr,
    /// The certificate that signs the API server's.
    pub authority_pem: String,
    /// Where volumes are kept while a pod lives.
    pub folder: PathBuf,
}

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) config: NodeConfig,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) addresses: PodAddresses,
    pub(crate) authority_pem: Arc<str>,
}

/// Runs the pods that are assigned to its node.
pub struct NodeAgent {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl NodeAgent {
    /// Registers the node and begins to run pods.
    pub fn start(client: Client, config: NodeConfig, images: Arc<dyn Images>, runtime: Arc<Runtime>) -> Self {
        let shared = Arc::new(Shared {
            addresses: PodAddresses::new(config.network),
            authority_pem: config.authority_pem.as_str().into(),
            client,
            config,
            images,
            runtime,
        });
        register(&shared);
        let agent = Self { shared, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        agent.tasks.spawn(follow(agent.shared.clone(), agent.stop.clone(), agent.tasks.clone()));
        agent
    }

    /// Stops every container and waits until they have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn register(shared: &Shared) {
    let name = shared.config.name.as_str();
    let mut labels = json!({
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "node-role.kubernetes.io/control-plane": "",
    });
    for (key, value) in &shared.config.labels {
        labels[key.as_str()] = value.as_str().into();
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let capacity = json!({"cpu": "8", "memory": "32Gi", "pods": "500", "ephemeral-storage": "100Gi"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let [a, b] = shared.config.network;
    let status = json!({"status": {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": format!("{a}.{b}.0.1")},
            {"type": "Hostname", "address": name},
        ],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "the lab's node agent is running"),
        ],
        "nodeInfo": {
            "architecture": labels["kubernetes.io/arch"], "operatingSystem": "linux",
            "kubeletVersion": "v1.36.2", "kubeProxyVersion": "", "containerRuntimeVersion": "lab://embedded",
            "osImage": "embedded lab (simulated)", "kernelVersion": "simulated",
            "machineID": "", "systemUUID": "", "bootID": "",
        },
    }});
    if let Err(error) = shared.client.create(NODES, &node).and_then(|_| shared.client.merge(NODES, "", name, "status", &status)) {
        tracing::warn!(%error, "cannot register the node");
    }
}

/// Starts a task for each pod of this node and tells it when the pod is to go.
async fn follow(shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    // By uid: whether it is being deleted. Dropping the sender tells the pod's task that the object is gone.
    let mut running: HashMap<String, watch::Sender<bool>> = HashMap::new();
    loop {
        let Ok(mut watcher) = shared.client.watch(PODS) else {
            tracing::error!("pods are not served");
            return;
        };
        // What is there comes first. What is not among it went while the log was too short.
        let mut present = Some(HashSet::new());
        while let Ok(events) = watcher.take() {
            for event in events {
                match event {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                        if let Some(present) = &mut present {
                            present.insert(pod.uid().to_owned());
                        }
                        match running.get(pod.uid()) {
                            Some(sender) => {
                                sender.send_if_modified(|was| std::mem::replace(was, pod.is_deleting()) != pod.is_deleting());
                            }
                            None => {
                                let Some(object) = to_run(&shared, pod.value()) else { continue };
                                let (sender, receiver) = watch::channel(pod.is_deleting());
                                running.insert(pod.uid().to_owned(), sender);
                                tasks.spawn(pod::run(shared.clone(), object, receiver, stop.clone()));
                            }
                        }
                    }
                    WatchEvent::Deleted(pod) => {
                        running.remove(pod.uid());
                    }
                    WatchEvent::Bookmark { .. } => {}
                }
            }
            if let Some(present) = present.take() {
                running.retain(|uid, _| present.contains(uid));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = watcher.changed() => {}
            }
        }
    }
}

/// A pod of this node that has not ended yet, without what changes while it runs.
fn to_run(shared: &Shared, mut pod: Value) -> Option<Arc<Value>> {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if ended || pod["spec"]["nodeName"] != shared.config.name.as_str() {
        return None;
    }
    pod.as_object_mut()?.remove("status");
    pod["metadata"].as_object_mut()?.remove("managedFields");
    Some(Arc::new(pod))
}
