//! Writing: create, update and patch, from the request to the stored object.
//!
//! Each runs in the order of the real server: options, decoding, mutating admission, defaults, validation, validating
//! admission, field ownership, storage. Where a webhook must be asked, the request stops with [`Reply::Admit`] before
//! anything is stored, and is run again with what the webhooks made of it; nothing is locked meanwhile.

mod patch;
mod rules;

use std::sync::Arc;

use jiff::Timestamp;
use kubeapi::{Status, object};
use serde_json::{Value, json};

use self::rules::{
    KEPT_METADATA, changes_generation, check_namespace, check_type, check_url, clean_metadata, keep_service_address,
    may_create_on_update, object_version, requires_version, restrict, take_namespace, validate_new,
};
use crate::apply::{self, Writer};
use crate::body::{self, FieldValidation};
use crate::convert;
use crate::core::{Call, Core, Reply, State, timestamp};
use crate::defaults;
use crate::delete::is_free;
use crate::options;
use crate::rbac;
use crate::resource::Resource;
use crate::store::{Draft, Stored};
use crate::structural;
use crate::validate;
use crate::webhook::{Admitted, Operation, Review};

fn is_service(resource: &Resource) -> bool {
    resource.plural == "services" && resource.group.is_empty()
}

fn invalid(resource: &Resource, name: &str, field: &str, reason: &'static str, message: &str) -> Status {
    Status::invalid(&resource.group, &resource.kind, name, &[(field.to_owned(), reason, message.to_owned())])
}

impl Core {
    pub(crate) fn create(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        options::check_write(&call.info.query, "CreateOptions", false)?;
        let mut body = body::read(call)?;
        check_type(resource, &mut body.value)?;
        call.warn(body.conform(resource, FieldValidation::from_query(&call.info.query))?);
        self.create_in(now, call, resource, namespace, body.value, None)
    }

    /// Creates an object. `managed` holds the fields of an apply, which tracks ownership by itself.
    ///
    /// The store is locked only to be looked at and, at the end, to put the finished object in.
    fn create_in(
        &self,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
        mut body: Value,
        managed: Option<Value>,
    ) -> Result<Reply, Status> {
        self.prepare_new(now, call, resource, namespace, &mut body)?;
        let dry_run = options::is_dry_run(&call.info.query);
        self.default_and_admit(resource, &mut body, None)?;
        match call.admitted {
            None => {
                let state = self.read();
                if let Some(review) = Review::wanted(&state, call, resource, Operation::Create, dry_run, None, Some(&body)) {
                    return Ok(Reply::Admit(Box::new(review)));
                }
            }
            Some(admitted) => {
                admitted.take_over(&mut body);
                self.default_and_admit(resource, &mut body, None)?;
            }
        }
        // Addresses and ports of Services are given out, and the lock is kept until the Service is in, so that nobody else gets
        // the same.
        let mut guard = is_service(resource).then(|| self.write());
        if let Some(state) = &mut guard {
            Self::assign_addresses(state, resource, &mut body, None)?;
        }
        validate_new(resource, &body, None)?;
        if resource.group == "rbac.authorization.k8s.io" {
            self.check_escalation(&self.read(), call, resource, &body, None)?;
        }
        let storage = resource.storage();
        let name = object::name(&body).to_owned();
        let exists = || Status::already_exists(&resource.group, &resource.plural, &name);
        match managed {
            Some(fields) => body["metadata"]["managedFields"] = fields,
            None => {
                let writer = Writer { manager: options::manager(call), subresource: "", now };
                apply::track_update(resource, &apply::empty(), &mut body, &writer);
            }
        }
        if dry_run {
            let state = guard.unwrap_or_else(|| self.write());
            let is_there = state.store.get(&storage, namespace, &name).is_some();
            return if is_there { Err(exists()) } else { Ok(Reply::Value(201, body)) };
        }
        convert::to_storage(resource, &mut body);
        let draft = Draft::of(body);
        let mut guard = guard.unwrap_or_else(|| self.write());
        let state = &mut *guard;
        if resource.namespaced {
            check_namespace(state, resource, namespace, &name)?;
        }
        if state.store.get(&storage, namespace, &name).is_some() {
            return Err(exists());
        }
        let stored = state.store.put(&storage, draft);
        Self::note_write(state, &storage);
        let stored = self.after_write(state, now, resource, stored);
        Ok(Reply::Stored(201, stored))
    }

    /// Gives a new object what the server alone decides: its namespace, name, uid and time.
    fn prepare_new(
        &self,
        now: Timestamp,
        call: &Call<'_>,
        resource: &Resource,
        namespace: &str,
        body: &mut Value,
    ) -> Result<(), Status> {
        if resource.namespaced {
            take_namespace(body, namespace)?;
        } else if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        // What webhooks saw is what is stored.
        let seen = call.admitted.and_then(Admitted::identity);
        if object::name(body).is_empty()
            && let Some(prefix) = body["metadata"]["generateName"].as_str().filter(|prefix| !prefix.is_empty())
        {
            // Names stay within 63 characters (apiserver `pkg/storage/names`).
            let prefix: String = prefix.chars().take(58).collect();
            body["metadata"]["name"] = match seen {
                Some((name, _)) => name.into(),
                None => format!("{prefix}{}", self.suffix()).into(),
            };
        }
        if !object_version(body).is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if resource.namespaced {
            check_namespace(&self.read(), resource, namespace, object::name(body))?;
        }
        if resource.has_subresource("status")
            && let Some(fields) = body.as_object_mut()
        {
            fields.remove("status");
        }
        let metadata = &mut body["metadata"];
        metadata["uid"] = seen.map_or_else(|| self.uuid(), |(_, uid)| uid.to_owned()).into();
        metadata["creationTimestamp"] = timestamp(now).into();
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            if let Some(fields) = metadata.as_object_mut() {
                fields.remove(key);
            }
        }
        metadata["generation"] = if resource.has_generation() { 1.into() } else { Value::Null };
        clean_metadata(body);
        Ok(())
    }

    /// What built-in admission and defaulting do to a new or changed object.
    fn default_and_admit(&self, resource: &Resource, body: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if let Some(version) = &resource.custom {
            structural::default(body, &version["schema"]["openAPIV3Schema"]);
            structural::without_nulls(body, &version["schema"]["openAPIV3Schema"]);
            return Ok(());
        }
        if resource.plural == "pods" && resource.group.is_empty() && old.is_none() {
            defaults::admit_pod(body, self.service_account_admission);
        }
        defaults::apply(&resource.group, &resource.kind, body);
        if resource.plural == "namespaces" && resource.group.is_empty() && old.is_none() {
            defaults::require_finalizer(body);
        }
        Ok(())
    }

    /// Gives a Service its address and its node ports.
    fn assign_addresses(state: &mut State, resource: &Resource, body: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let State { store, addresses, .. } = state;
        let own = object::uid(body).to_owned();
        let storage = resource.storage();
        let others = || {
            let others = store.list(&storage, "", None).filter(|stored| *stored.uid != *own);
            others.map(|stored| stored.value())
        };
        addresses.assign(body, old, others).map_err(|(field, message)| {
            Status::invalid("", "Service", object::name(body), &[(field.to_owned(), "FieldValueInvalid", message)])
        })?;
        if body["status"].is_null() {
            body["status"] = json!({"loadBalancer": {}});
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
        state.store.put(&resource.storage(), Draft::of(definition))
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
            drop(state);
            if subresource.is_empty() && may_create_on_update(resource) && object_version(&body).is_empty() {
                self.check_may_create(call)?;
                return self.create_in(now, call, resource, namespace, body, None);
            }
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        self.replace(&mut state, now, call, resource, &convert::shown(&old, resource), body, subresource)
    }

    /// 403 unless the caller may also create what he would update.
    fn check_may_create(&self, call: &Call<'_>) -> Result<(), Status> {
        let wanted = rbac::Attributes { verb: "create", ..rbac::Attributes::of(call.info, call.method) };
        self.demand(call.who, &wanted)
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
        let is_whole = matches!(subresource, "" | "scale");
        if is_whole {
            if is_service(resource) {
                keep_service_address(old, &mut new);
            }
            self.default_and_admit(resource, &mut new, Some(old))?;
        }
        match call.admitted.filter(|admitted| admitted.is_about(object_version(old))) {
            None => {
                if let Some(review) = Review::wanted(state, call, resource, Operation::Update, dry_run, Some(old), Some(&new)) {
                    return Ok(Reply::Admit(Box::new(review)));
                }
            }
            Some(admitted) => {
                admitted.take_over(&mut new);
                if is_whole {
                    self.default_and_admit(resource, &mut new, Some(old))?;
                }
            }
        }
        match subresource {
            "" | "scale" => {
                if is_service(resource) {
                    Self::assign_addresses(state, resource, &mut new, Some(old))?;
                }
                validate_new(resource, &new, Some(old))?;
                validate::check_update(resource, old, &new)?;
                if resource.group == "rbac.authorization.k8s.io" {
                    self.check_escalation(state, call, resource, &new, Some(old))?;
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
        convert::to_storage(resource, &mut new);
        let stored = state.store.put(&storage, Draft::of(new));
        Self::note_write(state, &storage);
        let stored = self.after_write(state, now, resource, stored);
        Ok(Reply::Stored(200, stored))
    }

    /// 403 where a role would grant, or a binding pass on, what the caller does not have.
    fn check_escalation(
        &self,
        state: &State,
        call: &Call<'_>,
        resource: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if call.who.is_in("system:masters") {
            return Ok(());
        }
        let index = Self::rbac_of(state);
        rbac::check_escalation(&index, state, call.who, resource, object, old)
    }
}

/// The subresource that `managedFields` names.
fn tracked(subresource: &str) -> &str {
    if subresource == "binding" { "" } else { subresource }
}
