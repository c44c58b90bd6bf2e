//! The same scenario on two providers: verdicts and series side by side. A difference is declared in the scenario, with a reason, or it
//! is a failure.

use serde::Serialize;

use crate::file::Scenario;
use crate::report::{Report, Verdict};

/// A difference between a provider and the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The provider.
    pub provider: String,
    /// The line or snapshot.
    pub what: String,
    /// On the first provider, and on this one.
    pub seen: (String, String),
    /// Why it is to be so, as the scenario declares it.
    pub declared: Option<String>,
}

/// A scenario on one release, on all providers.
#[derive(Clone, Debug, Serialize)]
pub struct Parity {
    /// The scenario.
    pub scenario: String,
    /// The release.
    pub release: String,
    /// One report a provider; the first is what the others are held against.
    pub reports: Vec<Report>,
    /// Where they differ.
    pub differences: Vec<Difference>,
}

/// A verdict in a word; what was left out differs from nothing.
fn word(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Passed { .. } => Some("passed"),
        Verdict::Failed { .. } => Some("failed"),
        Verdict::Skipped { .. } => None,
    }
}

impl Parity {
    /// Holds reports of one scenario against each other.
    pub fn new(scenario: &Scenario, reports: Vec<Report>) -> Self {
        let mut differences = Vec::new();
        if let Some((first, others)) = reports.split_first() {
            for other in others.iter().filter(|report| report.not_runnable.is_none() && first.not_runnable.is_none()) {
                for (what, seen) in differing(first, other) {
                    let declared = scenario
                        .parity
                        .iter()
                        .find(|declared| declared.differs == what && declared.on.as_ref().is_none_or(|on| *on == other.provider));
                    let declared = declared.map(|declared| declared.reason.clone());
                    differences.push(Difference { provider: other.provider.clone(), what, seen, declared });
                }
            }
        }
        let name = |of: fn(&Report) -> &String| reports.first().map(of).cloned().unwrap_or_default();
        Self { scenario: name(|report| &report.scenario), release: name(|report| &report.release), reports, differences }
    }

    /// Whether every difference is declared.
    pub fn holds(&self) -> bool {
        self.differences.iter().all(|difference| difference.declared.is_some())
    }
}

fn differing(first: &Report, other: &Report) -> Vec<(String, (String, String))> {
    let mut found = Vec::new();
    for line in &first.lines {
        let there = other.lines.iter().find(|there| there.what == line.what);
        let (Some(one), Some(two)) = (word(&line.verdict), there.and_then(|there| word(&there.verdict))) else { continue };
        if one != two {
            found.push((line.what.clone(), (one.to_owned(), two.to_owned())));
        }
    }
    for snapshot in &first.snapshots {
        if let Some(there) = other.snapshots.iter().find(|there| there.name == snapshot.name)
            && there.text != snapshot.text
        {
            found.push((format!("snapshot {}", snapshot.name), (snapshot.text.clone(), there.text.clone())));
        }
    }
    found
}

/// A text as HTML has it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}\
h2{margin:2rem 0 .4rem;font-size:1.1rem}table{border-collapse:collapse;width:100%;margin:.4rem 0 1rem}\
th,td{border-bottom:1px solid #d5dae0;padding:.35rem .6rem;text-align:left;vertical-align:top}\
pre{white-space:pre-wrap;margin:.3rem 0;font:12px/1.4 ui-monospace,monospace}\
.passed{color:#0a6b2d}.failed{color:#b3261e;font-weight:600}.skipped,.declared{color:#5b6570}.differs{background:#fff3d6}\
@media(prefers-color-scheme:dark){body{color:#dfe4ea;background:#14171a}th,td{border-color:#333a41}.passed{color:#62c283}\
.failed{color:#ff8a80}.skipped,.declared{color:#98a2ad}.differs{background:#3a3012}}";

/// A page that shows scenarios on their providers, side by side.
pub fn html(all: &[Parity]) -> String {
    let differing = all.iter().filter(|parity| !parity.holds()).count();
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Parity of providers</title><style>{STYLE}</style><h1>Parity of providers</h1><p>{} scenarios, {differing} with a \
         difference that is not declared.</p>",
        all.len()
    );
    for parity in all {
        page.push_str(&format!(
            "<h2>{} · KubeVirt {}</h2><table><tr><th>What</th>",
            escaped(&parity.scenario),
            escaped(&parity.release)
        ));
        for report in &parity.reports {
            page.push_str(&format!("<th>{}</th>", escaped(&report.provider)));
        }
        page.push_str("</tr>");
        for report in parity.reports.iter().filter(|report| report.not_runnable.is_some()) {
            let why = report.not_runnable.as_deref().unwrap_or_default();
            let columns = parity.reports.len() + 1;
            page.push_str(&format!(
                "<tr><td colspan=\"{columns}\" class=\"skipped\">not runnable on {}: {}</td></tr>",
                escaped(&report.provider),
                escaped(why)
            ));
        }
        let lines = parity.reports.iter().max_by_key(|report| report.lines.len()).map(|report| report.lines.clone());
        for line in lines.unwrap_or_default() {
            let differs = parity.differences.iter().any(|difference| difference.what == line.what);
            let class = if differs { " class=\"differs\"" } else { "" };
            page.push_str(&format!("<tr{class}><td>{}</td>", escaped(&line.what)));
            for report in &parity.reports {
                let there = report.lines.iter().find(|there| there.what == line.what);
                let cell = match there.map(|there| &there.verdict) {
                    None => String::new(),
                    Some(Verdict::Passed { .. }) => "<span class=\"passed\">passed</span>".to_owned(),
                    Some(Verdict::Skipped { why }) => format!("<span class=\"skipped\">left out: {}</span>", escaped(why)),
                    Some(Verdict::Failed { why }) => format!("<span class=\"failed\">failed</span><pre>{}</pre>", escaped(why)),
                };
                page.push_str(&format!("<td>{cell}</td>"));
            }
            page.push_str("</tr>");
        }
        page.push_str("</table>");
        for difference in &parity.differences {
            let declared = match &difference.declared {
                Some(reason) => format!("<span class=\"declared\">declared: {}</span>", escaped(reason)),
                None => "<span class=\"failed\">not declared</span>".to_owned(),
            };
            let text = metrics::diff(&difference.seen.0, &difference.seen.1);
            page.push_str(&format!(
                "<p>{} on {}: {declared}</p><pre>{}</pre>",
                escaped(&difference.what),
                escaped(&difference.provider),
                escaped(&text)
            ));
        }
    }
    page.push_str("</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::{Line, SnapshotText};

    fn report(provider: &str, failed: bool, series: &str) -> Report {
        let verdict = if failed { Verdict::Failed { why: "<no>".to_owned() } } else { Verdict::Passed { seen: String::new() } };
        let skipped =
            Line { at: Duration::ZERO, what: "ledger".to_owned(), verdict: Verdict::Skipped { why: "none".to_owned() } };
        Report {
            scenario: "s".to_owned(),
            release: "v1".to_owned(),
            provider: provider.to_owned(),
            not_runnable: None,
            lines: vec![Line { at: Duration::ZERO, what: "all targets up".to_owned(), verdict }, skipped],
            snapshots: vec![SnapshotText { name: "a".to_owned(), text: series.to_owned() }],
        }
    }

    fn scenario(parity: &str) -> Scenario {
        serde_yaml::from_str(&format!("description: d\nsteps: []\nparity: {parity}")).unwrap()
    }

    #[test]
    fn differences_are_declared_or_fail() {
        let reports = || vec![report("embedded", false, "x\n"), report("kind", true, "y\n")];
        let found = Parity::new(&scenario("[]"), reports());
        assert!(!found.holds());
        let what: Vec<&str> = found.differences.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(what, ["all targets up", "snapshot a"]);
        let declared = "[{differs: all targets up, reason: r}, {differs: snapshot a, on: kind, reason: r}]";
        assert!(Parity::new(&scenario(declared), reports()).holds());
        assert!(!Parity::new(&scenario("[{differs: snapshot a, on: minikube, reason: r}]"), reports()).holds());
        assert!(
            Parity::new(&scenario("[]"), vec![report("embedded", false, "x\n"), report("kind", false, "x\n")])
                .differences
                .is_empty()
        );
    }

    #[test]
    fn the_page_shows_both_and_escapes_what_it_shows() {
        let found = Parity::new(&scenario("[]"), vec![report("embedded", false, "x\n"), report("kind", true, "y\n")]);
        let page = html(&[found]);
        assert!(page.contains("&lt;no&gt;") && !page.contains("<no>"), "{page}");
        assert!(page.contains("1 scenarios, 1 with a difference") && page.contains("left out: none"), "{page}");
    }
}
