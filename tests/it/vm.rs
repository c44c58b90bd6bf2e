//! Virtual machines as people handle them: `lab vm`, and kubectl where it is there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::bench::{Folder, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("virtual machines are made, listed and deleted", machines)]
}

/// Asks until the answer is as it should be, a minute at most.
fn until(folder: &Folder, arguments: &[&str], fine: impl Fn(&str) -> bool) -> Result<()> {
    let started = Instant::now();
    loop {
        let said = folder.output(arguments)?;
        if fine(&said) {
            return Ok(());
        }
        ensure!(started.elapsed() < Duration::from_secs(60), "{arguments:?} still says {said}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn machines() -> Result<()> {
    let folder = Folder::new()?;
    folder.output(&["up", "--small"])?;
    let said = folder.output(&["vm", "create", "web", "--count", "3", "--label", "app=shop", "--memory", "64Mi", "--wait"])?;
    ensure!(said.contains("3 VMs created in default") && said.contains("3 VMs running"), "{said}");
    let list: Value = serde_json::from_str(&folder.output(&["vm", "list", "--output", "json"])?)?;
    let names: Vec<&str> = list.as_array().into_iter().flatten().filter_map(|vm| vm["name"].as_str()).collect();
    ensure!(
        names == ["web-0", "web-1", "web-2"] && list[0]["phase"] == "Running" && list[0]["guest"] == "Fedora Linux 41",
        "{list}"
    );

    for (arguments, code, message) in [
        (vec!["vm", "create", "web-0"], 2, "there is a VM \"web-0\" already"),
        (vec!["vm", "create", "x", "--memory", "much"], 2, "\"much\" is no memory of a guest"),
        (vec!["vm", "create", "x", "--label", "app"], 2, "\"app\" is no label"),
        (vec!["vm", "create", "x", "--count", "0"], 2, "invalid value '0'"),
        (vec!["vm", "delete", "nobody"], 2, "no VM nobody"),
        (vec!["vm", "list", "--name", "elsewhere"], 6, "elsewhere"),
    ] {
        let output = folder.lab(&arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code) && said.contains(message), "{arguments:?}: {:?} {said}", output.status.code());
    }

    // Labels of the VMI are on its metrics, in Prometheus too.
    let series = "kubevirt_vmi_memory_domain_bytes{kubernetes_vmi_label_app=\"shop\",namespace=\"default\"}";
    until(&folder, &["query", series], |said| said.matches("67108864").count() == 3)?;

    let said = folder.output(&["vm", "delete", "--all"])?;
    ensure!(said.contains("3 VMs deleted"), "{said}");
    until(&folder, &["vm", "list"], |said| said.contains("no VMs in default"))?;
    folder.output(&["down"])?;
    Ok(())
}
