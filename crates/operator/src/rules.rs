//! PrometheusRule objects to rule files, packed into ConfigMaps of half a mebibyte.

use std::collections::BTreeMap;

use kubeapi::object;
use serde_json::{Value, json};

use crate::compile::{Input, select};

/// What a ConfigMap of rules holds at most, in bytes (prometheus-operator `pkg/prometheus/rules.go`: half of 1 MiB).
const LIMIT: usize = 524_288;
/// ConfigMaps that are mounted at least, so that more rules need no new pods (facts/kube-prometheus.md §3.7).
const RESERVED: usize = 3;

/// Rule files in their ConfigMaps.
#[derive(Clone, Debug, Default)]
pub struct RuleFiles {
    /// Each ConfigMap's files.
    pub bins: Vec<BTreeMap<String, String>>,
}

impl RuleFiles {
    /// The ConfigMaps that pods mount, those still empty included.
    pub fn mounts(&self, workload: &str) -> Vec<String> {
        (0..self.bins.len().max(RESERVED)).map(|index| format!("{workload}-rulefiles-{index}")).collect()
    }
}

/// The files of all rules that a Prometheus selects, in order of their names, first fit.
pub fn rule_files(prometheus: &Value, input: &Input) -> RuleFiles {
    let selected = select(prometheus, "ruleSelector", "ruleNamespaceSelector", &input.namespaces, &input.rules);
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for rule in selected {
        let name = format!("{}-{}-{}.yaml", object::namespace(rule), object::name(rule), object::uid(rule));
        let content = json!({"groups": rule["spec"]["groups"]});
        if let Ok(text) = wire::yaml::to_string(&content)
            && text.len() <= LIMIT
        {
            files.insert(name, text);
        }
    }
    let mut bins: Vec<(usize, BTreeMap<String, String>)> = Vec::new();
    for (name, text) in files {
        let size = text.len();
        match bins.iter_mut().find(|(used, _)| used + size <= LIMIT) {
            Some((used, bin)) => {
                *used += size;
                bin.insert(name, text);
            }
            None => bins.push((size, BTreeMap::from([(name, text)]))),
        }
    }
    RuleFiles { bins: bins.into_iter().map(|(_, bin)| bin).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_selected_and_named() {
        let prometheus = json!({"metadata": {"namespace": "monitoring", "name": "k8s"},
            "spec": {"ruleSelector": {}, "ruleNamespaceSelector": {}}});
        let rule = json!({"metadata": {"namespace": "kubevirt", "name": "r", "uid": "u"},
            "spec": {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up == 0"}]}]}});
        let input = Input { namespaces: vec![json!({"metadata": {"name": "kubevirt"}})], rules: vec![rule], ..Input::default() };
        let files = rule_files(&prometheus, &input);
        assert!(files.bins[0]["kubevirt-r-u.yaml"].contains("up == 0"));
        assert_eq!(files.mounts("prometheus-k8s").len(), RESERVED);
        let none = json!({"metadata": {"namespace": "kubevirt", "name": "k8s"}, "spec": {}});
        assert!(rule_files(&none, &input).bins.is_empty());
    }
}
