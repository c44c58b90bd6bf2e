//! The `proxy` subresources of pods and Services: one request handed on to where they point.

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kubeapi::{RequestInfo, Status, object};
use serde_json::Value;
use wire::{Body, Connection, Dial};

use super::{Arrived, Connect, PodBackend, upgrade_of, wants_upgrade};
use crate::core::State;
use crate::resource::StorageKey;

/// `[https:]NAME[:PORT]`, as the name in a proxy's path.
struct Place<'a> {
    secure: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Place<'a> {
    /// `k8s.io/apimachinery/pkg/util/net` `SplitSchemeNamePort`.
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https") && !name.is_empty();
        known.then_some(Self { secure: scheme == "https", name, port })
    }
}

/// The object's name in a request for a proxy, without scheme and port.
pub(crate) fn name(info: &RequestInfo) -> Result<&str, Status> {
    let place = Place::parse(&info.name);
    place
        .map(|place| place.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {} request \"{}\"", info.resource, info.name)))
}

/// Answers a request for the proxy of a pod.
pub(super) async fn pod(request: Connect<'_>) -> Result<Response<Body>, Status> {
    let place = Place::parse(&request.info.name).ok_or_else(|| Status::bad_request("invalid pod request"))?;
    let port = if place.port.is_empty() {
        let ports = request.pod["spec"]["containers"].as_array().into_iter().flatten();
        ports.filter_map(|container| container["ports"][0]["containerPort"].as_u64()).next().unwrap_or(80)
    } else {
        place.port.parse().map_err(|_| Status::bad_request(format!("invalid port \"{}\"", place.port)))?
    };
    let port = u16::try_from(port).map_err(|_| Status::bad_request(format!("invalid port \"{port}\"")))?;
    forward(request, port, place.secure).await
}

/// The pod and port behind a Service's proxy, chosen among those that are ready.
pub(crate) fn behind_service(state: &State, info: &RequestInfo) -> Result<(Value, u16, bool), Status> {
    let place =
        Place::parse(&info.name).ok_or_else(|| Status::bad_request(format!("invalid service request \"{}\"", info.name)))?;
    let stored = state.store.get(&StorageKey::new("", "services"), &info.namespace, place.name);
    let service = stored.map(|stored| stored.value()).ok_or_else(|| Status::not_found("", "services", place.name))?;
    let none =
        || Status::new(503, format!("no endpoints available for service \"{}\"", info.name)).with_reason("ServiceUnavailable");
    // A number is the Service's port; its name is what the endpoints know.
    let entries = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let port_name = if place.port.is_empty() {
        if entries.len() == 1 { entries[0]["name"].as_str().unwrap_or_default() } else { "" }
    } else if let Ok(number) = place.port.parse::<i64>() {
        let entry = entries.iter().find(|entry| entry["port"].as_i64() == Some(number));
        let missing = || {
            let message = format!("no service port {number} found for service \"{}\"", place.name);
            Status::new(503, message).with_reason("ServiceUnavailable")
        };
        entry.ok_or_else(missing)?["name"].as_str().unwrap_or_default()
    } else {
        place.port
    };
    let endpoints = state.store.get(&StorageKey::new("", "endpoints"), &info.namespace, place.name).map(|stored| stored.value());
    for subset in endpoints.iter().flat_map(|of| of["subsets"].as_array().into_iter().flatten()) {
        let port =
            subset["ports"].as_array().into_iter().flatten().find(|port| port["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|port| u16::try_from(port["port"].as_i64()?).ok()) else { continue };
        for address in subset["addresses"].as_array().into_iter().flatten() {
            let pod = address["targetRef"]["name"].as_str().unwrap_or_default();
            if let Some(pod) = state.store.get(&StorageKey::new("", "pods"), &info.namespace, pod) {
                return Ok((pod.value(), port, place.secure));
            }
        }
    }
    Err(none())
}

/// Hands a request on to a port of a pod.
pub(crate) async fn forward(request: Connect<'_>, port: u16, secure: bool) -> Result<Response<Body>, Status> {
    let Connect { pods, pod, arrived, .. } = request;
    let Arrived { method, target, headers, upgrade, body } = arrived;
    let unavailable = |error: &dyn std::fmt::Display| {
        Status::new(503, format!("error trying to reach service: {error}")).with_reason("ServiceUnavailable")
    };
    let connection = open(&**pods, &pod, port, secure).await.map_err(|error| unavailable(&error))?;
    let host = format!("{}:{port}", object::name(&pod));
    let onward = onward(method, &rest(target), headers, &host, body)?;
    let response = connection.send(onward).await.map_err(|error| unavailable(&error))?;
    join(headers, upgrade, response)
}

async fn open(pods: &dyn PodBackend, pod: &Value, port: u16, secure: bool) -> Result<Connection, String> {
    let stream = pods.dial(pod, port).await.map_err(|error| error.to_string())?;
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    // As the real server does: a pod's certificate has no name that could be checked.
    let tls = secure.then(wire::pki::unverified_client_config);
    Connection::over(stream, &Dial { address, source: None, tls, server_name: None }).await.map_err(|error| error.to_string())
}

/// What follows `/api/v1/namespaces/NAMESPACE/RESOURCE/NAME/proxy` in a target: path and query as they were sent.
fn rest(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = path.splitn(9, '/').nth(8).unwrap_or_default();
    match query {
        Some(query) => format!("/{path}?{query}"),
        None => format!("/{path}"),
    }
}

/// The request as it goes on: without the client's credentials, and on a connection of its own.
fn onward(method: &Method, target: &str, headers: &HeaderMap, host: &str, body: Body) -> Result<Request<Body>, Status> {
    let upgrades = wants_upgrade(headers);
    let mut request = Request::builder().method(method).uri(target);
    if let Some(out) = request.headers_mut() {
        for (name, value) in headers.iter().filter(|(name, _)| is_handed_on(name, upgrades)) {
            out.append(name.clone(), value.clone());
        }
        if let Ok(value) = host.parse() {
            out.insert(header::HOST, value);
        }
    }
    request.body(body).map_err(|error| Status::bad_request(error.to_string()))
}

/// Headers that go on to another server: not those of the connection, and no claim of who it is.
pub(crate) fn is_handed_on(name: &HeaderName, upgrades: bool) -> bool {
    match name.as_str() {
        "connection" | "upgrade" => upgrades,
        "host" | "authorization" | "keep-alive" | "te" | "trailer" | "transfer-encoding" => false,
        name => !name.starts_with("x-remote-") && !name.starts_with("impersonate-"),
    }
}

/// The answer of another server for the client; if it is an upgrade, the two connections become one.
pub(crate) fn join(
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    mut response: Response<Incoming>,
) -> Result<Response<Body>, Status> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(wire::incoming));
    }
    if !wants_upgrade(headers) {
        return Err(Status::new(502, "the server switched protocols without being asked"));
    }
    let client = upgrade_of(upgrade)?;
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        }
    });
    Ok(response.map(|_| wire::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_target_is_as_it_was_sent() {
        for (target, expected) in [
            ("/api/v1/namespaces/proxy/pods/proxy:80/proxy", "/"),
            ("/api/v1/namespaces/a/services/b/proxy/api/v1/query?query=up%7B%7D", "/api/v1/query?query=up%7B%7D"),
            ("/api/v1/namespaces/a/services/b/proxy/a%2Fb//c/", "/a%2Fb//c/"),
        ] {
            assert_eq!(rest(target), expected);
        }
    }

    #[test]
    fn names_have_schemes_and_ports() {
        for (text, expected) in [
            ("web", Some((false, "web", ""))),
            ("web:8080", Some((false, "web", "8080"))),
            ("https:web:", Some((true, "web", ""))),
            ("http:web:metrics", Some((false, "web", "metrics"))),
            ("ftp:web:1", None),
            (":1", None),
            ("a:b:c:d", None),
        ] {
            let found = Place::parse(text).map(|place| (place.secure, place.name, place.port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
