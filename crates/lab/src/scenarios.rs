//! Scenarios on an embedded lab: finding the files, running them, comparing snapshots with their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use apiserver::{Client, Gr};
use faults::{Entry, Rule};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kubeapi::{LabelSelector, Query, object};
use kubevirt::Defect;
use metrics::{RuleState, Sample, Target};
use scenario::reconcile::{Hookless, Reading};
use scenario::{
    Catalogue as _, Delete, Ending, FaultUse, LabError, Line, Notification, ObjectCheck, PageAnswer, PodLog, Probed, Problem,
    ProviderName, Report, Scenario, SnapshotState, ToRun, Variation, Which,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Simulated;
use crate::embedded::{self, Lab, Options};
use crate::export::Export;
use crate::snapshots;
use crate::tools::Prometheus;

const PODS: Gr = Gr::core("pods");

/// A scenario file that was read and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub scenario: Scenario,
}

/// All scenario files below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Reads and checks a file.
///
/// # Errors
/// All problems of the file.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![Problem { file: file.clone(), at: None, message: format!("cannot be read: {error}") }])?;
    let scenario = scenario::parse(&file, &text, &Simulated)?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Loaded { name, path: path.to_owned(), scenario })
}

/// A scenario, or one of its variants, on a release.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// What is run.
    pub variation: Variation,
    /// The release.
    pub release: String,
}

impl Loaded {
    /// What is to be run of it: each variant, on each release that it names.
    pub fn jobs(&self) -> Vec<Job> {
        self.jobs_on(|variation| variation.scenario.given.kubevirt.to_run().to_vec())
    }

    /// Each variant, on the releases that are chosen for it.
    pub fn jobs_on(&self, releases: impl Fn(&Variation) -> Vec<String>) -> Vec<Job> {
        let of = |variation: Variation| {
            let releases = releases(&variation);
            let job =
                move |release| Job { name: self.name.clone(), file: self.path.clone(), variation: variation.clone(), release };
            releases.into_iter().map(job)
        };
        self.scenario.variations().into_iter().flat_map(of).collect()
    }
}

impl Job {
    /// The name with the variant: `NAME`, `NAME (broken)`.
    pub fn name_with_variant(&self) -> String {
        let word = self.variation.word.map(|word| format!(" ({word})")).unwrap_or_default();
        format!("{}{word}", self.name)
    }

    /// The name with variant and release: `NAME@RELEASE`, `NAME (broken)@RELEASE`.
    pub fn title(&self) -> String {
        format!("{}@{}", self.name_with_variant(), self.release)
    }

    /// A report of which nothing is known but how it ended.
    pub(crate) fn ended(&self, provider: &str, ending: Ending) -> Report {
        let file = Some(self.file.display().to_string());
        Report { file, ..Report::new(&self.name_with_variant(), &self.release, provider, ending) }
    }
}

/// The lines of a run as far as it came, for one that is interrupted.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<Line>>);

impl Lines {
    pub(crate) fn push(&self, line: &Line) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
    }

    pub(crate) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a job on a lab that is up, until it ends or is interrupted.
pub(crate) async fn run_on(job: &Job, lab: &dyn scenario::Lab, provider: &str, interrupted: &CancellationToken) -> Report {
    let name = job.name_with_variant();
    let to_run = ToRun { name: &name, release: &job.release, provider, variation: &job.variation };
    let lines = Lines::default();
    let progress = |line: &Line| lines.push(line);
    let report = tokio::select! {
        report = scenario::run(to_run, lab, &progress) => report,
        () = interrupted.cancelled() => Report { lines: lines.take(), ..job.ended(provider, Ending::Interrupted) },
    };
    Report { file: Some(job.file.display().to_string()), ..report }
}

/// Runs a scenario on a lab of its own, which is gone afterwards; if it fails, what there is to see is written to `artifacts`.
pub async fn run(job: &Job, prometheus: &Prometheus, artifacts: Option<&Path>) -> Report {
    run_until(job, prometheus, artifacts, &CancellationToken::new()).await
}

/// The same, until it is interrupted; the lab is gone then, too.
pub(crate) async fn run_until(
    job: &Job,
    prometheus: &Prometheus,
    artifacts: Option<&Path>,
    interrupted: &CancellationToken,
) -> Report {
    let provider = ProviderName::Embedded.word();
    if interrupted.is_cancelled() {
        return job.ended(provider, Ending::Interrupted);
    }
    match try_run(job, prometheus, artifacts, interrupted).await {
        Ok(report) => report,
        Err(error) => job.ended(provider, Ending::LabFailed { why: format!("{error:#}") }),
    }
}

async fn try_run(
    job: &Job,
    prometheus: &Prometheus,
    artifacts: Option<&Path>,
    interrupted: &CancellationToken,
) -> Result<Report> {
    let (_folder, bench) = start(job, prometheus).await?;
    let mut report = run_on(job, &bench, ProviderName::Embedded.word(), interrupted).await;
    if let Some(folder) = artifacts.filter(|_| !report.passed())
        && let Err(error) = bench.export(&folder.join(job.title()), &report).await
    {
        report.notes.push(format!("what there was to see could not be written: {error:#}"));
    }
    bench.lab.stop().await;
    Ok(report)
}

/// Starts the lab that a job needs, in a folder that is removed when it is dropped.
async fn start(job: &Job, prometheus: &Prometheus) -> Result<(tempfile::TempDir, Bench)> {
    let given = &job.variation.scenario.given;
    let folder = tempfile::tempdir().context("cannot make a folder for the lab")?;
    let options = Options {
        name: "scenario".to_owned(),
        release: job.release.clone(),
        api_port: 6443,
        prometheus: prometheus.clone(),
        folder: folder.path().to_owned(),
        fast_alerts: given.fast_alerts,
        prometheus_operator: None,
        stack: given.stack,
        defects: given.defects.iter().filter_map(|name| Defect::named(name)).collect(),
        full_size: false,
        bare: false,
    };
    let lab = Lab::start(&options).await?;
    let bench = Bench { client: lab.client(), started: Instant::now(), lab };
    Ok((folder, bench))
}

/// Runs a job on a lab of its own and looks at the mutants of each expectation in the same run; nothing where it is interrupted.
///
/// # Errors
/// When the lab does not start.
pub(crate) async fn probe(
    job: &Job,
    prometheus: &Prometheus,
    interrupted: &CancellationToken,
) -> Result<Option<(Report, Vec<Probed>)>> {
    on_a_lab(job, prometheus, interrupted, async |to_run, bench| scenario::probe(to_run, bench, &|_| ()).await).await
}

/// Runs a mutant of a job on a lab of its own; nothing where it is interrupted.
///
/// # Errors
/// When the lab does not start.
pub(crate) async fn run_mutant(job: &Job, prometheus: &Prometheus, interrupted: &CancellationToken) -> Result<Option<Report>> {
    on_a_lab(job, prometheus, interrupted, async |to_run, bench| scenario::run_mutant(to_run, bench, &|_| ()).await).await
}

/// Does something with a job on a lab of its own, which is gone afterwards; nothing comes of it where it is interrupted.
async fn on_a_lab<T>(
    job: &Job,
    prometheus: &Prometheus,
    interrupted: &CancellationToken,
    act: impl AsyncFnOnce(ToRun<'_>, &Bench) -> T,
) -> Result<Option<T>> {
    let (_folder, bench) = start(job, prometheus).await?;
    let name = job.name_with_variant();
    let provider = ProviderName::Embedded.word();
    let to_run = ToRun { name: &name, release: &job.release, provider, variation: &job.variation };
    let found = tokio::select! {
        found = act(to_run, &bench) => Some(found),
        () = interrupted.cancelled() => None,
    };
    bench.lab.stop().await;
    Ok(found)
}

/// What is done with snapshots that are new or have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// They are written over their files.
    Write,
    /// They are written beside their files, as `.snap.new`, for `scenario review`.
    Review,
}

/// Compares the snapshots of a report with their files.
///
/// # Errors
/// When a file cannot be written.
pub fn compare(report: &mut Report, loaded: &Loaded, folder: &Path, pending: Pending) -> Result<()> {
    for snapshot in &mut report.snapshots {
        let differs = format!("snapshot {}", snapshot.name);
        let declared = loaded
            .scenario
            .parity
            .iter()
            .any(|declared| declared.differs == differs && declared.on.is_none_or(|on| on.word() == report.provider));
        let file = folder.join(format!("{}.snap", snapshot_name(&loaded.name, &report.release, &snapshot.name)));
        snapshot.file = Some(file.display().to_string());
        // What may differ from provider to provider is compared with the file of the embedded lab alone.
        if declared && report.provider != ProviderName::Embedded.word() {
            snapshot.state = SnapshotState::Declared;
            continue;
        }
        let origin = snapshots::Origin {
            // As insta writes it for the same snapshot in `cargo test`, so that neither changes the other's header.
            source: "tests/it/scenarios.rs".to_owned(),
            expression: "text".to_owned(),
            input_file: None,
        };
        snapshot.state = match pending {
            Pending::Write => match snapshots::update(&file, &snapshot.text, &origin)? {
                true => SnapshotState::Written,
                false => SnapshotState::Same,
            },
            Pending::Review => match snapshots::compare(&file, &snapshot.text, &origin)? {
                snapshots::Outcome::Same => SnapshotState::Same,
                snapshots::Outcome::New { diff } => SnapshotState::New { diff },
                snapshots::Outcome::Differs { diff } => SnapshotState::Changed { diff },
            },
        };
    }
    Ok(())
}

/// The file of a snapshot: the scenario's name, the release, the snapshot's name.
pub fn snapshot_name(scenario: &str, release: &str, name: &str) -> String {
    format!("{scenario}@{release}.{name}")
}

/// A resource that a scenario names. Its names are kept, once each, as long as the program lives.
fn resource(group: &str, plural: &str) -> Gr {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let kept = |name: &str| {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).copied().unwrap_or_else(|| {
            let kept: &'static str = name.to_owned().leak();
            names.insert(kept);
            kept
        })
    };
    Gr::of(kept(group), kept(plural))
}

/// An embedded lab as scenarios see it.
struct Bench {
    lab: Lab,
    client: Client,
    started: Instant,
}

/// How often the containers of pods were restarted by their node.
pub(crate) fn restarts(pods: &[Value]) -> BTreeMap<String, u64> {
    let mut restarts = BTreeMap::new();
    for pod in pods {
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let name = status["name"].as_str().unwrap_or_default();
            restarts.insert(format!("{}/{name}", object::key(pod)), status["restartCount"].as_u64().unwrap_or_default());
        }
    }
    restarts
}

fn failed(error: &dyn std::fmt::Display) -> LabError {
    LabError(error.to_string())
}

impl Bench {
    fn pods(&self) -> Vec<Value> {
        self.client.list(PODS, "").into_iter().filter(|pod| !object::is_deleting(pod)).collect()
    }

    fn prometheus(&self) -> Result<metrics::Client, LabError> {
        let pod = self.client.get(PODS, "monitoring", "prometheus-k8s-0").map_err(|error| failed(&error))?;
        match pod["status"]["podIP"].as_str() {
            Some(address) => Ok(metrics::Client::new(&format!("http://{address}:9090"))),
            None => Err(LabError("prometheus-k8s-0 has no address yet".to_owned())),
        }
    }

    /// That a kind is served: a list of one that is not is no empty list.
    fn is_served(&self, group: &str, plural: &str) -> Result<(), LabError> {
        let served = self.client.served();
        if served.iter().any(|(of, name)| of == group && name == plural) {
            return Ok(());
        }
        let dot = if group.is_empty() { "" } else { "." };
        Err(LabError(format!("the API server does not serve {plural}{dot}{group}")))
    }

    /// Writes what the lab and the report tell.
    async fn export(&self, folder: &Path, report: &Report) -> Result<()> {
        let mut export = Export::new(folder)?;
        export.json("report.json", report)?;
        export.json("ledger.json", &self.lab.proxy().ledger().entries(0, usize::MAX))?;
        export.json("notifications.json", &self.lab.notifications().list())?;
        let config = kube::config::Kubeconfig::from_yaml(&self.lab.server().kubeconfig("scenario"))?;
        let api = install::Api::new(crate::why::client(config, None).await?);
        export.cluster(&api, &["monitoring", &self.lab.release().namespace]).await?;
        match self.prometheus() {
            Ok(client) => export.prometheus(&client).await?,
            Err(error) => export.lacks("prometheus", &error),
        }
        let files = export.end()?;
        eprintln!("{files} files about it are in {}", folder.display());
        Ok(())
    }

    /// Walks the chain from a question, as `lab why` does.
    async fn explain(&self, question: &str) -> Result<String> {
        let question = why::Question::parse(question)?;
        let config = kube::config::Kubeconfig::from_yaml(&self.lab.server().kubeconfig("scenario"))?;
        let client = crate::why::client(config, None).await?;
        Ok(crate::why::explain(client, None, &question).await?.to_string())
    }
}

impl scenario::Lab for Bench {
    fn namespace(&self) -> String {
        self.lab.release().namespace.clone()
    }

    fn requests_metric(&self) -> String {
        self.lab.release().client.requests.clone()
    }

    fn declares(&self, metric: &str) -> bool {
        Simulated.metrics(&self.lab.release().release).contains(metric)
    }

    fn is_exposed<'a>(&'a self, metric: &'a str) -> BoxFuture<'a, Result<bool, LabError>> {
        Box::pin(async move { self.prometheus()?.is_declared(metric).await.map_err(|error| failed(&error)) })
    }

    fn patience(&self) -> f64 {
        wire::patience::factor()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn missing(&self) -> BoxFuture<'_, Result<Vec<String>, LabError>> {
        Box::pin(async { Ok(self.lab.missing()) })
    }

    fn scraped_pods(&self) -> BoxFuture<'_, Result<usize, LabError>> {
        Box::pin(async { Ok(self.lab.scraped().len()) })
    }

    fn query(&self, expression: String) -> BoxFuture<'_, Result<Vec<Sample>, LabError>> {
        Box::pin(async move { self.prometheus()?.query(&expression).await.map_err(|error| failed(&error)) })
    }

    fn targets(&self) -> BoxFuture<'_, Result<Vec<Target>, LabError>> {
        Box::pin(async {
            let targets = self.prometheus()?.targets().await.map_err(|error| failed(&error))?;
            Ok(crate::reach::kubevirt_targets(targets.active_targets))
        })
    }

    fn rules(&self) -> BoxFuture<'_, Result<Vec<RuleState>, LabError>> {
        Box::pin(async { self.prometheus()?.rules().await.map_err(|error| failed(&error)) })
    }

    fn alertmanagers(&self) -> BoxFuture<'_, Result<usize, LabError>> {
        Box::pin(async { self.prometheus()?.alertmanagers().await.map_err(|error| failed(&error)) })
    }

    fn restarts(&self) -> BoxFuture<'_, Result<BTreeMap<String, u64>, LabError>> {
        Box::pin(async { Ok(restarts(&self.pods())) })
    }

    fn notifications(&self) -> BoxFuture<'_, Result<Vec<Notification>, LabError>> {
        Box::pin(async { Ok(self.lab.notifications().list()) })
    }

    fn logs<'a>(&'a self, pod: &'a str, container: Option<&'a str>) -> BoxFuture<'a, Result<Vec<PodLog>, LabError>> {
        Box::pin(async move {
            let query = Query::parse(&container.map_or_else(String::new, |name| format!("container={name}")));
            let mut logs = Vec::new();
            for found in self.pods().iter().filter(|found| object::name(found).starts_with(pod)) {
                let text = self.lab.log(found, &query).await.map_err(|error| failed(&error))?;
                logs.push(PodLog { pod: object::name(found).to_owned(), text });
            }
            Ok(logs)
        })
    }

    fn why(&self, question: String) -> BoxFuture<'_, Result<String, LabError>> {
        Box::pin(async move { self.explain(&question).await.map_err(|error| LabError(format!("{error:#}"))) })
    }

    fn pages<'a>(&'a self, pod: &'a str, at_once: usize) -> BoxFuture<'a, Result<Vec<PageAnswer>, LabError>> {
        Box::pin(async move { Ok(self.lab.pages(pod, at_once).await) })
    }

    fn objects<'a>(&'a self, wanted: &'a ObjectCheck) -> BoxFuture<'a, Result<Vec<Value>, LabError>> {
        Box::pin(async move {
            self.is_served(&wanted.group, &wanted.resource)?;
            let all = self.client.list(resource(&wanted.group, &wanted.resource), &wanted.namespace).into_iter();
            let named = |found: &Value| wanted.name.as_deref().is_none_or(|name| object::name(found) == name);
            Ok(all.filter(named).collect())
        })
    }

    fn contract<'a>(&'a self, expressions: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, LabError>> {
        let found = crate::commands::missing_reads(self.lab.release(), expressions);
        let found = found.map(|found| found.lines()).map_err(|error| failed(&error));
        Box::pin(async move { found })
    }

    fn arm(&self, rule: Rule) -> BoxFuture<'_, Result<(), LabError>> {
        let result = self.lab.proxy().engine().add(Timestamp::now(), rule);
        Box::pin(async move { result.map(|_| ()).map_err(|error| failed(&error)) })
    }

    fn faults(&self) -> BoxFuture<'_, Result<Vec<FaultUse>, LabError>> {
        Box::pin(async {
            let armed = self.lab.proxy().engine().list();
            Ok(armed.into_iter().map(|armed| (armed.rule.name.clone(), armed.hits, armed.rule.budget.most())).collect())
        })
    }

    fn clear_faults<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<usize, LabError>> {
        let count = self.lab.proxy().engine().clear(name);
        Box::pin(async move { Ok(count) })
    }

    fn reading(&self) -> BoxFuture<'_, Result<Reading, LabError>> {
        Box::pin(async { Ok(self.lab.reading().await) })
    }

    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>, LabError>> {
        Box::pin(async { Ok(self.lab.proxy().ledger().entries(0, usize::MAX)) })
    }

    fn hookless(&self) -> Vec<Hookless> {
        embedded::hookless(self.lab.release())
    }

    fn delete<'a>(&'a self, delete: &'a Delete) -> BoxFuture<'a, Result<usize, LabError>> {
        Box::pin(async move {
            self.is_served(&delete.group, &delete.resource)?;
            let gr = resource(&delete.group, &delete.resource);
            let selector = match &delete.which {
                Which::Named(_) => LabelSelector::parse(""),
                Which::Labelled(labels) => LabelSelector::parse(labels),
            };
            let selector = selector.map_err(|error| failed(&error))?;
            let mut count = 0;
            for found in self.client.list(gr, &delete.namespace) {
                let is_meant = match &delete.which {
                    Which::Named(name) => object::name(&found) == name,
                    Which::Labelled(_) => selector.matches(&found["metadata"]["labels"]),
                };
                if is_meant {
                    self.client
                        .delete(gr, object::namespace(&found), object::name(&found), None)
                        .map_err(|error| failed(&error))?;
                    count += 1;
                }
            }
            Ok(count)
        })
    }

    fn apply(&self, object: Value) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move { self.client.apply(&object).map(|_| ()).map_err(|error| failed(&error)) })
    }
}
