//! Deleting: at once, or marked where a grace period, a finalizer or a propagation policy holds the object.

use std::sync::Arc;

use jiff::Timestamp;
use kubeapi::{Status, object};
use serde_json::{Value, json};

use crate::body;
use crate::core::{Call, Core, List, Reply, State, timestamp};
use crate::options;
use crate::read::Filter;
use crate::resource::{Resource, StorageKey};
use crate::store::{Draft, Stored};
use crate::webhook::{Operation, Review};

/// A pod's grace period when neither it nor the caller names one.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// The longest grace period that is taken, a year.
const MAX_GRACE_SECONDS: i64 = 365 * 24 * 3600;

/// The finalizer that a definition has until its objects are gone (apiextensions `CustomResourceCleanupFinalizer`).
pub(crate) const DEFINITION_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// How to delete.
#[derive(Clone, Copy, Debug, Default)]
struct Manner<'a> {
    grace: Option<i64>,
    propagation: Option<&'a str>,
}

impl<'a> Manner<'a> {
    fn of(options: &'a Value, call: &'a Call<'_>) -> Self {
        let query = &call.info.query;
        let orphan = options["orphanDependents"].as_bool().map(|orphan| if orphan { "Orphan" } else { "Background" });
        Self {
            grace: options["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| query.get("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok())),
            propagation: options["propagationPolicy"].as_str().or_else(|| query.get("propagationPolicy")).or(orphan),
        }
    }
}

impl Core {
    pub(crate) fn delete(&self, now: Timestamp, call: &Call<'_>, resource: &Resource, namespace: &str) -> Result<Reply, Status> {
        let mut options = body::read_options(call)?;
        let eviction = (call.info.subresource == "eviction").then(|| eviction(call, &mut options));
        options::check_delete(&call.info.query, &options)?;
        let mut state = self.write();
        let name = &call.info.name;
        let Some(old) = state.store.get(&resource.storage(), namespace, name) else {
            return Err(Status::not_found(&resource.group, &resource.plural, name));
        };
        let old = old.value();
        check_preconditions(resource, &old, &options["preconditions"])?;
        if resource.plural == "namespaces" && matches!(name.as_str(), "default" | "kube-system" | "kube-public") {
            return Err(Status::new(403, format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted"))
                .with_details(json!({"name": name, "kind": "namespaces"})));
        }
        let is_dry = is_dry(call, &options);
        // To webhooks an eviction is the creation of one.
        let (operation, gone, made) = match &eviction {
            Some(eviction) => (Operation::Create, None, Some(eviction)),
            None => (Operation::Delete, Some(&old), None),
        };
        if call.admitted.is_none()
            && let Some(review) = Review::wanted(&state, call, resource, operation, is_dry, gone, made)
        {
            return Ok(Reply::Admit(Box::new(review)));
        }
        if is_dry {
            return Ok(Reply::Value(200, deleted(resource, &old)));
        }
        let reply = self.delete_object(&mut state, now, resource, old, Manner::of(&options, call));
        Ok(if eviction.is_some() {
            Reply::Value(201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
        } else {
            reply
        })
    }

    /// Deletes an object, or marks it for deletion where a grace period or a finalizer holds it.
    fn delete_object(&self, state: &mut State, now: Timestamp, resource: &Resource, mut old: Value, manner: Manner<'_>) -> Reply {
        let finalizer = match manner.propagation {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ if resource.group == "apiextensions.k8s.io" => Some(DEFINITION_CLEANUP),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            add_finalizer(&mut old, finalizer);
        }
        let is_pod = resource.plural == "pods" && resource.group.is_empty();
        // A pod that no node has yet, or whose grace is 0, goes at once.
        let pod_grace = if is_pod && !old["spec"]["nodeName"].is_null() {
            manner.grace.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(DEFAULT_GRACE_SECONDS)
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
            // Pods answer with themselves (`ReturnDeletedObject` of their strategy), everything else with a Status.
            return if is_pod { Reply::Stored(200, last) } else { Reply::Value(200, status) };
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
        let stored = state.store.put(&storage, Draft::of(old));
        Self::note_write(state, &storage);
        if resource.group == "apiextensions.k8s.io" {
            return self.empty_definition(state, now, resource, &stored);
        }
        Reply::Stored(200, stored)
    }

    /// Deletes the objects of a definition; it goes with the last of them.
    fn empty_definition(&self, state: &mut State, now: Timestamp, resource: &Resource, stored: &Arc<Stored>) -> Reply {
        let definition = stored.value();
        let (group, plural) = names(&definition);
        if let Some(custom) = state.registry.find_any_version(&group, &plural).filter(|resource| resource.custom.is_some()) {
            let objects: Vec<Value> = state.store.list(&custom.storage(), "", None).map(|stored| stored.value()).collect();
            for object in objects {
                self.delete_object(state, now, &custom, object, Manner::default());
            }
        }
        self.finish_definition(state, &group, &plural);
        match state.store.get(&resource.storage(), "", &stored.name) {
            Some(waiting) => Reply::Stored(200, waiting),
            None => Reply::Value(200, deleted(resource, &definition)),
        }
    }

    /// Takes a definition out that is being deleted and has no objects left.
    fn finish_definition(&self, state: &mut State, group: &str, plural: &str) {
        let storage = StorageKey::new("apiextensions.k8s.io", "customresourcedefinitions");
        let Some(stored) = state.store.get(&storage, "", &format!("{plural}.{group}")) else { return };
        let mut definition = stored.value();
        let of_definition = state.registry.find_any_version(group, plural).is_none_or(|resource| resource.custom.is_some());
        let is_empty = !of_definition || state.store.list(&StorageKey::new(group, plural), "", None).next().is_none();
        if !object::is_deleting(&definition) || !is_empty {
            return;
        }
        if let Some(list) = definition["metadata"]["finalizers"].as_array_mut() {
            list.retain(|finalizer| finalizer != DEFINITION_CLEANUP);
        }
        let free = definition["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if free {
            state.registry.undefine(object::name(&definition));
            state.store.remove(&storage, definition);
        } else {
            state.store.put(&storage, Draft::of(definition));
        }
    }

    /// Takes an object out for good, with what depends on its being there.
    pub(crate) fn remove(&self, state: &mut State, resource: &Resource, last: Value) -> Arc<Stored> {
        let storage = resource.storage();
        let removed = state.store.remove(&storage, last);
        Self::note_write(state, &storage);
        if resource.group == "apiextensions.k8s.io" {
            state.registry.undefine(&removed.name);
        } else if resource.custom.is_some() {
            self.finish_definition(state, &resource.group, &resource.plural);
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
        let options = body::read_options(call)?;
        options::check_delete(&call.info.query, &options)?;
        let filter = Filter::from_query(resource, &call.info.query)?;
        let mut state = self.write();
        let matching: Vec<_> =
            state.store.list(&resource.storage(), namespace, None).filter(|stored| filter.matches(stored)).cloned().collect();
        let revision = state.store.revision();
        for stored in &matching {
            check_preconditions(resource, &stored.value(), &options["preconditions"])?;
        }
        if !is_dry(call, &options) {
            for stored in &matching {
                self.delete_object(&mut state, now, resource, stored.value(), Manner::of(&options, call));
            }
        }
        Ok(Reply::List(List { items: matching, revision, next: None, remaining: None }))
    }
}

/// The Eviction that a request creates; its `deleteOptions` become the options.
fn eviction(call: &Call<'_>, options: &mut Value) -> Value {
    let delete = options["deleteOptions"].clone();
    let mut eviction = std::mem::replace(options, delete);
    if !eviction.is_object() {
        eviction = json!({});
    }
    eviction["apiVersion"] = "policy/v1".into();
    eviction["kind"] = "Eviction".into();
    eviction["metadata"]["name"] = call.info.name.as_str().into();
    eviction["metadata"]["namespace"] = call.info.namespace.as_str().into();
    eviction
}

/// Whether nothing is to be deleted, only said what would be.
fn is_dry(call: &Call<'_>, options: &Value) -> bool {
    options::is_dry_run(&call.info.query) || options["dryRun"][0] == "All"
}

fn names(definition: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]))
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    if !finalizers.is_array() {
        *finalizers = json!([]);
    }
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|item| item == finalizer)
    {
        list.push(finalizer.into());
    }
}

/// 409 unless the object is the one that the caller means (apiserver `pkg/storage` `Preconditions.Check`).
fn check_preconditions(resource: &Resource, old: &Value, preconditions: &Value) -> Result<(), Status> {
    let in_record = |key: &str| old["metadata"][key].as_str().unwrap_or_default().to_owned();
    let message = match (preconditions["uid"].as_str(), preconditions["resourceVersion"].as_str()) {
        (Some(uid), _) if uid != in_record("uid") => format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            in_record("uid")
        ),
        (_, Some(version)) if version != in_record("resourceVersion") => format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            in_record("resourceVersion")
        ),
        _ => return Ok(()),
    };
    // The real server has the kind where other conflicts have the resource.
    Err(Status::conflict(&resource.group, &resource.kind, object::name(old), &message))
}

/// Whether nothing holds an object that is to be deleted.
pub(crate) fn is_free(resource: &Resource, object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    let spec_finalizers = resource.plural != "namespaces" || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    finalizers
        && spec_finalizers
        && (resource.plural != "pods"
            || !resource.group.is_empty()
            || object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0)
}

fn deleted(resource: &Resource, object: &Value) -> Value {
    let mut details = json!({"name": object::name(object), "kind": resource.plural, "uid": object::uid(object)});
    if !resource.group.is_empty() {
        details["group"] = resource.group.as_str().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
