//! Discovery: groups, versions, resources (plain and aggregated), `/version`, health, and an OpenAPI v3 that tells kubectl
//! that the server validates fields itself.

use kubeapi::Status;
use serde_json::{Value, json};

use crate::core::{Call, Reply, VERSION};
use crate::resource::{Registry, Resource};

/// Answers a path that names no resource.
pub(crate) fn answer(registry: &Registry, call: &Call<'_>) -> Result<Reply, Status> {
    let path = call.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["api"] => Ok(Reply::Value(
            200,
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": registry.address},
            ]}),
        )),
        ["api", "v1"] => Ok(Reply::Value(200, resources(registry, "", "v1"))),
        ["apis"] => Ok(Reply::Value(200, groups(registry))),
        ["apis", group] => group_document(registry, group),
        ["apis", group, version] if registry.versions(group).iter().any(|served| served == version) => {
            Ok(Reply::Value(200, resources(registry, group, version)))
        }
        ["version"] => Ok(Reply::Value(200, version())),
        ["healthz" | "livez" | "readyz", ..] => Ok(Reply::Text(200, "ok".to_owned())),
        ["openapi", "v3"] => Ok(Reply::Value(200, openapi_index(registry))),
        ["openapi", "v3", "api", version] => Ok(Reply::Value(200, openapi(registry, "", version))),
        ["openapi", "v3", "apis", group, version] => Ok(Reply::Value(200, openapi(registry, group, version))),
        [] => Ok(Reply::Value(200, json!({"paths": paths(registry)}))),
        _ => Err(Status::no_such_resource()),
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

/// The machine in Go's words, which is what nodes and versions carry.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn paths(registry: &Registry) -> Vec<String> {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in registry.groups().iter().filter(|group| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(registry.versions(group).iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    paths
}

fn group_entry(registry: &Registry, group: &str) -> Value {
    let versions: Vec<Value> = registry
        .versions(group)
        .iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> =
        registry.groups().iter().filter(|group| !group.is_empty()).map(|group| group_entry(registry, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_document(registry: &Registry, group: &str) -> Result<Reply, Status> {
    if !registry.groups().iter().any(|served| served == group) {
        return Err(Status::no_such_resource());
    }
    let mut entry = group_entry(registry, group);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Ok(Reply::Value(200, entry))
}

fn resources(registry: &Registry, group: &str, version: &str) -> Value {
    let mut entries = Vec::new();
    for resource in registry.resources(group, version) {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        entries.push(entry);
        for subresource in &resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, subresource.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": subresource.kind,
                "verbs": subresource.verbs,
            });
            if !subresource.version.is_empty() {
                entry["group"] = subresource.group.as_str().into();
                entry["version"] = subresource.version.as_str().into();
            }
            entries.push(entry);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries})
}

/// `APIGroupDiscoveryList` (apidiscovery.k8s.io/v2) of the core group or of all others.
pub(crate) fn aggregated(registry: &Registry, core: bool, api_version: &str) -> Value {
    let mut items = Vec::new();
    for group in registry.groups().iter().filter(|group| group.is_empty() == core) {
        let versions: Vec<Value> = registry
            .versions(group)
            .iter()
            .map(|version| {
                let entries: Vec<Value> =
                    registry.resources(group, version).iter().map(|resource| aggregated_entry(resource)).collect();
                json!({"version": version, "freshness": "Current", "resources": entries})
            })
            .collect();
        let metadata = if core { json!({"creationTimestamp": null}) } else { json!({"name": group, "creationTimestamp": null}) };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items})
}

fn aggregated_entry(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        entry["subresources"] = resource
            .subresources
            .iter()
            .map(|subresource| {
                let (group, version) = if subresource.version.is_empty() {
                    (resource.group.as_str(), resource.version.as_str())
                } else {
                    (subresource.group.as_str(), subresource.version.as_str())
                };
                json!({
                    "subresource": subresource.name,
                    "responseKind": kind(group, version, &subresource.kind),
                    "verbs": subresource.verbs,
                })
            })
            .collect();
    }
    entry
}

fn openapi_index(registry: &Registry) -> Value {
    let mut paths = serde_json::Map::new();
    for group in registry.groups() {
        for version in registry.versions(group) {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}));
        }
    }
    json!({"paths": paths})
}

/// One group version: for each resource the PATCH operation with its `fieldValidation` parameter (kubectl looks for just
/// that before it leaves validation to the server) and a schema that allows every field.
fn openapi(registry: &Registry, group: &str, version: &str) -> Value {
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    let prefix = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    for resource in registry.resources(group, version) {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let gvk = json!({"group": group, "version": version, "kind": resource.kind});
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let operation = |action: &str| {
            json!({
                "operationId": format!("{action}{}", resource.kind),
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
                "responses": {"200": {"description": "OK"}},
            })
        };
        paths.insert(
            format!("{prefix}{scope}/{}/{{name}}", resource.plural),
            json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}),
        );
        paths
            .insert(format!("{prefix}{scope}/{}", resource.plural), json!({"get": operation("list"), "post": operation("post")}));
        let package = if group.is_empty() { "core" } else { group };
        let schema = resource
            .custom
            .as_ref()
            .map(|version| version["schema"]["openAPIV3Schema"].clone())
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        let mut schema = schema;
        schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        schemas.insert(format!("{package}.{version}.{}", resource.kind), schema);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}
