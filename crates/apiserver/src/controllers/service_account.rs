//! Each namespace gets the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use kubeapi::object;
use serde_json::json;

use super::follow;
use crate::WatchEvent;
use crate::client::{Client, Gr};

pub(crate) async fn run(client: Client, authority_pem: String) {
    follow(&client, Gr::core("namespaces"), |event| {
        let (WatchEvent::Added(stored) | WatchEvent::Modified(stored)) = event else { return };
        let namespace = stored.value();
        if !object::is_deleting(&namespace) {
            ensure(&client, object::name(&namespace), &authority_pem);
        }
    })
    .await;
}

pub(crate) fn ensure(client: &Client, namespace: &str, authority_pem: &str) {
    for (gr, manifest) in [
        (
            Gr::core("serviceaccounts"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}),
        ),
        (
            Gr::core("configmaps"),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
                "data": {"ca.crt": authority_pem},
            }),
        ),
    ] {
        if let Err(status) = client.create(gr, &manifest)
            && status.reason != "AlreadyExists"
        {
            tracing::debug!(namespace, %status, "cannot create what a namespace is born with");
        }
    }
}
