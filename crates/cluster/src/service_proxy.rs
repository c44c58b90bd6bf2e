//! ClusterIPs: for each Service port a listener on the Service's own loopback address that hands connections to a ready
//! endpoint, one after the other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apiserver::{Client, Gr};
use kubeapi::object;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events;
use crate::informer::Informer;

type Backends = Arc<Vec<SocketAddr>>;

struct Listener {
    backends: watch::Sender<Backends>,
    stop: CancellationToken,
}

pub(crate) async fn run(client: Client, except: (&'static str, &'static str), stop: CancellationToken) {
    let mut services = Informer::new(&client, Gr::core("services"));
    let mut slices = Informer::new(&client, Gr::of("discovery.k8s.io", "endpointslices"));
    let mut listeners: BTreeMap<SocketAddr, Listener> = BTreeMap::new();
    let mut refused: BTreeMap<SocketAddr, String> = BTreeMap::new();
    loop {
        services.sync();
        slices.sync();
        let mut wanted: BTreeMap<SocketAddr, (Backends, Arc<Value>)> = BTreeMap::new();
        for service in services.objects() {
            if (object::namespace(service), object::name(service)) == except {
                continue;
            }
            let slices: Vec<&Value> = slices.in_namespace(object::namespace(service)).map(|slice| &**slice).collect();
            for (address, backends) in targets(service, &slices) {
                wanted.insert(address, (Arc::new(backends), service.clone()));
            }
        }
        listeners.retain(|address, listener| {
            let keep = wanted.contains_key(address);
            if !keep {
                listener.stop.cancel();
            }
            keep
        });
        refused.retain(|address, _| wanted.contains_key(address));
        for (address, (backends, service)) in wanted {
            if let Some(listener) = listeners.get(&address) {
                listener.backends.send_if_modified(|old| {
                    let changed = **old != *backends;
                    *old = backends.clone();
                    changed
                });
                continue;
            }
            if refused.contains_key(&address) {
                continue;
            }
            match wire::bind(address) {
                Ok(socket) => {
                    let (sender, receiver) = watch::channel(backends);
                    let stop = stop.child_token();
                    tokio::spawn(accept(socket, receiver, stop.clone()));
                    listeners.insert(address, Listener { backends: sender, stop });
                }
                Err(error) => {
                    // An ordinary user may not bind below 1024; the pods themselves are reachable all the same.
                    let message = format!("the service address {address} is not listened on: {error}");
                    events::record(&client, &service, "service-proxy", "Warning", "ListenFailed", &message);
                    refused.insert(address, message);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = services.changed() => {}
            () = slices.changed() => {}
        }
    }
}

/// The addresses of a Service with the ready endpoints behind each.
fn targets(service: &Value, slices: &[&Value]) -> Vec<(SocketAddr, Vec<SocketAddr>)> {
    let address = service["spec"]["clusterIP"].as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok());
    // A lab listens on loopback and nowhere else, whatever an object says.
    let Some(address) = address.filter(std::net::IpAddr::is_loopback) else { return Vec::new() };
    let of_service = |slice: &&&Value| object::label(slice, "kubernetes.io/service-name") == Some(object::name(service));
    let mut targets = Vec::new();
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        let Some(number) = port["port"].as_u64().and_then(|number| u16::try_from(number).ok()) else { continue };
        let name = port["name"].as_str().unwrap_or_default();
        let mut backends = Vec::new();
        for slice in slices.iter().filter(of_service) {
            let target = slice["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|port| port["name"].as_str().unwrap_or_default() == name)
                .and_then(|port| port["port"].as_u64())
                .and_then(|number| u16::try_from(number).ok());
            let Some(target) = target else { continue };
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                if endpoint["conditions"]["ready"] == true
                    && let Some(ip) = endpoint["addresses"][0].as_str().and_then(|text| text.parse().ok())
                {
                    backends.push(SocketAddr::new(ip, target));
                }
            }
        }
        targets.push((SocketAddr::new(address, number), backends));
    }
    targets
}

async fn accept(socket: tokio::net::TcpListener, backends: watch::Receiver<Backends>, stop: CancellationToken) {
    let next = AtomicUsize::new(0);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((mut client, peer)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let choice = {
            let backends = backends.borrow();
            // Without endpoints the connection is closed, which a client sees as it would a reset by kube-proxy.
            if backends.is_empty() {
                continue;
            }
            backends[next.fetch_add(1, Ordering::Relaxed) % backends.len()]
        };
        let stop = stop.clone();
        tokio::spawn(async move {
            let copy = async {
                let Ok(mut server) = connect(peer.ip(), choice).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            };
            tokio::select! { () = stop.cancelled() => {}, () = copy => {} }
        });
    }
}

/// Connects from the client's own address, as behind a kube-proxy, which rewrites only where a packet goes; from any other address where
/// the system does not let us have that one.
async fn connect(client: IpAddr, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if client.is_loopback() && socket.bind((client, 0).into()).is_ok() {
        return socket.connect(server).await;
    }
    TcpStream::connect(server).await
}
