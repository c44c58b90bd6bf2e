//! What is kept on disk of a lab on a real cluster: `.lab/NAME/cluster.json`, and its kubeconfig beside it.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Provider;
use crate::state::{LabDir, write_secret};

/// A lab on a real cluster. Nothing of it runs on this machine between commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterRecord {
    /// The lab's name, and that of its cluster where the lab made it.
    pub(crate) name: String,
    /// What it runs on.
    pub(crate) provider: Provider,
    /// The driver of the provider, if one was named.
    pub(crate) driver: Option<String>,
    /// The context of the kubeconfig, for an existing cluster.
    pub(crate) context: Option<String>,
    /// The version of Kubernetes.
    pub(crate) kubernetes: String,
    /// The release of kube-prometheus; none where the cluster had a stack of its own.
    pub(crate) kube_prometheus: Option<String>,
    /// The release of KubeVirt; none where the cluster had it.
    pub(crate) kubevirt: Option<String>,
    /// The Prometheus object: `NAMESPACE/NAME`.
    pub(crate) prometheus: String,
    /// Whether the lab's own cluster came to be whole; one that did not is made anew.
    #[serde(default = "made_before")]
    pub(crate) made: bool,
    /// Whether kind's network was there before the lab's cluster, and stays after it.
    #[serde(default = "made_before")]
    pub(crate) keeps_network: bool,
    /// Whether the installation came to its end.
    pub(crate) complete: bool,
}

/// What is taken of records that do not say it: nothing is deleted that may be somebody's.
fn made_before() -> bool {
    true
}

const FILE: &str = "cluster.json";

impl ClusterRecord {
    /// The record of a lab, if it runs on a real cluster.
    pub(crate) fn of(dir: &LabDir) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.path().join(FILE)).ok()?).ok()
    }

    /// Writes it, and makes the lab's folder if it is not there.
    ///
    /// # Errors
    /// When the disk does not let us.
    pub(crate) fn write(&self, dir: &LabDir) -> Result<()> {
        dir.create()?;
        write_secret(&dir.path().join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// Whether a folder is that of such a lab.
    pub(crate) fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }
}
