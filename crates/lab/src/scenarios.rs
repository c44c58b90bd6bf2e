//! Scenarios on an embedded lab: finding the files, running them, holding snapshots against their files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use apiserver::{Client, Gr};
use faults::{Entry, Rule};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use kubeapi::{LabelSelector, Query, object};
use kubevirt::{Defect, Release};
use metrics::{RuleState, Sample, Target};
use scenario::reconcile::{Hookless, Reading};
use scenario::{
    Delete, FaultUse, LabError, Notification, ObjectExpectation, PageAnswer, PodLog, Problem, Report, Scenario, Variation,
};
use serde_json::Value;

use crate::embedded::{self, Lab, Options};
use crate::export::Export;
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
    let defects: Vec<String> = Defect::ALL.iter().map(|defect| defect.name()).collect();
    let known = scenario::Known { releases: &Release::known(), defects: &defects, has_metric: &has_metric };
    let scenario = scenario::parse(&file, &text, &known)?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Loaded { name, path: path.to_owned(), scenario })
}

/// Whether the catalogue of a release has a metric that an expression matches whole, histogram parts included.
fn has_metric(release: &str, expression: &str) -> Result<bool, String> {
    let pattern = regex::Regex::new(&format!("^(?:{expression})$"))
        .map_err(|error| format!("{expression:?} is no regular expression: {error}"))?;
    let release = Release::load(release).map_err(|error| error.to_string())?;
    for component in release.components.values() {
        for family in release.families(component).map_err(|error| error.to_string())? {
            let parts = ["", "_bucket", "_sum", "_count"];
            if parts.iter().any(|part| pattern.is_match(&format!("{}{part}", family.name))) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A scenario, or one of its variants, on a release.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario's name.
    pub name: String,
    /// What is run.
    pub variation: Variation,
    /// The release.
    pub release: String,
}

impl Loaded {
    /// What is to be run of it: each variant, on each release.
    pub fn jobs(&self) -> Vec<Job> {
        let of = |variation: Variation| {
            let releases = variation.scenario.given.kubevirt.clone();
            releases.into_iter().map(move |release| Job { name: self.name.clone(), variation: variation.clone(), release })
        };
        self.scenario.variations().into_iter().flat_map(of).collect()
    }
}

impl Job {
    /// The name with variant and release: `NAME@RELEASE`, `NAME (broken)@RELEASE`.
    pub fn title(&self) -> String {
        let word = self.variation.word.map(|word| format!(" ({word})")).unwrap_or_default();
        format!("{}{word}@{}", self.name, self.release)
    }
}

/// Runs a scenario on a lab of its own, which is gone afterwards; if it fails, what there is to see is written to `artifacts`.
///
/// # Errors
/// When the lab does not start.
pub async fn run(job: &Job, prometheus: &Prometheus, artifacts: Option<&Path>) -> Result<Report> {
    let (given, release) = (&job.variation.scenario.given, &job.release);
    let folder = tempfile::tempdir().context("cannot make a folder for the lab")?;
    let options = Options {
        name: "scenario".to_owned(),
        release: release.clone(),
        api_port: 6443,
        prometheus: prometheus.clone(),
        folder: folder.path().to_owned(),
        fast_alerts: given.alerts.fast,
        prometheus_operator: None,
        stack: given.stack,
        defects: given.defects.iter().filter_map(|name| Defect::named(name)).collect(),
        full_size: false,
        bare: false,
    };
    let lab = Lab::start(&options).await?;
    let bench = Bench { client: lab.client(), started: Instant::now(), lab };
    let report = scenario::run(&job.name, release, "embedded", &job.variation, &bench).await;
    if let Some(folder) = artifacts.filter(|_| !report.passed())
        && let Err(error) = bench.export(&folder.join(job.title()), &report).await
    {
        eprintln!("what there was to see could not be written: {error:#}");
    }
    bench.lab.stop().await;
    Ok(report)
}

/// The file of a snapshot: the scenario's name, the release, the snapshot's name.
pub fn snapshot_name(scenario: &str, release: &str, name: &str) -> String {
    format!("{scenario}@{release}.{name}")
}

/// A snapshot's text out of its file, without the head that insta writes.
pub fn read_snapshot(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let body = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).map(|(_, body)| body.to_owned());
    Some(body.unwrap_or(text))
}

/// Whether a snapshot has this text; insta ends a file's text with one newline.
pub fn is_recorded(present: Option<&str>, text: &str) -> bool {
    present.is_some_and(|present| present.trim_end() == text.trim_end())
}

/// A text as a snapshot's file has it.
pub fn snapshot_file(source: &str, expression: &str, text: &str) -> String {
    format!("---\nsource: {source}\nexpression: {expression}\n---\n{}\n", text.trim_end())
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

    fn objects<'a>(&'a self, wanted: &'a ObjectExpectation) -> BoxFuture<'a, Result<Vec<Value>, LabError>> {
        let all = self.client.list(resource(&wanted.group, &wanted.resource), &wanted.namespace).into_iter();
        let named = |found: &Value| wanted.name.as_deref().is_none_or(|name| object::name(found) == name);
        let found = all.filter(named).collect();
        Box::pin(async move { Ok(found) })
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
            let selector = LabelSelector::parse(delete.labels.as_deref().unwrap_or_default()).map_err(|error| failed(&error))?;
            let gr = resource(&delete.group, &delete.resource);
            let mut count = 0;
            for found in self.client.list(gr, &delete.namespace) {
                let named = delete.name.as_deref().is_none_or(|name| object::name(&found) == name);
                if named && selector.matches(&found["metadata"]["labels"]) {
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
