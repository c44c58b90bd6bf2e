//! Validation of metadata and of the built-in kinds that labs use, with the real server's words
//! (k8s.io/kubernetes `pkg/apis/*/validation`, apimachinery `pkg/api/validation`).

use kubeapi::{LabelSelector, Status, object};
use serde_json::{Map, Value};

use crate::definition;
use crate::resource::Resource;
use crate::structural::Causes;

/// All keys and values of the annotations together, in bytes (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Data of a ConfigMap or Secret, in bytes (`MaxSecretSize`).
const DATA_LIMIT: usize = 1024 * 1024;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
     start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
     with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
     '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
     'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn push(causes: &mut Causes, field: impl Into<String>, value: &Value, why: &str) {
    causes.push((field.into(), "FieldValueInvalid", format!("Invalid value: {value}: {why}")));
}

/// Notes a field that is missing or empty.
pub(crate) fn required(causes: &mut Causes, value: &Value, field: &str, hint: &str) {
    let missing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if missing {
        let message = if hint.is_empty() { "Required value".to_owned() } else { format!("Required value: {hint}") };
        causes.push((field.to_owned(), "FieldValueRequired", message));
    }
}

fn supported(causes: &mut Causes, value: &Value, field: &str, allowed: &[&str]) {
    if let Some(text) = value.as_str()
        && !allowed.contains(&text)
    {
        let listed: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", listed.join(", "));
        causes.push((field.to_owned(), "FieldValueNotSupported", message));
    }
}

fn not_negative(causes: &mut Causes, value: &Value, field: &str) {
    if value.as_i64().is_some_and(|number| number < 0) {
        push(causes, field, value, "must be greater than or equal to 0");
    }
}

/// An RFC 1123 label.
pub(crate) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_label_shape(name)
}

fn is_label_shape(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The characters of a label's value or the name part of its key.
fn is_qualified_part(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn name_problems(resource: &Resource, name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    match (resource.group.as_str(), resource.plural.as_str()) {
        // Path segments (`ValidatePathSegmentName`).
        ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io", "apiservices") => {
            if name == "." || name == ".." {
                problems.push(format!("may not be '{name}'"));
            }
            problems.extend(["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")));
        }
        ("", "namespaces") => {
            if name.len() > 63 {
                problems.push("must be no more than 63 characters".to_owned());
            }
            if !is_label_shape(name) {
                problems.push(LABEL.to_owned());
            }
        }
        ("", "services") => {
            if name.len() > 63 {
                problems.push("must be no more than 63 characters".to_owned());
            }
            if !is_label_shape(name) || name.starts_with(|first: char| first.is_ascii_digit()) {
                problems.push(LABEL_1035.to_owned());
            }
        }
        _ => {
            if name.len() > 253 {
                problems.push("must be no more than 253 characters".to_owned());
            }
            if !name.split('.').all(is_label_shape) {
                problems.push(SUBDOMAIN.to_owned());
            }
        }
    }
    problems
}

/// What is wrong with a label's key, in the words of `IsQualifiedName`.
fn key_problems(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            return vec![
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
                    .to_owned(),
            ];
        }
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            problems.push("prefix part must be non-empty".to_owned());
        } else if !prefix.split('.').all(is_label_shape) {
            problems.push(format!("prefix part {SUBDOMAIN}"));
        }
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_qualified_part(name) {
        problems.push(NAME_PART.to_owned());
    }
    problems
}

fn labels(causes: &mut Causes, labels: &Value, field: &str) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for problem in key_problems(key) {
            push(causes, field, &key.as_str().into(), &problem);
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            push(causes, field, value, "must be no more than 63 characters");
        }
        if !text.is_empty() && !is_qualified_part(text) {
            push(causes, field, value, LABEL_VALUE);
        }
    }
}

/// What is wrong with an object's metadata (`ValidateObjectMeta`).
pub(crate) fn metadata(resource: &Resource, body: &Value) -> Causes {
    let mut causes = Causes::new();
    let metadata = &body["metadata"];
    let name = object::name(body);
    if name.is_empty() {
        let message = "Required value: name or generateName is required".to_owned();
        causes.push(("metadata.name".to_owned(), "FieldValueRequired", message));
    } else {
        for problem in name_problems(resource, name) {
            push(&mut causes, "metadata.name", &name.into(), &problem);
        }
    }
    labels(&mut causes, &metadata["labels"], "metadata.labels");
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().unwrap_or_default().len();
        for problem in key_problems(&key.to_lowercase()) {
            push(&mut causes, "metadata.annotations", &key.as_str().into(), &problem);
        }
    }
    if size > ANNOTATIONS_LIMIT {
        let message = format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes");
        causes.push(("metadata.annotations".to_owned(), "FieldValueTooLong", message));
    }
    let mut controllers = 0;
    for (index, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let message =
                    if field == "apiVersion" { "version must not be empty" } else { &format!("{field} must not be empty") };
                push(&mut causes, format!("metadata.ownerReferences[{index}].{field}"), &"".into(), message);
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let message = "Only one reference can have Controller set to true";
        push(&mut causes, "metadata.ownerReferences", &metadata["ownerReferences"], message);
    }
    for (index, finalizer) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        for problem in key_problems(name) {
            push(&mut causes, format!("metadata.finalizers[{index}]"), finalizer, &problem);
        }
        let standard = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
        if resource.custom.is_none() && !name.contains('/') && !standard && key_problems(name).is_empty() {
            let message = "name is neither a standard finalizer name nor is it fully qualified";
            push(&mut causes, format!("metadata.finalizers[{index}]"), finalizer, message);
        }
    }
    causes
}

/// An object that is being deleted gets no new finalizers (`ValidateObjectMetaAccessorUpdate`).
pub(crate) fn finalizers(old: &Value, new: &Value) -> Causes {
    let list = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let added: Vec<Value> = list(new).into_iter().filter(|finalizer| !list(old).contains(finalizer)).collect();
    if !object::is_deleting(old) || added.is_empty() {
        return Causes::new();
    }
    let message = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
    );
    vec![("metadata.finalizers".to_owned(), "FieldValueForbidden", message)]
}

/// 422 where finalizers were added to an object that is being deleted.
pub(crate) fn check_finalizers(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    let causes = finalizers(old, new);
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid(&resource.group, &resource.kind, object::name(old), &causes)) }
}

/// What is wrong with an object of a built-in kind, besides its metadata.
pub(crate) fn check(resource: &Resource, body: &Value) -> Causes {
    let mut causes = Causes::new();
    let spec = &body["spec"];
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => pod_spec(&mut causes, spec, "spec", &[]),
        ("", "ConfigMap") => config_map(&mut causes, body),
        ("", "Secret") => data(&mut causes, body, "data"),
        ("", "Service") => service(&mut causes, spec),
        ("", "Endpoints") => endpoints(&mut causes, body),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(&mut causes, body),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => workload(&mut causes, spec),
        ("batch", "Job") => pod_template(&mut causes, &spec["template"], "spec.template", &[]),
        ("batch", "CronJob") => {
            required(&mut causes, &spec["schedule"], "spec.schedule", "");
            pod_template(&mut causes, &spec["jobTemplate"]["spec"]["template"], "spec.jobTemplate.spec.template", &[]);
        }
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rules(&mut causes, body, resource.namespaced),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(&mut causes, body, resource),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => causes.extend(definition::check(body)),
        ("scheduling.k8s.io", "PriorityClass") if body["value"].as_i64().is_some_and(|value| value > 1_000_000_000) => {
            let name = object::name(body);
            if !name.starts_with("system-") {
                let message = "Forbidden: maximum allowed value of a user defined priority is 1000000000".to_owned();
                causes.push(("value".to_owned(), "FieldValueForbidden", message));
            }
        }
        ("networking.k8s.io", "Ingress") if spec["rules"].is_null() && spec["defaultBackend"].is_null() => {
            push(&mut causes, "spec", &"".into(), "either `defaultBackend` or `rules` must be specified");
        }
        ("coordination.k8s.io", "Lease") => {
            if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
                push(&mut causes, "spec.leaseDurationSeconds", &spec["leaseDurationSeconds"], "must be greater than 0");
            }
            not_negative(&mut causes, &spec["leaseTransitions"], "spec.leaseTransitions");
        }
        _ => {}
    }
    causes
}

fn data(causes: &mut Causes, body: &Value, name: &str) {
    let mut size = 0;
    for (key, value) in body[name].as_object().into_iter().flatten() {
        size += value.as_str().unwrap_or_default().len();
        if key.len() > 253 {
            push(causes, format!("{name}[{key}]"), &key.as_str().into(), "must be no more than 253 characters");
        }
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            push(causes, format!("{name}[{key}]"), &key.as_str().into(), CONFIG_KEY);
        } else if key == "." || key.starts_with("..") {
            let why = if key == "." {
                "must not be '.'"
            } else if key == ".." {
                "must not be '..'"
            } else {
                "must not start with '..'"
            };
            push(causes, format!("{name}[{key}]"), &key.as_str().into(), why);
        }
    }
    if size > DATA_LIMIT {
        let message = format!("Too long: may not be more than {DATA_LIMIT} bytes");
        causes.push((if name == "data" { String::new() } else { name.to_owned() }, "FieldValueTooLong", message));
    }
}

fn config_map(causes: &mut Causes, body: &Value) {
    data(causes, body, "data");
    data(causes, body, "binaryData");
    let empty = Map::new();
    let texts = body["data"].as_object().unwrap_or(&empty);
    for key in body["binaryData"].as_object().into_iter().flat_map(Map::keys).filter(|key| texts.contains_key(*key)) {
        let why = "duplicate of key present in data";
        push(causes, format!("data[{key}]"), &key.as_str().into(), why);
    }
}

fn port(causes: &mut Causes, value: &Value, field: &str) {
    if !value.as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
        push(causes, field, &value.as_i64().unwrap_or(0).into(), "must be between 1 and 65535, inclusive");
    }
}

fn service(causes: &mut Causes, spec: &Value) {
    supported(causes, &spec["type"], "spec.type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    supported(causes, &spec["sessionAffinity"], "spec.sessionAffinity", &["ClientIP", "None"]);
    labels(causes, &spec["selector"], "spec.selector");
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if spec["type"] == "ExternalName" {
        required(causes, &spec["externalName"], "spec.externalName", "");
    } else if spec["clusterIP"] != "None" {
        required(causes, &spec["ports"], "spec.ports", "");
    }
    for (index, entry) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        if ports.len() > 1 {
            required(causes, &entry["name"], &format!("{at}.name"), "");
        }
        if let Some(name) = entry["name"].as_str().filter(|name| !name.is_empty() && !is_label(name)) {
            push(causes, format!("{at}.name"), &name.into(), LABEL);
        }
        port(causes, &entry["port"], &format!("{at}.port"));
        supported(causes, &entry["protocol"], &format!("{at}.protocol"), &["SCTP", "TCP", "UDP"]);
        if entry["targetPort"].is_i64() {
            port(causes, &entry["targetPort"], &format!("{at}.targetPort"));
        }
        let same = |other: &&Value| other["name"] == entry["name"] && !entry["name"].is_null();
        if ports[..index].iter().any(|other| same(&other)) {
            causes.push((format!("{at}.name"), "FieldValueDuplicate", format!("Duplicate value: {}", entry["name"])));
        }
        let same = |other: &Value| other["port"] == entry["port"] && other["protocol"] == entry["protocol"];
        if ports[..index].iter().any(same) {
            let shown = serde_json::json!({"port": entry["port"], "protocol": entry["protocol"]});
            causes.push((at.clone(), "FieldValueDuplicate", format!("Duplicate value: {shown}")));
        }
    }
}

fn endpoints(causes: &mut Causes, body: &Value) {
    for (index, subset) in body["subsets"].as_array().into_iter().flatten().enumerate() {
        let at = format!("subsets[{index}]");
        let has = |name: &str| subset[name].as_array().is_some_and(|list| !list.is_empty());
        if !has("addresses") && !has("notReadyAddresses") {
            let message = "Required value: must specify `addresses` or `notReadyAddresses`".to_owned();
            causes.push((at.clone(), "FieldValueRequired", message));
        }
        for kind in ["addresses", "notReadyAddresses"] {
            for (number, address) in subset[kind].as_array().into_iter().flatten().enumerate() {
                ip(causes, &address["ip"], &format!("{at}.{kind}[{number}].ip"));
            }
        }
        for (number, entry) in subset["ports"].as_array().into_iter().flatten().enumerate() {
            port(causes, &entry["port"], &format!("{at}.ports[{number}].port"));
        }
    }
}

fn ip(causes: &mut Causes, value: &Value, field: &str) {
    if value.as_str().unwrap_or_default().parse::<std::net::IpAddr>().is_err() {
        push(causes, field, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

fn endpoint_slice(causes: &mut Causes, body: &Value) {
    required(causes, &body["addressType"], "addressType", "");
    supported(causes, &body["addressType"], "addressType", &["FQDN", "IPv4", "IPv6"]);
    for (index, endpoint) in body["endpoints"].as_array().into_iter().flatten().enumerate() {
        let field = format!("endpoints[{index}].addresses");
        required(causes, &endpoint["addresses"], &field, "must contain at least 1 address");
        if body["addressType"] != "FQDN" {
            for (number, address) in endpoint["addresses"].as_array().into_iter().flatten().enumerate() {
                ip(causes, address, &format!("{field}[{number}]"));
            }
        }
    }
}

fn workload(causes: &mut Causes, spec: &Value) {
    required(causes, &spec["selector"], "spec.selector", "");
    match LabelSelector::from_object(&spec["selector"]) {
        Ok(selector) if selector.is_empty() && spec["selector"].is_object() => {
            push(causes, "spec.selector", &spec["selector"], "empty selector is invalid for deployment");
        }
        Ok(selector) if spec["selector"].is_object() && !selector.matches(&spec["template"]["metadata"]["labels"]) => {
            let labels = &spec["template"]["metadata"]["labels"];
            let shown = if labels.is_null() { Value::Object(Map::new()) } else { labels.clone() };
            push(causes, "spec.template.metadata.labels", &shown, "`selector` does not match template `labels`");
        }
        Ok(_) => {}
        Err(error) => push(causes, "spec.selector", &spec["selector"], &error.to_string()),
    }
    not_negative(causes, &spec["replicas"], "spec.replicas");
    not_negative(causes, &spec["minReadySeconds"], "spec.minReadySeconds");
    not_negative(causes, &spec["revisionHistoryLimit"], "spec.revisionHistoryLimit");
    let claims = spec["volumeClaimTemplates"].as_array().into_iter().flatten();
    let claims: Vec<&str> = claims.map(object::name).collect();
    pod_template(causes, &spec["template"], "spec.template", &claims);
    supported(causes, &spec["template"]["spec"]["restartPolicy"], "spec.template.spec.restartPolicy", &["Always"]);
}

fn pod_template(causes: &mut Causes, template: &Value, at: &str, claims: &[&str]) {
    labels(causes, &template["metadata"]["labels"], &format!("{at}.labels"));
    pod_spec(causes, &template["spec"], &format!("{at}.spec"), claims);
}

/// `claims`: names of a StatefulSet's claim templates, which its pods get as volumes.
fn pod_spec(causes: &mut Causes, spec: &Value, at: &str, claims: &[&str]) {
    required(causes, &spec["containers"], &format!("{at}.containers"), "");
    let volumes: Vec<&str> =
        spec["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str()).collect();
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{at}.volumes[{index}].name");
        label(causes, &volume["name"], &field);
        if volumes[..index.min(volumes.len())].contains(&volume["name"].as_str().unwrap_or_default()) {
            causes.push((field, "FieldValueDuplicate", format!("Duplicate value: {}", volume["name"])));
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{at}.{list}[{index}]");
            let name = container["name"].as_str().unwrap_or_default();
            label(causes, &container["name"], &format!("{at}.name"));
            if !name.is_empty() && names.contains(&name) {
                causes.push((format!("{at}.name"), "FieldValueDuplicate", format!("Duplicate value: \"{name}\"")));
            }
            names.push(name);
            required(causes, &container["image"], &format!("{at}.image"), "");
            supported(
                causes,
                &container["imagePullPolicy"],
                &format!("{at}.imagePullPolicy"),
                &["Always", "IfNotPresent", "Never"],
            );
            for (number, entry) in container["ports"].as_array().into_iter().flatten().enumerate() {
                port(causes, &entry["containerPort"], &format!("{at}.ports[{number}].containerPort"));
                let field = format!("{at}.ports[{number}].protocol");
                supported(causes, &entry["protocol"], &field, &["SCTP", "TCP", "UDP"]);
            }
            for (number, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
                required(causes, &variable["name"], &format!("{at}.env[{number}].name"), "");
            }
            for (number, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
                let at = format!("{at}.volumeMounts[{number}]");
                required(causes, &mount["mountPath"], &format!("{at}.mountPath"), "");
                let name = mount["name"].as_str().unwrap_or_default();
                if name.is_empty() {
                    required(causes, &mount["name"], &format!("{at}.name"), "");
                } else if !volumes.contains(&name) && !claims.contains(&name) {
                    causes.push((format!("{at}.name"), "FieldValueNotFound", format!("Not found: \"{name}\"")));
                }
            }
        }
    }
    supported(causes, &spec["restartPolicy"], &format!("{at}.restartPolicy"), &["Always", "Never", "OnFailure"]);
    supported(
        causes,
        &spec["dnsPolicy"],
        &format!("{at}.dnsPolicy"),
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    );
    not_negative(causes, &spec["terminationGracePeriodSeconds"], &format!("{at}.terminationGracePeriodSeconds"));
}

fn label(causes: &mut Causes, value: &Value, field: &str) {
    match value.as_str().unwrap_or_default() {
        "" => required(causes, &Value::Null, field, ""),
        name if name.len() > 63 => push(causes, field, value, "must be no more than 63 characters"),
        name if !is_label_shape(name) => push(causes, field, value, LABEL),
        _ => {}
    }
}

fn rules(causes: &mut Causes, body: &Value, namespaced: bool) {
    for (index, rule) in body["rules"].as_array().into_iter().flatten().enumerate() {
        let at = format!("rules[{index}]");
        let has = |name: &str| rule[name].as_array().is_some_and(|list| !list.is_empty());
        required(causes, &rule["verbs"], &format!("{at}.verbs"), "verbs must contain at least one value");
        if has("nonResourceURLs") {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                push(causes, format!("{at}.nonResourceURLs"), &rule["nonResourceURLs"], why);
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                push(causes, format!("{at}.nonResourceURLs"), &rule["nonResourceURLs"], why);
            }
            continue;
        }
        required(causes, &rule["apiGroups"], &format!("{at}.apiGroups"), "resource rules must supply at least one api group");
        required(causes, &rule["resources"], &format!("{at}.resources"), "resource rules must supply at least one resource");
    }
}

fn binding(causes: &mut Causes, body: &Value, resource: &Resource) {
    let role = &body["roleRef"];
    let kinds: &[&str] = if resource.namespaced { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
    supported(causes, &role["kind"], "roleRef.kind", kinds);
    supported(causes, &role["apiGroup"], "roleRef.apiGroup", &["rbac.authorization.k8s.io"]);
    required(causes, &role["name"], "roleRef.name", "");
    for (index, subject) in body["subjects"].as_array().into_iter().flatten().enumerate() {
        let at = format!("subjects[{index}]");
        required(causes, &subject["name"], &format!("{at}.name"), "");
        supported(causes, &subject["kind"], &format!("{at}.kind"), &["Group", "ServiceAccount", "User"]);
        if subject["kind"] == "ServiceAccount" && !resource.namespaced {
            required(causes, &subject["namespace"], &format!("{at}.namespace"), "");
        }
    }
}

/// 422 where an update touches what may not change.
pub(crate) fn check_update(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    let mut causes = Causes::new();
    let fields: &[&str] = match (resource.group.as_str(), resource.kind.as_str()) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => &["/spec/selector"],
        ("batch", "Job") => &["/spec/selector", "/spec/template", "/spec/completionMode"],
        ("", "Service") if old["spec"]["type"] != "ExternalName" && new["spec"]["type"] != "ExternalName" => &["/spec/clusterIP"],
        ("", "Secret") => &["/type"],
        ("discovery.k8s.io", "EndpointSlice") => &["/addressType"],
        ("storage.k8s.io", "StorageClass") => &["/provisioner", "/parameters", "/reclaimPolicy", "/volumeBindingMode"],
        ("apiextensions.k8s.io", "CustomResourceDefinition") => &["/spec/scope", "/spec/names/kind", "/spec/group"],
        _ => &[],
    };
    for field in fields {
        let (before, after) = (old.pointer(field), new.pointer(field));
        if before.is_some_and(|before| !before.is_null()) && before != after {
            let shown = after.unwrap_or(&Value::Null);
            push(&mut causes, field.trim_start_matches('/').replace('/', "."), shown, "field is immutable");
        }
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "ConfigMap" | "Secret") if old["immutable"] == true => {
            if new["immutable"] != true {
                let message = "Forbidden: field is immutable when `immutable` is set".to_owned();
                causes.push(("immutable".to_owned(), "FieldValueForbidden", message));
            }
            for field in ["data", "binaryData"] {
                if old[field] != new[field] {
                    let message = "Forbidden: field is immutable when `immutable` is set".to_owned();
                    causes.push((field.to_owned(), "FieldValueForbidden", message));
                }
            }
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") if old["roleRef"] != new["roleRef"] => {
            push(&mut causes, "roleRef", &new["roleRef"], "cannot change roleRef");
        }
        ("apps", "StatefulSet") => {
            let free = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            if without(&old["spec"], &free) != without(&new["spec"], &free) {
                let message = "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
                causes.push(("spec".to_owned(), "FieldValueForbidden", message.to_owned()));
            }
        }
        ("", "Pod") if pod_without_mutable(&old["spec"]) != pod_without_mutable(&new["spec"]) => {
            let message = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                 `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                 `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
            causes.push(("spec".to_owned(), "FieldValueForbidden", message.to_owned()));
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&resource.group, &resource.kind, object::name(old), &causes))
}

fn without(spec: &Value, fields: &[&str]) -> Value {
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut() {
        map.retain(|name, _| !fields.contains(&name.as_str()));
    }
    spec
}

fn pod_without_mutable(spec: &Value) -> Value {
    let mut spec = without(spec, &["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"]);
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
        if spec[list].is_null()
            && let Some(map) = spec.as_object_mut()
        {
            map.remove(list);
        }
    }
    spec
}
