//! What the operator writes into `status`: conditions and counts of a Prometheus or Alertmanager object, and the bindings of the objects
//! that they select.

use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use crate::objects::{alertmanager_labels, label_text, prometheus_labels};

/// A StatefulSet of a workload as it is in the cluster, with its pods.
#[derive(Clone, Debug, Default)]
pub struct Shard<'a> {
    /// `NAMESPACE/NAME` of the StatefulSet.
    pub key: String,
    /// The StatefulSet, if it is there.
    pub set: Option<&'a Value>,
    /// The pods that belong to it.
    pub pods: Vec<&'a Value>,
}

impl<'a> Shard<'a> {
    /// The StatefulSet of a key, with those of a namespace's pods that are its own.
    pub fn of(key: String, set: Option<&'a Value>, pods: impl Iterator<Item = &'a Value>) -> Self {
        let selector = set.and_then(|set| LabelSelector::from_object(&set["spec"]["selector"]).ok());
        let belongs = |pod: &&Value| {
            let (Some(set), Some(selector)) = (set, &selector) else { return false };
            let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            selector.matches(&pod["metadata"]["labels"])
                && owners.any(|owner| owner["kind"] == "StatefulSet" && owner["name"] == object::name(set))
        };
        Self { key, set, pods: pods.filter(belongs).collect() }
    }

    fn updated(&self) -> usize {
        let revision = self.set.map_or(&Value::Null, |set| &set["status"]["updateRevision"]);
        self.pods.iter().filter(|pod| &pod["metadata"]["labels"]["controller-revision-hash"] == revision).count()
    }

    fn ready(&self) -> usize {
        let ready = |pod: &&&Value| pod["status"]["phase"] == "Running" && object::condition(pod, "Ready") == Some("True");
        self.pods.iter().filter(ready).count()
    }

    fn counts(&self) -> Value {
        let (all, ready) = (self.pods.len(), self.ready());
        json!({
            "replicas": all, "updatedReplicas": self.updated(), "availableReplicas": ready, "unavailableReplicas": all - ready,
        })
    }

    /// Status and reason of `Available` for a number of replicas.
    fn available(&self, wanted: usize) -> (&'static str, &'static str) {
        match self.ready() {
            _ if self.set.is_none() => ("False", "StatefulSetNotFound"),
            ready if ready >= wanted => ("True", ""),
            0 => ("False", "NoPodReady"),
            _ => ("Degraded", "SomePodsNotReady"),
        }
    }

    /// What keeps each pod from being ready, a line a pod.
    fn messages(&self) -> impl Iterator<Item = String> {
        self.pods.iter().filter_map(|pod| Some(format!("pod {}: {}", object::name(pod), obstacle(pod)?)))
    }
}

/// The message of the first condition of a pod that does not hold, in the order in which a pod comes up.
fn obstacle(pod: &Value) -> Option<&str> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let holds_not = |kind: &str| conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "False");
    let first = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].into_iter().find_map(holds_not)?;
    first["message"].as_str().filter(|message| !message.is_empty())
}

/// A condition before it has its times.
struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl Condition {
    fn reconciled(outcome: Result<(), &str>) -> Self {
        let (status, reason, message) = match outcome {
            Ok(()) => ("True", "", ""),
            Err(message) => ("False", "ReconciliationFailed", message),
        };
        Self { kind: "Reconciled", status, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// The condition as it is written: its transition time is the old one as long as its status stays.
    fn write(self, old: &Value, generation: &Value, now: &str) -> Value {
        let mut olds = old.as_array().into_iter().flatten();
        let since = olds.find(|old| old["type"] == self.kind && old["status"] == self.status);
        let since = since.map_or_else(|| now.into(), |old| old["lastTransitionTime"].clone());
        json!({
            "type": self.kind, "status": self.status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since, "observedGeneration": generation,
        })
    }
}

fn wanted(owner: &Value, negative: usize) -> usize {
    owner["spec"]["replicas"].as_i64().map_or(1, |replicas| usize::try_from(replicas).unwrap_or(negative))
}

fn finish(owner: &Value, mut status: Value, conditions: [Condition; 2], now: &str) -> Value {
    let (old, generation) = (&owner["status"]["conditions"], &owner["metadata"]["generation"]);
    let conditions: Vec<Value> = conditions.into_iter().map(|condition| condition.write(old, generation, now)).collect();
    status["paused"] = (owner["spec"]["paused"] == true).into();
    status["conditions"] = conditions.into();
    status
}

/// The status of a Prometheus object, from the StatefulSets of its shards and the outcome of its last reconciliation.
pub fn prometheus_status(prometheus: &Value, shards: &[Shard<'_>], outcome: Result<(), &str>, now: &str) -> Value {
    let wanted = wanted(prometheus, 1);
    let (mut status, mut reason, mut messages) = ("True", "", Vec::new());
    let mut totals = [0usize; 4];
    let names = ["replicas", "updatedReplicas", "availableReplicas", "unavailableReplicas"];
    let mut shard_statuses = Vec::new();
    for (index, shard) in shards.iter().enumerate() {
        let mut counts = shard.counts();
        for (total, name) in totals.iter_mut().zip(names) {
            *total += counts[name].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
        }
        counts["shardID"] = index.to_string().into();
        shard_statuses.push(counts);
        let (of_shard, why) = shard.available(wanted);
        if of_shard == "True" {
            continue;
        }
        // The last one that is not available tells for all, as in 0.87.
        (status, reason) = (of_shard, why);
        match shard.set {
            None => messages.push(format!("shard {index}: statefulset {} not found", shard.key)),
            Some(_) => messages.extend(shard.messages().map(|message| format!("shard {index}: {message}"))),
        }
    }
    let available = Condition { kind: "Available", status, reason: reason.to_owned(), message: messages.join("\n") };
    let mut out = json!({
        "selector": label_text(&prometheus_labels(prometheus)),
        "shards": crate::objects::shards(prometheus),
        "shardStatuses": shard_statuses,
    });
    for (name, total) in names.into_iter().zip(totals) {
        out[name] = total.into();
    }
    finish(prometheus, out, [available, Condition::reconciled(outcome)], now)
}

/// The status of an Alertmanager object, from its StatefulSet and the outcome of its last reconciliation.
pub fn alertmanager_status(alertmanager: &Value, shard: &Shard<'_>, outcome: Result<(), &str>, now: &str) -> Value {
    let (status, reason) = shard.available(wanted(alertmanager, 0));
    let messages: Vec<String> = shard.messages().collect();
    let available = Condition { kind: "Available", status, reason: reason.to_owned(), message: messages.join("\n") };
    let mut out = shard.counts();
    out["selector"] = label_text(&alertmanager_labels(alertmanager)).into();
    finish(alertmanager, out, [available, Condition::reconciled(outcome)], now)
}

/// What a Prometheus makes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not selected.
    Unselected,
    /// It is selected and used.
    Accepted,
    /// It is selected and left out, for this reason.
    Rejected(String),
}

/// The `status.bindings` of an object after a Prometheus has looked at it, if they are to change.
pub fn bindings(candidate: &Value, prometheus: (&str, &str), verdict: &Verdict, now: &str) -> Option<Value> {
    let (namespace, name) = prometheus;
    let old = candidate["status"]["bindings"].as_array().map_or(&[][..], Vec::as_slice);
    let is_ours =
        |binding: &&Value| binding["resource"] == "prometheuses" && binding["namespace"] == namespace && binding["name"] == name;
    let (status, reason, message) = match verdict {
        Verdict::Unselected => {
            old.iter().find(is_ours)?;
            return Some(old.iter().filter(|binding| !is_ours(binding)).cloned().collect());
        }
        Verdict::Accepted => ("True", "", ""),
        Verdict::Rejected(message) => ("False", "InvalidConfiguration", message.as_str()),
    };
    let position = old.iter().position(|binding| is_ours(&binding));
    let before = position.map_or(&Value::Null, |at| &old[at]["conditions"]);
    let condition = Condition { kind: "Accepted", status, reason: reason.to_owned(), message: message.to_owned() };
    let conditions = json!([condition.write(before, &candidate["metadata"]["generation"], now)]);
    if *before == conditions {
        return None;
    }
    let binding = json!({
        "group": "monitoring.coreos.com", "resource": "prometheuses", "namespace": namespace, "name": name, "conditions": conditions,
    });
    let mut changed = old.to_vec();
    match position {
        Some(at) => changed[at] = binding,
        None => changed.push(binding),
    }
    Some(changed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(set: &str, number: usize, ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({
            "metadata": {"name": format!("{set}-{number}"), "labels": {"app": "x", "controller-revision-hash": "r1"},
                "ownerReferences": [{"kind": "StatefulSet", "name": set}]},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": status, "message": "later"},
                {"type": "ContainersReady", "status": status, "message": "containers with unready status: [prometheus]"}]},
        })
    }

    fn set(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "x"}}}, "status": {"updateRevision": "r1"}})
    }

    fn owner(replicas: i64, old: Value) -> Value {
        json!({"metadata": {"name": "k8s", "namespace": "m", "generation": 3}, "spec": {"replicas": replicas}, "status": old})
    }

    fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
        status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
    }

    #[test]
    fn available_is_judged_from_pods() {
        let a = set("prometheus-k8s");
        let b = set("prometheus-k8s-shard-1");
        let pods = [pod("prometheus-k8s", 0, true), pod("prometheus-k8s", 1, false), pod("prometheus-k8s-shard-1", 0, true)];
        let shard = |name: &str, set: Option<&'static Value>| Shard::of(format!("m/{name}"), set, std::iter::empty());
        let there = |set: &'static Value, ready: &'static [Value]| Shard::of("m/x".to_owned(), Some(set), ready.iter());
        let (a, b): (&'static Value, &'static Value) = (Box::leak(Box::new(a)), Box::leak(Box::new(b)));
        let pods: &'static [Value] = Vec::leak(pods.to_vec());
        let unready = "shard 0: pod prometheus-k8s-1: containers with unready status: [prometheus]";
        for (replicas, shards, status, reason, message) in [
            (0, vec![there(a, &[])], "True", "", ""),
            (1, vec![there(a, pods)], "True", "", ""),
            (2, vec![there(a, pods)], "Degraded", "SomePodsNotReady", unready),
            (1, vec![there(a, &pods[1..])], "False", "NoPodReady", unready),
            (1, vec![shard("s", None)], "False", "StatefulSetNotFound", "shard 0: statefulset m/s not found"),
            (1, vec![there(a, pods), there(b, pods)], "True", "", ""),
            (2, vec![there(a, pods), shard("s", None)], "False", "StatefulSetNotFound", ""),
        ] {
            let found = prometheus_status(&owner(replicas, Value::Null), &shards, Ok(()), "now");
            let available = condition(&found, "Available");
            assert_eq!((available["status"].as_str(), available["reason"].as_str()), (Some(status), Some(reason)));
            assert!(available["message"].as_str().unwrap().starts_with(message), "{available}");
            assert_eq!(available["observedGeneration"], 3);
        }
    }

    #[test]
    fn counts_are_those_of_all_shards() {
        let (a, b) = (set("a"), set("b"));
        let pods = [pod("a", 0, true), pod("a", 1, false), pod("b", 0, true)];
        let shards = [Shard::of("m/a".into(), Some(&a), pods.iter()), Shard::of("m/b".into(), Some(&b), pods.iter())];
        let found = prometheus_status(&owner(2, Value::Null), &shards, Ok(()), "now");
        assert_eq!(
            found["shardStatuses"],
            json!([
                {"shardID": "0", "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1},
                {"shardID": "1", "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 0},
            ])
        );
        assert_eq!((&found["replicas"], &found["availableReplicas"], &found["paused"]), (&json!(3), &json!(2), &json!(false)));
        assert_eq!(
            found["selector"],
            "app.kubernetes.io/instance=k8s,app.kubernetes.io/managed-by=prometheus-operator,app.kubernetes.io/name=prometheus,\
             operator.prometheus.io/name=k8s,prometheus=k8s"
        );
    }

    #[test]
    fn a_transition_time_is_kept_while_the_status_stays() {
        let old = json!({"conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": "then"},
            {"type": "Reconciled", "status": "True", "lastTransitionTime": "then"}]});
        let set = set("alertmanager-k8s");
        let shard = Shard::of("m/alertmanager-k8s".into(), Some(&set), std::iter::empty());
        let found = alertmanager_status(&owner(0, old), &shard, Err("provision failed"), "now");
        assert_eq!(condition(&found, "Available")["lastTransitionTime"], "then");
        let reconciled = condition(&found, "Reconciled");
        assert_eq!(reconciled["lastTransitionTime"], "now");
        assert_eq!((&reconciled["reason"], &reconciled["message"]), (&json!("ReconciliationFailed"), &json!("provision failed")));
    }

    #[test]
    fn bindings_come_change_and_go() {
        let mut monitor = json!({"metadata": {"generation": 1}});
        let look = |monitor: &Value, verdict: Verdict| bindings(monitor, ("m", "k8s"), &verdict, "now");
        assert_eq!(look(&monitor, Verdict::Unselected), None);
        let accepted = look(&monitor, Verdict::Accepted).unwrap();
        assert_eq!(accepted[0]["conditions"][0]["status"], "True");
        monitor["status"]["bindings"] = accepted;
        assert_eq!(look(&monitor, Verdict::Accepted), None);
        let other = json!({"group": "monitoring.coreos.com", "resource": "prometheuses", "namespace": "m", "name": "other"});
        monitor["status"]["bindings"].as_array_mut().unwrap().push(other.clone());
        let rejected = look(&monitor, Verdict::Rejected("no".into())).unwrap();
        let condition = &rejected[0]["conditions"][0];
        assert_eq!((&condition["reason"], &condition["message"]), (&json!("InvalidConfiguration"), &json!("no")));
        monitor["status"]["bindings"] = rejected;
        assert_eq!(look(&monitor, Verdict::Unselected), Some(json!([other])));
    }
}
