//! Real clusters: kind, minikube, and any that a kubeconfig reaches.
//!
//! A provider makes a cluster, says where its kubeconfig is, and deletes it again; everything that is installed goes through the API of
//! the cluster (crate `install`). Programs are found on the search path and run with arguments, never through a shell.

pub(crate) mod access;
pub(crate) mod bench;
pub(crate) mod bundle;
mod command;
mod kind;
mod minikube;
pub(crate) mod proxy;
pub(crate) mod record;
pub(crate) mod source;
pub(crate) mod undo;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use install::Api;
use kube::config::Kubeconfig;
use serde_json::json;

pub(crate) use kind::{Kind, Making, NodeState};
pub(crate) use minikube::Minikube;

use crate::exit::{Exit, Failure};

/// What a lab runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    /// In one process, without containers or root.
    #[default]
    Embedded,
    /// A kind cluster.
    Kind,
    /// A minikube cluster.
    Minikube,
    /// The cluster of a kubeconfig context.
    Existing,
}

impl Provider {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kind => "kind",
            Self::Minikube => "minikube",
            Self::Existing => "existing",
        }
    }
}

/// What a cluster that is made is given.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    /// Processors, for providers that can limit them.
    pub(crate) cpus: Option<u32>,
    /// Memory in MB, for providers that can limit it.
    pub(crate) memory: Option<u32>,
    /// Disk in GB, for providers that can limit it.
    pub(crate) disk: Option<u32>,
    /// Feature gates of Kubernetes: `NAME=true`.
    pub(crate) feature_gates: Vec<String>,
    /// Folders of this machine in the nodes: `HOST:NODE`.
    pub(crate) mounts: Vec<(PathBuf, String)>,
    /// The API server's port on this machine.
    pub(crate) api_port: Option<u16>,
    /// The driver: docker or podman for kind; docker, podman or kvm2 for minikube.
    pub(crate) driver: Option<String>,
}

/// A cluster of ours that is being made: told of each of its stages.
pub(crate) type Told<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Whether virtual machines can run without emulation, as this machine's /dev/kvm tells for clusters that run on it.
pub(crate) fn has_kvm() -> bool {
    Path::new("/dev/kvm").exists()
}

/// Where a lab's mark is in its cluster: whose it is.
const MARK: (&str, &str) = ("kube-system", "kubevirt-lab");

/// Marks a cluster as a lab's own, which a provider has made for it.
///
/// # Errors
/// When the API server refuses.
pub(crate) async fn mark(api: &Api, lab: &str, provider: Provider) -> Result<()> {
    let (namespace, name) = MARK;
    let mark = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"lab": lab, "provider": provider.name()},
    });
    api.apply(&mark).await.map_err(|error| Failure::new(Exit::LabFailed, format!("cannot mark the cluster: {error}")))?;
    Ok(())
}

/// The lab that a cluster was made for; `None` where it is nobody's.
///
/// # Errors
/// When the API server does not answer.
pub(crate) async fn marked(api: &Api) -> Result<Option<String>> {
    let (namespace, name) = MARK;
    let found = api.get(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}")).await?;
    Ok(found.and_then(|mark| mark["data"]["lab"].as_str().map(str::to_owned)))
}

/// Refuses a cluster of the wanted name that is not the lab's.
///
/// # Errors
/// When it is not.
pub(crate) async fn refuse_foreign(api: &Api, provider: Provider, cluster: &str, lab: &str) -> Result<()> {
    let whose = marked(api).await?;
    if whose.as_deref() == Some(lab) {
        return Ok(());
    }
    let whose = whose.map_or_else(|| "was not made by a lab".to_owned(), |other| format!("is lab {other:?}'s"));
    bail!(
        Failure::new(Exit::LabFailed, format!("there is a {} cluster {cluster:?} already, and it {whose}", provider.name()))
            .hint("give another --name, or use it as it is with --provider existing --context CONTEXT")
    )
}

/// A kubeconfig of one context alone, out of the user's files or a named one.
///
/// # Errors
/// When the context is not there.
pub(crate) fn one_context(file: Option<&Path>, context: &str) -> Result<Kubeconfig> {
    let read = match file {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let mut config = read.map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the kubeconfig: {error}"))
            .hint("set KUBECONFIG, or give --kubeconfig FILE")
    })?;
    let known: Vec<String> = config.contexts.iter().map(|found| found.name.clone()).collect();
    let Some(found) = config.contexts.iter().find(|found| found.name == context).and_then(|found| found.context.clone()) else {
        let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        bail!(Failure::new(Exit::Usage, format!("there is no context {context:?}")).hint(format!("there are: {there}")));
    };
    config.contexts.retain(|other| other.name == context);
    config.clusters.retain(|cluster| cluster.name == found.cluster);
    config.auth_infos.retain(|user| Some(&user.name) == found.user.as_ref());
    config.current_context = Some(context.to_owned());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_taken_out_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "b",
            "clusters": [{"name": "c1", "cluster": {"server": "https://a"}}, {"name": "c2", "cluster": {"server": "https://b"}}],
            "users": [{"name": "u1", "user": {"token": "secret"}}, {"name": "u2", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "c2", "user": "u2"}}, {"name": "b", "context": {"cluster": "c1", "user": "u1"}}]}"#;
        std::fs::write(&file, text).unwrap();
        let config = one_context(Some(&file), "a").unwrap();
        assert_eq!((config.clusters.len(), config.auth_infos.len(), config.contexts.len()), (1, 1, 1));
        assert_eq!((config.clusters[0].name.as_str(), config.auth_infos[0].name.as_str()), ("c2", "u2"));
        assert_eq!(config.current_context.as_deref(), Some("a"));
        let error = one_context(Some(&file), "nope").unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(
            (failure.message.as_str(), failure.hint.as_deref()),
            ("there is no context \"nope\"", Some("there are: a, b"))
        );
    }
}
