//! Why pods are not ready, from what the cluster tells: states of containers, events, last lines of logs.

use std::collections::BTreeSet;

use kubeapi::object;
use serde_json::Value;

use crate::api::Api;

/// How many pods are told of, and how many lines of a log.
const PODS: usize = 5;
const LINES: u32 = 5;

/// Lines about each pod of some namespaces that is not ready.
pub(crate) async fn unready(api: &Api, namespaces: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for namespace in namespaces {
        let pods = api.list(&format!("/api/v1/namespaces/{namespace}/pods")).await.unwrap_or_default();
        let events = api.list(&format!("/api/v1/namespaces/{namespace}/events")).await.unwrap_or_default();
        let waiting = pods.iter().filter(|pod| is_unready(pod) && !object::is_deleting(pod));
        for pod in waiting.take(PODS) {
            lines.push(format!("pod {}: {}", object::key(pod), state(pod)));
            if let Some(event) = last_warning(&events, pod) {
                lines.push(format!("    event {event}"));
            }
            if let Some(container) = crashed(pod) {
                let log = api.log_tail(namespace, object::name(pod), container, LINES).await;
                lines.extend(log.lines().map(|line| format!("    log of {container}: {line}")));
            }
        }
    }
    lines
}

/// Whether a pod is to become ready yet: one that has done its work is not.
fn is_unready(pod: &Value) -> bool {
    object::condition(pod, "Ready") != Some("True") && pod["status"]["phase"] != "Succeeded"
}

/// Images that pods of some namespaces wait for, and that could not be pulled.
pub(crate) async fn not_pulled(api: &Api, namespaces: &[&str]) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for namespace in namespaces {
        for pod in api.list(&format!("/api/v1/namespaces/{namespace}/pods")).await.unwrap_or_default() {
            images.extend(images_not_pulled(&pod));
        }
    }
    images
}

/// The images of a pod that could not be pulled.
fn images_not_pulled(pod: &Value) -> Vec<String> {
    let failed = statuses(pod).filter(|status| {
        let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"].contains(&reason)
    });
    let of = |field: &str| pod["spec"][field].as_array().into_iter().flatten();
    let containers: Vec<&Value> = of("initContainers").chain(of("containers")).collect();
    let image = |status: &Value| containers.iter().find(|container| container["name"] == status["name"])?["image"].as_str();
    failed.filter_map(image).map(str::to_owned).collect()
}

/// Whose pods are waited for: the namespace and the beginning of their names, from what is missing in the words of [`crate::wait`]. The
/// KubeVirt object waits for every pod of its namespace.
fn waited_for(missing: &str) -> Option<(&str, String)> {
    if let Some(rest) = missing.strip_prefix("KubeVirt ") {
        return Some((rest.split_once('/')?.0, String::new()));
    }
    let (namespace, rest) = missing.split_once('/')?;
    let (_plural, name) = rest.split_once(':')?.0.split_once('/')?;
    Some((namespace, format!("{name}-")))
}

/// What happened last to what is waited for: the state of the first of its pods that is not ready, with its last warning.
pub(crate) async fn latest(api: &Api, missing: &str) -> Option<String> {
    let (namespace, prefix) = waited_for(missing)?;
    let pods = api.list(&format!("/api/v1/namespaces/{namespace}/pods")).await.ok()?;
    let pod = pods.iter().find(|pod| object::name(pod).starts_with(&prefix) && is_unready(pod))?;
    let events = api.list(&format!("/api/v1/namespaces/{namespace}/events")).await.unwrap_or_default();
    let warning = last_warning(&events, pod).map_or_else(String::new, |warning| format!("; {warning}"));
    let line = format!("pod {}: {}{warning}", object::name(pod), state(pod));
    Some(line.lines().next()?.chars().take(160).collect())
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |field: &str| pod["status"][field].as_array().into_iter().flatten();
    of("initContainerStatuses").chain(of("containerStatuses"))
}

/// What keeps a pod from being ready, in the words of its status.
fn state(pod: &Value) -> String {
    for status in statuses(pod) {
        let name = status["name"].as_str().unwrap_or_default();
        let state = &status["state"];
        if let Some(reason) = state["waiting"]["reason"].as_str() {
            let message = state["waiting"]["message"].as_str().map_or_else(String::new, |message| format!(": {message}"));
            if !matches!(reason, "PodInitializing" | "ContainerCreating") {
                return format!("container {name} {reason}{message}");
            }
        }
        if let Some(code) = state["terminated"]["exitCode"].as_i64().filter(|code| *code != 0) {
            return format!("container {name} ended with {code}");
        }
    }
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let unscheduled = conditions.filter(|found| found["type"] == "PodScheduled" && found["status"] == "False");
    if let Some(message) = unscheduled.filter_map(|found| found["message"].as_str()).next() {
        return format!("not scheduled: {message}");
    }
    let waiting = statuses(pod).find_map(|status| status["state"]["waiting"]["reason"].as_str());
    let unready = statuses(pod).find(|status| status["ready"] == false && status["state"]["running"].is_object());
    match (waiting, unready) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(status)) => format!("container {} runs and is not ready", status["name"].as_str().unwrap_or_default()),
        (None, None) => pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned(),
    }
}

/// A container whose log may tell why it ended.
fn crashed(pod: &Value) -> Option<&str> {
    statuses(pod)
        .find(|status| {
            status["restartCount"].as_i64().unwrap_or(0) > 0
                || status["state"]["terminated"]["exitCode"].as_i64().unwrap_or(0) != 0
        })
        .and_then(|status| status["name"].as_str())
}

fn last_warning(events: &[Value], pod: &Value) -> Option<String> {
    let about = events.iter().filter(|event| {
        event["type"] == "Warning"
            && event["involvedObject"]["kind"] == "Pod"
            && event["involvedObject"]["name"] == object::name(pod)
    });
    let last = about
        .max_by_key(|event| event["lastTimestamp"].as_str().or(event["eventTime"].as_str()).unwrap_or_default().to_owned())?;
    Some(format!("{}: {}", last["reason"].as_str().unwrap_or_default(), last["message"].as_str().unwrap_or_default().trim()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_says_why_it_waits() {
        for (status, wanted) in [
            (
                json!({"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff",
                    "message": "Back-off pulling image \"x/y\""}}}]}),
                "container a ImagePullBackOff: Back-off pulling image \"x/y\"",
            ),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}),
                "not scheduled: 0/1 nodes are available",
            ),
            (
                json!({"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}]}),
                "container i ended with 3",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                "ContainerCreating",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": false, "state": {"running": {}}}]}),
                "container a runs and is not ready",
            ),
            (json!({}), "Pending"),
        ] {
            assert_eq!(state(&json!({"status": status})), wanted);
        }
    }

    #[test]
    fn whose_pods_are_waited_for() {
        for (missing, wanted) in [
            ("monitoring/deployments/grafana: 0 of 1 ready", Some(("monitoring", "grafana-"))),
            ("KubeVirt kubevirt/kubevirt is not Available (Deploying)", Some(("kubevirt", ""))),
            ("definition prometheuses.monitoring.coreos.com is not established", None),
        ] {
            assert_eq!(waited_for(missing), wanted.map(|(namespace, prefix)| (namespace, prefix.to_owned())), "{missing}");
        }
    }

    #[test]
    fn images_that_were_not_pulled_are_named() {
        let pod = |reason: &str| {
            json!({"spec": {"containers": [{"name": "a", "image": "r/a:1"}, {"name": "b", "image": "r/b:1"}]},
                "status": {"containerStatuses": [{"name": "b", "state": {"waiting": {"reason": reason}}}]}})
        };
        for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"] {
            assert_eq!(images_not_pulled(&pod(reason)), ["r/b:1"]);
        }
        assert!(images_not_pulled(&pod("CrashLoopBackOff")).is_empty());
    }

    #[test]
    fn the_last_warning_about_a_pod_is_told() {
        let pod = json!({"metadata": {"name": "p"}});
        let event = |name: &str, at: &str, kind: &str| {
            json!({"type": kind, "reason": "Failed", "message": at, "lastTimestamp": at,
            "involvedObject": {"kind": "Pod", "name": name}})
        };
        let events =
            [event("p", "1", "Warning"), event("p", "3", "Normal"), event("p", "2", "Warning"), event("q", "4", "Warning")];
        assert_eq!(last_warning(&events, &pod).as_deref(), Some("Failed: 2"));
    }
}
