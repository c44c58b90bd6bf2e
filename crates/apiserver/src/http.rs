//! The shell: HTTP around the core. Content negotiation, watch streams, logs, and the identity of who asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use kubeapi::{Identity, RequestInfo, Status};
use serde_json::{Value, json};
use wire::pki::Subject;
use wire::{Answer, Body, BodyError, ConnectionInfo};

use crate::connect::{Arrived, Connect};
use crate::core::{Call, Core, List, Reply, encode};
use crate::resource::Resource;
use crate::watch::{WatchEvent, Watcher};
use crate::{PodBackend, aggregate, connect, convert, discovery, fairness, identify, rbac, table};

/// The largest body that a request may have (k8s.io/apiserver `DefaultMaxRequestBodyBytes` is 3 MiB; etcd's limit is what
/// a real cluster has, and CRD bundles stay below).
const MAX_BODY: usize = 3 * 1024 * 1024;

/// How much of a body that is too large is read and forgotten, so that the client sees the answer.
const DRAIN_UP_TO: usize = 256 * 1024 * 1024;

/// How long a body may take to arrive, as the real server's requests may take (`--request-timeout`).
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// Answers from this size on are compressed, for clients that take it (`defaultGzipThresholdBytes`).
const GZIP_FROM: u64 = 128 * 1024;

/// Answers up to this size are indented for people; nobody reads longer ones.
const INDENT_UP_TO: u64 = 1024 * 1024;

/// How often an idle watch shows a bookmark (`pkg/storage/cacher/cacher.go` `defaultBookmarkFrequency`).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// How often webhooks are asked again because the object changed meanwhile.
const MAX_ADMISSIONS: usize = 5;

pub(crate) struct Shell {
    pub(crate) core: Arc<Core>,
    pub(crate) pods: Option<Arc<dyn PodBackend>>,
}

/// Marks answers of this server, as opposed to those that it hands on.
#[derive(Clone)]
struct Ours;

/// The form in which the client wants its answer.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    Plain,
    Table { include: String },
    PartialMetadata,
    Aggregated { version: String },
}

struct Wants {
    form: Form,
    yaml: bool,
    /// Indented, for people.
    pretty: bool,
}

/// Reads an `Accept` header: the first entry that can be served.
fn wants(accept: Option<&str>, query_include: &str) -> Result<Wants, Status> {
    let accept = accept.filter(|text| !text.trim().is_empty()).unwrap_or("*/*");
    for entry in accept.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameter = |name: &str| {
            entry.split(';').skip(1).find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let yaml = match media {
            "application/json" | "application/*" | "*/*" => false,
            "application/yaml" => true,
            _ => continue,
        };
        let form = match parameter("as").as_deref() {
            None => Form::Plain,
            Some("Table") if parameter("g").as_deref() == Some("meta.k8s.io") && parameter("v").as_deref() == Some("v1") => {
                Form::Table { include: query_include.to_owned() }
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Form::PartialMetadata,
            Some("APIGroupDiscoveryList") => Form::Aggregated { version: parameter("v").unwrap_or_else(|| "v2".to_owned()) },
            Some(_) => continue,
        };
        return Ok(Wants { form, yaml, pretty: false });
    }
    Err(Status::new(406, "only the following media types are accepted: application/json, application/yaml"))
}

fn respond(code: u16, value: &Value, yaml: bool) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if yaml && let Ok(text) = wire::yaml::to_string(value) {
        let mut response = wire::text(status, text);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/yaml"));
        return response;
    }
    wire::json(status, serde_json::to_vec(value).unwrap_or_default())
}

pub(crate) fn failure(status: &Status) -> Response<Body> {
    let mut response = respond(status.code, &status.body(), false);
    if status.code == 401 {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic realm=\"kubernetes-master\""));
    }
    response
}

impl Shell {
    /// Answers one request, of whoever its headers say.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Body>) -> Answer {
        let (mut head, body) = request.into_parts();
        let upgrade = head.extensions.remove::<OnUpgrade>();
        let info = RequestInfo::parse(head.method.as_str(), head.uri.path(), head.uri.query());
        let certificate = head.extensions.get::<ConnectionInfo>().and_then(|connection| connection.client.clone());
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let arrived = Arrived { method: &head.method, target, headers: &head.headers, upgrade, body };
        let response = match self.answer(certificate.as_deref(), &info, arrived).await {
            Ok(response) => response,
            Err(status) => failure(&status),
        };
        let ours = response.extensions().get::<Ours>().is_some();
        let takes_gzip = ours
            && head.headers.get_all(header::ACCEPT_ENCODING).iter().any(|value| {
                value.to_str().is_ok_and(|text| text.split(',').any(|coding| coding.trim().split(';').next() == Some("gzip")))
            });
        // What another server answered goes on as it is.
        Ok(if takes_gzip { compressed(response).await } else { response })
    }

    async fn answer(
        self: &Arc<Self>,
        certificate: Option<&Subject>,
        info: &RequestInfo,
        arrived: Arrived<'_>,
    ) -> Result<Response<Body>, Status> {
        let now = Timestamp::now();
        let Arrived { method, headers, .. } = arrived;
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let who = identify::identify(&self.core, now, headers, certificate)?;
        let content_type =
            text(header::CONTENT_TYPE).unwrap_or("application/json").split(';').next().unwrap_or_default().trim().to_owned();
        let warnings = Mutex::new(Vec::new());
        let user_agent = text(header::USER_AGENT).unwrap_or_default();
        let call = Call {
            who: &who,
            method,
            info,
            content_type: &content_type,
            body: &[],
            user_agent,
            admitted: None,
            warnings: &warnings,
        };
        // Before it is asked what one may, as in the real server's chain of handlers.
        let flows = self.core.read().flows.clone();
        if let Some(flow) = flows.refused(&who, info, method) {
            return Ok(fairness::too_many(flow));
        }
        self.core.authorize(&call)?;
        let remote = aggregate::find(&self.core.read(), &info.path);
        if let Some(remote) = remote {
            return remote.forward(&self.core, &who, arrived).await;
        }
        let mut wants = wants(text(header::ACCEPT), info.query.get("includeObject").unwrap_or("Metadata"))?;
        // People with a browser or curl get indented JSON, as does whoever asks (`isPrettyPrint`).
        wants.pretty = match info.query.get("pretty") {
            Some(value) => value != "false" && value != "0",
            None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|name| user_agent.starts_with(name)),
        };
        if let (Form::Aggregated { version }, "/api" | "/apis") = (&wants.form, info.path.trim_end_matches('/')) {
            let core_group = info.path.trim_end_matches('/') == "/api";
            let api_version = format!("apidiscovery.k8s.io/{version}");
            let mut document = discovery::aggregated(&self.core.read().registry, core_group, &api_version);
            let remotes = self.core.read().registry.remotes.clone();
            if !core_group {
                // All at once: one that does not answer holds nobody else up.
                let lists = futures_util::future::join_all(remotes.iter().map(|remote| remote.resources(&self.core))).await;
                for (remote, list) in remotes.iter().zip(lists) {
                    discovery::add_remote(&mut document, &remote.group, aggregate::discovery_entry(remote, list.as_ref()));
                }
            }
            let mut response = respond(200, &document, false);
            let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            if let Ok(value) = header::HeaderValue::from_str(&content_type) {
                response.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            return Ok(response);
        }
        if connect::is_for(info) {
            return self.connect(&who, info, arrived).await;
        }
        let mut body = arrived.body;
        let read = tokio::time::timeout(BODY_DEADLINE, wire::collect_from(&mut body, MAX_BODY))
            .await
            .map_err(|_| Status::new(408, "the body did not arrive in time").with_reason("Timeout"))?;
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(_) => {
                // The client hears of it only once it has sent everything, or most of it.
                let _ = tokio::time::timeout(BODY_DEADLINE, wire::drain(&mut body, DRAIN_UP_TO)).await;
                return Err(Status::new(413, format!("limit is {MAX_BODY}")).with_reason("RequestEntityTooLarge"));
            }
        };
        let call = Call { body: &bytes, ..call };
        // Looked up before: a write can end what its resource is defined by.
        let resource = if info.is_resource { Some(self.core.resource(info)?) } else { None };
        let reply = self.decide(now, &call).await?;
        if reply_is_slow(&reply) {
            tokio::task::yield_now().await;
        }
        let mut response = render(reply, resource.as_deref(), &wants, now);
        response.extensions_mut().insert(Ours);
        if wants.pretty {
            response = indented(response).await;
        }
        for warning in warnings.into_inner().unwrap_or_default() {
            let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = header::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        Ok(response)
    }

    /// Answers what leads to a pod.
    async fn connect(&self, who: &Identity, info: &RequestInfo, arrived: Arrived<'_>) -> Result<Response<Body>, Status> {
        let opens_stream = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward");
        if opens_stream && arrived.method == http::Method::GET {
            // A WebSocket can only be asked for by GET, and does what a POST does (`AuthorizePodWebsocketUpgradeCreatePermission`).
            let wanted = rbac::Attributes { verb: "create", ..rbac::Attributes::of(info, arrived.method) };
            self.core.demand(who, &wanted)?;
        }
        let pods = self.pods.as_ref().ok_or_else(|| Status::new(501, "this server runs no pods"))?;
        let request = |pod| Connect { pods, pod, info, arrived };
        if info.resource == "services" {
            let (pod, port, secure) = connect::behind_service(&self.core.read(), info)?;
            return connect::forward(request(pod), port, secure).await;
        }
        let name = if info.subresource == "proxy" { connect::name(info)? } else { &info.name };
        let pod = self.core.get(&*self.core.resource(info)?, &info.namespace, name)?.value();
        request(pod).answer().await
    }

    /// The core's answer, with webhooks asked as often as the object changes under them.
    async fn decide(&self, now: Timestamp, call: &Call<'_>) -> Result<Reply, Status> {
        let mut reply = self.core.answer(now, call)?;
        for _ in 0..MAX_ADMISSIONS {
            let Reply::Admit(review) = reply else { return Ok(reply) };
            let admitted = review.run(&self.core, call).await?;
            reply = self.core.answer(now, &Call { admitted: Some(&admitted), ..*call })?;
        }
        Err(Status::conflict(
            &call.info.group,
            &call.info.resource,
            &call.info.name,
            "the object changes faster than webhooks answer",
        ))
    }
}

/// A JSON answer of known size, indented.
async fn indented(response: Response<Body>) -> Response<Body> {
    let is_json =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json || http_body::Body::size_hint(response.body()).exact().is_none_or(|size| size > INDENT_UP_TO) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = wire::collect(body, usize::MAX).await else { return failure(&Status::new(500, "the answer was lost")) };
    let pretty = serde_json::from_slice::<Value>(&bytes).and_then(|value| serde_json::to_vec_pretty(&value));
    head.headers.remove(header::CONTENT_LENGTH);
    match pretty {
        Ok(mut text) => {
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            Response::from_parts(head, wire::full(text))
        }
        Err(_) => Response::from_parts(head, wire::full(bytes)),
    }
}

/// A large answer of known size, compressed.
async fn compressed(response: Response<Body>) -> Response<Body> {
    use std::io::Write as _;
    let large = http_body::Body::size_hint(response.body()).exact().is_some_and(|size| size >= GZIP_FROM);
    if !large {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = wire::collect(body, usize::MAX).await else { return failure(&Status::new(500, "the answer was lost")) };
    // Level 1 is what the real server uses: time counts more than size here.
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 4), flate2::Compression::fast());
    match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            head.headers.remove(header::CONTENT_LENGTH);
            head.headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
            head.headers.insert(header::VARY, header::HeaderValue::from_static("Accept-Encoding"));
            Response::from_parts(head, wire::full(packed))
        }
        Err(_) => Response::from_parts(head, wire::full(bytes)),
    }
}

/// Long lists are worth a chance for other tasks.
fn reply_is_slow(reply: &Reply) -> bool {
    matches!(reply, Reply::List(list) if list.items.len() > 1000)
}

fn render(reply: Reply, resource: Option<&Resource>, wants: &Wants, now: Timestamp) -> Response<Body> {
    match (reply, resource) {
        (Reply::Stored(code, stored), Some(resource)) if wants.form == Form::Plain && !wants.yaml => {
            wire::json(StatusCode::from_u16(code).unwrap_or(StatusCode::OK), encode(&stored, resource))
        }
        (Reply::Stored(code, stored), Some(resource)) => {
            respond(code, &formed(convert::shown(&stored, resource), resource, &wants.form, now), wants.yaml)
        }
        (Reply::Value(code, value), Some(resource)) if value["kind"] == resource.kind.as_str() => {
            respond(code, &formed(value, resource, &wants.form, now), wants.yaml)
        }
        (Reply::List(list), Some(resource)) => render_list(&list, resource, wants, now),
        (Reply::Watch(watcher), _) => watch_response(*watcher, wants.form.clone()),
        (Reply::Json(bytes), _) => wire::json(StatusCode::OK, bytes),
        (Reply::Text(code, text), _) => wire::text(StatusCode::from_u16(code).unwrap_or(StatusCode::OK), text),
        (Reply::Value(code, value), _) => respond(code, &value, wants.yaml),
        (Reply::Admit(_), _) => failure(&Status::new(500, "webhooks were not asked")),
        (Reply::Stored(..) | Reply::List(_), None) => failure(&Status::no_such_resource()),
    }
}

/// One object in the form that was asked for.
fn formed(value: Value, resource: &Resource, form: &Form, now: Timestamp) -> Value {
    match form {
        Form::Table { include } => {
            let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
            table::table(resource, std::slice::from_ref(&value), metadata, include, now)
        }
        Form::PartialMetadata => partial(&value),
        Form::Plain | Form::Aggregated { .. } => value,
    }
}

fn partial(value: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]})
}

fn without_type(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
}

fn render_list(list: &List, resource: &Resource, wants: &Wants, now: Timestamp) -> Response<Body> {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    if resource.custom.is_some() {
        // Lists of unstructured objects always have the field.
        metadata["continue"] = "".into();
    }
    if let Some(next) = &list.next {
        metadata["continue"] = next.as_str().into();
        if let Some(remaining) = list.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let api_version = resource.api_version();
    if wants.form == Form::Plain && !wants.yaml {
        // The items are stored as JSON: a list is their concatenation.
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            resource.list_kind,
            resource.api_version()
        );
        let size = head.len() + 2 + list.items.iter().map(|item| item.json.len() + 1).sum::<usize>();
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(head.as_bytes());
        for (index, item) in list.items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if resource.custom.is_some() {
                out.extend_from_slice(&encode(item, resource));
            } else if *item.api_version == *api_version {
                out.push(b'{');
                out.extend_from_slice(&item.json_without_type());
            } else {
                let mut value = convert::shown(item, resource);
                without_type(&mut value);
                let _ = serde_json::to_writer(&mut out, &value);
            }
        }
        out.extend_from_slice(b"]}");
        return wire::json(StatusCode::OK, out);
    }
    let mut objects: Vec<Value> = list.items.iter().map(|item| convert::shown(item, resource)).collect();
    if resource.custom.is_none() && wants.form == Form::Plain {
        objects.iter_mut().for_each(without_type);
    }
    let value = match &wants.form {
        Form::Table { include } => table::table(resource, &objects, metadata, include, now),
        Form::PartialMetadata => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": objects.iter().map(partial).collect::<Vec<_>>(),
        }),
        Form::Plain | Form::Aggregated { .. } => {
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": objects})
        }
    };
    respond(200, &value, wants.yaml)
}

/// Turns a watcher into a chunked stream of JSON lines.
fn watch_response(watcher: Watcher, form: Form) -> Response<Body> {
    let (sender, body) = wire::stream_channel(16);
    tokio::spawn(async move {
        let timeout = watcher.timeout.unwrap_or(Duration::from_secs(3600 * 24));
        let _ = tokio::time::timeout(timeout, pump(watcher, form, sender)).await;
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

async fn pump(mut watcher: Watcher, form: Form, sender: tokio::sync::mpsc::Sender<Result<Bytes, BodyError>>) {
    let resource = watcher.resource.clone();
    let mut columns_sent = false;
    // One clock for the whole watch: changes that this watcher does not see must not put its bookmarks off.
    let mut bookmark = tokio::time::interval(BOOKMARK_EVERY);
    bookmark.reset();
    loop {
        let mut out = Vec::new();
        let ended = match watcher.take() {
            Ok(events) => {
                for event in events {
                    write_event(&mut out, &event, &resource, &form, &mut columns_sent);
                }
                false
            }
            Err(status) => {
                let line = json!({"type": "ERROR", "object": status.body()});
                out.extend_from_slice(line.to_string().as_bytes());
                out.push(b'\n');
                true
            }
        };
        if !out.is_empty() && sender.send(Ok(out.into())).await.is_err() {
            return;
        }
        if ended {
            return;
        }
        let wants_bookmarks = watcher.bookmarks;
        let revision = watcher.revision();
        tokio::select! {
            () = watcher.changed() => {}
            () = sender.closed() => return,
            _ = bookmark.tick(), if wants_bookmarks => {
                let mut out = Vec::new();
                let event = WatchEvent::Bookmark { revision, initial: false };
                write_event(&mut out, &event, &resource, &form, &mut columns_sent);
                if sender.send(Ok(out.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn write_event(out: &mut Vec<u8>, event: &WatchEvent, resource: &Resource, form: &Form, columns_sent: &mut bool) {
    let (kind, stored) = match event {
        WatchEvent::Added(stored) => ("ADDED", stored),
        WatchEvent::Modified(stored) => ("MODIFIED", stored),
        WatchEvent::Deleted(stored) => ("DELETED", stored),
        WatchEvent::Bookmark { revision, initial } => {
            let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
            if *initial {
                metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            }
            let object = match form {
                Form::Table { .. } => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    "columnDefinitions": [], "rows": []}),
                Form::PartialMetadata => {
                    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
                }
                Form::Plain | Form::Aggregated { .. } => {
                    json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata})
                }
            };
            let line = json!({"type": "BOOKMARK", "object": object});
            out.extend_from_slice(line.to_string().as_bytes());
            out.push(b'\n');
            return;
        }
    };
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    match form {
        Form::Plain | Form::Aggregated { .. } => out.extend_from_slice(&encode(stored, resource)),
        Form::PartialMetadata => out.extend_from_slice(partial(&stored.value()).to_string().as_bytes()),
        Form::Table { include } => {
            let value = stored.value();
            let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
            let mut rendered = table::table(resource, std::slice::from_ref(&value), metadata, include, Timestamp::now());
            // Only the first event of a stream carries the columns.
            if std::mem::replace(columns_sent, true) {
                rendered["columnDefinitions"] = Value::Null;
            }
            out.extend_from_slice(rendered.to_string().as_bytes());
        }
    }
    out.extend_from_slice(b"}\n");
}
