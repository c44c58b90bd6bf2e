//! What a write may change, and what it must say: functions from the request and the stored object.

use kubeapi::{Status, object};
use serde_json::{Value, json};

use crate::core::State;
use crate::resource::{Resource, StorageKey};
use crate::structural;
use crate::validate;

/// What an update takes over from the stored object, whatever the client sent.
pub(super) const KEPT_METADATA: [&str; 7] =
    ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "namespace"];

/// Takes kind and version of the body for what they must be.
pub(super) fn check_type(resource: &Resource, body: &mut Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("couldn't get version/kind; json parse error: the body is not an object"));
    }
    let (kind, api_version) = (&resource.kind, resource.api_version());
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (found_kind, found_version) = (text("kind"), text("apiVersion"));
    if resource.custom.is_none() && !found_kind.is_empty() && found_kind != *kind {
        let package = if resource.group.is_empty() { "core" } else { resource.group.split('.').next().unwrap_or_default() };
        let version =
            if found_version.is_empty() { &resource.version } else { found_version.rsplit('/').next().unwrap_or_default() };
        return Err(Status::bad_request(format!(
            "{found_kind} in version \"{version}\" cannot be handled as a {kind}: converting ({version}.{found_kind}) to ({package}.{kind}): unknown conversion"
        )));
    }
    if !found_version.is_empty() && found_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !found_kind.is_empty() && found_kind != *kind {
        let message = format!("Invalid value: \"{found_kind}\": must be {kind}");
        let cause = ("kind".to_owned(), "FieldValueInvalid", message);
        return Err(Status::invalid(&resource.group, &found_kind, object::name(body), &[cause]));
    }
    body["kind"] = kind.as_str().into();
    body["apiVersion"] = api_version.into();
    if body["metadata"].is_null() {
        body["metadata"] = json!({});
    }
    Ok(())
}

/// Forgets the nulls that a client sent and that indexing left behind in metadata.
pub(super) fn clean_metadata(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| match value {
            Value::Null => false,
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => true,
        });
    }
}

pub(super) fn object_version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// Everything but metadata and status counts as a change of generation.
pub(super) fn changes_generation(old: &Value, new: &Value) -> bool {
    fn rest(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        object.as_object().into_iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
    }
    !rest(old).eq(rest(new))
}

/// Resources that a PUT may create (`AllowCreateOnUpdate` of their strategies).
pub(super) fn may_create_on_update(resource: &Resource) -> bool {
    resource.custom.is_none()
        && matches!(
            resource.plural.as_str(),
            "endpoints"
                | "events"
                | "leases"
                | "limitranges"
                | "services"
                | "podtemplates"
                | "clusterroles"
                | "clusterrolebindings"
                | "roles"
                | "rolebindings"
        )
}

/// Kinds that must not be replaced blindly (`AllowUnconditionalUpdate` is false).
pub(super) fn requires_version(resource: &Resource) -> bool {
    resource.custom.is_some()
        || matches!(
            resource.plural.as_str(),
            "customresourcedefinitions"
                | "apiservices"
                | "leases"
                | "poddisruptionbudgets"
                | "endpointslices"
                | "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
        )
}

/// Name and namespace of a body must be those of the path; left out, they are taken from it.
pub(super) fn check_url(resource: &Resource, body: &mut Value, namespace: &str, name: &str) -> Result<(), Status> {
    match object::name(body) {
        "" => body["metadata"]["name"] = name.into(),
        of if of == name => {}
        of => {
            return Err(Status::bad_request(format!(
                "the name of the object ({of}) does not match the name on the URL ({name})"
            )));
        }
    }
    if resource.namespaced { take_namespace(body, namespace) } else { Ok(()) }
}

/// The namespace of a body must be that of the request; left out, it is taken from it.
pub(super) fn take_namespace(body: &mut Value, namespace: &str) -> Result<(), Status> {
    match object::namespace(body) {
        "" => body["metadata"]["namespace"] = namespace.into(),
        of if of == namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// `new` with only what this kind of request may change.
pub(super) fn restrict(resource: &Resource, old: &Value, mut new: Value, subresource: &str) -> Value {
    match subresource {
        "status" => {
            let mut out = old.clone();
            match new["status"].take() {
                Value::Null => {
                    if let Some(fields) = out.as_object_mut() {
                        fields.remove("status");
                    }
                }
                status => out["status"] = status,
            }
            if resource.custom.is_none() {
                for key in ["labels", "annotations", "finalizers"] {
                    if !new["metadata"][key].is_null() {
                        out["metadata"][key] = new["metadata"][key].clone();
                    }
                }
            }
            out["metadata"]["managedFields"] = new["metadata"]["managedFields"].take();
            out
        }
        "finalize" => {
            let mut out = old.clone();
            out["spec"]["finalizers"] = new["spec"]["finalizers"].take();
            out
        }
        "binding" => new,
        "ephemeralcontainers" => {
            let mut out = old.clone();
            out["spec"]["ephemeralContainers"] = new["spec"]["ephemeralContainers"].take();
            out
        }
        "resize" => {
            let mut out = old.clone();
            for container in out["spec"]["containers"].as_array_mut().into_iter().flatten() {
                let wanted = new["spec"]["containers"].as_array_mut().into_iter().flatten();
                if let Some(wanted) = wanted.into_iter().find(|wanted| wanted["name"] == container["name"]) {
                    container["resources"] = wanted["resources"].take();
                }
            }
            out
        }
        "approval" => {
            let mut out = old.clone();
            out["status"]["conditions"] = new["status"]["conditions"].take();
            out
        }
        _ => {
            if resource.plural == "namespaces" && resource.group.is_empty() {
                // Only the finalize subresource takes them off.
                new["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
            }
            if resource.has_subresource("status") {
                match old.get("status") {
                    Some(status) => new["status"] = status.clone(),
                    None => {
                        if let Some(fields) = new.as_object_mut() {
                            fields.remove("status");
                        }
                    }
                }
            }
            new
        }
    }
}

/// An update that leaves the address out means to keep it.
pub(super) fn keep_service_address(old: &Value, new: &mut Value) {
    if new["spec"]["type"] == "ExternalName" {
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if new["spec"][key].is_null() && !old["spec"][key].is_null() {
            new["spec"][key] = old["spec"][key].clone();
        }
    }
}

pub(super) fn check_namespace(state: &State, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
    let Some(found) = state.store.get(&StorageKey::new("", "namespaces"), "", namespace) else {
        return Err(Status::not_found("", "namespaces", namespace));
    };
    if !found.is_deleting {
        return Ok(());
    }
    let qualified =
        if resource.group.is_empty() { resource.plural.clone() } else { format!("{}.{}", resource.plural, resource.group) };
    let message = format!(
        "{qualified} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
    );
    Err(Status::new(403, message).with_details(json!({"name": name, "kind": resource.plural, "causes": [{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]})))
}

/// 422 with every cause.
pub(super) fn validate_new(resource: &Resource, body: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut causes = validate::metadata(resource, body);
    if let Some(old) = old {
        causes.extend(validate::finalizers(old, body));
    }
    match &resource.custom {
        None => causes.extend(validate::check(resource, body)),
        Some(version) => {
            let mut found = structural::validate(body, &version["schema"]["openAPIV3Schema"]);
            found.extend(scale_causes(resource, body));
            if found.is_empty()
                && let Some(rules) = resource.rules()
            {
                found = rules.check(&resource.api_version(), &resource.kind, body, old);
            }
            if let Some(old) = old {
                // What was wrong before and is unchanged is let through (`CRDValidationRatcheting`).
                found.retain(|(field, ..)| {
                    let at = structural::pointer(field);
                    at.is_empty() || old.pointer(&at).is_none() || old.pointer(&at) != body.pointer(&at)
                });
            }
            causes.extend(found);
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid(&resource.group, &resource.kind, object::name(body), &causes)) }
}

/// The replicas of a custom resource with a scale subresource must be a number that is not negative.
pub(super) fn scale_causes(resource: &Resource, body: &Value) -> structural::Causes {
    let Some(path) = resource.custom.as_ref().and_then(|version| version["subresources"]["scale"]["specReplicasPath"].as_str())
    else {
        return Vec::new();
    };
    let Some(value) = body.pointer(&structural::pointer(path.trim_start_matches('.'))) else { return Vec::new() };
    let message = match value.as_i64() {
        Some(number) if number >= 0 => return Vec::new(),
        Some(number) => format!("Invalid value: {number}: should be a non-negative integer"),
        None => {
            let (shown, found) = match value {
                Value::String(text) => (text.clone(), "string"),
                Value::Bool(flag) => (flag.to_string(), "bool"),
                Value::Number(number) => (number.to_string(), "float64"),
                Value::Array(_) => (value.to_string(), "[]interface {}"),
                _ => (value.to_string(), "map[string]interface {}"),
            };
            format!("Invalid value: 0: {path} accessor error: {shown} is of the type {found}, expected int64")
        }
    };
    vec![(path.to_owned(), "FieldValueInvalid", message)]
}
