//! Columns and cells of the built-in kinds (k8s.io/kubernetes `pkg/printers/internalversion/printers.go`).

use jiff::Timestamp;
use kubeapi::object;
use serde_json::Value;

use super::human_duration;
use crate::resource::Resource;

/// A column: name, type, format, priority (above 0 is shown with `-o wide` only).
pub(super) type Column = (&'static str, &'static str, &'static str, i64);

/// The columns of a resource.
pub(super) fn columns(resource: &Resource) -> &'static [Column] {
    const NAME: Column = ("Name", "string", "name", 0);
    const AGE: Column = ("Age", "string", "", 0);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            NAME,
            ("Ready", "string", "", 0),
            ("Status", "string", "", 0),
            ("Restarts", "string", "", 0),
            AGE,
            ("IP", "string", "", 1),
            ("Node", "string", "", 1),
            ("Nominated Node", "string", "", 1),
            ("Readiness Gates", "string", "", 1),
        ],
        ("", "services") => &[
            NAME,
            ("Type", "string", "", 0),
            ("Cluster-IP", "string", "", 0),
            ("External-IP", "string", "", 0),
            ("Port(s)", "string", "", 0),
            AGE,
            ("Selector", "string", "", 1),
        ],
        ("", "nodes") => &[
            NAME,
            ("Status", "string", "", 0),
            ("Roles", "string", "", 0),
            AGE,
            ("Version", "string", "", 0),
            ("Internal-IP", "string", "", 1),
            ("External-IP", "string", "", 1),
            ("OS-Image", "string", "", 1),
            ("Kernel-Version", "string", "", 1),
            ("Container-Runtime", "string", "", 1),
        ],
        ("", "namespaces") => &[NAME, ("Status", "string", "", 0), AGE],
        ("", "configmaps") => &[NAME, ("Data", "string", "", 0), AGE],
        ("", "secrets") => &[NAME, ("Type", "string", "", 0), ("Data", "string", "", 0), AGE],
        ("", "endpoints") => &[NAME, ("Endpoints", "string", "", 0), AGE],
        ("discovery.k8s.io", "endpointslices") => {
            &[NAME, ("AddressType", "string", "", 0), ("Ports", "string", "", 0), ("Endpoints", "string", "", 0), AGE]
        }
        ("" | "events.k8s.io", "events") => &[
            ("Last Seen", "string", "", 0),
            ("Type", "string", "", 0),
            ("Reason", "string", "", 0),
            ("Object", "string", "", 0),
            ("Subobject", "string", "", 1),
            ("Source", "string", "", 1),
            ("Message", "string", "", 0),
            ("First Seen", "string", "", 1),
            ("Count", "string", "", 1),
            ("Name", "string", "name", 1),
        ],
        ("apps", "deployments") => &[
            NAME,
            ("Ready", "string", "", 0),
            ("Up-to-date", "string", "", 0),
            ("Available", "string", "", 0),
            AGE,
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
        ("apps", "replicasets") | ("", "replicationcontrollers") => &[
            NAME,
            ("Desired", "integer", "", 0),
            ("Current", "integer", "", 0),
            ("Ready", "integer", "", 0),
            AGE,
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
        ("apps", "statefulsets") => {
            &[NAME, ("Ready", "string", "", 0), AGE, ("Containers", "string", "", 1), ("Images", "string", "", 1)]
        }
        ("apps", "daemonsets") => &[
            NAME,
            ("Desired", "integer", "", 0),
            ("Current", "integer", "", 0),
            ("Ready", "integer", "", 0),
            ("Up-to-date", "integer", "", 0),
            ("Available", "integer", "", 0),
            ("Node Selector", "string", "", 0),
            AGE,
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
        ("batch", "jobs") => &[
            NAME,
            ("Status", "string", "", 0),
            ("Completions", "string", "", 0),
            ("Duration", "string", "", 0),
            AGE,
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
        ("batch", "cronjobs") => &[
            NAME,
            ("Schedule", "string", "", 0),
            ("Timezone", "string", "", 0),
            ("Suspend", "boolean", "", 0),
            ("Active", "integer", "", 0),
            ("Last Schedule", "string", "", 0),
            AGE,
            ("Containers", "string", "", 1),
            ("Images", "string", "", 1),
            ("Selector", "string", "", 1),
        ],
        ("", "persistentvolumeclaims") => &[
            NAME,
            ("Status", "string", "", 0),
            ("Volume", "string", "", 0),
            ("Capacity", "string", "", 0),
            ("Access Modes", "string", "", 0),
            ("StorageClass", "string", "", 0),
            ("VolumeAttributesClass", "string", "", 0),
            AGE,
            ("VolumeMode", "string", "", 1),
        ],
        ("", "persistentvolumes") => &[
            NAME,
            ("Capacity", "string", "", 0),
            ("Access Modes", "string", "", 0),
            ("Reclaim Policy", "string", "", 0),
            ("Status", "string", "", 0),
            ("Claim", "string", "", 0),
            ("StorageClass", "string", "", 0),
            ("VolumeAttributesClass", "string", "", 0),
            ("Reason", "string", "", 0),
            AGE,
            ("VolumeMode", "string", "", 1),
        ],
        ("storage.k8s.io", "storageclasses") => &[
            NAME,
            ("Provisioner", "string", "", 0),
            ("ReclaimPolicy", "string", "", 0),
            ("VolumeBindingMode", "string", "", 0),
            ("AllowVolumeExpansion", "string", "", 0),
            AGE,
        ],
        ("policy", "poddisruptionbudgets") => &[
            NAME,
            ("Min Available", "string", "", 0),
            ("Max Unavailable", "string", "", 0),
            ("Allowed Disruptions", "integer", "", 0),
            AGE,
        ],
        ("scheduling.k8s.io", "priorityclasses") => {
            &[NAME, ("Value", "integer", "", 0), ("Global-Default", "boolean", "", 0), AGE, ("PreemptionPolicy", "string", "", 0)]
        }
        ("networking.k8s.io", "ingresses") => &[
            NAME,
            ("Class", "string", "", 0),
            ("Hosts", "string", "", 0),
            ("Address", "string", "", 0),
            ("Ports", "string", "", 0),
            AGE,
        ],
        ("networking.k8s.io", "ingressclasses") => &[NAME, ("Controller", "string", "", 0), ("Parameters", "string", "", 0), AGE],
        ("networking.k8s.io", "networkpolicies") => &[NAME, ("Pod-Selector", "string", "", 0), AGE],
        ("apps", "controllerrevisions") => &[NAME, ("Controller", "string", "", 0), ("Revision", "string", "", 0), AGE],
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            &[NAME, ("Webhooks", "integer", "", 0), AGE]
        }
        ("apiregistration.k8s.io", _) => &[NAME, ("Service", "string", "", 0), ("Available", "string", "", 0), AGE],
        ("certificates.k8s.io", _) => &[
            NAME,
            AGE,
            ("SignerName", "string", "", 0),
            ("Requestor", "string", "", 0),
            ("RequestedDuration", "string", "", 0),
            ("Condition", "string", "", 0),
        ],
        ("node.k8s.io", _) => &[NAME, ("Handler", "string", "", 0), AGE],
        ("coordination.k8s.io", "leases") => &[NAME, ("Holder", "string", "", 0), AGE],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => &[
            NAME,
            ("Role", "string", "", 0),
            AGE,
            ("Users", "string", "", 1),
            ("Groups", "string", "", 1),
            ("ServiceAccounts", "string", "", 1),
        ],
        ("rbac.authorization.k8s.io", _) | ("apiextensions.k8s.io", _) => &[NAME, ("Created At", "date", "", 0)],
        _ => &[NAME, AGE],
    }
}

pub(super) fn age(now: Timestamp, time: &Value) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => human_duration((now.as_millisecond() - time.as_millisecond()).div_euclid(1000)),
        None => "<unknown>".to_owned(),
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn unset(text: &str) -> &str {
    if text.is_empty() { "<unset>" } else { text }
}

/// `RWO,ROX`, as kubectl shortens access modes.
fn access_modes(modes: &Value) -> String {
    joined(list(modes).map(|mode| {
        match text(mode) {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        }
        .to_owned()
    }))
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

fn selector_text(selector: &Value) -> String {
    let labels = if selector.get("matchLabels").is_some() { &selector["matchLabels"] } else { selector };
    or_none(joined(labels.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value)))))
}

fn containers_and_images(template: &Value) -> [Value; 2] {
    ["name", "image"]
        .map(|key| joined(list(&template["spec"]["containers"]).map(|container| text(&container[key]).to_owned())).into())
}

/// The phase that a person sees: the reason of a waiting or terminated container before the pod's phase.
fn pod_status(pod: &Value) -> (String, usize, usize, i64) {
    let statuses = &pod["status"]["containerStatuses"];
    let total = list(&pod["spec"]["containers"]).count();
    let ready = list(statuses).filter(|status| status["ready"] == true && status["state"]["running"].is_object()).count();
    let restarts = list(statuses).filter_map(|status| status["restartCount"].as_i64()).sum();
    let mut word = pod["status"]["reason"].as_str().unwrap_or_else(|| text(&pod["status"]["phase"])).to_owned();
    for status in list(statuses).collect::<Vec<_>>().into_iter().rev() {
        if let Some(reason) = status["state"]["waiting"]["reason"].as_str().filter(|reason| !reason.is_empty()) {
            reason.clone_into(&mut word);
        } else if status["state"]["terminated"].is_object() {
            word = match status["state"]["terminated"]["reason"].as_str() {
                Some(reason) if !reason.is_empty() => reason.to_owned(),
                _ => format!("ExitCode:{}", status["state"]["terminated"]["exitCode"].as_i64().unwrap_or(0)),
            };
        }
    }
    if object::is_deleting(pod) {
        word = "Terminating".to_owned();
    }
    (word, ready, total, restarts)
}

fn restarts_text(now: Timestamp, pod: &Value, restarts: i64) -> String {
    let last = list(&pod["status"]["containerStatuses"])
        .filter_map(|status| text(&status["lastState"]["terminated"]["finishedAt"]).parse::<Timestamp>().ok())
        .max();
    match last {
        Some(last) if restarts > 0 => {
            format!("{restarts} ({} ago)", human_duration(now.duration_since(last).as_secs()))
        }
        _ => restarts.to_string(),
    }
}

fn endpoints_text(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        for address in list(&subset["addresses"]) {
            let ports: Vec<&Value> = list(&subset["ports"]).collect();
            if ports.is_empty() {
                all.push(text(&address["ip"]).to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{}:{}", text(&address["ip"]), port["port"])));
        }
    }
    shortened(&all)
}

/// The first three and how many more.
fn shortened(all: &[String]) -> String {
    if all.len() > 3 { format!("{} + {} more...", all[..3].join(","), all.len() - 3) } else { or_none(all.join(",")) }
}

fn subjects(binding: &Value, kind: &str) -> String {
    joined(list(&binding["subjects"]).filter(|subject| subject["kind"] == kind).map(|subject| {
        if kind == "ServiceAccount" {
            format!("{}/{}", text(&subject["namespace"]), text(&subject["name"]))
        } else {
            text(&subject["name"]).to_owned()
        }
    }))
}

/// The cells of an object, one for each column.
pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let name: Value = object::name(object).into();
    let created = &object["metadata"]["creationTimestamp"];
    let age_cell: Value = age(now, created).into();
    let spec = &object["spec"];
    let status = &object["status"];
    let number = |value: &Value| Value::from(value.as_i64().unwrap_or(0));
    let count = |value: &Value| Value::from(value.as_object().map_or(0, serde_json::Map::len));
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            let (word, ready, total, restarts) = pod_status(object);
            vec![
                name,
                format!("{ready}/{total}").into(),
                word.into(),
                restarts_text(now, object, restarts).into(),
                age_cell,
                or_none(text(&status["podIP"]).to_owned()).into(),
                or_none(text(&spec["nodeName"]).to_owned()).into(),
                or_none(text(&status["nominatedNodeName"]).to_owned()).into(),
                "<none>".into(),
            ]
        }
        ("", "services") => {
            let ports = joined(list(&spec["ports"]).map(|port| match port["nodePort"].as_i64() {
                Some(node) if node > 0 => format!("{}:{node}/{}", port["port"], text(&port["protocol"])),
                _ => format!("{}/{}", port["port"], text(&port["protocol"])),
            }));
            let external = if spec["type"] == "ExternalName" { text(&spec["externalName"]).to_owned() } else { String::new() };
            vec![
                name,
                spec["type"].clone(),
                or_none(text(&spec["clusterIP"]).to_owned()).into(),
                or_none(external).into(),
                or_none(ports).into(),
                age_cell,
                selector_text(&spec["selector"]).into(),
            ]
        }
        ("", "nodes") => {
            let ready = if object::condition(object, "Ready") == Some("True") { "Ready" } else { "NotReady" };
            let ready = if spec["unschedulable"] == true { format!("{ready},SchedulingDisabled") } else { ready.to_owned() };
            let roles = joined(
                object::labels(object)
                    .keys()
                    .filter_map(|label| label.strip_prefix("node-role.kubernetes.io/").map(str::to_owned)),
            );
            let address = |kind: &str| {
                list(&status["addresses"]).find(|address| address["type"] == kind).map_or("", |address| text(&address["address"]))
            };
            let info = &status["nodeInfo"];
            vec![
                name,
                ready.into(),
                or_none(roles).into(),
                age_cell,
                info["kubeletVersion"].clone(),
                or_none(address("InternalIP").to_owned()).into(),
                or_none(address("ExternalIP").to_owned()).into(),
                info["osImage"].clone(),
                info["kernelVersion"].clone(),
                info["containerRuntimeVersion"].clone(),
            ]
        }
        ("", "namespaces") => vec![name, status["phase"].clone(), age_cell],
        ("", "configmaps") => {
            let entries = ["data", "binaryData"].map(|key| object[key].as_object().map_or(0, serde_json::Map::len));
            vec![name, (entries[0] + entries[1]).into(), age_cell]
        }
        ("", "secrets") => vec![name, object["type"].clone(), count(&object["data"]), age_cell],
        ("", "endpoints") => vec![name, endpoints_text(object).into(), age_cell],
        ("discovery.k8s.io", "endpointslices") => {
            let ports: Vec<String> = list(&object["ports"])
                .map(|port| port["port"].as_i64().map_or_else(|| "*".to_owned(), |number| number.to_string()))
                .collect();
            let addresses: Vec<String> = list(&object["endpoints"])
                .flat_map(|endpoint| list(&endpoint["addresses"]).map(|address| text(address).to_owned()))
                .collect();
            let unset = |text: String| if text == "<none>" { "<unset>".to_owned() } else { text };
            vec![
                name,
                object["addressType"].clone(),
                unset(shortened(&ports)).into(),
                unset(shortened(&addresses)).into(),
                age_cell,
            ]
        }
        ("" | "events.k8s.io", "events") => {
            let involved = if object["involvedObject"].is_object() { &object["involvedObject"] } else { &object["regarding"] };
            let last = ["lastTimestamp", "eventTime"].iter().map(|key| &object[*key]).find(|time| !time.is_null());
            let first = [&object["firstTimestamp"], &object["eventTime"]].into_iter().find(|time| !time.is_null());
            vec![
                last.map_or_else(|| "<unknown>".to_owned(), |time| age(now, time)).into(),
                object["type"].clone(),
                object["reason"].clone(),
                format!("{}/{}", text(&involved["kind"]).to_lowercase(), text(&involved["name"])).into(),
                text(&involved["fieldPath"]).into(),
                object["source"]["component"].as_str().unwrap_or_else(|| text(&object["reportingComponent"])).into(),
                text(&object["message"]).trim().into(),
                first.map_or_else(|| "<unknown>".to_owned(), |time| age(now, time)).into(),
                object["count"].as_i64().or_else(|| object["series"]["count"].as_i64()).unwrap_or(1).into(),
                name,
            ]
        }
        ("apps", "deployments") => {
            let [containers, images] = containers_and_images(&spec["template"]);
            vec![
                name,
                format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into(),
                number(&status["updatedReplicas"]),
                number(&status["availableReplicas"]),
                age_cell,
                containers,
                images,
                selector_text(&spec["selector"]).into(),
            ]
        }
        ("apps", "replicasets") | ("", "replicationcontrollers") => {
            let [containers, images] = containers_and_images(&spec["template"]);
            vec![
                name,
                number(&spec["replicas"]),
                number(&status["replicas"]),
                number(&status["readyReplicas"]),
                age_cell,
                containers,
                images,
                selector_text(&spec["selector"]).into(),
            ]
        }
        ("apps", "statefulsets") => {
            let [containers, images] = containers_and_images(&spec["template"]);
            let ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            vec![name, ready.into(), age_cell, containers, images]
        }
        ("apps", "daemonsets") => {
            let [containers, images] = containers_and_images(&spec["template"]);
            vec![
                name,
                number(&status["desiredNumberScheduled"]),
                number(&status["currentNumberScheduled"]),
                number(&status["numberReady"]),
                number(&status["updatedNumberScheduled"]),
                number(&status["numberAvailable"]),
                selector_text(&spec["template"]["spec"]["nodeSelector"]).into(),
                age_cell,
                containers,
                images,
                selector_text(&spec["selector"]).into(),
            ]
        }
        ("batch", "jobs") => {
            let [containers, images] = containers_and_images(&spec["template"]);
            let done = |kind: &str| object::condition(object, kind) == Some("True");
            let word = if done("Complete") {
                "Complete"
            } else if done("Failed") {
                "Failed"
            } else if object::is_deleting(object) {
                "Terminating"
            } else if done("Suspended") {
                "Suspended"
            } else {
                "Running"
            };
            let duration = match (time(&status["startTime"]), time(&status["completionTime"])) {
                (Some(start), Some(end)) => human_duration(end.duration_since(start).as_secs()),
                (Some(start), None) => human_duration(now.duration_since(start).as_secs()),
                _ => String::new(),
            };
            let completions = spec["completions"].as_i64().unwrap_or(1);
            vec![
                name,
                word.into(),
                format!("{}/{completions}", number(&status["succeeded"])).into(),
                duration.into(),
                age_cell,
                containers,
                images,
                selector_text(&spec["selector"]).into(),
            ]
        }
        ("batch", "cronjobs") => {
            let template = &spec["jobTemplate"]["spec"]["template"];
            let [containers, images] = containers_and_images(template);
            let last = &status["lastScheduleTime"];
            vec![
                name,
                spec["schedule"].clone(),
                or_none(text(&spec["timeZone"]).to_owned()).into(),
                spec["suspend"].as_bool().unwrap_or(false).to_string().into(),
                list(&status["active"]).count().into(),
                if last.is_null() { "<none>".into() } else { age(now, last).into() },
                age_cell,
                containers,
                images,
                "<none>".into(),
            ]
        }
        ("", "persistentvolumeclaims") => vec![
            name,
            if object::is_deleting(object) { "Terminating".into() } else { text(&status["phase"]).into() },
            text(&spec["volumeName"]).into(),
            text(&status["capacity"]["storage"]).into(),
            access_modes(&status["accessModes"]).into(),
            text(&spec["storageClassName"]).into(),
            unset(text(&spec["volumeAttributesClassName"])).into(),
            age_cell,
            unset(text(&spec["volumeMode"])).into(),
        ],
        ("", "persistentvolumes") => {
            let claim = &spec["claimRef"];
            let claim =
                if claim.is_object() { format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])) } else { String::new() };
            vec![
                name,
                text(&spec["capacity"]["storage"]).into(),
                access_modes(&spec["accessModes"]).into(),
                text(&spec["persistentVolumeReclaimPolicy"]).into(),
                if object::is_deleting(object) { "Terminating".into() } else { text(&status["phase"]).into() },
                claim.into(),
                text(&spec["storageClassName"]).into(),
                unset(text(&spec["volumeAttributesClassName"])).into(),
                text(&status["reason"]).into(),
                age_cell,
                unset(text(&spec["volumeMode"])).into(),
            ]
        }
        ("storage.k8s.io", "storageclasses") => {
            let marked = object["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
            let shown = if marked { format!("{} (default)", object::name(object)) } else { object::name(object).to_owned() };
            vec![
                shown.into(),
                text(&object["provisioner"]).into(),
                object["reclaimPolicy"].as_str().unwrap_or("Delete").into(),
                object["volumeBindingMode"].as_str().unwrap_or("Immediate").into(),
                (object["allowVolumeExpansion"] == true).into(),
                age_cell,
            ]
        }
        ("policy", "poddisruptionbudgets") => {
            let amount = |value: &Value| match value {
                Value::Null => Value::from("N/A"),
                Value::String(text) => text.as_str().into(),
                other => other.to_string().into(),
            };
            vec![
                name,
                amount(&spec["minAvailable"]),
                amount(&spec["maxUnavailable"]),
                number(&status["disruptionsAllowed"]),
                age_cell,
            ]
        }
        ("scheduling.k8s.io", "priorityclasses") => vec![
            name,
            number(&object["value"]),
            (object["globalDefault"] == true).into(),
            age_cell,
            object["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority").into(),
        ],
        ("networking.k8s.io", "ingresses") => {
            let hosts: Vec<String> =
                list(&spec["rules"]).map(|rule| text(&rule["host"]).to_owned()).filter(|host| !host.is_empty()).collect();
            let addresses = joined(
                list(&status["loadBalancer"]["ingress"])
                    .map(|entry| entry["ip"].as_str().or_else(|| entry["hostname"].as_str()).unwrap_or_default().to_owned()),
            );
            vec![
                name,
                or_none(text(&spec["ingressClassName"]).to_owned()).into(),
                if hosts.is_empty() { "*".into() } else { shortened(&hosts).into() },
                addresses.into(),
                if spec["tls"].is_null() { "80".into() } else { "80, 443".into() },
                age_cell,
            ]
        }
        ("networking.k8s.io", "ingressclasses") => {
            let parameters = &spec["parameters"];
            let shown = match (text(&parameters["apiGroup"]), text(&parameters["kind"]), text(&parameters["name"])) {
                (_, "", _) => "<none>".to_owned(),
                ("", kind, name) => format!("{kind}/{name}"),
                (group, kind, name) => format!("{kind}.{group}/{name}"),
            };
            vec![name, text(&spec["controller"]).into(), shown.into(), age_cell]
        }
        ("networking.k8s.io", "networkpolicies") => vec![name, selector_text(&spec["podSelector"]).into(), age_cell],
        ("apps", "controllerrevisions") => {
            let owner = list(&object["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == true);
            let controller = owner.map(|owner| {
                let group = text(&owner["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
                let kind = text(&owner["kind"]).to_lowercase();
                if group.is_empty() {
                    format!("{kind}/{}", text(&owner["name"]))
                } else {
                    format!("{kind}.{group}/{}", text(&owner["name"]))
                }
            });
            vec![name, controller.unwrap_or_else(|| "<none>".to_owned()).into(), number(&object["revision"]), age_cell]
        }
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            vec![name, list(&object["webhooks"]).count().into(), age_cell]
        }
        ("apiregistration.k8s.io", _) => {
            let service = &spec["service"];
            let of = if service.is_object() {
                format!("{}/{}", text(&service["namespace"]), text(&service["name"]))
            } else {
                "Local".to_owned()
            };
            let condition = list(&status["conditions"]).find(|condition| condition["type"] == "Available");
            let available = match condition {
                Some(condition) if condition["status"] == "True" => "True".to_owned(),
                Some(condition) => format!("{} ({})", text(&condition["status"]), text(&condition["reason"])),
                None => "Unknown".to_owned(),
            };
            vec![name, of.into(), available.into(), age_cell]
        }
        ("certificates.k8s.io", _) => {
            let has = |kind: &str| list(&status["conditions"]).any(|condition| condition["type"] == kind);
            let mut words = match (has("Denied"), has("Approved")) {
                (true, _) => "Denied".to_owned(),
                (_, true) => "Approved".to_owned(),
                _ => "Pending".to_owned(),
            };
            if has("Failed") {
                words.push_str(",Failed");
            }
            if !status["certificate"].is_null() {
                words.push_str(",Issued");
            }
            let duration = spec["expirationSeconds"].as_i64().map_or_else(|| "<none>".to_owned(), human_duration);
            vec![name, age_cell, text(&spec["signerName"]).into(), text(&spec["username"]).into(), duration.into(), words.into()]
        }
        ("node.k8s.io", _) => vec![name, text(&object["handler"]).into(), age_cell],
        ("coordination.k8s.io", "leases") => vec![name, text(&spec["holderIdentity"]).into(), age_cell],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => vec![
            name,
            format!("{}/{}", text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"])).into(),
            age_cell,
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ],
        ("rbac.authorization.k8s.io", _) | ("apiextensions.k8s.io", _) => vec![name, created.clone()],
        _ => vec![name, age_cell],
    }
}
