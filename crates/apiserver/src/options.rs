//! The query parameters of requests, checked as `ValidateCreateOptions`, `ValidateListOptions` and their like do
//! (apimachinery `pkg/apis/meta/v1/validation`).

use kubeapi::{Query, Status};
use serde_json::Value;

use crate::core::Call;

type Causes = Vec<(String, &'static str, String)>;

/// The longest name of a field manager, in bytes (`FieldManagerMaxLength`).
const FIELD_MANAGER_LENGTH: usize = 128;

fn refused(kind: &str, causes: &Causes) -> Result<(), Status> {
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", causes)) }
}

fn cause(field: &str, reason: &'static str, message: impl Into<String>) -> (String, &'static str, String) {
    (field.to_owned(), reason, message.into())
}

fn unsupported(field: &str, value: &str, supported: &str) -> (String, &'static str, String) {
    cause(field, "FieldValueNotSupported", format!("Unsupported value: {value}: supported values: {supported}"))
}

/// Whether nothing is to be stored.
pub(crate) fn is_dry_run(query: &Query) -> bool {
    query.get("dryRun") == Some("All")
}

/// The options of a create, update or patch; `kind` is that of the options.
///
/// # Errors
/// 422 with a cause for each option that is wrong.
pub(crate) fn check_write(query: &Query, kind: &str, is_apply: bool) -> Result<(), Status> {
    let mut causes = Causes::new();
    check_dry_run(query, &mut causes);
    let manager = query.get("fieldManager").unwrap_or_default();
    if is_apply && manager.is_empty() {
        causes.push(cause("fieldManager", "FieldValueRequired", "Required value: is required for apply patch"));
    }
    if !is_apply && query.get("force").is_some_and(|force| force == "true" || force == "1") && kind == "PatchOptions" {
        causes.push(cause("force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch"));
    }
    if manager.len() > FIELD_MANAGER_LENGTH {
        let message = format!("Too long: may not be more than {FIELD_MANAGER_LENGTH} bytes");
        causes.push(cause("fieldManager", "FieldValueTooLong", message));
    }
    if let Some(index) = manager.chars().position(char::is_control) {
        let message = format!("Invalid value: {manager:?}: should only contain printable characters: position {index}");
        causes.push(cause("fieldManager", "FieldValueInvalid", message));
    }
    if let Some(value) = query.get("fieldValidation").filter(|value| !matches!(*value, "" | "Ignore" | "Warn" | "Strict")) {
        causes.push(unsupported("fieldValidation", &format!("{value:?}"), "\"\", \"Ignore\", \"Strict\", \"Warn\""));
    }
    refused(kind, &causes)
}

fn check_dry_run(query: &Query, causes: &mut Causes) {
    if let Some(value) = query.get("dryRun").filter(|value| *value != "All") {
        causes.push(unsupported("dryRun", &Value::from(vec![value]).to_string(), "\"All\""));
    }
}

/// The options of a delete, from its body and its query.
///
/// # Errors
/// 422 with a cause for each option that is wrong.
pub(crate) fn check_delete(query: &Query, options: &Value) -> Result<(), Status> {
    let mut causes = Causes::new();
    check_dry_run(query, &mut causes);
    for value in options["dryRun"].as_array().into_iter().flatten().filter(|value| *value != "All") {
        causes.push(unsupported("dryRun", &Value::from(vec![value.clone()]).to_string(), "\"All\""));
    }
    let policy = options["propagationPolicy"].as_str().or_else(|| query.get("propagationPolicy"));
    if policy.is_some() && !options["orphanDependents"].is_null() {
        causes.push(cause(
            "propagationPolicy",
            "FieldValueInvalid",
            format!(
                "Invalid value: {:?}: orphanDependents and deletionPropagation cannot be both set",
                policy.unwrap_or_default()
            ),
        ));
    }
    if let Some(policy) = policy.filter(|policy| !matches!(*policy, "Foreground" | "Background" | "Orphan")) {
        causes.push(unsupported(
            "propagationPolicy",
            &format!("{policy:?}"),
            "\"Background\", \"Foreground\", \"Orphan\", \"nil\"",
        ));
    }
    refused("DeleteOptions", &causes)
}

/// The options of a list or watch.
///
/// # Errors
/// 422 with a cause for each option that is wrong.
pub(crate) fn check_list(query: &Query, is_watch: bool) -> Result<(), Status> {
    let mut causes = Causes::new();
    let version = query.get("resourceVersion").unwrap_or_default();
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let continues = query.get("continue").is_some_and(|token| !token.is_empty());
    let initial = query.get("sendInitialEvents");
    let field = "resourceVersionMatch";
    if is_watch {
        if let Some(initial) = initial {
            if matching != "NotOlderThan" {
                let message = format!(
                    "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan (sendInitialEvents={initial})"
                );
                causes.push(cause(field, "FieldValueForbidden", message.split(" (").next().unwrap_or_default()));
            }
        } else if !matching.is_empty() {
            let message = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(cause(field, "FieldValueForbidden", message));
        }
        return refused("ListOptions", &causes);
    }
    if initial.is_some() {
        causes.push(cause("sendInitialEvents", "FieldValueForbidden", "Forbidden: sendInitialEvents is forbidden for list"));
    }
    if !matching.is_empty() {
        if version.is_empty() {
            let message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
            causes.push(cause(field, "FieldValueForbidden", message));
        }
        if continues {
            let message = "Forbidden: resourceVersionMatch is forbidden when continue is provided";
            causes.push(cause(field, "FieldValueForbidden", message));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.push(unsupported(field, &format!("{matching:?}"), "\"Exact\", \"NotOlderThan\", \"\""));
        } else if matching == "Exact" && version == "0" {
            let message = "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(cause(field, "FieldValueForbidden", message));
        }
    }
    refused("ListOptions", &causes)
}

/// Who a write belongs to in `managedFields`: the `fieldManager` parameter, or the program's name in `User-Agent`.
pub(crate) fn manager<'a>(call: &'a Call<'_>) -> &'a str {
    if let Some(manager) = call.info.query.get("fieldManager").filter(|manager| !manager.is_empty()) {
        return manager;
    }
    let name = call.user_agent.split('/').next().unwrap_or_default();
    let mut end = name.len().min(FIELD_MANAGER_LENGTH);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { "unknown" } else { &name[..end] }
}
