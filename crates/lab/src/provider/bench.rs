//! A lab on a real cluster as scenarios see it: everything through the cluster's API.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use faults::{Entry, Rule};
use futures_util::future::BoxFuture;
use install::{Api, ApiError, Wait};
use kubeapi::object;
use kubevirt::Release;
use metrics::{RuleState, Sample, Target};
use scenario::reconcile::{Hookless, Reading};
use scenario::{Delete, FaultUse, Lab, LabError, Need, Notification, PodLog};
use serde_json::Value;

use super::record::ClusterRecord;
use crate::exit::{Exit, Failure};
use crate::reach;
use crate::state::LabDir;
use crate::why;

/// Who applies what a scenario says: not the installer, whose fields would go with a part of an object.
const FIELD_MANAGER: &str = "kubevirt-lab-scenario";

/// A lab on a real cluster.
pub(crate) struct ClusterBench {
    api: Api,
    record: ClusterRecord,
    release: Release,
    namespace: String,
    prometheus: metrics::Client,
    started: Instant,
}

fn failed(error: &dyn std::fmt::Display) -> LabError {
    LabError(error.to_string())
}

/// There is no fault proxy to ask.
fn no_faults<T: Send + 'static>() -> BoxFuture<'static, Result<T, LabError>> {
    Box::pin(async { Err(LabError(format!("this provider has no {}", Need::Faults.told()))) })
}

impl ClusterBench {
    /// The lab of a folder.
    ///
    /// # Errors
    /// When none is there, or what it runs on does not answer.
    pub(crate) async fn open(dir: &LabDir) -> Result<Self> {
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
        let release = Release::load(&version).map_err(|_| {
            Failure::new(Exit::LabFailed, format!("the cluster runs KubeVirt {version:?}, whose metrics are not known here"))
                .hint(format!("known are {}", Release::known().join(", ")))
        })?;
        let cluster = why::Cluster::new(api.client().clone());
        let prometheus = cluster.prometheus_object(Some(&record.prometheus)).await?;
        let prometheus = cluster.prometheus(&prometheus);
        let namespace = object::namespace(kubevirt).to_owned();
        Ok(Self { api, record, release, namespace, prometheus, started: Instant::now() })
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

    async fn delete_matching(&self, delete: &Delete) -> Result<usize, ApiError> {
        let kinds = self.api.all_kinds().await?;
        let of_group = |base: &str| match base.strip_prefix("/apis/") {
            Some(rest) => rest.split('/').next() == Some(delete.group.as_str()),
            None => delete.group.is_empty(),
        };
        let Some(kind) = kinds.iter().find(|kind| kind.plural == delete.resource && of_group(&kind.base)) else { return Ok(0) };
        if let Some(name) = &delete.name {
            return Ok(usize::from(self.api.delete(&kind.object(&delete.namespace, name)).await?));
        }
        let selector: String = delete.labels.as_deref().unwrap_or_default().bytes().map(percent).collect();
        let mut count = 0;
        for found in self.api.list(&format!("{}?labelSelector={selector}", kind.collection(&delete.namespace))).await? {
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
        &[Need::Faults, Need::FastAlerts, Need::Ledger, Need::Notifications]
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
        Box::pin(async {
            let pods = self.pods().await.map_err(|error| failed(&error))?;
            Ok(pods.iter().filter(|pod| object::label(pod, "prometheus.kubevirt.io").is_some()).count())
        })
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

    fn notifications(&self) -> BoxFuture<'_, Result<Vec<Notification>, LabError>> {
        Box::pin(async { Err(LabError(format!("this provider has no {}", Need::Notifications.told()))) })
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

    fn arm(&self, _: Rule) -> BoxFuture<'_, Result<(), LabError>> {
        no_faults()
    }

    fn faults(&self) -> BoxFuture<'_, Result<Vec<FaultUse>, LabError>> {
        no_faults()
    }

    fn clear_faults<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<usize, LabError>> {
        no_faults()
    }

    fn reading(&self) -> BoxFuture<'_, Result<Reading, LabError>> {
        no_faults()
    }

    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>, LabError>> {
        no_faults()
    }

    fn hookless(&self) -> Vec<Hookless> {
        crate::embedded::hookless(&self.release)
    }

    fn delete<'a>(&'a self, delete: &'a Delete) -> BoxFuture<'a, Result<usize, LabError>> {
        Box::pin(async move { self.delete_matching(delete).await.map_err(|error| failed(&error)) })
    }

    fn apply(&self, object: Value) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move { self.api.take(&object, FIELD_MANAGER).await.map(|_| ()).map_err(|error| failed(&error)) })
    }
}
