//! Endpoints and EndpointSlices of Services with a selector, labelled as the real controllers label them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubeapi::{LabelSelector, object};
use serde_json::{Value, json};

use super::{Action, ENDPOINTS, SLICES, View, is_ready};

pub(crate) fn reconcile(view: &View, actions: &mut Vec<Action>) {
    for service in view.services.objects().filter(|service| !object::is_deleting(service)) {
        if service["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let selector = LabelSelector::from_map(&service["spec"]["selector"]);
        let pods: Vec<&Arc<Value>> = view
            .pods
            .in_namespace(object::namespace(service))
            .filter(|pod| selector.matches(&pod["metadata"]["labels"]))
            .filter(|pod| pod["status"]["podIP"].is_string())
            .filter(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
            .collect();
        endpoints(view, service, &pods, actions);
        slice(view, service, &pods, actions);
    }
    // A slice outlives its Service only until the garbage collector sees it; an Endpoints object has no owner.
    for endpoints in view.endpoints.objects() {
        if object::annotation(endpoints, MANAGED).is_some() && view.services.get(&object::key(endpoints)).is_none() {
            actions.push(Action::Delete(ENDPOINTS, object::namespace(endpoints).to_owned(), object::name(endpoints).to_owned()));
        }
    }
}

/// Marks the Endpoints objects that are made here.
const MANAGED: &str = "endpoints.kubernetes.io/managed-by";

/// Name, number and protocol of a port.
type Port = (String, i64, String);

/// Ready and waiting addresses.
type Addresses = [Vec<Value>; 2];

/// Ports of a Service as a pod has them: name, number, protocol. A named target port that the pod lacks is left out.
fn ports(service: &Value, pod: &Value) -> Vec<Port> {
    let mut ports = Vec::new();
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        let number = match &port["targetPort"] {
            Value::String(name) => pod["spec"]["containers"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|container| container["ports"].as_array().into_iter().flatten())
                .find(|port| port["name"] == name.as_str())
                .and_then(|port| port["containerPort"].as_i64()),
            Value::Number(number) if number.as_i64() != Some(0) => number.as_i64(),
            _ => port["port"].as_i64(),
        };
        if let Some(number) = number {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            ports.push((text(&port["name"]), number, text(&port["protocol"])));
        }
    }
    ports
}

fn port_objects(ports: &[Port]) -> Vec<Value> {
    ports
        .iter()
        .map(|(name, number, protocol)| {
            if name.is_empty() {
                json!({"port": number, "protocol": protocol})
            } else {
                json!({"name": name, "port": number, "protocol": protocol})
            }
        })
        .collect()
}

fn target(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": object::namespace(pod), "name": object::name(pod), "uid": object::uid(pod)})
}

fn endpoints(view: &View, service: &Value, pods: &[&Arc<Value>], actions: &mut Vec<Action>) {
    let mut subsets: BTreeMap<Vec<Port>, Addresses> = BTreeMap::new();
    for pod in pods {
        let ports = ports(service, pod);
        if ports.is_empty() && service["spec"]["ports"].as_array().is_some_and(|ports| !ports.is_empty()) {
            continue;
        }
        let address = json!({"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": target(pod)});
        let ready = is_ready(pod) && !object::is_deleting(pod);
        subsets.entry(ports).or_default()[usize::from(!ready)].push(address);
    }
    let subsets: Vec<Value> = subsets
        .into_iter()
        .map(|(ports, [mut ready, mut waiting])| {
            let mut subset = json!({"ports": port_objects(&ports)});
            for (key, addresses) in [("addresses", &mut ready), ("notReadyAddresses", &mut waiting)] {
                addresses.sort_by_key(|address| address["ip"].to_string());
                if !addresses.is_empty() {
                    subset[key] = std::mem::take(addresses).into();
                }
            }
            subset
        })
        .collect();
    let mut labels = service["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller".into();
    if service["spec"]["clusterIP"] == "None" {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    let key = object::key(service);
    match view.endpoints.get(&key) {
        None => actions.push(Action::Create(
            ENDPOINTS,
            json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": {"name": object::name(service), "namespace": object::namespace(service), "labels": labels,
                    "annotations": {MANAGED: "endpoint-controller"}},
                "subsets": subsets,
            }),
        )),
        Some(old) => {
            let mut new = (**old).clone();
            new["metadata"]["labels"] = labels;
            new["subsets"] = subsets.into();
            if *old.as_ref() != new
                && old["subsets"].as_array().map_or(0, Vec::len) + new["subsets"].as_array().map_or(0, Vec::len) > 0
            {
                actions.push(Action::Update(ENDPOINTS, new));
            }
        }
    }
}

/// Whether an update would change something. What is empty is stored as null or left out, and an update that says so again would be news
/// for ever.
fn differs(old: &Value, new: &Value) -> bool {
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let same = |field: &str| old[field] == new[field] || (is_empty(&old[field]) && is_empty(&new[field]));
    old["metadata"]["labels"] != new["metadata"]["labels"] || !same("endpoints") || !same("ports")
}

fn slice(view: &View, service: &Value, pods: &[&Arc<Value>], actions: &mut Vec<Action>) {
    let mut by_ports: BTreeMap<Vec<Port>, Vec<Value>> = BTreeMap::new();
    for pod in pods {
        let ports = ports(service, pod);
        let deleting = object::is_deleting(pod);
        let ready = is_ready(pod);
        by_ports.entry(ports).or_default().push(json!({
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": ready && !deleting, "serving": ready, "terminating": deleting},
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": target(pod),
        }));
    }
    by_ports.retain(|ports, _| !ports.is_empty());
    if by_ports.is_empty() {
        by_ports.insert(Vec::new(), Vec::new());
    }
    let mut labels = service["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels["kubernetes.io/service-name"] = object::name(service).into();
    labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io".into();
    if service["spec"]["clusterIP"] == "None" {
        labels["service.kubernetes.io/headless"] = "".into();
    }
    let mut present: Vec<&Arc<Value>> =
        view.slices.in_namespace(object::namespace(service)).filter(|slice| object::is_controlled_by(slice, service)).collect();
    for (ports, mut endpoints) in by_ports {
        endpoints.sort_by_key(|endpoint| endpoint["addresses"][0].to_string());
        let ports = port_objects(&ports);
        let at = present.iter().position(|slice| ports.is_empty() || slice["ports"] == Value::from(ports.clone()));
        match at.or_else(|| (!present.is_empty()).then_some(0)) {
            None => actions.push(Action::Create(
                SLICES,
                json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                    "metadata": {
                        "generateName": format!("{}-", object::name(service)),
                        "namespace": object::namespace(service),
                        "labels": labels,
                        "ownerReferences": [object::owner_reference(service)],
                    },
                    "addressType": "IPv4",
                    "endpoints": endpoints,
                    "ports": ports,
                }),
            )),
            Some(at) => {
                let old = present.remove(at);
                let mut new = (**old).clone();
                new["metadata"]["labels"] = labels.clone();
                new["endpoints"] = endpoints.into();
                new["ports"] = ports
                    .into_iter()
                    .map(|mut port| {
                        if port["name"].is_null() {
                            port["name"] = "".into();
                        }
                        port
                    })
                    .collect();
                if differs(old, &new) {
                    actions.push(Action::Update(SLICES, new));
                }
            }
        }
    }
    for surplus in present {
        actions.push(Action::Delete(SLICES, object::namespace(surplus).to_owned(), object::name(surplus).to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_nothing_is_written_once() {
        let stored =
            |endpoints: Value, ports: Value| json!({"metadata": {"labels": {"a": "b"}}, "endpoints": endpoints, "ports": ports});
        let nothing = stored(json!([]), json!([]));
        for (old, new, expected) in [
            (stored(Value::Null, Value::Null), &nothing, false),
            (stored(json!([]), Value::Null), &nothing, false),
            (stored(json!([{"addresses": ["127.1.1.1"]}]), Value::Null), &nothing, true),
            (stored(Value::Null, json!([{"port": 1}])), &nothing, true),
            (json!({"metadata": {"labels": {}}}), &nothing, true),
        ] {
            assert_eq!(differs(&old, new), expected, "{old}");
        }
    }
}
