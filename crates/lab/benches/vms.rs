//! Many VMs in one lab without Prometheus: `vms COUNT PROMETHEUS` prints how long they take to run, how long scrapes take, and the memory.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use apiserver::{Gr, WatchEvent};
use lab::embedded::{Lab, Options};
use lab::tools::{Search, find};
use scenario::Stack;
use serde_json::json;

const VMS: Gr = Gr::of("kubevirt.io", "virtualmachines");
const VMIS: Gr = Gr::of("kubevirt.io", "virtualmachineinstances");

/// This process' resident memory in MB: `VmRSS:` for now, `VmHWM:` for the most that it was.
fn memory(which: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// The median of nine scrapes of a component in milliseconds, and the size of the page in MB. Of two replicas the larger page counts.
async fn scrape(lab: &Lab, component: &str) -> (f64, f64) {
    let (mut times, mut size) = (Vec::new(), 0);
    for _ in 0..9 {
        let began = Instant::now();
        let pages = lab.pages(component, 1).await;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        size = pages.iter().filter_map(|page| page.answer.as_ref().ok()).map(|(_, text)| text.len()).max().unwrap_or_default();
    }
    times.sort_by(f64::total_cmp);
    (times[4], size as f64 / 1e6)
}

async fn run(count: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = Options {
        name: "vms".to_owned(),
        release: "v1.9.0".to_owned(),
        api_port: 6443,
        prometheus: find(&Search { given: None, offline: false }, &|_| {}).await?,
        folder: folder.path().to_owned(),
        fast_alerts: false,
        prometheus_operator: None,
        stack: Stack::None,
        defects: Vec::new(),
        full_size: false,
        bare: false,
    };
    let lab = Lab::start(&options).await?;
    while !lab.missing().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("empty_mb {:.0}", memory("VmRSS:"));
    let client = lab.client();
    let began = Instant::now();
    for number in 0..count {
        let vm = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": format!("vm-{number}"), "namespace": "default"},
            "spec": {"running": true, "template": {
                "metadata": {"labels": {"app": format!("app-{}", number % 20)}},
                "spec": {
                    "domain": {"cpu": {"cores": 2}, "memory": {"guest": "256Mi"},
                        "devices": {"disks": [{"name": "root"}], "interfaces": [{"name": "default", "masquerade": {}}]}},
                    "networks": [{"name": "default", "pod": {}}],
                    "volumes": [{"name": "root", "containerDisk": {"image": "quay.io/containerdisks/fedora:41"}}]}}},
        });
        client.create(VMS, &vm).map_err(|status| anyhow::anyhow!("{status}"))?;
    }
    println!("created_s {:.1}", began.elapsed().as_secs_f64());
    let mut running = HashSet::new();
    let mut vmis = client.watch(VMIS).map_err(|status| anyhow::anyhow!("{status}"))?;
    loop {
        // One at a time, for all of them would be most of what is measured.
        for event in vmis.take().map_err(|status| anyhow::anyhow!("{status}"))? {
            if let WatchEvent::Added(vmi) | WatchEvent::Modified(vmi) = event
                && vmi.value()["status"]["phase"] == "Running"
            {
                running.insert(vmi.uid().to_owned());
            }
        }
        let running = running.len();
        eprintln!("{running} of {count} after {:.0} s, {:.0} MB", began.elapsed().as_secs_f64(), memory("VmRSS:"));
        if running == count {
            break;
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(1800), "{running} of {count} run after half an hour");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("running_s {:.0}", began.elapsed().as_secs_f64());
    // What is on its way has a moment to arrive.
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("full_mb {:.0}", memory("VmRSS:"));
    for (component, name) in [("virt-controller", "controller"), ("virt-handler", "handler")] {
        let (time, size) = scrape(&lab, component).await;
        println!("{name}_ms {time:.1}");
        println!("{name}_page_mb {size:.2}");
    }
    println!("peak_mb {:.0}", memory("VmHWM:"));
    lab.stop().await;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    wire::install_crypto_provider();
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(count))
}
