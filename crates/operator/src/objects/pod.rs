//! What the pods of Prometheus and Alertmanager have in common: images, the reloader, storage, mounts, and the fields that are handed on.

use serde_json::{Map, Value, json};

pub(crate) use super::merge::containers;

/// The reloader of configurations.
const RELOADER: &str = "quay.io/prometheus-operator/prometheus-config-reloader:v0.87.1";

/// The text of a field; an empty one is none.
pub(crate) fn text<'a>(spec: &'a Value, key: &str) -> Option<&'a str> {
    spec[key].as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// The image of a workload: the one that is named, else one from a base by digest, tag or version.
pub(crate) fn image(spec: &Value, default_base: &str, version: &str) -> String {
    if let Some(image) = text(spec, "image") {
        return image.to_owned();
    }
    let base = text(spec, "baseImage").unwrap_or(default_base);
    let last = base.rsplit('/').next().unwrap_or(base);
    if base.contains('@') || last.contains(':') {
        return base.to_owned();
    }
    match (text(spec, "sha"), text(spec, "tag")) {
        (Some(sha), _) => format!("{base}@sha256:{sha}"),
        (None, Some(tag)) => format!("{base}:{tag}"),
        (None, None) => format!("{base}:{version}"),
    }
}

/// What every container of the operator's is denied.
pub(crate) fn restricted(container: &mut Value, spec: &Value) {
    container["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    if let Some(policy) = text(spec, "imagePullPolicy") {
        container["imagePullPolicy"] = policy.into();
    }
}

/// A reloader's settings.
pub(crate) struct Reloader<'a> {
    /// Whether it unpacks the configuration once, before the others start.
    pub(crate) init: bool,
    /// What it asks to reload; only where it is no init container.
    pub(crate) reload: Vec<String>,
    /// Whether it listens on the pod's own localhost.
    pub(crate) local: bool,
    /// The configuration, packed and unpacked.
    pub(crate) files: [&'a str; 2],
    /// Folders that it watches.
    pub(crate) watched: &'a [String],
    /// The program's web configuration, if it reads one.
    pub(crate) web: Option<&'a str>,
    /// The shard's number; -1 where there are no shards.
    pub(crate) shard: i64,
    /// Its mounts.
    pub(crate) mounts: &'a [Value],
}

/// The container that unpacks a configuration and makes the program beside it read it.
pub(crate) fn reloader(spec: &Value, of: &Reloader<'_>) -> Value {
    let (name, port_name, port) =
        if of.init { ("init-config-reloader", "reloader-init", 8081) } else { ("config-reloader", "reloader-web", 8080) };
    let mut arguments = Vec::new();
    if of.init {
        arguments.push("--watch-interval=0".to_owned());
    }
    arguments.push(if of.local { "--listen-address=localhost:8080".to_owned() } else { format!("--listen-address=:{port}") });
    arguments.extend(of.web.map(|file| format!("--web-config-file={file}")));
    arguments.extend(of.reload.iter().cloned());
    let [packed, unpacked] = of.files;
    arguments.push(format!("--config-file={packed}"));
    arguments.push(format!("--config-envsubst-file={unpacked}"));
    arguments.extend(of.watched.iter().map(|folder| format!("--watched-dir={folder}")));
    for (key, flag, default) in [("logLevel", "log-level", "info"), ("logFormat", "log-format", "logfmt")] {
        if let Some(value) = text(spec, key).filter(|value| *value != default) {
            arguments.push(format!("--{flag}={value}"));
        }
    }
    let limits = json!({"cpu": "10m", "memory": "50Mi"});
    let mut container = json!({
        "name": name, "image": RELOADER, "command": ["/bin/prometheus-config-reloader"], "args": arguments,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "SHARD", "value": of.shard.to_string()},
        ],
        "volumeMounts": of.mounts,
        "resources": {"limits": limits, "requests": limits},
    });
    if !of.local {
        container["ports"] = json!([{"name": port_name, "containerPort": port, "protocol": "TCP"}]);
    }
    restricted(&mut container, spec);
    container
}

/// A probe by HTTP on a path below the route prefix.
pub(crate) fn probe(spec: &Value, path: &str, more: Value) -> Value {
    let prefix = text(spec, "routePrefix").unwrap_or("/").trim_end_matches('/');
    let mut probe = json!({"httpGet": {"path": format!("{prefix}{path}"), "port": super::port_name(spec), "scheme": super::web::scheme(spec).to_uppercase()}});
    if let (Some(probe), Value::Object(more)) = (probe.as_object_mut(), more) {
        probe.extend(more);
    }
    probe
}

/// Where a workload's files lie.
pub(crate) struct Place {
    /// The folder of its configuration, such as `/etc/prometheus`.
    pub(crate) folder: &'static str,
    /// The folder of its data.
    pub(crate) data: &'static str,
    /// The folder inside the volume that it uses of a claimed one.
    pub(crate) sub_path: &'static str,
}

/// A volume's name for a Secret or ConfigMap: a DNS label of at most 63 characters.
pub(super) fn label(prefix: &str, name: &str) -> String {
    let mut out = String::new();
    for character in format!("{prefix}-{name}").to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' => out.push(character),
            _ if out.ends_with('-') => {}
            _ => out.push('-'),
        }
    }
    let label = out.trim_matches('-');
    label[..label.len().min(63)].to_owned()
}

/// Volumes and mounts of the Secrets and ConfigMaps that the object lists.
pub(crate) fn extra_mounts(spec: &Value, place: &Place) -> (Vec<Value>, Vec<Value>) {
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for (list, prefix, folder) in [("secrets", "secret", "secrets"), ("configMaps", "configmap", "configmaps")] {
        for name in spec[list].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let volume = label(prefix, name);
            let source = match prefix {
                "secret" => json!({"name": volume, "secret": {"secretName": name}}),
                _ => json!({"name": volume, "configMap": {"name": name}}),
            };
            volumes.push(source);
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": format!("{}/{folder}/{name}", place.folder)}));
        }
    }
    (volumes, mounts)
}

/// Where the data is kept.
pub(crate) struct Storage {
    /// The mount of the main container.
    pub(crate) mount: Value,
    /// The pod's volume, if no claim makes it.
    pub(crate) volume: Option<Value>,
    /// The claim that every pod gets.
    pub(crate) claim: Option<Value>,
}

/// The storage that `spec.storage` asks for; a folder that goes with the pod by default.
pub(crate) fn storage(spec: &Value, workload: &str, place: &Place) -> Storage {
    let wanted = &spec["storage"];
    let template = &wanted["volumeClaimTemplate"];
    let default = format!("{workload}-db");
    let name = text(&template["metadata"], "name").unwrap_or(&default);
    let mut mount = json!({"name": name, "mountPath": place.data});
    if wanted.is_object() && wanted["disableMountSubPath"] != true {
        mount["subPath"] = place.sub_path.into();
    }
    let volume = |source: &str, value: Value| Some(json!({"name": default, source: value}));
    if !wanted.is_object() {
        return Storage { mount, volume: volume("emptyDir", json!({})), claim: None };
    }
    for source in ["emptyDir", "ephemeral"] {
        if wanted[source].is_object() {
            return Storage { mount, volume: volume(source, wanted[source].clone()), claim: None };
        }
    }
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"]},
    });
    for key in ["labels", "annotations"] {
        if template["metadata"][key].is_object() {
            claim["metadata"][key] = template["metadata"][key].clone();
        }
    }
    if let (Some(spec), Some(given)) = (claim["spec"].as_object_mut(), template["spec"].as_object()) {
        spec.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Storage { mount, volume: None, claim: Some(claim) }
}

/// The fields of the object that a pod has under the same name.
const HANDED_ON: &[&str] = &[
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostUsers",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "securityContext",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
];

/// Completes a pod's spec with what the object says about it.
pub(crate) fn pod_fields(spec: &Value, pod: &mut Value, selector: &Value, grace: i64) {
    pod["terminationGracePeriodSeconds"] = spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(grace).into();
    if spec["hostNetwork"] == true {
        pod["hostNetwork"] = true.into();
        pod["dnsPolicy"] = "ClusterFirstWithHostNet".into();
    }
    for key in HANDED_ON.iter().filter(|key| !spec[**key].is_null() && spec[**key] != "") {
        pod[*key] = spec[*key].clone();
    }
    for constraint in pod["topologySpreadConstraints"].as_array_mut().into_iter().flatten() {
        let Some(additional) = constraint.as_object_mut().and_then(|fields| fields.remove("additionalLabelSelectors")) else {
            continue;
        };
        for (key, value) in selector.as_object().into_iter().flatten() {
            // All shards of an object are spread together, or each on its own.
            if additional != "OnResource" || key != "operator.prometheus.io/shard" {
                constraint["labelSelector"]["matchLabels"][key] = value.clone();
            }
        }
    }
}

/// Labels and annotations of a StatefulSet: the object's own, with the selector's on top; kubectl's notes stay where they are.
pub(crate) fn set_metadata(owner: &Value, name: &str, selector: &Value) -> Value {
    let mut metadata = super::metadata(owner, name);
    let own = |key: &str| owner["metadata"][key].as_object().into_iter().flatten();
    for (key, value) in own("labels").map(|(key, value)| (key, value.clone())) {
        metadata["labels"][key] = value;
    }
    for (key, value) in selector.as_object().into_iter().flatten() {
        metadata["labels"][key] = value.clone();
    }
    let kept = own("annotations").filter(|(key, _)| !key.starts_with("kubectl.kubernetes.io/"));
    let annotations: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !annotations.is_empty() {
        metadata["annotations"] = annotations.into();
    }
    metadata
}

/// The metadata of a pod template: what the user says, but for the labels by which the pods are found.
pub(crate) fn pod_metadata(spec: &Value, selector: &Value, version: &str) -> Value {
    let mut metadata = json!({"labels": {"app.kubernetes.io/version": version}, "annotations": {}});
    for kind in ["labels", "annotations"] {
        for (key, value) in spec["podMetadata"][kind].as_object().into_iter().flatten() {
            metadata[kind][key] = value.clone();
        }
    }
    for (key, value) in selector.as_object().into_iter().flatten() {
        metadata["labels"][key] = value.clone();
    }
    metadata
}

/// A StatefulSet around its pod template.
pub(crate) struct SetParts<'a> {
    /// The object that it is for.
    pub(crate) owner: &'a Value,
    /// Its metadata.
    pub(crate) metadata: Value,
    /// How many pods.
    pub(crate) replicas: i64,
    /// The labels of the pods.
    pub(crate) selector: Value,
    /// The Service that names the pods, where the object names none.
    pub(crate) service: &'a str,
    /// The pod template.
    pub(crate) template: Value,
    /// The claim of every pod.
    pub(crate) claim: Option<Value>,
}

impl SetParts<'_> {
    /// The StatefulSet.
    pub(crate) fn build(self) -> Value {
        let spec = &self.owner["spec"];
        let mut set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": self.metadata,
            "spec": {
                "replicas": self.replicas,
                "serviceName": text(spec, "serviceName").unwrap_or(self.service),
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "RollingUpdate"},
                "selector": {"matchLabels": self.selector},
                "template": self.template,
            },
        });
        if let Some(seconds) = spec["minReadySeconds"].as_i64().filter(|seconds| *seconds > 0) {
            set["spec"]["minReadySeconds"] = seconds.into();
        }
        if let Some(claim) = self.claim {
            set["spec"]["volumeClaimTemplates"] = json!([claim]);
        }
        if spec["persistentVolumeClaimRetentionPolicy"].is_object() {
            set["spec"]["persistentVolumeClaimRetentionPolicy"] = spec["persistentVolumeClaimRetentionPolicy"].clone();
        }
        set
    }
}

/// What the main container asks for.
pub(crate) fn resources(spec: &Value) -> Value {
    if spec["resources"].is_object() { spec["resources"].clone() } else { json!({}) }
}
