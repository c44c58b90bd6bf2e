//! Ways into a cluster: Prometheus through the API server, and local ports that lead to pods.
//!
//! A local port stays open as long as its command runs. Each connection to it asks anew which pod is ready and opens a port-forward of its
//! own, so a pod that is replaced is followed, and one that is not ready yet is waited for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use tokio::net::{TcpListener, TcpStream};

use crate::exit::{Exit, Failure};

/// How long a connection waits for a pod.
const PATIENCE: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(500);

/// What a local port leads to.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// The namespace of its pods.
    pub(crate) namespace: String,
    /// Their labels.
    pub(crate) labels: String,
    /// The port.
    pub(crate) port: u16,
}

impl Goal {
    /// The name of a pod that is ready.
    async fn pod(&self, client: &kube::Client) -> Option<String> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let list = pods.list(&ListParams::default().labels(&self.labels)).await.ok()?;
        let is_ready = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            pod.metadata.deletion_timestamp.is_none()
                && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        list.items.into_iter().find(is_ready).and_then(|pod| pod.metadata.name)
    }

    /// Carries one connection until either side ends it.
    async fn carry(&self, client: &kube::Client, mut local: TcpStream) -> Result<()> {
        let mut deadline = wire::patience::Deadline::after(PATIENCE);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let mut forwarder = loop {
            let opened = match self.pod(client).await {
                Some(pod) => pods.portforward(&pod, &[self.port]).await.map_err(anyhow::Error::from),
                None => Err(anyhow::anyhow!("no pod of {} in {} is ready", self.labels, self.namespace)),
            };
            match opened {
                Ok(forwarder) => break forwarder,
                Err(error) if deadline.is_over() => return Err(error),
                Err(_) => tokio::time::sleep(PERIOD).await,
            }
        };
        let Some(mut remote) = forwarder.take_stream(self.port) else { return Ok(()) };
        tokio::io::copy_bidirectional(&mut local, &mut remote).await?;
        Ok(())
    }
}

/// A local port that leads to pods, until it is dropped.
pub(crate) struct Forward {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Forward {
    /// Listens on a port of the loopback interface; 0 is any.
    ///
    /// # Errors
    /// When the port is taken.
    pub(crate) async fn open(client: kube::Client, goal: Goal, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
            Failure::new(Exit::EnvironmentMissing, format!("cannot listen on 127.0.0.1:{port}: {error}"))
                .hint("give another with --port; 0 is any that is free")
        })?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((local, _)) = listener.accept().await {
                let (client, goal) = (client.clone(), goal.clone());
                tokio::spawn(async move {
                    if let Err(error) = goal.carry(&client, local).await {
                        eprintln!("a connection ended: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}
