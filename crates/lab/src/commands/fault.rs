//! `lab fault`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use faults::{
    BandwidthEffect, BreakEffect, Budget, ClientMatch, DelayEffect, Effect, HangEffect, Matcher, Rule, StatusEffect, Unit,
};

use super::{Output, Which};
use crate::control::Control;
use crate::exit::{Exit, Failure};

#[derive(Subcommand)]
pub(super) enum Fault {
    /// Arm a fault.
    Add(Box<Add>),
    /// Arm the faults of a file.
    Apply(Apply),
    /// Show each request that a fault decides over, as it happens, until it is interrupted.
    Watch(Watch),
    /// List faults and how often they decided.
    List(List),
    /// Clear one fault, or all.
    Clear(Clear),
}

#[derive(Args)]
pub(super) struct Add {
    #[command(flatten)]
    which: Which,
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
    /// Namespace of the objects.
    #[arg(long, default_value = "")]
    in_namespace: String,
    /// Name of the object.
    #[arg(long, default_value = "")]
    object: String,
    /// Answer with this status code.
    #[arg(long, group = "effect", required_unless_present_any = ["reset", "close", "refuse", "drop", "tls", "hang", "delay",
        "bandwidth", "lose", "body", "events", "pass"])]
    status: Option<u16>,
    /// Seconds of a Retry-After header.
    #[arg(long, requires = "status")]
    retry_after: Option<u32>,
    /// Reset before headers; `--reset=headers` after them, `--reset=BYTES` after so many bytes of the body.
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
    /// Change the events of watches: end-after=N, stall-after=N, expire-after=N, no-bookmarks, duplicate, reorder,
    /// delay=SECONDS, rewind=N.
    #[arg(long, group = "effect", value_name = "HOW")]
    events: Option<String>,
    /// Let it through, whatever later faults say.
    #[arg(long, group = "effect")]
    pass: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Arm nothing; show which requests of the last minute it would have met.
    #[arg(long)]
    dry_run: bool,
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
        "headers" => BreakEffect { after_headers: true, after_bytes: None },
        bytes => match bytes.parse() {
            Ok(bytes) => BreakEffect { after_headers: false, after_bytes: Some(bytes) },
            Err(_) => return Err(Failure::new(Exit::Usage, format!("--{flag}={text}: use headers, or a number of bytes")).into()),
        },
    })
}

fn delay(text: &str) -> Result<DelayEffect> {
    let number = |text: &str| {
        text.parse::<f64>().map_err(|_| Failure::new(Exit::Usage, format!("--delay {text}: use seconds, or two of them as 1..3")))
    };
    Ok(match text.split_once("..") {
        Some((least, most)) => DelayEffect { between: Some([number(least)?, number(most)?]), ..DelayEffect::default() },
        None => DelayEffect { seconds: Some(number(text)?), ..DelayEffect::default() },
    })
}

impl Add {
    fn effect(&self) -> Result<Effect> {
        let set = |wanted: bool| wanted.then_some(Unit {});
        Ok(Effect {
            pass: set(self.pass),
            status: self.status.map(|code| StatusEffect {
                code,
                retry_after: self.retry_after,
                message: None,
                headers: BTreeMap::new(),
            }),
            delay: self.delay.as_deref().map(delay).transpose()?,
            bandwidth: self.bandwidth.map(|bytes_per_second| BandwidthEffect { bytes_per_second }),
            hang: self.hang.map(|seconds| HangEffect { seconds: (seconds > 0.0).then_some(seconds) }),
            refuse: set(self.refuse),
            drop: set(self.drop),
            tls: self.tls.as_deref().map(|text| word("tls", text)).transpose()?,
            reset: self.reset.as_deref().map(|text| broken("reset", text)).transpose()?,
            close: self.close.as_deref().map(|text| broken("close", text)).transpose()?,
            lose: set(self.lose),
            body: self.body.as_deref().map(|text| word("body", text)).transpose()?,
            watch: self.events.as_deref().map(|text| word("events", text)).transpose()?,
        })
    }

    fn rule(&self) -> Result<Rule> {
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
                namespace: self.in_namespace.as_str().into(),
                name: self.object.as_str().into(),
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
                per_client: budget.per_client,
            },
        })
    }
}

#[derive(Args)]
pub(super) struct Apply {
    #[command(flatten)]
    which: Which,
    /// A YAML file with a list of faults.
    file: PathBuf,
    /// Arm nothing; show which requests of the last minute they would have met.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct Watch {
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Clear {
    #[command(flatten)]
    which: Which,
    /// The fault's name; all of them without it.
    fault: Option<String>,
}

impl Fault {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Add(add) => {
                let rule = add.rule()?;
                let usage = |error: faults::RuleError| Failure::new(Exit::Usage, error.to_string());
                rule.check().map_err(usage)?;
                let control = Control::of(&add.which.dir()?.running()?)?;
                if add.dry_run {
                    return would_match(&control, std::slice::from_ref(&rule)).await;
                }
                control.add_fault(&rule).await?;
                say!("fault {:?} is armed", rule.name);
            }
            Self::Apply(apply) => {
                let text =
                    std::fs::read_to_string(&apply.file).with_context(|| format!("cannot read {}", apply.file.display()))?;
                let at = |place: Option<(usize, usize)>| {
                    let place = place.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
                    format!("{}{place}", apply.file.display())
                };
                let located: Vec<wire::yaml::Located<Rule>> = wire::yaml::strict(&text)
                    .map_err(|error| Failure::new(Exit::Usage, format!("{}: {}", at(error.at), error.message)))?;
                let mut rules: Vec<Rule> = Vec::new();
                for rule in located {
                    let place = at(wire::yaml::place(&rule));
                    let rule = rule.value;
                    rule.check().map_err(|error| Failure::new(Exit::Usage, format!("{place}: {error}")))?;
                    if rules.iter().any(|other| other.name == rule.name) {
                        let why = format!("{place}: there are two faults of the name {:?}", rule.name);
                        return Err(Failure::new(Exit::Usage, why).into());
                    }
                    rules.push(rule);
                }
                let control = Control::of(&apply.which.dir()?.running()?)?;
                if apply.dry_run {
                    return would_match(&control, &rules).await;
                }
                for rule in &rules {
                    control.add_fault(rule).await?;
                    say!("fault {:?} is armed", rule.name);
                }
            }
            Self::Watch(watch) => {
                let control = Control::of(&watch.which.dir()?.running()?)?;
                follow(&control).await?;
            }
            Self::List(list) => {
                let faults = Control::of(&list.which.dir()?.running()?)?.faults().await?;
                if list.output.json(&faults) {
                    return Ok(Exit::Success);
                }
                let rows = faults
                    .iter()
                    .map(|fault| {
                        let (hits, seen) = (&fault["hits"], &fault["seen"]);
                        vec![
                            fault["name"].as_str().unwrap_or_default().to_owned(),
                            fault["effect"].to_string(),
                            fault["match"].to_string(),
                            fault["budget"].to_string(),
                            format!("{hits} of {seen}"),
                        ]
                    })
                    .collect();
                say_text!(super::table(&["name", "effect", "match", "budget", "decided"], rows));
            }
            Self::Clear(clear) => {
                let control = Control::of(&clear.which.dir()?.running()?)?;
                let cleared = control.clear_faults(clear.fault.as_deref()).await?;
                say!("{cleared} cleared");
            }
        }
        Ok(Exit::Success)
    }
}

/// Shows what rules would have met.
async fn would_match(control: &Control, rules: &[Rule]) -> Result<Exit> {
    for rule in rules {
        let met = control.try_fault(rule).await?;
        say!(
            "fault {:?} is not armed; of the last minute it speaks of {} requests (its budget left aside)",
            rule.name,
            met.len()
        );
        if !met.is_empty() {
            let newest = &met[met.len().saturating_sub(20)..];
            say_text!(super::ledger::rows(newest));
        }
    }
    Ok(Exit::Success)
}

/// How often the lab is asked for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(200);

async fn follow(control: &Control) -> Result<()> {
    // What happened before is not shown.
    let mut last = control.ledger(0, 1).await?.last().and_then(|entry| entry["number"].as_u64()).unwrap_or(0);
    loop {
        let entries = control.ledger(last, usize::MAX).await?;
        last = entries.last().and_then(|entry| entry["number"].as_u64()).unwrap_or(last);
        for entry in entries.iter().filter(|entry| !entry["rule"].is_null()) {
            say!("{}", super::ledger::line(entry));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
