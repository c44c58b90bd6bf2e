//! Running a checked scenario against a lab.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::Normaliser;
use wire::counted;

use crate::catalogue;
use crate::lab::{Lab, LabError};
use crate::look::{Held, Look, Session, eventually};
use crate::model::{Check, Expectation, Placed, SnapshotSpec, State, Step, Wait};
use crate::needs::{self, Need};
use crate::place::Place;
use crate::reconcile::{self, Cause, Counter, Reconciliation};
use crate::report::{Ending, Line, Outcome, Report, SnapshotState, SnapshotText};
use crate::variant::Variation;

/// How long a state may take without a time of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A snapshot is taken when so many looks in a row, a scrape apart, show the same.
const STEADY: usize = 3;
/// Longer than a scrape interval of the lab.
const SCRAPE: Duration = Duration::from_millis(1_100);
/// The line of a report that compares ledger and counters.
pub(crate) const RECONCILE: &str = "the ledger equals the counters, for every code";

/// Runs a variant of a scenario on one release. A step that fails ends the run; every expectation is looked at. The report of a variant
/// that must fail is turned round.
///
/// `progress` is called with each line when it is known, in the order of the report, and before anything is turned round.
pub async fn run(to_run: ToRun<'_>, lab: &dyn Lab, progress: &(dyn Fn(&Line) + Sync)) -> Report {
    run_as(to_run, lab, progress, &Mode::Plain).await
}

/// Runs a scenario, and looks at the mutants of each expectation right after it held; those that hold, too, are survivors.
pub async fn probe(to_run: ToRun<'_>, lab: &dyn Lab, progress: &(dyn Fn(&Line) + Sync)) -> (Report, Vec<Probed>) {
    let probed = Mutex::default();
    let report = run_as(to_run, lab, progress, &Mode::Probing(&probed)).await;
    (report, probed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs a mutant: what does not hold soon is not waited for, and the first failure ends the run.
pub async fn run_mutant(to_run: ToRun<'_>, lab: &dyn Lab, progress: &(dyn Fn(&Line) + Sync)) -> Report {
    run_as(to_run, lab, progress, &Mode::Mutant).await
}

/// A mutant that was looked at in place.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The line of the report whose expectation was changed.
    pub line: String,
    /// Where the file has it.
    pub at: Option<Place>,
    /// What was changed.
    pub what: String,
    /// What was seen if it held all the same.
    pub survived: Option<String>,
}

/// What a run is for.
enum Mode<'a> {
    /// To see whether the scenario holds.
    Plain,
    /// To see whether mutants of its expectations do, too.
    Probing(&'a Mutex<Vec<Probed>>),
    /// To see whether a mutant fails.
    Mutant,
}

/// How long a mutant of an expectation is looked at: longer than a scrape and an evaluation of the lab take.
const PROBE: Duration = Duration::from_secs(2);
/// How long a mutant of a scenario waits for a state, and for an expectation.
const MUTANT_WAITS: Duration = Duration::from_secs(15);
const MUTANT_EXPECTS: Duration = Duration::from_secs(8);

async fn run_as(to_run: ToRun<'_>, lab: &dyn Lab, progress: &(dyn Fn(&Line) + Sync), mode: &Mode<'_>) -> Report {
    let ToRun { name, release, provider, variation } = to_run;
    let run = Run { variation, lab, session: Session::new(lab), start: lab.now(), progress, mode };
    let report = run.report(Report::new(name, release, provider, Ending::Completed)).await;
    match report.ending {
        Ending::Completed => variation.turned(report),
        Ending::NotRunnable { .. } | Ending::LabFailed { .. } | Ending::Interrupted => report,
    }
}

/// Why a scenario cannot be run on a lab, if it cannot.
pub fn not_runnable(variation: &Variation, lacks: &[Need]) -> Option<String> {
    let needs = variation.scenario.needs();
    let lacking: Vec<&str> =
        needs.into_iter().filter(|need| need.is_essential() && lacks.contains(need)).map(Need::words).collect();
    (!lacking.is_empty()).then(|| format!("it needs {}", lacking.join(" and ")))
}

/// What is run, and what its report says of it.
#[derive(Clone, Copy)]
pub struct ToRun<'a> {
    /// The scenario's name, with its variant's word.
    pub name: &'a str,
    /// The release of KubeVirt.
    pub release: &'a str,
    /// What it runs on.
    pub provider: &'a str,
    /// The scenario, or a variant of it.
    pub variation: &'a Variation,
}

struct Run<'a> {
    mode: &'a Mode<'a>,
    progress: &'a (dyn Fn(&Line) + Sync),
    variation: &'a Variation,
    lab: &'a dyn Lab,
    session: Session<'a>,
    start: Duration,
}

/// What a line came to.
fn outcome(seen: Look) -> Outcome {
    match seen {
        Ok(Held::There(seen)) => Outcome::Passed { seen, otherwise: None },
        Ok(Held::Absent { seen, otherwise }) => Outcome::Passed { seen, otherwise: Some(otherwise) },
        Err(why) => Outcome::Failed { why },
    }
}

impl Run<'_> {
    fn line(&self, began: Duration, place: Option<Place>, what: String, outcome: Outcome) -> Line {
        let now = self.lab.now();
        let line = Line { at: now.saturating_sub(self.start), took: now.saturating_sub(began), place, what, outcome };
        (self.progress)(&line);
        line
    }

    /// Why what has a need is not looked at here, if the lab lacks it.
    fn lacking(&self, need: Need) -> Option<String> {
        let why = || format!("this provider has no {}", need.words().trim_start_matches("a "));
        self.lab.lacks().contains(&need).then(why)
    }

    /// Why something that is expected is not looked at here, if it is not.
    fn unchecked(&self, check: &Check) -> Option<String> {
        self.lacking(needs::of_check(check)?)
    }

    async fn report(&self, mut report: Report) -> Report {
        let scenario = &self.variation.scenario;
        if let Some(why) = not_runnable(self.variation, self.lab.lacks()) {
            report.ending = Ending::NotRunnable { why };
            return report;
        }
        let before = self.lab.restarts().await;
        for Placed { at, value: step } in &scenario.steps {
            let began = self.lab.now();
            let (what, outcome) = self.step(step).await;
            let failed = matches!(outcome, Outcome::Failed { .. });
            if let (Outcome::Passed { .. }, Step::Wait(Wait { state: State::Holds(check), .. })) = (&outcome, step) {
                self.probe(*at, &what, check).await;
            }
            report.lines.push(self.line(began, *at, what, outcome));
            if failed {
                return report;
            }
        }
        for Placed { at, value: expectation } in &scenario.expect {
            if !expectation.only.is_empty() && !expectation.only.contains(&report.release) {
                continue;
            }
            let began = self.lab.now();
            let what = expectation.check.describe();
            let outcome = match self.unchecked(&expectation.check) {
                Some(why) => Outcome::Unchecked { why },
                None => outcome(self.expect(expectation).await),
            };
            let failed = matches!(outcome, Outcome::Failed { .. });
            if matches!(outcome, Outcome::Passed { .. }) {
                self.probe(*at, &what, &expectation.check).await;
            }
            report.lines.push(self.line(began, *at, what, outcome));
            if failed && matches!(self.mode, Mode::Mutant) && self.variation.fails.is_empty() {
                return report;
            }
        }
        self.unmet_faults(&mut report).await;
        if let Some(reconcile) = &scenario.reconcile {
            let began = self.lab.now();
            let outcome = match self.lacking(Need::Ledger) {
                Some(why) => Outcome::Unchecked { why },
                None => outcome(self.reconcile().await.map(Held::There)),
            };
            report.lines.push(self.line(began, reconcile.at, RECONCILE.to_owned(), outcome));
        }
        self.snapshots(&mut report).await;
        match (before, self.lab.restarts().await) {
            (Ok(before), Ok(after)) => {
                for (container, count) in after {
                    let more = count.saturating_sub(before.get(&container).copied().unwrap_or_default());
                    if more > 0 {
                        let times = if more == 1 { "once".to_owned() } else { format!("{more} times") };
                        report.notes.push(format!("{container} restarted {times}, and no step asked for it"));
                    }
                }
            }
            (Err(error), _) | (_, Err(error)) => report.notes.push(format!("restarts were not counted: {error}")),
        }
        report
    }

    /// Looks at the mutants of what has just held.
    async fn probe(&self, at: Option<Place>, line: &str, check: &Check) {
        let Mode::Probing(probed) = self.mode else { return };
        let looks = check.mutants().into_iter().map(|mutant| async move {
            let seen = eventually(self.lab, PROBE, || self.session.look(&mutant.check)).await;
            let survived = seen.ok().map(|held| match held {
                Held::There(seen) => seen,
                Held::Absent { seen, otherwise } => format!("{seen}\n({otherwise})"),
            });
            Probed { line: line.to_owned(), at, what: mutant.what, survived }
        });
        let found = futures_util::future::join_all(looks).await;
        probed.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
    }

    /// A fault that decided over nothing shows nothing: each one that is still armed must have met a request.
    async fn unmet_faults(&self, report: &mut Report) {
        let armed: Vec<(&Option<Place>, &faults::Rule)> = self
            .variation
            .scenario
            .steps
            .iter()
            .filter_map(|step| if let Step::Fault(rule) = &step.value { Some((&step.at, &**rule)) } else { None })
            .collect();
        if armed.is_empty() {
            return;
        }
        let began = self.lab.now();
        match self.lab.faults().await {
            Err(error) => report.lines.push(self.line(
                began,
                None,
                "every fault met a request".to_owned(),
                Outcome::Failed { why: error.to_string() },
            )),
            Ok(uses) => {
                for (place, rule) in armed {
                    let Some((_, hits, _)) = uses.iter().find(|(name, ..)| *name == rule.name) else { continue };
                    if *hits == 0 {
                        let why = "it decided over no request, so what was expected would be so without it".to_owned();
                        let what = format!("fault {:?} met a request", rule.name);
                        report.lines.push(self.line(began, *place, what, Outcome::Failed { why }));
                    }
                }
            }
        }
    }

    async fn step(&self, step: &Step) -> (String, Outcome) {
        let what = step.describe();
        if let Step::Wait(Wait { state: State::Holds(check), .. }) = step
            && let Some(why) = self.unchecked(check)
        {
            return (what, Outcome::Unchecked { why });
        }
        let seen = self.act(step).await;
        (what, outcome(seen))
    }

    async fn act(&self, step: &Step) -> Look {
        let lab = self.lab;
        let done = |result: Result<String, LabError>| result.map(Held::There).map_err(|error| error.to_string());
        match step {
            Step::Wait(wait) => return self.wait(wait).await,
            Step::Fault(rule) => {
                self.session.acted();
                done(lab.arm((**rule).clone()).await.map(|()| String::new()))
            }
            Step::Delete(delete) => {
                self.session.acted();
                let delete = crate::model::Delete { namespace: catalogue::fill(&delete.namespace, lab), ..delete.clone() };
                done(lab.delete(&delete).await.and_then(|count| match count {
                    0 => Err(LabError("nothing matched".to_owned())),
                    count => Ok(format!("{count} deleted")),
                }))
            }
            Step::Apply(object) => {
                self.session.acted();
                let filled = serde_json::from_str(&catalogue::fill(&object.to_string(), lab));
                let object = filled.map_err(|error| format!("it is no object with the release's words in it: {error}"))?;
                done(lab.apply(object).await.map(|()| String::new()))
            }
            Step::ClearFault(name) => {
                let met = self.met(|fault| fault == name).await?;
                self.session.acted();
                done(lab.clear_faults(Some(name)).await.and_then(|count| match count {
                    0 => Err(LabError("no such fault is armed".to_owned())),
                    _ => Ok(met),
                }))
            }
            Step::ClearFaults => {
                let met = self.met(|_| true).await?;
                self.session.acted();
                done(lab.clear_faults(None).await.map(|_| met))
            }
        }
    }

    /// How many requests faults met that are about to be cleared.
    ///
    /// # Errors
    /// When one met none: then nothing shows that it did anything.
    async fn met(&self, is_meant: impl Fn(&str) -> bool) -> Result<String, String> {
        let uses = self.lab.faults().await.map_err(|error| error.to_string())?;
        let meant: Vec<_> = uses.iter().filter(|(name, ..)| is_meant(name)).collect();
        if let Some((name, ..)) = meant.iter().find(|(_, hits, _)| *hits == 0) {
            return Err(format!("fault {name:?} decided over no request"));
        }
        let words: Vec<String> =
            meant.iter().map(|(name, hits, _)| format!("{name:?} met {}", counted(*hits as usize, "request"))).collect();
        Ok(words.join(", "))
    }

    async fn wait(&self, wait: &Wait) -> Look {
        let (lab, session) = (self.lab, &self.session);
        let within = wait.within.unwrap_or(PATIENCE);
        let within = match (self.mode, &wait.state) {
            (Mode::Plain | Mode::Probing(_), _) | (Mode::Mutant, State::Up) => within,
            (Mode::Mutant, State::Holds(_) | State::FaultSpent(_)) => within.min(MUTANT_WAITS),
        };
        match &wait.state {
            State::Holds(check) => eventually(lab, within, || session.look(check)).await,
            State::FaultSpent(name) => {
                let look = || async move {
                    let faults = lab.faults().await.map_err(|error| error.to_string())?;
                    match faults.iter().find(|(fault, ..)| fault == name) {
                        Some((_, hits, Some(budget))) if hits >= budget => Ok(Held::There(format!("{hits} of {budget}"))),
                        Some((_, hits, Some(budget))) => Err(format!("fault {name:?} decided {hits} of {budget}")),
                        Some((_, hits, None)) => Err(format!("fault {name:?} has no budget to spend; it decided {hits}")),
                        None => Err(format!("no fault {name:?} is armed")),
                    }
                };
                let seen = eventually(lab, within, look).await;
                match (self.mode, seen) {
                    // Twice a budget may find fewer requests; what is expected is looked at all the same.
                    (Mode::Mutant, Err(unspent)) => Ok(Held::There(unspent)),
                    (Mode::Plain | Mode::Probing(_) | Mode::Mutant, seen) => seen,
                }
            }
            State::Up => {
                let look = || async move {
                    let missing = lab.missing().await.map_err(|error| error.to_string())?;
                    if missing.is_empty() { Ok(Held::There(String::new())) } else { Err(missing.join(", ")) }
                };
                eventually(lab, within, look).await
            }
        }
    }

    async fn expect(&self, expectation: &Expectation) -> Look {
        let (lab, session) = (self.lab, &self.session);
        let check = &expectation.check;
        let within = self.variation.patience(check).or(expectation.within).unwrap_or(PATIENCE);
        let within = match self.mode {
            Mode::Plain | Mode::Probing(_) => within,
            Mode::Mutant => within.min(MUTANT_EXPECTS),
        };
        let mut patience = crate::look::Patience::new(lab, within);
        loop {
            let seen = eventually(lab, within, || session.look(check)).await?;
            let Some(hold) = expectation.hold else { return Ok(seen) };
            match self.hold(check, hold, seen).await {
                Ok(seen) => return Ok(seen),
                // While a target is not scraped its series are missing, and what is seen says nothing of the scenario.
                Err(_) if !patience.is_over() && self.misses_a_target().await => {}
                Err(broke) => return Err(format!("it did not hold for {} s: {broke}", hold.as_secs_f64())),
            }
        }
    }

    /// Looks again and again for a time; what was seen last.
    ///
    /// # Errors
    /// What was seen when it did not hold any more.
    async fn hold(&self, check: &Check, hold: Duration, mut seen: Held) -> Look {
        let end = self.lab.now() + hold.mul_f64(self.lab.patience());
        while self.lab.now() < end {
            self.lab.pause(crate::look::EVERY).await;
            seen = self.session.look(check).await?;
        }
        Ok(seen)
    }

    /// Whether a target is down, or was not scraped yet.
    async fn misses_a_target(&self) -> bool {
        self.lab.targets().await.is_ok_and(|targets| targets.iter().any(|target| target.health != "up"))
    }

    /// Compares in a moment in which nothing is under way, as long as there is hope for one; then every difference needs a name.
    async fn reconcile(&self) -> Result<String, String> {
        let lab = self.lab;
        let metric = lab.requests_metric();
        let (metric, hookless) = (metric.as_str(), lab.hookless());
        let compare = || async {
            let reading = lab.reading().await.map_err(|error| error.to_string())?;
            let entries = lab.entries().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(reconcile::explain(Counter::of_component(metric), &[], &hookless, (None, &reading), &entries))
        };
        let look = || async {
            let found = compare().await?;
            let quiet = found.rows.iter().all(|row| row.causes.iter().all(|(cause, _)| *cause != Cause::InFlight));
            match quiet {
                true => explained(&found).map(Held::There),
                false => Err("requests came while the counters were read".to_owned()),
            }
        };
        match eventually(lab, Duration::from_secs(30), look).await {
            Ok(Held::There(seen) | Held::Absent { seen, .. }) => Ok(seen),
            Err(_) => explained(&compare().await?),
        }
    }

    async fn snapshots(&self, report: &mut Report) {
        let specs = &self.variation.scenario.snapshots;
        if specs.is_empty() {
            return;
        }
        let began = self.lab.now();
        match take_snapshots(specs, self.lab).await {
            Ok(Settled { texts, down }) => {
                for (Placed { at, value: spec }, text) in specs.iter().zip(texts) {
                    let mut seen = format!("{} lines", text.lines().count());
                    if !down.is_empty() {
                        seen = format!("{seen}, without the series of what is down: {}", down.join(", "));
                    }
                    let outcome = Outcome::Passed { seen, otherwise: None };
                    report.lines.push(self.line(began, *at, format!("snapshot {}", spec.name), outcome));
                    let (name, state) = (spec.name.clone(), SnapshotState::Taken);
                    report.snapshots.push(SnapshotText { name, text, place: *at, file: None, state });
                }
            }
            Err(why) => {
                report.lines.push(self.line(began, specs[0].at, "snapshots".to_owned(), Outcome::Failed { why }));
            }
        }
    }
}

/// A reconciliation in words; an error where a difference has no name, or nothing was counted at all.
fn explained(found: &Reconciliation) -> Result<String, String> {
    let text = found.to_string();
    if found.is_explained() && found.requests > 0.0 { Ok(text) } else { Err(text) }
}

/// What snapshots show, and of which moment.
struct Settled {
    /// One text a snapshot.
    texts: Vec<String>,
    /// The targets that were down all the time, so that their series are in no text.
    down: Vec<String>,
}

/// Takes all snapshots of one moment in which none of them changes any more. Every target is up in that moment, unless one stays down
/// as long as there is patience.
async fn take_snapshots(specs: &[Placed<SnapshotSpec>], lab: &dyn Lab) -> Result<Settled, String> {
    let normal = |spec: &SnapshotSpec| Normaliser::new(spec.redactor.clone(), metrics::Names::default());
    let normal: Vec<Normaliser> = specs.iter().map(|spec| normal(&spec.value)).collect();
    let mut patience = crate::look::Patience::new(lab, PATIENCE);
    let (mut last, mut same) = (Vec::new(), 0);
    loop {
        let mut texts = Vec::new();
        for (Placed { value: spec, .. }, normal) in specs.iter().zip(&normal) {
            let expression = format!("{{__name__=~{:?},service=\"kubevirt-prometheus-metrics\"}}", spec.metrics);
            let samples = lab.query(expression).await.map_err(|error| error.to_string())?;
            texts.push(normal.snapshot(&samples));
        }
        let targets = lab.targets().await.map_err(|error| error.to_string())?;
        let down: Vec<String> =
            targets.iter().filter(|target| target.health != "up").map(|target| target.scrape_url.clone()).collect();
        let empty = specs.iter().zip(&texts).find(|(_, text)| text.is_empty()).map(|(spec, _)| spec.value.name.clone());
        same = if texts == last && empty.is_none() { same + 1 } else { 1 };
        last = texts;
        if same >= STEADY && down.is_empty() {
            return Ok(Settled { texts: last, down });
        }
        if patience.is_over() {
            return match empty {
                Some(name) => Err(format!("snapshot {name:?} has no series within {} s", PATIENCE.as_secs())),
                None if same >= STEADY => Ok(Settled { texts: last, down }),
                None => Err(format!("the series did not settle within {} s", PATIENCE.as_secs())),
            };
        }
        lab.pause(SCRAPE).await;
    }
}

#[cfg(test)]
mod tests;
