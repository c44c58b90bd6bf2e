//! A reflector: list, then watch, again from the last version when the watch ends, from a new list when that fails.
//!
//! What it knows it keeps as text: there may be ten thousand objects in the caches of several replicas, and a tree takes ten times as much.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use kubeapi::object;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::client::{Client, Failure};
use crate::go::GoError;
use crate::log::Log;
use crate::release::{InformerSpec, LogForm, ReflectorSpec, Release};

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

/// An object in a cache.
#[derive(Clone)]
pub(crate) struct Cached {
    version: Arc<str>,
    text: Arc<[u8]>,
}

impl Cached {
    fn of(object: &Value) -> Self {
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().into();
        // Writing to memory does not fail.
        Self { version, text: serde_json::to_vec(object).unwrap_or_default().into() }
    }

    /// Its `resourceVersion`.
    pub(crate) fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The object.
    pub(crate) fn value(&self) -> Arc<Value> {
        Arc::new(serde_json::from_slice(&self.text).unwrap_or_default())
    }
}

/// What a reflector knows.
pub(crate) struct Informer {
    spec: InformerSpec,
    path: String,
    selectors: String,
    /// Objects by key.
    objects: Mutex<BTreeMap<String, Cached>>,
    /// Counts the changes of `objects`.
    generation: AtomicU64,
    /// Whether the first list is in; told again with each change.
    synced: watch::Sender<bool>,
    /// Who is told of each object that changed: what it was, and what it is.
    handlers: Mutex<Vec<mpsc::UnboundedSender<Change>>>,
    /// What its metrics call it, where the release has such.
    reflector: String,
}

/// An object that has changed, come or gone.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// `NAMESPACE/NAME`.
    pub(crate) key: String,
    /// What it was.
    pub(crate) before: Option<Arc<Value>>,
    /// What it is.
    pub(crate) after: Option<Arc<Value>>,
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

/// What old releases call a reflector in metrics: the place that started it, and a number that client-go begins somewhere below 12,345
/// and raises with each reflector (client-go `tools/cache/reflector.go` before 1.12).
fn reflector_name(origin: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(6_000);
    let place: String = origin.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    format!("reflector_{place}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Informer {
    pub(crate) fn new(spec: &InformerSpec, release: &Release, node: &str) -> Arc<Self> {
        let namespace = spec.namespace.as_deref().unwrap_or(&release.namespace);
        let path = spec.path.replace("{namespace}", namespace).replace("{kubevirt}", &release.root());
        let mut selectors = String::new();
        for (key, selector) in [("fieldSelector", &spec.field_selector), ("labelSelector", &spec.label_selector)] {
            if let Some(selector) = selector {
                selectors.push_str(&format!("{key}={}&", encode(&selector.replace("{node}", node))));
            }
        }
        Arc::new(Self {
            spec: spec.clone(),
            path,
            selectors,
            objects: Mutex::default(),
            generation: AtomicU64::new(0),
            synced: watch::Sender::new(false),
            handlers: Mutex::default(),
            reflector: reflector_name(spec.origin.as_deref().unwrap_or("tools/cache/reflector.go:205")),
        })
    }

    /// Tells of each change from now on, beginning with what is there already.
    pub(crate) fn handler(&self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let objects = self.objects.lock().expect("no panic while held");
        for (key, object) in objects.iter() {
            let _ = sender.send(Change { key: key.clone(), before: None, after: Some(object.value()) });
        }
        self.handlers.lock().expect("no panic while held").push(sender);
        receiver
    }

    fn tell(&self, key: &str, before: Option<&Cached>, after: Option<&Cached>) {
        let mut handlers = self.handlers.lock().expect("no panic while held");
        if handlers.is_empty() {
            return;
        }
        let change = Change { key: key.to_owned(), before: before.map(Cached::value), after: after.map(Cached::value) };
        handlers.retain(|handler| handler.send(change.clone()).is_ok());
    }

    /// How often anything has changed. What is read after it may be newer, never older.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Everything that it knows, by key, unparsed.
    pub(crate) fn cached(&self) -> Vec<(String, Cached)> {
        let objects = self.objects.lock().expect("no panic while held");
        objects.iter().map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Everything that it knows, by key.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (String, Arc<Value>)> {
        self.cached().into_iter().map(|(key, object)| (key, object.value()))
    }

    /// The object of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Value>> {
        let cached = self.objects.lock().expect("no panic while held").get(key).cloned();
        cached.map(|object| object.value())
    }

    /// The last word of the path, and whether only some are watched.
    pub(crate) fn resource(&self) -> (&str, bool) {
        (self.path.rsplit('/').next().unwrap_or_default(), !self.selectors.is_empty())
    }

    /// Waits until the first list is in.
    pub(crate) async fn synced(&self) {
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// What is found in the objects, as soon as something is.
    pub(crate) async fn until<T>(&self, found: impl Fn(&[Arc<Value>]) -> Option<T>) -> T {
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

    /// The objects that are known now.
    pub(crate) fn objects(&self) -> Vec<Arc<Value>> {
        self.entries().map(|(_, object)| object).collect()
    }

    /// The object, if it watches this collection, in one namespace or in all, and knows it.
    pub(crate) fn find(&self, collection: &str, key: &str) -> Option<Arc<Value>> {
        if self.resource().0 != collection.rsplit('/').next().unwrap_or_default() {
            return None;
        }
        self.get(key)
    }

    /// Whether it watches definitions. Of those only names are kept: each replica has a cache of its own in one process, nobody looks into
    /// the schemas, and they would be most of a lab's memory.
    fn is_of_definitions(&self) -> bool {
        self.path.ends_with("/customresourcedefinitions")
    }

    /// What is kept of an object: of pods no more than is looked at, for there may be ten thousand.
    fn kept(&self, mut object: Value) -> Cached {
        if self.resource().0 == "pods" {
            object["metadata"]["managedFields"].take();
            object["metadata"]["annotations"].take();
            let node = object["spec"]["nodeName"].take();
            object["spec"] = json!({"nodeName": node});
            let told = |kind: &str| object::condition(&object, kind).map(str::to_owned);
            let (ready, scheduled) = (told("Ready"), told("PodScheduled"));
            let status = object["status"].take();
            object["status"] =
                json!({"phase": status["phase"], "podIP": status["podIP"], "ready": ready, "scheduled": scheduled});
        } else if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        Cached::of(&object)
    }

    fn go_type(&self) -> String {
        self.spec.go_type.clone().unwrap_or_else(|| {
            let resource = self.path.rsplit('/').next().unwrap_or_default();
            format!("*v1.{resource}")
        })
    }

    fn complain(&self, log: &Log, lines: &ReflectorSpec, template: &str, error: &str) {
        let (origin, go_type) = (self.spec.origin.as_deref().unwrap_or(&lines.origin), self.go_type());
        let message = template.replace("{origin}", origin).replace("{type}", &go_type).replace("{error}", error);
        match lines.form {
            LogForm::Json => log.error(&lines.pos, &message),
            LogForm::Klog => log.klog_error(&lines.pos, &message),
            LogForm::KlogStructured => {
                let quote = |text: &str| Value::from(text).to_string();
                let pairs = [("err", &*message), ("logger", "UnhandledError"), ("reflector", origin), ("type", &go_type)];
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
                log.klog_error(&lines.pos, &format!("\"Failed to watch\" {}", pairs.join(" ")));
            }
        }
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
        let started = std::time::Instant::now();
        let bytes = client.get_bytes(&target).await?;
        let list = if self.is_of_definitions() {
            serde_json::from_slice::<List<Named>>(&bytes).map(List::from)
        } else {
            serde_json::from_slice::<List<Value>>(&bytes)
        };
        let list = list.unwrap_or_default();
        let version = list.metadata["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let objects: BTreeMap<String, Cached> =
            list.items.into_iter().map(|item| (object::key(&item), self.kept(item))).collect();
        let count = objects.len();
        self.replace(objects);
        client.reflected(&self.reflector, &version, started.elapsed(), count);
        Ok(version)
    }

    /// Takes what a list had for all that there is.
    fn replace(&self, new: BTreeMap<String, Cached>) {
        let mut objects = self.objects.lock().expect("no panic while held");
        let old = std::mem::replace(&mut *objects, new);
        self.generation.fetch_add(1, Ordering::Release);
        for (key, before) in &old {
            let after = objects.get(key);
            if after.is_none_or(|after| after.text != before.text) {
                self.tell(key, Some(before), after);
            }
        }
        for (key, after) in objects.iter().filter(|(key, _)| !old.contains_key(*key)) {
            self.tell(key, None, Some(after));
        }
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
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    client.settle().await;
                    break;
                };
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
                let key = object::key(&object);
                let after = self.kept(object);
                let before = objects.insert(key.clone(), after.clone());
                self.tell(&key, before.as_ref(), Some(&after));
            }
            Some("DELETED") => {
                let key = object::key(&object);
                let before = objects.remove(&key);
                self.tell(&key, before.as_ref(), None);
            }
            Some("BOOKMARK") => {}
            _ => return None,
        }
        self.generation.fetch_add(1, Ordering::Release);
        drop(objects);
        self.synced.send_replace(true);
        version
    }
}
