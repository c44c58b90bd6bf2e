//! Which labels of VMs `kubevirt_vm_labels` shows: the ConfigMap `kubevirt-vm-labels-config` says so, all of them where it is not there
//! (kubevirt `pkg/monitoring/metrics/common/labels/labels_config.go`, since v1.8).

use serde_json::Value;

use crate::release::InformerSpec;

/// The ConfigMap, in the namespace of the installation.
const CONFIG_MAP: &str = "kubevirt-vm-labels-config";

/// How virt-controller watches the ConfigMap, once it has labels to show.
pub(crate) fn informer() -> InformerSpec {
    InformerSpec {
        path: "/api/v1/namespaces/{namespace}/configmaps".to_owned(),
        field_selector: Some(format!("metadata.name={CONFIG_MAP}")),
        go_type: Some("*v1.ConfigMap".to_owned()),
        ..InformerSpec::default()
    }
}

/// What is shown and what is not. What is ignored is ignored even if it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelsConfig {
    allowed: Vec<String>,
    ignored: Vec<String>,
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

impl LabelsConfig {
    /// As the ConfigMap says, if there is one.
    pub(crate) fn of(config: Option<&Value>) -> Self {
        let field = |name: &str| config.and_then(|config| config["data"][name].as_str());
        Self { allowed: list(field("allowlist").unwrap_or("*")), ignored: list(field("ignorelist").unwrap_or_default()) }
    }

    /// Whether a label is shown.
    pub(crate) fn shows(&self, label: &str) -> bool {
        !self.ignored.iter().any(|ignored| ignored == label)
            && self.allowed.iter().any(|allowed| allowed == "*" || allowed == label)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_allow_and_ignore() {
        for (data, shown) in [
            (json!(null), "ab"),
            (json!({}), "ab"),
            (json!({"allowlist": "*", "ignorelist": " a ,"}), "b"),
            (json!({"allowlist": "a, c"}), "a"),
            (json!({"allowlist": "a,*"}), "ab"),
            (json!({"allowlist": ""}), ""),
            (json!({"allowlist": "a", "ignorelist": "a"}), ""),
            (json!({"ignorelist": "b"}), "a"),
        ] {
            let config = LabelsConfig::of(Some(&json!({"data": data})));
            let found: String = ["a", "b"].into_iter().filter(|label| config.shows(label)).collect();
            assert_eq!(found, shown, "{data}");
        }
        assert!(LabelsConfig::of(None).shows("a"));
    }
}
