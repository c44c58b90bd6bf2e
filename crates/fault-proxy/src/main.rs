//! `lab-fault-proxy`: the fault proxy alone, in front of any Kubernetes API.
//!
//! It listens on loopback (in a pod, on the pod's address), prints one line of JSON when it is ready and runs until it is
//! interrupted. Rules and ledger are reached at its control address, with a token.

mod kubeconfig;
mod pods;
mod secret;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use faults::{Control, Credentials, Ledger, NetworkUpstream, Proxy, Rule, WrongIdentities};
use jiff::Timestamp;
use kubeconfig::Access;
use pods::Pods;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wire::pki::{CertificateAuthority, Identity, RotatingIdentity};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The protocols that are offered.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// How often files that may be replaced are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A proxy in front of a Kubernetes API that fails requests on purpose, and accounts for each.
#[derive(Parser)]
#[command(name = "lab-fault-proxy", version)]
struct Options {
    /// The API server is that of this kubeconfig.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["upstream", "in_cluster"], conflicts_with_all = ["upstream", "in_cluster"])]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; the current one without it.
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
    /// The API server's URL.
    #[arg(long, value_name = "URL", conflicts_with = "in_cluster")]
    upstream: Option<String>,
    /// Certificates by which the API server at --upstream is known.
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_ca: Option<PathBuf>,
    /// Do not check the certificate of the API server at --upstream.
    #[arg(long, requires = "upstream", conflicts_with = "upstream_ca")]
    upstream_insecure: bool,
    /// A token of the proxy's own: for clients that show certificates, whom it impersonates.
    #[arg(long, value_name = "FILE")]
    upstream_token_file: Option<PathBuf>,
    /// Run in a pod: the API server is the cluster's, and addresses other than loopback may be listened on.
    #[arg(long)]
    in_cluster: bool,
    /// The folder of the pod's ServiceAccount, for --in-cluster.
    #[arg(long, value_name = "DIR", default_value = ACCOUNT, requires = "in_cluster")]
    service_account: PathBuf,
    /// Know the pods of this namespace by their addresses, so that faults on connections can name them; the ServiceAccount must be
    /// allowed to list and watch them.
    #[arg(long, value_name = "NAMESPACE", requires = "in_cluster")]
    pods_of: Option<String>,
    /// Answer `GET /healthz` here, over plain HTTP and nothing else: a probe at --listen would be one of the proxy's clients.
    #[arg(long, value_name = "ADDRESS", requires = "in_cluster")]
    health: Option<SocketAddr>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 16444)))]
    listen: SocketAddr,
    /// The serving certificate; one is made without it. It is read again when it is replaced.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of --certificate.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Clients may show certificates of this authority; needs a token or a certificate of the proxy's own.
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Where rules and ledger are reached.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    control: SocketAddr,
    /// The token for --control; it is made, with mode 0600, if the file is not there.
    #[arg(long, value_name = "FILE", default_value = "lab-fault-proxy.token")]
    token_file: PathBuf,
    /// Write a kubeconfig whose clients go through the proxy (mode 0600).
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    write_kubeconfig: Option<PathBuf>,
    /// Arm the faults of this file at once.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Keep the ledger in this file, and go on with what it has.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// Where a pod finds its ServiceAccount.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Options {
    /// Where the API server is and what is needed to get there.
    fn access(&self) -> Result<Access> {
        let token = self.upstream_token_file.as_deref().map(read).transpose()?.map(|token| token.trim().to_owned());
        if let Some(path) = &self.kubeconfig {
            let mut access = Access::load(path, self.context.as_deref())?;
            access.token = token.or(access.token);
            return Ok(access);
        }
        if self.in_cluster {
            let variable =
                |name: &str| std::env::var(name).with_context(|| format!("--in-cluster: {name} is not set; is this a pod?"));
            let host = variable("KUBERNETES_SERVICE_HOST")?;
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            let server = format!("https://{host}:{}", variable("KUBERNETES_SERVICE_PORT")?);
            let authority = read(&self.service_account.join("ca.crt"))?;
            return Ok(Access::of(server, Some(authority), token));
        }
        let server = self.upstream.clone().unwrap_or_default();
        let authority = self.upstream_ca.as_deref().map(read).transpose()?;
        if server.starts_with("https:") && authority.is_none() && !self.upstream_insecure {
            bail!("how is {server} known? Give --upstream-ca FILE, or --upstream-insecure");
        }
        Ok(Access::of(server, authority, token))
    }

    fn may_listen(&self, address: SocketAddr) -> Result<()> {
        ensure!(
            address.ip().is_loopback() || self.in_cluster,
            "{address} is not a loopback address; the proxy listens on this machine only, unless it is --in-cluster"
        );
        Ok(())
    }

    /// The rules of --faults.
    fn rules(&self) -> Result<Vec<Rule>> {
        let Some(path) = &self.faults else { return Ok(Vec::new()) };
        let text = read(path)?;
        faults::read_rules(&path.display().to_string(), &text).map_err(anyhow::Error::msg)
    }
}

/// The serving certificate, the authority that clients trust (if it was made here), and what is wrong on purpose.
struct Serving {
    identity: Arc<RotatingIdentity>,
    authority_pem: Option<String>,
    wrong: WrongIdentities,
}

fn serving(options: &Options) -> Result<Serving> {
    let address: IpAddr = options.listen.ip();
    let authority = CertificateAuthority::new("lab-fault-proxy")?;
    let wrong = WrongIdentities::new(&authority, address)?;
    let (identity, authority_pem) = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => (Identity { certificate_pem: read(certificate)?, key_pem: read(key)? }, None),
        _ => (
            authority.server("lab-fault-proxy", &["localhost", "kubernetes", "kubernetes.default.svc"], &[address])?,
            Some(authority.certificate_pem()),
        ),
    };
    Ok(Serving { identity: Arc::new(RotatingIdentity::new(&identity)?), authority_pem, wrong })
}

/// Reads the certificate again whenever its file was replaced.
async fn rotate(certificate: PathBuf, key: PathBuf, identity: Arc<RotatingIdentity>) {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut last = (changed(&certificate), changed(&key));
    loop {
        tokio::time::sleep(LOOK).await;
        let now = (changed(&certificate), changed(&key));
        if now == last {
            continue;
        }
        let pair = read(&certificate).and_then(|certificate_pem| Ok(Identity { certificate_pem, key_pem: read(&key)? }));
        match pair.and_then(|pair| Ok(identity.replace(&pair)?)) {
            Ok(()) => {
                last = now;
                tracing::info!("the certificate was replaced");
            }
            // Half of the pair may be there; the next look tells.
            Err(error) => tracing::warn!("the new certificate cannot be used, the old one stays: {error:#}"),
        }
    }
}

/// Answers that the program is there.
async fn health(request: http::Request<hyper::body::Incoming>) -> wire::Answer {
    let (code, text) = if request.uri().path() == "/healthz" { (200, "ok") } else { (404, "there is /healthz") };
    Ok(wire::text(http::StatusCode::from_u16(code).unwrap_or_default(), text))
}

async fn run(options: Options) -> Result<()> {
    options.may_listen(options.listen)?;
    options.may_listen(options.control)?;
    let rules = options.rules()?;
    let access = options.access()?;
    let plain = match &access.authority {
        Some(pem) => wire::pki::client_config(pem, &[])?,
        None => wire::pki::unverified_client_config(),
    };
    let mut upstream = NetworkUpstream::new(&access.server, &plain).map_err(anyhow::Error::msg)?;
    // What stands for a certificate that clients of the proxy cannot show.
    let local = wire::random_token()?;
    let certificate = access.identity.as_ref().map(|own| own.client_config(access.authority.as_deref(), &[])).transpose()?;
    let own = certificate.map(Credentials::Certificate).or_else(|| access.token.clone().map(Credentials::Token));
    ensure!(
        options.client_ca.is_none() || own.is_some(),
        "--client-ca needs credentials of the proxy's own: --upstream-token-file"
    );
    let user_token = if access.identity.is_some() { local.clone() } else { access.token.clone().unwrap_or_default() };
    if let Some(own) = own {
        upstream = upstream.with_credentials(&local, own, &plain).map_err(anyhow::Error::msg)?;
    }

    let Serving { identity, authority_pem, wrong } = serving(&options)?;
    let clients = options.client_ca.as_deref().map(read).transpose()?;
    let tls = identity.clone().server_config(&ALPN, clients.as_deref())?;
    let ledger = match &options.ledger {
        Some(path) => Ledger::with_journal(path, Timestamp::now()).map_err(anyhow::Error::msg)?,
        None => Ledger::default(),
    };
    let pods = Pods::default();
    if let Some(namespace) = options.pods_of.clone() {
        // A way of its own: what it asks is none of the clients' requests.
        let own = NetworkUpstream::new(&access.server, &plain).map_err(anyhow::Error::msg)?;
        tokio::spawn(pods::follow(pods.clone(), own, namespace, options.service_account.join("token")));
    }
    let proxy = Arc::new(Proxy::new(upstream, pods).with_ledger(ledger).with_wrong_identities(Arc::new(wrong)));
    proxy.engine().add_all(Timestamp::now(), rules)?;

    let bind = |address: SocketAddr| wire::bind(address).with_context(|| format!("cannot listen on {address}"));
    let (listener, control) = (bind(options.listen)?, bind(options.control)?);
    let token = secret::read_or_make(&options.token_file)?;
    let url = format!("https://{}", listener.local_addr()?);
    let mut ready = json!({
        "url": url,
        "control": format!("http://{}", control.local_addr()?),
        "tokenFile": options.token_file,
    });
    if let Some(path) = &options.write_kubeconfig {
        let authority = match (&authority_pem, &options.certificate) {
            (Some(pem), _) => pem.clone(),
            (None, Some(file)) => read(file)?,
            (None, None) => String::new(),
        };
        secret::write(path, &access.through_proxy(&url, &authority, &user_token))?;
        ready["kubeconfig"] = json!(path);
    } else if let Some(pem) = &authority_pem {
        ready["certificateAuthority"] = json!(pem);
    }
    let stop = CancellationToken::new();
    let handler = Control::new(proxy.engine().clone(), proxy.ledger().clone()).handler(token);
    tokio::spawn(wire::serve(control, None, handler, Arc::new(()), stop.clone()));
    if let Some(address) = options.health {
        tokio::spawn(wire::serve(bind(address)?, None, Arc::new(health), Arc::new(()), stop.clone()));
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let serving = wire::serve_on_threads(listener, Some(tls), proxy.clone(), proxy, stop.clone(), threads);
    if let (Some(certificate), Some(key)) = (options.certificate, options.key) {
        tokio::spawn(rotate(certificate, key, identity));
    }
    println!("{ready}");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = serving => served.context("cannot start a thread")?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    stop.cancel();
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAB_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    wire::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
