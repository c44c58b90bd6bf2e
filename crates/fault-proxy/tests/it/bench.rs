//! An API server in this process, and the program in front of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apiserver::ApiServer;
use serde_json::Value;
use wire::pki::CertificateAuthority;

pub(crate) struct Bench {
    pub(crate) server: ApiServer,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) folder: tempfile::TempDir,
}

/// The program, which ends with this.
pub(crate) struct Program {
    child: Child,
    /// Its line of JSON.
    pub(crate) ready: Value,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(change: impl FnOnce(apiserver::Builder) -> apiserver::Builder) -> Self {
        let authority = Arc::new(CertificateAuthority::new("kubernetes").unwrap());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = change(ApiServer::builder().authority(authority.clone())).start(any).await.unwrap();
        let bench = Self { server, authority, folder: tempfile::tempdir().unwrap() };
        bench.write("kubeconfig", &bench.server.kubeconfig("test"));
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The program behind the kubeconfig of the server's administrator.
    pub(crate) fn run(&self, more: &[&str]) -> Program {
        let proxied = self.path("proxied");
        let mut arguments = vec!["--kubeconfig", "kubeconfig", "--write-kubeconfig", proxied.to_str().unwrap()];
        arguments.extend(more);
        start(self.folder.path(), &arguments)
    }

    /// A client of the proxy by the kubeconfig that it wrote, and its base URL.
    pub(crate) fn client(&self) -> Client {
        Client::of(&std::fs::read_to_string(self.path("proxied")).unwrap())
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab-fault-proxy"));
    command.args(["--listen", "127.0.0.1:0"]).args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Program {
    let mut child = command(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Ok(ready) = serde_json::from_str(&line) else {
        let mut said = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut said);
        panic!("the proxy did not start: {said}");
    };
    Program { child, ready }
}

/// What the program says when it does not start.
pub(crate) fn refused(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stderr, .. } = command(folder, arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

impl Program {
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn url(&self) -> &str {
        self.ready["url"].as_str().unwrap()
    }

    /// Resident memory in MB.
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Asks the control endpoint.
    pub(crate) async fn control(&self, folder: &Path, path: &str) -> Value {
        let token = std::fs::read_to_string(folder.join(self.ready["tokenFile"].as_str().unwrap())).unwrap();
        let url = format!("{}{path}", self.ready["control"].as_str().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(url).bearer_auth(token.trim()).send().await.unwrap().json().await.unwrap()
    }
}

/// A client with the URL, the authority and the token of a kubeconfig.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) authority: String,
}

impl Client {
    pub(crate) fn of(kubeconfig: &str) -> Self {
        use base64::Engine as _;
        wire::install_crypto_provider();
        let config: Value = serde_json::from_str(kubeconfig).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let authority = cluster["certificate-authority-data"].as_str().unwrap();
        let authority = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(authority).unwrap()).unwrap();
        let root = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([root]).timeout(Duration::from_secs(30)).build().unwrap();
        Self {
            http,
            url: cluster["server"].as_str().unwrap().to_owned(),
            token: config["users"][0]["user"]["token"].as_str().unwrap().to_owned(),
            authority,
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.request("GET", path).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }
}
