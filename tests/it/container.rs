//! The lab seen from a container: the real Prometheus, packed into an image made from the local program and from nothing else,
//! scrapes a component over host networking. It runs where a Docker engine answers.

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use testcontainers::core::{Mount, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};
use xshell::{Shell, cmd};

use crate::bench::{Folder, NotRun, block_on, docker, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("prometheus in a container scrapes the lab", scrape),
        trial("the image of the fault proxy before an API server", fault_proxy),
    ]
}

/// A serving certificate for this machine's loopback, signed by an API server as a cluster signs that of the fault proxy.
async fn signed(server: &apiserver::ApiServer) -> Result<(String, String)> {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let client = server.client();
    let requests = apiserver::Gr::of("certificates.k8s.io", "certificatesigningrequests");
    let own = wire::pki::NewRequest::server("system:node:proxy", "system:nodes", &[], &[[127, 0, 0, 1].into()])?;
    let mut request = client
        .create(
            requests,
            &serde_json::json!({
                "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "proxy"},
                "spec": {"request": base64.encode(&own.request_pem), "signerName": "kubernetes.io/kubelet-serving",
                         "usages": ["digital signature", "key encipherment", "server auth"]},
            }),
        )
        .map_err(|status| anyhow::anyhow!("{status}"))?;
    request["status"]["conditions"] =
        serde_json::json!([{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]);
    client.update_status(requests, &request).map_err(|status| anyhow::anyhow!("{status}"))?;
    let mut watcher = client.watch(requests).map_err(|status| anyhow::anyhow!("{status}"))?;
    loop {
        for event in watcher.next().await.map_err(|status| anyhow::anyhow!("{status}"))? {
            let (apiserver::WatchEvent::Added(stored) | apiserver::WatchEvent::Modified(stored)) = event else { continue };
            if let Some(certificate) = stored.value()["status"]["certificate"].as_str() {
                return Ok((String::from_utf8(base64.decode(certificate)?)?, own.key_pem));
            }
        }
    }
}

/// The image that `cargo xtask image` has written, run by Docker in front of an API server on this machine.
fn fault_proxy() -> Result<()> {
    let shell = Shell::new()?;
    let archive = root().join("target/lab-fault-proxy.tar");
    if !archive.is_file() {
        bail!(NotRun("there is no target/lab-fault-proxy.tar; `cargo xtask image` writes it".to_owned()));
    }
    docker()?;
    let said = cmd!(shell, "docker load -i {archive}").quiet().read()?;
    let tag = said.rsplit(": ").next().context("no tag")?.trim().to_owned();
    let folder = Folder::new()?;
    let kubeconfig = folder.path().join("kubeconfig");
    block_on(async {
        let server = apiserver::ApiServer::builder().start("127.0.0.1:0".parse()?).await?;
        server.run_controllers();
        std::fs::write(&kubeconfig, server.kubeconfig("test"))?;
        let (certificate, key) = signed(&server).await?;
        let files = folder.path().join("serving");
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("tls.crt"), certificate)?;
        std::fs::write(files.join("tls.key"), key)?;
        let (name, version) = tag.split_once(':').context("a tag")?;
        let arguments = [
            "--kubeconfig",
            "/tmp/kubeconfig",
            "--listen",
            "127.0.0.1:0",
            "--certificate",
            "/serving/tls.crt",
            "--key",
            "/serving/tls.key",
        ];
        let container = GenericImage::new(name, version)
            .with_wait_for(WaitFor::message_on_stdout("tokenFile"))
            .with_network("host")
            .with_mount(Mount::bind_mount(kubeconfig.to_string_lossy(), "/tmp/kubeconfig"))
            .with_mount(Mount::bind_mount(files.to_string_lossy(), "/serving"))
            .with_cmd(arguments)
            .start()
            .await?;
        let line = String::from_utf8(container.stdout_to_vec().await?)?;
        let ready: serde_json::Value = serde_json::from_str(line.trim())?;
        // Whoever trusts the cluster trusts the proxy.
        let authority = reqwest::Certificate::from_pem(server.authority_pem().as_bytes())?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build()?;
        let url = format!("{}/api/v1/namespaces", ready["url"].as_str().context("no url")?);
        let response = http.get(url).bearer_auth(server.admin_token()).send().await?;
        ensure!(response.status() == 200, "{}", response.status());
        container.rm().await?;
        anyhow::Ok(())
    })
}

const IMAGE: &str = "kubevirt-lab-test-prometheus";

fn scrape() -> Result<()> {
    let shell = Shell::new()?;
    docker()?;
    let folder = Folder::new()?;
    let prometheus = prometheus()?;
    let program = prometheus.prometheus.to_string_lossy().into_owned();
    let shown: serde_json::Value =
        serde_json::from_str(&folder.output(&["up", "--offline", "--prometheus", &program, "--output", "json"])?)?;
    let instance = shown["targets"][0]["labels"]["instance"].as_str().context("no target")?.to_owned();

    // An image from the program and the libraries that it is linked with.
    let files = folder.path().join("image");
    std::fs::create_dir_all(&files)?;
    let linked = cmd!(shell, "ldd {program}").quiet().ignore_stderr().ignore_status().read()?;
    let mut wanted = vec![program.clone()];
    wanted.extend(linked.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    for path in &wanted {
        let target = files.join(if *path == program { "bin/prometheus" } else { path.trim_start_matches('/') });
        std::fs::create_dir_all(target.parent().context("a path without a folder")?)?;
        std::fs::copy(path, target)?;
    }
    std::fs::create_dir_all(files.join("tmp"))?;
    let archive = folder.path().join("image.tar");
    cmd!(shell, "tar -C {files} -cf {archive} .").quiet().run()?;
    let tag = format!("{IMAGE}:{}", std::process::id());
    cmd!(shell, "docker import {archive} {tag}").quiet().ignore_stdout().run()?;
    let remove = cmd!(shell, "docker rmi -f {tag}").quiet().ignore_stdout();

    let config = folder.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "scrape_configs: [{{job_name: lab, scheme: https, scrape_interval: 1s, tls_config: {{insecure_skip_verify: true}}, \
             static_configs: [{{targets: ['{instance}']}}]}}]\n"
        ),
    )?;
    let result = block_on(async {
        let (name, version) = tag.split_once(':').context("a tag")?;
        // Port 0: the program says in its log which one it got.
        let container = GenericImage::new(name, version)
            .with_entrypoint("/bin/prometheus")
            .with_wait_for(WaitFor::message_on_stderr("Server is ready to receive web requests"))
            .with_network("host")
            .with_mount(Mount::bind_mount(config.to_string_lossy(), "/prometheus.yml"))
            .with_cmd(["--config.file=/prometheus.yml", "--storage.tsdb.path=/tmp/data", "--web.listen-address=127.0.0.1:0"])
            .start()
            .await?;
        let log = String::from_utf8_lossy(&container.stderr_to_vec().await?).into_owned();
        let address = log
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("address=127.0.0.1:"))
            .find(|port| *port != "0")
            .with_context(|| format!("no port in {log}"))?
            .to_owned();
        let prometheus = metrics::Client::new(&format!("http://127.0.0.1:{address}"));
        let mut deadline = wire::patience::Deadline::after(std::time::Duration::from_secs(30));
        loop {
            let seen = prometheus.query("up").await;
            if seen.as_ref().is_ok_and(|samples| samples.first().is_some_and(|sample| sample.value == 1.0)) {
                break;
            }
            ensure!(!deadline.is_over(), "the container's Prometheus does not see the lab: {seen:?}\n{log}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        container.rm().await?;
        anyhow::Ok(())
    });
    remove.run()?;
    result
}
