//! `lab contract record`: the series of a lab, a Prometheus or a file, in normal form, as a snapshot that `insta review` knows.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use regex::Regex;

use super::source;
use crate::exit::{Exit, Failure};
use crate::scenarios;

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
    /// Hold it against this snapshot; what differs is written beside it, as FILE.snap.new, for `cargo insta review`. Without it the series
    /// are printed.
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
        hold(path, &text, &self.from, self.update)
    }
}

/// Holds a text against a snapshot, or writes it.
fn hold(path: &Path, text: &str, from: &str, update: bool) -> Result<Exit> {
    let present = scenarios::read_snapshot(path);
    let pending = path.with_extension("snap.new");
    if scenarios::is_recorded(present.as_deref(), text) {
        // What was pending is settled.
        let _ = std::fs::remove_file(&pending);
        eprintln!("{} is as recorded", path.display());
        return Ok(Exit::Success);
    }
    let whole = scenarios::snapshot_file(from, "series", text);
    let target = if update { path } else { &pending };
    if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(target, whole)
        .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot write {}: {error}", target.display())))?;
    if update {
        let _ = std::fs::remove_file(&pending);
        eprintln!("{} is written", path.display());
        return Ok(Exit::Success);
    }
    match present {
        None => eprintln!("{} does not exist; {} is written for `cargo insta review`", path.display(), pending.display()),
        Some(present) => eprintln!(
            "{} differs (- snapshot, + now); {} is written for `cargo insta review`:\n{}",
            path.display(),
            pending.display(),
            metrics::diff(&present, text)
        ),
    }
    Ok(Exit::SnapshotDiffers)
}
