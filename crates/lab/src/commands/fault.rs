//! `lab fault`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use faults::{Budget, ClientMatch, Effect, HangEffect, Matcher, Rule, StatusEffect, Unit};

use super::{Output, Which};
use crate::control::Control;
use crate::exit::{Exit, Failure};

#[derive(Subcommand)]
pub(super) enum Fault {
    /// Arm a fault.
    Add(Box<Add>),
    /// Arm the faults of a file.
    Apply(Apply),
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
    #[arg(long, group = "effect", required_unless_present_any = ["reset", "refuse", "hang", "pass"])]
    status: Option<u16>,
    /// Seconds of a Retry-After header.
    #[arg(long, requires = "status")]
    retry_after: Option<u32>,
    /// Reset before headers.
    #[arg(long, group = "effect")]
    reset: bool,
    /// Refuse the connection.
    #[arg(long, group = "effect")]
    refuse: bool,
    /// Do not answer, for this many seconds (0: until the client gives up).
    #[arg(long, group = "effect", value_name = "SECONDS")]
    hang: Option<f64>,
    /// Let it through, whatever later faults say.
    #[arg(long, group = "effect")]
    pass: bool,
    /// Only the first N matching requests.
    #[arg(long, value_name = "N")]
    first: Option<u64>,
}

impl Add {
    fn rule(&self) -> Rule {
        let set = |wanted: bool| wanted.then_some(Unit {});
        let effect = Effect {
            pass: set(self.pass),
            status: self.status.map(|code| StatusEffect { code, retry_after: self.retry_after, message: None }),
            refuse: set(self.refuse),
            reset: set(self.reset),
            hang: self.hang.map(|seconds| HangEffect { seconds: (seconds > 0.0).then_some(seconds) }),
        };
        let name = self.fault_name.clone().unwrap_or_else(|| match self.status {
            Some(code) => format!("status-{code}"),
            None => effect.name().to_owned(),
        });
        Rule {
            name,
            matcher: Matcher {
                client: ClientMatch {
                    user: self.user.as_str().into(),
                    service_account: self.service_account.as_str().into(),
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
            budget: Budget { first: self.first },
        }
    }
}

#[derive(Args)]
pub(super) struct Apply {
    #[command(flatten)]
    which: Which,
    /// A YAML file with a list of faults.
    file: PathBuf,
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
                let rule = add.rule();
                let usage = |error: faults::RuleError| Failure::new(Exit::Usage, error.to_string());
                rule.check().map_err(usage)?;
                let control = Control::of(&add.which.dir()?.running()?)?;
                control.add_fault(&rule).await?;
                say!("fault {:?} is armed", rule.name);
            }
            Self::Apply(apply) => {
                let text =
                    std::fs::read_to_string(&apply.file).with_context(|| format!("cannot read {}", apply.file.display()))?;
                let rules: Vec<Rule> = wire::yaml::strict(&text).map_err(|error| {
                    let at = error.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
                    Failure::new(Exit::Usage, format!("{}{at}: {}", apply.file.display(), error.message))
                })?;
                for rule in &rules {
                    rule.check().map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", apply.file.display())))?;
                }
                let control = Control::of(&apply.which.dir()?.running()?)?;
                for rule in &rules {
                    control.add_fault(rule).await?;
                    say!("fault {:?} is armed", rule.name);
                }
            }
            Self::List(list) => {
                let faults = Control::of(&list.which.dir()?.running()?)?.faults().await?;
                if list.output.json(&faults) {
                    return Ok(Exit::Success);
                }
                let rows = faults
                    .iter()
                    .map(|fault| {
                        let budget = fault["budget"]["first"].as_u64();
                        let hits = fault["hits"].as_u64().unwrap_or(0);
                        vec![
                            fault["name"].as_str().unwrap_or_default().to_owned(),
                            fault["effect"].to_string(),
                            fault["match"].to_string(),
                            budget.map_or_else(|| format!("{hits}"), |budget| format!("{hits} of {budget}")),
                        ]
                    })
                    .collect();
                say_text!(super::table(&["name", "effect", "match", "decided"], rows));
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
