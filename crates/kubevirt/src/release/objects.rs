//! How a release's objects differ from those in the manifests, which are the newest release's.

use kubeapi::object;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Release;

/// The release whose manifests are on disk.
const OF_MANIFESTS: &str = "v1.9.0";
/// The API version that its KubeVirt objects have.
const API_OF_MANIFESTS: &str = "kubevirt.io/v1";

/// A difference.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Difference {
    /// The objects that it is about, as `KIND NAME`.
    of: Vec<String>,
    /// Whether the release does not have them at all.
    #[serde(default)]
    absent: bool,
    /// How the patch is meant: `strategic` (if none is named) or `merge`.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// The patch.
    #[serde(default)]
    patch: Value,
}

/// The objects as the release has them.
pub(super) fn differ(release: &Release, manifests: Vec<Value>) -> Result<Vec<Value>, String> {
    let mut objects = Vec::with_capacity(manifests.len());
    'manifests: for mut manifest in manifests {
        let name = format!("{} {}", object::kind(&manifest), object::name(&manifest));
        for (word, difference) in release.objects.iter().filter(|(_, difference)| difference.of.contains(&name)) {
            if difference.absent {
                continue 'manifests;
            }
            let content_type = match difference.kind.as_deref() {
                Some("merge") => "application/merge-patch+json",
                _ => "application/strategic-merge-patch+json",
            };
            manifest = apiserver::patched(&manifest, content_type, &difference.patch)
                .map_err(|status| format!("objects.{word} does not fit {name}: {}", status.message))?;
        }
        if release.release != OF_MANIFESTS {
            date(&mut manifest, release);
        }
        objects.push(manifest);
    }
    Ok(objects)
}

/// Puts the release's tag and API version where the manifests have their own.
fn date(value: &mut Value, release: &Release) {
    let is_definition = value["kind"] == "CustomResourceDefinition" && value["spec"]["group"] == "kubevirt.io";
    if is_definition && let Some((_, version)) = release.api_version.split_once('/') {
        value["spec"]["versions"][0]["name"] = version.into();
    }
    fn walk(value: &mut Value, release: &Release) {
        match value {
            Value::String(text) if text == API_OF_MANIFESTS => release.api_version.clone_into(text),
            Value::String(text) if text.contains(OF_MANIFESTS) => *text = text.replace(OF_MANIFESTS, &release.release),
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, release)),
            Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, release)),
            _ => {}
        }
    }
    walk(value, release);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_dated_patched_and_left_out() {
        let release = Release::load("v0.46.0").unwrap();
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubevirt-prometheus-metrics", "labels": {"prometheus.kubevirt.io": "true"}},
            "spec": {"clusterIP": "None", "selector": {"prometheus.kubevirt.io": "true"}}});
        let handler = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "virt-handler"}, "spec": {"template": {"spec": {"containers": [
            {"name": "virt-handler", "image": "lab.local/sim/virt-handler:v1.9.0", "ports": [{"containerPort": 8443}, {"containerPort": 8187}]}]}}}});
        let kubevirt = json!({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"}});
        let gone = json!({"kind": "Deployment", "metadata": {"name": "virt-exportproxy"}});
        let objects = release.objects(vec![service, handler, kubevirt, gone]).unwrap();
        assert_eq!(objects.len(), 3);
        assert_eq!(objects[0]["metadata"]["labels"]["prometheus.kubevirt.io"], "");
        assert!(objects[0]["spec"]["clusterIP"].is_null());
        let container = &objects[1]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "lab.local/sim/virt-handler:v0.46.0");
        assert_eq!(container["ports"], json!([{"containerPort": 8443}]));
        assert_eq!(objects[2]["apiVersion"], "kubevirt.io/v1alpha3");
    }

    #[test]
    fn the_newest_release_is_as_its_manifests_are() {
        let release = Release::load(OF_MANIFESTS).unwrap();
        let object = json!({"kind": "Deployment", "metadata": {"name": "virt-api"}, "image": "x:v1.9.0"});
        assert_eq!(release.objects(vec![object.clone()]).unwrap(), [object]);
    }
}
