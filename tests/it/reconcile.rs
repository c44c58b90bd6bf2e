//! The operator of a running lab: what it writes, puts back and says, and that real programs run with what it makes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use apiserver::{Client, Gr};
use kubeapi::object;
use lab::embedded::{Lab, Options, Stack, wait_until_up};
use lab::tools::Prometheus;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::bench::{block_on, prometheus, trial};

const MONITORING: &str = "monitoring.coreos.com";
const PROMETHEUSES: Gr = Gr::of(MONITORING, "prometheuses");
const MONITORS: Gr = Gr::of(MONITORING, "servicemonitors");
const CRDS: Gr = Gr::of("apiextensions.k8s.io", "customresourcedefinitions");
const SETS: Gr = Gr::of("apps", "statefulsets");
const SECRETS: Gr = Gr::core("secrets");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the operator tells how it went, in conditions, events and bindings", told),
        trial("what the operator owns is put back, and real programs run with it", owned),
        trial("the operator goes on when a kind vanishes and comes back", vanished),
        trial("another prometheus-operator takes the place of the lab's own", replaced),
    ]
}

/// A lab of this process, in a folder of its own.
struct Bench {
    lab: Lab,
    client: Client,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start(prometheus: Prometheus, operator: impl FnOnce(&Path) -> Result<Option<PathBuf>>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let options = Options {
            name: "reconcile".to_owned(),
            release: "v1.9.0".to_owned(),
            api_port: 6443,
            prometheus,
            folder: folder.path().to_owned(),
            fast_alerts: false,
            stack: Stack::Small,
            defects: Vec::new(),
            full_size: false,
            bare: false,
            prometheus_operator: operator(folder.path())?,
        };
        let lab = Lab::start(&options).await?;
        Ok(Self { client: lab.client(), lab, folder })
    }

    /// Does something with a lab that is up.
    fn with(work: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let prometheus = prometheus()?;
        block_on(async {
            let bench = Self::start(prometheus, |_| Ok(None)).await?;
            let result = async {
                wait_until_up(&bench.client, bench.lab.release(), Duration::from_secs(60)).await?;
                work(&bench).await
            };
            let result = result.await;
            bench.lab.stop().await;
            result
        })
    }

    fn apply(&self, manifest: Value) -> Result<()> {
        self.client.apply(&manifest).map(drop).map_err(|status| anyhow::anyhow!("{status}"))
    }

    fn find(&self, gr: Gr, namespace: &str, name: &str) -> Value {
        self.client.find(gr, namespace, name).ok().flatten().unwrap_or_default()
    }

    fn patch(&self, gr: Gr, name: &str, patch: Value) -> Result<()> {
        self.client.merge(gr, "monitoring", name, "", &patch).map(drop).map_err(|status| anyhow::anyhow!("{status}"))
    }

    fn condition(&self, kind: &str) -> Value {
        let prometheus = self.find(PROMETHEUSES, "monitoring", "k8s");
        let mut conditions = prometheus["status"]["conditions"].as_array().into_iter().flatten();
        conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
    }

    /// The Events about a monitor of this name that say it was rejected.
    fn rejections(&self, name: &str) -> Vec<Value> {
        let mut events = self.client.list(Gr::core("events"), "default");
        events.retain(|event| event["involvedObject"]["name"] == name && event["reason"] == "InvalidConfiguration");
        events
    }

    /// What a Prometheus answers.
    async fn ask(&self, path: &str) -> Value {
        let pod = self.find(Gr::core("pods"), "monitoring", "prometheus-k8s-0");
        let url = format!("http://{}:9090{path}", pod["status"]["podIP"].as_str().unwrap_or("127.0.0.1"));
        let Ok(client) = reqwest::Client::builder().no_proxy().build() else { return Value::Null };
        let Ok(answer) = client.get(url).send().await else { return Value::Null };
        answer.text().await.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

/// Waits for a state; the error quotes what was seen last.
async fn wait_for(what: &str, mut look: impl AsyncFnMut() -> (bool, Value)) -> Result<()> {
    let mut deadline = wire::patience::Deadline::after(Duration::from_secs(60));
    loop {
        let (done, seen) = look().await;
        if done {
            return Ok(());
        }
        if deadline.is_over() {
            bail!("{what}: not within 60 s; last seen: {seen}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn monitor(name: &str, secret: &str) -> Value {
    let credentials = json!({"name": secret, "key": "token"});
    json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {}, "endpoints": [{"port": "web", "authorization": {"credentials": credentials}}]},
    })
}

fn token() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "later", "namespace": "default"}, "stringData": {"token": "t"}})
}

fn told() -> Result<()> {
    Bench::with(async |bench| {
        wait_for("available", async || {
            let status = bench.find(PROMETHEUSES, "monitoring", "k8s")["status"].clone();
            (status["availableReplicas"] == 2 && bench.condition("Available")["status"] == "True", status)
        })
        .await?;
        let status = bench.find(PROMETHEUSES, "monitoring", "k8s")["status"].clone();
        ensure!(bench.condition("Reconciled")["status"] == "True" && status["shards"] == 1, "{status}");
        ensure!(status["shardStatuses"][0]["shardID"] == "0" && status["unavailableReplicas"] == 0, "{status}");
        ensure!(status["selector"].as_str().is_some_and(|text| text.ends_with("prometheus=k8s")), "{status}");

        // A rejected object is told, and told again when it is broken anew.
        bench.apply(monitor("bad", "later"))?;
        let accepted = || {
            let bad = bench.find(MONITORS, "default", "bad");
            bad["status"]["bindings"][0]["conditions"][0].clone()
        };
        for round in 1..=2 {
            wait_for("the rejection", async || {
                let seen = accepted();
                (seen["status"] == "False" && bench.rejections("bad").len() == round, seen)
            })
            .await?;
            ensure!(accepted()["reason"] == "InvalidConfiguration", "{}", accepted());
            bench.apply(token())?;
            wait_for("the acceptance", async || (accepted()["status"] == "True", accepted())).await?;
            bench.client.delete(SECRETS, "default", "later", None).map_err(|status| anyhow::anyhow!("{status}"))?;
        }
        let events = bench.rejections("bad");
        let event = events.first().context("an event")?;
        let message = event["message"].as_str().unwrap_or_default();
        ensure!(message.starts_with("\"default/bad\" was rejected due to invalid configuration: "), "{message}");
        ensure!(event["related"]["kind"] == "Prometheus" && event["reportingComponent"] == "prometheus-controller", "{event}");
        ensure!(event["action"] == "SelectingConfigurationResources", "{event}");

        // A paused one is left alone.
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"paused": true, "replicas": 1}}))?;
        wait_for("the pause", async || {
            let status = bench.find(PROMETHEUSES, "monitoring", "k8s")["status"].clone();
            (status["paused"] == true, status)
        })
        .await?;
        let replicas = || bench.find(SETS, "monitoring", "prometheus-k8s")["spec"]["replicas"].clone();
        ensure!(replicas() == 2, "{}", replicas());
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"paused": false}}))?;
        wait_for("the end of the pause", async || (replicas() == 1, replicas())).await?;

        // A fault of the Prometheus itself stops everything but the rules.
        let config = || bench.find(SECRETS, "monitoring", "prometheus-k8s")["data"].clone();
        let before = config();
        let missing = json!({"name": "no", "key": "k"});
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"additionalScrapeConfigs": missing, "replicas": 2}}))?;
        wait_for("the failure", async || {
            let seen = bench.condition("Reconciled");
            (seen["status"] == "False" && seen["reason"] == "ReconciliationFailed", seen)
        })
        .await?;
        ensure!(config() == before && replicas() == 1, "{}", replicas());
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"additionalScrapeConfigs": null}}))?;
        wait_for("the recovery", async || {
            let seen = bench.condition("Reconciled");
            (seen["status"] == "True" && replicas() == 2, seen)
        })
        .await?;

        // A Prometheus that goes takes its bindings with it.
        bench.client.delete(PROMETHEUSES, "monitoring", "k8s", None).map_err(|status| anyhow::anyhow!("{status}"))?;
        wait_for("no binding", async || (accepted().is_null(), accepted())).await
    })
}

fn owned() -> Result<()> {
    Bench::with(async |bench| {
        let set = |name: &str| bench.find(SETS, "monitoring", name);
        // Changes of somebody else's are undone.
        bench.patch(SETS, "prometheus-k8s", json!({"spec": {"replicas": 0}, "metadata": {"labels": {"mine": "x"}}}))?;
        wait_for("the replicas", async || (set("prometheus-k8s")["spec"]["replicas"] == 2, set("prometheus-k8s"))).await?;
        ensure!(object::label(&set("prometheus-k8s"), "mine") == Some("x"), "a foreign label is gone");
        let before = bench.find(SECRETS, "monitoring", "prometheus-k8s")["data"].clone();
        bench.patch(SECRETS, "prometheus-k8s", json!({"data": {"prometheus.yaml.gz": "eA==", "more": "eA=="}}))?;
        wait_for("the configuration", async || {
            let seen = bench.find(SECRETS, "monitoring", "prometheus-k8s")["data"].clone();
            (seen == before, seen)
        })
        .await?;

        // Shards come and go.
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"shards": 2, "replicas": 1}}))?;
        wait_for("two shards", async || {
            let ready = |name: &str| set(name)["status"]["readyReplicas"] == 1;
            (ready("prometheus-k8s") && ready("prometheus-k8s-shard-1"), set("prometheus-k8s-shard-1"))
        })
        .await?;
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"shards": 1}}))?;
        wait_for("one shard", async || (set("prometheus-k8s-shard-1").is_null(), set("prometheus-k8s-shard-1"))).await?;

        // A real Prometheus runs with arguments, files and storage of all kinds.
        bench.apply(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": "monitoring"}, "stringData": {
                "token": "t",
                "jobs": "- job_name: extra\n  authorization: {credentials_file: /etc/prometheus/secrets/mine/token}\n\
                     - job_name: certs\n  authorization: {credentials_file: /etc/prometheus/certs/none}\n",
            }}),
        )?;
        bench.patch(
            PROMETHEUSES,
            "k8s",
            json!({"spec": {
                "secrets": ["mine"],
                "additionalScrapeConfigs": {"name": "mine", "key": "jobs"},
                "retention": "3d", "retentionSize": "1GB",
                "routePrefix": "/", "enableFeatures": ["exemplar-storage"], "query": {"maxSamples": 1000, "timeout": "30s"},
                "walCompression": true, "logLevel": "debug",
                "additionalArgs": [{"name": "web.cors.origin", "value": "mine"}],
                "web": {"pageTitle": "mine", "httpConfig": {"headers": {"xFrameOptions": "Deny"}}},
                "storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}},
            }}),
        )?;
        wait_for("the arguments", async || {
            let flags = bench.ask("/api/v1/status/flags").await;
            let of = |name: &str| flags["data"][name].as_str().unwrap_or_default().to_owned();
            let found = of("storage.tsdb.retention.size") == "1GiB"
                && of("storage.tsdb.retention.time") == "3d"
                && of("query.max-samples") == "1000"
                && of("web.page-title") == "mine"
                && of("web.cors.origin") == "mine";
            (found, flags)
        })
        .await?;
        wait_for("the file", async || {
            let config = bench.ask("/api/v1/status/config").await;
            let text = config["data"]["yaml"].as_str().unwrap_or_default().to_owned();
            let mut files = text.lines().filter_map(|line| line.trim().strip_prefix("credentials_file: "));
            let file = files.find(|file| file.contains("/volumes/secret-mine/")).map(str::to_owned);
            let certs = text.contains("/volumes/tls-assets/none");
            let read = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
            (certs && read.as_deref() == Some("t"), json!({"file": file, "config": text}))
        })
        .await?;
        // What the object names must be there before anything is done.
        for (spec, expected) in [
            (
                json!({"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": "no"}}}}),
                "storage class \"no\" does not exist",
            ),
            (
                json!({"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": null}}}, "serviceName": "no"}),
                "failed to get custom governing service monitoring/no: services \"no\" not found",
            ),
        ] {
            bench.patch(PROMETHEUSES, "k8s", json!({"spec": spec}))?;
            wait_for(expected, async || {
                let seen = bench.condition("Reconciled");
                (seen["status"] == "False" && seen["message"] == expected, seen)
            })
            .await?;
        }
        bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"serviceName": null}}))?;
        wait_for("the recovery", async || {
            let seen = bench.condition("Reconciled");
            (seen["status"] == "True", seen)
        })
        .await?;
        let claim = bench.find(Gr::core("persistentvolumeclaims"), "monitoring", "prometheus-k8s-db-prometheus-k8s-0");
        ensure!(claim["status"]["phase"] == "Bound", "{claim}");
        let data = bench.folder.path().join("pods/claims/monitoring/prometheus-k8s-db-prometheus-k8s-0/prometheus-db");
        ensure!(data.join("wal").is_dir(), "{} holds no data", data.display());
        let assets = bench.find(SECRETS, "monitoring", "prometheus-k8s-tls-assets-0");
        ensure!(assets["kind"] == "Secret", "{assets}");
        web_configuration(bench).await
    })
}

/// The real Prometheus serves with the headers that its object asks for, then over TLS, and the reloader follows.
async fn web_configuration(bench: &Bench) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build()?;
    let header = async |scheme: &str| {
        let pod = bench.find(Gr::core("pods"), "monitoring", "prometheus-k8s-0");
        let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = ready.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let url = format!("{scheme}://{}:9090/-/ready", pod["status"]["podIP"].as_str().unwrap_or("127.0.0.1"));
        let answer = http.get(url).send().await;
        let found = answer.ok().and_then(|answer| answer.headers().get("x-frame-options").cloned());
        (ready && found.as_ref().is_some_and(|found| found == "deny"), json!({"header": format!("{found:?}"), "ready": ready}))
    };
    wait_for("the header", async || header("http").await).await?;
    let identity = wire::pki::CertificateAuthority::new("test")?.server("prometheus", &["prometheus"], &[])?;
    bench.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "serving", "namespace": "monitoring"},
        "stringData": {"tls.crt": identity.certificate_pem, "tls.key": identity.key_pem},
    }))?;
    let key = |key: &str| json!({"name": "serving", "key": key});
    let tls = json!({"keySecret": key("tls.key"), "cert": {"secret": key("tls.crt")}});
    bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"web": {"tlsConfig": tls}}}))?;
    wait_for("TLS", async || header("https").await).await?;
    let log = async || {
        let pod = bench.find(Gr::core("pods"), "monitoring", "prometheus-k8s-0");
        let query = kubeapi::Query::parse("container=config-reloader");
        bench.lab.log(&pod, &query).await.unwrap_or_default()
    };
    wait_for("a reload over TLS", async || {
        let log = log().await;
        (log.contains("Reload triggered"), log.into())
    })
    .await?;
    // What contradicts itself changes nothing of what runs.
    bench.patch(PROMETHEUSES, "k8s", json!({"spec": {"web": {"tlsConfig": {"keyFile": "/k"}}}}))?;
    wait_for("a refusal", async || {
        let seen = bench.condition("Reconciled");
        let expected =
            "synchronizing web config secret failed: failed to initialize web config: cannot specify both keyFile and keySecret";
        (seen["status"] == "False" && seen["message"] == expected, seen)
    })
    .await?;
    ensure!(header("https").await.0, "what ran has gone");
    Ok(())
}

fn vanished() -> Result<()> {
    Bench::with(async |bench| {
        let name = "servicemonitors.monitoring.coreos.com";
        let config = || bench.find(SECRETS, "monitoring", "prometheus-k8s")["data"]["prometheus.yaml.gz"].clone();
        let mut definition = bench.find(CRDS, "", name);
        let mut monitors = bench.client.list(MONITORS, "");
        ensure!(!monitors.is_empty(), "no monitor to begin with");
        let before = config();
        bench.client.delete(CRDS, "", name, None).map_err(|status| anyhow::anyhow!("{status}"))?;
        wait_for("a configuration without monitors", async || (config() != before, Value::Null)).await?;
        wait_for("no definition", async || {
            let found = bench.find(CRDS, "", name);
            (found.is_null(), found)
        })
        .await?;
        for found in monitors.iter_mut().chain([&mut definition]) {
            let metadata = found["metadata"].as_object_mut().context("metadata")?;
            metadata.retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
            found.as_object_mut().context("an object")?.remove("status");
        }
        bench.apply(definition)?;
        for monitor in monitors {
            bench.apply(monitor)?;
        }
        wait_for("the same configuration again", async || (config() == before, Value::Null)).await
    })
}

/// A program that stands in for a prometheus-operator: it says how it was started, and waits.
const STAND_IN: &str =
    "#!/bin/sh\necho \"stand-in for prometheus-operator: $*\"\necho \"kubeconfig $KUBECONFIG\"\nexec tail -f /dev/null\n";

fn replaced() -> Result<()> {
    let prometheus = prometheus()?;
    block_on(async {
        let bench = Bench::start(prometheus, |folder| {
            use std::os::unix::fs::PermissionsExt as _;
            let program = folder.join("stand-in-for-prometheus-operator");
            std::fs::write(&program, STAND_IN)?;
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
            Ok(Some(program))
        })
        .await?;
        let result = async {
            let mut log = String::new();
            wait_for("the stand-in", async || {
                let pods = bench.client.list(Gr::core("pods"), "monitoring");
                if let Some(pod) = pods.iter().find(|pod| object::name(pod).starts_with("prometheus-operator-")) {
                    log = bench.lab.log(pod, &kubeapi::Query::parse("container=prometheus-operator")).await.unwrap_or_default();
                }
                (log.contains("kubeconfig /"), log.as_str().into())
            })
            .await?;
            for expected in
                ["--kubelet-service=kube-system/kubelet", "prometheus-config-reloader:v0.87.1", "--web.listen-address=127."]
            {
                ensure!(log.contains(expected), "no {expected} in {log}");
            }
            let path = log.lines().find_map(|line| line.strip_prefix("kubeconfig ")).context("a kubeconfig")?;
            let kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            let (server, token) = (&kubeconfig["clusters"][0]["cluster"]["server"], &kubeconfig["users"][0]["user"]["token"]);
            let http = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build()?;
            // It may do what an operator does, and nothing else.
            for (path, expected) in [("apis/monitoring.coreos.com/v1/prometheuses", 200), ("api/v1/serviceaccounts", 403)] {
                let url = format!("{}/{path}", server.as_str().unwrap_or_default());
                let answer = http.get(url).bearer_auth(token.as_str().unwrap_or_default()).send().await?;
                ensure!(answer.status() == expected, "{path}: {}", answer.status());
            }
            ensure!(bench.find(SETS, "monitoring", "prometheus-k8s").is_null(), "the lab's own operator runs, too");
            Ok(())
        };
        let result = result.await;
        bench.lab.stop().await;
        result
    })
}
