//! Exit codes: one table, documented in docs/exit-codes.md.

use std::process::ExitCode;

/// Why a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Success = 0,
    /// Something failed that no other code names.
    Failure = 1,
    /// The command line or a file is wrong.
    Usage = 2,
    /// A scenario's expectation was not met.
    ScenarioFailed = 3,
    /// A snapshot differs, or waits for a review.
    SnapshotDiffers = 4,
    /// The lab did not come up, or broke.
    LabFailed = 5,
    /// No lab of that name runs.
    NotRunning = 6,
    /// A tool, a file or a right that is needed is missing here.
    EnvironmentMissing = 7,
    /// A dashboard or rule reads what is not there.
    ContractBroken = 8,
    /// A dashboard or rule could not be read, so nobody knows whether what it reads is there.
    NotAllRead = 9,
    /// A scenario cannot be run there, and nothing worse happened.
    NotRunnable = 10,
    /// A case of a unit test of rules failed, or a test could not be carried out.
    RulesFailed = 11,
    /// It was interrupted: Ctrl-C.
    Interrupted = 130,
    /// It was asked to end: SIGTERM, such as by the deadline of a CI system.
    Terminated = 143,
}

/// All codes with their meaning, for the documentation and its test.
pub const TABLE: &[(Exit, &str)] = &[
    (Exit::Success, "the command did what was asked"),
    (Exit::Failure, "something failed that no other code names"),
    (Exit::Usage, "the command line or a file is wrong"),
    (Exit::ScenarioFailed, "a scenario's expectation was not met"),
    (Exit::SnapshotDiffers, "a snapshot differs, or waits for a review"),
    (Exit::LabFailed, "the lab did not come up, or broke"),
    (Exit::NotRunning, "no lab of that name runs"),
    (Exit::EnvironmentMissing, "a tool, a file or a right that is needed is missing here"),
    (
        Exit::ContractBroken,
        "a dashboard or rule reads a metric, label or value that is not there, or may do so after a difference",
    ),
    (
        Exit::NotAllRead,
        "nothing that was read is missing, but a file or an expression could not be read, or with --strict not every metric was looked for",
    ),
    (
        Exit::NotRunnable,
        "a scenario cannot be run on that provider or release, and nothing worse happened; `--allow-not-runnable` makes it 0",
    ),
    (Exit::RulesFailed, "a case of a promtool test of rules failed, or a test could not be carried out"),
    (Exit::Interrupted, "interrupted (Ctrl-C)"),
    (Exit::Terminated, "asked to end (SIGTERM), for example by the deadline of a CI system; what was known was written"),
];

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An expected failure: one line that says what is wrong and what to do, and the code to end with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The code.
    pub exit: Exit,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
