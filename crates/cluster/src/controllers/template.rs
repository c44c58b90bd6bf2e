//! Pods from templates, and the hashes that tell templates apart.

use kubeapi::object;
use serde_json::{Value, json};

/// The alphabet of generated names (apimachinery `pkg/util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short hash of a template, for `pod-template-hash` and revision names: 32 bits, their digits in the alphabet of generated
/// names, as `ComputeHash` and `SafeEncodeString` do. The number differs from the real controllers' (which hash Go structs), as
/// that differs between releases.
pub(crate) fn hash(template: &Value) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in template.to_string().bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.to_string().bytes().map(|digit| ALPHABET[usize::from(digit) % ALPHABET.len()] as char).collect()
}

/// A pod of an owner: the template's metadata and spec, labels added, with a name or the prefix of one.
pub(crate) fn pod(owner: &Value, template: &Value, name: Name<'_>, labels: &[(&str, &str)]) -> Value {
    let mut metadata = json!({
        "namespace": object::namespace(owner),
        "labels": template["metadata"]["labels"],
        "ownerReferences": [object::owner_reference(owner)],
    });
    if template["metadata"]["annotations"].is_object() {
        metadata["annotations"] = template["metadata"]["annotations"].clone();
    }
    match name {
        Name::Fixed(name) => metadata["name"] = name.into(),
        Name::Prefix(prefix) => metadata["generateName"] = prefix.into(),
    }
    for (key, value) in labels {
        metadata["labels"][*key] = (*value).into();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// The name of a pod to be.
pub(crate) enum Name<'a> {
    Fixed(&'a str),
    Prefix(&'a str),
}
