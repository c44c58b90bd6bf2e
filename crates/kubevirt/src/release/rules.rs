//! The rules of a release, as the PrometheusRule that its virt-operator makes.
//!
//! Since v1.3.0 there are two groups, of recording rules and of alerts, each in the order of names (operator-observability's `operatorrules`
//! sorts them). Before, groups were in the order of the source, until v1.1 one for both. Prometheus evaluates a group one rule after the
//! other, so the order belongs to the data: `ruleGroups`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Release;

/// Where KubeVirt's runbooks are.
const RUNBOOKS: &str = "https://kubevirt.io/monitoring/runbooks/";

/// What stands for KubeVirt's namespace in expressions and labels.
const NAMESPACE: &str = "{namespace}";

/// A recording rule or an alert.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// PromQL; `{namespace}` in quotes is the namespace that KubeVirt is installed in.
    pub expr: String,
    /// How long an alert is pending.
    #[serde(default, rename = "for")]
    pub pending: Option<String>,
    /// How bad an alert is.
    #[serde(default)]
    pub severity: Option<String>,
    /// What it means for KubeVirt itself (`operator_health_impact`); with it come the labels that name the operator.
    #[serde(default)]
    pub impact: Option<String>,
    /// Labels besides those, of an alert or of what is recorded.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether an alert names its runbook; each does, but for two of v0.46.0.
    #[serde(default = "super::yes")]
    pub runbook: bool,
    /// What an alert says, in our words. A rule without it is a recording rule.
    #[serde(default)]
    pub summary: Option<String>,
    /// What an alert says of the object that it is about, in our words.
    #[serde(default)]
    pub description: Option<String>,
}

/// The name of a rule by its key: two rules of one name differ in what follows the name.
fn name(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

impl Rule {
    fn is_alert(&self) -> bool {
        self.summary.is_some()
    }

    fn labels(&self, namespace: &str) -> Map<String, Value> {
        let mut labels = Map::new();
        let mut set = |label: &str, value: &str| labels.insert(label.to_owned(), value.replace(NAMESPACE, namespace).into());
        if let Some(severity) = &self.severity {
            set("severity", severity);
        }
        if let Some(impact) = &self.impact {
            set("operator_health_impact", impact);
            set("kubernetes_operator_part_of", "kubevirt");
            set("kubernetes_operator_component", "kubevirt");
        }
        for (label, value) in &self.labels {
            set(label, value);
        }
        labels
    }

    /// As a rule file has it.
    fn rendered(&self, name: &str, namespace: &str) -> Value {
        let kind = if self.is_alert() { "alert" } else { "record" };
        let mut rule = json!({kind: name, "expr": self.expr.replace(NAMESPACE, namespace)});
        if let Some(pending) = &self.pending {
            rule["for"] = pending.as_str().into();
        }
        let labels = self.labels(namespace);
        if !labels.is_empty() {
            rule["labels"] = labels.into();
        }
        if let Some(summary) = &self.summary {
            rule["annotations"] = json!({"summary": summary});
        }
        if self.is_alert() && self.runbook {
            rule["annotations"]["runbook_url"] = format!("{RUNBOOKS}{name}").into();
        }
        if let Some(description) = &self.description {
            rule["annotations"]["description"] = description.as_str().into();
        }
        rule
    }
}

/// The groups of a release's rules, for a KubeVirt that is installed in this namespace.
pub(super) fn groups(release: &Release, namespace: &str) -> Vec<Value> {
    let rendered = |key: &String| release.rules.get(key).map(|rule| rule.rendered(name(key), namespace));
    let group = |name: &str, keys: Vec<&String>| json!({"name": name, "rules": keys.into_iter().filter_map(rendered).collect::<Vec<_>>()});
    if !release.rule_groups.is_empty() {
        return release.rule_groups.iter().map(|(name, keys)| group(name, keys.iter().collect())).collect();
    }
    let keys = |alerts: bool| release.rules.iter().filter(|(_, rule)| rule.is_alert() == alerts).map(|(key, _)| key).collect();
    vec![group("recordingRules.rules", keys(false)), group("alerts.rules", keys(true))]
}

/// The object; nothing for a release without rules.
pub(super) fn object(release: &Release) -> Option<Value> {
    if release.rules.is_empty() {
        return None;
    }
    Some(json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {
            "name": "prometheus-kubevirt-rules", "namespace": release.namespace,
            "labels": {
                "prometheus.kubevirt.io": "true", "k8s-app": "kubevirt",
                "app.kubernetes.io/component": "kubevirt", "app.kubernetes.io/managed-by": "virt-operator",
            },
        },
        "spec": {"groups": groups(release, &release.namespace)},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups_of(tag: &str) -> Vec<(String, Vec<Value>)> {
        let groups = Release::load(tag).unwrap().rule_groups("ns");
        let name = |group: &Value| group["name"].as_str().unwrap().to_owned();
        groups.iter().map(|group| (name(group), group["rules"].as_array().unwrap().clone())).collect()
    }

    #[test]
    fn alerts_and_recording_rules_are_told_apart() {
        let groups = groups_of("v1.8.0");
        let [(_, records), (_, alerts)] = &groups[..] else { panic!("{groups:?}") };
        assert!(records.iter().all(|rule| rule["record"].is_string()) && alerts.iter().all(|rule| rule["alert"].is_string()));
        let twice = |rules: &[Value], kind: &str, name: &str| rules.iter().filter(|rule| rule[kind] == name).count();
        assert_eq!(twice(alerts, "alert", "GuestFilesystemAlmostOutOfSpace"), 2);
        assert_eq!(twice(records, "record", "kubevirt_memory_delta_from_requested_bytes"), 2);
        assert_eq!((records.len(), alerts.len()), (33, 33));
        assert!(Release::load("v0.21.0").unwrap().prometheus_rule().unwrap().is_none());
    }

    #[test]
    fn every_release_with_rules_makes_an_object_of_them() {
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            let object = release.prometheus_rule().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(object.is_some(), !release.rules.is_empty(), "{tag}");
            let Some(object) = object else { continue };
            let label = if tag == "v0.46.0" { "" } else { "true" };
            assert_eq!(object["metadata"]["labels"]["prometheus.kubevirt.io"], label, "{tag}");
            assert_eq!(object["spec"]["groups"], Value::from(release.rule_groups(&release.namespace)), "{tag}");
        }
    }

    #[test]
    fn every_rule_is_in_one_group_and_of_one_namespace() {
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            let groups = groups_of(tag);
            let count: usize = groups.iter().map(|(_, rules)| rules.len()).sum();
            assert_eq!(
                count,
                release.rules.len(),
                "{tag}: a rule is in no group or in several, or a group names what is no rule"
            );
            let text = serde_json::to_string(&release.rule_groups("ns")).unwrap();
            assert!(!text.contains(NAMESPACE) && !text.contains("namespace=\\\"kubevirt"), "{tag}: {text}");
            for rule in groups.iter().flat_map(|(_, rules)| rules).filter(|rule| rule["alert"].is_string()) {
                let name = rule["alert"].as_str().unwrap();
                let without = tag == "v0.46.0" && name.starts_with("VirtApiRESTErrors");
                let runbook = (!without).then(|| format!("https://kubevirt.io/monitoring/runbooks/{name}"));
                assert_eq!(rule["annotations"]["runbook_url"].as_str(), runbook.as_deref(), "{tag}");
                assert!(
                    rule["labels"]["severity"].is_string() || name == "OutdatedVirtualMachineInstanceWorkloads",
                    "{tag}: {rule}"
                );
            }
        }
    }

    /// A group is evaluated one rule after the other, so one that reads another's record sees it a round late if it comes first.
    #[test]
    fn rules_are_in_the_order_of_their_release() {
        let names = |tag: &str| -> Vec<(String, Vec<String>)> {
            let name = |rule: &Value| rule["record"].as_str().or(rule["alert"].as_str()).unwrap().to_owned();
            groups_of(tag).into_iter().map(|(group, rules)| (group, rules.iter().map(name).collect())).collect()
        };
        let old = names("v0.59.0");
        assert_eq!(old[0].0, "kubevirt.rules");
        assert_eq!(old[0].1[..2], ["kubevirt_virt_api_up_total", "VirtAPIDown"]);
        for tag in ["v1.3.0", "v1.9.0"] {
            let groups = names(tag);
            assert_eq!(
                groups.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
                ["recordingRules.rules", "alerts.rules"]
            );
            assert!(groups.iter().all(|(_, rules)| rules.is_sorted()), "{tag}: {groups:?}");
        }
    }
}
