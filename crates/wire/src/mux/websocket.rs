//! WebSockets: binary messages whose first byte is a channel's number, or whose bytes are those of another protocol.
//!
//! The first is what `v4.channel.k8s.io` and `v5.channel.k8s.io` mean, the second what kubectl calls tunnelling.

use std::time::Duration;

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

/// How long a client that was told everything may take to close.
const CLOSING: Duration = Duration::from_secs(5);

/// Both directions of a connection, to its end. A client that is gone takes both with it. One that was told everything is read on until
/// it closes (RFC 6455 section 7.1.1): a socket that is closed with unread bytes is reset, and what was told is lost on its way.
async fn until_closed(sending: impl Future<Output = ()>, receiving: impl Future<Output = ()>) {
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        () = &mut receiving => {}
        () = sending => {
            let _ = tokio::time::timeout(CLOSING, receiving).await;
        }
    }
}

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
    tokio::spawn(until_closed(send(sink, outgoing), receive(stream, inputs)));
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
        until_closed(to_peer, from_peer).await;
    });
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is told everything while it still has something to say can say it, and is told that the connection is over.
    #[tokio::test]
    async fn a_client_that_still_sends_is_read_until_it_closes() {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let mut pipes = channels(ours, 2).await;
        assert!(pipes.remove(0).output.send("all").await);
        drop(pipes);
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"\0all".as_slice()));
        // The server has nothing more to do; its side of the connection must still be there.
        tokio::task::yield_now().await;
        for _ in 0..20 {
            client.send(Message::binary(b"\x01more".as_slice())).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(client.next().await.unwrap().unwrap(), ended());
        // The library's answer to that is on its way now, and ends the connection well before the server loses its patience.
        let rest = tokio::time::timeout(CLOSING / 2, client.next()).await.expect("it is closed at once");
        assert!(rest.is_none(), "{rest:?}");
    }
}
