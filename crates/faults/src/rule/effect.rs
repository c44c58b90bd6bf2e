//! What happens to a request or a connection.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An effect without settings; written as `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {}

/// The longest time that a setting may have, in seconds: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// An answer of the proxy's own. Without a body of its own it is a `Status`, as the API server sends it; a redirection without a
/// `Location` leads to where the request went already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StatusEffect {
    /// The HTTP status code, 300 to 599.
    pub code: u16,
    /// Seconds of a `Retry-After` header. client-go retries up to ten times where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The message of the `Status` body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body instead of the `Status`, such as the page of a load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl StatusEffect {
    /// An answer with this code and nothing else of its own.
    pub fn of(code: u16) -> Self {
        Self { code, retry_after: None, message: None, headers: BTreeMap::new(), body: None }
    }
}

/// No answer at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HangEffect {
    /// After this many seconds the request is aborted; without it only the client ends it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// A pause; the request is passed all the same. Exactly one of `for`, `between` and `normal` is to be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DelayEffect {
    /// Always this many seconds.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Evenly between two numbers of seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<[f64; 2]>,
    /// Mean and standard deviation of a normal distribution, in seconds; never below 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normal: Option<[f64; 2]>,
    /// Whether the pause comes after the API server has answered instead of before it is asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub after: bool,
}

impl DelayEffect {
    /// The pause for a random number between 0 and 1, and another one.
    pub fn pause(&self, random: [f64; 2]) -> Duration {
        let seconds = match (self.seconds, self.between, self.normal) {
            (Some(seconds), ..) => seconds,
            (None, Some([least, most]), _) => least + (most - least) * random[0],
            (None, None, Some([mean, deviation])) => {
                // Box and Muller.
                let radius = (-2.0 * random[0].max(f64::MIN_POSITIVE).ln()).sqrt();
                mean + deviation * radius * (std::f64::consts::TAU * random[1]).cos()
            }
            (None, None, None) => 0.0,
        };
        Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS))
    }
}

/// How fast an answer's body comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BandwidthEffect {
    /// Bytes a second, at least 1.
    pub bytes_per_second: u64,
}

/// Where an answer breaks off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BreakEffect {
    /// After the head, and nothing of the body.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub after_headers: bool,
    /// After this many bytes of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_bytes: Option<u64>,
    /// The whole connection, with whatever else is under way on it; HTTP/1.1 never does less.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub connection: bool,
    /// The error code of the stream; HTTP/2 only. `INTERNAL_ERROR` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<StreamCode>,
}

/// Why a stream is reset, in the words of RFC 9113 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamCode {
    /// Not an error: the end.
    NoError,
    /// The peer broke the protocol.
    ProtocolError,
    /// The server has a defect.
    InternalError,
    /// The server did nothing of what was asked; Go's transport asks again by itself.
    RefusedStream,
    /// The answer is not wanted any more.
    Cancel,
    /// The client asks too much.
    EnhanceYourCalm,
    /// The client is to speak HTTP/1.1.
    #[serde(rename = "HTTP_1_1_REQUIRED")]
    Http11Required,
}

impl StreamCode {
    /// The number on the wire.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::NoError => 0x0,
            Self::ProtocolError => 0x1,
            Self::InternalError => 0x2,
            Self::RefusedStream => 0x7,
            Self::Cancel => 0x8,
            Self::EnhanceYourCalm => 0xb,
            Self::Http11Required => 0xd,
        }
    }
}

/// An answer of the past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StaleEffect {
    /// How many seconds old it is at least. What was answered to the same request of the same client is kept while the fault is
    /// armed; while nothing so old is there, the request passes.
    pub age: f64,
}

impl BreakEffect {
    /// How much of the body is let through; `None` where not even the head is.
    pub(crate) fn body(self) -> Option<u64> {
        self.after_bytes.or_else(|| self.after_headers.then_some(0))
    }
}

/// How a connection fails before HTTP. Exactly one is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TlsEffect {
    /// A certificate whose time is over.
    Expired,
    /// A certificate for another name.
    WrongName,
    /// A certificate of an authority that the client does not know.
    UnknownAuthority,
    /// The connection is reset in the middle of the handshake.
    Abort,
    /// The server speaks HTTP without TLS.
    PlainHttp,
}

/// A body that is not what it should be, in an answer that is. Exactly one is to be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BodyEffect {
    /// Nothing in it.
    Empty,
    /// JSON that is none.
    Garbled,
    /// The same body twice.
    Doubled,
    /// A page in HTML, as a proxy on the way would send.
    Html,
}

/// What is done to the events of a watch. Exactly one is to be set; other requests that match are passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WatchEffect {
    /// The stream ends in order after this many events.
    EndAfter(u64),
    /// The stream stays open and shows nothing more after this many events.
    StallAfter(u64),
    /// After this many events comes an ERROR with code 410, and the end.
    ExpireAfter(u64),
    /// The stream ends in order after this many seconds.
    EndAfterSeconds(f64),
    /// Nothing comes any more after this many seconds, and the stream stays open.
    StallAfterSeconds(f64),
    /// No bookmarks.
    NoBookmarks,
    /// Each event twice.
    Duplicate,
    /// Each two events in the wrong order.
    Reorder,
    /// Each event this many seconds late.
    Delay(f64),
    /// Each event with a resourceVersion that is this much smaller.
    Rewind(u64),
}

impl WatchEffect {
    /// After how many seconds it acts, if the time decides.
    pub(crate) fn seconds(&self) -> Option<f64> {
        match self {
            Self::EndAfterSeconds(seconds) | Self::StallAfterSeconds(seconds) => Some(*seconds),
            _ => None,
        }
    }
}

/// What happens. Exactly one is to be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Effect {
    /// Let it through; shields from later rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Unit>,
    /// Answer with a status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusEffect>,
    /// Let it through, late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelayEffect>,
    /// Let it through, slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthEffect>,
    /// Do not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang: Option<HangEffect>,
    /// Refuse the connection. It acts before a request is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<Unit>,
    /// Let the client wait for the connection until it gives up. It acts before a request is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<Unit>,
    /// Fail the handshake. It acts before a request is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsEffect>,
    /// Reset: the connection (HTTP/1.1) or the stream (HTTP/2); before headers unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<BreakEffect>,
    /// Close in order, as a server that is stopped does; before headers unless said otherwise. HTTP/2 knows only resets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<BreakEffect>,
    /// The API server does what is asked, and the client is told nothing: reset before headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lose: Option<Unit>,
    /// Answer with another body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyEffect>,
    /// Change the events of a watch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchEffect>,
    /// Answer as it was some time ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<StaleEffect>,
    /// Let it through, and let the client know that its connection takes no more requests: GOAWAY over HTTP/2, `Connection: close`
    /// over HTTP/1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goaway: Option<Unit>,
}

/// When an effect acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// When a client connects.
    Dial,
    /// In the TLS handshake.
    Handshake,
    /// When a request is known.
    Request,
}

impl Effect {
    /// The effects that are set, by name.
    fn set(&self) -> Vec<&'static str> {
        let all = [
            ("pass", self.pass.is_some()),
            ("status", self.status.is_some()),
            ("delay", self.delay.is_some()),
            ("bandwidth", self.bandwidth.is_some()),
            ("hang", self.hang.is_some()),
            ("refuse", self.refuse.is_some()),
            ("drop", self.drop.is_some()),
            ("tls", self.tls.is_some()),
            ("reset", self.reset.is_some()),
            ("close", self.close.is_some()),
            ("lose", self.lose.is_some()),
            ("body", self.body.is_some()),
            ("watch", self.watch.is_some()),
            ("stale", self.stale.is_some()),
            ("goaway", self.goaway.is_some()),
        ];
        all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }

    /// The effect's name; `pass` where none is set.
    pub fn name(&self) -> &'static str {
        self.set().first().copied().unwrap_or("pass")
    }

    /// When it acts.
    pub fn phase(&self) -> Phase {
        if self.refuse.is_some() || self.drop.is_some() {
            Phase::Dial
        } else if self.tls.is_some() {
            Phase::Handshake
        } else {
            Phase::Request
        }
    }

    /// Whether it acts on a connection, before a request is known.
    pub fn is_of_connections(&self) -> bool {
        self.phase() != Phase::Request
    }

    /// How long a hanging request may hang.
    pub(crate) fn hang_limit(&self) -> Option<Duration> {
        self.hang.as_ref()?.seconds.map(Duration::from_secs_f64)
    }

    /// What is wrong with it by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.set()[..] {
            [] => {
                return Err(
                    "an effect is required: one of pass, status, delay, bandwidth, hang, refuse, drop, tls, reset, close, \
                            lose, body, watch, stale, goaway"
                        .to_owned(),
                );
            }
            [_] => {}
            _ => return Err(format!("only one effect may be set, not {}", self.set().join(" and "))),
        }
        if let Some(status) = &self.status {
            if !(300..600).contains(&status.code) {
                return Err(format!("status code {} is no failure; use 300 to 599", status.code));
            }
            if status.body.is_some() && status.message.is_some() {
                return Err("a message is for the Status that a body stands for; set one of them".to_owned());
            }
            for (name, value) in &status.headers {
                if http::HeaderName::try_from(name).is_err() || http::HeaderValue::try_from(value).is_err() {
                    return Err(format!("{name}: {value} is no header"));
                }
            }
        }
        let seconds = |what: &str, seconds: f64| {
            let fits = seconds.is_finite() && (0.0..=MAX_SECONDS).contains(&seconds);
            if fits { Ok(()) } else { Err(format!("{what} {seconds} seconds is out of range (0 to 86400)")) }
        };
        if let Some(hang) = self.hang.as_ref().and_then(|hang| hang.seconds) {
            seconds("hang for", hang)?;
        }
        if let Some(delay) = &self.delay {
            let set = [delay.seconds.is_some(), delay.between.is_some(), delay.normal.is_some()];
            if set.iter().filter(|set| **set).count() != 1 {
                return Err("a delay has exactly one of for, between and normal".to_owned());
            }
            for number in delay.seconds.into_iter().chain(delay.between.into_iter().chain(delay.normal).flatten()) {
                seconds("a delay of", number)?;
            }
            if delay.between.is_some_and(|[least, most]| least > most) {
                return Err("between wants the smaller number first".to_owned());
            }
        }
        match &self.watch {
            Some(WatchEffect::Delay(late)) => seconds("a delay of", *late)?,
            Some(WatchEffect::EndAfterSeconds(after) | WatchEffect::StallAfterSeconds(after)) => seconds("an end after", *after)?,
            _ => {}
        }
        if let Some(stale) = &self.stale {
            seconds("an age of", stale.age)?;
        }
        if self.bandwidth.as_ref().is_some_and(|bandwidth| bandwidth.bytes_per_second == 0) {
            return Err("a bandwidth of 0 never ends; use hang".to_owned());
        }
        let broken = self.reset.or(self.close).unwrap_or_default();
        if broken.after_headers && broken.after_bytes.is_some() {
            return Err("afterHeaders and afterBytes exclude each other".to_owned());
        }
        if broken.code.is_some() && (self.close.is_some() || broken.connection || broken.body().is_some()) {
            return Err("a code is for a stream that is reset before its headers".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_what_they_say() {
        let delay = |text: &str| serde_json::from_str::<DelayEffect>(text).unwrap();
        assert_eq!(delay(r#"{"for": 2}"#).pause([0.9, 0.1]), Duration::from_secs(2));
        assert_eq!(delay(r#"{"between": [1, 3]}"#).pause([0.5, 0.0]), Duration::from_secs(2));
        assert_eq!(delay(r#"{"normal": [1, 0]}"#).pause([0.3, 0.3]), Duration::from_secs(1));
        assert_eq!(delay(r#"{"normal": [0, 1]}"#).pause([0.01, 0.5]), Duration::ZERO, "never before its time");
        let normal = delay(r#"{"normal": [10, 1]}"#);
        let mean =
            (0..1000).map(|n| normal.pause([(f64::from(n) + 0.5) / 1000.0, f64::from(n % 7) / 7.0]).as_secs_f64()).sum::<f64>();
        assert!((mean / 1000.0 - 10.0).abs() < 0.2, "{mean}");
    }
}
