//! `lab ledger`.

use anyhow::Result;
use clap::Args;

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
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
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
        let rows = entries
            .iter()
            .map(|entry| {
                let client = &entry["client"];
                vec![
                    entry["number"].to_string(),
                    text(&entry["time"]),
                    if client["pod"].is_null() { text(&client["user"]) } else { text(&client["pod"]) },
                    text(&entry["method"]),
                    text(&entry["target"]).chars().take(100).collect(),
                    entry["rule"]
                        .as_str()
                        .map_or_else(|| text(&entry["verdict"]), |rule| format!("{} ({rule})", text(&entry["verdict"]))),
                    text(&entry["code"]),
                ]
            })
            .collect();
        say_text!(super::table(&["number", "time", "client", "method", "target", "verdict", "code"], rows));
        Ok(Exit::Success)
    }
}
