//! Reports as JUnit's XML, which CI systems show: a suite for each scenario, release and provider, a case for each line.

use crate::report::{Report, Verdict};

fn escaped(text: &str) -> String {
    let plain = |letter: char| letter == '\n' || letter == '\t' || !letter.is_control();
    text.chars()
        .filter(|letter| plain(*letter))
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\n' => "&#10;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

/// The reports of a run.
pub fn xml(reports: &[Report]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        let name = format!("{}@{} on {}", report.scenario, report.release, report.provider);
        let failed = report.lines.iter().filter(|line| matches!(line.verdict, Verdict::Failed { .. })).count();
        let skipped = report.lines.iter().filter(|line| matches!(line.verdict, Verdict::Skipped { .. })).count();
        let cases = report.lines.len().max(1);
        let skipped = if report.not_runnable.is_some() { 1 } else { skipped };
        text.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{cases}\" failures=\"{failed}\" skipped=\"{skipped}\">\n",
            escaped(&name)
        ));
        if let Some(why) = &report.not_runnable {
            text.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"the scenario\"><skipped message=\"{}\"/></testcase>\n",
                escaped(&name),
                escaped(why)
            ));
        }
        let mut began = std::time::Duration::ZERO;
        for line in &report.lines {
            let time = line.at.saturating_sub(began).as_secs_f64();
            began = line.at;
            text.push_str(&format!(
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{time:.3}\">",
                escaped(&name),
                escaped(&line.what)
            ));
            match &line.verdict {
                Verdict::Passed { .. } => {}
                Verdict::Skipped { why } => text.push_str(&format!("<skipped message=\"{}\"/>", escaped(why))),
                Verdict::Failed { why } => text.push_str(&format!("<failure message=\"{}\"/>", escaped(why))),
            }
            text.push_str("</testcase>\n");
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Line;

    #[test]
    fn every_line_is_a_case() {
        let line = |at, what: &str, verdict| Line { at: Duration::from_secs(at), what: what.to_owned(), verdict };
        let ran = Report {
            scenario: "s".to_owned(),
            release: "v1.9.0".to_owned(),
            provider: "embedded".to_owned(),
            not_runnable: None,
            lines: vec![
                line(1, "a < b", Verdict::Passed { seen: String::new() }),
                line(3, "c", Verdict::Failed { why: "\"x\"\n\u{7}y".to_owned() }),
                line(3, "d", Verdict::Skipped { why: "no".to_owned() }),
            ],
            snapshots: Vec::new(),
        };
        let not = Report { not_runnable: Some("it needs faults".to_owned()), lines: Vec::new(), ..ran.clone() };
        insta::assert_snapshot!(xml(&[ran, not]));
    }
}
