//! `lab contract`.

mod check;
mod diff;
mod files;
mod record;
pub(crate) mod source;

pub(crate) use check::missing_reads;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;

#[derive(Subcommand)]
pub(super) enum Contract {
    /// Show which panel, alert or rule reads a metric, a label or a value that is not there, and what could not be read.
    Check(check::Check),
    /// Show what differs between two releases, labs, or pages of metrics, and what that breaks.
    Diff(diff::DiffCommand),
    /// Write the series of a lab, a Prometheus or a file in normal form, or hold them against a snapshot.
    Record(record::Record),
    /// Accept or reject what differs from snapshots.
    Review(crate::commands::review::Review),
    /// Print the JSON schema of the files that tell what a release of KubeVirt exposes and does.
    Schema,
}

impl Contract {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Check(check) => check.run().await,
            Self::Diff(diff) => diff.run().await,
            Self::Record(record) => record.run().await,
            Self::Review(review) => review.run(),
            Self::Schema => {
                say!("{}", serde_json::to_string_pretty(&kubevirt::Release::schema())?);
                Ok(Exit::Success)
            }
        }
    }
}
