//! The simulated KubeVirt: its components as programs of the lab, and what each release's metrics look like.
//!
//! A component makes the real requests of its kind over TLS and HTTP/2, counts them as client-go with KubeVirt's hook does,
//! and serves the page on 8443. What differs between releases is data in `releases/`, not code.
//!
//! Architecture invariant: this crate knows neither Prometheus nor which kind of cluster it runs on; it is handed a
//! [`cluster::ContainerContext`] and talks to an API server.

mod client;
mod component;
mod customize;
mod defect;
mod go;
mod informer;
mod install;
mod labels;
mod lease;
mod log;
mod page;
mod release;
mod vm;

pub use component::{Component, Network, World};
pub use defect::{Defect, Defects};
pub use labels::resource_and_verb;
pub use release::{CatalogueFamily, ComponentSpec, Release, ReleaseError, Rename, Rule};
pub use vm::{Launcher, Measure, OfAll, OfDisks, OfDomain, OfGuest, OfMemory, OfNetworks, OfProcessors, OfVm, OfVmi, Way};
