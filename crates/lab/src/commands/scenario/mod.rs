//! `lab scenario`.

mod ground;
mod mutate;
mod outputs;
mod run;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use scenario::Catalogue as _;
use wire::counted_as;

use super::{Output, Programs};
use crate::catalogue::Simulated;
use crate::exit::{Exit, Failure};
use crate::scenarios::{self, Loaded};
use crate::tools;

#[derive(Subcommand)]
pub(super) enum ScenarioCommand {
    /// Run scenarios, each on a lab of its own.
    Run(Box<run::Run>),
    /// Check files without running them.
    Check(Files),
    /// Change one thing of each scenario at a time and run it again: a change that it does not notice is listed with its line.
    Mutate(Box<mutate::Mutate>),
    /// Accept or reject snapshots that are new or differ, one by one or all.
    Review(super::review::Review),
    /// List scenarios.
    List(List),
    /// Print the JSON schema of scenario files.
    Schema,
}

#[derive(Args)]
pub(super) struct Files {
    /// Files or folders.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

/// What every command takes that runs scenarios.
#[derive(Args)]
pub(super) struct Running {
    /// Only on this release of KubeVirt.
    #[arg(long, value_name = "RELEASE")]
    kubevirt: Option<String>,
    /// Multiply every deadline by this factor; an overloaded machine multiplies them further by itself.
    #[arg(long, env = wire::patience::VARIABLE, value_name = "FACTOR", value_parser = wire::patience::parse)]
    patience: Option<f64>,
    #[command(flatten)]
    programs: Programs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Running {
    /// Reads the files and makes deadlines as long as asked for; the files, and the one release that is asked for.
    fn begin(&self, files: &Files) -> Result<(Vec<Loaded>, Option<String>)> {
        if let Some(factor) = self.patience {
            wire::patience::set(factor);
        }
        Ok((files.load()?, self.kubevirt.as_deref().map(known_release).transpose()?))
    }

    async fn prometheus(&self) -> Result<tools::Prometheus> {
        tools::find(&self.programs.search(), &|what| eprintln!("{what}")).await
    }
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    files: Files,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Files {
    /// Reads all files; every problem of every file is reported.
    fn load(&self) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        let mut problems = Vec::new();
        for path in &self.paths {
            let files = if path.is_dir() { scenarios::files(path) } else { vec![path.clone()] };
            if files.is_empty() {
                problems.push(format!("{}: no scenario file is in the folder", path.display()));
            }
            for file in files {
                match scenarios::load(&file) {
                    Ok(scenario) => loaded.push(scenario),
                    Err(found) => problems.extend(found.iter().map(ToString::to_string)),
                }
            }
        }
        if !problems.is_empty() {
            bail!(Failure::new(Exit::Usage, problems.join("\nerror: ")));
        }
        Ok(loaded)
    }
}

impl ScenarioCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Run(run) => run.run().await,
            Self::Mutate(mutate) => mutate.run().await,
            Self::Review(review) => review.run(),
            Self::Check(files) => {
                let count = files.load()?.len();
                say!("{}", counted_as(count, "scenario is valid", "scenarios are valid"));
                Ok(Exit::Success)
            }
            Self::List(list) => {
                let loaded = list.files.load()?;
                let document: Vec<_> = loaded
                    .iter()
                    .map(|loaded| {
                        let kubevirt = &loaded.scenario.given.kubevirt;
                        serde_json::json!({
                            "name": loaded.name, "file": loaded.path, "kubevirt": kubevirt.to_run(), "releases": kubevirt.text(),
                            "description": loaded.scenario.description,
                        })
                    })
                    .collect();
                if list.output.json(&document) {
                    return Ok(Exit::Success);
                }
                for loaded in &loaded {
                    say!("{} ({})", loaded.name, loaded.scenario.given.kubevirt.text());
                    say!("    {}", loaded.scenario.description.split_whitespace().collect::<Vec<_>>().join(" "));
                }
                Ok(Exit::Success)
            }
            Self::Schema => {
                say!("{}", serde_json::to_string_pretty(&scenario::schema(&Simulated))?);
                Ok(Exit::Success)
            }
        }
    }
}

/// The known release that a person names, with or without `v`.
fn known_release(named: &str) -> Result<String> {
    let known = Simulated.releases();
    let found = known.iter().find(|release| release.trim_start_matches('v') == named.trim_start_matches('v'));
    let why = || Failure::new(Exit::Usage, format!("KubeVirt {named} is not known; there are {}", known.join(", ")));
    Ok(found.ok_or_else(why)?.clone())
}
