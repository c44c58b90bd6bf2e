//! `lab contract diff`: what differs between two releases, files, labs or Prometheus servers, and what that breaks.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use contract::{Diff, Effect, Outcome, Reader, diff};
use scenario::html::escaped;
use wire::counted;

use super::files::{self, Files};
use super::source;
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
    /// Dashboards and rules, or folders of them: show which of them the difference breaks, and fail only if it breaks one or one cannot be
    /// read. What was broken before is listed apart.
    #[arg(long, value_name = "PATH")]
    readers: Vec<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What readers there are, and where.
#[derive(Default)]
struct Readers {
    all: Vec<Reader>,
    /// The file of each.
    files: Vec<PathBuf>,
    /// What was not read.
    from: Files,
}

impl Readers {
    fn of(paths: &[PathBuf]) -> Result<Self> {
        if paths.is_empty() {
            return Ok(Self::default());
        }
        let from = files::read(paths)?;
        let (files, all) = from.readers().map(|(file, reader)| (from.read[file].0.clone(), reader.clone())).unzip();
        Ok(Self { all, files, from })
    }

    /// File and line.
    fn place(&self, number: usize, line: usize) -> String {
        self.files.get(number).map_or_else(String::new, |file| format!("{}:{line}", file.display()))
    }

    /// What was not read: each with the place and the reason.
    fn not_read(&self, found: &Diff) -> Vec<(String, String)> {
        let expressions = found.not_read.iter().filter_map(|(number, checked)| match &checked.outcome {
            Outcome::NotRead { why } => {
                Some((format!("{} ({})", checked.reader, self.place(*number, checked.line)), why.clone()))
            }
            Outcome::There { .. } | Outcome::Broken { .. } | Outcome::NotAtHand { .. } => None,
        });
        let files = self.from.not_read.iter().map(|one| (one.file.display().to_string(), one.why.clone()));
        expressions.chain(files).collect()
    }
}

/// How many readers effects are about.
fn distinct(effects: &[Effect]) -> usize {
    effects.iter().map(|effect| effect.number).collect::<std::collections::BTreeSet<_>>().len()
}

impl DiffCommand {
    pub(super) async fn run(self) -> Result<Exit> {
        let (before, after) = (source::shape(&self.before).await?, source::shape(&self.after).await?);
        let readers = Readers::of(&self.readers)?;
        let found = diff(&before, &after, &readers.all, &source::renames()?, &source::kubevirts()?);
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&self.json(&found, &readers)?)?),
            Format::Text => say_text!(self.text(&found, &readers)),
            Format::Markdown => say_text!(self.markdown(&found, &readers)),
            Format::Html => say_text!(self.html(&found, &readers)),
        }
        Ok(if found.breaks(&readers.all) {
            Exit::ContractBroken
        } else if readers.not_read(&found).is_empty() {
            Exit::Success
        } else {
            Exit::NotAllRead
        })
    }

    fn title(&self) -> String {
        format!("{} → {}", self.before, self.after)
    }

    fn json(&self, found: &Diff, readers: &Readers) -> Result<serde_json::Value> {
        let mut whole = serde_json::to_value(found)?;
        for list in ["broken", "brokenBefore"] {
            for effect in whole[list].as_array_mut().into_iter().flatten() {
                let number = effect["number"].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or_default();
                effect["file"] = readers.files.get(number).map(|file| file.display().to_string()).into();
            }
        }
        let not_read = readers.not_read(found).into_iter().map(|(reader, why)| serde_json::json!({"reader": reader, "why": why}));
        whole["notRead"] = not_read.collect();
        Ok(whole)
    }

    fn text(&self, found: &Diff, readers: &Readers) -> String {
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
        for (word, effects) in [("broken", &found.broken), ("already broken before", &found.broken_before)] {
            for effect in effects {
                let place = readers.place(effect.number, effect.line);
                let _ = writeln!(out, "{word}: {}: {} ({place})", effect.reader, effect.finding);
            }
        }
        for (reader, why) in readers.not_read(found) {
            let _ = writeln!(out, "not read: {reader}: {why}");
        }
        if let Some(line) = readers.from.about_never_read() {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(out, "{}", self.sum(found, readers));
        out
    }

    fn sum(&self, found: &Diff, readers: &Readers) -> String {
        let breaking = found.changes.iter().filter(|change| change.breaks()).count();
        let mut text =
            format!("{}: {}, {breaking} of them may break a reader", self.title(), counted(found.changes.len(), "difference"));
        if self.readers.is_empty() {
            return text;
        }
        let _ = write!(text, "; {} of {} broken by it", distinct(&found.broken), counted(readers.all.len(), "reader"));
        for (count, what) in
            [(distinct(&found.broken_before), "already broken before"), (readers.not_read(found).len(), "not read")]
        {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        if !found.not_at_hand.is_empty() {
            let _ = write!(text, "; {} of others not looked for", counted(found.not_at_hand.len(), "metric"));
        }
        text
    }

    fn markdown(&self, found: &Diff, readers: &Readers) -> String {
        let mut out = format!("## {}\n\n{}\n", self.title(), self.sum(found, readers));
        if !found.changes.is_empty() {
            out.push_str("\n| metric | change | may break |\n|---|---|---|\n");
        }
        for change in &found.changes {
            let breaks = if change.breaks() { "yes" } else { "" };
            let _ = writeln!(out, "| `{}` | {} | {breaks} |", change.metric(), escaped_cell(&change.to_string()));
        }
        for (title, effects) in [("what it misses", &found.broken), ("what it missed before already", &found.broken_before)] {
            if !effects.is_empty() {
                let _ = write!(out, "\n| reader | {title} |\n|---|---|\n");
            }
            for effect in effects {
                let reader = format!("{} ({})", effect.reader, readers.place(effect.number, effect.line));
                let _ = writeln!(out, "| {} | {} |", escaped_cell(&reader), escaped_cell(&effect.finding.to_string()));
            }
        }
        let not_read = readers.not_read(found);
        if !not_read.is_empty() {
            out.push_str("\n| not read | why |\n|---|---|\n");
        }
        for (reader, why) in not_read {
            let _ = writeln!(out, "| {} | {} |", escaped_cell(&reader), escaped_cell(&why));
        }
        out
    }

    fn html(&self, found: &Diff, readers: &Readers) -> String {
        let title = escaped(&self.title());
        let mut out = format!(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>body{{font:15px sans-serif;margin:2em}}\
             table{{border-collapse:collapse}}td,th{{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}}\
             tr.breaks{{color:#a00}}code{{font-size:14px}}</style>\n<h1>{title}</h1>\n<p>{}</p>\n<table>\n",
            escaped(&self.sum(found, readers))
        );
        for change in &found.changes {
            let class = if change.breaks() { " class=\"breaks\"" } else { "" };
            let metric = escaped(change.metric());
            let _ = writeln!(out, "<tr{class}><td><code>{metric}</code><td>{}", escaped(&change.to_string()));
        }
        for (class, word, effects) in [(" class=\"breaks\"", "", &found.broken), ("", "already before: ", &found.broken_before)] {
            for effect in effects {
                let reader = escaped(&format!("{} ({})", effect.reader, readers.place(effect.number, effect.line)));
                let _ = writeln!(out, "<tr{class}><td>{reader}<td>{word}{}", escaped(&effect.finding.to_string()));
            }
        }
        for (reader, why) in readers.not_read(found) {
            let _ = writeln!(out, "<tr class=\"breaks\"><td>{}<td>not read: {}", escaped(&reader), escaped(&why));
        }
        out.push_str("</table>\n");
        out
    }
}

/// A cell of a table in Markdown.
fn escaped_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
