//! What tests share: the repository's folders, a Prometheus, a lab's folder that is cleaned up, the program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use assert_cmd::Command;
use lab::tools::{self, Prometheus, Search};
use libtest_mimic::{Completion, Failed, Trial};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(work)
}

/// A test that could not be run, and what it needed: it is neither passed nor failed.
#[derive(Debug, thiserror::Error)]
#[error("not run: {0}")]
pub(crate) struct NotRun(pub(crate) String);

/// The variable without which no test uses the network.
pub(crate) const NETWORK: &str = "LAB_TEST_NETWORK";

/// Whether tests may use the network.
pub(crate) fn network() -> bool {
    std::env::var_os(NETWORK).is_some_and(|value| !value.is_empty() && value != "0")
}

/// A Prometheus, found once for all tests, or fetched if the network may be used.
pub(crate) fn prometheus() -> Result<Prometheus> {
    static FOUND: OnceLock<Result<Prometheus, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let given = std::env::var_os("LAB_PROMETHEUS").map(PathBuf::from);
        let search = Search { given: given.clone(), offline: !network() };
        block_on(tools::find(&search, &|_| {})).map_err(|error| format!("{error:#}"))
    });
    found.clone().map_err(|why| match network() || std::env::var_os("LAB_PROMETHEUS").is_some() {
        true => anyhow::Error::msg(why),
        false => {
            NotRun(format!("it needs a Prometheus; `cargo xtask lab up` fetches one, and so does {NETWORK}=1: {why}")).into()
        }
    })
}

/// Whether a Docker engine answers.
///
/// # Errors
/// [`NotRun`] where none does.
pub(crate) fn docker() -> Result<()> {
    let output = std::process::Command::new("docker").args(["version", "--format", "{{.Server.Os}}"]).output();
    match output.is_ok_and(|output| output.stdout.starts_with(b"linux")) {
        true => Ok(()),
        false => Err(NotRun("no Docker engine answers".to_owned()).into()),
    }
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
    Trial::ignorable_test(name.to_owned(), move || completed(test()))
}

/// What came of a test, as the harness wants it.
pub(crate) fn completed(result: Result<()>) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<NotRun>() {
            Some(NotRun(why)) => Ok(Completion::ignored_with(why)),
            None => Err(Failed::from(format!("{error:?}"))),
        },
    }
}
