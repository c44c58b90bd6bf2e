//! From text to a checked scenario. All problems of a file are told, each with file, line and column.

use std::fmt;

use crate::file::{Scenario, duration};

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Line and column from 1, where known.
    pub at: Option<(usize, usize)>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads and checks a scenario. `releases` are those that can be run; `has_metric` tells whether a release's catalogue has a
/// metric that fits an expression.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(
    file: &str,
    text: &str,
    releases: &[&str],
    has_metric: &dyn Fn(&str, &str) -> Result<bool, String>,
) -> Result<Scenario, Vec<Problem>> {
    let problem = |at, message: String| Problem { file: file.to_owned(), at, message };
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    let mut scenario: Scenario = serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|location| (location.line() as usize, location.column() as usize));
        // The place stands in front already.
        let message = error.to_string();
        let message = match message.rsplit_once(" at line ") {
            Some((head, _)) if at.is_some() => head.to_owned(),
            _ => message,
        };
        vec![problem(at, message)]
    })?;
    if scenario.given.kubevirt.is_empty() {
        scenario.given.kubevirt = releases.first().map(|release| (*release).to_owned()).into_iter().collect();
    }
    let places = Places(text);
    let mut problems = Vec::new();
    if scenario.steps.is_empty() {
        problems.push(problem(places.key("steps", 0), "there are no steps; begin with `- wait: {up: true}`".to_owned()));
    }
    for release in &scenario.given.kubevirt {
        if !releases.contains(&release.as_str()) {
            let message = format!("KubeVirt {release} is not simulated; there are {}", releases.join(", "));
            problems.push(problem(places.text(release), message));
        }
    }
    for (index, step) in scenario.steps.iter().enumerate() {
        let at = || places.item("steps", index);
        match step.count() {
            1 => {}
            0 => {
                problems.push(problem(at(), "a step needs one of wait, fault, clearFault, clearFaults, delete, apply".to_owned()))
            }
            _ => problems.push(problem(at(), "a step has one key; write two steps".to_owned())),
        }
        if let Some(wait) = &step.wait {
            if duration(&wait.within).is_none() {
                problems.push(problem(at(), bad_duration(&wait.within)));
            }
            let states = [
                wait.up.is_some(),
                wait.targets.is_some(),
                wait.query.is_some(),
                wait.notification.is_some(),
                wait.fault_spent.is_some(),
            ];
            if states.iter().filter(|set| **set).count() != 1 {
                problems.push(problem(at(), "a wait needs one of up, targets, query, notification, faultSpent".to_owned()));
            }
        }
        if let Some(rule) = &step.fault
            && let Err(error) = rule.check()
        {
            problems.push(problem(at(), error.to_string()));
        }
        if let Some(delete) = &step.delete
            && delete.name.is_some() == delete.labels.is_some()
        {
            problems.push(problem(at(), "a delete needs a name or labels, and not both".to_owned()));
        }
    }
    for (index, expectation) in scenario.expect.iter().enumerate() {
        let at = || places.item("expect", index);
        if expectation.count() != 1 {
            problems.push(problem(
                at(),
                "an expectation needs one of query, targets, alerts, notification, rules, logs, why".to_owned(),
            ));
        }
        for time in expectation.within.iter().chain(&expectation.hold) {
            if duration(time).is_none() {
                problems.push(problem(at(), bad_duration(time)));
            }
        }
        if let Some(rules) = &expectation.rules
            && rules.health != "ok"
        {
            let message = format!("a rule is expected to be ok, never {:?}", rules.health);
            problems.push(problem(at(), message));
        }
        if let Some(alerts) = &expectation.alerts
            && !matches!(alerts.state.as_str(), "inactive" | "pending" | "firing" | "resolved")
        {
            let message = format!("an alert is inactive, pending, firing or resolved, never {:?}", alerts.state);
            problems.push(problem(at(), message));
        }
    }
    let waited =
        scenario.steps.iter().enumerate().filter_map(|(index, step)| Some(("steps", index, &step.wait.as_ref()?.notification)));
    let expected = scenario.expect.iter().enumerate().map(|(index, expectation)| ("expect", index, &expectation.notification));
    for (list, index, notification) in waited.chain(expected) {
        let status = notification.as_ref().and_then(|wanted| wanted.status.as_deref());
        if let Some(status) = status.filter(|status| !matches!(*status, "firing" | "resolved")) {
            let message = format!("a notification says firing or resolved, never {status:?}");
            problems.push(problem(places.item(list, index), message));
        }
    }
    for (index, snapshot) in scenario.snapshot.iter().enumerate() {
        for release in scenario.given.kubevirt.iter().filter(|release| releases.contains(&release.as_str())) {
            match has_metric(release, &snapshot.metrics) {
                Ok(true) => {}
                Ok(false) => problems.push(problem(
                    places.item("snapshot", index),
                    format!("KubeVirt {release} has no metric {:?}", snapshot.metrics),
                )),
                Err(why) => problems.push(problem(places.item("snapshot", index), why)),
            }
        }
    }
    if problems.is_empty() { Ok(scenario) } else { Err(problems) }
}

fn bad_duration(text: &str) -> String {
    format!("{text:?} is no duration; write 500ms, 30s or 5m")
}

/// Finds the places of things in a file that has been read: line and column, both from 1.
struct Places<'a>(&'a str);

impl Places<'_> {
    fn key(&self, key: &str, indent: usize) -> Option<(usize, usize)> {
        let start = format!("{}{key}:", " ".repeat(indent));
        self.0.lines().position(|line| line.starts_with(&start)).map(|line| (line + 1, indent + 1))
    }

    fn text(&self, text: &str) -> Option<(usize, usize)> {
        self.0.lines().enumerate().find_map(|(line, content)| content.find(text).map(|column| (line + 1, column + 1)))
    }

    /// Item `index` of a top-level list that is written as a block.
    fn item(&self, key: &str, index: usize) -> Option<(usize, usize)> {
        let start = format!("{key}:");
        let mut lines = self.0.lines().enumerate().skip_while(|(_, line)| !line.starts_with(&start));
        let head = lines.next()?.0;
        let mut dash = None;
        let mut seen = 0;
        for (number, line) in lines {
            let indent = line.len() - line.trim_start().len();
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            if indent == 0 && !line.starts_with('-') {
                break;
            }
            if line.trim_start().starts_with('-') && *dash.get_or_insert(indent) == indent {
                if seen == index {
                    return Some((number + 1, indent + 1));
                }
                seen += 1;
            }
        }
        Some((head + 1, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let has_metric = |_: &str, metric: &str| Ok(metric != "nonsense");
        match parse("s.yaml", text, &["v1.9.0"], &has_metric) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_good_file_has_none() {
        assert_eq!(problems("description: x\nsteps:\n  - wait: {up: true}\n"), Vec::<String>::new());
    }

    #[test]
    fn every_problem_has_its_place() {
        for (text, expected) in [
            ("description: x\nstep: []\n", "s.yaml:2:1: unknown field `step`"),
            ("description: x\nsteps: 5\n", "s.yaml:2:8: "),
            ("description: x\nsteps: []\n", "s.yaml:2:1: there are no steps"),
            ("description: x\nsteps:\n  - wait: {up: true}\n  - {}\n", "s.yaml:4:3: a step needs one of"),
            ("description: x\nsteps:\n  - wait: {up: true, within: soon}\n", "s.yaml:3:3: \"soon\" is no duration"),
            (
                "description: x\ngiven: {kubevirt: [v9]}\nsteps:\n  - wait: {up: true}\n",
                "s.yaml:2:20: KubeVirt v9 is not simulated; there are v1.9.0",
            ),
            (
                "description: x\nsteps:\n  - wait: {up: true}\nsnapshot:\n  - {name: a, metrics: nonsense}\n",
                "s.yaml:5:3: KubeVirt v1.9.0 has no metric \"nonsense\"",
            ),
            (
                "description: x\nsteps:\n  - fault: {name: a, effect: {status: {code: 200}}}\n",
                "s.yaml:3:3: fault \"a\": status code 200 is no failure",
            ),
        ] {
            let found = problems(text);
            assert!(found.first().is_some_and(|problem| problem.starts_with(expected)), "{expected}\n{found:?}");
        }
    }
}
