//! The server as a whole: built, started, handed requests in memory, stopped on drop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ::http::Request;
use futures_util::future::BoxFuture;
use kubeapi::{Identity, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wire::pki::{CertificateAuthority, PkiError};
use wire::{Answer, Body};

use crate::client::{Client, Gr};
use crate::connect::PodBackend;
use crate::controllers;
use crate::core::Core;
use crate::http::Shell;
use crate::journal::{Journal, JournalError};
use crate::rbac;

/// The server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificates could not be made.
    #[error("cannot make the server's certificates")]
    Pki(#[from] PkiError),
    /// The file to keep objects in cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What the file holds cannot be read or written.
    #[error("cannot read or write the file with the objects")]
    Database(#[from] redb::Error),
    /// The first objects could not be created: a bug of this crate.
    #[error("cannot create the first objects: {0}")]
    Bootstrap(#[from] Status),
}

/// Settings of a server to be.
pub struct Builder {
    seed: Option<u64>,
    service_network: [u8; 2],
    authority: Option<Arc<CertificateAuthority>>,
    pods: Option<Arc<dyn PodBackend>>,
    tokens: Vec<(String, Identity)>,
    service_accounts: bool,
    persist: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            seed: None,
            service_network: [127, 0],
            authority: None,
            pods: None,
            tokens: Vec::new(),
            service_accounts: false,
            persist: None,
        }
    }
}

impl Builder {
    /// Makes uids and generated names the same in every run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The first two bytes of the addresses that Services get.
    pub fn service_network(mut self, base: [u8; 2]) -> Self {
        self.service_network = base;
        self
    }

    /// The authority that signs the serving certificate; one is made unless it is given.
    pub fn authority(mut self, authority: Arc<CertificateAuthority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Who answers for pods that run.
    pub fn pods(mut self, pods: Arc<dyn PodBackend>) -> Self {
        self.pods = Some(pods);
        self
    }

    /// A token that is good as long as the server lives.
    pub fn token(mut self, token: impl Into<String>, identity: Identity) -> Self {
        self.tokens.push((token.into(), identity));
        self
    }

    /// Gives new pods the ServiceAccount `default` where they name none, as the admission plugin of that name does. For
    /// servers whose pods run.
    pub fn service_account_admission(mut self) -> Self {
        self.service_accounts = true;
        self
    }

    /// Keeps objects, with their resourceVersions, in a file: a server that is started with it again has them.
    pub fn persist(mut self, file: impl Into<PathBuf>) -> Self {
        self.persist = Some(file.into());
        self
    }

    /// Makes the server without listening anywhere.
    ///
    /// # Errors
    /// When certificates or the first objects cannot be made.
    pub fn build(self) -> Result<ApiServer, StartError> {
        wire::install_crypto_provider();
        let authority = match self.authority {
            Some(authority) => authority,
            None => Arc::new(CertificateAuthority::new("kubernetes")?),
        };
        let seed = self.seed.unwrap_or_else(|| u64::from_le_bytes(random()));
        let (mut token_key, mut admin_token) = (random::<32>().to_vec(), hex(&random::<24>()));
        let journal = self.persist.as_deref().map(Journal::open).transpose()?;
        if let Some(journal) = &journal {
            // Tokens that were handed out stay good.
            let kept = |name: &str, fresh: Vec<u8>| match journal.setting(name)? {
                Some(value) => Ok(value),
                None => journal.set(name, &fresh).map(|()| fresh),
            };
            token_key = kept("token-key", token_key)?;
            let kept = kept("admin-token", admin_token.clone().into_bytes())?;
            admin_token = String::from_utf8_lossy(&kept).into_owned();
        }
        let core = Arc::new(Core::new(seed, self.service_network, &token_key, self.service_accounts));
        if let Some(journal) = journal {
            core.write().store.attach(journal)?;
            core.reload();
        }
        core.tokens.add(admin_token.clone(), Identity::admin("kubernetes-admin"));
        for (token, identity) in self.tokens {
            core.tokens.add(token, identity);
        }
        let client =
            Client { core: core.clone(), who: Arc::new(Identity::admin("system:apiserver")), manager: "kube-controller-manager" };
        if core.read().store.is_empty() {
            bootstrap(&client.as_manager("kube-apiserver"), &core)?;
        }
        // A new authority each time: whoever serves an aggregated API reads it here.
        let _ = core.front_proxy.set(authority.client("front-proxy-client", None)?);
        client.as_manager("kube-apiserver").put(Gr::core("configmaps"), &authentication(&authority.certificate_pem()))?;
        Ok(ApiServer {
            shell: Arc::new(Shell { core, pods: self.pods }),
            authority,
            admin_token,
            address: None,
            stop: CancellationToken::new(),
        })
    }

    /// Makes the server, listens with TLS, and runs the controllers that belong to it: namespaces, ServiceAccounts and
    /// garbage collection.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self, address: SocketAddr) -> Result<ApiServer, StartError> {
        let mut server = self.build()?;
        server.listen(address)?;
        server.run_controllers();
        Ok(server)
    }
}

/// `N` random bytes.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The operating system's generator does not fail once the system is up.
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("system randomness");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What every cluster has from its first moment.
fn bootstrap(client: &Client, core: &Core) -> Result<(), Status> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        client.create(Gr::core("namespaces"), &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
    }
    for object in rbac::bootstrap() {
        client.apply(&object)?;
    }
    for (name, value) in [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)] {
        client.apply(&json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
        }))?;
    }
    let local: Vec<(String, String)> = {
        let state = core.read();
        let registry = &state.registry;
        let of =
            |group: &String| registry.versions(group).into_iter().map(|version| (group.clone(), version)).collect::<Vec<_>>();
        registry.groups().iter().flat_map(of).collect()
    };
    for (group, version) in local {
        client.create(
            Gr::of("apiregistration.k8s.io", "apiservices"),
            &json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": format!("{version}.{group}"),
                    "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
                "spec": {"group": group, "version": version, "groupPriorityMinimum": 17_500, "versionPriority": 15},
            }),
        )?;
    }
    let address = core.read().addresses.first().to_string();
    client.create(
        Gr::core("services"),
        &json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "clusterIP": address,
                "ports": [{"name": "https", "port": 443, "targetPort": 6443}],
            },
        }),
    )?;
    Ok(())
}

/// What servers of aggregated APIs need to know whom they may believe.
fn authentication(authority: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": authority,
            "requestheader-client-ca-file": authority,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    })
}

/// A Kubernetes API server. It stops when it is dropped.
pub struct ApiServer {
    shell: Arc<Shell>,
    authority: Arc<CertificateAuthority>,
    admin_token: String,
    address: Option<SocketAddr>,
    stop: CancellationToken,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ApiServer {
    /// Settings with their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Listens with TLS on an address; port 0 takes any that is free.
    ///
    /// # Errors
    /// When the address is taken or may not be used.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let error = |source| StartError::Listen { address, source };
        let listener = wire::bind(address).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        let service = self.shell.core.read().addresses.first();
        let names =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];
        let identity = self.authority.server("kube-apiserver", &names, &[address.ip(), service.into()])?;
        let tls = identity.server_config_with_clients(&["h2", "http/1.1"], &self.authority)?;
        let shell = self.shell.clone();
        let handler = move |request: Request<hyper::body::Incoming>| {
            let shell = shell.clone();
            shell.handle(request.map(wire::incoming))
        };
        tokio::spawn(wire::serve(listener, Some(tls), Arc::new(handler), Arc::new(()), self.stop.clone()));
        self.address = Some(address);
        self.announce(address);
        Ok(address)
    }

    /// Tells clients where they are: discovery names the address, the `kubernetes` Service its port, and its endpoints both
    /// (kube-apiserver `pkg/controlplane/reconcilers`: Endpoints and EndpointSlice bear the Service's name).
    fn announce(&self, address: SocketAddr) {
        self.shell.core.write().registry.address = address.to_string();
        let port = json!([{"op": "replace", "path": "/spec/ports/0/targetPort", "value": address.port()}]);
        // The Service is there: it was made before anyone could delete it.
        let client = self.client().as_manager("kube-apiserver");
        let _ = client.json_patch(Gr::core("services"), "default", "kubernetes", &port);
        let ports = json!([{"name": "https", "port": address.port(), "protocol": "TCP"}]);
        let ip = address.ip().to_string();
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": ip}], "ports": ports}],
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
            "ports": ports,
        });
        for (gr, object) in [(Gr::core("endpoints"), endpoints), (Gr::of("discovery.k8s.io", "endpointslices"), slice)] {
            if let Err(status) = client.put(gr, &object) {
                tracing::warn!(%status, "the endpoints of the kubernetes Service cannot be written");
            }
        }
    }

    /// Runs namespaces, ServiceAccounts, garbage collection and the signer of certificates in tasks that end with the server.
    pub fn run_controllers(&self) {
        controllers::run(self.client(), self.authority.clone(), self.stop.clone());
    }

    /// Hands a request to the server in memory.
    ///
    /// # Errors
    /// Never at present; the type is that of every handler.
    pub async fn handle(&self, request: Request<Body>) -> Answer {
        self.shell.clone().handle(request).await
    }

    /// A handle for handing requests over in memory that does not keep the server alive by itself.
    pub fn handler(&self) -> impl Fn(Request<Body>) -> BoxFuture<'static, Answer> + Send + Sync + Clone + 'static {
        let shell = self.shell.clone();
        move |request| {
            let shell = shell.clone();
            Box::pin(shell.handle(request))
        }
    }

    /// A client inside this process with all rights.
    pub fn client(&self) -> Client {
        Client {
            core: self.shell.core.clone(),
            who: Arc::new(Identity::admin("system:apiserver")),
            manager: "kube-controller-manager",
        }
    }

    /// Where it listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The base URL, if it listens.
    pub fn url(&self) -> String {
        self.address.map(|address| format!("https://{address}")).unwrap_or_default()
    }

    /// The token of an administrator. Secret.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The certificate that clients must trust.
    pub fn authority_pem(&self) -> String {
        self.authority.certificate_pem()
    }

    /// The address of the `kubernetes` Service.
    pub fn service_address(&self) -> std::net::Ipv4Addr {
        self.shell.core.read().addresses.first()
    }

    /// A kubeconfig for an administrator with one context of that name. Secret: it holds the token.
    pub fn kubeconfig(&self, name: &str) -> String {
        kubeconfig(name, &self.url(), &self.authority_pem(), &self.admin_token)
    }
}

/// A kubeconfig as JSON, which is YAML.
fn kubeconfig(name: &str, url: &str, authority: &str, token: &str) -> String {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    wire::yaml::to_string(&config).unwrap_or_else(|_| config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a body as an administrator; the code and the body that come back.
    async fn send(server: &ApiServer, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", server.admin_token()))
            .header("content-type", "application/json")
            .body(wire::full(body.to_owned()))
            .unwrap();
        let response = server.handle(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = wire::collect(response.into_body(), 1 << 24).await.unwrap();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn no_body_brings_the_server_down() {
        let server = ApiServer::builder().seed(1).build().unwrap();
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for (path, body) in [
            ("/api/v1/namespaces/default/pods", "\"text\"".to_owned()),
            ("/api/v1/namespaces/default/pods", "{\"spec\": \"text\"}".to_owned()),
            ("/api/v1/namespaces/default/pods", "{\"metadata\": {\"name\": \"a\", \"labels\": 5}}".to_owned()),
            ("/api/v1/namespaces/default/pods", "{\"metadata\": {\"name\": \"a\"}, \"spec\": {\"containers\": [5]}}".to_owned()),
            (
                "/api/v1/namespaces/default/services",
                "{\"metadata\": {\"name\": \"a\"}, \"spec\": {\"ports\": [\"x\"]}}".to_owned(),
            ),
            (
                "/apis/apps/v1/namespaces/default/deployments",
                "{\"metadata\": {\"name\": \"a\"}, \"spec\": {\"template\": \"x\"}}".to_owned(),
            ),
            ("/api/v1/namespaces", "{\"metadata\": {\"name\": \"a\", \"labels\": \"x\"}}".to_owned()),
            (
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                "{\"metadata\": {\"name\": \"a.b\"}, \"spec\": {\"names\": []}}".to_owned(),
            ),
            ("/api/v1/namespaces/default/configmaps", deep),
            ("/api/v1/namespaces/default/configmaps", "{\"metadata\"".to_owned()),
        ] {
            let (code, answer) = send(&server, "POST", path, &body).await;
            assert!((400..=500).contains(&code), "{path}: {code} {answer}");
            assert_eq!(answer["kind"], "Status", "{path}: {answer}");
        }
        let (code, _) = send(&server, "GET", "/api/v1/namespaces/default/pods", "").await;
        assert_eq!(code, 200);
    }

    #[tokio::test]
    async fn a_pod_with_grace_goes_when_its_node_says_so() {
        let server = ApiServer::builder().seed(1).build().unwrap();
        let pod = r#"{"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]}}"#;
        let path = "/api/v1/namespaces/default/pods";
        assert_eq!(send(&server, "POST", path, pod).await.0, 201);
        let (code, deleted) = send(&server, "DELETE", &format!("{path}/p"), "").await;
        assert_eq!((code, deleted["metadata"]["deletionGracePeriodSeconds"].as_i64()), (200, Some(30)));
        let now = r#"{"gracePeriodSeconds": 0}"#;
        assert_eq!(send(&server, "DELETE", &format!("{path}/p"), now).await.0, 200);
        assert_eq!(send(&server, "GET", &format!("{path}/p"), "").await.0, 404);
    }

    #[tokio::test]
    async fn an_update_from_an_old_version_is_refused_and_one_without_changes_is_none() {
        let server = ApiServer::builder().seed(1).build().unwrap();
        let path = "/api/v1/namespaces/default/configmaps";
        let (_, first) = send(&server, "POST", path, r#"{"metadata": {"name": "a"}, "data": {"x": "1"}}"#).await;
        let mut second = first.clone();
        second["data"]["x"] = "2".into();
        let (code, updated) = send(&server, "PUT", &format!("{path}/a"), &second.to_string()).await;
        assert_eq!(code, 200);
        let (code, conflict) = send(&server, "PUT", &format!("{path}/a"), &first.to_string()).await;
        assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
        let (_, same) = send(&server, "PUT", &format!("{path}/a"), &updated.to_string()).await;
        assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);
    }
}
