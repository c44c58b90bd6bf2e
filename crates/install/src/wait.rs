//! Waiting for states of a cluster. What is missing is said in the words in which a person would look for it.

use kubeapi::object;
use serde_json::Value;

use crate::api::{Api, ApiError};
use crate::plan::Wait;

/// Workloads of a namespace: the plural, and how their status tells how many are wanted and ready.
const WORKLOADS: [(&str, &str, &str); 3] = [
    ("deployments", "/spec/replicas", "/status/readyReplicas"),
    ("statefulsets", "/spec/replicas", "/status/readyReplicas"),
    ("daemonsets", "/status/desiredNumberScheduled", "/status/numberReady"),
];

/// What is still missing; nothing when the state is reached.
///
/// # Errors
/// When the server does not answer or refuses.
pub async fn missing(api: &Api, wait: &Wait) -> Result<Vec<String>, ApiError> {
    match wait {
        Wait::Established(names) => established(api, names).await,
        Wait::Workloads { namespace, expected } => workloads(api, namespace, expected).await,
        Wait::Condition { of, condition } => condition_of(api, of, condition).await,
        Wait::Exists { of, .. } => Ok(match api.find(of).await? {
            Some(_) => Vec::new(),
            None => vec![format!("{} {} does not exist", object::kind(of), object::key(of))],
        }),
    }
}

async fn established(api: &Api, names: &[String]) -> Result<Vec<String>, ApiError> {
    let mut missing = Vec::new();
    for name in names {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        let found = api.get(&path).await?;
        if found.as_ref().is_none_or(|found| object::condition(found, "Established") != Some("True")) {
            let why = found.as_ref().and_then(refused_names).map_or_else(String::new, |why| format!(": {why}"));
            missing.push(format!("definition {name} is not established{why}"));
        }
    }
    Ok(missing)
}

/// Why a definition's names were not accepted.
fn refused_names(definition: &Value) -> Option<String> {
    let conditions = definition["status"]["conditions"].as_array()?;
    let refused = conditions.iter().find(|condition| condition["type"] == "NamesAccepted" && condition["status"] == "False")?;
    refused["message"].as_str().map(str::to_owned)
}

async fn workloads(api: &Api, namespace: &str, expected: &[String]) -> Result<Vec<String>, ApiError> {
    let mut missing = Vec::new();
    let mut seen = Vec::new();
    for (plural, wanted, ready) in WORKLOADS {
        for found in api.list(&format!("/apis/apps/v1/namespaces/{namespace}/{plural}")).await? {
            let name = format!("{plural}/{}", object::name(&found));
            let number = |pointer: &str| found.pointer(pointer).and_then(Value::as_i64);
            let seen_generation =
                number("/status/observedGeneration").unwrap_or(0) >= number("/metadata/generation").unwrap_or(0);
            let (wanted, ready) = (number(wanted), number(ready).unwrap_or(0));
            match wanted {
                Some(wanted) if seen_generation && ready >= wanted => {}
                _ => missing.push(format!("{namespace}/{name}: {ready} of {} ready", wanted.unwrap_or(1))),
            }
            seen.push(name);
        }
    }
    for name in expected.iter().filter(|name| !seen.contains(name)) {
        missing.push(format!("{namespace}/{name} does not exist"));
    }
    Ok(missing)
}

async fn condition_of(api: &Api, of: &Value, condition: &str) -> Result<Vec<String>, ApiError> {
    let told = format!("{} {}", object::kind(of), object::key(of));
    let Some(found) = api.find(of).await? else { return Ok(vec![format!("{told} does not exist")]) };
    if object::condition(&found, condition) == Some("True") {
        return Ok(Vec::new());
    }
    let conditions = found["status"]["conditions"].as_array().into_iter().flatten();
    let why = conditions
        .filter(|other| other["status"] == "True" || other["type"] == condition)
        .filter_map(|other| other["message"].as_str().filter(|message| !message.is_empty()))
        .next();
    let phase = found["status"]["phase"].as_str().filter(|phase| !phase.is_empty());
    let why = why.or(phase).map_or_else(String::new, |why| format!(" ({why})"));
    Ok(vec![format!("{told} is not {condition}{why}")])
}
