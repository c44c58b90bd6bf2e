//! The same scenario on two providers: verdicts and series side by side. A difference is declared in the scenario, with a reason, or it
//! is a failure.

use serde::Serialize;

use crate::html::{escaped, head, outcome};
use crate::model::Scenario;
use crate::report::{Ending, Outcome, Report};

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

/// An outcome in a word; what was not checked differs from nothing.
fn word(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Passed { .. } => Some("passed"),
        Outcome::Failed { .. } => Some("failed"),
        Outcome::Unchecked { .. } => None,
    }
}

/// Why a run could not be, or came to no end.
fn ended_early(report: &Report) -> Option<String> {
    match &report.ending {
        Ending::Completed => None,
        Ending::NotRunnable { why } => Some(format!("not runnable: {why}")),
        Ending::LabFailed { why } => Some(format!("the lab failed: {why}")),
        Ending::Interrupted => Some("interrupted".to_owned()),
    }
}

impl Parity {
    /// Holds reports of one scenario against each other.
    pub fn new(scenario: &Scenario, reports: Vec<Report>) -> Self {
        let mut differences = Vec::new();
        if let Some((first, others)) = reports.split_first() {
            for other in others.iter().filter(|report| ended_early(report).is_none() && ended_early(first).is_none()) {
                for (what, seen) in differing(first, other) {
                    let declared = scenario
                        .parity
                        .iter()
                        .find(|declared| declared.differs == what && declared.on.is_none_or(|on| on.word() == other.provider));
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
        let (Some(one), Some(two)) = (word(&line.outcome), there.and_then(|there| word(&there.outcome))) else { continue };
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

/// A page that shows scenarios on their providers, side by side.
pub fn html(all: &[Parity]) -> String {
    let differing = all.iter().filter(|parity| !parity.holds()).count();
    let mut page = head("Parity of providers");
    page.push_str(&format!(
        "<p>{}, {differing} with a difference that is not declared.</p>",
        wire::counted(all.len(), "scenario"),
    ));
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
        for (report, why) in parity.reports.iter().filter_map(|report| Some((report, ended_early(report)?))) {
            let columns = parity.reports.len() + 1;
            page.push_str(&format!(
                "<tr><td colspan=\"{columns}\" class=\"skipped\">{}: {}</td></tr>",
                escaped(&report.provider),
                escaped(&why)
            ));
        }
        let lines = parity.reports.iter().max_by_key(|report| report.lines.len()).map(|report| report.lines.clone());
        for line in lines.unwrap_or_default() {
            let differs = parity.differences.iter().any(|difference| difference.what == line.what);
            let class = if differs { " class=\"differs\"" } else { "" };
            page.push_str(&format!("<tr{class}><td>{}</td>", escaped(&line.what)));
            for report in &parity.reports {
                let there = report.lines.iter().find(|there| there.what == line.what);
                let cell = there.map(|there| outcome(&there.outcome)).unwrap_or_default();
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
    use super::*;
    use crate::report::{Line, SnapshotState, SnapshotText};
    use crate::resolve::tests::scenario as read;

    fn report(provider: &str, failed: bool, series: &str) -> Report {
        let outcome = match failed {
            true => Outcome::Failed { why: "<no>".to_owned() },
            false => Outcome::Passed { seen: String::new(), otherwise: None },
        };
        let lines = vec![
            Line::new("all targets up".to_owned(), outcome),
            Line::new("ledger".to_owned(), Outcome::Unchecked { why: "none".to_owned() }),
        ];
        let (name, text) = ("a".to_owned(), series.to_owned());
        let snapshots = vec![SnapshotText { name, text, place: None, file: None, state: SnapshotState::Taken }];
        Report { lines, snapshots, ..Report::new("s", "v1", provider, Ending::Completed) }
    }

    fn scenario(parity: &str) -> Scenario {
        read(&format!(
            "description: d\nsteps: [{{wait: {{up: true}}}}]\nexpect: [{{targets: {{allUp: true}}}}]\n\
             snapshot: [{{name: a, metrics: kubevirt_info}}]\nparity: {parity}"
        ))
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
        let same = vec![report("embedded", false, "x\n"), report("kind", false, "x\n")];
        assert!(Parity::new(&scenario("[]"), same).differences.is_empty());
    }

    #[test]
    fn the_page_shows_both_and_escapes_what_it_shows() {
        let found = Parity::new(&scenario("[]"), vec![report("embedded", false, "x\n"), report("kind", true, "y\n")]);
        let page = html(&[found]);
        assert!(page.contains("&lt;no&gt;") && !page.contains("<no>"), "{page}");
        assert!(page.contains("1 scenario, 1 with a difference") && page.contains("not checked: none"), "{page}");
    }
}
