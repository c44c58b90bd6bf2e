//! From text to a checked scenario. All problems of a file are told, each with file, line and column.

use std::fmt;

use crate::file::{Expectation, NotificationExpectation, Scenario, Step, duration};

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

/// What there is for a scenario to name.
pub struct Known<'a> {
    /// Releases that can be run.
    pub releases: &'a [&'a str],
    /// Names of defects.
    pub defects: &'a [String],
    /// Whether a release's catalogue has a metric that fits an expression.
    pub has_metric: &'a dyn Fn(&str, &str) -> Result<bool, String>,
}

/// Reads and checks a scenario.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(file: &str, text: &str, known: &Known<'_>) -> Result<Scenario, Vec<Problem>> {
    let Known { releases, has_metric, .. } = known;
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
    let of_variants = [("broken", &scenario.broken), ("mended", &scenario.mended)];
    let variants = || of_variants.iter().filter_map(|(key, variant)| Some((*key, variant.as_ref()?)));
    let named = scenario.given.kubevirt.iter().chain(variants().filter_map(|(_, variant)| variant.kubevirt.as_ref()));
    for release in named.filter(|release| !releases.contains(&release.as_str())) {
        let message = format!("KubeVirt {release} is not simulated; there are {}", releases.join(", "));
        problems.push(problem(places.text(release), message));
    }
    let named = scenario.given.defects.iter().chain(variants().flat_map(|(_, variant)| &variant.defects));
    for defect in named.filter(|defect| !known.defects.contains(defect)) {
        let message = format!("there is no defect {defect:?}; there are {}", known.defects.join(", "));
        problems.push(problem(places.text(defect), message));
    }
    for (list, steps) in std::iter::once(("steps", &scenario.steps)).chain(variants().map(|(key, variant)| (key, &variant.steps)))
    {
        for (index, step) in steps.iter().enumerate() {
            problems.extend(of_step(step).into_iter().map(|message| problem(places.item(list, index), message)));
        }
    }
    for (list, expect) in
        std::iter::once(("expect", &scenario.expect)).chain(variants().map(|(key, variant)| (key, &variant.expect)))
    {
        for (index, expectation) in expect.iter().enumerate() {
            problems.extend(of_expectation(expectation).into_iter().map(|message| problem(places.item(list, index), message)));
        }
    }
    if scenario.broken.is_some() != scenario.mended.is_some() {
        let key = if scenario.broken.is_some() { "broken" } else { "mended" };
        let message = "a regression has two variants: broken, and mended (which may be {})".to_owned();
        problems.push(problem(places.key(key, 0), message));
    }
    if let Some(broken) = &scenario.broken {
        if broken.fails.is_empty() {
            let message = "tell in `fails` which expectation fails there, and what is said".to_owned();
            problems.push(problem(places.key("broken", 0), message));
        }
        for failing in broken.fails.iter().filter(|failing| duration(&failing.within).is_none()) {
            problems.push(problem(places.text(&failing.within), bad_duration(&failing.within)));
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

/// What is wrong with a step.
fn of_step(step: &Step) -> Vec<String> {
    let mut problems = Vec::new();
    match step.count() {
        1 => {}
        0 => problems.push("a step needs one of wait, fault, clearFault, clearFaults, delete, apply".to_owned()),
        _ => problems.push("a step has one key; write two steps".to_owned()),
    }
    if let Some(wait) = &step.wait {
        if duration(&wait.within).is_none() {
            problems.push(bad_duration(&wait.within));
        }
        let states = [
            wait.up.is_some(),
            wait.targets.is_some(),
            wait.query.is_some(),
            wait.notification.is_some(),
            wait.fault_spent.is_some(),
            wait.page.is_some(),
            wait.object.is_some(),
        ];
        if states.iter().filter(|set| **set).count() != 1 {
            problems.push("a wait needs one of up, targets, query, notification, faultSpent, page, object".to_owned());
        }
        problems.extend(of_notification(wait.notification.as_ref()));
    }
    if let Some(Err(error)) = step.fault.as_ref().map(faults::Rule::check) {
        problems.push(error.to_string());
    }
    if let Some(delete) = &step.delete
        && delete.name.is_some() == delete.labels.is_some()
    {
        problems.push("a delete needs a name or labels, and not both".to_owned());
    }
    problems
}

/// What is wrong with an expectation.
fn of_expectation(expectation: &Expectation) -> Vec<String> {
    let mut problems = Vec::new();
    if expectation.count() != 1 {
        let all = "query, targets, alerts, notification, rules, logs, why, page, object, contract";
        problems.push(format!("an expectation needs one of {all}"));
    }
    let times = expectation.within.iter().chain(&expectation.hold);
    problems.extend(times.filter(|time| duration(time).is_none()).map(|time| bad_duration(time)));
    if let Some(rules) = expectation.rules.as_ref().filter(|rules| rules.health != "ok") {
        problems.push(format!("a rule is expected to be ok, never {:?}", rules.health));
    }
    if let Some(alerts) = &expectation.alerts
        && !matches!(alerts.state.as_str(), "inactive" | "pending" | "firing" | "resolved")
    {
        problems.push(format!("an alert is inactive, pending, firing or resolved, never {:?}", alerts.state));
    }
    problems.extend(of_notification(expectation.notification.as_ref()));
    problems
}

fn of_notification(wanted: Option<&NotificationExpectation>) -> Option<String> {
    let status = wanted?.status.as_deref()?;
    (!matches!(status, "firing" | "resolved")).then(|| format!("a notification says firing or resolved, never {status:?}"))
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
        let known = Known { releases: &["v1.9.0"], defects: &["one".to_owned()], has_metric: &has_metric };
        match parse("s.yaml", text, &known) {
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
                "description: x\ngiven: {defects: [two]}\nsteps:\n  - wait: {up: true}\n",
                "s.yaml:2:19: there is no defect \"two\"; there are one",
            ),
            (
                "description: x\nsteps:\n  - wait: {up: true}\nbroken: {fails: [{expect: a, says: b}]}\n",
                "s.yaml:4:1: a regression has two variants",
            ),
            ("description: x\nsteps:\n  - wait: {up: true}\nbroken: {}\nmended: {}\n", "s.yaml:4:1: tell in `fails`"),
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
