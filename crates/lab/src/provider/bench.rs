//! A lab on a real cluster as scenarios see it: everything through the cluster's API.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use faults::{Entry, Rule};
use futures_util::future::BoxFuture;
use install::{Api, ApiError, Served, Wait};
use jiff::Timestamp;
use kubeapi::object;
use kubevirt::Release;
use metrics::{RuleState, Sample, Target};
use scenario::reconcile::{Counter, Hookless, Reading, Reconciliation, explain};
use scenario::{
    Catalogue as _, Delete, FaultUse, Lab, LabError, Need, Notification, ObjectCheck, PageAnswer, PodLog, PodPage, Report, Stand,
    Which, nearest_known, not_runnable,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::proxy;
use super::record::ClusterRecord;
use super::undo::Changes;
use crate::catalogue::Simulated;
use crate::control::Control;
use crate::exit::{Exit, Failure};
use crate::reach;
use crate::scenarios::{self, Job};
use crate::state::LabDir;
use crate::why;

/// Who applies what a scenario says: not the installer, whose fields would go with a part of an object.
const FIELD_MANAGER: &str = "kubevirt-lab-scenario";
/// How long KubeVirt may take to be up again, and Prometheus to forget the pods before: with scrapes 30 s apart, it does after a minute.
const RESTART: Duration = Duration::from_secs(300);
/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(500);
/// Where components serve their metrics.
const METRICS_PORT: u16 = 8443;

/// A lab on a real cluster.
pub(crate) struct ClusterBench {
    api: Api,
    record: ClusterRecord,
    /// The known release that stands for what runs there.
    release: Release,
    /// What runs there, and why that release stands for it, where it is another one.
    treated_as: Option<String>,
    namespace: String,
    prometheus: metrics::Client,
    /// The fault proxy, if it is on the cluster.
    control: Option<Control>,
    changes: Changes,
    started: Instant,
}

/// What a cluster lacks; what it lacks besides where the fault proxy is not on it; and where its release is not known.
const LACKS: [&[Need]; 4] = [
    &[Need::Defects, Need::FastAlerts, Need::Notifications, Need::Refusals],
    &[Need::Defects, Need::Faults, Need::FastAlerts, Need::Ledger, Need::Notifications, Need::Refusals],
    &[Need::Catalogue, Need::Defects, Need::FastAlerts, Need::Notifications, Need::Refusals],
    &[Need::Catalogue, Need::Defects, Need::Faults, Need::FastAlerts, Need::Ledger, Need::Notifications, Need::Refusals],
];

fn failed(error: &dyn std::fmt::Display) -> LabError {
    LabError(error.to_string())
}

/// The same with the error's causes.
fn told(error: anyhow::Error) -> LabError {
    LabError(format!("{error:#}"))
}

impl ClusterBench {
    /// The lab of a folder.
    ///
    /// # Errors
    /// When none is there, what it runs on does not answer, or `treat_as` is no known release.
    pub(crate) async fn open(dir: &LabDir, treat_as: Option<&str>) -> Result<Self> {
        let Some(record) = ClusterRecord::of(dir) else {
            bail!(
                Failure::new(Exit::NotRunning, format!("no lab {:?} is on a cluster", dir.name()))
                    .hint("bring it up first: lab up --provider …")
            );
        };
        let api = Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
        let kubevirts = api.list("/apis/kubevirt.io/v1/kubevirts").await?;
        let Some(kubevirt) = kubevirts.first() else {
            bail!(Failure::new(Exit::LabFailed, "there is no KubeVirt object on the cluster").hint("`lab up` installs it"));
        };
        let version = kubevirt["status"]["observedKubeVirtVersion"].as_str().unwrap_or_default().to_owned();
        let known = Simulated.releases();
        let stand = match treat_as {
            Some(wanted) => nearest_known(wanted, &known)
                .filter(|stand| stand.reason.is_none())
                .map(|stand| Stand { reason: Some("--treat-as says so".to_owned()), ..stand }),
            None => nearest_known(&version, &known),
        };
        let Some(stand) = stand else {
            let why = format!("KubeVirt {} is not known", treat_as.unwrap_or(&version));
            bail!(Failure::new(Exit::Usage, why).hint(format!("known are {}", known.join(", "))));
        };
        let treated_as =
            stand.reason.map(|reason| format!("the cluster runs KubeVirt {version}, treated as {}: {reason}", stand.release));
        let release = Release::load(&stand.release)?;
        let cluster = why::Cluster::new(api.client().clone());
        let prometheus = cluster.prometheus_object(Some(&record.prometheus)).await?;
        let prometheus = cluster.prometheus(&prometheus);
        let namespace = object::namespace(kubevirt).to_owned();
        let control = proxy::find(&api, &record.name).await?;
        let changes = Changes::of(&dir.path());
        let bench = Self { api, record, release, treated_as, namespace, prometheus, control, changes, started: Instant::now() };
        bench.put_back().await?;
        Ok(bench)
    }

    /// Runs a scenario, on a cluster that is as it was before the last one.
    ///
    /// # Errors
    /// When the cluster does not come to rest before, or what was changed cannot be put back.
    pub(crate) async fn run(&self, job: &Job, interrupted: &CancellationToken) -> Result<Report> {
        // Where what a fault does is counted exactly, counters have to begin at zero.
        let needs_faults = job.variation.scenario.needs().contains(&Need::Faults);
        if needs_faults && not_runnable(&job.variation, self.lacks()).is_none() {
            tokio::select! {
                ready = self.begin_anew() => ready?,
                () = interrupted.cancelled() => {}
            }
        }
        let report = scenarios::run_on(job, self, self.provider(), interrupted).await;
        self.put_back().await?;
        Ok(Report { treated_as: self.treated_as.clone(), ..report })
    }

    /// What runs there, and why it is treated as a known release, where it is another one.
    pub(crate) fn treated_as(&self) -> Option<&str> {
        self.treated_as.as_deref()
    }

    /// Clears what a scenario has armed, and puts back what it has changed.
    ///
    /// # Errors
    /// When the cluster does not answer or refuses.
    pub(crate) async fn put_back(&self) -> Result<()> {
        if let Some(control) = &self.control {
            control.clear_faults(None).await?;
        }
        let count = self.changes.put_back(&self.api).await?;
        if count > 0 {
            let what = wire::counted_as(count, "object that the scenario changed is", "objects that the scenario changed are");
            eprintln!("{}: {what} as before", self.provider());
        }
        Ok(())
    }

    /// The pods whose counters show what an earlier fault did, or could not be read.
    async fn marked(&self) -> Result<Vec<String>> {
        let pods = self.scraped().await?;
        let pages = self.pages(&pods).await;
        let is_marked = |name: &str| {
            let page = pages.iter().find(|page| page.pod == name);
            page.is_none_or(|page| {
                page.page.of(&self.release.client.requests).any(|sample| {
                    let code = sample.series.label("code");
                    // What virt-operator looks for is not there yet when it installs, and its writes meet others'.
                    let by_itself = name.starts_with("virt-operator-") && ["404", "409"].contains(&code);
                    sample.value > 0.0 && !code.starts_with('2') && !by_itself
                })
            })
        };
        Ok(pods.iter().map(object::name).filter(|name| is_marked(name)).map(str::to_owned).collect())
    }

    /// Restarts the pods of KubeVirt whose counters show what an earlier fault did, and waits until Prometheus has forgotten the old ones.
    async fn begin_anew(&self) -> Result<()> {
        let old = self.marked().await?;
        if old.is_empty() {
            return Ok(());
        }
        eprintln!(
            "{}: {} restarted, so that its counters begin at zero",
            self.provider(),
            wire::counted_as(old.len(), "pod is", "pods are")
        );
        let restarts = old.iter().map(|name| async move {
            // How virt-handler ends, which takes it minutes, is no part of any scenario.
            self.api.delete_pod_within(&format!("/api/v1/namespaces/{}/pods/{name}", self.namespace), 1).await
        });
        futures_util::future::try_join_all(restarts).await?;
        let mut deadline = wire::patience::Deadline::after(RESTART);
        loop {
            let late = self.not_anew(&old).await?;
            let Some(late) = late else { return Ok(()) };
            if deadline.is_over() {
                bail!(
                    Failure::new(
                        Exit::LabFailed,
                        format!("KubeVirt is not up again {} s after its restart: {late}", RESTART.as_secs())
                    )
                    .hint("see `lab status`")
                );
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// What there still is of the pods before, or not yet of those after.
    async fn not_anew(&self, old: &[String]) -> Result<Option<String>> {
        let missing = self.missing().await?;
        if let Some(first) = missing.first() {
            return Ok(Some(first.clone()));
        }
        let pods = self.scraped().await?;
        if let Some(pod) = pods.iter().find(|pod| old.iter().any(|name| name == object::name(pod))) {
            return Ok(Some(format!("pod {} is not gone", object::key(pod))));
        }
        // A lease that nobody has taken over yet is taken over by a request that a renewal is not.
        let leases = self.api.list(&format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)).await?;
        let holds = |lease: &&Value, name: &String| {
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            holder.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        if let Some(lease) = leases.iter().find(|lease| old.iter().any(|name| holds(lease, name))) {
            return Ok(Some(format!("nobody has taken over the lease {}", object::key(lease))));
        }
        let metric = &self.release.client.requests;
        let samples = self.prometheus.query(&format!("count by (pod) ({metric})")).await?;
        let known = |pod: &str| samples.iter().any(|sample| sample.series.label("pod") == pod);
        if let Some(name) = old.iter().find(|name| known(name)) {
            return Ok(Some(format!("Prometheus still has series of {name}")));
        }
        Ok(None)
    }

    /// The fault proxy's control endpoint.
    fn control(&self) -> Result<&Control, LabError> {
        self.control.as_ref().ok_or_else(|| LabError(format!("this provider has no {}", Need::Faults.words())))
    }

    /// What those of the pods show that answer.
    async fn pages(&self, pods: &[Value]) -> Vec<PodPage> {
        let cluster = why::Cluster::new(self.api.client().clone());
        let mut pages = Vec::new();
        for name in pods.iter().map(object::name) {
            match cluster.page(&self.namespace, name, METRICS_PORT).await {
                Ok(page) => pages.push(PodPage { pod: name.to_owned(), page }),
                Err(why) => tracing::warn!("{name}: {why}"),
            }
        }
        pages
    }

    /// Reads the pages of all components through the API server, and the ledger before and after.
    async fn read(&self) -> Result<Reading> {
        let control = self.control()?;
        let (began, before) = (Timestamp::now(), control.totals().await?);
        let pages = self.pages(&self.scraped().await?).await;
        Ok(Reading { began, ledger: [before, control.totals().await?], ended: Timestamp::now(), pages })
    }

    /// Holds what the counters of all components rise by in a time against the ledger.
    ///
    /// # Errors
    /// When there is no fault proxy, or it does not answer.
    pub(crate) async fn reconcile(&self, during: Duration) -> Result<Reconciliation> {
        let Some(control) = &self.control else { bail!(proxy::absent(&self.record.name)) };
        let before = self.read().await?;
        let expected: Vec<String> = before.pages.iter().map(|page| page.pod.clone()).collect();
        tokio::time::sleep(during).await;
        let after = self.read().await?;
        let entries = control.ledger(0, usize::MAX).await?;
        let counter = Counter::of_component(&self.release.client.requests);
        Ok(explain(counter, &expected, &crate::embedded::hookless(&self.release), (Some(&before), &after), &entries))
    }

    /// What pods answer at /metrics, through the API server: it keeps their media type to itself.
    async fn answers(&self, prefix: &str, at_once: usize) -> Result<Vec<PageAnswer>> {
        let cluster = why::Cluster::new(self.api.client().clone());
        let pods = self.scraped().await?.into_iter().filter(|pod| object::name(pod).starts_with(prefix));
        let asked: Vec<String> = pods.flat_map(|pod| std::iter::repeat_n(object::name(&pod).to_owned(), at_once)).collect();
        let (cluster, namespace) = (&cluster, &self.namespace);
        let answers = asked.into_iter().map(|pod| async move {
            let path = format!("/api/v1/namespaces/{namespace}/pods/https:{pod}:{METRICS_PORT}/proxy/metrics");
            let answer = cluster.send("GET", &path, Vec::new()).await;
            let answer = answer.map(|(code, bytes)| (code, String::from_utf8_lossy(&bytes).into_owned()));
            PageAnswer { pod, answer: answer.map_err(|error| error.to_string()), content_type: String::new() }
        });
        Ok(futures_util::future::join_all(answers).await)
    }

    /// Objects of a kind in a namespace or in all, by name or all of them.
    async fn objects_like(&self, wanted: &ObjectCheck) -> Result<Vec<Value>> {
        let kind = self.kind_of(&wanted.group, &wanted.resource).await?;
        let all = self.api.list(&kind.collection(&wanted.namespace)).await?;
        let named = |found: &Value| wanted.name.as_deref().is_none_or(|name| object::name(found) == name);
        Ok(all.into_iter().filter(named).collect())
    }

    /// A kind that is served: a list of one that is not is no empty list.
    async fn kind_of(&self, group: &str, plural: &str) -> Result<Served> {
        let found = self.api.all_kinds().await?.into_iter().find(|kind| kind.is(group, plural));
        let dot = if group.is_empty() { "" } else { "." };
        found.ok_or_else(|| anyhow::anyhow!("the API server does not serve {plural}{dot}{group}"))
    }

    /// The pods of KubeVirt that have metrics.
    async fn scraped(&self) -> Result<Vec<Value>, ApiError> {
        let pods = self.pods().await?;
        let is_one =
            |pod: &Value| object::label(pod, "prometheus.kubevirt.io").is_some() && object::namespace(pod) == self.namespace;
        Ok(pods.into_iter().filter(is_one).collect())
    }

    /// The provider's name.
    pub(crate) fn provider(&self) -> &'static str {
        self.record.provider.name()
    }

    /// The release that runs there.
    pub(crate) fn release(&self) -> &str {
        &self.release.release
    }

    async fn pods(&self) -> Result<Vec<Value>, ApiError> {
        let pods = self.api.list("/api/v1/pods").await?;
        Ok(pods.into_iter().filter(|pod| !object::is_deleting(pod)).collect())
    }

    async fn delete_matching(&self, delete: &Delete) -> Result<usize> {
        let kind = self.kind_of(&delete.group, &delete.resource).await?;
        let collection = kind.collection(&delete.namespace);
        let labels = match &delete.which {
            Which::Named(name) => {
                let path = kind.object(&delete.namespace, name);
                let Some(found) = self.api.get(&path).await? else { return Ok(0) };
                self.changes.deleting(&collection, &found).await?;
                return Ok(usize::from(self.api.delete(&path).await?));
            }
            Which::Labelled(labels) => labels,
        };
        let selector: String = labels.bytes().map(percent).collect();
        let mut count = 0;
        for found in self.api.list(&format!("{collection}?labelSelector={selector}")).await? {
            self.changes.deleting(&kind.collection(object::namespace(&found)), &found).await?;
            count += usize::from(self.api.delete(&kind.object(object::namespace(&found), object::name(&found))).await?);
        }
        Ok(count)
    }
}

/// A byte of a query's value.
fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

impl Lab for ClusterBench {
    fn namespace(&self) -> String {
        self.namespace.clone()
    }

    fn requests_metric(&self) -> String {
        self.release.client.requests.clone()
    }

    fn lacks(&self) -> &'static [Need] {
        LACKS[usize::from(self.control.is_none()) + 2 * usize::from(self.treated_as.is_some())]
    }

    fn declares(&self, metric: &str) -> bool {
        // Of a release that is not known nothing is known to be declared.
        self.treated_as.is_none() && Simulated.metrics(&self.release.release).contains(metric)
    }

    fn is_exposed<'a>(&'a self, metric: &'a str) -> BoxFuture<'a, Result<bool, LabError>> {
        Box::pin(async move { self.prometheus.is_declared(metric).await.map_err(|error| failed(&error)) })
    }

    fn patience(&self) -> f64 {
        wire::patience::factor()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'_, ()> {
        // A cluster far away is asked less often than a lab in this process.
        Box::pin(tokio::time::sleep(time.max(Duration::from_millis(250))))
    }

    fn missing(&self) -> BoxFuture<'_, Result<Vec<String>, LabError>> {
        Box::pin(async {
            let mut missing = Vec::new();
            for namespace in [install::MONITORING, &self.namespace] {
                let wait = Wait::Workloads { namespace: namespace.to_owned(), expected: Vec::new() };
                missing.extend(install::missing(&self.api, &wait).await.map_err(|error| failed(&error))?);
            }
            Ok(missing)
        })
    }

    fn scraped_pods(&self) -> BoxFuture<'_, Result<usize, LabError>> {
        Box::pin(async { Ok(self.scraped().await.map_err(|error| failed(&error))?.len()) })
    }

    fn query(&self, expression: String) -> BoxFuture<'_, Result<Vec<Sample>, LabError>> {
        Box::pin(async move { self.prometheus.query(&expression).await.map_err(|error| failed(&error)) })
    }

    fn targets(&self) -> BoxFuture<'_, Result<Vec<Target>, LabError>> {
        Box::pin(async {
            let targets = self.prometheus.targets().await.map_err(|error| failed(&error))?;
            Ok(reach::kubevirt_targets(targets.active_targets))
        })
    }

    fn rules(&self) -> BoxFuture<'_, Result<Vec<RuleState>, LabError>> {
        Box::pin(async { self.prometheus.rules().await.map_err(|error| failed(&error)) })
    }

    fn alertmanagers(&self) -> BoxFuture<'_, Result<usize, LabError>> {
        Box::pin(async { self.prometheus.alertmanagers().await.map_err(|error| failed(&error)) })
    }

    fn restarts(&self) -> BoxFuture<'_, Result<BTreeMap<String, u64>, LabError>> {
        Box::pin(async { Ok(scenarios::restarts(&self.pods().await.map_err(|error| failed(&error))?)) })
    }

    fn notifications(&self) -> BoxFuture<'_, Result<Vec<Notification>, LabError>> {
        Box::pin(async { Err(LabError(format!("this provider has no {}", Need::Notifications.words()))) })
    }

    fn logs<'a>(&'a self, pod: &'a str, container: Option<&'a str>) -> BoxFuture<'a, Result<Vec<PodLog>, LabError>> {
        Box::pin(async move {
            let mut logs = Vec::new();
            for found in self.pods().await.map_err(|error| failed(&error))? {
                let name = object::name(&found);
                if !name.starts_with(pod) {
                    continue;
                }
                let only = found["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
                let container = container.unwrap_or(only);
                let path = format!("/api/v1/namespaces/{}/pods/{name}/log?container={container}", object::namespace(&found));
                let read = self.api.once(http::Method::GET, &path, "application/json", Vec::new()).await;
                let text = String::from_utf8_lossy(&read.map_err(|error| failed(&error))?).into_owned();
                logs.push(PodLog { pod: name.to_owned(), text });
            }
            Ok(logs)
        })
    }

    fn why(&self, question: String) -> BoxFuture<'_, Result<String, LabError>> {
        Box::pin(async move {
            let question = ::why::Question::parse(&question).map_err(|error| failed(&error))?;
            let explained = why::explain(self.api.client().clone(), Some(&self.record.prometheus), &question).await;
            explained.map(|explanation| explanation.to_string()).map_err(|error| LabError(format!("{error:#}")))
        })
    }

    fn pages<'a>(&'a self, pod: &'a str, at_once: usize) -> BoxFuture<'a, Result<Vec<PageAnswer>, LabError>> {
        Box::pin(async move { self.answers(pod, at_once).await.map_err(told) })
    }

    fn objects<'a>(&'a self, wanted: &'a ObjectCheck) -> BoxFuture<'a, Result<Vec<Value>, LabError>> {
        Box::pin(async move { self.objects_like(wanted).await.map_err(told) })
    }

    fn contract<'a>(&'a self, expressions: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, LabError>> {
        let found = crate::commands::missing_reads(&self.release, expressions).map(|found| found.lines()).map_err(told);
        Box::pin(async move { found })
    }

    fn arm(&self, rule: Rule) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move { self.control()?.add_faults(&[rule]).await.map_err(told) })
    }

    fn faults(&self) -> BoxFuture<'_, Result<Vec<FaultUse>, LabError>> {
        Box::pin(async {
            let armed = self.control()?.faults().await.map_err(told)?;
            Ok(armed.into_iter().map(|armed| (armed.rule.name.clone(), armed.hits, armed.rule.budget.most())).collect())
        })
    }

    fn clear_faults<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<usize, LabError>> {
        Box::pin(async move {
            let cleared = self.control()?.clear_faults(name).await.map_err(told)?;
            Ok(usize::try_from(cleared).unwrap_or(usize::MAX))
        })
    }

    fn reading(&self) -> BoxFuture<'_, Result<Reading, LabError>> {
        Box::pin(async { self.read().await.map_err(told) })
    }

    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>, LabError>> {
        Box::pin(async { self.control()?.ledger(0, usize::MAX).await.map_err(told) })
    }

    fn hookless(&self) -> Vec<Hookless> {
        crate::embedded::hookless(&self.release)
    }

    fn delete<'a>(&'a self, delete: &'a Delete) -> BoxFuture<'a, Result<usize, LabError>> {
        Box::pin(async move { self.delete_matching(delete).await.map_err(told) })
    }

    fn apply(&self, object: Value) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move {
            let before = self.api.find(&object).await.map_err(|error| failed(&error))?;
            let path = self.api.path_of(&object).await.map_err(|error| failed(&error))?;
            self.changes.applying(&path, before.as_ref()).await.map_err(told)?;
            self.api.take(&object, FIELD_MANAGER).await.map(|_| ()).map_err(|error| failed(&error))
        })
    }
}
