//! One replica of a component, as a program of the lab.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use jiff::Timestamp;
use metrics::{Collector, Registry};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::Dial;
use wire::pki::CertificateAuthority;

use crate::client::{Client, ClientConfig, Failure};
use crate::defect::{Defect, Defects};
use crate::informer::Informer;
use crate::install;
use crate::lease::{Election, Lock};
use crate::log::Log;
use crate::page::Page;
use crate::release::{CatalogueFamily, ComponentSpec, InformerSpec, NodePatch, Release};
use crate::vm::{Controller, ControllerCollector, Handler, HandlerCollector, Pauses, Stores, Transitions, Writer, labels_config};

/// The port that every component serves on.
const PORT: u16 = 8443;

/// The network between pods and API server, where it can say no before a connection is made.
pub trait Network: Send + Sync + 'static {
    /// What becomes of a connection that a client at this address is about to open to the API server.
    fn dialling(&self, source: IpAddr) -> wire::Dialling;
}

/// What all components of one lab share.
pub struct World {
    /// The release.
    pub release: Release,
    /// The manifest that virt-operator installs.
    pub install: String,
    /// The node that virt-handler runs on.
    pub node: String,
    /// The network, if it can refuse.
    pub network: Option<Arc<dyn Network>>,
    /// Defects that components have.
    pub defects: Defects,
    /// Serialises tries to become leader.
    pub(crate) election: tokio::sync::Mutex<()>,
    authority: CertificateAuthority,
}

impl World {
    /// A release in a lab.
    ///
    /// # Errors
    /// When the components' certificate authority cannot be made.
    pub fn new(
        release: Release,
        install: String,
        node: String,
        network: Option<Arc<dyn Network>>,
        defects: Defects,
    ) -> Result<Self, wire::pki::PkiError> {
        let authority = CertificateAuthority::new("kubevirt.io")?;
        Ok(Self { release, install, node, network, defects, election: tokio::sync::Mutex::default(), authority })
    }
}

/// A component of a release.
pub struct Component {
    world: Arc<World>,
    name: String,
    spec: ComponentSpec,
}

impl Component {
    /// The component of that name, if the release has it.
    pub fn new(world: Arc<World>, name: &str) -> Option<Self> {
        let spec = world.release.components.get(name)?.clone();
        Some(Self { world, name: name.to_owned(), spec })
    }

    async fn live(self: Arc<Self>, context: ContainerContext) -> Result<Exit, String> {
        let log = Log::new(&self.name, context.logs.clone());
        let release = &self.world.release;
        let families = release.families(&self.spec).map_err(|error| error.to_string())?;
        let registry = Arc::new(self.registry(&families));
        let ready = Arc::new(AtomicBool::new(false));
        let vms = Vms::new(&self.spec, &families, &self.world.defects);
        let stop = context.stop.child_token();
        let _stop_on_return = stop.clone().drop_guard();
        let page = Page::new(registry.clone(), vms.collectors(), &self.spec, &self.world.defects);
        if self.has_certificate() {
            self.serve(&context, page, ready.clone(), stop.clone())?;
        } else {
            self.serve_nobody(&context, &log, stop.clone())?;
        }
        log.info("virt-app.go:102", &format!("{} {} (simulated) starts", self.name, release.release));

        let api = api_address(&context);
        let tls = wire::pki::client_config(&context.authority_pem, &["h2", "http/1.1"]).map_err(|error| error.to_string())?;
        let config = ClientConfig {
            dial: Dial { address: api, source: Some(context.address.into()), tls: Some(tls), server_name: None },
            token: context.token.clone(),
            user_agent: format!("{}/{} (linux/amd64) kubernetes/$Format", self.name, release.release),
            spec: release.client.clone(),
            qps: self.spec.qps,
            burst: self.spec.burst,
            counted: self.spec.counted,
            // It speaks for the cluster's own Service; of another address it knows nothing.
            network: self.world.network.clone().filter(|_| api == context.api),
            defects: self.world.defects.clone(),
        };
        let client = Arc::new(Client::new(config, registry.clone()));
        let mut tasks = JoinSet::new();
        let life = Life { context: &context, client: &client, registry: &registry, ready: &ready, log: &log, vms: &vms };
        let outcome = tokio::select! {
            () = context.stop.cancelled() => Ok(Exit::code(0)),
            outcome = self.work(&life, &mut tasks) => outcome,
        };
        tasks.shutdown().await;
        outcome
    }

    /// Declares the catalogue's families and shows what they show at first.
    fn registry(&self, families: &[CatalogueFamily]) -> Registry {
        let registry = Registry::default();
        for family in families {
            registry.declare(family.family());
            if let Some(initial) = family.initial.filter(|_| !family.leader) {
                registry.set(&family.name, &[], initial);
            }
        }
        for code in ["200", "500", "503"] {
            registry.add("promhttp_metric_handler_requests_total", &[("code", code)], 0.0);
        }
        let version = self.world.release.go_version.as_str();
        registry.set("go_info", &[("version", version)], 1.0);
        registry.set("kubevirt_info", &[("goversion", version), ("kubeversion", &self.world.release.release)], 1.0);
        let quantiles = [(0.0, 2.856e-5), (0.25, 8.4e-5), (0.5, 1.48e-4), (0.75, 3.58e-4), (1.0, 0.014)];
        registry.set_summary("go_gc_duration_seconds", &[], &quantiles, 0.48, 328);
        registry.set("process_start_time_seconds", &[], Timestamp::now().as_millisecond() as f64 / 1000.0);
        for queue in self.queues() {
            for family in families.iter().filter(|family| family.name.contains("_workqueue_")) {
                registry.touch(&family.name, &[("name", &queue)]);
            }
        }
        registry
    }

    /// Work queues that have metrics.
    fn queues(&self) -> Vec<String> {
        let defects = &self.world.defects;
        let kept = if defects.has(Defect::QueuesWithoutNames) {
            0
        } else if defects.has(Defect::QueuesRegisteredOnce) {
            1
        } else {
            usize::MAX
        };
        self.spec.queues.iter().take(kept).cloned().collect()
    }

    /// Whether there is a certificate to serve with.
    fn has_certificate(&self) -> bool {
        !(self.name == "virt-handler" && self.world.defects.has(Defect::CertificateMissing))
    }

    fn listen(&self, context: &ContainerContext) -> Result<tokio::net::TcpListener, String> {
        let address = (context.address, PORT).into();
        wire::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
    }

    /// Serves /metrics to everybody and health to probes, over HTTPS and HTTP/1.1 alone as KubeVirt does.
    fn serve(
        &self,
        context: &ContainerContext,
        page: Page,
        ready: Arc<AtomicBool>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let listener = self.listen(context)?;
        let names = [context.pod_name()];
        let identity = self
            .world
            .authority
            .server(&self.name, &names, &[context.address.into()])
            .and_then(|identity| identity.server_config(&["http/1.1"]))
            .map_err(|error| error.to_string())?;
        let page = Arc::new(page);
        let handler = move |request: http::Request<hyper::body::Incoming>| {
            let (page, ready) = (page.clone(), ready.clone());
            async move {
                if request.uri().path() == "/metrics" {
                    return Ok(page.answer().await);
                }
                let (code, text) = if ready.load(Ordering::Relaxed) {
                    (StatusCode::OK, "{\"apiserver\":{\"connectivity\":\"ok\"}}")
                } else {
                    (StatusCode::INTERNAL_SERVER_ERROR, "{\"apiserver\":{\"connectivity\":\"failed\"}}")
                };
                Ok(wire::json(code, text))
            }
        };
        tokio::spawn(wire::serve(listener, Some(identity), Arc::new(handler), Arc::new(()), stop));
        Ok(())
    }

    /// Takes connections and can shake no hands: there is no certificate (kubevirt `pkg/certificates`: each handshake fails, the process
    /// stays).
    fn serve_nobody(&self, context: &ContainerContext, log: &Log, stop: CancellationToken) -> Result<(), String> {
        /// The alert record that Go's crypto/tls sends: fatal, internal error (RFC 8446 §6).
        const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
        let listener = self.listen(context)?;
        log.error(
            "cert-manager.go:88",
            "failed to load the initial certificate in /etc/virt-handler/servercertificates: no such file",
        );
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut hello = [0; 1024];
                    let _ = stream.read(&mut hello).await;
                    let _ = stream.write_all(&INTERNAL_ERROR).await;
                });
            }
        }));
        Ok(())
    }

    fn start_informers(
        &self,
        specs: &[InformerSpec],
        client: &Arc<Client>,
        log: &Log,
        tasks: &mut JoinSet<()>,
    ) -> Vec<Arc<Informer>> {
        specs
            .iter()
            .map(|spec| {
                let informer = Informer::new(spec, &self.world.release, &self.world.node);
                tasks.spawn(informer.clone().run(client.clone(), log.clone(), self.world.release.client.reflector.clone()));
                informer
            })
            .collect()
    }

    async fn work(&self, life: &Life<'_>, tasks: &mut JoinSet<()>) -> Result<Exit, String> {
        let &Life { context, client, registry, ready, log, vms } = life;
        if self.spec.node_patch == Some(NodePatch::Unschedulable) {
            self.mark_unschedulable(client, log).await;
        }
        for _ in 0..self.spec.discovery {
            for target in ["/api?timeout=32s", "/apis?timeout=32s"] {
                if let Err(failure) = client.get(target).await {
                    log.error("discovery.go:91", failure.message());
                }
            }
        }
        for target in &self.spec.gets {
            if let Err(failure) = client.get(target).await {
                log.error("config.go:41", failure.message());
            }
        }
        if self.spec.node_patch == Some(NodePatch::Start) {
            self.patch_node(client, log).await;
        }
        let mut informers = self.start_informers(&self.spec.informers, client, log, tasks);
        for informer in &informers {
            informer.synced().await;
        }
        self.show(registry, &self.spec.ready);
        let lock = match (&self.spec.lease, &self.spec.endpoints_lock) {
            (Some(name), _) => Some((Lock::Lease, name)),
            (None, Some(name)) => Some((Lock::Endpoints, name)),
            (None, None) => None,
        };
        let Some((lock, name)) = lock else {
            ready.store(true, Ordering::Relaxed);
            if let Vms::Handled(collector, pauses) = vms {
                self.handle(life, &informers, collector, pauses.clone(), tasks);
            }
            self.beat(client, log).await;
            return std::future::pending().await;
        };
        // A replica that waits for its turn to lead is ready to.
        ready.store(true, Ordering::Relaxed);
        let election = Election {
            client: client.clone(),
            world: self.world.clone(),
            lock,
            namespace: self.world.release.namespace.clone(),
            name: name.clone(),
            identity: format!("{}_{}", context.pod_name(), kubeapi::object::uid(&context.pod)),
        };
        if self.world.defects.has(Defect::DepthOnFollower)
            && let Some(queue) = self.spec.queues.first()
        {
            // The item that a follower's handler has put in, and that nobody works on.
            registry.set("kubevirt_workqueue_depth", &[("name", queue)], 1.0);
        }
        if self.world.defects.has(Defect::FollowerExports) && self.spec.controls {
            informers.extend(self.start_informers(&self.spec.leader_informers, client, log, tasks));
            if let (Vms::Controlled(collector), Some(stores)) = (vms, stores(&informers)) {
                collector.lead(stores);
            }
        }
        let object = election.acquire().await;
        log.info("leaderelection.go:260", &format!("successfully acquired lease {}/{name}", election.namespace));
        let lead = async {
            self.record_leadership(context, client, name).await;
            self.show(registry, &self.spec.leading);
            for family in self.spec.families.iter().filter(|family| family.leader) {
                registry.set(&family.name, &[], family.initial.unwrap_or(0.0));
            }
            if self.spec.node_patch == Some(NodePatch::Leader) {
                self.patch_node(client, log).await;
            }
            if self.spec.installs {
                registry.set("kubevirt_workqueue_depth", &[("name", "virt-operator")], 0.0);
            }
            informers.extend(self.start_informers(&self.spec.leader_informers, client, log, tasks));
            for informer in &informers {
                informer.synced().await;
            }
            if let (Vms::Controlled(collector), Some(stores)) = (vms, stores(&informers)) {
                collector.lead(stores.clone());
                tasks.spawn(self.labels_config(life, collector.clone()));
                tasks.spawn(self.controller(life, stores).run());
            }
            if self.spec.installs {
                install::run(client, &self.world, &informers, log).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = lead => {}
            () = election.hold(object) => {}
        }
        log.error("leaderelection.go:285", "leaderelection lost");
        Ok(Exit::code(1))
    }

    /// Watches what says which labels of VMs are shown, as soon as there are any. Never ends.
    fn labels_config(&self, life: &Life<'_>, collector: Arc<ControllerCollector>) -> impl Future<Output = ()> + Send + use<> {
        let informer = Informer::new(&labels_config::informer(), &self.world.release, &self.world.node);
        let (client, log) = (life.client.clone(), life.log.clone());
        let lines = self.world.release.client.reflector.clone();
        async move {
            collector.labels_wanted().await;
            collector.know_labels(informer.clone());
            informer.run(client, log, lines).await;
        }
    }

    fn writer(&self, life: &Life<'_>) -> Writer {
        Writer { client: life.client.clone(), root: self.world.release.root(), log: life.log.clone() }
    }

    fn controller(&self, life: &Life<'_>, stores: Stores) -> Controller {
        let release = &self.world.release;
        Controller {
            writer: self.writer(life),
            stores,
            registry: life.registry.clone(),
            queues: self.queues(),
            transitions: Transitions::of(|measure| release.family_of(&self.spec, measure)),
            launcher: format!("lab.local/sim/virt-launcher:{}", release.release),
        }
    }

    fn handle(
        &self,
        life: &Life<'_>,
        informers: &[Arc<Informer>],
        collector: &HandlerCollector,
        pauses: Arc<Pauses>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut found = informers.iter().filter(|informer| informer.resource() == ("virtualmachineinstances", true));
        let Some(vmis) = found.next() else { return };
        collector.know(vmis.clone());
        let handler = Handler {
            writer: self.writer(life),
            vmis: vmis.clone(),
            pauses,
            registry: life.registry.clone(),
            queues: self.queues(),
        };
        tasks.spawn(handler.run());
    }

    fn show(&self, registry: &Registry, gauge: &Option<String>) {
        if let Some(gauge) = gauge {
            registry.set(gauge, &[], 1.0);
        }
    }

    async fn record_leadership(&self, context: &ContainerContext, client: &Client, lock: &str) {
        let namespace = &self.world.release.namespace;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": format!("{lock}."), "namespace": namespace},
            "involvedObject": {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "namespace": namespace, "name": lock},
            "reason": "LeaderElection", "type": "Normal",
            "message": format!("{} became leader", context.pod_name()),
            "source": {"component": self.name}, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let _ = client.request(Method::POST, &path, "application/json", Some(&event), None).await;
    }

    async fn send_to_node(&self, client: &Client, patch: &Value) -> Result<(), Failure> {
        let path = format!("/api/v1/nodes/{}", self.world.node);
        let content_type = "application/strategic-merge-patch+json";
        client.request(Method::PATCH, &path, content_type, Some(patch), None).await.map(|_| ())
    }

    async fn mark_unschedulable(&self, client: &Client, log: &Log) {
        let patch = json!({"metadata": {"labels": {"kubevirt.io/schedulable": "false"}}});
        if let Err(failure) = self.send_to_node(client, &patch).await {
            log.error("virt-handler.go:205", &format!("Unable to mark node as unschedulable: {}", failure.message()));
        }
    }

    async fn patch_node(&self, client: &Client, log: &Log) {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({"metadata": {
            "labels": {"kubevirt.io/schedulable": "true"},
            "annotations": {"kubevirt.io/heartbeat": now},
        }});
        if let Err(failure) = self.send_to_node(client, &patch).await {
            log.error("heartbeat.go:118", &format!("Can't patch node {}: {}", self.world.node, failure.message()));
        }
    }

    /// Heartbeats for ever, if the component has them.
    async fn beat(&self, client: &Client, log: &Log) {
        let Some(seconds) = self.spec.heartbeat else { return };
        loop {
            for target in &self.spec.heartbeat_gets {
                // A ConfigMap that is not there means defaults.
                let _ = client.get(target).await;
            }
            self.patch_node(client, log).await;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }
}

/// What a component has while it lives.
struct Life<'a> {
    context: &'a ContainerContext,
    client: &'a Arc<Client>,
    registry: &'a Arc<Registry>,
    ready: &'a AtomicBool,
    log: &'a Log,
    vms: &'a Vms,
}

/// What a component has to do with VMs.
enum Vms {
    /// It controls them.
    Controlled(Arc<ControllerCollector>),
    /// It runs them, with how long each has been paused.
    Handled(Arc<HandlerCollector>, Arc<Pauses>),
    /// Nothing.
    Strangers,
}

impl Vms {
    fn new(spec: &ComponentSpec, families: &[CatalogueFamily], defects: &Defects) -> Self {
        if spec.controls {
            return Self::Controlled(Arc::new(ControllerCollector::new(families, defects.clone())));
        }
        if spec.heartbeat.is_none() {
            return Self::Strangers;
        }
        let pauses = Arc::new(Pauses::default());
        Self::Handled(Arc::new(HandlerCollector::new(families, defects.clone(), pauses.clone())), pauses)
    }

    fn collectors(&self) -> Vec<Arc<dyn Collector>> {
        match self {
            Self::Controlled(collector) => vec![collector.clone()],
            Self::Handled(collector, _) => vec![collector.clone()],
            Self::Strangers => Vec::new(),
        }
    }
}

/// The caches that VMs are controlled with, if they are all there.
fn stores(informers: &[Arc<Informer>]) -> Option<Stores> {
    let all = |resource: &str| informers.iter().find(|informer| informer.resource() == (resource, false)).cloned();
    let launchers = informers.iter().find(|informer| informer.resource() == ("pods", true)).cloned();
    Some(Stores {
        vmis: all("virtualmachineinstances")?,
        vms: all("virtualmachines")?,
        pods: launchers.or_else(|| all("pods"))?,
        migrations: all("virtualmachineinstancemigrations")?,
        claims: all("persistentvolumeclaims"),
        snapshots: all("virtualmachinesnapshots"),
    })
}

/// Where a container is told that the API server is (client-go `rest.InClusterConfig`): by its environment, which a pod's spec may
/// override. Addresses only: a lab resolves no names.
fn api_address(context: &ContainerContext) -> std::net::SocketAddr {
    let variable = |name: &str| context.env.get(name).map(String::as_str).unwrap_or_default();
    let host = variable("KUBERNETES_SERVICE_HOST").parse::<IpAddr>();
    match (host, variable("KUBERNETES_SERVICE_PORT").parse()) {
        (Ok(host), Ok(port)) => (host, port).into(),
        _ => context.api,
    }
}

impl Program for Component {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            let logs = context.logs.clone();
            match self.live(context).await {
                Ok(exit) => exit,
                Err(message) => {
                    logs.line(&message);
                    Exit::code(1)
                }
            }
        })
    }
}
