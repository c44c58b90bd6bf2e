//! `apiserver`: the API server alone, with the controllers that belong to it and nothing that runs pods.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use apiserver::ApiServer;
use clap::Args;
use faults::{Control, Proxy, WrongIdentities};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;

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
    /// Put a fault proxy before the server, at this address; its rules and ledger are reached at `control` with the server's token.
    #[arg(long, value_name = "ADDRESS")]
    fault_proxy: Option<SocketAddr>,
    /// Keep objects in this file, so that they are there again when the server is started with it next time.
    #[arg(long, value_name = "FILE")]
    persist: Option<PathBuf>,
}

impl Apiserver {
    pub(crate) async fn run(self) -> Result<Exit> {
        let mut addresses = [Some(self.listen), self.fault_proxy].into_iter().flatten();
        if let Some(address) = addresses.find(|address| !address.ip().is_loopback()) {
            let failure = Failure::new(Exit::Usage, format!("{address} is not a loopback address"));
            return Err(failure.hint("the server listens on this machine only, such as --listen 127.0.0.1:0").into());
        }
        let authority = Arc::new(CertificateAuthority::new("kubernetes")?);
        let mut builder = ApiServer::builder().authority(authority.clone());
        if let Some(file) = &self.persist {
            builder = builder.persist(file);
        }
        let server = builder.start(self.listen).await?;
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let kubeconfig = self.kubeconfig.unwrap_or_else(|| folder.path().join("kubeconfig"));
        state::write_secret(&kubeconfig, server.kubeconfig("apiserver").as_bytes())
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let mut ready = json!({"url": server.url(), "token": server.admin_token(), "kubeconfig": kubeconfig});
        let stop = CancellationToken::new();
        if let Some(address) = self.fault_proxy {
            let (proxy, control) = serve_proxy(&server, &authority, address, &stop)?;
            ready["proxy"] = format!("https://{proxy}").into();
            ready["control"] = format!("http://{control}").into();
        }
        say!("{ready}");
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
        stop.cancel();
        Ok(Exit::Success)
    }
}

/// Serves the fault proxy before a server, and its control endpoint; their addresses.
fn serve_proxy(
    server: &ApiServer,
    authority: &CertificateAuthority,
    address: SocketAddr,
    stop: &CancellationToken,
) -> Result<(SocketAddr, SocketAddr)> {
    let listen = |address: SocketAddr| wire::bind(address).with_context(|| format!("cannot listen on {address}"));
    let wrong = Arc::new(WrongIdentities::new(authority, address.ip())?);
    let proxy = Arc::new(Proxy::new(server.handler(), ()).with_wrong_identities(wrong));
    let identity = authority.server("kube-apiserver", &["localhost", "kubernetes"], &[address.ip()])?;
    let tls = identity.server_config_with_clients(&["h2", "http/1.1"], authority)?;
    let (listener, control) = (listen(address)?, listen((Ipv4Addr::LOCALHOST, 0).into())?);
    let found = (listener.local_addr()?, control.local_addr()?);
    let handler = Control::new(proxy.engine().clone(), proxy.ledger().clone()).handler(server.admin_token().to_owned());
    tokio::spawn(wire::serve(control, None, handler, Arc::new(()), stop.clone()));
    tokio::spawn(wire::serve(listener, Some(tls), proxy.clone(), proxy, stop.clone()));
    Ok(found)
}
