//! Writing: create, update, patch, delete, and the subresources that write.

use jiff::Timestamp;
use kubeapi::{Query, Status, object};
use serde_json::{Map, Value, json};

use crate::core::{Call, Core, Reply, State, timestamp};
use crate::defaults;
use crate::patch::{self, PatchKind};
use crate::read::Filter;
use crate::resource::{Resource, StorageKey};

/// A pod's grace period when neither it nor the caller names one.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The longest grace period that is taken, a year.
const MAX_GRACE_SECONDS: i64 = 365 * 24 * 3600;

/// Reads a JSON or YAML body.
pub(crate) fn decode(call: &Call<'_>) -> Result<Value, Status> {
    if call.body.is_empty() {
        return Ok(json!({}));
    }
    let unreadable = |error: &dyn std::fmt::Display| {
        Status::bad_request(format!("the object provided is unrecognized (must be of type {}): {error}", call.info.resource))
    };
    match call.content_type {
        "application/yaml" | "application/x-yaml" | "application/apply-patch+yaml" => {
            let text = std::str::from_utf8(call.body).map_err(|error| unreadable(&error))?;
            let mut documents = wire::yaml::manifests(text).map_err(|error| unreadable(&error))?;
            if documents.len() == 1 { Ok(documents.remove(0)) } else { Err(unreadable(&"not one document")) }
        }
        "application/vnd.kubernetes.protobuf" => Err(Status::new(
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
        )),
        _ => serde_json::from_slice(call.body).map_err(|error| unreadable(&error)),
    }
}

fn is_dry_run(query: &Query) -> bool {
    query.get("dryRun") == Some("All")
}

fn causes(field: &str, reason: &'static str, message: String) -> [(String, &'static str, String); 1] {
    [(field.to_owned(), reason, message)]
}

/// Name of an object: RFC 1123 subdomain, or label where the kind wants one.
fn check_name(resource: &Resource, name: &str) -> Result<(), Status> {
    let label_only = matches!(resource.plural.as_str(), "namespaces" | "services");
    let colons = resource.group == "rbac.authorization.k8s.io";
    let good = |part: &str| {
        !part.is_empty()
            && part.chars().all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let fine = if colons {
        !name.is_empty() && !name.contains(['/', '%']) && name != "." && name != ".."
    } else if label_only {
        name.len() <= 63 && good(name)
    } else {
        name.len() <= 253 && name.split('.').all(good)
    };
    if fine {
        return Ok(());
    }
    if name.is_empty() {
        return Err(invalid(
            resource,
            name,
            "metadata.name",
            "FieldValueRequired",
            "Required value: name or generateName is required",
        ));
    }
    let rule = if label_only {
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
         alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    } else {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end \
         with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    };
    Err(invalid(resource, name, "metadata.name", "FieldValueInvalid", &format!("Invalid value: \"{name}\": {rule}")))
}

fn invalid(resource: &Resource, name: &str, field: &str, reason: &'static str, message: &str) -> Status {
    Status::invalid(&resource.group, &resource.kind, name, &causes(field, reason, message.to_owned()))
}

/// Takes kind and version of the body for what they must be.
fn check_type(resource: &Resource, body: &mut Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the object provided is not an object"));
    }
    for (field, expected) in [("kind", resource.kind.clone()), ("apiVersion", resource.api_version())] {
        match body[field].as_str() {
            None | Some("") => body[field] = expected.into(),
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(Status::bad_request(format!(
                    "the {} in the data ({found}) does not match the expected {} ({expected})",
                    if field == "kind" { "kind" } else { "API version" },
                    if field == "kind" { "kind" } else { "API version" },
                )));
            }
        }
    }
    for field in ["metadata", "spec", "status"] {
        match body.get(field) {
            None | Some(Value::Object(_)) => {}
            Some(Value::Null) => {
                if let Some(fields) = body.as_object_mut() {
                    fields.remove(field);
                }
            }
            Some(_) => {
                return Err(Status::bad_request(format!(
                    "{} in version \"{}\" cannot be handled as a {}: json: cannot unmarshal into field {field}: it must be an object",
                    resource.kind, resource.version, resource.kind
                )));
            }
        }
    }
    if body.get("metadata").is_none() {
        body["metadata"] = json!({});
    }
    Ok(())
}

/// Forgets the nulls that a client sent and that indexing left behind in metadata.
fn clean_metadata(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, value| {
            let is_map = matches!(key.as_str(), "labels" | "annotations");
            let is_empty_map = is_map && value.as_object().is_some_and(Map::is_empty);
            !value.is_null() && !is_empty_map
        });
    }
}

impl Core {
    pub(crate) fn create(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        if !call.info.name.is_empty() {
            return Err(Status::new(405, "the server does not allow this method on the requested resource"));
        }
        let body = decode(call)?;
        let mut state = self.write();
        self.create_in(&mut state, now, resource, namespace, body, is_dry_run(&call.info.query))
    }

    pub(crate) fn create_in(
        &self,
        state: &mut State,
        now: Timestamp,
        resource: &Resource,
        namespace: &str,
        mut body: Value,
        dry_run: bool,
    ) -> Result<Reply, Status> {
        check_type(resource, &mut body)?;
        if resource.namespaced {
            match object::namespace(&body) {
                "" => body["metadata"]["namespace"] = namespace.into(),
                of if of == namespace => {}
                _ => {
                    return Err(Status::bad_request(
                        "the namespace of the provided object does not match the namespace sent on the request",
                    ));
                }
            }
        } else if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        if object::name(&body).is_empty()
            && let Some(prefix) = body["metadata"]["generateName"].as_str().filter(|prefix| !prefix.is_empty())
        {
            body["metadata"]["name"] = format!("{prefix}{}", self.suffix()).into();
        }
        let name = object::name(&body).to_owned();
        check_name(resource, &name)?;
        if !object_version(&body).is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if resource.namespaced {
            self.check_namespace(state, resource, namespace, &name)?;
        }
        let storage = resource.storage();
        if state.store.get(&storage, namespace, &name).is_some() {
            return Err(Status::already_exists(&resource.group, &resource.plural, &name));
        }
        let metadata = &mut body["metadata"];
        metadata["uid"] = self.uuid().into();
        metadata["creationTimestamp"] = timestamp(now).into();
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata[key] = Value::Null;
        }
        metadata["generation"] = if resource.has_generation() { 1.into() } else { Value::Null };
        clean_metadata(&mut body);
        if resource.has_subresource("status")
            && let Some(fields) = body.as_object_mut()
        {
            fields.remove("status");
        }
        self.admit(state, resource, &mut body)?;
        crate::validate::check(resource, &body)?;
        if dry_run {
            return Ok(Reply::Value(201, body));
        }
        let stored = state.store.put(&storage, body);
        Self::note_write(state, &storage);
        let stored = self.after_write(state, now, resource, stored);
        Ok(Reply::Stored(201, stored))
    }

    /// What admission and defaulting do to a new or changed object.
    fn admit(&self, state: &mut State, resource: &Resource, body: &mut Value) -> Result<(), Status> {
        if resource.custom.is_some() {
            return Ok(());
        }
        if resource.plural == "pods" && resource.group.is_empty() && body["spec"]["serviceAccountName"].is_null() {
            body["spec"]["serviceAccountName"] = "default".into();
        }
        defaults::apply(&resource.group, &resource.kind, body);
        if resource.plural == "services" && resource.group.is_empty() {
            let storage = resource.storage();
            let State { store, addresses, .. } = state;
            let taken =
                |address: &str| store.list(&storage, "", None).any(|stored| stored.value()["spec"]["clusterIP"] == address);
            addresses.assign(&mut body["spec"], taken).map_err(|message| Status::new(422, message))?;
            if body["status"].is_null() {
                body["status"] = json!({"loadBalancer": {}});
            }
        }
        Ok(())
    }

    fn check_namespace(&self, state: &State, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
        let Some(found) = state.store.get(&StorageKey::new("", "namespaces"), "", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if object::is_deleting(&found.value()) {
            let mut status = Status::new(
                403,
                format!(
                    "{}{} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
                    resource.plural,
                    if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) },
                ),
            );
            status.details = json!({"name": name, "kind": resource.plural, "causes": [{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]});
            return Err(status);
        }
        Ok(())
    }

    /// A definition that was written changes what is served, and gets its conditions.
    fn after_write(
        &self,
        state: &mut State,
        now: Timestamp,
        resource: &Resource,
        stored: std::sync::Arc<crate::Stored>,
    ) -> std::sync::Arc<crate::Stored> {
        if resource.group != "apiextensions.k8s.io" {
            return stored;
        }
        let mut definition = stored.value();
        state.registry.define(&definition);
        let mut stored_versions: Vec<Value> = definition["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
        for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
            if version["storage"] == true && !stored_versions.contains(&version["name"]) {
                stored_versions.push(version["name"].clone());
            }
        }
        let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": timestamp(now)});
        let status = json!({
            "acceptedNames": definition["spec"]["names"],
            "storedVersions": stored_versions,
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
        });
        if definition["status"]["acceptedNames"] == status["acceptedNames"]
            && definition["status"]["storedVersions"] == status["storedVersions"]
        {
            return stored;
        }
        definition["status"] = status;
        state.store.put(&resource.storage(), definition)
    }

    pub(crate) fn update(
        &self,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
        subresource: &str,
    ) -> Result<Reply, Status> {
        let mut body = decode(call)?;
        check_type(resource, &mut body)?;
        let name = &call.info.name;
        match object::name(&body) {
            "" => body["metadata"]["name"] = name.as_str().into(),
            of if of == name => {}
            of => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({of}) does not match the name on the URL ({name})"
                )));
            }
        }
        if resource.namespaced && object::namespace(&body).is_empty() {
            body["metadata"]["namespace"] = namespace.into();
        }
        if resource.namespaced && object::namespace(&body) != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let mut state = self.write();
        let Some(old) = state.store.get(&resource.storage(), namespace, name) else {
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        self.replace(&mut state, now, resource, &old.value(), body, subresource, is_dry_run(&call.info.query))
    }

    /// Puts `new` in the place of `old`, as the main resource or one of its subresources.
    #[expect(clippy::too_many_arguments, reason = "one step of a write, with everything that it depends on")]
    fn replace(
        &self,
        state: &mut State,
        now: Timestamp,
        resource: &Resource,
        old: &Value,
        mut new: Value,
        subresource: &str,
        dry_run: bool,
    ) -> Result<Reply, Status> {
        let name = object::name(old).to_owned();
        let namespace = object::namespace(old).to_owned();
        let wanted = object_version(&new);
        if !wanted.is_empty() && wanted != object_version(old) {
            return Err(Status::conflict(
                &resource.group,
                &resource.plural,
                &name,
                "the object has been modified; please apply your changes to the latest version and try again",
            ));
        }
        if let Some(uid) = new["metadata"]["uid"].as_str()
            && uid != object::uid(old)
        {
            return Err(Status::conflict(
                &resource.group,
                &resource.plural,
                &name,
                &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object::uid(old)),
            ));
        }
        if subresource == "status" {
            let status = new["status"].take();
            let metadata = new["metadata"].take();
            new = old.clone();
            new["status"] = status;
            for key in ["labels", "annotations", "finalizers"] {
                if resource.custom.is_none() && !metadata[key].is_null() {
                    new["metadata"][key] = metadata[key].clone();
                }
            }
        } else if subresource == "finalize" {
            let finalizers = new["spec"]["finalizers"].take();
            new = old.clone();
            new["spec"]["finalizers"] = finalizers;
        } else if resource.has_subresource("status") {
            match old.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => {
                    if let Some(fields) = new.as_object_mut() {
                        fields.remove("status");
                    }
                }
            }
        }
        for key in [
            "uid",
            "creationTimestamp",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "namespace",
            "name",
        ] {
            new["metadata"][key] = old["metadata"][key].clone();
        }
        new["apiVersion"] = resource.api_version().into();
        if old["metadata"]["generateName"].is_string() && new["metadata"]["generateName"].is_null() {
            new["metadata"]["generateName"] = old["metadata"]["generateName"].clone();
        }
        clean_metadata(&mut new);
        if subresource.is_empty() {
            if resource.plural == "services" && new["spec"]["clusterIP"].is_null() {
                // An update that leaves the address out means to keep it.
                for key in ["clusterIP", "clusterIPs"] {
                    new["spec"][key] = old["spec"][key].clone();
                }
            }
            self.admit(state, resource, &mut new)?;
            crate::validate::check(resource, &new)?;
            crate::validate::check_update(resource, old, &new)?;
        }
        if resource.has_generation() && changes_generation(old, &new) {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        let storage = resource.storage();
        if dry_run {
            return Ok(Reply::Value(200, new));
        }
        if object::is_deleting(&new) && is_free(resource, &new) {
            return Ok(Reply::Stored(200, self.remove(state, resource, new)));
        }
        if let Some(present) = state.store.get(&storage, &namespace, &name)
            && new == *old
        {
            return Ok(Reply::Stored(200, present));
        }
        let stored = state.store.put(&storage, new);
        Self::note_write(state, &storage);
        let stored = self.after_write(state, now, resource, stored);
        Ok(Reply::Stored(200, stored))
    }

    pub(crate) fn patch(
        &self,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
        subresource: &str,
    ) -> Result<Reply, Status> {
        let kind = PatchKind::from_content_type(call.content_type).ok_or_else(|| {
            Status::new(
                415,
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )
        })?;
        if kind == PatchKind::Strategic && resource.custom.is_some() {
            return Err(Status::new(
                415,
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let mut patch = decode(call)?;
        let name = &call.info.name;
        let dry_run = is_dry_run(&call.info.query);
        let mut state = self.write();
        let Some(old) = state.store.get(&resource.storage(), namespace, name) else {
            if kind == PatchKind::Apply && subresource.is_empty() {
                patch["metadata"]["name"] = name.as_str().into();
                return self.create_in(&mut state, now, resource, namespace, patch, dry_run);
            }
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        let old = old.value();
        let mut new = old.clone();
        match kind {
            PatchKind::Json => patch::json_patch(&mut new, &patch)?,
            PatchKind::Merge => patch::merge(&mut new, &patch),
            PatchKind::Strategic | PatchKind::Apply => patch::strategic(&mut new, &patch)?,
        }
        if object::name(&new) != name {
            return Err(invalid(
                resource,
                name,
                "metadata.name",
                "FieldValueInvalid",
                &format!("Invalid value: \"{}\": field is immutable", object::name(&new)),
            ));
        }
        self.replace(&mut state, now, resource, &old, new, subresource, dry_run)
    }

    pub(crate) fn delete(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        let mut options = decode(call)?;
        if options["kind"] == "Eviction" {
            options = options["deleteOptions"].take();
        }
        let mut state = self.write();
        let name = &call.info.name;
        let Some(old) = state.store.get(&resource.storage(), namespace, name) else {
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        let old = old.value();
        let preconditions = &options["preconditions"];
        for (key, label) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            if let Some(wanted) = preconditions[key].as_str()
                && old["metadata"][key] != wanted
            {
                return Err(Status::conflict(
                    &resource.group,
                    &resource.plural,
                    name,
                    &format!(
                        "Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {}",
                        old["metadata"][key].as_str().unwrap_or_default()
                    ),
                ));
            }
        }
        let query = &call.info.query;
        let grace = options["gracePeriodSeconds"]
            .as_i64()
            .or_else(|| query.get("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok()));
        let propagation = options["propagationPolicy"].as_str().or_else(|| query.get("propagationPolicy"));
        if is_dry_run(query) || options["dryRun"][0] == "All" {
            return Ok(Reply::Value(200, deleted(resource, &old)));
        }
        Ok(self.delete_object(&mut state, now, resource, old, grace, propagation))
    }

    /// Deletes an object, or marks it for deletion where a grace period or a finalizer holds it.
    fn delete_object(
        &self,
        state: &mut State,
        now: Timestamp,
        resource: &Resource,
        mut old: Value,
        grace: Option<i64>,
        propagation: Option<&str>,
    ) -> Reply {
        let finalizer = match propagation {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let finalizers = &mut old["metadata"]["finalizers"];
            if !finalizers.is_array() {
                *finalizers = json!([]);
            }
            if let Some(list) = finalizers.as_array_mut()
                && !list.iter().any(|item| item == finalizer)
            {
                list.push(finalizer.into());
            }
        }
        let is_pod = resource.plural == "pods" && resource.group.is_empty();
        // A pod that no node has yet, or whose grace is 0, goes at once.
        let pod_grace = if is_pod && !old["spec"]["nodeName"].is_null() {
            grace.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(DEFAULT_GRACE_SECONDS)
        } else {
            0
        };
        let pod_grace = pod_grace.clamp(0, MAX_GRACE_SECONDS);
        let shorter = old["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| pod_grace < seconds && is_pod);
        if pod_grace == 0 && is_pod {
            old["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        }
        if pod_grace == 0 && is_free(resource, &old) {
            let status = deleted(resource, &old);
            let last = self.remove(state, resource, old);
            return if is_pod || resource.custom.is_some() { Reply::Stored(200, last) } else { Reply::Value(200, status) };
        }
        let storage = resource.storage();
        let present = state.store.get(&storage, object::namespace(&old), object::name(&old));
        if object::is_deleting(&old)
            && !shorter
            && let Some(present) = present
        {
            return Reply::Stored(200, present);
        }
        old["metadata"]["deletionTimestamp"] = timestamp(now + jiff::SignedDuration::from_secs(pod_grace)).into();
        old["metadata"]["deletionGracePeriodSeconds"] = pod_grace.into();
        if resource.plural == "namespaces" {
            old["status"]["phase"] = "Terminating".into();
        }
        if resource.has_generation() {
            old["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        let stored = state.store.put(&storage, old);
        Self::note_write(state, &storage);
        Reply::Stored(200, stored)
    }

    /// Takes an object out for good, with what depends on its being there.
    fn remove(&self, state: &mut State, resource: &Resource, last: Value) -> std::sync::Arc<crate::Stored> {
        let storage = resource.storage();
        let removed = state.store.remove(&storage, last);
        Self::note_write(state, &storage);
        if resource.group == "apiextensions.k8s.io" {
            let definition = removed.value();
            let group = definition["spec"]["group"].as_str().unwrap_or_default();
            let plural = definition["spec"]["names"]["plural"].as_str().unwrap_or_default();
            let custom = StorageKey::new(group, plural);
            let objects: Vec<Value> = state.store.list(&custom, "", None).map(|stored| stored.value()).collect();
            for object in objects {
                state.store.remove(&custom, object);
            }
            state.registry.undefine(object::name(&definition));
        }
        removed
    }

    pub(crate) fn delete_collection(
        &self,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
    ) -> Result<Reply, Status> {
        let options = decode(call)?;
        let filter = Filter::from_query(resource, &call.info.query)?;
        let mut state = self.write();
        let matching: Vec<_> =
            state.store.list(&resource.storage(), namespace, None).filter(|stored| filter.matches(stored)).cloned().collect();
        let revision = state.store.revision();
        if !is_dry_run(&call.info.query) {
            for stored in &matching {
                self.delete_object(
                    &mut state,
                    now,
                    resource,
                    stored.value(),
                    options["gracePeriodSeconds"].as_i64(),
                    options["propagationPolicy"].as_str(),
                );
            }
        }
        Ok(Reply::List(crate::core::List { items: matching, revision, next: None, remaining: None }))
    }

    /// The scale subresource: read, replaced or patched as an `autoscaling/v1` Scale.
    pub(crate) fn scale(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        let name = &call.info.name;
        let mut state = self.write();
        let stored = state.store.get(&resource.storage(), namespace, name);
        let old = stored.ok_or_else(|| Status::not_found(&resource.group, &resource.plural, name))?.value();
        let mut scale = scale_of(&old);
        match *call.method {
            http::Method::GET => return Ok(Reply::Value(200, scale)),
            http::Method::PUT => scale = decode(call)?,
            _ => match PatchKind::from_content_type(call.content_type) {
                Some(PatchKind::Json) => patch::json_patch(&mut scale, &decode(call)?)?,
                _ => patch::merge(&mut scale, &decode(call)?),
            },
        }
        let mut new = old.clone();
        new["spec"]["replicas"] = scale["spec"]["replicas"].as_i64().unwrap_or(0).into();
        new["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
        let dry_run = is_dry_run(&call.info.query);
        match self.replace(&mut state, now, resource, &old, new, "", dry_run)? {
            Reply::Stored(_, stored) => Ok(Reply::Value(200, scale_of(&stored.value()))),
            Reply::Value(_, value) => Ok(Reply::Value(200, scale_of(&value))),
            other => Ok(other),
        }
    }

    /// The binding subresource: a scheduler's decision.
    pub(crate) fn bind(&self, now: Timestamp, call: &Call<'_>, resource: &Resource) -> Result<Reply, Status> {
        let binding = decode(call)?;
        let mut state = self.write();
        let (namespace, name) = (&call.info.namespace, &call.info.name);
        let old =
            state.store.get(&resource.storage(), namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?.value();
        if !old["spec"]["nodeName"].is_null() {
            return Err(Status::conflict("", "pods/binding", name, "pod is already assigned to a node"));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.replace(&mut state, now, resource, &old, new, "binding", false)?;
        Ok(Reply::Value(201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
    }
}

fn object_version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// Whether nothing holds an object that is to be deleted.
fn is_free(resource: &Resource, object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    let spec_finalizers = resource.plural != "namespaces" || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    finalizers
        && spec_finalizers
        && (resource.plural != "pods"
            || !resource.group.is_empty()
            || object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0)
}

/// Everything but metadata and status counts as a change of generation.
fn changes_generation(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| -> Map<String, Value> {
        object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    rest(old) != rest(new)
}

fn deleted(resource: &Resource, object: &Value) -> Value {
    let mut details = json!({"name": object::name(object), "kind": resource.plural, "uid": object::uid(object)});
    if !resource.group.is_empty() {
        details["group"] = resource.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn scale_of(object: &Value) -> Value {
    let selector: Vec<String> = object["spec"]["selector"]["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            "uid": object["metadata"]["uid"],
            "resourceVersion": object["metadata"]["resourceVersion"],
            "creationTimestamp": object["metadata"]["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.join(",")},
    })
}
