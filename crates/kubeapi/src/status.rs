//! `Status`: how a Kubernetes API says no.

use serde_json::{Value, json};

/// A failed request: the HTTP code and the `metav1.Status` body that explains it.
///
/// Reasons and messages follow k8s.io/apimachinery `pkg/api/errors`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty means none.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// The `details` object, or null.
    pub details: Value,
}

impl Status {
    /// A status with its standard reason and no details.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, reason: reason(code).to_owned(), message: message.into(), details: Value::Null }
    }

    /// The same with another reason.
    pub fn with_reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// The same with details.
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// `pods "x" not found`; `resource` is `pods` or `deployments.apps`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(404, format!("{} \"{name}\" not found", qualified(group, resource)))
            .with_details(details(group, resource, name))
    }

    /// `pods "x" already exists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(409, format!("{} \"{name}\" already exists", qualified(group, resource)))
            .with_reason("AlreadyExists")
            .with_details(details(group, resource, name))
    }

    /// An update that started from an old version.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::new(409, format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource)))
            .with_reason("Conflict")
            .with_details(details(group, resource, name))
    }

    /// The path or resource does not exist at all.
    pub fn no_such_resource() -> Self {
        Self::new(404, "the server could not find the requested resource").with_details(json!({}))
    }

    /// The body or a parameter cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// The object is well-formed but wrong. `causes` are (field, reason, message).
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[(String, &'static str, String)]) -> Self {
        let texts: Vec<String> = causes.iter().map(|(field, _, message)| format!("{field}: {message}")).collect();
        let listed = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let causes: Vec<Value> =
            causes.iter().map(|(field, reason, message)| json!({"field": field, "reason": reason, "message": message})).collect();
        let mut details = json!({"causes": causes});
        for (field, text) in [("name", name), ("kind", kind)] {
            if !text.is_empty() {
                details[field] = text.into();
            }
        }
        if !group.is_empty() {
            details["group"] = group.into();
        }
        Self::new(422, format!("{qualified} \"{name}\" is invalid: {listed}")).with_details(details)
    }

    /// The JSON body, `kind: Status`.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.as_str().into();
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(group: &str, resource: &str, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details
}

/// The reason that goes with a code where nothing more special is known (apimachinery `metav1.StatusReason*`).
fn reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}
