//! Reports as JUnit's XML, which CI systems show: a suite for each run, a case for each line and each snapshot.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use crate::place::Place;
use crate::report::{Ending, Outcome, Report, SnapshotState};

/// How a case ended.
enum Case<'a> {
    Passed(Option<&'a str>),
    Skipped(&'a str),
    Failed(&'a str),
    Error(&'a str),
}

/// The reports of a run.
///
/// # Errors
/// When the document cannot be written: a bug.
pub fn xml(reports: &[Report]) -> Result<String, quick_junit::SerializeError> {
    let mut document = Document::new("kubevirt-lab");
    document.set_time(reports.iter().map(Report::took).sum());
    for report in reports {
        document.add_test_suite(suite(report));
    }
    document.to_string()
}

fn suite(report: &Report) -> TestSuite {
    let title = report.title();
    let mut suite = TestSuite::new(&title);
    suite.set_time(report.took());
    let notes = report.treated_as.iter().chain(&report.notes).cloned().collect::<Vec<_>>().join("\n");
    if !notes.is_empty() {
        suite.set_system_out(notes);
    }
    let mut add = |name: &str, took: Duration, place: Option<Place>, how: &Case<'_>| {
        let mut case = TestCase::new(name, status(how));
        case.set_classname(&title).set_time(took);
        if let Case::Passed(Some(seen)) = how {
            case.set_system_out(*seen);
        }
        if let Some(file) = &report.file {
            case.extra.insert("file".into(), file.as_str().into());
        }
        if let Some(Place { line, .. }) = place {
            case.extra.insert("line".into(), line.to_string().into());
        }
        suite.add_test_case(case);
    };
    for line in &report.lines {
        let seen;
        let how = match &line.outcome {
            Outcome::Passed { seen: text, otherwise: None } => Case::Passed(Some(text)),
            Outcome::Passed { seen: text, otherwise: Some(otherwise) } => {
                seen = format!("{text}\n({otherwise})");
                Case::Passed(Some(&seen))
            }
            Outcome::Unchecked { why } => Case::Skipped(why),
            Outcome::Failed { why } => Case::Failed(why),
        };
        add(&line.what, line.took, line.place, &how);
    }
    for snapshot in &report.snapshots {
        let how = match &snapshot.state {
            SnapshotState::Taken | SnapshotState::Same | SnapshotState::Written => Case::Passed(None),
            SnapshotState::Declared => Case::Skipped("it may differ on this provider, as declared"),
            SnapshotState::New { diff } | SnapshotState::Changed { diff } => Case::Failed(diff),
        };
        add(&format!("snapshot {} is as recorded", snapshot.name), Duration::ZERO, snapshot.place, &how);
    }
    let how = match &report.ending {
        Ending::Completed if report.lines.is_empty() => Some(Case::Failed("nothing was looked at")),
        Ending::Completed => None,
        Ending::NotRunnable { why } => Some(Case::Skipped(why)),
        Ending::LabFailed { why } => Some(Case::Error(why)),
        Ending::Interrupted => Some(Case::Error("interrupted")),
    };
    if let Some(how) = how {
        add("the scenario as a whole", Duration::ZERO, None, &how);
    }
    suite
}

fn status(how: &Case<'_>) -> TestCaseStatus {
    let failure = |kind, why: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        // The first line is what lists show.
        status.set_message(why.lines().next().unwrap_or_default()).set_description(why);
        status
    };
    match how {
        Case::Passed(_) => TestCaseStatus::success(),
        Case::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(*why);
            status
        }
        Case::Failed(why) => failure(NonSuccessKind::Failure, why),
        Case::Error(why) => failure(NonSuccessKind::Error, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn every_line_and_snapshot_is_a_case() {
        insta::assert_snapshot!(xml(&samples()).unwrap());
    }
}
