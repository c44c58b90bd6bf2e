//! What a leading virt-operator does: it creates the custom resources and the other components, changed as the KubeVirt object wants
//! them, and says so in that object's status.

use std::sync::Arc;

use http::Method;
use kubeapi::object;
use serde_json::{Value, json};

use crate::client::{Client, Failure};
use crate::customize;
use crate::informer::Informer;
use crate::log::Log;
use crate::release::Release;

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

fn definition(row: &[String]) -> Value {
    let text = |index: usize| row.get(index).map_or("", String::as_str);
    let (group, version, plural, kind) = (text(0), text(1), text(2), text(3));
    let short: Vec<&str> = text(4).split(',').filter(|name| !name.is_empty()).collect();
    let scope = if text(5) == "Cluster" { "Cluster" } else { "Namespaced" };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "labels": {"app.kubernetes.io/managed-by": "virt-operator"}},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "shortNames": short},
            "versions": [{
                "name": version, "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

/// The collection of KubeVirt objects.
const KUBEVIRTS: &str = "/apis/kubevirt.io/v1/kubevirts";
/// What keeps a KubeVirt object until its components are gone.
const FINALIZER: &str = "foregroundDeleteKubeVirt";

/// How long a cache may lag behind.
const CACHE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// What the leader reads of a KubeVirt object: another one of these means work.
fn wish(kubevirt: &Value) -> &Value {
    &kubevirt["spec"]["customizeComponents"]
}

/// Installs while there is a KubeVirt object, follows its customizations, and takes everything off again when it is deleted. Never ends.
pub(crate) async fn run(client: &Client, release: &Release, manifest: &str, informers: &[Arc<Informer>], log: &Log) {
    let objects = match wire::yaml::manifests(manifest) {
        Ok(objects) => objects,
        Err(error) => {
            log.error("strategy.go:80", &format!("the install strategy cannot be read: {error}"));
            return;
        }
    };
    let objects: Vec<Value> = release.definitions.iter().map(|row| definition(row)).chain(objects).collect();
    let Some(kubevirts) = informers.iter().find(|informer| informer.watches(KUBEVIRTS)) else {
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
            match customize::all(&objects, wish(&kubevirt)) {
                Ok(wanted) => {
                    create(client, &wanted, informers, log).await;
                    adjust(client, &wanted, informers, log).await;
                    report(client, release, &kubevirt, log).await;
                }
                // What is installed stays as it is, as with KubeVirt.
                Err(why) => log.error("kubevirt.go:850", &format!("failed to generate the customized install strategy: {why}")),
            }
            let news = |all: &[Value]| match all.iter().find(|found| object::key(found) == key) {
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
            release_object(client, &kubevirt, log).await;
        }
        kubevirts.until(|all| all.iter().all(|found| object::key(found) != key).then_some(())).await;
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
                let seen = |all: &[Value]| {
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

fn path_of(kubevirt: &Value) -> String {
    format!("/apis/kubevirt.io/v1/namespaces/{}/kubevirts/{}", object::namespace(kubevirt), object::name(kubevirt))
}

/// Lets a deleted KubeVirt object go.
async fn release_object(client: &Client, kubevirt: &Value, log: &Log) {
    let patch = json!({"metadata": {"finalizers": null}});
    let patched = client.request(Method::PATCH, &path_of(kubevirt), "application/merge-patch+json", Some(&patch), None).await;
    if let Err(failure) = patched {
        log.error("kubevirt.go:1310", &format!("unable to remove the finalizer: {}", failure.message()));
    }
}

/// Writes phase and version into the KubeVirt object.
async fn report(client: &Client, release: &Release, kubevirt: &Value, log: &Log) {
    let path = path_of(kubevirt);
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
