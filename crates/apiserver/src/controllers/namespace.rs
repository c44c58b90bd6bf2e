//! A namespace that is being deleted is emptied, then let go.

use kubeapi::object;
use serde_json::json;

use crate::client::{Client, Gr};

/// Kinds that a controller or the server itself makes again while they are deleted need no second look: the namespace is
/// terminating, so nothing new can come.
pub(crate) async fn run(client: Client) {
    loop {
        let Ok(mut namespaces) = client.watch(Gr::core("namespaces")) else { return };
        loop {
            if namespaces.take().is_err() {
                break;
            }
            let terminating: Vec<_> = client.list(Gr::core("namespaces"), "").into_iter().filter(object::is_deleting).collect();
            let mut waiting = false;
            for namespace in &terminating {
                waiting |= !empty(&client, object::name(namespace));
            }
            if waiting {
                // Pods with grace and objects with finalizers go when their owners let them.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            } else {
                namespaces.changed().await;
            }
        }
    }
}

/// Deletes what is in the namespace; when nothing is left, the namespace goes too. Whether it is gone.
fn empty(client: &Client, namespace: &str) -> bool {
    let namespaced: Vec<(String, String, String)> = {
        let state = client.core.read();
        state
            .registry
            .all()
            .filter(|resource| resource.namespaced && resource.verbs.contains(&"delete"))
            .map(|resource| (resource.group.clone(), resource.version.clone(), resource.plural.clone()))
            .collect()
    };
    let mut left = 0;
    for (group, version, plural) in namespaced {
        let resource = client.core.read().registry.find(&group, &version, &plural);
        let Some(resource) = resource else { continue };
        let objects: Vec<_> = {
            let state = client.core.read();
            state.store.list(&resource.storage(), namespace, None).cloned().collect()
        };
        for stored in objects {
            left += 1;
            if !object::is_deleting(&stored.value()) {
                let _ = client.delete_any(&resource, namespace, &stored.name, &stored.uid);
            }
        }
    }
    if left > 0 {
        return false;
    }
    let _ = client.finalize_namespace(namespace, &json!([]));
    true
}
