//! One pod from its binding to its end.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::container::{self, ContainerState};
use super::volumes::Volumes;
use super::{PODS, Shared};
use crate::events;

/// A pod's container states, published as its status whenever one changes.
pub(crate) struct PodStatus {
    shared: Arc<Shared>,
    pod: Arc<Value>,
    address: Ipv4Addr,
    started: Timestamp,
    containers: Mutex<Vec<ContainerState>>,
}

pub(crate) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl PodStatus {
    /// Changes one container's state and publishes the pod's status.
    pub(crate) fn update(&self, index: usize, change: impl FnOnce(&mut ContainerState)) {
        let mut containers = self.containers.lock().expect("no panic while held");
        change(&mut containers[index]);
        self.publish(&containers);
    }

    fn publish(&self, containers: &[ContainerState]) {
        let ready = containers.iter().all(|state| state.ready);
        let all_ended = !containers.is_empty() && containers.iter().all(|state| state.ended.is_some());
        let phase = if all_ended {
            if containers.iter().all(|state| state.ended == Some(0)) { "Succeeded" } else { "Failed" }
        } else if containers.iter().any(ContainerState::has_run) {
            "Running"
        } else {
            "Pending"
        };
        let old = self.shared.client.find(PODS, object::namespace(&self.pod), object::name(&self.pod));
        let Ok(Some(pod)) = old else { return };
        if object::uid(&pod) != object::uid(&self.pod) {
            return;
        }
        let now = time(Timestamp::now());
        let conditions: Vec<Value> = [
            ("PodReadyToStartContainers", true, ""),
            ("Initialized", true, ""),
            ("Ready", ready, "ContainersNotReady"),
            ("ContainersReady", ready, "ContainersNotReady"),
            ("PodScheduled", true, ""),
        ]
        .iter()
        .map(|(kind, holds, reason)| {
            let status = if *holds { "True" } else { "False" };
            let since = pod["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|old| old["type"] == *kind && old["status"] == status)
                .map_or(Value::from(now.as_str()), |old| old["lastTransitionTime"].clone());
            let mut condition = json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since});
            if !holds {
                let waiting: Vec<&str> =
                    containers.iter().filter(|state| !state.ready).map(|state| state.name.as_str()).collect();
                condition["reason"] = (*reason).into();
                condition["message"] = format!("containers with unready status: [{}]", waiting.join(" ")).into();
            }
            condition
        })
        .collect();
        let [a, b] = self.shared.config.network;
        let host = format!("{a}.{b}.0.1");
        let status = json!({
            "phase": phase,
            "conditions": conditions,
            "hostIP": host,
            "hostIPs": [{"ip": host}],
            "podIP": self.address.to_string(),
            "podIPs": [{"ip": self.address.to_string()}],
            "startTime": time(self.started),
            "qosClass": pod["status"]["qosClass"],
            "containerStatuses": containers.iter().map(ContainerState::status).collect::<Vec<_>>(),
        });
        if pod["status"] == status {
            return;
        }
        let (namespace, name) = (object::namespace(&self.pod), object::name(&self.pod));
        // The status and nothing else: labels and finalizers are others' business.
        if let Err(error) = self.shared.client.merge(PODS, namespace, name, "status", &json!({"status": status})) {
            tracing::debug!(%error, pod = object::name(&self.pod), "cannot publish a pod's status");
        }
    }
}

/// Runs a pod until its object is gone or the lab stops. `deleting` tells when it is to go; it is closed when the object is gone.
pub(crate) async fn run(shared: Arc<Shared>, pod: Arc<Value>, mut deleting: watch::Receiver<bool>, lab: CancellationToken) {
    let Some(address) = shared.addresses.take() else {
        events::record(&shared.client, &pod, "node-agent", "Warning", "NoAddress", "no pod address is left");
        return;
    };
    let stop = lab.child_token();
    let specs: Vec<Arc<Value>> = pod["spec"]["containers"].as_array().into_iter().flatten().cloned().map(Arc::new).collect();
    let status = Arc::new(PodStatus {
        shared: shared.clone(),
        pod: pod.clone(),
        address,
        started: Timestamp::now(),
        containers: Mutex::new(specs.iter().map(|spec| ContainerState::new(spec)).collect()),
    });
    status.publish(&status.containers.lock().expect("no panic while held"));
    let work = async {
        let volumes = tokio::select! {
            volumes = Volumes::prepare(&shared, &pod) => volumes,
            () = stop.cancelled() => return,
        };
        for spec in pod["spec"]["initContainers"].as_array().into_iter().flatten() {
            Box::pin(container::run_init(&shared, &pod, &Arc::new(spec.clone()), address, &volumes, &stop)).await;
        }
        let keep_current = volumes.follow(&shared, &pod);
        let containers = futures_util::future::join_all(specs.iter().enumerate().map(|(index, spec)| {
            container::run(shared.clone(), pod.clone(), spec.clone(), index, address, &volumes, status.clone(), stop.clone())
        }));
        tokio::select! {
            () = keep_current => {}
            _ = containers => {}
        }
    };
    let mut work = std::pin::pin!(work);
    let mut done = false;
    let mut deleted = false;
    loop {
        if *deleting.borrow_and_update() {
            deleted = true;
            stop.cancel();
        }
        if done && (deleted || lab.is_cancelled()) {
            break;
        }
        tokio::select! {
            () = &mut work, if !done => done = true,
            changed = deleting.changed() => {
                if changed.is_err() {
                    stop.cancel();
                    if !done {
                        work.as_mut().await;
                    }
                    break;
                }
            }
            () = lab.cancelled(), if done => {}
        }
    }
    if deleted {
        let (namespace, name) = (object::namespace(&pod), object::name(&pod));
        let _ = shared.client.delete_exactly(PODS, namespace, name, object::uid(&pod));
    }
    shared.addresses.give_back(address);
    let _ = tokio::fs::remove_dir_all(Volumes::folder(&shared, &pod)).await;
}
