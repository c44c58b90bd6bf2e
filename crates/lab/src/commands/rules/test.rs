//! `rules test`: promtool's unit tests of rules, with the real promtool, against the rules of a simulated release or the user's own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use clap::Args;
use kubevirt::Release;
use serde::Serialize;
use serde_json::{Value, json};

use super::prepare::{self, Annotations, TestFile};
use super::said::{self, Counts};
use crate::commands::{Output, Programs};
use crate::exit::{Exit, Failure};
use crate::tools;

#[derive(Args)]
pub(in crate::commands) struct Test {
    /// Files for `promtool test rules`; their `rule_files` are replaced.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The release of KubeVirt whose rules are tested; the newest if neither it nor --rules is given.
    #[arg(long, value_name = "RELEASE")]
    kubevirt: Option<String>,
    /// Your own rules, as a rule file or as PrometheusRule objects; with --kubevirt besides the release's. May be given several times.
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// The namespace that the release is installed in, as the test file means it; without it, the namespace that most series of
    /// KubeVirt's components have there.
    #[arg(long)]
    namespace: Option<String>,
    /// Which annotations are compared. Without it: all of your own rules; of a release `runbook_url` where the file expects it, since all
    /// others are worded differently here.
    #[arg(long, value_enum)]
    annotations: Option<Annotations>,
    #[command(flatten)]
    programs: Programs,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What became of one file.
#[derive(Serialize)]
struct Tested {
    file: String,
    release: Option<String>,
    rules: Vec<String>,
    namespace: Option<String>,
    annotations: Annotations,
    #[serde(flatten)]
    counts: Counts,
    said: String,
}

/// Rule files that somebody wrote: rule files of Prometheus, or PrometheusRule objects.
fn own(file: &Path) -> Result<Vec<Value>> {
    let name = file.display().to_string();
    let usage = |why: String| Failure::new(Exit::Usage, format!("{name}{why}"));
    let text = std::fs::read_to_string(file).map_err(|error| usage(format!(": cannot be read: {error}")))?;
    let read = wire::yaml::manifests(&text).map_err(|error| {
        let at = error.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        usage(format!("{at}: {}", error.without_place()))
    })?;
    let groups: Vec<Value> = read
        .into_iter()
        .filter_map(|document| {
            let groups = if document["kind"] == "PrometheusRule" { &document["spec"]["groups"] } else { &document["groups"] };
            groups.is_array().then(|| groups.clone())
        })
        .collect();
    if groups.is_empty() {
        let failure = usage(": no rules; expected a rule file (groups) or PrometheusRule objects".to_owned());
        return Err(failure.into());
    }
    Ok(groups)
}

impl Test {
    pub(super) async fn run(self) -> Result<Exit> {
        let release = match (&self.kubevirt, self.rules.is_empty()) {
            (None, false) => None,
            (named, _) => Some(super::release(named.as_deref())?),
        };
        let own: Vec<Value> = self.rules.iter().map(|file| own(file)).collect::<Result<Vec<_>>>()?.concat();
        let promtool = tools::prometheus(&self.programs.search(), &|told| eprintln!("{told}")).await?.promtool;
        let mut all = Vec::new();
        for file in &self.files {
            let tested = self.one(file, release.as_ref(), &own, &promtool).await?;
            if self.output == Output::Text {
                tested.print();
            }
            all.push(tested);
        }
        let passed = all.iter().all(|tested| tested.counts.passed == Some(tested.counts.cases));
        self.output.json(&json!({"passed": passed, "files": all}));
        Ok(if passed { Exit::Success } else { Exit::RulesFailed })
    }

    /// Which annotations are compared.
    fn annotations(&self, release: Option<&Release>, file: &TestFile) -> Annotations {
        self.annotations.unwrap_or(match release {
            None => Annotations::All,
            Some(_) if file.names_runbooks() => Annotations::Runbooks,
            Some(_) => Annotations::None,
        })
    }

    async fn one(&self, file: &Path, release: Option<&Release>, own: &[Value], promtool: &Path) -> Result<Tested> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(Exit::Usage, format!("{name}: cannot be read: {error}")))?;
        let read = match TestFile::read(text) {
            Ok(read) => read,
            Err(error) => return Err(unreadable(promtool, file, &error.message).await?.into()),
        };
        let annotations = self.annotations(release, &read);
        let namespace = release
            .map(|release| self.namespace.clone().or_else(|| read.namespace()).unwrap_or_else(|| release.namespace.clone()));
        let folder = tempfile::tempdir().context("no folder for temporary files")?;
        let of_release =
            release.zip(namespace.as_deref()).map(|(release, namespace)| Value::from(release.rule_groups(namespace)));
        let mut rule_files = Vec::new();
        for (index, groups) in of_release.iter().chain(own).enumerate() {
            let path = folder.path().join(format!("rules-{index}.json"));
            std::fs::write(&path, json!({"groups": prepare::rules(groups.clone(), annotations)}).to_string())
                .with_context(|| format!("{}: cannot be written", path.display()))?;
            rule_files.push(path.display().to_string());
        }
        let Some(prepared) = read.prepared(&rule_files, annotations) else {
            let why = format!("{name}: rule_files or exp_annotations cannot be replaced in place");
            return Err(Failure::new(Exit::Usage, why).hint("write them as plain YAML, without anchors and tags").into());
        };
        let path = folder.path().join("test.yaml");
        std::fs::write(&path, prepared).with_context(|| format!("{}: cannot be written", path.display()))?;
        let (succeeded, said) = ask(promtool, &path, &[]).await?;
        if said::is_unreadable(&said) {
            return Err(unreadable(promtool, file, "promtool cannot read it").await?.into());
        }
        Ok(Tested {
            release: release.map(|release| release.release.clone()),
            rules: self.rules.iter().map(|file| file.display().to_string()).collect(),
            namespace,
            annotations,
            counts: said::count(&said, read.cases(), succeeded),
            said: said.replace(&path.display().to_string(), &name),
            file: name,
        })
    }
}

/// What promtool itself says of a file that cannot be read. No test of the file is run.
async fn unreadable(promtool: &Path, file: &Path, ours: &str) -> Result<Failure> {
    let (succeeded, said) = ask(promtool, file, &["--run", "^no such test$"]).await?;
    let name = file.display();
    let words =
        if succeeded { format!("{name}: {ours}") } else { format!("{name}: promtool cannot read the file\n{}", said.trim_end()) };
    Ok(Failure::new(Exit::Usage, words))
}

/// Runs `promtool test rules`; whether it is content, and what it says, both streams in the order in which it says it.
async fn ask(promtool: &Path, file: &Path, more: &[&str]) -> Result<(bool, String)> {
    let mut command = tokio::process::Command::new(promtool);
    command.args(["test", "rules"]).args(more).arg(file).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("{} does not start", promtool.display()))?;
    let said = [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned());
    Ok((output.status.success(), said.map(|text| tidy(&text)).join("")))
}

/// Without the empty lines that promtool puts between its messages on the other stream.
fn tidy(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{line}\n")).collect()
}

impl Tested {
    fn print(&self) {
        say_text!(self.said);
        let against = match (&self.release, &self.namespace) {
            (Some(release), Some(namespace)) => format!("KubeVirt {release} in namespace {namespace}"),
            _ => self.rules.join(", "),
        };
        let also = if self.release.is_some() && !self.rules.is_empty() {
            format!(" and {}", self.rules.join(", "))
        } else {
            String::new()
        };
        let annotations = match self.annotations {
            Annotations::None => "annotations are not compared",
            Annotations::Runbooks => "of annotations only runbook_url is compared",
            Annotations::All => "all annotations are compared",
        };
        let Counts { cases, passed, failed, errors } = &self.counts;
        let result = match passed {
            Some(passed) => format!("{passed} of {cases} cases passed, {failed} failed"),
            None => format!("{failed} of {cases} cases failed, and {errors} errors kept tests from being carried out"),
        };
        say!("{}: {result} (rules of {against}{also}; {annotations})", self.file);
    }
}
