//! The steps of the blog post that no scenario takes: a Prometheus of one's own, beside that of the lab.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use apiserver::Gr;
use lab::embedded::{Lab, Options, Stack, wait_until_up};
use libtest_mimic::Trial;

use crate::bench::{block_on, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("the blog's own Prometheus discovers and scrapes KubeVirt", own_prometheus)]
}

fn own_prometheus() -> Result<()> {
    let prometheus = prometheus()?;
    block_on(async {
        let folder = tempfile::tempdir()?;
        let options = Options {
            name: "blog".to_owned(),
            release: "v1.9.0".to_owned(),
            api_port: 6443,
            prometheus,
            folder: folder.path().to_owned(),
            fast_alerts: false,
            prometheus_operator: None,
            stack: Stack::Small,
            defects: Vec::new(),
            full_size: false,
            bare: false,
        };
        let lab = Lab::start(&options).await?;
        let client = lab.client();
        let result = async {
            wait_until_up(&client, lab.release(), Duration::from_secs(60)).await?;
            for file in ["kubevirt-prometheus.yml", "kubevirt-servicemonitor.yml"] {
                let text = std::fs::read_to_string(root().join("manifests/blog/today").join(file))?;
                for manifest in wire::yaml::manifests(&text).map_err(|error| anyhow::anyhow!("{file}: {}", error.message))? {
                    client.apply(&manifest).map_err(|status| anyhow::anyhow!("{status}"))?;
                }
            }
            let mut deadline = wire::patience::Deadline::after(Duration::from_secs(60));
            let mut last = String::from("no pod");
            while !deadline.is_over() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let pod = client.find(Gr::core("pods"), "kubevirt", "prometheus-prometheus-0").ok().flatten();
                let Some(address) = pod.and_then(|pod| pod["status"]["podIP"].as_str().map(str::to_owned)) else { continue };
                match metrics::Client::new(&format!("http://{address}:9090")).targets().await {
                    Ok(targets) => {
                        let up = targets.active_targets.iter().filter(|target| target.health == "up").count();
                        if up == 8 {
                            return Ok(());
                        }
                        last = format!("{up} of {} targets up", targets.active_targets.len());
                    }
                    Err(error) => last = error.to_string(),
                }
            }
            let logs = client.find(Gr::core("pods"), "kubevirt", "prometheus-prometheus-0").ok().flatten().context("no pod")?;
            ensure!(false, "not within 60 s: {last}; {}", logs["status"]);
            anyhow::Ok(())
        };
        let result = result.await;
        lab.stop().await;
        result
    })
}
