//! Real clusters. `existing` is tested for real: a lab installs on another lab's API server, whose pods run. What kind and minikube do
//! is played by stand-ins that say what the real programs were recorded to say; the real kind runs as far as it goes without a node image.
//! `LAB_TEST_CONTEXT=CONTEXT cargo test -p tests -- 'cluster of LAB_TEST_CONTEXT'` runs the first test on a cluster of yours.

mod faults;
mod played;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail, ensure};
use install::{Api, INSTALLED_BY};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bench::{Folder, NotRun, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("an existing cluster is installed on and left as it was", existing),
        trial("what others have on a cluster is neither touched nor lost", others),
        trial("the cluster of LAB_TEST_CONTEXT", users_own),
        trial("real clusters: wrong input", wrong_input),
    ];
    trials.extend(faults::trials());
    trials.extend(played::trials());
    trials
}

/// A cluster with nothing on it: an embedded one, whose API and pods are what an installer sees of any.
fn host(folder: &Folder) -> Result<PathBuf> {
    let prometheus = prometheus()?.prometheus.to_string_lossy().into_owned();
    folder.output(&["up", "--name", "host", "--bare", "--offline", "--prometheus", &prometheus, "--output", "json"])?;
    Ok(folder.path().join("state/host/kubeconfig"))
}

fn copy(from: &str, to: &Path) -> Result<()> {
    std::fs::copy(root().join("manifests").join(from), to)?;
    Ok(())
}

/// A release of the shape of kube-prometheus', out of our own manifests: its ten definitions, one of them of 1 MB, and what a lab leaves out.
fn stack(folder: &Path) -> Result<PathBuf> {
    let release = folder.join("kube-prometheus");
    let setup = release.join("manifests/setup");
    std::fs::create_dir_all(&setup)?;
    copy("crds/monitoring.yaml", &setup.join("definitions.yaml"))?;
    for part in ["alertmanager", "kube-state-metrics", "node-exporter", "operator", "prometheus", "service-monitors", "stand-ins"]
    {
        copy(&format!("monitoring/{part}.yaml"), &release.join(format!("manifests/{part}.yaml")))?;
    }
    let large = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "larges.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "larges", "singular": "large", "kind": "Large", "listKind": "LargeList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "description": "x".repeat(1_000_000)}}}],
        },
    });
    std::fs::write(setup.join("large.yaml"), large.to_string())?;
    let omitted = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "shut", "namespace": "monitoring"}, "spec": {"podSelector": {}}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budget", "namespace": "monitoring"}, "spec": {"minAvailable": 1}},
    ]});
    std::fs::write(release.join("manifests/omitted.yaml"), omitted.to_string())?;
    Ok(release)
}

/// A release of KubeVirt's shape: virt-operator, simulated, and the KubeVirt object.
fn kubevirt(folder: &Path) -> Result<PathBuf> {
    let release = folder.join("kubevirt");
    std::fs::create_dir_all(&release)?;
    copy("kubevirt/v1.9.0/operator.yaml", &release.join("operator.yaml"))?;
    Ok(release)
}

/// What a test does on a cluster.
struct Guest<'a> {
    folder: &'a Folder,
    name: &'a str,
    arguments: Vec<String>,
}

impl<'a> Guest<'a> {
    fn new(folder: &'a Folder, name: &'a str, cluster: &[&str]) -> Result<Self> {
        let stack = stack(folder.path())?.to_string_lossy().into_owned();
        let kubevirt = kubevirt(folder.path())?.to_string_lossy().into_owned();
        let mut arguments: Vec<String> = ["up", "--name", name].iter().map(ToString::to_string).collect();
        arguments.extend(cluster.iter().map(ToString::to_string));
        arguments.extend(["--kube-prometheus-manifests".to_owned(), stack, "--kubevirt-manifests".to_owned(), kubevirt]);
        Ok(Self { folder, name, arguments })
    }

    fn existing(folder: &'a Folder, name: &'a str, kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = kubeconfig.to_string_lossy();
        Self::new(folder, name, &["--provider", "existing", "--kubeconfig", &kubeconfig, "--context", "host"])
    }

    fn command(&self, more: &[&str]) -> assert_cmd::Command {
        let mut arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        arguments.extend(more);
        self.folder.lab(&arguments)
    }

    /// Brings it up: what it printed for scripts.
    fn up(&self) -> Result<Value> {
        let output = self.command(&["--output", "json"]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A command that must fail with this code; what it said.
    fn fails(&self, code: i32, more: &[&str]) -> Result<String> {
        let output = self.command(more).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "wanted {code}, ended with {:?}: {said}", output.status.code());
        Ok(said)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec![arguments[0], "--name", self.name];
        all.extend(&arguments[1..]);
        self.folder.output(&all)
    }
}

/// Runs a future on the one runtime of these tests: a client's connections live on the runtime that it was made on.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
    RUNTIME.block_on(work)
}

fn api(kubeconfig: &Path) -> Result<Api> {
    block_on(async {
        let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
        Ok(Api::new(lab::why::client(config, None).await?))
    })
}

/// What is on a cluster, but for what comes and goes by itself.
fn inventory(api: &Api) -> Result<Vec<String>> {
    block_on(async {
        let mut found = Vec::new();
        for kind in api.all_kinds().await? {
            if ["Event", "Lease"].contains(&kind.kind.as_str()) {
                continue;
            }
            for object in api.list(&kind.collection("")).await? {
                found.push(format!("{} {}", kind.kind, kubeapi::object::key(&object)));
            }
        }
        found.sort();
        Ok(found)
    })
}

fn existing() -> Result<()> {
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    let api = api(&kubeconfig)?;
    let before = inventory(&api)?;
    let guest = Guest::existing(&folder, "guest", &kubeconfig)?;

    // A program that ends at once: the wait says why, in the words of the cluster, and what was installed stays.
    let object = folder.path().join("kube-prometheus/manifests/prometheus.yaml");
    let good = std::fs::read_to_string(&object)?;
    std::fs::write(
        &object,
        good.replace("  serviceMonitorSelector:", "  additionalArgs: [{name: no-such-flag}]\n  serviceMonitorSelector:"),
    )?;
    let said = guest.fails(5, &["--timeout", "6"]);
    std::fs::write(&object, &good)?;
    let said = said?;
    for part in [
        "monitoring/statefulsets/prometheus-k8s: 0 of 1 ready",
        "pod monitoring/prometheus-k8s-0: container prometheus CrashLoopBackOff",
        "log of prometheus: ",
        "no-such-flag",
        "hint: what has been installed stays",
    ] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }

    // The same command goes on.
    let shown = guest.up()?;
    let targets = shown["targets"].as_array().context("no targets")?;
    ensure!(targets.len() == 8 && targets.iter().all(|target| target["health"] == "up"), "{shown}");
    let installed = inventory(&api)?;
    ensure!(installed.iter().any(|line| line == "CustomResourceDefinition larges.example.com"), "{installed:?}");
    ensure!(
        !installed.iter().any(|line| line.starts_with("NetworkPolicy ") || line == "PodDisruptionBudget monitoring/budget"),
        "{installed:?}"
    );

    // Every way in that an embedded lab has.
    let status: Value = serde_json::from_str(&guest.ask(&["status", "--output", "json"])?)?;
    ensure!(status["complete"] == true && status["provider"] == "existing" && status["kubernetes"] == "v1.36.2", "{status}");
    let up: Value =
        serde_json::from_str(&guest.ask(&["query", "sum(up{job=\"kubevirt-prometheus-metrics\"})", "--output", "json"])?)?;
    ensure!(up[0]["value"] == 8.0, "{up}");
    ensure!(guest.ask(&["logs", "virt-handler"])?.contains("virt-handler v1.9.0 (simulated) starts"));
    ensure!(guest.ask(&["why", "up{job=\"kubevirt-prometheus-metrics\"}"])?.contains("It is there"), "why");
    opened(&folder, "guest")?;
    let said = String::from_utf8(folder.lab(&["fault", "list", "--name", "guest"]).output()?.stderr)?;
    ensure!(said.contains("lab \"guest\" has no fault proxy on its cluster"), "{said}");

    // Grafana has the dashboard.
    let dashboards =
        block_on(api.get("/api/v1/namespaces/monitoring/configmaps/kubevirt-lab-dashboards"))?.context("no dashboards")?;
    ensure!(
        dashboards["data"]["kubevirt-requests.json"]
            .as_str()
            .is_some_and(|text| text.contains("&lt;error&gt;") || text.contains("<error>"))
    );

    // The same scenario, there and here: the same verdicts, the same series.
    let (page, junit) = (folder.path().join("parity.html"), folder.path().join("junit.xml"));
    let scenario = |name: &str| root().join("scenarios").join(name).to_string_lossy().into_owned();
    let (first, second) = (scenario("blog-rest-client-requests.yaml"), scenario("goaway.yaml"));
    let snapshots = root().join("snapshots");
    let (page_name, junit_name, snapshots) = (page.to_string_lossy(), junit.to_string_lossy(), snapshots.to_string_lossy());
    let prometheus = prometheus()?.prometheus.to_string_lossy().into_owned();
    let run = [
        "scenario",
        "run",
        &first,
        &second,
        "--kubevirt",
        "v1.9.0",
        "--provider",
        "embedded,existing",
        "--lab",
        "guest",
        "--snapshots",
        &snapshots,
        "--parity",
        &page_name,
        "--junit",
        &junit_name,
        "--prometheus",
        &prometheus,
        "--offline",
        "--allow-not-runnable",
    ];
    let said = folder.output(&run)?;
    ensure!(said.contains("not runnable there: it needs faults on the Kubernetes API"), "{said}");
    ensure!(said.contains("4 runs: 3 passed, 0 failed, 1 not runnable"), "{said}");
    ensure!(std::fs::read_to_string(&page)?.contains("2 scenarios, 0 with a difference that is not declared"));
    ensure!(std::fs::read_to_string(&junit)?.contains("blog-rest-client-requests@v1.9.0 on existing"));

    // What somebody else needs to look at it, without what is secret.
    let exported = folder.path().join("exported");
    folder.output(&["export", "--name", "guest", &exported.to_string_lossy()])?;
    for file in [
        "lab.json",
        "timeline.txt",
        "prometheus/targets.json",
        "logs/monitoring/prometheus-k8s-0/prometheus.log",
        "objects/kubevirt/pods",
    ] {
        ensure!(exported.join(file).exists(), "{file} is not there");
    }
    let secret = std::fs::read_to_string(exported.join("objects/monitoring/secrets/prometheus-k8s.yaml"))?;
    ensure!(secret.contains("left out"), "{secret}");

    // Another lab is told whose the cluster is, and changes nothing.
    let said = Guest::existing(&folder, "other", &kubeconfig)?.fails(5, &[])?;
    ensure!(said.contains("lab \"guest\" is on this cluster"), "{said}");

    // Twice is as good as once.
    guest.up()?;
    ensure!(inventory(&api)?.len() == installed.len());

    let down = guest.ask(&["down"])?;
    ensure!(down.contains("is down"), "{down}");
    let after = inventory(&api)?;
    ensure!(after == before, "left behind: {:?}", after.iter().filter(|line| !before.contains(line)).collect::<Vec<_>>());
    ensure!(!folder.path().join("state/guest").exists());
    Ok(())
}

/// A local port that leads to Prometheus, while the command runs and no longer.
fn opened(folder: &Folder, name: &str) -> Result<()> {
    let program = env!("CARGO_BIN_EXE_lab-e2e");
    let mut child = std::process::Command::new(program)
        .args(["open", "--name", name, "prometheus", "--port", "0", "--output", "json"])
        .env("LAB_STATE_DIR", folder.path().join("state"))
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut told = Vec::new();
    let mut out = std::io::BufReader::new(child.stdout.take().context("no output")?);
    while !told.ends_with(b"}\n") {
        ensure!(std::io::BufRead::read_until(&mut out, b'\n', &mut told)? > 0, "it said nothing");
    }
    let told: Value = serde_json::from_slice(&told)?;
    let url = format!("{}/api/v1/status/buildinfo", told["url"].as_str().context("no url")?);
    let answer = block_on(async { reqwest::Client::builder().no_proxy().build()?.get(&url).send().await?.json::<Value>().await });
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    ensure!(child.wait()?.success());
    ensure!(answer?["data"]["version"].is_string());
    ensure!(
        block_on(async { reqwest::Client::builder().no_proxy().build()?.get(&url).send().await }).is_err(),
        "the port is still open"
    );
    Ok(())
}

fn others() -> Result<()> {
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    let api = api(&kubeconfig)?;
    let guest = Guest::existing(&folder, "guest", &kubeconfig)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}});
    let deployment = |name: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "monitoring"}, "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]}}}})
    };
    let deployments = "/apis/apps/v1/namespaces/monitoring/deployments";

    // Half a stack of another hand.
    block_on(async {
        api.create("/api/v1/namespaces", &namespace).await?;
        api.create(deployments, &deployment("grafana")).await
    })?;
    let before = inventory(&api)?;
    let said = guest.fails(5, &[])?;
    ensure!(said.contains("parts of a monitoring stack that no lab installed: deployment monitoring/grafana"), "{said}");
    ensure!(inventory(&api)? == before, "something was changed");
    block_on(api.delete(&format!("{deployments}/grafana")))?;

    // A namespace that was there stays, and so does what its owner puts there later; a definition of ours goes only without others' objects.
    guest.up()?;
    block_on(async {
        api.create(deployments, &deployment("mine")).await?;
        let monitor = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "mine", "namespace": "default"},
            "spec": {"selector": {}, "podMetricsEndpoints": []}});
        api.create("/apis/monitoring.coreos.com/v1/namespaces/default/podmonitors", &monitor).await
    })?;

    // Somebody else takes a field of ours over: the next run says who, and takes nothing back.
    let patch = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prometheus-k8s", "namespace": "monitoring"},
        "spec": {"ports": [{"name": "web", "port": 9090, "targetPort": 9999}]}});
    let path = "/api/v1/namespaces/monitoring/services/prometheus-k8s";
    block_on(api.once(
        http::Method::PATCH,
        &format!("{path}?fieldManager=somebody&force=true"),
        "application/apply-patch+yaml",
        patch.to_string().into_bytes(),
    ))?;
    let said = guest.fails(5, &[])?;
    ensure!(said.contains("Service monitoring/prometheus-k8s") && said.contains("somebody"), "{said}");

    let output = folder.lab(&["down", "--name", "guest", "--timeout", "30"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(5), "{said}");
    ensure!(
        said.contains("podmonitors.monitoring.coreos.com: it holds what the lab has not installed: podmonitor default/mine"),
        "{said}"
    );
    let left = inventory(&api)?;
    for kept in ["Deployment monitoring/mine", "PodMonitor default/mine", "Namespace monitoring"] {
        ensure!(left.iter().any(|line| line == kept), "{kept} is gone");
    }
    ensure!(
        !left.iter().any(|line| line == "Namespace kubevirt" || line == "Deployment monitoring/prometheus-operator"),
        "{left:?}"
    );

    // Once that is settled, the same command ends it.
    block_on(api.delete("/apis/monitoring.coreos.com/v1/namespaces/default/podmonitors/mine"))?;
    folder.output(&["down", "--name", "guest", "--timeout", "30"])?;
    let left = inventory(&api)?;
    ensure!(
        left.iter().any(|line| line == "Deployment monitoring/mine")
            && !left.iter().any(|line| line.contains("monitoring.coreos.com")),
        "{left:?}"
    );
    let labelled = block_on(api.list(&format!("/api/v1/services?labelSelector={INSTALLED_BY}%3Dguest")))?;
    ensure!(labelled.is_empty());
    Ok(())
}

/// A command that must end with this code: what it printed and what it said.
fn ran(mut command: assert_cmd::Command, code: i32) -> Result<(String, String)> {
    let output = command.output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.code() == Some(code), "wanted {code}, ended with {:?}: {err}", output.status.code());
    Ok((out, err))
}

fn users_own() -> Result<()> {
    let Ok(context) = std::env::var("LAB_TEST_CONTEXT") else {
        let why = "set LAB_TEST_CONTEXT to a context of your kubeconfig; the lab installs on its cluster and goes again";
        bail!(NotRun(why.to_owned()));
    };
    let folder = Folder::new()?;
    let up = ["up", "--name", "users", "--provider", "existing", "--context", &context, "--output", "json"];
    let mut command = folder.lab(&up);
    if let Some(kubeconfig) = std::env::var_os("KUBECONFIG") {
        command.env("KUBECONFIG", kubeconfig);
    }
    let (out, _) = ran(command, 0)?;
    let shown: Value = serde_json::from_str(&out)?;
    ensure!(shown["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{shown}");
    folder.output(&["query", "--name", "users", "up"])?;
    folder.output(&["down", "--name", "users"])?;
    Ok(())
}

fn wrong_input() -> Result<()> {
    let folder = Folder::new()?;
    let none = folder.path().join("none");
    let kubeconfig = folder.path().join("kubeconfig");
    let unreachable = json!({"apiVersion": "v1", "kind": "Config", "contexts": [{"name": "gone", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}]});
    std::fs::write(&kubeconfig, unreachable.to_string())?;
    let kubeconfig = kubeconfig.to_string_lossy().into_owned();
    let empty = none.to_string_lossy().into_owned();
    std::fs::create_dir(&none)?;
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--provider", "existing"], 2, "an existing cluster needs --context"),
        (&["--provider", "kind", "--context", "a"], 2, "--context is for --provider existing"),
        (
            &["--provider", "existing", "--kubeconfig", &kubeconfig, "--context", "nope"],
            2,
            "there is no context \"nope\"\nhint: there are: gone",
        ),
        (
            &["--provider", "existing", "--kubeconfig", &kubeconfig, "--context", "gone"],
            7,
            "the cluster of context \"gone\" cannot be reached",
        ),
        (
            &["--provider", "kind", "--kubernetes", "1.36", "--kubevirt", "v1.5.0"],
            2,
            "these releases do not fit together: Kubernetes 1.36; KubeVirt v1.5.0 is made for Kubernetes 1.30 to 1.32",
        ),
        (&["--provider", "kind", "--kubevirt", "v0.1.0"], 2, "nothing is known of KubeVirt v0.1.0"),
        (&["--provider", "kind", "--driver", "vmware"], 2, "kind has no driver \"vmware\""),
        (&["--provider", "kind", "--small"], 2, "--small is for the embedded lab alone"),
        (&["--provider", "kind", "--mount", "relative"], 2, "write HOST:NODE"),
    ];
    for (arguments, code, wanted) in cases {
        let mut all = vec!["up", "--name", "wrong"];
        all.extend(*arguments);
        let (_, said) = ran(folder.lab(&all), *code).with_context(|| format!("{arguments:?}"))?;
        ensure!(said.contains(wanted), "{arguments:?}: {said}");
    }
    let nothing = folder.lab(&["up", "--name", "wrong", "--provider", "minikube"]).env("PATH", &empty).output()?;
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    ensure!(nothing.status.code() == Some(7) && said.contains("minikube is not on the search path"), "{said}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path().join("state")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
