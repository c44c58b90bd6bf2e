//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch, and the merge of server-side apply.
//!
//! Strategic merge follows k8s.io/apimachinery `pkg/util/strategicpatch`: lists of objects merge by a key that depends on
//! the field, `$patch: delete|replace`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`  and `$retainKeys`.

use kubeapi::Status;
use serde_json::{Map, Value};

use crate::apply::Node;
use crate::resource::{Registry, Resource};
use crate::types::Merge;

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

/// What a patch makes of an object of a built-in kind, without a server: for programs that patch manifests before they create them.
/// The content type is that of a request, such as `application/strategic-merge-patch+json`.
///
/// # Errors
/// When it is no patch of that type, cannot be applied, or the kind is not built in.
pub fn patched(object: &Value, content_type: &str, patch: &Value) -> Result<Value, Status> {
    let mut target = object.clone();
    match PatchKind::from_content_type(content_type) {
        Some(PatchKind::Json) => json_patch(&mut target, patch)?,
        Some(PatchKind::Merge) => merge(&mut target, patch),
        Some(PatchKind::Strategic) => {
            let (version, kind) =
                (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let resource = Registry::new().find_kind(group, kind);
            let resource = resource.ok_or_else(|| Status::bad_request(format!("{version} {kind} is no built-in kind")))?;
            strategic(&resource, &mut target, patch)?;
        }
        Some(PatchKind::Apply) | None => return Err(Status::bad_request(format!("{content_type} is no patch"))),
    }
    Ok(target)
}

/// Applies a JSON patch document to an object.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        let message = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(Status::new(413, message));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut copied = 0;
    for operation in patch.iter() {
        if let json_patch::PatchOperation::Copy(copy) = operation {
            let value = target.pointer(copy.from.as_str());
            copied += value.map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                let message = format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                );
                return Err(Status::new(413, message));
            }
            // Each copy can double the depth, and what is too deep cannot even be dropped.
            if value.is_some_and(|value| depth(value) + copy.path.as_str().matches('/').count() > MAX_DEPTH) {
                return Err(Status::bad_request("error decoding patch: the copy is nested too deeply"));
            }
        }
        json_patch::patch(target, std::slice::from_ref(operation)).map_err(|error| {
            Status::new(422, format!("the server rejected our request due to an error in our request: {error}"))
        })?;
    }
    Ok(())
}

/// How much the copies of one patch may add (`jsonpatch.AccumulatedCopySizeLimit`), in bytes.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// How deep an object may be nested, as deep as a body may be that is read.
const MAX_DEPTH: usize = 128;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
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

/// The most operations that a JSON patch may have (`maxJSONPatchOperations`).
const MAX_OPERATIONS: usize = 10_000;

/// Sets the value at a JSON pointer, making the objects on the way.
pub(crate) fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for name in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[name];
    }
    *at = value;
}

/// Applies a strategic merge patch to an object of a built-in kind.
pub(crate) fn strategic(resource: &Resource, target: &mut Value, patch: &Value) -> Result<(), Status> {
    merge_object(target, patch, Node::root(resource))
}

fn merge_object(target: &mut Value, patch: &Value, node: Node<'_>) -> Result<(), Status> {
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
        if let Some(field) = key.strip_prefix("$setElementOrder/") {
            // Without a patch of the list itself, it is only put in order.
            if !changes.contains_key(field)
                && let (Some(Value::Array(list)), Value::Array(order)) = (fields.get_mut(field), value)
            {
                let merge = ListMerge::of(node.child(field));
                *list = in_order(std::mem::take(list), order, &merge);
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
                let order = changes.get(&format!("$setElementOrder/{key}")).and_then(Value::as_array);
                let list = fields.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
                merge_list(list, elements, order, node.child(key))?;
            }
            _ => {
                let field = fields.entry(key.clone()).or_insert(Value::Null);
                merge_object(field, value, node.child(key))?;
                if field.is_null() {
                    fields.remove(key);
                }
            }
        }
    }
    Ok(())
}

/// How a strategic merge patch merges a list.
enum ListMerge {
    /// Elements are matched by this key.
    ByKey(&'static str),
    /// A set of scalars.
    Set,
    /// Replaced as a whole.
    Atomic,
}

impl ListMerge {
    fn of(node: Node<'_>) -> Self {
        match node {
            Node::Many(field) => match field.merge {
                Merge::Keys(keys) if field.patch_by_key => ListMerge::ByKey(keys[0]),
                Merge::Set => ListMerge::Set,
                Merge::Keys(_) | Merge::Atomic | Merge::Default => ListMerge::Atomic,
            },
            Node::Struct(_) | Node::Leaf | Node::Schema(_) | Node::Object(_) | Node::Free => ListMerge::Atomic,
        }
    }

    fn same(&self, a: &Value, b: &Value) -> bool {
        match self {
            // Orders name elements by their key alone.
            ListMerge::ByKey(key) => a[*key] == b[*key],
            ListMerge::Set | ListMerge::Atomic => a == b,
        }
    }
}

fn merge_list(list: &mut Value, elements: &[Value], order: Option<&Vec<Value>>, node: Node<'_>) -> Result<(), Status> {
    let replace = elements.iter().any(|element| element["$patch"] == "replace");
    let merge = if replace { ListMerge::Atomic } else { ListMerge::of(node) };
    let present = match list.take() {
        Value::Array(present) => present,
        _ => Vec::new(),
    };
    let mut patched: Vec<Value> = Vec::new();
    match merge {
        ListMerge::Atomic => {
            *list = elements.iter().filter(|element| element["$patch"] != "replace").cloned().collect();
            return Ok(());
        }
        ListMerge::Set => patched.extend(elements.iter().cloned()),
        ListMerge::ByKey(key) => {
            for element in elements {
                if element[key].is_null() {
                    return Err(Status::bad_request(format!("map: {element} does not contain declared merge key: {key}")));
                }
                if element["$patch"] == "delete" {
                    continue;
                }
                let mut merged = present.iter().find(|old| merge.same(old, element)).cloned().unwrap_or(Value::Null);
                merge_object(&mut merged, element, node.element())?;
                patched.push(merged);
            }
        }
    }
    let is_deleted = |old: &Value| elements.iter().any(|element| element["$patch"] == "delete" && merge.same(old, element));
    let rest: Vec<Value> =
        present.iter().filter(|old| !is_deleted(old) && !patched.iter().any(|new| merge.same(old, new))).cloned().collect();
    let wanted = order.map_or_else(|| patched.clone(), Clone::clone);
    // The server's elements among those that the patch orders take part in that order.
    let (ordered, left): (Vec<Value>, Vec<Value>) =
        rest.into_iter().partition(|old| wanted.iter().any(|named| merge.same(old, named)));
    let mut all = patched;
    all.extend(ordered);
    let sorted = in_order(all, &wanted, &merge);
    *list = interleave(left, sorted, &present, &merge).into();
    Ok(())
}

/// Elements sorted as `order` names them; those that it does not name come last, as they were.
fn in_order(list: Vec<Value>, order: &[Value], merge: &ListMerge) -> Vec<Value> {
    let mut list: Vec<(usize, Value)> = list
        .into_iter()
        .map(|element| (order.iter().position(|named| merge.same(&element, named)).unwrap_or(usize::MAX), element))
        .collect();
    list.sort_by_key(|(at, _)| *at);
    list.into_iter().map(|(_, element)| element).collect()
}

/// Puts what only the server has between what the patch has, by the server's order where both stand in it
/// (`mergeSortedSlice`): else the patch's elements come first.
fn interleave(left: Vec<Value>, right: Vec<Value>, server: &[Value], merge: &ListMerge) -> Vec<Value> {
    let place = |element: &Value| server.iter().position(|old| merge.same(old, element));
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let left_first = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(a), Some(b)) => matches!((place(a), place(b)), (Some(a), Some(b)) if a < b),
        };
        out.extend(if left_first { left.next() } else { right.next() });
    }
}

fn without_directives(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().filter(|(key, _)| !key.starts_with('$')).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn manifests_are_patched() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [
            {"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}]}}}});
        let added =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "B", "value": "2"}]}]}}}});
        let merged = patched(&deployment, "application/strategic-merge-patch+json", &added).unwrap();
        let container = &merged["spec"]["template"]["spec"]["containers"][0];
        assert_eq!((&container["image"], container["env"].as_array().unwrap().len()), (&json!("i"), 2));
        let replaced = patched(&deployment, "application/merge-patch+json", &json!({"spec": 1})).unwrap();
        assert_eq!(replaced["spec"], 1);
        let operations = json!([{"op": "add", "path": "/spec/replicas", "value": 3}]);
        assert_eq!(patched(&deployment, "application/json-patch+json", &operations).unwrap()["spec"]["replicas"], 3);
        assert!(patched(&deployment, "application/json", &added).is_err());
        assert!(patched(&json!({"kind": "X"}), "application/strategic-merge-patch+json", &added).is_err());
    }

    #[test]
    fn strategic_merge_by_table() {
        for (what, before, patch, after) in [
            (
                "containers merge by name, env in them too",
                json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}}),
                json!({"spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "b"}]}}),
                json!({"spec": {"containers": [
                    {"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
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
                json!({"metadata": {"finalizers": ["c", "b"]}}),
            ),
            (
                "null removes",
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
                json!({"metadata": {"labels": {"a": null}}}),
                json!({"metadata": {"labels": {"b": "2"}}}),
            ),
        ] {
            let mut object = before;
            let pods = crate::resource::Registry::new().find("", "v1", "pods").unwrap();
            strategic(&pods, &mut object, &patch).unwrap();
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
