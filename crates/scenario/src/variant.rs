//! Regressions: one scenario that must fail where the regression is, as `fails` says, and pass where it is fixed.

use std::time::Duration;

use crate::model::{Check, Expectation, Placed, Releases, Scenario, Step};
use crate::report::{Line, Outcome, Report};

/// The two variants of a regression.
#[derive(Clone, Debug)]
pub struct Variants {
    /// Where the regression is.
    pub broken: Variant,
    /// Where it is fixed.
    pub mended: Variant,
}

/// What is otherwise in one of the two variants.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Another release of KubeVirt.
    pub kubevirt: Option<String>,
    /// Defects of the simulated components.
    pub defects: Vec<String>,
    /// Steps after the common ones.
    pub steps: Vec<Placed<Step>>,
    /// Expectations before the common ones.
    pub expect: Vec<Placed<Expectation>>,
    /// Which expectations fail, and how; of the broken variant alone.
    pub fails: Vec<Placed<Failing>>,
}

/// An expectation that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// A part of its line in the report.
    pub expect: String,
    /// A part of what the report says.
    pub says: String,
    /// How long it is looked at before it is said to fail.
    pub within: Duration,
}

/// A scenario as it is run.
#[derive(Clone, Debug)]
pub struct Variation {
    /// `broken`, `mended`, or nothing for a scenario without variants.
    pub word: Option<&'static str>,
    /// The scenario with the variant in it.
    pub scenario: Scenario,
    /// What must fail.
    pub fails: Vec<Placed<Failing>>,
}

impl Scenario {
    /// The scenario's variants; itself where it has none.
    pub fn variations(&self) -> Vec<Variation> {
        let Some(variants) = &self.variants else {
            return vec![Variation { word: None, scenario: self.clone(), fails: Vec::new() }];
        };
        let of = |(word, variant): (&'static str, &Variant)| {
            let mut scenario = self.clone();
            scenario.variants = None;
            if let Some(release) = &variant.kubevirt {
                scenario.given.kubevirt = Releases::Each(vec![release.clone()]);
            }
            scenario.given.defects.extend(variant.defects.iter().cloned());
            scenario.steps.extend(variant.steps.iter().cloned());
            scenario.expect.splice(0..0, variant.expect.iter().cloned());
            Variation { word: Some(word), scenario, fails: variant.fails.clone() }
        };
        [("broken", &variants.broken), ("mended", &variants.mended)].map(of).to_vec()
    }
}

impl Variation {
    /// How long an expectation is waited for that must fail; nothing where it is to be met.
    pub(crate) fn patience(&self, check: &Check) -> Option<Duration> {
        let line = check.describe();
        self.fails.iter().find(|failing| line.contains(&failing.value.expect)).map(|failing| failing.value.within)
    }

    /// The report of a variant that must fail, turned round: what failed as `fails` says is as it should be.
    pub(crate) fn turned(&self, mut report: Report) -> Report {
        for Placed { at, value: failing } in &self.fails {
            // A step that waits for the same is none of the expectations.
            let meant = |line: &&mut Line| line.what.contains(&failing.expect) && !line.what.starts_with("wait ");
            let Some(line) = report.lines.iter_mut().find(meant) else {
                let why = format!("no line of the report contains {:?}", failing.expect);
                let what = format!("{} fails", failing.expect);
                report.lines.push(Line { place: *at, ..Line::new(what, Outcome::Failed { why }) });
                continue;
            };
            line.outcome = match &line.outcome {
                Outcome::Failed { why } if why.contains(&failing.says) => {
                    Outcome::Passed { seen: format!("fails, as it should: {why}"), otherwise: None }
                }
                Outcome::Failed { why } => {
                    Outcome::Failed { why: format!("it fails, but does not say {:?}: {why}", failing.says) }
                }
                Outcome::Passed { seen, .. } => {
                    Outcome::Failed { why: format!("it holds, and the regression is not seen: {seen}") }
                }
                Outcome::Unchecked { why } => {
                    Outcome::Failed { why: format!("it was not checked, so the regression is not seen: {why}") }
                }
            };
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Ending;
    use crate::resolve::tests::scenario;

    #[test]
    fn a_variant_is_the_scenario_with_its_own_parts() {
        let scenario = scenario(
            "description: d\ngiven: {kubevirt: [v1.9.0], defects: [one]}\nsteps: [{wait: {up: true}}]\nexpect: [{query: {expr: common}}]\n\
             broken: {kubevirt: v1.8.0, defects: [two], steps: [{wait: {targets: true}}], expect: [{query: {expr: own}}], \
             fails: [{expect: own, says: no}]}\nmended: {}",
        );
        let variations = scenario.variations();
        let [broken, mended] = &variations[..] else { panic!("two variants") };
        assert_eq!((broken.word, mended.word), (Some("broken"), Some("mended")));
        assert_eq!(broken.scenario.given.kubevirt.all(), ["v1.8.0"]);
        assert_eq!(broken.scenario.given.defects, ["one", "two"]);
        assert_eq!((broken.scenario.steps.len(), broken.scenario.expect.len()), (2, 2));
        let first = &broken.scenario.expect[0].value.check;
        assert_eq!(first.describe(), "own");
        assert_eq!((mended.scenario.steps.len(), mended.scenario.expect.len(), mended.fails.len()), (1, 1, 0));
        let common = &broken.scenario.expect[1].value.check;
        assert_eq!((broken.patience(first), broken.patience(common)), (Some(Duration::from_secs(1)), None));
    }

    #[test]
    fn what_must_fail_must_fail_as_it_says() {
        let variation = |says: &str| {
            let text = format!(
                "description: d\nsteps: [{{wait: {{up: true}}}}]\nexpect: [{{query: {{expr: it, equals: 1}}}}]\n\
                 broken: {{fails: [{{expect: it, says: {says}}}]}}\nmended: {{}}"
            );
            scenario(&text).variations().remove(0)
        };
        let report = |outcome: Outcome| Report {
            lines: vec![Line::new("it = 1".to_owned(), outcome)],
            ..Report::new("s", "r", "p", Ending::Completed)
        };
        let failed = || report(Outcome::Failed { why: "no series".to_owned() });
        let passed = || report(Outcome::Passed { seen: "1".to_owned(), otherwise: None });
        let unchecked = || report(Outcome::Unchecked { why: "unknown".to_owned() });
        assert!(variation("no series").turned(failed()).passed());
        assert!(!variation("two series").turned(failed()).passed());
        assert!(!variation("no series").turned(passed()).passed());
        assert!(!variation("no series").turned(unchecked()).passed());
        let mut other = failed();
        other.lines[0].what = "another".to_owned();
        assert!(!variation("no series").turned(other).passed());
    }
}
