//! `lab scenario mutate`: what a scenario does not notice.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use futures_util::StreamExt as _;
use scenario::{Place, Verdict, mutate};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use wire::counted;

use super::{Files, Running};
use crate::commands::Output;
use crate::exit::{Exit, Failure};
use crate::scenarios::{self, Job, Loaded};
use crate::tools;

#[derive(Args)]
pub(crate) struct Mutate {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    running: Running,
    /// Only so many of the runs, evenly chosen; for a sample in CI.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// With which of the runs the sample begins.
    #[arg(long, value_name = "K", default_value_t = 0, requires = "sample")]
    from: u32,
    /// Run so many labs at once; by default two for each processor.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
}

/// A run that has to be made: a scenario with the mutants of its expectations, or one mutant of what it does.
enum Task {
    Probe(Job),
    Rerun { job: Job, what: String, at: Option<Place> },
}

/// A mutant and what became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mutant {
    scenario: String,
    release: String,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Place>,
    /// The line of the report, and what was changed of it.
    mutant: String,
    /// What was seen, where the scenario passed all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    survived: Option<String>,
    /// Why that is right, as the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What came of all runs.
#[derive(Default)]
struct Found {
    mutants: Vec<Mutant>,
    /// Runs that show nothing, each with the reason.
    unusable: Vec<String>,
}

impl Mutate {
    pub(super) async fn run(self) -> Result<Exit> {
        let (interrupted, ended_by) = super::run::interruption()?;
        let (loaded, only) = self.running.begin(&self.files)?;
        let mut tasks: Vec<(usize, Task)> = Vec::new();
        for (index, loaded) in loaded.iter().enumerate() {
            let jobs = loaded.jobs_on(|variation| super::ground::releases(&[], only.as_deref(), variation));
            for job in jobs {
                for mutate::Rerun { what, at, variation } in mutate::reruns(&job.variation) {
                    tasks.push((index, Task::Rerun { job: Job { variation, ..job.clone() }, what, at }));
                }
                tasks.push((index, Task::Probe(job)));
            }
        }
        let all = tasks.len();
        if let Some(sample) = self.sample {
            let step = all.div_ceil(sample as usize).max(1);
            let from = self.from as usize % step;
            tasks = tasks.into_iter().skip(from).step_by(step).collect();
        }
        if tasks.is_empty() {
            bail!(Failure::new(Exit::Usage, "there is nothing to change").hint("`scenario list` shows the releases of each"));
        }
        let prometheus = self.running.prometheus().await?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = self.jobs.map_or(processors * 2, |jobs| jobs as usize);
        let count = tasks.len();
        let (prometheus, token) = (&prometheus, &interrupted);
        let runs = tasks.iter().map(|(index, task)| async move { (*index, one(task, prometheus, token).await) });
        let mut runs = futures_util::stream::iter(runs).buffer_unordered(at_once);
        let mut found = Found::default();
        let mut done = 0;
        while let Some((index, of_one)) = runs.next().await {
            done += 1;
            let of_one = of_one.unwrap_or_else(|error| Found { unusable: vec![format!("{error:#}")], ..Found::default() });
            for mut mutant in of_one.mutants {
                if mutant.survived.is_some() {
                    let survivors = &loaded[index].scenario.survivors;
                    let named = survivors.iter().find(|survivor| faults::glob(&survivor.mutant, &mutant.mutant));
                    mutant.reason = named.map(|survivor| survivor.reason.clone());
                    if self.running.output == Output::Text && mutant.reason.is_none() {
                        show(&mutant);
                    }
                }
                found.mutants.push(mutant);
            }
            for why in of_one.unusable {
                eprintln!("{}: {why}", loaded[index].path.display());
                found.unusable.push(why);
            }
            if done % 20 == 0 {
                eprintln!("{done} of {count} runs");
            }
        }
        drop(runs);
        if interrupted.is_cancelled() {
            return Ok(ended_by.await?);
        }
        ended_by.abort();
        self.end(&found, &loaded, count, all)
    }

    fn end(&self, found: &Found, loaded: &[Loaded], count: usize, all: usize) -> Result<Exit> {
        let explained = found.mutants.iter().filter(|mutant| mutant.survived.is_some() && mutant.reason.is_some()).count();
        let unexplained = found.mutants.iter().filter(|mutant| mutant.survived.is_some() && mutant.reason.is_none()).count();
        // A reason for what does not survive any more hides the next one; a sample cannot tell.
        let whole = count == all && self.running.kubevirt.is_none() && found.unusable.is_empty();
        let mut stale = 0;
        for loaded in loaded.iter().filter(|_| whole) {
            let survived: BTreeSet<&str> = found
                .mutants
                .iter()
                .filter(|mutant| mutant.survived.is_some() && mutant.file == loaded.path)
                .map(|mutant| mutant.mutant.as_str())
                .collect();
            for survivor in &loaded.scenario.survivors {
                if !survived.iter().any(|mutant| faults::glob(&survivor.mutant, mutant)) {
                    stale += 1;
                    eprintln!("{}: no mutant survives as {:?}; remove it", loaded.path.display(), survivor.mutant);
                }
            }
        }
        if !self.running.output.json(&found.mutants) {
            say!(
                "{}: {} killed, {explained} survived for a written reason, {unexplained} survived ({count} of {})",
                counted(found.mutants.len(), "mutant"),
                found.mutants.len() - explained - unexplained,
                counted(all, "run"),
            );
        }
        if !found.unusable.is_empty() {
            eprintln!("{} without a result: the scenario did not pass unchanged", counted(found.unusable.len(), "run"));
        }
        Ok(if unexplained + stale + found.unusable.len() > 0 { Exit::ScenarioFailed } else { Exit::Success })
    }
}

fn show(mutant: &Mutant) {
    let place = mutant.at.map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
    say!("{}{place}: survived on KubeVirt {}: {}", mutant.file.display(), mutant.release, mutant.mutant);
    for line in mutant.survived.iter().flat_map(|seen| seen.lines()) {
        say!("    {line}");
    }
}

/// Makes one run.
async fn one(task: &Task, prometheus: &tools::Prometheus, interrupted: &CancellationToken) -> Result<Found> {
    let mutant = |job: &Job, at: Option<Place>, mutant: String, survived: Option<String>| Mutant {
        scenario: job.name_with_variant(),
        release: job.release.clone(),
        file: job.file.clone(),
        at,
        mutant,
        survived,
        reason: None,
    };
    if interrupted.is_cancelled() {
        return Ok(Found::default());
    }
    match task {
        Task::Probe(job) => {
            let Some((report, probed)) = scenarios::probe(job, prometheus, interrupted).await? else {
                return Ok(Found::default());
            };
            if report.verdict() != Verdict::Passed {
                return Ok(Found { unusable: vec![report.to_string()], ..Found::default() });
            }
            let mutants = probed
                .into_iter()
                .map(|probed| mutant(job, probed.at, format!("{}: {}", probed.line, probed.what), probed.survived));
            Ok(Found { mutants: mutants.collect(), unusable: Vec::new() })
        }
        Task::Rerun { job, what, at } => {
            let Some(report) = scenarios::run_mutant(job, prometheus, interrupted).await? else {
                return Ok(Found::default());
            };
            let survived = report.passed().then(|| "every line was ok".to_owned());
            Ok(Found { mutants: vec![mutant(job, *at, what.clone(), survived)], unusable: Vec::new() })
        }
    }
}
