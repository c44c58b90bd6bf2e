//! `lab fault add`: flags to a rule.

use anyhow::Result;
use clap::Args;
use faults::{
    BandwidthEffect, BreakEffect, Budget, ClientMatch, DelayEffect, Effect, HangEffect, Matcher, Numbers, Pause, Rule,
    StaleEffect, StatusEffect, Unit,
};

use crate::commands::Proxied;
use crate::exit::{Exit, Failure};

#[derive(Args)]
pub(crate) struct Add {
    #[command(flatten)]
    pub(super) which: Proxied,
    /// What to call it; made from the effect without it.
    #[arg(long = "as", value_name = "NAME")]
    fault_name: Option<String>,
    /// NAMESPACE/NAME or NAME of a ServiceAccount; `*` stands for anything, `!` in front negates, commas separate.
    #[arg(long, default_value = "")]
    service_account: String,
    /// Full user name.
    #[arg(long, default_value = "")]
    user: String,
    /// A group of the client.
    #[arg(long, default_value = "")]
    client_group: String,
    /// Name of the pod that asks.
    #[arg(long, default_value = "")]
    pod: String,
    /// The User-Agent header.
    #[arg(long, default_value = "")]
    user_agent: String,
    /// get, list, watch, create, update, patch, delete, deletecollection, connect.
    #[arg(long, default_value = "")]
    verb: String,
    /// API group; the core group is `core`.
    #[arg(long, default_value = "")]
    group: String,
    /// Plural resource name.
    #[arg(long, default_value = "")]
    resource: String,
    /// Subresource, such as status or log.
    #[arg(long, default_value = "")]
    subresource: String,
    /// Namespace of the objects.
    #[arg(long, default_value = "")]
    in_namespace: String,
    /// Name of the object.
    #[arg(long, default_value = "")]
    object: String,
    /// Which requests of each client, counted from the lab's start: 3, 2..5, 10.. and lists of such.
    #[arg(long, value_name = "NUMBERS")]
    nth_of_client: Option<Numbers>,
    /// Which requests of each connection; 1 is a new connection's first.
    #[arg(long, value_name = "NUMBERS")]
    nth_on_connection: Option<Numbers>,
    /// Answer with this status code.
    #[arg(long, group = "effect", required_unless_present_any = ["reset", "close", "refuse", "drop", "tls", "hang", "delay",
        "bandwidth", "lose", "body", "events", "stale", "goaway", "pass"])]
    status: Option<u16>,
    /// Seconds of a Retry-After header.
    #[arg(long, requires = "status")]
    retry_after: Option<u32>,
    /// Reset before headers; `--reset=headers` after them, `--reset=BYTES` after so many bytes of the body,
    /// `--reset=connection` with all that is on the connection, `--reset=REFUSED_STREAM` and others with that code.
    #[arg(long, group = "effect", value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    reset: Option<String>,
    /// Close in order, at the same places.
    #[arg(long, group = "effect", value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    close: Option<String>,
    /// Refuse the connection.
    #[arg(long, group = "effect")]
    refuse: bool,
    /// Leave the connection unanswered, until the client gives up.
    #[arg(long, group = "effect")]
    drop: bool,
    /// Fail the handshake: expired, wrong-name, unknown-authority, abort, plain-http.
    #[arg(long, group = "effect", value_name = "HOW")]
    tls: Option<String>,
    /// Do not answer, for this many seconds (0: until the client gives up).
    #[arg(long, group = "effect", value_name = "SECONDS")]
    hang: Option<f64>,
    /// Pass it this many seconds late; `1..3` is evenly between.
    #[arg(long, group = "effect", value_name = "SECONDS")]
    delay: Option<String>,
    /// Pass it at this many bytes a second.
    #[arg(long, group = "effect", value_name = "BYTES")]
    bandwidth: Option<u64>,
    /// Do what is asked, and tell the client nothing.
    #[arg(long, group = "effect")]
    lose: bool,
    /// Answer with another body: empty, garbled, doubled, html.
    #[arg(long, group = "effect", value_name = "WHICH")]
    body: Option<String>,
    /// Change the events of watches: end-after=N, stall-after=N, expire-after=N, end-after-seconds=S, stall-after-seconds=S,
    /// no-bookmarks, duplicate, reorder, delay=SECONDS, rewind=N.
    #[arg(long, group = "effect", value_name = "HOW")]
    events: Option<String>,
    /// Answer reads as they were answered so many seconds ago.
    #[arg(long, group = "effect", value_name = "SECONDS")]
    stale: Option<f64>,
    /// Let it through and tell the client that its connection takes no more requests.
    #[arg(long, group = "effect")]
    goaway: bool,
    /// Let it through, whatever later faults say.
    #[arg(long, group = "effect")]
    pass: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Arm nothing; show which requests of the last minute it would have met.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How often.
#[derive(Args)]
struct BudgetArgs {
    /// Only the first N matching requests.
    #[arg(long, value_name = "N")]
    first: Option<u64>,
    /// Only every K-th matching request.
    #[arg(long, value_name = "K")]
    every: Option<u64>,
    /// Only these matching requests, counted from 1.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    ordinals: Vec<u64>,
    /// Only this share of them, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    probability: Option<f64>,
    /// What the random choices begin with.
    #[arg(long, requires = "probability")]
    seed: Option<u64>,
    /// At most so many in each second.
    #[arg(long, value_name = "N")]
    per_second: Option<u64>,
    /// Not before so many seconds from now.
    #[arg(long, value_name = "SECONDS")]
    from: Option<f64>,
    /// Not after so many seconds from now.
    #[arg(long, value_name = "SECONDS")]
    until: Option<f64>,
    /// Count each client by itself.
    #[arg(long)]
    per_client: bool,
}

/// `wrong-name` as files write it: `wrongName`.
fn camel(text: &str) -> String {
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        let mut letters = part.chars();
        let head = letters.next().map(|letter| letter.to_ascii_uppercase());
        out + &head.into_iter().collect::<String>() + letters.as_str()
    })
}

/// Reads a word as a file would have it.
fn word<T: serde::de::DeserializeOwned>(flag: &str, text: &str) -> Result<T> {
    let value = match text.split_once('=') {
        Some((name, number)) => {
            let number: serde_json::Value = number.parse().unwrap_or_else(|_| number.into());
            serde_json::json!({camel(name): number})
        }
        None => camel(text).into(),
    };
    serde_json::from_value(value).map_err(|error| Failure::new(Exit::Usage, format!("--{flag} {text}: {error}")).into())
}

fn broken(flag: &str, text: &str) -> Result<BreakEffect> {
    Ok(match text {
        "" => BreakEffect::default(),
        "headers" => BreakEffect { after_headers: true, ..BreakEffect::default() },
        "connection" => BreakEffect { connection: true, ..BreakEffect::default() },
        other => match (other.parse(), serde_json::from_value(other.into())) {
            (Ok(bytes), _) => BreakEffect { after_bytes: Some(bytes), ..BreakEffect::default() },
            (_, Ok(code)) => BreakEffect { code: Some(code), ..BreakEffect::default() },
            _ => {
                let why = format!("--{flag}={text}: use headers, connection, a number of bytes, or an error code of HTTP/2");
                return Err(Failure::new(Exit::Usage, why).into());
            }
        },
    })
}

fn delay(text: &str) -> Result<DelayEffect> {
    let number = |text: &str| {
        text.parse::<f64>().map_err(|_| Failure::new(Exit::Usage, format!("--delay {text}: use seconds, or two of them as 1..3")))
    };
    Ok(match text.split_once("..") {
        Some((least, most)) => DelayEffect { how: Pause::Between([number(least)?, number(most)?]), after: false },
        None => DelayEffect::of(number(text)?),
    })
}

impl Add {
    fn effect(&self) -> Result<Effect> {
        // Clap's group lets one of them through at most.
        let flags = [
            (self.pass, Effect::Pass(Unit {})),
            (self.refuse, Effect::Refuse(Unit {})),
            (self.drop, Effect::Drop(Unit {})),
            (self.lose, Effect::Lose(Unit {})),
            (self.goaway, Effect::Goaway(Unit {})),
        ];
        if let Some((_, effect)) = flags.into_iter().find(|(set, _)| *set) {
            return Ok(effect);
        }
        if let Some(code) = self.status {
            return Ok(Effect::Status(StatusEffect { retry_after: self.retry_after, ..StatusEffect::of(code) }));
        }
        if let Some(text) = &self.delay {
            return delay(text).map(Effect::Delay);
        }
        if let Some(bytes_per_second) = self.bandwidth {
            return Ok(Effect::Bandwidth(BandwidthEffect { bytes_per_second }));
        }
        if let Some(seconds) = self.hang {
            return Ok(Effect::Hang(HangEffect { seconds: (seconds > 0.0).then_some(seconds) }));
        }
        if let Some(text) = &self.tls {
            return word("tls", text).map(Effect::Tls);
        }
        if let Some(text) = &self.reset {
            return broken("reset", text).map(Effect::Reset);
        }
        if let Some(text) = &self.close {
            return broken("close", text).map(Effect::Close);
        }
        if let Some(text) = &self.body {
            return word("body", text).map(Effect::Body);
        }
        if let Some(text) = &self.events {
            return word("events", text).map(Effect::Watch);
        }
        if let Some(age) = self.stale {
            return Ok(Effect::Stale(StaleEffect { age }));
        }
        let why = format!("an effect is required: one of {}", <Effect as wire::OneKey>::KEYS.join(", "));
        Err(Failure::new(Exit::Usage, why).hint("add e.g. --status 500, or --reset").into())
    }

    pub(super) fn rule(&self) -> Result<Rule> {
        let effect = self.effect()?;
        let name = self.fault_name.clone().unwrap_or_else(|| match self.status {
            Some(code) => format!("status-{code}"),
            None => effect.name().to_owned(),
        });
        let budget = &self.budget;
        Ok(Rule {
            name,
            matcher: Matcher {
                client: ClientMatch {
                    user: self.user.as_str().into(),
                    service_account: self.service_account.as_str().into(),
                    group: self.client_group.as_str().into(),
                    pod: self.pod.as_str().into(),
                    user_agent: self.user_agent.as_str().into(),
                },
                verb: self.verb.as_str().into(),
                group: self.group.as_str().into(),
                resource: self.resource.as_str().into(),
                subresource: self.subresource.as_str().into(),
                namespace: self.in_namespace.as_str().into(),
                name: self.object.as_str().into(),
                nth_of_client: self.nth_of_client.clone().unwrap_or_default(),
                nth_on_connection: self.nth_on_connection.clone().unwrap_or_default(),
                ..Matcher::default()
            },
            effect,
            budget: Budget {
                first: budget.first,
                every: budget.every,
                ordinals: budget.ordinals.clone(),
                probability: budget.probability,
                seed: budget.seed,
                per_second: budget.per_second,
                from: budget.from,
                until: budget.until,
                from_request: None,
                until_request: None,
                per_client: budget.per_client,
            },
        })
    }
}
