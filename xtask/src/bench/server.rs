//! Programs that are measured from outside: started, loaded with wrk, ended with their owner.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// A program that prints a line of JSON when it is ready, and ends with this.
pub(super) struct Server {
    child: Child,
    line: String,
    /// Seconds from the start of the process to its line of JSON.
    pub(super) ready: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What wrk found.
pub(super) struct Load {
    /// Requests in a second.
    pub(super) rate: f64,
    /// Requests in all.
    pub(super) all: f64,
    /// The median of the latency in microseconds.
    pub(super) p50: f64,
}

impl Server {
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut line = String::new();
        let out = child.stdout.take().context("no output")?;
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line.starts_with('{'), "{} did not start", program.display());
        Ok(Self { ready: began.elapsed().as_secs_f64(), child, line })
    }

    /// A field of its line of JSON.
    pub(super) fn field(&self, name: &str) -> Result<String> {
        let start = format!("\"{name}\":\"");
        let rest = self.line.split(&start).nth(1).with_context(|| format!("no {name} in {}", self.line))?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    }

    /// Resident memory in KB.
    pub(super) fn memory(&self) -> Result<f64> {
        resident(self.child.id())
    }
}

/// Resident memory of a process in KB.
pub(super) fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().split(' ').next().unwrap_or_default().parse()?)
}

/// Whether a tool is there; says so in one line where it is not.
pub(super) fn has(tool: &str, package: &str) -> bool {
    let found = Command::new(tool).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("not run: {tool} is missing (Debian: apt-get install {package})");
    }
    found
}

/// Loads a URL with this many connections.
pub(super) fn wrk(connections: u32, seconds: u32, url: &str, token: &str, script: Option<&Path>) -> Result<Load> {
    let mut command = Command::new("wrk");
    let threads = connections.min(2);
    command.args(["--latency", &format!("-t{threads}"), &format!("-c{connections}"), &format!("-d{seconds}s")]);
    command.args(["-H", "Content-Type: application/json", "-H", &format!("Authorization: Bearer {token}")]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(url).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk: {text}");
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    let rate = after("Requests/sec:").context("no rate")?.parse()?;
    let all = text.lines().find_map(|line| line.trim().split_once(" requests in ")).context("no count")?.0.parse()?;
    Ok(Load { rate, all, p50: microseconds(after("50%").context("no median")?)? })
}

/// `12.34us`, `1.2ms`, `3.00s`.
fn microseconds(text: &str) -> Result<f64> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).context("no unit")?;
    let unit = match &text[split..] {
        "us" => 1.0,
        "ms" => 1e3,
        _ => 1e6,
    };
    Ok(text[..split].parse::<f64>()? * unit)
}

/// Runs a load client of this repository, built by cargo if it must be: lines of a name and a number.
pub(super) fn client(package: &str, bench: &str, arguments: &[&str]) -> Result<std::collections::BTreeMap<String, f64>> {
    let output = crate::cargo()
        .args(["bench", "-q", "-p", package, "--bench", bench, "--"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the load client failed: {text}");
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ').with_context(|| format!("the load client said {line:?}"))?;
        Ok((name.to_owned(), value.parse()?))
    };
    text.lines().map(figure).collect()
}
