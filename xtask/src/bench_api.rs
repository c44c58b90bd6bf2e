//! Speed and memory of the API server alone, measured from outside with `wrk` over TLS.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// A server that ends with this.
struct Server {
    child: Child,
    url: String,
    token: String,
    /// Seconds from the start of the process to its line of JSON.
    ready: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field(line: &str, name: &str) -> Result<String> {
    let start = format!("\"{name}\":\"");
    let rest = line.split(&start).nth(1).with_context(|| format!("no {name} in {line}"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

fn start(program: &Path) -> Result<Server> {
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(["apiserver", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the API server")?;
    let mut line = String::new();
    let out = child.stdout.take().context("no output")?;
    BufReader::new(out).read_line(&mut line)?;
    let ready = began.elapsed().as_secs_f64();
    Ok(Server { url: field(&line, "url")?, token: field(&line, "token")?, child, ready })
}

impl Server {
    /// Resident memory in KB.
    fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().split(' ').next().unwrap_or_default().parse()?)
    }

    /// Requests in one second and in all, over 16 connections.
    fn wrk(&self, seconds: u32, path: &str, script: Option<&Path>) -> Result<(f64, f64)> {
        let mut command = Command::new("wrk");
        command.args(["-t2", "-c16", &format!("-d{seconds}s"), "-H", "Content-Type: application/json"]);
        command.args(["-H", &format!("Authorization: Bearer {}", self.token)]);
        if let Some(script) = script {
            command.arg("-s").arg(script);
        }
        let output = command.arg(format!("{}{path}", self.url)).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk: {text}");
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("no rate")?.trim().parse()?;
        let all = text.lines().find_map(|line| line.trim().split_once(" requests in ")).context("no count")?.0.parse()?;
        Ok((rate, all))
    }
}

/// What the load client measured, by name.
type Load = BTreeMap<String, f64>;

fn parse(text: &str) -> Result<Load> {
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ').with_context(|| format!("the load client said {line:?}"))?;
        Ok((name.to_owned(), value.parse()?))
    };
    text.lines().map(figure).collect()
}

/// Runs the load client of the API server's crate, built by cargo if it must be.
fn load(root: &Path, server: &Server) -> Result<Load> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["bench", "-q", "-p", "apiserver", "--bench", "load", "--", &server.url, &server.token])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the load client failed");
    parse(&String::from_utf8_lossy(&output.stdout))
}

const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

/// Rows of the page: what, measured, wanted; `None` where a tool is missing, which is said in one line.
pub(crate) fn run(root: &Path, times: u16) -> Result<Option<Vec<(String, String, String)>>> {
    if Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("not run: wrk is missing (Debian: apt-get install wrk)");
        return Ok(None);
    }
    let program = root.join("target/release/lab");
    let script = root.join("target/bench-post.lua");
    std::fs::write(
        &script,
        "local n = 0\nlocal threads = 0\nfunction setup(thread) thread:set('id', threads); threads = threads + 1 end\n\
         function request()\n  n = n + 1\n  local name = string.format('c-%d-%d', id, n)\n\
         \x20 return wrk.format('POST', nil, nil, '{\"metadata\":{\"name\":\"' .. name .. '\"},\"data\":{\"a\":\"b\"}}')\nend\n",
    )?;
    let mut rounds = Vec::new();
    let mut loads = Vec::new();
    for _ in 0..times {
        let load = load(root, &start(&program)?)?;
        println!(
            "events within {:.1} ms (99 of 100), a list of {:.0} MB in {:.1} ms, GET {:.0} and then {:.0} µs",
            load["watch_p99_ms"], load["list_mb"], load["list_ms"], load["get_few_us"], load["get_many_us"]
        );
        loads.push(load);
    }
    for round in 0..=times {
        let server = start(&program)?;
        let fresh = server.memory()?;
        let (posts, created) = server.wrk(4, COLLECTION, Some(&script))?;
        let per_object = (server.memory()? - fresh) / created;
        let (gets, _) = server.wrk(4, &format!("{COLLECTION}/c-0-100"), None)?;
        println!(
            "ready {:.0} ms, {:.1} MB fresh, {gets:.0} GET/s, {posts:.0} POST/s, {per_object:.2} KB an object",
            server.ready * 1e3,
            fresh / 1024.0
        );
        if round > 0 {
            rounds.push([server.ready * 1e3, fresh / 1024.0, gets, posts, per_object]);
        }
    }
    let of = |index: usize| super::bench::median(rounds.iter().map(|round| round[index]).collect());
    let load_of = |name: &str| super::bench::median(loads.iter().map(|load| load[name]).collect());
    let row = |what: &str, value: String, wanted: &str| (what.to_owned(), value, wanted.to_owned());
    Ok(Some(vec![
        row("ready, from the start of the process", format!("{:.0} ms", of(0)), "at most 30 ms"),
        row("resident memory, fresh", format!("{:.1} MB", of(1)), "at most 32 MB"),
        row("GET of one object, 16 connections, TLS", format!("{:.0}/s", of(2)), "at least 35,000/s"),
        row("POST of ConfigMaps, 16 connections, TLS", format!("{:.0}/s", of(3)), "at least 19,000/s"),
        row("memory of a small object", format!("{:.2} KB", of(4)), "at most 2 KB"),
        row(
            "event until 1,000 watchers have it, each with a connection: 99 of 100 (median)",
            format!("{:.1} ms ({:.1} ms)", load_of("watch_p99_ms"), load_of("watch_p50_ms")),
            "at most 50 ms",
        ),
        row(
            "list of 10,000 pods, to the last byte",
            format!("{:.1} ms ({:.0} MB)", load_of("list_ms"), load_of("list_mb")),
            "at most 60 ms",
        ),
        row(
            "GET, median, with 10 objects of the kind, and with 100,000",
            format!("{:.0} µs, {:.0} µs", load_of("get_few_us"), load_of("get_many_us")),
            "no change",
        ),
    ]))
}
