//! The pages of objects, family by family, and who may see which label.

use serde_json::json;

use super::*;

/// The lines about an object that begin so.
fn lines(resource: &Resource, object: &Value, allowed: &str, start: &str) -> Vec<String> {
    let allowed = AllowList::parse(allowed, &StatePage::resources()).unwrap();
    let page = render(resource, [Arc::new(object.clone())].iter(), &allowed);
    // What is written can be read.
    metrics::parse(&page).unwrap();
    page.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

fn pod() -> Value {
    json!({
        "metadata": {"namespace": "n", "name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "x", "kubevirt.io": "virt-api"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": true}]},
        "spec": {"nodeName": "lab", "restartPolicy": "Always", "serviceAccountName": "s",
            "containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "5m", "memory": "275Mi",
                "devices.kubevirt.io/kvm": "1", "unknown": "3"}}}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "pvc"}}]},
        "status": {"phase": "Running", "podIP": "127.1.1.1", "hostIP": "127.1.0.1", "qosClass": "Burstable",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "c", "image": "i:1", "ready": false, "restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]},
    })
}

#[test]
fn pods_are_told_about() {
    let id = r#"namespace="n",pod="p",uid="u""#;
    for (allowed, start, expected) in [
        (
            "",
            "kube_pod_info",
            vec![format!(
                r#"kube_pod_info{{{id},host_ip="127.1.0.1",pod_ip="127.1.1.1",node="lab",created_by_kind="ReplicaSet",created_by_name="r",priority_class="",host_network="false"}} 1"#
            )],
        ),
        ("", "kube_pod_created", vec![format!("kube_pod_created{{{id}}} 1767225600")]),
        (
            "",
            "kube_pod_status_phase",
            ["Pending", "Succeeded", "Failed", "Unknown", "Running"]
                .iter()
                .map(|phase| format!(r#"kube_pod_status_phase{{{id},phase="{phase}"}} {}"#, u8::from(*phase == "Running")))
                .collect(),
        ),
        (
            "",
            "kube_pod_status_ready{",
            [("true", 0), ("false", 1), ("unknown", 0)]
                .iter()
                .map(|(status, value)| format!(r#"kube_pod_status_ready{{{id},condition="{status}"}} {value}"#))
                .collect(),
        ),
        (
            "",
            "kube_pod_container_resource_requests",
            vec![
                format!(
                    r#"kube_pod_container_resource_requests{{{id},container="c",node="lab",resource="cpu",unit="core"}} 0.005"#
                ),
                format!(
                    r#"kube_pod_container_resource_requests{{{id},container="c",node="lab",resource="devices_kubevirt_io_kvm",unit="integer"}} 1"#
                ),
                format!(
                    r#"kube_pod_container_resource_requests{{{id},container="c",node="lab",resource="memory",unit="byte"}} 288358400"#
                ),
            ],
        ),
        ("", "kube_pod_container_resource_limits", vec![]),
        (
            "",
            "kube_pod_container_status_waiting_reason",
            vec![format!(r#"kube_pod_container_status_waiting_reason{{{id},container="c",reason="CrashLoopBackOff"}} 1"#)],
        ),
        (
            "",
            "kube_pod_container_status_restarts_total",
            vec![format!(r#"kube_pod_container_status_restarts_total{{{id},container="c"}} 2"#)],
        ),
        (
            "",
            "kube_pod_spec_volumes_persistentvolumeclaims_info",
            vec![format!(
                r#"kube_pod_spec_volumes_persistentvolumeclaims_info{{{id},volume="v",persistentvolumeclaim="pvc",ephemeral="false"}} 1"#
            )],
        ),
        // Without the flag there is no such series at all, with it there is one of every pod.
        ("", "kube_pod_labels", vec![]),
        ("nodes=[*]", "kube_pod_labels", vec![]),
        ("pods=[app]", "kube_pod_labels", vec![format!(r#"kube_pod_labels{{{id},label_app="x"}} 1"#)]),
        ("pods=[nope]", "kube_pod_labels", vec![format!("kube_pod_labels{{{id}}} 1")]),
        ("*=[*]", "kube_pod_labels", vec![format!(r#"kube_pod_labels{{{id},label_app="x",label_kubevirt_io="virt-api"}} 1"#)]),
    ] {
        assert_eq!(lines(&pods::PODS, &pod(), allowed, start), expected, "{allowed} {start}");
    }
}

#[test]
fn other_objects_are_told_about() {
    let node = json!({
        "metadata": {"name": "lab", "labels": {"node-role.kubernetes.io/control-plane": "", "kubevirt.io/schedulable": "true"}},
        "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "500", "hugepages-2Mi": "0"},
            "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let deployment = json!({"metadata": {"namespace": "n", "name": "d", "generation": 3}, "spec": {},
        "status": {"replicas": 2, "unavailableReplicas": 1}});
    let claim = json!({"metadata": {"namespace": "n", "name": "c"},
        "spec": {"storageClassName": "fast", "volumeName": "pv", "volumeMode": "Block", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound"}});
    let endpoints = json!({"metadata": {"namespace": "n", "name": "e"}, "subsets": [{
        "ports": [{"name": "metrics", "port": 8443, "protocol": "TCP"}],
        "addresses": [{"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}]}]});
    for (resource, object, start, expected) in [
        (
            &cluster_objects::NODES,
            &node,
            "kube_node_status_allocatable",
            vec![
                r#"kube_node_status_allocatable{node="lab",resource="cpu",unit="core"} 8"#,
                r#"kube_node_status_allocatable{node="lab",resource="hugepages_2Mi",unit="byte"} 0"#,
                r#"kube_node_status_allocatable{node="lab",resource="memory",unit="byte"} 34359738368"#,
                r#"kube_node_status_allocatable{node="lab",resource="pods",unit="integer"} 500"#,
            ],
        ),
        (&cluster_objects::NODES, &node, "kube_node_role", vec![r#"kube_node_role{node="lab",role="control-plane"} 1"#]),
        (&cluster_objects::NODES, &node, "kube_node_labels", vec![]),
        (&cluster_objects::NODES, &node, "kube_node_spec_unschedulable", vec![r#"kube_node_spec_unschedulable{node="lab"} 0"#]),
        (
            &workloads::DEPLOYMENTS,
            &deployment,
            "kube_deployment_spec_replicas",
            vec![r#"kube_deployment_spec_replicas{namespace="n",deployment="d"} 1"#],
        ),
        (
            &workloads::DEPLOYMENTS,
            &deployment,
            "kube_deployment_status_replicas_",
            vec![
                r#"kube_deployment_status_replicas_ready{namespace="n",deployment="d"} 0"#,
                r#"kube_deployment_status_replicas_available{namespace="n",deployment="d"} 0"#,
                r#"kube_deployment_status_replicas_unavailable{namespace="n",deployment="d"} 1"#,
                r#"kube_deployment_status_replicas_updated{namespace="n",deployment="d"} 0"#,
            ],
        ),
        (
            &cluster_objects::CLAIMS,
            &claim,
            "kube_persistentvolumeclaim_resource",
            vec![
                r#"kube_persistentvolumeclaim_resource_requests_storage_bytes{namespace="n",persistentvolumeclaim="c"} 1073741824"#,
            ],
        ),
        (
            &network::ENDPOINTS,
            &endpoints,
            "kube_endpoint_address",
            vec![
                r#"kube_endpoint_address{namespace="n",endpoint="e",port_protocol="TCP",port_number="8443",port_name="metrics",ip="10.0.0.1",ready="true"} 1"#,
                r#"kube_endpoint_address{namespace="n",endpoint="e",port_protocol="TCP",port_number="8443",port_name="metrics",ip="10.0.0.2",ready="false"} 1"#,
            ],
        ),
    ] {
        assert_eq!(lines(resource, object, "", start), expected, "{start}");
    }
}

#[test]
fn names_are_the_resources_own_and_come_once() {
    let mut names: Vec<&str> = RESOURCES.iter().flat_map(|resource| resource.families).map(|family| family.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in names {
        assert!(name.starts_with("kube_"), "{name}");
    }
}
