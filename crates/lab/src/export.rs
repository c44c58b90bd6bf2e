//! What somebody else needs to see what happened: objects, logs, events in their order, and what Prometheus knows, in a folder.
//!
//! Everything is asked of the cluster's API. What is in Secrets is left out, and so is nothing else that is asked for: what could not be
//! read is named in `missing.txt`.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use install::Api;
use kubeapi::object;
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// The most lines of a container's log.
const LINES: u32 = 20_000;
/// Kinds that say nothing or repeat others.
const UNTOLD: [&str; 4] = ["Event", "Lease", "EndpointSlice", "ControllerRevision"];

/// A folder that is filled.
pub(crate) struct Export {
    folder: PathBuf,
    missing: Vec<String>,
    files: usize,
}

impl Export {
    /// A new folder, or one that is empty.
    ///
    /// # Errors
    /// When it holds something, or cannot be made.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let holds = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if holds || folder.is_file() {
            bail!(
                Failure::new(Exit::Usage, format!("{} is there already, and not empty", folder.display()))
                    .hint("name a new folder")
            );
        }
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::new(Exit::EnvironmentMissing, format!("cannot make {}: {error}", folder.display())))?;
        Ok(Self { folder: folder.to_owned(), missing: Vec::new(), files: 0 })
    }

    /// Writes a file; parts of its path come from the cluster, so they are checked.
    pub(crate) fn write(&mut self, path: &str, text: &str) -> Result<()> {
        let relative = Path::new(path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            self.missing.push(format!("{path}: no name for a file"));
            return Ok(());
        }
        let file = self.folder.join(relative);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.files += 1;
        Ok(())
    }

    /// Writes a value as JSON.
    pub(crate) fn json(&mut self, path: &str, value: &impl Serialize) -> Result<()> {
        self.write(path, &format!("{}\n", serde_json::to_string_pretty(value)?))
    }

    /// Notes what could not be read.
    pub(crate) fn lacks(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.missing.push(format!("{what}: {why}"));
    }

    /// Objects, events and logs of namespaces.
    pub(crate) async fn cluster(&mut self, api: &Api, namespaces: &[&str]) -> Result<()> {
        let kinds = api
            .all_kinds()
            .await
            .map_err(|error| Failure::new(Exit::LabFailed, format!("the cluster does not answer: {error}")))?;
        for kind in kinds.iter().filter(|kind| kind.namespaced && !UNTOLD.contains(&kind.kind.as_str())) {
            for namespace in namespaces {
                match api.list(&kind.collection(namespace)).await {
                    Ok(objects) => {
                        for found in objects {
                            let path = format!("objects/{namespace}/{}/{}.yaml", kind.plural, object::name(&found));
                            let text =
                                wire::yaml::to_string(&without_secrets(found)).map_err(|error| anyhow::anyhow!("{error}"))?;
                            self.write(&path, &text)?;
                        }
                    }
                    Err(error) => self.lacks(&kind.collection(namespace), &error),
                }
            }
        }
        let mut events = Vec::new();
        for namespace in namespaces {
            events.extend(api.list(&format!("/api/v1/namespaces/{namespace}/events")).await.unwrap_or_default());
            for pod in api.list(&format!("/api/v1/namespaces/{namespace}/pods")).await.unwrap_or_default() {
                self.logs(api, namespace, &pod).await?;
            }
        }
        self.write("timeline.txt", &timeline(&events))
    }

    async fn logs(&mut self, api: &Api, namespace: &str, pod: &Value) -> Result<()> {
        let containers = |field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
        for container in containers("initContainers").iter().chain(&containers("containers")) {
            let container = container["name"].as_str().unwrap_or_default();
            let text = api.log_tail(namespace, object::name(pod), container, LINES).await;
            if !text.is_empty() {
                self.write(&format!("logs/{namespace}/{}/{container}.log", object::name(pod)), &text)?;
            }
        }
        Ok(())
    }

    /// What Prometheus knows of its targets, rules and alerts, and the series of KubeVirt.
    pub(crate) async fn prometheus(&mut self, client: &metrics::Client) -> Result<()> {
        let kubevirt = "{service=\"kubevirt-prometheus-metrics\"}";
        for (name, path) in
            [("targets", "targets"), ("rules", "rules"), ("alerts", "alerts"), ("config", "status/config"), ("series", "series")]
        {
            let query = [("match[]", kubevirt)];
            let query = if name == "series" { &query[..] } else { &[] };
            match client.get(path, query).await {
                Ok(data) => self.json(&format!("prometheus/{name}.json"), &data)?,
                Err(error) => self.lacks(&format!("prometheus/{name}"), &error),
            }
        }
        Ok(())
    }

    /// Writes what is missing; how many files there are.
    pub(crate) fn end(mut self) -> Result<usize> {
        if !self.missing.is_empty() {
            let text = format!("{}\n", self.missing.join("\n"));
            self.write("missing.txt", &text)?;
        }
        Ok(self.files)
    }
}

/// An object without what only its owner may know, and without what nobody reads.
fn without_secrets(mut found: Value) -> Value {
    if let Some(metadata) = found["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if object::kind(&found) == "Secret" {
        for field in ["data", "stringData"] {
            for value in found[field].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
                *value = json!("left out");
            }
        }
        if let Some(annotations) = found["metadata"]["annotations"].as_object_mut() {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    found
}

/// Events, the oldest first, one a line.
fn timeline(events: &[Value]) -> String {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let when = |event: &Value| {
        let times = ["lastTimestamp", "eventTime", "firstTimestamp"].map(|field| text(&event[field]));
        times.into_iter().find(|time| !time.is_empty()).unwrap_or_default()
    };
    let mut lines: Vec<String> = events
        .iter()
        .map(|event| {
            let about = &event["involvedObject"];
            format!(
                "{} {} {}/{} {}: {}",
                when(event),
                text(&event["type"]),
                text(&about["kind"]).to_lowercase(),
                text(&about["name"]),
                text(&event["reason"]),
                text(&event["message"]).replace('\n', " ")
            )
        })
        .collect();
    lines.sort();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_secret() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "s", "managedFields": [], "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"key\":\"aGVsbG8=\"}}", "a": "b"}},
            "data": {"key": "aGVsbG8="}, "stringData": {"other": "hello"}});
        let shown = without_secrets(secret).to_string();
        assert!(!shown.contains("aGVsbG8") && !shown.contains("hello") && shown.contains("\"key\":\"left out\""), "{shown}");
    }

    #[test]
    fn a_folder_is_filled_and_never_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut export = Export::new(&folder.path().join("out")).unwrap();
        export.write("a/b.txt", "x").unwrap();
        export.write("../escaped", "x").unwrap();
        assert_eq!(export.end().unwrap(), 2);
        assert!(!folder.path().join("escaped").exists());
        assert_eq!(std::fs::read_to_string(folder.path().join("out/missing.txt")).unwrap(), "../escaped: no name for a file\n");
        assert!(Export::new(&folder.path().join("out")).is_err(), "it holds something");
    }

    #[test]
    fn events_are_a_timeline() {
        let event = |at: &str, reason: &str| {
            json!({"type": "Normal", "reason": reason, "message": "m", "lastTimestamp": at,
            "involvedObject": {"kind": "Pod", "name": "p"}})
        };
        assert_eq!(timeline(&[event("2", "B"), event("1", "A")]), "1 Normal pod/p A: m\n2 Normal pod/p B: m\n");
    }
}
