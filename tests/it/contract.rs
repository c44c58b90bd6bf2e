//! `contract check`: the project's own dashboard on every release, and files that read what is not there.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::bench::{Folder, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the dashboards read what every release exposes", dashboards),
        trial("KubeVirt's rules lack the metrics of virtual machines alone", own_rules),
        trial("a dashboard of 2019 is told what is called otherwise today", old_dashboard),
    ]
}

fn dashboards() -> Result<()> {
    let folder = Folder::new()?;
    let manifests = root().join("manifests/grafana");
    let said = folder.output(&["contract", "check", manifests.to_str().unwrap_or_default()])?;
    ensure!(said.lines().count() == kubevirt::Release::known().len(), "{said}");
    Ok(())
}

/// KubeVirt's rules read nothing that is misspelt: what is missing is about virtual machines, which are not simulated.
fn own_rules() -> Result<()> {
    let folder = Folder::new()?;
    let rules = root().join("manifests/kubevirt/v1.9.0/rules.yaml");
    let output = folder.lab(&["contract", "check", rules.to_str().unwrap_or_default(), "--release", "v1.9.0"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let missing: Vec<&str> = said.lines().filter(|line| line.contains("there is no metric")).collect();
    ensure!(!missing.is_empty(), "{said}");
    for line in missing {
        ensure!(line.contains("there is no metric kubevirt_vm"), "{line}");
    }
    Ok(())
}

fn old_dashboard() -> Result<()> {
    let folder = Folder::new()?;
    let (dashboard, page) = (folder.path().join("old.json"), folder.path().join("page.txt"));
    std::fs::write(
        &dashboard,
        "{\"panels\": [\n{\"title\": \"404\", \"targets\": [{\"expr\": \"count(rate(rest_client_requests_total{code=\\\"404\\\"}[5m]))\"}]},\n\
         {\"title\": \"by resource\", \"targets\": [{\"expr\": \"sum by (resource) (kubevirt_rest_client_requests_total)\"}]}]}",
    )?;
    std::fs::write(&page, "kubevirt_rest_client_requests_total{code=\"200\"} 1\n")?;
    let file = dashboard.to_str().unwrap_or_default();
    for (more, expected) in [
        (
            ["--release", "v1.9.0"],
            format!(
                "{file}:2: panel \"404\": there is no metric rest_client_requests_total; nearest is kubevirt_rest_client_requests_total"
            ),
        ),
        (
            ["--release", "v0.11.0"],
            format!("{file}:3: panel \"by resource\": there is no metric kubevirt_rest_client_requests_total"),
        ),
        (
            ["--series", page.to_str().unwrap_or_default()],
            format!(
                "{file}:3: panel \"by resource\": kubevirt_rest_client_requests_total has no label resource, which by (resource) asks for"
            ),
        ),
    ] {
        let output = folder.lab(&[&["contract", "check", file], &more[..]].concat()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.code() == Some(8) && said.contains(&expected), "{more:?}: {:?}\n{said}", output.status.code());
    }
    for (text, expected) in [("{\"panels\": [", "old.json:1:12: "), ("a: b\n", "no file has a dashboard or a rule")] {
        std::fs::write(&dashboard, text)?;
        let output = folder.lab(&["contract", "check", file]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(expected), "{said}");
    }
    Ok(())
}
