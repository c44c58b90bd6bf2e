//! Metrics about a cluster's objects, its pods and this machine, under the names that kube-state-metrics, the kubelet with cAdvisor and
//! node-exporter have given them.
//!
//! Each page is a function: [`StatePage`] of objects and an [`AllowList`], [`kubelet`] of pods and what they use, [`machine`] of the
//! texts below `/proc`. The programs around them listen, ask and read, and decide nothing. What is not measured says so in its HELP.
//!
//! Architecture invariant: this crate knows the API server's objects and the pods of its cluster; it knows no KubeVirt and no
//! Prometheus.

mod allow_list;
mod auth;
pub mod kubelet;
pub mod machine;
mod page;
mod programs;
mod serve;
mod state;

pub use allow_list::{AllowList, AllowListError};
pub use kubelet::Usage;
pub use programs::{AuthProxy, Kubelet, NodeExporter, StandIn, StateMetrics};
pub use state::StatePage;
