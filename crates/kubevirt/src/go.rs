//! Failures of requests, as Go words them and as client-go treats them.

use std::error::Error;
use std::net::SocketAddr;

use wire::{ConnectError, Protocol};

use crate::release::ClientSpec;

/// The names of HTTP/2's error codes, by number (RFC 9113 §7).
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// What Go puts before the reason why a certificate was not taken.
const VERIFY: &str = "tls: failed to verify certificate: ";

const REFUSED_STREAM: u32 = 7;

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GoError {
    /// `connect: connection refused`
    Refused(SocketAddr),
    /// `i/o timeout`
    DialTimeout(SocketAddr),
    /// A connection was reset while it was used.
    Reset(SocketAddr),
    /// The server closed the connection before it answered.
    Eof,
    /// HTTP/2: the stream was reset, with this code.
    Stream(u64, u32),
    /// HTTP/2: the server had said that the connection takes no more requests before this one was sent.
    GoAway,
    /// HTTP/2: the connection went away under the request.
    ConnectionLost,
    /// The handshake failed.
    Tls(String),
    /// The caller's deadline passed.
    Deadline,
}

/// A failed handshake in the words of Go's crypto/tls and net/http, from those of rustls.
fn handshake(why: &str, address: SocketAddr) -> String {
    let verify = |what: &str| format!("{VERIFY}x509: {what}");
    if why.contains("Expired") || why.contains("expired") {
        verify("certificate has expired or is not yet valid")
    } else if why.contains("NotValidForName") || why.contains("not valid for name") {
        let ip = address.ip();
        verify(&format!("cannot validate certificate for {ip} because it doesn't contain any IP SANs"))
    } else if why.contains("UnknownIssuer") || why.contains("BadSignature") {
        verify("certificate signed by unknown authority")
    } else if why.contains("corrupt message") || why.contains("InvalidContentType") {
        "http: server gave HTTP response to HTTPS client".to_owned()
    } else {
        format!("tls: {why}")
    }
}

impl GoError {
    pub(crate) fn from_connect(error: &ConnectError) -> Self {
        match error {
            ConnectError::Dial { address, source } => match source.kind() {
                std::io::ErrorKind::ConnectionRefused => Self::Refused(*address),
                std::io::ErrorKind::TimedOut => Self::DialTimeout(*address),
                _ => Self::Reset(*address),
            },
            ConnectError::Tls { address, source } => match source.kind() {
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Self::Reset(*address),
                std::io::ErrorKind::UnexpectedEof => Self::Eof,
                _ => Self::Tls(handshake(&source.to_string(), *address)),
            },
            ConnectError::Http { .. } => Self::Eof,
        }
    }

    pub(crate) fn from_request(error: &hyper::Error, address: SocketAddr, protocol: Protocol, stream: u64) -> Self {
        if let Some(code) = wire::stream_code(error) {
            return Self::Stream(stream, code);
        }
        if protocol == Protocol::Http2 && wire::never_begun(error) {
            return Self::GoAway;
        }
        let mut chain = vec![error.to_string()];
        let mut source = error.source();
        while let Some(inner) = source {
            chain.push(inner.to_string());
            source = inner.source();
        }
        let text = chain.join(": ");
        if text.contains("onnection reset") || text.contains("roken pipe") {
            if protocol == Protocol::Http2 { Self::ConnectionLost } else { Self::Reset(address) }
        } else if protocol == Protocol::Http2 {
            Self::ConnectionLost
        } else {
            Self::Eof
        }
    }

    /// Whether client-go tries a GET again (client-go 0.34 `rest/with_retry.go`: reset, probable EOF, lost HTTP/2 connection).
    /// Before there was `with_retry.go`, after a reset alone.
    pub(crate) fn is_retried(&self, spec: &ClientSpec) -> bool {
        match self {
            Self::Reset(_) => true,
            Self::Eof | Self::ConnectionLost => spec.retries_cut_off,
            Self::Refused(_) | Self::DialTimeout(_) | Self::Stream(..) | Self::GoAway | Self::Tls(_) | Self::Deadline => false,
        }
    }

    /// Whether Go's transport sends the request again by itself, with nobody counting (`net/http` `http2canRetryError`).
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Self::Stream(_, REFUSED_STREAM) | Self::GoAway)
    }

    /// The message, with method and URL in front as `url.Error` has them.
    pub(crate) fn message(&self, method: &str, url: &str, spec: &ClientSpec) -> String {
        let method = format!("{}{}", &method[..1], method[1..].to_lowercase());
        let url = if spec.quote_urls { format!("\"{url}\"") } else { url.to_owned() };
        let why = match self {
            Self::Refused(address) => format!("dial tcp {address}: connect: connection refused"),
            Self::DialTimeout(address) => format!("dial tcp {address}: i/o timeout"),
            Self::Reset(address) => format!("read tcp {address}: read: connection reset by peer"),
            Self::Eof => "EOF".to_owned(),
            Self::Stream(id, code) => {
                let code =
                    CODES.get(*code as usize).map_or_else(|| format!("unknown error code 0x{code:x}"), |&code| code.to_owned());
                format!("stream error: stream ID {id}; {code}; received from peer")
            }
            Self::GoAway => "http2: Transport received Server's graceful shutdown GOAWAY".to_owned(),
            Self::ConnectionLost => "http2: client connection lost".to_owned(),
            Self::Tls(why) if spec.verify_prefix => why.clone(),
            Self::Tls(why) => why.trim_start_matches(VERIFY).to_owned(),
            Self::Deadline => "context deadline exceeded".to_owned(),
        };
        format!("{method} {url}: {why}")
    }
}
