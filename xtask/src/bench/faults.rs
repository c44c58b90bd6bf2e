//! The fault proxy: what a request that passes it costs, in the lab's process and alone, beside nginx with the same TLS.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::median;
use super::server::{Load, Server, client, has, wrk};

/// What is asked for: one small object.
const OBJECT: &str = "/api/v1/namespaces/kube-system";
/// Seconds of each load.
const SECONDS: u32 = 3;
/// Where nginx listens.
const NGINX: &str = "127.0.0.1:16449";

/// nginx, which ends with this.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers when it is asked to, and leaves them when it is killed.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// A key and a certificate of its own for servers on loopback.
fn certificate(folder: &Path) -> Result<()> {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -subj /CN=localhost -addext";
    let made = Command::new("openssl")
        .args(arguments.split(' '))
        .args(["subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .context("cannot run openssl")?;
    ensure!(made.success(), "openssl made no certificate");
    Ok(())
}

fn nginx(folder: &Path, upstream: &str) -> Result<Nginx> {
    let upstream = upstream.trim_start_matches("https://");
    let folder = std::path::absolute(folder)?;
    let at = folder.display();
    std::fs::write(
        folder.join("nginx.conf"),
        format!(
            "daemon off; worker_processes auto; pid {at}/nginx.pid; error_log {at}/nginx.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s; keepalive_requests 100000000;\n\
             upstream api {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{ listen {NGINX} ssl; ssl_certificate {at}/certificate.pem; ssl_certificate_key {at}/key.pem;\n\
             ssl_protocols TLSv1.2 TLSv1.3; location / {{ proxy_pass https://api; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_ssl_session_reuse on; proxy_buffering on; }} }} }}\n"
        ),
    )?;
    let child =
        Command::new("nginx").arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(&folder).stderr(Stdio::null()).spawn()?;
    let nginx = Nginx(child);
    for _ in 0..200 {
        if std::net::TcpStream::connect(NGINX).is_ok() {
            return Ok(nginx);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("nginx did not start; see {at}/nginx.log")
}

/// The text of the page's part; `None` where a tool is missing, which is said in one line.
pub(super) fn run(root: &Path, times: u16) -> Result<Option<String>> {
    if !has("wrk", "wrk") || !has("nginx", "nginx-light") || !has("openssl", "openssl") {
        return Ok(None);
    }
    let folder = root.join("target/bench-faults");
    std::fs::create_dir_all(&folder)?;
    certificate(&folder)?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let programs = root.join("target/release");
    let server = Server::start(&programs.join("lab"), &["apiserver", "--listen", "127.0.0.1:0", "--fault-proxy", "127.0.0.1:0"])?;
    let (url, token) = (server.field("url")?, server.field("token")?);
    let (token_file, certificate, key) = (path("token"), path("certificate.pem"), path("key.pem"));
    let arguments = ["--upstream", &url, "--upstream-insecure", "--listen", "127.0.0.1:0", "--token-file", &token_file];
    let arguments: Vec<&str> = arguments.into_iter().chain(["--certificate", &certificate, "--key", &key]).collect();
    let alone = Server::start(&programs.join("lab-fault-proxy"), &arguments)?;
    let _nginx = nginx(&folder, &url)?;
    let ways = [url.clone(), server.field("proxy")?, alone.field("url")?, format!("https://{NGINX}")];

    let mut rounds: Vec<[(Load, Load); 4]> = Vec::new();
    for round in 0..=times {
        let mut loads = Vec::new();
        for way in &ways {
            let url = format!("{way}{OBJECT}");
            loads.push((wrk(16, SECONDS, &url, &token, None)?, wrk(1, SECONDS, &url, &token, None)?));
        }
        let loads: [(Load, Load); 4] = loads.try_into().ok().context("four ways")?;
        let told: Vec<String> = loads.iter().map(|(many, one)| format!("{:.0}/s {:.0} µs", many.rate, one.p50)).collect();
        println!("direct, in the lab, alone, nginx: {}", told.join(", "));
        if round > 0 {
            rounds.push(loads);
        }
    }
    let rate = |way: usize| median(rounds.iter().map(|round| round[way].0.rate).collect());
    let p50 = |way: usize| median(rounds.iter().map(|round| round[way].1.p50).collect());
    let share = |way: usize| median(rounds.iter().map(|round| round[way].0.rate / round[0].0.rate).collect()) * 100.0;
    let added = |way: usize| median(rounds.iter().map(|round| round[way].1.p50 - round[0].1.p50).collect());
    drop(alone);
    let watches = client("fault-proxy", "watches", &[&server.field("proxy")?, &token, "10000"])?;
    let memory = server.memory()? / 1024.0;
    let mut text = format!(
        "Medians of {times} rounds of {SECONDS} s, release build, two cores, wrk on the same cores; `cargo xtask bench faults`. GET of \
         one object over TLS: requests in a second with 16 connections, and the median latency with one.\n\n\
         | way | requests in a second | median latency |\n|---|---|---|\n"
    );
    for (way, name) in ["the API server itself", "through the proxy in its process", "through `lab-fault-proxy`", "through nginx"]
        .into_iter()
        .enumerate()
    {
        text.push_str(&format!("| {name} | {:.0} | {:.0} µs |\n", rate(way), p50(way)));
    }
    text.push_str("\n| what | measured | wanted |\n|---|---|---|\n");
    let ratio = median(rounds.iter().map(|round| round[2].0.rate / round[3].0.rate).collect());
    let rows = [
        ("in the process: share of the throughput", format!("{:.0} %", share(1)), "at least 80 %"),
        ("in the process: added to the median latency", format!("{:.0} µs", added(1)), "at most 60 µs"),
        ("alone: throughput, of nginx's", format!("{:.0} %", ratio * 100.0), "at least 100 %"),
        ("alone: added to the median latency, of nginx's", format!("{:.2} ×", added(2) / added(3)), "at most 1.2 ×"),
        ("10,000 open watches, each with a connection: an event until all have it", format!("{:.2} s", watches["event_s"]), ""),
        ("memory of API server and proxy with them", format!("{memory:.0} MB"), ""),
    ];
    for (what, measured, wanted) in rows {
        text.push_str(&format!("| {what} | {measured} | {wanted} |\n"));
    }
    Ok(Some(text))
}

/// Rules that fail a share of what passes in each of the cheap ways, for as long as is wished.
const SHARES: &str = "\
- {name: status, match: {verb: get}, effect: {status: {code: 503}}, budget: {probability: 0.02, seed: 1}}
- {name: reset, match: {verb: get}, effect: {reset: {}}, budget: {probability: 0.01, seed: 2}}
- {name: truncated, match: {verb: get}, effect: {reset: {afterBytes: 50}}, budget: {probability: 0.01, seed: 3}}
- {name: delay, match: {verb: get}, effect: {delay: {for: 0.005}}, budget: {probability: 0.02, seed: 4}}
";

/// Memory of the proxy alone under a steady load with faults, looked at every minute.
pub(super) fn soak(root: &Path, minutes: u32) -> Result<Option<String>> {
    if !has("wrk", "wrk") {
        return Ok(None);
    }
    let folder = root.join("target/bench-faults");
    std::fs::create_dir_all(&folder)?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (script, rules, token_file) = (path("soak.lua"), path("soak.yaml"), path("token"));
    // 64 connections that wait 50 ms after each answer.
    std::fs::write(&script, "function delay() return 50 end\n")?;
    std::fs::write(&rules, SHARES)?;
    let programs = root.join("target/release");
    let server = Server::start(&programs.join("lab"), &["apiserver", "--listen", "127.0.0.1:0"])?;
    let (url, token) = (server.field("url")?, server.field("token")?);
    let arguments = ["--upstream", &url, "--upstream-insecure", "--listen", "127.0.0.1:0", "--token-file", &token_file];
    let arguments: Vec<&str> = arguments.into_iter().chain(["--faults", &rules]).collect();
    let proxy = Server::start(&programs.join("lab-fault-proxy"), &arguments)?;
    let target = format!("{}{OBJECT}", proxy.field("url")?);
    let mut load = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{}s", minutes * 60), "-s", &script])
        .args(["-H", &format!("Authorization: Bearer {token}"), &target])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut readings = Vec::new();
    for minute in 1..=minutes {
        std::thread::sleep(Duration::from_secs(if minute == minutes { 55 } else { 60 }));
        let memory = proxy.memory()? / 1024.0;
        println!("{minute} min: {memory:.1} MB");
        readings.push(memory);
    }
    let mut told = String::new();
    std::io::Read::read_to_string(&mut load.stdout.take().context("no output")?, &mut told)?;
    ensure!(load.wait()?.success(), "wrk: {told}");
    let requests = told.lines().find_map(|line| line.trim().split_once(" requests in ")).context("no count")?.0;
    let from = usize::try_from(minutes / 6)?.min(readings.len() - 1);
    let most = readings[from..].iter().copied().fold(0.0, f64::max);
    Ok(Some(format!(
        "`cargo xtask bench soak --minutes {minutes}`: `lab-fault-proxy` alone, 64 connections, {requests} requests, of which 6 % are answered \
         with 503, reset, cut off or delayed.\n\n\
         | what | measured |\n|---|---|\n\
         | memory after {} min | {:.1} MB |\n| the most after that | {most:.1} MB |\n| at the end | {:.1} MB |\n",
        from + 1,
        readings[from],
        readings[readings.len() - 1],
    )))
}

/// The million requests.
pub(super) fn exact(requests: u64) -> Result<String> {
    let found = client("fault-proxy", "exact", &[&requests.to_string()])?;
    let of = |name: &str| found.get(name).copied().unwrap_or_default();
    Ok(format!(
        "`cargo xtask bench exact`: 64 connections, half HTTP/1.1 and half HTTP/2, 8 verbs, 20 resources, {} kinds of fault at once; \
         each client counts as client-go's transport does.\n\n\
         | what | measured | wanted |\n|---|---|---|\n\
         | requests | {} | 1,000,000 |\n| injected faults | {} | |\n| counts compared (client, method, verb, resource, code) | {} | |\n\
         | counts on which ledger and client differ | {} | 0 |\n| time | {:.0} s | |\n| memory of clients, proxy and API server | {:.0} MB | |\n",
        of("kinds"),
        of("requests"),
        of("injected"),
        of("series"),
        of("differences"),
        of("seconds"),
        of("mb")
    ))
}
