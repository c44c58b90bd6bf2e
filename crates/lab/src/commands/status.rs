//! `lab status`, and what `up` shows of it.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use metrics::Target;
use serde::Serialize;

use super::{Output, Which};
use crate::exit::{Exit, Failure};
use crate::provider::proxy;
use crate::provider::record::ClusterRecord;
use crate::reach;
use crate::state::LabDir;

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A pod in a list.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PodLine {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ready: bool,
    pub(crate) phase: String,
    pub(crate) restarts: i32,
    pub(crate) address: String,
    /// Whether a program of the lab's own stands in for the image's.
    pub(crate) simulated: bool,
}

/// What a lab looks like at the moment.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Overview {
    pub(crate) pods: Vec<PodLine>,
    pub(crate) targets: Vec<Target>,
    #[serde(skip)]
    pub(crate) expected_targets: usize,
}

impl Overview {
    /// The base URL of the first Prometheus.
    pub(crate) fn prometheus(&self) -> Option<String> {
        let pod = self.pods.iter().find(|pod| pod.name == "prometheus-k8s-0" && !pod.address.is_empty())?;
        Some(format!("http://{}:9090", pod.address))
    }
}

/// Looks at pods and targets.
pub(crate) async fn overview(kubeconfig: &Path) -> Result<Overview> {
    let client = reach::kube_client(kubeconfig, None).await?;
    let pods: Api<Pod> = Api::all(client);
    let list = pods
        .list(&ListParams::default())
        .await
        .map_err(|error| Failure::new(Exit::LabFailed, format!("the lab's API server does not answer: {error}")))?;
    let mut overview = Overview::default();
    for pod in list.items {
        let status = pod.status.unwrap_or_default();
        let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let images: Vec<String> =
            pod.spec.iter().flat_map(|spec| &spec.containers).filter_map(|container| container.image.clone()).collect();
        let labels = pod.metadata.labels.unwrap_or_default();
        if labels.contains_key("prometheus.kubevirt.io") {
            overview.expected_targets += 1;
        }
        overview.pods.push(PodLine {
            namespace: pod.metadata.namespace.unwrap_or_default(),
            name: pod.metadata.name.unwrap_or_default(),
            ready,
            phase: status.phase.unwrap_or_default(),
            restarts: status.container_statuses.iter().flatten().map(|container| container.restart_count).sum(),
            address: status.pod_ip.unwrap_or_default(),
            simulated: images.iter().any(|image| image.starts_with("lab.local/sim/")),
        });
    }
    if let Some(url) = overview.prometheus()
        && let Ok(targets) = metrics::Client::new(&url).targets().await
    {
        overview.targets = reach::kubevirt_targets(targets.active_targets);
    }
    Ok(overview)
}

/// The counter's name in a release.
pub(crate) fn requests_metric(release: &str) -> String {
    kubevirt::Release::load(release)
        .map_or_else(|_| "kubevirt_rest_client_requests_total".to_owned(), |release| release.client.requests)
}

fn pods_table(pods: &[PodLine]) -> String {
    let rows = pods
        .iter()
        .map(|pod| {
            vec![
                pod.namespace.clone(),
                pod.name.clone(),
                if pod.ready { "ready" } else { pod.phase.as_str() }.to_owned(),
                pod.restarts.to_string(),
                pod.address.clone(),
                if pod.simulated { "simulated" } else { "real" }.to_owned(),
            ]
        })
        .collect();
    super::table(&["namespace", "pod", "status", "restarts", "address", "program"], rows)
}

pub(crate) fn targets_table(targets: &[Target]) -> String {
    if targets.is_empty() {
        return "no KubeVirt target\n".to_owned();
    }
    let rows = targets
        .iter()
        .map(|target| {
            let label = |name: &str| target.labels.get(name).cloned().unwrap_or_default();
            vec![
                label("namespace"),
                label("pod"),
                label("container"),
                label("instance"),
                target.health.clone(),
                target.last_error.clone(),
            ]
        })
        .collect();
    super::table(&["namespace", "pod", "container", "instance", "health", "error"], rows)
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit> {
        let dir = self.which.dir()?;
        if let Some(record) = ClusterRecord::of(&dir) {
            return self.of_cluster(&dir, &record).await;
        }
        let record = dir.running()?;
        let overview = overview(&dir.kubeconfig()).await?;
        let document = serde_json::json!({
            "name": record.name, "provider": record.provider, "kubevirt": record.release,
            "api": record.api_url, "kubernetesService": record.service_url,
            "kubeconfig": dir.kubeconfig(), "prometheus": overview.prometheus(),
            "pods": overview.pods, "targets": overview.targets,
        });
        if self.output.json(&document) {
            return Ok(Exit::Success);
        }
        say!(
            "lab {:?}: {} · KubeVirt {} (simulated) · Prometheus {}",
            record.name,
            record.provider,
            record.release,
            record.prometheus
        );
        say!("API server {} · through the fault proxy {}", record.api_url, record.service_url);
        say!("Prometheus {}", overview.prometheus().unwrap_or_else(|| "none".to_owned()));
        say!("kubeconfig {}\n", dir.kubeconfig().display());
        say_text!(pods_table(&overview.pods));
        say!();
        say_text!(targets_table(&overview.targets));
        Ok(Exit::Success)
    }

    /// The same of a lab on a real cluster; of that, the namespaces of the lab.
    async fn of_cluster(&self, dir: &LabDir, record: &ClusterRecord) -> Result<Exit> {
        if !record.made {
            bail!(
                Failure::new(
                    Exit::LabFailed,
                    format!("the {} cluster of lab {:?} is not whole", record.provider.name(), record.name)
                )
                .hint("`lab up` with the same flags makes it anew, `lab down` takes away what is there")
            );
        }
        let mut overview = overview(&dir.kubeconfig()).await?;
        overview.pods.retain(|pod| ["monitoring", "kubevirt"].contains(&pod.namespace.as_str()));
        let prometheus = super::prometheus_of(dir).await?;
        let targets = prometheus.targets().await;
        overview.targets =
            targets.as_ref().map(|targets| reach::kubevirt_targets(targets.active_targets.clone())).unwrap_or_default();
        let ways = super::open::ways();
        let api = install::Api::new(reach::kube_client(&dir.kubeconfig(), None).await?);
        let faults = proxy::is_there(&api, dir.name()).await?;
        let document = serde_json::json!({
            "name": record.name, "provider": record.provider, "kubernetes": record.kubernetes, "kubevirt": record.kubevirt,
            "kubePrometheus": record.kube_prometheus, "complete": record.complete, "kubeconfig": dir.kubeconfig(),
            "prometheus": record.prometheus, "faultProxy": faults, "open": ways, "pods": overview.pods, "targets": overview.targets,
        });
        if self.output.json(&document) {
            return Ok(Exit::Success);
        }
        let installed = |of: &Option<String>| of.clone().unwrap_or_else(|| "the cluster's own".to_owned());
        say!(
            "lab {:?}: {} · Kubernetes {} · kube-prometheus {} · KubeVirt {}",
            record.name,
            record.provider.name(),
            record.kubernetes,
            installed(&record.kube_prometheus),
            installed(&record.kubevirt)
        );
        if !record.complete {
            say!("its installation did not come to its end; run `lab up` again to go on");
        }
        if faults {
            say!("KubeVirt goes through the fault proxy in namespace {}", install::PROXY_NAMESPACE);
        }
        say!("kubeconfig {}", dir.kubeconfig().display());
        for (name, url) in ways {
            say!("{url}  while `lab open {name}` runs");
        }
        say!();
        say_text!(pods_table(&overview.pods));
        say!();
        if let Err(error) = targets {
            say!("Prometheus {} does not answer: {error}", record.prometheus);
        }
        say_text!(targets_table(&overview.targets));
        Ok(Exit::Success)
    }
}
