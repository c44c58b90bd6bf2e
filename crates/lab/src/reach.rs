//! How the parts of a lab are reached: its API server by a kubeconfig, KubeVirt's targets among all.

use std::path::Path;

use anyhow::{Context as _, Result};
use metrics::Target;

/// A client for a kubeconfig's file.
pub(crate) async fn kube_client(kubeconfig: &Path, context: Option<&str>) -> Result<kube::Client> {
    let config =
        kube::config::Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    crate::why::client(config, context).await
}

/// The targets of KubeVirt's Service.
pub(crate) fn kubevirt_targets(targets: Vec<Target>) -> Vec<Target> {
    let ours = |target: &Target| target.labels.get("service").is_some_and(|service| service == "kubevirt-prometheus-metrics");
    targets.into_iter().filter(ours).collect()
}
