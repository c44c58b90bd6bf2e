//! The kubelet's pages about the pods of its node: its own, cAdvisor's and that of the probes.
//!
//! What a container uses is measured where it is a process of this machine. A simulated container is a task among others in one
//! process, so that nobody can say what it uses: it is given a modest amount, and the HELP of each such family says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubeapi::{object, quantity};
use metrics::Kind;
use serde_json::{Value, json};

use crate::page::{Label, head, items, number, sample, seconds, text};

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Its resident memory, in bytes.
    pub rss: f64,
    /// Processor time in user and system mode, in seconds.
    pub cpu: f64,
}

/// What is measured: by uid of the pod and name of the container.
pub type Measured = BTreeMap<(String, String), Usage>;

/// Of its memory request that a simulated container seems to use.
const SHARE: f64 = 0.25;
/// What it seems to use without a request, in bytes.
const LITTLE: f64 = 16.0 * 1024.0 * 1024.0;
/// Processors that it seems to use.
const BUSY: f64 = 0.002;
/// The part of the working set that is no cache.
const RESIDENT: f64 = 0.9;

const SIMULATED: &str = "simulated for a container that is no process of its own: a quarter of its request";
const SIMULATED_CPU: &str = "simulated for a container that is no process of its own: two thousandths of a processor";

impl Usage {
    /// What `/proc/PID/stat` says (proc(5)), with the size of a page in bytes.
    pub fn of_stat(stat: &str, page: f64) -> Option<Self> {
        // The name in brackets may hold anything; what follows it is numbers.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some(Self { rss: field(21)? * page, cpu: (field(11)? + field(12)?) / crate::machine::TICKS })
    }

    fn simulated(container: &Value, started: Option<f64>, now: f64) -> Self {
        let asked = container["resources"]["requests"]["memory"].as_str().and_then(quantity);
        let working_set = asked.map_or(LITTLE, |asked| asked * SHARE);
        let since = started.map_or(0.0, |started| (now - started).max(0.0));
        Self { rss: (working_set * RESIDENT).floor(), cpu: since * BUSY }
    }
}

/// A container that runs, as cAdvisor labels it.
struct Container<'a> {
    pod: &'a Value,
    name: &'a str,
    image: &'a str,
    usage: Usage,
    /// In bytes: of a process all that is resident, of others a little more.
    working_set: f64,
    limit: f64,
    started: f64,
}

impl Container<'_> {
    fn cgroup(&self) -> String {
        format!("{}/{}", pod_cgroup(self.pod), self.name)
    }
}

fn pod_cgroup(pod: &Value) -> String {
    let class = match text(&pod["status"]["qosClass"]) {
        "Guaranteed" => String::new(),
        class => format!("/{}", class.to_lowercase()),
    };
    format!("/kubepods{class}/pod{}", object::uid(pod))
}

fn containers<'a>(pods: &[&'a Value], measured: &Measured, now: f64) -> Vec<Container<'a>> {
    let mut found = Vec::new();
    for pod in pods {
        for status in items(&pod["status"]["containerStatuses"]).filter(|status| status["state"]["running"].is_object()) {
            let name = text(&status["name"]);
            let Some(spec) = items(&pod["spec"]["containers"]).find(|spec| spec["name"] == name) else { continue };
            let started = seconds(&status["state"]["running"]["startedAt"]);
            let real = measured.get(&(object::uid(pod).to_owned(), name.to_owned())).copied();
            let usage = real.unwrap_or_else(|| Usage::simulated(spec, started, now));
            let working_set = if real.is_some() { usage.rss } else { (usage.rss / RESIDENT).ceil() };
            let limit = spec["resources"]["limits"]["memory"].as_str().and_then(quantity).unwrap_or_default();
            let image = text(&status["image"]);
            found.push(Container { pod, name, image, usage, working_set, limit, started: started.unwrap_or(now) });
        }
    }
    found
}

/// What one family says of a container: its name, type, help, value, and whether it is said of whole pods and the node as well.
struct Told {
    name: &'static str,
    kind: Kind,
    help: String,
    value: fn(&Container<'_>) -> f64,
    sums: bool,
    /// A label of its own at the beginning.
    first: Option<Label<'static>>,
}

/// cAdvisor's page (`/metrics/cadvisor`), at a time in seconds since 1970.
pub fn cadvisor(pods: &[&Value], measured: &Measured, now: f64) -> String {
    let containers = containers(pods, measured, now);
    let told = |name, kind, help: String, value, sums| Told { name, kind, help, value, sums, first: None };
    let families = [
        Told {
            first: Some(("cpu", "total")),
            ..told(
                "container_cpu_usage_seconds_total",
                Kind::Counter,
                format!("Processor time that was used, in seconds ({SIMULATED_CPU})."),
                |container| container.usage.cpu,
                true,
            )
        },
        told(
            "container_memory_rss",
            Kind::Gauge,
            format!("Memory that is resident and no cache, in bytes ({SIMULATED})."),
            |container| container.usage.rss,
            true,
        ),
        told(
            "container_memory_working_set_bytes",
            Kind::Gauge,
            format!("Memory that cannot be given back, in bytes ({SIMULATED})."),
            |container| container.working_set,
            true,
        ),
        told(
            "container_memory_usage_bytes",
            Kind::Gauge,
            format!("Memory with all caches, in bytes ({SIMULATED})."),
            |container| container.working_set,
            true,
        ),
        told(
            "container_spec_memory_limit_bytes",
            Kind::Gauge,
            "The most memory that may be used, in bytes; 0 without a limit.".to_owned(),
            |container| container.limit,
            false,
        ),
        told(
            "container_start_time_seconds",
            Kind::Gauge,
            "When it started, in seconds since 1970.".to_owned(),
            |container| container.started,
            false,
        ),
    ];
    let mut out = String::new();
    for family in &families {
        head(&mut out, family.name, family.kind, &family.help);
        if family.sums {
            let all: f64 = containers.iter().map(family.value).sum();
            write(&mut out, family, ["", "/", "", "", "", ""], all);
            for pod in pods {
                let own = containers.iter().filter(|container| object::uid(container.pod) == object::uid(pod));
                let sum: f64 = own.map(family.value).sum();
                write(&mut out, family, ["", &pod_cgroup(pod), "", "", object::namespace(pod), object::name(pod)], sum);
            }
        }
        for container in &containers {
            let id = format!("{}/{}", object::uid(container.pod), container.name);
            let (namespace, pod) = (object::namespace(container.pod), object::name(container.pod));
            let labels = [container.name, &container.cgroup(), container.image, &id, namespace, pod];
            write(&mut out, family, labels, (family.value)(container));
        }
    }
    out
}

/// A sample with the labels of cAdvisor, in its order.
fn write(out: &mut String, family: &Told, [container, id, image, name, namespace, pod]: [&str; 6], value: f64) {
    let labels = [("container", container), ("id", id), ("image", image), ("name", name), ("namespace", namespace), ("pod", pod)];
    let first = labels[..1].iter().copied().chain(family.first);
    sample(out, family.name, first.chain(labels[1..].iter().copied()), value);
}

/// The kubelet's own page (`/metrics`).
pub fn own(node: &Value, pods: &[&Value]) -> String {
    let mut out = String::new();
    let version = text(&node["status"]["nodeInfo"]["kubeletVersion"]);
    head(&mut out, "kubelet_node_name", Kind::Gauge, "The node's name.");
    sample(&mut out, "kubelet_node_name", [("node", object::name(node))].into_iter(), 1.0);
    head(
        &mut out,
        "kubernetes_build_info",
        Kind::Gauge,
        "What this is: the node agent of a lab, shaped like the version it names.",
    );
    let build = [("git_commit", "simulated"), ("git_version", version), ("platform", "linux/amd64")];
    sample(&mut out, "kubernetes_build_info", build.into_iter(), 1.0);
    let running = |pod: &&&Value| items(&pod["status"]["containerStatuses"]).any(|status| status["state"]["running"].is_object());
    head(&mut out, "kubelet_running_pods", Kind::Gauge, "Pods of which something runs.");
    sample(&mut out, "kubelet_running_pods", std::iter::empty(), pods.iter().filter(running).count() as f64);
    head(&mut out, "kubelet_running_containers", Kind::Gauge, "Containers by state.");
    for (state, key) in [("created", "waiting"), ("exited", "terminated"), ("running", "running")] {
        let statuses = pods.iter().flat_map(|pod| items(&pod["status"]["containerStatuses"]));
        let count = statuses.filter(|status| status["state"][key].is_object()).count();
        sample(&mut out, "kubelet_running_containers", [("container_state", state)].into_iter(), count as f64);
    }
    out
}

/// The page of the probes (`/metrics/probes`), at a time in seconds since 1970.
pub fn probes(pods: &[&Value], now: f64) -> String {
    const NAME: &str = "prober_probe_total";
    let mut out = String::new();
    head(
        &mut out,
        NAME,
        Kind::Counter,
        "Probes of containers by what came of them (simulated: as many as the time since the container started has room for).",
    );
    for pod in pods {
        for spec in items(&pod["spec"]["containers"]) {
            let Some(status) = items(&pod["status"]["containerStatuses"]).find(|status| status["name"] == spec["name"]) else {
                continue;
            };
            let Some(started) = seconds(&status["state"]["running"]["startedAt"]) else { continue };
            for (key, kind) in [("livenessProbe", "Liveness"), ("readinessProbe", "Readiness"), ("startupProbe", "Startup")] {
                if !spec[key].is_object() {
                    continue;
                }
                let (delay, period) = (number(&spec[key]["initialDelaySeconds"]), number(&spec[key]["periodSeconds"]));
                let period = if period > 0.0 { period } else { 10.0 };
                let count = ((now - started - delay) / period).floor().max(0.0);
                let result = if status["ready"] == true || kind != "Readiness" { "successful" } else { "failed" };
                let labels = [
                    ("container", text(&spec["name"])),
                    ("namespace", object::namespace(pod)),
                    ("pod", object::name(pod)),
                    ("pod_uid", object::uid(pod)),
                    ("probe_type", kind),
                    ("result", result),
                ];
                sample(&mut out, NAME, labels.into_iter(), count);
            }
        }
    }
    out
}

/// The Service of the kubelets with its Endpoints and EndpointSlice, as prometheus-operator keeps them with `--kubelet-service`
/// (`pkg/kubelet/controller.go`): no selector, and a node as the target of each address.
pub fn objects(node: &Value, address: &str) -> [Value; 3] {
    let labels =
        json!({"k8s-app": "kubelet", "app.kubernetes.io/name": "kubelet", "app.kubernetes.io/managed-by": "prometheus-operator"});
    let metadata = |name: &str| json!({"name": name, "namespace": "kube-system", "labels": labels});
    let ports = [("https-metrics", 10250), ("http-metrics", 10255), ("cadvisor", 4194)];
    let ports: Vec<Value> = ports.iter().map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"})).collect();
    let name = object::name(node);
    let target = json!({"kind": "Node", "name": name, "uid": object::uid(node)});
    let mut endpoints = metadata("kubelet");
    endpoints["labels"]["endpointslice.kubernetes.io/skip-mirror"] = "true".into();
    let mut slice = metadata("kubelet-lab");
    slice["labels"]["kubernetes.io/service-name"] = "kubelet".into();
    slice["labels"]["endpointslice.kubernetes.io/managed-by"] = "prometheus-operator".into();
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("kubelet"),
            "spec": {"type": "ClusterIP", "clusterIP": "None", "ports": ports}}),
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": endpoints,
            "subsets": [{"addresses": [{"ip": address, "nodeName": name, "targetRef": target}], "ports": ports}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice, "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": name, "targetRef": target}],
            "ports": ports}),
    ]
}

/// The pods of a node, out of all.
pub fn of_node<'a>(node: &str, pods: impl Iterator<Item = &'a Arc<Value>>) -> Vec<&'a Value> {
    pods.map(|pod| &**pod).filter(|pod| pod["spec"]["nodeName"] == node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"nodeName": "lab", "containers": [
                {"name": "real", "image": "i"},
                {"name": "sim", "image": "i", "resources": {"requests": {"memory": "400Mi"}, "limits": {"memory": "1Gi"}},
                    "readinessProbe": {"httpGet": {}, "initialDelaySeconds": 5, "periodSeconds": 10}},
                {"name": "waits", "image": "i"}]},
            "status": {"qosClass": "Burstable", "containerStatuses": [
                {"name": "real", "image": "i:1", "ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                {"name": "sim", "image": "i:1", "ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                {"name": "waits", "image": "i:1", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        })
    }

    const NOW: f64 = 1_767_225_600.0 + 50.0;

    #[test]
    fn containers_use_what_is_measured_and_others_a_little() {
        let pod = pod();
        let measured = Measured::from([(("u".to_owned(), "real".to_owned()), Usage { rss: 1000.0, cpu: 7.0 })]);
        let text = cadvisor(&[&pod], &measured, NOW);
        metrics::parse(&text).unwrap();
        let (real, sim) =
            (r#"image="i:1",name="u/real",namespace="n",pod="p""#, r#"image="i:1",name="u/sim",namespace="n",pod="p""#);
        let whole = r#"image="",name="",namespace="n",pod="p""#;
        for line in [
            format!(r#"container_memory_working_set_bytes{{container="real",id="/kubepods/burstable/podu/real",{real}}} 1000"#),
            format!(r#"container_memory_rss{{container="real",id="/kubepods/burstable/podu/real",{real}}} 1000"#),
            format!(r#"container_memory_working_set_bytes{{container="sim",id="/kubepods/burstable/podu/sim",{sim}}} 104857600"#),
            format!(r#"container_memory_rss{{container="sim",id="/kubepods/burstable/podu/sim",{sim}}} 94371840"#),
            format!(r#"container_memory_rss{{container="",id="/kubepods/burstable/podu",{whole}}} 94372840"#),
            format!(
                r#"container_cpu_usage_seconds_total{{container="sim",cpu="total",id="/kubepods/burstable/podu/sim",{sim}}} 0.1"#
            ),
            r#"container_memory_rss{container="",id="/",image="",name="",namespace="",pod=""} 94372840"#.to_owned(),
            format!(r#"container_spec_memory_limit_bytes{{container="sim",id="/kubepods/burstable/podu/sim",{sim}}} 1073741824"#),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("waits"), "{text}");
        assert!(text.contains("# HELP container_memory_rss") && text.contains("simulated"), "{text}");
    }

    #[test]
    fn its_own_page_and_that_of_the_probes() {
        let node = json!({"metadata": {"name": "lab"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.2"}}});
        let pod = pod();
        let text = own(&node, &[&pod]) + &probes(&[&pod], NOW);
        metrics::parse(&text).unwrap();
        for line in [
            r#"kubelet_node_name{node="lab"} 1"#,
            "kubelet_running_pods 1",
            r#"kubelet_running_containers{container_state="running"} 2"#,
            r#"kubelet_running_containers{container_state="created"} 1"#,
            r#"prober_probe_total{container="sim",namespace="n",pod="p",pod_uid="u",probe_type="Readiness",result="successful"} 4"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_process_tells_of_itself() {
        let fields = "S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 9 0 1 2 3 4";
        let stat = format!("12 (a ) b) {fields}");
        assert_eq!(Usage::of_stat(&stat, 4096.0), Some(Usage { rss: 3.0 * 4096.0, cpu: 2.0 }));
        assert_eq!(Usage::of_stat("", 4096.0), None);
        assert_eq!(Usage::of_stat("12 (a) S 1", 4096.0), None);
    }

    #[test]
    fn the_kubelet_is_a_service_whose_target_is_the_node() {
        let node = json!({"metadata": {"name": "lab", "uid": "u"}});
        let [service, endpoints, slice] = objects(&node, "127.1.0.1");
        assert_eq!(service["spec"]["selector"], Value::Null);
        assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/name"], "kubelet");
        assert_eq!(endpoints["subsets"][0]["addresses"][0]["targetRef"]["kind"], "Node");
        assert_eq!(slice["endpoints"][0]["targetRef"]["name"], "lab");
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "kubelet");
    }
}
