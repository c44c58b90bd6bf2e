//! `spec.customizeComponents.patches` of the KubeVirt object: changes that users want of what virt-operator installs
//! (`pkg/virt-operator/util`, type `Customizer`). Its flags are not simulated.

use kubeapi::object;
use serde_json::{Value, json};

/// The annotation by which virt-operator knows with which customizations it made an object.
const IDENTIFIER: &str = "kubevirt.io/customizer-identifier";

/// Whether an object has pods.
pub(crate) fn is_workload(manifest: &Value) -> bool {
    matches!(object::kind(manifest), "Deployment" | "DaemonSet")
}

/// All objects as they are wanted, workloads with the annotation that tells so.
pub(crate) fn all(objects: &[Value], wish: &Value) -> Result<Vec<Value>, String> {
    let identifier = identifier(wish);
    let patches: Vec<&Value> = wish["patches"].as_array().into_iter().flatten().collect();
    let customized = objects.iter().map(|manifest| {
        let mut wanted = manifest.clone();
        for patch in patches.iter().filter(|patch| speaks_of(patch, manifest)) {
            wanted = apply(&wanted, patch)?;
        }
        if is_workload(&wanted) && !identifier.is_empty() {
            wanted["metadata"]["annotations"][IDENTIFIER] = identifier.as_str().into();
        }
        Ok(wanted)
    });
    customized.collect()
}

/// The patch (RFC 6902) that makes a workload what is wanted, if it was made with other customizations.
pub(crate) fn update(found: &Value, wanted: &Value) -> Option<Value> {
    let of = |object: &Value| object["metadata"]["annotations"][IDENTIFIER].as_str().unwrap_or_default().to_owned();
    if of(found) == of(wanted) {
        return None;
    }
    let mut annotations = found["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    match wanted["metadata"]["annotations"].get(IDENTIFIER) {
        Some(identifier) => annotations.insert(IDENTIFIER.to_owned(), identifier.clone()),
        None => annotations.remove(IDENTIFIER),
    };
    Some(json!([
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
        {"op": "replace", "path": "/spec", "value": wanted["spec"]},
    ]))
}

fn speaks_of(patch: &Value, manifest: &Value) -> bool {
    let is = |field: &str, value: &str| patch[field].as_str().is_some_and(|wanted| wanted.eq_ignore_ascii_case(value));
    is("resourceType", object::kind(manifest)) && (patch["resourceName"] == "*" || is("resourceName", object::name(manifest)))
}

fn apply(manifest: &Value, patch: &Value) -> Result<Value, String> {
    let content_type = match patch["type"].as_str() {
        Some("json") => "application/json-patch+json",
        Some("merge") => "application/merge-patch+json",
        Some("strategic") | None => "application/strategic-merge-patch+json",
        Some(other) => return Err(format!("unknown patch type {other:?}")),
    };
    let text = patch["patch"].as_str().unwrap_or_default();
    let document: Value = serde_json::from_str(text).map_err(|error| format!("a patch is no JSON: {error}"))?;
    apiserver::patched(manifest, content_type, &document).map_err(|status| status.message)
}

/// What tells customizations apart: 64 bits, where KubeVirt has a hash of its Go structs.
fn identifier(wish: &Value) -> String {
    if wish["patches"].as_array().is_none_or(Vec::is_empty) {
        return String::new();
    }
    let text = wish.to_string();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "virt-api", "annotations": {"a": "b"}},
            "spec": {"template": {"spec": {"containers": [{"name": "virt-api", "image": "i"}]}}}})
    }

    fn patch(kind: &str, name: &str, type_: &str, document: &Value) -> Value {
        json!({"resourceType": kind, "resourceName": name, "type": type_, "patch": document.to_string()})
    }

    #[test]
    fn patches_meet_what_they_name() {
        let env =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "virt-api", "env": [{"name": "A", "value": "1"}]}]}}}});
        for (kind, name, meets) in [
            ("Deployment", "virt-api", true),
            ("deployment", "*", true),
            ("DaemonSet", "virt-api", false),
            ("Deployment", "virt-handler", false),
        ] {
            let wish = json!({"patches": [patch(kind, name, "strategic", &env)]});
            let wanted = all(&[deployment()], &wish).unwrap();
            let container = &wanted[0]["spec"]["template"]["spec"]["containers"][0];
            assert_eq!((container["env"][0]["name"] == "A", &container["image"]), (meets, &json!("i")), "{kind} {name}");
        }
        for (type_, document) in
            [("merge", json!({"spec": {"replicas": 3}})), ("json", json!([{"op": "add", "path": "/spec/replicas", "value": 3}]))]
        {
            let wish = json!({"patches": [patch("Deployment", "*", type_, &document)]});
            assert_eq!(all(&[deployment()], &wish).unwrap()[0]["spec"]["replicas"], 3);
        }
        let wrong = json!({"patches": [{"resourceType": "Deployment", "resourceName": "*", "type": "strategic", "patch": "{"}]});
        assert!(all(&[deployment()], &wrong).unwrap_err().starts_with("a patch is no JSON"));
    }

    #[test]
    fn what_was_made_otherwise_is_brought_up_to_date_and_back() {
        let plain = all(&[deployment()], &Value::Null).unwrap();
        assert_eq!(plain, [deployment()]);
        let wish = json!({"patches": [patch("Deployment", "*", "merge", &json!({"spec": {"replicas": 3}}))]});
        let customized = all(&[deployment()], &wish).unwrap();
        assert_eq!(update(&customized[0], &customized[0]), None);
        let there = apiserver::patched(&plain[0], "application/json-patch+json", &update(&plain[0], &customized[0]).unwrap());
        assert_eq!(there.unwrap(), customized[0]);
        let back = apiserver::patched(&customized[0], "application/json-patch+json", &update(&customized[0], &plain[0]).unwrap());
        assert_eq!(back.unwrap(), plain[0]);
    }
}
