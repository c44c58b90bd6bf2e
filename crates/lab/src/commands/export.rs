//! `lab export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use install::Api;

use super::Which;
use crate::control::Control;
use crate::exit::Exit;
use crate::export::Export;
use crate::provider::proxy;
use crate::provider::record::ClusterRecord;
use crate::reach;

#[derive(Args)]
pub(super) struct ExportCommand {
    #[command(flatten)]
    which: Which,
    /// A new folder.
    folder: PathBuf,
}

impl ExportCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        let dir = self.which.dir()?;
        super::reachable(&dir)?;
        let mut export = Export::new(&self.folder)?;
        let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
        match ClusterRecord::of(&dir) {
            Some(record) => {
                export.json("lab.json", &record)?;
                if let Some(control) = proxy::find(&api, dir.name()).await? {
                    ledger(&mut export, &control).await?;
                }
            }
            None => {
                let record = dir.running()?;
                let told = serde_json::json!({"name": record.name, "provider": record.provider, "kubevirt": record.release});
                export.json("lab.json", &told)?;
                let control = Control::of(&record)?;
                ledger(&mut export, &control).await?;
                match control.notifications().await {
                    Ok(sent) => export.json("notifications.json", &sent)?,
                    Err(error) => export.lacks("notifications", &error),
                }
            }
        }
        export.cluster(&api, &["monitoring", "kubevirt", "kube-system", install::PROXY_NAMESPACE]).await?;
        match super::prometheus_of(&dir).await {
            Ok(client) => export.prometheus(&client).await?,
            Err(error) => export.lacks("prometheus", &error),
        }
        let files = export.end()?;
        say!("{files} files are in {}; Secrets are named there without what is in them", self.folder.display());
        Ok(Exit::Success)
    }
}

/// Every request that a fault proxy remembers.
async fn ledger(export: &mut Export, control: &Control) -> Result<()> {
    match control.ledger(0, usize::MAX).await {
        Ok(entries) => export.json("ledger.json", &entries)?,
        Err(error) => export.lacks("ledger", &error),
    }
    Ok(())
}
