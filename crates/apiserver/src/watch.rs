//! Watching: a cursor into a table's event log.
//!
//! A watcher first shows the present objects if it was opened without a revision (or with `sendInitialEvents`, then a
//! marked bookmark follows), then every later change once and in order. Objects that begin or cease to match its selectors
//! are shown as added or deleted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kubeapi::{RequestInfo, Status};
use tokio::sync::watch;

use crate::core::Core;
use crate::read::{Filter, too_large};
use crate::resource::{Resource, StorageKey};
use crate::store::{Change, Stored};

/// How many events a watcher takes out of the log at a time.
const BATCH: usize = 256;

/// One line of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// An object that is there, or is new to this watcher.
    Added(Arc<Stored>),
    /// A new version of an object.
    Modified(Arc<Stored>),
    /// An object that is gone, or no longer matches.
    Deleted(Arc<Stored>),
    /// Nothing changed up to this revision; `initial` marks the end of the initial list.
    Bookmark {
        /// The revision.
        revision: u64,
        /// Whether it ends the initial list.
        initial: bool,
    },
}

/// An open watch.
pub struct Watcher {
    core: Arc<Core>,
    storage: StorageKey,
    /// The resource, in the version that was asked for.
    pub resource: Arc<Resource>,
    namespace: String,
    filter: Filter,
    cursor: u64,
    head: watch::Receiver<u64>,
    ready: VecDeque<WatchEvent>,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// When the watch is to end.
    pub timeout: Option<Duration>,
}

pub(crate) fn open(core: Arc<Core>, resource: &Arc<Resource>, info: &RequestInfo) -> Result<Watcher, Status> {
    let query = &info.query;
    let mut filter = Filter::from_query(resource, query)?;
    if !info.name.is_empty() {
        // The old paths name the one object to be watched.
        filter.only(&info.name);
    }
    let bookmarks = query.flag("allowWatchBookmarks");
    crate::options::check_list(query, true)?;
    let initial_events = query.get("sendInitialEvents").map(|value| value == "true" || value == "1");
    let storage = resource.storage();
    let namespace = if resource.namespaced { info.namespace.clone() } else { String::new() };
    let wanted: Option<u64> = match query.get("resourceVersion") {
        None | Some("" | "0") => None,
        // The real server answers 500 here, where a list answers 400.
        Some(text) => Some(text.parse().map_err(|_| {
            let message =
                format!("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax");
            Status::new(500, message).with_reason("")
        })?),
    };
    let mut state = core.write();
    let current = state.store.revision();
    if let Some(wanted) = wanted {
        too_large(wanted, current)?;
    }
    let head = state.store.subscribe(&storage);
    let list_first = match initial_events {
        Some(wanted) => wanted,
        None => wanted.is_none(),
    };
    let mut ready = VecDeque::new();
    let cursor = if list_first {
        let present = state.store.list(&storage, &namespace, None).filter(|stored| filter.matches(stored));
        ready.extend(present.cloned().map(WatchEvent::Added));
        if initial_events == Some(true) && bookmarks {
            ready.push_back(WatchEvent::Bookmark { revision: current, initial: true });
        }
        current
    } else {
        wanted.unwrap_or(current)
    };
    drop(state);
    let timeout = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    // 0 is no timeout, as in the real server.
    let timeout = timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Ok(Watcher { core, storage, resource: resource.clone(), namespace, filter, cursor, head, ready, bookmarks, timeout })
}

impl Watcher {
    /// The revision up to which everything was shown.
    pub fn revision(&self) -> u64 {
        self.cursor
    }

    /// What is there to be shown now, possibly nothing.
    ///
    /// # Errors
    /// 410 when the log no longer reaches back to where this watcher is.
    pub fn take(&mut self) -> Result<Vec<WatchEvent>, Status> {
        self.head.borrow_and_update();
        let mut events: Vec<WatchEvent> = self.ready.drain(..).collect();
        loop {
            let batch = self.core.read().store.events_after(&self.storage, self.cursor, BATCH).map_err(|compacted| {
                Status::new(410, format!("too old resource version: {} ({})", self.cursor, compacted.oldest))
            })?;
            let Some(last) = batch.last() else { return Ok(events) };
            self.cursor = last.object.revision;
            for event in &batch {
                if !self.namespace.is_empty() && *event.object.namespace != *self.namespace {
                    continue;
                }
                let now = event.change != Change::Deleted && self.filter.matches(&event.object);
                let before = event.before.as_ref().is_some_and(|before| self.filter.matches(before));
                match (before, now) {
                    (false, true) => events.push(WatchEvent::Added(event.object.clone())),
                    (true, true) => events.push(WatchEvent::Modified(event.object.clone())),
                    (true, false) if event.change == Change::Deleted => events.push(WatchEvent::Deleted(event.object.clone())),
                    // It is there, but not for this watcher, who is shown what he last knew, with the new revision.
                    (true, false) => {
                        let last = event.before.as_ref().unwrap_or(&event.object);
                        events.push(WatchEvent::Deleted(last.at(event.object.revision)));
                    }
                    (false, false) => {}
                }
            }
            if batch.len() < BATCH {
                return Ok(events);
            }
        }
    }

    /// Waits until the resource changed since the last [`Watcher::take`]; never returns once the server is gone.
    pub async fn changed(&mut self) {
        if self.head.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for events and takes them.
    ///
    /// # Errors
    /// See [`Watcher::take`].
    pub async fn next(&mut self) -> Result<Vec<WatchEvent>, Status> {
        loop {
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.changed().await;
        }
    }
}
