//! The images that an embedded lab has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::{ContainerContext, Exit, Images, ProcessProgram, Program};
use futures_util::future::BoxFuture;
use kubevirt::{Component, Launcher, World};
use serde_json::json;

use super::exporters::Exporters;
use super::reloader::{Reloader, WEB_CONFIG};
use crate::state::write_secret;
use crate::tools::Prometheus;

/// Simulated components, the real Prometheus and Alertmanager, the lab's reloader, and containers that only are there.
pub(crate) struct LabImages {
    world: Arc<World>,
    prometheus: Arc<ProcessProgram>,
    alertmanager: Option<Arc<ProcessProgram>>,
    exporters: Exporters,
    /// A prometheus-operator that takes the place of the stand-in.
    operator: Option<Arc<dyn Program>>,
    /// The fault proxy, if its program lies beside this one.
    fault_proxy: Option<Arc<ProcessProgram>>,
}

impl LabImages {
    pub(crate) fn new(world: Arc<World>, prometheus: &Prometheus, pids: PathBuf, exporters: Exporters) -> Self {
        let program = ProcessProgram::new(prometheus.prometheus.clone(), pids.clone(), prometheus_arguments);
        let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("lab-fault-proxy")));
        let fault_proxy = beside.filter(|path| path.is_file());
        let fault_proxy = fault_proxy.map(|path| Arc::new(ProcessProgram::new(path, pids.clone(), fault_proxy_arguments)));
        let alertmanager = prometheus.alertmanager.as_ref().ok();
        let alertmanager = alertmanager.map(|found| {
            let program = ProcessProgram::new(found.alertmanager.clone(), pids, alertmanager_arguments);
            // A copy of Debian's finds its templates beside itself.
            let folder = found.alertmanager.parent().map_or_else(|| PathBuf::from("/"), PathBuf::from);
            Arc::new(program.in_folder(folder))
        });
        Self { world, prometheus: Arc::new(program), alertmanager, exporters, operator: None, fault_proxy }
    }

    /// Makes the operator's Deployment run a prometheus-operator of this machine.
    pub(crate) fn run_operator(&mut self, path: &Path, folder: &Path) {
        let process = ProcessProgram::new(path.to_owned(), folder.join("pids"), operator_arguments);
        let kubeconfig = folder.join("prometheus-operator.kubeconfig");
        self.operator = Some(Arc::new(RealOperator { process: Arc::new(process), kubeconfig }));
    }
}

/// An argument with the paths of this machine. Of a web configuration that the reloader has adapted, the adapted one is read.
fn adapted_argument(context: &ContainerContext, argument: &str) -> String {
    if let Some(file) = argument.strip_prefix("--web.config.file=") {
        let folder = file.split("/web_config/").next().unwrap_or(file);
        let beside = context.host_path(&format!("{folder}/config_out/{WEB_CONFIG}"));
        if let Some(beside) = beside.filter(|beside| beside.exists()) {
            return format!("--web.config.file={}", beside.display());
        }
    }
    context.localise(argument)
}

/// A container's arguments for a Prometheus without a mount namespace and without a network of its own.
fn prometheus_arguments(context: &ContainerContext, arguments: Vec<String>) -> Vec<String> {
    let mut adapted: Vec<String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--web.console.") && !argument.starts_with("--web.listen-address"))
        .map(|argument| adapted_argument(context, argument))
        .collect();
    adapted.push(format!("--web.listen-address={}:9090", context.address));
    // The reloader beside it cannot send it a signal, as one would that shares its process namespace.
    if !adapted.iter().any(|argument| argument == "--web.enable-lifecycle") {
        adapted.push("--web.enable-lifecycle".to_owned());
    }
    // Targets that were discovered are scraped at once and not up to five seconds later.
    adapted.push("--scrape.discovery-reload-interval=100ms".to_owned());
    adapted
}

/// The same for an Alertmanager. Replicas of one would look for each other by names, which a lab does not resolve.
fn alertmanager_arguments(context: &ContainerContext, arguments: Vec<String>) -> Vec<String> {
    const NETWORK: [&str; 3] = ["--web.listen-address", "--cluster.listen-address", "--cluster.peer="];
    let ours = |argument: &&String| !NETWORK.iter().any(|network| argument.starts_with(network));
    let mut adapted: Vec<String> = arguments.iter().filter(ours).map(|argument| adapted_argument(context, argument)).collect();
    adapted.push(format!("--web.listen-address={}:9093", context.address));
    adapted.push("--cluster.listen-address=".to_owned());
    adapted
}

/// The arguments of a fault proxy without a network and a file system of its own. What listens on all addresses of a pod, or on its
/// loopback, listens on the pod's address: all are addresses of this machine's loopback.
fn fault_proxy_arguments(context: &ContainerContext, arguments: Vec<String>) -> Vec<String> {
    let adapted = |argument: &String| {
        let listening = ["--listen=", "--control=", "--health="].iter().find(|flag| argument.starts_with(*flag));
        match (listening, argument.rsplit_once(':')) {
            (Some(flag), Some((_, port))) => format!("{flag}{}:{port}", context.address),
            _ => context.localise(argument),
        }
    };
    let mut adapted: Vec<String> = arguments.iter().map(adapted).collect();
    let account = context.localise(cluster::ACCOUNT_PATH);
    adapted.push(format!("--service-account={account}"));
    adapted
}

/// The arguments of a prometheus-operator without a network of its own.
fn operator_arguments(context: &ContainerContext, mut arguments: Vec<String>) -> Vec<String> {
    arguments.retain(|argument| !argument.starts_with("--web.listen-address"));
    arguments.push(format!("--web.listen-address={}:8080", context.address));
    arguments
}

/// A prometheus-operator of this machine. What a container would find at a fixed path, it is told by a kubeconfig of its ServiceAccount.
struct RealOperator {
    process: Arc<ProcessProgram>,
    kubeconfig: PathBuf,
}

impl RealOperator {
    fn kubeconfig(context: &ContainerContext) -> String {
        use base64::Engine as _;
        let authority = base64::engine::general_purpose::STANDARD.encode(context.authority_pem.as_bytes());
        let cluster = json!({"server": format!("https://{}", context.api), "certificate-authority-data": authority});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "prometheus-operator", "user": {"token": &*context.token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "prometheus-operator"}}],
        })
        .to_string()
    }
}

impl Program for RealOperator {
    fn run(self: Arc<Self>, mut context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            if let Err(error) = write_secret(&self.kubeconfig, Self::kubeconfig(&context).as_bytes()) {
                context.logs.line(&format!("cannot write {}: {error}", self.kubeconfig.display()));
                return Exit::code(1);
            }
            context.env.insert("KUBECONFIG".to_owned(), self.kubeconfig.to_string_lossy().into_owned());
            self.process.clone().run(context).await
        })
    }
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
            if let Some(operator) = self.operator.as_ref().filter(|_| component == "prometheus-operator") {
                return Some(operator.clone());
            }
            if component == "idle" {
                return Some(Arc::new(Idle));
            }
            if let Some(program) = self.exporters.find(component) {
                return Some(program);
            }
            if tag != self.world.release.release {
                return None;
            }
            if component == "virt-launcher" {
                return Some(Arc::new(Launcher));
            }
            return Component::new(self.world.clone(), component).map(|component| Arc::new(component) as Arc<dyn Program>);
        }
        match name {
            "quay.io/prometheus/prometheus" => Some(self.prometheus.clone()),
            "quay.io/prometheus/alertmanager" => Some(self.alertmanager.clone()?),
            "lab.local/fault-proxy" => Some(self.fault_proxy.clone()?),
            "quay.io/prometheus-operator/prometheus-config-reloader" => Some(Arc::new(Reloader)),
            _ => None,
        }
    }
}
