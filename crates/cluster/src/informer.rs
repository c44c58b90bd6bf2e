//! A local, parsed copy of a resource, kept current by a watch; or only the news that something has changed. Copies in one process share
//! their trees, and have no `managedFields`.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver::{Client, Gr, WatchEvent, Watcher};
use serde_json::Value;

/// All objects of one resource by `NAMESPACE/NAME`.
pub struct Informer {
    client: Client,
    gr: Gr,
    watcher: Option<Watcher>,
    objects: BTreeMap<String, Arc<Value>>,
    lists: u64,
    selector: &'static str,
    trim: Option<fn(&mut Value)>,
}

impl Informer {
    /// An informer that has seen nothing yet.
    pub fn new(client: &Client, gr: Gr) -> Self {
        Self { client: client.clone(), gr, watcher: None, objects: BTreeMap::new(), lists: 0, selector: "", trim: None }
    }

    /// An informer of the objects that a label selector takes.
    pub fn labelled(client: &Client, gr: Gr, selector: &'static str) -> Self {
        Self { selector, ..Self::new(client, gr) }
    }

    /// An informer that keeps no more than what `trim` leaves, for a resource that there may be ten thousand of.
    pub(crate) fn trimmed(client: &Client, gr: Gr, trim: fn(&mut Value)) -> Self {
        Self { trim: Some(trim), ..Self::new(client, gr) }
    }

    /// Takes in what changed since the last call; whether anything did.
    pub fn sync(&mut self) -> bool {
        let mut changed = false;
        loop {
            let watcher = match &mut self.watcher {
                Some(watcher) => watcher,
                None => {
                    let Ok(watcher) = self.client.watch_labelled(self.gr, self.selector) else {
                        // Its kind is not served, or not any more: there are none.
                        changed |= !self.objects.is_empty();
                        self.objects.clear();
                        return changed;
                    };
                    self.objects.clear();
                    self.lists += 1;
                    changed = true;
                    self.watcher.insert(watcher)
                }
            };
            match watcher.take() {
                Ok(events) => {
                    changed |= !events.is_empty();
                    for event in events {
                        match event {
                            WatchEvent::Added(stored) | WatchEvent::Modified(stored) => {
                                let object = match self.trim {
                                    None => stored.shared(),
                                    Some(trim) => {
                                        let mut object = stored.value();
                                        trim(&mut object);
                                        Arc::new(object)
                                    }
                                };
                                self.objects.insert(stored.key(), object);
                            }
                            WatchEvent::Deleted(stored) => {
                                self.objects.remove(&stored.key());
                            }
                            WatchEvent::Bookmark { .. } => {}
                        }
                    }
                    return changed;
                }
                // The log moved on without us: start over from a list.
                Err(_) => self.watcher = None,
            }
        }
    }

    /// Waits for the next change.
    pub async fn changed(&mut self) {
        match &mut self.watcher {
            Some(watcher) => watcher.changed().await,
            None => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }

    /// All objects by their keys.
    pub fn all(&self) -> &BTreeMap<String, Arc<Value>> {
        &self.objects
    }

    /// How often it has begun from all objects: once, and again whenever it had fallen too far behind.
    pub fn lists(&self) -> u64 {
        self.lists
    }

    /// All objects, in order of their keys.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Value>> + Clone {
        self.objects.values()
    }

    /// Objects of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Value>> {
        let from = format!("{namespace}/");
        self.objects.range(from.clone()..).take_while(move |(key, _)| key.starts_with(&from)).map(|(_, object)| object)
    }

    /// The object of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }
}

/// Tells that something of a resource has changed, and keeps nothing of it.
pub(crate) struct News {
    client: Client,
    gr: Gr,
    watcher: Option<Watcher>,
}

/// How long it is waited for a kind that is not served.
const NOT_SERVED: std::time::Duration = std::time::Duration::from_millis(50);

impl News {
    pub(crate) fn new(client: &Client, gr: Gr) -> Self {
        Self { client: client.clone(), gr, watcher: None }
    }

    /// Waits until something has changed since the last call. The first one returns at once, as does one that has fallen behind.
    pub(crate) async fn wait(&mut self) {
        loop {
            let Some(watcher) = &mut self.watcher else {
                let Ok(mut watcher) = self.client.watch(self.gr) else {
                    tokio::time::sleep(NOT_SERVED).await;
                    continue;
                };
                // What is there already is no news.
                self.watcher = watcher.take().is_ok().then_some(watcher);
                return;
            };
            watcher.changed().await;
            match watcher.take() {
                Ok(events) if events.is_empty() => {}
                Ok(_) => return,
                Err(_) => self.watcher = None,
            }
        }
    }
}
