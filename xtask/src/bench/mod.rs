//! Times and memory of a lab, measured from outside with a release build.

mod apiserver;
mod change;
mod diff;
mod faults;
mod record;
mod server;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A whole embedded lab.
    Lab,
    /// The API server alone.
    Apiserver,
    /// The fault proxy: what it costs, in the lab and alone, beside nginx.
    Faults,
    /// The operator's compiler, with many ServiceMonitors.
    Operator,
    /// The fault proxy's memory under a steady load.
    Soak,
    /// Many virtual machines in one lab.
    Vms,
    /// Reading pages of metrics and writing them in normal form, beside promtool.
    Record,
    /// What differs between two pages of a million series.
    Diff,
    /// Whether the ledger equals the clients' counters, after a million requests under every kind of fault.
    Exact,
}

impl Target {
    /// The heading of its part of the page.
    fn heading(self) -> &'static str {
        match self {
            Self::Lab => "## An embedded lab",
            Self::Apiserver => "## The API server alone",
            Self::Faults => "## The fault proxy",
            Self::Operator => "## The operator",
            Self::Soak => "## The fault proxy, for an hour",
            Self::Vms => "## Virtual machines",
            Self::Record => "## Pages of metrics in normal form",
            Self::Diff => "## Differences of large pages",
            Self::Exact => "## The ledger against the clients' counters",
        }
    }
}

#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure.
    #[arg(value_enum, default_value_t = Target::Lab)]
    target: Target,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    times: u16,
    /// How many requests `exact` sends.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// How long `soak` lasts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Measure the release build that there is, and build none.
    #[arg(long)]
    built: bool,
}

/// One life of a lab, in seconds and MB.
#[derive(Clone, Copy, Default)]
struct Life {
    api: f64,
    pods: f64,
    series: f64,
    down: f64,
    memory: f64,
    /// The longest time from a changed ServiceMonitor to Prometheus' new configuration.
    change: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Bench {
    pub(crate) fn run(self, root: &Path) -> Result<ExitCode> {
        if self.target == Target::Exact {
            write_part(root, self.target, &faults::exact(self.requests)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.target == Target::Vms {
            write_part(root, self.target, &record::vms()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.target == Target::Record {
            write_part(root, self.target, &record::run(root)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.target == Target::Operator {
            let found = server::client("operator", "compile", &["5000"])?;
            let of = |name: &str| found.get(name).copied().unwrap_or_default();
            let text = format!(
                "`cargo xtask bench operator`: 5,000 ServiceMonitors in 50 namespaces; medians of 9 runs on one core.\n\n\
                 | what | measured | wanted |\n|---|---|---|\n\
                 | compile all of them | {:.0} ms | at most 200 ms |\n\
                 | the same by the compiler that remembers, from nothing | {:.0} ms | at most 200 ms |\n\
                 | after a change of one of them | {:.1} ms | at most 5 ms |\n\
                 | after a change of one Secret, when each of them reads one | {:.1} ms | at most 5 ms |\n\
                 | after no change | {:.1} ms | |\n\
                 | write the configuration as YAML | {:.0} ms | |\n",
                of("compile_ms"),
                of("first_ms"),
                of("changed_ms"),
                of("secret_changed_ms"),
                of("unchanged_ms"),
                of("write_ms"),
            );
            write_part(root, self.target, &text)?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.built {
            let built = crate::cargo()
                .args(["build", "--quiet", "--release", "--package", "lab", "--package", "fault-proxy"])
                .status()?;
            ensure!(built.success(), "the release build failed");
        }
        if self.target == Target::Diff {
            write_part(root, self.target, &diff::run(root)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.target == Target::Soak {
            if let Some(text) = faults::soak(root, self.minutes)? {
                write_part(root, self.target, &text)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if self.target == Target::Apiserver {
            if let Some(rows) = apiserver::run(root, self.times)? {
                let mut text =
                    format!("Medians of {} servers, release build, two cores; `cargo xtask bench apiserver`.\n\n", self.times);
                text.push_str("| what | measured | wanted |\n|---|---|---|\n");
                for (what, value, wanted) in rows {
                    text.push_str(&format!("| {what} | {value} | {wanted} |\n"));
                }
                text.push_str(
                    "\nwrk runs on the same two cores as the server. For comparison, kube-apiserver 1.36.2 with etcd without fsync on such a \
                     machine: ready in 3.4 s, 3,490 GET/s, 1,900 POST/s, 320 MB fresh.\n\n\
                     What bounds a POST: wrk takes a third of both cores, for it makes each body in Lua. Of the server's own time 42 % is the \
                     kernel's network path, 35 % reading, defaulting, checking and storing the object, the rest TLS and HTTP (perf with call \
                     graphs, release build). The kernel's part is the floor: a GET of the same size costs as much of it.\n",
                );
                write_part(root, self.target, &text)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if self.target == Target::Faults {
            if let Some(text) = faults::run(root, self.times)? {
                write_part(root, self.target, &text)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let program = root.join("target/release/lab");
        let state = root.join("target/bench-labs");
        let mut lives = Vec::new();
        // The first life fetches what is missing and warms caches; it does not count.
        for round in 0..=self.times {
            let life = live(&program, &state).with_context(|| format!("round {round}"))?;
            println!(
                "api {:.3} s, pods {:.3} s, series {:.2} s, change {:.3} s, down {:.3} s, {:.0} MB",
                life.api, life.pods, life.series, life.change, life.down, life.memory
            );
            if round > 0 {
                lives.push(life);
            }
        }
        let of = |value: fn(&Life) -> f64| median(lives.iter().map(value).collect());
        let rows = [
            ("API ready after the supervisor starts", of(|life| life.api), "0.050 s", "s"),
            ("all pods Ready", of(|life| life.pods), "1 s", "s"),
            ("first KubeVirt series in Prometheus", of(|life| life.series), "8 s", "s"),
            ("a changed ServiceMonitor until Prometheus has it, the longest of 5", of(|life| life.change), "1 s", "s"),
            ("down", of(|life| life.down), "1 s", "s"),
            ("supervisor's resident memory", of(|life| life.memory), "60 MB", "MB"),
        ];
        let mut page = format!(
            "Medians of {} lives, release build, two cores; `cargo xtask bench lab`.\n\n\
             | what | measured | wanted at most |\n|---|---|---|\n",
            self.times
        );
        for (what, value, wanted, unit) in rows {
            page.push_str(&format!("| {what} | {value:.3} {unit} | {wanted} |\n"));
        }
        page.push_str(
            "\nThe time to the first series is Prometheus' own: its discovery manager hands targets on every five seconds, and no \
             flag changes that before 3.12.\n",
        );
        write_part(root, self.target, &page)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts a part of docs/benchmarks.md in the place of its last version.
fn write_part(root: &Path, target: Target, text: &str) -> Result<()> {
    let path = root.join("docs/benchmarks.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let part = |target: Target| {
        let rest = page.split(target.heading()).nth(1)?;
        Some(rest.split("\n## ").next().unwrap_or_default().trim().to_owned())
    };
    let mut out = String::from("# Benchmarks\n");
    for of in [
        Target::Lab,
        Target::Apiserver,
        Target::Faults,
        Target::Soak,
        Target::Exact,
        Target::Operator,
        Target::Vms,
        Target::Record,
        Target::Diff,
    ] {
        let body = if of == target { Some(text.trim().to_owned()) } else { part(of) };
        if let Some(body) = body {
            out.push_str(&format!("\n{}\n\n{body}\n", of.heading()));
        }
    }
    std::fs::write(path, out)?;
    println!("\n{text}");
    Ok(())
}

/// `   1.23s  API server …` lines of `lab up`, by what they say.
fn stage(text: &str, what: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.contains(what)).with_context(|| format!("no {what:?} in {text}"))?;
    let seconds = line.trim().split('s').next().unwrap_or_default();
    seconds.trim().parse().with_context(|| format!("no time in {line}"))
}

fn live(program: &Path, state: &Path) -> Result<Life> {
    let lab = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("LAB_STATE_DIR", state).stdin(Stdio::null());
        command
    };
    let output = lab(&["up"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{text}");
    let start = stage(&text, "Prometheus ")?;
    let record = std::fs::read_to_string(state.join("lab/lab.json"))?;
    let pid: u32 = record
        .split("\"pid\":")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .and_then(|number| number.trim().parse().ok())
        .context("no pid in lab.json")?;
    let resident = server::resident(pid)?;
    let change = change::longest(&|arguments| {
        let output = lab(arguments).output()?;
        ensure!(output.status.success(), "lab {arguments:?} failed");
        Ok(String::from_utf8(output.stdout)?)
    })?;
    let began = Instant::now();
    ensure!(lab(&["down"]).output()?.status.success(), "down failed");
    let down = began.elapsed();
    // Sockets in TIME_WAIT and the like have a moment before the next life.
    std::thread::sleep(Duration::from_millis(200));
    Ok(Life {
        api: stage(&text, "API server")? - start,
        pods: stage(&text, "all pods")? - start,
        series: stage(&text, "first KubeVirt series")? - start,
        down: down.as_secs_f64(),
        memory: resident / 1024.0,
        change,
    })
}
