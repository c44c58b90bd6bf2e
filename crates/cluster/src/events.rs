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

/// Something that a controller has to say about an object, on behalf of another one.
pub struct Report<'a> {
    /// What it is about.
    pub regarding: &'a Value,
    /// On whose behalf.
    pub related: &'a Value,
    /// Who says it.
    pub controller: &'a str,
    /// What it was doing.
    pub action: &'a str,
    /// A word for programs.
    pub reason: &'a str,
    /// A sentence for people.
    pub note: &'a str,
}

fn reference(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "namespace": metadata["namespace"], "name": metadata["name"],
        "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
    })
}

/// Records a warning as clients of `events.k8s.io` do: with an action and a related object. Failing to record is not worth failing for.
pub fn report(client: &Client, report: &Report<'_>) {
    let namespace = match kubeapi::object::namespace(report.regarding) {
        "" => "default",
        namespace => namespace,
    };
    let now = Timestamp::now();
    let seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{}.", kubeapi::object::name(report.regarding)), "namespace": namespace},
        "involvedObject": reference(report.regarding),
        "related": reference(report.related),
        "type": "Warning",
        "reason": report.reason,
        "action": report.action,
        "message": report.note,
        // `kubectl describe` shows this one.
        "source": {"component": report.controller},
        "reportingComponent": report.controller,
        "reportingInstance": format!("{}-lab", report.controller),
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "count": 1,
    });
    if let Err(status) = client.create(Gr::core("events"), &event) {
        tracing::debug!(%status, report.reason, "cannot record an event");
    }
}
