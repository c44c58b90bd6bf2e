//! minikube: a cluster in a virtual machine or a container.

use std::path::Path;

use anyhow::{Result, bail};

use super::command::{Output, Program, engine_trouble, version_in};
use super::{Size, Told};
use crate::exit::{Exit, Failure};

/// The oldest minikube whose flags are these.
const OLDEST: (u32, u32, u32) = (1, 30, 0);
/// What kube-prometheus and KubeVirt need together (docs/providers.md), in MB and processors.
const MEMORY: u32 = 8192;
const CPUS: u32 = 2;
/// The blog's disk, in GB.
const DISK: u32 = 30;

/// The program `minikube`.
pub(crate) struct Minikube {
    program: Program,
    driver: String,
}

impl Minikube {
    /// Finds minikube and checks its version.
    ///
    /// # Errors
    /// When it is missing or too old, or the driver is none of those that were thought of.
    pub(crate) async fn find(driver: Option<&str>, kubeconfig: &Path) -> Result<Self> {
        let driver = driver.unwrap_or("docker").to_owned();
        if !["docker", "podman", "kvm2"].contains(&driver.as_str()) {
            bail!(Failure::new(Exit::Usage, format!("{driver:?} is no driver for a lab")).hint("take docker, podman or kvm2"));
        }
        let hint = "install it from https://minikube.sigs.k8s.io, or use the embedded lab: leave --provider out";
        // The kubeconfig of the user stays as it is.
        let program = Program::find("minikube", hint)?.with("KUBECONFIG", &kubeconfig.to_string_lossy());
        let minikube = Self { program, driver };
        let told = minikube.program.ask(&["version", "--short"]).await?;
        match version_in(&told.out) {
            Some(version) if version >= OLDEST => Ok(minikube),
            Some((major, minor, patch)) => bail!(
                Failure::new(Exit::EnvironmentMissing, format!("minikube {major}.{minor}.{patch} is too old"))
                    .hint(format!("{}.{}.{} or newer is needed", OLDEST.0, OLDEST.1, OLDEST.2))
            ),
            None => {
                bail!(Failure::new(Exit::EnvironmentMissing, format!("minikube does not tell its version: {}", told.complaint())))
            }
        }
    }

    fn failed(&self, what: &str, output: &Output) -> anyhow::Error {
        let said = output.said();
        engine_trouble(&said, &self.driver)
            .unwrap_or_else(|| Failure::new(Exit::LabFailed, format!("minikube {what}: {}", output.complaint())))
            .into()
    }

    /// Whether a cluster of that name is there.
    ///
    /// # Errors
    /// When minikube fails.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        let output = self.program.ask(&["profile", "list", "--output", "json", "--light"]).await?;
        let Ok(list) = serde_json::from_str::<serde_json::Value>(&output.out) else {
            return Err(self.failed("profile list", &output));
        };
        let profiles = |kind: &str| list[kind].as_array().cloned().unwrap_or_default();
        Ok(profiles("valid").iter().chain(&profiles("invalid")).any(|profile| profile["Name"] == name))
    }

    /// Makes a cluster: the flags of the blog that still mean something, in their names of today.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) async fn create(&self, name: &str, kubernetes: &str, size: &Size, told: Told<'_>) -> Result<()> {
        let arguments = arguments(name, kubernetes, &self.driver, size);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let stages = |line: &str| {
            let line = line.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric()).trim();
            if !line.is_empty() {
                told(line.trim_end_matches(" ..."));
            }
        };
        let output = self.program.run(&arguments, None, &stages).await?;
        if !output.ok {
            return Err(self.failed("start", &output));
        }
        Ok(())
    }

    /// Puts the images of an archive into the node.
    ///
    /// # Errors
    /// When minikube cannot.
    pub(crate) async fn load(&self, name: &str, archive: &Path) -> Result<()> {
        let output = self.program.ask(&["image", "load", &archive.to_string_lossy(), "--profile", name]).await?;
        if !output.ok {
            return Err(self.failed("image load", &output));
        }
        Ok(())
    }

    /// Deletes a cluster.
    ///
    /// # Errors
    /// When minikube cannot.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let output = self.program.ask(&["delete", "--profile", name]).await?;
        if !output.ok {
            return Err(self.failed("delete", &output));
        }
        Ok(())
    }
}

fn arguments(name: &str, kubernetes: &str, driver: &str, size: &Size) -> Vec<String> {
    let mut arguments = vec![
        "start".to_owned(),
        format!("--profile={name}"),
        format!("--driver={driver}"),
        format!("--kubernetes-version={kubernetes}"),
        format!("--cpus={}", size.cpus.unwrap_or(CPUS)),
        format!("--memory={}", size.memory.unwrap_or(MEMORY)),
        format!("--disk-size={}g", size.disk.unwrap_or(DISK)),
        "--container-runtime=containerd".to_owned(),
        "--bootstrapper=kubeadm".to_owned(),
        "--extra-config=kubelet.authentication-token-webhook=true".to_owned(),
        "--extra-config=kubelet.authorization-mode=Webhook".to_owned(),
        "--extra-config=kubelet.sync-frequency=10s".to_owned(),
        "--extra-config=scheduler.bind-address=0.0.0.0".to_owned(),
        "--extra-config=controller-manager.bind-address=0.0.0.0".to_owned(),
        "--embed-certs".to_owned(),
        "--wait=all".to_owned(),
    ];
    if !size.feature_gates.is_empty() {
        arguments.push(format!("--feature-gates={}", size.feature_gates.join(",")));
    }
    if let Some(port) = size.api_port {
        arguments.push(format!("--apiserver-port={port}"));
    }
    for (host, node) in &size.mounts {
        arguments.push("--mount".to_owned());
        arguments.push(format!("--mount-string={}:{node}", host.display()));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blogs_flags_have_their_names_of_today() {
        let size = Size {
            cpus: Some(2),
            memory: Some(10240),
            disk: Some(30),
            feature_gates: vec!["DevicePlugins=true".to_owned()],
            mounts: Vec::new(),
            api_port: None,
            driver: None,
        };
        insta::assert_snapshot!(arguments("lab", "v1.36.1", "kvm2", &size).join("\n"));
    }
}
