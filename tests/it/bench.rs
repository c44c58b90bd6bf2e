//! What tests share: the repository's folders, a Prometheus, a lab's folder that is cleaned up, the program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use assert_cmd::Command;
use lab::tools::{self, Prometheus, Search};
use libtest_mimic::{Failed, Trial};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(work)
}

/// A Prometheus, found or fetched once for all tests.
pub(crate) fn prometheus() -> Result<Prometheus> {
    static FOUND: OnceLock<Result<Prometheus, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let search = Search { given: std::env::var_os("LAB_PROMETHEUS").map(PathBuf::from), offline: false };
        block_on(tools::find(&search, &|_| {})).map_err(|error| format!("{error:#}"))
    });
    found.clone().map_err(anyhow::Error::msg)
}

/// A folder for labs; whatever runs in it is taken down when it is dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The program, with its labs in this folder.
    pub(crate) fn lab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab-e2e"));
        command.args(arguments).env("LAB_STATE_DIR", self.path().join("state")).env_remove("KUBECONFIG").env_remove("LAB_NAME");
        command
    }

    /// The program's standard output, when it succeeds.
    pub(crate) fn output(&self, arguments: &[&str]) -> Result<String> {
        let output = self.lab(arguments).output()?;
        anyhow::ensure!(
            output.status.success(),
            "lab {arguments:?} ended with {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.lab(&["down", "--all"]).output();
    }
}

/// A named test of a function that can fail.
pub(crate) fn trial(name: &str, test: fn() -> Result<()>) -> Trial {
    Trial::test(name.to_owned(), move || test().map_err(|error| Failed::from(format!("{error:?}"))))
}
