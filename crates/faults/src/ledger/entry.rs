//! What is noted of each request.

use std::borrow::Cow;
use std::sync::Arc;

use http::Version;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::client::Client;

/// A word that mostly is one of few.
pub(crate) type Word = Cow<'static, str>;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Outcome {
    /// It was handed on and answered.
    Passed {
        /// The status code.
        status: u16,
    },
    /// The proxy answered.
    Answered {
        /// The status code.
        status: u16,
    },
    /// It was handed on and answered, and the client got the head of the answer but not its body as it was.
    Damaged {
        /// The status code.
        status: u16,
    },
    /// It was handed on and answered, and the client was told nothing of it.
    Lost {
        /// The status code that the API server answered.
        status: u16,
    },
    /// The client got no answer, by a fault.
    Failed,
    /// The stream was refused (HTTP/2 `REFUSED_STREAM`): Go's transport asks again by itself, up to seven times.
    Refused,
    /// The API server could not be reached or gave no answer, and so neither did the proxy.
    Unanswered,
    /// The client gave up first.
    Cancelled,
    /// The proxy was stopped while the request was under way.
    Interrupted,
}

impl Outcome {
    /// The `code` that client-go counts for it.
    pub fn code(&self) -> Cow<'static, str> {
        match self {
            // client-go counts when the head is there; what becomes of the body it does not count.
            Self::Passed { status } | Self::Answered { status } | Self::Damaged { status } => match status {
                200 => "200".into(),
                201 => "201".into(),
                404 => "404".into(),
                409 => "409".into(),
                500 => "500".into(),
                other => other.to_string().into(),
            },
            Self::Lost { .. } | Self::Failed | Self::Refused | Self::Unanswered | Self::Cancelled | Self::Interrupted => {
                "<error>".into()
            }
        }
    }
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// One request at a time.
    #[default]
    #[serde(rename = "HTTP/1.1")]
    Http1,
    /// Many at once.
    #[serde(rename = "HTTP/2")]
    Http2,
}

impl From<Version> for Protocol {
    fn from(version: Version) -> Self {
        if version == Version::HTTP_2 { Self::Http2 } else { Self::Http1 }
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts entries from 1.
    pub number: u64,
    /// When the request came.
    pub time: Timestamp,
    /// When its outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The connection's number; 0 for a dial that was refused.
    pub connection: u64,
    /// Which request of the connection this is, from 1; 0 for a dial.
    pub on_connection: u64,
    /// Which request of the client this is, from 1; 0 for a dial, and where too many clients are known to count each.
    pub of_client: u64,
    /// The connection's protocol.
    pub protocol: Protocol,
    /// Who asked.
    pub client: Arc<Client>,
    /// HTTP method; `CONNECT` for a dial.
    pub method: Word,
    /// Path and query.
    pub target: String,
    /// Kubernetes verb; `dial` for a connection.
    pub verb: Word,
    /// `RESOURCE` or `RESOURCE/SUBRESOURCE`; empty where the path names none.
    pub resource: String,
    /// The deciding rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// `pass` or the effect.
    pub verdict: Word,
    /// What became of it; none while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The `code` that client-go counts, once there is an outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Word>,
}

impl Entry {
    /// The key of the total that counts it, once it has an outcome.
    pub fn key(&self) -> Option<LedgerKey> {
        self.code.clone().map(|code| self.key_with(code))
    }

    pub(super) fn key_with(&self, code: Word) -> LedgerKey {
        let resource = self.resource.split('/').next().unwrap_or_default();
        // No name of a resource is longer (RFC 1123); a path may be.
        let resource = if resource.len() <= 253 { resource } else { "(too long)" };
        LedgerKey {
            client: self.client.key().to_owned(),
            method: self.method.clone(),
            verb: self.verb.clone(),
            resource: resource.to_owned(),
            code,
        }
    }
}

/// What a total counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LedgerKey {
    /// Pod or user.
    pub client: String,
    /// HTTP method.
    pub method: Word,
    /// Kubernetes verb.
    pub verb: Word,
    /// Plural resource name, without subresource.
    pub resource: String,
    /// The `code` that client-go counts.
    pub code: Word,
}
