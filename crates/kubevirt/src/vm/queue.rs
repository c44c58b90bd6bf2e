//! A work queue with client-go's metrics: what waits is there once, what is worked on is not worked on twice at a time, what comes
//! meanwhile is done again (client-go `util/workqueue`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::Registry;
use tokio::sync::Notify;

/// First pause after a failure and the longest (client-go `DefaultControllerRateLimiter`: 5 ms, 1000 s, factor 2).
const BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(1000);

#[derive(Default)]
struct State {
    waiting: VecDeque<(String, Instant)>,
    known: HashSet<String>,
    working: HashMap<String, Instant>,
    again: HashSet<String>,
    failures: HashMap<String, u32>,
}

/// What came of the work on an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is as it should be.
    Done,
    /// It is to be looked at again after this time.
    Again(Duration),
    /// It failed and is tried again, later each time.
    Failed,
}

pub(crate) struct WorkQueue {
    /// Nothing for a queue without metrics.
    name: Option<String>,
    registry: Arc<Registry>,
    state: Mutex<State>,
    filled: Notify,
}

impl WorkQueue {
    pub(crate) fn new(name: &str, known: &[String], registry: Arc<Registry>) -> Arc<Self> {
        let name = known.iter().any(|known| known == name).then(|| name.to_owned());
        Arc::new(Self { name, registry, state: Mutex::default(), filled: Notify::new() })
    }

    fn metric(&self, tell: impl FnOnce(&Registry, &[(&str, &str)])) {
        if let Some(name) = &self.name {
            tell(&self.registry, &[("name", name)]);
        }
    }

    fn depth(&self, state: &State) {
        let depth = state.waiting.len() as f64;
        self.metric(|registry, labels| registry.set("kubevirt_workqueue_depth", labels, depth));
    }

    /// Puts an item in, unless it waits already.
    pub(crate) fn add(&self, key: String) {
        let mut state = self.state.lock().expect("no panic while held");
        if state.working.contains_key(&key) {
            state.again.insert(key);
            return;
        }
        if state.known.insert(key.clone()) {
            state.waiting.push_back((key, Instant::now()));
            self.metric(|registry, labels| registry.add("kubevirt_workqueue_adds_total", labels, 1.0));
            self.depth(&state);
            self.filled.notify_one();
        }
    }

    /// Puts an item in after a time.
    fn add_after(self: &Arc<Self>, key: String, after: Duration) {
        let queue = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(queue) = queue.upgrade() {
                queue.add(key);
            }
        });
    }

    async fn next(&self) -> String {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state.lock().expect("no panic while held");
                if let Some((key, since)) = state.waiting.pop_front() {
                    state.known.remove(&key);
                    state.working.insert(key.clone(), Instant::now());
                    let waited = since.elapsed().as_secs_f64();
                    self.metric(|registry, labels| registry.observe("kubevirt_workqueue_queue_duration_seconds", labels, waited));
                    self.depth(&state);
                    if !state.waiting.is_empty() {
                        self.filled.notify_one();
                    }
                    return key;
                }
            }
            filled.await;
        }
    }

    fn done(self: &Arc<Self>, key: String, outcome: &Outcome) {
        let (again, failures) = {
            let mut state = self.state.lock().expect("no panic while held");
            if let Some(since) = state.working.remove(&key) {
                let took = since.elapsed().as_secs_f64();
                self.metric(|registry, labels| registry.observe("kubevirt_workqueue_work_duration_seconds", labels, took));
            }
            let failures = match outcome {
                Outcome::Failed => {
                    let failures = state.failures.entry(key.clone()).or_default();
                    *failures += 1;
                    *failures
                }
                Outcome::Done | Outcome::Again(_) => {
                    state.failures.remove(&key);
                    0
                }
            };
            (state.again.remove(&key), failures)
        };
        match outcome {
            Outcome::Done if again => self.add(key),
            Outcome::Done => {}
            Outcome::Again(after) => {
                if again {
                    self.add(key.clone());
                }
                self.add_after(key, *after);
            }
            Outcome::Failed => {
                self.metric(|registry, labels| registry.add("kubevirt_workqueue_retries_total", labels, 1.0));
                let pause = BACKOFF.saturating_mul(1 << failures.min(20).saturating_sub(1)).min(MAX_BACKOFF);
                self.add_after(key, pause);
            }
        }
    }

    /// Works on items for ever, so many at a time.
    pub(crate) async fn work<F, Fut>(self: Arc<Self>, workers: usize, work: F)
    where
        F: Fn(String) -> Fut,
        Fut: Future<Output = Outcome>,
    {
        let worker = || async {
            loop {
                let key = self.next().await;
                let outcome = work(key.clone()).await;
                self.done(key, &outcome);
            }
        };
        futures_util::future::join_all((0..workers).map(|_| worker())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use metrics::{Family, Kind};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_is_worked_on_once_at_a_time_and_again_when_it_changed() {
        let registry = Arc::new(Registry::default());
        for name in ["kubevirt_workqueue_adds_total", "kubevirt_workqueue_retries_total"] {
            registry.declare(Family {
                name: name.to_owned(),
                kind: Kind::Counter,
                labels: vec!["name".to_owned()],
                ..Family::default()
            });
        }
        let queue = WorkQueue::new("q", &["q".to_owned()], registry.clone());
        let (at_once, worked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, count) = (at_once.clone(), worked.clone());
        let worker = tokio::spawn(queue.clone().work(4, move |_| {
            let (seen, count) = (seen.clone(), count.clone());
            async move {
                assert_eq!(seen.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                tokio::time::sleep(Duration::from_millis(100)).await;
                seen.fetch_sub(1, Ordering::SeqCst);
                // The second time it fails, the third it is well.
                if count.fetch_add(1, Ordering::SeqCst) == 1 { Outcome::Failed } else { Outcome::Done }
            }
        }));
        queue.add("a".to_owned());
        queue.add("a".to_owned());
        tokio::time::sleep(Duration::from_millis(50)).await;
        queue.add("a".to_owned());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(worked.load(Ordering::SeqCst), 3);
        let page = registry.page();
        assert!(
            page.contains("kubevirt_workqueue_adds_total{name=\"q\"} 3") && page.contains("retries_total{name=\"q\"} 1"),
            "{page}"
        );
        worker.abort();
    }
}
