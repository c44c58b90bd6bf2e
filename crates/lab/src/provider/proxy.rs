//! The fault proxy on a cluster, as the lab's commands use it: its image, and the way to its control port.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use install::Api;

use super::access::{Forward, Goal};
use super::bundle::{engine, must, push, sum_of};
use super::record::ClusterRecord;
use super::{Kind, Minikube, Provider, Told};
use crate::control::Control;
use crate::exit::{Exit, Failure};
use crate::reach;
use crate::state::LabDir;

/// The archive that `cargo xtask image` writes, beside the folder of this program.
const ARCHIVE: &str = "lab-fault-proxy.tar";
/// The largest list of an archive's images that is read, in bytes.
const MAX_LIST: u64 = 1024 * 1024;

/// The image of the proxy.
pub(crate) struct Image {
    /// Its name.
    pub(crate) name: String,
    /// What tells builds of one name apart.
    pub(crate) build: String,
    archive: Option<PathBuf>,
}

impl Image {
    /// One that the cluster has, or pulls by itself.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), build: name.to_owned(), archive: None }
    }

    /// That of an archive; without one, what `cargo xtask image` has written.
    ///
    /// # Errors
    /// When there is none, or it is no archive of an image.
    pub(crate) fn of_archive(file: Option<&Path>) -> Result<Self> {
        let built = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join(ARCHIVE));
        let file = file.map(Path::to_owned).or_else(built).unwrap_or_default();
        if !file.is_file() {
            bail!(
                Failure::new(Exit::EnvironmentMissing, format!("there is no image of the fault proxy at {}", file.display()))
                    .hint("`cargo xtask image` builds one; or name one that the cluster can have: --image NAME")
            );
        }
        let name = tag_of(&file).map_err(|error| {
            Failure::new(Exit::Usage, format!("{} is no archive of an image: {error:#}", file.display()))
                .hint("`docker save` and `cargo xtask image` write such archives")
        })?;
        Ok(Self { name, build: sum_of(&file)?.chars().take(16).collect(), archive: Some(file) })
    }

    /// Brings the image to where the cluster finds it.
    ///
    /// # Errors
    /// When a program that does it fails, or nobody can.
    pub(crate) async fn load(
        mut self,
        record: &ClusterRecord,
        dir: &LabDir,
        registry: Option<&str>,
        told: Told<'_>,
    ) -> Result<Self> {
        let Some(archive) = &self.archive else { return Ok(self) };
        told("fault proxy: loading its image");
        match (record.provider, registry) {
            (Provider::Kind, _) => {
                Kind::find(record.driver.as_deref(), false, told).await?.load(dir.name(), archive).await?;
            }
            (Provider::Minikube, _) => {
                Minikube::find(record.driver.as_deref(), &dir.kubeconfig()).await?.load(dir.name(), archive).await?;
            }
            (Provider::Existing | Provider::Embedded, Some(registry)) => {
                let name = record.driver.as_deref().unwrap_or("docker");
                let program = engine(name)?;
                let there = install::mirrored(&self.name, registry);
                must(&program, name, &["load", "--input", &archive.to_string_lossy()]).await?;
                told(&format!("fault proxy: pushing {there}"));
                push(&program, name, &self.name, &there).await?;
                self.name = there;
            }
            (Provider::Existing | Provider::Embedded, None) => bail!(
                Failure::new(Exit::Usage, "how does the cluster get the image of the fault proxy?")
                    .hint("name a registry that it pulls from (--registry HOST/PATH), or an image that it has (--image NAME)")
            ),
        }
        Ok(self)
    }
}

/// The name that an archive of an image gives it (`manifest.json` of `docker save`).
fn tag_of(file: &Path) -> Result<String> {
    let mut archive = tar::Archive::new(std::io::BufReader::new(std::fs::File::open(file)?));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.as_ref() != Path::new("manifest.json") {
            continue;
        }
        let list: serde_json::Value = serde_json::from_reader(std::io::Read::take(entry, MAX_LIST))?;
        return list[0]["RepoTags"][0].as_str().map(str::to_owned).context("its image has no name");
    }
    bail!("it has no manifest.json")
}

/// Whether this lab's proxy is on its cluster.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn is_there(api: &Api, lab: &str) -> Result<bool> {
    Ok(install::proxy_of(api).await?.is_some_and(|owner| owner == lab))
}

/// The control endpoint of the proxy on a lab's cluster.
///
/// # Errors
/// When there is none, or the cluster does not answer.
pub(crate) async fn control(dir: &LabDir) -> Result<Control> {
    let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
    find(&api, dir.name()).await?.ok_or_else(|| absent(dir.name()).into())
}

/// That there is none.
pub(crate) fn absent(lab: &str) -> Failure {
    Failure::new(Exit::NotRunning, format!("lab {lab:?} has no fault proxy on its cluster"))
        .hint("put one there: cargo xtask fault install")
}

/// The control endpoint with a client that is there; nothing where the lab has no proxy.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn find(api: &Api, lab: &str) -> Result<Option<Control>> {
    let token = if is_there(api, lab).await? { install::proxy_token(api).await? } else { None };
    let Some(token) = token else { return Ok(None) };
    let goal = Goal {
        namespace: install::PROXY_NAMESPACE.to_owned(),
        labels: install::PROXY_LABELS.to_owned(),
        port: install::CONTROL_PORT,
    };
    Control::through(Forward::open(api.client().clone(), goal, 0).await?, token).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap();
        file
    }

    #[test]
    fn an_image_is_named_by_its_archive() {
        let good = archive(&[("layer.tar", "x"), ("manifest.json", r#"[{"RepoTags": ["lab.local/fault-proxy:dev"]}]"#)]);
        let image = Image::of_archive(Some(good.path())).unwrap();
        assert_eq!((image.name.as_str(), image.build.len()), ("lab.local/fault-proxy:dev", 16));
        for (files, why) in [
            (&[("a", "b")][..], "it has no manifest.json"),
            (&[("manifest.json", "[{}]")], "its image has no name"),
            (&[("manifest.json", "{")], "EOF"),
        ] {
            let bad = archive(files);
            let error = Image::of_archive(Some(bad.path())).err().unwrap();
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = Image::of_archive(Some(Path::new("/nowhere/at.tar"))).err().unwrap();
        assert!(error.to_string().contains("there is no image"), "{error}");
    }
}
