//! What a lab keeps on disk: `.lab/NAME/` and the lock beside it.
//!
//! The lock is held by the supervisor as long as it lives, so a lab whose supervisor was killed, or that a reboot ended, is
//! known to be dead without asking for process numbers.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// What a lab needs on disk to begin with, in bytes: two Prometheus write their first segments.
const ROOM: u64 = 64 * 1024 * 1024;

/// What a running lab tells about itself in `lab.json`. Secret: it holds the control token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabRecord {
    /// The supervisor's process.
    pub pid: u32,
    /// The lab's name.
    pub name: String,
    /// The kind of cluster.
    pub provider: String,
    /// The release of KubeVirt.
    pub release: String,
    /// The API server.
    pub api_url: String,
    /// Where pods reach the API server: the fault proxy.
    pub service_url: String,
    /// The control endpoint.
    pub control_url: String,
    /// The administrator's token, good for API server and control endpoint.
    pub token: String,
    /// The Prometheus program.
    pub prometheus: String,
}

/// Where labs are kept.
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

/// One lab's place.
#[derive(Clone, Debug)]
pub struct LabDir {
    name: String,
    root: PathBuf,
}

impl StateRoot {
    /// `$LAB_STATE_DIR`, else `.lab` in the working directory.
    pub fn from_env() -> Self {
        Self(std::env::var_os("LAB_STATE_DIR").map_or_else(|| PathBuf::from(".lab"), PathBuf::from))
    }

    /// A root somewhere else.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The place of a lab.
    ///
    /// # Errors
    /// When the name cannot be a directory's or a context's.
    pub fn lab(&self, name: &str) -> Result<LabDir> {
        let good = !name.is_empty()
            && name.len() <= 40
            && name.chars().all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-')
            && !name.starts_with('-');
        if !good {
            bail!(
                Failure::new(Exit::Usage, format!("{name:?} is no name for a lab"))
                    .hint("use up to 40 lower-case letters, digits and dashes")
            );
        }
        let root = std::path::absolute(&self.0).context("cannot tell the working directory")?;
        Ok(LabDir { name: name.to_owned(), root })
    }

    /// The names of labs that left anything here. A folder without a lock beside it is somebody else's.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".lock").map(str::to_owned))
            .filter(|name| self.lab(name).is_ok())
            .collect();
        names.sort();
        names
    }
}

/// Held while a supervisor lives.
pub struct LabLock {
    file: File,
}

impl LabLock {
    /// Notes whose it is, so that a supervisor that does not answer can be ended.
    ///
    /// # Errors
    /// When the disk does not let us.
    pub fn sign(&mut self) -> Result<()> {
        self.file.set_len(0)?;
        self.file.write_all(std::process::id().to_string().as_bytes())?;
        Ok(())
    }
}

impl LabDir {
    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path().join("kubeconfig")
    }

    /// What the supervisor writes.
    pub fn supervisor_log(&self) -> PathBuf {
        self.path().join("supervisor.log")
    }

    /// Process numbers of its children.
    pub fn pids(&self) -> PathBuf {
        self.path().join("pids")
    }

    fn record_path(&self) -> PathBuf {
        self.path().join("lab.json")
    }

    /// Makes the folder, for the owner alone.
    ///
    /// # Errors
    /// When the disk does not let us, or something else is there.
    pub fn create(&self) -> Result<()> {
        if self.path().exists() && !self.lock_path().exists() {
            let message = format!("{} is there and is no lab", self.path().display());
            bail!(Failure::new(Exit::Usage, message).hint("give another --name, or set LAB_STATE_DIR to a folder of its own"));
        }
        let touched = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(self.lock_path()).map(|_| ()));
        touched.and_then(|()| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.path())).map_err(|error| {
            Failure::new(Exit::EnvironmentMissing, format!("cannot write to {}: {error}", self.root.display()))
                .hint("free some space or set LAB_STATE_DIR to another folder")
                .into()
        })
    }

    /// Whether the disk has room for a lab.
    ///
    /// # Errors
    /// When it has not.
    #[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "the types are narrower on macOS"))]
    pub fn check_room(&self) -> Result<()> {
        let Ok(disk) = nix::sys::statvfs::statvfs(&self.path()) else { return Ok(()) };
        let free = u64::from(disk.blocks_available()) * u64::from(disk.fragment_size());
        if free >= ROOM {
            return Ok(());
        }
        let message = format!("{} kB are free under {}; a lab needs {} MB", free / 1024, self.root.display(), ROOM / 1024 / 1024);
        bail!(Failure::new(Exit::EnvironmentMissing, message).hint("free some space or set LAB_STATE_DIR to another folder"))
    }

    /// Takes the lock; none if a supervisor holds it.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self) -> Result<Option<LabLock>> {
        self.create()?;
        let path = self.lock_path();
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            match file.try_lock() {
                // Whoever removed the lab while we opened its lock left us a file that nobody else sees.
                Ok(()) if is_at(&file, &path) => return Ok(Some(LabLock { file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join(format!("{}.lock", self.name))
    }

    /// Whether a supervisor lives.
    pub fn is_running(&self) -> bool {
        self.exists() && matches!(self.lock(), Ok(None))
    }

    /// Whether there is anything of a lab of that name.
    pub fn exists(&self) -> bool {
        self.lock_path().exists()
    }

    /// The process that signed the lock.
    pub fn holder(&self) -> Option<i32> {
        std::fs::read_to_string(self.lock_path()).ok()?.trim().parse().ok()
    }

    /// What a running lab says about itself, if it got that far.
    pub fn record(&self) -> Option<LabRecord> {
        serde_json::from_slice(&std::fs::read(self.record_path()).ok()?).ok()
    }

    /// The record of a lab that runs.
    ///
    /// # Errors
    /// When none does.
    pub fn running(&self) -> Result<LabRecord> {
        let not_running = || {
            Failure::new(Exit::NotRunning, format!("no lab {:?} runs here", self.name)).hint(if self.name == "lab" {
                "start one: cargo xtask lab up".to_owned()
            } else {
                format!("start it: cargo xtask lab up --name {}", self.name)
            })
        };
        if crate::provider::record::ClusterRecord::is_in(&self.path()) {
            bail!(
                Failure::new(
                    Exit::Usage,
                    format!("lab {:?} is on a real cluster; this works on the embedded lab alone", self.name)
                )
                .hint("see docs/providers.md for what each provider can do")
            );
        }
        if !self.is_running() {
            bail!(not_running());
        }
        self.record().ok_or_else(|| not_running().into())
    }

    /// Writes the record.
    ///
    /// # Errors
    /// When the disk does not let us.
    pub fn write_record(&self, record: &LabRecord) -> Result<()> {
        write_secret(&self.record_path(), &serde_json::to_vec_pretty(record)?)
    }

    /// Takes the record away: from now on the lab is not up.
    pub fn remove_record(&self) {
        let _ = std::fs::remove_file(self.record_path());
    }

    /// Removes everything that a lab left, unless one runs.
    ///
    /// # Errors
    /// When the disk does not let us.
    pub fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        let Some(_lock) = self.lock()? else { return Ok(()) };
        // Only now, with the lock in hand, are recorded processes certainly nobody's.
        cluster::kill_leftovers(&self.pids());
        std::fs::remove_dir_all(self.path()).with_context(|| format!("cannot remove {}", self.path().display()))?;
        let _ = std::fs::remove_file(self.lock_path());
        Ok(())
    }
}

/// Whether an open file is the one that a path names.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// Writes a file that only its owner can read, all at once.
///
/// # Errors
/// When the disk does not let us.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        Failure::new(Exit::EnvironmentMissing, format!("cannot write {}: {error}", path.display()))
            .hint("free some space or set LAB_STATE_DIR to another folder")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_runs_as_long_as_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let lab = StateRoot::at(folder.path()).lab("a").unwrap();
        assert!(!lab.is_running());
        let lock = lab.lock().unwrap().unwrap();
        assert!(lab.is_running() && lab.lock().unwrap().is_none());
        drop(lock);
        assert!(!lab.is_running());
        lab.remove().unwrap();
        assert!(!lab.path().exists() && !lab.exists());
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        let root = StateRoot::at(folder.path());
        assert!(root.names().is_empty());
        let lab = root.lab("mine").unwrap();
        lab.remove().unwrap();
        assert!(folder.path().join("mine").exists() && lab.create().is_err() && !lab.is_running());
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "A", "a/b", "..", "-a", "a b"] {
            assert!(StateRoot::from_env().lab(name).is_err(), "{name}");
        }
    }
}
