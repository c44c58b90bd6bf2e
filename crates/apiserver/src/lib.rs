//! An in-memory Kubernetes API server for tests and labs.
//!
//! Stock clients (kubectl, kube-rs, client-go, Prometheus' `kubernetes_sd`) talk to it over HTTPS with bearer tokens; RBAC
//! is enforced. There is no etcd, no disk unless asked for, no container runtime: it starts in milliseconds and is gone on
//! drop. It is what kube-rs' users asked for in kube-rs/kube#382 and #1108: a Kubernetes API inside a test.
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

mod aggregate;
mod apply;
mod auth;
mod body;
mod client;
mod connect;
mod controllers;
mod convert;
mod core;
mod defaults;
mod definition;
mod delete;
mod discovery;
mod fairness;
mod http;
mod identify;
mod journal;
mod openapi;
mod options;
mod patch;
mod rbac;
mod read;
mod resource;
mod server;
mod store;
mod structural;
mod subresource;
mod table;
mod types;
mod validate;
mod watch;
mod webhook;
mod write;

pub use client::{Client, Gr};
pub use connect::{ExecError, Execution, PodBackend, container_of};
pub use journal::JournalError;
pub use patch::patched;
pub use resource::{Resource, built_in_resources};
pub use server::{ApiServer, Builder, StartError};
pub use store::Stored;
pub use structural::{Complaint, complaints, without_nulls};
pub use table::human_duration;
pub use watch::{WatchEvent, Watcher};
