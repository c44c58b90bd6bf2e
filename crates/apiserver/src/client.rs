//! A client inside the server's process: no socket, no serialisation of the request, the same core.
//!
//! Controllers use it. It acts as `system:masters`; what must be subject to RBAC goes through HTTP.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kubeapi::{Identity, Query, RequestInfo, Status};
use serde_json::Value;

use crate::core::{Call, Core, Reply};
use crate::watch::Watcher;

/// Names a resource for the in-process client: group and plural name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gr {
    /// API group; empty for core.
    pub group: &'static str,
    /// Plural name.
    pub plural: &'static str,
}

impl Gr {
    /// A resource of the core group.
    pub const fn core(plural: &'static str) -> Self {
        Self { group: "", plural }
    }

    /// A resource of another group.
    pub const fn of(group: &'static str, plural: &'static str) -> Self {
        Self { group, plural }
    }
}

/// The in-process client.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    pub(crate) who: Arc<Identity>,
    /// Whose changes these are in `managedFields`.
    pub(crate) manager: &'static str,
}

impl Client {
    /// The same client under another name in `managedFields`.
    pub fn as_manager(&self, manager: &'static str) -> Self {
        Self { manager, ..self.clone() }
    }

    fn path(&self, gr: Gr, namespace: &str, name: &str, subresource: &str) -> Result<String, Status> {
        let state = self.core.read();
        let resource = state.registry.find_any_version(gr.group, gr.plural).ok_or_else(Status::no_such_resource)?;
        let root = if gr.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", gr.group) };
        let mut path = format!("{root}/{}", resource.version);
        if resource.namespaced && !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", gr.plural);
        for part in [name, subresource] {
            if !part.is_empty() {
                path = format!("{path}/{part}");
            }
        }
        Ok(path)
    }

    fn send(&self, method: http::Method, path: &str, content_type: &str, body: &Value) -> Result<Reply, Status> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let info = RequestInfo::parse(method.as_str(), path, query);
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap_or_default() };
        let warnings = Mutex::new(Vec::new());
        let call = Call {
            who: &self.who,
            method: &method,
            info: &info,
            content_type,
            body: &bytes,
            user_agent: self.manager,
            admitted: None,
            warnings: &warnings,
        };
        self.core.answer(Timestamp::now(), &call)
    }

    fn object(reply: Reply) -> Value {
        match reply {
            Reply::Stored(_, stored) => stored.value(),
            Reply::Value(_, value) => value,
            Reply::Json(_) | Reply::List(_) | Reply::Watch(_) | Reply::Text(..) | Reply::Admit(_) => Value::Null,
        }
    }

    /// One object.
    ///
    /// # Errors
    /// As the API answers.
    pub fn get(&self, gr: Gr, namespace: &str, name: &str) -> Result<Value, Status> {
        let path = self.path(gr, namespace, name, "")?;
        self.send(http::Method::GET, &path, "", &Value::Null).map(Self::object)
    }

    /// One object, or none where it is not found.
    ///
    /// # Errors
    /// As the API answers, but for 404.
    pub fn find(&self, gr: Gr, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        match self.get(gr, namespace, name) {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// All objects of a namespace, or of all with an empty one.
    pub fn list(&self, gr: Gr, namespace: &str) -> Vec<Value> {
        let resource = self.core.read().registry.find_any_version(gr.group, gr.plural);
        let Some(resource) = resource else { return Vec::new() };
        match self.core.list(&resource, namespace, &Query::default()) {
            Ok(list) => list.items.iter().map(|stored| stored.value()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Creates an object in its namespace.
    ///
    /// # Errors
    /// As the API answers.
    pub fn create(&self, gr: Gr, object: &Value) -> Result<Value, Status> {
        let path = self.path(gr, kubeapi::object::namespace(object), "", "")?;
        self.send(http::Method::POST, &path, "application/json", object).map(Self::object)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// As the API answers.
    pub fn update(&self, gr: Gr, object: &Value) -> Result<Value, Status> {
        let path = self.path(gr, kubeapi::object::namespace(object), kubeapi::object::name(object), "")?;
        self.send(http::Method::PUT, &path, "application/json", object).map(Self::object)
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// As the API answers.
    pub fn update_status(&self, gr: Gr, object: &Value) -> Result<Value, Status> {
        let path = self.path(gr, kubeapi::object::namespace(object), kubeapi::object::name(object), "status")?;
        self.send(http::Method::PUT, &path, "application/json", object).map(Self::object)
    }

    /// Merges a patch into an object or one of its subresources.
    ///
    /// # Errors
    /// As the API answers.
    pub fn merge(&self, gr: Gr, namespace: &str, name: &str, subresource: &str, patch: &Value) -> Result<Value, Status> {
        let path = self.path(gr, namespace, name, subresource)?;
        self.send(http::Method::PATCH, &path, "application/merge-patch+json", patch).map(Self::object)
    }

    /// Applies a JSON patch to an object.
    ///
    /// # Errors
    /// As the API answers.
    pub fn json_patch(&self, gr: Gr, namespace: &str, name: &str, patch: &Value) -> Result<Value, Status> {
        let path = self.path(gr, namespace, name, "")?;
        self.send(http::Method::PATCH, &path, "application/json-patch+json", patch).map(Self::object)
    }

    /// Gives a pod to a node, as a scheduler does.
    ///
    /// # Errors
    /// As the API answers; 409 where the pod has a node.
    pub fn bind(&self, namespace: &str, name: &str, node: &str) -> Result<(), Status> {
        let path = self.path(Gr::core("pods"), namespace, name, "binding")?;
        let binding = serde_json::json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node},
        });
        self.send(http::Method::POST, &path, "application/json", &binding).map(|_| ())
    }

    /// Creates the object, or replaces what there is of that name by it (its status stays).
    ///
    /// # Errors
    /// As the API answers.
    pub fn put(&self, gr: Gr, object: &Value) -> Result<Value, Status> {
        match self.create(gr, object) {
            Err(status) if status.reason == "AlreadyExists" => self.update(gr, object),
            other => other,
        }
    }

    /// Applies a manifest of any kind: creates it, or merges it into what there is.
    ///
    /// # Errors
    /// As the API answers; 404 where the kind is not served.
    pub fn apply(&self, manifest: &Value) -> Result<Value, Status> {
        let api_version = manifest["apiVersion"].as_str().unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = kubeapi::object::kind(manifest);
        let resource = self
            .core
            .read()
            .registry
            .find_kind(group, kind)
            .ok_or_else(|| Status::new(404, format!("no matches for kind \"{kind}\" in version \"{api_version}\"")))?;
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let namespace = match kubeapi::object::namespace(manifest) {
            "" => "default",
            namespace => namespace,
        };
        let scope = if resource.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        let (version, plural, manager) = (&resource.version, &resource.plural, self.manager);
        let collection = format!("{root}/{version}{scope}/{plural}");
        // A new object is created, not applied: manifests of old releases have lists with doubled keys, which cannot be owned.
        let created =
            self.send(http::Method::POST, &format!("{collection}?fieldManager={manager}"), "application/json", manifest);
        let path = format!("{collection}/{}", kubeapi::object::name(manifest));
        let exists = match &created {
            Err(status) if status.reason == "AlreadyExists" => true,
            // Part of an object is no whole one, which is said first, and all the same something to apply to what there is.
            Err(status) if status.reason == "Invalid" => self.send(http::Method::GET, &path, "", &Value::Null).is_ok(),
            _ => false,
        };
        if !exists {
            return created.map(Self::object);
        }
        let path = format!("{path}?fieldManager={manager}&force=true");
        self.send(http::Method::PATCH, &path, "application/apply-patch+yaml", manifest).map(Self::object)
    }

    /// Deletes an object; `grace` of `None` is the object's own.
    ///
    /// # Errors
    /// As the API answers.
    pub fn delete(&self, gr: Gr, namespace: &str, name: &str, grace: Option<i64>) -> Result<(), Status> {
        let path = self.path(gr, namespace, name, "")?;
        let options = match grace {
            Some(seconds) => serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": seconds}),
            None => Value::Null,
        };
        self.send(http::Method::DELETE, &path, "application/json", &options).map(|_| ())
    }

    /// Deletes just this object at once, and no later one of the same name.
    ///
    /// # Errors
    /// As the API answers; 409 where another object has the name.
    pub fn delete_exactly(&self, gr: Gr, namespace: &str, name: &str, uid: &str) -> Result<(), Status> {
        let path = self.path(gr, namespace, name, "")?;
        let options = serde_json::json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": uid},
        });
        self.send(http::Method::DELETE, &path, "application/json", &options).map(|_| ())
    }

    /// Watches a resource in all namespaces: first what there is, then every change.
    ///
    /// # Errors
    /// 404 where the resource is not served.
    pub fn watch(&self, gr: Gr) -> Result<Watcher, Status> {
        self.watch_labelled(gr, "")
    }

    /// The same of the objects that a label selector takes; an empty one takes all. The selector is the program's own: it goes into the
    /// request as it is.
    ///
    /// # Errors
    /// As for [`Client::watch`], and 400 for a selector that is none.
    pub fn watch_labelled(&self, gr: Gr, selector: &'static str) -> Result<Watcher, Status> {
        let path = self.path(gr, "", "", "")?;
        let query = if selector.is_empty() { String::new() } else { format!("&labelSelector={selector}") };
        match self.send(http::Method::GET, &format!("{path}?watch=true{query}"), "", &Value::Null)? {
            Reply::Watch(watcher) => Ok(*watcher),
            Reply::Stored(..) | Reply::Value(..) | Reply::Json(_) | Reply::List(_) | Reply::Text(..) | Reply::Admit(_) => {
                Err(Status::no_such_resource())
            }
        }
    }

    /// A token for a ServiceAccount, good for `seconds` (600 at least), bound to a pod if one is named.
    ///
    /// # Errors
    /// 404 where the ServiceAccount is not there.
    pub fn token(&self, namespace: &str, account: &str, pod: Option<(&str, &str)>, seconds: i64) -> Result<String, Status> {
        let path = self.path(Gr::core("serviceaccounts"), namespace, account, "token")?;
        let mut request = serde_json::json!({"spec": {"expirationSeconds": seconds}});
        if let Some((name, uid)) = pod {
            request["spec"]["boundObjectRef"] = serde_json::json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid});
        }
        let reply = self.send(http::Method::POST, &path, "application/json", &request).map(Self::object)?;
        Ok(reply["status"]["token"].as_str().unwrap_or_default().to_owned())
    }

    /// The resources that are served, as group and plural.
    pub fn served(&self) -> Vec<(String, String)> {
        self.core.read().registry.all().map(|resource| (resource.group.clone(), resource.plural.clone())).collect()
    }

    fn resource_path(resource: &crate::Resource, namespace: &str, name: &str, subresource: &str) -> String {
        let root = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
        let scope = if resource.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        let tail = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        format!("{root}/{}{scope}/{}/{name}{tail}", resource.version, resource.plural)
    }

    pub(crate) fn delete_any(&self, resource: &crate::Resource, namespace: &str, name: &str, uid: &str) -> Result<(), Status> {
        let path = Self::resource_path(resource, namespace, name, "");
        let options = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}});
        self.send(http::Method::DELETE, &path, "application/json", &options).map(|_| ())
    }

    pub(crate) fn merge_any(&self, resource: &crate::Resource, namespace: &str, name: &str, patch: &Value) -> Result<(), Status> {
        let path = Self::resource_path(resource, namespace, name, "");
        self.send(http::Method::PATCH, &path, "application/merge-patch+json", patch).map(|_| ())
    }

    pub(crate) fn finalize_namespace(&self, name: &str, finalizers: &Value) -> Result<(), Status> {
        let mut namespace = self.get(Gr::core("namespaces"), "", name)?;
        namespace["spec"]["finalizers"] = finalizers.clone();
        let path = format!("/api/v1/namespaces/{name}/finalize");
        self.send(http::Method::PUT, &path, "application/json", &namespace).map(|_| ())
    }
}
