//! The supervisor: the process that is the lab. It holds the lock, and says in `lab.json` when it can be talked to.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Which;
use crate::control;
use crate::embedded::{Lab, Options, Stack};
use crate::exit::{Exit, Failure};
use crate::state::{LabRecord, write_secret};
use crate::tools::{Alertmanager, Prometheus, Source};

#[derive(Args)]
pub(super) struct Supervise {
    #[command(flatten)]
    which: Which,
    /// The release of KubeVirt.
    #[arg(long)]
    kubevirt: String,
    /// The Prometheus program.
    #[arg(long)]
    prometheus: PathBuf,
    /// Its version.
    #[arg(long)]
    prometheus_version: String,
    /// The Alertmanager program, if there is one.
    #[arg(long)]
    alertmanager: Option<PathBuf>,
    /// Its version.
    #[arg(long, default_value = "")]
    alertmanager_version: String,
    /// The API server's port.
    #[arg(long)]
    api_port: u16,
    /// Whether alerts come soon.
    #[arg(long)]
    fast_alerts: bool,
    /// A prometheus-operator to run.
    #[arg(long)]
    prometheus_operator: Option<PathBuf>,
    /// Whether there are no exporters.
    #[arg(long)]
    small: bool,
    /// Whether there are three Alertmanagers.
    #[arg(long)]
    full: bool,
    /// Whether nothing is installed.
    #[arg(long)]
    bare: bool,
}

impl Supervise {
    pub(super) async fn run(self) -> Result<Exit> {
        let dir = self.which.dir()?;
        let Some(mut lock) = dir.lock()? else {
            bail!(Failure::new(Exit::LabFailed, format!("lab {:?} is already running", dir.name())));
        };
        lock.sign()?;
        dir.remove_record();
        cluster::kill_leftovers(&dir.pids());
        // `up` has checked it; checking again would start two programs before the API is ready.
        let prometheus = Prometheus {
            promtool: self.prometheus.with_file_name("promtool"),
            prometheus: self.prometheus.clone(),
            version: self.prometheus_version.clone(),
            source: Source::Given,
            alertmanager: match &self.alertmanager {
                Some(path) => Ok(Alertmanager { alertmanager: path.clone(), version: self.alertmanager_version.clone() }),
                None => Err("none was given".to_owned()),
            },
        };
        let options = Options {
            name: dir.name().to_owned(),
            release: self.kubevirt.clone(),
            api_port: self.api_port,
            prometheus,
            folder: dir.path(),
            fast_alerts: self.fast_alerts,
            prometheus_operator: self.prometheus_operator.clone(),
            stack: if self.small { Stack::Small } else { Stack::Full },
            defects: Vec::new(),
            full_size: self.full,
            bare: self.bare,
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = CancellationToken::new();
        let lab = Arc::new(Lab::serve(&options)?);
        let token = lab.server().admin_token().to_owned();
        let control = control::serve(&lab, &token, stop.clone())?;
        write_secret(&dir.kubeconfig(), lab.server().kubeconfig(dir.name()).as_bytes())?;
        dir.write_record(&LabRecord {
            pid: std::process::id(),
            name: dir.name().to_owned(),
            provider: "embedded".to_owned(),
            release: lab.release().release.clone(),
            api_url: lab.server().url(),
            service_url: format!("https://{}", lab.service()),
            control_url: format!("http://{control}"),
            token,
            prometheus: options.prometheus.prometheus.to_string_lossy().into_owned(),
        })?;
        // The API answers while it is filled; what is not there yet is what `up` waits for.
        let filled = lab.clone();
        let installed = tokio::task::spawn_blocking(move || filled.install(&options)).await?;
        if let Err(error) = installed {
            dir.remove_record();
            stop.cancel();
            lab.stop().await;
            return Err(error);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        dir.remove_record();
        stop.cancel();
        lab.stop().await;
        drop(lock);
        Ok(Exit::Success)
    }
}
