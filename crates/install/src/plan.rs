//! The plan of an installation: which objects in which order, and what is waited for in between. A function of the manifests.

use std::collections::BTreeSet;

use kubeapi::object;
use serde_json::{Value, json};

use crate::profile::{self, KUBEVIRT, MONITORING, Profile, Shaped, Trap};

/// A state that ends a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// These definitions are served.
    Established(Vec<String>),
    /// All Deployments, StatefulSets and DaemonSets of a namespace are ready, and these (`statefulsets/prometheus-k8s`) exist.
    Workloads {
        /// The namespace.
        namespace: String,
        /// Plural and name of each that must be there.
        expected: Vec<String>,
    },
    /// A condition of an object is true.
    Condition {
        /// Its kind, namespace and name.
        of: Value,
        /// The type of the condition.
        condition: String,
    },
    /// An object exists that somebody else makes.
    Exists {
        /// Its kind, namespace and name.
        of: Value,
        /// What to do if it never comes.
        otherwise: String,
    },
}

/// A step of an installation.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it brings, for the line of progress.
    pub name: String,
    /// Applied in this order.
    pub objects: Vec<Value>,
    /// Waited for afterwards, in this order.
    pub waits: Vec<Wait>,
}

/// An installation.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its stages.
    pub stages: Vec<Stage>,
    /// What was changed or left out, and why.
    pub traps: BTreeSet<Trap>,
}

/// Kinds in the order in which they are applied; what is not named comes last but before what watches everything.
const ORDER: &[&str] = &[
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
];

fn rank(of: &Value) -> usize {
    ORDER.iter().position(|kind| *kind == object::kind(of)).unwrap_or(ORDER.len())
}

/// Objects out of lists such as `RoleList`; kinds end in `List` for lists alone.
pub fn unpack(objects: Vec<Value>) -> Vec<Value> {
    let mut all = Vec::new();
    for mut found in objects {
        let is_list = object::kind(&found).ends_with("List") && found["items"].is_array() && found["metadata"]["name"].is_null();
        if !is_list {
            all.push(found);
            continue;
        }
        let kind = object::kind(&found).trim_end_matches("List").to_owned();
        let version = found["apiVersion"].clone();
        let Value::Array(items) = found["items"].take() else { continue };
        for mut item in items {
            if item["kind"].is_null() && !kind.is_empty() {
                item["kind"] = kind.as_str().into();
                item["apiVersion"] = version.clone();
            }
            all.push(item);
        }
    }
    all
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(rank);
    objects
}

fn reference(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace, "name": name}})
}

/// What of a stack is applied first: namespaces and definitions.
fn is_setup(of: &Value) -> bool {
    matches!(object::kind(of), "Namespace" | "CustomResourceDefinition")
}

fn definitions(objects: &[Value]) -> Vec<String> {
    objects
        .iter()
        .filter(|found| object::kind(found) == "CustomResourceDefinition")
        .map(|found| object::name(found).to_owned())
        .collect()
}

impl Plan {
    /// Adds the stages of kube-prometheus.
    pub fn monitoring(&mut self, manifests: Vec<Value>, profile: &Profile) {
        let mut kept = Vec::new();
        for mut found in unpack(manifests) {
            match profile::shape(&mut found, profile) {
                Shaped::Kept(trap) => {
                    self.traps.extend(trap);
                    kept.push(found);
                }
                Shaped::Omitted(trap) => {
                    self.traps.insert(trap);
                }
            }
        }
        let (setup, mut rest): (Vec<Value>, Vec<Value>) = kept.into_iter().partition(is_setup);
        let scraped = |name: &str| {
            rest.iter().any(|found| {
                object::kind(found) == "ServiceMonitor"
                    && found["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == name
            })
        };
        let services = profile::control_plane_services();
        let services: Vec<Value> = services
            .into_iter()
            .filter(|service| scraped(service["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap_or_default()))
            .collect();
        if !services.is_empty() {
            self.traps.insert(Trap::ControlPlaneServices);
            rest.extend(services);
        }
        let has_grafana = rest.iter().any(|found| object::kind(found) == "Deployment" && object::name(found) == "grafana");
        rest.extend(profile::dashboards(profile).filter(|_| has_grafana));
        // What the operator makes of its own objects does not exist yet when everything is applied.
        let made = |kind: &str, prefix: &str| {
            let of_kind = rest.iter().filter(|found| object::kind(found) == kind);
            of_kind.map(|found| format!("statefulsets/{prefix}-{}", object::name(found))).collect::<Vec<_>>()
        };
        let expected = [made("Prometheus", "prometheus"), made("Alertmanager", "alertmanager")].concat();
        let waits = vec![Wait::Established(definitions(&setup))];
        self.stages.push(Stage { name: "kube-prometheus: definitions".to_owned(), objects: sorted(setup), waits });
        let waits = vec![Wait::Workloads { namespace: MONITORING.to_owned(), expected }];
        self.stages.push(Stage { name: "kube-prometheus".to_owned(), objects: sorted(rest), waits });
    }

    /// Adds the stages of KubeVirt: its operator, then its object.
    pub fn kubevirt(&mut self, manifests: Vec<Value>, profile: &Profile) {
        let all = unpack(manifests);
        let (instances, operator): (Vec<Value>, Vec<Value>) =
            all.into_iter().partition(|found| object::kind(found) == "KubeVirt");
        let (setup, rest): (Vec<Value>, Vec<Value>) = operator.into_iter().partition(is_setup);
        let expected = rest.iter().filter(|found| object::kind(found) == "Deployment");
        let expected = expected.map(|found| format!("deployments/{}", object::name(found))).collect();
        let waits = vec![Wait::Established(definitions(&setup)), Wait::Workloads { namespace: KUBEVIRT.to_owned(), expected }];
        let mut objects = sorted([setup, rest].concat());
        objects.iter_mut().for_each(profile::shape_operator);
        self.stages.push(Stage { name: "KubeVirt: operator".to_owned(), objects, waits });
        let instances: Vec<Value> = instances
            .into_iter()
            .map(|mut found| {
                profile::shape_kubevirt(&mut found, profile);
                found
            })
            .collect();
        let mut waits: Vec<Wait> = instances
            .iter()
            .map(|found| {
                let version = found["apiVersion"].as_str().unwrap_or_default();
                let of = reference(version, "KubeVirt", object::namespace(found), object::name(found));
                Wait::Condition { of, condition: "Available".to_owned() }
            })
            .collect();
        // kubevirt#18759: Available, and yet no ServiceMonitor, for ever.
        waits.push(Wait::Exists {
            of: reference("monitoring.coreos.com/v1", "ServiceMonitor", &profile.monitor.namespace, "prometheus-kubevirt-rules"),
            otherwise: format!(
                "KubeVirt decides this once, when it installs itself: see that the ServiceAccount {}/{} exists, then change \
                 spec.monitorNamespace of the KubeVirt object and back",
                profile.monitor.namespace, profile.monitor.account
            ),
        });
        self.traps.insert(Trap::EndpointSlices);
        let objects = [profile::discovery_rights(&profile.monitor), instances].concat();
        self.stages.push(Stage { name: "KubeVirt: components".to_owned(), objects, waits });
    }

    /// Adds a stage of objects that nothing is waited for.
    pub fn also(&mut self, name: &str, objects: Vec<Value>) {
        if !objects.is_empty() {
            self.stages.push(Stage { name: name.to_owned(), objects: sorted(unpack(objects)), waits: Vec::new() });
        }
    }

    /// Everything that it applies.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.stages.iter().flat_map(|stage| &stage.objects)
    }

    /// The images that its objects name, sorted; those that operators choose by themselves are not among them.
    pub fn images(&self) -> Vec<String> {
        let mut found = BTreeSet::new();
        for object in self.objects() {
            each_image(&mut object.clone(), &mut |image| {
                found.insert(image.clone());
            });
        }
        found.into_iter().collect()
    }

    /// Makes all images come from another registry. virt-operator takes its components' from the registry of its own image.
    pub fn mirror(&mut self, registry: &str) {
        for object in self.stages.iter_mut().flat_map(|stage| &mut stage.objects) {
            each_image(object, &mut |image| *image = mirrored(image, registry));
        }
    }
}

/// An image in another registry: the host goes, the rest of the name stays.
pub fn mirrored(image: &str, registry: &str) -> String {
    let rest = match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => image,
    };
    format!("{}/{rest}", registry.trim_end_matches('/'))
}

/// Visits each image that an object names: fields `image` anywhere, and what operators are told by arguments and variables.
fn each_image(value: &mut Value, visit: &mut dyn FnMut(&mut String)) {
    match value {
        Value::Object(fields) => {
            let is_image = fields.get("name").and_then(Value::as_str).is_some_and(|name| name.ends_with("_IMAGE"));
            for (name, value) in fields {
                match value {
                    Value::String(image) if image.contains('/') && (name == "image" || (name == "value" && is_image)) => {
                        visit(image)
                    }
                    value => each_image(value, visit),
                }
            }
        }
        Value::Array(list) => {
            for element in list {
                match element {
                    Value::String(argument) => {
                        let Some((flag, image)) = argument.split_once('=') else { continue };
                        let names_one = flag.starts_with("--") && (flag.ends_with("reloader") || flag.ends_with("image"));
                        if names_one && image.contains('/') {
                            let mut image = image.to_owned();
                            visit(&mut image);
                            *argument = format!("{flag}={image}");
                        }
                    }
                    element => each_image(element, visit),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Vec<Value> {
        let object = |version: &str, kind: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "monitoring"}});
        let mut prometheus = object("monitoring.coreos.com/v1", "Prometheus", "k8s");
        prometheus["spec"] = json!({"image": "quay.io/prometheus/prometheus:v3"});
        let mut operator = object("apps/v1", "Deployment", "prometheus-operator");
        operator["spec"] = json!({"template": {"spec": {"containers": [{
            "image": "quay.io/po:v1", "args": ["--prometheus-config-reloader=quay.io/reloader:v1", "--kubelet-service=kube-system/kubelet"],
            "env": [{"name": "VIRT_API_IMAGE", "value": "quay.io/kubevirt/virt-api:v1"}, {"name": "A", "value": "b/c"}],
        }]}}});
        vec![
            prometheus,
            operator,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleList", "items": [
                {"metadata": {"name": "prometheus-k8s", "namespace": "default"}}]}),
            object("v1", "ServiceAccount", "prometheus-k8s"),
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "prometheuses.monitoring.coreos.com"),
            object("v1", "Namespace", "monitoring"),
            json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "kube-scheduler"},
                "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "kube-scheduler"}}}}),
        ]
    }

    #[test]
    fn definitions_come_first_and_what_uses_them_last() {
        let mut plan = Plan::default();
        plan.monitoring(stack(), &Profile::default());
        let shown: Vec<Vec<String>> = plan
            .stages
            .iter()
            .map(|stage| stage.objects.iter().map(|found| format!("{} {}", object::kind(found), object::name(found))).collect())
            .collect();
        assert_eq!(
            shown,
            [
                vec!["Namespace monitoring", "CustomResourceDefinition prometheuses.monitoring.coreos.com"],
                vec![
                    "ServiceAccount prometheus-k8s",
                    "Role prometheus-k8s",
                    "Service kube-scheduler-prometheus-discovery",
                    "Prometheus k8s",
                    "Deployment prometheus-operator",
                    "ServiceMonitor kube-scheduler",
                ],
            ]
        );
        assert_eq!(plan.stages[0].waits, [Wait::Established(vec!["prometheuses.monitoring.coreos.com".to_owned()])]);
        assert_eq!(
            plan.stages[1].waits,
            [Wait::Workloads { namespace: "monitoring".to_owned(), expected: vec!["statefulsets/prometheus-k8s".to_owned()] }]
        );
    }

    #[test]
    fn images_are_found() {
        let mut plan = Plan::default();
        plan.monitoring(stack(), &Profile::default());
        let wanted = ["quay.io/kubevirt/virt-api:v1", "quay.io/po:v1", "quay.io/prometheus/prometheus:v3", "quay.io/reloader:v1"];
        assert_eq!(plan.images(), wanted);
        plan.mirror("registry.example:5000/lab/");
        let mirrored = ["kubevirt/virt-api:v1", "po:v1", "prometheus/prometheus:v3", "reloader:v1"];
        assert_eq!(plan.images(), mirrored.map(|image| format!("registry.example:5000/lab/{image}")));
        assert_eq!(super::mirrored("grafana/grafana:13", "r"), "r/grafana/grafana:13");
    }
}
