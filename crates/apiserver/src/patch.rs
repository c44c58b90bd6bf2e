//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch, and the merge of server-side apply.
//!
//! Strategic merge follows k8s.io/apimachinery `pkg/util/strategicpatch`: lists of objects merge by a key that depends on
//! the field, `$patch: delete|replace`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD` (accepted, order is
//! kept as merged) and `$retainKeys`.

use kubeapi::Status;
use serde_json::{Map, Value};

/// A patch by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub(crate) fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// Applies a JSON patch document to an object.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    json_patch::patch(target, &patch)
        .map_err(|error| Status::new(422, format!("the server rejected our request due to an error in our request: {error}")))
}

/// Applies a merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in changes {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// How a list of a built-in kind is merged.
enum ListMerge {
    /// Elements are matched by these keys, the first that the element has.
    ByKey(&'static [&'static str]),
    /// A set of scalars.
    Set,
    /// Replaced as a whole.
    Atomic,
}

/// The patch strategy of a list field. `parent` is the field that holds the object with the list.
fn list_merge(parent: &str, field: &str) -> ListMerge {
    use ListMerge::{Atomic, ByKey, Set};
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims"
        | "secrets" => ByKey(&["name"]),
        "volumeMounts" => ByKey(&["mountPath"]),
        "volumeDevices" => ByKey(&["devicePath"]),
        // Container ports merge by containerPort, Service ports by port; other lists of that name are atomic.
        "ports" if matches!(parent, "containers" | "initContainers") => ByKey(&["containerPort"]),
        "ports" if parent == "spec" => ByKey(&["port"]),
        "conditions" => ByKey(&["type"]),
        "ownerReferences" => ByKey(&["uid"]),
        "hostAliases" => ByKey(&["ip"]),
        "topologySpreadConstraints" => ByKey(&["topologyKey"]),
        "podIPs" | "hostIPs" => ByKey(&["ip"]),
        "addresses" if parent == "status" => ByKey(&["type"]),
        "webhooks" | "validations" | "matchConditions" => ByKey(&["name"]),
        "finalizers" => Set,
        _ => Atomic,
    }
}

/// Applies a strategic merge patch to an object of a built-in kind.
pub(crate) fn strategic(target: &mut Value, patch: &Value) -> Result<(), Status> {
    strategic_at(target, patch, "")
}

fn strategic_at(target: &mut Value, patch: &Value, parent: &str) -> Result<(), Status> {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match changes.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = Value::Object(without_directives(changes));
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(Status::bad_request(format!("Unrecognized patch type: {other}"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return Ok(()) };
    if let Some(Value::Array(retained)) = changes.get("$retainKeys") {
        fields.retain(|key, _| retained.iter().any(|name| name == key));
    }
    for (key, value) in changes {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(list)), Value::Array(gone)) = (fields.get_mut(field), value) {
                list.retain(|element| !gone.contains(element));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        match value {
            Value::Null => {
                fields.remove(key);
            }
            Value::Array(elements) => {
                let list = fields.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
                merge_list(list, elements, parent, key)?;
            }
            _ => {
                let field = fields.entry(key.clone()).or_insert(Value::Null);
                strategic_at(field, value, key)?;
                if field.is_null() {
                    fields.remove(key);
                }
            }
        }
    }
    Ok(())
}

fn merge_list(list: &mut Value, elements: &[Value], parent: &str, field: &str) -> Result<(), Status> {
    let replace = elements.iter().any(|element| element["$patch"] == "replace");
    let strategy = if replace { ListMerge::Atomic } else { list_merge(parent, field) };
    let Value::Array(present) = list else {
        *list = Value::Array(elements.to_vec());
        return Ok(());
    };
    match strategy {
        ListMerge::Atomic => {
            *present = elements.iter().filter(|element| element["$patch"] != "replace").cloned().collect();
        }
        ListMerge::Set => {
            for element in elements {
                if !present.contains(element) {
                    present.push(element.clone());
                }
            }
        }
        ListMerge::ByKey(keys) => {
            for element in elements {
                let key = keys.iter().find(|key| !element[**key].is_null()).ok_or_else(|| {
                    Status::bad_request(format!("map: {element} does not contain declared merge key: {}", keys[0]))
                })?;
                let at = present.iter().position(|old| old[*key] == element[*key]);
                match (at, element["$patch"] == "delete") {
                    (Some(at), true) => {
                        present.remove(at);
                    }
                    (None, true) => {}
                    (Some(at), false) => strategic_at(&mut present[at], element, field)?,
                    (None, false) => {
                        let mut added = Value::Null;
                        strategic_at(&mut added, element, field)?;
                        present.push(added);
                    }
                }
            }
        }
    }
    Ok(())
}

fn without_directives(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().filter(|(key, _)| !key.starts_with('$')).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strategic_merge_by_table() {
        for (what, before, patch, after) in [
            (
                "containers merge by name, env in them too",
                json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}}),
                json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b"}]}}),
                json!({"spec": {"containers": [
                    {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
                    {"name": "b"}]}}),
            ),
            (
                "an element is deleted by directive",
                json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
                json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
                json!({"spec": {"containers": [{"name": "b"}]}}),
            ),
            (
                "a map is replaced by directive",
                json!({"spec": {"nodeSelector": {"a": "1"}}}),
                json!({"spec": {"nodeSelector": {"$patch": "replace", "b": "2"}}}),
                json!({"spec": {"nodeSelector": {"b": "2"}}}),
            ),
            (
                "unknown lists are atomic",
                json!({"spec": {"args": ["a", "b"]}}),
                json!({"spec": {"args": ["c"]}}),
                json!({"spec": {"args": ["c"]}}),
            ),
            (
                "finalizers are a set",
                json!({"metadata": {"finalizers": ["a", "b"]}}),
                json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
                json!({"metadata": {"finalizers": ["b", "c"]}}),
            ),
            (
                "null removes",
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
                json!({"metadata": {"labels": {"a": null}}}),
                json!({"metadata": {"labels": {"b": "2"}}}),
            ),
        ] {
            let mut object = before;
            strategic(&mut object, &patch).unwrap();
            assert_eq!(object, after, "{what}");
        }
    }

    proptest::proptest! {
        /// RFC 7386: what a patch sets is there, what it nulls is not, and doing it twice changes nothing more.
        #[test]
        fn merge_is_idempotent(keys in proptest::collection::btree_map("[a-d]", 0u8..4, 0..4),
                               patch in proptest::collection::btree_map("[a-d]", proptest::option::of(0u8..4), 0..4)) {
            let mut object = json!(keys);
            let patch_value = json!(patch);
            merge(&mut object, &patch_value);
            for (key, value) in &patch {
                proptest::prop_assert_eq!(object.get(key).and_then(Value::as_u64), value.map(u64::from));
            }
            let once = object.clone();
            merge(&mut object, &patch_value);
            proptest::prop_assert_eq!(once, object);
        }
    }
}
