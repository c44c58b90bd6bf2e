//! What came out of a run.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How one part of a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "verdict")]
pub enum Verdict {
    /// As it should.
    Passed {
        /// What was seen.
        seen: String,
    },
    /// It was left out: the provider cannot do or tell it.
    Skipped {
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
    /// Since the scenario began.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// What was done or expected.
    pub what: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// A snapshot as this run has it.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotText {
    /// Its name in the scenario.
    pub name: String,
    /// Its text, in normal form.
    pub text: String,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The release that it ran on.
    pub release: String,
    /// The provider.
    pub provider: String,
    /// Why it cannot be run there, if it cannot; nothing was done then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_runnable: Option<String>,
    /// What happened.
    pub lines: Vec<Line>,
    /// The snapshots that were taken.
    pub snapshots: Vec<SnapshotText>,
}

impl Report {
    /// Whether everything that could be looked at was as it should be.
    pub fn passed(&self) -> bool {
        !self.lines.iter().any(|line| matches!(line.verdict, Verdict::Failed { .. }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simulated = if self.provider == "embedded" { " (simulated)" } else { "" };
        writeln!(f, "{} on KubeVirt {}{simulated}, {} lab", self.scenario, self.release, self.provider)?;
        if let Some(why) = &self.not_runnable {
            return writeln!(f, "          not runnable there: {why}");
        }
        for line in &self.lines {
            let (mark, text) = match &line.verdict {
                Verdict::Passed { seen } => ("ok  ", seen),
                Verdict::Skipped { why } => ("--  ", why),
                Verdict::Failed { why } => ("FAIL", why),
            };
            writeln!(f, "{:>7.2}s  {mark}  {}", line.at.as_secs_f64(), line.what)?;
            if !text.is_empty() {
                for part in text.lines() {
                    writeln!(f, "                {part}")?;
                }
            }
        }
        Ok(())
    }
}
