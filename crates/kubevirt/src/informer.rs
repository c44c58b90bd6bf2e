//! A reflector: list, then watch, again from the last version when the watch ends, from a new list when that fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use kubeapi::object;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{Client, Failure};
use crate::go::GoError;
use crate::log::Log;
use crate::release::{InformerSpec, ReflectorSpec};

/// First pause after a failure, and the longest (client-go `reflector.go`: 800 ms, 30 s, factor 2).
const BACKOFF: Duration = Duration::from_millis(800);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// A list as the API answers it.
#[derive(Deserialize)]
#[serde(default)]
struct List<T> {
    metadata: Value,
    items: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { metadata: Value::Null, items: Vec::new() }
    }
}

/// An object of which nothing but the metadata is read.
#[derive(Deserialize)]
struct Named {
    metadata: Value,
}

impl From<List<Named>> for List<Value> {
    fn from(list: List<Named>) -> Self {
        let items = list.items.into_iter().map(|named| json!({"metadata": named.metadata}));
        Self { metadata: list.metadata, items: items.collect() }
    }
}

/// What a reflector knows.
pub(crate) struct Informer {
    spec: InformerSpec,
    path: String,
    selectors: String,
    /// Objects by key.
    objects: Mutex<BTreeMap<String, Value>>,
    /// Whether the first list is in; told again with each change.
    synced: watch::Sender<bool>,
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
            b' ' => "+".to_owned(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

impl Informer {
    pub(crate) fn new(spec: &InformerSpec, namespace: &str, node: &str) -> Arc<Self> {
        let path = spec.path.replace("{namespace}", spec.namespace.as_deref().unwrap_or(namespace));
        let mut selectors = String::new();
        for (key, selector) in [("fieldSelector", &spec.field_selector), ("labelSelector", &spec.label_selector)] {
            if let Some(selector) = selector {
                selectors.push_str(&format!("{key}={}&", encode(&selector.replace("{node}", node))));
            }
        }
        Arc::new(Self { spec: spec.clone(), path, selectors, objects: Mutex::default(), synced: watch::Sender::new(false) })
    }

    /// Waits until the first list is in.
    pub(crate) async fn synced(&self) {
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// What is found in the objects, as soon as something is.
    pub(crate) async fn until<T>(&self, found: impl Fn(&[Value]) -> Option<T>) -> T {
        let mut changes = self.synced.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = found(&self.objects()) {
                return found;
            }
            // The sender is ours: it is there as long as we are.
            let _ = changes.changed().await;
        }
    }

    /// Whether it watches the collection at this path.
    pub(crate) fn watches(&self, path: &str) -> bool {
        self.path == path
    }

    /// The objects that are known now.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.objects.lock().expect("no panic while held").values().cloned().collect()
    }

    /// The object, if it watches this collection, in one namespace or in all, and knows it.
    pub(crate) fn find(&self, collection: &str, key: &str) -> Option<Value> {
        let resource = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        if resource(&self.path) != resource(collection) {
            return None;
        }
        self.objects.lock().expect("no panic while held").get(key).cloned()
    }

    /// Whether it watches definitions. Of those only names are kept: each replica has a cache of its own in one process, nobody looks into
    /// the schemas, and they would be most of a lab's memory.
    fn is_of_definitions(&self) -> bool {
        self.path.ends_with("/customresourcedefinitions")
    }

    fn go_type(&self) -> String {
        self.spec.go_type.clone().unwrap_or_else(|| {
            let resource = self.path.rsplit('/').next().unwrap_or_default();
            format!("*v1.{resource}")
        })
    }

    fn complain(&self, log: &Log, lines: &ReflectorSpec, template: &str, error: &str) {
        let message = template
            .replace("{origin}", self.spec.origin.as_deref().unwrap_or_default())
            .replace("{type}", &self.go_type())
            .replace("{error}", error);
        log.error(&lines.pos, &message);
    }

    /// Runs for ever.
    pub(crate) async fn run(self: Arc<Self>, client: Arc<Client>, log: Log, lines: ReflectorSpec) {
        let mut backoff = BACKOFF;
        loop {
            match self.list(&client).await {
                Err(failure) => self.complain(&log, &lines, &lines.message, failure.message()),
                Ok(version) => {
                    backoff = BACKOFF;
                    self.synced.send_replace(true);
                    self.follow(&client, &log, &lines, version).await;
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    async fn list(&self, client: &Client) -> Result<String, Failure> {
        let target = format!("{}?{}limit=500&resourceVersion=0", self.path, self.selectors);
        let bytes = client.get_bytes(&target).await?;
        let list = if self.is_of_definitions() {
            serde_json::from_slice::<List<Named>>(&bytes).map(List::from)
        } else {
            serde_json::from_slice::<List<Value>>(&bytes)
        };
        let list = list.unwrap_or_default();
        let version = list.metadata["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let objects = list.items.into_iter().map(|item| (object::key(&item), item)).collect();
        *self.objects.lock().expect("no panic while held") = objects;
        Ok(version)
    }

    /// Watches until a new list is needed.
    async fn follow(&self, client: &Client, log: &Log, lines: &ReflectorSpec, mut version: String) {
        let mut round = 0u64;
        loop {
            round += 1;
            // Between 5 and 10 minutes; spread by path so that not all watches end at once.
            let spread = self.path.bytes().map(u64::from).sum::<u64>().wrapping_mul(round * 37) % 300;
            let seconds = 300 + spread;
            let target = format!(
                "{}?allowWatchBookmarks=true&{}resourceVersion={version}&timeout={}m{}s&timeoutSeconds={seconds}&watch=true",
                self.path,
                self.selectors,
                seconds / 60,
                seconds % 60,
            );
            let response = match client.watch(&target).await {
                Ok(response) => response,
                Err(failure) => {
                    let again = matches!(&failure, Failure::Transport(_, GoError::Refused(_)) | Failure::Status(429, _));
                    if again {
                        // client-go keeps its place where the server is merely away or busy.
                        tokio::time::sleep(BACKOFF).await;
                        continue;
                    }
                    self.complain(log, lines, &lines.watch_message, failure.message());
                    return;
                }
            };
            let mut body = response.into_body();
            let mut pending = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                pending.extend_from_slice(&data);
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
                    match self.take(event) {
                        Some(new) => version = new,
                        None => return,
                    }
                }
            }
        }
    }

    /// Takes an event in; the version it brings, or nothing where it is an error.
    fn take(&self, mut event: Value) -> Option<String> {
        let mut object = event["object"].take();
        if self.is_of_definitions()
            && let Some(fields) = object.as_object_mut()
        {
            fields.retain(|field, _| field == "metadata");
        }
        let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let mut objects = self.objects.lock().expect("no panic while held");
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => {
                objects.insert(object::key(&object), object);
            }
            Some("DELETED") => {
                objects.remove(&object::key(&object));
            }
            Some("BOOKMARK") => {}
            _ => return None,
        }
        drop(objects);
        self.synced.send_replace(true);
        version
    }
}
