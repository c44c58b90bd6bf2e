//! `lab up`.

mod cluster;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use metrics::Sample;
use serde_json::json;
use tokio::process::{Child, Command};

pub(crate) use cluster::{failure, name_flag};

use super::status::{self, Overview};
use super::{Output, Which};
use crate::control::Control;
use crate::exit::{Exit, Failure};
use crate::provider::Provider;
use crate::provider::record::ClusterRecord;
use crate::state::{LabDir, LabRecord};
use crate::tools;

fn release_help() -> String {
    format!(
        "The release of KubeVirt: in the embedded lab one that `lab releases` lists, {} if none is named; 1.7 means the newest patch \
         known. On real clusters docs/providers.md has the table",
        kubevirt::Release::default_tag()
    )
}

#[derive(Args)]
pub(super) struct Up {
    #[command(flatten)]
    which: Which,
    /// What the lab runs on.
    #[arg(long, value_enum, default_value_t)]
    provider: Provider,
    // The help names the default, which follows from the data.
    #[arg(long, value_name = "RELEASE", help = release_help())]
    kubevirt: Option<String>,
    /// A Prometheus to use; promtool is looked for beside it.
    #[arg(long, env = "LAB_PROMETHEUS", value_name = "PATH")]
    prometheus: Option<PathBuf>,
    /// Use the network for nothing.
    #[arg(long)]
    offline: bool,
    /// The API server's port; 6443 in the embedded lab.
    #[arg(long)]
    api_port: Option<u16>,
    /// Evaluate alerts without pending times and over a minute at most; their objects stay as they are.
    #[arg(long)]
    fast_alerts: bool,
    /// A prometheus-operator to run in place of the lab's own.
    #[arg(long, value_name = "PATH")]
    prometheus_operator: Option<PathBuf>,
    /// Leave kube-state-metrics, node-exporter, the kubelet's metrics, Grafana and prometheus-adapter out.
    #[arg(long)]
    small: bool,
    /// Run three Alertmanagers, as kube-prometheus does, and not one, each of which notifies; on a real cluster, all of kube-prometheus.
    #[arg(long)]
    full: bool,
    /// A cluster alone, with nothing installed: for --provider existing, and for trying an installer.
    #[arg(long, conflicts_with_all = ["small", "full", "fast_alerts"])]
    bare: bool,
    /// Seconds until it must be up: 120 in the embedded lab; on a real cluster 900 for each state that is waited for.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    cluster: cluster::ClusterFlags,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One line a stage: a spinner on a terminal, plain lines elsewhere.
pub(crate) struct Stages {
    bar: ProgressBar,
    started: Instant,
    plain: bool,
    /// When a line was written last, where there is no terminal.
    written: Mutex<Instant>,
}

/// How long nothing is written to a file or a pipe, while something is waited for.
const SILENCE: Duration = Duration::from_secs(15);

impl Stages {
    pub(crate) fn new(quiet: bool) -> Self {
        use std::io::IsTerminal as _;
        let terminal = std::io::stderr().is_terminal();
        let bar = if quiet || !terminal { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, started: Instant::now(), plain: !quiet && !terminal, written: Mutex::new(Instant::now()) }
    }

    pub(crate) fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.plain && written.elapsed() >= SILENCE {
            *written = Instant::now();
            eprintln!("{:>7.3}s  … {what}", self.started.elapsed().as_secs_f64());
        }
    }

    pub(crate) fn done(&self, what: &str) {
        let line = format!("{:>7.3}s  {what}", self.started.elapsed().as_secs_f64());
        if self.plain {
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Stages {
    /// Shows what an installer tells.
    pub(crate) fn tell(&self, progress: install::Progress<'_>) {
        match progress {
            install::Progress::Doing(what) => self.doing(what),
            install::Progress::Done(what) => self.done(what),
        }
    }

    /// Takes the spinner away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Up {
    pub(super) async fn run(self) -> Result<Exit> {
        if self.provider != Provider::Embedded {
            return self.run_on_cluster().await;
        }
        self.run_embedded().await
    }

    /// How long an embedded lab has until it must be up, in seconds.
    fn seconds(&self) -> u64 {
        self.timeout.unwrap_or(120)
    }

    async fn run_embedded(self) -> Result<Exit> {
        // Before anything is fetched or started.
        let release = kubevirt::Release::load(self.kubevirt.as_deref().unwrap_or(kubevirt::Release::default_tag()))
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        if let Some(path) = self.prometheus_operator.as_ref().filter(|path| !path.is_file()) {
            let failure = Failure::new(Exit::Usage, format!("--prometheus-operator {}: there is no such file", path.display()));
            bail!(failure.hint("give the program itself; the lab fetches none"));
        }
        let dir = self.which.dir()?;
        if let Some(record) = ClusterRecord::of(&dir) {
            bail!(
                Failure::new(Exit::LabFailed, format!("lab {:?} is on {}", dir.name(), record.provider.name()))
                    .hint("take it down first, or give another --name")
            );
        }
        let stages = Stages::new(self.output == Output::Json);
        if dir.is_running() {
            return self.adopt(&dir, &release.release, &stages).await;
        }
        stages.doing("looking for Prometheus");
        let search = tools::Search { given: self.prometheus.clone(), offline: self.offline };
        let progress = |what: &str| stages.doing(what);
        let prometheus = tokio::select! {
            found = tools::find(&search, &progress) => found?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        };
        stages.done(&format!("Prometheus {} ({})", prometheus.version, prometheus.prometheus.display()));
        match &prometheus.alertmanager {
            Ok(found) => stages.done(&format!("Alertmanager {} ({})", found.version, found.alertmanager.display())),
            Err(why) => stages.done(&format!("no Alertmanager, so alerts fire and nobody is notified: {why}")),
        }

        stages.doing("starting the lab");
        dir.create()?;
        if let Err(error) = dir.check_room() {
            let _ = dir.remove();
            return Err(error);
        }
        let mut supervisor = self.spawn(&dir, &release.release, &prometheus)?;
        let pid = supervisor.id();
        tokio::select! {
            result = self.follow(&dir, Some(&mut supervisor), &stages) => {
                // A lab that is up in part stays, to be looked at; one that never answered goes.
                if result.is_err() && dir.record().is_none_or(|record| Some(record.pid) != pid) {
                    end(&dir, &mut supervisor, pid).await?;
                }
                result
            }
            _ = tokio::signal::ctrl_c() => {
                stages.doing("interrupted: taking the lab down");
                end(&dir, &mut supervisor, pid).await?;
                eprintln!("interrupted; nothing is left running");
                Ok(Exit::Interrupted)
            }
        }
    }

    /// A lab of that name is up or coming up: show it, unless it is another release.
    async fn adopt(&self, dir: &LabDir, release: &str, stages: &Stages) -> Result<Exit> {
        stages.doing("a lab of that name is there already");
        let result = self.follow(dir, None, stages).await;
        if let Some(record) = dir.record()
            && record.release != release
        {
            bail!(
                Failure::new(Exit::LabFailed, format!("lab {:?} runs KubeVirt {}", dir.name(), record.release))
                    .hint(format!("take it down first, or give another --name for {release}"))
            );
        }
        result
    }

    fn spawn(&self, dir: &LabDir, release: &str, prometheus: &tools::Prometheus) -> Result<Child> {
        let log = std::fs::File::create(dir.supervisor_log()).map_err(|error| {
            Failure::new(Exit::EnvironmentMissing, format!("cannot write to {}: {error}", dir.path().display()))
        })?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        // glibc's heap, which others do not have: one for all threads, and what is freed is given back. A lab holds little and frees much.
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "131072");
        command
            .args(["supervise", "--name", dir.name(), "--kubevirt", release])
            .arg("--prometheus")
            .arg(&prometheus.prometheus)
            .args(["--prometheus-version", &prometheus.version])
            .args(prometheus.alertmanager.iter().flat_map(|found| {
                let path = found.alertmanager.to_string_lossy().into_owned();
                ["--alertmanager".to_owned(), path, "--alertmanager-version".to_owned(), found.version.clone()]
            }))
            .args(["--api-port", &self.api_port.unwrap_or(6443).to_string()])
            .args(self.fast_alerts.then_some("--fast-alerts"))
            .args(self.prometheus_operator.iter().flat_map(|path| ["--prometheus-operator".into(), absolute(path)]))
            .args(self.small.then_some("--small"))
            .args(self.full.then_some("--full"))
            .args(self.bare.then_some("--bare"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A process group of its own: Ctrl-C in this terminal is for `up`, which then asks the lab to stop.
            .process_group(0);
        command.spawn().context("cannot start the lab's supervisor")
    }

    /// Waits until the lab is up, then shows it.
    async fn follow(&self, dir: &LabDir, mut supervisor: Option<&mut Child>, stages: &Stages) -> Result<Exit> {
        let mut deadline = wire::patience::Deadline::after(Duration::from_secs(self.seconds()));
        let record = loop {
            let ended = match supervisor.as_deref_mut() {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            let ours = supervisor.as_deref().and_then(Child::id);
            // A record of a supervisor that was killed may lie there still; and of two that start at once, one gives way.
            if let Some(record) = dir.record()
                && (ours == Some(record.pid) || (ended && is_alive(record.pid)))
            {
                break record;
            }
            let died = ended && !dir.is_running();
            if died {
                let log = std::fs::read_to_string(dir.supervisor_log()).unwrap_or_default();
                let line = |start: &str| log.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
                let message = line("error: ").unwrap_or_else(|| "the supervisor ended without a word".to_owned());
                let mut failure = Failure::new(Exit::LabFailed, format!("the lab did not start: {message}"));
                failure.hint = line("hint: ");
                bail!(failure);
            }
            if deadline.is_over() {
                bail!(Failure::new(Exit::LabFailed, format!("no API server after {} s", self.seconds())));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        stages.done(&format!("API server {}", record.api_url));
        let control = Control::of(&record)?;
        loop {
            let missing = control.missing().await?;
            if missing.is_empty() {
                break;
            }
            stages.doing(&format!("waiting for {}", missing[0]));
            if deadline.is_over() {
                bail!(Failure::new(Exit::LabFailed, format!("not up after {} s: {}", self.seconds(), missing.join(", "))).hint(
                    format!("look at it with `lab status --name {0}`; take it down with `lab down --name {0}`", record.name)
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stages.done("all pods are ready");
        if self.bare {
            stages.finish();
            return self.show_bare(&record, dir);
        }
        let overview = self.first_series(&record, dir, stages, deadline).await?;
        stages.finish();
        self.show(&record, dir, &overview)
    }

    async fn first_series(
        &self,
        record: &LabRecord,
        dir: &LabDir,
        stages: &Stages,
        mut deadline: wire::patience::Deadline,
    ) -> Result<(Overview, Vec<Sample>)> {
        let kubeconfig = dir.kubeconfig();
        loop {
            let overview = status::overview(&kubeconfig).await?;
            let samples = match overview.prometheus() {
                Some(url) => metrics::Client::new(&url).query(REQUESTS).await.unwrap_or_default(),
                None => Vec::new(),
            };
            let up = overview.targets.iter().filter(|target| target.health == "up").count();
            stages.doing(&format!("waiting for Prometheus: {up} of {} targets up", overview.targets.len()));
            if !samples.is_empty() && up > 0 && up == overview.targets.len() && up >= overview.expected_targets {
                stages.done(&format!("{up} targets up, first KubeVirt series in Prometheus"));
                return Ok((overview, samples));
            }
            if deadline.is_over() {
                // Targets that are down are a result: the lab is up, and what is wrong can be looked at. None at all is not.
                if overview.targets.is_empty() {
                    let message = format!("Prometheus has no KubeVirt target after {} s", self.seconds());
                    bail!(Failure::new(Exit::LabFailed, message).hint(format!(
                        "see `lab logs --name {0} prometheus-k8s-0`; take it down with `lab down --name {0}`",
                        record.name
                    )));
                }
                return Ok((overview, samples));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn show_bare(&self, record: &LabRecord, dir: &LabDir) -> Result<Exit> {
        let kubeconfig = dir.kubeconfig();
        let document = json!({"name": record.name, "provider": record.provider, "api": record.api_url, "kubeconfig": kubeconfig});
        if !self.output.json(&document) {
            say!("\nLab {:?}: a cluster with nothing installed, {}", record.name, record.api_url);
            say!("  export KUBECONFIG={}", kubeconfig.display());
        }
        Ok(Exit::Success)
    }

    fn show(&self, record: &LabRecord, dir: &LabDir, (overview, samples): &(Overview, Vec<Sample>)) -> Result<Exit> {
        let kubeconfig = dir.kubeconfig();
        let document = json!({
            "name": record.name, "provider": record.provider, "kubevirt": record.release,
            "api": record.api_url, "kubeconfig": kubeconfig, "prometheus": overview.prometheus(),
            "targets": overview.targets,
        });
        if self.output.json(&document) {
            return Ok(Exit::Success);
        }
        say!("\nKubeVirt {} (simulated), lab {:?}: targets of Prometheus\n", record.release, record.name);
        say_text!(status::targets_table(&overview.targets));
        say!("\nRequests to the Kubernetes API so far\n");
        say_text!(requests_table(samples));
        let name = if record.name == "lab" { String::new() } else { format!(" --name {}", record.name) };
        let relative = |path: &std::path::Path| {
            let here = std::env::current_dir().unwrap_or_default();
            path.strip_prefix(here).unwrap_or(path).display().to_string()
        };
        say!("\nNext:");
        say!("  export KUBECONFIG={}", relative(&kubeconfig));
        say!("  kubectl get pods -A");
        if let Some(url) = overview.prometheus() {
            say!("  open {url}");
        }
        say!("  cargo xtask lab query{name} 'rate({}[1m])'", status::requests_metric(&record.release));
        say!("  cargo xtask fault add{name} --service-account '*handler' --verb list --status 500 --first 2");
        say!("  cargo xtask lab down{name}");
        Ok(Exit::Success)
    }
}

/// Ends a supervisor of ours and removes what it left.
async fn end(dir: &LabDir, supervisor: &mut Child, pid: Option<u32>) -> Result<()> {
    if let Some(pid) = pid {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
    if tokio::time::timeout(Duration::from_secs(5), supervisor.wait()).await.is_err() {
        supervisor.kill().await?;
    }
    dir.remove()
}

/// A path that means the same in another working folder.
fn absolute(path: &std::path::Path) -> std::ffi::OsString {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string()
}

fn is_alive(pid: u32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), None).is_ok()
}

/// The counter under both of its names.
const REQUESTS: &str = "sum by (container, code, method) ({__name__=~\"(kubevirt_)?rest_client_requests_total\",service=\"kubevirt-prometheus-metrics\"})";

fn requests_table(samples: &[Sample]) -> String {
    let rows = samples
        .iter()
        .map(|sample| {
            let label = |name: &str| sample.series.label(name).to_owned();
            vec![label("container"), label("code"), label("method"), format!("{}", sample.value)]
        })
        .collect();
    super::table(&["component", "code", "method", "requests"], rows)
}
