//! One replica of a component, as a program of the lab.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::{ContainerContext, Exit, Program};
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use jiff::Timestamp;
use metrics::Registry;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::Dial;
use wire::pki::CertificateAuthority;

use crate::client::{Client, ClientConfig};
use crate::informer::Informer;
use crate::install;
use crate::lease::{Election, Lock};
use crate::log::Log;
use crate::release::{ComponentSpec, InformerSpec, NodePatch, Release};

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
    ) -> Result<Self, wire::pki::PkiError> {
        let authority = CertificateAuthority::new("kubevirt.io")?;
        Ok(Self { release, install, node, network, election: tokio::sync::Mutex::default(), authority })
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
        let registry = Arc::new(self.registry()?);
        let ready = Arc::new(AtomicBool::new(false));
        let stop = context.stop.child_token();
        let _stop_on_return = stop.clone().drop_guard();
        self.serve(&context, registry.clone(), ready.clone(), stop.clone())?;
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
        };
        let client = Arc::new(Client::new(config, registry.clone()));
        let mut tasks = JoinSet::new();
        let outcome = tokio::select! {
            () = context.stop.cancelled() => Ok(Exit::code(0)),
            outcome = self.work(&context, &client, &registry, &ready, &log, &mut tasks) => outcome,
        };
        tasks.shutdown().await;
        outcome
    }

    /// Declares the catalogue's families and shows what they show at first.
    fn registry(&self) -> Result<Registry, String> {
        let registry = Registry::default();
        let families = self.world.release.families(&self.spec).map_err(|error| error.to_string())?;
        for family in &families {
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
        for queue in &self.spec.queues {
            for family in families.iter().filter(|family| family.labels == ["name"]) {
                registry.touch(&family.name, &[("name", queue)]);
            }
        }
        Ok(registry)
    }

    /// Serves /metrics to everybody and health to probes, over HTTPS and HTTP/1.1 alone as KubeVirt does.
    fn serve(
        &self,
        context: &ContainerContext,
        registry: Arc<Registry>,
        ready: Arc<AtomicBool>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let address = (context.address, PORT).into();
        let listener = wire::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let names = [context.pod_name()];
        let identity = self
            .world
            .authority
            .server(&self.name, &names, &[context.address.into()])
            .and_then(|identity| identity.server_config(&["http/1.1"]))
            .map_err(|error| error.to_string())?;
        let handler = move |request: http::Request<hyper::body::Incoming>| {
            let (registry, ready) = (registry.clone(), ready.clone());
            async move {
                if request.uri().path() == "/metrics" {
                    registry.add("promhttp_metric_handler_requests_total", &[("code", "200")], 1.0);
                    let mut response = wire::text(StatusCode::OK, registry.page());
                    response.headers_mut().insert(
                        http::header::CONTENT_TYPE,
                        http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
                    );
                    return Ok(response);
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
                let informer = Informer::new(spec, &self.world.release.namespace, &self.world.node);
                tasks.spawn(informer.clone().run(client.clone(), log.clone(), self.world.release.client.reflector.clone()));
                informer
            })
            .collect()
    }

    async fn work(
        &self,
        context: &ContainerContext,
        client: &Arc<Client>,
        registry: &Arc<Registry>,
        ready: &AtomicBool,
        log: &Log,
        tasks: &mut JoinSet<()>,
    ) -> Result<Exit, String> {
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
            informers.extend(self.start_informers(&self.spec.leader_informers, client, log, tasks));
            for informer in &informers {
                informer.synced().await;
            }
            if self.spec.installs {
                install::run(client, &self.world.release, &self.world.install, &informers, log).await;
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

    async fn patch_node(&self, client: &Client, log: &Log) {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({"metadata": {
            "labels": {"kubevirt.io/schedulable": "true"},
            "annotations": {"kubevirt.io/heartbeat": now},
        }});
        let path = format!("/api/v1/nodes/{}", self.world.node);
        let content_type = "application/strategic-merge-patch+json";
        if let Err(failure) = client.request(Method::PATCH, &path, content_type, Some(&patch), None).await {
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
