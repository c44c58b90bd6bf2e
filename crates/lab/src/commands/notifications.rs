//! `lab notifications`.

use anyhow::Result;
use clap::Args;
use metrics::relabel::labels_text;

use super::{Output, Which, table};
use crate::control::Control;
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct Notifications {
    #[command(flatten)]
    which: Which,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Notifications {
    pub(super) async fn run(self) -> Result<Exit> {
        let all = Control::of(&self.which.dir()?.running()?)?.notifications().await?;
        if self.output.json(&all) {
            return Ok(Exit::Success);
        }
        if all.is_empty() {
            eprintln!("nobody was notified of anything yet");
            return Ok(Exit::Success);
        }
        let rows = all.iter().map(|one| {
            let labels = labels_text(&one.labels, |name| !matches!(name, "alertname" | "severity"));
            let of = |name: &str| one.labels.get(name).cloned().unwrap_or_default();
            vec![
                one.at.strftime("%H:%M:%S").to_string(),
                one.status.clone(),
                of("alertname"),
                of("severity"),
                one.receiver.clone(),
                labels,
            ]
        });
        say_text!(table(&["at", "status", "alert", "severity", "receiver", "labels"], rows.collect()));
        Ok(Exit::Success)
    }
}
