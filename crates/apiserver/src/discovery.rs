//! Discovery: groups, versions, resources (plain and aggregated), `/version`, health, and an OpenAPI v3 that tells kubectl
//! that the server validates fields itself.

use std::sync::PoisonError;

use bytes::Bytes;
use kubeapi::Status;
use serde_json::{Value, json};

use crate::core::{Call, Reply, VERSION};
use crate::openapi;
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
        ["version"] => Ok(Reply::Json(version().into())),
        ["healthz" | "livez" | "readyz", ..] => Ok(Reply::Text(200, "ok".to_owned())),
        ["openapi", ..] => {
            let mut documents = registry.documents.lock().unwrap_or_else(PoisonError::into_inner);
            let path = parts.join("/");
            if let Some(document) = documents.get(&path) {
                return Ok(Reply::Json(document.clone()));
            }
            let document = match parts[1..] {
                ["v2"] => openapi::swagger(registry),
                ["v3"] => openapi::index(registry),
                ["v3", "api", version] => openapi::document(registry, "", version)?,
                ["v3", "apis", group, version] => openapi::document(registry, group, version)?,
                _ => return Err(Status::no_such_resource()),
            };
            let bytes = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
            documents.insert(path, bytes.clone());
            Ok(Reply::Json(bytes))
        }
        [] => Ok(Reply::Value(200, json!({"paths": paths(registry)}))),
        _ => Err(Status::no_such_resource()),
    }
}

/// `/version`, its fields in the order in which Go writes them.
fn version() -> String {
    let platform = format!("{}/{}", std::env::consts::OS, arch());
    let fields = [
        ("major", "1"),
        ("minor", "36"),
        ("emulationMajor", "1"),
        ("emulationMinor", "36"),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "35"),
        ("gitVersion", VERSION),
        ("gitCommit", ""),
        ("gitTreeState", "clean"),
        ("buildDate", "1970-01-01T00:00:00Z"),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", &platform),
    ];
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("  {:?}: {:?}", name, value)).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
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
    paths.extend(["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    paths
}

fn group_entry(registry: &Registry, group: &str) -> Value {
    let remote = registry.remotes.iter().filter(|remote| remote.group == group).map(|remote| remote.version.clone());
    let versions: Vec<Value> = registry
        .versions(group)
        .into_iter()
        .chain(remote)
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// All groups but the core one, those of other servers last.
fn group_names(registry: &Registry) -> Vec<&str> {
    let mut names: Vec<&str> = registry.groups().iter().map(String::as_str).filter(|group| !group.is_empty()).collect();
    for remote in registry.remotes.iter() {
        if !names.contains(&remote.group.as_str()) {
            names.push(&remote.group);
        }
    }
    names
}

fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = group_names(registry).into_iter().map(|group| group_entry(registry, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_document(registry: &Registry, group: &str) -> Result<Reply, Status> {
    if !group_names(registry).contains(&group) {
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

/// Adds a version of another server to an `APIGroupDiscoveryList`.
pub(crate) fn add_remote(document: &mut Value, group: &str, version: Value) {
    let Some(items) = document["items"].as_array_mut() else { return };
    match items.iter_mut().find(|item| item["metadata"]["name"] == group) {
        Some(item) => {
            if let Some(versions) = item["versions"].as_array_mut() {
                versions.push(version);
            }
        }
        None => items.push(json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": [version]})),
    }
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
