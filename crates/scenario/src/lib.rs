//! The scenario language: a file is parsed, checked, and run against a [`Lab`]; what comes out is a [`Report`].
//!
//! Architecture invariant: this crate does no I/O and reads no clock; a [`Lab`] does both for it, so the same scenario runs on
//! any provider.

mod check;
mod file;
pub mod junit;
mod lab;
mod look;
mod needs;
pub mod parity;
pub mod reconcile;
mod report;
mod run;
mod variant;

pub use check::{Known, Problem, parse};
pub use file::{
    AlertExpectation, Alerts, Check, ContractExpectation, Declared, Delete, Expectation, Given, LogExpectation,
    NotificationExpectation, ObjectExpectation, PageExpectation, QueryExpectation, RuleExpectation, Scenario, SnapshotSpec,
    Stack, Step, TargetExpectation, Wait, WhyExpectation, duration,
};
pub use lab::{FaultUse, Lab, LabError, Notification, PageAnswer, PodLog, PodPage};
pub use needs::Need;
pub use report::{Line, Report, SnapshotText, Verdict};
pub use run::run;
pub use variant::{Failing, Regression, Variant, Variation};

/// The JSON schema of scenario files, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Scenario).to_value()
}
