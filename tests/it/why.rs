//! `lab why`, link by link: each is broken in a real lab, the question is asked until the broken link is named, and what is said is
//! held against `docs/why.md`, which is made of these transcripts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use apiserver::{Client, Gr};
use kubeapi::object;
use lab::embedded::{Lab, Options, Stack, wait_until_up};
use libtest_mimic::Trial;
use serde_json::Value;
use why::{Explanation, Question, Verdict};

use crate::bench::{block_on, prometheus, root, trial};

/// How long a change may take to be seen: the discovery of Prometheus has its own pace.
const WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("why: every link is named when it is broken", every_link)]
}

fn resource(kind: &str) -> Gr {
    match kind {
        "Service" => Gr::core("services"),
        "Secret" => Gr::core("secrets"),
        "Role" => Gr::of("rbac.authorization.k8s.io", "roles"),
        "Prometheus" => Gr::of("monitoring.coreos.com", "prometheuses"),
        "PrometheusRule" => Gr::of("monitoring.coreos.com", "prometheusrules"),
        _ => Gr::of("monitoring.coreos.com", "servicemonitors"),
    }
}

/// What puts everything back.
struct Undo<'a> {
    client: &'a Client,
    before: Vec<(Gr, Value)>,
    new: Vec<(Gr, Value)>,
    /// The pod that was deleted, whose place another takes.
    deleted: String,
}

impl<'a> Undo<'a> {
    /// Does what a case says; what is applied comes last, so that what is there is ready for it.
    fn change(client: &'a Client, change: &Value) -> Result<Self> {
        let mut undo = Self { client, before: Vec::new(), new: Vec::new(), deleted: String::new() };
        if let Some(start) = change["restart"].as_str() {
            let pods = client.list(Gr::core("pods"), "kubevirt");
            let pod = pods.iter().find(|pod| object::name(pod).starts_with(start)).context("no such pod")?;
            undo.deleted = object::name(pod).to_owned();
            client.delete(Gr::core("pods"), "kubevirt", &undo.deleted, None).map_err(|status| anyhow::anyhow!("{status}"))?;
        }
        for word in ["patch", "delete"] {
            let Some(named) = change[word].as_str() else { continue };
            let (kind, key) = named.split_once(' ').context("KIND NAMESPACE/NAME")?;
            let (namespace, name) = key.split_once('/').context("NAMESPACE/NAME")?;
            let gr = resource(kind);
            let before = client.get(gr, namespace, name).map_err(|status| anyhow::anyhow!("{named}: {status}"))?;
            undo.before.push((gr, before));
            let done = match word {
                "patch" => client.merge(gr, namespace, name, "", &change["with"]).map(|_| ()),
                _ => client.delete(gr, namespace, name, None),
            };
            done.map_err(|status| anyhow::anyhow!("{named}: {status}"))?;
        }
        for manifest in change["apply"].as_array().into_iter().flatten() {
            client.apply(manifest).map_err(|status| anyhow::anyhow!("{status}"))?;
            undo.new.push((resource(object::kind(manifest)), manifest.clone()));
        }
        Ok(undo)
    }

    fn undo(self) -> Result<()> {
        for (gr, mut object) in self.before {
            let (namespace, name) = (object::namespace(&object), object::name(&object));
            let now = self.client.find(gr, namespace, name).map_err(|status| anyhow::anyhow!("{status}"))?;
            if let Some(metadata) = object["metadata"].as_object_mut() {
                for field in ["resourceVersion", "uid"] {
                    metadata.remove(field);
                    metadata.extend(now.as_ref().map(|now| (field.to_owned(), now["metadata"][field].clone())));
                }
            }
            let back = if now.is_some() { self.client.update(gr, &object) } else { self.client.create(gr, &object) };
            back.map_err(|status| anyhow::anyhow!("{status}"))?;
        }
        for (gr, object) in self.new {
            let (namespace, name) = (object::namespace(&object), object::name(&object));
            self.client.delete(gr, namespace, name, None).map_err(|status| anyhow::anyhow!("{status}"))?;
        }
        Ok(())
    }
}

/// The link that is named; `there` when nothing is broken.
fn named(explanation: &Explanation) -> String {
    match &explanation.verdict {
        Verdict::There { .. } => "there".to_owned(),
        Verdict::Unexplained(_) => "unexplained".to_owned(),
        Verdict::Broken(broken) => {
            let link = broken.first().map(|broken| serde_json::to_value(broken.link).unwrap_or_default());
            link.and_then(|link| link.as_str().map(str::to_owned)).unwrap_or_default()
        }
    }
}

/// What differs from run to run: names of pods, addresses, counts of series, versions, times.
fn normal(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, replacement) in [
        (r"\b(virt-(?:api|controller|operator|exportproxy|synchronization-controller))-[a-z0-9]{10}-[a-z0-9]{5}\b", "$1-…"),
        (r"\b(virt-handler)-[a-z0-9]{5}\b", "$1-…"),
        (r"127\.\d+\.\d+\.\d+", "127.N.1.x"),
        // Whether the last sample is old enough to be told of depends on the moment.
        (r"\d+ seconds old", "… seconds old"),
        (r" +last    a sample [^\n]*\n", ""),
        (r"\b\d+ series", "… series"),
        // How many of the targets have been scraped when the link is named depends on the moment.
        (r"\b\d+ targets? up", "… targets up"),
        (r"\(\d+ pages were read\)", "(… pages were read)"),
        (r"/tmp/[^ :]*", "…"),
    ] {
        let pattern = regex::Regex::new(pattern).expect("a pattern of this file");
        text = pattern.replace_all(&text, replacement).into_owned();
    }
    text
}

/// Asks until the link is named.
async fn ask(client: &kube::Client, question: &Question, link: &str, says: &str) -> Result<Explanation> {
    let mut deadline = wire::patience::Deadline::after(WITHIN);
    loop {
        let explanation = lab::why::explain(client.clone(), None, question).await?;
        let found = named(&explanation);
        if found == link && explanation.to_string().contains(says) {
            return Ok(explanation);
        }
        if deadline.is_over() {
            bail!("{link:?} was not named within {} s; last:\n{explanation}", WITHIN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn every_link() -> Result<()> {
    let text = std::fs::read_to_string(root().join("tests/it/why/cases.yaml"))?;
    let cases: Value = wire::yaml::strict(&text).map_err(|error| anyhow::anyhow!("cases.yaml: {}", error.message))?;
    let prometheus = prometheus()?;
    let mut told: Vec<(String, String, String, String)> = Vec::new();
    block_on(async {
        let folder = tempfile::tempdir()?;
        let options = Options {
            name: "why".to_owned(),
            release: "v1.9.0".to_owned(),
            api_port: 6443,
            prometheus,
            folder: folder.path().to_owned(),
            fast_alerts: false,
            prometheus_operator: None,
            stack: Stack::Small,
            defects: Vec::new(),
            full_size: false,
            bare: false,
        };
        let lab = Lab::start(&options).await?;
        let result = async {
            wait_until_up(&lab.client(), lab.release(), Duration::from_secs(60)).await?;
            let config = kube::config::Kubeconfig::from_yaml(&lab.server().kubeconfig("why"))?;
            let client = lab::why::client(config, None).await?;
            let started = Instant::now();
            let whole = Question::parse("kubevirt_rest_client_requests_total")?;
            for case in cases.as_array().into_iter().flatten() {
                let field = |name: &str| case[name].as_str().unwrap_or_default();
                // Each case begins with a lab that is whole; some need more than that.
                let first = match field("before") {
                    "" => whole.clone(),
                    more => Question::parse(more)?,
                };
                ask(&client, &first, "there", "").await.with_context(|| format!("before {}", field("name")))?;
                let own = lab.client();
                let undo = Undo::change(&own, &case["change"]).with_context(|| field("name").to_owned())?;
                let question = Question::parse(&field("ask").replace("{pod}", &undo.deleted))?;
                let explanation =
                    ask(&client, &question, field("link"), field("says")).await.with_context(|| field("name").to_owned())?;
                undo.undo()?;
                eprintln!("{:6.1} s {}", started.elapsed().as_secs_f64(), field("name"));
                let command = format!("lab why '{}'", field("ask").replace("{pod}", "virt-handler-…"));
                told.push((field("name").to_owned(), field("about").to_owned(), command, normal(&explanation.to_string())));
            }
            anyhow::Ok(())
        };
        let result = result.await;
        lab.stop().await;
        result
    })?;
    let links: BTreeMap<&str, usize> = told.iter().fold(BTreeMap::new(), |mut all, (name, ..)| {
        *all.entry(name.as_str()).or_default() += 1;
        all
    });
    ensure!(links.values().all(|count| *count == 1), "a case has the name of another");
    compare(&told)
}

/// Holds the page against what was said; `LAB_WRITE_DOCS=1` writes it.
fn compare(told: &[(String, String, String, String)]) -> Result<()> {
    let mut page = String::from(
        "# Why is my series not there?\n\n\
         `cargo xtask lab why 'METRIC{label=\"value\"}'`, or `lab why servicemonitor/NAMESPACE/NAME`, walks from the object that you wrote to\n\
         the series that you miss, and stops at the first link that is broken: which object, which field, what to do. It exits with 1 when\n\
         a link is broken and with 0 when the series is there. `--kubeconfig FILE` asks any cluster; everything goes through its API server.\n\n\
         Each transcript is from a lab in which that link was broken; a test breaks and asks again, and holds this page against what is\n\
         said (`tests/it/why/cases.yaml`). Names of pods, addresses and times are replaced by dots.\n",
    );
    for (name, about, command, text) in told {
        page.push_str(&format!("\n## {}\n\n{about}\n\n", name.replace('-', " ")));
        page.push_str(&format!("```\n$ cargo xtask {command}\n{text}```\n"));
    }
    let path = root().join("docs/why.md");
    if std::env::var_os("LAB_WRITE_DOCS").is_some() {
        return Ok(std::fs::write(path, page)?);
    }
    let written = std::fs::read_to_string(&path)?;
    let differing = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    ensure!(
        written == page,
        "docs/why.md is not what is said: {differing:?}; LAB_WRITE_DOCS=1 cargo test --workspace --test it why writes it anew"
    );
    Ok(())
}
