//! The manifests of the repository, built into the program so that it needs no checkout.

/// Path below `manifests/` and content.
const FILES: &[(&str, &str)] = &[
    ("crds/monitoring.yaml", include_str!("../../../manifests/crds/monitoring.yaml")),
    ("monitoring/prometheus.yaml", include_str!("../../../manifests/monitoring/prometheus.yaml")),
    ("monitoring/alertmanager.yaml", include_str!("../../../manifests/monitoring/alertmanager.yaml")),
    ("monitoring/operator.yaml", include_str!("../../../manifests/monitoring/operator.yaml")),
    ("kubevirt/endpointslices.yaml", include_str!("../../../manifests/kubevirt/endpointslices.yaml")),
    ("kubevirt/v1.9.0/operator.yaml", include_str!("../../../manifests/kubevirt/v1.9.0/operator.yaml")),
    ("kubevirt/v1.9.0/install.yaml", include_str!("../../../manifests/kubevirt/v1.9.0/install.yaml")),
    ("kubevirt/v0.11.0/kubevirt.yaml", include_str!("../../../manifests/kubevirt/v0.11.0/kubevirt.yaml")),
    ("blog/v0.11/kubevirt-servicemonitor.yml", include_str!("../../../manifests/blog/v0.11/kubevirt-servicemonitor.yml")),
];

/// The text of a file.
pub fn text(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// What a release's lab is made of, in order: monitoring first, then KubeVirt.
pub fn for_release(release: &str) -> &'static [&'static str] {
    match release {
        "v0.11.0" => &[
            "crds/monitoring.yaml",
            "monitoring/prometheus.yaml",
            "monitoring/alertmanager.yaml",
            "monitoring/operator.yaml",
            "kubevirt/v0.11.0/kubevirt.yaml",
            "blog/v0.11/kubevirt-servicemonitor.yml",
        ],
        _ => &[
            "crds/monitoring.yaml",
            "monitoring/prometheus.yaml",
            "monitoring/alertmanager.yaml",
            "monitoring/operator.yaml",
            "kubevirt/v1.9.0/operator.yaml",
            "kubevirt/endpointslices.yaml",
        ],
    }
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
            for path in for_release(release) {
                assert!(text(path).is_some(), "{path}");
            }
        }
    }
}
