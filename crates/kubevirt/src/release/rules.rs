//! Rules that are told with the release, as the PrometheusRule that its virt-operator makes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Release;

/// Where KubeVirt's runbooks are.
const RUNBOOKS: &str = "https://kubevirt.io/monitoring/runbooks/";

/// A recording rule or an alert.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// PromQL.
    pub expr: String,
    /// How long an alert is pending.
    #[serde(default, rename = "for")]
    pub pending: Option<String>,
    /// How bad an alert is.
    #[serde(default)]
    pub severity: Option<String>,
    /// What it means for KubeVirt itself (`operator_health_impact`).
    #[serde(default)]
    pub impact: Option<String>,
    /// What an alert says, in our words. A rule without it is a recording rule.
    #[serde(default)]
    pub summary: Option<String>,
}

/// The object; nothing for a release that tells no rules.
pub(super) fn object(release: &Release) -> Option<Value> {
    if release.rules.is_empty() {
        return None;
    }
    let (mut records, mut alerts) = (Vec::new(), Vec::new());
    for (key, rule) in &release.rules {
        // Two alerts of one name are told apart by what follows the name.
        let name = key.split('/').next().unwrap_or(key);
        let Some(summary) = &rule.summary else {
            records.push(json!({"record": name, "expr": rule.expr}));
            continue;
        };
        let mut labels = Map::new();
        if let Some(severity) = &rule.severity {
            labels.insert("severity".to_owned(), severity.as_str().into());
        }
        if let Some(impact) = &rule.impact {
            labels.insert("operator_health_impact".to_owned(), impact.as_str().into());
            labels.insert("kubernetes_operator_part_of".to_owned(), "kubevirt".into());
            labels.insert("kubernetes_operator_component".to_owned(), "kubevirt".into());
        }
        let mut alert = json!({
            "alert": name, "expr": rule.expr, "labels": labels,
            "annotations": {"summary": summary, "runbook_url": format!("{RUNBOOKS}{name}")},
        });
        if let Some(pending) = &rule.pending {
            alert["for"] = pending.as_str().into();
        }
        alerts.push(alert);
    }
    let groups = [("recordingRules.rules", records), ("alerts.rules", alerts)];
    let groups: Vec<Value> = groups.into_iter().map(|(name, rules)| json!({"name": name, "rules": rules})).collect();
    Some(json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {
            "name": "prometheus-kubevirt-rules", "namespace": release.namespace,
            "labels": {"prometheus.kubevirt.io": "true", "k8s-app": "kubevirt", "app.kubernetes.io/managed-by": "virt-operator"},
        },
        "spec": {"groups": groups},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_recording_rules_are_told_apart() {
        let rule = Release::load("v1.8.0").unwrap().prometheus_rule().unwrap();
        let of = |index: usize| rule["spec"]["groups"][index]["rules"].as_array().unwrap().clone();
        let (records, alerts) = (of(0), of(1));
        assert!(records.iter().all(|rule| rule["record"].is_string()) && alerts.iter().all(|rule| rule["alert"].is_string()));
        let twice = alerts.iter().filter(|rule| rule["alert"] == "GuestFilesystemAlmostOutOfSpace").count();
        assert_eq!((records.len(), alerts.len(), twice), (32, 33, 2));
        assert!(Release::load("v0.21.0").unwrap().prometheus_rule().is_none());
    }
}
