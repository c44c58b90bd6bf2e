//! The workload controllers, the scheduler and the endpoints controllers.
//!
//! Each is a function from a [`View`] of the cluster to the [`Action`]s that bring it nearer to what its specs say; it never
//! waits and may be called at any time. One loop calls them all whenever something they look at changed.

mod daemon_set;
mod deployment;
mod endpoints;
mod replica_set;
mod scheduler;
mod stateful_set;
mod template;

use std::sync::Arc;

use apiserver::{Client, Gr};
use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use crate::events;
use crate::informer::Informer;

pub(crate) const PODS: Gr = Gr::core("pods");
pub(crate) const SERVICES: Gr = Gr::core("services");
pub(crate) const NODES: Gr = Gr::core("nodes");
pub(crate) const ENDPOINTS: Gr = Gr::core("endpoints");
pub(crate) const SLICES: Gr = Gr::of("discovery.k8s.io", "endpointslices");
pub(crate) const DEPLOYMENTS: Gr = Gr::of("apps", "deployments");
pub(crate) const REPLICA_SETS: Gr = Gr::of("apps", "replicasets");
pub(crate) const STATEFUL_SETS: Gr = Gr::of("apps", "statefulsets");
pub(crate) const DAEMON_SETS: Gr = Gr::of("apps", "daemonsets");

/// How long to wait when nothing that is wanted can be done.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// A change that a controller wants.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Create(Gr, Value),
    /// Replace the object (its version guards against a lost update).
    Update(Gr, Value),
    /// Replace the object's status.
    UpdateStatus(Gr, Value),
    /// Merge into an object or its `status`.
    Merge {
        gr: Gr,
        namespace: String,
        name: String,
        subresource: &'static str,
        patch: Value,
    },
    Delete(Gr, String, String),
    /// Give a pod to a node.
    Bind {
        namespace: String,
        name: String,
        node: String,
    },
    Event {
        about: Arc<Value>,
        component: &'static str,
        kind: &'static str,
        reason: &'static str,
        message: String,
    },
}

impl Action {
    /// A new status, if it differs from the present one.
    pub(crate) fn status(gr: Gr, object: &Value, status: Value) -> Option<Self> {
        (object["status"] != status).then(|| {
            let mut changed = object.clone();
            changed["status"] = status;
            Self::UpdateStatus(gr, changed)
        })
    }
}

/// What the controllers see.
pub(crate) struct View {
    pub(crate) pods: Informer,
    pub(crate) services: Informer,
    pub(crate) nodes: Informer,
    pub(crate) endpoints: Informer,
    pub(crate) slices: Informer,
    pub(crate) deployments: Informer,
    pub(crate) replica_sets: Informer,
    pub(crate) stateful_sets: Informer,
    pub(crate) daemon_sets: Informer,
}

impl View {
    fn new(client: &Client) -> Self {
        let informer = |gr| Informer::new(client, gr);
        Self {
            pods: Informer::trimmed(client, PODS, looked_at),
            services: informer(SERVICES),
            nodes: informer(NODES),
            endpoints: informer(ENDPOINTS),
            slices: informer(SLICES),
            deployments: informer(DEPLOYMENTS),
            replica_sets: informer(REPLICA_SETS),
            stateful_sets: informer(STATEFUL_SETS),
            daemon_sets: informer(DAEMON_SETS),
        }
    }

    fn informers(&mut self) -> [&mut Informer; 9] {
        [
            &mut self.pods,
            &mut self.services,
            &mut self.nodes,
            &mut self.endpoints,
            &mut self.slices,
            &mut self.deployments,
            &mut self.replica_sets,
            &mut self.stateful_sets,
            &mut self.daemon_sets,
        ]
    }

    fn sync(&mut self) {
        for informer in self.informers() {
            informer.sync();
        }
    }

    async fn changed(&mut self) {
        let waits = self.informers().into_iter().map(|informer| Box::pin(informer.changed()));
        futures_util::future::select_all(waits).await;
    }

    /// The pods that an object controls.
    pub(crate) fn pods_of<'a>(&'a self, owner: &'a Value) -> impl Iterator<Item = &'a Arc<Value>> {
        self.pods.in_namespace(object::namespace(owner)).filter(|pod| object::is_controlled_by(pod, owner))
    }
}

pub(crate) async fn run(client: Client) {
    let mut view = View::new(&client);
    loop {
        view.sync();
        let mut actions = Vec::new();
        deployment::reconcile(&view, &mut actions);
        replica_set::reconcile(&view, &mut actions);
        stateful_set::reconcile(&view, &mut actions);
        daemon_set::reconcile(&view, &mut actions);
        scheduler::reconcile(&view, &mut actions);
        endpoints::reconcile(&view, &mut actions);
        let wanted = !actions.is_empty();
        let (mut acted, mut succeeded) = (false, true);
        for action in actions {
            // An event tells of the action before it, and only if that was done.
            if matches!(action, Action::Event { .. }) && !succeeded {
                continue;
            }
            succeeded = perform(&client, action);
            acted |= succeeded;
        }
        if acted {
            // What was done is seen before anything more is decided, so nothing is made twice.
            tokio::task::yield_now().await;
        } else if wanted {
            // Nothing could be done: somebody else has to change something first, or time has to pass.
            tokio::select! { () = view.changed() => {}, () = tokio::time::sleep(RETRY) => {} }
        } else {
            view.changed().await;
        }
    }
}

/// Gives an owner the objects that its selector picks and that nobody controls: those of one that was deleted and left them.
pub(crate) fn adopt<'a>(gr: Gr, owner: &Value, found: impl Iterator<Item = &'a Arc<Value>>, actions: &mut Vec<Action>) {
    let Ok(selector) = LabelSelector::from_object(&owner["spec"]["selector"]) else { return };
    if selector.is_empty() {
        return;
    }
    for orphan in found.filter(|found| !object::is_deleting(found) && object::controller(found).is_none()) {
        if !selector.matches(&orphan["metadata"]["labels"]) {
            continue;
        }
        let mut references = orphan["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        references.push(object::owner_reference(owner));
        actions.push(Action::Merge {
            gr,
            namespace: object::namespace(orphan).to_owned(),
            name: object::name(orphan).to_owned(),
            subresource: "",
            // The uid guards against another object of that name.
            patch: json!({"metadata": {"uid": object::uid(orphan), "ownerReferences": references}}),
        });
    }
}

/// Tells, on a pod's owner, that the pod was made or deleted, as the owner's controller does.
fn tell_owner(client: &Client, pod: &Value, reason: &'static str) {
    let Some(reference) = object::controller(pod) else { return };
    let kind = reference["kind"].as_str().unwrap_or_default();
    let (pod_name, name) = (object::name(pod), reference["name"].as_str().unwrap_or_default());
    let created = reason == "SuccessfulCreate";
    let message = match kind {
        "StatefulSet" => {
            format!("{} Pod {pod_name} in StatefulSet {name} successful", if created { "create" } else { "delete" })
        }
        _ => format!("{} pod: {pod_name}", if created { "Created" } else { "Deleted" }),
    };
    let owner = json!({
        "apiVersion": reference["apiVersion"], "kind": kind,
        "metadata": {"name": name, "namespace": object::namespace(pod), "uid": reference["uid"]},
    });
    events::record(client, &owner, &format!("{}-controller", kind.to_lowercase()), "Normal", reason, &message);
}

/// Does it; whether it was done.
fn perform(client: &Client, action: Action) -> bool {
    let result = match &action {
        Action::Create(gr, object) => client.create(*gr, object).map(|made| {
            if *gr == PODS {
                tell_owner(client, &made, "SuccessfulCreate");
            }
        }),
        Action::Update(gr, object) => client.update(*gr, object).map(|_| ()),
        Action::UpdateStatus(gr, object) => client.update_status(*gr, object).map(|_| ()),
        Action::Merge { gr, namespace, name, subresource, patch } => {
            client.merge(*gr, namespace, name, subresource, patch).map(|_| ())
        }
        Action::Delete(gr, namespace, name) => {
            let pod = if *gr == PODS { client.find(*gr, namespace, name).ok().flatten() } else { None };
            client.delete(*gr, namespace, name, None).map(|()| {
                if let Some(pod) = pod {
                    tell_owner(client, &pod, "SuccessfulDelete");
                }
            })
        }
        Action::Bind { namespace, name, node } => client.bind(namespace, name, node),
        Action::Event { about, component, kind, reason, message } => {
            events::record(client, about, component, kind, reason, message);
            Ok(())
        }
    };
    if let Err(status) = &result {
        // A conflict or a vanished object: the next look decides anew.
        tracing::debug!(%status, ?action, "a controller's action failed");
    }
    result.is_ok()
}

/// Leaves of a pod what controllers look at.
fn looked_at(pod: &mut Value) {
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.retain(|field, _| !matches!(field.as_str(), "managedFields" | "annotations" | "generateName"));
    }
    let spec = pod["spec"].take();
    for field in ["nodeName", "nodeSelector"] {
        if let Some(value) = spec.get(field) {
            pod["spec"][field] = value.clone();
        }
    }
    let containers = spec["containers"].as_array().into_iter().flatten();
    let with_ports: Value =
        containers.filter_map(|container| container.get("ports")).map(|ports| json!({"ports": ports})).collect();
    if with_ports.as_array().is_some_and(|containers| !containers.is_empty()) {
        pod["spec"]["containers"] = with_ports;
    }
    let status = pod["status"].take();
    for field in ["phase", "podIP"] {
        if let Some(value) = status.get(field) {
            pod["status"][field] = value.clone();
        }
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let told = conditions.filter(|condition| matches!(condition["type"].as_str(), Some("Ready" | "PodScheduled")));
    pod["status"]["conditions"] =
        told.map(|condition| json!({"type": condition["type"], "status": condition["status"]})).collect();
}

/// Whether a pod counts as ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    object::condition(pod, "Ready") == Some("True")
}

/// Whether a pod still is, or may become, one of its owner's.
pub(crate) fn is_active(pod: &Value) -> bool {
    !object::is_deleting(pod) && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// A number of the spec, with what it is by default.
pub(crate) fn number(value: &Value, default: i64) -> i64 {
    value.as_i64().unwrap_or(default)
}
