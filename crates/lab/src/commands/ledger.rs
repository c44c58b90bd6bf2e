//! `lab ledger`.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Output, Which};
use crate::control::Control;
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct Ledger {
    #[command(flatten)]
    which: Which,
    /// Only entries after this number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    since: u64,
    /// Only the newest entries.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only entries of clients whose pod or user contains this.
    #[arg(long, default_value = "")]
    client: String,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Ledger {
    pub(super) async fn run(self) -> Result<Exit> {
        let control = Control::of(&self.which.dir()?.running()?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fetch = if self.client.is_empty() { self.limit } else { usize::MAX };
        let mut entries = control.ledger(self.since, fetch).await?;
        entries.retain(|entry| {
            let client = &entry["client"];
            self.client.is_empty() || [&client["pod"], &client["user"]].iter().any(|name| text(name).contains(&self.client))
        });
        let entries = &entries[entries.len().saturating_sub(self.limit)..];
        if self.output.json(&entries) {
            return Ok(Exit::Success);
        }
        say_text!(rows(entries));
        Ok(Exit::Success)
    }
}

/// Entries of the ledger as a table.
pub(super) fn rows(entries: &[Value]) -> String {
    let rows = entries.iter().map(|entry| cells(entry).to_vec()).collect();
    super::table(&["number", "time", "client", "method", "target", "verdict", "code"], rows)
}

/// An entry in one line.
pub(super) fn line(entry: &Value) -> String {
    cells(entry)[1..].join("  ")
}

fn cells(entry: &Value) -> [String; 7] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let client = &entry["client"];
    let verdict = text(&entry["verdict"]);
    [
        entry["number"].to_string(),
        text(&entry["time"]),
        if client["pod"].is_null() { text(&client["user"]) } else { text(&client["pod"]) },
        text(&entry["method"]),
        text(&entry["target"]).chars().take(100).collect(),
        entry["rule"].as_str().map_or_else(|| verdict.clone(), |rule| format!("{verdict} ({rule})")),
        text(&entry["code"]),
    ]
}
