//! The objects that the operator keeps for an Alertmanager object: generated configuration, certificates, governing Service and
//! StatefulSet, shaped as prometheus-operator 0.87 shapes them.

use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::alertmanager::CompiledAlertmanager;
use crate::objects::{
    Owned, Place, Reloader, SetParts, Web, alertmanager_arguments, alertmanager_labels, alertmanager_replicas, containers,
    extra_mounts, governing_service, image, packed, pod_fields, pod_metadata, port_name, probe, reloader, resources, restricted,
    scheme, secret, set_metadata, storage, text, tls_assets, tls_volume, web,
};
use crate::version::Version;

/// The version that runs where the object names none (prometheus-operator `pkg/operator/defaults.go`).
const VERSION: &str = "v0.29.0";

/// The key of the generated configuration in its Secret; its content is gzipped YAML.
const CONFIG_KEY: &str = "alertmanager.yaml.gz";

const PLACE: Place = Place { folder: "/etc/alertmanager", data: "/alertmanager", sub_path: "alertmanager-db" };

/// Everything that is to exist for an Alertmanager object.
pub fn alertmanager_objects(alertmanager: &Value, compiled: &CompiledAlertmanager) -> Owned {
    let workload = format!("alertmanager-{}", object::name(alertmanager));
    let generated = format!("{workload}-generated");
    let failed = |objects, error: String| Owned { objects, failed: Some(error) };
    let config = match (&compiled.failed, &compiled.config) {
        (Some(error), _) => return failed(Vec::new(), error.clone()),
        (None, None) => return failed(Vec::new(), "provision alertmanager configuration: there is none".to_owned()),
        (None, Some(config)) => config,
    };
    let encoded = match packed(config) {
        Ok(encoded) => encoded,
        Err(error) => return failed(Vec::new(), format!("provision alertmanager configuration: {error}")),
    };
    // Templates and the like that lie beside the user's own configuration are found beside the generated one.
    let mut data: Map<String, Value> = compiled.beside.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    data.insert(CONFIG_KEY.to_owned(), encoded.into());
    let mut objects = vec![secret(alertmanager, &generated, data)];
    let assets = tls_assets(alertmanager, &workload, &compiled.files);
    let volume = tls_volume(&assets);
    objects.extend(assets);
    let web = match web(alertmanager, &workload, PLACE.folder) {
        Ok(web) => web,
        Err(error) => return failed(objects, format!("failed to synchronize the web config secret: {error}")),
    };
    objects.push(web.secret.clone());
    let port = port_name(&alertmanager["spec"]);
    let ports = json!([
        {"name": port, "port": 9093, "targetPort": port, "protocol": "TCP"},
        {"name": "tcp-mesh", "port": 9094, "targetPort": "mesh-tcp", "protocol": "TCP"},
        {"name": "udp-mesh", "port": 9094, "targetPort": "mesh-udp", "protocol": "UDP"},
    ]);
    if let Some(mut service) = governing_service(alertmanager, "alertmanager-operated", "alertmanager", ports) {
        service["spec"]["publishNotReadyAddresses"] = true.into();
        objects.push(service);
    }
    match stateful_set(alertmanager, &workload, &generated, volume, &web) {
        Ok(set) => objects.push(set),
        Err(error) => return failed(objects, format!("failed to generate statefulset: {error}")),
    }
    Owned { objects, failed: None }
}

/// The templates of `alertmanagerConfiguration`: one volume of one file each; of two with the same key the first counts.
fn templates(spec: &Value) -> Option<Value> {
    let mut sources: Vec<Value> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    for template in spec["alertmanagerConfiguration"]["templates"].as_array().filter(|templates| !templates.is_empty())? {
        for kind in ["configMap", "secret"] {
            let Some(key) = template[kind]["key"].as_str().filter(|key| !keys.contains(key)) else { continue };
            keys.push(key);
            sources.push(json!({kind: {"name": template[kind]["name"], "items": [{"key": key, "path": key}]}}));
        }
    }
    Some(json!({"name": "notification-templates", "projected": {"sources": sources}}))
}

fn main_container(alertmanager: &Value, mounts: Vec<Value>) -> Result<Value, String> {
    let spec = &alertmanager["spec"];
    // Unlike Prometheus' the version is the tag as it is written.
    let version = text(spec, "version").unwrap_or(VERSION);
    let mut resources = resources(spec);
    if resources["requests"]["memory"].is_null() {
        resources["requests"]["memory"] = "200Mi".into();
    }
    let mut container = json!({
        "name": "alertmanager",
        "image": image(spec, "quay.io/prometheus/alertmanager", version),
        "args": alertmanager_arguments(alertmanager)?,
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [
            {"name": "mesh-tcp", "containerPort": 9094, "protocol": "TCP"},
            {"name": "mesh-udp", "containerPort": 9094, "protocol": "UDP"},
        ],
        "resources": resources,
        "volumeMounts": mounts,
    });
    if spec["listenLocal"] != true {
        if let Some(ports) = container["ports"].as_array_mut() {
            ports.insert(0, json!({"name": port_name(spec), "containerPort": 9093, "protocol": "TCP"}));
        }
        container["livenessProbe"] = probe(spec, "/-/healthy", json!({"timeoutSeconds": 3, "failureThreshold": 10}));
        let ready = json!({"initialDelaySeconds": 3, "timeoutSeconds": 3, "periodSeconds": 5, "failureThreshold": 10});
        container["readinessProbe"] = probe(spec, "/-/ready", ready);
    }
    restricted(&mut container, spec);
    Ok(container)
}

fn stateful_set(alertmanager: &Value, workload: &str, generated: &str, assets: Value, web: &Web) -> Result<Value, String> {
    let spec = &alertmanager["spec"];
    let selector = alertmanager_labels(alertmanager);
    let store = storage(spec, workload, &PLACE);
    let mut mounts = vec![
        json!({"name": "config-volume", "mountPath": "/etc/alertmanager/config"}),
        json!({"name": "config-out", "readOnly": true, "mountPath": "/etc/alertmanager/config_out"}),
        json!({"name": "tls-assets", "readOnly": true, "mountPath": "/etc/alertmanager/certs"}),
        store.mount,
    ];
    let mut reloader_mounts = vec![
        json!({"name": "config-volume", "readOnly": true, "mountPath": "/etc/alertmanager/config"}),
        json!({"name": "config-out", "mountPath": "/etc/alertmanager/config_out"}),
    ];
    let mut watched = vec!["/etc/alertmanager/config".to_owned()];
    let mut volumes = vec![
        json!({"name": "config-volume", "secret": {"secretName": generated}}),
        assets,
        json!({"name": "config-out", "emptyDir": {"medium": "Memory"}}),
    ];
    let (more_volumes, mut more_mounts) = extra_mounts(spec, &PLACE);
    if let Some(volume) = templates(spec) {
        volumes.push(volume);
        more_mounts
            .insert(0, json!({"name": "notification-templates", "readOnly": true, "mountPath": "/etc/alertmanager/templates"}));
    }
    volumes.extend(more_volumes);
    // What the configuration may name is watched, so that a change of it is read.
    for mount in more_mounts {
        watched.extend(mount["mountPath"].as_str().map(str::to_owned));
        mounts.push(mount.clone());
        reloader_mounts.push(mount);
    }
    mounts.extend(spec["volumeMounts"].as_array().into_iter().flatten().cloned());
    let reads_web = Version::of_alertmanager(spec).at_least(0, 22);
    if reads_web {
        volumes.extend(web.volumes.iter().cloned());
        mounts.extend(web.mounts.iter().cloned());
        reloader_mounts.extend(web.mounts.iter().cloned());
    }
    volumes.extend(store.volume);
    volumes.extend(spec["volumes"].as_array().into_iter().flatten().cloned());

    let prefix = text(spec, "routePrefix").unwrap_or("/").trim_end_matches('/');
    let of = |init: bool| Reloader {
        init,
        reload: if init { Vec::new() } else { vec![format!("--reload-url={}://localhost:9093{prefix}/-/reload", scheme(spec))] },
        local: !init && spec["listenLocal"] == true,
        files: ["/etc/alertmanager/config/alertmanager.yaml.gz", "/etc/alertmanager/config_out/alertmanager.env.yaml"],
        watched: &watched,
        web: reads_web.then_some(web.file.as_str()),
        shard: -1,
        mounts: &reloader_mounts,
    };
    let main = main_container(alertmanager, mounts)?;
    let mut pod = json!({
        "initContainers": containers(vec![reloader(spec, &of(true))], &spec["initContainers"]),
        "containers": containers(vec![main, reloader(spec, &of(false))], &spec["containers"]),
        "volumes": volumes,
    });
    if let Some(mounted) = spec["automountServiceAccountToken"].as_bool() {
        pod["automountServiceAccountToken"] = mounted.into();
    }
    pod_fields(spec, &mut pod, &selector, 120);
    let mut pod_meta = pod_metadata(spec, &selector, text(spec, "version").unwrap_or(VERSION).trim_start_matches('v'));
    pod_meta["annotations"]["kubectl.kubernetes.io/default-container"] = "alertmanager".into();
    let parts = SetParts {
        owner: alertmanager,
        metadata: set_metadata(alertmanager, workload, &selector),
        replicas: alertmanager_replicas(spec),
        selector,
        service: "alertmanager-operated",
        template: json!({"metadata": pod_meta, "spec": pod}),
        claim: store.claim,
    };
    Ok(parts.build())
}
