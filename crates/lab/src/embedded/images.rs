//! The images that an embedded lab has.

use std::path::PathBuf;
use std::sync::Arc;

use cluster::{ContainerContext, Exit, Images, ProcessProgram, Program};
use futures_util::future::BoxFuture;
use kubevirt::{Component, World};

use super::exporters::Exporters;
use super::reloader::Reloader;
use crate::tools::Prometheus;

/// Simulated components, the real Prometheus and Alertmanager, the lab's reloader, and containers that only are there.
pub(crate) struct LabImages {
    world: Arc<World>,
    prometheus: Arc<ProcessProgram>,
    alertmanager: Option<Arc<ProcessProgram>>,
    exporters: Exporters,
}

impl LabImages {
    pub(crate) fn new(world: Arc<World>, prometheus: &Prometheus, pids: PathBuf, exporters: Exporters) -> Self {
        let program = ProcessProgram::new(prometheus.prometheus.clone(), pids.clone(), prometheus_arguments);
        let alertmanager = prometheus.alertmanager.as_ref().ok();
        let alertmanager = alertmanager.map(|found| {
            let program = ProcessProgram::new(found.alertmanager.clone(), pids, alertmanager_arguments);
            // A copy of Debian's finds its templates beside itself.
            let folder = found.alertmanager.parent().map_or_else(|| PathBuf::from("/"), PathBuf::from);
            Arc::new(program.in_folder(folder))
        });
        Self { world, prometheus: Arc::new(program), alertmanager, exporters }
    }
}

/// A container's arguments for a Prometheus without a mount namespace and without a network of its own.
fn prometheus_arguments(context: &ContainerContext, arguments: Vec<String>) -> Vec<String> {
    let mut adapted: Vec<String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--web.console.") && !argument.starts_with("--web.listen-address"))
        .map(|argument| context.localise(argument))
        .collect();
    adapted.push(format!("--web.listen-address={}:9090", context.address));
    // Targets that were discovered are scraped at once and not up to five seconds later.
    adapted.push("--scrape.discovery-reload-interval=100ms".to_owned());
    adapted
}

/// The same for an Alertmanager. Replicas of one would look for each other by names, which a lab does not resolve.
fn alertmanager_arguments(context: &ContainerContext, arguments: Vec<String>) -> Vec<String> {
    let ours =
        |argument: &&String| !argument.starts_with("--web.listen-address") && !argument.starts_with("--cluster.listen-address");
    let mut adapted: Vec<String> = arguments.iter().filter(ours).map(|argument| context.localise(argument)).collect();
    adapted.push(format!("--web.listen-address={}:9093", context.address));
    adapted.push("--cluster.listen-address=".to_owned());
    adapted
}

/// A container that does nothing until it is stopped.
struct Idle;

impl Program for Idle {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            context.logs.line("this container is simulated: it is there and does nothing");
            context.stop.cancelled().await;
            Exit::code(0)
        })
    }
}

impl Images for LabImages {
    fn find(&self, image: &str) -> Option<Arc<dyn Program>> {
        let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        if let Some(component) = name.strip_prefix("lab.local/sim/") {
            if component == "idle" {
                return Some(Arc::new(Idle));
            }
            if let Some(program) = self.exporters.find(component) {
                return Some(program);
            }
            if tag != self.world.release.release {
                return None;
            }
            return Component::new(self.world.clone(), component).map(|component| Arc::new(component) as Arc<dyn Program>);
        }
        match name {
            "quay.io/prometheus/prometheus" => Some(self.prometheus.clone()),
            "quay.io/prometheus/alertmanager" => Some(self.alertmanager.clone()?),
            "quay.io/prometheus-operator/prometheus-config-reloader" => Some(Arc::new(Reloader)),
            _ => None,
        }
    }
}
