//! The manifests of the repository, built into the program so that it needs no checkout.

use anyhow::Result;
use contract::Reader;
use kubevirt::Release;
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
    ("kubevirt/v0.11.0/kubevirt.yaml", include_str!("../../../manifests/kubevirt/v0.11.0/kubevirt.yaml")),
    ("blog/v0.11/kubevirt-servicemonitor.yml", include_str!("../../../manifests/blog/v0.11/kubevirt-servicemonitor.yml")),
];

/// The dashboards that Grafana is given on real clusters: file name and JSON.
pub fn dashboards() -> Vec<(String, String)> {
    let all = [
        ("kubevirt-requests.json", include_str!("../../../manifests/grafana/kubevirt-requests.json")),
        ("kubevirt-vms.json", include_str!("../../../manifests/grafana/kubevirt-vms.json")),
    ];
    all.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
}

/// The text of a file.
pub fn text(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The kinds of prometheus-operator.
const DEFINITIONS: &[&str] = &["crds/monitoring.yaml"];

/// What every lab with Prometheus runs of kube-prometheus.
const CORE: &[&str] = &["monitoring/prometheus.yaml", "monitoring/alertmanager.yaml", "monitoring/operator.yaml"];

/// The rest of kube-prometheus, as far as it is in the blog's listing.
const REST: &[&str] = &[
    "monitoring/kube-state-metrics.yaml",
    "monitoring/node-exporter.yaml",
    "monitoring/stand-ins.yaml",
    "monitoring/service-monitors.yaml",
];

/// What a release's lab is made of, in order: monitoring first, then KubeVirt.
pub fn for_release(release: &Release, stack: Stack) -> Vec<&str> {
    let (monitoring, rest): (&[&str], &[&str]) = match stack {
        Stack::None => (&[], &[]),
        Stack::Small => (CORE, &[]),
        Stack::Full => (CORE, REST),
    };
    let kubevirt = release.manifests.iter().map(String::as_str);
    // Without Prometheus there is nothing for its kinds to be told to.
    let of_monitoring = |path: &&str| stack != Stack::None || !path.starts_with("blog/");
    [DEFINITIONS, monitoring, rest].concat().into_iter().chain(kubevirt.filter(of_monitoring)).collect()
}

/// The rules that a release brings.
///
/// # Errors
/// When the release's data is broken: a bug.
pub fn rules(release: &Release) -> Result<contract::Rules> {
    Ok(release.prometheus_rule()?.map(|object| contract::rules(&object["spec"]["groups"])).unwrap_or_default())
}

/// The recording rules that a release brings, as readers that record something.
///
/// # Errors
/// When the release's data is broken: a bug.
pub fn rule_readers(release: &Release) -> Result<Vec<Reader>> {
    let Some(object) = release.prometheus_rule()? else { return Ok(Vec::new()) };
    let found =
        contract::readers(&object.to_string()).map_err(|error| anyhow::anyhow!("{}: {}", release.release, error.message))?;
    Ok(found.readers.into_iter().filter(|reader| reader.records.is_some()).collect())
}

/// The custom resources that manifests define, as group and plural.
pub fn definitions() -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let objects = FILES.iter().flat_map(|(_, text)| wire::yaml::manifests(text).unwrap_or_default());
    objects
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .map(|object| (text(&object["spec"]["group"]), text(&object["spec"]["names"]["plural"])))
        .collect()
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
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            for path in for_release(&release, Stack::Full) {
                assert!(text(path).is_some(), "{path}");
            }
            for path in release.install.iter().chain(&release.manifests) {
                let objects = wire::yaml::manifests(text(path).unwrap_or_else(|| panic!("{path} is not built in"))).unwrap();
                release.objects(objects).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    /// The blog's `kubectl get all -n monitoring`, without what the operator and the controllers make of these objects.
    #[test]
    fn the_namespace_reads_as_in_the_blog() {
        let listed = |stack| {
            let mut listed: Vec<String> = Vec::new();
            for path in for_release(&Release::load("v1.9.0").unwrap(), stack) {
                let objects = wire::yaml::manifests(text(path).unwrap_or_default()).unwrap();
                let shown = ["Alertmanager", "DaemonSet", "Deployment", "Prometheus", "Service"];
                let kept = objects.iter().filter(|object| {
                    object["metadata"]["namespace"] == "monitoring" && shown.iter().any(|kind| object["kind"] == *kind)
                });
                listed.extend(kept.map(|object| format!("{} {}", kubeapi::object::kind(object), kubeapi::object::name(object))));
            }
            listed.sort();
            listed
        };
        let core = [
            "Alertmanager main",
            "Deployment prometheus-operator",
            "Prometheus k8s",
            "Service alertmanager-main",
            "Service prometheus-k8s",
            "Service prometheus-operator",
        ];
        let rest = [
            "DaemonSet node-exporter",
            "Deployment grafana",
            "Deployment kube-state-metrics",
            "Deployment prometheus-adapter",
            "Service grafana",
            "Service kube-state-metrics",
            "Service node-exporter",
            "Service prometheus-adapter",
        ];
        let mut all = [&core[..], &rest[..]].concat();
        all.sort_unstable();
        assert_eq!(listed(Stack::Small), core);
        assert_eq!(listed(Stack::Full), all);
    }
}
