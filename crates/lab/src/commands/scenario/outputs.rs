//! The reports of a run for everybody who reads them: terminal, JSON, JUnit, annotations, pages, and the exit code. All of them print
//! the same [`Report`]s.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use scenario::parity::Parity;
use scenario::{Report, Summary, Verdict};
use wire::counted;

use crate::exit::{Exit, Failure};

/// Where reports go besides standard output.
#[derive(Args)]
pub(super) struct Outputs {
    /// Write the result as JUnit's XML, which CI systems show.
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    /// Write the result as a page.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Print annotations of the pull request for GitHub; done by itself where GITHUB_ACTIONS is true.
    #[arg(long)]
    annotations: bool,
}

/// Writes a file that a person asked for.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text)
        .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot write {}: {error}", file.display())).into())
}

impl Outputs {
    /// Writes all that was asked for. An error of one file does not keep the others from being written.
    pub(super) fn write(&self, reports: &[Report]) -> Result<()> {
        let mut first = Ok(());
        let mut keep = |result: Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        if let Some(file) = &self.junit {
            keep(scenario::junit::xml(reports).map_err(Into::into).and_then(|xml| write(file, &xml)));
        }
        if let Some(file) = &self.html {
            keep(write(file, &scenario::html::page(reports)));
        }
        if self.annotations || std::env::var("GITHUB_ACTIONS").is_ok_and(|set| set == "true") {
            // GitHub reads them from either stream; standard output may be JSON.
            eprint!("{}", scenario::annotations::github(reports));
        }
        first
    }
}

/// What the program ends with after these runs.
pub(super) fn exit(summary: &Summary, allow_not_runnable: bool) -> Exit {
    match summary.worst {
        None => Exit::Usage,
        Some(Verdict::Passed) => Exit::Success,
        Some(Verdict::NotRunnable) if allow_not_runnable => Exit::Success,
        Some(Verdict::NotRunnable) => Exit::NotRunnable,
        Some(Verdict::SnapshotChanged) => Exit::SnapshotDiffers,
        Some(Verdict::LabFailed) => Exit::LabFailed,
        Some(Verdict::Failed) => Exit::ScenarioFailed,
        Some(Verdict::Interrupted) => Exit::Interrupted,
    }
}

/// Writes the page of the providers' parity, and shows what differs; how many differences are not declared.
pub(super) fn parity(file: &Path, parities: &[Parity]) -> Result<usize> {
    write(file, &scenario::parity::html(parities))?;
    let mut undeclared = 0;
    for parity in parities {
        for difference in parity.differences.iter().filter(|difference| difference.declared.is_none()) {
            undeclared += 1;
            eprintln!(
                "{} on {}: {} differs from {}",
                parity.scenario, difference.provider, difference.what, parity.reports[0].provider
            );
        }
    }
    let (scenarios, differences) = (counted(parities.len(), "scenario"), counted(undeclared, "difference"));
    eprintln!("{} is written: {scenarios}, {differences} not declared", file.display());
    Ok(undeclared)
}

#[cfg(test)]
mod tests {
    use scenario::{Ending, Line, Outcome, SnapshotState, SnapshotText};

    use super::*;

    /// A run of each verdict.
    fn runs() -> Vec<(Verdict, Report)> {
        let passed = || Line::new("it".to_owned(), Outcome::Passed { seen: "seen".to_owned(), otherwise: None });
        let report = |ending, lines| Report { lines, ..Report::new("s", "v1", "embedded", ending) };
        let changed = SnapshotText {
            name: "a".to_owned(),
            text: String::new(),
            place: None,
            file: None,
            state: SnapshotState::Changed { diff: "-x".to_owned() },
        };
        vec![
            (Verdict::Passed, report(Ending::Completed, vec![passed()])),
            (Verdict::NotRunnable, report(Ending::NotRunnable { why: "why-n".to_owned() }, Vec::new())),
            (Verdict::SnapshotChanged, Report { snapshots: vec![changed], ..report(Ending::Completed, vec![passed()]) }),
            (Verdict::LabFailed, report(Ending::LabFailed { why: "why-l".to_owned() }, Vec::new())),
            (
                Verdict::Failed,
                report(Ending::Completed, vec![Line::new("it".to_owned(), Outcome::Failed { why: "why-f".to_owned() })]),
            ),
            (Verdict::Interrupted, report(Ending::Interrupted, vec![passed()])),
        ]
    }

    /// Each outcome in each format: all of them agree on whether it is well.
    #[test]
    fn every_format_tells_every_verdict_alike() {
        let runs = runs();
        assert_eq!(runs.iter().map(|(verdict, _)| *verdict).collect::<Vec<_>>(), Verdict::ALL);
        for (verdict, report) in runs {
            assert_eq!(report.verdict(), verdict);
            let reports = [report];
            let summary = Summary::of(&reports);
            let code = exit(&summary, false);
            let expected = match verdict {
                Verdict::Passed => Exit::Success,
                Verdict::NotRunnable => Exit::NotRunnable,
                Verdict::SnapshotChanged => Exit::SnapshotDiffers,
                Verdict::LabFailed => Exit::LabFailed,
                Verdict::Failed => Exit::ScenarioFailed,
                Verdict::Interrupted => Exit::Interrupted,
            };
            assert_eq!(code, expected);
            let junit = scenario::junit::xml(&reports).unwrap();
            let red = junit.contains("<failure") || junit.contains("<error");
            let is_red = !matches!(verdict, Verdict::Passed | Verdict::NotRunnable);
            assert_eq!(red, is_red, "{verdict:?}\n{junit}");
            assert_eq!(junit.contains("<skipped"), verdict == Verdict::NotRunnable, "{verdict:?}\n{junit}");
            let annotations = scenario::annotations::github(&reports);
            assert_eq!(annotations.contains("::error "), is_red, "{verdict:?}\n{annotations}");
            assert_eq!(annotations.contains("::warning "), verdict == Verdict::NotRunnable, "{annotations}");
            let page = scenario::html::page(&reports);
            assert!(page.contains(&format!(": {}</h2>", verdict.words())), "{page}");
            let json = serde_json::to_value(super::super::run::document(&reports)).unwrap();
            assert_eq!(json["summary"]["worst"], serde_json::to_value(verdict).unwrap());
            assert_eq!(json["runs"][0]["verdict"], serde_json::to_value(verdict).unwrap());
            let text = reports[0].to_string();
            let marks = [
                ("FAIL", Verdict::Failed),
                ("DIFF", Verdict::SnapshotChanged),
                ("not runnable there: why-n", Verdict::NotRunnable),
                ("the lab failed: why-l", Verdict::LabFailed),
                ("interrupted", Verdict::Interrupted),
            ];
            for (mark, of) in marks {
                assert_eq!(text.contains(mark), of == verdict, "{mark}\n{text}");
            }
        }
        assert_eq!(exit(&Summary::of(&[]), true), Exit::Usage, "nothing was run");
        let not_runnable = [Report::new("s", "v1", "kind", Ending::NotRunnable { why: String::new() })];
        assert_eq!(exit(&Summary::of(&not_runnable), true), Exit::Success);
    }
}
