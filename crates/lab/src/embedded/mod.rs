//! The embedded lab: API server, fault proxy, node agent, operator and simulated KubeVirt in one process, Prometheus and
//! Alertmanager beside it.
//!
//! Every lab owns a block 127.N.0.0/16. N is the first for which a certain port of 127.N.0.1 is free: the listening socket is
//! the claim, so it ends with the process, whatever other ports the lab uses.

mod exporters;
mod images;
mod notifications;
mod operator;
mod reading;
mod reloader;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apiserver::{ApiServer, Client, Gr, PodBackend as _};
use cluster::{LogStore, NodeAgent, NodeConfig, Runtime};
use faults::{PodDirectory, PodIdentity, Proxy, WrongIdentities};
use kubeapi::object;
use kubevirt::{Network, Release, World};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wire::pki::CertificateAuthority;

use crate::exit::{Exit, Failure};
use crate::manifests;
use crate::tools::Prometheus;

pub use scenario::Stack;

pub use notifications::Notifications;
pub use reading::hookless;

/// The node's name, as minikube calls its own.
const NODE: &str = "lab";
/// Blocks of addresses that are tried.
const BLOCKS: std::ops::Range<u8> = 20..250;

/// Listening on this port of 127.N.0.1 claims the block.
const CLAIM_PORT: u16 = 6442;

/// The manifest that is left out where there is no Alertmanager.
const ALERTMANAGER: &str = "monitoring/alertmanager.yaml";

/// The most of a log that is read at once.
const MAX_LOG: usize = 64 * 1024 * 1024;

/// What a lab is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// The release of KubeVirt.
    pub release: String,
    /// The API server's port.
    pub api_port: u16,
    /// The Prometheus to run.
    pub prometheus: Prometheus,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether alerts come soon: rule files without pending times and with short ranges.
    pub fast_alerts: bool,
    /// A prometheus-operator that runs in place of the lab's own.
    pub prometheus_operator: Option<PathBuf>,
    /// How much of kube-prometheus there is besides Prometheus, Alertmanager and the operator.
    pub stack: Stack,
    /// Defects that KubeVirt's components have.
    pub defects: Vec<kubevirt::Defect>,
    /// Whether there are three Alertmanagers, as kube-prometheus has them. They do not know of each other: each notifies.
    pub full_size: bool,
    /// Whether nothing is installed: a cluster alone.
    pub bare: bool,
}

/// A running lab. Stop it with [`Lab::stop`]; dropping it leaves its processes to the kernel.
pub struct Lab {
    server: ApiServer,
    proxy: Arc<Proxy>,
    agent: NodeAgent,
    release: Release,
    service: SocketAddr,
    network: [u8; 2],
    runtime: Arc<Runtime>,
    notifications: Arc<Notifications>,
    bare: bool,
    stack: Stack,
    stop: CancellationToken,
    /// Holds the block of addresses.
    _claim: std::net::TcpListener,
}

struct Directory(Client);

impl PodDirectory for Directory {
    fn asks_first(&self) -> bool {
        true
    }

    fn find(&self, address: IpAddr) -> Option<PodIdentity> {
        if address == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            return None;
        }
        let wanted = address.to_string();
        let pods = self.0.list(Gr::core("pods"), "");
        let pod = pods.iter().find(|pod| pod["status"]["podIP"] == wanted.as_str())?;
        Some(PodIdentity {
            namespace: object::namespace(pod).to_owned(),
            name: object::name(pod).to_owned(),
            service_account: pod["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned(),
        })
    }
}

struct ProxyNetwork(Arc<Proxy>);

impl Network for ProxyNetwork {
    fn dialling(&self, source: IpAddr) -> wire::Dialling {
        self.0.dialling(source)
    }
}

impl Lab {
    /// Brings everything up; returns when all objects are applied, not when all pods are ready.
    ///
    /// # Errors
    /// When no block of addresses is free, the release is unknown, or a manifest is refused.
    pub async fn start(options: &Options) -> Result<Self> {
        let lab = Self::serve(options)?;
        lab.install(options)?;
        Ok(lab)
    }

    /// Serves the API of a cluster with nothing on it; [`Self::install`] does the rest.
    ///
    /// # Errors
    /// When no block of addresses is free, or the release is unknown.
    pub fn serve(options: &Options) -> Result<Self> {
        let release = Release::load(&options.release)
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()).hint("see `cargo xtask lab up --help`"))?;
        let authority = Arc::new(CertificateAuthority::new("kubernetes")?);
        let runtime = Arc::new(Runtime::new(LogStore::new(options.folder.join("logs"))));
        let (server, network, claim) = claim(options.api_port, &authority, &runtime)?;
        let client = server.client();
        let stop = CancellationToken::new();

        let wrong = Arc::new(WrongIdentities::new(&authority, server.service_address().into())?);
        let proxy = Proxy::new(server.handler(), Directory(client.clone())).with_wrong_identities(wrong);
        let proxy = Arc::new(proxy);
        let service = serve_kubernetes(&server, &authority, &proxy, &stop)?;
        server.run_controllers();
        cluster::run_controllers(client.clone(), stop.clone());
        cluster::run_service_proxy(client.clone(), ("default", "kubernetes"), stop.clone());
        let versions = operator::Versions {
            prometheus: options.prometheus.version.clone(),
            alertmanager: options.prometheus.alertmanager.as_ref().ok().map(|found| found.version.clone()),
        };
        if options.prometheus_operator.is_none() {
            tokio::spawn(operator::run(client.clone(), versions, options.fast_alerts, stop.clone()));
        }

        let install = release.install.as_deref().and_then(manifests::text).unwrap_or_default().to_owned();
        let reach = Arc::new(ProxyNetwork(proxy.clone()));
        let defects = options.defects.iter().copied().collect();
        let world = Arc::new(World::new(release.clone(), install, NODE.to_owned(), Some(reach), defects)?);
        let exporters = exporters::Exporters::new(client.clone());
        let mut images = images::LabImages::new(world, &options.prometheus, options.folder.join("pids"), exporters);
        if let Some(path) = &options.prometheus_operator {
            images.run_operator(path, &options.folder);
        }
        let config = NodeConfig {
            name: NODE.to_owned(),
            labels: vec![("kubevirt.io/schedulable".to_owned(), "true".to_owned())],
            network,
            api: service,
            authority_pem: authority.certificate_pem(),
            folder: options.folder.join("pods"),
        };
        let agent = NodeAgent::start(client.clone(), config, Arc::new(images), runtime.clone());
        let notifications = Arc::new(Notifications::default());
        let (bare, stack) = (options.bare, options.stack);
        Ok(Self { server, proxy, agent, release, service, network, runtime, notifications, bare, stack, stop, _claim: claim })
    }

    /// Applies what is installed in a lab.
    ///
    /// # Errors
    /// When a manifest is refused.
    pub fn install(&self, options: &Options) -> Result<()> {
        if self.bare {
            return Ok(());
        }
        self.apply_manifests(options)?;
        if options.stack == Stack::Full {
            exporters::start_kubelet(&self.client(), NODE, self.runtime.clone(), self.address(), self.stop.clone())?;
        }
        Ok(())
    }

    fn apply_manifests(&self, options: &Options) -> Result<()> {
        let prometheus = &options.prometheus;
        let client = self.client();
        let notifying = prometheus.alertmanager.is_ok();
        for path in manifests::for_release(&self.release, options.stack) {
            let text = manifests::text(path).with_context(|| format!("manifests/{path} is not built in"))?;
            let mut objects = wire::yaml::manifests(text).map_err(|error| anyhow::anyhow!("manifests/{path}: {error}"))?;
            if path.starts_with("kubevirt/") {
                objects = self.release.objects(objects)?;
            }
            for mut manifest in objects {
                ::operator::types::complete(&mut manifest);
                match manifest["kind"].as_str() {
                    Some("Prometheus") => {
                        manifest["spec"]["version"] = prometheus.version.as_str().into();
                        if notifying {
                            let manager = json!({"namespace": "monitoring", "name": "alertmanager-main", "port": "web", "apiVersion": "v2"});
                            manifest["spec"]["alerting"] = json!({"alertmanagers": [manager]});
                        }
                    }
                    Some("Alertmanager") => {
                        let version = prometheus.alertmanager.as_ref().map_or("", |found| found.version.as_str());
                        manifest["spec"]["version"] = version.into();
                        if options.full_size {
                            manifest["spec"]["replicas"] = 3.into();
                        }
                    }
                    _ => {}
                }
                if path == ALERTMANAGER && !notifying {
                    continue;
                }
                apply(&client, &manifest).with_context(|| format!("manifests/{path}"))?;
            }
            if path == ALERTMANAGER && notifying {
                apply(&client, &self.notified()?)?;
            }
        }
        Ok(())
    }

    /// Whom Alertmanager notifies: the lab itself, and soon. Watchdog-like alerts that always fire are sent once in twelve hours.
    fn notified(&self) -> Result<Value> {
        let token = self.server.admin_token();
        let url = self.notifications.listen(self.address(), token, self.stop.clone())?;
        let config = json!({
            "route": {"receiver": "lab", "group_by": ["namespace", "alertname"], "group_wait": "1s", "group_interval": "2s", "repeat_interval": "12h"},
            "receivers": [{"name": "lab", "webhook_configs": [
                {"url": url, "send_resolved": true, "http_config": {"authorization": {"type": "Bearer", "credentials": token}}}]}],
        });
        let text = wire::yaml::to_string(&config).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "alertmanager-main", "namespace": "monitoring"},
            "stringData": {::operator::ALERTMANAGER_KEY: text},
        }))
    }

    /// What Alertmanager has sent.
    pub fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// A client of the API server with all rights.
    pub fn client(&self) -> Client {
        self.server.client()
    }

    /// The API server.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// The fault proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The release of KubeVirt.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The `kubernetes` Service, where pods reach the API server.
    pub fn service(&self) -> SocketAddr {
        self.service
    }

    /// A pod's log, as the log subresource shows it.
    ///
    /// # Errors
    /// As the API answers.
    pub async fn log(&self, pod: &Value, query: &kubeapi::Query) -> Result<String> {
        let response = async { self.runtime.logs(pod, apiserver::container_of(pod, query)?, query).await };
        let response = response.await.map_err(|status| anyhow::anyhow!("{status}"))?;
        let bytes = wire::collect(response.into_body(), MAX_LOG).await.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What is not up yet.
    pub fn missing(&self) -> Vec<String> {
        match (self.bare, self.stack) {
            (true, _) => unready_pods(&self.client()),
            (false, stack) => missing(&self.client(), &self.release, stack != Stack::None),
        }
    }

    /// The lab's own address for things that are no pods.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.network[0], self.network[1], 0, 1)
    }

    /// Stops pods and their processes, then everything else.
    pub async fn stop(&self) {
        self.agent.stop().await;
        self.stop.cancel();
    }
}

/// Applies a manifest, waiting a moment for a kind that was only just defined.
fn apply(client: &Client, manifest: &Value) -> Result<()> {
    client
        .apply(manifest)
        .map(|_| ())
        .map_err(|status| anyhow::anyhow!("{} {}: {status}", object::kind(manifest), object::key(manifest)))
}

/// Finds a free block and starts the API server in it.
fn claim(
    port: u16,
    authority: &Arc<CertificateAuthority>,
    runtime: &Arc<Runtime>,
) -> Result<(ApiServer, [u8; 2], std::net::TcpListener)> {
    let mut last = None;
    for block in BLOCKS {
        let network = [127, block];
        let claim = match std::net::TcpListener::bind((Ipv4Addr::new(127, block, 0, 1), CLAIM_PORT)) {
            Ok(claim) => claim,
            Err(error) => {
                last = Some(format!("port {CLAIM_PORT}: {error}"));
                continue;
            }
        };
        let mut server = ApiServer::builder()
            .service_account_admission()
            .service_network(network)
            .authority(authority.clone())
            .pods(runtime.clone())
            .build()?;
        match server.listen(SocketAddr::from(([127, block, 0, 1], port))) {
            Ok(_) => return Ok((server, network, claim)),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let in_use = source.as_deref().is_some_and(|text| text.contains("in use"));
                last = Some(format!("{error}: {}", source.unwrap_or_default()));
                if !in_use {
                    break;
                }
            }
        }
    }
    bail!(
        Failure::new(Exit::LabFailed, format!("no address for the API server: {}", last.unwrap_or_default()))
            .hint("port in use on every loopback address? choose another with --api-port")
    )
}

/// Puts the fault proxy where the `kubernetes` Service is. An ordinary user may not bind port 443; then the Service is told
/// the port that could be had.
fn serve_kubernetes(
    server: &ApiServer,
    authority: &Arc<CertificateAuthority>,
    proxy: &Arc<Proxy>,
    stop: &CancellationToken,
) -> Result<SocketAddr> {
    let address = server.service_address();
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let tls =
        authority.server("kubernetes", &names, &[address.into()])?.server_config_with_clients(&["h2", "http/1.1"], authority)?;
    let mut last = None;
    for port in [443, 6443] {
        match wire::bind((address, port).into()) {
            Ok(listener) => {
                if port != 443 {
                    let patch = json!([{"op": "replace", "path": "/spec/ports/0/port", "value": port}]);
                    tracing::info!(port, %patch, "the kubernetes Service has another port than 443");
                    server
                        .client()
                        .merge(
                            Gr::core("services"),
                            "default",
                            "kubernetes",
                            "",
                            &json!({"spec": {"ports": [{"name": "https", "port": port, "targetPort": 6443, "protocol": "TCP"}]}}),
                        )
                        .map_err(|status| anyhow::anyhow!("{status}"))?;
                }
                tokio::spawn(wire::serve(listener, Some(tls), proxy.clone(), proxy.clone(), stop.clone()));
                return Ok((address, port).into());
            }
            Err(error) => last = Some(error),
        }
    }
    bail!(Failure::new(
        Exit::LabFailed,
        format!("cannot listen on {address}: {}", last.map(|error| error.to_string()).unwrap_or_default())
    ))
}

/// Pods that are not ready, with what a person would see.
pub fn unready_pods(client: &Client) -> Vec<String> {
    client
        .list(Gr::core("pods"), "")
        .iter()
        .filter(|pod| object::condition(pod, "Ready") != Some("True") && !object::is_deleting(pod))
        .map(|pod| {
            let statuses = pod["status"]["containerStatuses"].as_array();
            let reason = statuses
                .into_iter()
                .flatten()
                .find_map(|status| status["state"]["waiting"]["reason"].as_str())
                .or_else(|| pod["status"]["phase"].as_str())
                .unwrap_or("Pending");
            format!("{} {reason}", object::key(pod))
        })
        .collect()
}

/// The pods that a release's installation ends with, so that "all ready" is not said before they exist.
pub fn expected_workloads(release: &Release, monitored: bool) -> Vec<(&'static str, Gr, String, String)> {
    let namespace = release.namespace.clone();
    let deployments = Gr::of("apps", "deployments");
    let prometheus = ("statefulset", Gr::of("apps", "statefulsets"), "monitoring".to_owned(), "prometheus-k8s".to_owned());
    let mut expected: Vec<_> = monitored.then_some(prometheus).into_iter().collect();
    for component in release.components.keys() {
        if component == "virt-handler" {
            expected.push(("daemonset", Gr::of("apps", "daemonsets"), namespace.clone(), component.clone()));
        } else {
            expected.push(("deployment", deployments, namespace.clone(), component.clone()));
        }
    }
    expected
}

/// What is not there yet of a lab that comes up; empty when it is all up.
pub fn missing(client: &Client, release: &Release, monitored: bool) -> Vec<String> {
    let mut missing: Vec<String> = expected_workloads(release, monitored)
        .into_iter()
        .filter_map(|(kind, gr, namespace, name)| {
            let found = client.find(gr, &namespace, &name).ok().flatten();
            let Some(object) = found else { return Some(format!("{kind} {namespace}/{name} does not exist yet")) };
            let (wanted, ready) = match kind {
                "daemonset" => (&object["status"]["desiredNumberScheduled"], &object["status"]["numberReady"]),
                _ => (&object["spec"]["replicas"], &object["status"]["readyReplicas"]),
            };
            let (wanted, ready) = (wanted.as_i64().unwrap_or(1).max(1), ready.as_i64().unwrap_or(0));
            (ready < wanted).then(|| format!("{kind} {namespace}/{name} {ready}/{wanted} ready"))
        })
        .collect();
    if missing.is_empty() {
        missing.extend(unready_pods(client));
    }
    missing
}

/// Waits until nothing is missing; the error quotes what still is.
///
/// # Errors
/// When `at_most` has passed.
pub async fn wait_until_up(client: &Client, release: &Release, at_most: Duration) -> Result<()> {
    let mut deadline = wire::patience::Deadline::after(at_most);
    loop {
        let missing = missing(client, release, true);
        if missing.is_empty() {
            return Ok(());
        }
        if deadline.is_over() {
            bail!(
                Failure::new(Exit::LabFailed, format!("not up after {} s: {}", at_most.as_secs(), missing.join(", ")))
                    .hint("see `lab logs POD` and `kubectl describe pod`")
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
