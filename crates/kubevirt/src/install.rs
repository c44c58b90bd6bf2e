//! What a leading virt-operator does: it creates the custom resources and the other components, changed as the KubeVirt object wants
//! them, and says so in that object's status.

use std::sync::Arc;

use http::Method;
use kubeapi::object;
use serde_json::{Value, json};

use crate::client::{Client, Failure};
use crate::component::World;
use crate::customize;
use crate::defect::Defect;
use crate::informer::Informer;
use crate::log::Log;
use crate::release::{Definition, Release};

/// The path of a collection by kind; what is not here is not installed by the simulation.
fn collection(manifest: &Value) -> Option<String> {
    let plural = match object::kind(manifest) {
        "CustomResourceDefinition" => "customresourcedefinitions",
        "ServiceAccount" => "serviceaccounts",
        "ClusterRole" => "clusterroles",
        "ClusterRoleBinding" => "clusterrolebindings",
        "Role" => "roles",
        "RoleBinding" => "rolebindings",
        "ConfigMap" => "configmaps",
        "Secret" => "secrets",
        "Service" => "services",
        "Deployment" => "deployments",
        "DaemonSet" => "daemonsets",
        "PodDisruptionBudget" => "poddisruptionbudgets",
        "ServiceMonitor" => "servicemonitors",
        "PrometheusRule" => "prometheusrules",
        _ => return None,
    };
    let api_version = manifest["apiVersion"].as_str()?;
    let root = if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
    let namespace = object::namespace(manifest);
    let scope = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    Some(format!("{root}{scope}/{plural}"))
}

fn definition(row: &Definition) -> Value {
    let columns =
        row.columns.iter().map(|column| json!({"name": column.name, "type": column.kind, "jsonPath": column.json_path}));
    let mut version = json!({
        "name": row.version, "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    });
    if row.status {
        version["subresources"] = json!({"status": {}});
    }
    if !row.columns.is_empty() {
        version["additionalPrinterColumns"] = columns.collect();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", row.plural, row.group), "labels": {"app.kubernetes.io/managed-by": "virt-operator"}},
        "spec": {
            "group": row.group,
            "scope": row.scope,
            "names": {"plural": row.plural, "singular": row.kind.to_lowercase(), "kind": row.kind, "shortNames": row.short_names, "categories": ["all"]},
            "versions": [version],
        },
    })
}

/// What keeps a KubeVirt object until its components are gone.
const FINALIZER: &str = "foregroundDeleteKubeVirt";

/// How long a cache may lag behind.
const CACHE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// What the leader reads of a KubeVirt object: another one of these means work.
fn wish(kubevirt: &Value) -> Value {
    let spec = &kubevirt["spec"];
    json!([spec["customizeComponents"], spec["monitorNamespace"], spec["monitorAccount"], spec["serviceMonitorNamespace"]])
}

/// Where Prometheus is looked for, if the KubeVirt object does not say where it is (kubevirt `pkg/virt-operator/util/config.go`).
const MONITOR_NAMESPACES: [&str; 2] = ["openshift-monitoring", "monitoring"];
/// Its ServiceAccount, if the KubeVirt object does not name another.
const MONITOR_ACCOUNT: &str = "prometheus-k8s";
/// The Role that lets Prometheus discover the components, and its binding.
const MONITOR_ROLE: &str = "kubevirt-monitoring";

/// The namespace of the Prometheus that this installation is monitored by: the first that has its ServiceAccount. It is decided when the
/// installation is planned, and not again until the KubeVirt object asks for another one: what comes later is not seen
/// (kubevirt#9356, kubevirt#16593). The real one's Job asks for the account; here the leader does, in a list of one.
async fn monitor_namespace(client: &Client, world: &World, kubevirt: &Value, log: &Log) -> Option<String> {
    let spec = &kubevirt["spec"];
    let account = spec["monitorAccount"].as_str().unwrap_or(MONITOR_ACCOUNT);
    let asked = spec["monitorNamespace"].as_str().filter(|_| !world.defects.has(Defect::MonitorNamespaceIgnored));
    if !world.release.looks_for_prometheus {
        return Some(asked.unwrap_or(MONITOR_NAMESPACES[0]).to_owned());
    }
    for namespace in asked.map_or(&MONITOR_NAMESPACES[..], |_| &[]).iter().copied().chain(asked) {
        let target = format!("/api/v1/namespaces/{namespace}/serviceaccounts?fieldSelector=metadata.name%3D{account}");
        if client.untimed(&target).await.is_ok_and(|list| list["items"].as_array().is_some_and(|items| !items.is_empty())) {
            return Some(namespace.to_owned());
        }
    }
    let namespaces = asked.map_or_else(|| MONITOR_NAMESPACES.join(", "), str::to_owned);
    log.info("strategy.go:512", &format!("failed to create ServiceMonitor resources because couldn't find ServiceAccount {account} in any monitoring namespaces: {namespaces}"));
    None
}

/// Whether an object is there for monitoring alone.
fn of_monitoring(manifest: &Value) -> bool {
    match object::kind(manifest) {
        "ServiceMonitor" | "PrometheusRule" => true,
        "Role" | "RoleBinding" => object::name(manifest) == MONITOR_ROLE,
        _ => false,
    }
}

/// What belongs to monitoring: its objects in the namespaces where they are wanted, or none of them.
fn monitored(objects: &[Value], namespace: Option<&str>, world: &World, kubevirt: &Value) -> Vec<Value> {
    let spec = &kubevirt["spec"];
    let made = |manifest: &Value| {
        let is_monitor = matches!(object::kind(manifest), "ServiceMonitor" | "PrometheusRule");
        !of_monitoring(manifest) || (namespace.is_some() && !(is_monitor && world.defects.has(Defect::MonitorNotMade)))
    };
    let placed = |manifest: &Value| {
        let mut manifest = manifest.clone();
        let Some(namespace) = namespace else { return manifest };
        match object::kind(&manifest) {
            "ServiceMonitor" => {
                manifest["metadata"]["namespace"] = spec["serviceMonitorNamespace"].as_str().unwrap_or(namespace).into();
            }
            "RoleBinding" if object::name(&manifest) == MONITOR_ROLE => {
                let account = spec["monitorAccount"].as_str().unwrap_or(MONITOR_ACCOUNT);
                manifest["subjects"] = json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]);
            }
            _ => {}
        }
        manifest
    };
    objects.iter().filter(|manifest| made(manifest)).map(placed).collect()
}

/// Everything that the release installs.
fn strategy(world: &World) -> Result<Vec<Value>, String> {
    let release = &world.release;
    let manifests = wire::yaml::manifests(&world.install).map_err(|error| error.to_string())?;
    let objects = release.objects(manifests).map_err(|error| error.to_string())?;
    let rules = release.prometheus_rule().map_err(|error| error.to_string())?;
    Ok(release.definitions.iter().map(definition).chain(objects).chain(rules).collect())
}

/// Installs while there is a KubeVirt object, follows what it asks for, and takes everything off again when it is deleted. Never ends.
pub(crate) async fn run(client: &Client, world: &World, informers: &[Arc<Informer>], log: &Log) {
    let release = &world.release;
    let objects = match strategy(world) {
        Ok(objects) => objects,
        Err(error) => {
            log.error("strategy.go:80", &format!("the install strategy cannot be read: {error}"));
            return;
        }
    };
    let Some(kubevirts) = informers.iter().find(|informer| informer.resource() == ("kubevirts", false)) else {
        log.error("kubevirt.go:600", "KubeVirt objects are not watched");
        return;
    };
    loop {
        let kubevirt = kubevirts.until(|all| all.first().cloned()).await;
        let key = object::key(&kubevirt);
        // One that is deleted already when a new leader begins is taken off by him.
        let deleted = if object::is_deleting(&kubevirt) {
            Some(kubevirt)
        } else {
            let namespace = monitor_namespace(client, world, &kubevirt, log).await;
            let planned = monitored(&objects, namespace.as_deref(), world, &kubevirt);
            match customize::all(&planned, &kubevirt["spec"]["customizeComponents"]) {
                Ok(wanted) => {
                    drop_unwanted(client, &objects, &wanted, informers, log).await;
                    create(client, &wanted, informers, log).await;
                    adjust(client, &wanted, informers, log).await;
                    report(client, release, &kubevirt, log).await;
                }
                // What is installed stays as it is, as with KubeVirt.
                Err(why) => log.error("kubevirt.go:850", &format!("failed to generate the customized install strategy: {why}")),
            }
            let news = |all: &[Arc<Value>]| match all.iter().find(|found| object::key(found) == key) {
                Some(found) if !object::is_deleting(found) => (wish(found) != wish(&kubevirt)).then_some(None),
                gone => Some(Some(gone.cloned())),
            };
            match kubevirts.until(news).await {
                Some(deleted) => deleted,
                None => continue,
            }
        };
        remove(client, &objects, log).await;
        if let Some(kubevirt) = deleted {
            release_object(client, release, &kubevirt, log).await;
        }
        kubevirts.until(|all| all.iter().all(|found| object::key(found) != key).then_some(())).await;
    }
}

/// Deletes what an earlier plan had of monitoring and this one does not have, or has elsewhere.
async fn drop_unwanted(client: &Client, all: &[Value], wanted: &[Value], informers: &[Arc<Informer>], log: &Log) {
    for manifest in all.iter().filter(|manifest| of_monitoring(manifest)) {
        let Some(plural) = collection(manifest).and_then(|path| path.rsplit('/').next().map(str::to_owned)) else { continue };
        let there = informers.iter().filter(|informer| informer.resource().0 == plural).flat_map(|informer| informer.entries());
        let same = |found: &Value| object::name(found) == object::name(manifest);
        for (key, _) in there.filter(|(_, found)| same(found)) {
            let kept = |one: &Value| object::kind(one) == object::kind(manifest) && object::key(one) == key;
            let Some((namespace, name)) = key.split_once('/').filter(|_| !wanted.iter().any(kept)) else { continue };
            let root = manifest["apiVersion"].as_str().unwrap_or_default();
            let target = format!("/apis/{root}/namespaces/{namespace}/{plural}/{name}");
            match client.request(Method::DELETE, &target, "", None, None).await {
                Ok(_) | Err(Failure::Status(404, _)) => {
                    log.info("delete.go:64", &format!("{} {key} is not wanted any more and deleted", object::kind(manifest)));
                }
                Err(failure) => log.error("delete.go:60", &format!("unable to delete {key}: {}", failure.message())),
            }
        }
    }
}

/// Creates everything that is not there yet.
async fn create(client: &Client, objects: &[Value], informers: &[Arc<Informer>], log: &Log) {
    for manifest in objects {
        let Some(path) = collection(manifest) else {
            log.error("strategy.go:80", &format!("{} cannot be installed", object::kind(manifest)));
            continue;
        };
        // After a restart the caches know what the last leader made.
        if informers.iter().any(|informer| informer.find(&path, &object::key(manifest)).is_some()) {
            continue;
        }
        loop {
            match client.request(Method::POST, &path, "application/json", Some(manifest), None).await {
                Ok(_) | Err(Failure::Status(409, _)) => break,
                Err(failure) => {
                    let what = format!("{} {}", object::kind(manifest), object::key(manifest));
                    log.error("create.go:214", &format!("unable to create {what}: {}", failure.message()));
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
    log.info("kubevirt.go:1102", "all KubeVirt components are created");
}

/// Brings workloads that were made with other customizations up to date.
async fn adjust(client: &Client, objects: &[Value], informers: &[Arc<Informer>], log: &Log) {
    for manifest in objects.iter().filter(|manifest| customize::is_workload(manifest)) {
        let Some(path) = collection(manifest) else { continue };
        let key = object::key(manifest);
        // One that no cache has yet was created a moment ago, as it is wanted.
        let known = informers.iter().find_map(|informer| Some((informer, informer.find(&path, &key)?)));
        let Some((informer, found)) = known else { continue };
        let Some(patch) = customize::update(&found, manifest) else { continue };
        let path = format!("{path}/{}", object::name(manifest));
        let patched = client.request(Method::PATCH, &path, "application/json-patch+json", Some(&patch), None).await;
        let what = format!("{} {key}", object::kind(manifest));
        match patched {
            Ok(_) => {
                log.info("apps.go:158", &format!("{what} patched"));
                // The next decision is made on what the cache has: it has to have seen this one.
                let seen = |all: &[Arc<Value>]| {
                    let found = all.iter().find(|found| object::key(found) == key);
                    found.is_none_or(|found| customize::update(found, manifest).is_none()).then_some(())
                };
                let _ = tokio::time::timeout(CACHE_PATIENCE, informer.until(seen)).await;
            }
            Err(failure) => log.error("apps.go:150", &format!("unable to patch {what}: {}", failure.message())),
        }
    }
}

/// Deletes everything that was created, the last first.
async fn remove(client: &Client, objects: &[Value], log: &Log) {
    for manifest in objects.iter().rev() {
        let Some(path) = collection(manifest) else { continue };
        let path = format!("{path}/{}", object::name(manifest));
        if let Err(failure) = client.request(Method::DELETE, &path, "application/json", None, None).await
            && !matches!(failure, Failure::Status(404, _))
        {
            let what = format!("{} {}", object::kind(manifest), object::key(manifest));
            log.error("delete.go:99", &format!("unable to delete {what}: {}", failure.message()));
        }
    }
    log.info("kubevirt.go:1303", "all KubeVirt components are deleted");
}

fn path_of(release: &Release, kubevirt: &Value) -> String {
    format!("{}/namespaces/{}/kubevirts/{}", release.root(), object::namespace(kubevirt), object::name(kubevirt))
}

/// Lets a deleted KubeVirt object go.
async fn release_object(client: &Client, release: &Release, kubevirt: &Value, log: &Log) {
    let patch = json!({"metadata": {"finalizers": null}});
    let patched =
        client.request(Method::PATCH, &path_of(release, kubevirt), "application/merge-patch+json", Some(&patch), None).await;
    if let Err(failure) = patched {
        log.error("kubevirt.go:1310", &format!("unable to remove the finalizer: {}", failure.message()));
    }
}

/// Writes phase and version into the KubeVirt object.
async fn report(client: &Client, release: &Release, kubevirt: &Value, log: &Log) {
    let path = path_of(release, kubevirt);
    let patch = json!([{"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]);
    let patched = client.request(Method::PATCH, &path, "application/json-patch+json", Some(&patch), None).await;
    let mut current = match patched {
        Ok((_, current)) => current,
        Err(failure) => {
            log.error("kubevirt.go:600", &format!("unable to add the finalizer: {}", failure.message()));
            return;
        }
    };
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "All components are ready.",
               "lastTransitionTime": now, "lastProbeTime": now})
    };
    current["status"] = json!({
        "phase": "Deployed",
        "operatorVersion": release.release,
        "observedKubeVirtVersion": release.release,
        "targetKubeVirtVersion": release.release,
        "conditions": [
            condition("Available", "True", "AllComponentsReady"),
            condition("Progressing", "False", "AllComponentsReady"),
            condition("Degraded", "False", "AllComponentsReady"),
            condition("Created", "True", "AllResourcesCreated"),
        ],
    });
    let _ = client.request(Method::PUT, &format!("{path}/status"), "application/json", Some(&current), None).await;
}
