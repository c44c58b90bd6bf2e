//! WebSockets: binary messages whose first byte is a channel's number, or whose bytes are those of another protocol.
//!
//! The first is what `v4.channel.k8s.io` and `v5.channel.k8s.io` mean, the second what kubectl calls tunnelling.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Outgoing, Output, PIECE, Pipe, QUEUE};

/// The message that ends a connection in order; Go's clients take one without a code for a failure.
fn ended() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// The largest message that a peer may send, in bytes.
const MAX_MESSAGE: usize = 4 << 20;

/// The channel whose messages say, in version 5, that the channel they name has ended.
const CLOSE: u8 = 255;

/// The value of `Sec-WebSocket-Accept` for a client's key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key)
}

async fn server<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves `count` numbered channels on a connection that was upgraded. The connection is closed when no [`Output`] is left.
pub async fn channels<S>(io: S, count: u8) -> Vec<Pipe>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let mut inputs = Vec::new();
    let mut pipes = Vec::new();
    for id in 0..count {
        let (sender, input) = mpsc::channel(QUEUE);
        inputs.push(Some(sender));
        pipes.push(Pipe { input, output: Output { id: id.into(), queue: queue.clone() } });
    }
    let (sink, stream) = server(io).await.split();
    tokio::spawn(async move {
        // A client that is gone takes both directions with it; one that was told everything is closed.
        tokio::select! {
            () = receive(stream, inputs) => {}
            () = send(sink, outgoing) => {}
        }
    });
    pipes
}

async fn receive<T>(mut stream: T, mut inputs: Vec<Option<mpsc::Sender<Bytes>>>)
where
    T: futures_util::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let mut data = match message {
            Message::Binary(data) if !data.is_empty() => data,
            Message::Close(_) => return,
            _ => continue,
        };
        match (data.split_to(1)[0], data.first()) {
            (CLOSE, Some(channel)) => {
                if let Some(input) = inputs.get_mut(usize::from(*channel)) {
                    *input = None;
                }
            }
            (channel, Some(_)) => {
                if let Some(Some(input)) = inputs.get(usize::from(channel)) {
                    // A program that no longer reads loses what comes; the other channels go on.
                    let _ = input.send(data).await;
                }
            }
            (_, None) => {}
        }
    }
}

async fn send<T>(mut sink: T, mut outgoing: mpsc::Receiver<Outgoing>)
where
    T: futures_util::Sink<Message> + Unpin,
{
    while let Some(next) = outgoing.recv().await {
        let Outgoing::Data(id, data) = next else { continue };
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(u8::try_from(id).unwrap_or(CLOSE));
        message.extend_from_slice(&data);
        if sink.send(Message::Binary(message.freeze())).await.is_err() {
            return;
        }
    }
    let _ = sink.send(ended()).await;
    let _ = sink.close().await;
}

/// Makes the messages of a WebSocket one stream of bytes in each direction.
pub async fn tunnel<S>(io: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(2 * PIECE);
    let (mut sink, mut stream) = server(io).await.split();
    let (mut reader, mut writer) = tokio::io::split(ours);
    tokio::spawn(async move {
        let to_peer = async {
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                match reader.read_buf(&mut piece).await {
                    Ok(1..) if sink.send(Message::Binary(piece.freeze())).await.is_ok() => {}
                    _ => break,
                }
            }
            let _ = sink.send(ended()).await;
        };
        let from_peer = async {
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(data) if writer.write_all(&data).await.is_err() => return,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            let _ = writer.shutdown().await;
        };
        tokio::select! { () = to_peer => {}, () = from_peer => {} }
    });
    theirs
}
