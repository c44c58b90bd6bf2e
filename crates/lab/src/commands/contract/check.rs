//! `contract check`: dashboards and rules compared with the series of releases, of files, or of a Prometheus.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use contract::{AtHand, Checked, Finding, NotAtHand, Outcome, Page, Reader, Tally, Verdict};
use kubevirt::Release;
use serde::Serialize;

use super::files::{self, Files, NotRead};
use super::source;
use crate::commands::Output;
use crate::exit::{Exit, Failure};

#[derive(Args)]
pub(crate) struct Check {
    /// Dashboards of Grafana or Perses, rules, alerts, tests of rules, objects of Kubernetes that hold them, or folders of these.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Compare with the series of this release of KubeVirt; without it with those of each release that is simulated.
    #[arg(long = "release", value_name = "RELEASE")]
    releases: Vec<String>,
    /// Compare with the series of this file: a page of metrics, or an answer of /api/v1/series. Or of lab:NAME or the URL of a Prometheus.
    /// Without --release these are all the series that there are; with it, they are those of other programs.
    #[arg(long, value_name = "FILE|URL")]
    series: Vec<String>,
    /// The series of another job, as a page of metrics: what reads that job is compared with them.
    #[arg(long, value_name = "JOB=FILE")]
    page: Vec<String>,
    /// A label that your Prometheus adds to all series, such as an external label.
    #[arg(long, value_name = "NAME")]
    label: Vec<String>,
    /// Fail if a metric was not looked for because the series of its job are not at hand.
    #[arg(long)]
    strict: bool,
    /// Show the metrics that nobody reads, too.
    #[arg(long)]
    unread: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What a scenario reads of a release that it does not find there.
#[derive(Debug, Default)]
pub(crate) struct MissingReads {
    /// What the release does not have: a metric, a label, a value.
    pub(crate) missing: Vec<String>,
    /// What could not be read, or is no series of KubeVirt: of it nothing is known.
    pub(crate) not_read: Vec<String>,
}

impl MissingReads {
    /// One line each; none only if all was read and is there.
    pub(crate) fn lines(self) -> Vec<String> {
        self.missing.into_iter().chain(self.not_read).collect()
    }
}

/// What expressions read that a release does not have, and what of them could not be read.
///
/// # Errors
/// When the release's data is broken: a bug.
pub(crate) fn missing_reads(release: &Release, expressions: &[String]) -> Result<MissingReads> {
    let at_hand = AtHand { pages: vec![source::page_of_release(release)?], complete: false };
    let mut found = MissingReads::default();
    for expression in expressions {
        match contract::check_expression(expression, None, &at_hand) {
            Err(why) => found.not_read.push(format!("{expression}: not read: {why}")),
            Ok(checked) => {
                found.missing.extend(checked.findings.iter().map(|finding| format!("{expression}: {finding}")));
                let others = checked.not_at_hand.iter();
                found
                    .not_read
                    .extend(others.map(|metric| format!("{expression}: {metric} is no metric of KubeVirt {}", release.release)));
            }
        }
    }
    Ok(found)
}

/// A finding with its reader.
#[derive(Serialize)]
struct Broken<'a> {
    reader: &'a str,
    line: usize,
    expression: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// A reader that was not read.
#[derive(Serialize)]
struct Unread<'a> {
    reader: &'a str,
    line: usize,
    expression: &'a str,
    why: &'a str,
}

/// One file compared with one set of series.
struct Compared<'a> {
    file: &'a Path,
    against: &'a str,
    checked: Vec<Checked>,
    /// Metrics at hand that nobody reads.
    nobody: Vec<String>,
}

impl Compared<'_> {
    fn tally(&self) -> Tally {
        Tally::of(self.checked.iter().map(|one| &one.outcome))
    }

    fn broken(&self) -> impl Iterator<Item = Broken<'_>> {
        self.checked.iter().flat_map(|one| {
            let of = |finding| Broken { reader: &one.reader, line: one.line, expression: &one.expression, finding };
            one.outcome.findings().iter().map(of)
        })
    }

    fn unread(&self) -> impl Iterator<Item = Unread<'_>> {
        self.checked.iter().filter_map(|one| match &one.outcome {
            Outcome::NotRead { why } => Some(Unread { reader: &one.reader, line: one.line, expression: &one.expression, why }),
            Outcome::There { .. } | Outcome::Broken { .. } | Outcome::NotAtHand { .. } => None,
        })
    }
}

/// What is printed as JSON of a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    file: &'a Path,
    against: &'a str,
    readers: usize,
    verdict: Verdict,
    broken: Vec<Broken<'a>>,
    not_read: Vec<Unread<'a>>,
    not_at_hand: BTreeSet<NotAtHand>,
    unread: &'a [String],
}

/// And of a file that was not read.
#[derive(Serialize)]
#[serde(untagged)]
enum Printed<'a> {
    Line(Line<'a>),
    NotRead(&'a NotRead),
}

/// How many metrics of others are named on a line.
const NAMED: usize = 8;

impl Check {
    /// What there is to compare with, by the name that people are shown.
    async fn at_hand(&self, files: &Files) -> Result<Vec<(String, AtHand)>> {
        let mut given = Vec::new();
        let mut names = Vec::new();
        let expressions: Vec<&str> = files.readers().map(|(_, reader)| reader.expression()).collect();
        for named in &self.series {
            names.push(named.as_str());
            given.push(match source::everything(named, &expressions).await? {
                Some(page) => page,
                None => source::page_of_file(Path::new(named), None)?,
            });
        }
        for named in &self.page {
            let Some((job, file)) = named.split_once('=').filter(|(job, file)| !job.is_empty() && !file.is_empty()) else {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("invalid --page {named:?}; expected JOB=FILE, e.g. kubelet=page.txt"),
                )
                .into());
            };
            given.push(source::page_of_file(Path::new(file), Some(job))?);
        }
        let mut all = Vec::new();
        if !names.is_empty() && self.releases.is_empty() {
            all.push((names.join(", "), AtHand { pages: given, complete: true }));
        } else {
            let known: Vec<String> = Release::known().into_iter().map(str::to_owned).collect();
            for tag in if self.releases.is_empty() { &known } else { &self.releases } {
                let release = Release::load(tag).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
                let pages = std::iter::once(source::page_of_release(&release)?).chain(given.iter().cloned());
                all.push((format!("KubeVirt {}", release.release), AtHand { pages: pages.collect(), complete: false }));
            }
        }
        for page in all.iter_mut().flat_map(|(_, at_hand)| &mut at_hand.pages) {
            self.add_labels(page);
        }
        Ok(all)
    }

    fn add_labels(&self, page: &mut Page) {
        let names: Vec<String> = page.schema.names().map(str::to_owned).collect();
        for name in names.iter().filter(|_| !self.label.is_empty()) {
            page.schema.record(name, self.label.iter().cloned());
        }
    }

    pub(super) async fn run(self) -> Result<Exit> {
        let files = files::read(&self.paths)?;
        let all = self.at_hand(&files).await?;
        let recording: Vec<Reader> =
            files.readers().map(|(_, reader)| reader).filter(|reader| reader.records.is_some()).cloned().collect();
        let mut compared = Vec::new();
        for (against, at_hand) in &all {
            // What one file records another may read, and alerts are series, too.
            let mut with = at_hand.with_recordings(&recording);
            with.pages.push(source::page_of_alerts());
            for (file, contents) in &files.read {
                let checked: Vec<Checked> = contents.readers.iter().map(|reader| Checked::of(reader, &with)).collect();
                let read: BTreeSet<&String> = checked.iter().flat_map(|one| one.outcome.metrics()).collect();
                let own =
                    at_hand.pages.iter().flat_map(|page| page.schema.names()).filter(|name| !source::is_of_any_program(name));
                let nobody: BTreeSet<String> = own.map(str::to_owned).filter(|name| !read.contains(name)).collect();
                compared.push(Compared { file, against, checked, nobody: nobody.into_iter().collect() });
            }
        }
        if !self.printed(&compared, &files) {
            self.print(&compared, &files);
        }
        Ok(self.exit(&compared, &files))
    }

    /// The exit code follows from how readers ended, and from nothing else.
    fn exit(&self, compared: &[Compared<'_>], files: &Files) -> Exit {
        let verdicts: Vec<Verdict> = compared.iter().map(|one| one.tally().verdict()).collect();
        let any = |wanted| verdicts.contains(&wanted);
        if any(Verdict::Broken) {
            Exit::ContractBroken
        } else if any(Verdict::NotAllRead) || !files.not_read.is_empty() || self.strict && any(Verdict::NotAllLookedFor) {
            Exit::NotAllRead
        } else {
            Exit::Success
        }
    }

    fn printed(&self, compared: &[Compared<'_>], files: &Files) -> bool {
        let lines = compared.iter().map(|one| {
            let tally = one.tally();
            Printed::Line(Line {
                file: one.file,
                against: one.against,
                readers: one.checked.len(),
                verdict: tally.verdict(),
                broken: one.broken().collect(),
                not_read: one.unread().collect(),
                not_at_hand: tally.not_at_hand,
                unread: &one.nobody,
            })
        });
        let lines: Vec<Printed<'_>> = lines.chain(files.not_read.iter().map(Printed::NotRead)).collect();
        self.output.json(&lines)
    }

    fn print(&self, compared: &[Compared<'_>], files: &Files) {
        for one in compared {
            let (file, against, tally) = (one.file.display(), one.against, one.tally());
            for broken in one.broken() {
                say!("{file}:{}: {}: {} ({against})", broken.line, broken.reader, broken.finding);
            }
            for unread in one.unread() {
                say!("{file}:{}: {}: not read: {}", unread.line, unread.reader, unread.why);
            }
            let named: Vec<String> = tally.not_at_hand.iter().take(NAMED).map(ToString::to_string).collect();
            let others = match tally.not_at_hand.len() {
                0 => String::new(),
                count if count > NAMED => format!(": {}, …", named.join(", ")),
                _ => format!(": {}", named.join(", ")),
            };
            say!("{file}: {}{others}", tally.sentence(against));
            if self.unread {
                for name in &one.nobody {
                    say!("  nobody reads {name} ({against})");
                }
            }
        }
        for one in &files.not_read {
            say!("{one}");
        }
        if let Some(line) = files.about_never_read() {
            say!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a scenario may not take for being there.
    #[test]
    fn reads_that_are_missing() {
        let release = Release::load("v1.9.0").unwrap();
        for (expression, expected) in [
            ("sum(kubevirt_vmi_info)", None),
            ("kubevirt_vm_info{status=\"running\"}", None),
            ("sum by (kubernetes_vmi_label_app) (kubevirt_vmi_memory_resident_bytes{kubernetes_vmi_label_tier=\"x\"})", None),
            ("kubevirt_vm_labels{label_app=\"x\"}", None),
            ("kubevirt_rest_client_requests_total{code=\"<error>\",resource=\"pods\",verb=\"LIST\"}", None),
            ("kubevirt_rest_client_requests_total{resource=\"anythings\"}", None),
            ("sum by (phase) (kubevirt_vmi_phase_count{phase=\"running\"})", None),
            ("kubevirt_vm_info{status=\"Running\"}", Some("has no status=\"Running\"; there is running, ")),
            ("kubevirt_vmi_phase_count{phase=\"Running\"}", Some("has no phase=\"Running\"; there is running, ")),
            ("kubevirt_vmi_phase_transition_time_seconds_count{phase=\"running\"}", Some("there is Running, ")),
            ("kubevirt_vmi_phase_transition_time_seconds_bucket{le=\"0.7\"}", Some("has no le=\"0.7\"")),
            ("kubevirt_rest_client_requests_total{code=~\"5xx\"}", Some("has no code=~\"5xx\"")),
            ("kubevirt_rest_client_requests_total{resource=\"Pods\"}", Some("there is pods")),
            ("kubevirt_gone", Some("there is no metric kubevirt_gone")),
            ("rest_client_requests_total", Some("there is no metric rest_client_requests_total")),
            ("sum(", Some("not read: ")),
            ("kubevirt_vmi_info{$x}", Some("not read: ")),
            ("haproxy_up", Some("haproxy_up is no metric of KubeVirt v1.9.0")),
        ] {
            let lines = missing_reads(&release, &[expression.to_owned()]).unwrap().lines();
            match expected {
                None => assert_eq!(lines, Vec::<String>::new(), "{expression}"),
                Some(expected) => assert!(lines.len() == 1 && lines[0].contains(expected), "{expression}: {lines:?}"),
            }
        }
    }
}
