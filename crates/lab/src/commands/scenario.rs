//! `lab scenario`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::Output;
use crate::exit::{Exit, Failure};
use crate::scenarios::{self, Loaded};
use crate::tools;

#[derive(Subcommand)]
pub(super) enum ScenarioCommand {
    /// Run scenarios, each on a lab of its own.
    Run(Run),
    /// Check files without running them.
    Check(Files),
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

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    files: Files,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    files: Files,
    /// Only on this release of KubeVirt.
    #[arg(long, value_name = "RELEASE")]
    kubevirt: Option<String>,
    /// Run each so often; all must pass.
    #[arg(long, default_value_t = 1, value_name = "N")]
    times: u32,
    /// Where snapshots are.
    #[arg(long, default_value = "snapshots")]
    snapshots: PathBuf,
    /// Write snapshots that differ or are new.
    #[arg(long)]
    update: bool,
    /// A Prometheus to use; promtool is looked for beside it.
    #[arg(long, env = "LAB_PROMETHEUS", value_name = "PATH")]
    prometheus: Option<PathBuf>,
    /// Use the network for nothing.
    #[arg(long)]
    offline: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Files {
    /// Reads all files; every problem of every file is told.
    fn load(&self) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::new();
        let mut problems = Vec::new();
        for path in &self.paths {
            let files = if path.is_dir() { scenarios::files(path) } else { vec![path.clone()] };
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
        if loaded.is_empty() {
            bail!(Failure::new(Exit::Usage, "no scenario file is there").hint("name files or folders"));
        }
        Ok(loaded)
    }
}

impl ScenarioCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Run(run) => run.run().await,
            Self::Check(files) => {
                let count = files.load()?.len();
                say!("{count} scenarios are fine");
                Ok(Exit::Success)
            }
            Self::List(list) => {
                let loaded = list.files.load()?;
                let document: Vec<_> = loaded
                    .iter()
                    .map(|loaded| {
                        serde_json::json!({
                            "name": loaded.name, "file": loaded.path, "kubevirt": loaded.scenario.given.kubevirt,
                            "description": loaded.scenario.description,
                        })
                    })
                    .collect();
                if list.output.json(&document) {
                    return Ok(Exit::Success);
                }
                for loaded in &loaded {
                    say!("{} ({})", loaded.name, loaded.scenario.given.kubevirt.join(", "));
                    say!("    {}", loaded.scenario.description.split_whitespace().collect::<Vec<_>>().join(" "));
                }
                Ok(Exit::Success)
            }
            Self::Schema => {
                say!("{}", serde_json::to_string_pretty(&scenario::schema())?);
                Ok(Exit::Success)
            }
        }
    }
}

impl Run {
    async fn run(self) -> Result<Exit> {
        let loaded = self.files.load()?;
        let search = tools::Search { given: self.prometheus.clone(), offline: self.offline };
        let prometheus = tools::find(&search, &|what| eprintln!("{what}")).await?;
        let mut exit = Exit::Success;
        let mut reports = Vec::new();
        for loaded in &loaded {
            for release in &loaded.scenario.given.kubevirt {
                if self.kubevirt.as_ref().is_some_and(|only| only.trim_start_matches('v') != release.trim_start_matches('v')) {
                    continue;
                }
                for _ in 0..self.times {
                    let report = tokio::select! {
                        report = scenarios::run(loaded, release, &prometheus) => report?,
                        _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
                    };
                    if self.output == Output::Text {
                        say_text!(report.to_string());
                    }
                    if !report.passed() {
                        exit = Exit::ScenarioFailed;
                    }
                    for snapshot in &report.snapshots {
                        let name = scenarios::snapshot_name(&loaded.name, release, &snapshot.name);
                        let same = self.hold(&self.snapshots.join(format!("{name}.snap")), &snapshot.text)?;
                        if !same && exit == Exit::Success {
                            exit = Exit::SnapshotDiffers;
                        }
                    }
                    reports.push(report);
                }
            }
        }
        if reports.is_empty() {
            bail!(Failure::new(Exit::Usage, "nothing was run").hint("no scenario names that release"));
        }
        self.output.json(&reports);
        Ok(exit)
    }

    /// Compares a snapshot with its file; whether it is the same, or was updated.
    fn hold(&self, path: &Path, text: &str) -> Result<bool> {
        let present = scenarios::read_snapshot(path);
        // insta ends a file's text with one newline.
        let same = present.as_deref().is_some_and(|present| present.trim_end() == text.trim_end());
        if same {
            return Ok(true);
        }
        if self.update {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, format!("---\nsource: tests/it/scenarios.rs\nexpression: text\n---\n{}\n", text.trim_end()))?;
            eprintln!("{} is written", path.display());
            return Ok(true);
        }
        match present {
            None => eprintln!("{} does not exist; look at it and write it with --update", path.display()),
            Some(present) => eprintln!("{} differs (- file, + this run):\n{}", path.display(), metrics::diff(&present, text)),
        }
        Ok(false)
    }
}
