//! What happens to a request or a connection.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::OneKey;

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

/// A pause; the request is passed all the same. One of `for`, `between` and `normal` says how long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenDelay", into = "WrittenDelay")]
pub struct DelayEffect {
    /// How long.
    pub how: Pause,
    /// Whether the pause comes after the API server has answered instead of before it is asked.
    pub after: bool,
}

/// How long a pause is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pause {
    /// Always this many seconds.
    Always(f64),
    /// Evenly between two numbers of seconds.
    Between([f64; 2]),
    /// Mean and standard deviation of a normal distribution, in seconds; never below 0.
    Normal([f64; 2]),
}

/// A delay as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "DelayEffect")]
struct WrittenDelay {
    /// Always this many seconds.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// Evenly between two numbers of seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    between: Option<[f64; 2]>,
    /// Mean and standard deviation of a normal distribution, in seconds; never below 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    normal: Option<[f64; 2]>,
    /// Whether the pause comes after the API server has answered instead of before it is asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    after: bool,
}

impl TryFrom<WrittenDelay> for DelayEffect {
    type Error = String;

    fn try_from(written: WrittenDelay) -> Result<Self, String> {
        let how = match (written.seconds, written.between, written.normal) {
            (Some(seconds), None, None) => Pause::Always(seconds),
            (None, Some(between), None) => Pause::Between(between),
            (None, None, Some(normal)) => Pause::Normal(normal),
            (None, None, None) => return Err("a delay needs one of for, between and normal".to_owned()),
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err("a delay has exactly one of for, between and normal".to_owned());
            }
        };
        Ok(Self { how, after: written.after })
    }
}

impl From<DelayEffect> for WrittenDelay {
    fn from(delay: DelayEffect) -> Self {
        let written = Self { after: delay.after, ..Self::default() };
        match delay.how {
            Pause::Always(seconds) => Self { seconds: Some(seconds), ..written },
            Pause::Between(between) => Self { between: Some(between), ..written },
            Pause::Normal(normal) => Self { normal: Some(normal), ..written },
        }
    }
}

impl JsonSchema for DelayEffect {
    fn schema_name() -> Cow<'static, str> {
        WrittenDelay::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        WrittenDelay::json_schema(generator)
    }
}

impl DelayEffect {
    /// Always this many seconds.
    pub fn of(seconds: f64) -> Self {
        Self { how: Pause::Always(seconds), after: false }
    }

    /// The pause for a random number between 0 and 1, and another one.
    pub fn pause(&self, random: [f64; 2]) -> Duration {
        let seconds = match self.how {
            Pause::Always(seconds) => seconds,
            Pause::Between([least, most]) => least + (most - least) * random[0],
            Pause::Normal([mean, deviation]) => {
                // Box and Muller.
                let radius = (-2.0 * random[0].max(f64::MIN_POSITIVE).ln()).sqrt();
                mean + deviation * radius * (std::f64::consts::TAU * random[1]).cos()
            }
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
            Self::EndAfter(_)
            | Self::StallAfter(_)
            | Self::ExpireAfter(_)
            | Self::NoBookmarks
            | Self::Duplicate
            | Self::Reorder
            | Self::Delay(_)
            | Self::Rewind(_) => None,
        }
    }
}

/// What happens; written as a mapping with one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub enum Effect {
    /// Let it through; shields from later rules.
    Pass(Unit),
    /// Answer with a status.
    Status(StatusEffect),
    /// Let it through, late.
    Delay(DelayEffect),
    /// Let it through, slowly.
    Bandwidth(BandwidthEffect),
    /// Do not answer.
    Hang(HangEffect),
    /// Refuse the connection. It acts before a request is known.
    Refuse(Unit),
    /// Let the client wait for the connection until it gives up. It acts before a request is known.
    Drop(Unit),
    /// Fail the handshake. It acts before a request is known.
    Tls(TlsEffect),
    /// Reset: the connection (HTTP/1.1) or the stream (HTTP/2); before headers unless said otherwise.
    Reset(BreakEffect),
    /// Close in order, as a server that is stopped does; before headers unless said otherwise. HTTP/2 knows only resets.
    Close(BreakEffect),
    /// The API server does what is asked, and the client is told nothing: reset before headers.
    Lose(Unit),
    /// Answer with another body.
    Body(BodyEffect),
    /// Change the events of a watch.
    Watch(WatchEffect),
    /// Answer as it was some time ago.
    Stale(StaleEffect),
    /// Let it through, and let the client know that its connection takes no more requests: GOAWAY over HTTP/2, `Connection: close`
    /// over HTTP/1.1.
    Goaway(Unit),
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

impl OneKey for Effect {
    const WHAT: &'static str = "an effect";
    const KEYS: &'static [&'static str] = &[
        "pass",
        "status",
        "delay",
        "bandwidth",
        "hang",
        "refuse",
        "drop",
        "tls",
        "reset",
        "close",
        "lose",
        "body",
        "watch",
        "stale",
        "goaway",
    ];

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        wire::one_key(deserializer)
    }
}

impl Serialize for Effect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Effect {
    /// The effect's name, as files and the ledger have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Status(_) => "status",
            Self::Delay(_) => "delay",
            Self::Bandwidth(_) => "bandwidth",
            Self::Hang(_) => "hang",
            Self::Refuse(_) => "refuse",
            Self::Drop(_) => "drop",
            Self::Tls(_) => "tls",
            Self::Reset(_) => "reset",
            Self::Close(_) => "close",
            Self::Lose(_) => "lose",
            Self::Body(_) => "body",
            Self::Watch(_) => "watch",
            Self::Stale(_) => "stale",
            Self::Goaway(_) => "goaway",
        }
    }

    /// When it acts.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Refuse(_) | Self::Drop(_) => Phase::Dial,
            Self::Tls(_) => Phase::Handshake,
            Self::Pass(_)
            | Self::Status(_)
            | Self::Delay(_)
            | Self::Bandwidth(_)
            | Self::Hang(_)
            | Self::Reset(_)
            | Self::Close(_)
            | Self::Lose(_)
            | Self::Body(_)
            | Self::Watch(_)
            | Self::Stale(_)
            | Self::Goaway(_) => Phase::Request,
        }
    }

    /// Whether it acts on a connection, before a request is known.
    pub fn is_of_connections(&self) -> bool {
        self.phase() != Phase::Request
    }

    /// How old an answer must be that it repeats, if it repeats old answers.
    pub(crate) fn stale_age(&self) -> Option<Duration> {
        if let Self::Stale(stale) = self { Some(Duration::from_secs_f64(stale.age)) } else { None }
    }

    /// What is wrong with its settings.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Status(status) => status.check(),
            Self::Delay(delay) => delay.check(),
            Self::Hang(HangEffect { seconds }) => seconds.map_or(Ok(()), |hang| in_range("hang for", hang)),
            Self::Watch(watch) => watch.check(),
            Self::Stale(stale) => in_range("an age of", stale.age),
            Self::Bandwidth(BandwidthEffect { bytes_per_second: 0 }) => Err("a bandwidth of 0 never ends; use hang".to_owned()),
            Self::Reset(broken) => broken.check(true),
            Self::Close(broken) => broken.check(false),
            Self::Pass(_)
            | Self::Bandwidth(_)
            | Self::Refuse(_)
            | Self::Drop(_)
            | Self::Tls(_)
            | Self::Lose(_)
            | Self::Body(_)
            | Self::Goaway(_) => Ok(()),
        }
    }
}

/// Whether a number of seconds is one that a setting may have.
fn in_range(what: &str, seconds: f64) -> Result<(), String> {
    let fits = seconds.is_finite() && (0.0..=MAX_SECONDS).contains(&seconds);
    if fits { Ok(()) } else { Err(format!("{what} {seconds} seconds is out of range (0 to 86400)")) }
}

impl StatusEffect {
    fn check(&self) -> Result<(), String> {
        if !(300..600).contains(&self.code) {
            return Err(format!("status code {} is no failure; use 300 to 599", self.code));
        }
        if self.body.is_some() && self.message.is_some() {
            return Err("a message is for the Status that a body stands for; set one of them".to_owned());
        }
        for (name, value) in &self.headers {
            if http::HeaderName::try_from(name).is_err() || http::HeaderValue::try_from(value).is_err() {
                return Err(format!("{name}: {value} is no header"));
            }
        }
        Ok(())
    }
}

impl DelayEffect {
    fn check(&self) -> Result<(), String> {
        let numbers = match self.how {
            Pause::Always(seconds) => vec![seconds],
            Pause::Between(numbers) | Pause::Normal(numbers) => numbers.to_vec(),
        };
        numbers.into_iter().try_for_each(|number| in_range("a delay of", number))?;
        match self.how {
            Pause::Between([least, most]) if least > most => Err("between wants the smaller number first".to_owned()),
            Pause::Always(_) | Pause::Between(_) | Pause::Normal(_) => Ok(()),
        }
    }
}

impl WatchEffect {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Delay(late) => in_range("a delay of", *late),
            Self::EndAfterSeconds(after) | Self::StallAfterSeconds(after) => in_range("an end after", *after),
            Self::EndAfter(_)
            | Self::StallAfter(_)
            | Self::ExpireAfter(_)
            | Self::NoBookmarks
            | Self::Duplicate
            | Self::Reorder
            | Self::Rewind(_) => Ok(()),
        }
    }
}

impl BreakEffect {
    fn check(self, is_reset: bool) -> Result<(), String> {
        if self.after_headers && self.after_bytes.is_some() {
            return Err("afterHeaders and afterBytes exclude each other".to_owned());
        }
        if self.code.is_some() && (!is_reset || self.connection || self.body().is_some()) {
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
