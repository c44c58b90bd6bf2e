//! Port-forward: connections to ports of a pod.
//!
//! Over SPDY each connection is a pair of streams with the same `requestID`: one for data, one for what went wrong. Over numbered
//! channels there is one connection a port: channel 2n carries data, 2n+1 errors, and each begins with its port as two bytes,
//! low first (`k8s.io/kubelet/pkg/cri/streaming/portforward`).

use std::collections::HashMap;
use std::sync::Arc;

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubeapi::{Status, object};
use serde_json::Value;
use wire::Body;
use wire::mux::{Output, Pipe, copy_to, spdy, websocket};

use super::{Agreement, Carrier, Connect, PodBackend, negotiate, spdy_session, upgrade_of};

const SPDY: &[&str] = &["portforward.k8s.io"];
const CHANNELS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// How many ports one WebSocket may ask for: two channels each, numbered by a byte.
const MAX_PORTS: usize = 100;

/// How many streams may wait for the other one of their pair; a client that never sends it is cut off.
const MAX_WAITING: usize = 256;

#[derive(Clone)]
struct Target {
    pods: Arc<dyn PodBackend>,
    pod: Arc<Value>,
}

pub(super) fn answer(request: Connect<'_>) -> Result<Response<Body>, Status> {
    let Agreement { carrier, response, .. } = negotiate(request.arrived.headers, SPDY, CHANNELS)?;
    let upgrade = upgrade_of(request.arrived.upgrade)?;
    let target = Target { pods: request.pods.clone(), pod: Arc::new(request.pod) };
    if matches!(carrier, Carrier::Channels) {
        let ports = ports(request.info.query.all("ports"))?;
        tokio::spawn(over_channels(upgrade, target, ports));
    } else {
        tokio::spawn(over_spdy(upgrade, carrier, target));
    }
    Ok(response)
}

/// The ports of a query: the parameter may be there several times, and each may have several with commas between them.
fn ports<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, Status> {
    let mut ports = Vec::new();
    for text in values.flat_map(|value| value.split(',')) {
        let port = text.parse::<u16>().ok().filter(|port| *port > 0);
        ports.push(port.ok_or_else(|| Status::bad_request(format!("query parameter \"ports\" cannot be \"{text}\"")))?);
    }
    match ports.len() {
        0 => Err(Status::bad_request("query parameter \"ports\" is required")),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(Status::bad_request(format!("at most {MAX_PORTS} ports can be forwarded at once"))),
    }
}

impl Target {
    /// Carries one connection until the pod has nothing more to say.
    async fn carry(&self, port: u16, data: Pipe, errors: &Output) {
        let Pipe { mut input, output } = data;
        match self.pods.dial(&self.pod, port).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                // The client may end its half and still wait for the answer; once the pod has ended there is nothing to wait for.
                let to_pod = tokio::spawn(async move { copy_to(&mut input, writer).await });
                output.copy_from(reader).await;
                to_pod.abort();
            }
            Err(error) => {
                let (name, uid) = (object::name(&self.pod), object::uid(&self.pod));
                errors.send(format!("error forwarding port {port} to pod {name}, uid {uid}: {error}")).await;
            }
        }
        output.end().await;
    }
}

async fn over_spdy(upgrade: OnUpgrade, carrier: Carrier, target: Target) {
    let Ok(mut session) = spdy_session(upgrade, &carrier).await else { return };
    // The half of a pair that came first, by its request.
    let mut waiting: HashMap<String, (spdy::Headers, Pipe)> = HashMap::new();
    while let Some((headers, pipe)) = session.accept().await {
        let request = headers.get("requestid").cloned().unwrap_or_default();
        let Some((first, other)) = waiting.remove(&request) else {
            if waiting.len() >= MAX_WAITING {
                return;
            }
            waiting.insert(request, (headers, pipe));
            continue;
        };
        let is_data = |headers: &spdy::Headers| headers.get("streamtype").is_some_and(|kind| kind == "data");
        let (data, errors) = if is_data(&first) { (other, pipe) } else { (pipe, other) };
        let port = headers.get("port").and_then(|port| port.parse().ok()).unwrap_or_default();
        let target = target.clone();
        tokio::spawn(async move {
            target.carry(port, data, &errors.output).await;
            errors.output.end().await;
        });
    }
}

async fn over_channels(upgrade: OnUpgrade, target: Target, ports: Vec<u16>) {
    let Ok(upgraded) = upgrade.await else { return };
    let count = u8::try_from(ports.len() * 2).unwrap_or(u8::MAX);
    let mut pipes = websocket::channels(TokioIo::new(upgraded), count).await.into_iter();
    for port in ports {
        let (Some(data), Some(errors)) = (pipes.next(), pipes.next()) else { return };
        let target = target.clone();
        tokio::spawn(async move {
            for output in [&data.output, &errors.output] {
                output.send(port.to_le_bytes().to_vec()).await;
            }
            target.carry(port, data, &errors.output).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_singly_or_with_commas() {
        for (values, expected) in [
            (vec!["80"], Ok(vec![80])),
            (vec!["80,443", "9090"], Ok(vec![80, 443, 9090])),
            (vec![], Err("query parameter \"ports\" is required")),
            (vec!["http"], Err("query parameter \"ports\" cannot be \"http\"")),
            (vec!["0"], Err("query parameter \"ports\" cannot be \"0\"")),
        ] {
            let found = ports(values.iter().copied()).map_err(|status| status.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{values:?}");
        }
    }
}
