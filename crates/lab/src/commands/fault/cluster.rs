//! `lab fault install` and `lab fault remove`: the fault proxy on a real cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use install::{Api, Installer, Progress, ProxyImage};

use crate::commands::Which;
use crate::commands::up::{Stages, failure};
use crate::exit::{Exit, Failure};
use crate::provider::proxy::Image;
use crate::provider::record::ClusterRecord;
use crate::reach;
use crate::state::LabDir;

#[derive(Args)]
pub(crate) struct Install {
    #[command(flatten)]
    which: Which,
    /// An image that the cluster has, or pulls by itself.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["archive", "registry"])]
    image: Option<String>,
    /// The archive with the image; without it what `cargo xtask image` has written. It is loaded into the nodes of kind and minikube.
    #[arg(long, value_name = "FILE.tar")]
    archive: Option<PathBuf>,
    /// A registry that the cluster pulls from: the image is pushed there.
    #[arg(long, value_name = "HOST/PATH")]
    registry: Option<String>,
    /// Seconds until each state must be reached.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
}

#[derive(Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    which: Which,
    /// Seconds until each state must be reached.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
}

/// The lab's folder and record; an embedded lab is refused.
fn cluster(which: &Which) -> Result<(LabDir, ClusterRecord)> {
    let dir = which.dir()?;
    if let Some(record) = ClusterRecord::of(&dir) {
        return Ok((dir, record));
    }
    dir.running()?;
    bail!(
        Failure::new(Exit::Usage, format!("lab {:?} is an embedded one: its fault proxy is there already", dir.name()))
            .hint("arm a fault: cargo xtask fault add --help")
    )
}

impl Install {
    pub(super) async fn run(self) -> Result<Exit> {
        let (dir, record) = cluster(&self.which)?;
        let image = match &self.image {
            Some(name) => Image::named(name),
            None => Image::of_archive(self.archive.as_deref())?,
        };
        let stages = Stages::new(false);
        let image = image.load(&record, &dir, self.registry.as_deref(), &|what| stages.doing(what)).await?;
        let token = wire::random_token()?;
        let work = async |installer: &Installer<'_>| {
            let image = ProxyImage { name: &image.name, build: &image.build };
            installer.install_proxy(image, &token).await.map_err(|error| failure(&error))
        };
        match carry_out(&dir, self.timeout, &stages, work).await? {
            Some(()) => {
                say!("KubeVirt goes through the fault proxy; arm a fault: cargo xtask fault add --help");
                Ok(Exit::Success)
            }
            None => {
                eprintln!("interrupted; run the same command again to go on, or `lab fault remove`");
                Ok(Exit::Interrupted)
            }
        }
    }
}

impl Remove {
    pub(super) async fn run(self) -> Result<Exit> {
        let (dir, _) = cluster(&self.which)?;
        let stages = Stages::new(false);
        let work = async |installer: &Installer<'_>| installer.remove_proxy().await.map_err(|error| failure(&error));
        match carry_out(&dir, self.timeout, &stages, work).await? {
            Some(true) => say!("KubeVirt goes to the API server as before"),
            Some(false) => say!("there was no fault proxy"),
            None => {
                eprintln!("interrupted; run the same command again to go on");
                return Ok(Exit::Interrupted);
            }
        }
        Ok(Exit::Success)
    }
}

/// Does something on the lab's cluster and shows its stages; nothing if it is interrupted.
async fn carry_out<T>(
    dir: &LabDir,
    timeout: u64,
    stages: &Stages,
    work: impl AsyncFnOnce(&Installer<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
    let told = |progress: Progress<'_>| stages.tell(progress);
    let installer = Installer { api: &api, lab: dir.name(), brought: None, patience: Duration::from_secs(timeout), told: &told };
    let done = tokio::select! {
        done = work(&installer) => done.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    stages.finish();
    done
}
