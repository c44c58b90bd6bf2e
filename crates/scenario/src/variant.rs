//! Regressions: one scenario that must fail where the regression is, as it is told, and pass where it is mended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::{Expectation, Scenario, Step};
use crate::report::{Line, Report, Verdict};

/// What a scenario reproduces.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// Where it was reported and mended, such as `kubevirt#12096`.
    pub sources: Vec<String>,
    /// What people saw.
    pub symptom: String,
    /// Why it was so.
    pub cause: String,
}

/// What is otherwise in one of the two variants.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Variant {
    /// Another release of KubeVirt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubevirt: Option<String>,
    /// Defects of the simulated components.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub defects: Vec<String>,
    /// Steps after the common ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Expectations before the common ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
    /// Which expectations fail, and how; of the broken variant alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fails: Vec<Failing>,
}

fn a_moment() -> String {
    "1s".to_owned()
}

/// An expectation that is not met.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    /// A part of its line in the report.
    pub expect: String,
    /// A part of what the report says.
    pub says: String,
    /// How long it is looked at before it is said to fail; `1s` without it.
    #[serde(default = "a_moment")]
    pub within: String,
}

/// A scenario as it is run.
#[derive(Clone, Debug)]
pub struct Variation {
    /// `broken`, `mended`, or nothing for a scenario without variants.
    pub word: Option<&'static str>,
    /// The scenario with the variant in it.
    pub scenario: Scenario,
    /// What must fail.
    pub fails: Vec<Failing>,
}

impl Scenario {
    /// The scenario's variants; itself where it has none.
    pub fn variations(&self) -> Vec<Variation> {
        let variants = [("broken", &self.broken), ("mended", &self.mended)];
        let of = |(word, variant): (&'static str, &Option<Variant>)| {
            let variant = variant.as_ref()?;
            let mut scenario = self.clone();
            (scenario.broken, scenario.mended) = (None, None);
            if let Some(release) = &variant.kubevirt {
                scenario.given.kubevirt = vec![release.clone()];
            }
            scenario.given.defects.extend(variant.defects.iter().cloned());
            scenario.steps.extend(variant.steps.iter().cloned());
            scenario.expect.splice(0..0, variant.expect.iter().cloned());
            Some(Variation { word: Some(word), scenario, fails: variant.fails.clone() })
        };
        let found: Vec<Variation> = variants.into_iter().filter_map(of).collect();
        if found.is_empty() { vec![Variation { word: None, scenario: self.clone(), fails: Vec::new() }] } else { found }
    }
}

impl Variation {
    /// How long an expectation is waited for that is told to fail; nothing where it is to be met.
    pub(crate) fn patience(&self, line: &str) -> Option<&str> {
        self.fails.iter().find(|failing| line.contains(&failing.expect)).map(|failing| failing.within.as_str())
    }

    /// The report of a variant that must fail, turned round: what failed as it is told is as it should be.
    pub(crate) fn turned(&self, mut report: Report) -> Report {
        for failing in &self.fails {
            // A step that waits for the same is none of the expectations.
            let meant = |line: &&mut Line| line.what.contains(&failing.expect) && !line.what.starts_with("wait ");
            let Some(line) = report.lines.iter_mut().find(meant) else {
                let why = format!("no line of the report contains {:?}", failing.expect);
                let what = format!("{} fails", failing.expect);
                report.lines.push(Line { at: Default::default(), what, verdict: Verdict::Failed { why } });
                continue;
            };
            line.verdict = match &line.verdict {
                Verdict::Failed { why } if why.contains(&failing.says) => {
                    Verdict::Passed { seen: format!("fails, as it is to: {why}") }
                }
                Verdict::Failed { why } => {
                    Verdict::Failed { why: format!("it fails, but does not say {:?}: {why}", failing.says) }
                }
                Verdict::Passed { seen } => Verdict::Failed { why: format!("it holds, and the regression is not seen: {seen}") },
                skipped => skipped.clone(),
            };
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn scenario(text: &str) -> Scenario {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn a_variant_is_the_scenario_with_its_own_parts() {
        let scenario = scenario(
            "description: d\ngiven: {kubevirt: [a], defects: [x]}\nsteps: [{wait: {up: true}}]\nexpect: [{query: {expr: common}}]\n\
             broken: {kubevirt: b, defects: [y], steps: [{clearFaults: true}], expect: [{query: {expr: own}}], fails: [{expect: own, says: no}]}\n\
             mended: {}",
        );
        let variations = scenario.variations();
        let [broken, mended] = &variations[..] else { panic!("two variants") };
        assert_eq!((broken.word, mended.word), (Some("broken"), Some("mended")));
        assert_eq!((broken.scenario.given.kubevirt.clone(), broken.scenario.given.defects.len()), (vec!["b".to_owned()], 2));
        assert_eq!((broken.scenario.steps.len(), broken.scenario.expect.len()), (2, 2));
        assert_eq!(broken.scenario.expect[0].query.as_ref().unwrap().expr, "own");
        assert_eq!((mended.scenario.steps.len(), mended.scenario.expect.len(), mended.fails.len()), (1, 1, 0));
        assert_eq!((broken.patience("own = 1"), broken.patience("common")), (Some("1s"), None));
    }

    #[test]
    fn what_must_fail_must_fail_as_it_is_told() {
        let variation = |says: &str| {
            let text = format!("description: d\nsteps: []\nbroken: {{fails: [{{expect: it, says: {says}}}]}}");
            scenario(&text).variations().remove(0)
        };
        let report = |verdict: Verdict| Report {
            scenario: "s".to_owned(),
            release: "r".to_owned(),
            provider: "p".to_owned(),
            not_runnable: None,
            lines: vec![Line { at: Duration::ZERO, what: "it = 1".to_owned(), verdict }],
            snapshots: Vec::new(),
        };
        let failed = || report(Verdict::Failed { why: "no series".to_owned() });
        let passed = || report(Verdict::Passed { seen: "1".to_owned() });
        assert!(variation("no series").turned(failed()).passed());
        assert!(!variation("two series").turned(failed()).passed());
        assert!(!variation("no series").turned(passed()).passed());
        let mut other = failed();
        other.lines[0].what = "another".to_owned();
        assert!(!variation("no series").turned(other).passed());
    }
}
