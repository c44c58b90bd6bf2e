//! Container logs: one file a container run, kept after its end, served through the pods/log subresource.
//!
//! A line is stored as `RFC3339NANO MESSAGE`. A full disk loses lines, never the container.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http::{Response, StatusCode};
use jiff::Timestamp;
use kubeapi::{Query, Status, object};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::sync::watch;
use wire::Body;

/// Where lines go. A run that says nothing has no file: there may be more containers than files may be open.
enum Sink {
    Silent,
    Open(File),
    /// It cannot be written, which was said, or the run has ended.
    Closed,
}

struct Run {
    path: PathBuf,
    file: Mutex<Sink>,
    /// Bytes written; closed when the container ended.
    length: watch::Sender<u64>,
    ended: watch::Sender<bool>,
}

/// Writes one container run's log.
#[derive(Clone)]
pub struct LogWriter(Option<Arc<Run>>);

impl LogWriter {
    /// A writer whose lines go nowhere.
    pub fn discard() -> Self {
        Self(None)
    }

    /// Appends one line, without its newline.
    pub fn line(&self, line: &str) {
        let Some(run) = &self.0 else { return };
        let stamped = format!("{} {line}\n", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ"));
        let mut file = run.file.lock().expect("no panic while held");
        if matches!(*file, Sink::Silent) {
            *file = match run.create() {
                Ok(open) => Sink::Open(open),
                Err(error) => {
                    tracing::warn!(%error, path = %run.path.display(), "cannot keep a log");
                    Sink::Closed
                }
            };
        }
        let Sink::Open(open) = &mut *file else { return };
        match open.write_all(stamped.as_bytes()) {
            Ok(()) => run.length.send_modify(|length| *length += stamped.len() as u64),
            Err(error) => {
                tracing::warn!(%error, path = %run.path.display(), "log line lost");
            }
        }
    }

    pub(crate) fn end(&self) {
        if let Some(run) = &self.0 {
            *run.file.lock().expect("no panic while held") = Sink::Closed;
            run.ended.send_replace(true);
        }
    }
}

/// By pod uid and container: the runs, the last one is the current one.
type Runs = HashMap<(String, String), Vec<Arc<Run>>>;

/// The logs of all pods of a lab.
pub struct LogStore {
    folder: PathBuf,
    runs: Mutex<Runs>,
}

impl LogStore {
    /// Keeps logs below a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, runs: Mutex::default() }
    }

    /// Opens the log of a container's next run.
    pub(crate) fn open(&self, pod: &Value, container: &str) -> LogWriter {
        let folder =
            self.folder.join(format!("{}_{}_{}", object::namespace(pod), object::name(pod), object::uid(pod))).join(container);
        let mut runs = self.runs.lock().expect("no panic while held");
        let of = runs.entry((object::uid(pod).to_owned(), container.to_owned())).or_default();
        let path = folder.join(format!("{}.log", of.len()));
        let run = Arc::new(Run {
            path,
            file: Mutex::new(Sink::Silent),
            length: watch::Sender::new(0),
            ended: watch::Sender::new(false),
        });
        of.push(run.clone());
        LogWriter(Some(run))
    }

    fn find(&self, pod: &Value, container: &str, previous: bool) -> Option<Arc<Run>> {
        let runs = self.runs.lock().expect("no panic while held");
        let of = runs.get(&(object::uid(pod).to_owned(), container.to_owned()))?;
        let back = if previous { 2 } else { 1 };
        of.len().checked_sub(back).and_then(|index| of.get(index)).cloned()
    }
}

/// Which lines a client wants, and how.
struct Selection {
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit: Option<usize>,
}

impl Selection {
    fn from_query(query: &Query) -> Self {
        let number = |key: &str| query.get(key).and_then(|text| text.parse::<i64>().ok());
        let since = number("sinceSeconds")
            .map(|seconds| Timestamp::now() - jiff::SignedDuration::from_secs(seconds))
            .or_else(|| query.get("sinceTime").and_then(|text| text.parse().ok()));
        Self {
            timestamps: query.flag("timestamps"),
            since,
            tail: number("tailLines").and_then(|lines| lines.try_into().ok()),
            limit: number("limitBytes").and_then(|bytes| bytes.try_into().ok()),
        }
    }

    /// The selected part of a log, as the client is to see it.
    fn apply(&self, log: &str, tail: Option<usize>) -> String {
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| match (self.since, line.split_once(' ')) {
                (Some(since), Some((time, _))) => time.parse::<Timestamp>().is_ok_and(|time| time >= since),
                _ => true,
            })
            .collect();
        let from = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        let mut out = String::new();
        for line in &lines[from..] {
            let text = if self.timestamps { line } else { line.split_once(' ').map_or(*line, |(_, text)| text) };
            out.push_str(text);
            out.push('\n');
        }
        if let Some(limit) = self.limit {
            let mut end = limit.min(out.len());
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
        }
        out
    }
}

impl LogStore {
    /// Answers a request for a container's log.
    pub(crate) async fn answer(&self, pod: &Value, container: &str, query: &Query) -> Result<Response<Body>, Status> {
        let previous = query.flag("previous");
        let Some(run) = self.find(pod, container, previous) else {
            let name = object::name(pod);
            let message = if previous {
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
            } else {
                format!("container \"{container}\" in pod \"{name}\" is waiting to start: ContainerCreating")
            };
            return Err(Status::bad_request(message));
        };
        let selection = Selection::from_query(query);
        let log = tokio::fs::read_to_string(&run.path).await.unwrap_or_default();
        let first = selection.apply(&log, selection.tail);
        if !query.flag("follow") {
            return Ok(wire::text(StatusCode::OK, first));
        }
        let (sender, body) = wire::stream_channel(16);
        tokio::spawn(async move {
            if !first.is_empty() && sender.send(Ok(first.into())).await.is_err() {
                return;
            }
            let following = run.follow(log.len(), |lines| {
                let (sender, next) = (&sender, selection.apply(&lines, None));
                async move { next.is_empty() || sender.send(Ok(next.into())).await.is_ok() }
            });
            tokio::select! {
                () = following => {}
                () = sender.closed() => {}
            }
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
        Ok(response)
    }

    /// What a running container writes from now on, without times. It ends with the container.
    pub(crate) fn attach(&self, pod: &Value, container: &str) -> Option<impl AsyncRead + Send + use<>> {
        let run = self.find(pod, container, false).filter(|run| !*run.ended.borrow())?;
        let from = usize::try_from(*run.length.borrow()).unwrap_or_default();
        let (reader, mut writer) = tokio::io::simplex(64 * 1024);
        tokio::spawn(async move {
            let selection = Selection { timestamps: false, since: None, tail: None, limit: None };
            let writer = tokio::sync::Mutex::new(&mut writer);
            run.follow(from, |lines| {
                let (writer, text) = (&writer, selection.apply(&lines, None));
                async move { writer.lock().await.write_all(text.as_bytes()).await.is_ok() }
            })
            .await;
        });
        Some(reader)
    }
}

impl Run {
    fn create(&self) -> std::io::Result<File> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        OpenOptions::new().create(true).append(true).open(&self.path)
    }

    /// Hands over what is written after `shown` bytes, in whole lines, until the container has ended or `take` says no.
    async fn follow<F: Future<Output = bool>>(&self, mut shown: usize, mut take: impl FnMut(String) -> F) {
        let mut length = self.length.subscribe();
        let mut ended = self.ended.subscribe();
        loop {
            let over = *ended.borrow();
            let log = tokio::fs::read_to_string(&self.path).await.unwrap_or_default();
            // Lines are written whole, so what is new begins at a line's start.
            let next = log.get(shown..).unwrap_or_default().to_owned();
            shown = log.len();
            if !next.is_empty() {
                if !take(next).await {
                    return;
                }
                continue;
            }
            if over {
                return;
            }
            tokio::select! {
                _ = length.changed() => {}
                _ = ended.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_since_limit_and_timestamps() {
        let log = "2026-01-01T00:00:00.000000001Z a\n2026-01-01T00:00:01.000000001Z b c\n2026-01-01T00:00:02Z d\n";
        for (query, expected) in [
            ("", "a\nb c\nd\n"),
            ("tailLines=1", "d\n"),
            ("sinceTime=2026-01-01T00:00:01Z", "b c\nd\n"),
            ("limitBytes=3", "a\nb"),
            ("tailLines=1&timestamps=true", "2026-01-01T00:00:02Z d\n"),
        ] {
            let selection = Selection::from_query(&Query::parse(query));
            assert_eq!(selection.apply(log, selection.tail), expected, "{query}");
        }
    }
}
