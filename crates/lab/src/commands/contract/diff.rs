//! `lab contract diff`: what differs between two releases, files, labs or Prometheis, and what that breaks.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use contract::{Diff, Reader, diff};
use scenario::parity::escaped;

use super::{check, source};
use crate::exit::Exit;

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
    /// A page.
    Html,
    /// For a comment on a pull request.
    Markdown,
}

/// How many differences the text has; nobody reads more.
const SHOWN: usize = 5_000;

#[derive(Args)]
pub(crate) struct DiffCommand {
    /// As it was: a release, a page of metrics, an answer of /api/v1/series, a snapshot, lab:NAME, or the URL of a Prometheus.
    before: String,
    /// As it is now.
    after: String,
    /// Dashboards and rules, or folders of them: tell which of them the difference breaks, and fail only then.
    #[arg(long, value_name = "PATH")]
    readers: Vec<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl DiffCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        let (before, after) = (source::shape(&self.before).await?, source::shape(&self.after).await?);
        let readers: Vec<Reader> = check::read(&self.readers)?.into_iter().flat_map(|(_, found)| found).collect();
        let found = diff(&before, &after, &readers, &source::renames()?);
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&found)?),
            Format::Text => say_text!(self.text(&found)),
            Format::Markdown => say_text!(self.markdown(&found)),
            Format::Html => say_text!(self.html(&found)),
        }
        Ok(if found.breaks(&readers) { Exit::ContractBroken } else { Exit::Success })
    }

    fn title(&self) -> String {
        format!("{} → {}", self.before, self.after)
    }

    fn text(&self, found: &Diff) -> String {
        let mut out = String::new();
        for change in found.changes.iter().take(SHOWN) {
            let mark = if change.breaks() { '!' } else { ' ' };
            let _ = writeln!(out, "{mark} {change}");
        }
        if let Some(more) = found.changes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(out, "{more} more are left out; --format json has all");
        }
        if let Some((gone, new)) = found.not_compared {
            let _ = writeln!(out, "{gone} metrics are gone and {new} are new: too many to look for renames that are not known");
        }
        for broken in &found.broken {
            let _ = writeln!(out, "broken: {}: {}", broken.reader, broken.finding);
        }
        let _ = writeln!(out, "{}", self.sum(found));
        out
    }

    fn sum(&self, found: &Diff) -> String {
        let breaking = found.changes.iter().filter(|change| change.breaks()).count();
        let readers = if self.readers.is_empty() { String::new() } else { format!(", {} readers broken", found.broken.len()) };
        format!("{}: {} differences, {breaking} of them may break a reader{readers}", self.title(), found.changes.len())
    }

    fn markdown(&self, found: &Diff) -> String {
        let mut out = format!("## {}\n\n{}\n", self.title(), self.sum(found));
        if !found.changes.is_empty() {
            out.push_str("\n| metric | change | may break |\n|---|---|---|\n");
        }
        for change in &found.changes {
            let breaks = if change.breaks() { "yes" } else { "" };
            let _ = writeln!(out, "| `{}` | {} | {breaks} |", change.metric(), escaped_cell(&change.to_string()));
        }
        if !found.broken.is_empty() {
            out.push_str("\n| reader | what it misses |\n|---|---|\n");
        }
        for broken in &found.broken {
            let _ = writeln!(out, "| {} | {} |", escaped_cell(&broken.reader), escaped_cell(&broken.finding.to_string()));
        }
        out
    }

    fn html(&self, found: &Diff) -> String {
        let title = escaped(&self.title());
        let mut out = format!(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>body{{font:15px sans-serif;margin:2em}}\
             table{{border-collapse:collapse}}td,th{{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}}\
             tr.breaks{{color:#a00}}code{{font-size:14px}}</style>\n<h1>{title}</h1>\n<p>{}</p>\n<table>\n",
            escaped(&self.sum(found))
        );
        for change in &found.changes {
            let class = if change.breaks() { " class=\"breaks\"" } else { "" };
            let metric = escaped(change.metric());
            let _ = writeln!(out, "<tr{class}><td><code>{metric}</code><td>{}", escaped(&change.to_string()));
        }
        for broken in &found.broken {
            let (reader, finding) = (escaped(&broken.reader), escaped(&broken.finding.to_string()));
            let _ = writeln!(out, "<tr class=\"breaks\"><td>{reader}<td>{finding}");
        }
        out.push_str("</table>\n");
        out
    }
}

/// A cell of a table in Markdown.
fn escaped_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
