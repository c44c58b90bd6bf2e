//! `contract check`: dashboards and rules held against the series of releases, or of a file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use contract::{Finding, Reader, Report, Schema, check, readers, with_recordings};
use kubevirt::Release;
use metrics::Kind;
use serde::Serialize;

use super::Output;
use crate::exit::{Exit, Failure};

#[derive(Subcommand)]
pub(super) enum Contract {
    /// Tell which panel, alert or rule reads a metric or a label that is not there.
    Check(Check),
}

#[derive(Args)]
pub(super) struct Check {
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

/// The labels that a scrape adds to each series of KubeVirt.
const OF_TARGET: [&str; 7] = ["container", "endpoint", "instance", "job", "namespace", "pod", "service"];
/// What Prometheus makes of each target.
const OF_SCRAPE: [&str; 5] =
    ["up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"];

/// What a release exposes, by its catalogue.
fn of_release(release: &Release) -> Result<Schema> {
    let mut schema = Schema::default();
    let target = || OF_TARGET.into_iter().map(str::to_owned);
    for component in release.components.values() {
        for family in release.families(component)? {
            let labels: Vec<String> = target().chain(family.labels.iter().cloned()).collect();
            match family.kind {
                Kind::Histogram => {
                    schema.record(&format!("{}_bucket", family.name), labels.iter().cloned().chain(["le".to_owned()]));
                }
                Kind::Summary => schema.record(&family.name, labels.iter().cloned().chain(["quantile".to_owned()])),
                _ => schema.record(&family.name, labels.iter().cloned()),
            }
            if matches!(family.kind, Kind::Histogram | Kind::Summary) {
                for part in ["sum", "count"] {
                    schema.record(&format!("{}_{part}", family.name), labels.iter().cloned());
                }
            }
        }
    }
    for name in OF_SCRAPE {
        schema.record(name, target());
    }
    Ok(schema)
}

/// The series of a file.
fn of_file(path: &Path) -> Result<Schema> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if text.trim_start().starts_with('{') {
        let answer: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::Usage, format!("{}:{}:{}: {error}", path.display(), error.line(), error.column()))
        })?;
        let series: Vec<metrics::Labels> = serde_json::from_value(answer["data"].clone())
            .map_err(|_| Failure::new(Exit::Usage, format!("{}: this is no answer of /api/v1/series", path.display())))?;
        let series: Vec<metrics::Series> = series.into_iter().map(metrics::Series::from_labels).collect();
        return Ok(Schema::of_series(&series));
    }
    let page = metrics::parse(&text).map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
    let mut schema = Schema::of_series(page.samples.iter().map(|sample| &sample.series));
    // What is on a page gets the labels of its target.
    let names: Vec<String> = schema.names().map(str::to_owned).collect();
    for name in names.iter().map(String::as_str).chain(OF_SCRAPE) {
        schema.record(name, OF_TARGET.into_iter().map(str::to_owned));
    }
    Ok(schema)
}

/// Whether a metric could be KubeVirt's; of others a release says nothing.
fn is_kubevirts(metric: &str) -> bool {
    ["kubevirt", "rest_client", "virt", "workqueue"].iter().any(|part| metric.contains(part))
}

/// The files to check: those that are given, and those of folders.
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

/// One file against one set of series.
#[derive(Serialize)]
struct Line {
    file: PathBuf,
    against: String,
    readers: usize,
    #[serde(flatten)]
    report: Report,
}

impl Contract {
    pub(super) fn run(self) -> Result<Exit> {
        let Self::Check(check) = self;
        check.run()
    }
}

impl Check {
    fn schemas(&self) -> Result<Vec<(String, Schema)>> {
        if let Some(file) = &self.series {
            return Ok(vec![(file.display().to_string(), of_file(file)?)]);
        }
        let all: Vec<String> = Release::known().into_iter().map(str::to_owned).collect();
        let wanted = if self.releases.is_empty() { &all } else { &self.releases };
        let one = |tag: &String| {
            let release = Release::load(tag).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
            Ok((format!("KubeVirt {}", release.release), of_release(&release)?))
        };
        wanted.iter().map(one).collect()
    }

    fn run(self) -> Result<Exit> {
        let schemas = self.schemas()?;
        let mut lines = Vec::new();
        let mut all: Vec<(PathBuf, Vec<Reader>)> = Vec::new();
        for file in files(&self.paths) {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display())))?;
            let found = readers(&text).map_err(|error| {
                let place = error.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
                Failure::new(Exit::Usage, format!("{}{place}: {}", file.display(), error.message))
            })?;
            // Files of other kinds lie in the same folders.
            if !found.is_empty() {
                all.push((file, found));
            }
        }
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
