//! What a leading virt-operator does: it creates the custom resources and the other components, and says so in the KubeVirt
//! object's status.

use std::sync::Arc;

use http::Method;
use kubeapi::object;
use serde_json::{Value, json};

use crate::client::{Client, Failure};
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

/// Creates everything that is not there yet.
pub(crate) async fn run(client: &Client, release: &Release, manifest: &str, informers: &[Arc<Informer>], log: &Log) {
    let objects = match wire::yaml::manifests(manifest) {
        Ok(objects) => objects,
        Err(error) => {
            log.error("strategy.go:80", &format!("the install strategy cannot be read: {error}"));
            return;
        }
    };
    for manifest in release.definitions.iter().map(|row| definition(row)).chain(objects) {
        let Some(path) = collection(&manifest) else {
            log.error("strategy.go:80", &format!("{} cannot be installed", object::kind(&manifest)));
            continue;
        };
        // After a restart the caches know what the last leader made.
        if informers.iter().any(|informer| informer.holds(&path, &object::key(&manifest))) {
            continue;
        }
        loop {
            match client.request(Method::POST, &path, "application/json", Some(&manifest), None).await {
                Ok(_) | Err(Failure::Status(409, _)) => break,
                Err(failure) => {
                    let what = format!("{} {}", object::kind(&manifest), object::key(&manifest));
                    log.error("create.go:214", &format!("unable to create {what}: {}", failure.message()));
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
    log.info("kubevirt.go:1102", "all KubeVirt components are created");
    report(client, release, informers, log).await;
}

/// Writes phase and version into the KubeVirt object.
async fn report(client: &Client, release: &Release, informers: &[Arc<Informer>], log: &Log) {
    let found = informers.iter().flat_map(|informer| informer.objects()).find(|object| object["kind"] == "KubeVirt");
    let Some(kubevirt) = found else {
        log.info("kubevirt.go:600", "no KubeVirt object yet");
        return;
    };
    let path = format!("/apis/kubevirt.io/v1/namespaces/{}/kubevirts/{}", object::namespace(&kubevirt), object::name(&kubevirt));
    let patch = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["foregroundDeleteKubeVirt"]}]);
    let patched = client.request(Method::PATCH, &path, "application/json-patch+json", Some(&patch), None).await;
    let Ok((_, mut current)) = patched else { return };
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
