//! The image of `lab-fault-proxy`: a static program and nothing else, written as an archive that `docker load`, `kind load
//! image-archive` and `minikube image load` read. No container engine and no base image are needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

/// The machine that images are for: this one.
const TARGET: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

#[derive(Args)]
pub(crate) struct Image {
    /// Its name and tag.
    #[arg(long, default_value = "lab.local/fault-proxy:dev")]
    tag: String,
    /// Build without optimisation, which takes less time.
    #[arg(long)]
    debug: bool,
}

fn ran(mut command: Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Packs files of a folder; the same files give the same bytes.
fn pack(folder: &Path, files: &[&str], archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"]);
    command.arg(archive).arg("-C").arg(folder).args(files);
    ran(command).map(|_| ())
}

fn sha256(file: &Path) -> Result<String> {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    let text = String::from_utf8(ran(command)?)?;
    Ok(text.split_whitespace().next().context("no digest")?.to_owned())
}

impl Image {
    pub(crate) fn run(self, root: &Path) -> Result<ExitCode> {
        let program = self.build(root)?;
        let folder = root.join("target/image");
        let layer = folder.join("layer");
        fs::create_dir_all(layer.join("bin"))?;
        // A program without a /tmp of its own cannot write beside its files.
        fs::create_dir_all(layer.join("tmp"))?;
        fs::copy(&program, layer.join("bin/lab-fault-proxy"))?;
        pack(&layer, &["bin", "tmp"], &folder.join("layer.tar"))?;
        let digest = sha256(&folder.join("layer.tar"))?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        fs::write(
            folder.join("config.json"),
            format!(
                "{{\"architecture\":\"{architecture}\",\"os\":\"linux\",\"config\":{{\"Entrypoint\":[\"/bin/lab-fault-proxy\"],\
                 \"WorkingDir\":\"/tmp\"}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{digest}\"]}}}}"
            ),
        )?;
        ensure!(
            self.tag.chars().all(|letter| letter.is_ascii_alphanumeric() || "./:_-".contains(letter)),
            "{:?} is no tag",
            self.tag
        );
        fs::write(
            folder.join("manifest.json"),
            format!("[{{\"Config\":\"config.json\",\"RepoTags\":[\"{}\"],\"Layers\":[\"layer.tar\"]}}]", self.tag),
        )?;
        let archive = root.join("target/lab-fault-proxy.tar");
        pack(&folder, &["manifest.json", "config.json", "layer.tar"], &archive)?;
        let size = fs::metadata(&archive)?.len() as f64 / 1e6;
        println!("{} is {:.1} MB; docker load -i target/lab-fault-proxy.tar", self.tag, size);
        Ok(ExitCode::SUCCESS)
    }

    /// Builds the program without anything that it would have to load.
    fn build(&self, root: &Path) -> Result<PathBuf> {
        let mut build = crate::cargo();
        build.args(["build", "--package", "fault-proxy", "--target", TARGET]).env("RUSTFLAGS", "-C target-feature=+crt-static");
        let profile = if self.debug {
            "debug"
        } else {
            build.arg("--release");
            "release"
        };
        ensure!(build.status().context("cannot run cargo")?.success(), "the build failed");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Ok(target.join(TARGET).join(profile).join("lab-fault-proxy"))
    }
}
