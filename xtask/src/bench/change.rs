//! How long a change of a ServiceMonitor takes until the real Prometheus has it: operator, Secret, config-reloader and reload.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// The ServiceMonitor that is changed, as the API names it.
const MONITOR: &str = "apis/monitoring.coreos.com/v1/namespaces/monitoring/servicemonitors/prometheus-kubevirt-rules";

/// How often it is changed; the longest counts.
const CHANGES: u32 = 5;

/// Seconds from the API's answer to a change until Prometheus says that it has it, at the most of [`CHANGES`]. `lab` runs the
/// program with these arguments and gives what it prints.
pub(super) fn longest(lab: &dyn Fn(&[&str]) -> Result<String>) -> Result<f64> {
    let kubeconfig = lab(&["kubeconfig"])?;
    let kubeconfig = std::fs::read_to_string(Path::new(kubeconfig.trim()))?;
    let field = |name: &str| {
        let found = kubeconfig.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name));
        Ok::<_, anyhow::Error>(
            found.with_context(|| format!("no {name} in the kubeconfig"))?.trim().trim_matches(['"', '\'']).to_owned(),
        )
    };
    let (server, token) = (field("server:")?, field("token:")?);
    let prometheus = prometheus(&lab(&["status", "--output", "json"])?)?;
    let mut longest = 0.0_f64;
    for change in 1..=CHANGES {
        let limit = 100_000 + change;
        let patch = format!(
            "url = \"{server}/{MONITOR}\"\ninsecure\nrequest = PATCH\nheader = \"Authorization: Bearer {token}\"\n\
             header = \"Content-Type: application/merge-patch+json\"\ndata = \"{{\\\"spec\\\":{{\\\"sampleLimit\\\":{limit}}}}}\"\n"
        );
        curl(&patch)?;
        let began = Instant::now();
        let wanted = format!("sample_limit: {limit}");
        while !curl(&format!("url = \"{prometheus}/api/v1/status/config\"\n"))?.contains(&wanted) {
            ensure!(began.elapsed() < Duration::from_secs(30), "the change did not reach Prometheus within 30 s");
        }
        longest = longest.max(began.elapsed().as_secs_f64());
    }
    Ok(longest)
}

/// The address of the first Prometheus, from the lab's status as JSON.
fn prometheus(status: &str) -> Result<String> {
    let pod = status.split('{').find(|pod| pod.contains("\"prometheus-k8s-0\"")).context("no prometheus-k8s-0")?;
    let address = pod.split("\"address\":").nth(1).and_then(|rest| rest.split('"').nth(1)).context("it has no address")?;
    Ok(format!("http://{address}:9090"))
}

/// One request; the token goes through standard input, where no other user of this machine sees it.
fn curl(config: &str) -> Result<String> {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start curl")?;
    child.stdin.take().context("no input")?.write_all(config.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "curl failed");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
