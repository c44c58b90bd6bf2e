//! Between the versions of a kind: what is stored once is shown in each version that is served.
//!
//! Versions of a definition differ in their apiVersion alone (conversion `None`). Events have two shapes under two groups and
//! are stored as the core group has them (`pkg/apis/events/v1/conversion.go`).

use serde_json::Value;

use crate::resource::Resource;
use crate::store::Stored;

/// Fields of an Event: in `events.k8s.io/v1`, and as they are stored.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn is_new_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io" && resource.plural == "events"
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

/// Brings an object as a version has it into the form in which it is stored.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, EVENT_FIELDS.iter().copied());
        object["apiVersion"] = "v1".into();
    }
}

/// Brings a stored object into the form that a version has.
fn from_storage(resource: &Resource, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, EVENT_FIELDS.iter().map(|(new, stored)| (*stored, *new)));
    }
    object["apiVersion"] = resource.api_version().into();
}

/// A stored object as a version shows it.
pub(crate) fn shown(stored: &Stored, resource: &Resource) -> Value {
    let mut object = stored.value();
    from_storage(resource, &mut object);
    object
}
