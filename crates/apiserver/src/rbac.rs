//! Role-based access control: the rules of Roles and ClusterRoles, found through their bindings.
//!
//! The index is rebuilt from the stored objects when one of them changes. A binding to a role that does not exist grants
//! nothing, as in life.

use std::collections::HashMap;

use kubeapi::{Identity, LabelSelector, RequestInfo, Status, object};
use serde_json::Value;

use crate::core::State;
use crate::resource::{Resource, StorageKey};

/// What a request wants to do, as RBAC sees it.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    /// `pods` or `pods/log`; empty for a non-resource path.
    pub(crate) resource: String,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) path: &'a str,
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(info: &'a RequestInfo, method: &http::Method) -> Self {
        // A non-resource request has the method as its verb; exec and its like are "create" for POST, "get" for GET.
        let connect = || match *method {
            http::Method::POST => "create",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE => "delete",
            _ => "get",
        };
        let verb = if info.verb == kubeapi::Verb::Connect { connect() } else { info.verb.as_str() };
        Self {
            verb,
            group: &info.group,
            resource: if info.is_resource { info.resource_path() } else { String::new() },
            namespace: &info.namespace,
            // A list or watch of one object by name is asked for under that name (`requestinfo.go`).
            name: if info.name.is_empty() { info.selected_name().unwrap_or_default() } else { &info.name },
            path: &info.path,
        }
    }
}

/// What a role, or a FlowSchema, says of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    urls: Vec<String>,
}

pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Rule {
    pub(crate) fn from_value(rule: &Value) -> Self {
        Self {
            verbs: strings(&rule["verbs"]),
            groups: strings(&rule["apiGroups"]),
            resources: strings(&rule["resources"]),
            names: strings(&rule["resourceNames"]),
            urls: strings(&rule["nonResourceURLs"]),
        }
    }

    /// As Go prints it in refusals (`CompactString`).
    fn describe(&self) -> String {
        let mut parts = Vec::new();
        for (name, list) in [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ] {
            if !list.is_empty() {
                let quoted: Vec<String> = list.iter().map(|word| format!("\"{word}\"")).collect();
                parts.push(format!("{name}:[{}]", quoted.join(" ")));
            }
        }
        format!("{{{}}}", parts.join(", "))
    }

    pub(crate) fn allows(&self, wanted: &Attributes<'_>) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|item| item == "*" || item == word);
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if wanted.resource.is_empty() {
            return self
                .urls
                .iter()
                .any(|url| url == wanted.path || url.strip_suffix('*').is_some_and(|prefix| wanted.path.starts_with(prefix)));
        }
        let resource = has(&self.resources, &wanted.resource)
            || wanted
                .resource
                .split_once('/')
                .is_some_and(|(_, sub)| self.resources.iter().any(|item| item.strip_prefix("*/") == Some(sub)));
        has(&self.groups, wanted.group)
            && resource
            && (self.names.is_empty() || self.names.iter().any(|name| name == wanted.name))
    }
}

/// The rules of a role, with those that it aggregates. An aggregating role's own rules are the controller's, and stale at best.
fn rules_of(role: &Value, cluster_roles: &[Value]) -> Vec<Rule> {
    let own = |role: &Value| role["rules"].as_array().into_iter().flatten().map(Rule::from_value).collect::<Vec<_>>();
    if !role["aggregationRule"].is_object() {
        return own(role);
    }
    aggregated(role, cluster_roles).flat_map(own).collect()
}

/// The ClusterRoles whose rules an aggregating one has.
pub(crate) fn aggregated<'a>(role: &Value, cluster_roles: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
    let selectors: Vec<LabelSelector> = selectors.filter_map(|selector| LabelSelector::from_object(selector).ok()).collect();
    let name = object::name(role).to_owned();
    cluster_roles
        .iter()
        .filter(move |other| object::name(other) != name)
        .filter(move |other| selectors.iter().any(|selector| selector.matches(&other["metadata"]["labels"])))
}

/// Rules granted in one namespace, or everywhere.
#[derive(Clone, Debug)]
struct Grant {
    namespace: Option<String>,
    rules: std::sync::Arc<Vec<Rule>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// The four kinds of objects, indexed by subject.
#[derive(Default)]
pub(crate) struct Rbac {
    grants: HashMap<Subject, Vec<Grant>>,
}

impl Rbac {
    pub(crate) fn build(roles: &[Value], cluster_roles: &[Value], bindings: &[Value], cluster_bindings: &[Value]) -> Self {
        let rules = |role: &Value| rules_of(role, cluster_roles);
        let cluster: HashMap<&str, std::sync::Arc<Vec<Rule>>> =
            cluster_roles.iter().map(|role| (object::name(role), rules(role).into())).collect();
        let local: HashMap<(&str, &str), std::sync::Arc<Vec<Rule>>> =
            roles.iter().map(|role| ((object::namespace(role), object::name(role)), rules(role).into())).collect();
        let mut rbac = Self::default();
        for (binding, namespaced) in
            bindings.iter().map(|binding| (binding, true)).chain(cluster_bindings.iter().map(|binding| (binding, false)))
        {
            let role = &binding["roleRef"];
            let name = role["name"].as_str().unwrap_or_default();
            let found = if role["kind"] == "Role" { local.get(&(object::namespace(binding), name)) } else { cluster.get(name) };
            let Some(rules) = found else { continue };
            let namespace = namespaced.then(|| object::namespace(binding).to_owned());
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                let name = subject["name"].as_str().unwrap_or_default();
                let subject = match subject["kind"].as_str().unwrap_or_default() {
                    "User" => Subject::User(name.to_owned()),
                    "Group" => Subject::Group(name.to_owned()),
                    "ServiceAccount" => {
                        let of = subject["namespace"].as_str().unwrap_or_else(|| object::namespace(binding));
                        Subject::User(format!("system:serviceaccount:{of}:{name}"))
                    }
                    _ => continue,
                };
                let grant = Grant { namespace: namespace.clone(), rules: rules.clone() };
                rbac.grants.entry(subject).or_default().push(grant);
            }
        }
        rbac
    }

    pub(crate) fn allows(&self, who: &Identity, wanted: &Attributes<'_>) -> bool {
        if who.is_in("system:masters") {
            return true;
        }
        self.grants_of(who).any(|grant| {
            grant.namespace.as_ref().is_none_or(|namespace| !wanted.resource.is_empty() && namespace == wanted.namespace)
                && grant.rules.iter().any(|rule| rule.allows(wanted))
        })
    }
}

impl Rbac {
    fn grants_of<'a>(&'a self, who: &Identity) -> impl Iterator<Item = &'a Grant> {
        let subjects: Vec<Subject> = std::iter::once(Subject::User(who.name.clone()))
            .chain(who.groups.iter().map(|group| Subject::Group(group.clone())))
            .collect();
        subjects.into_iter().filter_map(|subject| self.grants.get(&subject)).flatten()
    }

    /// The `status` of a SelfSubjectRulesReview.
    pub(crate) fn rules_of(&self, who: &Identity, namespace: &str) -> Value {
        let (mut resources, mut urls) = (Vec::new(), Vec::new());
        let everything = who.is_in("system:masters").then(|| Rule {
            verbs: vec!["*".to_owned()],
            groups: vec!["*".to_owned()],
            resources: vec!["*".to_owned()],
            ..Rule::default()
        });
        let all_urls = who.is_in("system:masters").then(|| Rule {
            verbs: vec!["*".to_owned()],
            urls: vec!["*".to_owned()],
            ..Rule::default()
        });
        let granted = self
            .grants_of(who)
            .filter(|grant| grant.namespace.as_ref().is_none_or(|of| of == namespace))
            .flat_map(|grant| grant.rules.iter().filter(|rule| grant.namespace.is_none() || rule.urls.is_empty()));
        for rule in everything.iter().chain(all_urls.iter()).chain(granted) {
            if rule.urls.is_empty() {
                let mut entry = serde_json::json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
                if !rule.names.is_empty() {
                    entry["resourceNames"] = serde_json::json!(rule.names);
                }
                resources.push(entry);
            } else {
                urls.push(serde_json::json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
            }
        }
        serde_json::json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
    }

    /// Whether what a rule grants in a namespace (or everywhere) is granted to a user already.
    fn covers(&self, who: &Identity, rule: &Rule, namespace: &str) -> bool {
        let one = |verb: &str, group: &str, resource: &str, name: &str, path: &str| {
            let wanted = Attributes { verb, group, resource: resource.to_owned(), namespace, name, path };
            self.allows(who, &wanted)
        };
        let any = vec![String::new()];
        let names = if rule.names.is_empty() { &any } else { &rule.names };
        rule.verbs.iter().all(|verb| {
            rule.urls.iter().all(|url| one(verb, "", "", "", url))
                && rule.groups.iter().all(|group| {
                    rule.resources.iter().all(|resource| names.iter().all(|name| one(verb, group, resource, name, "")))
                })
        })
    }
}

/// 403 where a role would grant, or a binding pass on, what the caller does not have
/// (`registry/rbac/*/policybased/storage.go`).
pub(crate) fn check_escalation(
    index: &Rbac,
    state: &State,
    who: &Identity,
    resource: &Resource,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let is_binding = resource.plural.ends_with("bindings");
    let namespace = object::namespace(object);
    let (group, name) = ("rbac.authorization.k8s.io", object::name(object));
    let (target, plural) = if is_binding {
        let kind = if object["roleRef"]["kind"] == "Role" { "roles" } else { "clusterroles" };
        (object["roleRef"]["name"].as_str().unwrap_or_default(), kind)
    } else {
        (name, resource.plural.as_str())
    };
    let verb = if is_binding { "bind" } else { "escalate" };
    let wanted = Attributes { verb, group, resource: plural.to_owned(), namespace, name: target, path: "" };
    if index.allows(who, &wanted) {
        return Ok(());
    }
    let role = if is_binding {
        let scope = if plural == "roles" { namespace } else { "" };
        let Some(stored) = state.store.get(&StorageKey::new(group, plural), scope, target) else {
            return Err(Status::not_found(group, plural, target));
        };
        stored.value()
    } else {
        object.clone()
    };
    let mut rules = if is_binding {
        let storage = StorageKey::new(group, "clusterroles");
        let cluster_roles: Vec<Value> = state.store.list(&storage, "", None).map(|stored| stored.value()).collect();
        rules_of(&role, &cluster_roles)
    } else {
        role["rules"].as_array().into_iter().flatten().map(Rule::from_value).collect()
    };
    // Nobody can tell what a role will aggregate later: to say that it does takes all rights.
    if !is_binding
        && role["aggregationRule"].is_object()
        && old.is_none_or(|old| old["aggregationRule"] != role["aggregationRule"])
    {
        let all = || vec!["*".to_owned()];
        rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
        rules.push(Rule { verbs: all(), urls: all(), ..Rule::default() });
    }
    let missing: Vec<String> = rules.iter().filter(|rule| !index.covers(who, rule, namespace)).map(Rule::describe).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = who.groups.iter().map(|group| format!("\"{group}\"")).collect();
    let message = format!(
        "{}.{group} \"{name}\" is forbidden: user \"{}\" (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        resource.plural,
        who.name,
        groups.join(" "),
        missing.join("\n")
    );
    Err(Status::new(403, message).with_details(serde_json::json!({"name": name, "group": group, "kind": resource.plural})))
}

/// The answer to who may not, worded as by the real authorizer.
pub(crate) fn forbidden(who: &Identity, wanted: &Attributes<'_>) -> Status {
    if wanted.resource.is_empty() {
        return Status::new(403, format!("forbidden: User \"{}\" cannot {} path \"{}\"", who.name, wanted.verb, wanted.path))
            .with_details(serde_json::json!({}));
    }
    let (resource, sub) = wanted.resource.split_once('/').unwrap_or((&wanted.resource, ""));
    let qualified = if wanted.group.is_empty() { resource.to_owned() } else { format!("{resource}.{}", wanted.group) };
    let named = if wanted.name.is_empty() { String::new() } else { format!(" \"{}\"", wanted.name) };
    let what = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
    let scope = if wanted.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", wanted.namespace)
    };
    let message = format!(
        "{qualified}{named} is forbidden: User \"{}\" cannot {} resource \"{what}\" in API group \"{}\" {scope}",
        who.name, wanted.verb, wanted.group
    );
    let mut details = serde_json::json!({"kind": resource});
    if !wanted.name.is_empty() {
        details["name"] = wanted.name.into();
    }
    if !wanted.group.is_empty() {
        details["group"] = wanted.group.into();
    }
    Status::new(403, message).with_details(details)
}

/// ClusterRoles and bindings that every cluster is born with, as far as a lab's clients need them
/// (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`).
pub(crate) fn bootstrap() -> Vec<Value> {
    let role = |name: &str, rules: Value| {
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "rules": rules,
        })
    };
    let binding = |name: &str, groups: &[&str]| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| serde_json::json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}))
            .collect();
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        })
    };
    let urls = |urls: &[&str]| serde_json::json!([{"nonResourceURLs": urls, "verbs": ["get"]}]);
    vec![
        role(
            "cluster-admin",
            serde_json::json!([
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]),
        ),
        binding("cluster-admin", &["system:masters"]),
        role(
            "system:discovery",
            urls(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ]),
        ),
        binding("system:discovery", &["system:authenticated"]),
        role("system:public-info-viewer", urls(&["/healthz", "/livez", "/readyz", "/version", "/version/"])),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        role(
            "system:basic-user",
            serde_json::json!([
                {"apiGroups": ["authorization.k8s.io"],
                 "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
                {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
            ]),
        ),
        binding("system:basic-user", &["system:authenticated"]),
        role(
            "system:auth-delegator",
            serde_json::json!([
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
                {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
            ]),
        ),
        aggregating("admin"),
        aggregating("edit"),
        aggregating("view"),
        part(
            "admin",
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            &["roles", "rolebindings"],
        ),
        part("edit", &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], NAMESPACED),
        part("view", &["get", "list", "watch"], NAMESPACED),
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "extension-apiserver-authentication-reader", "namespace": "kube-system",
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"],
                "resourceNames": ["extension-apiserver-authentication"]}],
        }),
    ]
}

/// What users of a namespace work with. Secrets are not among what `view` shows.
const NAMESPACED: &[&str] = &[
    "configmaps",
    "controllerrevisions",
    "cronjobs",
    "daemonsets",
    "deployments",
    "deployments/scale",
    "endpoints",
    "endpointslices",
    "events",
    "horizontalpodautoscalers",
    "ingresses",
    "jobs",
    "networkpolicies",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "pods",
    "pods/log",
    "replicasets",
    "replicationcontrollers",
    "serviceaccounts",
    "services",
    "statefulsets",
];

/// `admin`, `edit` or `view`: what other ClusterRoles add to it by label. `admin` holds `edit`, and that `view`.
fn aggregating(name: &str) -> Value {
    let of: &[&str] = match name {
        "admin" => &["admin", "edit", "view"],
        "edit" => &["edit", "view"],
        _ => &["view"],
    };
    let selectors: Vec<Value> = of
        .iter()
        .map(|part| serde_json::json!({"matchLabels": {format!("rbac.authorization.k8s.io/aggregate-to-{part}"): "true"}}))
        .collect();
    serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "aggregationRule": {"clusterRoleSelectors": selectors},
    })
}

/// The server's own share of `admin`, `edit` or `view`.
fn part(name: &str, verbs: &[&str], resources: &[&str]) -> Value {
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}");
    let groups =
        ["", "apps", "batch", "autoscaling", "networking.k8s.io", "policy", "discovery.k8s.io", "rbac.authorization.k8s.io"];
    let mut rules = vec![serde_json::json!({"apiGroups": groups, "resources": resources, "verbs": verbs})];
    if name == "edit" {
        rules.push(serde_json::json!({"apiGroups": [""], "resources": ["secrets", "pods/exec", "pods/portforward", "pods/attach"], "verbs": verbs}));
    }
    serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": format!("system:aggregate-to-{name}"),
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", label: "true"}},
        "rules": rules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn may(rbac: &Rbac, who: &Identity, method: http::Method, target: &str) -> bool {
        let info = RequestInfo::parse(method.as_str(), target, None);
        rbac.allows(who, &Attributes::of(&info, &method))
    }

    #[test]
    fn a_role_reaches_its_namespace_and_no_further() {
        let roles = [json!({"metadata": {"namespace": "kubevirt", "name": "kubevirt-monitoring"},
            "rules": [{"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": ["get", "list", "watch"]}]})];
        let bindings = [json!({"metadata": {"namespace": "kubevirt", "name": "b"},
            "roleRef": {"kind": "Role", "name": "kubevirt-monitoring"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "monitoring", "name": "prometheus-k8s"}]})];
        let rbac = Rbac::build(&roles, &[], &bindings, &[]);
        let prometheus = Identity::service_account("monitoring", "prometheus-k8s");
        assert!(may(&rbac, &prometheus, http::Method::GET, "/api/v1/namespaces/kubevirt/pods"));
        assert!(!may(&rbac, &prometheus, http::Method::GET, "/api/v1/namespaces/default/pods"));
        assert!(!may(&rbac, &prometheus, http::Method::GET, "/api/v1/pods"));
        assert!(!may(&rbac, &prometheus, http::Method::DELETE, "/api/v1/namespaces/kubevirt/pods/x"));
        assert!(!may(&rbac, &prometheus, http::Method::GET, "/api/v1/namespaces/kubevirt/pods/x/log"));
        assert!(!may(&rbac, &prometheus, http::Method::GET, "/apis/discovery.k8s.io/v1/namespaces/kubevirt/endpointslices"));
        assert!(!may(&rbac, &Identity::anonymous(), http::Method::GET, "/api/v1/namespaces/kubevirt/pods"));
    }

    #[test]
    fn cluster_roles_aggregate_and_bound_in_a_namespace_stay_there() {
        let cluster_roles = [
            json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "1"}}]}}),
            json!({"metadata": {"name": "part", "labels": {"a": "1"}},
                "rules": [{"apiGroups": ["*"], "resources": ["pods", "*/status"], "verbs": ["*"], "resourceNames": ["x"]}]}),
        ];
        let bindings = [json!({"metadata": {"namespace": "n", "name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "all"}, "subjects": [{"kind": "User", "name": "u"}]})];
        let rbac = Rbac::build(&[], &cluster_roles, &bindings, &[]);
        let user = Identity { name: "u".to_owned(), ..Identity::default() };
        assert!(may(&rbac, &user, http::Method::GET, "/api/v1/namespaces/n/pods/x"));
        assert!(may(&rbac, &user, http::Method::PUT, "/apis/apps/v1/namespaces/n/deployments/x/status"));
        assert!(!may(&rbac, &user, http::Method::GET, "/api/v1/namespaces/n/pods/y"));
        assert!(!may(&rbac, &user, http::Method::GET, "/api/v1/namespaces/m/pods/x"));
    }

    #[test]
    fn everybody_who_is_somebody_may_discover() {
        let objects = bootstrap();
        let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).cloned().collect::<Vec<_>>();
        let rbac = Rbac::build(&[], &of("ClusterRole"), &[], &of("ClusterRoleBinding"));
        let user = Identity::service_account("a", "b");
        assert!(may(&rbac, &user, http::Method::GET, "/apis/apps/v1"));
        assert!(!may(&rbac, &Identity::anonymous(), http::Method::GET, "/apis"));
        assert!(may(&rbac, &Identity::anonymous(), http::Method::GET, "/version"));
    }
}
