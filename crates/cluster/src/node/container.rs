//! One container: start, probes, end, restart with back-off.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::pod::{PodStatus, time};
use super::probe::{self, Probe};
use super::volumes::Volumes;
use crate::events;
use crate::program::{ContainerContext, Exit};

/// First pause before a restart. A kubelet begins with 10 s; a lab should not make people wait.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause (kubelet `MaxContainerBackOff`).
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// A container that ran this long starts again without a pause.
const STEADY: Duration = Duration::from_secs(600);
/// How long a stopped task may take to end before it is dropped.
const STOP_DEADLINE: Duration = Duration::from_millis(900);

/// What is known of a container.
pub(crate) struct ContainerState {
    pub(crate) name: String,
    image: String,
    pub(crate) ready: bool,
    restarts: u32,
    state: Value,
    last: Value,
    /// Its exit code, if it will not start again.
    pub(crate) ended: Option<i32>,
}

impl ContainerState {
    pub(crate) fn new(spec: &Value) -> Self {
        Self {
            name: spec["name"].as_str().unwrap_or_default().to_owned(),
            image: spec["image"].as_str().unwrap_or_default().to_owned(),
            ready: false,
            restarts: 0,
            state: json!({"waiting": {"reason": "ContainerCreating"}}),
            last: json!({}),
            ended: None,
        }
    }

    pub(crate) fn has_run(&self) -> bool {
        self.state["running"].is_object() || self.restarts > 0 || self.ended.is_some() || self.last["terminated"].is_object()
    }

    pub(crate) fn status(&self) -> Value {
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": format!("lab.local/{}", self.image),
            "ready": self.ready,
            "started": self.state["running"].is_object(),
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        })
    }
}

/// Environment of a container; field references are resolved, Secret and ConfigMap references looked up.
fn environment(shared: &Shared, pod: &Value, spec: &Value, address: Ipv4Addr) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.insert("KUBERNETES_SERVICE_HOST".to_owned(), shared.config.api.ip().to_string());
    env.insert("KUBERNETES_SERVICE_PORT".to_owned(), shared.config.api.port().to_string());
    for entry in spec["env"].as_array().into_iter().flatten() {
        let Some(name) = entry["name"].as_str() else { continue };
        let value = if let Some(value) = entry["value"].as_str() {
            value.to_owned()
        } else {
            match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => object::name(pod).to_owned(),
                Some("metadata.namespace") => object::namespace(pod).to_owned(),
                Some("metadata.uid") => object::uid(pod).to_owned(),
                Some("spec.nodeName") => shared.config.name.clone(),
                Some("spec.serviceAccountName") => pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().to_owned(),
                Some("status.podIP") => address.to_string(),
                Some("status.hostIP") => format!("{}.{}.0.1", shared.config.network[0], shared.config.network[1]),
                _ => String::new(),
            }
        };
        env.insert(name.to_owned(), value);
    }
    env
}

/// Runs an init container until it has succeeded once.
pub(crate) async fn run_init(
    shared: &Shared,
    pod: &Arc<Value>,
    spec: &Arc<Value>,
    address: Ipv4Addr,
    volumes: &Volumes,
    stop: &CancellationToken,
) {
    let image = spec["image"].as_str().unwrap_or_default();
    let mut restarts = 0;
    while !stop.is_cancelled() {
        let Some(program) = shared.images.find(image) else {
            let message = format!("Failed to pull image \"{image}\": this lab does not have it");
            events::record(&shared.client, pod, "node-agent", "Warning", "Failed", &message);
            stop.cancelled().await;
            return;
        };
        let context = context(shared, pod, spec, address, volumes, restarts, stop.child_token());
        let logs = context.logs.clone();
        let exit = program.run(context).await;
        logs.end();
        if exit.code == 0 {
            return;
        }
        restarts += 1;
        tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(BACKOFF) => {} }
    }
}

fn context(
    shared: &Shared,
    pod: &Arc<Value>,
    spec: &Arc<Value>,
    address: Ipv4Addr,
    volumes: &Volumes,
    restarts: u32,
    stop: CancellationToken,
) -> ContainerContext {
    ContainerContext {
        pod: pod.clone(),
        container: spec.clone(),
        address,
        api: shared.config.api,
        authority_pem: shared.authority_pem.clone(),
        token: volumes.token(),
        env: environment(shared, pod, spec, address),
        mounts: volumes.mounts(spec),
        pod_mounts: volumes.mounts_of_pod(pod),
        volumes: volumes.changes(),
        logs: shared.runtime.logs().open(pod, spec["name"].as_str().unwrap_or_default()),
        restarts,
        stop,
        process: Arc::default(),
    }
}

#[expect(clippy::too_many_arguments, reason = "a container is where everything about a pod meets")]
pub(crate) async fn run(
    shared: Arc<Shared>,
    pod: Arc<Value>,
    spec: Arc<Value>,
    index: usize,
    address: Ipv4Addr,
    volumes: &Volumes,
    status: Arc<PodStatus>,
    stop: CancellationToken,
) {
    let name = spec["name"].as_str().unwrap_or_default();
    let image = spec["image"].as_str().unwrap_or_default();
    let record = |kind: &str, reason: &str, message: &str| {
        events::record(&shared.client, &pod, "node-agent", kind, reason, message);
    };
    let Some(program) = shared.images.find(image) else {
        record("Warning", "Failed", &format!("Failed to pull image \"{image}\": this lab does not have it"));
        status.update(index, |container| {
            let message = format!("Back-off pulling image \"{image}\": this lab does not have it");
            container.state = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
        });
        stop.cancelled().await;
        return;
    };
    let mut restarts = 0;
    let mut backoff = BACKOFF;
    loop {
        let run_stop = stop.child_token();
        let context = context(&shared, &pod, &spec, address, volumes, restarts, run_stop.clone());
        let logs = context.logs.clone();
        let started = Timestamp::now();
        let readiness = Probe::from_spec(&spec, "readinessProbe", address);
        status.update(index, |container| {
            container.state = json!({"running": {"startedAt": time(started)}});
            container.ready = readiness.is_none();
            container.restarts = restarts;
        });
        if restarts == 0 {
            record("Normal", "Started", &format!("Started container {name}"));
        }
        let entry = shared.runtime.enter(program.clone(), context.clone());
        let mut running = tokio::spawn(program.clone().run(context));
        let watching = async {
            let ready = async {
                let Some(probe) = &readiness else { return std::future::pending().await };
                // On the heap, for a container without probes should not carry the connections of one with them.
                Box::pin(probe::follow(probe, |ready| status.update(index, |container| container.ready = ready))).await;
            };
            let alive = async {
                let Some(probe) = Probe::from_spec(&spec, "livenessProbe", address) else { return std::future::pending().await };
                Box::pin(probe::until_dead(&probe)).await;
            };
            tokio::select! { () = ready => {}, () = alive => {} }
        };
        let exit = tokio::select! {
            ended = &mut running => ended,
            () = stop.cancelled() => end(&mut running).await,
            () = watching => {
                record("Warning", "Unhealthy", &format!("Container {name} failed liveness probe, will be restarted"));
                run_stop.cancel();
                end(&mut running).await
            }
        };
        let exit = exit.unwrap_or_else(|error| {
            logs.line(&format!("the simulated program failed: {error}"));
            Exit { code: 2, reason: "Error".to_owned() }
        });
        drop(entry);
        logs.end();
        let terminated = json!({"terminated": {
            "exitCode": exit.code, "reason": exit.reason,
            "startedAt": time(started), "finishedAt": time(Timestamp::now()),
            "containerID": format!("lab://{}/{name}/{restarts}", object::uid(&pod)),
        }});
        let policy = pod["spec"]["restartPolicy"].as_str().unwrap_or("Always");
        let again = !stop.is_cancelled() && (policy == "Always" || (policy == "OnFailure" && exit.code != 0));
        if !again {
            status.update(index, |container| {
                container.state = terminated;
                container.ready = false;
                container.ended = Some(exit.code);
            });
            return;
        }
        restarts += 1;
        if Timestamp::now().duration_since(started).unsigned_abs() >= STEADY {
            backoff = BACKOFF;
        }
        status.update(index, |container| {
            let message = format!("back-off {}s restarting failed container={name}", backoff.as_secs());
            container.state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
            container.last = terminated;
            container.ready = false;
            container.restarts = restarts;
        });
        record("Warning", "BackOff", &format!("Back-off restarting failed container {name}"));
        tokio::select! {
            () = stop.cancelled() => {
                status.update(index, |container| {
                    container.state = container.last.clone();
                    container.ended = Some(exit.code);
                });
                return;
            }
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

/// Gives a stopped program a moment to end by itself.
async fn end(running: &mut tokio::task::JoinHandle<Exit>) -> Result<Exit, tokio::task::JoinError> {
    match tokio::time::timeout(STOP_DEADLINE, &mut *running).await {
        Ok(ended) => ended,
        Err(_) => {
            running.abort();
            let _ = running.await;
            Ok(Exit::code(137))
        }
    }
}
