//! Patches of all four kinds, from the request to the stored object.

use jiff::Timestamp;
use kubeapi::{Status, object};
use serde_json::Value;

use super::rules::{check_type, check_url, clean_metadata, object_version};
use super::tracked;
use crate::apply::{self, Writer};
use crate::body::{self, FieldValidation};
use crate::convert;
use crate::core::{Call, Core, Reply};
use crate::options;
use crate::patch::{self, PatchKind};
use crate::resource::Resource;
use crate::subresource::unsupported;

/// The largest object that is kept, in bytes: what a request may bring. Patches cannot make a larger one.
const MAX_OBJECT: usize = 3 * 1024 * 1024;

/// What etcd's limit makes the real server answer.
fn check_size(object: &Value) -> Result<(), Status> {
    if object.to_string().len() <= MAX_OBJECT {
        return Ok(());
    }
    Err(Status::new(413, "etcdserver: request is too large").with_reason("RequestEntityTooLarge"))
}

impl Core {
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
        // Merging adds no more than was sent; a JSON patch can copy.
        let may_be_large = kind == PatchKind::Json || old.json.len() + call.body.len() > MAX_OBJECT;
        let old = convert::shown(&old, resource);
        let mut new = old.clone();
        if kind != PatchKind::Json && !patch.value.is_object() {
            return Err(Status::bad_request("error decoding patch: the patch is not an object"));
        }
        match kind {
            PatchKind::Json => patch::json_patch(&mut new, &patch.value)?,
            PatchKind::Merge => patch::merge(&mut new, &patch.value),
            PatchKind::Strategic | PatchKind::Apply => patch::strategic(resource, &mut new, &patch.value)?,
        }
        if !new.is_object() {
            return Err(Status::bad_request("the patch leaves no object"));
        }
        if may_be_large {
            check_size(&new)?;
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
            drop(state);
            self.check_may_create(call)?;
            let mut merged = apply::apply(resource, &apply::empty(), config, &writer, force)?;
            let managed = merged["metadata"]["managedFields"].take();
            body::conform(resource, &mut merged, &[], FieldValidation::Ignore)?;
            return match self.create_in(now, call, resource, namespace, merged, Some(managed)) {
                // Somebody was faster: now there is an object to apply to.
                Err(status) if status.reason == "AlreadyExists" => self.apply(now, call, resource, namespace, subresource, patch),
                other => other,
            };
        };
        let may_be_large = live.json.len() + call.body.len() > MAX_OBJECT;
        let live = convert::shown(&live, resource);
        let wanted = object_version(config);
        if !wanted.is_empty() && wanted != object_version(&live) {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Status::conflict(&resource.group, &resource.plural, name, why));
        }
        let mut merged = apply::apply(resource, &live, config, &writer, force)?;
        if may_be_large {
            check_size(&merged)?;
        }
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
}

/// `managedFields` without the times of its entries.
fn without_times(fields: &Value) -> Value {
    let mut fields = fields.clone();
    for entry in fields.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.remove("time");
    }
    fields
}
