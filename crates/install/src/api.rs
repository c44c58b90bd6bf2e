//! A cluster's API, as an installer needs it: any object by its kind, applied with a field manager, with errors that say who objects.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use kube::client::Body;
use kubeapi::object;
use serde_json::Value;

/// Whom the API server notes as the owner of the fields that we write.
pub const FIELD_MANAGER: &str = "kubevirt-lab";
/// The largest answer that is read: the definitions of kube-prometheus are 4 MB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a request is made that fails in a way that passes, and how long after the first failure it is made again.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(250);

/// A request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server could not be reached, or did not answer.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The reason of the Status, such as `Conflict`.
        reason: String,
        /// What it says.
        message: String,
    },
    /// It does not serve a kind.
    #[error("the cluster does not know the kind {kind} of {api_version}")]
    UnknownKind {
        /// The group and version.
        api_version: String,
        /// The kind.
        kind: String,
    },
}

impl ApiError {
    /// The HTTP status; 0 where there was no answer.
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::UnknownKind { .. } => 404,
            Self::Unreachable(_) => 0,
        }
    }

    /// Whether the same request may succeed in a moment: too many requests, a server that is busy or starts, a webhook whose pods start.
    fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { code, message, .. } => matches!(code, 429 | 502..=504) || message.contains("failed calling webhook"),
            Self::UnknownKind { .. } => false,
        }
    }
}

/// A kind as the cluster serves it.
#[derive(Clone, Debug)]
pub struct Served {
    /// The path of its group and version, such as `/apis/apps/v1`.
    pub base: String,
    /// Its plural.
    pub plural: String,
    /// Its kind.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Served {
    /// The path of a collection; all namespaces where none is named.
    pub fn collection(&self, namespace: &str) -> String {
        if self.namespaced && !namespace.is_empty() {
            format!("{}/namespaces/{namespace}/{}", self.base, self.plural)
        } else {
            format!("{}/{}", self.base, self.plural)
        }
    }

    /// The path of an object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }

    /// Whether it is this resource of this group; the core group has no name.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        let own = self.base.strip_prefix("/apis/").map_or("", |rest| rest.split('/').next().unwrap_or_default());
        self.plural == plural && own == group
    }
}

/// A cluster's API.
pub struct Api {
    client: kube::Client,
    served: Mutex<HashMap<String, Vec<Served>>>,
}

impl Api {
    /// A cluster that a client reaches.
    pub fn new(client: kube::Client) -> Self {
        Self { client, served: Mutex::default() }
    }

    /// The client.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// One request, made once.
    ///
    /// # Errors
    /// When there is no answer, or one above 299.
    pub async fn once(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let unreachable = |error: &dyn std::error::Error| ApiError::Unreachable(causes(error));
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .map_err(|error| unreachable(&error))?;
        let answer = async {
            let response = self.client.send(request).await.map_err(|error| unreachable(&error))?;
            let code = response.status().as_u16();
            let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
            let bytes = http_body_util::BodyExt::collect(body).await.map_err(|error| ApiError::Unreachable(error.to_string()))?;
            Ok((code, bytes.to_bytes().to_vec()))
        };
        let late = |_| ApiError::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
        let (code, bytes) = tokio::time::timeout(PATIENCE, answer).await.map_err(late)??;
        if code < 300 {
            return Ok(bytes);
        }
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        let message = match text("message") {
            message if message.is_empty() => format!("HTTP status {code}"),
            message => message,
        };
        Err(ApiError::Refused { code, reason: text("reason"), message })
    }

    /// One request, made again while it fails in a way that passes.
    async fn send(&self, method: Method, path: &str, content_type: &str, body: &[u8]) -> Result<Value, ApiError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.once(method.clone(), path, content_type, body.to_vec()).await {
                Ok(bytes) => return Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
                Err(error) if error.passes() && attempt < TRIES => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by itself")
    }

    /// What a path shows; `None` where there is nothing.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        match self.send(Method::GET, path, "application/json", &[]).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The version of the API server, such as `v1.36.1`.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn version(&self) -> Result<String, ApiError> {
        let version = self.get("/version").await?.unwrap_or_default();
        Ok(version["gitVersion"].as_str().unwrap_or_default().to_owned())
    }

    /// How many seconds the server's clock is ahead of this machine's, to a second; `None` where its answers carry no date.
    pub async fn clock_skew(&self) -> Option<i64> {
        let request = http::Request::builder().uri("/version").body(Body::empty()).ok()?;
        let response = self.client.send(request).await.ok()?;
        let date = response.headers().get(http::header::DATE)?.to_str().ok()?;
        let there = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
        Some(there.as_second() - jiff::Timestamp::now().as_second())
    }

    /// Forgets which kinds there are: definitions were added or removed.
    pub fn forget_kinds(&self) {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The kinds of a group and version.
    async fn kinds_of(&self, api_version: &str) -> Result<Vec<Served>, ApiError> {
        if let Some(found) = self.served.lock().unwrap_or_else(PoisonError::into_inner).get(api_version) {
            return Ok(found.clone());
        }
        let base = if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
        let list = self.get(&base).await?.unwrap_or_default();
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let resources = list["resources"].as_array().into_iter().flatten();
        let served: Vec<Served> = resources
            .filter(|resource| !resource["name"].as_str().unwrap_or_default().contains('/'))
            .map(|resource| Served {
                base: base.clone(),
                plural: text(&resource["name"]),
                kind: text(&resource["kind"]),
                namespaced: resource["namespaced"] == true,
                verbs: resource["verbs"].as_array().into_iter().flatten().map(text).collect(),
            })
            .collect();
        if !served.is_empty() {
            self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(api_version.to_owned(), served.clone());
        }
        Ok(served)
    }

    /// How the cluster serves a kind.
    ///
    /// # Errors
    /// When it does not, or does not answer.
    pub async fn kind(&self, api_version: &str, kind: &str) -> Result<Served, ApiError> {
        let found = self.kinds_of(api_version).await?.into_iter().find(|served| served.kind == kind);
        found.ok_or_else(|| ApiError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })
    }

    /// Every kind whose objects can be listed and deleted, in the version that the server prefers.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn all_kinds(&self) -> Result<Vec<Served>, ApiError> {
        let groups = self.get("/apis").await?.unwrap_or_default();
        let preferred = groups["groups"].as_array().into_iter().flatten();
        let preferred = preferred.filter_map(|group| group["preferredVersion"]["groupVersion"].as_str().map(str::to_owned));
        let mut all = Vec::new();
        for api_version in std::iter::once("v1".to_owned()).chain(preferred) {
            // A group whose own server is down does not keep us from the others.
            all.extend(self.kinds_of(&api_version).await.unwrap_or_default());
        }
        all.retain(|served| ["list", "delete"].iter().all(|verb| served.verbs.iter().any(|known| known == verb)));
        Ok(all)
    }

    /// The path of an object.
    ///
    /// # Errors
    /// When its kind is not served, or the server does not answer.
    pub async fn path_of(&self, object: &Value) -> Result<String, ApiError> {
        let served = self.kind(object["apiVersion"].as_str().unwrap_or_default(), object::kind(object)).await?;
        Ok(served.object(object::namespace(object), object::name(object)))
    }

    /// The object of the same kind, namespace and name.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn find(&self, like: &Value) -> Result<Option<Value>, ApiError> {
        match self.path_of(like).await {
            Ok(path) => self.get(&path).await,
            Err(ApiError::UnknownKind { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies an object; the server merges it with what others own of it.
    ///
    /// # Errors
    /// When another manager owns a field with another value (409), or the server refuses.
    pub async fn apply(&self, object: &Value) -> Result<Value, ApiError> {
        let path = self.path_of(object).await?;
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", object.to_string().as_bytes()).await
    }

    /// Applies an object or a part of one under another name, taking over what others own of it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn take(&self, object: &Value, manager: &str) -> Result<Value, ApiError> {
        let path = format!("{}?fieldManager={manager}&force=true", self.path_of(object).await?);
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", object.to_string().as_bytes()).await
    }

    /// Merges a patch into an object (RFC 7386).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.send(Method::PATCH, &path, "application/merge-patch+json", patch.to_string().as_bytes()).await
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, ApiError> {
        let path = format!("{collection}?fieldManager={FIELD_MANAGER}");
        self.send(Method::POST, &path, "application/json", object.to_string().as_bytes()).await
    }

    /// Replaces what a path shows.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.send(Method::PUT, path, "application/json", object.to_string().as_bytes()).await
    }

    /// Deletes what a path names, with what hangs on it; whether it was there.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn delete(&self, path: &str) -> Result<bool, ApiError> {
        self.delete_with(path, "propagationPolicy=Background").await
    }

    /// Deletes a pod, which gets so many seconds to end; whether it was there.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_pod_within(&self, path: &str, seconds: u32) -> Result<bool, ApiError> {
        self.delete_with(path, &format!("gracePeriodSeconds={seconds}")).await
    }

    async fn delete_with(&self, path: &str, query: &str) -> Result<bool, ApiError> {
        match self.send(Method::DELETE, &format!("{path}?{query}"), "application/json", &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The objects of a collection, apiVersion and kind included; none where the kind is not served.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        Ok(items(self.get(path).await?.unwrap_or_default()))
    }

    /// The last lines of a container's log.
    pub async fn log_tail(&self, namespace: &str, pod: &str, container: &str, lines: u32) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={lines}");
        let read = self.once(Method::GET, &path, "application/json", Vec::new()).await;
        read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

/// The objects of a list as the API answers it. A list leaves apiVersion and kind of its items out; here they have them.
pub fn items(mut list: Value) -> Vec<Value> {
    let kind = list["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
    let version = list["apiVersion"].clone();
    let Value::Array(mut items) = list["items"].take() else { return Vec::new() };
    for item in &mut items {
        item["kind"] = kind.as_str().into();
        item["apiVersion"] = version.clone();
    }
    items
}

/// An error with its causes, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
