//! What a scenario may name, from the releases' data and the manifests: [`scenario::Catalogue`] for this repository's simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::Result;
use contract::{AtHand, Finding, Shape};
use kubevirt::{Defect, Release};
use scenario::{Catalogue, Reads};

use crate::commands::contract_source;
use crate::manifests;

/// All that is known of one release.
struct Facts {
    namespace: String,
    requests: String,
    /// Names of metrics, those of histograms' parts included, but not what rules record.
    metrics: BTreeSet<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
    rules: BTreeSet<String>,
    components: BTreeSet<String>,
    /// What queries may read: metrics with the labels of targets, and what rules record.
    at_hand: AtHand,
}

/// Alerts of kube-prometheus that watch what every cluster has; scenarios on real clusters may name them.
/// Source: kubernetes-mixin, node-mixin, prometheus-mixin and alertmanager-mixin as kube-prometheus 0.18 generates them.
const OF_KUBE_PROMETHEUS: &[&str] = &[
    "AlertmanagerClusterCrashlooping",
    "AlertmanagerClusterDown",
    "AlertmanagerClusterFailedToSendAlerts",
    "AlertmanagerConfigInconsistent",
    "AlertmanagerFailedReload",
    "AlertmanagerFailedToSendAlerts",
    "AlertmanagerMembersInconsistent",
    "CPUThrottlingHigh",
    "ConfigReloaderSidecarErrors",
    "InfoInhibitor",
    "KubeAPIDown",
    "KubeAPIErrorBudgetBurn",
    "KubeAPITerminatedRequests",
    "KubeAggregatedAPIDown",
    "KubeAggregatedAPIErrors",
    "KubeCPUOvercommit",
    "KubeCPUQuotaOvercommit",
    "KubeClientCertificateExpiration",
    "KubeClientErrors",
    "KubeContainerWaiting",
    "KubeControllerManagerDown",
    "KubeDaemonSetMisScheduled",
    "KubeDaemonSetNotScheduled",
    "KubeDaemonSetRolloutStuck",
    "KubeDeploymentGenerationMismatch",
    "KubeDeploymentReplicasMismatch",
    "KubeDeploymentRolloutStuck",
    "KubeHpaMaxedOut",
    "KubeHpaReplicasMismatch",
    "KubeJobFailed",
    "KubeJobNotCompleted",
    "KubeMemoryOvercommit",
    "KubeMemoryQuotaOvercommit",
    "KubeNodeEviction",
    "KubeNodeNotReady",
    "KubeNodePressure",
    "KubeNodeReadinessFlapping",
    "KubeNodeUnreachable",
    "KubePdbNotEnoughHealthyPods",
    "KubePersistentVolumeErrors",
    "KubePersistentVolumeFillingUp",
    "KubePersistentVolumeInodesFillingUp",
    "KubePodCrashLooping",
    "KubePodNotReady",
    "KubeProxyDown",
    "KubeQuotaAlmostFull",
    "KubeQuotaExceeded",
    "KubeQuotaFullyUsed",
    "KubeSchedulerDown",
    "KubeStateMetricsListErrors",
    "KubeStateMetricsShardingMismatch",
    "KubeStateMetricsShardsMissing",
    "KubeStateMetricsWatchErrors",
    "KubeStatefulSetGenerationMismatch",
    "KubeStatefulSetReplicasMismatch",
    "KubeStatefulSetUpdateNotRolledOut",
    "KubeVersionMismatch",
    "KubeletClientCertificateExpiration",
    "KubeletClientCertificateRenewalErrors",
    "KubeletDown",
    "KubeletPlegDurationHigh",
    "KubeletPodStartUpLatencyHigh",
    "KubeletServerCertificateExpiration",
    "KubeletServerCertificateRenewalErrors",
    "KubeletTooManyPods",
    "NodeCPUHighUsage",
    "NodeClockNotSynchronising",
    "NodeClockSkewDetected",
    "NodeDiskIOSaturation",
    "NodeFileDescriptorLimit",
    "NodeFilesystemAlmostOutOfFiles",
    "NodeFilesystemAlmostOutOfSpace",
    "NodeFilesystemFilesFillingUp",
    "NodeFilesystemSpaceFillingUp",
    "NodeHighNumberConntrackEntriesUsed",
    "NodeMemoryHighUtilization",
    "NodeMemoryMajorPagesFaults",
    "NodeNetworkInterfaceFlapping",
    "NodeNetworkReceiveErrs",
    "NodeNetworkTransmitErrs",
    "NodeRAIDDegraded",
    "NodeRAIDDiskFailure",
    "NodeSystemSaturation",
    "NodeSystemdServiceCrashlooping",
    "NodeSystemdServiceFailed",
    "NodeTextFileCollectorScrapeError",
    "PrometheusBadConfig",
    "PrometheusDuplicateTimestamps",
    "PrometheusErrorSendingAlertsToAnyAlertmanager",
    "PrometheusErrorSendingAlertsToSomeAlertmanagers",
    "PrometheusHighQueryLoad",
    "PrometheusKubernetesListWatchFailures",
    "PrometheusLabelLimitHit",
    "PrometheusMissingRuleEvaluations",
    "PrometheusNotConnectedToAlertmanagers",
    "PrometheusNotIngestingSamples",
    "PrometheusNotificationQueueRunningFull",
    "PrometheusOperatorListErrors",
    "PrometheusOperatorNodeLookupErrors",
    "PrometheusOperatorNotReady",
    "PrometheusOperatorReconcileErrors",
    "PrometheusOperatorRejectedResources",
    "PrometheusOperatorStatusUpdateErrors",
    "PrometheusOperatorSyncFailed",
    "PrometheusOperatorWatchErrors",
    "PrometheusOutOfOrderTimestamps",
    "PrometheusRemoteStorageFailures",
    "PrometheusRemoteWriteBehind",
    "PrometheusRemoteWriteDesiredShards",
    "PrometheusRuleFailures",
    "PrometheusSDRefreshFailure",
    "PrometheusScrapeBodySizeLimitHit",
    "PrometheusScrapeSampleLimitHit",
    "PrometheusTSDBCompactionsFailing",
    "PrometheusTSDBReloadsFailing",
    "PrometheusTargetLimitHit",
    "PrometheusTargetSyncFailure",
    "TargetDown",
    "Watchdog",
];

/// The suffixes of a histogram's parts.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

impl Facts {
    fn of(release: &Release) -> Result<Self> {
        let shape: Shape = contract_source::of_release(release)?;
        let mut metrics = BTreeSet::new();
        let mut labels = BTreeMap::new();
        for (name, family) in &shape.families {
            let parts = PARTS.iter().map(|part| format!("{name}{part}"));
            for name in std::iter::once(name.clone()).chain(parts.filter(|_| !family.bounds.is_empty())) {
                labels.insert(name.clone(), family.labels.clone());
                metrics.insert(name);
            }
        }
        let rules = manifests::rules(release)?;
        let pages = vec![contract_source::page_of_release(release)?, contract_source::page_of_alerts()];
        let at_hand = AtHand { pages, complete: false }.with_recordings(&manifests::rule_readers(release)?);
        Ok(Self {
            namespace: release.namespace.clone(),
            requests: release.client.requests.clone(),
            metrics,
            labels,
            rules: rules.into_keys().collect(),
            components: release.components.keys().cloned().collect(),
            at_hand,
        })
    }
}

/// The facts of a release; nothing where it is not known. They are gathered once, as long as the program lives.
fn facts(release: &str) -> Option<Arc<Facts>> {
    static FACTS: LazyLock<Mutex<BTreeMap<String, Arc<Facts>>>> = LazyLock::new(Mutex::default);
    if let Some(known) = FACTS.lock().unwrap_or_else(PoisonError::into_inner).get(release) {
        return Some(known.clone());
    }
    // A release whose data is broken is a bug, which the tests of the data find.
    let facts = Arc::new(Facts::of(&Release::load(release).ok()?).ok()?);
    FACTS.lock().unwrap_or_else(PoisonError::into_inner).insert(release.to_owned(), facts.clone());
    Some(facts)
}

/// The simulated releases.
pub struct Simulated;

impl Catalogue for Simulated {
    fn releases(&self) -> Vec<String> {
        Release::known().into_iter().map(str::to_owned).collect()
    }

    fn defects(&self) -> Vec<String> {
        Defect::ALL.iter().map(|defect| defect.name()).collect()
    }

    fn words(&self, release: &str) -> (String, String) {
        facts(release).map(|facts| (facts.namespace.clone(), facts.requests.clone())).unwrap_or_default()
    }

    fn metrics(&self, release: &str) -> BTreeSet<String> {
        facts(release).map(|facts| facts.metrics.clone()).unwrap_or_default()
    }

    fn labels(&self, release: &str, metric: &str) -> Option<BTreeSet<String>> {
        facts(release)?.labels.get(metric).cloned()
    }

    fn rules(&self, release: &str) -> BTreeSet<String> {
        let of_release = facts(release).map(|facts| facts.rules.clone()).unwrap_or_default();
        of_release.into_iter().chain(OF_KUBE_PROMETHEUS.iter().map(|name| (*name).to_owned())).collect()
    }

    fn components(&self, release: &str) -> BTreeSet<String> {
        facts(release).map(|facts| facts.components.clone()).unwrap_or_default()
    }

    fn resources(&self) -> BTreeSet<(String, String)> {
        static RESOURCES: LazyLock<BTreeSet<(String, String)>> = LazyLock::new(|| {
            let mut resources: BTreeSet<(String, String)> =
                apiserver::built_in_resources().map(|(group, plural)| (group.to_owned(), plural.to_owned())).collect();
            resources.extend(manifests::definitions());
            for release in Release::known().into_iter().filter_map(|tag| Release::load(tag).ok()) {
                resources.extend(release.definitions.iter().map(|one| (one.group.clone(), one.plural.clone())));
            }
            resources
        });
        RESOURCES.clone()
    }

    fn reads(&self, release: &str, expression: &str) -> Result<Reads, String> {
        promql::check(expression, &promql::Options::default()).map_err(|error| error.to_string())?;
        let Some(facts) = facts(release) else { return Ok(Reads::default()) };
        let found = contract::check_expression(expression, None, &facts.at_hand)?;
        let labels = found.labels.map(|labels| labels.into_keys().collect());
        let mut reads = Reads { labels, ..Reads::default() };
        for finding in found.findings {
            match &finding {
                Finding::NoMetric { metric, .. } => reads.missing.push((metric.clone(), finding.to_string())),
                Finding::NoLabel { .. } | Finding::NoValue { .. } => reads.findings.push(finding.to_string()),
                // A query has no annotations.
                Finding::NoTemplateLabel { .. } => {}
            }
        }
        Ok(reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_has_facts() {
        for release in Simulated.releases() {
            let (namespace, requests) = Simulated.words(&release);
            assert!(!namespace.is_empty() && Simulated.metrics(&release).contains(&requests), "{release}: {requests}");
            assert!(Simulated.components(&release).contains("virt-api"), "{release}");
        }
        let resources = Simulated.resources();
        for (group, plural) in [
            ("", "pods"),
            ("apps", "deployments"),
            ("monitoring.coreos.com", "prometheusrules"),
            ("kubevirt.io", "virtualmachines"),
        ] {
            assert!(resources.contains(&(group.to_owned(), plural.to_owned())), "{plural}.{group}");
        }
    }

    #[test]
    fn queries_are_read_with_the_release_s_own_rules() {
        let reads = |expression: &str| Simulated.reads("v1.9.0", expression);
        let read = reads("sum by (code) (rate(kubevirt_rest_client_requests_total[5m]))").unwrap();
        assert!(read.missing.is_empty() && read.findings.is_empty(), "{read:?}");
        assert_eq!(read.labels, Some(["code".to_owned()].into()));
        assert!(reads("cluster:kubevirt_virt_api_up:sum").unwrap().missing.is_empty());
        assert_eq!(reads("kubevirt_rest_client_request_total").unwrap().missing[0].0, "kubevirt_rest_client_request_total");
        assert!(reads("sum(").is_err() && reads("rate(kubevirt_info)").is_err());
    }
}
