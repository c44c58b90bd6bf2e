//! The scenario language: a file is parsed, checked, and run against a [`Lab`]; what comes out is a [`Report`].
//!
//! Architecture invariant: this crate does no I/O and reads no clock; a [`Lab`] does both for it, so the same scenario runs on
//! any provider.

pub mod annotations;
mod catalogue;
mod file;
pub mod html;
pub mod junit;
mod lab;
mod look;
mod model;
pub mod mutate;
mod needs;
pub mod parity;
mod place;
pub mod reconcile;
mod releases;
mod report;
mod resolve;
mod run;
mod variant;
mod word;

pub use catalogue::{Catalogue, Reads};
pub use lab::{FaultUse, Lab, LabError, Notification, PageAnswer, PodLog, PodPage};
pub use model::{
    AlertCheck, Check, ContractCheck, Declared, Delete, Expectation, Given, LogCheck, NotificationCheck, ObjectCheck, PageCheck,
    Placed, QueryCheck, Regression, Releases, RuleCheck, Scenario, SnapshotSpec, State, Step, Survivor, TargetCheck, Wait, Which,
    WhyCheck,
};
pub use needs::Need;
pub use place::{Place, Problem};
pub use releases::{Stand, nearest_known};
pub use report::{Ending, Line, Outcome, Report, SnapshotState, SnapshotText, Summary, Verdict};
pub use resolve::parse;
pub use run::{Probed, ToRun, not_runnable, probe, run, run_mutant};
pub use variant::{Failing, Variant, Variants, Variation};
pub use word::{AlertState, LabelPatterns, NotificationStatus, Pattern, ProviderName, RuleHealth, Stack, duration};

/// The JSON schema of scenario files, for editors: what may be written, with the names of the releases and defects of a catalogue.
pub fn schema(catalogue: &dyn Catalogue) -> serde_json::Value {
    let mut schema = schemars::schema_for!(file::ScenarioFile).to_value();
    for (name, words) in [("Release", catalogue.releases()), ("Defect", catalogue.defects())] {
        if let Some(definition) = schema.pointer_mut(&format!("/$defs/{name}")) {
            definition["enum"] = words.into();
        }
    }
    schema
}
