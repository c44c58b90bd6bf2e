//! Writing: create, update and patch, from the request to the stored object.
//!
//! Each runs in the order of the real server: options, decoding, mutating admission, defaults, validation, validating
//! admission, field ownership, storage. Where a webhook must be asked, the request stops with [`Reply::Admit`] before
//! anything is stored, and is run again with what the webhooks made of it; nothing is locked meanwhile.

use std::sync::Arc;

use jiff::Timestamp;
use kubeapi::{Status, object};
use serde_json::{Value, json};

use crate::apply::{self, Writer};
use crate::body::{self, FieldValidation};
use crate::core::{Call, Core, Reply, State, timestamp};
use crate::defaults;
use crate::delete::is_free;
use crate::options;
use crate::patch::{self, PatchKind};
use crate::rbac;
use crate::resource::{Resource, StorageKey};
use crate::store::Stored;
use crate::structural;
use crate::subresource::unsupported;
use crate::validate;
use crate::webhook::{Operation, Review};

/// What an update takes over from the stored object, whatever the client sent.
const KEPT_METADATA: [&str; 7] =
    ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "namespace"];

fn invalid(resource: &Resource, name: &str, field: &str, reason: &'static str, message: &str) -> Status {
    Status::invalid(&resource.group, &resource.kind, name, &[(field.to_owned(), reason, message.to_owned())])
}

/// Takes kind and version of the body for what they must be.
fn check_type(resource: &Resource, body: &mut Value) -> Result<(), Status> {
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
fn clean_metadata(object: &mut Value) {
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

fn object_version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// Everything but metadata and status counts as a change of generation.
fn changes_generation(old: &Value, new: &Value) -> bool {
    fn rest(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        object.as_object().into_iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
    }
    !rest(old).eq(rest(new))
}

/// Resources that a PUT may create (`AllowCreateOnUpdate` of their strategies).
fn may_create_on_update(resource: &Resource) -> bool {
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

impl Core {
    pub(crate) fn create(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        options::check_write(&call.info.query, "CreateOptions", false)?;
        let mut body = body::read(call)?;
        check_type(resource, &mut body.value)?;
        call.warn(body.conform(resource, FieldValidation::from_query(&call.info.query))?);
        let mut state = self.write();
        self.create_in(&mut state, now, call, resource, namespace, body.value, None)
    }

    /// Creates an object. `managed` holds the fields of an apply, which tracks ownership by itself.
    #[expect(clippy::too_many_arguments, reason = "one step of a write, with everything that it depends on")]
    fn create_in(
        &self,
        state: &mut State,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
        mut body: Value,
        managed: Option<Value>,
    ) -> Result<Reply, Status> {
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
            // Names stay within 63 characters (apiserver `pkg/storage/names`).
            let prefix: String = prefix.chars().take(58).collect();
            body["metadata"]["name"] = format!("{prefix}{}", self.suffix()).into();
        }
        if !object_version(&body).is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let name = object::name(&body).to_owned();
        if resource.namespaced {
            check_namespace(state, resource, namespace, &name)?;
        }
        if resource.has_subresource("status")
            && let Some(fields) = body.as_object_mut()
        {
            fields.remove("status");
        }
        let metadata = &mut body["metadata"];
        metadata["uid"] = self.uuid().into();
        metadata["creationTimestamp"] = timestamp(now).into();
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata[key] = Value::Null;
        }
        metadata["generation"] = if resource.has_generation() { 1.into() } else { Value::Null };
        clean_metadata(&mut body);
        let dry_run = options::is_dry_run(&call.info.query);
        match call.admitted {
            None => {
                if let Some(review) = Review::wanted(state, call, resource, Operation::Create, dry_run, None, Some(&body)) {
                    return Ok(Reply::Admit(Box::new(review)));
                }
            }
            Some(admitted) => admitted.take_over(&mut body),
        }
        self.default_and_admit(state, resource, &mut body, None)?;
        validate_new(resource, &body, None)?;
        if resource.group == "rbac.authorization.k8s.io" {
            self.check_escalation(state, call, resource, &body)?;
        }
        let storage = resource.storage();
        if state.store.get(&storage, namespace, &name).is_some() {
            return Err(Status::already_exists(&resource.group, &resource.plural, &name));
        }
        match managed {
            Some(fields) => body["metadata"]["managedFields"] = fields,
            None => {
                let writer = Writer { manager: options::manager(call), subresource: "", now };
                apply::track_update(resource, &apply::empty(), &mut body, &writer);
            }
        }
        if dry_run {
            return Ok(Reply::Value(201, body));
        }
        let stored = state.store.put(&storage, body);
        Self::note_write(state, &storage);
        let stored = self.after_write(state, now, resource, stored);
        Ok(Reply::Stored(201, stored))
    }

    /// What built-in admission and defaulting do to a new or changed object.
    fn default_and_admit(
        &self,
        state: &mut State,
        resource: &Resource,
        body: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if let Some(version) = &resource.custom {
            structural::default(body, &version["schema"]["openAPIV3Schema"]);
            return Ok(());
        }
        if resource.plural == "pods" && resource.group.is_empty() && old.is_none() {
            defaults::admit_pod(body, self.service_account_admission);
        }
        defaults::apply(&resource.group, &resource.kind, body);
        if resource.plural == "services" && resource.group.is_empty() {
            let storage = resource.storage();
            let State { store, addresses, .. } = state;
            let taken =
                |address: &str| store.list(&storage, "", None).any(|stored| stored.value()["spec"]["clusterIP"] == address);
            addresses.assign(&mut body["spec"], taken).map_err(|message| {
                let cause = ("spec.clusterIPs".to_owned(), "FieldValueInvalid", message);
                Status::invalid("", "Service", object::name(body), &[cause])
            })?;
            if body["status"].is_null() {
                body["status"] = json!({"loadBalancer": {}});
            }
        }
        Ok(())
    }

    /// A definition that was written changes what is served, and gets its conditions.
    fn after_write(&self, state: &mut State, now: Timestamp, resource: &Resource, stored: Arc<Stored>) -> Arc<Stored> {
        if resource.group != "apiextensions.k8s.io" {
            return stored;
        }
        let mut definition = stored.value();
        state.registry.define(&definition);
        let status = crate::definition::status(&definition, now);
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
        options::check_write(&call.info.query, "UpdateOptions", false)?;
        let mut body = body::read(call)?;
        check_type(resource, &mut body.value)?;
        call.warn(body.conform(resource, FieldValidation::from_query(&call.info.query))?);
        let mut body = body.value;
        let name = &call.info.name;
        check_url(resource, &mut body, namespace, name)?;
        let mut state = self.write();
        let Some(old) = state.store.get(&resource.storage(), namespace, name) else {
            if subresource.is_empty() && may_create_on_update(resource) && object_version(&body).is_empty() {
                return self.create_in(&mut state, now, call, resource, namespace, body, None);
            }
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        self.replace(&mut state, now, call, resource, &old.value(), body, subresource)
    }

    /// Puts `new` in the place of `old`, as the main resource or one of its subresources.
    #[expect(clippy::too_many_arguments, reason = "one step of a write, with everything that it depends on")]
    pub(crate) fn replace(
        &self,
        state: &mut State,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        old: &Value,
        new: Value,
        subresource: &str,
    ) -> Result<Reply, Status> {
        let writer = Writer { manager: options::manager(call), subresource: tracked(subresource), now };
        let wanted = object_version(&new).to_owned();
        let conflict = |why: &str| Status::conflict(&resource.group, &resource.plural, object::name(old), why);
        if !wanted.is_empty() && wanted != object_version(old) {
            return Err(conflict("the object has been modified; please apply your changes to the latest version and try again"));
        }
        if wanted.is_empty() && call.info.verb == kubeapi::Verb::Update && requires_version(resource) {
            let message = "Invalid value: 0: must be specified for an update";
            return Err(invalid(resource, object::name(old), "metadata.resourceVersion", "FieldValueInvalid", message));
        }
        if let Some(uid) = new["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty())
            && uid != object::uid(old)
        {
            let present = object::uid(old);
            return Err(conflict(&format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {present}")));
        }
        self.put(state, now, call, resource, old, new, subresource, |resource, old, new| {
            apply::track_update(resource, old, new, &writer);
        })
    }

    /// The last part of every change of an object that is there.
    #[expect(clippy::too_many_arguments, reason = "one step of a write, with everything that it depends on")]
    fn put(
        &self,
        state: &mut State,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        old: &Value,
        new: Value,
        subresource: &str,
        track: impl FnOnce(&Resource, &Value, &mut Value),
    ) -> Result<Reply, Status> {
        let mut new = restrict(resource, old, new, subresource);
        for key in KEPT_METADATA {
            new["metadata"][key] = old["metadata"][key].clone();
        }
        new["metadata"]["name"] = old["metadata"]["name"].clone();
        new["apiVersion"] = resource.api_version().into();
        if old["metadata"]["generateName"].is_string() {
            new["metadata"]["generateName"] = old["metadata"]["generateName"].clone();
        }
        clean_metadata(&mut new);
        let dry_run = options::is_dry_run(&call.info.query);
        match call.admitted.filter(|admitted| admitted.is_about(object_version(old))) {
            None => {
                if let Some(review) = Review::wanted(state, call, resource, Operation::Update, dry_run, Some(old), Some(&new)) {
                    return Ok(Reply::Admit(Box::new(review)));
                }
            }
            Some(admitted) => admitted.take_over(&mut new),
        }
        match subresource {
            "" | "scale" => {
                if resource.plural == "services" && resource.group.is_empty() {
                    keep_service_address(old, &mut new);
                }
                self.default_and_admit(state, resource, &mut new, Some(old))?;
                validate_new(resource, &new, Some(old))?;
                validate::check_update(resource, old, &new)?;
                if resource.group == "rbac.authorization.k8s.io" {
                    self.check_escalation(state, call, resource, &new)?;
                }
            }
            "status" if resource.custom.is_some() => validate_new(resource, &new, Some(old))?,
            _ => validate::check_finalizers(resource, old, &new)?,
        }
        if resource.has_generation() && subresource != "status" && subresource != "binding" && changes_generation(old, &new) {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        track(resource, old, &mut new);
        if dry_run {
            return Ok(Reply::Value(200, new));
        }
        let storage = resource.storage();
        if object::is_deleting(&new) && is_free(resource, &new) {
            return Ok(Reply::Stored(200, self.remove(state, resource, new)));
        }
        if new == *old
            && let Some(present) = state.store.get(&storage, object::namespace(old), object::name(old))
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
        let kind = PatchKind::from_content_type(call.content_type).ok_or_else(unsupported)?;
        if kind == PatchKind::Strategic && resource.custom.is_some() {
            return Err(unsupported());
        }
        options::check_write(&call.info.query, "PatchOptions", kind == PatchKind::Apply)?;
        let patch = body::read(call)?;
        if kind == PatchKind::Apply {
            return self.apply(now, call, resource, namespace, subresource, patch);
        }
        let mut state = self.write();
        let name = &call.info.name;
        let Some(old) = state.store.get(&resource.storage(), namespace, name) else {
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        let mut old = old.value();
        old["apiVersion"] = resource.api_version().into();
        let mut new = old.clone();
        match kind {
            PatchKind::Json => patch::json_patch(&mut new, &patch.value)?,
            _ if !patch.value.is_object() => {
                return Err(Status::bad_request("error decoding patch: the patch is not an object"));
            }
            PatchKind::Merge => patch::merge(&mut new, &patch.value),
            PatchKind::Strategic | PatchKind::Apply => patch::strategic(resource, &mut new, &patch.value)?,
        }
        if !new.is_object() {
            return Err(Status::bad_request("the patch leaves no object"));
        }
        let validation = FieldValidation::from_query(&call.info.query);
        check_type(resource, &mut new)?;
        let warnings = body::conform(resource, &mut new, &[], validation).map_err(|status| {
            // A patch is refused as a whole, with itself as the wrong value (`handlers/patch.go`).
            let why = status.message.split_once(": ").map_or(status.message.as_str(), |(_, why)| why);
            let text = Value::from(String::from_utf8_lossy(call.body).into_owned());
            Status::invalid("", "", "", &[("patch".to_owned(), "FieldValueInvalid", format!("Invalid value: {text}: {why}"))])
        })?;
        call.warn(warnings);
        check_url(resource, &mut new, namespace, name)?;
        self.replace(&mut state, now, call, resource, &old, new, subresource)
    }

    /// Server-side apply.
    fn apply(
        &self,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
        subresource: &str,
        mut patch: body::Body,
    ) -> Result<Reply, Status> {
        let name = &call.info.name;
        let config = &mut patch.value;
        if !config.is_object() {
            return Err(Status::bad_request("error decoding YAML: the configuration is not an object"));
        }
        for field in ["apiVersion", "kind"] {
            if config[field].as_str().unwrap_or_default().is_empty() {
                return Err(Status::bad_request(format!(
                    "Object '{}' is missing in the configuration",
                    if field == "kind" { "Kind" } else { field }
                )));
            }
        }
        check_type(resource, config)?;
        if config["metadata"]["managedFields"].as_array().is_some_and(|list| !list.is_empty()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        check_url(resource, config, namespace, name)?;
        // What the type does not have cannot be owned.
        let unknown = body::conform(resource, &mut config.clone(), &[], FieldValidation::Warn)?;
        if let Some(field) = unknown.first().and_then(|complaint| complaint.split('"').nth(1)) {
            let (version, kind) = (resource.api_version(), &resource.kind);
            let message = format!(
                "failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): .{field}: field not declared in schema"
            );
            return Err(Status::new(500, message));
        }
        apply::strip_reset_fields(resource, config, subresource);
        let writer = Writer { manager: options::manager(call), subresource: tracked(subresource), now };
        let force = call.info.query.flag("force");
        let mut state = self.write();
        let live = state.store.get(&resource.storage(), namespace, name);
        let Some(live) = live else {
            if !subresource.is_empty() {
                return Err(Status::not_found(&resource.group, &resource.plural, name));
            }
            if !object::uid(config).is_empty() {
                return Err(Status::conflict(
                    &resource.group,
                    &resource.plural,
                    name,
                    "uid mismatch: the provided object specified uid, and no existing object was found",
                ));
            }
            let mut merged = apply::apply(resource, &apply::empty(), config, &writer, force)?;
            let managed = merged["metadata"]["managedFields"].take();
            body::conform(resource, &mut merged, &[], FieldValidation::Ignore)?;
            return self.create_in(&mut state, now, call, resource, namespace, merged, Some(managed));
        };
        let mut live = live.value();
        live["apiVersion"] = resource.api_version().into();
        let wanted = object_version(config);
        if !wanted.is_empty() && wanted != object_version(&live) {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Status::conflict(&resource.group, &resource.plural, name, why));
        }
        let mut merged = apply::apply(resource, &live, config, &writer, force)?;
        let managed = merged["metadata"]["managedFields"].take();
        body::conform(resource, &mut merged, &[], FieldValidation::Ignore)?;
        self.put(&mut state, now, call, resource, &live, merged, subresource, |_, old, new| {
            // An apply that changes nothing but its own time is none.
            let mut same = new.clone();
            same["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
            let unchanged = same == *old && without_times(&managed) == without_times(&old["metadata"]["managedFields"]);
            new["metadata"]["managedFields"] = if unchanged { old["metadata"]["managedFields"].clone() } else { managed };
            clean_metadata(new);
        })
    }

    /// 403 where a role would grant, or a binding pass on, what the caller does not have.
    fn check_escalation(&self, state: &State, call: &Call<'_>, resource: &Resource, object: &Value) -> Result<(), Status> {
        if call.who.is_in("system:masters") {
            return Ok(());
        }
        let index = Self::rbac_of(state);
        rbac::check_escalation(&index, state, call.who, resource, object)
    }
}

/// `managedFields` without the times of its entries.
fn without_times(fields: &Value) -> Value {
    let mut fields = fields.clone();
    for entry in fields.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.remove("time");
    }
    fields
}

/// The subresource that `managedFields` names.
fn tracked(subresource: &str) -> &str {
    if subresource == "binding" { "" } else { subresource }
}

/// Kinds that must not be replaced blindly (`AllowUnconditionalUpdate` is false).
fn requires_version(resource: &Resource) -> bool {
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
fn check_url(resource: &Resource, body: &mut Value, namespace: &str, name: &str) -> Result<(), Status> {
    match object::name(body) {
        "" => body["metadata"]["name"] = name.into(),
        of if of == name => {}
        of => {
            return Err(Status::bad_request(format!(
                "the name of the object ({of}) does not match the name on the URL ({name})"
            )));
        }
    }
    if !resource.namespaced {
        return Ok(());
    }
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
fn restrict(resource: &Resource, old: &Value, mut new: Value, subresource: &str) -> Value {
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
        _ => {
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
fn keep_service_address(old: &Value, new: &mut Value) {
    if new["spec"]["type"] == "ExternalName" {
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if new["spec"][key].is_null() && !old["spec"][key].is_null() {
            new["spec"][key] = old["spec"][key].clone();
        }
    }
}

fn check_namespace(state: &State, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
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
fn validate_new(resource: &Resource, body: &Value, old: Option<&Value>) -> Result<(), Status> {
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
fn scale_causes(resource: &Resource, body: &Value) -> structural::Causes {
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
