//! What ScrapeConfigs ask of Kubernetes.

use kubeapi::{FieldSelector, LabelSelector};
use serde_json::{Value, json};

use crate::config::Config;
use crate::scrape::Scope;

/// The roles, and those whose objects a selector of theirs may select.
const SELECTORS: [(&str, &[&str]); 6] = [
    ("pod", &["pod"]),
    ("service", &["service"]),
    ("endpointslice", &["pod", "service", "endpointslice"]),
    ("endpoints", &["pod", "service", "endpoints"]),
    ("node", &["node"]),
    ("ingress", &["ingress"]),
];

fn role(value: &Value) -> String {
    value["role"].as_str().unwrap_or_default().to_lowercase()
}

fn selectors(from: &Value) -> impl Iterator<Item = &Value> {
    from["selectors"].as_array().into_iter().flatten()
}

pub(super) fn check(_: Scope<'_>, from: &Value, index: usize) -> Result<(), String> {
    if from["apiServer"].is_string() && from["namespaces"]["ownNamespace"] == true {
        return Err(format!("[{index}]: cannot use 'apiServer' and 'namespaces.ownNamespace' simultaneously"));
    }
    for selector in selectors(from) {
        let named = from["role"].as_str().unwrap_or_default();
        let known = SELECTORS.iter().find(|(known, _)| *known == role(from));
        let Some((_, allowed)) = known else {
            return Err(format!(
                "[{index}]: invalid role: {:?}, expecting one of: pod, service, endpoints, endpointslice, node or ingress",
                selector["role"].as_str().unwrap_or_default()
            ));
        };
        if !allowed.contains(&role(selector).as_str()) {
            return Err(format!("[{index}] : {named} role supports only {} selectors", allowed.join(", ")));
        }
    }
    for selector in selectors(from) {
        if let Some(field) = selector["field"].as_str() {
            FieldSelector::parse(field).map_err(|error| format!("[{index}]: {error}"))?;
        }
        if let Some(label) = selector["label"].as_str() {
            LabelSelector::parse(label).map_err(|error| format!("[{index}]: {error}"))?;
        }
    }
    Ok(())
}

pub(super) fn finish(scope: Scope<'_>, from: &Value, config: &mut Config) {
    let namespaces = &from["namespaces"];
    if namespaces.is_object() {
        let mut out = config.section();
        out.set("names", if namespaces["names"].is_array() { namespaces["names"].clone() } else { json!([]) });
        out.copy(namespaces, &[("ownNamespace", "own_namespace")]);
        config.set("namespaces", out.finish());
    }
    let made: Vec<Value> = selectors(from)
        .map(|selector| {
            let mut out = config.section();
            out.set("role", role(selector));
            out.copy(selector, &[("label", "label"), ("field", "field")]);
            out.finish()
        })
        .collect();
    if !made.is_empty() {
        config.set("selectors", made);
    }
    let attached = &from["attachMetadata"];
    let since = match role(from).as_str() {
        "pod" => (2, 35),
        "endpoints" | "endpointslice" => (2, 37),
        _ => return,
    };
    if attached.is_object() && scope.version.at_least(since.0, since.1) {
        config.set("attach_metadata", json!({"node": attached["node"]}));
    }
}
