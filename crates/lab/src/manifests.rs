//! The manifests of the repository, built into the program so that it needs no checkout.

use scenario::Stack;

/// Path below `manifests/` and content.
const FILES: &[(&str, &str)] = &[
    ("crds/monitoring.yaml", include_str!("../../../manifests/crds/monitoring.yaml")),
    ("monitoring/prometheus.yaml", include_str!("../../../manifests/monitoring/prometheus.yaml")),
    ("monitoring/alertmanager.yaml", include_str!("../../../manifests/monitoring/alertmanager.yaml")),
    ("monitoring/operator.yaml", include_str!("../../../manifests/monitoring/operator.yaml")),
    ("monitoring/kube-state-metrics.yaml", include_str!("../../../manifests/monitoring/kube-state-metrics.yaml")),
    ("monitoring/node-exporter.yaml", include_str!("../../../manifests/monitoring/node-exporter.yaml")),
    ("monitoring/stand-ins.yaml", include_str!("../../../manifests/monitoring/stand-ins.yaml")),
    ("monitoring/service-monitors.yaml", include_str!("../../../manifests/monitoring/service-monitors.yaml")),
    ("kubevirt/endpointslices.yaml", include_str!("../../../manifests/kubevirt/endpointslices.yaml")),
    ("kubevirt/v1.9.0/operator.yaml", include_str!("../../../manifests/kubevirt/v1.9.0/operator.yaml")),
    ("kubevirt/v1.9.0/install.yaml", include_str!("../../../manifests/kubevirt/v1.9.0/install.yaml")),
    ("kubevirt/v1.9.0/rules.yaml", include_str!("../../../manifests/kubevirt/v1.9.0/rules.yaml")),
    ("kubevirt/v0.11.0/kubevirt.yaml", include_str!("../../../manifests/kubevirt/v0.11.0/kubevirt.yaml")),
    ("blog/v0.11/kubevirt-servicemonitor.yml", include_str!("../../../manifests/blog/v0.11/kubevirt-servicemonitor.yml")),
];

/// The text of a file.
pub fn text(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The definitions and what every lab runs of kube-prometheus.
const CORE: &[&str] =
    &["crds/monitoring.yaml", "monitoring/prometheus.yaml", "monitoring/alertmanager.yaml", "monitoring/operator.yaml"];

/// The rest of kube-prometheus, as far as it is in the blog's listing.
const REST: &[&str] = &[
    "monitoring/kube-state-metrics.yaml",
    "monitoring/node-exporter.yaml",
    "monitoring/stand-ins.yaml",
    "monitoring/service-monitors.yaml",
];

/// What a release's lab is made of, in order: monitoring first, then KubeVirt.
pub fn for_release(release: &str, stack: Stack) -> Vec<&'static str> {
    let kubevirt: &[&str] = match release {
        "v0.11.0" => &["kubevirt/v0.11.0/kubevirt.yaml", "blog/v0.11/kubevirt-servicemonitor.yml"],
        _ => &["kubevirt/v1.9.0/operator.yaml", "kubevirt/endpointslices.yaml"],
    };
    let rest: &[&str] = if stack == Stack::Full { REST } else { &[] };
    [CORE, rest, kubevirt].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_reads_and_is_whole() {
        for (path, text) in FILES {
            let objects = wire::yaml::manifests(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            for object in objects {
                assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{path}: {object}");
            }
        }
        for release in kubevirt::Release::known() {
            for path in for_release(release, Stack::Full) {
                assert!(text(path).is_some(), "{path}");
            }
        }
    }
}
