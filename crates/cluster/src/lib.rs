//! What makes an API server a cluster: controllers, the node agent that runs pods, service addresses, logs.
//!
//! Pods run as what they are: an image name is resolved to a [`Program`], which is a local process or a task inside this
//! process. Every pod has a loopback address of its own, so its ports are its ports. There is no container runtime and no
//! isolation: this is a laboratory, not a sandbox.
//!
//! Architecture invariant: this crate knows neither KubeVirt nor Prometheus nor the fault proxy. Controllers are functions
//! from the objects they see to the changes they want; only the node agent does I/O.

mod address;
mod controllers;
mod events;
mod informer;
mod logs;
mod node;
mod process;
mod program;
mod runtime;
mod service_proxy;

pub use events::{Report, record as record_event, report as report_event};
pub use informer::Informer;
pub use logs::{LogStore, LogWriter};
pub use node::{ACCOUNT_PATH, NodeAgent, NodeConfig};
pub use process::{ProcessProgram, die_with_parent, kill_leftovers};
pub use program::{ContainerContext, Exit, Images, Mount, Program};
pub use runtime::Runtime;

use apiserver::Client;
use tokio_util::sync::CancellationToken;

/// Runs the workload controllers, the scheduler, and the endpoints controllers until `stop`.
pub fn run_controllers(client: Client, stop: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! { () = stop.cancelled() => {}, () = controllers::run(client) => {} }
    });
}

/// Listens on the ClusterIPs of Services until `stop`; `except` (namespace and name) is served by somebody else.
pub fn run_service_proxy(client: Client, except: (&'static str, &'static str), stop: CancellationToken) {
    tokio::spawn(service_proxy::run(client, except, stop));
}
