//! `lab down`.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use install::{Api, Installer, Left, Progress};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Which;
use super::up::{Stages, failure};
use crate::control::Control;
use crate::exit::{Exit, Failure};
use crate::provider::record::ClusterRecord;
use crate::provider::{self, Kind, Minikube, Provider};
use crate::reach;
use crate::state::{LabDir, StateRoot};

/// How long the supervisor has to stop by itself.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Down {
    #[command(flatten)]
    which: Which,
    /// Take down every lab of this folder.
    #[arg(long)]
    all: bool,
    /// Seconds until objects that a lab installed on a cluster must be gone.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
}

impl Down {
    pub(super) async fn run(self) -> Result<Exit> {
        if !self.all {
            let dir = self.which.dir()?;
            if let Some(record) = ClusterRecord::of(&dir) {
                return self.take_off(&dir, &record).await;
            }
            let what = if stop(&dir).await? { "is down" } else { "was not running; nothing is left of it" };
            say!("lab {:?} {what}", dir.name());
            return Ok(Exit::Success);
        }
        let root = StateRoot::from_env();
        let mut exit = Exit::Success;
        for name in root.names() {
            let dir = root.lab(&name)?;
            if let Some(record) = ClusterRecord::of(&dir) {
                let ended = self.take_off(&dir, &record).await?;
                exit = if ended == Exit::Success { exit } else { ended };
                continue;
            }
            stop(&dir).await?;
            say!("lab {name:?} is down");
        }
        Ok(exit)
    }

    /// Takes a lab off a real cluster: deletes the cluster if the lab made it, else what the lab installed.
    async fn take_off(&self, dir: &LabDir, record: &ClusterRecord) -> Result<Exit> {
        let stages = Stages::new(false);
        let name = dir.name();
        let left = match record.provider {
            Provider::Existing => self.uninstall(dir, &stages).await?,
            Provider::Kind => {
                let kind = Kind::find(record.driver.as_deref(), false, &|what| stages.doing(what)).await?;
                if kind.exists(name).await? {
                    self.ours(dir, record, &stages).await?;
                    stages.doing("kind: deleting the cluster");
                    kind.delete(name, &dir.kubeconfig()).await?;
                }
                if !record.keeps_network {
                    kind.remove_network().await?;
                }
                Vec::new()
            }
            Provider::Embedded => bail!("the record of lab {name:?} names no cluster; remove {}", dir.path().display()),
            Provider::Minikube => {
                let minikube = Minikube::find(record.driver.as_deref(), &dir.kubeconfig()).await?;
                if minikube.exists(name).await? {
                    self.ours(dir, record, &stages).await?;
                    stages.doing("minikube: deleting the cluster");
                    minikube.delete(name).await?;
                }
                Vec::new()
            }
        };
        stages.finish();
        if !left.is_empty() {
            for left in &left {
                eprintln!("left: {}: {}", left.what, left.why);
            }
            // The folder stays, so that the same command goes on once what kept them is gone.
            eprintln!("run the same command again when that is settled");
            return Ok(Exit::LabFailed);
        }
        dir.remove()?;
        say!("lab {name:?} is down");
        Ok(Exit::Success)
    }

    /// Refuses a cluster of the lab's name that the lab did not make; one that does not answer was made by it if its record says so.
    async fn ours(&self, dir: &LabDir, record: &ClusterRecord, stages: &Stages) -> Result<()> {
        if !record.complete && !dir.kubeconfig().exists() {
            return Ok(());
        }
        stages.doing("asking the cluster whose it is");
        let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
        match provider::marked(&api).await {
            Ok(Some(lab)) if lab == dir.name() => Ok(()),
            Ok(None) if !record.complete => Ok(()),
            Ok(whose) => {
                let whose = whose.map_or_else(|| "no lab's".to_owned(), |lab| format!("lab {lab:?}'s"));
                bail!(
                    Failure::new(
                        Exit::LabFailed,
                        format!("the {} cluster {:?} is {whose}; it stays", record.provider.name(), dir.name())
                    )
                    .hint(format!("delete {} if the lab's own cluster is gone", dir.path().display()))
                )
            }
            // A cluster that is broken can be deleted all the same: nothing but the lab's own record names it.
            Err(_) => Ok(()),
        }
    }

    async fn uninstall(&self, dir: &LabDir, stages: &Stages) -> Result<Vec<Left>> {
        let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
        let told = |progress: Progress<'_>| stages.tell(progress);
        let installer =
            Installer { api: &api, lab: dir.name(), brought: None, patience: Duration::from_secs(self.timeout), told: &told };
        // A KubeVirt that stays must not look for a proxy that is gone.
        installer.remove_proxy().await.map_err(|error| failure(&error))?;
        installer.remove().await.map_err(|error| {
            Failure::new(Exit::LabFailed, format!("the cluster cannot be cleaned up: {error}"))
                .hint(format!(
                    "run the same command when it can be reached; if it is gone for good, delete {}",
                    dir.path().display()
                ))
                .into()
        })
    }
}

/// Stops a lab and removes what it left; whether it ran.
async fn stop(dir: &LabDir) -> Result<bool> {
    let ran = dir.is_running();
    let mut asked = false;
    let mut deadline = wire::patience::Deadline::after(PATIENCE);
    while dir.is_running() && !deadline.is_over() {
        // A lab that is coming up has no record yet; it is asked as soon as it can be.
        if let Some(record) = dir.record().filter(|_| !asked) {
            asked = Control::of(&record)?.stop().await.is_ok();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if dir.is_running()
        && let Some(pid) = dir.holder()
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let mut deadline = wire::patience::Deadline::after(PATIENCE);
        while dir.is_running() && !deadline.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    if dir.is_running() {
        bail!(Failure::new(Exit::LabFailed, format!("lab {:?} does not stop", dir.name())));
    }
    dir.remove()?;
    Ok(ran)
}
