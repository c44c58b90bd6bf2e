//! `lab ledger`.

use anyhow::Result;
use clap::Args;
use faults::Entry;
use jiff::{SignedDuration, Timestamp};
use scenario::reconcile::Reconciliation;

use super::{Output, Proxied};
use crate::exit::{Exit, Failure};
use crate::provider::bench::ClusterBench;
use crate::provider::record::ClusterRecord;

#[derive(Args)]
pub(super) struct Ledger {
    #[command(flatten)]
    which: Proxied,
    /// Only entries after this number, or of so long ago: 120, or 30s, 5m.
    #[arg(long, default_value = "0", value_name = "NUMBER|TIME")]
    since: String,
    /// Only the newest entries.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only entries of clients whose pod or user contains this.
    #[arg(long, default_value = "")]
    client: String,
    /// The totals of all requests instead of the last ones: by client, method, verb, resource and code.
    #[arg(long)]
    totals: bool,
    /// Read the counters of all components and of Prometheus' discovery, wait so long, read them again, and explain every
    /// difference to the ledger; what stays unexplained is a failure.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "10s", conflicts_with_all = ["totals", "proxy"])]
    reconcile: Option<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Ledger {
    async fn reconcile(&self, during: &str) -> Result<Exit> {
        let bad = || Failure::new(Exit::Usage, format!("--reconcile {during}: use a time such as 10s"));
        let during = scenario::duration(during).ok_or_else(bad)?;
        let dir = self.which.dir()?;
        let found = match ClusterRecord::of(&dir) {
            // Prometheus' own discovery does not go through a cluster's proxy.
            Some(_) => vec![ClusterBench::open(&dir, None).await?.reconcile(during).await?],
            None => self.which.control().await?.reconcile(during.as_secs()).await?.into(),
        };
        if !self.output.json(&found) {
            for (title, found) in ["components", "Prometheus' discovery"].into_iter().zip(&found) {
                say!("{title}: {found}");
            }
        }
        if found.iter().all(Reconciliation::is_explained) {
            return Ok(Exit::Success);
        }
        Err(Failure::new(Exit::ScenarioFailed, "counters and ledger differ, and nothing explains it".to_owned()).into())
    }

    /// The number after which entries are wanted, and the instant.
    fn since(&self) -> Result<(u64, Timestamp)> {
        if let Ok(number) = self.since.parse() {
            return Ok((number, Timestamp::MIN));
        }
        let bad =
            || Failure::new(Exit::Usage, format!("--since {}: use the number of an entry, or a time such as 30s", self.since));
        let ago = scenario::duration(&self.since).and_then(|ago| SignedDuration::try_from(ago).ok()).ok_or_else(bad)?;
        Ok((0, Timestamp::now() - ago))
    }

    fn is_of(&self, client: &str) -> bool {
        self.client.is_empty() || client.contains(&self.client)
    }

    pub(super) async fn run(self) -> Result<Exit> {
        if let Some(during) = &self.reconcile {
            return self.reconcile(during).await;
        }
        let (after, since) = self.since()?;
        let control = self.which.control().await?;
        if self.totals {
            let mut snapshot = control.totals().await?;
            snapshot.totals.retain(|(key, _)| self.is_of(&key.client));
            if self.output.json(&snapshot) {
                return Ok(Exit::Success);
            }
            let rows = snapshot.totals.into_iter().map(|(key, count)| {
                vec![key.client, key.method.into(), key.verb.into(), key.resource, key.code.into(), count.to_string()]
            });
            say_text!(super::table(&["client", "method", "verb", "resource", "code", "requests"], rows.collect()));
            return Ok(Exit::Success);
        }
        let all = self.client.is_empty() && since == Timestamp::MIN;
        let mut entries = control.ledger(after, if all { self.limit } else { usize::MAX }).await?;
        entries.retain(|entry| {
            let client = &entry.client;
            entry.time >= since && (self.is_of(client.pod.as_deref().unwrap_or_default()) || self.is_of(&client.user))
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
pub(super) fn rows(entries: &[Entry]) -> String {
    let rows = entries.iter().map(|entry| cells(entry).to_vec()).collect();
    super::table(&["number", "time", "client", "method", "target", "verdict", "code"], rows)
}

/// An entry in one line.
pub(super) fn line(entry: &Entry) -> String {
    cells(entry)[1..].join("  ")
}

fn cells(entry: &Entry) -> [String; 7] {
    [
        entry.number.to_string(),
        entry.time.to_string(),
        entry.client.key().to_owned(),
        entry.method.to_string(),
        entry.target.chars().take(100).collect(),
        entry.rule.as_ref().map_or_else(|| entry.verdict.to_string(), |rule| format!("{} ({rule})", entry.verdict)),
        entry.code.as_deref().unwrap_or_default().to_owned(),
    ]
}
