//! Deployments, DaemonSets, StatefulSets, ReplicaSets and PodDisruptionBudgets (`internal/store/deployment.go` and its kin).

use apiserver::Gr;
use serde_json::Value;

use super::{Resource, Samples, created, deletion, gauge, generation, in_namespace, labels, observed, owners};
use crate::page::{items, number, text};

/// A family whose value is a number of the status.
macro_rules! status {
    ($name:literal, $key:literal, $help:literal) => {
        gauge($name, $help, |object, samples| samples.one(number(&object["status"][$key])))
    };
}

/// How many pods a workload's spec asks for; 1 where it does not say.
fn replicas(object: &Value, samples: &mut Samples<'_>) {
    samples.one(object["spec"]["replicas"].as_f64().unwrap_or(1.0));
}

pub(super) const DEPLOYMENTS: Resource = Resource {
    name: "deployments",
    gr: Gr::of("apps", "deployments"),
    go_type: "*v1.Deployment",
    identity: in_namespace!("deployment"),
    families: &[
        gauge("kube_deployment_created", "When a Deployment was made, in seconds since 1970.", created),
        gauge("kube_deployment_deletion_timestamp", "When a Deployment is to be gone, in seconds since 1970.", deletion),
        gauge("kube_deployment_labels", "Labels of a Deployment, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_deployment_spec_replicas", "How many pods a Deployment is to have.", replicas),
        gauge("kube_deployment_spec_paused", "Whether a Deployment rolls nothing out.", |deployment, samples| {
            samples.one(f64::from(u8::from(deployment["spec"]["paused"] == true)));
        }),
        gauge("kube_deployment_metadata_generation", "The number of a Deployment's spec.", generation),
        gauge("kube_deployment_status_observed_generation", "The spec that a Deployment's status is about.", observed),
        status!("kube_deployment_status_replicas", "replicas", "How many pods a Deployment has."),
        status!("kube_deployment_status_replicas_ready", "readyReplicas", "How many of a Deployment's pods are ready."),
        status!("kube_deployment_status_replicas_available", "availableReplicas", "How many of a Deployment's pods can be used."),
        status!(
            "kube_deployment_status_replicas_unavailable",
            "unavailableReplicas",
            "How many of a Deployment's pods are missing."
        ),
        status!(
            "kube_deployment_status_replicas_updated",
            "updatedReplicas",
            "How many of a Deployment's pods are of its last template."
        ),
        gauge("kube_deployment_status_condition", "Conditions of a Deployment.", |deployment, samples| {
            for condition in items(&deployment["status"]["conditions"]) {
                // Others than these are not told apart (`allowedDeploymentReasons`).
                let reason = match text(&condition["reason"]) {
                    known @ ("MinimumReplicasAvailable"
                    | "MinimumReplicasUnavailable"
                    | "NewReplicaSetAvailable"
                    | "NewReplicaSetCreated"
                    | "ReplicaSetUpdated"
                    | "ProgressDeadlineExceeded"
                    | "FoundNewReplicaSet"
                    | "FailedCreate"
                    | "ReplicaSetCreateError"
                    | "DeploymentPaused"
                    | "DeploymentResumed") => known,
                    _ => "unknown",
                };
                samples.condition(&[("reason", reason), ("condition", text(&condition["type"]))], "status", &condition["status"]);
            }
        }),
    ],
};

pub(super) const DAEMON_SETS: Resource = Resource {
    name: "daemonsets",
    gr: Gr::of("apps", "daemonsets"),
    go_type: "*v1.DaemonSet",
    identity: in_namespace!("daemonset"),
    families: &[
        gauge("kube_daemonset_created", "When a DaemonSet was made, in seconds since 1970.", created),
        gauge("kube_daemonset_labels", "Labels of a DaemonSet, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_daemonset_metadata_generation", "The number of a DaemonSet's spec.", generation),
        gauge("kube_daemonset_status_observed_generation", "The spec that a DaemonSet's status is about.", observed),
        status!(
            "kube_daemonset_status_current_number_scheduled",
            "currentNumberScheduled",
            "On how many nodes a DaemonSet has the pod that is to be there."
        ),
        status!(
            "kube_daemonset_status_desired_number_scheduled",
            "desiredNumberScheduled",
            "On how many nodes a DaemonSet is to have a pod."
        ),
        status!("kube_daemonset_status_number_available", "numberAvailable", "On how many nodes a DaemonSet's pod can be used."),
        status!(
            "kube_daemonset_status_number_misscheduled",
            "numberMisscheduled",
            "On how many nodes a DaemonSet has a pod that is not to be there."
        ),
        status!("kube_daemonset_status_number_ready", "numberReady", "On how many nodes a DaemonSet's pod is ready."),
        status!(
            "kube_daemonset_status_number_unavailable",
            "numberUnavailable",
            "On how many nodes a DaemonSet's pod is missing."
        ),
        status!(
            "kube_daemonset_status_updated_number_scheduled",
            "updatedNumberScheduled",
            "On how many nodes a DaemonSet's pod is of its last template."
        ),
    ],
};

pub(super) const STATEFUL_SETS: Resource = Resource {
    name: "statefulsets",
    gr: Gr::of("apps", "statefulsets"),
    go_type: "*v1.StatefulSet",
    identity: in_namespace!("statefulset"),
    families: &[
        gauge("kube_statefulset_created", "When a StatefulSet was made, in seconds since 1970.", created),
        gauge("kube_statefulset_labels", "Labels of a StatefulSet, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_statefulset_replicas", "How many pods a StatefulSet is to have.", replicas),
        gauge("kube_statefulset_metadata_generation", "The number of a StatefulSet's spec.", generation),
        gauge("kube_statefulset_status_observed_generation", "The spec that a StatefulSet's status is about.", observed),
        status!("kube_statefulset_status_replicas", "replicas", "How many pods a StatefulSet has."),
        status!(
            "kube_statefulset_status_replicas_available",
            "availableReplicas",
            "How many of a StatefulSet's pods can be used."
        ),
        status!(
            "kube_statefulset_status_replicas_current",
            "currentReplicas",
            "How many of a StatefulSet's pods are of its current revision."
        ),
        status!("kube_statefulset_status_replicas_ready", "readyReplicas", "How many of a StatefulSet's pods are ready."),
        status!(
            "kube_statefulset_status_replicas_updated",
            "updatedReplicas",
            "How many of a StatefulSet's pods are of its next revision."
        ),
        gauge("kube_statefulset_status_current_revision", "The current revision of a StatefulSet.", |set, samples| {
            samples.with(&[("revision", text(&set["status"]["currentRevision"]))], 1.0);
        }),
        gauge("kube_statefulset_status_update_revision", "The next revision of a StatefulSet.", |set, samples| {
            samples.with(&[("revision", text(&set["status"]["updateRevision"]))], 1.0);
        }),
    ],
};

pub(super) const REPLICA_SETS: Resource = Resource {
    name: "replicasets",
    gr: Gr::of("apps", "replicasets"),
    go_type: "*v1.ReplicaSet",
    identity: in_namespace!("replicaset"),
    families: &[
        gauge("kube_replicaset_created", "When a ReplicaSet was made, in seconds since 1970.", created),
        gauge("kube_replicaset_labels", "Labels of a ReplicaSet, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_replicaset_owner", "What owns a ReplicaSet.", owners),
        gauge("kube_replicaset_spec_replicas", "How many pods a ReplicaSet is to have.", replicas),
        gauge("kube_replicaset_metadata_generation", "The number of a ReplicaSet's spec.", generation),
        gauge("kube_replicaset_status_observed_generation", "The spec that a ReplicaSet's status is about.", observed),
        status!("kube_replicaset_status_replicas", "replicas", "How many pods a ReplicaSet has."),
        status!(
            "kube_replicaset_status_fully_labeled_replicas",
            "fullyLabeledReplicas",
            "How many of a ReplicaSet's pods have all labels of its template."
        ),
        status!("kube_replicaset_status_ready_replicas", "readyReplicas", "How many of a ReplicaSet's pods are ready."),
    ],
};

pub(super) const BUDGETS: Resource = Resource {
    name: "poddisruptionbudgets",
    gr: Gr::of("policy", "poddisruptionbudgets"),
    go_type: "*v1.PodDisruptionBudget",
    identity: in_namespace!("poddisruptionbudget"),
    families: &[
        gauge("kube_poddisruptionbudget_created", "When a PodDisruptionBudget was made, in seconds since 1970.", created),
        gauge(
            "kube_poddisruptionbudget_labels",
            "Labels of a PodDisruptionBudget, as far as --metric-labels-allowlist allows them.",
            labels,
        ),
        status!("kube_poddisruptionbudget_status_current_healthy", "currentHealthy", "How many pods of a budget are healthy."),
        status!(
            "kube_poddisruptionbudget_status_desired_healthy",
            "desiredHealthy",
            "How many pods of a budget are to be healthy."
        ),
        status!(
            "kube_poddisruptionbudget_status_pod_disruptions_allowed",
            "disruptionsAllowed",
            "How many pods of a budget may be evicted."
        ),
        status!("kube_poddisruptionbudget_status_expected_pods", "expectedPods", "How many pods a budget is about."),
        gauge("kube_poddisruptionbudget_status_observed_generation", "The spec that a budget's status is about.", observed),
    ],
};
