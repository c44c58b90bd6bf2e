//! `lab fault`.

mod add;
mod around;
mod cluster;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use faults::Rule;

use super::{Output, Proxied};
use crate::control::Control;
use crate::exit::{Exit, Failure};

#[derive(Subcommand)]
pub(crate) enum Fault {
    /// Arm a fault.
    Add(Box<add::Add>),
    /// Arm the faults of a file.
    Apply(Apply),
    /// Show each request that a fault decides over, as it happens, until it is interrupted.
    Watch(Watch),
    /// List faults and how often they decided.
    List(List),
    /// Clear one fault, or all.
    Clear(Clear),
    /// Print the JSON schema of fault files.
    Schema,
    /// Put the fault proxy on the lab's cluster, and lead KubeVirt through it.
    Install(cluster::Install),
    /// Lead KubeVirt back to the API server, and take the fault proxy off the cluster.
    Remove(cluster::Remove),
    /// Take a role or binding away, as somebody who tidies up: its subjects are answered 403.
    Rights(around::Rights),
    /// Have a ServiceAccount's requests answered 429 by API Priority and Fairness, but for one at a time.
    Throttle(around::Throttle),
    /// Stop a kind cluster's node, or have it drop what comes for the API server.
    Node(around::Node),
    /// Put back what `rights`, `throttle` and `node` have changed.
    Restore(around::Restore),
}

#[derive(Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    which: Proxied,
    /// A YAML file with a list of faults.
    file: PathBuf,
    /// Arm nothing; show which requests of the last minute they would have met.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    which: Proxied,
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    which: Proxied,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct Clear {
    #[command(flatten)]
    which: Proxied,
    /// The fault's name; all of them without it.
    fault: Option<String>,
}

impl Fault {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Add(add) => {
                let rule = add.rule()?;
                rule.check().map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
                return arm(&add.which, &[rule], add.dry_run).await;
            }
            Self::Apply(apply) => {
                let file = apply.file.display().to_string();
                let text = std::fs::read_to_string(&apply.file).with_context(|| format!("cannot read {file}"))?;
                let located = faults::read_located(&file, &text).map_err(|error| Failure::new(Exit::Usage, error))?;
                let armed = apply.which.control().await?.faults().await?;
                let taken = |rule: &Rule| armed.iter().any(|armed| armed.rule.name == rule.name);
                if let Some((place, rule)) = located.iter().find(|(_, rule)| taken(rule)).filter(|_| !apply.dry_run) {
                    let why = format!("{place}: a fault of the name {:?} is armed", rule.name);
                    return Err(Failure::new(Exit::Usage, why).hint(format!("cargo xtask fault clear {}", rule.name)).into());
                }
                let rules: Vec<Rule> = located.into_iter().map(|(_, rule)| rule).collect();
                return arm(&apply.which, &rules, apply.dry_run).await;
            }
            Self::Install(install) => return install.run().await,
            Self::Remove(remove) => return remove.run().await,
            Self::Rights(rights) => return rights.run().await,
            Self::Throttle(throttle) => return throttle.run().await,
            Self::Node(node) => return node.run().await,
            Self::Restore(restore) => return restore.run().await,
            Self::Schema => say!("{}", serde_json::to_string_pretty(&schemars::schema_for!(Vec<Rule>))?),
            Self::Watch(watch) => {
                let control = watch.which.control().await?;
                follow(&control).await?;
            }
            Self::List(list) => {
                let faults = list.which.control().await?.faults().await?;
                if list.output.json(&faults) {
                    return Ok(Exit::Success);
                }
                let rows = faults
                    .iter()
                    .map(|fault| {
                        let Rule { name, matcher, effect, budget } = &*fault.rule;
                        vec![
                            name.clone(),
                            written(effect),
                            written(matcher),
                            written(budget),
                            format!("{} of {}", fault.hits, fault.seen),
                        ]
                    })
                    .collect();
                say_text!(super::table(&["name", "effect", "match", "budget", "decided"], rows));
            }
            Self::Clear(clear) => {
                let control = clear.which.control().await?;
                let cleared = control.clear_faults(clear.fault.as_deref()).await?;
                say!("{cleared} cleared");
            }
        }
        Ok(Exit::Success)
    }
}

/// A part of a rule as a file would have it, in one line.
fn written(part: &impl serde::Serialize) -> String {
    serde_json::to_string(part).unwrap_or_default()
}

/// Arms rules, all or none; or shows what they would have met.
async fn arm(which: &Proxied, rules: &[Rule], dry_run: bool) -> Result<Exit> {
    let control = which.control().await?;
    if !dry_run {
        control.add_faults(rules).await?;
        for rule in rules {
            say!("fault {:?} is armed", rule.name);
        }
        return Ok(Exit::Success);
    }
    for (rule, met) in rules.iter().zip(control.try_faults(rules).await?) {
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
    let mut last = control.ledger(0, 1).await?.last().map_or(0, |entry| entry.number);
    loop {
        let entries = control.ledger(last, usize::MAX).await?;
        last = entries.last().map_or(last, |entry| entry.number);
        for entry in entries.iter().filter(|entry| entry.rule.is_some()) {
            say!("{}", super::ledger::line(entry));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
