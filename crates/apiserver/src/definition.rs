//! CustomResourceDefinitions: what makes one valid, and its status.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::core::timestamp;
use crate::structural::Causes;
use crate::validate::{is_label, required};

/// Every way in which a definition is invalid (apiextensions `pkg/apis/apiextensions/validation`).
pub(crate) fn check(definition: &Value) -> Causes {
    let mut causes = Causes::new();
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    required(&mut causes, &spec["group"], "spec.group", "");
    match spec["scope"].as_str().unwrap_or_default() {
        "Cluster" | "Namespaced" => {}
        "" => causes.push(("spec.scope".to_owned(), "FieldValueRequired", "Required value".to_owned())),
        other => causes.push((
            "spec.scope".to_owned(),
            "FieldValueNotSupported",
            format!("Unsupported value: {other:?}: supported values: \"Cluster\", \"Namespaced\""),
        )),
    }
    for name in ["plural", "singular", "kind", "listKind"] {
        let field = format!("spec.names.{name}");
        required(&mut causes, &spec["names"][name], &field, "");
        let given = text(&spec["names"][name]);
        if !given.is_empty() && !is_label(&given.to_lowercase()) {
            let message = format!(
                "Invalid value: {given:?}: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
                 an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                 validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            );
            causes.push((field, "FieldValueInvalid", message));
        }
    }
    let name = kubeapi::object::name(definition);
    if name != format!("{plural}.{group}") {
        let message = format!("Invalid value: {name:?}: must be spec.names.plural+\".\"+spec.group");
        causes.insert(0, ("metadata.name".to_owned(), "FieldValueInvalid", message));
    }
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|of| group == *of || group.ends_with(&format!(".{of}")));
    let approval = "api-approved.kubernetes.io";
    if is_protected && definition["metadata"]["annotations"][approval].as_str().unwrap_or_default().is_empty() {
        let message = format!(
            "Required value: protected groups must have approval annotation \"{approval}\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        causes.push((format!("metadata.annotations[{approval}]"), "FieldValueRequired", message));
    }
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    required(&mut causes, &spec["versions"], "spec.versions", "");
    if !versions.is_empty() && versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let message = format!("Invalid value: {}: must have exactly one version marked as storage version", spec["versions"]);
        causes.push(("spec.versions".to_owned(), "FieldValueInvalid", message));
    }
    for (index, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        required(&mut causes, &version["name"], &format!("{at}.name"), "");
        let schema = &version["schema"]["openAPIV3Schema"];
        let field = format!("{at}.schema.openAPIV3Schema");
        if !schema.is_object() {
            causes.push((field, "FieldValueRequired", "Required value: schemas are required".to_owned()));
            continue;
        }
        if schema["type"] != "object" {
            let message = format!("Invalid value: {:?}: must be object at the root", text(&schema["type"]));
            causes.push((format!("{field}.type"), "FieldValueInvalid", message));
        }
        check_schema(schema, &field, true, &mut causes);
    }
    if spec["preserveUnknownFields"] == true {
        let message = "Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(("spec.preserveUnknownFields".to_owned(), "FieldValueInvalid", message.to_owned()));
    }
    causes
}

/// The rules of structural schemas (`pkg/apiserver/schema/validation.go`).
fn check_schema(schema: &Value, at: &str, is_root: bool, causes: &mut Causes) {
    let typed = schema["type"].as_str().is_some_and(|of| !of.is_empty());
    let open = schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if !typed && !open && !is_root {
        let what = if at.ends_with(".items") { "array items" } else { "object fields" };
        let message = format!("Required value: must not be empty for specified {what}");
        causes.push((format!("{at}.type"), "FieldValueRequired", message));
    }
    if let Some(of) =
        schema["type"].as_str().filter(|of| !matches!(*of, "" | "object" | "array" | "string" | "integer" | "number" | "boolean"))
    {
        let message = format!(
            "Unsupported value: {of:?}: supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""
        );
        causes.push((format!("{at}.type"), "FieldValueNotSupported", message));
    }
    if schema["properties"].is_object() && schema["additionalProperties"].is_object() {
        let message = "Forbidden: additionalProperties and properties are mutual exclusive";
        causes.push((format!("{at}.additionalProperties"), "FieldValueForbidden", message.to_owned()));
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        causes.push((format!("{at}.items"), "FieldValueRequired", "Required value: must be specified".to_owned()));
    }
    if schema["uniqueItems"] == true {
        let message = "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push((format!("{at}.uniqueItems"), "FieldValueForbidden", message.to_owned()));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(error) = regex::Regex::new(pattern)
    {
        let first = error.to_string();
        let message = format!(
            "Invalid value: {pattern:?}: must be a valid regular expression, but isn't: {}",
            first.lines().last().unwrap_or_default()
        );
        causes.push((format!("{at}.pattern"), "FieldValueInvalid", message));
    }
    if schema["x-kubernetes-list-type"] == "map" && schema["x-kubernetes-list-map-keys"].as_array().is_none_or(Vec::is_empty) {
        let message = "Required value: must not be empty if x-kubernetes-list-type is map";
        causes.push((format!("{at}.x-kubernetes-list-map-keys"), "FieldValueRequired", message.to_owned()));
    }
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        if is_root && name == "metadata" {
            continue;
        }
        check_schema(of, &format!("{at}.properties[{name}]"), is_root && matches!(name.as_str(), "apiVersion" | "kind"), causes);
    }
    for name in ["items", "additionalProperties"] {
        if schema[name].is_object() {
            check_schema(&schema[name], &format!("{at}.{name}"), false, causes);
        }
    }
}

/// The status of a definition whose names are accepted, which they are at once: nothing else decides about them.
pub(crate) fn status(definition: &Value, now: Timestamp) -> Value {
    let spec = &definition["spec"];
    let mut stored_versions: Vec<Value> = definition["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    for version in spec["versions"].as_array().into_iter().flatten() {
        if version["storage"] == true && !stored_versions.contains(&version["name"]) {
            stored_versions.push(version["name"].clone());
        }
    }
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": timestamp(now)});
    json!({
        "acceptedNames": spec["names"],
        "storedVersions": stored_versions,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    })
}
