//! The StatefulSet of one shard of a Prometheus.

use serde_json::{Value, json};

use super::arguments::prometheus_arguments;
use super::pod::{
    Place, Reloader, SetParts, containers, extra_mounts, image, pod_fields, pod_metadata, probe, reloader, resources, restricted,
    set_metadata, storage, text,
};
use super::{Web, port_name, prometheus_labels, scheme};
use crate::compile::workload_name;

const PLACE: Place = Place { folder: "/etc/prometheus", data: "/prometheus", sub_path: "prometheus-db" };

/// The version that runs where the object names none.
const VERSION: &str = "3.7.3";

/// Where log files without a folder go.
const LOGS: &str = "/var/log/prometheus";

fn log_folder(spec: &Value) -> bool {
    ["scrapeFailureLogFile", "queryLogFile"].iter().any(|key| text(spec, key).is_some_and(|file| !file.contains('/')))
}

/// Period and number of tries of the startup probe: a quarter of an hour, or what the user allows.
fn startup(spec: &Value) -> (i64, i64) {
    match spec["maximumStartupDurationSeconds"].as_i64() {
        Some(seconds) if seconds >= 60 => {
            let tries = (seconds + 59) / 60;
            ((seconds + tries - 1) / tries, tries)
        }
        _ => (15, 60),
    }
}

/// How the reloader makes Prometheus read its configuration.
fn reload(spec: &Value) -> Vec<String> {
    let prefix = text(spec, "routePrefix").unwrap_or("/").trim_end_matches('/');
    let url = |path: &str| format!("{}://localhost:9090{prefix}{path}", scheme(spec));
    if spec["reloadStrategy"] == "ProcessSignal" {
        vec!["--reload-method=signal".to_owned(), format!("--runtimeinfo-url={}", url("/api/v1/status/runtimeinfo"))]
    } else {
        vec![format!("--reload-url={}", url("/-/reload"))]
    }
}

fn main_container(spec: &Value, version: &str, mounts: Vec<Value>) -> Result<Value, String> {
    let mut container = json!({
        "name": "prometheus",
        "image": image(spec, "quay.io/prometheus/prometheus", &format!("v{version}")),
        "args": prometheus_arguments(spec)?,
        "resources": resources(spec),
        "volumeMounts": mounts,
    });
    let (period, tries) = startup(spec);
    let probes = [
        ("startupProbe", "/-/ready", period, tries),
        ("readinessProbe", "/-/ready", 5, 3),
        ("livenessProbe", "/-/healthy", 5, 6),
    ];
    for (name, path, period, tries) in probes {
        let times = json!({"periodSeconds": period, "failureThreshold": tries, "timeoutSeconds": 3});
        container[name] = probe(spec, path, times);
        if spec["listenLocal"] == true {
            let prefix = text(spec, "routePrefix").unwrap_or("/").trim_end_matches('/');
            let url = format!("http://localhost:9090{prefix}{path}");
            let script = format!(
                "if [ -x \"$(command -v curl)\" ]; then exec curl --fail {url}; elif [ -x \"$(command -v wget)\" ]; then exec wget -q -O /dev/null {url}; else exit 1; fi"
            );
            if let Some(probe) = container[name].as_object_mut() {
                probe.remove("httpGet");
                probe.insert("exec".to_owned(), json!({"command": ["sh", "-c", script]}));
            }
        }
    }
    if spec["listenLocal"] != true {
        container["ports"] = json!([{"name": port_name(spec), "containerPort": 9090, "protocol": "TCP"}]);
    }
    if let Some(percent) = spec["runtime"]["goGC"].as_i64()
        && !crate::version::Version::of(spec).at_least(2, 53)
    {
        container["env"] = json!([{"name": "GOGC", "value": percent.to_string()}]);
    }
    restricted(&mut container, spec);
    Ok(container)
}

/// The StatefulSet of a shard.
///
/// # Errors
/// When the user's arguments are some of the operator's.
pub(super) fn stateful_set(
    prometheus: &Value,
    name: &str,
    shard: usize,
    rule_maps: &[String],
    assets: &Value,
    web: &Web,
) -> Result<Value, String> {
    let spec = &prometheus["spec"];
    let workload = workload_name(prometheus);
    let version = text(spec, "version").unwrap_or(VERSION).trim_start_matches('v');
    let mut selector = prometheus_labels(prometheus);
    selector["operator.prometheus.io/shard"] = shard.to_string().into();
    let store = storage(spec, &workload, &PLACE);

    let mut mounts = vec![
        json!({"name": "config-out", "readOnly": true, "mountPath": "/etc/prometheus/config_out"}),
        json!({"name": "tls-assets", "readOnly": true, "mountPath": "/etc/prometheus/certs"}),
        store.mount,
    ];
    let mut volumes = vec![
        json!({"name": "config", "secret": {"secretName": workload}}),
        assets.clone(),
        json!({"name": "config-out", "emptyDir": {"medium": "Memory"}}),
    ];
    mounts.extend(spec["volumeMounts"].as_array().into_iter().flatten().cloned());
    let (more_volumes, more_mounts) = extra_mounts(spec, &PLACE);
    volumes.extend(more_volumes);
    mounts.extend(more_mounts);
    if log_folder(spec) {
        volumes.push(json!({"name": "log-file", "emptyDir": {}}));
        mounts.push(json!({"name": "log-file", "mountPath": LOGS}));
    }
    let mut reloader_mounts = vec![
        json!({"name": "config", "mountPath": "/etc/prometheus/config"}),
        json!({"name": "config-out", "mountPath": "/etc/prometheus/config_out"}),
    ];
    let mut watched = Vec::new();
    for map in rule_maps {
        let path = format!("/etc/prometheus/rules/{map}");
        volumes.push(json!({"name": map, "configMap": {"name": map, "optional": true}}));
        mounts.push(json!({"name": map, "readOnly": true, "mountPath": path}));
        reloader_mounts.push(json!({"name": map, "mountPath": path}));
        watched.push(path);
    }
    let reads_web = crate::version::Version::of(spec).at_least(2, 24);
    if reads_web {
        volumes.extend(web.volumes.iter().cloned());
        mounts.extend(web.mounts.iter().cloned());
    }
    // The reloader needs to know how to speak to Prometheus only where something is asked for.
    let reloader_web = (reads_web && spec["web"].is_object()).then_some(web.file.as_str());
    if reloader_web.is_some() {
        reloader_mounts.extend(web.mounts.iter().cloned());
    }
    volumes.extend(store.volume);
    volumes.extend(spec["volumes"].as_array().into_iter().flatten().cloned());

    let of = |init: bool| Reloader {
        init,
        reload: if init { Vec::new() } else { reload(spec) },
        local: !init && spec["listenLocal"] == true,
        files: ["/etc/prometheus/config/prometheus.yaml.gz", "/etc/prometheus/config_out/prometheus.env.yaml"],
        watched: &watched,
        web: reloader_web,
        shard: i64::try_from(shard).unwrap_or_default(),
        mounts: &reloader_mounts,
    };
    let mut pod = json!({
        "automountServiceAccountToken": spec["automountServiceAccountToken"].as_bool().unwrap_or(true),
        "shareProcessNamespace": spec["reloadStrategy"] == "ProcessSignal",
        "initContainers": containers(vec![reloader(spec, &of(true))], &spec["initContainers"]),
        "containers": containers(vec![main_container(spec, version, mounts)?, reloader(spec, &of(false))], &spec["containers"]),
        "volumes": volumes,
    });
    pod_fields(spec, &mut pod, &selector, 600);
    let mut pod_meta = pod_metadata(spec, &selector, version);
    // The user may have another container be the one that kubectl means.
    let default = &mut pod_meta["annotations"]["kubectl.kubernetes.io/default-container"];
    if default.is_null() {
        *default = "prometheus".into();
    }
    let mut metadata = set_metadata(prometheus, name, &selector);
    metadata["labels"]["operator.prometheus.io/mode"] = "server".into();
    let replicas = spec["replicas"].as_i64().filter(|replicas| *replicas >= 0).unwrap_or(1);
    let template = json!({"metadata": pod_meta, "spec": pod});
    let parts = SetParts {
        owner: prometheus,
        metadata,
        replicas,
        selector,
        service: "prometheus-operated",
        template,
        claim: store.claim,
    };
    Ok(parts.build())
}
