//! Which pod has which address, for faults on connections: no request has said yet who the client is.
//!
//! Pods of one namespace are listed and then watched, with the proxy's own ServiceAccount. A connection that comes before the API knows its
//! pod's address is nobody's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use faults::{NetworkUpstream, PodDirectory, PodIdentity, Upstream};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use wire::Body;

/// The pause after a list or watch that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The largest list that is read, in bytes.
const MAX_LIST: usize = 64 * 1024 * 1024;

/// The pods of a namespace by their addresses.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<RwLock<HashMap<IpAddr, PodIdentity>>>);

impl PodDirectory for Pods {
    fn find(&self, address: IpAddr) -> Option<PodIdentity> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }
}

/// A pod with an address of its own.
fn entry(pod: &Value) -> Option<(IpAddr, PodIdentity)> {
    // On the host's network many pods have one address.
    if pod["spec"]["hostNetwork"] == true || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
    let service_account = match text(&pod["spec"]["serviceAccountName"]) {
        name if name.is_empty() => "default".to_owned(),
        name => name,
    };
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    Some((address, PodIdentity { namespace, name, service_account }))
}

impl Pods {
    fn replace(&self, all: &[Value]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all.iter().filter_map(entry).collect();
    }

    /// Takes an event of a watch in; whether the watch goes on.
    fn take(&self, event: &Value) -> bool {
        let pod = &event["object"];
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => {
                known.retain(|_, pod| pod.name != name);
                known.extend(entry(pod));
            }
            Some("DELETED") => known.retain(|_, pod| pod.name != name),
            Some("BOOKMARK") => {}
            _ => return false,
        }
        true
    }
}

/// Keeps the directory of a namespace current, for ever.
pub(crate) async fn follow(pods: Pods, upstream: NetworkUpstream, namespace: String, token_file: PathBuf) {
    let mut told = String::new();
    loop {
        if let Err(error) = once(&pods, &upstream, &namespace, &token_file).await {
            let error = format!("{error:#}");
            if told != error {
                tracing::warn!("the pods of {namespace} are not known: {error}");
                told = error;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn once(pods: &Pods, upstream: &NetworkUpstream, namespace: &str, token_file: &PathBuf) -> Result<()> {
    // Read each time: tokens of pods are replaced while they run.
    let token = std::fs::read_to_string(token_file).with_context(|| format!("cannot read {}", token_file.display()))?;
    let ask = async |query: String| -> Result<Body> {
        let request = Request::get(format!("/api/v1/namespaces/{namespace}/pods{query}"))
            .header("authorization", format!("Bearer {}", token.trim()))
            .header("accept", "application/json")
            .header("user-agent", "lab-fault-proxy")
            .body(wire::empty())?;
        let response = upstream.call(request).await.map_err(|_| anyhow::anyhow!("the API server does not answer"))?;
        ensure!(response.status() == 200, "the API server answers {}", response.status());
        Ok(response.into_body())
    };
    let list = wire::collect(ask(String::new()).await?, MAX_LIST).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let list: Value = serde_json::from_slice(&list)?;
    pods.replace(list["items"].as_array().map_or(&[][..], Vec::as_slice));
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
    let mut body = ask(format!("?watch=true&allowWatchBookmarks=true&resourceVersion={version}")).await?;
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| anyhow::anyhow!("{error}"))?.into_data() else { continue };
        pending.extend_from_slice(&data);
        ensure!(pending.len() < MAX_LIST, "an event of a watch is too long");
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if !pods.take(&serde_json::from_slice(&line)?) {
                bail!("the watch has ended with an error");
            }
        }
    }
    // The server ends watches from time to time.
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_follow_their_pods() {
        let pods = Pods::default();
        let pod = |name: &str, address: Value| json!({"metadata": {"namespace": "n", "name": name}, "spec": {"serviceAccountName": "a"}, "status": {"podIP": address}});
        let of = |address: [u8; 4]| pods.find(address.into()).map(|pod| pod.name);
        pods.replace(&[pod("one", json!("10.0.0.1")), pod("waits", Value::Null)]);
        assert_eq!(of([10, 0, 0, 1]).as_deref(), Some("one"));
        let event = |kind: &str, object: Value| json!({"type": kind, "object": object});
        assert!(pods.take(&event("MODIFIED", pod("waits", json!("10.0.0.2")))));
        assert_eq!(of([10, 0, 0, 2]).as_deref(), Some("waits"));
        // An address goes from one pod to the next.
        assert!(pods.take(&event("DELETED", pod("one", json!("10.0.0.1")))));
        assert!(pods.take(&event("ADDED", pod("two", json!("10.0.0.1")))));
        assert_eq!(of([10, 0, 0, 1]).as_deref(), Some("two"));
        let mut host = pod("host", json!("10.0.0.9"));
        host["spec"]["hostNetwork"] = true.into();
        assert!(pods.take(&event("ADDED", host)));
        assert_eq!(of([10, 0, 0, 9]), None);
        assert!(!pods.take(&event("ERROR", json!({"code": 410}))));
    }
}
