//! Containers of the user's laid over those of the operator, as a strategic merge patch by their names does.

use serde_json::Value;

/// The lists of a container whose items have an identity, and the field that is it; all other lists are replaced.
const KEYS: &[(&str, &str)] =
    &[("env", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")];

fn merge(base: &mut Value, patch: &Value) {
    let (Some(fields), Some(changes)) = (base.as_object_mut(), patch.as_object()) else {
        *base = patch.clone();
        return;
    };
    for (name, change) in changes {
        match (fields.get_mut(name), KEYS.iter().find(|(list, _)| list == name)) {
            // What the user does not set is not there in the patch that Kubernetes' types make of it.
            _ if change.is_null() => {}
            (Some(Value::Array(items)), Some((_, key))) => {
                for item in change.as_array().into_iter().flatten() {
                    match items.iter_mut().find(|old| old[*key] == item[*key]) {
                        Some(old) => merge(old, item),
                        None => items.push(item.clone()),
                    }
                }
            }
            (Some(field @ Value::Object(_)), _) if change.is_object() => merge(field, change),
            _ => {
                fields.insert(name.clone(), change.clone());
            }
        }
    }
}

/// The operator's containers, changed by the user's of the same names; the user's others follow.
pub(crate) fn containers(mut base: Vec<Value>, patches: &Value) -> Vec<Value> {
    for patch in patches.as_array().into_iter().flatten() {
        match base.iter_mut().find(|container| container["name"] == patch["name"]) {
            Some(container) => merge(container, patch),
            None => base.push(patch.clone()),
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_merged_by_name() {
        let base = vec![json!({
            "name": "prometheus", "image": "p", "args": ["--a"], "resources": {"requests": {"cpu": "1"}},
            "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 9090, "name": "web"}],
            "volumeMounts": [{"mountPath": "/a", "name": "a"}],
        })];
        let patches = json!([
            {"name": "prometheus", "args": ["--b"], "image": null, "resources": {"requests": {"memory": "1Gi"}},
             "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}], "volumeMounts": [{"mountPath": "/b", "name": "b"}]},
            {"name": "sidecar", "image": "s"},
        ]);
        assert_eq!(
            Value::from(containers(base, &patches)),
            json!([
                {"name": "prometheus", "image": "p", "args": ["--b"], "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                 "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}], "ports": [{"containerPort": 9090, "name": "web"}],
                 "volumeMounts": [{"mountPath": "/a", "name": "a"}, {"mountPath": "/b", "name": "b"}]},
                {"name": "sidecar", "image": "s"},
            ])
        );
    }
}
