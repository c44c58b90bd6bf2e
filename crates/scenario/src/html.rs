//! Pages without anything from elsewhere: the runs of scenarios. [`crate::parity`] has the page of several providers.

use crate::report::{Ending, Outcome, Report, SnapshotState, Summary};

/// A text as HTML has it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}\
h2{margin:2rem 0 .4rem;font-size:1.1rem}table{border-collapse:collapse;width:100%;margin:.4rem 0 1rem}\
th,td{border-bottom:1px solid #d5dae0;padding:.35rem .6rem;text-align:left;vertical-align:top}\
pre{white-space:pre-wrap;margin:.3rem 0;font:12px/1.4 ui-monospace,monospace}\
.passed{color:#0a6b2d}.failed{color:#b3261e;font-weight:600}.skipped,.declared{color:#5b6570}.differs{background:#fff3d6}\
@media(prefers-color-scheme:dark){body{color:#dfe4ea;background:#14171a}th,td{border-color:#333a41}.passed{color:#62c283}\
.failed{color:#ff8a80}.skipped,.declared{color:#98a2ad}.differs{background:#3a3012}}";

pub(crate) fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escaped(title)
    )
}

/// A page of runs: the verdict of each first, then its lines.
pub fn page(reports: &[Report]) -> String {
    let mut page = head("Scenarios");
    page.push_str(&format!("<p>{}</p>", escaped(&Summary::of(reports).to_string())));
    for report in reports {
        page.push_str(&format!("<h2>{}: {}</h2>", escaped(&report.title()), report.verdict().words()));
        for note in report.treated_as.iter().chain(&report.notes) {
            page.push_str(&format!("<p>{}</p>", escaped(note)));
        }
        match &report.ending {
            Ending::Completed => {}
            Ending::NotRunnable { why } => page.push_str(&format!("<p class=\"skipped\">not runnable: {}</p>", escaped(why))),
            Ending::LabFailed { why } => page.push_str(&format!("<p class=\"failed\">the lab failed: {}</p>", escaped(why))),
            Ending::Interrupted => page.push_str("<p class=\"failed\">interrupted</p>"),
        }
        page.push_str("<table><tr><th>Time</th><th>What</th><th>Outcome</th></tr>");
        for line in &report.lines {
            let place = line.place.zip(report.file.as_ref()).map(|(place, file)| format!("{file}:{}", place.line));
            page.push_str(&format!(
                "<tr><td>{:.2}&nbsp;s</td><td>{}<br><small>{}</small></td><td>{}</td></tr>",
                line.at.as_secs_f64(),
                escaped(&line.what),
                escaped(&place.unwrap_or_default()),
                outcome(&line.outcome)
            ));
        }
        for snapshot in &report.snapshots {
            let cell = match &snapshot.state {
                SnapshotState::Taken | SnapshotState::Same => "<span class=\"passed\">as recorded</span>".to_owned(),
                SnapshotState::Declared => "<span class=\"declared\">may differ here, as declared</span>".to_owned(),
                SnapshotState::Written => "<span class=\"passed\">written</span>".to_owned(),
                SnapshotState::New { diff } => format!("<span class=\"failed\">new</span><pre>{}</pre>", escaped(diff)),
                SnapshotState::Changed { diff } => format!("<span class=\"failed\">changed</span><pre>{}</pre>", escaped(diff)),
            };
            page.push_str(&format!("<tr><td></td><td>snapshot {}</td><td>{cell}</td></tr>", escaped(&snapshot.name)));
        }
        page.push_str("</table>");
    }
    page.push_str("</html>\n");
    page
}

/// A cell of a table.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed { seen, otherwise } => {
            let otherwise = otherwise.as_ref().map(|text| format!("\n({text})")).unwrap_or_default();
            format!("<span class=\"passed\">passed</span><pre>{}</pre>", escaped(&format!("{seen}{otherwise}")))
        }
        Outcome::Unchecked { why } => format!("<span class=\"skipped\">not checked: {}</span>", escaped(why)),
        Outcome::Failed { why } => format!("<span class=\"failed\">failed</span><pre>{}</pre>", escaped(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Verdict, samples};

    #[test]
    fn a_page_has_every_verdict_and_escapes_what_it_shows() {
        let page = page(&samples());
        for verdict in Verdict::ALL {
            assert!(page.contains(&format!(": {}</h2>", verdict.words())), "{verdict:?}");
        }
        assert!(page.contains("a &lt; b") && !page.contains("a < b"), "{page}");
    }
}
