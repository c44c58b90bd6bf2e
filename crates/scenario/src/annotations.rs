//! Reports as annotations of a pull request: the workflow commands that GitHub's runner reads from a step's output.

use crate::place::Place;
use crate::report::{Ending, Outcome, Report};

/// A value in a property of a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The message of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn command(word: &str, report: &Report, place: Option<Place>, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some(file) = &report.file {
        properties.push(format!("file={}", property(file)));
    }
    if let Some(Place { line, column }) = place {
        properties.push(format!("line={line},col={column}"));
    }
    properties.push(format!("title={}", property(&report.title())));
    format!("::{word} {}::{}\n", properties.join(","), data(message))
}

/// The commands for what failed, has changed or was not checked.
pub fn github(reports: &[Report]) -> String {
    let mut out = String::new();
    for report in reports {
        for line in &report.lines {
            match &line.outcome {
                Outcome::Passed { .. } => {}
                Outcome::Unchecked { why } => {
                    out.push_str(&command("notice", report, line.place, &format!("{}: not checked: {why}", line.what)));
                }
                Outcome::Failed { why } => out.push_str(&command("error", report, line.place, &format!("{}: {why}", line.what))),
            }
        }
        for snapshot in &report.snapshots {
            if let Some(diff) = snapshot.state.pending() {
                out.push_str(&command("error", report, snapshot.place, &format!("snapshot {} differs\n{diff}", snapshot.name)));
            }
        }
        match &report.ending {
            Ending::Completed if report.lines.is_empty() => {
                out.push_str(&command("error", report, None, "nothing was looked at"))
            }
            Ending::Completed => {}
            Ending::NotRunnable { why } => out.push_str(&command("warning", report, None, &format!("not runnable: {why}"))),
            Ending::LabFailed { why } => out.push_str(&command("error", report, None, &format!("the lab failed: {why}"))),
            Ending::Interrupted => out.push_str(&command("error", report, None, "interrupted")),
        }
        for note in &report.notes {
            out.push_str(&command("notice", report, None, note));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn what_failed_has_its_place() {
        insta::assert_snapshot!(github(&samples()));
    }
}
