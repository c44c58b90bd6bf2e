//! Nodes, Namespaces, PersistentVolumeClaims and Secrets (`internal/store/node.go` and its kin).

use apiserver::Gr;
use serde_json::Value;

use super::{Resource, Samples, amounts, created, deletion, gauge, in_namespace, labels, named, owners};
use crate::page::{Family, items, text};

pub(super) const NODES: Resource = Resource {
    name: "nodes",
    gr: Gr::core("nodes"),
    go_type: "*v1.Node",
    identity: |node| vec![("node", named(node))],
    families: NODE_FAMILIES,
};

const NODE_FAMILIES: &[Family] = &[
    gauge("kube_node_created", "When a node joined, in seconds since 1970.", created),
    gauge("kube_node_info", "What a node runs.", |node, samples| {
        let info = &node["status"]["nodeInfo"];
        let internal = items(&node["status"]["addresses"]).find(|address| address["type"] == "InternalIP");
        samples.with(
            &[
                ("kernel_version", text(&info["kernelVersion"])),
                ("os_image", text(&info["osImage"])),
                ("container_runtime_version", text(&info["containerRuntimeVersion"])),
                ("kubelet_version", text(&info["kubeletVersion"])),
                // The field is deprecated, and the label with it.
                ("kubeproxy_version", "deprecated"),
                ("provider_id", text(&node["spec"]["providerID"])),
                ("pod_cidr", text(&node["spec"]["podCIDR"])),
                ("system_uuid", text(&info["systemUUID"])),
                ("internal_ip", internal.map_or("", |address| text(&address["address"]))),
            ],
            1.0,
        );
    }),
    gauge("kube_node_labels", "Labels of a node, as far as --metric-labels-allowlist allows them.", labels),
    gauge("kube_node_role", "Roles of a node.", |node, samples| {
        for key in node["metadata"]["labels"].as_object().into_iter().flatten().map(|(key, _)| key) {
            if let Some(role) = key.strip_prefix("node-role.kubernetes.io/") {
                samples.with(&[("role", role)], 1.0);
            }
        }
    }),
    gauge("kube_node_spec_unschedulable", "Whether a node takes no more pods.", |node, samples| {
        samples.one(f64::from(u8::from(node["spec"]["unschedulable"] == true)));
    }),
    gauge("kube_node_spec_taint", "Taints of a node.", |node, samples| {
        for taint in items(&node["spec"]["taints"]) {
            let labels = [("key", text(&taint["key"])), ("value", text(&taint["value"])), ("effect", text(&taint["effect"]))];
            samples.with(&labels, 1.0);
        }
    }),
    gauge("kube_node_status_addresses", "Addresses of a node.", |node, samples| {
        for address in items(&node["status"]["addresses"]) {
            samples.with(&[("type", text(&address["type"])), ("address", text(&address["address"]))], 1.0);
        }
    }),
    gauge("kube_node_status_allocatable", "What a node has for pods.", |node, samples| {
        room(&node["status"]["allocatable"], samples);
    }),
    gauge("kube_node_status_capacity", "What a node has.", |node, samples| room(&node["status"]["capacity"], samples)),
    gauge("kube_node_status_condition", "Conditions of a node.", |node, samples| {
        for condition in items(&node["status"]["conditions"]) {
            samples.condition(&[("condition", text(&condition["type"]))], "status", &condition["status"]);
        }
    }),
];

fn room(list: &Value, samples: &mut Samples<'_>) {
    for (resource, unit, amount) in amounts(list) {
        samples.with(&[("resource", resource.as_str()), ("unit", unit)], amount);
    }
}

pub(super) const NAMESPACES: Resource = Resource {
    name: "namespaces",
    gr: Gr::core("namespaces"),
    go_type: "*v1.Namespace",
    identity: |namespace| vec![("namespace", named(namespace))],
    families: &[
        gauge("kube_namespace_created", "When a namespace was made, in seconds since 1970.", created),
        gauge("kube_namespace_labels", "Labels of a namespace, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_namespace_status_phase", "The phase of a namespace: 1 for the one that it is in.", |namespace, samples| {
            samples.one_of("phase", &["Active", "Terminating"], text(&namespace["status"]["phase"]));
        }),
    ],
};

pub(super) const CLAIMS: Resource = Resource {
    name: "persistentvolumeclaims",
    gr: Gr::core("persistentvolumeclaims"),
    go_type: "*v1.PersistentVolumeClaim",
    identity: in_namespace!("persistentvolumeclaim"),
    families: &[
        gauge("kube_persistentvolumeclaim_created", "When a claim was made, in seconds since 1970.", created),
        gauge("kube_persistentvolumeclaim_deletion_timestamp", "When a claim is to be gone, in seconds since 1970.", deletion),
        gauge("kube_persistentvolumeclaim_labels", "Labels of a claim, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_persistentvolumeclaim_info", "What a claim is bound to.", |claim, samples| {
            let old = text(&claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]);
            let class = if old.is_empty() { text(&claim["spec"]["storageClassName"]) } else { old };
            let spec = &claim["spec"];
            let labels =
                [("storageclass", class), ("volumename", text(&spec["volumeName"])), ("volumemode", text(&spec["volumeMode"]))];
            samples.with(&labels, 1.0);
        }),
        gauge("kube_persistentvolumeclaim_access_mode", "How a claim may be mounted.", |claim, samples| {
            for mode in items(&claim["spec"]["accessModes"]) {
                samples.with(&[("access_mode", text(mode))], 1.0);
            }
        }),
        gauge(
            "kube_persistentvolumeclaim_resource_requests_storage_bytes",
            "How many bytes a claim asks for.",
            |claim, samples| {
                let asked = amounts(&claim["spec"]["resources"]["requests"]);
                if let Some((.., bytes)) = asked.iter().find(|(name, ..)| name == "storage") {
                    samples.one(*bytes);
                }
            },
        ),
        gauge(
            "kube_persistentvolumeclaim_status_phase",
            "The phase of a claim: 1 for the one that it is in.",
            |claim, samples| {
                let phase = text(&claim["status"]["phase"]);
                if !phase.is_empty() {
                    samples.one_of("phase", &["Lost", "Bound", "Pending"], phase);
                }
            },
        ),
        gauge("kube_persistentvolumeclaim_status_condition", "Conditions of a claim.", |claim, samples| {
            for condition in items(&claim["status"]["conditions"]) {
                samples.condition(&[("condition", text(&condition["type"]))], "status", &condition["status"]);
            }
        }),
    ],
};

pub(super) const SECRETS: Resource = Resource {
    name: "secrets",
    gr: Gr::core("secrets"),
    go_type: "*v1.Secret",
    identity: in_namespace!("secret"),
    families: &[
        gauge("kube_secret_created", "When a Secret was made, in seconds since 1970.", created),
        gauge("kube_secret_info", "Secrets that there are.", |_, samples| samples.one(1.0)),
        gauge("kube_secret_labels", "Labels of a Secret, as far as --metric-labels-allowlist allows them.", labels),
        gauge("kube_secret_owner", "What owns a Secret.", owners),
        gauge("kube_secret_type", "The type of a Secret.", |secret, samples| {
            samples.with(&[("type", text(&secret["type"]))], 1.0);
        }),
        gauge("kube_secret_metadata_resource_version", "The version of a Secret.", |secret, samples| {
            if let Ok(version) = text(&secret["metadata"]["resourceVersion"]).parse() {
                samples.one(version);
            }
        }),
    ],
};
