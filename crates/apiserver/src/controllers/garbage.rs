//! Garbage collection: dependents of an owner that is gone are deleted; foreground deletion waits for its dependents;
//! orphaning takes the references away first.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::Client;
use crate::resource::Resource;
use crate::store::Stored;

/// How long after a change the graph is looked at: one sweep then serves many changes.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(5);

pub(crate) async fn run(client: Client) {
    let mut seen = 0;
    let mut again = false;
    let mut revision = client.core.write().store.subscribe_all();
    loop {
        tokio::time::sleep(SETTLE).await;
        let current = client.core.read().store.last_removal();
        if current != seen || again {
            seen = current;
            again = !sweep(&client);
        }
        if again {
            continue;
        }
        if revision.changed().await.is_err() {
            return;
        }
    }
}

struct Entry {
    resource: Arc<Resource>,
    stored: Arc<Stored>,
}

impl Entry {
    /// Deletes just this object, not one that got its name meanwhile.
    fn delete(&self, client: &Client) {
        let _ = client.delete_any(&self.resource, &self.stored.namespace, &self.stored.name, &self.stored.uid);
    }

    /// Replaces a list in the object's metadata, unless the object changed meanwhile: then the next sweep looks again.
    fn set(&self, client: &Client, key: &str, list: &[Value]) -> bool {
        let patch = json!({"metadata": {key: list, "resourceVersion": self.stored.revision.to_string()}});
        let answer = client.merge_any(&self.resource, &self.stored.namespace, &self.stored.name, &patch);
        answer.is_ok() || !is_there(client, self)
    }
}

/// Whether the store still has this object.
fn is_there(client: &Client, entry: &Entry) -> bool {
    let (storage, stored) = (entry.resource.storage(), &entry.stored);
    let present = client.core.read().store.get(&storage, &stored.namespace, &stored.name);
    present.is_some_and(|present| present.uid == stored.uid)
}

/// One look at every object that has owners or is being deleted with a propagation policy; false where an object changed
/// under it and must be looked at again.
fn sweep(client: &Client) -> bool {
    let mut uids: HashSet<Box<str>> = HashSet::new();
    let mut entries = Vec::new();
    {
        let state = client.core.read();
        let mut storages = BTreeSet::new();
        for resource in state.registry.all() {
            if !resource.verbs.contains(&"delete") || !storages.insert(resource.storage()) {
                continue;
            }
            for stored in state.store.list(&resource.storage(), "", None) {
                uids.insert(stored.uid.clone());
                if stored.is_deleting || !stored.owners.is_empty() {
                    entries.push(Entry { resource: resource.clone(), stored: stored.clone() });
                }
            }
        }
    }
    let mut dependents: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in &entries {
        for owner in &entry.stored.owners {
            dependents.entry(owner).or_default().push(entry);
        }
    }
    let mut settled = true;
    for entry in &entries {
        let owners = &entry.stored.owners;
        let all_gone = !owners.is_empty() && owners.iter().all(|owner| !uids.contains(owner));
        if all_gone && !entry.stored.is_deleting {
            entry.delete(client);
        }
        if entry.stored.is_deleting {
            settled &= settle_owner(client, entry, dependents.get(&*entry.stored.uid).map_or(&[], Vec::as_slice));
        }
    }
    settled
}

/// Does what an owner's finalizer asks for, and takes the finalizer off when that is done; false where it must be tried again.
fn settle_owner(client: &Client, owner: &Entry, dependents: &[&Entry]) -> bool {
    let value = owner.stored.value();
    let finalizers = value["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let has = |finalizer: &str| finalizers.iter().any(|item| item == finalizer);
    let done = if has("orphan") {
        let mut settled = true;
        for dependent in dependents {
            let mut references = dependent.stored.value()["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            references.retain(|reference| reference["uid"] != value["metadata"]["uid"]);
            settled &= dependent.set(client, "ownerReferences", &references);
        }
        if !settled {
            return false;
        }
        "orphan"
    } else if has("foregroundDeletion") {
        for dependent in dependents.iter().filter(|dependent| !dependent.stored.is_deleting) {
            dependent.delete(client);
        }
        if !dependents.is_empty() {
            return true;
        }
        "foregroundDeletion"
    } else {
        return true;
    };
    let kept: Vec<Value> = finalizers.into_iter().filter(|item| item != done).collect();
    owner.set(client, "finalizers", &kept)
}
