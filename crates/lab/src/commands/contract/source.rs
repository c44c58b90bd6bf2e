//! Where shapes come from: a release, a file, a running lab, any Prometheus.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contract::{Shape, Shaped};
use kubevirt::Release;
use metrics::{Client, Exposition, Kind, Labels, Series};
use serde_json::Value;

use crate::commands::prometheus_of;
use crate::exit::{Exit, Failure};
use crate::manifests;
use crate::scenarios;
use crate::state::StateRoot;

/// The job of KubeVirt's targets, whose series a lab or a Prometheus is asked for.
pub(super) const JOB: &str = "{job=\"kubevirt-prometheus-metrics\"}";

/// What a release exposes, by its catalogue.
pub(super) fn of_release(release: &Release) -> Result<Shape> {
    let mut shape = Shape::default();
    for component in release.components.values() {
        for family in release.families(component)? {
            let found = shape.families.entry(family.name.clone()).or_insert_with(|| Shaped {
                kind: Some(family.kind),
                help: family.help.clone(),
                bounds: family.buckets.clone(),
                ..Shaped::default()
            });
            found.labels.extend(family.labels.iter().cloned());
        }
    }
    shape.rules = Some(manifests::rules(release)?);
    Ok(shape)
}

/// What has another name since a release of KubeVirt: before, after.
pub(super) fn renames() -> Result<Vec<(String, String)>> {
    Ok(Release::renames()?.iter().map(|rename| (rename.before.clone(), rename.after.clone())).collect())
}

/// What is in a file.
enum Read {
    /// A page of metrics.
    Page(Exposition),
    /// Series as Prometheus has them: an answer of `/api/v1/series`, or a snapshot.
    Series(Vec<Series>),
}

fn read(path: &Path) -> Result<Read> {
    let shown = path.display();
    if path.extension().is_some_and(|extension| extension == "snap") {
        let text = scenarios::read_snapshot(path).with_context(|| format!("cannot read {shown}"))?;
        let series = metrics::read(&text);
        let series = series.map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {error} (below the header)")))?;
        return Ok(Read::Series(series));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    if text.trim_start().starts_with('{') {
        let answer: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(Exit::Usage, format!("{shown}:{}:{}: {error}", error.line(), error.column())))?;
        let series: Vec<Labels> = serde_json::from_value(answer["data"].clone())
            .map_err(|_| Failure::new(Exit::Usage, format!("{shown}: this is no answer of /api/v1/series")))?;
        return Ok(Read::Series(series.into_iter().map(Series::from_labels).collect()));
    }
    let page = metrics::parse(&text).map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {error}")))?;
    Ok(Read::Page(page))
}

/// What a file has: a page of metrics, what Prometheus answers at `/api/v1/series`, or a snapshot.
pub(super) fn of_file(path: &Path) -> Result<Shape> {
    Ok(match read(path)? {
        Read::Page(page) => Shape::of_page(&page),
        Read::Series(series) => Shape::of_series(&series),
    })
}

/// The Prometheus of `lab:NAME` or a URL; nothing where something else is named.
async fn prometheus(named: &str) -> Result<Option<Client>> {
    if let Some(lab) = named.strip_prefix("lab:") {
        return Ok(Some(prometheus_of(&StateRoot::from_env().lab(lab)?).await?));
    }
    let is_url = named.starts_with("http://") || named.starts_with("https://");
    if is_url {
        wire::install_crypto_provider();
    }
    Ok(is_url.then(|| Client::new(named)))
}

fn unreachable(named: &str, error: &dyn std::fmt::Display) -> anyhow::Error {
    Failure::new(Exit::EnvironmentMissing, format!("{named}: {error}")).into()
}

/// The series of what is named on the command line; of a Prometheus those of a selector.
pub(super) async fn series(named: &str, selector: &str) -> Result<Vec<Series>> {
    if let Some(client) = prometheus(named).await? {
        let samples = client.query(selector).await.map_err(|error| unreachable(named, &error))?;
        return Ok(samples.into_iter().map(|sample| sample.series).collect());
    }
    let path = Path::new(named);
    if !path.is_file() {
        bail!(
            Failure::new(Exit::Usage, format!("{named:?} is no file"))
                .hint("write a file, lab:NAME for a lab that runs, or the URL of a Prometheus")
        );
    }
    Ok(match read(path)? {
        Read::Page(page) => page.samples.into_iter().map(|sample| sample.series).collect(),
        Read::Series(series) => series,
    })
}

/// What a Prometheus has of KubeVirt now, with the types and help texts that it keeps of targets.
async fn of_prometheus(client: &Client) -> Result<Shape> {
    let samples = client.query(JOB).await?;
    let series: Vec<Series> = samples.into_iter().map(|sample| sample.series).collect();
    let mut shape = Shape::of_series(&series);
    let known = client.get("metadata", &[]).await.unwrap_or_default();
    for (name, family) in &mut shape.families {
        let found = &known[name][0];
        let kind: Option<Kind> = serde_json::from_value(found["type"].clone()).ok();
        // What Prometheus was not told, it does not know.
        family.kind = family.kind.or(kind.filter(|kind| *kind != Kind::Untyped));
        family.help = found["help"].as_str().unwrap_or_default().to_owned();
    }
    Ok(shape)
}

/// The shape of what is named on the command line: `lab:NAME`, the URL of a Prometheus, a file, or a release.
pub(super) async fn shape(named: &str) -> Result<Shape> {
    if let Some(client) = prometheus(named).await? {
        return of_prometheus(&client).await.map_err(|error| unreachable(named, &format!("{error:#}")));
    }
    let path = Path::new(named);
    if path.is_file() {
        return of_file(path);
    }
    match Release::load(named) {
        Ok(release) => of_release(&release),
        Err(error) => bail!(
            Failure::new(Exit::Usage, format!("{named:?} is no file and no release: {error}"))
                .hint("write a release, a file, lab:NAME for a lab that runs, or the URL of a Prometheus")
        ),
    }
}
