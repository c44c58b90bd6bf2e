//! `lab scenario run`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use futures_util::StreamExt as _;
use scenario::parity::Parity;
use scenario::{Report, Summary};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ground::{Ground, releases};
use super::outputs::{Outputs, exit, parity};
use super::{Files, Running};
use crate::commands::Output;
use crate::exit::{Exit, Failure};
use crate::provider::Provider;
use crate::provider::bench::ClusterBench;
use crate::scenarios::{self, Job, Loaded, Pending};
use crate::state::StateRoot;

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    running: Running,
    /// What it runs on, one after the other: embedded starts a lab for each scenario; kind, minikube and existing are labs that are up.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "embedded", value_name = "PROVIDER")]
    provider: Vec<Provider>,
    /// The lab that is up, for providers other than embedded; several in the order of --provider.
    #[arg(long, value_delimiter = ',', default_value = "lab", value_name = "NAME")]
    lab: Vec<String>,
    /// Treat what runs on the cluster as this release; without it the nearest known one is taken, and the report says which.
    #[arg(long, value_name = "RELEASE")]
    treat_as: Option<String>,
    /// End with 0 although a scenario cannot be run there, if nothing worse happens.
    #[arg(long)]
    allow_not_runnable: bool,
    /// Compare the providers: verdicts and series, written to this page. What differs and is not declared fails.
    #[arg(long, value_name = "FILE.html")]
    parity: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
    /// Write what there is to see of a scenario that fails on an embedded lab into a folder below this one.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Run so many labs at once; by default four for each processor, for a lab mostly waits. On clusters one after the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Run each so many times; all must pass.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Where snapshots are.
    #[arg(long, default_value = "snapshots")]
    snapshots: PathBuf,
    /// Write snapshots that differ or are new over their files; without it they are written beside them, as `.snap.new`.
    #[arg(long)]
    update: bool,
}

/// A run as scripts read it.
#[derive(Serialize)]
struct Of<'a> {
    verdict: scenario::Verdict,
    #[serde(flatten)]
    report: &'a Report,
}

/// All runs as scripts read them.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    summary: Summary,
    runs: Vec<Of<'a>>,
}

/// The runs as scripts read them.
pub(super) fn document(reports: &[Report]) -> Document<'_> {
    let runs = reports.iter().map(|report| Of { verdict: report.verdict(), report }).collect();
    Document { summary: Summary::of(reports), runs }
}

/// A token that is cancelled when somebody asks the program to end, and the code to end with then. From here on no signal ends the
/// program at once.
///
/// # Errors
/// When the signals cannot be taken.
pub(super) fn interruption() -> Result<(CancellationToken, JoinHandle<Exit>)> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let interrupted = CancellationToken::new();
    let token = interrupted.clone();
    let ended_by = tokio::spawn(async move {
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        };
        token.cancel();
        exit
    });
    Ok((interrupted, ended_by))
}

impl Run {
    fn at_once(&self) -> usize {
        if self.provider.iter().any(|provider| *provider != Provider::Embedded) {
            return 1;
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or(processors * 4, |jobs| jobs as usize)
    }

    /// What is run on, in the order in which it was named.
    async fn grounds(&self) -> Result<Vec<Ground>> {
        let mut grounds = Vec::new();
        let mut labs = self.lab.iter();
        for provider in &self.provider {
            match provider {
                Provider::Embedded => {
                    grounds.push(Ground::Embedded(Box::new(self.running.prometheus().await?)));
                }
                Provider::Kind | Provider::Minikube | Provider::Existing => {
                    let name = labs.next().or(self.lab.last()).map_or("lab", String::as_str);
                    let bench = ClusterBench::open(&StateRoot::from_env().lab(name)?, self.treat_as.as_deref()).await?;
                    if bench.provider() != provider.name() {
                        let why = format!("lab {name:?} is on {}, not on {}", bench.provider(), provider.name());
                        bail!(Failure::new(Exit::Usage, why).hint("name the lab with --lab"));
                    }
                    grounds.push(Ground::Cluster(Box::new(bench)));
                }
            }
        }
        Ok(grounds)
    }

    pub(super) async fn run(self) -> Result<Exit> {
        let (interrupted, ended_by) = interruption()?;
        let (loaded, only) = self.running.begin(&self.files)?;
        let grounds = self.grounds().await?;
        let began = Instant::now();
        let of_each = loaded.iter().flat_map(|loaded| {
            let jobs = loaded.jobs_on(|variation| releases(&grounds, only.as_deref(), variation));
            jobs.into_iter().map(move |job| (loaded, job))
        });
        let jobs: Vec<(&Loaded, Job)> = of_each.collect();
        if jobs.is_empty() {
            let why = format!("no scenario is for KubeVirt {}", only.unwrap_or_default());
            bail!(Failure::new(Exit::Usage, why).hint("`scenario list` shows the releases of each"));
        }
        let (reports, parities) = self.run_all(&jobs, &grounds, &interrupted).await?;
        let summary = Summary::of(&reports);
        if self.running.output == Output::Text {
            say!("{summary} ({:.1} s)", began.elapsed().as_secs_f64());
        } else {
            self.running.output.json(&document(&reports));
        }
        self.outputs.write(&reports)?;
        if interrupted.is_cancelled() {
            for ground in &grounds {
                ground.put_back().await?;
            }
            return Ok(ended_by.await?);
        }
        ended_by.abort();
        let code = exit(&summary, self.allow_not_runnable);
        if let Some(file) = &self.parity
            && parity(file, &parities)? > 0
            && code == Exit::Success
        {
            return Ok(Exit::ScenarioFailed);
        }
        Ok(code)
    }

    /// Runs all jobs, shows each report in the order of the jobs as soon as those before it are there, and compares snapshots.
    async fn run_all(
        &self,
        jobs: &[(&Loaded, Job)],
        grounds: &[Ground],
        interrupted: &CancellationToken,
    ) -> Result<(Vec<Report>, Vec<Parity>)> {
        let repeated = jobs.iter().flat_map(|job| std::iter::repeat_n(job, self.times as usize));
        let runs = repeated.enumerate().map(|(index, (loaded, job))| async move {
            let mut of_one = Vec::new();
            for ground in grounds {
                of_one.push(ground.run(job, self.artifacts.as_deref(), interrupted).await);
            }
            (index, (*loaded, of_one))
        });
        let pending = if self.update { Pending::Write } else { Pending::Review };
        let mut runs = futures_util::stream::iter(runs).buffer_unordered(self.at_once());
        let (mut reports, mut parities) = (Vec::new(), Vec::new());
        let (mut shown, mut early) = (0, BTreeMap::new());
        while let Some((index, done)) = runs.next().await {
            early.insert(index, done);
            while let Some((loaded, mut of_one)) = early.remove(&shown) {
                shown += 1;
                for report in &mut of_one {
                    scenarios::compare(report, loaded, &self.snapshots, pending)?;
                    if self.running.output == Output::Text {
                        say_text!(report.to_string());
                    }
                }
                if self.parity.is_some() {
                    parities.push(Parity::new(&loaded.scenario, of_one.clone()));
                }
                reports.extend(of_one);
            }
        }
        Ok((reports, parities))
    }
}
