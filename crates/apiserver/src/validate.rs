//! Validation of the built-in kinds that labs use, with the real server's words.

use kubeapi::{LabelSelector, Status};
use serde_json::Value;

use crate::resource::Resource;

type Causes = Vec<(String, &'static str, String)>;

fn required(causes: &mut Causes, value: &Value, field: &str, hint: &str) {
    let missing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if missing {
        let message = if hint.is_empty() { "Required value".to_owned() } else { format!("Required value: {hint}") };
        causes.push((field.to_owned(), "FieldValueRequired", message));
    }
}

/// 422 with every cause, unless the object is fine.
pub(crate) fn check(resource: &Resource, object: &Value) -> Result<(), Status> {
    let mut causes = Causes::new();
    let spec = &object["spec"];
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod_spec(&mut causes, spec, "spec"),
        ("", "Service") if spec["clusterIP"] != "None" && spec["type"] != "ExternalName" => {
            required(&mut causes, &spec["ports"], "spec.ports", "");
            for (index, port) in spec["ports"].as_array().into_iter().flatten().enumerate() {
                if !port["port"].as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
                    causes.push((
                        format!("spec.ports[{index}].port"),
                        "FieldValueInvalid",
                        format!("Invalid value: {}: must be between 1 and 65535, inclusive", port["port"].as_i64().unwrap_or(0)),
                    ));
                }
            }
        }
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
            required(&mut causes, &spec["selector"], "spec.selector", "");
            match LabelSelector::from_object(&spec["selector"]) {
                Ok(selector) if !selector.matches(&spec["template"]["metadata"]["labels"]) && spec["selector"].is_object() => {
                    causes.push((
                        "spec.template.metadata.labels".to_owned(),
                        "FieldValueInvalid",
                        format!(
                            "Invalid value: {}: `selector` does not match template `labels`",
                            spec["template"]["metadata"]["labels"]
                        ),
                    ));
                }
                Ok(_) => {}
                Err(error) => causes.push(("spec.selector".to_owned(), "FieldValueInvalid", error.to_string())),
            }
            if let Some(replicas) = spec["replicas"].as_i64().filter(|replicas| *replicas < 0) {
                causes.push((
                    "spec.replicas".to_owned(),
                    "FieldValueInvalid",
                    format!("Invalid value: {replicas}: must be greater than or equal to 0"),
                ));
            }
            pod_spec(&mut causes, &spec["template"]["spec"], "spec.template.spec");
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            required(&mut causes, &object["roleRef"]["name"], "roleRef.name", "");
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            for (value, field) in [
                (&spec["group"], "spec.group"),
                (&spec["versions"], "spec.versions"),
                (&spec["scope"], "spec.scope"),
                (&spec["names"]["plural"], "spec.names.plural"),
                (&spec["names"]["kind"], "spec.names.kind"),
            ] {
                required(&mut causes, value, field, "");
            }
            let expected = format!(
                "{}.{}",
                spec["names"]["plural"].as_str().unwrap_or_default(),
                spec["group"].as_str().unwrap_or_default()
            );
            if causes.is_empty() && kubeapi::object::name(object) != expected {
                causes.push((
                    "metadata.name".to_owned(),
                    "FieldValueInvalid",
                    format!("Invalid value: \"{}\": must be spec.names.plural+\".\"+spec.group", kubeapi::object::name(object)),
                ));
            }
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&resource.group, &resource.kind, kubeapi::object::name(object), &causes))
}

/// An RFC 1123 label.
fn is_label(name: &str) -> bool {
    name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.chars().all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-')
}

fn pod_spec(causes: &mut Causes, spec: &Value, at: &str) {
    required(causes, &spec["containers"], &format!("{at}.containers"), "");
    for (index, container) in spec["containers"].as_array().into_iter().flatten().enumerate() {
        required(causes, &container["name"], &format!("{at}.containers[{index}].name"), "");
        if let Some(name) = container["name"].as_str().filter(|name| !name.is_empty() && !is_label(name)) {
            let message = format!(
                "Invalid value: \"{name}\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
            );
            causes.push((format!("{at}.containers[{index}].name"), "FieldValueInvalid", message));
        } else if !container["name"].is_string() && !container["name"].is_null() {
            causes.push((
                format!("{at}.containers[{index}].name"),
                "FieldValueTypeInvalid",
                "Invalid value: must be a string".to_owned(),
            ));
        }
        required(causes, &container["image"], &format!("{at}.containers[{index}].image"), "");
    }
}

/// 422 where an update touches what may not change.
pub(crate) fn check_update(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    let fields: &[&str] = match (resource.group.as_str(), resource.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => &["/spec/selector"],
        ("apps", "StatefulSet") => &["/spec/selector", "/spec/serviceName", "/spec/podManagementPolicy"],
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &["/roleRef"],
        ("", "Pod") => &["/spec/nodeName", "/spec/serviceAccountName"],
        ("", "Service") if old["spec"]["type"] != "ExternalName" => &["/spec/clusterIP"],
        _ => &[],
    };
    let mut causes = Causes::new();
    for field in fields {
        let (before, after) = (old.pointer(field), new.pointer(field));
        if before.is_some_and(|before| !before.is_null()) && before != after {
            causes.push((
                field.trim_start_matches('/').replace('/', "."),
                "FieldValueInvalid",
                format!("Invalid value: {}: field is immutable", after.unwrap_or(&Value::Null)),
            ));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&resource.group, &resource.kind, kubeapi::object::name(old), &causes))
}
