//! Events: what a person sees in `kubectl describe`.

use apiserver::{Client, Gr};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Records that something happened to an object. Failing to record is not worth failing for.
pub fn record(client: &Client, object: &Value, component: &str, kind: &str, reason: &str, message: &str) {
    let namespace = match kubeapi::object::namespace(object) {
        "" => "default",
        namespace => namespace,
    };
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}.", kubeapi::object::name(object)), "namespace": namespace},
        "involvedObject": {
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "namespace": object["metadata"]["namespace"], "name": object["metadata"]["name"],
            "uid": object["metadata"]["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    if let Err(status) = client.create(Gr::core("events"), &event) {
        tracing::debug!(%status, reason, "cannot record an event");
    }
}
