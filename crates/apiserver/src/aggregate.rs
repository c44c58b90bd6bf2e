//! API aggregation: group versions that an APIService hands to another server.
//!
//! Requests are authenticated and authorised here, then handed on with a front-proxy certificate and `X-Remote-*` headers,
//! as kube-aggregator does; the other server finds the certificate's authority in `extension-apiserver-authentication`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use kubeapi::{Identity, Status, object};
use serde_json::{Value, json};
use wire::{Body, Connection, Dial};

use crate::client::{Client, Gr};
use crate::connect::{self, Arrived};
use crate::core::{Core, State, timestamp};
use crate::resource::StorageKey;
use crate::webhook::resolve_service;

/// How long discovery waits for another server.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(2);

const API_SERVICES: Gr = Gr::of("apiregistration.k8s.io", "apiservices");

/// A group version that is served elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) group: String,
    pub(crate) version: String,
    spec: Value,
}

/// All group versions that are served elsewhere.
pub(crate) fn remotes(state: &State) -> Vec<Remote> {
    let storage = StorageKey::new(API_SERVICES.group, API_SERVICES.plural);
    state
        .store
        .list(&storage, "", None)
        .filter_map(|stored| {
            let mut service = stored.value();
            let text = |name: &str| service["spec"][name].as_str().unwrap_or_default().to_owned();
            let (group, version) = (text("group"), text("version"));
            let remote = service["spec"]["service"].is_object() && !state.registry.versions(&group).contains(&version);
            remote.then(|| Remote { group, version, spec: service["spec"].take() })
        })
        .collect()
}

/// The server of a path, if it is another one.
pub(crate) fn find(state: &State, path: &str) -> Option<Remote> {
    if state.registry.remotes.is_empty() {
        return None;
    }
    let mut parts = path.trim_start_matches('/').split('/');
    let ("apis", group, version) = (parts.next()?, parts.next()?, parts.next()?) else { return None };
    state.registry.remotes.iter().find(|remote| remote.group == group && remote.version == version).cloned()
}

impl Remote {
    async fn open(&self, core: &Core) -> Result<(Connection, String), String> {
        let service = &self.spec["service"];
        let text = |name: &str| service[name].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service["port"].as_i64().unwrap_or(443);
        let address = resolve_service(&core.read(), namespace, name, port)
            .ok_or_else(|| format!("service/{name} in \"{namespace}\" has no endpoints"))?;
        let host = format!("{name}.{namespace}.svc");
        let authority = self.spec["caBundle"].as_str().and_then(|text| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).ok()
        });
        let authority = authority.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if authority.is_none() && self.spec["insecureSkipTLSVerify"] != true {
            return Err("the APIService has neither caBundle nor insecureSkipTLSVerify".to_owned());
        }
        let identity = core.front_proxy.get().ok_or("this server has no front-proxy certificate")?;
        let tls = identity.client_config(authority.as_deref(), &["http/1.1"]).map_err(|error| error.to_string())?;
        let dial = Dial { address, source: None, tls: Some(tls), server_name: Some(host.clone()) };
        let connection = Connection::open(&dial).await.map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {why}")
        })?;
        Ok((connection, host))
    }

    /// Hands a request on and its answer back.
    pub(crate) async fn forward(&self, core: &Core, who: &Identity, arrived: Arrived<'_>) -> Result<Response<Body>, Status> {
        let Arrived { method, target, headers, upgrade, body } = arrived;
        let upgrades = connect::wants_upgrade(headers);
        let unavailable = |why: String| Status::new(503, format!("error trying to reach service: {why}"));
        let (connection, host) = self.open(core).await.map_err(unavailable)?;
        let mut request = Request::builder().method(method).uri(target);
        if let Some(out) = request.headers_mut() {
            for (name, value) in headers.iter().filter(|(name, _)| connect::is_handed_on(name, upgrades)) {
                out.append(name.clone(), value.clone());
            }
            let mut add = |name: String, text: &str| {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(text)) {
                    out.append(name, value);
                }
            };
            add("host".to_owned(), &host);
            add("x-remote-user".to_owned(), &who.name);
            for group in &who.groups {
                add("x-remote-group".to_owned(), group);
            }
            for (key, values) in &who.extra {
                values.iter().for_each(|value| add(format!("x-remote-extra-{}", key.replace('/', "%2f")), value));
            }
        }
        let request = request.body(body).map_err(|error| unavailable(error.to_string()))?;
        let response = connection.send(request).await.map_err(|error| unavailable(error.to_string()))?;
        connect::join(headers, upgrade, response)
    }

    /// The resources of the group version, as its server lists them.
    pub(crate) async fn resources(&self, core: &Core) -> Option<Value> {
        let path = format!("/apis/{}/{}", self.group, self.version);
        let who = Identity::admin("system:kube-aggregator");
        let headers = HeaderMap::new();
        let arrived =
            Arrived { method: &http::Method::GET, target: &path, headers: &headers, upgrade: None, body: wire::empty() };
        let answer = self.forward(core, &who, arrived);
        let response = tokio::time::timeout(DISCOVERY_TIMEOUT, answer).await.ok()?.ok()?;
        let bytes = wire::collect(response.into_body(), 1 << 22).await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// A resource list of another server as an entry of `APIGroupDiscoveryList`.
pub(crate) fn discovery_entry(remote: &Remote, list: Option<&Value>) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for resource in list.and_then(|list| list["resources"].as_array()).into_iter().flatten() {
        let name = resource["name"].as_str().unwrap_or_default();
        let kind = json!({"group": remote.group, "version": remote.version, "kind": resource["kind"]});
        match name.split_once('/') {
            None => resources.push(json!({
                "resource": name,
                "responseKind": kind,
                "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
                "singularResource": resource["singularName"],
                "verbs": resource["verbs"],
            })),
            Some((parent, sub)) => {
                let entry = json!({"subresource": sub, "responseKind": kind, "verbs": resource["verbs"]});
                let parent = match resources.iter().position(|resource| resource["resource"] == parent) {
                    Some(at) => &mut resources[at],
                    None => {
                        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
                        resources.push(
                            json!({"resource": parent, "responseKind": {}, "scope": scope, "singularResource": "", "verbs": []}),
                        );
                        let last = resources.len() - 1;
                        &mut resources[last]
                    }
                };
                if parent["subresources"].is_null() {
                    parent["subresources"] = json!([]);
                }
                if let Some(list) = parent["subresources"].as_array_mut() {
                    list.push(entry);
                }
            }
        }
    }
    let freshness = if list.is_some() { "Current" } else { "Stale" };
    json!({"version": remote.version, "resources": resources, "freshness": freshness})
}

/// Keeps the `Available` condition of APIServices.
pub(crate) async fn run(client: Client) {
    let Ok(mut services) = client.watch(API_SERVICES) else { return };
    let Ok(mut endpoints) = client.watch(Gr::core("endpoints")) else { return };
    loop {
        let seen = (services.take(), endpoints.take());
        if seen.0.is_err() || seen.1.is_err() {
            match (client.watch(API_SERVICES), client.watch(Gr::core("endpoints"))) {
                (Ok(again), Ok(also)) => (services, endpoints) = (again, also),
                _ => return,
            }
            continue;
        }
        for service in client.list(API_SERVICES, "") {
            let (status, reason, message) = availability(&client.core, &service);
            let present = service["status"]["conditions"].as_array().into_iter().flatten().find(|of| of["type"] == "Available");
            if present.is_some_and(|of| of["status"] == status && of["reason"] == reason && of["message"] == message.as_str()) {
                continue;
            }
            let condition = json!({"type": "Available", "status": status, "reason": reason, "message": message,
                "lastTransitionTime": timestamp(jiff::Timestamp::now())});
            let patch = json!({"status": {"conditions": [condition]}});
            let _ = client.merge(API_SERVICES, "", object::name(&service), "status", &patch);
        }
        tokio::select! {
            () = services.changed() => {}
            () = endpoints.changed() => {}
        }
    }
}

fn availability(core: &Arc<Core>, service: &Value) -> (&'static str, &'static str, String) {
    let backend = &service["spec"]["service"];
    if !backend.is_object() {
        return ("True", "Local", "Local APIServices are always available".to_owned());
    }
    let text = |name: &str| backend[name].as_str().unwrap_or_default();
    let (namespace, name, port) = (text("namespace"), text("name"), backend["port"].as_i64().unwrap_or(443));
    let state = core.read();
    if state.store.get(&StorageKey::new("", "services"), namespace, name).is_none() {
        return ("False", "ServiceNotFound", format!("service/{name} in \"{namespace}\" is not present"));
    }
    let endpoints = state.store.get(&StorageKey::new("", "endpoints"), namespace, name).map(|stored| stored.value());
    let ready = endpoints.is_some_and(|of| {
        of["subsets"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|subset| subset["addresses"].as_array().is_some_and(|list| !list.is_empty()))
    });
    if !ready || resolve_service(&state, namespace, name, port).is_none() {
        return ("False", "MissingEndpoints", format!("endpoints for service/{name} in \"{namespace}\" have no addresses"));
    }
    ("True", "Passed", "all checks passed".to_owned())
}
