//! An in-memory Kubernetes API server for tests and labs.
//!
//! Stock clients (kubectl, kube-rs, client-go, Prometheus' `kubernetes_sd`) talk to it over HTTPS with bearer tokens; RBAC
//! is enforced. There is no etcd, no disk, no container runtime: it starts in milliseconds and is gone on drop.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = apiserver::ApiServer::builder().start("127.0.0.1:0".parse()?).await?;
//! std::fs::write("kubeconfig", server.kubeconfig("test"))?;
//! # Ok(()) }
//! ```
//!
//! Architecture invariant: this crate knows nothing of KubeVirt, Prometheus, faults or running pods. Its core is a function
//! of `(now, user, request)`; sockets are in `http`.

mod auth;
mod client;
mod controllers;
mod core;
mod defaults;
mod discovery;
mod http;
mod patch;
mod rbac;
mod read;
mod resource;
mod server;
mod store;
mod table;
mod validate;
mod watch;
mod write;

pub use client::{Client, Gr};
pub use resource::Resource;
pub use server::{ApiServer, Builder, PodBackend, StartError};
pub use store::Stored;
pub use table::human_duration;
pub use watch::{WatchEvent, Watcher};
