//! What an embedded lab has of kube-prometheus besides Prometheus, Alertmanager and its operator: exporters of its own, and stand-ins.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use apiserver::Client;
use cluster::{Program, Runtime};
use exporters::{AuthProxy, Kubelet, NodeExporter, StandIn, StateMetrics};
use tokio_util::sync::CancellationToken;

/// The images of the stack, below `lab.local/sim/`.
pub(crate) struct Exporters(Client);

impl Exporters {
    /// Exporters of the objects that this client sees.
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// The program of an image, if it is one of the stack's.
    pub(crate) fn find(&self, image: &str) -> Option<Arc<dyn Program>> {
        Some(match image {
            "kube-state-metrics" => Arc::new(StateMetrics::new(self.0.clone())),
            "node-exporter" => Arc::new(NodeExporter),
            "kube-rbac-proxy" => Arc::new(AuthProxy::new(self.0.clone())),
            "grafana" => Arc::new(StandIn::new("grafana", 3000, false)),
            "prometheus-adapter" => Arc::new(StandIn::new("prometheus-adapter", 6443, true)),
            "prometheus-operator" => Arc::new(StandIn::new("prometheus-operator", 8080, false)),
            _ => return None,
        })
    }
}

/// Serves the kubelet's metrics at the node's address, and makes the objects by which Prometheus finds it: here the operator is the lab.
pub(crate) fn start_kubelet(
    client: &Client,
    node: &str,
    runtime: Arc<Runtime>,
    address: Ipv4Addr,
    stop: CancellationToken,
) -> Result<()> {
    let kubelet = Kubelet { client: client.as_manager("prometheus-operator"), node: node.to_owned(), runtime };
    kubelet.start(address, stop).map_err(|why| anyhow::anyhow!("the kubelet's metrics: {why}"))
}
