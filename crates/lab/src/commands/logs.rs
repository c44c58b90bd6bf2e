//! `lab logs`.

use std::io::Write as _;

use anyhow::{Result, bail};
use clap::Args;
use futures_util::{AsyncBufReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};

use super::Which;
use crate::exit::{Exit, Failure};

#[derive(Args)]
pub(super) struct Logs {
    #[command(flatten)]
    which: Which,
    /// The pod's name, or the beginning of it.
    pod: String,
    /// Its namespace; all are searched without it.
    #[arg(short, long)]
    namespace: Option<String>,
    /// The container.
    #[arg(short, long)]
    container: Option<String>,
    /// Go on as lines come.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long)]
    tail: Option<i64>,
    /// The container's run before this one.
    #[arg(short, long)]
    previous: bool,
}

impl Logs {
    pub(super) async fn run(self) -> Result<Exit> {
        let dir = self.which.dir()?;
        super::reachable(&dir)?;
        let client = crate::reach::kube_client(&dir.kubeconfig(), None).await?;
        let pods: Api<Pod> = match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let list = pods.list(&ListParams::default()).await?;
        let name_of = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
        let mut matching: Vec<&Pod> = list.items.iter().filter(|pod| name_of(pod) == self.pod).collect();
        if matching.is_empty() {
            matching = list.items.iter().filter(|pod| name_of(pod).starts_with(&self.pod)).collect();
        }
        let Some(pod) = matching.first() else {
            let names: Vec<String> = list.items.iter().map(name_of).collect();
            bail!(Failure::new(Exit::Usage, format!("no pod {:?}", self.pod)).hint(format!("there are {}", names.join(", "))));
        };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
        let default_container = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get("kubectl.kubernetes.io/default-container").cloned());
        let parameters = LogParams {
            container: self.container.clone().or(default_container),
            follow: self.follow,
            tail_lines: self.tail,
            previous: self.previous,
            ..LogParams::default()
        };
        let mut lines = pods.log_stream(&name_of(pod), &parameters).await?.lines();
        let mut out = std::io::stdout();
        while let Some(line) = lines.next().await {
            writeln!(out, "{}", line?)?;
        }
        Ok(Exit::Success)
    }
}
