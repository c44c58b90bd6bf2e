//! Where the manifests of kube-prometheus and KubeVirt come from: a folder or archive of the user's, the cache, the release upstream.
//!
//! A release that is fetched is noted in the cache with its checksum, and what is in the cache must have that checksum whenever it
//! is used. Neither project publishes checksums of these files, so the first fetch rests on HTTPS alone; `--sha256` of a bundle and
//! a folder of one's own do not.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use futures_util::StreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Told;
use crate::exit::{Exit, Failure};
use crate::tools;

/// The largest archive that is read, in bytes: kube-prometheus' is 7 MB.
const MAX_ARCHIVE: u64 = 256 * 1024 * 1024;
/// The largest file of an archive: a definition of kube-prometheus is 810 kB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A file of manifests.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Its path in the release.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// The objects of files.
///
/// # Errors
/// With file, line and column, when one is not YAML or holds what is no object.
pub(crate) fn objects(files: &[Manifest]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for file in files {
        let placed = wire::yaml::placed_manifests(&file.text).map_err(|error| {
            let at = error.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
            Failure::new(Exit::Usage, format!("{}{at}: {}", file.path, error.message))
        })?;
        for (object, places) in placed {
            if object["kind"].as_str().is_none() || object["apiVersion"].as_str().is_none() {
                let at = places.at("").map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
                bail!(Failure::new(
                    Exit::Usage,
                    format!("{}{at}: this is no Kubernetes object: it has no apiVersion or kind", file.path)
                ));
            }
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Reads the manifests of kube-prometheus that a user has: the release's folder or its `manifests`, or an archive of it.
///
/// # Errors
/// When nothing of that shape is there.
pub(crate) fn given_stack(path: &Path) -> Result<Vec<Manifest>> {
    let files = if path.is_dir() {
        let inner = path.join("manifests");
        read_folder(if inner.is_dir() { &inner } else { path })?
    } else {
        unpack_stack(&read_limited(path)?).with_context(|| format!("cannot read {}", path.display()))?
    };
    if files.is_empty() {
        bail!(
            Failure::new(Exit::Usage, format!("{} holds no manifests", path.display()))
                .hint("give the folder of a release of kube-prometheus, or its .tar.gz")
        );
    }
    Ok(files)
}

/// Reads the manifests of KubeVirt that a user has: a folder with the operator and the KubeVirt object.
///
/// # Errors
/// When it holds none.
pub(crate) fn given_folder(path: &Path) -> Result<Vec<Manifest>> {
    let files = read_folder(path)?;
    if files.is_empty() {
        bail!(Failure::new(Exit::Usage, format!("{} holds no manifests", path.display())).hint("give a folder of YAML files"));
    }
    Ok(files)
}

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display())))?;
    let mut bytes = Vec::new();
    file.take(MAX_ARCHIVE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ARCHIVE {
        bail!(Failure::new(Exit::Usage, format!("{} is larger than {} MB", path.display(), MAX_ARCHIVE / 1024 / 1024)));
    }
    Ok(bytes)
}

/// YAML files of a folder and its `setup`, sorted: the setup first.
fn read_folder(folder: &Path) -> Result<Vec<Manifest>> {
    let mut files = Vec::new();
    for part in [folder.join("setup"), folder.to_owned()] {
        let Ok(entries) = std::fs::read_dir(&part) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_manifest(path)).collect();
        paths.sort();
        for path in paths {
            let text = String::from_utf8(read_limited(&path)?).with_context(|| path.display().to_string())?;
            files.push(Manifest { path: path.display().to_string(), text });
        }
    }
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The files of `manifests/` of a release's archive. Nothing is written, so no path of it can lead anywhere.
fn unpack_stack(archive: &[u8]) -> Result<Vec<Manifest>> {
    let mut files = Vec::new();
    let mut entries = tar::Archive::new(GzDecoder::new(archive));
    for entry in entries.entries()? {
        let mut entry = entry.context("this is no .tar.gz")?;
        let path = entry.path()?.into_owned();
        let parts: Vec<String> = path
            .components()
            .map(|part| match part {
                Component::Normal(name) => name.to_string_lossy().into_owned(),
                _ => String::new(),
            })
            .collect();
        // RELEASE/manifests/FILE and RELEASE/manifests/setup/FILE.
        let of_release = match parts.as_slice() {
            [_, manifests, _] => manifests == "manifests",
            [_, manifests, setup, _] => manifests == "manifests" && setup == "setup",
            _ => false,
        };
        if !of_release || !is_manifest(&path) || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.by_ref().take(MAX_FILE).read_to_end(&mut bytes)?;
        files.push(Manifest { path: path.display().to_string(), text: String::from_utf8(bytes)? });
    }
    files.sort_by_key(|file| (!file.path.contains("/setup/"), file.path.clone()));
    Ok(files)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file out of the cache, or fetched into it.
struct Cached<'a> {
    url: &'a str,
    name: &'a str,
    offline: bool,
}

impl Cached<'_> {
    async fn read(&self, told: Told<'_>) -> Result<Vec<u8>> {
        let folder = tools::cache_folder().join("manifests");
        let (file, sum) = (folder.join(self.name), folder.join(format!("{}.sha256", self.name)));
        if let (Ok(bytes), Ok(expected)) = (std::fs::read(&file), std::fs::read_to_string(&sum)) {
            if hex(&bytes) == expected.trim() {
                return Ok(bytes);
            }
            told(&format!("{} in the cache is damaged; it is fetched again", self.name));
        }
        if self.offline {
            bail!(
                Failure::new(
                    Exit::EnvironmentMissing,
                    format!("{} is not in the cache, and --offline forbids to fetch it", self.name)
                )
                .hint("give a folder with --kube-prometheus-manifests and --kubevirt-manifests, or a --bundle")
            );
        }
        let bytes = self.fetch(told).await.map_err(|error| {
            Failure::new(Exit::EnvironmentMissing, format!("cannot fetch {}: {error:#}", self.url))
                .hint("give a folder with --kube-prometheus-manifests and --kubevirt-manifests, or a --bundle")
        })?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
        let staged = tempfile::NamedTempFile::new_in(&folder)?;
        std::fs::write(staged.path(), &bytes)?;
        staged.persist(&file)?;
        std::fs::write(&sum, hex(&bytes))?;
        Ok(bytes)
    }

    async fn fetch(&self, told: Told<'_>) -> Result<Vec<u8>> {
        wire::install_crypto_provider();
        let client = reqwest::Client::builder().connect_timeout(std::time::Duration::from_secs(20)).build()?;
        let response = client.get(self.url).send().await?.error_for_status()?;
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
            told(&format!("fetching {}: {:.1} MB", self.name, bytes.len() as f64 / 1e6));
            if bytes.len() as u64 > MAX_ARCHIVE {
                bail!("it is larger than {} MB", MAX_ARCHIVE / 1024 / 1024);
            }
        }
        Ok(bytes)
    }
}

/// The manifests of a release of kube-prometheus.
///
/// # Errors
/// When it is neither in the cache nor to be had.
pub(crate) async fn released_stack(release: &str, offline: bool, told: Told<'_>) -> Result<Vec<Manifest>> {
    let url = format!("https://github.com/prometheus-operator/kube-prometheus/archive/refs/tags/{release}.tar.gz");
    let name = format!("kube-prometheus-{release}.tar.gz");
    let archive = Cached { url: &url, name: &name, offline }.read(told).await?;
    unpack_stack(&archive)
}

/// The manifests of a release of KubeVirt: its operator and its object.
///
/// # Errors
/// When they are neither in the cache nor to be had.
pub(crate) async fn released_kubevirt(release: &str, offline: bool, told: Told<'_>) -> Result<Vec<Manifest>> {
    let mut files = Vec::new();
    for part in ["kubevirt-operator.yaml", "kubevirt-cr.yaml"] {
        let url = format!("https://github.com/kubevirt/kubevirt/releases/download/{release}/{part}");
        let name = format!("kubevirt-{release}-{part}");
        let bytes = Cached { url: &url, name: &name, offline }.read(told).await?;
        files.push(Manifest { path: name, text: String::from_utf8(bytes)? });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn a_release_is_read_from_its_archive_or_folder() {
        let files = [
            ("kp-1/manifests/b.yaml", "apiVersion: v1\nkind: B\n"),
            ("kp-1/manifests/setup/a.yaml", "apiVersion: v1\nkind: A\n"),
            ("kp-1/jsonnet/c.yaml", "no"),
            ("kp-1/manifests/readme.md", "no"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let packed = folder.path().join("release.tar.gz");
        std::fs::write(&packed, archive(&files)).unwrap();
        std::fs::create_dir_all(folder.path().join("manifests/setup")).unwrap();
        std::fs::write(folder.path().join("manifests/b.yaml"), files[0].1).unwrap();
        std::fs::write(folder.path().join("manifests/setup/a.yaml"), files[1].1).unwrap();
        for given in [packed.as_path(), folder.path(), &folder.path().join("manifests")] {
            let kinds: Vec<Value> =
                objects(&given_stack(given).unwrap()).unwrap().iter().map(|found| found["kind"].clone()).collect();
            assert_eq!(kinds, ["A", "B"], "{}", given.display());
        }
    }

    #[test]
    fn what_is_no_release_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = given_stack(folder.path()).unwrap_err().to_string();
        assert!(text.ends_with("holds no manifests"), "{text}");
        let file = folder.path().join("x.tar.gz");
        std::fs::write(&file, "rubbish").unwrap();
        assert!(given_stack(&file).is_err());
        let broken =
            |text: &str| objects(&[Manifest { path: "f.yaml".to_owned(), text: text.to_owned() }]).unwrap_err().to_string();
        assert_eq!(
            broken("kind: A\napiVersion: v1\n---\nname: x\n"),
            "f.yaml:4:1: this is no Kubernetes object: it has no apiVersion or kind"
        );
        assert!(broken("a: [").starts_with("f.yaml:"), "{}", broken("a: ["));
    }
}
