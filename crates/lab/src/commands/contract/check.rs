//! `contract check`: dashboards and rules held against the series of releases, or of a file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use contract::{Finding, OF_TARGET, Reader, Report, Schema, Shape, check, readers, with_recordings};
use kubevirt::Release;
use serde::Serialize;

use super::source;
use crate::commands::Output;
use crate::exit::{Exit, Failure};

#[derive(Args)]
pub(crate) struct Check {
    /// Grafana dashboards (JSON), rule files, PrometheusRules, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The series of this release of KubeVirt; each that is simulated without it.
    #[arg(long = "release", value_name = "RELEASE")]
    releases: Vec<String>,
    /// The series of this file instead: a page of metrics, or what Prometheus answers at /api/v1/series.
    #[arg(long, value_name = "FILE", conflicts_with = "releases")]
    series: Option<PathBuf>,
    /// Show the metrics that nobody reads, too.
    #[arg(long)]
    unread: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What Prometheus makes of each target.
const OF_SCRAPE: [&str; 5] =
    ["up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"];

/// What readers find in a shape, and of each scrape.
pub(crate) fn with_scrape(shape: &Shape) -> Schema {
    let mut schema = shape.schema();
    for name in OF_SCRAPE {
        schema.record(name, OF_TARGET.map(str::to_owned));
    }
    schema
}

/// Whether a metric could be KubeVirt's; of others a release says nothing.
fn is_kubevirts(metric: &str) -> bool {
    ["kubevirt", "rest_client", "virt", "workqueue"].iter().any(|part| metric.contains(part))
}

/// What expressions read of KubeVirt that a release does not have.
///
/// # Errors
/// When the release's data is broken: a bug.
pub(crate) fn read_in_vain(release: &Release, expressions: &[String]) -> Result<Vec<String>> {
    let schema = with_scrape(&source::of_release(release)?);
    let mut told = Vec::new();
    for expression in expressions {
        match contract::check_expression(expression, &schema) {
            Err(why) => told.push(format!("{expression}: {why}")),
            Ok(found) => {
                let foreign = |finding: &&Finding| matches!(finding, Finding::NoMetric { metric, .. } if !is_kubevirts(metric));
                told.extend(
                    found.findings.iter().filter(|finding| !foreign(finding)).map(|finding| format!("{expression}: {finding}")),
                );
            }
        }
    }
    Ok(told)
}

/// The files to read: those that are given, and those of folders.
fn files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<(PathBuf, bool)> = paths.iter().rev().map(|path| (path.clone(), true)).collect();
    while let Some((path, given)) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let mut inside: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            inside.sort();
            left.extend(inside.into_iter().rev().map(|path| (path, false)));
        } else if given
            || path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known))
        {
            found.push(path);
        }
    }
    found
}

/// What reads metrics, by file. Files without a dashboard or a rule are left out: they lie in the same folders.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<Reader>)>> {
    let mut all = Vec::new();
    for file in files(paths) {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display())))?;
        let found = readers(&text).map_err(|error| {
            let place = error.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
            Failure::new(Exit::Usage, format!("{}{place}: {}", file.display(), error.message))
        })?;
        if !found.is_empty() {
            all.push((file, found));
        }
    }
    Ok(all)
}

/// One file against one set of series.
#[derive(Serialize)]
struct Line {
    file: PathBuf,
    against: String,
    readers: usize,
    #[serde(flatten)]
    report: Report,
}

impl Check {
    fn schemas(&self) -> Result<Vec<(String, Schema)>> {
        if let Some(file) = &self.series {
            return Ok(vec![(file.display().to_string(), with_scrape(&source::of_file(file)?))]);
        }
        let all: Vec<String> = Release::known().into_iter().map(str::to_owned).collect();
        let wanted = if self.releases.is_empty() { &all } else { &self.releases };
        let one = |tag: &String| {
            let release = Release::load(tag).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
            Ok((format!("KubeVirt {}", release.release), with_scrape(&source::of_release(&release)?)))
        };
        wanted.iter().map(one).collect()
    }

    pub(super) fn run(self) -> Result<Exit> {
        let schemas = self.schemas()?;
        let mut lines = Vec::new();
        let all = read(&self.paths)?;
        let recorded: Vec<Reader> =
            all.iter().flat_map(|(_, found)| found).filter(|reader| reader.records.is_some()).cloned().collect();
        for (against, schema) in &schemas {
            // What one file records another may read.
            let mut schema = with_recordings(&recorded, schema);
            schema.record_unknown("ALERTS");
            for (file, found) in &all {
                let mut report = check(found, &schema);
                if self.series.is_none() {
                    let foreign =
                        |finding: &Finding| matches!(finding, Finding::NoMetric { metric, .. } if !is_kubevirts(metric));
                    report.broken.retain(|one| !foreign(&one.finding));
                    report.unread.retain(|name| is_kubevirts(name));
                }
                lines.push(Line { file: file.clone(), against: against.clone(), readers: found.len(), report });
            }
        }
        if lines.is_empty() {
            let failure = Failure::new(Exit::Usage, "no file has a dashboard or a rule");
            return Err(failure.hint("give Grafana dashboards (JSON), rule files or PrometheusRules (YAML)").into());
        }
        let broken = lines.iter().any(|line| !line.report.broken.is_empty());
        if !self.output.json(&lines) {
            self.print(&lines);
        }
        Ok(if broken { Exit::ContractBroken } else { Exit::Success })
    }

    fn print(&self, lines: &[Line]) {
        for line in lines {
            let file = line.file.display();
            for one in &line.report.broken {
                say!("{file}:{}: {}: {} ({})", one.line, one.reader, one.finding, line.against);
            }
            if line.report.broken.is_empty() {
                say!("{file}: all that {} expressions read is there ({})", line.readers, line.against);
            }
            if self.unread {
                for name in &line.report.unread {
                    say!("  nobody reads {name} ({})", line.against);
                }
            }
        }
    }
}
