//! What scenarios run on: labs of their own, or a cluster that is up.

use std::path::Path;

use anyhow::Result;
use scenario::{Ending, Report, Variation};
use tokio_util::sync::CancellationToken;

use crate::provider::bench::ClusterBench;
use crate::scenarios::{self, Job};
use crate::tools;

/// What scenarios run on.
pub(super) enum Ground {
    /// Each scenario has an embedded lab of its own.
    Embedded(Box<tools::Prometheus>),
    /// All share a cluster.
    Cluster(Box<ClusterBench>),
}

impl Ground {
    /// The provider's name.
    fn provider(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Cluster(bench) => bench.provider(),
        }
    }

    /// The known release that stands for what runs there; nothing where any can be had.
    pub(super) fn release(&self) -> Option<&str> {
        match self {
            Self::Embedded(_) => None,
            Self::Cluster(bench) => Some(bench.release()),
        }
    }

    /// Runs a job; what goes wrong with the lab is a report, too.
    pub(super) async fn run(&self, job: &Job, artifacts: Option<&Path>, interrupted: &CancellationToken) -> Report {
        if interrupted.is_cancelled() {
            return job.ended(self.provider(), Ending::Interrupted);
        }
        match self {
            Self::Embedded(prometheus) => scenarios::run_until(job, prometheus, artifacts, interrupted).await,
            Self::Cluster(bench) => {
                let releases = &job.variation.scenario.given.kubevirt;
                if !releases.all().iter().any(|release| release == bench.release()) {
                    let there = bench
                        .treated_as()
                        .map_or_else(|| format!("the cluster runs KubeVirt {}", bench.release()), str::to_owned);
                    let why = format!("it is for KubeVirt {}, and {there}", releases.text());
                    return job.ended(self.provider(), Ending::NotRunnable { why });
                }
                match bench.run(job, interrupted).await {
                    Ok(report) => report,
                    Err(error) => job.ended(self.provider(), Ending::LabFailed { why: format!("{error:#}") }),
                }
            }
        }
    }

    /// Puts back what an interrupted scenario has changed.
    pub(super) async fn put_back(&self) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Cluster(bench) => bench.put_back().await,
        }
    }
}

/// The releases that a variant is run on: what a person wants, what the clusters run, or what the scenario names.
pub(super) fn releases(grounds: &[Ground], only: Option<&str>, variation: &Variation) -> Vec<String> {
    let given = &variation.scenario.given.kubevirt;
    let is_for = |release: &str| given.all().iter().any(|one| one == release);
    if let Some(only) = only {
        return if is_for(only) { vec![only.to_owned()] } else { Vec::new() };
    }
    let of_clusters: Vec<&str> = grounds.iter().filter_map(Ground::release).collect();
    match of_clusters.first() {
        None => given.to_run().to_vec(),
        // One run says that it is not for what the cluster runs; more would say it again.
        Some(release) if is_for(release) => vec![(*release).to_owned()],
        Some(_) => given.to_run().iter().take(1).cloned().collect(),
    }
}
