//! Answers of the API server on their way to the client, made worse.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wire::{Body, BodyError, ConnectionInfo};

use crate::rule::{BodyEffect, BreakEffect, WatchEffect};

/// The longest body that is read to be changed, in bytes; a longer one is passed as it is.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// How many pieces of a stream wait for the client.
const QUEUE: usize = 16;

type Sender = mpsc::Sender<Result<Bytes, BodyError>>;

/// How long the head may take to go out before the answer is broken off all the same.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// Waits until the connection has taken all that was sent, and has written after that. What breaks off must not overtake what it
/// follows: HTTP/2 forgets frames that wait when a stream is reset.
async fn gone_out(connection: &ConnectionInfo, sender: &Sender, mut before: u64) {
    let deadline = tokio::time::Instant::now() + HEAD_DEADLINE;
    let waits = || !sender.is_closed() && tokio::time::Instant::now() < deadline;
    while sender.capacity() < sender.max_capacity() && waits() {
        before = connection.written();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while connection.written() == before && waits() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What was written may have been of another stream; the next turns of the connection have ours.
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Lets some of the body through and then breaks off: with a reset of the connection, or (HTTP/1.1) its end in order.
pub(crate) fn cut(response: Response<Body>, broken: BreakEffect, connection: ConnectionInfo, reset: bool) -> Response<Body> {
    let mut left = broken.body().unwrap_or(0);
    let before = connection.written();
    let (head, mut body) = response.into_parts();
    let (sender, cut) = wire::stream_channel(QUEUE);
    tokio::spawn(async move {
        while left > 0 {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = sender.closed() => return,
            };
            let Some(Ok(frame)) = frame else { break };
            let Ok(data) = frame.into_data() else { continue };
            let fits = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            left -= fits as u64;
            if fits > 0 && sender.send(Ok(data.slice(..fits))).await.is_err() {
                return;
            }
        }
        gone_out(&connection, &sender, before).await;
        if reset {
            connection.reset_on_close();
        }
        if broken.connection {
            connection.break_off();
            sender.closed().await;
            return;
        }
        let _ = sender.send(Err("the answer is cut off".into())).await;
    });
    Response::from_parts(head, cut)
}

/// Hands the body on at this rate, in pieces of a twentieth of a second.
pub(crate) fn throttle(response: Response<Body>, bytes_per_second: u64) -> Response<Body> {
    let (head, mut body) = response.into_parts();
    let (sender, slow) = wire::stream_channel(1);
    let piece = usize::try_from(bytes_per_second / 20).unwrap_or(usize::MAX).max(1);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = sender.closed() => return,
            };
            let Some(frame) = frame else { return };
            let mut data = match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            };
            while !data.is_empty() {
                let next = data.split_to(piece.min(data.len()));
                let pause = Duration::from_secs_f64(next.len() as f64 / bytes_per_second as f64);
                tokio::time::sleep(pause).await;
                if sender.send(Ok(next)).await.is_err() {
                    return;
                }
            }
        }
    });
    Response::from_parts(head, slow)
}

/// The answer with another body.
pub(crate) async fn replace(response: Response<Body>, effect: &BodyEffect) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let whole = match effect {
        BodyEffect::Empty | BodyEffect::Html => Bytes::new(),
        BodyEffect::Garbled | BodyEffect::Doubled => match wire::collect(body, MAX_BODY).await {
            Ok(bytes) => bytes,
            Err(_) => return Response::from_parts(head, wire::empty()),
        },
    };
    let changed = match effect {
        BodyEffect::Empty => Bytes::new(),
        BodyEffect::Doubled => [&whole[..], &whole[..]].concat().into(),
        BodyEffect::Garbled => {
            // Half of it, and then what no JSON has.
            let mut text = whole[..whole.len() / 2].to_vec();
            text.extend_from_slice(b"}]\xff{{");
            text.into()
        }
        BodyEffect::Html => {
            head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Bytes::from_static(b"<html><body><h1>It works!</h1></body></html>\n")
        }
    };
    head.headers.remove(header::CONTENT_LENGTH);
    if !matches!(effect, BodyEffect::Doubled) {
        // What stands there now is not compressed.
        head.headers.remove(header::CONTENT_ENCODING);
    }
    Response::from_parts(head, wire::full(changed))
}

/// The events of a watch, changed; an answer that is no stream of events is passed.
pub(crate) fn watch(response: Response<Body>, effect: WatchEffect) -> Response<Body> {
    let is_json =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"application/json"));
    if response.status() != StatusCode::OK || !is_json {
        return response;
    }
    let (head, body) = response.into_parts();
    let (sender, changed) = if let WatchEffect::Delay(seconds) = effect {
        late(Duration::from_secs_f64(seconds))
    } else {
        wire::stream_channel(QUEUE)
    };
    tokio::spawn(async move {
        let mut events = Events { effect, shown: 0, kept: None, sender };
        let mut rest = BytesMut::new();
        let mut frames = body.into_data_stream();
        let end = events.effect.seconds().map(|after| tokio::time::Instant::now() + Duration::from_secs_f64(after));
        loop {
            let data = tokio::select! {
                data = frames.next() => data,
                () = events.sender.closed() => return,
                () = at(end) => {
                    if matches!(events.effect, WatchEffect::StallAfterSeconds(_)) {
                        events.sender.closed().await;
                    }
                    return;
                }
            };
            let Some(Ok(data)) = data else { break };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                if !events.take(rest.split_to(end + 1).freeze()).await {
                    return;
                }
            }
        }
        if let Some(kept) = events.kept.take() {
            let _ = events.sender.send(Ok(kept)).await;
        }
    });
    Response::from_parts(head, changed)
}

/// How many events wait for their time.
const LATE: usize = 4096;

/// A stream whose pieces come out each so much later than it went in.
fn late(by: Duration) -> (Sender, Body) {
    let (sender, mut waiting) = mpsc::channel::<Result<Bytes, BodyError>>(QUEUE);
    let (timed, mut due) = mpsc::channel(LATE);
    tokio::spawn(async move {
        while let Some(piece) = waiting.recv().await {
            let sent = tokio::select! {
                sent = timed.send((tokio::time::Instant::now() + by, piece)) => sent,
                () = timed.closed() => return,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let (out, body) = wire::stream_channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = due.recv() => next,
                () = out.closed() => return,
            };
            let Some((time, piece)) = next else { return };
            tokio::time::sleep_until(time).await;
            if out.send(piece).await.is_err() {
                return;
            }
        }
    });
    (sender, body)
}

/// Waits for an instant, or for ever.
async fn at(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

struct Events {
    effect: WatchEffect,
    /// Events that were shown; bookmarks do not count.
    shown: u64,
    /// The first of two that change places.
    kept: Option<Bytes>,
    sender: Sender,
}

impl Events {
    async fn send(&self, line: impl Into<Bytes>) -> bool {
        self.sender.send(Ok(line.into())).await.is_ok()
    }

    /// Hands one event on; false at the end of the stream.
    async fn take(&mut self, line: Bytes) -> bool {
        let is_bookmark = line.starts_with(b"{\"type\":\"BOOKMARK\"");
        let counts = !is_bookmark;
        let is_over = |most: u64| counts && self.shown >= most;
        match self.effect {
            WatchEffect::EndAfter(most) if is_over(most) => return false,
            WatchEffect::StallAfter(most) if is_over(most) => {
                self.sender.closed().await;
                return false;
            }
            WatchEffect::ExpireAfter(most) if is_over(most) => {
                let status = kubeapi::Status::new(410, "too old resource version: injected").body();
                let gone = json!({"type": "ERROR", "object": status});
                self.send(format!("{gone}\n")).await;
                return false;
            }
            WatchEffect::NoBookmarks if is_bookmark => return true,
            WatchEffect::Reorder if counts => {
                let Some(first) = self.kept.take() else {
                    self.kept = Some(line);
                    return true;
                };
                self.shown += 2;
                return self.send(line).await && self.send(first).await;
            }
            WatchEffect::Rewind(steps) => {
                self.shown += 1;
                return self.send(rewound(&line, steps)).await;
            }
            WatchEffect::EndAfter(_)
            | WatchEffect::StallAfter(_)
            | WatchEffect::ExpireAfter(_)
            | WatchEffect::EndAfterSeconds(_)
            | WatchEffect::StallAfterSeconds(_)
            | WatchEffect::NoBookmarks
            | WatchEffect::Duplicate
            | WatchEffect::Reorder
            | WatchEffect::Delay(_) => {}
        }
        self.shown += u64::from(counts);
        let twice = counts && self.effect == WatchEffect::Duplicate;
        self.send(line.clone()).await && (!twice || self.send(line).await)
    }
}

/// An event whose object has an older resourceVersion.
fn rewound(line: &[u8], steps: u64) -> Vec<u8> {
    let Ok(mut event) = serde_json::from_slice::<Value>(line) else { return line.to_vec() };
    let version = &mut event["object"]["metadata"]["resourceVersion"];
    if let Some(number) = version.as_str().and_then(|text| text.parse::<u64>().ok()) {
        *version = number.saturating_sub(steps).max(1).to_string().into();
    }
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as the API server writes them: the type first.
    fn line(kind: &str, version: u64) -> String {
        format!("{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n")
    }

    /// What a client sees of five events and a bookmark, cut at odd places, as `TYPE VERSION`.
    async fn shown(effect: WatchEffect) -> Vec<String> {
        let all: String =
            [line("ADDED", 11), line("ADDED", 12), line("BOOKMARK", 13), line("MODIFIED", 14), line("DELETED", 15)].concat();
        let (sender, body) = wire::stream_channel(4);
        tokio::spawn(async move {
            for piece in all.as_bytes().chunks(37) {
                if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                    return;
                }
            }
        });
        let changed = watch(Response::new(body), effect);
        let read = wire::collect(changed.into_body(), 1 << 20);
        let Ok(bytes) = tokio::time::timeout(Duration::from_millis(300), read).await else { return vec!["silence".to_owned()] };
        let text = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        text.lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).unwrap();
                let version = event["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                format!(
                    "{} {}",
                    event["type"].as_str().unwrap(),
                    if version.is_empty() { event["object"]["code"].to_string() } else { version }
                )
            })
            .collect()
    }

    #[tokio::test]
    async fn events_are_changed_as_the_effect_says() {
        let all = ["ADDED 11", "ADDED 12", "BOOKMARK 13", "MODIFIED 14", "DELETED 15"];
        for (effect, expected) in [
            (WatchEffect::EndAfter(2), vec!["ADDED 11", "ADDED 12", "BOOKMARK 13"]),
            (WatchEffect::EndAfter(0), vec![]),
            (WatchEffect::ExpireAfter(1), vec!["ADDED 11", "ERROR 410"]),
            (WatchEffect::StallAfter(1), vec!["silence"]),
            (WatchEffect::NoBookmarks, vec!["ADDED 11", "ADDED 12", "MODIFIED 14", "DELETED 15"]),
            (
                WatchEffect::Duplicate,
                vec![
                    "ADDED 11",
                    "ADDED 11",
                    "ADDED 12",
                    "ADDED 12",
                    "BOOKMARK 13",
                    "MODIFIED 14",
                    "MODIFIED 14",
                    "DELETED 15",
                    "DELETED 15",
                ],
            ),
            (WatchEffect::Reorder, vec!["ADDED 12", "ADDED 11", "BOOKMARK 13", "DELETED 15", "MODIFIED 14"]),
            (WatchEffect::Delay(0.001), all.to_vec()),
            (WatchEffect::EndAfterSeconds(30.0), all.to_vec()),
            (WatchEffect::Rewind(5), vec!["ADDED 6", "ADDED 7", "BOOKMARK 8", "MODIFIED 9", "DELETED 10"]),
        ] {
            assert_eq!(shown(effect.clone()).await, expected, "{effect:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn streams_end_or_fall_silent_after_a_time() {
        for (effect, ends) in [(WatchEffect::EndAfterSeconds(3.0), true), (WatchEffect::StallAfterSeconds(3.0), false)] {
            let (sender, body) = wire::stream_channel(4);
            let mut changed = watch(Response::new(body), effect).into_body().into_data_stream();
            sender.send(Ok(Bytes::from(line("ADDED", 1)))).await.unwrap();
            assert!(changed.next().await.is_some());
            let began = tokio::time::Instant::now();
            let next = tokio::time::timeout(Duration::from_secs(60), changed.next()).await;
            assert_eq!(next.is_ok(), ends);
            assert_eq!(began.elapsed().as_secs(), if ends { 3 } else { 60 });
        }
    }

    #[tokio::test]
    async fn bodies_are_replaced_and_slow_ones_are_whole() {
        let answer = || wire::json(StatusCode::OK, r#"{"kind":"List","items":[]}"#);
        for (effect, expected) in [
            (BodyEffect::Empty, String::new()),
            (BodyEffect::Doubled, r#"{"kind":"List","items":[]}"#.repeat(2)),
            (BodyEffect::Html, "<html><body><h1>It works!</h1></body></html>\n".to_owned()),
        ] {
            let changed = replace(answer(), &effect).await;
            let bytes = wire::collect(changed.into_body(), 1 << 10).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
        }
        let garbled = wire::collect(replace(answer(), &BodyEffect::Garbled).await.into_body(), 1 << 10).await.unwrap();
        assert!(serde_json::from_slice::<Value>(&garbled).is_err());
        let slow = wire::collect(throttle(answer(), 10_000).into_body(), 1 << 10).await.unwrap();
        assert_eq!(slow, r#"{"kind":"List","items":[]}"#);
    }
}
