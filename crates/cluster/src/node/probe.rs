//! Probes: HTTP GET (certificates are not verified, as a kubelet does not) and TCP connect.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::Request;
use serde_json::Value;
use wire::{Connection, Dial};

/// How often a container that was never ready is asked: a lab is up when its pods are, so this is what people wait for.
const EAGER: Duration = Duration::from_millis(20);

enum Check {
    Http { tls: bool, path: String },
    Tcp,
}

/// A probe of a container's spec.
pub(crate) struct Probe {
    check: Check,
    address: SocketAddr,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    failures: u32,
}

impl Probe {
    /// Reads a probe; exec and gRPC probes count as none.
    pub(crate) fn from_spec(container: &Value, key: &str, address: Ipv4Addr) -> Option<Self> {
        let probe = container.get(key)?;
        let seconds = |name: &str, default: u64| Duration::from_secs(probe[name].as_u64().unwrap_or(default));
        let (check, port) = if probe["httpGet"].is_object() {
            let get = &probe["httpGet"];
            let check = Check::Http { tls: get["scheme"] == "HTTPS", path: get["path"].as_str().unwrap_or("/").to_owned() };
            (check, &get["port"])
        } else if probe["tcpSocket"].is_object() {
            (Check::Tcp, &probe["tcpSocket"]["port"])
        } else {
            return None;
        };
        let port = match port {
            Value::String(name) => {
                container["ports"].as_array()?.iter().find(|port| port["name"] == name.as_str())?["containerPort"].as_u64()?
            }
            number => number.as_u64()?,
        };
        Some(Self {
            check,
            address: SocketAddr::from((address, u16::try_from(port).ok()?)),
            delay: seconds("initialDelaySeconds", 0),
            period: seconds("periodSeconds", 10),
            timeout: seconds("timeoutSeconds", 1),
            failures: probe["failureThreshold"].as_u64().unwrap_or(3) as u32,
        })
    }

    async fn once(&self) -> bool {
        tokio::time::timeout(self.timeout, self.attempt()).await.unwrap_or(false)
    }

    async fn attempt(&self) -> bool {
        let Check::Http { tls, path } = &self.check else {
            return tokio::net::TcpStream::connect(self.address).await.is_ok();
        };
        let dial =
            Dial { address: self.address, source: None, tls: tls.then(wire::pki::unverified_client_config), server_name: None };
        let Ok(connection) = Connection::open(&dial).await else { return false };
        let request = Request::get(path)
            .header("host", self.address.to_string())
            .header("user-agent", "kube-probe/1.36")
            .body(wire::empty());
        match request {
            Ok(request) => connection.send(request).await.is_ok_and(|response| response.status().as_u16() < 400),
            Err(_) => false,
        }
    }
}

/// Tells each change of readiness, for ever.
pub(crate) async fn follow(probe: &Probe, mut changed: impl FnMut(bool)) {
    // A never-ready container is asked eagerly from the start: the delay of the spec only spares a real kubelet noise.
    while !probe.once().await {
        tokio::time::sleep(EAGER).await;
    }
    changed(true);
    let mut ready = true;
    let mut failed = 0;
    loop {
        tokio::time::sleep(if ready { probe.period } else { EAGER * 5 }).await;
        if probe.once().await {
            failed = 0;
            if !ready {
                ready = true;
                changed(true);
            }
        } else {
            failed += 1;
            if ready && failed >= probe.failures {
                ready = false;
                changed(false);
            }
        }
    }
}

/// Returns when a liveness probe failed as often as it may.
pub(crate) async fn until_dead(probe: &Probe) {
    tokio::time::sleep(probe.delay).await;
    let mut failed = 0;
    loop {
        tokio::time::sleep(probe.period).await;
        failed = if probe.once().await { 0 } else { failed + 1 };
        if failed >= probe.failures {
            return;
        }
    }
}
