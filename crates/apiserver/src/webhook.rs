//! Admission webhooks: which ones a write must pass, and asking them.
//!
//! Follows k8s.io/apiserver `pkg/admission/plugin/webhook`: mutating ones first, one after the other, then the validating
//! ones. A write is prepared, stops, the webhooks are asked while nothing is locked, and the write is prepared again with
//! their answer; if the object changed meanwhile, they are asked again.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::{KubeCelExt as _, cel};
use kubeapi::{LabelSelector, Status, object};
use serde_json::{Value, json};

use crate::auth;
use crate::core::{Call, Core, State};
use crate::patch;
use crate::resource::{Resource, StorageKey};

/// The largest answer of a webhook that is read.
const MAX_ANSWER: usize = 3 * 1024 * 1024;

/// What is done to an object, in the words of AdmissionReview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// All webhooks, in the order in which they are asked: by the name of their configuration.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    mutating: Vec<Hook>,
    validating: Vec<Hook>,
}

#[derive(Clone, Debug)]
struct Hook {
    definition: Value,
    /// Labels are fetched and matched only where a selector asks for it.
    namespace_selector: LabelSelector,
    object_selector: LabelSelector,
}

impl Hooks {
    pub(crate) fn of(state: &State) -> Self {
        let read = |plural: &str| {
            let storage = StorageKey::new("admissionregistration.k8s.io", plural);
            let mut hooks = Vec::new();
            for stored in state.store.list(&storage, "", None) {
                for definition in stored.value()["webhooks"].as_array().into_iter().flatten() {
                    let selector = |name: &str| match &definition[name] {
                        Value::Null => LabelSelector::default(),
                        selector => LabelSelector::from_object(selector).unwrap_or_default(),
                    };
                    hooks.push(Hook {
                        namespace_selector: selector("namespaceSelector"),
                        object_selector: selector("objectSelector"),
                        definition: definition.clone(),
                    });
                }
            }
            hooks
        };
        Self { mutating: read("mutatingwebhookconfigurations"), validating: read("validatingwebhookconfigurations") }
    }
}

impl Hook {
    fn name(&self) -> &str {
        self.definition["name"].as_str().unwrap_or_default()
    }

    /// The version of the resource in which the webhook wants to see it, if it does: the request's own, or (`matchPolicy:
    /// Equivalent`) another one that its rules name.
    fn wants<'a>(&self, call: &Call<'_>, resource: &Resource, versions: &'a [String], operation: Operation) -> Option<&'a str> {
        let own = versions.iter().filter(|version| **version == resource.version);
        let others = versions.iter().filter(|version| **version != resource.version);
        let exact = self.definition["matchPolicy"] == "Exact";
        own.chain(others.filter(|_| !exact)).find(|version| self.names(call, resource, version, operation)).map(String::as_str)
    }

    fn names(&self, call: &Call<'_>, resource: &Resource, version: &str, operation: Operation) -> bool {
        let has = |list: &Value, word: &str| list.as_array().into_iter().flatten().any(|item| item == "*" || item == word);
        let path = call.info.resource_path();
        self.definition["rules"].as_array().into_iter().flatten().any(|rule| {
            let scope = match rule["scope"].as_str() {
                Some("Cluster") => !resource.namespaced,
                Some("Namespaced") => resource.namespaced,
                _ => true,
            };
            let resources = rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str).any(|wanted| {
                match (wanted, path.split_once('/')) {
                    ("*/*", _) => true,
                    ("*", sub) => sub.is_none(),
                    (wanted, None) => wanted == path || wanted.strip_suffix("/*") == Some(&path),
                    (wanted, Some((of, sub))) => {
                        wanted == path || wanted.strip_prefix("*/") == Some(sub) || wanted.strip_suffix("/*") == Some(of)
                    }
                }
            });
            scope
                && resources
                && has(&rule["operations"], operation.as_str())
                && has(&rule["apiGroups"], &resource.group)
                && has(&rule["apiVersions"], version)
        })
    }

    fn selects(&self, state: &State, resource: &Resource, namespace: &str, objects: &[Option<&Value>]) -> bool {
        let labels = |of: &Value| of["metadata"]["labels"].clone();
        if !self.object_selector.is_empty()
            && !objects.iter().flatten().any(|object| self.object_selector.matches(&labels(object)))
        {
            return false;
        }
        if self.namespace_selector.is_empty() || (!resource.namespaced && resource.plural != "namespaces") {
            return true;
        }
        let of = if resource.namespaced {
            state.store.get(&StorageKey::new("", "namespaces"), "", namespace).map(|stored| stored.value())
        } else {
            objects.iter().flatten().next().map(|object| (*object).clone())
        };
        of.is_none_or(|namespace| self.namespace_selector.matches(&labels(&namespace)))
    }
}

/// A webhook, with the apiVersion in which it wants to see the object.
type Asked = (Hook, String);

/// A write that waits for webhooks.
pub(crate) struct Review {
    mutating: Vec<Asked>,
    validating: Vec<Asked>,
    request: Value,
    object: Value,
    old_version: String,
    is_dry_run: bool,
}

/// What webhooks made of a write.
pub(crate) struct Admitted {
    object: Value,
    old_version: String,
}

impl Review {
    /// What is to be asked about a write, if anything.
    pub(crate) fn wanted(
        state: &State,
        call: &Call<'_>,
        resource: &Resource,
        operation: Operation,
        is_dry_run: bool,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Option<Self> {
        let hooks = &state.hooks;
        // The configurations themselves pass unasked, else a wrong one could never be mended.
        if (hooks.mutating.is_empty() && hooks.validating.is_empty())
            || resource.group == "admissionregistration.k8s.io"
            || call.who.name == "system:apiserver"
        {
            return None;
        }
        let either = new.or(old)?;
        let namespace = object::namespace(either);
        let versions = state.registry.versions_of(resource);
        let pick = |hooks: &[Hook]| -> Vec<Asked> {
            let selected = hooks.iter().filter(|hook| hook.selects(state, resource, namespace, &[new, old]));
            let wanted = selected.filter_map(|hook| {
                let version = hook.wants(call, resource, &versions, operation)?;
                Some((hook.clone(), version.to_owned()))
            });
            wanted.collect()
        };
        let (mutating, validating) = (pick(&hooks.mutating), pick(&hooks.validating));
        if mutating.is_empty() && validating.is_empty() {
            return None;
        }
        let kind = if call.info.subresource == "eviction" {
            json!({"group": "policy", "version": "v1", "kind": "Eviction"})
        } else {
            json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
        };
        let of = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
        let mut request = json!({
            "kind": kind,
            "resource": of,
            "requestKind": kind,
            "requestResource": of,
            "name": object::name(either),
            "operation": operation.as_str(),
            "userInfo": auth::user_info(call.who),
            "object": new,
            "oldObject": old,
            "dryRun": is_dry_run,
            "options": options_of(call, operation, is_dry_run),
        });
        if !call.info.subresource.is_empty() {
            request["subResource"] = call.info.subresource.as_str().into();
            request["requestSubResource"] = call.info.subresource.as_str().into();
        }
        if resource.namespaced {
            request["namespace"] = namespace.into();
        }
        let old_version = old.map(|old| old["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned());
        Some(Self {
            mutating,
            validating,
            request,
            object: new.cloned().unwrap_or(Value::Null),
            old_version: old_version.unwrap_or_default(),
            is_dry_run,
        })
    }

    /// Asks them all.
    ///
    /// # Errors
    /// What the first one that says no says, or why one that must be asked cannot be.
    pub(crate) async fn run(mut self, core: &Core, call: &Call<'_>) -> Result<Admitted, Status> {
        for (hook, version) in std::mem::take(&mut self.mutating) {
            let Some(answer) = self.ask(core, call, &hook, &version).await? else { continue };
            if let Some(text) = answer["patch"].as_str() {
                let patch = STANDARD.decode(text).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
                let patch = patch.ok_or_else(|| internal(&hook, "the patch is not a base64 JSON patch"))?;
                patch::json_patch(&mut self.object, &patch)
                    .map_err(|status| internal(&hook, &format!("the patch cannot be applied: {}", status.message)))?;
            }
        }
        for (hook, version) in std::mem::take(&mut self.validating) {
            self.ask(core, call, &hook, &version).await?;
        }
        Ok(Admitted { object: self.object, old_version: self.old_version })
    }

    /// The response of one webhook; none where it failed and may be ignored.
    async fn ask(&self, core: &Core, call: &Call<'_>, hook: &Hook, version: &str) -> Result<Option<Value>, Status> {
        let mut request = self.request.clone();
        let uid = core.uuid();
        request["uid"] = uid.as_str().into();
        if !self.object.is_null() {
            request["object"] = self.object.clone();
        }
        if request["resource"]["version"] != version {
            // Versions of a kind differ in their apiVersion alone (conversion None).
            let group = request["resource"]["group"].as_str().unwrap_or_default().to_owned();
            let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            for object in ["object", "oldObject"] {
                if request[object].is_object() {
                    request[object]["apiVersion"] = api_version.as_str().into();
                }
            }
            request["kind"]["version"] = version.into();
            request["resource"]["version"] = version.into();
        }
        match conditions_hold(&hook.definition["matchConditions"], &request) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if hook.definition["failurePolicy"] == "Ignore" => return Ok(None),
            Err(why) => return Err(internal(hook, &why)),
        }
        let effects = hook.definition["sideEffects"].as_str().unwrap_or_default();
        if self.is_dry_run && !matches!(effects, "None" | "NoneOnDryRun") {
            let name = hook.name();
            return Err(Status::bad_request(format!("admission webhook \"{name}\" does not support dry run")));
        }
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
        let seconds = hook.definition["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30);
        let asked = tokio::time::timeout(Duration::from_secs(seconds), post(core, &hook.definition["clientConfig"], &review));
        let failed = match asked.await {
            Ok(Ok(answer)) if answer["response"].is_object() && answer["response"]["uid"] != uid.as_str() => {
                format!("expected response.uid={uid:?}, got {:?}", answer["response"]["uid"].as_str().unwrap_or_default())
            }
            Ok(Ok(answer)) if answer["response"].is_object() => {
                let response = answer["response"].clone();
                let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
                call.warn(warnings.map(str::to_owned).collect());
                return if response["allowed"] == true { Ok(Some(response)) } else { Err(denied(hook, &response)) };
            }
            Ok(Ok(_)) => "the answer is not an AdmissionReview with a response".to_owned(),
            Ok(Err(why)) => why,
            Err(_) => "context deadline exceeded".to_owned(),
        };
        if hook.definition["failurePolicy"] == "Ignore" {
            tracing::warn!(webhook = hook.name(), "webhook failed and is ignored: {failed}");
            return Ok(None);
        }
        Err(internal(hook, &failed))
    }
}

/// The options of a request, as a webhook is shown them.
fn options_of(call: &Call<'_>, operation: Operation, is_dry_run: bool) -> Value {
    let kind = match (operation, call.info.verb) {
        (Operation::Delete, _) => "DeleteOptions",
        (_, kubeapi::Verb::Patch) => "PatchOptions",
        (Operation::Create, _) => "CreateOptions",
        (Operation::Update, _) => "UpdateOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    for key in ["fieldManager", "fieldValidation", "propagationPolicy"] {
        if let Some(value) = call.info.query.get(key) {
            options[key] = value.into();
        }
    }
    if is_dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

/// Whether all `matchConditions` of a webhook hold for a request.
///
/// # Errors
/// Why a condition cannot be evaluated, unless another one does not hold.
fn conditions_hold(conditions: &Value, request: &Value) -> Result<bool, String> {
    let Some(conditions) = conditions.as_array().filter(|list| !list.is_empty()) else { return Ok(true) };
    let mut context = cel::Context::default().with_all();
    let values = [("request", request), ("object", &request["object"]), ("oldObject", &request["oldObject"])];
    for (name, value) in values {
        context.add_variable(name, value).map_err(|error| error.to_string())?;
    }
    let mut failed = None;
    for condition in conditions {
        let (name, expression) = (&condition["name"], condition["expression"].as_str().unwrap_or_default());
        let result = cel::Program::compile(expression)
            .map_err(|error| error.to_string())
            .and_then(|program| program.execute(&context).map_err(|error| error.to_string()));
        match result {
            Ok(cel::Value::Bool(false)) => return Ok(false),
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => failed = Some(format!("match condition {name} is not a boolean")),
            Err(error) => failed = Some(format!("match condition {name}: {error}")),
        }
    }
    failed.map_or(Ok(true), Err)
}

fn internal(hook: &Hook, why: &str) -> Status {
    let message = format!("Internal error occurred: failed calling webhook \"{}\": failed to call webhook: {why}", hook.name());
    let cause = format!("failed calling webhook \"{}\": failed to call webhook: {why}", hook.name());
    Status::new(500, message).with_details(json!({"causes": [{"message": cause}]}))
}

/// What a webhook that says no makes the client see (`webhookerrors.ToStatusErr`).
fn denied(hook: &Hook, response: &Value) -> Status {
    let status = &response["status"];
    let said = status["message"].as_str().or_else(|| status["reason"].as_str()).unwrap_or_default();
    let head = format!("admission webhook \"{}\" denied the request", hook.name());
    let message = if said.is_empty() { format!("{head} without explanation") } else { format!("{head}: {said}") };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let mut out = Status::new(code.unwrap_or(400), message);
    status["reason"].as_str().unwrap_or_default().clone_into(&mut out.reason);
    out.details = status["details"].clone();
    out
}

impl Admitted {
    /// Name and uid of the object that the webhooks saw.
    pub(crate) fn identity(&self) -> Option<(&str, &str)> {
        let metadata = &self.object["metadata"];
        Some((metadata["name"].as_str()?, metadata["uid"].as_str()?))
    }

    /// Whether it was about this version of the object.
    pub(crate) fn is_about(&self, old_version: &str) -> bool {
        self.old_version == old_version
    }

    /// Puts what the webhooks made of the object in its place; what the server sets stays.
    pub(crate) fn take_over(&self, body: &mut Value) {
        if self.object.is_null() {
            return;
        }
        let mut object = self.object.clone();
        for key in ["uid", "creationTimestamp", "resourceVersion", "generation", "name", "namespace"] {
            let value = body["metadata"][key].clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                if value.is_null() {
                    metadata.remove(key);
                } else {
                    metadata.insert(key.to_owned(), value);
                }
            }
        }
        *body = object;
    }
}

/// Where a Service of a webhook or an aggregated API is served: its first ready endpoint, else its ClusterIP.
pub(crate) fn resolve_service(state: &State, namespace: &str, name: &str, port: i64) -> Option<SocketAddr> {
    let service = state.store.get(&StorageKey::new("", "services"), namespace, name)?.value();
    let entry = service["spec"]["ports"].as_array()?.iter().find(|entry| entry["port"].as_i64() == Some(port))?.clone();
    let endpoints = state.store.get(&StorageKey::new("", "endpoints"), namespace, name).map(|stored| stored.value());
    let ready = endpoints.iter().flat_map(|endpoints| endpoints["subsets"].as_array().into_iter().flatten()).find_map(|subset| {
        let ip = subset["addresses"][0]["ip"].as_str()?;
        let ports = subset["ports"].as_array()?;
        let of = ports.iter().find(|port| port["name"] == entry["name"]).or(ports.first().filter(|_| ports.len() == 1))?;
        Some(SocketAddr::new(ip.parse().ok()?, u16::try_from(of["port"].as_i64()?).ok()?))
    });
    ready.or_else(|| {
        let ip = service["spec"]["clusterIP"].as_str()?.parse().ok()?;
        Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
    })
}

/// Posts a review to where a `clientConfig` points; the JSON that comes back.
async fn post(core: &Core, config: &Value, review: &Value) -> Result<Value, String> {
    let authority = config["caBundle"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let authority = authority.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (address, host, path, secure) = if let Some(url) = config["url"].as_str() {
        let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let host = uri.host().ok_or_else(|| format!("{url}: no host"))?.trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = match host.parse() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|error| format!("Post \"{url}\": {error}"))?
                .next()
                .ok_or_else(|| format!("Post \"{url}\": no such host"))?,
        };
        (address, host, uri.path_and_query().map_or("/".to_owned(), ToString::to_string), secure)
    } else {
        let service = &config["service"];
        let text = |name: &str| service[name].as_str().unwrap_or_default();
        let port = service["port"].as_i64().unwrap_or(443);
        let (namespace, name) = (text("namespace"), text("name"));
        let address = resolve_service(&core.read(), namespace, name, port)
            .ok_or_else(|| format!("service \"{name}\" not found in namespace \"{namespace}\""))?;
        let path = if text("path").is_empty() { "/" } else { text("path") };
        (address, format!("{name}.{namespace}.svc"), path.to_owned(), true)
    };
    let tls = match (&authority, secure) {
        (_, false) => None,
        (Some(pem), true) => Some(wire::pki::client_config(pem, &["http/1.1"]).map_err(|error| error.to_string())?),
        (None, true) => return Err("x509: certificate signed by unknown authority (the webhook has no caBundle)".to_owned()),
    };
    let request = http::Request::builder()
        .method("POST")
        .uri(&path)
        .header("host", &host)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", "kube-apiserver-admission")
        .body(wire::full(review.to_string()))
        .map_err(|error| error.to_string())?;
    let url = format!("https://{host}:{}{path}", address.port());
    let failed = |error: &dyn std::fmt::Display| format!("Post \"{url}\": {error}");
    let dial = wire::Dial { address, source: None, tls, server_name: Some(host) };
    let connection = wire::Connection::open(&dial).await.map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        failed(&format!("{error}: {why}"))
    })?;
    let response = connection.send(request).await.map_err(|error| failed(&error))?;
    let code = response.status();
    let bytes = wire::collect(wire::incoming(response.into_body()), MAX_ANSWER).await.map_err(|error| failed(&error))?;
    if !code.is_success() {
        return Err(failed(&format!("unexpected status {code}")));
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("couldn't read the answer: {error}"))
}
