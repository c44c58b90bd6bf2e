//! `apiserver`: the API server alone, with the controllers that belong to it and nothing that runs pods.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use apiserver::ApiServer;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::state;

/// Runs the API server alone until it is interrupted, and prints one line of JSON when it is ready.
#[derive(Args)]
pub(crate) struct Apiserver {
    /// Where to listen; port 0 takes any that is free. Loopback only.
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 16443)))]
    listen: SocketAddr,
    /// Write the kubeconfig there, not into a temporary folder that goes with the server.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Keep objects in this file, so that they are there again when the server is started with it next time.
    #[arg(long, value_name = "FILE")]
    persist: Option<PathBuf>,
}

impl Apiserver {
    pub(crate) async fn run(self) -> Result<Exit> {
        if !self.listen.ip().is_loopback() {
            let failure = Failure::new(Exit::Usage, format!("{} is not a loopback address", self.listen));
            return Err(failure.hint("the server listens on this machine only, such as --listen 127.0.0.1:0").into());
        }
        let mut builder = ApiServer::builder();
        if let Some(file) = &self.persist {
            builder = builder.persist(file);
        }
        let server = builder.start(self.listen).await?;
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let kubeconfig = self.kubeconfig.unwrap_or_else(|| folder.path().join("kubeconfig"));
        state::write_secret(&kubeconfig, server.kubeconfig("apiserver").as_bytes())
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        say!("{}", json!({"url": server.url(), "token": server.admin_token(), "kubeconfig": kubeconfig}));
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
        Ok(Exit::Success)
    }
}
