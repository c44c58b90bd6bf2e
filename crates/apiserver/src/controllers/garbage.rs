//! Garbage collection: dependents of an owner that is gone are deleted; foreground deletion waits for its dependents;
//! orphaning takes the references away first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kubeapi::object;
use serde_json::{Value, json};

use crate::client::Client;
use crate::resource::Resource;
use crate::store::Stored;

/// How long after a change the graph is looked at: one sweep then serves many changes.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(5);

pub(crate) async fn run(client: Client) {
    let mut seen = 0;
    let mut revision = client.core.write().store.subscribe_all();
    loop {
        tokio::time::sleep(SETTLE).await;
        let current = client.core.read().store.last_removal();
        if current != seen {
            seen = current;
            sweep(&client);
        }
        if revision.changed().await.is_err() {
            return;
        }
    }
}

struct Entry {
    resource: Arc<Resource>,
    stored: Arc<Stored>,
    value: Value,
}

/// One look at every object that has owners or is being deleted with a propagation policy.
fn sweep(client: &Client) {
    let mut uids: BTreeSet<String> = BTreeSet::new();
    let mut entries = Vec::new();
    {
        let state = client.core.read();
        let mut storages = BTreeSet::new();
        for resource in state.registry.all() {
            if !resource.verbs.contains(&"delete") || !storages.insert(resource.storage()) {
                continue;
            }
            for stored in state.store.list(&resource.storage(), "", None) {
                let value = stored.value();
                uids.insert(object::uid(&value).to_owned());
                entries.push(Entry { resource: resource.clone(), stored: stored.clone(), value });
            }
        }
    }
    let mut dependents: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in &entries {
        for owner in entry.value["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            dependents.entry(owner["uid"].as_str().unwrap_or_default()).or_default().push(entry);
        }
    }
    for entry in &entries {
        let owners: Vec<&Value> = entry.value["metadata"]["ownerReferences"].as_array().into_iter().flatten().collect();
        let all_gone = !owners.is_empty() && owners.iter().all(|owner| !uids.contains(owner["uid"].as_str().unwrap_or_default()));
        if all_gone && !object::is_deleting(&entry.value) {
            let _ = client.delete_any(&entry.resource, &entry.stored.namespace, &entry.stored.name);
        }
        if object::is_deleting(&entry.value) {
            settle_owner(client, entry, dependents.get(object::uid(&entry.value)).map_or(&[], Vec::as_slice));
        }
    }
}

/// Does what an owner's finalizer asks for, and takes the finalizer off when that is done.
fn settle_owner(client: &Client, owner: &Entry, dependents: &[&Entry]) {
    let has = |finalizer: &str| {
        owner.value["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|item| item == finalizer))
    };
    let done = if has("orphan") {
        for dependent in dependents {
            let kept: Vec<&Value> = dependent.value["metadata"]["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|reference| reference["uid"] != owner.value["metadata"]["uid"])
                .collect();
            let _ = client.merge_any(
                &dependent.resource,
                &dependent.stored.namespace,
                &dependent.stored.name,
                &json!({"metadata": {"ownerReferences": kept}}),
            );
        }
        Some("orphan")
    } else if has("foregroundDeletion") {
        for dependent in dependents.iter().filter(|dependent| !object::is_deleting(&dependent.value)) {
            let _ = client.delete_any(&dependent.resource, &dependent.stored.namespace, &dependent.stored.name);
        }
        dependents.is_empty().then_some("foregroundDeletion")
    } else {
        None
    };
    if let Some(finalizer) = done {
        let kept: Vec<&Value> =
            owner.value["metadata"]["finalizers"].as_array().into_iter().flatten().filter(|item| *item != finalizer).collect();
        let _ = client.merge_any(
            &owner.resource,
            &owner.stored.namespace,
            &owner.stored.name,
            &json!({"metadata": {"finalizers": kept}}),
        );
    }
}
