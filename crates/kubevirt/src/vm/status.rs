//! What controller and handler write of a VMI: its phase with the time of each, conditions, and the request that does it.

use http::Method;
use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};

use super::queue::Outcome;
use crate::client::{Client, Failure};
use crate::log::Log;

/// A time as the API writes it, to the second.
pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Seconds since 1970.
pub(crate) fn seconds_now() -> f64 {
    Timestamp::now().as_millisecond() as f64 / 1000.0
}

/// The phase of an object.
pub(crate) fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// Whether a VMI has ended.
pub(crate) fn is_final(vmi: &Value) -> bool {
    matches!(phase(vmi), "Succeeded" | "Failed")
}

/// The status that a new phase makes: the phase, and when it was come to.
pub(crate) fn entering(object: &Value, phase: &str) -> Value {
    let mut times = object["status"]["phaseTransitionTimestamps"].as_array().cloned().unwrap_or_default();
    times.push(json!({"phase": phase, "phaseTransitionTimestamp": now()}));
    json!({"phase": phase, "phaseTransitionTimestamps": times})
}

/// The conditions of an object with one of them set; one that stays what it was keeps its time.
pub(crate) fn condition(object: &Value, kind: &str, holds: Option<bool>) -> Value {
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    set_condition(&mut conditions, kind, holds);
    conditions.into()
}

/// Sets a condition, or takes it away.
pub(crate) fn set_condition(conditions: &mut Vec<Value>, kind: &str, holds: Option<bool>) {
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => return conditions.retain(|condition| condition["type"] != kind),
    };
    if conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status) {
        return;
    }
    conditions.retain(|condition| condition["type"] != kind);
    conditions.push(json!({"type": kind, "status": status, "lastTransitionTime": now(), "lastProbeTime": null}));
}

/// Where objects are written.
pub(crate) struct Writer {
    pub(crate) client: std::sync::Arc<Client>,
    /// `/apis/kubevirt.io/v1`.
    pub(crate) root: String,
    pub(crate) log: Log,
}

impl Writer {
    pub(crate) fn path(&self, plural: &str, object: &Value) -> String {
        format!("{}/namespaces/{}/{plural}/{}", self.root, object::namespace(object), object::name(object))
    }

    /// Patches an object that nobody has changed since it was read; what came of it.
    pub(crate) async fn patch(&self, path: &str, read: &Value, mut patch: Value) -> Outcome {
        patch["metadata"]["resourceVersion"] = read["metadata"]["resourceVersion"].clone();
        let result = self.client.request(Method::PATCH, path, "application/merge-patch+json", Some(&patch), None).await;
        self.outcome(path, result.map(|_| ()))
    }

    /// Creates an object; one that is there already is as good.
    pub(crate) async fn create(&self, collection: &str, object: &Value) -> Outcome {
        let result = self.client.request(Method::POST, collection, "application/json", Some(object), None).await;
        match result {
            Err(Failure::Status(409, _)) => Outcome::Done,
            result => self.outcome(collection, result.map(|_| ())),
        }
    }

    /// Deletes an object; one that is gone already is as good.
    pub(crate) async fn delete(&self, path: &str) -> Outcome {
        match self.client.request(Method::DELETE, path, "", None, None).await {
            Err(Failure::Status(404, _)) => Outcome::Done,
            result => self.outcome(path, result.map(|_| ())),
        }
    }

    fn outcome(&self, path: &str, result: Result<(), Failure>) -> Outcome {
        match result {
            Ok(()) => Outcome::Done,
            // Somebody was faster: the cache will tell.
            Err(Failure::Status(409 | 404, _)) => Outcome::Failed,
            Err(failure) => {
                self.log.error("vmi.go:421", &format!("reenqueuing {path}: {}", failure.message()));
                Outcome::Failed
            }
        }
    }
}
