//! The resources that are served: a table of the built-in ones, and those that CustomResourceDefinitions add.
//!
//! Names, kinds, short names, categories and verbs are those of kube-apiserver 1.36 (`kubectl api-resources`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::aggregate::Remote;
use crate::structural::Rules;
use crate::types::{self, Type};

/// One resource of one API version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name, as in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Kind.
    pub kind: String,
    /// Kind of the list.
    pub list_kind: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Names that kubectl accepts besides.
    pub short_names: Vec<String>,
    /// Groups of resources, such as `all`.
    pub categories: Vec<String>,
    /// Subresources with the kind that they speak.
    pub subresources: Vec<Subresource>,
    /// Verbs served on the resource itself.
    pub verbs: Vec<&'static str>,
    /// The definition's version entry, if it is a custom resource: schema and printer columns.
    pub custom: Option<Arc<DefinedVersion>>,
    /// The CEL rules of the schema, compiled when they are first needed.
    rules: Arc<OnceLock<Option<Arc<Rules>>>>,
    /// The type of a built-in kind.
    pub(crate) built_in: Option<&'static Type>,
    storage: StorageKey,
}

/// A version entry of a definition, as JSON until somebody looks into it: of the kinds of a stack most are never written, and a schema
/// takes twelve times its text.
pub struct DefinedVersion {
    text: Box<[u8]>,
    parsed: OnceLock<Value>,
}

impl DefinedVersion {
    fn of(version: &Value) -> Self {
        Self { text: serde_json::to_vec(version).unwrap_or_default().into(), parsed: OnceLock::new() }
    }
}

impl std::ops::Deref for DefinedVersion {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.parsed.get_or_init(|| serde_json::from_slice(&self.text).unwrap_or_default())
    }
}

impl std::fmt::Debug for DefinedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of a definition", self.text.len())
    }
}

/// A subresource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name in the path.
    pub name: String,
    /// The kind that it speaks, with its group and version if they differ.
    pub kind: String,
    /// Group of that kind, if it is another one.
    pub group: String,
    /// Version of that kind, if it is another one.
    pub version: String,
    /// Verbs.
    pub verbs: Vec<&'static str>,
}

impl Resource {
    /// `GROUP/VERSION`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Where objects of all versions of this resource are stored.
    pub fn storage(&self) -> StorageKey {
        self.storage.clone()
    }

    /// The CEL rules of a custom resource, if it has any.
    pub(crate) fn rules(&self) -> Option<&Arc<Rules>> {
        let compile = || Rules::compile(&self.custom.as_ref()?["schema"]["openAPIV3Schema"]);
        self.rules.get_or_init(compile).as_ref()
    }

    /// Whether there is a subresource of that name.
    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|subresource| subresource.name == name)
    }

    /// Whether the objects count changes of their spec in `metadata.generation`.
    pub fn has_generation(&self) -> bool {
        self.custom.is_some()
            || (self.has_subresource("status")
                && !matches!(
                    self.plural.as_str(),
                    "services" | "namespaces" | "nodes" | "persistentvolumes" | "persistentvolumeclaims" | "resourcequotas"
                ))
            || matches!(
                self.plural.as_str(),
                "mutatingwebhookconfigurations"
                    | "validatingwebhookconfigurations"
                    | "validatingadmissionpolicybindings"
                    | "endpointslices"
                    | "networkpolicies"
                    | "priorityclasses"
            )
    }
}

/// Names a table of the store: `GROUP/PLURAL`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageKey(pub(crate) Arc<str>);

impl StorageKey {
    /// The table of a group's resource.
    pub fn new(group: &str, plural: &str) -> Self {
        Self(format!("{group}/{plural}").into())
    }
}

const ALL_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Group, version, plural, kind, namespaced, short names, categories, subresources.
type Row = (&'static str, &'static str, &'static str, &'static str, bool, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const BUILT_IN: &[Row] = &[
    ("", "v1", "bindings", "Binding", true, "", "", ""),
    ("", "v1", "componentstatuses", "ComponentStatus", false, "cs", "", ""),
    ("", "v1", "configmaps", "ConfigMap", true, "cm", "", ""),
    ("", "v1", "endpoints", "Endpoints", true, "ep", "", ""),
    ("", "v1", "events", "Event", true, "ev", "", ""),
    ("", "v1", "limitranges", "LimitRange", true, "limits", "", ""),
    ("", "v1", "namespaces", "Namespace", false, "ns", "", "status finalize"),
    ("", "v1", "nodes", "Node", false, "no", "", "status proxy"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, "pvc", "", "status"),
    ("", "v1", "persistentvolumes", "PersistentVolume", false, "pv", "", "status"),
    ("", "v1", "pods", "Pod", true, "po", "all", "attach binding ephemeralcontainers eviction exec log portforward proxy resize status"),
    ("", "v1", "podtemplates", "PodTemplate", true, "", "", ""),
    ("", "v1", "replicationcontrollers", "ReplicationController", true, "rc", "all", "scale status"),
    ("", "v1", "resourcequotas", "ResourceQuota", true, "quota", "", "status"),
    ("", "v1", "secrets", "Secret", true, "", "", ""),
    ("", "v1", "serviceaccounts", "ServiceAccount", true, "sa", "", "token"),
    ("", "v1", "services", "Service", true, "svc", "all", "proxy status"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", true, "", "", ""),
    ("apps", "v1", "daemonsets", "DaemonSet", true, "ds", "all", "status"),
    ("apps", "v1", "deployments", "Deployment", true, "deploy", "all", "scale status"),
    ("apps", "v1", "replicasets", "ReplicaSet", true, "rs", "all", "scale status"),
    ("apps", "v1", "statefulsets", "StatefulSet", true, "sts", "all", "scale status"),
    ("batch", "v1", "cronjobs", "CronJob", true, "cj", "all", "status"),
    ("batch", "v1", "jobs", "Job", true, "", "all", "status"),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, "hpa", "all", "status"),
    ("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, "hpa", "all", "status"),
    ("networking.k8s.io", "v1", "ingressclasses", "IngressClass", false, "", "", ""),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", true, "ing", "", "status"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true, "netpol", "", ""),
    ("networking.k8s.io", "v1", "ipaddresses", "IPAddress", false, "ip", "", ""),
    ("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", false, "", "", "status"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, "pdb", "", "status"),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false, "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false, "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true, "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", true, "", "", ""),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", false, "sc", "", ""),
    ("storage.k8s.io", "v1", "csidrivers", "CSIDriver", false, "", "", ""),
    ("storage.k8s.io", "v1", "csinodes", "CSINode", false, "", "", ""),
    ("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", false, "", "", "status"),
    ("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", true, "", "", ""),
    ("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", false, "vac", "", ""),
    ("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", false, "", "api-extensions", ""),
    ("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", false, "", "api-extensions", ""),
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false, "", "api-extensions", ""),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false, "", "api-extensions", ""),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", false, "", "api-extensions", "status"),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", false, "", "api-extensions", ""),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false, "crd,crds", "api-extensions", "status"),
    ("apiregistration.k8s.io", "v1", "apiservices", "APIService", false, "", "api-extensions", "status"),
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, "pc", "", ""),
    ("coordination.k8s.io", "v1", "leases", "Lease", true, "", "", ""),
    ("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", false, "", "", ""),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true, "", "", ""),
    ("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", false, "csr", "", "approval status"),
    ("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", false, "", "", "status"),
    ("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", false, "", "", "status"),
    ("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", false, "", "", ""),
    ("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", true, "", "", "status"),
    ("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate", true, "", "", ""),
    ("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", false, "", "", ""),
    ("events.k8s.io", "v1", "events", "Event", true, "ev", "", ""),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", false, "", "", ""),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", false, "", "", ""),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", true, "", "", ""),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false, "", "", ""),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false, "", "", ""),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", false, "", "", ""),
];

fn words(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn subresource(name: &str, kind: &str) -> Subresource {
    let (kind, group, version, verbs): (&str, &str, &str, Vec<&'static str>) = match name {
        "status" | "ephemeralcontainers" | "resize" | "approval" => (kind, "", "", vec!["get", "patch", "update"]),
        "scale" => ("Scale", "autoscaling", "v1", vec!["get", "patch", "update"]),
        "log" => (kind, "", "", vec!["get"]),
        "finalize" => (kind, "", "", vec!["update"]),
        "binding" => ("Binding", "", "", vec!["create"]),
        "eviction" => ("Eviction", "policy", "v1", vec!["create"]),
        "token" => ("TokenRequest", "authentication.k8s.io", "v1", vec!["create"]),
        "exec" => ("PodExecOptions", "", "", vec!["create", "get"]),
        "attach" => ("PodAttachOptions", "", "", vec!["create", "get"]),
        "portforward" => ("PodPortForwardOptions", "", "", vec!["create", "get"]),
        _ => (
            match kind {
                "Node" => "NodeProxyOptions",
                "Service" => "ServiceProxyOptions",
                _ => "PodProxyOptions",
            },
            "",
            "",
            vec!["create", "delete", "get", "patch", "update"],
        ),
    };
    Subresource { name: name.to_owned(), kind: kind.to_owned(), group: group.to_owned(), version: version.to_owned(), verbs }
}

fn built_in(row: &Row) -> Resource {
    let &(group, version, plural, kind, namespaced, short_names, categories, subresources) = row;
    let verbs = match plural {
        "bindings" => vec!["create"],
        "namespaces" => ALL_VERBS.iter().copied().filter(|verb| *verb != "deletecollection").collect(),
        "componentstatuses" => vec!["get", "list"],
        _ if group == "authentication.k8s.io" || group == "authorization.k8s.io" => vec!["create"],
        _ => ALL_VERBS.to_vec(),
    };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        namespaced,
        short_names: words(short_names),
        categories: words(categories),
        subresources: words(subresources).iter().map(|name| subresource(name, kind)).collect(),
        verbs,
        custom: None,
        rules: Arc::default(),
        built_in: types::of_kind(group, version, kind),
        // Events are one storage under two groups, as in the real server.
        storage: StorageKey::new(if group == "events.k8s.io" { "" } else { group }, plural),
    }
}

/// Group and plural of the kinds that every server has.
pub fn built_in_resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.iter().map(|row| (row.0, row.2))
}

/// All resources that are served at the moment.
#[derive(Clone)]
pub(crate) struct Registry {
    /// In the order in which the real server lists its groups; custom resources follow, sorted.
    by_path: BTreeMap<(String, String, String), Arc<Resource>>,
    /// The same by `GROUP/VERSION/PLURAL`, for the look-up of every request.
    index: HashMap<String, Arc<Resource>>,
    /// Groups in order of priority.
    groups: Vec<String>,
    /// The definitions that resources came from.
    custom: BTreeMap<String, Vec<(String, String, String)>>,
    /// Where the server is reached, for clients that ask.
    pub(crate) address: String,
    /// Group versions that other servers serve.
    pub(crate) remotes: Arc<Vec<Remote>>,
    /// OpenAPI documents by path, made when they are first asked for and forgotten when something else is served.
    pub(crate) documents: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let mut registry = Self {
            by_path: BTreeMap::new(),
            index: HashMap::new(),
            groups: Vec::new(),
            custom: BTreeMap::new(),
            address: String::new(),
            remotes: Arc::default(),
            documents: Arc::default(),
        };
        for row in BUILT_IN {
            registry.add(built_in(row));
        }
        registry
    }

    fn add(&mut self, resource: Resource) -> (String, String, String) {
        self.documents = Arc::default();
        if !self.groups.contains(&resource.group) {
            self.groups.push(resource.group.clone());
        }
        let key = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        let resource = Arc::new(resource);
        self.index.insert(format!("{}/{}/{}", key.0, key.1, key.2), resource.clone());
        self.by_path.insert(key.clone(), resource);
        key
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.index.get(&format!("{group}/{version}/{plural}")).cloned()
    }

    /// A resource in whatever version is served first.
    pub(crate) fn find_any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.versions(group).iter().find_map(|version| self.find(group, version, plural))
    }

    /// A resource by its kind.
    pub(crate) fn find_kind(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        self.by_path.values().find(|resource| resource.group == group && resource.kind == kind).cloned()
    }

    /// Groups in order; the core group is the empty one.
    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Versions of a group, the preferred one first.
    pub(crate) fn versions(&self, group: &str) -> Vec<String> {
        let mut versions: Vec<String> = Vec::new();
        for (of, version, _) in self.by_path.keys() {
            if of == group && !versions.contains(version) {
                versions.push(version.clone());
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        versions
    }

    /// The versions in which a resource is served.
    pub(crate) fn versions_of(&self, resource: &Resource) -> Vec<String> {
        let all = self.by_path.values().filter(|other| other.group == resource.group && other.plural == resource.plural);
        all.map(|other| other.version.clone()).collect()
    }

    /// Resources of a group version, sorted by name.
    pub(crate) fn resources(&self, group: &str, version: &str) -> Vec<Arc<Resource>> {
        self.by_path.values().filter(|resource| resource.group == group && resource.version == version).cloned().collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_path.values()
    }

    /// Takes the served versions of a definition in, in place of what it served before.
    pub(crate) fn define(&mut self, definition: &Value) {
        self.undefine(kubeapi::object::name(definition));
        let spec = &definition["spec"];
        let names = &spec["names"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&names["kind"]);
        let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        let mut keys = Vec::new();
        if self.is_built_in(&text(&spec["group"]), &text(&names["plural"])) {
            // What the server brings goes before what is defined, and keeps its storage to itself.
            return;
        }
        for version in spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true) {
            let mut subresources = Vec::new();
            for name in ["status", "scale"] {
                if version["subresources"].get(name).is_some_and(|value| !value.is_null()) {
                    subresources.push(subresource(name, &kind));
                }
            }
            let singular = names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned);
            keys.push(self.add(Resource {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                plural: text(&names["plural"]),
                singular,
                list_kind: names["listKind"].as_str().map_or_else(|| format!("{kind}List"), str::to_owned),
                kind: kind.clone(),
                namespaced: spec["scope"] == "Namespaced",
                short_names: list(&names["shortNames"]),
                categories: list(&names["categories"]),
                subresources,
                verbs: ALL_VERBS.to_vec(),
                custom: Some(Arc::new(DefinedVersion::of(version))),
                rules: Arc::default(),
                built_in: None,
                storage: StorageKey::new(&text(&spec["group"]), &text(&names["plural"])),
            }));
        }
        self.custom.insert(kubeapi::object::name(definition).to_owned(), keys);
    }

    fn is_built_in(&self, group: &str, plural: &str) -> bool {
        self.by_path.values().any(|resource| resource.custom.is_none() && resource.group == group && resource.plural == plural)
    }

    /// Takes the resources of a definition out.
    pub(crate) fn undefine(&mut self, definition: &str) {
        self.documents = Arc::default();
        for key in self.custom.remove(definition).unwrap_or_default() {
            self.by_path.remove(&key);
            self.index.remove(&format!("{}/{}/{}", key.0, key.1, key.2));
            if !self.by_path.keys().any(|(group, ..)| *group == key.0) {
                self.groups.retain(|group| *group != key.0);
            }
        }
    }
}

/// Orders versions as Kubernetes does: v2 > v1 > v1beta2 > v1alpha1 > anything else
/// (apimachinery `pkg/version/helpers.go`).
fn version_priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().unwrap_or(0);
    let (stage, minor) = match &rest[digits..] {
        "" => (3, 0),
        tail if tail.starts_with("beta") => (2, tail[4..].parse().unwrap_or(0)),
        tail if tail.starts_with("alpha") => (1, tail[5..].parse().unwrap_or(0)),
        _ => (0, 0),
    };
    (stage, major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = ["v1alpha1", "v2", "foo", "v1beta2", "v1", "v11alpha2", "v1beta1"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v11alpha2", "v1alpha1", "foo"]);
    }

    #[test]
    fn definitions_come_and_go() {
        let mut registry = Registry::new();
        let definition = json!({"metadata": {"name": "crds.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"]},
            "versions": [{"name": "v1", "served": true, "subresources": {"status": {}}}, {"name": "v2", "served": false}]}});
        registry.define(&definition);
        let widget = registry.find("example.com", "v1", "widgets").unwrap();
        assert_eq!((widget.list_kind.as_str(), widget.singular.as_str()), ("WidgetList", "widget"));
        assert!(widget.has_subresource("status") && registry.find("example.com", "v2", "widgets").is_none());
        registry.undefine("crds.example.com");
        assert!(registry.find("example.com", "v1", "widgets").is_none());
        assert!(!registry.groups().contains(&"example.com".to_owned()));
    }
}
