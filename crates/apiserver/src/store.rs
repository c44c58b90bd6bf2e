//! Objects and their history: a sorted table and a bounded event log for each resource, one revision counter for all.
//!
//! An object is kept as the JSON bytes that a GET returns, with its labels beside it for selectors; it is parsed only to
//! be changed. A watcher holds no queue: it holds a revision and reads on in the log, so a slow one costs nothing and is
//! told 410 when the log has moved past it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use kubeapi::object;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::resource::StorageKey;

/// Events that a table remembers. kube-apiserver's watch cache holds 100 to 102,400 by load
/// (k8s.io/apiserver `pkg/storage/cacher/watch_cache.go`); this is in between.
const LOG_LENGTH: usize = 4096;

/// Bytes of objects that a table remembers in its events, so that large objects that change often do not fill the memory.
const LOG_SIZE: usize = 64 * 1024 * 1024;

/// Namespace and name.
pub(crate) type Key = (Box<str>, Box<str>);

/// One version of one object.
#[derive(Debug)]
pub struct Stored {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) revision: u64,
    pub(crate) is_deleting: bool,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// The uids of its owners.
    pub(crate) owners: Box<[Box<str>]>,
    pub(crate) uid: Box<str>,
    pub(crate) api_version: Box<str>,
    /// The object, apiVersion and kind first.
    pub(crate) json: Bytes,
    /// How many bytes apiVersion and kind take, with the opening brace.
    head: usize,
    /// The tree that readers share, as long as one of them holds it.
    tree: Mutex<Weak<Value>>,
}

impl Stored {
    /// The object's uid.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.is_deleting
    }

    /// `NAMESPACE/NAME`, or the name of an object without namespace.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() { self.name.to_string() } else { format!("{}/{}", self.namespace, self.name) }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    /// The object without apiVersion and kind, as lists of built-in kinds hold it: what follows an opening brace.
    pub(crate) fn json_without_type(&self) -> Bytes {
        self.json.slice(self.head..)
    }

    /// The same object as of another revision.
    pub(crate) fn at(&self, revision: u64) -> Arc<Self> {
        Draft::of(self.value()).at(revision)
    }

    /// The object, parsed.
    pub fn value(&self) -> Value {
        // What is stored was serialised by us; it parses.
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// The object as caches want it: parsed once for all who hold it, since a tree takes ten times the memory of its text, and without
    /// `managedFields`, which are half of that (an update without them leaves them as they are).
    pub fn shared(&self) -> Arc<Value> {
        let mut tree = self.tree.lock().expect("no panic while held");
        if let Some(shared) = tree.upgrade() {
            return shared;
        }
        let mut value = self.value();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let shared = Arc::new(value);
        *tree = Arc::downgrade(&shared);
        shared
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is new.
    Added,
    /// It has a new version.
    Modified,
    /// It is gone; the event holds its last state with the revision of the deletion.
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    /// What happened.
    pub change: Change,
    /// The object after it.
    pub object: Arc<Stored>,
    /// The object before it.
    pub before: Option<Arc<Stored>>,
}

/// The log does not reach back to the revision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub(crate) oldest: u64,
}

struct Table {
    objects: BTreeMap<Key, Arc<Stored>>,
    log: VecDeque<Arc<Event>>,
    /// Bytes of the objects in the log.
    log_size: usize,
    /// Events up to and including this revision are gone from the log.
    compacted: u64,
    head: watch::Sender<u64>,
}

impl Table {
    fn new(compacted: u64) -> Self {
        Self { objects: BTreeMap::new(), log: VecDeque::new(), log_size: 0, compacted, head: watch::Sender::new(0) }
    }

    fn record(&mut self, event: Event) {
        let revision = event.object.revision;
        self.log_size += event.object.json.len();
        self.log.push_back(Arc::new(event));
        while self.log.len() > LOG_LENGTH || (self.log_size > LOG_SIZE && self.log.len() > 1) {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_size -= oldest.object.json.len();
            self.compacted = oldest.object.revision;
        }
        self.head.send_replace(revision);
    }
}

/// All tables. Callers wrap it in a lock; every method is short.
pub(crate) struct Store {
    revision: u64,
    /// The revision of the last deletion, done or begun, or of the last change of owners: what garbage collection waits for.
    last_removal: u64,
    /// Where the history of this server begins: later than 0 where objects were taken over.
    floor: u64,
    any_change: watch::Sender<u64>,
    tables: HashMap<StorageKey, Table>,
    journal: Option<Journal>,
}

impl Store {
    pub(crate) fn new() -> Self {
        // etcd's first revision is 1; Kubernetes never shows 0, which means "any".
        Self { revision: 1, last_removal: 0, floor: 0, any_change: watch::Sender::new(1), tables: HashMap::new(), journal: None }
    }

    /// Takes over what a journal holds, and writes to it from now on.
    pub(crate) fn attach(&mut self, journal: Journal) -> Result<(), redb::Error> {
        let (revision, entries) = journal.load()?;
        // What happened before is not known any more, to any table.
        self.floor = revision;
        for entry in entries {
            let Ok(value) = serde_json::from_slice::<Value>(&entry.json) else { continue };
            let stored = Draft::of(value).at(entry.revision);
            let table = self.table(&StorageKey(entry.storage.as_str().into()));
            table.objects.insert((stored.namespace.clone(), stored.name.clone()), stored);
        }
        self.revision = self.revision.max(revision);
        self.journal = Some(journal);
        Ok(())
    }

    /// Whether anything was taken over.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.values().all(|table| table.objects.is_empty())
    }

    /// Writes to disk, if that is asked for. Panics where that fails: the request is answered with 500, and nothing changed.
    fn journal(&self, storage: &StorageKey, stored: &Stored, is_gone: bool) {
        if let Some(journal) = &self.journal {
            let json = (!is_gone).then_some(&*stored.json);
            journal
                .record(stored.revision, &storage.0, &stored.namespace, &stored.name, json)
                .expect("the object can be written to disk");
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    fn table(&mut self, storage: &StorageKey) -> &mut Table {
        let floor = self.floor;
        self.tables.entry(storage.clone()).or_insert_with(|| Table::new(floor))
    }

    pub(crate) fn get(&self, storage: &StorageKey, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.tables.get(storage)?.objects.get(&(namespace.into(), name.into())).cloned()
    }

    /// Objects in order of namespace and name, of one namespace or (empty) of all, after `after`.
    pub(crate) fn list<'a>(
        &'a self,
        storage: &StorageKey,
        namespace: &'a str,
        after: Option<Key>,
    ) -> impl Iterator<Item = &'a Arc<Stored>> {
        let from = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included((Box::from(namespace), Box::from(""))),
        };
        self.tables
            .get(storage)
            .into_iter()
            .flat_map(move |table| table.objects.range((from.clone(), Bound::Unbounded)))
            .take_while(move |((of, _), _)| namespace.is_empty() || **of == *namespace)
            .map(|(_, stored)| stored)
    }

    /// What [`Store::list`] showed at an earlier revision: the present objects with the changes since undone.
    pub(crate) fn list_at(
        &self,
        storage: &StorageKey,
        namespace: &str,
        after: Option<Key>,
        revision: u64,
    ) -> Result<Vec<Arc<Stored>>, Compacted> {
        let key = |stored: &Stored| (stored.namespace.clone(), stored.name.clone());
        let wanted = |of: &Key| (namespace.is_empty() || *of.0 == *namespace) && after.as_ref().is_none_or(|after| of > after);
        let present = self.list(storage, namespace, after.clone());
        let mut objects: BTreeMap<Key, Arc<Stored>> = present.map(|stored| (key(stored), stored.clone())).collect();
        // Backwards, so that the oldest change decides.
        for event in self.events_after(storage, revision, usize::MAX)?.iter().rev() {
            let key = key(&event.object);
            if !wanted(&key) {
                continue;
            }
            match &event.before {
                Some(before) => objects.insert(key, before.clone()),
                None => objects.remove(&key),
            };
        }
        Ok(objects.into_values().collect())
    }

    /// Writes a new version of an object, new or not, and returns it. The caller has checked that it may.
    pub(crate) fn put(&mut self, storage: &StorageKey, draft: Draft) -> Arc<Stored> {
        self.revision += 1;
        let stored = draft.at(self.revision);
        self.journal(storage, &stored, false);
        let table = self.table(storage);
        let before = table.objects.insert((stored.namespace.clone(), stored.name.clone()), stored.clone());
        let owners_before = before.as_ref().map_or(&[][..], |before| &before.owners);
        // A new owner may be gone already.
        let collects = stored.is_deleting || *stored.owners != *owners_before;
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        table.record(Event { change, object: stored.clone(), before });
        if collects {
            self.last_removal = self.revision;
        }
        self.any_change.send_replace(self.revision);
        stored
    }

    /// Removes an object; `last` is its final state.
    pub(crate) fn remove(&mut self, storage: &StorageKey, last: Value) -> Arc<Stored> {
        self.revision += 1;
        self.last_removal = self.revision;
        let stored = Draft::of(last).at(self.revision);
        self.journal(storage, &stored, true);
        let table = self.table(storage);
        let before = table.objects.remove(&(stored.namespace.clone(), stored.name.clone()));
        table.record(Event { change: Change::Deleted, object: stored.clone(), before });
        self.any_change.send_replace(self.revision);
        stored
    }

    /// Events after a revision, in order.
    pub(crate) fn events_after(&self, storage: &StorageKey, revision: u64, limit: usize) -> Result<Vec<Arc<Event>>, Compacted> {
        let Some(table) = self.tables.get(storage) else {
            return if revision < self.floor { Err(Compacted { oldest: self.floor }) } else { Ok(Vec::new()) };
        };
        if revision < table.compacted {
            return Err(Compacted { oldest: table.compacted });
        }
        let start = table.log.partition_point(|event| event.object.revision <= revision);
        Ok(table.log.range(start..).take(limit).cloned().collect())
    }

    /// Tells when a table changes: the receiver holds the revision of its last event.
    pub(crate) fn subscribe(&mut self, storage: &StorageKey) -> watch::Receiver<u64> {
        self.table(storage).head.subscribe()
    }

    /// Tells when anything changes.
    pub(crate) fn subscribe_all(&self) -> watch::Receiver<u64> {
        self.any_change.subscribe()
    }

    /// The revision of the last write that garbage collection must look at.
    pub(crate) fn last_removal(&self) -> u64 {
        self.last_removal
    }
}

/// An object that is ready to be stored, but for its revision. It is made without the store, which is locked only to take it.
#[derive(Debug)]
pub(crate) struct Draft {
    namespace: Box<str>,
    name: Box<str>,
    is_deleting: bool,
    labels: Box<[(Box<str>, Box<str>)]>,
    owners: Box<[Box<str>]>,
    uid: Box<str>,
    api_version: Box<str>,
    /// The object's JSON up to its resourceVersion …
    start: Vec<u8>,
    /// … and from there on.
    end: Vec<u8>,
    head: usize,
}

impl Draft {
    pub(crate) fn of(mut value: Value) -> Self {
        let metadata = &value["metadata"];
        let text = |value: &Value| -> Box<str> { value.as_str().unwrap_or_default().into() };
        let pairs = metadata["labels"].as_object().into_iter().flatten();
        let labels = pairs.filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into()))).collect();
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten().map(|owner| text(&owner["uid"])).collect();
        let (namespace, name, uid) = (text(&metadata["namespace"]), text(&metadata["name"]), text(&metadata["uid"]));
        let is_deleting = object::is_deleting(&value);
        let api_version = text(&value["apiVersion"]);
        let mut start = Vec::with_capacity(512);
        // apiVersion and kind come first. Writing to memory does not fail.
        start.extend_from_slice(b"{\"apiVersion\":");
        let _ = serde_json::to_writer(&mut start, &*api_version);
        start.extend_from_slice(b",\"kind\":");
        let _ = serde_json::to_writer(&mut start, value["kind"].as_str().unwrap_or_default());
        let head = start.len() + 1;
        value["metadata"]["resourceVersion"] = Value::Null;
        let mut split = None;
        for (key, value) in value.as_object().into_iter().flatten() {
            if key == "apiVersion" || key == "kind" {
                continue;
            }
            start.push(b',');
            let _ = serde_json::to_writer(&mut start, key);
            start.push(b':');
            match value.as_object().filter(|_| key == "metadata") {
                Some(metadata) => split = Some(write_metadata(&mut start, metadata)),
                None => {
                    let _ = serde_json::to_writer(&mut start, value);
                }
            }
        }
        start.push(b'}');
        // An object has metadata: its resourceVersion was just put into it.
        let end = split.map(|at| start.split_off(at)).unwrap_or_default();
        Self { namespace, name, is_deleting, labels, owners, uid, api_version, start, end, head }
    }

    fn at(self, revision: u64) -> Arc<Stored> {
        let Self { namespace, name, is_deleting, labels, owners, uid, api_version, start, end, head } = self;
        let number = revision.to_string();
        let mut json = Vec::with_capacity(start.len() + number.len() + end.len());
        json.extend_from_slice(&start);
        json.extend_from_slice(number.as_bytes());
        json.extend_from_slice(&end);
        let (json, tree) = (json.into(), Mutex::default());
        Arc::new(Stored { namespace, name, revision, is_deleting, labels, owners, uid, api_version, json, head, tree })
    }
}

/// Writes an object's metadata with an empty resourceVersion; where its digits belong.
fn write_metadata(out: &mut Vec<u8>, metadata: &Map<String, Value>) -> usize {
    let mut place = out.len();
    for (index, (key, value)) in metadata.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        let _ = serde_json::to_writer(&mut *out, key);
        out.push(b':');
        if key == "resourceVersion" {
            out.push(b'"');
            place = out.len();
            out.push(b'"');
        } else {
            let _ = serde_json::to_writer(&mut *out, value);
        }
    }
    out.push(b'}');
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(namespace: &str, name: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}})
    }

    #[test]
    fn the_revision_goes_where_it_belongs() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"resourceVersion": "\"resourceVersion\":\"\""},
            "metadata": {"annotations": {"resourceVersion": ""}, "name": "a", "resourceVersion": "old", "uid": "u"}});
        let stored = Draft::of(object.clone()).at(17);
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = "17".into();
        assert_eq!(stored.value(), expected);
        assert!(stored.json.starts_with(b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\""));
        assert!(stored.json_without_type().starts_with(b"\"data\""));
    }

    #[test]
    fn lists_are_sorted_and_bounded_by_namespace() {
        let (mut store, pods) = (Store::new(), StorageKey::new("", "pods"));
        for (namespace, name) in [("b", "x"), ("a", "z"), ("a", "y"), ("c", "w")] {
            store.put(&pods, Draft::of(pod(namespace, name)));
        }
        let names = |namespace| store.list(&pods, namespace, None).map(|stored| stored.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(""), ["y", "z", "x", "w"]);
        assert_eq!(names("a"), ["y", "z"]);
        assert_eq!(names("nowhere"), Vec::<String>::new());
    }

    #[test]
    fn the_log_has_every_change_in_order_until_it_is_compacted() {
        let (mut store, pods) = (Store::new(), StorageKey::new("", "pods"));
        let start = store.revision();
        store.put(&pods, Draft::of(pod("a", "x")));
        store.put(&pods, Draft::of(pod("a", "x")));
        store.remove(&pods, pod("a", "x"));
        let changes: Vec<Change> =
            store.events_after(&pods, start, usize::MAX).unwrap().iter().map(|event| event.change).collect();
        assert_eq!(changes, [Change::Added, Change::Modified, Change::Deleted]);
        for _ in 0..LOG_LENGTH {
            store.put(&pods, Draft::of(pod("a", "x")));
        }
        assert!(store.events_after(&pods, start, 1).is_err());
        assert_eq!(store.events_after(&pods, store.revision() - 1, 10).unwrap().len(), 1);
    }
}
