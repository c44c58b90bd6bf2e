//! `lab bundle`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use install::{Plan, Profile, Releases, Wanted};
use serde_json::json;

use super::Output;
use super::up::Stages;
use crate::exit::{Exit, Failure};
use crate::provider::bundle::{self, Contents};
use crate::provider::source;

#[derive(Args)]
pub(super) struct BundleCommand {
    /// The file that is written.
    #[arg(value_name = "FILE.tar")]
    file: PathBuf,
    /// The version of Kubernetes.
    #[arg(long, value_name = "VERSION")]
    kubernetes: Option<String>,
    /// The release of kube-prometheus.
    #[arg(long, value_name = "RELEASE")]
    kube_prometheus: Option<String>,
    /// The release of KubeVirt.
    #[arg(long, value_name = "RELEASE")]
    kubevirt: Option<String>,
    /// kube-prometheus from a folder or .tar.gz of a release.
    #[arg(long, value_name = "PATH")]
    kube_prometheus_manifests: Option<PathBuf>,
    /// KubeVirt from a folder with its operator and object.
    #[arg(long, value_name = "DIR")]
    kubevirt_manifests: Option<PathBuf>,
    /// All of kube-prometheus, as `lab up --full` installs it.
    #[arg(long)]
    full: bool,
    /// Take the images that the engine has, and pull none.
    #[arg(long)]
    no_pull: bool,
    /// Leave kind's node image out; the bundle is then for minikube or an existing cluster.
    #[arg(long)]
    no_node: bool,
    /// docker or podman.
    #[arg(long, default_value = "docker", value_name = "ENGINE")]
    engine: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The images that virt-operator chooses by itself: those of every release, and those that this one has besides.
fn chosen_by_kubevirt(images: &[String], besides: &[String]) -> Vec<String> {
    let names: Vec<&str> = install::OF_EVERY_KUBEVIRT.into_iter().chain(besides.iter().map(String::as_str)).collect();
    let operators = images.iter().filter_map(|image| image.split_once("/virt-operator:"));
    let of = |(registry, tag): (&str, &str)| {
        let named = |name: &&str| match name.contains(':') {
            true => format!("{registry}/{name}"),
            false => format!("{registry}/{name}:{tag}"),
        };
        names.iter().map(named).collect::<Vec<_>>()
    };
    operators.flat_map(of).collect()
}

impl BundleCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        let wanted = Wanted {
            kubernetes: self.kubernetes.clone(),
            kube_prometheus: self.kube_prometheus.clone(),
            kubevirt: self.kubevirt.clone(),
        };
        let triple =
            Releases::known().choose(&wanted).map_err(|misfit| Failure::new(Exit::Usage, misfit.message).hint(misfit.hint))?;
        let stages = Stages::new(self.output == Output::Json);
        let told = |what: &str| stages.doing(what);
        stages.done(&triple.to_string());
        let stack = match &self.kube_prometheus_manifests {
            Some(path) => source::given_stack(path)?,
            None => source::released_stack(&triple.kube_prometheus, false, &told).await?,
        };
        let kubevirt = match &self.kubevirt_manifests {
            Some(path) => source::given_folder(path)?,
            None => source::released_kubevirt(&triple.kubevirt, false, &told).await?,
        };
        let profile = Profile { full: self.full, ..Profile::default() };
        let mut plan = Plan::default();
        plan.monitoring(source::objects(&stack)?, &profile);
        plan.kubevirt(source::objects(&kubevirt)?, &profile);
        let mut images = plan.images();
        images.extend(chosen_by_kubevirt(&images, Releases::known().deployed_by(&triple.kubevirt)));
        if !self.no_node {
            images.push(format!("kindest/node:{}", triple.kubernetes));
        }
        images.sort();
        images.dedup();
        let contents = Contents { triple: &triple, stack: &stack, kubevirt: &kubevirt, images: &images };
        let sum = tokio::select! {
            written = bundle::write(&self.file, &contents, &self.engine, !self.no_pull, &told) => written?,
            _ = tokio::signal::ctrl_c() => {
                stages.finish();
                eprintln!("interrupted; nothing was written");
                return Ok(Exit::Interrupted);
            }
        };
        stages.finish();
        let size = std::fs::metadata(&self.file)?.len();
        let document = json!({
            "file": self.file, "sha256": sum, "bytes": size, "kubernetes": triple.kubernetes,
            "kubePrometheus": triple.kube_prometheus, "kubevirt": triple.kubevirt, "images": images,
        });
        if !self.output.json(&document) {
            say!("{} ({:.1} MB, {} images)", self.file.display(), size as f64 / 1e6, images.len());
            say!("sha256 {sum}");
            say!("on the other machine: lab up --provider kind --bundle {} --bundle-sha256 {sum}", self.file.display());
        }
        Ok(Exit::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_virt_operator_starts_is_taken_along() {
        let images = ["quay.io/kubevirt/virt-operator:v1.9.0".to_owned(), "quay.io/other:v1".to_owned()];
        for (release, count, wanted) in [
            ("v1.5.0", 6, "quay.io/kubevirt/virt-api:v1.9.0"),
            ("v1.8.0", 7, "quay.io/kubevirt/virt-synchronization-controller:v1.9.0"),
            ("v1.9.0", 9, "quay.io/kubevirt/virt-template-apiserver:v0.2.2"),
        ] {
            let chosen = chosen_by_kubevirt(&images, Releases::known().deployed_by(release));
            assert_eq!(chosen.len(), count, "{release}: {chosen:?}");
            assert!(chosen.contains(&wanted.to_owned()), "{release}: {chosen:?}");
        }
    }
}
