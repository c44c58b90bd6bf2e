//! The subresources that write: scale, binding, token.

use jiff::Timestamp;
use kubeapi::{LabelSelector, Status, object};
use serde_json::{Value, json};

use crate::auth;
use crate::body;
use crate::core::{Call, Core, Reply, timestamp};
use crate::options;
use crate::patch::{self, PatchKind};
use crate::resource::{Resource, StorageKey};
use crate::structural::pointer;

impl Core {
    /// The scale subresource: read, replaced or patched as an `autoscaling/v1` Scale.
    pub(crate) fn scale(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        let name = &call.info.name;
        let mut state = self.write();
        let stored = state.store.get(&resource.storage(), namespace, name);
        let old = stored.ok_or_else(|| Status::not_found(&resource.group, &resource.plural, name))?.value();
        let paths = ScalePaths::of(resource);
        let mut scale = paths.scale(&old);
        match *call.method {
            http::Method::GET => return Ok(Reply::Value(200, scale)),
            http::Method::PUT => {
                options::check_write(&call.info.query, "UpdateOptions", false)?;
                scale = body::read(call)?.value;
            }
            _ => {
                options::check_write(&call.info.query, "PatchOptions", false)?;
                let change = body::read(call)?.value;
                match PatchKind::from_content_type(call.content_type) {
                    Some(PatchKind::Json) => patch::json_patch(&mut scale, &change)?,
                    Some(_) if change.is_object() => patch::merge(&mut scale, &change),
                    Some(_) => return Err(Status::bad_request("the patch is not an object")),
                    None => return Err(unsupported()),
                }
            }
        }
        let invalid = |message: &str| {
            let cause = ("spec.replicas".to_owned(), "FieldValueInvalid", message.to_owned());
            Status::invalid("autoscaling", "Scale", name, &[cause])
        };
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0,
            value => value.as_i64().ok_or_else(|| invalid(&format!("Invalid value: {value}: must be an integer")))?,
        };
        if replicas < 0 {
            return Err(invalid(&format!("Invalid value: {replicas}: must be greater than or equal to 0")));
        }
        let mut new = old.clone();
        patch::set(&mut new, &paths.replicas, replicas.into());
        new["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
        match self.replace(&mut state, now, call, resource, &old, new, "scale")? {
            Reply::Stored(_, stored) => Ok(Reply::Value(200, paths.scale(&stored.value()))),
            Reply::Value(_, value) => Ok(Reply::Value(200, paths.scale(&value))),
            other @ (Reply::Json(_) | Reply::List(_) | Reply::Watch(_) | Reply::Text(..) | Reply::Admit(_)) => Ok(other),
        }
    }

    /// A scheduler's decision: the pod is named by the path, or by the Binding itself where that is what is created.
    pub(crate) fn bind(&self, now: Timestamp, call: &Call<'_>) -> Result<Reply, Status> {
        let binding = body::read(call)?.value;
        let resource = self.read().registry.find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
        let mut state = self.write();
        let namespace = &call.info.namespace;
        let name = if call.info.name.is_empty() { object::name(&binding) } else { &call.info.name };
        let old =
            state.store.get(&resource.storage(), namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?.value();
        if let Some(node) = old["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            return Err(Status::conflict(
                "",
                "pods/binding",
                name,
                &format!("pod {name} is already assigned to node \"{node}\""),
            ));
        }
        let target = binding["target"]["name"].as_str().unwrap_or_default();
        if target.is_empty() {
            let cause = ("target.name".to_owned(), "FieldValueRequired", "Required value".to_owned());
            return Err(Status::invalid("", "Binding", name, &[cause]));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = target.into();
        let conditions = &mut new["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        if let Some(list) = conditions.as_array_mut() {
            list.retain(|condition| condition["type"] != "PodScheduled");
            list.push(json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(now)}));
        }
        self.replace(&mut state, now, call, &resource, &old, new, "binding")?;
        Ok(Reply::Value(201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
    }

    /// TokenRequest: a signed token of a ServiceAccount.
    pub(crate) fn token(&self, now: Timestamp, call: &Call<'_>) -> Result<Reply, Status> {
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        let account = self
            .read()
            .store
            .get(&StorageKey::new("", "serviceaccounts"), namespace, name)
            .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?
            .value();
        let mut request = body::read(call)?.value;
        if !request.is_object() {
            return Err(Status::bad_request("the body is not a TokenRequest"));
        }
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        let invalid = |message: String| {
            let cause = ("spec.expirationSeconds".to_owned(), "FieldValueInvalid", message);
            Status::invalid("authentication.k8s.io", "TokenRequest", "", &[cause])
        };
        if seconds < 600 {
            return Err(invalid(format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes")));
        }
        if seconds > 1 << 32 {
            return Err(invalid(format!("Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds")));
        }
        let audiences = match request["spec"]["audiences"].as_array() {
            Some(list) if !list.is_empty() => list.iter().filter_map(|audience| audience.as_str().map(str::to_owned)).collect(),
            _ => auth::default_audiences(),
        };
        let expires = now + jiff::SignedDuration::from_secs(seconds);
        let bound = request["spec"]["boundObjectRef"].clone();
        let bound_uid = self.check_bound(namespace, name, &bound)?;
        let pod =
            bound_uid.as_deref().filter(|_| bound["kind"] == "Pod").map(|uid| (bound["name"].as_str().unwrap_or_default(), uid));
        let token = self.tokens.sign(
            now,
            &auth::Claims {
                namespace,
                account: name,
                account_uid: object::uid(&account),
                pod,
                audiences: audiences.clone(),
                expires,
            },
        );
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": timestamp(now)});
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = seconds.into();
        request["status"] = json!({"token": token, "expirationTimestamp": timestamp(expires)});
        Ok(Reply::Value(201, request))
    }
}

impl Core {
    /// The uid of the object that a token is to be bound to; none where it is bound to nothing
    /// (`pkg/registry/core/serviceaccount/storage/token.go`).
    fn check_bound(&self, namespace: &str, account: &str, bound: &Value) -> Result<Option<String>, Status> {
        let (Some(kind), name) = (bound["kind"].as_str(), bound["name"].as_str().unwrap_or_default()) else { return Ok(None) };
        let plural = match kind {
            "Pod" => "pods",
            "Secret" => "secrets",
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount \"{account}\" to object type {kind:?}"
                )));
            }
        };
        let stored = self.read().store.get(&StorageKey::new("", plural), namespace, name);
        let found = stored.ok_or_else(|| Status::not_found("", plural, name))?.value();
        let uid = object::uid(&found).to_owned();
        if bound["uid"].as_str().is_some_and(|wanted| !wanted.is_empty() && wanted != uid) {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                bound["uid"].as_str().unwrap_or_default()
            );
            return Err(Status::conflict("", plural, name, &why));
        }
        let of = found["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if kind == "Pod" && of != account {
            let message =
                format!("cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name.");
            return Err(Status::bad_request(message));
        }
        Ok(Some(uid))
    }
}

/// 415 for a patch in no known form.
pub(crate) fn unsupported() -> Status {
    Status::new(415, "415: Unsupported Media Type").with_details(json!({}))
}

/// Where a resource keeps what a Scale shows, as JSON pointers.
struct ScalePaths {
    replicas: String,
    status_replicas: String,
    selector: Option<String>,
}

impl ScalePaths {
    fn of(resource: &Resource) -> Self {
        let scale = resource.custom.as_ref().map(|version| &version["subresources"]["scale"]);
        let path = |name: &str| {
            let text = scale.and_then(|scale| scale[name].as_str())?;
            Some(pointer(text.trim_start_matches('.')))
        };
        Self {
            replicas: path("specReplicasPath").unwrap_or_else(|| "/spec/replicas".to_owned()),
            status_replicas: path("statusReplicasPath").unwrap_or_else(|| "/status/replicas".to_owned()),
            selector: path("labelSelectorPath").or_else(|| scale.is_none().then(|| "/spec/selector".to_owned())),
        }
    }

    fn scale(&self, object: &Value) -> Value {
        let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        let selector = self.selector.as_ref().and_then(|path| object.pointer(path)).map(|selector| match selector {
            Value::String(text) => text.clone(),
            // ReplicationControllers have a bare map of labels.
            Value::Object(labels) if labels.values().all(Value::is_string) => labels
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(","),
            selector => LabelSelector::from_object(selector).map(|selector| selector.to_string()).unwrap_or_default(),
        });
        let metadata = &object["metadata"];
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "creationTimestamp": metadata["creationTimestamp"],
            },
            "spec": {},
            "status": {"replicas": number(&self.status_replicas)},
        });
        if number(&self.replicas) != 0 {
            scale["spec"]["replicas"] = number(&self.replicas).into();
        }
        if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
            scale["status"]["selector"] = selector.into();
        }
        scale
    }
}
