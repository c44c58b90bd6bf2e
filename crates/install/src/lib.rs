//! Puts kube-prometheus and KubeVirt on a cluster, waits for them, and takes off again what it put there.
//!
//! What is to be installed is a [`Plan`], a function of manifests and a [`Profile`]; an [`Installer`] carries it out through nothing but the
//! Kubernetes API, so every cluster that a kubeconfig reaches will do. Each object that it creates bears a label with the lab's name. What
//! was there before bears none, is never changed, and stays when the lab goes.
//!
//! Architecture invariant: this crate does not know where a cluster comes from, and reads no files.

mod api;
mod explain;
mod plan;
mod profile;
mod proxy;
mod releases;
mod remove;
mod run;
mod survey;
mod wait;

pub use api::{Api, ApiError, FIELD_MANAGER, Served, items};
pub use plan::{Plan, Stage, Wait, mirrored, unpack};
pub use profile::{KUBEVIRT, MONITORING, Monitor, Profile, Trap};
pub use proxy::{CONTROL_PORT, PROXY_LABELS, PROXY_NAMESPACE, ProxyImage, proxy_of, proxy_token};
pub use releases::{Minor, Misfit, OF_EVERY_KUBEVIRT, Release, Releases, Triple, Wanted};
pub use remove::Left;
pub use run::{Counts, InstallError, Installer, Progress};
pub use survey::{Survey, survey};
pub use wait::missing;

/// The label of what a lab has installed; its value is the lab's name.
pub const INSTALLED_BY: &str = "lab.local/installed-by";
