//! Pods (`internal/store/pod.go`).

use apiserver::Gr;
use kubeapi::object;
use metrics::Kind;
use serde_json::Value;

use super::{Family, Resource, Samples, amounts, created, deletion, gauge, labels, owners};
use crate::page::{items, number, seconds, text};

pub(super) const PODS: Resource = Resource {
    name: "pods",
    gr: Gr::core("pods"),
    go_type: "*v1.Pod",
    identity: |pod| vec![("namespace", object::namespace(pod)), ("pod", object::name(pod)), ("uid", object::uid(pod))],
    families: FAMILIES,
};

const FAMILIES: &[Family] = &[
    gauge("kube_pod_info", "Where a pod is and what made it.", info),
    gauge("kube_pod_ips", "Addresses of a pod.", |pod, samples| {
        for ip in items(&pod["status"]["podIPs"]) {
            let address = text(&ip["ip"]);
            samples.with(&[("ip", address), ("ip_family", if address.contains(':') { "6" } else { "4" })], 1.0);
        }
    }),
    gauge("kube_pod_created", "When a pod was made, in seconds since 1970.", created),
    gauge("kube_pod_start_time", "When a pod's node took it on, in seconds since 1970.", |pod, samples| {
        if let Some(time) = seconds(&pod["status"]["startTime"]) {
            samples.one(time);
        }
    }),
    gauge("kube_pod_deletion_timestamp", "When a pod is to be gone, in seconds since 1970.", deletion),
    gauge("kube_pod_owner", "What owns a pod.", owners),
    gauge("kube_pod_labels", "Labels of a pod, as far as --metric-labels-allowlist allows them.", labels),
    gauge("kube_pod_restart_policy", "Whether a pod's containers are started again.", |pod, samples| {
        samples.with(&[("type", text(&pod["spec"]["restartPolicy"]))], 1.0);
    }),
    gauge("kube_pod_service_account", "Whom a pod acts as.", |pod, samples| {
        samples.with(&[("service_account", text(&pod["spec"]["serviceAccountName"]))], 1.0);
    }),
    gauge("kube_pod_status_phase", "The phase of a pod: 1 for the one that it is in.", |pod, samples| {
        let phase = text(&pod["status"]["phase"]);
        if !phase.is_empty() {
            samples.one_of("phase", &["Pending", "Succeeded", "Failed", "Unknown", "Running"], phase);
        }
    }),
    gauge("kube_pod_status_ready", "Whether a pod is ready.", |pod, samples| condition(pod, samples, "Ready")),
    gauge("kube_pod_status_scheduled", "Whether a pod has a node.", |pod, samples| condition(pod, samples, "PodScheduled")),
    gauge("kube_pod_status_ready_time", "Since when a pod is ready, in seconds since 1970.", |pod, samples| {
        let ready = items(&pod["status"]["conditions"]).find(|one| one["type"] == "Ready" && one["status"] == "True");
        if let Some(time) = ready.and_then(|ready| seconds(&ready["lastTransitionTime"])) {
            samples.one(time);
        }
    }),
    gauge("kube_pod_status_unschedulable", "Pods that no node can take.", |pod, samples| {
        let refused =
            |one: &&Value| one["type"] == "PodScheduled" && one["status"] == "False" && one["reason"] == "Unschedulable";
        if items(&pod["status"]["conditions"]).any(|one| refused(&one)) {
            samples.one(1.0);
        }
    }),
    gauge("kube_pod_status_reason", "Why a pod was ended.", |pod, samples| {
        let known = ["Evicted", "NodeAffinity", "NodeLost", "Shutdown", "UnexpectedAdmissionError", "Terminated"];
        match text(&pod["status"]["reason"]) {
            "" => {}
            reason if known.contains(&reason) => samples.with(&[("reason", reason)], 1.0),
            _ => samples.with(&[("reason", "Other")], 1.0),
        }
    }),
    gauge("kube_pod_status_qos_class", "The quality-of-service class of a pod.", |pod, samples| {
        let class = text(&pod["status"]["qosClass"]);
        if !class.is_empty() {
            samples.one_of("qos_class", &["BestEffort", "Burstable", "Guaranteed"], class);
        }
    }),
    gauge("kube_pod_container_info", "Which image a container runs.", |pod, samples| images(pod, samples, "")),
    gauge("kube_pod_init_container_info", "Which image an init container runs.", |pod, samples| images(pod, samples, "init")),
    gauge("kube_pod_container_resource_requests", "What a container asks for.", |pod, samples| {
        resources(pod, samples, "requests");
    }),
    gauge("kube_pod_container_resource_limits", "The most that a container may use.", |pod, samples| {
        resources(pod, samples, "limits");
    }),
    gauge("kube_pod_container_state_started", "When a container started, in seconds since 1970.", |pod, samples| {
        each_status(pod, samples, |container, status, samples| {
            let started = [&status["state"]["running"]["startedAt"], &status["state"]["terminated"]["startedAt"]];
            if let Some(time) = started.into_iter().find_map(seconds) {
                samples.with(&[("container", container)], time);
            }
        });
    }),
    gauge("kube_pod_container_status_ready", "Whether a container is ready.", |pod, samples| {
        flag(pod, samples, |status| status["ready"] == true);
    }),
    gauge("kube_pod_container_status_running", "Whether a container runs.", |pod, samples| {
        flag(pod, samples, |status| status["state"]["running"].is_object());
    }),
    gauge("kube_pod_container_status_waiting", "Whether a container waits to run.", |pod, samples| {
        flag(pod, samples, |status| status["state"]["waiting"].is_object());
    }),
    gauge("kube_pod_container_status_waiting_reason", "What a container waits for.", |pod, samples| {
        reason(pod, samples, |status| &status["state"]["waiting"]);
    }),
    gauge("kube_pod_container_status_terminated", "Whether a container has ended.", |pod, samples| {
        flag(pod, samples, |status| status["state"]["terminated"].is_object());
    }),
    gauge("kube_pod_container_status_terminated_reason", "Why a container has ended.", |pod, samples| {
        reason(pod, samples, |status| &status["state"]["terminated"]);
    }),
    gauge("kube_pod_container_status_last_terminated_reason", "Why a container ended the last time.", |pod, samples| {
        reason(pod, samples, |status| &status["lastState"]["terminated"]);
    }),
    gauge(
        "kube_pod_container_status_last_terminated_exitcode",
        "With what code a container ended the last time.",
        |pod, samples| {
            each_status(pod, samples, |container, status, samples| {
                if let Some(code) = status["lastState"]["terminated"]["exitCode"].as_f64() {
                    samples.with(&[("container", container)], code);
                }
            });
        },
    ),
    Family {
        name: "kube_pod_container_status_restarts_total",
        kind: Kind::Counter,
        help: "How often a container was started again.",
        each: |pod, samples| {
            each_status(pod, samples, |container, status, samples| {
                samples.with(&[("container", container)], number(&status["restartCount"]));
            });
        },
    },
    gauge("kube_pod_spec_volumes_persistentvolumeclaims_info", "Which claims a pod mounts.", |pod, samples| {
        claims(pod, samples, |_| 1.0);
    }),
    gauge(
        "kube_pod_spec_volumes_persistentvolumeclaims_readonly",
        "Whether a pod mounts a claim to read alone.",
        |pod, samples| {
            claims(pod, samples, |claim| f64::from(u8::from(claim["readOnly"] == true)));
        },
    ),
];

fn info(pod: &Value, samples: &mut Samples<'_>) {
    let controller = object::controller(pod).unwrap_or(&Value::Null);
    let host_network = if pod["spec"]["hostNetwork"] == true { "true" } else { "false" };
    samples.with(
        &[
            ("host_ip", text(&pod["status"]["hostIP"])),
            ("pod_ip", text(&pod["status"]["podIP"])),
            ("node", text(&pod["spec"]["nodeName"])),
            ("created_by_kind", text(&controller["kind"])),
            ("created_by_name", text(&controller["name"])),
            ("priority_class", text(&pod["spec"]["priorityClassName"])),
            ("host_network", host_network),
        ],
        1.0,
    );
}

fn condition(pod: &Value, samples: &mut Samples<'_>, kind: &str) {
    for condition in items(&pod["status"]["conditions"]).filter(|condition| condition["type"] == kind) {
        samples.condition(&[], "condition", &condition["status"]);
    }
}

fn each_status(pod: &Value, samples: &mut Samples<'_>, tell: impl Fn(&str, &Value, &mut Samples<'_>)) {
    for status in items(&pod["status"]["containerStatuses"]) {
        tell(text(&status["name"]), status, samples);
    }
}

fn flag(pod: &Value, samples: &mut Samples<'_>, holds: impl Fn(&Value) -> bool) {
    each_status(pod, samples, |container, status, samples| {
        samples.with(&[("container", container)], f64::from(u8::from(holds(status))));
    });
}

fn reason(pod: &Value, samples: &mut Samples<'_>, state: impl Fn(&Value) -> &Value) {
    each_status(pod, samples, |container, status, samples| {
        let reason = text(&state(status)["reason"]);
        if !reason.is_empty() {
            samples.with(&[("container", container), ("reason", reason)], 1.0);
        }
    });
}

fn images(pod: &Value, samples: &mut Samples<'_>, which: &str) {
    let (specs, statuses) = match which {
        "init" => (&pod["spec"]["initContainers"], &pod["status"]["initContainerStatuses"]),
        _ => (&pod["spec"]["containers"], &pod["status"]["containerStatuses"]),
    };
    for spec in items(specs) {
        for status in items(statuses).filter(|status| status["name"] == spec["name"]) {
            samples.with(
                &[
                    ("container", text(&spec["name"])),
                    ("image_spec", text(&spec["image"])),
                    ("image", text(&status["image"])),
                    ("image_id", text(&status["imageID"])),
                    ("container_id", text(&status["containerID"])),
                ],
                1.0,
            );
        }
    }
}

fn resources(pod: &Value, samples: &mut Samples<'_>, which: &str) {
    for container in items(&pod["spec"]["containers"]) {
        for (resource, unit, amount) in amounts(&container["resources"][which]) {
            let labels = [
                ("container", text(&container["name"])),
                ("node", text(&pod["spec"]["nodeName"])),
                ("resource", resource.as_str()),
                ("unit", unit),
            ];
            samples.with(&labels, amount);
        }
    }
}

fn claims(pod: &Value, samples: &mut Samples<'_>, value: impl Fn(&Value) -> f64) {
    for volume in items(&pod["spec"]["volumes"]).filter(|volume| volume["persistentVolumeClaim"].is_object()) {
        let claim = &volume["persistentVolumeClaim"];
        let labels =
            [("volume", text(&volume["name"])), ("persistentvolumeclaim", text(&claim["claimName"])), ("ephemeral", "false")];
        samples.with(&labels, value(claim));
    }
}
