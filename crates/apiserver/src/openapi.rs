//! OpenAPI documents, v3 by group version and v2 as a whole, for clients that explain, validate and merge by them.
//!
//! The schemas of built-in kinds are those of `k8s-openapi`, with the merge markers of our table of types put in; custom
//! resources have the schemas of their definitions. They are made when they are asked for.

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use kubeapi::Status;
use serde_json::{Map, Value, json};

use crate::core::VERSION;
use crate::resource::{Registry, Resource};
use crate::types::{self, Merge, Shape, Type};

/// The built-in kinds with their Rust types.
fn built_in(group: &str, version: &str, kind: &str, schemas: &mut Schemas) -> Option<String> {
    use k8s_openapi::api;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
    macro_rules! table {
        ($($group:literal $version:literal $($module:ident)::+ : $($kind:ident)*;)*) => {
            $(if (group, version) == ($group, $version) {
                use $($module)::+ as of;
                return match kind {
                    $(stringify!($kind) => Some(schemas.add::<of::$kind>()),)*
                    _ => None,
                };
            })*
        };
    }
    table! {
        "" "v1" api::core::v1: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node
            PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service
            ServiceAccount;
        "apps" "v1" api::apps::v1: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        "batch" "v1" api::batch::v1: CronJob Job;
        "autoscaling" "v1" api::autoscaling::v1: HorizontalPodAutoscaler;
        "autoscaling" "v2" api::autoscaling::v2: HorizontalPodAutoscaler;
        "networking.k8s.io" "v1" api::networking::v1: Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR;
        "policy" "v1" api::policy::v1: PodDisruptionBudget;
        "rbac.authorization.k8s.io" "v1" api::rbac::v1: ClusterRole ClusterRoleBinding Role RoleBinding;
        "storage.k8s.io" "v1" api::storage::v1: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment
            VolumeAttributesClass;
        "admissionregistration.k8s.io" "v1" api::admissionregistration::v1: MutatingAdmissionPolicy MutatingAdmissionPolicyBinding
            MutatingWebhookConfiguration
            ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration;
        "apiextensions.k8s.io" "v1" apiextensions: CustomResourceDefinition;
        "apiregistration.k8s.io" "v1" apiregistration: APIService;
        "scheduling.k8s.io" "v1" api::scheduling::v1: PriorityClass;
        "coordination.k8s.io" "v1" api::coordination::v1: Lease;
        "node.k8s.io" "v1" api::node::v1: RuntimeClass;
        "discovery.k8s.io" "v1" api::discovery::v1: EndpointSlice;
        "certificates.k8s.io" "v1" api::certificates::v1: CertificateSigningRequest;
        "events.k8s.io" "v1" api::events::v1: Event;
        "flowcontrol.apiserver.k8s.io" "v1" api::flowcontrol::v1: FlowSchema PriorityLevelConfiguration;
        "resource.k8s.io" "v1" api::resource::v1: DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
        "authentication.k8s.io" "v1" api::authentication::v1: SelfSubjectReview TokenReview;
        "authorization.k8s.io" "v1" api::authorization::v1: LocalSubjectAccessReview SelfSubjectAccessReview
            SelfSubjectRulesReview SubjectAccessReview;
    }
    None
}

/// Schemas as they are collected.
struct Schemas {
    generator: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        Self { generator: SchemaSettings::openapi3().into_generator() }
    }

    /// Adds a type with all that it refers to; its name.
    fn add<T: JsonSchema>(&mut self) -> String {
        self.generator.subschema_for::<T>();
        T::schema_name().into_owned()
    }

    fn finish(mut self) -> Map<String, Value> {
        let mut schemas = self.generator.take_definitions(true);
        for (name, schema) in &mut schemas {
            // `io.k8s.api.core.v1.PodSpec` is `core.v1.PodSpec` in the table.
            let mut parts: Vec<&str> = name.rsplit('.').take(3).collect();
            parts.reverse();
            if let Some(of) = types::find(&parts.join(".")) {
                mark(schema, of);
            }
            tidy(schema);
        }
        schemas
    }
}

/// Puts the merge markers of the table on a type's properties.
fn mark(schema: &mut Value, of: &Type) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, property) in properties {
        let Some(field) = of.field(name) else { continue };
        match (field.shape, field.merge) {
            (Shape::List, Merge::Keys(keys)) => {
                property["x-kubernetes-list-type"] = "map".into();
                property["x-kubernetes-list-map-keys"] = json!(keys);
                if field.patch_by_key {
                    property["x-kubernetes-patch-merge-key"] = keys[0].into();
                    property["x-kubernetes-patch-strategy"] = "merge".into();
                }
            }
            (Shape::List, Merge::Set) => {
                property["x-kubernetes-list-type"] = "set".into();
                property["x-kubernetes-patch-strategy"] = "merge".into();
            }
            (Shape::List, _) => property["x-kubernetes-list-type"] = "atomic".into(),
            (_, Merge::Atomic) => property["x-kubernetes-map-type"] = "atomic".into(),
            _ => {}
        }
    }
}

/// A reference beside other words stands in `allOf`, as kube-openapi writes it.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.len() > 1
                && let Some(reference) = fields.remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Where each group version's document is; the hash changes with its content.
pub(crate) fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for group in registry.groups() {
        for version in registry.versions(group) {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let resources: String = registry.resources(group, &version).iter().map(|resource| fingerprint(resource)).collect();
            let hash: String = ring::digest::digest(&ring::digest::SHA256, resources.as_bytes())
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect();
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
        }
    }
    json!({"paths": paths})
}

fn fingerprint(resource: &Resource) -> String {
    let schema = resource.custom.as_ref().map(|version| version.to_string()).unwrap_or_default();
    format!("{}/{}/{} {schema}\n", resource.group, resource.version, resource.kind)
}

/// Name and schema of each of a group version's kinds, with all that they refer to.
fn schemas(registry: &Registry, group: &str, version: &str) -> Map<String, Value> {
    let mut collected = Schemas::new();
    let mut kinds = Vec::new();
    let mut custom = Map::new();
    for resource in registry.resources(group, version) {
        let gvk = json!([{"group": group, "version": version, "kind": resource.kind}]);
        if let Some(of) = &resource.custom {
            let metadata = collected.add::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>();
            let mut schema = of["schema"]["openAPIV3Schema"].clone();
            if !schema.is_object() {
                schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            }
            let about = |what: &str| json!({"type": "string", "description": what});
            schema["properties"]["apiVersion"] =
                about("APIVersion defines the versioned schema of this representation of an object.");
            schema["properties"]["kind"] = about("Kind is a string value representing the REST resource this object represents.");
            schema["properties"]["metadata"] = json!({"description": "Standard object's metadata.", "allOf": [{"$ref": format!("#/components/schemas/{metadata}")}]});
            schema["x-kubernetes-group-version-kind"] = gvk;
            let reversed: Vec<&str> = group.rsplit('.').collect();
            custom.insert(format!("{}.{version}.{}", reversed.join("."), resource.kind), schema);
        } else if let Some(name) = built_in(group, version, &resource.kind, &mut collected) {
            kinds.push((name, gvk));
        }
    }
    let mut out = collected.finish();
    for (name, gvk) in kinds {
        if let Some(schema) = out.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = gvk;
        }
    }
    out.extend(custom);
    out
}

/// The document of one group version.
pub(crate) fn document(registry: &Registry, group: &str, version: &str) -> Result<Value, Status> {
    let resources = registry.resources(group, version);
    if resources.is_empty() {
        return Err(Status::no_such_resource());
    }
    let mut paths = Map::new();
    let prefix = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    for resource in &resources {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let gvk = json!({"group": group, "version": version, "kind": resource.kind});
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let operation = |action: &str, bodies: &[&str]| {
            let content: Map<String, Value> = bodies.iter().map(|media| ((*media).to_owned(), json!({}))).collect();
            json!({
                "operationId": format!("{action}{}", resource.kind),
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
                "requestBody": {"content": content},
                "responses": {"200": {"description": "OK"}},
            })
        };
        let mut patches = vec!["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
        if resource.custom.is_none() {
            patches.push("application/strategic-merge-patch+json");
        }
        paths.insert(
            format!("{prefix}{scope}/{}/{{name}}", resource.plural),
            json!({
                "get": operation("get", &[]),
                "put": operation("put", &["application/json"]),
                "patch": operation("patch", &patches),
                "delete": operation("delete", &[]),
            }),
        );
        let collection = json!({"get": operation("list", &[]), "post": operation("post", &["application/json"])});
        paths.insert(format!("{prefix}{scope}/{}", resource.plural), collection);
    }
    Ok(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas(registry, group, version)},
    }))
}

/// The swagger document of everything: definitions only, which is what clients read of it.
pub(crate) fn swagger(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    for group in registry.groups() {
        for version in registry.versions(group) {
            definitions.extend(schemas(registry, group, &version));
        }
    }
    let mut definitions = Value::Object(definitions);
    rename_references(&mut definitions);
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION}, "paths": {}, "definitions": definitions})
}

fn rename_references(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if name == "$ref" => *text = text.replace("#/components/schemas/", "#/definitions/"),
                    value => rename_references(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(rename_references),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_kind_has_a_schema_with_its_merge_keys() {
        let registry = Registry::new();
        for resource in registry.all().filter(|resource| resource.plural != "bindings") {
            let document = document(&registry, &resource.group, &resource.version).unwrap();
            let found = document["components"]["schemas"]
                .as_object()
                .unwrap()
                .values()
                .any(|schema| schema["x-kubernetes-group-version-kind"][0]["kind"] == resource.kind);
            assert!(found, "{} {}", resource.api_version(), resource.kind);
        }
        let core = document(&registry, "", "v1").unwrap();
        let containers = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    }
}
