//! monitoring.coreos.com objects to what Prometheus and Alertmanager read: prometheus.yml, rule files, alertmanager.yml, and the
//! objects that run them.
//!
//! Everything is a function of the objects it is given. The rules are those of prometheus-operator 0.87.1
//! (facts/kube-prometheus.md §3), the one whose output was recorded; an object that it would reject is rejected here with the reason, and the rest goes on.
//!
//! Architecture invariant: this crate does not know how a pod runs, and asks no cluster anything.

mod alerting;
mod alertmanager;
mod alertmanager_objects;
mod assets;
mod checks;
mod compile;
mod compiler;
mod config;
mod credentials;
mod enforcement;
mod events;
mod global;
mod objects;
mod pod_monitor;
mod probe;
mod relabel;
mod remote;
mod rules;
mod scrape;
mod scrape_config;
mod selection;
mod service_discovery;
mod service_monitor;
mod status;
mod templates;
pub mod types;
mod version;

pub use alertmanager::{ALERTMANAGER_KEY, CompiledAlertmanager, compile_alertmanager};
pub use alertmanager_objects::alertmanager_objects;
pub use compile::{Compiled, Input, Rejection, compile};
pub use compiler::{AlertmanagerCompiler, Compiler, Objects, World};
pub use events::{INVALID, RejectionEvent, rejection_event};
pub use objects::{CONFIG_KEY, Owned, governed, owned_objects, stateful_set_names, storage_class};
pub use rules::{RuleFiles, rule_file_name};
pub use selection::{Unselected, selects};
pub use status::{Shard, Verdict, alertmanager_status, bindings, prometheus_status};
