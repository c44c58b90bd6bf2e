//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. Columns and cells follow k8s.io/kubernetes
//! `pkg/printers/internalversion/printers.go`; custom resources print their `additionalPrinterColumns`.

use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};

use crate::resource::Resource;

/// A column: name, type, format, priority (above 0 is shown with `-o wide` only).
type Column = (&'static str, &'static str, &'static str, i64);

fn columns(resource: &Resource) -> &'static [Column] {
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
        ("", "serviceaccounts") => &[NAME, ("Secrets", "string", "", 0), AGE],
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
        ("apps", "replicasets") => &[
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

/// The age of a time as kubectl words it (`k8s.io/apimachinery/pkg/util/duration.HumanDuration`).
pub fn human_duration(seconds: i64) -> String {
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10800 => format!("{minutes}m"),
        10800..28800 => two(hours, "h", minutes % 60, "m"),
        28800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

fn age(now: Timestamp, time: &Value) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => human_duration((now.as_millisecond() - time.as_millisecond()).div_euclid(1000)),
        None => "<unknown>".to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
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

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let name: Value = object::name(object).into();
    let created = &object["metadata"]["creationTimestamp"];
    let age_cell: Value = age(now, created).into();
    let spec = &object["spec"];
    let status = &object["status"];
    let number = |value: &Value| Value::from(value.as_i64().unwrap_or(0));
    let count = |value: &Value| Value::from(value.as_object().map_or(0, serde_json::Map::len).to_string());
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
            vec![name, (entries[0] + entries[1]).to_string().into(), age_cell]
        }
        ("", "secrets") => vec![name, object["type"].clone(), count(&object["data"]), age_cell],
        ("", "serviceaccounts") => vec![name, list(&object["secrets"]).count().to_string().into(), age_cell],
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
                object["count"].as_i64().unwrap_or(1).to_string().into(),
                name,
            ]
        }
        ("apps", "deployments") => {
            let [containers, images] = containers_and_images(&spec["template"]);
            vec![
                name,
                format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into(),
                number(&status["updatedReplicas"]).to_string().into(),
                number(&status["availableReplicas"]).to_string().into(),
                age_cell,
                containers,
                images,
                selector_text(&spec["selector"]).into(),
            ]
        }
        ("apps", "replicasets") => {
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

/// Looks a printer column's simple JSONPath up: `.a.b`, `.a[0].b`, `.a[?(@.type=="Ready")].status`.
pub(crate) fn json_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            if end > 0 {
                value = value.get(tail[..end].replace("\\", "").as_str())?;
            }
            rest = &tail[end..];
        } else if let Some(tail) = rest.strip_prefix('[') {
            let end = tail.find(']')?;
            let inside = &tail[..end];
            rest = &tail[end + 1..];
            value = if let Some(filter) = inside.strip_prefix("?(@.").and_then(|text| text.strip_suffix(')')) {
                let (field, wanted) = filter.split_once("==")?;
                let wanted = wanted.trim().trim_matches(['"', '\'']);
                value.as_array()?.iter().find(|item| item[field.trim()] == wanted)?
            } else if let Ok(index) = inside.parse::<usize>() {
                value.get(index)?
            } else {
                value.get(inside.trim_matches(['"', '\'']))?
            };
        } else {
            return None;
        }
    }
    Some(value)
}

fn custom_columns(version: &Value) -> Vec<Value> {
    let mut columns = vec![json!({"name": "Name", "type": "string", "format": "name", "priority": 0, "description": ""})];
    let printed: Vec<&Value> = list(&version["additionalPrinterColumns"]).collect();
    if printed.is_empty() {
        columns.push(json!({"name": "Age", "type": "date", "format": "", "priority": 0, "description": ""}));
    }
    for column in printed {
        columns.push(json!({
            "name": column["name"],
            "type": column["type"],
            "format": text(&column["format"]),
            "description": text(&column["description"]),
            "priority": column["priority"].as_i64().unwrap_or(0),
        }));
    }
    columns
}

fn custom_cells(version: &Value, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![object::name(object).into()];
    let printed: Vec<&Value> = list(&version["additionalPrinterColumns"]).collect();
    if printed.is_empty() {
        cells.push(age(now, &object["metadata"]["creationTimestamp"]).into());
    }
    for column in printed {
        let value = json_path(object, text(&column["jsonPath"])).cloned().unwrap_or(Value::Null);
        cells.push(match column["type"].as_str() {
            Some("date") if !value.is_null() => age(now, &value).into(),
            Some("string") if !value.is_null() && !value.is_string() => value.to_string().into(),
            _ => value,
        });
    }
    cells
}

/// Column definitions of a resource.
pub(crate) fn column_definitions(resource: &Resource) -> Vec<Value> {
    match &resource.custom {
        Some(version) => custom_columns(version),
        None => columns(resource)
            .iter()
            .map(|(name, kind, format, priority)| {
                json!({"name": name, "type": kind, "format": format, "priority": priority, "description": ""})
            })
            .collect(),
    }
}

/// The row of one object; `include` is `Metadata` (what kubectl asks for), `Object` or `None`.
pub(crate) fn row(resource: &Resource, object: &Value, include: &str, now: Timestamp) -> Value {
    let cells = match &resource.custom {
        Some(version) => custom_cells(version, object, now),
        None => cells(resource, object, now),
    };
    let mut row = json!({"cells": cells});
    match include {
        "None" => {}
        "Object" => row["object"] = object.clone(),
        _ => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
    }
    row
}

/// A whole table.
pub(crate) fn table(resource: &Resource, objects: &[Value], metadata: Value, include: &str, now: Timestamp) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": column_definitions(resource),
        "rows": objects.iter().map(|object| row(resource, object, include, now)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_as_kubectl_words_them() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (295, "4m55s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (3 * 86400, "3d"),
            (3 * 86400 + 3600, "3d1h"),
            (30 * 86400, "30d"),
            (800 * 86400, "2y70d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn simple_paths() {
        let object = json!({"spec": {"list": [{"type": "A", "v": 1}, {"type": "B", "v": 2}]}});
        assert_eq!(json_path(&object, ".spec.list[1].v"), Some(&json!(2)));
        assert_eq!(json_path(&object, ".spec.list[?(@.type==\"B\")].v"), Some(&json!(2)));
        assert_eq!(json_path(&object, ".spec.none.x"), None);
    }
}
