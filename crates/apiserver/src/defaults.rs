//! Defaults of the built-in kinds that labs use, as k8s.io/kubernetes `pkg/apis/*/v1/defaults.go` sets them.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

/// Sets `key` unless it has a value.
fn default(object: &mut Value, key: &str, value: impl Into<Value>) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if object[key].is_null() {
        object[key] = value.into();
    }
}

fn each(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}

/// What the admission plugins ServiceAccount (if `account` asks for it), Priority and DefaultTolerationSeconds do to a new
/// pod.
pub(crate) fn admit_pod(pod: &mut Value, account: bool) {
    let spec = &mut pod["spec"];
    if account && spec["serviceAccountName"].as_str().is_none_or(str::is_empty) {
        spec["serviceAccountName"] = "default".into();
    }
    if !spec.is_object() {
        return;
    }
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    let class = match spec["priorityClassName"].as_str() {
        Some("system-node-critical") => 2_000_001_000,
        Some("system-cluster-critical") => 2_000_000_000,
        _ => 0,
    };
    default(spec, "priority", class);
    default(spec, "enableServiceLinks", true);
    default(spec, "tolerations", json!([]));
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let Some(list) = spec["tolerations"].as_array_mut() else { return };
        let covered = |toleration: &Value| {
            let fits = toleration["key"] == key || (toleration["key"].is_null() && toleration["operator"] == "Exists");
            fits && (toleration["effect"] == "NoExecute" || toleration["effect"].is_null())
        };
        if !list.iter().any(covered) {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// Fills in what the user left out.
pub(crate) fn apply(group: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Pod") => {
            pod_spec(&mut object["spec"]);
            default(&mut object["status"], "phase", "Pending");
            let class = qos_class(&object["spec"]);
            default(&mut object["status"], "qosClass", class);
        }
        ("", "Service") => service(&mut object["spec"]),
        ("", "Secret") => secret(object),
        ("", "Namespace") => {
            default(&mut object["spec"], "finalizers", json!(["kubernetes"]));
            default(&mut object["status"], "phase", "Active");
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        ("apps", "Deployment") => {
            let spec = &mut object["spec"];
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "progressDeadlineSeconds", 600);
            default(spec, "strategy", json!({}));
            default(&mut spec["strategy"], "type", "RollingUpdate");
            if spec["strategy"]["type"] == "RollingUpdate" {
                default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
                default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
            }
            pod_spec(&mut spec["template"]["spec"]);
        }
        ("apps", "ReplicaSet") => {
            default(&mut object["spec"], "replicas", 1);
            pod_spec(&mut object["spec"]["template"]["spec"]);
        }
        ("apps", "StatefulSet") => {
            let spec = &mut object["spec"];
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "podManagementPolicy", "OrderedReady");
            default(&mut spec["updateStrategy"], "type", "RollingUpdate");
            default(&mut spec["updateStrategy"]["rollingUpdate"], "partition", 0);
            pod_spec(&mut spec["template"]["spec"]);
        }
        ("apps", "DaemonSet") => {
            let spec = &mut object["spec"];
            default(spec, "revisionHistoryLimit", 10);
            default(&mut spec["updateStrategy"], "type", "RollingUpdate");
            default(&mut spec["updateStrategy"]["rollingUpdate"], "maxSurge", 0);
            default(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", 1);
            pod_spec(&mut spec["template"]["spec"]);
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let spec = &mut object["spec"];
            let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
            default(&mut spec["names"], "listKind", format!("{kind}List"));
            default(&mut spec["names"], "singular", kind.to_lowercase());
            default(&mut spec["conversion"], "strategy", "None");
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            for subject in each(&mut object["subjects"]) {
                if subject["kind"] == "User" || subject["kind"] == "Group" {
                    default(subject, "apiGroup", "rbac.authorization.k8s.io");
                }
            }
            default(&mut object["roleRef"], "apiGroup", "rbac.authorization.k8s.io");
        }
        ("", "Endpoints") => {
            for subset in each(&mut object["subsets"]) {
                for port in each(&mut subset["ports"]) {
                    default(port, "protocol", "TCP");
                }
            }
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            for port in each(&mut object["ports"]) {
                default(port, "protocol", "TCP");
                default(port, "name", "");
            }
        }
        _ => {}
    }
}

fn pod_spec(spec: &mut Value) {
    default(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", "default-scheduler");
    if let Some(account) = spec["serviceAccountName"].as_str().map(str::to_owned) {
        default(spec, "serviceAccount", account);
    }
    for list in ["initContainers", "containers"] {
        for container in each(&mut spec[list]) {
            default(container, "terminationMessagePath", "/dev/termination-log");
            default(container, "terminationMessagePolicy", "File");
            default(container, "resources", json!({}));
            let image = container["image"].as_str().unwrap_or_default();
            let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
            let always = !image.contains('@') && tag.is_none_or(|tag| tag == "latest");
            default(container, "imagePullPolicy", if always { "Always" } else { "IfNotPresent" });
            for port in each(&mut container["ports"]) {
                default(port, "protocol", "TCP");
            }
            for variable in each(&mut container["env"]) {
                if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
                    default(field, "apiVersion", "v1");
                }
            }
            for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
                if !container[name].is_object() {
                    continue;
                }
                let probe = &mut container[name];
                default(probe, "timeoutSeconds", 1);
                default(probe, "periodSeconds", 10);
                default(probe, "successThreshold", 1);
                default(probe, "failureThreshold", 3);
                if probe["httpGet"].is_object() {
                    default(&mut probe["httpGet"], "scheme", "HTTP");
                    default(&mut probe["httpGet"], "path", "/");
                }
            }
            remove_null(container, "ports");
            remove_null(container, "env");
        }
    }
    for volume in each(&mut spec["volumes"]) {
        for kind in ["secret", "configMap", "projected", "downwardAPI"] {
            if volume[kind].is_object() {
                default(&mut volume[kind], "defaultMode", 420);
            }
            remove_null(volume, kind);
        }
    }
    remove_null(spec, "initContainers");
    remove_null(spec, "volumes");
    remove_null(spec, "serviceAccountName");
}

/// Indexing a `Value` for writing leaves a null behind; the API has none.
fn remove_null(object: &mut Value, key: &str) {
    if object.get(key).is_some_and(Value::is_null)
        && let Some(map) = object.as_object_mut()
    {
        map.remove(key);
    }
}

fn service(spec: &mut Value) {
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        default(&mut spec["sessionAffinityConfig"]["clientIP"], "timeoutSeconds", 10800);
    }
    if spec["type"] != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    for port in each(&mut spec["ports"]) {
        default(port, "protocol", "TCP");
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
    remove_null(spec, "ports");
}

fn secret(object: &mut Value) {
    use base64::Engine as _;
    default(object, "type", "Opaque");
    if let Some(Value::Object(texts)) = object.as_object_mut().and_then(|map| map.remove("stringData")) {
        for (key, text) in texts {
            let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
            object["data"][key] = encoded.into();
        }
    }
}

/// Guaranteed, Burstable or BestEffort (`pkg/apis/core/v1/helper/qos/qos.go`).
fn qos_class(spec: &Value) -> &'static str {
    let containers: Vec<&Value> = spec["containers"].as_array().into_iter().flatten().collect();
    let has = |container: &Value, kind: &str, resource: &str| !container["resources"][kind][resource].is_null();
    let any = containers.iter().any(|container| {
        ["requests", "limits"].iter().any(|kind| ["cpu", "memory"].iter().any(|resource| has(container, kind, resource)))
    });
    let all_limited = !containers.is_empty()
        && containers.iter().all(|container| {
            ["cpu", "memory"].iter().all(|resource| {
                has(container, "limits", resource)
                    && (!has(container, "requests", resource)
                        || container["resources"]["limits"][*resource] == container["resources"]["requests"][*resource])
            })
        });
    match (any, all_limited) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Hands out ClusterIPs of a /16: `A.B.C.D` with C from 200 up, so that they never meet pod addresses.
#[derive(Debug)]
pub(crate) struct ServiceAddresses {
    base: [u8; 2],
    next: u16,
}

impl ServiceAddresses {
    pub(crate) fn new(base: [u8; 2]) -> Self {
        Self { base, next: 2 }
    }

    /// The address of the `kubernetes` Service.
    pub(crate) fn first(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.base[0], self.base[1], 200, 1)
    }

    fn allocate(&mut self, taken: &HashSet<String>) -> Option<Ipv4Addr> {
        for _ in 0..55 * 250 {
            let [high, low] = self.next.to_be_bytes();
            self.next = if self.next >= 55 * 256 - 1 { 2 } else { self.next + 1 };
            let address = Ipv4Addr::new(self.base[0], self.base[1], 200 + high, low);
            if low != 0 && low != 255 && !taken.contains(&address.to_string()) {
                return Some(address);
            }
        }
        None
    }

    /// Gives a Service its `clusterIP` and its node ports, if its type has them. `others` are all other Services.
    ///
    /// # Errors
    /// The field that cannot be as it is, and why.
    pub(crate) fn assign<I: Iterator<Item = Value>>(
        &mut self,
        service: &mut Value,
        old: Option<&Value>,
        others: impl Fn() -> I,
    ) -> Result<(), (&'static str, String)> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        assign_node_ports(spec, &others)?;
        let given = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        let is_old = old.is_some_and(|old| old["spec"]["clusterIP"] == given.as_str());
        if given != "None" && (given.is_empty() || !is_old) {
            let taken: HashSet<String> =
                others().filter_map(|other| other["spec"]["clusterIP"].as_str().map(str::to_owned)).collect();
            if given.is_empty() {
                let address = self.allocate(&taken).ok_or(("spec.clusterIPs", "no ClusterIP is left in the range".to_owned()))?;
                spec["clusterIP"] = address.to_string().into();
            } else {
                let octets = given.parse::<Ipv4Addr>().map(|address| address.octets());
                let [a, b] = self.base;
                let in_range =
                    octets.is_ok_and(|[first, second, third, _]| [first, second] == [a, b] && (200..=254).contains(&third));
                let wrong = |why: &str| Err(("spec.clusterIPs", format!("Invalid value: [\"{given}\"]: {why}")));
                if !in_range {
                    return wrong(&format!(
                        "failed to allocate IP {given}: the provided IP is not in the valid range {a}.{b}.200.0 to {a}.{b}.254.255"
                    ));
                }
                if taken.contains(&given) {
                    return wrong(&format!("failed to allocate IP {given}: provided IP is already allocated"));
                }
            }
        }
        if spec["clusterIPs"].as_array().is_none_or(Vec::is_empty) {
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
        }
        Ok(())
    }
}

/// The ports of nodes that Services may have (`--service-node-port-range`).
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

fn assign_node_ports<I: Iterator<Item = Value>>(spec: &mut Value, others: &impl Fn() -> I) -> Result<(), (&'static str, String)> {
    if spec["type"] != "NodePort" && spec["type"] != "LoadBalancer" {
        return Ok(());
    }
    let of = |spec: &Value| -> Vec<i64> {
        spec["ports"].as_array().into_iter().flatten().filter_map(|port| port["nodePort"].as_i64()).collect()
    };
    let mut taken: HashSet<i64> = others().flat_map(|other| of(&other["spec"])).collect();
    for port in each(&mut spec["ports"]) {
        match port["nodePort"].as_i64().filter(|port| *port != 0) {
            Some(given) if !NODE_PORTS.contains(&given) => {
                let message = format!(
                    "Invalid value: {given}: provided port is not in the valid range. The range of valid ports is 30000-32767"
                );
                return Err(("spec.ports[0].nodePort", message));
            }
            Some(given) if !taken.insert(given) => {
                return Err(("spec.ports[0].nodePort", format!("Invalid value: {given}: provided port is already allocated")));
            }
            Some(_) => {}
            None => {
                let free = NODE_PORTS.into_iter().find(|port| !taken.contains(port));
                let free = free.ok_or(("spec.ports[0].nodePort", "no node port is left in the range".to_owned()))?;
                taken.insert(free);
                port["nodePort"] = free.into();
            }
        }
    }
    Ok(())
}

/// New namespaces have the finalizer that empties them, whatever the client says.
pub(crate) fn require_finalizer(namespace: &mut Value) {
    if let Some(list) = namespace["spec"]["finalizers"].as_array_mut()
        && !list.iter().any(|finalizer| finalizer == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_what_the_real_server_gives_it() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x/y:1", "ports": [{"containerPort": 1}]}]}});
        apply("", "Pod", &mut pod);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(pod["status"]["qosClass"], "BestEffort");
        assert!(pod["spec"].get("volumes").is_none() && container.get("env").is_none());
    }

    #[test]
    fn services_get_addresses_of_their_own() {
        let mut addresses = ServiceAddresses::new([127, 9]);
        let mut there: Vec<Value> = Vec::new();
        for (spec, expected) in [
            (json!({}), Ok("127.9.200.2")),
            (json!({}), Ok("127.9.200.3")),
            (json!({"clusterIP": "127.9.200.4"}), Ok("127.9.200.4")),
            (json!({}), Ok("127.9.200.5")),
            (json!({"clusterIP": "None"}), Ok("None")),
            (json!({"clusterIP": "127.9.200.2"}), Err("provided IP is already allocated")),
            (json!({"clusterIP": "10.0.0.1"}), Err("not in the valid range")),
        ] {
            let mut service = json!({"spec": spec});
            let found = addresses.assign(&mut service, None, || there.clone().into_iter());
            match (found, expected) {
                (Ok(()), Ok(address)) => assert_eq!(service["spec"]["clusterIPs"], json!([address])),
                (Err((_, message)), Err(why)) => assert!(message.contains(why), "{message}"),
                other => panic!("{other:?}"),
            }
            there.push(service);
        }
        let mut service = json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30000}, {"port": 2}]}});
        addresses.assign(&mut service, None, || there.clone().into_iter()).unwrap();
        assert_eq!(service["spec"]["ports"][1]["nodePort"], 30001);
    }
}
