//! Where shapes come from: a release, a file, a running lab, any Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use contract::{OF_TARGET, Owned, Page, Schema, Shape, Shaped, Values};
use kubevirt::Release;
use metrics::{Client, Kind, Labels, Normaliser, Recorder, Redactor, Series};
use regex::Regex;
use serde_json::Value;

use crate::commands::prometheus_of;
use crate::commands::review::failure;
use crate::exit::{Exit, Failure};
use crate::manifests;
use crate::names;
use crate::snapshots;
use crate::state::StateRoot;
use crate::why::Cluster;

/// The job of KubeVirt's targets, whose series a lab or a Prometheus is asked for.
pub(super) const JOB: &str = "{job=\"kubevirt-prometheus-metrics\"}";

/// What a release exposes, by its catalogue.
pub(crate) fn of_release(release: &Release) -> Result<Shape> {
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
            for (label, values) in family.closed_values() {
                found.values.insert(label.to_owned(), Values::Closed(values));
            }
            // Labels of users' objects: a page has those that there are.
            if family.vmi_labels {
                found.open.insert("kubernetes_vmi_label_".to_owned());
            }
            if family.measure == Some(kubevirt::Measure::VmLabels) {
                found.open.insert("label_".to_owned());
            }
            // A resource is one of the API's, of which no component knows all.
            if family.name == release.client.requests && family.labels.iter().any(|label| label == "resource") {
                found.values.insert("resource".to_owned(), Values::Seen(resources(release)));
            }
        }
    }
    shape.rules = Some(manifests::rules(release)?);
    Ok(shape)
}

/// The resources that the components of a release watch.
fn resources(release: &Release) -> BTreeSet<String> {
    let components = release.components.values();
    let informers = components.flat_map(|component| component.informers.iter().chain(&component.leader_informers));
    informers.filter_map(|informer| informer.path.rsplit('/').next()).map(str::to_owned).collect()
}

/// Other programs of KubeVirt's family whose metrics begin like KubeVirt's own: github.com/kubevirt/monitoring, docs/metrics.md.
const FAMILY: &str = "(^|:)kubevirt_(cdi|cnao|hco|hpp|hyperconverged|kmp|ssp)_";

/// How the names of metrics begin that every program in Go has. They are no program's own.
const OF_GO: [&str; 3] = ["go_", "process_", "promhttp_"];

/// What KubeVirt's pages are known by: the names that are its own, in any release, and the labels of its targets. The schema is empty.
pub(super) fn kubevirts() -> Result<Page> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    let names = match NAMES.get() {
        Some(names) => names.clone(),
        None => {
            let mut names = BTreeSet::new();
            for tag in Release::known() {
                let schema = of_release(&Release::load(tag)?)?.schema();
                names.extend(schema.names().filter(|name| !OF_GO.iter().any(|start| name.starts_with(start))).map(str::to_owned));
            }
            NAMES.get_or_init(|| names).clone()
        }
    };
    let owned = Owned {
        pattern: Some(Regex::new("(^|:)kubevirt_").context("a constant expression")?),
        except: Some(Regex::new(FAMILY).context("a constant expression")?),
        names,
        words: BTreeSet::new(),
    };
    let components = ["virt-api", "virt-controller", "virt-handler", "virt-operator", "virt-exportproxy"];
    // The namespaces of the upstream release, of OpenShift Virtualization, and of the hyperconverged cluster operator.
    let namespaces = ["kubevirt", "kube-system", "openshift-cnv", "kubevirt-hyperconverged"];
    let all = |values: &[&str], end: &str| values.iter().map(|value| format!("{value}{end}")).collect::<Vec<_>>();
    let target = BTreeMap::from([
        ("job".to_owned(), vec!["kubevirt-prometheus-metrics".to_owned()]),
        ("service".to_owned(), vec!["kubevirt-prometheus-metrics".to_owned()]),
        ("pod".to_owned(), all(&components, "-*")),
        ("container".to_owned(), [all(&components, ""), vec!["exportproxy".to_owned()]].concat()),
        ("namespace".to_owned(), all(&namespaces, "")),
    ]);
    Ok(Page { schema: Schema::default(), target, owned })
}

/// KubeVirt's pages of a release.
pub(crate) fn page_of_release(release: &Release) -> Result<Page> {
    let mut page = kubevirts()?;
    page.schema = of_release(release)?.schema();
    if release.namespace != "kube-system"
        && let Some(namespaces) = page.target.get_mut("namespace")
    {
        namespaces.retain(|namespace| namespace != "kube-system");
    }
    scraped(&mut page.schema, &[]);
    Ok(page)
}

/// What Prometheus makes of each target.
const OF_SCRAPE: [&str; 5] =
    ["up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"];

/// Whether every program has a metric of this name: nobody has to read it.
pub(super) fn is_of_any_program(name: &str) -> bool {
    OF_GO.iter().any(|start| name.starts_with(start)) || OF_SCRAPE.contains(&name)
}

/// Adds the series of each scrape, with these labels besides those that targets always have.
fn scraped(schema: &mut Schema, more: &[&str]) {
    for name in OF_SCRAPE {
        schema.record(name, OF_TARGET.iter().chain(more).map(|label| (*label).to_owned()));
    }
}

/// The series that Prometheus makes of alerts. They have the labels of what the alerts read.
pub(crate) fn page_of_alerts() -> Page {
    let mut schema = Schema::default();
    schema.record_unknown("ALERTS");
    schema.record_unknown("ALERTS_FOR_STATE");
    Page { schema, ..Page::default() }
}

/// Labels that kube-prometheus gives to targets of the kubelet and of node-exporter, besides those that all have.
const RELABELLED: [&str; 2] = ["metrics_path", "node"];

/// The page of a job of which there is a file; of a page without a job's name, any job's.
pub(super) fn page_of_file(path: &Path, job: Option<&str>) -> Result<Page> {
    let mut schema = of_file(path)?.schema();
    schema.learn(&known_values()?);
    let owned = Owned::of_names(schema.names());
    let names: Vec<String> = schema.names().map(str::to_owned).collect();
    for name in &names {
        schema.record(name, RELABELLED.map(str::to_owned));
    }
    scraped(&mut schema, &RELABELLED);
    let target = job.map(|job| ("job".to_owned(), vec![job.to_owned()])).into_iter().collect();
    Ok(Page { schema, target, owned })
}

/// What is known of values of labels: those of KubeVirt's metrics in the newest release that has the label. v1.4.0 wrote the status of VMs
/// in capitals, and a reader that still does has no match today.
fn known_values() -> Result<Schema> {
    let mut known = Schema::default();
    for tag in Release::known() {
        let mut shape = of_release(&Release::load(tag)?)?;
        shape.rules = None;
        known.fill(&shape.schema());
    }
    Ok(known)
}

/// How many metrics a Prometheus is asked for at once.
const AT_ONCE: usize = 40;

/// All that a Prometheus or a lab has, of the metrics that expressions name with their labels, of others by name. Nothing where something
/// else is named.
pub(super) async fn everything(named: &str, expressions: &[&str]) -> Result<Option<Page>> {
    let Some(client) = prometheus(named).await? else { return Ok(None) };
    let failed = |error: &dyn std::fmt::Display| unreachable(named, error);
    let answer = client.get("label/__name__/values", &[]).await.map_err(|error| failed(&format!("{error:#}")))?;
    let names: Vec<String> = serde_json::from_value(answer).map_err(|error| failed(&error))?;
    let read: Vec<&String> =
        names.iter().filter(|name| expressions.iter().any(|expression| expression.contains(name.as_str()))).collect();
    let mut series: Vec<Series> = Vec::new();
    for some in read.chunks(AT_ONCE) {
        let some: Vec<&str> = some.iter().map(|name| name.as_str()).collect();
        let samples = client.query(&format!("{{__name__=~\"{}\"}}", some.join("|"))).await;
        series.extend(samples.map_err(|error| failed(&format!("{error:#}")))?.into_iter().map(|sample| sample.series));
    }
    let mut schema = Shape::of_series(&series).schema();
    schema.learn(&known_values()?);
    for name in names {
        if !schema.contains(&name) {
            schema.record_unknown(&name);
        }
    }
    Ok(Some(Page { schema, ..Page::default() }))
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
        let text = snapshots::read(path).map_err(failure)?.with_context(|| format!("cannot read {shown}"))?;
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
    if let Some(client) = prometheus(named).await? {
        let mut recorder = match named.strip_prefix("lab:") {
            // What the cluster has made up, its objects say better than the shape of names.
            Some(lab) => {
                let cluster = Cluster::new(crate::reach::kube_client(&StateRoot::from_env().lab(lab)?.kubeconfig(), None).await?);
                Recorder::new(Normaliser::new(Redactor::default(), names::of_cluster(&cluster).await?))
            }
            None => Recorder::default(),
        };
        let samples = client.query(selector).await.map_err(|error| unreachable(named, &error))?;
        samples.iter().filter(|sample| wanted(&sample.series.name)).for_each(|sample| recorder.series(&sample.series));
        return Ok(recorder);
    }
    let mut recorder = Recorder::default();
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
