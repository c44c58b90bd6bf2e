//! Where shapes come from: a release, a file, a running lab, any Prometheus.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contract::{Shape, Shaped};
use kubevirt::Release;
use metrics::{Client, Kind, Labels, Recorder, Series};
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
    /// The text of a page of metrics.
    Page(String),
    /// Series as Prometheus has them: an answer of `/api/v1/series`, or a snapshot.
    Series(Vec<Series>),
}

/// The most that a compressed file may become, in bytes.
const MAX_UNPACKED: u64 = 4 << 30;

/// A file's text, unpacked if it is gzip.
fn read_text(path: &Path) -> Result<String> {
    let shown = path.display();
    let mut bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        let gzip = flate2::read::MultiGzDecoder::new(bytes.as_slice());
        let read = gzip.take(MAX_UNPACKED + 1).read_to_end(&mut unpacked);
        read.map_err(|error| Failure::new(Exit::Usage, format!("{shown}: this is no whole gzip: {error}")))?;
        if unpacked.len() as u64 > MAX_UNPACKED {
            bail!(Failure::new(Exit::Usage, format!("{shown}: it unpacks to more than 4 GiB")));
        }
        bytes = unpacked;
    }
    metrics::text(&bytes).map_err(|error| wrong(path, &error))?;
    String::from_utf8(bytes).with_context(|| format!("cannot read {shown}"))
}

/// A file that is not of the format, with the place in it.
fn wrong(path: &Path, error: &metrics::ParseError) -> Failure {
    Failure::new(Exit::Usage, format!("{}:{}:{}: {}", path.display(), error.line, error.column, error.why))
}

/// Tells what was left out of a page.
fn tell(path: &Path, notices: &[String]) {
    for notice in notices.iter().take(5) {
        eprintln!("{}: {notice}", path.display());
    }
    if notices.len() > 5 {
        eprintln!("{}: and {} more are left out", path.display(), notices.len() - 5);
    }
}

fn read(path: &Path) -> Result<Read> {
    let shown = path.display();
    if path.extension().is_some_and(|extension| extension == "snap") {
        let text = scenarios::read_snapshot(path).with_context(|| format!("cannot read {shown}"))?;
        let series = metrics::read(&text);
        let series = series.map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {error} (below the header)")))?;
        return Ok(Read::Series(series));
    }
    let text = read_text(path)?;
    if text.trim_start().starts_with('{') && text.contains("\"data\"") {
        let answer: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(Exit::Usage, format!("{shown}:{}:{}: {error}", error.line(), error.column())))?;
        let series: Vec<Labels> = serde_json::from_value(answer["data"].clone())
            .map_err(|_| Failure::new(Exit::Usage, format!("{shown}: this is no answer of /api/v1/series")))?;
        return Ok(Read::Series(series.into_iter().map(Series::from_labels).collect()));
    }
    Ok(Read::Page(text))
}

/// What a file has: a page of metrics, what Prometheus answers at `/api/v1/series`, or a snapshot.
pub(super) fn of_file(path: &Path) -> Result<Shape> {
    Ok(match read(path)? {
        Read::Page(text) => {
            let (shape, notices) = Shape::of_text(&text).map_err(|error| wrong(path, &error))?;
            tell(path, &notices);
            shape
        }
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

/// The series of what is named on the command line, of a Prometheus those of a selector, as far as their metrics are wanted.
pub(super) async fn record(named: &str, selector: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Recorder> {
    let mut recorder = Recorder::default();
    if let Some(client) = prometheus(named).await? {
        let samples = client.query(selector).await.map_err(|error| unreachable(named, &error))?;
        samples.iter().filter(|sample| wanted(&sample.series.name)).for_each(|sample| recorder.series(&sample.series));
        return Ok(recorder);
    }
    let path = Path::new(named);
    if !path.is_file() {
        bail!(
            Failure::new(Exit::Usage, format!("{named:?} is no file"))
                .hint("write a file, lab:NAME for a lab that runs, or the URL of a Prometheus")
        );
    }
    let text = read_text(path)?;
    // A page may begin with a name in quotes; an answer of Prometheus has data.
    let is_answer = text.trim_start().starts_with('{') && text.contains("\"data\"");
    if is_answer || path.extension().is_some_and(|extension| extension == "snap") {
        let Read::Series(series) = read(path)? else {
            bail!(Failure::new(Exit::Usage, format!("{named}: this is no list of series")))
        };
        series.iter().filter(|series| wanted(&series.name)).for_each(|series| recorder.series(series));
        return Ok(recorder);
    }
    recorder.page(&text, wanted).map_err(|error| wrong(path, &error))?;
    tell(path, recorder.notices());
    Ok(recorder)
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
