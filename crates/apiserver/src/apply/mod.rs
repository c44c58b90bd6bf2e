//! Field ownership: `metadata.managedFields` of every write, and server-side apply.
//!
//! Follows sigs.k8s.io/structured-merge-diff v6 (`merge/update.go`) and k8s.io/apimachinery `pkg/util/managedfields`: an
//! apply owns what it sends, removes what it sent before and no one else owns, and conflicts with others where it changes
//! what they own; any other write owns what it changes.

mod fields;
mod layout;
mod merge;

use jiff::Timestamp;
use kubeapi::Status;
use serde_json::{Map, Value, json};

use crate::core::timestamp;
use crate::resource::Resource;
pub(crate) use fields::{Comparison, Set, Step};
pub(crate) use layout::Node;

/// Entries of managers that updated, beyond which the oldest are folded into one (`DefaultMaxUpdateManagers`).
const MAX_UPDATE_MANAGERS: usize = 10;

/// Where client-side apply keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) now: Timestamp,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    manager: String,
    operation: &'static str,
    api_version: String,
    time: Option<String>,
    subresource: String,
    set: Set,
}

impl Entry {
    fn is_of(&self, writer: &Writer<'_>, operation: &str, api_version: &str) -> bool {
        self.manager == writer.manager
            && self.operation == operation
            && self.subresource == writer.subresource
            && (operation == "Apply" || self.api_version == api_version)
    }

    fn encode(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.set.encode(),
        });
        if let Some(time) = &self.time {
            entry["time"] = time.as_str().into();
        }
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.as_str().into();
        }
        entry
    }

    /// As a conflict names it.
    fn describe(&self) -> String {
        let mut text = Value::from(self.manager.as_str()).to_string();
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = &self.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }
}

/// The entries of an object; nothing if one cannot be read.
fn decode(object: &Value) -> Option<Vec<Entry>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            Some(Entry {
                manager: text(&entry["manager"]),
                operation: match entry["operation"].as_str()? {
                    "Apply" => "Apply",
                    "Update" => "Update",
                    _ => return None,
                },
                api_version: text(&entry["apiVersion"]),
                time: entry["time"].as_str().map(str::to_owned),
                subresource: text(&entry["subresource"]),
                set: if entry["fieldsV1"].is_null() { Set::default() } else { Set::decode(&entry["fieldsV1"])? },
            })
        })
        .collect()
}

fn encode(object: &mut Value, mut entries: Vec<Entry>) {
    // `sortEncodedManagedFields`: Apply before Update, then by time, then by name.
    entries.sort_by(|a, b| {
        (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), entries.iter().map(Entry::encode).collect());
        }
    }
}

/// Fields that belong to the system, in no one's set (`stripSet` of managedfields/stripmeta.go).
fn without_system_fields(mut set: Set) -> Set {
    set.member = false;
    for name in ["apiVersion", "kind"] {
        set.below.remove(&Step::Field(name.into()));
    }
    let metadata = Step::Field("metadata".into());
    if let Some(inner) = set.below.get_mut(&metadata) {
        inner.member = false;
        for name in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            inner.below.remove(&Step::Field(name.into()));
        }
        if inner.is_empty() {
            set.below.remove(&metadata);
        }
    }
    set
}

/// What the strategy of a resource does not let this kind of request set (`GetResetFields`).
fn without_reset_fields(mut set: Set, resource: &Resource, subresource: &str) -> Set {
    if !resource.has_subresource("status") {
        return set;
    }
    match subresource {
        "" => {
            set.below.remove(&Step::Field("status".into()));
        }
        "status" => {
            set.below.retain(|step, _| match step {
                Step::Field(name) => &**name == "status" || (resource.custom.is_none() && &**name == "metadata"),
                Step::Key(_) | Step::Value(_) | Step::Index(_) => true,
            });
        }
        _ => {}
    }
    set
}

fn effective(set: Set, resource: &Resource, subresource: &str) -> Set {
    without_reset_fields(without_system_fields(set), resource, subresource)
}

/// The entries that a write starts from: those that the client sent, unless it sent none (`decodeLiveOrNew`).
fn present(live: &Value, new: &Value, subresource: &str) -> Vec<Entry> {
    let live_entries = || decode(live).unwrap_or_default();
    if !subresource.is_empty() {
        return live_entries();
    }
    // One empty entry asks for a reset.
    if new["metadata"]["managedFields"].as_array().is_some_and(|list| list.len() == 1 && list[0] == json!({})) {
        return Vec::new();
    }
    match decode(new) {
        Some(entries) if !entries.is_empty() => entries,
        _ => live_entries(),
    }
}

/// Writes `managedFields` into `new`, which takes the place of `live`, by any write but an apply.
pub(crate) fn track_update(resource: &Resource, live: &Value, new: &mut Value, writer: &Writer<'_>) {
    let is_reset = new["metadata"]["managedFields"].as_array().is_some_and(|list| list.len() == 1 && list[0] == json!({}));
    let mut entries = present(live, new, writer.subresource);
    if is_reset && writer.subresource.is_empty() {
        encode(new, Vec::new());
        return;
    }
    let node = Node::root(resource);
    let api_version = resource.api_version();
    if entries.is_empty() && live.as_object().is_some_and(Map::is_empty) {
        // A new object belongs to its writer as a whole.
        let set = Set::of_new(new, node);
        let set = effective(set, resource, writer.subresource);
        let (manager, subresource) = (writer.manager.to_owned(), writer.subresource.to_owned());
        let time = Some(timestamp(writer.now));
        let entry = Entry { manager, operation: "Update", api_version, time, subresource, set };
        let entries = if entry.set.is_empty() { Vec::new() } else { vec![entry] };
        encode(new, entries);
        return;
    }
    let comparison = Comparison::new(live, new, node);
    let mine = entries.iter().position(|entry| entry.is_of(writer, "Update", &api_version));
    let changed = effective(comparison.modified.union(&comparison.added), resource, writer.subresource);
    for (index, entry) in entries.iter_mut().enumerate() {
        if Some(index) != mine {
            let conflicting = entry.set.intersection(&changed);
            entry.set = entry.set.difference(&conflicting).difference(&comparison.removed);
        }
    }
    let before = mine.map(|index| entries[index].set.clone()).unwrap_or_default();
    let after = effective(before.difference(&comparison.removed).union(&changed), resource, writer.subresource);
    match mine {
        Some(index) => {
            // The time of an entry is that of its last change.
            if after != before || !changed.is_empty() {
                entries[index].time = Some(timestamp(writer.now));
            }
            entries[index].set = after;
        }
        None if !after.is_empty() => entries.push(Entry {
            manager: writer.manager.to_owned(),
            operation: "Update",
            api_version,
            time: Some(timestamp(writer.now)),
            subresource: writer.subresource.to_owned(),
            set: after,
        }),
        None => {}
    }
    entries.retain(|entry| !entry.set.is_empty());
    cap(&mut entries);
    encode(new, entries);
}

/// Folds the oldest updaters into `ancient-changes` (`capmanagers.go`).
fn cap(entries: &mut Vec<Entry>) {
    let mut updaters: Vec<usize> = (0..entries.len()).filter(|index| entries[*index].operation == "Update").collect();
    if updaters.len() <= MAX_UPDATE_MANAGERS {
        return;
    }
    updaters.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
    let count = updaters.len() - MAX_UPDATE_MANAGERS + 1;
    let mut folded: Option<Entry> = None;
    let mut gone: Vec<usize> = updaters.into_iter().take(count).collect();
    gone.sort_unstable();
    for index in gone.into_iter().rev() {
        let entry = entries.remove(index);
        match &mut folded {
            Some(of) if of.api_version == entry.api_version => {
                of.set.absorb(&entry.set);
                of.time = of.time.clone().max(entry.time);
            }
            Some(_) => entries.push(entry),
            None => folded = Some(Entry { manager: "ancient-changes".to_owned(), subresource: String::new(), ..entry }),
        }
    }
    entries.extend(folded);
}

/// Applies `config` to `live`, an object or the empty one of a resource; the new object with its `managedFields`.
pub(crate) fn apply(
    resource: &Resource,
    live: &Value,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    let node = Node::root(resource);
    let unmergeable = |why: String| Status::new(500, format!("failed to create typed patch object ({why})"));
    let full = Set::of(config, node).map_err(|why| {
        let of = format!(
            "{}/{}; {}, Kind={}",
            config["metadata"]["namespace"].as_str().unwrap_or_default(),
            config["metadata"]["name"].as_str().unwrap_or_default(),
            resource.api_version(),
            resource.kind
        );
        unmergeable(format!("{of}): {why}").trim_end_matches(')').to_owned())
    })?;
    let set = effective(full, resource, writer.subresource);
    let mut entries = decode(live).unwrap_or_default();
    let api_version = resource.api_version();
    let mine = entries.iter().position(|entry| entry.is_of(writer, "Apply", &api_version));
    let before = mine.map(|index| entries[index].set.clone()).unwrap_or_default();

    let mut merged = merge::merge(live, config, node);
    let mut owned = set.clone();
    for (index, entry) in entries.iter().enumerate() {
        if Some(index) != mine {
            owned.absorb(&entry.set);
        }
    }
    if !before.is_empty() {
        merge::prune(&mut merged, node, &before, &owned);
    }
    if let Some(metadata) = merged["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let mut bare_live = live.clone();
    if let Some(metadata) = bare_live["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }

    let comparison = Comparison::new(&bare_live, &merged, node);
    let changed = effective(comparison.modified.union(&comparison.added), resource, writer.subresource);
    let allowed =
        if writer.manager == "kubectl" && !force { from_last_applied(live, node, &api_version) } else { Set::default() };
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (index, entry) in entries.iter_mut().enumerate() {
        if Some(index) == mine {
            continue;
        }
        let conflicting = entry.set.intersection(&changed);
        let disputed = conflicting.difference(&allowed);
        conflicts.extend(disputed.paths().into_iter().map(|path| (entry.describe(), path)));
        entry.set = entry.set.difference(&conflicting).difference(&comparison.removed);
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    let same = before == set && comparison.is_same() && mine.is_some();
    let entry = Entry {
        manager: writer.manager.to_owned(),
        operation: "Apply",
        api_version,
        // An apply that changes nothing leaves the time as it was, and with it the object.
        time: if same { mine.and_then(|index| entries[index].time.clone()) } else { Some(timestamp(writer.now)) },
        subresource: writer.subresource.to_owned(),
        set,
    };
    match mine {
        Some(index) => entries[index] = entry,
        None => entries.push(entry),
    }
    entries.retain(|entry| !entry.set.is_empty());
    if writer.manager == "kubectl" && !merged["metadata"]["annotations"][LAST_APPLIED].is_null() {
        // So that who goes back to client-side apply finds what was applied last (`lastappliedupdater.go`).
        merged["metadata"]["annotations"][LAST_APPLIED] = format!("{config}\n").into();
    }
    encode(&mut merged, entries);
    Ok(merged)
}

/// What client-side apply set and no one changed since: kubectl may take it over without a conflict
/// (`lastappliedmanager.go`).
fn from_last_applied(live: &Value, node: Node<'_>, api_version: &str) -> Set {
    let Some(text) = live["metadata"]["annotations"][LAST_APPLIED].as_str() else { return Set::default() };
    let Ok(applied) = serde_json::from_str::<Value>(text) else { return Set::default() };
    if applied["apiVersion"] != api_version {
        return Set::default();
    }
    let Ok(set) = Set::of(&applied, node) else { return Set::default() };
    let comparison = Comparison::new(&applied, live, node);
    set.difference(&comparison.modified).difference(&comparison.added).difference(&comparison.removed)
}

/// 409 with every conflict as a cause (managedfields/internal/conflict.go).
fn conflict(conflicts: &[(String, String)]) -> Status {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path})
        })
        .collect();
    let message = if let [(manager, path)] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
    } else {
        let mut managers: Vec<&String> = conflicts.iter().map(|(manager, _)| manager).collect();
        managers.sort();
        managers.dedup();
        let parts: Vec<String> = managers
            .into_iter()
            .map(|manager| {
                let paths: Vec<String> =
                    conflicts.iter().filter(|(of, _)| of == manager).map(|(_, path)| format!("- {path}")).collect();
                format!("conflicts with {manager}:\n{}", paths.join("\n"))
            })
            .collect();
        format!("Apply failed with {} conflicts: {}", conflicts.len(), parts.join("\n"))
    };
    Status::new(409, message).with_details(json!({"causes": causes}))
}

/// Forgets what the strategy does not let this request set.
pub(crate) fn strip_reset_fields(resource: &Resource, config: &mut Value, subresource: &str) {
    if let Some(fields) = config.as_object_mut() {
        match subresource {
            "" if resource.has_subresource("status") => {
                fields.remove("status");
            }
            "status" => fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")),
            _ => {}
        }
    }
}

/// The object that a creating apply starts from.
pub(crate) fn empty() -> Value {
    Value::Object(Map::new())
}
