//! The objects that the operator keeps for a Prometheus object: configuration Secret, rule ConfigMaps, governing Service and
//! StatefulSet, shaped as prometheus-operator 0.93 shapes them.

use std::io::Write as _;

use base64::Engine as _;
use flate2::{Compression, write::GzEncoder};
use kubeapi::object;
use serde_json::{Value, json};

use crate::compile::{Compiled, workload_name};

/// The key of the configuration in its Secret; its content is gzipped YAML.
pub const CONFIG_KEY: &str = "prometheus.yaml.gz";

/// The reloader of configurations.
pub(crate) const RELOADER: &str = "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default()
}

/// A configuration as a Secret holds it: YAML, gzipped, in base64.
pub(crate) fn packed(config: &Value) -> Result<String, wire::yaml::YamlError> {
    Ok(base64::engine::general_purpose::STANDARD.encode(gzip(&wire::yaml::to_string(config)?)))
}

/// What a container asks for.
pub(crate) fn resources(spec: &Value) -> Value {
    if spec["resources"].is_object() { spec["resources"].clone() } else { json!({}) }
}

/// The metadata of an object that belongs to a Prometheus or Alertmanager object.
pub(crate) fn metadata(owner: &Value, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": object::namespace(owner),
        "labels": {"app.kubernetes.io/managed-by": "prometheus-operator", "managed-by": "prometheus-operator"},
        "ownerReferences": [object::owner_reference(owner)],
    })
}

/// Everything that is to exist for a Prometheus object, in the order in which it is to be created.
///
/// # Errors
/// When the configuration cannot be written as YAML.
pub fn owned_objects(prometheus: &Value, compiled: &Compiled) -> Result<Vec<Value>, wire::yaml::YamlError> {
    let workload = workload_name(prometheus);
    let encoded = packed(&compiled.config)?;
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": metadata(prometheus, &workload),
        "data": {CONFIG_KEY: encoded},
    })];
    let files = &compiled.rules;
    for (index, name) in files.mounts(&workload).iter().enumerate() {
        let data = files.bins.get(index).cloned().unwrap_or_default();
        let mut map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(prometheus, name), "data": data,
        });
        map["metadata"]["labels"]["prometheus-name"] = object::name(prometheus).into();
        objects.push(map);
    }
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(prometheus, "prometheus-operated"),
        "spec": {
            "clusterIP": "None",
            "ports": [{"name": "web", "port": 9090, "targetPort": "web"}],
            "selector": {"app.kubernetes.io/name": "prometheus"},
        },
    });
    service["metadata"]["labels"]["operated-prometheus"] = "true".into();
    objects.push(service);
    objects.push(stateful_set(prometheus, &workload, &files.mounts(&workload)));
    Ok(objects)
}

fn stateful_set(prometheus: &Value, workload: &str, rule_maps: &[String]) -> Value {
    let spec = &prometheus["spec"];
    let name = object::name(prometheus);
    let version = spec["version"].as_str().unwrap_or("3.13.2").trim_start_matches('v');
    let image = spec["image"].as_str().map_or_else(|| format!("quay.io/prometheus/prometheus:v{version}"), str::to_owned);
    let selector = json!({
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "prometheus-operator",
        "app.kubernetes.io/name": "prometheus",
        "operator.prometheus.io/name": name,
        "operator.prometheus.io/shard": "0",
        "prometheus": name,
    });
    let mut labels = selector.clone();
    labels["app.kubernetes.io/version"] = version.into();
    for (key, value) in spec["podMetadata"]["labels"].as_object().into_iter().flatten() {
        labels[key.as_str()] = value.clone();
    }
    let retention = spec["retention"].as_str().unwrap_or("24h");
    let major: u32 = version.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut arguments = vec![
        "--config.file=/etc/prometheus/config_out/prometheus.env.yaml".to_owned(),
        "--web.enable-lifecycle".to_owned(),
        "--web.route-prefix=/".to_owned(),
        "--storage.tsdb.path=/prometheus".to_owned(),
        format!("--storage.tsdb.retention.time={retention}"),
    ];
    if major < 3 {
        arguments.push("--web.console.templates=/etc/prometheus/consoles".to_owned());
        arguments.push("--web.console.libraries=/etc/prometheus/console_libraries".to_owned());
    }
    if spec["enableAdminAPI"] == true {
        arguments.push("--web.enable-admin-api".to_owned());
    }
    let mut mounts = vec![
        json!({"name": "config-out", "mountPath": "/etc/prometheus/config_out", "readOnly": true}),
        json!({"name": format!("{workload}-db"), "mountPath": "/prometheus", "subPath": "prometheus-db"}),
    ];
    let mut reloader_mounts = vec![
        json!({"name": "config", "mountPath": "/etc/prometheus/config"}),
        json!({"name": "config-out", "mountPath": "/etc/prometheus/config_out"}),
    ];
    let mut volumes = vec![
        json!({"name": "config", "secret": {"secretName": workload}}),
        json!({"name": "config-out", "emptyDir": {"medium": "Memory"}}),
        json!({"name": format!("{workload}-db"), "emptyDir": {}}),
    ];
    let mut reloader_arguments = vec![
        "--listen-address=:8080".to_owned(),
        "--reload-url=http://localhost:9090/-/reload".to_owned(),
        "--config-file=/etc/prometheus/config/prometheus.yaml.gz".to_owned(),
        "--config-envsubst-file=/etc/prometheus/config_out/prometheus.env.yaml".to_owned(),
    ];
    for map in rule_maps {
        let path = format!("/etc/prometheus/rules/{map}");
        let mount = json!({"name": map, "mountPath": path});
        mounts.push(mount.clone());
        reloader_mounts.push(mount);
        volumes.push(json!({"name": map, "configMap": {"name": map, "optional": true}}));
        reloader_arguments.push(format!("--watched-dir={path}"));
    }
    let init_arguments = [
        "--watch-interval=0",
        "--listen-address=:8081",
        "--config-file=/etc/prometheus/config/prometheus.yaml.gz",
        "--config-envsubst-file=/etc/prometheus/config_out/prometheus.env.yaml",
    ];
    let environment = json!([
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SHARD", "value": "0"},
    ]);
    let probe = |path: &str, period: u32, failures: u32| {
        json!({"httpGet": {"path": path, "port": "web", "scheme": "HTTP"}, "periodSeconds": period,
               "failureThreshold": failures, "timeoutSeconds": 3})
    };
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": metadata(prometheus, workload),
        "spec": {
            "replicas": spec["replicas"].as_i64().unwrap_or(1),
            "serviceName": "prometheus-operated",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"kubectl.kubernetes.io/default-container": "prometheus"},
                },
                "spec": {
                    "serviceAccountName": spec["serviceAccountName"].as_str().unwrap_or("default"),
                    "automountServiceAccountToken": true,
                    "terminationGracePeriodSeconds": 600,
                    "initContainers": [{
                        "name": "init-config-reloader",
                        "image": RELOADER,
                        "command": ["/bin/prometheus-config-reloader"],
                        "args": init_arguments,
                        "env": environment,
                        "ports": [{"name": "reloader-init", "containerPort": 8081}],
                        "volumeMounts": reloader_mounts,
                    }],
                    "containers": [
                        {
                            "name": "prometheus",
                            "image": image,
                            "args": arguments,
                            "ports": [{"name": "web", "containerPort": 9090}],
                            "readinessProbe": probe("/-/ready", 5, 3),
                            "livenessProbe": probe("/-/healthy", 5, 6),
                            "resources": resources(spec),
                            "volumeMounts": mounts,
                        },
                        {
                            "name": "config-reloader",
                            "image": RELOADER,
                            "command": ["/bin/prometheus-config-reloader"],
                            "args": reloader_arguments,
                            "env": environment,
                            "ports": [{"name": "reloader-web", "containerPort": 8080}],
                            "volumeMounts": reloader_mounts,
                        },
                    ],
                    "volumes": volumes,
                },
            },
        },
    });
    for (key, value) in prometheus["metadata"]["labels"].as_object().into_iter().flatten() {
        set["metadata"]["labels"][key.as_str()] = value.clone();
    }
    set["metadata"]["labels"]["operator.prometheus.io/name"] = name.into();
    set["metadata"]["labels"]["operator.prometheus.io/shard"] = "0".into();
    set["metadata"]["labels"]["operator.prometheus.io/mode"] = "server".into();
    set["metadata"]["labels"]["prometheus"] = name.into();
    set
}
