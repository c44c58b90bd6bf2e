//! `lab scenario`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use scenario::Report;
use scenario::parity::Parity;

use super::Output;
use crate::exit::{Exit, Failure};
use crate::provider::Provider;
use crate::provider::bench::ClusterBench;
use crate::scenarios::{self, Job, Loaded};
use crate::state::StateRoot;
use crate::tools;

#[derive(Subcommand)]
pub(super) enum ScenarioCommand {
    /// Run scenarios, each on a lab of its own.
    Run(Run),
    /// Check files without running them.
    Check(Files),
    /// List scenarios.
    List(List),
    /// Print the JSON schema of scenario files.
    Schema,
}

#[derive(Args)]
pub(super) struct Files {
    /// Files or folders.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    files: Files,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    files: Files,
    /// Only on this release of KubeVirt.
    #[arg(long, value_name = "RELEASE")]
    kubevirt: Option<String>,
    /// What it runs on, one after the other: embedded starts a lab for each scenario; kind, minikube and existing are labs that are up.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "embedded", value_name = "PROVIDER")]
    provider: Vec<Provider>,
    /// The lab that is up, for providers other than embedded; several in the order of --provider.
    #[arg(long, value_delimiter = ',', default_value = "lab", value_name = "NAME")]
    lab: Vec<String>,
    /// Hold the providers against each other: verdicts and series, written to this page. What differs and is not declared fails.
    #[arg(long, value_name = "FILE.html")]
    parity: Option<PathBuf>,
    /// Write the result as JUnit's XML, which CI systems show.
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    /// Write what there is to see of a scenario that fails on an embedded lab into a folder below this one.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Run so many labs at once; by default four for each processor, for a lab mostly waits. On clusters one after the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Run each so often; all must pass.
    #[arg(long, default_value_t = 1, value_name = "N")]
    times: u32,
    /// Where snapshots are.
    #[arg(long, default_value = "snapshots")]
    snapshots: PathBuf,
    /// Write snapshots that differ or are new.
    #[arg(long)]
    update: bool,
    /// A Prometheus to use; promtool is looked for beside it.
    #[arg(long, env = "LAB_PROMETHEUS", value_name = "PATH")]
    prometheus: Option<PathBuf>,
    /// Use the network for nothing.
    #[arg(long)]
    offline: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Files {
    /// Reads all files; every problem of every file is told.
    fn load(&self) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        let mut problems = Vec::new();
        for path in &self.paths {
            let files = if path.is_dir() { scenarios::files(path) } else { vec![path.clone()] };
            for file in files {
                match scenarios::load(&file) {
                    Ok(scenario) => loaded.push(scenario),
                    Err(found) => problems.extend(found.iter().map(ToString::to_string)),
                }
            }
        }
        if !problems.is_empty() {
            bail!(Failure::new(Exit::Usage, problems.join("\nerror: ")));
        }
        if loaded.is_empty() {
            bail!(Failure::new(Exit::Usage, "no scenario file is there").hint("name files or folders"));
        }
        Ok(loaded)
    }
}

impl ScenarioCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Run(run) => run.run().await,
            Self::Check(files) => {
                let count = files.load()?.len();
                say!("{count} scenarios are fine");
                Ok(Exit::Success)
            }
            Self::List(list) => {
                let loaded = list.files.load()?;
                let document: Vec<_> = loaded
                    .iter()
                    .map(|loaded| {
                        serde_json::json!({
                            "name": loaded.name, "file": loaded.path, "kubevirt": loaded.scenario.given.kubevirt,
                            "description": loaded.scenario.description,
                        })
                    })
                    .collect();
                if list.output.json(&document) {
                    return Ok(Exit::Success);
                }
                for loaded in &loaded {
                    say!("{} ({})", loaded.name, loaded.scenario.given.kubevirt.join(", "));
                    say!("    {}", loaded.scenario.description.split_whitespace().collect::<Vec<_>>().join(" "));
                }
                Ok(Exit::Success)
            }
            Self::Schema => {
                say!("{}", serde_json::to_string_pretty(&scenario::schema())?);
                Ok(Exit::Success)
            }
        }
    }
}

/// What scenarios run on.
enum Ground {
    Embedded(Box<tools::Prometheus>),
    Cluster(Box<ClusterBench>),
}

impl Ground {
    async fn run(&self, job: &Job, artifacts: Option<&Path>) -> Result<Report> {
        match self {
            Self::Embedded(prometheus) => scenarios::run(job, prometheus, artifacts).await,
            Self::Cluster(bench) if bench.release() != job.release => Ok(Report {
                scenario: job.name.clone(),
                release: job.release.clone(),
                provider: bench.provider().to_owned(),
                not_runnable: Some(format!("it runs KubeVirt {}", bench.release())),
                lines: Vec::new(),
                snapshots: Vec::new(),
            }),
            Self::Cluster(bench) => bench.run(job).await,
        }
    }

    /// Puts back what an interrupted scenario has changed.
    async fn put_back(&self) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Cluster(bench) => bench.put_back().await,
        }
    }
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
            if *provider == Provider::Embedded {
                let search = tools::Search { given: self.prometheus.clone(), offline: self.offline };
                grounds.push(Ground::Embedded(Box::new(tools::find(&search, &|what| eprintln!("{what}")).await?)));
                continue;
            }
            let name = labs.next().or(self.lab.last()).map_or("lab", String::as_str);
            let bench = ClusterBench::open(&StateRoot::from_env().lab(name)?).await?;
            if bench.provider() != provider.name() {
                bail!(
                    Failure::new(Exit::Usage, format!("lab {name:?} is on {}, not on {}", bench.provider(), provider.name()))
                        .hint("name the lab with --lab")
                );
            }
            grounds.push(Ground::Cluster(Box::new(bench)));
        }
        Ok(grounds)
    }

    async fn run(self) -> Result<Exit> {
        let loaded = self.files.load()?;
        let grounds = self.grounds().await?;
        let is_wanted = |job: &Job| {
            self.kubevirt.as_ref().is_none_or(|only| only.trim_start_matches('v') == job.release.trim_start_matches('v'))
        };
        let jobs = loaded.iter().flat_map(|loaded| loaded.jobs().into_iter().map(move |job| (loaded, job)));
        let jobs: Vec<(&Loaded, Job)> = jobs.filter(|(_, job)| is_wanted(job)).collect();
        let repeated = jobs.iter().flat_map(|job| std::iter::repeat_n(job, self.times as usize));
        let runs = repeated.enumerate().map(|(index, (loaded, job))| {
            let (grounds, artifacts) = (&grounds, self.artifacts.as_deref());
            async move {
                let mut of_one = Vec::new();
                for ground in grounds {
                    of_one.push(ground.run(job, artifacts).await?);
                }
                Ok::<_, anyhow::Error>((index, (*loaded, of_one)))
            }
        });
        let mut exit = Exit::Success;
        let mut reports = Vec::new();
        let mut parities = Vec::new();
        let mut runs = futures_util::stream::iter(runs).buffer_unordered(self.at_once());
        // They are told in the order in which they were named, whichever is over first.
        let (mut told, mut early) = (0, std::collections::BTreeMap::new());
        loop {
            let next = tokio::select! {
                next = runs.next() => next,
                _ = tokio::signal::ctrl_c() => {
                    drop(runs);
                    for ground in &grounds {
                        ground.put_back().await?;
                    }
                    return Ok(Exit::Interrupted);
                }
            };
            let Some(done) = next else { break };
            let (index, done) = done?;
            early.insert(index, done);
            while let Some((loaded, of_one)) = early.remove(&told) {
                told += 1;
                for report in &of_one {
                    exit = self.judge(loaded, report, exit)?;
                }
                if self.parity.is_some() {
                    parities.push(Parity::new(&loaded.scenario, of_one.clone()));
                }
                reports.extend(of_one);
            }
        }
        if reports.is_empty() {
            bail!(Failure::new(Exit::Usage, "nothing was run").hint("no scenario names that release"));
        }
        self.output.json(&reports);
        if let Some(file) = &self.junit {
            std::fs::write(file, scenario::junit::xml(&reports))
                .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot write {}: {error}", file.display())))?;
        }
        if let Some(file) = &self.parity {
            exit = self.compare(file, &parities, exit)?;
        }
        Ok(exit)
    }

    /// Shows a report and holds its snapshots against their files; what the program ends with so far.
    fn judge(&self, loaded: &Loaded, report: &Report, mut exit: Exit) -> Result<Exit> {
        if self.output == Output::Text {
            say_text!(report.to_string());
        }
        if !report.passed() {
            exit = Exit::ScenarioFailed;
        }
        for snapshot in &report.snapshots {
            let name = scenarios::snapshot_name(&loaded.name, &report.release, &snapshot.name);
            let declared = loaded.scenario.parity.iter().any(|declared| {
                declared.differs == format!("snapshot {}", snapshot.name)
                    && declared.on.as_deref().is_none_or(|on| on == report.provider)
            });
            // What may differ from provider to provider is held against the file of the embedded lab alone.
            if declared && report.provider != Provider::Embedded.name() {
                continue;
            }
            let same = self.hold(&self.snapshots.join(format!("{name}.snap")), &snapshot.text)?;
            if !same && exit == Exit::Success {
                exit = Exit::SnapshotDiffers;
            }
        }
        Ok(exit)
    }

    /// Writes the page of the providers' parity, and tells what differs.
    fn compare(&self, file: &Path, parities: &[Parity], exit: Exit) -> Result<Exit> {
        std::fs::write(file, scenario::parity::html(parities))
            .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot write {}: {error}", file.display())))?;
        let mut undeclared = 0;
        for parity in parities {
            for difference in parity.differences.iter().filter(|difference| difference.declared.is_none()) {
                undeclared += 1;
                eprintln!(
                    "{} on {}: {} differs from {}",
                    parity.scenario, difference.provider, difference.what, parity.reports[0].provider
                );
            }
        }
        eprintln!("{} is written: {} scenarios, {undeclared} differences that are not declared", file.display(), parities.len());
        Ok(if undeclared > 0 && exit == Exit::Success { Exit::ScenarioFailed } else { exit })
    }

    /// Compares a snapshot with its file; whether it is the same, or was updated.
    fn hold(&self, path: &Path, text: &str) -> Result<bool> {
        let present = scenarios::read_snapshot(path);
        if scenarios::is_recorded(present.as_deref(), text) {
            return Ok(true);
        }
        if self.update {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, scenarios::snapshot_file("tests/it/scenarios.rs", "text", text))?;
            eprintln!("{} is written", path.display());
            return Ok(true);
        }
        match present {
            None => eprintln!("{} does not exist; look at it and write it with --update", path.display()),
            Some(present) => eprintln!("{} differs (- file, + this run):\n{}", path.display(), metrics::diff(&present, text)),
        }
        Ok(false)
    }
}
