//! What a kubelet serves at 10250 of its node: the pages about its pods, for those who may read the node's metrics.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use apiserver::{Client, Gr};
use cluster::{Informer, Runtime};
use tokio_util::sync::CancellationToken;

use crate::auth::{self, Access};
use crate::kubelet::{self, Measured, Usage};
use crate::serve::{page, serve};

/// The port of the kubelet's HTTPS.
const PORT: u16 = 10250;
/// The size of a page of memory, in bytes: what Linux has on amd64 and mostly on arm64.
const PAGE: f64 = 4096.0;

/// The kubelet of a lab's node, as far as metrics go.
pub struct Kubelet {
    /// Sees pods and the node, and reviews who asks.
    pub client: Client,
    /// The node's name.
    pub node: String,
    /// Knows which containers are processes.
    pub runtime: Arc<Runtime>,
}

impl Kubelet {
    /// Listens at the node's address until `stop`, and makes the objects by which it is found.
    ///
    /// # Errors
    /// In words, when it cannot listen, or the node or its objects are refused.
    pub fn start(self, address: Ipv4Addr, stop: CancellationToken) -> Result<(), String> {
        let node = self.client.get(Gr::core("nodes"), "", &self.node).map_err(|error| error.to_string())?;
        let pods = Arc::new(Mutex::new(Informer::new(&self.client, Gr::core("pods"))));
        for object in kubelet::objects(&node, &address.to_string()) {
            self.client.apply(&object).map_err(|error| error.to_string())?;
        }
        let shared = Arc::new(self);
        serve((address, PORT).into(), true, stop, move |request| {
            let (shared, pods, node) = (shared.clone(), pods.clone(), node.clone());
            async move {
                let path = request.uri().path();
                if path == "/healthz" {
                    return Some(wire::text(http::StatusCode::OK, "ok".to_owned()));
                }
                if let Some(refusal) = auth::refused(&shared.client, Access::NodeMetrics, &shared.node, path, request.headers()) {
                    return Some(refusal);
                }
                let mut pods = pods.lock().ok()?;
                pods.sync();
                let pods = kubelet::of_node(&shared.node, pods.objects());
                let now = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
                match path {
                    "/metrics" => Some(page(kubelet::own(&node, &pods))),
                    "/metrics/cadvisor" => Some(page(kubelet::cadvisor(&pods, &shared.measured(), now))),
                    "/metrics/probes" => Some(page(kubelet::probes(&pods, now))),
                    _ => None,
                }
            }
        })
    }

    /// What the processes of this machine use. Reading two small files of /proc does not block.
    fn measured(&self) -> Measured {
        let of = |process: u32| Usage::of_stat(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?, PAGE);
        let processes = self.runtime.processes().into_iter();
        processes.filter_map(|(uid, container, process)| Some(((uid, container), of(process)?))).collect()
    }
}
