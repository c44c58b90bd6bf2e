//! From text to a scenario in which nothing is left to be wrong. All problems of a file are reported, each with file, line and column.
//!
//! What is refused here can never be run: a step of two things, an expectation that holds whatever happens, a name that no release
//! has. What depends on a lab, such as a pod that is not there, fails when it is run.

mod checks;
mod names;
mod steps;

use std::collections::BTreeSet;

use crate::catalogue::{Catalogue, meant};
use crate::file::{ReleasesFile, ScenarioFile, SnapshotFile, VariantFile};
use crate::model::{Given, Placed, Releases, Scenario, SnapshotSpec};
use crate::place::{Located, Place, Problem};
use crate::releases::{fitting, same};
use crate::variant::{Failing, Variant, Variants};
use crate::word::{Meaning, Written};

/// How long an expectation that is to fail is looked at where nothing else is said.
const MOMENT: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads and checks a scenario.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(file: &str, text: &str, catalogue: &dyn Catalogue) -> Result<Scenario, Vec<Problem>> {
    let written: ScenarioFile = wire::yaml::strict(text).map_err(|error| {
        let at = error.at.map(|(line, column)| Place { line, column });
        let message = error.without_place().to_owned();
        vec![Problem { file: file.to_owned(), at, message }]
    })?;
    let mut resolver = Resolver::new(file, catalogue);
    let scenario = resolver.scenario(written);
    let mut problems = resolver.problems;
    problems.sort_by_key(|problem| problem.at);
    if problems.is_empty() { Ok(scenario) } else { Err(problems) }
}

/// What is known while a file is resolved.
struct Resolver<'a> {
    file: &'a str,
    catalogue: &'a dyn Catalogue,
    problems: Vec<Problem>,
    /// All releases that the scenario or a variant of it runs on.
    releases: Vec<String>,
    /// What its steps bring besides the release's own.
    brought: names::Brought,
    /// The faults that were armed by the steps so far.
    armed: BTreeSet<String>,
}

impl<'a> Resolver<'a> {
    fn new(file: &'a str, catalogue: &'a dyn Catalogue) -> Self {
        Self {
            file,
            catalogue,
            problems: Vec::new(),
            releases: Vec::new(),
            brought: names::Brought::default(),
            armed: BTreeSet::new(),
        }
    }

    fn problem(&mut self, at: Option<Place>, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.to_owned(), at, message: message.into() });
    }

    /// What a scalar means; nothing, and a problem, where it means nothing.
    fn read<T: Meaning>(&mut self, written: &Written<T>) -> Option<T> {
        written.read().map_err(|why| self.problem(written.at, why)).ok()
    }

    fn read_some<T: Meaning>(&mut self, written: Option<&Written<T>>) -> Option<T> {
        written.and_then(|written| self.read(written))
    }

    fn scenario(&mut self, written: ScenarioFile) -> Scenario {
        let ScenarioFile {
            description,
            given,
            steps,
            expect,
            snapshot,
            reconcile,
            regression,
            broken,
            mended,
            parity,
            survivors,
        } = written;
        if description.trim().is_empty() {
            self.problem(None, "the description is empty; write in a sentence what the scenario shows");
        }
        let kubevirt = self.releases_of(given.kubevirt.as_ref());
        let given = Given {
            kubevirt,
            fast_alerts: given.alerts.fast,
            stack: self.read_some(given.stack.as_ref()).unwrap_or_default(),
            defects: self.defects(&given.defects),
        };
        self.releases = given.kubevirt.all().to_vec();
        let variants_of_file = [&broken, &mended];
        for variant in variants_of_file.into_iter().flatten() {
            let release = variant.value.kubevirt.as_ref().and_then(|release| self.release(release));
            self.releases.extend(release);
        }
        let of_variants = variants_of_file.into_iter().flatten().flat_map(|variant| &variant.value.steps);
        let brought = names::Brought::by(steps.value.iter().chain(of_variants));
        self.brought = brought;
        if steps.value.is_empty() {
            self.problem(steps.at, "there are no steps; begin with `- wait: {up: true}`");
        }
        let checks_nothing = expect.is_empty() && snapshot.is_empty() && reconcile.is_none();
        let waits = steps.value.iter().any(|step| step.value.wait.is_some());
        if checks_nothing && !waits && broken.is_none() && !steps.value.is_empty() {
            self.problem(steps.at, "nothing is waited for or expected, so it can never fail; add `expect`, or a step `wait`");
        }
        let steps = self.steps(steps.value);
        let armed = self.armed.clone();
        let expect = self.expectations(expect, &given.kubevirt);
        let variants = self.variants(broken, mended, &armed);
        let snapshots = self.snapshots(snapshot, &given.kubevirt);
        let reconcile = reconcile.and_then(|reconcile| match reconcile.value {
            true => Some(Placed { at: reconcile.at, value: () }),
            false => {
                self.problem(reconcile.at, "`reconcile: false` checks nothing; leave it out");
                None
            }
        });
        let mut scenario = Scenario {
            description,
            given,
            steps,
            expect,
            snapshots,
            reconcile,
            regression,
            variants,
            parity: Vec::new(),
            survivors: Vec::new(),
        };
        let lines = scenario.lines();
        for declared in parity {
            let Located { at, value: declared } = declared;
            let on = self.read_some(declared.on.as_ref());
            for text in [&declared.differs, &declared.reason] {
                self.read(text);
            }
            if !lines.contains(&declared.differs.text) {
                let near = meant(&declared.differs.text, lines.iter().map(String::as_str));
                self.problem(at, format!("no line of the report is {:?}{near}", declared.differs.text));
            }
            scenario.parity.push(declared.into_declared(on));
        }
        for survivor in survivors {
            if survivor.value.reason.trim().is_empty() || survivor.value.mutant.trim().is_empty() {
                self.problem(survivor.at, "a survivor needs its mutant and the reason why the scenario holds with it");
            }
            scenario.survivors.push(survivor.value);
        }
        self.fails(&scenario);
        scenario
    }

    /// The releases that are given; the newest without any.
    fn releases_of(&mut self, given: Option<&Located<ReleasesFile>>) -> Releases {
        let known = self.catalogue.releases();
        let newest = || Releases::Each(known.first().cloned().into_iter().collect());
        let Some(given) = given else { return newest() };
        match &given.value {
            ReleasesFile::One(written) => fitting(written, &known).unwrap_or_else(|why| {
                self.problem(given.at, why);
                newest()
            }),
            ReleasesFile::Many(many) if many.is_empty() => {
                self.problem(given.at, "the list of releases is empty; name one, write `any`, or leave it out");
                newest()
            }
            ReleasesFile::Many(many) => {
                let mut each: Vec<String> = Vec::new();
                for written in many {
                    match known.iter().find(|release| same(release, written)) {
                        Some(release) if each.contains(release) => {
                            self.problem(given.at, format!("KubeVirt {release} is named twice"));
                        }
                        Some(release) => each.push(release.clone()),
                        None => {
                            let message = format!("KubeVirt {written} is not simulated; there are {}", known.join(", "));
                            self.problem(given.at, message);
                        }
                    }
                }
                Releases::Each(each)
            }
        }
    }

    /// One release by its name.
    fn release(&mut self, written: &Located<String>) -> Option<String> {
        let known = self.catalogue.releases();
        let found = known.iter().find(|release| same(release, &written.value)).cloned();
        if found.is_none() {
            let message = format!("KubeVirt {} is not simulated; there are {}", written.value, known.join(", "));
            self.problem(written.at, message);
        }
        found
    }

    fn defects(&mut self, written: &[Located<String>]) -> Vec<String> {
        let known = self.catalogue.defects();
        for defect in written.iter().filter(|defect| !known.contains(&defect.value)) {
            let message = format!("there is no defect {:?}; there are {}", defect.value, known.join(", "));
            self.problem(defect.at, message);
        }
        written.iter().map(|defect| defect.value.clone()).collect()
    }

    fn snapshots(&mut self, written: Vec<Located<SnapshotFile>>, releases: &Releases) -> Vec<Placed<SnapshotSpec>> {
        let mut snapshots: Vec<Placed<SnapshotSpec>> = Vec::new();
        for Located { at, value } in written {
            let (name, metrics) = (self.read(&value.name), self.read(&value.metrics));
            let (Some(name), Some(metrics)) = (name, metrics) else { continue };
            if snapshots.iter().any(|other| other.value.name == name.0) {
                self.problem(at, format!("there are two snapshots of the name {:?}", name.0));
            }
            if name.0.contains(['/', '\\']) || name.0.starts_with('.') {
                self.problem(at, format!("the name {:?} is no part of a file name", name.0));
            }
            for release in releases.all() {
                if let Err(why) = self.has_metric_like(release, &metrics.0) {
                    self.problem(at, why);
                }
            }
            let redaction = metrics::Redaction { metrics: metrics.0.clone(), labels: value.labels, values: value.values };
            match redaction.compile() {
                Ok(redactor) => {
                    snapshots.push(Placed { at, value: SnapshotSpec { name: name.0, metrics: metrics.0, redactor } });
                }
                Err(errors) => errors.into_iter().for_each(|error| self.problem(at, error.why)),
            }
        }
        snapshots
    }

    /// Whether a release has a metric that a regular expression matches whole.
    fn has_metric_like(&self, release: &str, metrics: &str) -> Result<(), String> {
        let expression = regex::Regex::new(&format!("^(?:{metrics})$"))
            .map_err(|error| format!("{metrics:?} is no regular expression: {error}"))?;
        let known = self.catalogue.metrics(release);
        if known.iter().any(|name| expression.is_match(name)) {
            return Ok(());
        }
        Err(format!("KubeVirt {release} has no metric {metrics:?}{}", meant(metrics, known.iter().map(String::as_str))))
    }

    fn variants(
        &mut self,
        broken: Option<Located<VariantFile>>,
        mended: Option<Located<VariantFile>>,
        armed: &BTreeSet<String>,
    ) -> Option<Variants> {
        match (broken, mended) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                self.problem(one.at, "a regression has two variants: broken, and mended (which may be {})");
                None
            }
            (Some(broken), Some(mended)) => {
                if broken.value.fails.is_empty() {
                    self.problem(broken.at, "write in `fails` which expectation fails there, and what the report says");
                }
                if !mended.value.fails.is_empty() {
                    self.problem(mended.at, "nothing fails where a regression is fixed; write `fails` below `broken`");
                }
                Some(Variants { broken: self.variant(broken, armed), mended: self.variant(mended, armed) })
            }
        }
    }

    fn variant(&mut self, written: Located<VariantFile>, armed: &BTreeSet<String>) -> Variant {
        let VariantFile { kubevirt, defects, steps, expect, fails } = written.value;
        self.armed.clone_from(armed);
        // A name that is not known was reported when the releases were gathered.
        let known = self.catalogue.releases();
        let kubevirt = kubevirt.and_then(|written| known.into_iter().find(|release| same(release, &written.value)));
        let defects = self.defects(&defects);
        let steps = self.steps(steps);
        let releases = kubevirt.clone().map_or_else(|| Releases::Each(self.releases.clone()), |one| Releases::Each(vec![one]));
        let expect = self.expectations(expect, &releases);
        let mut failing = Vec::new();
        for Located { at, value } in fails {
            let (expect, says) = (self.read(&value.expect), self.read(&value.says));
            let within = self.read_some(value.within.as_ref());
            if let (Some(expect), Some(says)) = (expect, says) {
                failing.push(Placed { at, value: Failing { expect: expect.0, says: says.0, within: within.unwrap_or(MOMENT) } });
            }
        }
        Variant { kubevirt, defects, steps, expect, fails: failing }
    }

    /// Checks that what must fail is expected at all.
    fn fails(&mut self, scenario: &Scenario) {
        let Some(variants) = &scenario.variants else { return };
        let expected = variants.broken.expect.iter().chain(&scenario.expect);
        let lines: Vec<String> = expected.map(|expectation| expectation.value.check.describe()).collect();
        for failing in &variants.broken.fails {
            let wanted = &failing.value.expect;
            if !lines.iter().any(|line| line.contains(wanted)) {
                let message = format!("no expectation's line contains {wanted:?}; the lines are {}", lines.join("; "));
                self.problem(failing.at, message);
            }
        }
    }
}

impl Scenario {
    /// The lines that a report of it may have, but for those of snapshots that are not compared.
    fn lines(&self) -> Vec<String> {
        let variants = self.variants.iter().flat_map(|variants| [&variants.broken, &variants.mended]);
        let steps = self.steps.iter().chain(variants.clone().flat_map(|variant| &variant.steps));
        let expect = self.expect.iter().chain(variants.flat_map(|variant| &variant.expect));
        let mut lines: Vec<String> = steps.map(|step| step.value.describe()).collect();
        lines.extend(expect.map(|expectation| expectation.value.check.describe()));
        lines.extend(self.snapshots.iter().map(|snapshot| format!("snapshot {}", snapshot.value.name)));
        lines.extend(self.reconcile.iter().map(|_| crate::run::RECONCILE.to_owned()));
        lines
    }
}

#[cfg(test)]
pub(crate) mod tests;
