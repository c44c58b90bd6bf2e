//! Several byte streams over one upgraded connection: SPDY/3.1, and the numbered channels of a WebSocket.
//!
//! Whoever uses the streams sees a [`Pipe`] and not the protocol that carries it. Queues are short: a peer that does not
//! read makes the other end wait, nothing piles up.

pub mod spdy;
pub mod websocket;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How many pieces may wait in a direction of a stream.
const QUEUE: usize = 16;

/// The largest piece that is read from a local stream or handed to one, in bytes.
const PIECE: usize = 32 * 1024;

/// What the sending half of a connection is told.
#[derive(Debug)]
enum Outgoing {
    /// The peer's stream was accepted.
    Accept(u32),
    Data(u32, Bytes),
    /// Nothing more comes on this stream.
    End(u32),
    /// An answer of the protocol itself, as it goes on the wire.
    Raw(Bytes),
}

/// One byte stream in both directions.
#[derive(Debug)]
pub struct Pipe {
    /// What the peer sends; it ends when the peer has no more.
    pub input: mpsc::Receiver<Bytes>,
    /// What the peer receives.
    pub output: Output,
}

/// The sending direction of a [`Pipe`]. Dropping it does not end the stream; [`Output::end`] does.
#[derive(Clone, Debug)]
pub struct Output {
    id: u32,
    queue: mpsc::Sender<Outgoing>,
}

impl Output {
    /// Sends a piece; false when the connection is gone.
    pub async fn send(&self, data: impl Into<Bytes>) -> bool {
        self.queue.send(Outgoing::Data(self.id, data.into())).await.is_ok()
    }

    /// Tells the peer that nothing more comes.
    pub async fn end(self) {
        let _ = self.queue.send(Outgoing::End(self.id)).await;
    }

    /// Sends what a reader yields until it ends.
    pub async fn copy_from(&self, mut reader: impl AsyncRead + Unpin) {
        loop {
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            match reader.read_buf(&mut piece).await {
                Ok(1..) if self.send(piece).await => {}
                _ => return,
            }
        }
    }
}

/// Writes what the peer sends until it ends, then shuts the writer.
pub async fn copy_to(input: &mut mpsc::Receiver<Bytes>, mut writer: impl AsyncWrite + Unpin) {
    while let Some(piece) = input.recv().await {
        if writer.write_all(&piece).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}
