//! Leads KubeVirt's components through the proxy, and back: their environment says where the API server is.
//!
//! virt-operator makes the components, so they are changed by patches in the KubeVirt object (`spec.customizeComponents`). Patches of the
//! user's stay, before ours and after us. virt-operator itself belongs to whoever installed it; of its Deployment two variables and an
//! annotation are ours, under a field manager of their own.

use kubeapi::object;
use serde_json::{Value, json};

use super::objects::PORT;
use crate::api::{Api, ApiError};

/// The annotation of pod templates that go through the proxy: its address. By it our patches are known.
const MARK: &str = "lab.local/fault-proxy";
/// Who owns what is changed of virt-operator's Deployment.
const FIELD_MANAGER: &str = "kubevirt-lab-faults";
/// How often a KubeVirt object is written that somebody else writes at the same time.
const TRIES: u32 = 5;
/// The label of what virt-operator made.
const MADE: &str = "app.kubernetes.io/managed-by=virt-operator";

/// Who is led through the proxy or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// What virt-operator made.
    Components,
    /// virt-operator. It comes after the others: while a new one waits for the old one's lease, nobody makes anything.
    Operator,
}

/// A workload of KubeVirt's.
struct Workload {
    object: Value,
    /// Whether virt-operator made it.
    made: bool,
}

impl Workload {
    fn kind(&self) -> &str {
        object::kind(&self.object)
    }

    fn name(&self) -> &str {
        object::name(&self.object)
    }

    /// Where its template says that the API server is, if it goes through a proxy.
    fn leads_to(&self) -> Option<&str> {
        self.object["spec"]["template"]["metadata"]["annotations"][MARK].as_str()
    }

    /// What is not rolled out yet.
    fn missing(&self) -> Option<String> {
        let number = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let (wanted, updated, ready, all) = if self.kind() == "DaemonSet" {
            (
                number("/status/desiredNumberScheduled"),
                number("/status/updatedNumberScheduled"),
                number("/status/numberReady"),
                number("/status/currentNumberScheduled"),
            )
        } else {
            let wanted = self.object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            (wanted, number("/status/updatedReplicas"), number("/status/readyReplicas"), number("/status/replicas"))
        };
        let seen = number("/status/observedGeneration") >= number("/metadata/generation");
        let whole = seen && updated >= wanted && ready >= wanted && all == wanted;
        (!whole).then(|| {
            let told = updated.min(ready);
            format!(
                "{}/{}: {told} of {wanted} ready with the new environment",
                self.kind().to_lowercase(),
                object::key(&self.object)
            )
        })
    }
}

/// The template's part that leads one container to an address.
fn template(container: &str, address: &str) -> Value {
    json!({"spec": {"template": {
        "metadata": {"annotations": {MARK: address}},
        "spec": {"containers": [{"name": container, "env": [
            {"name": "KUBERNETES_SERVICE_HOST", "value": address},
            {"name": "KUBERNETES_SERVICE_PORT", "value": PORT.to_string()},
        ]}]},
    }}})
}

/// A KubeVirt object whose workloads go to this address, or where Kubernetes says; `None` where it says so already.
fn customized(kubevirt: &Value, workloads: &[(String, String)], address: Option<&str>) -> Option<Value> {
    let is_ours = |patch: &Value| patch["patch"].as_str().is_some_and(|text| text.contains(MARK));
    let before = kubevirt["spec"]["customizeComponents"]["patches"].as_array().cloned().unwrap_or_default();
    let mut patches: Vec<Value> = before.iter().filter(|patch| !is_ours(patch)).cloned().collect();
    if let Some(address) = address {
        patches.extend(workloads.iter().map(|(kind, name)| {
            json!({"resourceType": kind, "resourceName": name, "type": "strategic", "patch": template(name, address).to_string()})
        }));
    }
    if patches == before {
        return None;
    }
    let mut changed = kubevirt.clone();
    if !patches.is_empty() {
        changed["spec"]["customizeComponents"]["patches"] = patches.into();
        return Some(changed);
    }
    // Nothing that we brought stays behind.
    let spec = changed["spec"].as_object_mut()?;
    let customize = spec.get_mut("customizeComponents").and_then(Value::as_object_mut)?;
    customize.remove("patches");
    if customize.is_empty() {
        spec.remove("customizeComponents");
    }
    Some(changed)
}

/// KubeVirt on a cluster: its object, and where it is.
pub(super) struct KubeVirt<'a> {
    api: &'a Api,
    path: String,
    namespace: String,
}

impl<'a> KubeVirt<'a> {
    /// The KubeVirt of a cluster, if it has one.
    pub(super) async fn of(api: &'a Api) -> Result<Option<Self>, ApiError> {
        let all = api.list("/apis/kubevirt.io/v1/kubevirts").await?;
        Ok(all.first().map(|found| {
            let namespace = object::namespace(found).to_owned();
            let path = format!("/apis/kubevirt.io/v1/namespaces/{namespace}/kubevirts/{}", object::name(found));
            Self { api, path, namespace }
        }))
    }

    /// Its namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Workloads with a container of their own name, which is the component.
    async fn workloads(&self) -> Result<Vec<Workload>, ApiError> {
        let mut all = Vec::new();
        for plural in ["deployments", "daemonsets"] {
            let path = format!("/apis/apps/v1/namespaces/{}/{plural}", self.namespace);
            let selector = MADE.replace('=', "%3D");
            let made = self.api.list(&format!("{path}?labelSelector={selector}")).await?;
            all.extend(made.into_iter().map(|object| Workload { object, made: true }));
            if plural == "deployments" {
                let operator = self.api.get(&format!("{path}/virt-operator")).await?;
                all.extend(operator.map(|object| Workload { object, made: false }));
            }
        }
        all.retain(|workload| {
            let containers = workload.object["spec"]["template"]["spec"]["containers"].as_array();
            containers.into_iter().flatten().any(|container| container["name"] == workload.name())
        });
        Ok(all)
    }

    /// Says where some find the API server: at this address, or where Kubernetes says.
    pub(super) async fn point(&self, who: Who, address: Option<&str>) -> Result<(), ApiError> {
        let workloads = self.workloads().await?;
        if who == Who::Operator {
            return self.point_operator(&workloads, address).await;
        }
        let made = workloads.iter().filter(|workload| workload.made);
        let made: Vec<(String, String)> = made.map(|workload| (workload.kind().to_owned(), workload.name().to_owned())).collect();
        for attempt in 1.. {
            let Some(kubevirt) = self.api.get(&self.path).await? else { break };
            let Some(changed) = customized(&kubevirt, &made, address) else { break };
            match self.api.replace(&self.path, &changed).await {
                Err(error) if error.code() == 409 && attempt < TRIES => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        Ok(())
    }

    async fn point_operator(&self, workloads: &[Workload], address: Option<&str>) -> Result<(), ApiError> {
        for operator in workloads.iter().filter(|workload| !workload.made && workload.leads_to() != address) {
            let mut part = address.map_or_else(|| json!({}), |address| template(operator.name(), address));
            part["apiVersion"] = "apps/v1".into();
            part["kind"] = operator.kind().into();
            part["metadata"] = json!({"name": operator.name(), "namespace": self.namespace});
            self.api.take(&part, FIELD_MANAGER).await?;
        }
        Ok(())
    }

    /// Which of them do not go that way yet.
    pub(super) async fn missing(&self, who: Who, address: Option<&str>) -> Result<Vec<String>, ApiError> {
        let workloads = self.workloads().await?;
        let missing = workloads.iter().filter(|workload| workload.made == (who == Who::Components)).filter_map(|workload| {
            if workload.leads_to() == address {
                return workload.missing();
            }
            Some(format!("{}/{} is not changed yet", workload.kind().to_lowercase(), object::key(&workload.object)))
        });
        Ok(missing.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workloads() -> Vec<(String, String)> {
        [("Deployment", "virt-api"), ("DaemonSet", "virt-handler")].map(|(kind, name)| (kind.to_owned(), name.to_owned())).into()
    }

    #[test]
    fn what_the_user_has_customized_stays() {
        let own = json!({"resourceType": "Deployment", "resourceName": "virt-api", "type": "merge", "patch": "{}"});
        for customize in [Value::Null, json!({"flags": {"api": {"v": "5"}}}), json!({"patches": [own], "flags": {}})] {
            let mut kubevirt = json!({"metadata": {"name": "kubevirt"}, "spec": {"monitorNamespace": "m"}});
            if !customize.is_null() {
                kubevirt["spec"]["customizeComponents"] = customize;
            }
            let there = customized(&kubevirt, &workloads(), Some("10.0.0.7")).unwrap();
            let patches = there["spec"]["customizeComponents"]["patches"].as_array().unwrap();
            let before = kubevirt["spec"]["customizeComponents"]["patches"].as_array().map_or(0, Vec::len);
            assert_eq!(patches.len(), before + 2);
            assert!(patches[before]["patch"].as_str().unwrap().contains("\"value\":\"10.0.0.7\""));
            assert_eq!(customized(&there, &workloads(), Some("10.0.0.7")), None);
            let moved = customized(&there, &workloads(), Some("10.0.0.8")).unwrap();
            assert_eq!(moved["spec"]["customizeComponents"]["patches"].as_array().unwrap().len(), before + 2);
            assert_eq!(customized(&moved, &workloads(), None).unwrap(), kubevirt);
            assert_eq!(customized(&kubevirt, &workloads(), None), None);
        }
    }

    #[test]
    fn a_rollout_is_over_when_nothing_old_is_left() {
        let workload = |status: Value| Workload {
            object: json!({"kind": "Deployment", "metadata": {"name": "virt-api", "namespace": "kubevirt", "generation": 2}, "spec": {"replicas": 2}, "status": status}),
            made: true,
        };
        let status = |seen: i64, updated: i64, ready: i64, all: i64| json!({"observedGeneration": seen, "updatedReplicas": updated, "readyReplicas": ready, "replicas": all});
        assert_eq!(workload(status(2, 2, 2, 2)).missing(), None);
        for late in [status(1, 2, 2, 2), status(2, 1, 2, 2), status(2, 2, 1, 2), status(2, 2, 2, 3), json!({})] {
            assert!(workload(late.clone()).missing().is_some(), "{late}");
        }
        let said = workload(status(2, 1, 2, 3)).missing().unwrap();
        assert_eq!(said, "deployment/kubevirt/virt-api: 1 of 2 ready with the new environment");
    }
}
