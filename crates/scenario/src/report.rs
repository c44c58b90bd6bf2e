//! What came out of a run. One [`Report`] feeds the terminal, the exit code, JUnit, JSON, annotations and pages; each of them only prints.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use wire::counted;

use crate::place::Place;

/// How one part of a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// As it should.
    Passed {
        /// What was seen.
        seen: String,
        /// Where something is absent as it should be: what shows that it could have been there.
        #[serde(skip_serializing_if = "Option::is_none")]
        otherwise: Option<String>,
    },
    /// It was not looked at: the provider cannot do it or does not know it.
    Unchecked {
        /// What the provider lacks.
        why: String,
    },
    /// Otherwise.
    Failed {
        /// What was seen last, and what was wanted.
        why: String,
    },
}

/// One part of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// When it ended, since the scenario began.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// How long it took.
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
    /// Where the file asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What was done or expected.
    pub what: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Line {
    /// A line of no time and place.
    pub fn new(what: String, outcome: Outcome) -> Self {
        Self { at: Duration::ZERO, took: Duration::ZERO, place: None, what, outcome }
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// How a snapshot compares with its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum SnapshotState {
    /// It was taken, and nobody has compared it.
    Taken,
    /// The same.
    Same,
    /// It may differ on this provider, as the scenario declares.
    Declared,
    /// It was written because that was asked for.
    Written,
    /// There is no such file.
    New {
        /// The series as a diff against nothing.
        diff: String,
    },
    /// The file has other series.
    Changed {
        /// What differs: `-` the file, `+` this run.
        diff: String,
    },
}

impl SnapshotState {
    /// The diff of a snapshot that nobody has accepted.
    pub fn pending(&self) -> Option<&str> {
        match self {
            Self::New { diff } | Self::Changed { diff } => Some(diff),
            Self::Taken | Self::Same | Self::Declared | Self::Written => None,
        }
    }
}

/// A snapshot as this run has it.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotText {
    /// Its name in the scenario.
    pub name: String,
    /// Its text, in normal form.
    pub text: String,
    /// Where the file asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How it compares with the file.
    #[serde(flatten)]
    pub state: SnapshotState,
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "ending")]
pub enum Ending {
    /// Everything was done, up to the first step that failed.
    Completed,
    /// Nothing was done: it cannot be run there.
    NotRunnable {
        /// Why.
        why: String,
    },
    /// The lab did not come up, or broke.
    LabFailed {
        /// Why.
        why: String,
    },
    /// It was interrupted.
    Interrupted,
}

/// What a run shows, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// All that was looked at is as it should be.
    Passed,
    /// It cannot be run there.
    NotRunnable,
    /// All is as it should be but for a snapshot that is new or has changed.
    SnapshotChanged,
    /// The lab did not come up, or broke.
    LabFailed,
    /// A step or an expectation failed.
    Failed,
    /// It was interrupted.
    Interrupted,
}

impl Verdict {
    /// All, from the best to the worst.
    pub const ALL: [Self; 6] =
        [Self::Passed, Self::NotRunnable, Self::SnapshotChanged, Self::LabFailed, Self::Failed, Self::Interrupted];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotRunnable => "not runnable",
            Self::SnapshotChanged => "snapshot changed",
            Self::LabFailed => "lab failed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The release that it ran on.
    pub release: String,
    /// What runs there and why it is taken for that release, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub treated_as: Option<String>,
    /// The provider.
    pub provider: String,
    /// How it came to its end.
    #[serde(flatten)]
    pub ending: Ending,
    /// What happened.
    pub lines: Vec<Line>,
    /// The snapshots that were taken.
    pub snapshots: Vec<SnapshotText>,
    /// What else was noticed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Report {
    /// A run of which nothing is known but its end.
    pub fn new(scenario: &str, release: &str, provider: &str, ending: Ending) -> Self {
        Self {
            scenario: scenario.to_owned(),
            file: None,
            release: release.to_owned(),
            treated_as: None,
            provider: provider.to_owned(),
            ending,
            lines: Vec::new(),
            snapshots: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What it shows.
    pub fn verdict(&self) -> Verdict {
        let failed = self.lines.iter().any(|line| matches!(line.outcome, Outcome::Failed { .. }));
        match self.ending {
            Ending::NotRunnable { .. } => Verdict::NotRunnable,
            Ending::Interrupted => Verdict::Interrupted,
            Ending::LabFailed { .. } => Verdict::LabFailed,
            Ending::Completed if failed => Verdict::Failed,
            Ending::Completed if self.snapshots.iter().any(|snapshot| snapshot.state.pending().is_some()) => {
                Verdict::SnapshotChanged
            }
            // A run that looked at nothing shows nothing.
            Ending::Completed if self.lines.is_empty() => Verdict::Failed,
            Ending::Completed => Verdict::Passed,
        }
    }

    /// Whether all that was looked at is as it should be; snapshots that nobody compared count as such.
    pub fn passed(&self) -> bool {
        self.verdict() == Verdict::Passed
    }

    /// The name with release and provider, as lists of runs have it.
    pub fn title(&self) -> String {
        format!("{}@{} on {}", self.scenario, self.release, self.provider)
    }

    /// Lines that were not looked at.
    pub fn unchecked(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line.outcome, Outcome::Unchecked { .. })).count()
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        self.lines.last().map(|line| line.at).unwrap_or_default()
    }
}

/// Whether the components there are simulated, for the head of a report.
fn simulated(provider: &str) -> &'static str {
    if provider == "embedded" { " (simulated)" } else { "" }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on KubeVirt {}{}, {} lab", self.scenario, self.release, simulated(&self.provider), self.provider)?;
        if let Some(treated) = &self.treated_as {
            writeln!(f, "          {treated}")?;
        }
        let part = |f: &mut fmt::Formatter<'_>, text: &str| -> fmt::Result {
            text.lines().try_for_each(|line| writeln!(f, "                {line}"))
        };
        for line in &self.lines {
            let (mark, text) = match &line.outcome {
                Outcome::Passed { seen, .. } => ("ok  ", seen),
                Outcome::Unchecked { why } => ("--  ", why),
                Outcome::Failed { why } => ("FAIL", why),
            };
            writeln!(f, "{:>7.2}s  {mark}  {}", line.at.as_secs_f64(), line.what)?;
            part(f, text)?;
            if let Outcome::Passed { otherwise: Some(otherwise), .. } = &line.outcome {
                part(f, &format!("({otherwise})"))?;
            }
        }
        for snapshot in &self.snapshots {
            let file = snapshot.file.as_deref().unwrap_or(&snapshot.name);
            match &snapshot.state {
                SnapshotState::Taken | SnapshotState::Same => {}
                SnapshotState::Declared => {
                    writeln!(f, "          --    snapshot {} may differ here, as declared", snapshot.name)?
                }
                SnapshotState::Written => writeln!(f, "          ok    {file} is written")?,
                SnapshotState::New { diff } => {
                    writeln!(f, "          NEW   {file} does not exist; `scenario review` accepts it")?;
                    part(f, diff)?;
                }
                SnapshotState::Changed { diff } => {
                    writeln!(f, "          DIFF  {file} differs (- file, + this run); `scenario review` accepts it")?;
                    part(f, diff)?;
                }
            }
        }
        for note in &self.notes {
            writeln!(f, "          note  {note}")?;
        }
        match &self.ending {
            Ending::Completed => Ok(()),
            Ending::NotRunnable { why } => writeln!(f, "          not runnable there: {why}"),
            Ending::LabFailed { why } => writeln!(f, "          the lab failed: {why}"),
            Ending::Interrupted => writeln!(f, "          interrupted"),
        }
    }
}

/// How many runs ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Runs in which all is as it should be.
    pub passed: usize,
    /// Runs in which a step or an expectation failed.
    pub failed: usize,
    /// Runs whose lab did not come up, or broke.
    pub lab_failed: usize,
    /// Runs that differ from their snapshots in nothing else.
    pub snapshot_changed: usize,
    /// Runs that could not be.
    pub not_runnable: usize,
    /// Runs that were interrupted.
    pub interrupted: usize,
    /// Snapshots that are new or have changed.
    pub changed_snapshots: usize,
    /// Lines that were not looked at, in all runs.
    pub unchecked: usize,
    /// The worst of the verdicts; nothing where nothing was run.
    pub worst: Option<Verdict>,
}

impl Summary {
    /// Of some runs.
    pub fn of(reports: &[Report]) -> Self {
        let mut summary = Self::default();
        for report in reports {
            let verdict = report.verdict();
            let count = match verdict {
                Verdict::Passed => &mut summary.passed,
                Verdict::NotRunnable => &mut summary.not_runnable,
                Verdict::SnapshotChanged => &mut summary.snapshot_changed,
                Verdict::LabFailed => &mut summary.lab_failed,
                Verdict::Failed => &mut summary.failed,
                Verdict::Interrupted => &mut summary.interrupted,
            };
            *count += 1;
            summary.worst = summary.worst.max(Some(verdict));
            summary.unchecked += report.unchecked();
            summary.changed_snapshots += report.snapshots.iter().filter(|snapshot| snapshot.state.pending().is_some()).count();
        }
        summary
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.passed + self.failed + self.lab_failed + self.snapshot_changed + self.not_runnable + self.interrupted
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} passed, {} failed", counted(self.runs(), "run"), self.passed, self.failed)?;
        let others = [
            (self.lab_failed, "without a lab"),
            (self.not_runnable, "not runnable"),
            (self.snapshot_changed, "with nothing wrong but a snapshot"),
            (self.interrupted, "interrupted"),
        ];
        for (count, words) in others {
            if count > 0 {
                write!(f, ", {count} {words}")?;
            }
        }
        if self.changed_snapshots > 0 {
            write!(f, "; {}", counted(self.changed_snapshots, "changed snapshot"))?;
        }
        if self.unchecked > 0 {
            write!(f, "; {} not checked", counted(self.unchecked, "line"))?;
        }
        Ok(())
    }
}

/// One report of each verdict, for the printers' tests.
#[cfg(test)]
pub(crate) fn samples() -> Vec<Report> {
    let place = Some(Place { line: 7, column: 5 });
    let line = |at, what: &str, outcome| Line {
        at: Duration::from_secs(at),
        took: Duration::from_secs(1),
        place,
        ..Line::new(what.to_owned(), outcome)
    };
    let ok = || line(1, "all targets up", Outcome::Passed { seen: "8 of 8 targets up".to_owned(), otherwise: None });
    let absent = line(
        2,
        "VirtAPIDown inactive",
        Outcome::Passed { seen: "inactive".to_owned(), otherwise: Some("loaded, evaluated 14 times".to_owned()) },
    );
    let report = |name: &str, ending| Report {
        file: Some(format!("scenarios/{name}.yaml")),
        ..Report::new(name, "v1.9.0", "embedded", ending)
    };
    let snapshot = |state| SnapshotText {
        name: "a".to_owned(),
        text: "x\n".to_owned(),
        place,
        file: Some("snapshots/a.snap".to_owned()),
        state,
    };
    vec![
        Report {
            lines: vec![ok(), absent, line(3, "notified", Outcome::Unchecked { why: "no receiver".to_owned() })],
            snapshots: vec![snapshot(SnapshotState::Same)],
            ..report("good", Ending::Completed)
        },
        Report { lines: Vec::new(), ..report("foreign", Ending::NotRunnable { why: "it needs <faults>".to_owned() }) },
        Report {
            lines: vec![ok()],
            snapshots: vec![snapshot(SnapshotState::Changed { diff: "-x\n+y".to_owned() })],
            treated_as: Some("v1.9.2 is treated as v1.9.0: a build of the same minor release".to_owned()),
            ..report("other", Ending::Completed)
        },
        Report { ..report("broken", Ending::LabFailed { why: "no Prometheus".to_owned() }) },
        Report {
            lines: vec![ok(), line(3, "a < b", Outcome::Failed { why: "\"x\"\n\u{7}y".to_owned() })],
            notes: vec!["virt-api-1 restarted once, and no step asked for it".to_owned()],
            ..report("bad", Ending::Completed)
        },
        Report { lines: vec![ok()], ..report("cut", Ending::Interrupted) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_count_and_the_worst_is_known() {
        let samples = samples();
        let verdicts: Vec<Verdict> = samples.iter().map(Report::verdict).collect();
        assert_eq!(verdicts, Verdict::ALL);
        let summary = Summary::of(&samples);
        let counts = [
            summary.passed,
            summary.failed,
            summary.lab_failed,
            summary.snapshot_changed,
            summary.not_runnable,
            summary.interrupted,
        ];
        assert_eq!(counts, [1; 6]);
        assert_eq!((summary.worst, summary.runs()), (Some(Verdict::Interrupted), 6));
        assert_eq!(Summary::of(&samples[..2]).worst, Some(Verdict::NotRunnable));
        assert_eq!(Summary::of(&[]).worst, None);
        insta::assert_snapshot!(samples.iter().map(ToString::to_string).collect::<String>() + &summary.to_string());
    }

    #[test]
    fn a_run_that_looked_at_nothing_has_not_passed() {
        assert_eq!(Report::new("s", "r", "p", Ending::Completed).verdict(), Verdict::Failed);
    }
}
