//! One body type for requests and responses on every hop, so that a request can be handed on in memory.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;

/// What a body can fail with. An error in a response body ends the connection (HTTP/1.1) or resets the stream (HTTP/2).
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body of either direction.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// The body without a byte.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body made of the chunks of a stream.
pub fn stream<S>(chunks: S) -> Body
where
    S: futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
{
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A body whose chunks are sent through a channel of `capacity` chunks; it ends when the sender is dropped.
pub fn stream_channel(capacity: usize) -> (mpsc::Sender<Result<Bytes, BodyError>>, Body) {
    let (sender, mut receiver) = mpsc::channel(capacity);
    (sender, stream(futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx))))
}

/// A response of JSON bytes.
pub fn json(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "application/json", bytes)
}

/// A response of plain text.
pub fn text(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", bytes)
}

fn with_type(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// A request's or response's body as it comes from a connection.
pub fn incoming(body: hyper::body::Incoming) -> Body {
    body.map_err(BodyError::from).boxed_unsync()
}

/// Reads what is left of a body and forgets it, `limit` bytes at most. Whoever answers before a client has sent everything
/// should do so first: a connection that is closed with bytes unread is reset, and the client never sees the answer.
pub async fn drain(body: &mut Body, limit: usize) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > limit {
            return;
        }
    }
}

/// Reads a body to its end, `limit` bytes at most.
///
/// # Errors
/// When the body fails or is longer than `limit`.
pub async fn collect(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    collect_from(&mut body, limit).await
}

/// The same, with what was not read left in the body.
///
/// # Errors
/// See [`collect`].
pub async fn collect_from(body: &mut Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut whole: Option<Bytes> = None;
    let mut parts = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.as_ref().map_or(parts.len(), Bytes::len) + data.len() > limit {
            return Err(format!("body is longer than {limit} bytes").into());
        }
        // Most bodies are one frame, which then is not copied.
        match whole.take() {
            None if parts.is_empty() => whole = Some(data),
            first => {
                parts.extend_from_slice(first.as_deref().unwrap_or_default());
                parts.extend_from_slice(&data);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| parts.freeze()))
}
