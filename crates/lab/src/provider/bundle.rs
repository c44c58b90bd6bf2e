//! A bundle: the manifests and images of three releases in one archive, for a machine without a network.
//!
//! It is a tar file that begins with `bundle.json`: the releases, the images with their digests, and a checksum of every other file.
//! Whoever reads it takes nothing that is not named there, and nothing whose checksum is another.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use install::Triple;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Told;
use super::command::Program;
use super::source::Manifest;
use crate::exit::{Exit, Failure};

const INDEX: &str = "bundle.json";
/// The images that pods run.
const IMAGES: &str = "images.tar";
/// The image of which kind makes its node: the engine needs it, and no pod does.
const NODE: &str = "node.tar";
const STACK: &str = "kube-prometheus";
const KUBEVIRT: &str = "kubevirt";
/// The form of `bundle.json`.
const FORMAT: u32 = 2;

/// Whether an image is that of a node of kind.
fn is_node(image: &str) -> bool {
    image.starts_with("kindest/node:")
}

/// An image of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Its name with its tag.
    pub(crate) name: String,
    /// Its digest: the registry's where it was pulled, else the engine's own.
    pub(crate) digest: String,
}

/// What a bundle holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    format: u32,
    /// The version of Kubernetes.
    pub(crate) kubernetes: String,
    /// The release of kube-prometheus.
    pub(crate) kube_prometheus: String,
    /// The release of KubeVirt.
    pub(crate) kubevirt: String,
    /// The images.
    pub(crate) images: Vec<Image>,
    /// Checksums (SHA-256) of the other files.
    files: BTreeMap<String, String>,
}

/// What goes into a bundle.
pub(crate) struct Contents<'a> {
    pub(crate) triple: &'a Triple,
    pub(crate) stack: &'a [Manifest],
    pub(crate) kubevirt: &'a [Manifest],
    pub(crate) images: &'a [String],
}

/// The container engine whose images are taken.
///
/// # Errors
/// When it is none, or not there.
pub(crate) fn engine(name: &str) -> Result<Program> {
    if !["docker", "podman"].contains(&name) {
        bail!(Failure::new(Exit::Usage, format!("{name:?} is no container engine")).hint("take docker or podman"));
    }
    Program::find(name, "images are collected with docker or podman; install one, or make the bundle on another machine")
}

pub(super) async fn must(program: &Program, engine: &str, arguments: &[&str]) -> Result<String> {
    let output = program.ask(arguments).await?;
    if output.ok {
        return Ok(output.out);
    }
    let said = output.said();
    if let Some(failure) = super::command::engine_trouble(&said, engine) {
        bail!(failure);
    }
    let what = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    bail!(Failure::new(Exit::EnvironmentMissing, format!("{engine} {what}: {}", output.complaint())))
}

/// Pushes an image that the engine has under another name.
pub(super) async fn push(program: &Program, engine: &str, image: &str, there: &str) -> Result<()> {
    must(program, engine, &["tag", image, there]).await?;
    must(program, engine, &["push", "--quiet", there]).await?;
    Ok(())
}

pub(super) fn sum_of(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Collects images and writes a bundle; its checksum.
///
/// # Errors
/// When an image cannot be had, or the file not be written.
pub(crate) async fn write(file: &Path, contents: &Contents<'_>, engine_name: &str, pull: bool, told: Told<'_>) -> Result<String> {
    let program = engine(engine_name)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::tempdir_in(folder)
        .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot write to {}: {error}", folder.display())))?;
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for (part, manifests) in [(STACK, contents.stack), (KUBEVIRT, contents.kubevirt)] {
        std::fs::create_dir_all(work.path().join(part))?;
        for (index, manifest) in manifests.iter().enumerate() {
            let base = Path::new(&manifest.path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // The number keeps the order in which they were read: definitions first.
            let name = format!("{part}/{index:03}-{base}");
            let path = work.path().join(&name);
            std::fs::write(&path, &manifest.text)?;
            files.push((name, path));
        }
    }
    let (mut images, mut missing) = (Vec::new(), Vec::new());
    for (index, name) in contents.images.iter().enumerate() {
        if pull {
            told(&format!("pulling image {} of {}: {name}", index + 1, contents.images.len()));
            must(&program, engine_name, &["pull", "--quiet", name]).await?;
        }
        let format = "{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}";
        let output = program.ask(&["image", "inspect", "--format", format, name]).await?;
        if let Some(failure) = super::command::engine_trouble(&output.said(), engine_name).filter(|_| !output.ok) {
            bail!(failure);
        }
        if !output.ok {
            missing.push(name.as_str());
            continue;
        }
        let digest = output.out.trim().rsplit('@').next().unwrap_or_default().to_owned();
        images.push(Image { name: name.clone(), digest });
    }
    if !missing.is_empty() {
        let are = wire::counted_as(missing.len(), "image is", "images are");
        bail!(
            Failure::new(Exit::EnvironmentMissing, format!("{are} not there: {}", missing.join(", ")))
                .hint("leave --no-pull out, or load them first")
        );
    }
    told(&format!("saving {} images", images.len()));
    let (node, of_pods): (Vec<&str>, Vec<&str>) = contents.images.iter().map(String::as_str).partition(|image| is_node(image));
    for (archive, names) in [(NODE, node), (IMAGES, of_pods)] {
        if names.is_empty() {
            continue;
        }
        let saved = work.path().join(archive);
        let saved_name = saved.to_string_lossy().into_owned();
        let mut arguments = vec!["save", "--output", &saved_name];
        arguments.extend(names);
        must(&program, engine_name, &arguments).await?;
        files.push((archive.to_owned(), saved));
    }

    let sums = files.iter().map(|(name, path)| Ok((name.clone(), sum_of(path)?))).collect::<Result<BTreeMap<_, _>>>()?;
    let index = Index {
        format: FORMAT,
        kubernetes: contents.triple.kubernetes.clone(),
        kube_prometheus: contents.triple.kube_prometheus.clone(),
        kubevirt: contents.triple.kubevirt.clone(),
        images,
        files: sums,
    };
    let packed = work.path().join("packed");
    let mut tar = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(&packed)?));
    let text = serde_json::to_vec_pretty(&index)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, INDEX, text.as_slice())?;
    for (name, path) in &files {
        tar.append_path_with_name(path, name)?;
    }
    tar.into_inner()?.flush()?;
    let sum = sum_of(&packed)?;
    std::fs::rename(&packed, file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(sum)
}

/// A bundle that was unpacked and checked.
pub(crate) struct Bundle {
    folder: PathBuf,
    /// What it holds.
    pub(crate) index: Index,
}

impl Bundle {
    /// Unpacks a bundle into a folder.
    ///
    /// # Errors
    /// When it is none, is damaged, or is another than `expected`.
    pub(crate) fn open(file: &Path, folder: &Path, expected: Option<&str>) -> Result<Self> {
        let unreadable = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {error}", file.display()));
        if let Some(expected) = expected {
            let found = sum_of(file).map_err(|error| unreadable(&error))?;
            if !found.eq_ignore_ascii_case(expected) {
                bail!(unreadable(&format!("its checksum is {found}, not {expected}")).hint("nothing of it was used"));
            }
        }
        let opened = std::fs::File::open(file).map_err(|error| unreadable(&error))?;
        let mut tar = tar::Archive::new(std::io::BufReader::new(opened));
        let mut entries = tar.entries().map_err(|error| unreadable(&error))?;
        let no_bundle = || unreadable(&"this is no bundle").hint("`lab bundle` makes one");
        let mut first = entries.next().and_then(Result::ok).ok_or_else(no_bundle)?;
        if first.path().map_or(true, |path| path != Path::new(INDEX)) {
            bail!(no_bundle());
        }
        let mut text = Vec::new();
        first.by_ref().take(16 * 1024 * 1024).read_to_end(&mut text)?;
        let index: Index = serde_json::from_slice(&text).map_err(|_| no_bundle())?;
        if index.format != FORMAT {
            bail!(
                unreadable(&format!("its form is {}, this program reads {FORMAT}", index.format))
                    .hint("make it with the same program")
            );
        }
        let mut found = BTreeMap::new();
        for entry in entries {
            let mut entry = entry.map_err(|error| unreadable(&error))?;
            let path = entry.path()?.into_owned();
            let name = path.to_string_lossy().into_owned();
            let Some(wanted) = index.files.get(&name) else {
                bail!(unreadable(&format!("{name:?} is not in its index")).hint("nothing of it was used"));
            };
            if !path.components().all(|part| matches!(part, Component::Normal(_))) || !entry.header().entry_type().is_file() {
                bail!(unreadable(&format!("{name:?} is no name for a file")).hint("nothing of it was used"));
            }
            let target = folder.join(&path);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::io::copy(&mut entry, &mut std::fs::File::create(&target)?)?;
            if sum_of(&target)? != *wanted {
                bail!(unreadable(&format!("{name} is damaged: its checksum is not the index's")).hint("copy it again"));
            }
            found.insert(name, target);
        }
        if let Some(missing) = index.files.keys().find(|name| !found.contains_key(*name)) {
            bail!(unreadable(&format!("{missing} is missing")).hint("it is not complete; copy it again"));
        }
        Ok(Self { folder: folder.to_owned(), index })
    }

    /// Pushes its images, but for kind's node, to a registry from which the cluster pulls.
    ///
    /// # Errors
    /// When the engine cannot load, name or push one.
    pub(crate) async fn push(&self, registry: &str, engine_name: &str, told: Told<'_>) -> Result<()> {
        let program = engine(engine_name)?;
        told("loading the bundle's images");
        must(&program, engine_name, &["load", "--input", &self.images().to_string_lossy()]).await?;
        let images: Vec<&Image> = self.index.images.iter().filter(|image| !is_node(&image.name)).collect();
        for (index, image) in images.iter().enumerate() {
            let there = install::mirrored(&image.name, registry);
            told(&format!("pushing image {} of {}: {there}", index + 1, images.len()));
            push(&program, engine_name, &image.name, &there).await?;
        }
        Ok(())
    }

    /// The three releases.
    pub(crate) fn triple(&self) -> Triple {
        Triple {
            kubernetes: self.index.kubernetes.clone(),
            kube_prometheus: self.index.kube_prometheus.clone(),
            kubevirt: self.index.kubevirt.clone(),
        }
    }

    /// The archive of the images that pods run.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.join(IMAGES)
    }

    /// The archive of the image of a node of kind, if the bundle has one.
    pub(crate) fn node(&self) -> Option<PathBuf> {
        self.index.files.contains_key(NODE).then(|| self.folder.join(NODE))
    }

    /// Removes the archives of images, which are large: they are where they are needed. The bundle's file has them still.
    ///
    /// # Errors
    /// When the disk does not let us.
    pub(crate) fn forget_images(&self) -> Result<()> {
        for archive in [Some(self.images()), self.node()].into_iter().flatten().filter(|archive| archive.exists()) {
            std::fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
        }
        Ok(())
    }

    /// Whether a pod's image is in it.
    pub(crate) fn has(&self, image: &str) -> bool {
        self.index.images.iter().any(|held| held.name == image)
    }

    fn manifests(&self, part: &str) -> Result<Vec<Manifest>> {
        let names = self.index.files.keys().filter(|name| name.starts_with(&format!("{part}/")));
        names.map(|name| Ok(Manifest { path: name.clone(), text: std::fs::read_to_string(self.folder.join(name))? })).collect()
    }

    /// The manifests of kube-prometheus.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub(crate) fn stack(&self) -> Result<Vec<Manifest>> {
        self.manifests(STACK)
    }

    /// The manifests of KubeVirt.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub(crate) fn kubevirt(&self) -> Result<Vec<Manifest>> {
        self.manifests(KUBEVIRT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(index: &str, files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in std::iter::once((INDEX, index)).chain(files.iter().copied()) {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn index(files: &[(&str, &str)]) -> String {
        let sums: BTreeMap<&str, String> = files.iter().map(|(name, text)| (*name, hex(&Sha256::digest(text)))).collect();
        serde_json::json!({"format": FORMAT, "kubernetes": "v1.36.1", "kubePrometheus": "v0.18.0", "kubevirt": "v1.9.0", "images": [], "files": sums})
            .to_string()
    }

    #[test]
    fn a_bundle_is_used_whole_or_not_at_all() {
        let files = [("kube-prometheus/000-a.yaml", "a"), ("kubevirt/000-b.yaml", "b"), (IMAGES, "i")];
        let good = bundle(&index(&files), &files);
        let damaged = bundle(&index(&files), &[files[0], ("kubevirt/000-b.yaml", "x"), files[2]]);
        let short = bundle(&index(&files), &files[..2]);
        let more = bundle(&index(&files[..2]), &files);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.tar");
        let open = |bytes: &[u8], sum: Option<&str>| {
            std::fs::write(&file, bytes).unwrap();
            let into = tempfile::tempdir_in(folder.path()).unwrap();
            Bundle::open(&file, &into.keep(), sum)
        };
        let read = open(&good, None).unwrap();
        assert_eq!(read.stack().unwrap()[0].text, "a");
        assert_eq!(read.kubevirt().unwrap().len(), 1);
        assert_eq!(std::fs::read_to_string(read.images()).unwrap(), "i");
        assert_eq!(read.node(), None);
        read.forget_images().unwrap();
        assert!(!read.images().exists());
        assert!(open(&good, Some(&hex(&Sha256::digest(&good)))).is_ok());
        for (bytes, sum, wanted) in [
            (&good, Some("00"), "its checksum is"),
            (&damaged, None, "kubevirt/000-b.yaml is damaged"),
            (&short, None, "images.tar is missing"),
            (&more, None, "\"images.tar\" is not in its index"),
            (&b"rubbish".to_vec(), None, "this is no bundle"),
        ] {
            let error = open(bytes, sum).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
