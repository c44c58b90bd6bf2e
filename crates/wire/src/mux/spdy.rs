//! The server's side of SPDY/3.1 as far as Kubernetes' clients use it: streams that the client opens, data, ends and pings.
//!
//! Frames and header blocks are those of the SPDY protocol draft 3.1, sections 2.2 and 2.6; flow control, settings and
//! priorities are read and ignored, as github.com/moby/spdystream does.

use std::collections::HashMap;
use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{Outgoing, Output, PIECE, Pipe, QUEUE};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FIN: u8 = 1;

/// The largest control frame that is read, and the most that its headers may be when unpacked, in bytes.
const MAX_CONTROL: usize = 64 * 1024;

/// How many streams a client may have open at once.
const MAX_STREAMS: usize = 1024;

/// The names and values that both sides' compressors begin with (section 2.6.10.1): words with their length before them …
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age \
allow authorization cache-control connection content-base content-encoding content-language content-length content-location \
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range \
if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after \
server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version \
HTTP/1.1 url public set-cookie keep-alive origin";

/// … and a text.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 \
Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, \
Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        out.put_u32(u32::try_from(word.len()).unwrap_or_default());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(TEXT.as_bytes());
    out
}

/// A stream's headers, names in lower case.
pub type Headers = HashMap<String, String>;

/// The streams that a client opens, as they come. The connection is closed when this and all pipes are gone.
pub struct Session {
    accepted: mpsc::Receiver<(Headers, Pipe)>,
    _queue: mpsc::Sender<Outgoing>,
}

impl Session {
    /// The next stream; `None` when the client has gone.
    pub async fn accept(&mut self) -> Option<(Headers, Pipe)> {
        self.accepted.recv().await
    }
}

/// Serves a connection that was upgraded.
pub fn serve<S>(io: S) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let (accept, accepted) = mpsc::channel(QUEUE);
    let (reader, writer) = tokio::io::split(io);
    let weak = queue.downgrade();
    tokio::spawn(async move {
        tokio::select! {
            result = (Receiver { reader, queue: weak, accept, inputs: HashMap::new() }).run() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "SPDY connection ended");
                }
            }
            _ = send(writer, outgoing) => {}
        }
    });
    Session { accepted, _queue: queue }
}

struct Receiver<R> {
    reader: R,
    /// Weak, so that the connection ends when nobody but us would write on it.
    queue: mpsc::WeakSender<Outgoing>,
    accept: mpsc::Sender<(Headers, Pipe)>,
    inputs: HashMap<u32, mpsc::Sender<Bytes>>,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    let four = bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).ok_or_else(|| malformed("a frame is too short"))?;
    Ok(u32::from_be_bytes(four))
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    async fn run(mut self) -> io::Result<()> {
        let dictionary = dictionary();
        let mut inflate = Decompress::new(true);
        loop {
            let mut head = [0; 8];
            match self.reader.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let first = number(&head, 0)?;
            let flags = head[4];
            let length = usize::try_from(number(&head, 4)? & 0x00ff_ffff).unwrap_or(usize::MAX);
            if first >> 31 == 0 {
                self.data(first, flags, length).await?;
                continue;
            }
            if length > MAX_CONTROL {
                return Err(malformed("a control frame is too long"));
            }
            let mut body = vec![0; length];
            self.reader.read_exact(&mut body).await?;
            let Some(queue) = self.queue.upgrade() else { return Ok(()) };
            match (first & 0xffff) as u16 {
                SYN_STREAM => {
                    let id = number(&body, 0)? & 0x7fff_ffff;
                    let headers = headers(&mut inflate, &dictionary, body.get(10..).unwrap_or_default())?;
                    if self.inputs.len() >= MAX_STREAMS {
                        return Err(malformed("too many streams"));
                    }
                    let (sender, input) = mpsc::channel(QUEUE);
                    if flags & FIN == 0 {
                        self.inputs.insert(id, sender);
                    }
                    let _ = queue.send(Outgoing::Accept(id)).await;
                    let output = Output { id, queue };
                    if self.accept.send((headers, Pipe { input, output })).await.is_err() {
                        return Ok(());
                    }
                }
                HEADERS => {
                    // Nobody asks for them, but the compressor's state goes on with each block.
                    headers(&mut inflate, &dictionary, body.get(4..).unwrap_or_default())?;
                }
                RST_STREAM => {
                    self.inputs.remove(&(number(&body, 0)? & 0x7fff_ffff));
                }
                PING => {
                    let mut pong = BytesMut::with_capacity(12);
                    pong.extend_from_slice(&head);
                    pong.extend_from_slice(&body);
                    let _ = queue.send(Outgoing::Raw(pong.freeze())).await;
                }
                GOAWAY => return Ok(()),
                _ => {}
            }
        }
    }

    /// A data frame, handed on in pieces.
    async fn data(&mut self, id: u32, flags: u8, length: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let mut piece = BytesMut::zeroed(left.min(PIECE));
            self.reader.read_exact(&mut piece).await?;
            left -= piece.len();
            if let Some(input) = self.inputs.get(&id)
                && input.send(piece.freeze()).await.is_err()
            {
                self.inputs.remove(&id);
            }
        }
        if flags & FIN != 0 {
            self.inputs.remove(&id);
        }
        Ok(())
    }
}

/// Unpacks a header block: a count, then names and values, each with its length before it.
fn headers(inflate: &mut Decompress, dictionary: &[u8], packed: &[u8]) -> io::Result<Headers> {
    let mut plain = Vec::with_capacity(MAX_CONTROL);
    let mut used = 0;
    while used < packed.len() {
        let before = inflate.total_in();
        match inflate.decompress_vec(&packed[used..], &mut plain, FlushDecompress::Sync) {
            Err(error) if error.needs_dictionary().is_some() => {
                inflate.set_dictionary(dictionary).map_err(|_| malformed("the headers need another dictionary"))?;
            }
            Err(_) => return Err(malformed("the headers cannot be unpacked")),
            Ok(_) if plain.len() == plain.capacity() => return Err(malformed("the headers are too long")),
            Ok(_) if inflate.total_in() == before => break,
            Ok(_) => {}
        }
        used += usize::try_from(inflate.total_in() - before).unwrap_or(usize::MAX);
    }
    let count = number(&plain, 0)?;
    let mut rest = plain.get(4..).unwrap_or_default();
    let mut word = || -> io::Result<String> {
        let length = usize::try_from(number(rest, 0)?).unwrap_or(usize::MAX);
        let (text, after) = rest[4..].split_at_checked(length).ok_or_else(|| malformed("a header is longer than its block"))?;
        rest = after;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    (0..count).map(|_| Ok((word()?.to_ascii_lowercase(), word()?))).collect()
}

/// The frame that accepts a stream: a reply without headers.
fn reply(deflate: &mut Compress, id: u32) -> BytesMut {
    let mut packed = Vec::with_capacity(64);
    // Four zero bytes and an empty block fit many times.
    let _ = deflate.compress_vec(&0u32.to_be_bytes(), &mut packed, FlushCompress::Sync);
    let mut frame = BytesMut::with_capacity(12 + packed.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(SYN_REPLY);
    frame.put_u32(u32::try_from(packed.len() + 4).unwrap_or_default());
    frame.put_u32(id);
    frame.extend_from_slice(&packed);
    frame
}

fn data_head(id: u32, flags: u8, length: usize) -> [u8; 8] {
    let length = u32::try_from(length).unwrap_or_default() & 0x00ff_ffff;
    let mut head = [0; 8];
    head[..4].copy_from_slice(&id.to_be_bytes());
    head[4..].copy_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
    head
}

async fn send(mut writer: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let mut deflate = Compress::new(Compression::default(), true);
    deflate.set_dictionary(&dictionary()).map_err(io::Error::other)?;
    while let Some(next) = outgoing.recv().await {
        match next {
            Outgoing::Accept(id) => writer.write_all(&reply(&mut deflate, id)).await?,
            Outgoing::Raw(frame) => writer.write_all(&frame).await?,
            Outgoing::End(id) => writer.write_all(&data_head(id, FIN, 0)).await?,
            Outgoing::Data(id, data) => {
                for piece in data.chunks(PIECE) {
                    writer.write_all(&data_head(id, 0, piece.len())).await?;
                    writer.write_all(piece).await?;
                }
            }
        }
        if outgoing.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(deflate: &mut Compress, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len().try_into().unwrap());
        for word in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(word.len().try_into().unwrap());
            plain.extend_from_slice(word.as_bytes());
        }
        let mut packed = Vec::with_capacity(4096);
        deflate.compress_vec(&plain, &mut packed, FlushCompress::Sync).unwrap();
        packed
    }

    fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.put_u16(0x8000 | VERSION);
        frame.put_u16(kind);
        frame.put_u32(u32::from(flags) << 24 | u32::try_from(body.len()).unwrap());
        frame.extend_from_slice(body);
        frame
    }

    fn syn_stream(deflate: &mut Compress, id: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u32(id);
        body.put_u32(0);
        body.put_u16(0);
        body.extend_from_slice(&block(deflate, headers));
        control(SYN_STREAM, 0, &body)
    }

    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        let mut deflate = Compress::new(Compression::default(), true);
        // Its Adler-32, which every SPDY/3 stream begins with.
        assert_eq!(deflate.set_dictionary(&dictionary).unwrap(), 0xe3c6_a7c2);
    }

    #[tokio::test]
    async fn streams_carry_data_both_ways_and_pings_are_answered() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut session = serve(server);
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(&dictionary()).unwrap();
        client.write_all(&syn_stream(&mut deflate, 1, &[("streamType", "error"), ("port", "80")])).await.unwrap();
        client.write_all(&syn_stream(&mut deflate, 3, &[("streamType", "data"), ("port", "80")])).await.unwrap();
        client.write_all(&data_head(3, FIN, 5)).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.write_all(&control(PING, 0, &7u32.to_be_bytes())).await.unwrap();

        let (headers, _error) = session.accept().await.unwrap();
        assert_eq!((headers["streamtype"].as_str(), headers["port"].as_str()), ("error", "80"));
        let (headers, mut data) = session.accept().await.unwrap();
        assert_eq!(headers["streamtype"], "data");
        assert_eq!(data.input.recv().await.unwrap(), "hello");
        assert!(data.input.recv().await.is_none());
        assert!(data.output.send("answer").await);
        data.output.end().await;

        let mut inflate = Decompress::new(true);
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let mut head = [0; 8];
            client.read_exact(&mut head).await.unwrap();
            let length = usize::try_from(number(&head, 4).unwrap() & 0x00ff_ffff).unwrap();
            let mut body = vec![0; length];
            client.read_exact(&mut body).await.unwrap();
            seen.push(match number(&head, 0).unwrap() {
                first if first >> 31 == 0 => format!("data {first} {} {}", head[4], String::from_utf8(body).unwrap()),
                first if first as u16 == SYN_REPLY => {
                    assert!(super::headers(&mut inflate, &dictionary(), &body[4..]).unwrap().is_empty());
                    format!("reply {}", number(&body, 0).unwrap())
                }
                first => format!("control {} {}", first as u16, number(&body, 0).unwrap()),
            });
        }
        seen.sort();
        assert_eq!(seen, ["control 6 7", "data 3 0 answer", "data 3 1 ", "reply 1", "reply 3"]);
    }

    #[tokio::test]
    async fn rubbish_ends_the_connection() {
        for rubbish in [
            control(SYN_STREAM, 0, &[0; 30]),
            control(SYN_STREAM, 0, &[]),
            vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            control(RST_STREAM, 0, &[1]),
        ] {
            let (mut client, server) = tokio::io::duplex(1 << 16);
            let mut session = serve(server);
            client.write_all(&rubbish).await.unwrap();
            assert!(session.accept().await.is_none(), "{rubbish:?}");
        }
    }
}
