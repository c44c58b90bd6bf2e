//! Virtual machines without virtualisation: the objects live as KubeVirt's controllers make them live, and the metrics are curves.
//!
//! `machine` reads objects, `curves` and `measure` say what a guest shows at a moment, `collect` puts it on a component's page under the
//! release's names; `controller` and `handler` do what virt-controller and virt-handler do. That it is simulated, the lab says.

mod collect;
mod controller;
mod curves;
mod handler;
pub(crate) mod labels_config;
mod launcher;
mod machine;
mod measure;
mod measures;
mod pause;
mod queue;
mod status;

pub(crate) use collect::{ControllerCollector, HandlerCollector, Stores};
pub(crate) use controller::{Controller, Transitions};
pub(crate) use handler::Handler;
pub use launcher::Launcher;
pub use measures::{Measure, OfAll, OfDisks, OfDomain, OfGuest, OfMemory, OfNetworks, OfProcessors, OfVm, OfVmi, Way};
pub(crate) use pause::Pauses;
pub(crate) use status::Writer;
