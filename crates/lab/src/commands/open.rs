//! `lab open`: a local port that leads to Prometheus, Grafana, Alertmanager or a component's metrics.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::{Output, Which};
use crate::exit::{Exit, Failure};
use crate::provider::access::{Forward, Goal};
use crate::provider::record::ClusterRecord;
use crate::reach;

/// What can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Prometheus' page.
    Prometheus,
    /// Grafana; its first user is admin with the password admin.
    Grafana,
    /// Alertmanager's page.
    Alertmanager,
    /// The metrics of a component of KubeVirt.
    Metrics,
}

#[derive(Args)]
pub(super) struct Open {
    #[command(flatten)]
    which: Which,
    /// What is opened.
    what: What,
    /// The component, for `metrics`.
    #[arg(long, default_value = "virt-controller")]
    component: String,
    /// The local port; 0 is any that is free.
    #[arg(long)]
    port: Option<u16>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl What {
    const ALL: [Self; 4] = [Self::Prometheus, Self::Grafana, Self::Alertmanager, Self::Metrics];

    fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Grafana => "grafana",
            Self::Alertmanager => "alertmanager",
            Self::Metrics => "metrics",
        }
    }

    /// The local port if none is named: the program's own with 1 or 2 before it, so that it is the same every time.
    fn local_port(self) -> u16 {
        match self {
            Self::Prometheus => 19090,
            Self::Grafana => 13000,
            Self::Alertmanager => 19093,
            Self::Metrics => 18443,
        }
    }

    fn url(self, host: &str) -> String {
        match self {
            Self::Metrics => format!("https://{host}/metrics"),
            Self::Prometheus | Self::Grafana | Self::Alertmanager => format!("http://{host}"),
        }
    }

    /// Where it is in a cluster with this Prometheus object.
    fn goal(self, prometheus: (&str, &str), component: &str) -> Goal {
        let (namespace, name) = prometheus;
        let (namespace, labels, port) = match self {
            Self::Prometheus => (namespace, format!("operator.prometheus.io/name={name}"), 9090),
            Self::Grafana => (namespace, "app.kubernetes.io/name=grafana".to_owned(), 3000),
            Self::Alertmanager => (namespace, "app.kubernetes.io/name=alertmanager".to_owned(), 9093),
            Self::Metrics => ("", format!("kubevirt.io={component}"), 8443),
        };
        Goal { namespace: namespace.to_owned(), labels, port }
    }
}

/// The URLs under which things are reached while `lab open` runs.
pub(crate) fn ways() -> BTreeMap<&'static str, String> {
    What::ALL.into_iter().map(|what| (what.name(), what.url(&format!("127.0.0.1:{}", what.local_port())))).collect()
}

impl Open {
    pub(super) async fn run(self) -> Result<Exit> {
        let dir = self.which.dir()?;
        super::reachable(&dir)?;
        let record = ClusterRecord::of(&dir);
        let client = reach::kube_client(&dir.kubeconfig(), None).await?;
        let named = record.as_ref().map_or("monitoring/k8s", |record| record.prometheus.as_str());
        let mut goal = self.what.goal(named.split_once('/').unwrap_or(("monitoring", named)), &self.component);
        if goal.namespace.is_empty() {
            goal.namespace = namespace_of(&client, &goal.labels).await?;
        }
        let forward = Forward::open(client, goal, self.port.unwrap_or(self.what.local_port())).await?;
        let url = self.what.url(&forward.address().to_string());
        if !self.output.json(&serde_json::json!({"what": self.what.name(), "url": url})) {
            say!("{url}");
            if self.what == What::Grafana {
                say!("user admin, password admin, as kube-prometheus sets them");
            }
            eprintln!("open until Ctrl-C");
        }
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        drop(forward);
        Ok(Exit::Success)
    }
}

/// The namespace of the pods with these labels: KubeVirt's own is not the same in every release.
async fn namespace_of(client: &kube::Client, labels: &str) -> Result<String> {
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::all(client.clone());
    let list = pods.list(&kube::api::ListParams::default().labels(labels)).await?;
    match list.items.into_iter().next().and_then(|pod| pod.metadata.namespace) {
        Some(namespace) => Ok(namespace),
        None => bail!(
            Failure::new(Exit::Usage, format!("there is no pod with the label {labels}"))
                .hint("name a component of KubeVirt with --component: virt-api, virt-controller, virt-handler, virt-operator")
        ),
    }
}
