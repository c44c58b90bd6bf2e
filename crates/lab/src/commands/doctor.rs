//! `lab doctor`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use xshell::{Shell, cmd};

use super::Output;
use crate::exit::Exit;
use crate::tools::{self, Fitness};

#[derive(Args)]
pub(super) struct Doctor {
    /// A Prometheus to look at besides those that are found.
    #[arg(long, env = "LAB_PROMETHEUS", value_name = "PATH")]
    prometheus: Option<PathBuf>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Line {
    tool: String,
    found: Option<PathBuf>,
    version: String,
    fit: bool,
    note: String,
}

impl Doctor {
    pub(super) fn run(self) -> Result<Exit> {
        let mut lines = Vec::new();
        if let Some(given) = &self.prometheus {
            let folder = given.parent().unwrap_or(Path::new("."));
            lines.push(prometheus(given.clone(), folder.join("promtool"), "given"));
        }
        match (tools::on_path("prometheus"), tools::on_path("promtool")) {
            (Some(server), Some(promtool)) => lines.push(prometheus(server, promtool, "PATH")),
            _ => lines.push(absent("prometheus", "not on PATH")),
        }
        match tools::cached(&tools::cache_folder()) {
            Ok(found) => lines.push(prometheus(found.prometheus, found.promtool, "cache")),
            Err(why) => lines.push(absent("prometheus", &format!("cache: {why}; `lab up` fetches one"))),
        }
        lines.push(alertmanager());
        for (tool, arguments, note) in [
            ("kubectl", "version --client", "to look into a lab; nothing needs it"),
            ("docker", "version --format {{.Server.Version}}", "for kind and minikube; the embedded lab needs none"),
            ("kind", "version", "for --provider kind"),
            ("minikube", "version --short", "for --provider minikube"),
        ] {
            lines.push(other(tool, arguments, note));
        }
        let usable = lines.iter().any(|line| line.tool == "prometheus" && line.fit);
        if !self.output.json(&lines) {
            let rows = lines
                .iter()
                .map(|line| {
                    vec![
                        line.tool.clone(),
                        if line.fit { "fit" } else { "-" }.to_owned(),
                        line.version.clone(),
                        line.found.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                        line.note.clone(),
                    ]
                })
                .collect();
            say_text!(super::table(&["tool", "fit", "version", "found", "note"], rows));
            if !usable {
                say!("\nNo Prometheus yet: `cargo xtask lab up` will fetch one.");
            }
        }
        Ok(Exit::Success)
    }
}

fn absent(tool: &str, note: &str) -> Line {
    Line { tool: tool.to_owned(), found: None, version: String::new(), fit: false, note: note.to_owned() }
}

fn alertmanager() -> Line {
    match tools::alertmanager() {
        Ok(found) => Line {
            tool: "alertmanager".to_owned(),
            found: Some(found.alertmanager),
            version: found.version,
            fit: true,
            note: "notifies when alerts fire".to_owned(),
        },
        Err(why) => absent("alertmanager", &format!("{why}; `lab up` fetches one")),
    }
}

fn prometheus(server: PathBuf, promtool: PathBuf, from: &str) -> Line {
    let (version, fit, note) = match tools::check(&server, &promtool) {
        Fitness::Fits { version } => (version, true, from.to_owned()),
        Fitness::Unfit { why } => (String::new(), false, format!("{from}: {why}")),
    };
    Line { tool: "prometheus".to_owned(), found: Some(server), version, fit, note }
}

fn other(tool: &str, arguments: &str, note: &str) -> Line {
    let Some(path) = tools::on_path(tool) else { return absent(tool, &format!("not found; {note}")) };
    let run = || -> Result<String> {
        let shell = Shell::new()?;
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = cmd!(shell, "{path} {arguments...}").quiet().ignore_status().output()?;
        let text = if output.status.success() { output.stdout } else { output.stderr };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().next().unwrap_or_default().trim().to_owned();
        if output.status.success() { Ok(line) } else { anyhow::bail!("{line}") }
    };
    let (version, fit, note) = match run() {
        Ok(version) => (version, true, note.to_owned()),
        Err(error) => (String::new(), false, error.to_string()),
    };
    Line { tool: tool.to_owned(), found: Some(path), version, fit, note }
}
