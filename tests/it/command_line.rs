//! The program as people use it: one life of a lab, and what it says to wrong input.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::bench::{Folder, prometheus, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a lab comes up, is looked at, and goes without a trace", whole_life),
        trial("a lab whose supervisor was killed leaves nothing and comes up again", killed),
        trial("prometheus that was killed is started again", prometheus_killed),
        trial("wrong input has one clear error and its exit code", wrong_input),
        trial("exit codes are documented", exit_codes),
    ]
}

/// Waits for a state; the error quotes what was seen last.
fn wait_for(what: &str, mut look: impl FnMut() -> Result<bool, String>) -> Result<()> {
    let mut deadline = wire::patience::Deadline::after(Duration::from_secs(60));
    let mut last = String::new();
    while !deadline.is_over() {
        match look() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(seen) => last = seen,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{what}: not within 60 s; last seen: {last}")
}

/// Processes that have this folder in their command line.
fn processes(folder: &std::path::Path) -> Vec<String> {
    let wanted = folder.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&wanted) {
            found.push(command);
        }
    }
    found
}

fn up(folder: &Folder) -> Result<Value> {
    let prometheus = prometheus()?;
    let path = prometheus.prometheus.to_string_lossy().into_owned();
    Ok(serde_json::from_str(&folder.output(&["up", "--offline", "--prometheus", &path, "--output", "json"])?)?)
}

fn whole_life() -> Result<()> {
    let folder = Folder::new()?;
    let shown = up(&folder)?;
    let targets = shown["targets"].as_array().context("no targets")?;
    ensure!(targets.len() == 8 && targets.iter().all(|target| target["health"] == "up"), "{targets:?}");

    // Again: the same lab, and at once.
    ensure!(up(&folder)?["api"] == shown["api"], "a second up made another lab");
    let wrong = folder.lab(&["up", "--kubevirt", "v0.11.0"]).output()?;
    ensure!(wrong.status.code() == Some(5) && String::from_utf8_lossy(&wrong.stderr).contains("runs KubeVirt v1.9.0"));

    let kubeconfig = folder.output(&["kubeconfig"])?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(kubeconfig.trim())?.permissions());
    ensure!(mode & 0o777 == 0o600, "kubeconfig has mode {mode:o}");
    ensure!(folder.output(&["token"])?.trim().len() == 48);

    let status: Value = serde_json::from_str(&folder.output(&["status", "--output", "json"])?)?;
    ensure!(status["pods"].as_array().is_some_and(|pods| pods.iter().all(|pod| pod["ready"] == true)), "{status}");
    let log = folder.output(&["logs", "virt-handler"])?;
    ensure!(log.contains("virt-handler v1.9.0 (simulated) starts"), "{log}");
    let rows: Value =
        serde_json::from_str(&folder.output(&["query", "count(kubevirt_rest_client_requests_total)", "--output", "json"])?)?;
    ensure!(rows[0]["value"].as_f64().is_some_and(|count| count > 100.0), "{rows}");

    faults(&folder)?;
    kubectl(kubeconfig.trim(), &folder)?;

    let down = folder.output(&["down"])?;
    ensure!(down.contains("is down"), "{down}");
    ensure!(folder.output(&["down"])?.contains("was not running"));
    wait_for("processes of the lab", || match processes(folder.path()) {
        left if left.is_empty() => Ok(true),
        left => Err(left.join("\n")),
    })?;
    let left: Vec<_> = std::fs::read_dir(folder.path().join("state"))?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    let gone = folder.lab(&["status"]).output()?;
    ensure!(gone.status.code() == Some(6), "{gone:?}");
    Ok(())
}

fn faults(folder: &Folder) -> Result<()> {
    folder.output(&[
        "fault",
        "add",
        "--as",
        "no-nodes",
        "--service-account",
        "*handler",
        "--verb",
        "patch",
        "--status",
        "503",
        "--first",
        "1",
    ])?;
    let again = folder.lab(&["fault", "add", "--as", "no-nodes", "--reset"]).output()?;
    ensure!(again.status.code() == Some(2), "{again:?}");
    let list: Value = serde_json::from_str(&folder.output(&["fault", "list", "--output", "json"])?)?;
    ensure!(list[0]["name"] == "no-nodes" && list[0]["hits"] == 0, "{list}");
    ensure!(folder.output(&["fault", "clear"])?.starts_with("1 cleared"));
    let entries: Value = serde_json::from_str(&folder.output(&["ledger", "--client", "virt-handler", "--output", "json"])?)?;
    let entries = entries.as_array().context("no ledger")?;
    ensure!(!entries.is_empty() && entries.iter().all(|entry| entry["verdict"] == "pass"), "{entries:?}");
    ensure!(!format!("{entries:?}").contains("Bearer"), "a token is in the ledger");
    Ok(())
}

/// A real kubectl, where there is one.
fn kubectl(kubeconfig: &str, folder: &Folder) -> Result<()> {
    let Some(kubectl) = lab::tools::on_path("kubectl") else {
        eprintln!("not run: kubectl is not on PATH");
        return Ok(());
    };
    let shell = Shell::new()?;
    let _home = shell.push_env("HOME", folder.path());
    let pods = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} get pods -A").quiet().read()?;
    ensure!(pods.contains("virt-handler-") && pods.contains("2/2") && pods.contains("Running"), "{pods}");
    let more = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} get services,servicemonitors -A").quiet().read()?;
    ensure!(more.contains("service/kubevirt-prometheus-metrics"), "{more}");
    ensure!(more.contains("servicemonitor.monitoring.coreos.com/prometheus-kubevirt-rules"), "{more}");
    let log = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} logs -n kubevirt deploy/virt-api --tail=1").quiet().read()?;
    ensure!(log.starts_with("{\"component\":\"virt-api\""), "{log}");
    for websockets in ["true", "false"] {
        let _exec = shell.push_env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let exec = || cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} exec -i -n monitoring prometheus-k8s-0 -c prometheus --");
        let text = "in and out\n".repeat(20_000);
        ensure!(exec().arg("cat").stdin(&text).quiet().read()? == text.trim_end(), "exec by WebSocket {websockets}");
        let failed = exec().args(["sh", "-c", "exit 3"]).quiet().ignore_status().output()?;
        ensure!(failed.status.code() == Some(3), "{failed:?}");
        forward(&kubectl, kubeconfig, folder.path(), websockets)?;
    }
    let nothing = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} exec -n kubevirt deploy/virt-api -- ls");
    let nothing = String::from_utf8(nothing.quiet().ignore_status().output()?.stderr)?;
    ensure!(nothing.contains("the container is simulated"), "{nothing}");
    typed(&kubectl, kubeconfig, &shell)?;
    let proxied = "/api/v1/namespaces/monitoring/services/prometheus-k8s:9090/proxy/-/healthy";
    let proxied = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} get --raw {proxied}").quiet().read()?;
    ensure!(proxied == "Prometheus Server is Healthy.", "{proxied}");
    Ok(())
}

/// Monitoring objects have types, as in a cluster: a slip of the pen is refused, and the fields can be asked for.
fn typed(kubectl: &Path, kubeconfig: &str, shell: &Shell) -> Result<()> {
    let monitor = |endpoint: &str| {
        format!(
            "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {{name: typed, namespace: default}}\n\
             spec: {{selector: {{}}, endpoints: [{endpoint}]}}\n"
        )
    };
    for (endpoint, wanted) in [
        ("{prot: metrics}", "unknown field \"spec.endpoints[0].prot\""),
        ("{port: metrics, interval: 30}", "spec.endpoints[0].interval"),
        ("{port: metrics, interval: thirty}", "should match"),
        ("{port: metrics, scheme: ftp}", "Unsupported value: \"ftp\""),
    ] {
        let apply = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} apply -f -").stdin(monitor(endpoint));
        let output = apply.quiet().ignore_status().output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(wanted), "{endpoint}: {said}");
    }
    let explained = cmd!(shell, "{kubectl} --kubeconfig {kubeconfig} explain servicemonitor.spec.endpoints").quiet().read()?;
    ensure!(
        explained.contains("port\t<string>") && explained.contains("Name of the Service's port, not its number."),
        "{explained}"
    );
    Ok(())
}

/// Prometheus through `kubectl port-forward`, as the blog does it.
fn forward(kubectl: &Path, kubeconfig: &str, home: &Path, websockets: &str) -> Result<()> {
    let mut child = std::process::Command::new(kubectl)
        .args(["--kubeconfig", kubeconfig, "port-forward", "-n", "monitoring", "svc/prometheus-k8s", ":9090"])
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
        .env("HOME", home)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    // kept open: kubectl ends when nobody listens to it
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let said = lines.next();
    let answered = (|| {
        let said = said.context("kubectl said nothing")??;
        let address = said.split(' ').nth(2).context("no address")?;
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.contains("Prometheus Server is Healthy"), "{said}: {answer}");
        Ok(())
    })();
    child.kill()?;
    child.wait()?;
    answered
}

fn record_pid(folder: &Folder) -> Result<i32> {
    let record: Value = serde_json::from_slice(&std::fs::read(folder.path().join("state/lab/lab.json"))?)?;
    Ok(i32::try_from(record["pid"].as_i64().context("no pid")?)?)
}

fn killed() -> Result<()> {
    let folder = Folder::new()?;
    up(&folder)?;
    let supervisor = nix::unistd::Pid::from_raw(record_pid(&folder)?);
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL)?;
    let state = folder.path().join("state");
    wait_for("children of a killed supervisor", || match processes(&state) {
        left if left.is_empty() => Ok(true),
        left => Err(left.join("\n")),
    })?;
    wait_for("the end of the supervisor", || {
        let output = folder.lab(&["status"]).output().map_err(|error| error.to_string())?;
        if output.status.code() == Some(6) { Ok(true) } else { Err(format!("{output:?}")) }
    })?;
    up(&folder)?;
    folder.output(&["down"])?;
    Ok(())
}

fn prometheus_killed() -> Result<()> {
    let folder = Folder::new()?;
    up(&folder)?;
    let pids = folder.path().join("state/lab/pids");
    let pid = std::fs::read_dir(&pids)?.flatten().next().context("no process is recorded")?.file_name();
    let pid: i32 = pid.to_string_lossy().parse()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    wait_for("a restart", || {
        let status = folder.output(&["status", "--output", "json"]).map_err(|error| error.to_string())?;
        let status: Value = serde_json::from_str(&status).map_err(|error| error.to_string())?;
        let pods = status["pods"].as_array().cloned().unwrap_or_default();
        let restarted = pods.iter().any(|pod| pod["restarts"].as_i64().unwrap_or(0) > 0);
        if restarted && pods.iter().all(|pod| pod["ready"] == true) { Ok(true) } else { Err(status.to_string()) }
    })?;
    folder.output(&["down"])?;
    Ok(())
}

fn wrong_input() -> Result<()> {
    let folder = Folder::new()?;
    let empty = folder.path().join("empty");
    std::fs::create_dir_all(&empty)?;
    let refused = |arguments: &[&str], code: i32, expected: &str| -> Result<()> {
        let output = folder.lab(arguments).env("PATH", &empty).env("LAB_CACHE_DIR", &empty).output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{arguments:?}: {:?}\n{text}", output.status.code());
        ensure!(text.contains(expected), "{arguments:?}: {text}");
        Ok(())
    };
    refused(&["up", "--kubevirt", "v9.9"], 2, "KubeVirt v9.9 is not simulated; the nearest is v1.9.0; there are v1.9.0")?;
    refused(&["up", "--offline"], 7, "no Prometheus with kubernetes_sd was found")?;
    refused(&["up", "--prometheus", "/nowhere/prometheus"], 7, "does not fit: /nowhere/prometheus is not there")?;
    refused(&["up", "--name", "Not/A/Name"], 2, "is no name for a lab")?;
    refused(&["status"], 6, "no lab \"lab\" runs here")?;
    refused(&["logs", "x"], 6, "no lab \"lab\" runs here")?;
    refused(&["fault", "add", "--verb", "read", "--reset"], 2, "unknown verb \"read\"")?;
    refused(&["fault", "add", "--verb", "list", "--refuse"], 2, "match only the client")?;
    refused(&["scenario", "run", "/nowhere.yaml"], 2, "/nowhere.yaml: cannot be read")?;
    refused(&["nonsense"], 2, "unrecognized subcommand")?;
    let file = folder.path().join("faults.yaml");
    std::fs::write(&file, "- name: a\n  effect: {reset: {}}\n  budgett: 1\n")?;
    refused(&["fault", "apply", &file.to_string_lossy()], 2, "faults.yaml:3:3: unknown field `budgett`")?;
    // A folder that cannot be written to; root may write anywhere, so a file stands in its way.
    let blocked = folder.path().join("blocked");
    std::fs::write(&blocked, "")?;
    let prometheus = prometheus()?;
    let output = folder
        .lab(&["up", "--offline", "--prometheus", &prometheus.prometheus.to_string_lossy()])
        .env("LAB_STATE_DIR", blocked.join("labs"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(7) && text.contains("cannot write to"), "{text}");
    Ok(())
}

fn exit_codes() -> Result<()> {
    let page = std::fs::read_to_string(crate::bench::root().join("docs/exit-codes.md"))?;
    for (exit, meaning) in lab::exit::TABLE {
        let row = format!("| {} | {meaning} |", *exit as u8);
        ensure!(page.contains(&row), "docs/exit-codes.md lacks the row {row}");
    }
    Ok(())
}
