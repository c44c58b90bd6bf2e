//! `lab contract record`: the series of a lab, a Prometheus or a file, in normal form, as a snapshot that `insta review` knows.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use regex::Regex;

use super::source;
use crate::commands::review::failure;
use crate::exit::{Exit, Failure};
use crate::snapshots::{self, Origin, Outcome};

#[derive(Args)]
pub(crate) struct Record {
    /// lab:NAME for a lab that runs, the URL of a Prometheus, a page of metrics, or an answer of /api/v1/series.
    from: String,
    /// Of a lab or a Prometheus only the series of this selector.
    #[arg(long = "match", value_name = "SELECTOR", default_value = source::JOB)]
    selector: String,
    /// Only metrics whose whole name this regular expression matches.
    #[arg(long, value_name = "REGEX", default_value = ".*")]
    metrics: String,
    /// Compare it with this snapshot; what differs is written beside it, as FILE.snap.new, for `lab scenario review` or `cargo insta
    /// review`. Without it the series are printed.
    #[arg(long, value_name = "FILE.snap")]
    snapshot: Option<PathBuf>,
    /// Write the snapshot itself.
    #[arg(long, requires = "snapshot")]
    update: bool,
}

impl Record {
    pub(super) async fn run(self) -> Result<Exit> {
        let only = Regex::new(&format!("^(?:{})$", self.metrics))
            .map_err(|error| Failure::new(Exit::Usage, format!("--metrics {:?}: {error}", self.metrics)))?;
        let recorder = source::record(&self.from, &self.selector, &|name| only.is_match(name)).await?;
        if recorder.is_empty() {
            let failure = Failure::new(Exit::Usage, format!("{} has no such series", self.from));
            return Err(failure.hint("widen --match or --metrics; `lab why SERIES` tells why one is not there").into());
        }
        let text = recorder.render();
        drop(recorder);
        let Some(path) = &self.snapshot else {
            say_text!(text);
            return Ok(Exit::Success);
        };
        compare(path, &text, &self.from, self.update)
    }
}

/// Compares a text with a snapshot, or writes it.
fn compare(path: &Path, text: &str, from: &str, update: bool) -> Result<Exit> {
    let origin = Origin { source: from.to_owned(), expression: "series".to_owned(), input_file: None };
    if update {
        let word = if snapshots::update(path, text, &origin).map_err(failure)? { "is written" } else { "is as recorded" };
        eprintln!("{} {word}", path.display());
        return Ok(Exit::Success);
    }
    let pending = snapshots::pending_path(path);
    let review = format!("{} is written; review it with `lab scenario review` or `cargo insta review`", pending.display());
    match snapshots::compare(path, text, &origin).map_err(failure)? {
        Outcome::Same => {
            eprintln!("{} is as recorded", path.display());
            return Ok(Exit::Success);
        }
        Outcome::New { .. } => eprintln!("{} does not exist; {review}", path.display()),
        Outcome::Differs { diff } => eprintln!("{} differs (- snapshot, + now); {review}:\n{diff}", path.display()),
    }
    Ok(Exit::SnapshotDiffers)
}
