//! `contract check`: the project's own dashboard on every release, and files that read what is not there. `contract diff`: releases, pages,
//! snapshots, and a lab that runs.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::bench::{Folder, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the dashboards read what every release exposes", dashboards),
        trial("KubeVirt's rules read what the release has", own_rules),
        trial("a dashboard of 2019 is told what is called otherwise today", old_dashboard),
        trial("what differs between releases, files and a lab, and whom it breaks", differences),
    ]
}

fn dashboards() -> Result<()> {
    let folder = Folder::new()?;
    let grafana = root().join("manifests/grafana");
    let said = folder.output(&["contract", "check", grafana.join("kubevirt-requests.json").to_str().unwrap_or_default()])?;
    ensure!(said.lines().count() == kubevirt::Release::known().len(), "{said}");
    // VMs have the names that they have today since v1.2, and kubevirt_vm_info since v1.5.
    let vms = grafana.join("kubevirt-vms.json");
    let of_today = ["--release", "v1.5.0", "--release", "v1.8.0", "--release", "v1.9.0"];
    let said = folder.output(&[&["contract", "check", vms.to_str().unwrap_or_default()], &of_today[..]].concat())?;
    ensure!(said.lines().count() == 3, "{said}");
    Ok(())
}

/// The rules of the newest release read what it has.
fn own_rules() -> Result<()> {
    let folder = Folder::new()?;
    let rules = root().join("manifests/kubevirt/v1.9.0/rules.yaml");
    let said = folder.output(&["contract", "check", rules.to_str().unwrap_or_default(), "--release", "v1.9.0"])?;
    ensure!(said.contains("expressions read is there (KubeVirt v1.9.0)"), "{said}");
    Ok(())
}

fn differences() -> Result<()> {
    let folder = Folder::new()?;
    let run = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = folder.lab(&[&["contract", "diff"], arguments].concat()).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.code(), said))
    };
    // The rename that broke the dashboards of 2019, and no alarm where nothing differs.
    let (code, said) = run(&["v0.11.0", "v1.9.0"])?;
    ensure!(
        code == Some(8) && said.contains("! rest_client_requests_total is called kubevirt_rest_client_requests_total now"),
        "{said}"
    );
    ensure!(said.contains("rest_client_request_latency_seconds has other buckets"), "{said}");
    let (code, said) = run(&["v1.9.0", "v1.9.0"])?;
    ensure!(code == Some(0) && said.contains("0 differences"), "{said}");

    // Whom it breaks: a dashboard that reads the old name, and nobody where only new ones are read.
    let dashboard = folder.path().join("old.json");
    std::fs::write(
        &dashboard,
        "{\"panels\": [{\"title\": \"all\", \"targets\": [{\"expr\": \"sum(rest_client_requests_total)\"}]}]}",
    )?;
    let dashboard = dashboard.to_string_lossy().into_owned();
    let (code, said) = run(&["v0.11.0", "v1.9.0", "--readers", &dashboard])?;
    ensure!(code == Some(8) && said.contains("broken: panel \"all\": there is no metric rest_client_requests_total"), "{said}");
    let ours = root().join("manifests/grafana").to_string_lossy().into_owned();
    ensure!(run(&["v0.11.0", "v1.9.0", "--readers", &ours])?.0 == Some(0), "the project's own dashboard knows both names");
    for (format, expected) in
        [("markdown", "| `rest_client_requests_total` |"), ("html", "<tr class=\"breaks\">"), ("json", "\"change\": \"renamed\"")]
    {
        let (_, said) = run(&["v0.11.0", "v1.9.0", "--format", format])?;
        ensure!(said.contains(expected), "{format}: {said}");
    }

    // Files of each kind.
    let snapshot = |name: &str| root().join("snapshots").join(name).to_string_lossy().into_owned();
    let (old, new) =
        (snapshot("blog-error-code@v0.11.0.error-series.snap"), snapshot("blog-error-code@v1.9.0.error-series.snap"));
    let (code, said) = run(&[&old, &new])?;
    ensure!(
        code == Some(8) && said.contains("rest_client_requests_total is called kubevirt_rest_client_requests_total"),
        "{said}"
    );
    ensure!(run(&[&new, &new])?.0 == Some(0));
    let page = folder.path().join("page.txt");
    std::fs::write(&page, "kubevirt_rest_client_requests_total{code=\"200\"} 1\n")?;
    let page = page.to_string_lossy().into_owned();
    let (_, said) = run(&[&new, &page])?;
    ensure!(said.contains("! kubevirt_rest_client_requests_total has no label verb any more"), "{said}");
    ensure!(!said.contains("no label pod"), "a page has no labels of targets: {said}");
    for (wrong, expected) in [
        ("v9.9.9", "\"v9.9.9\" is no file and no release"),
        ("lab:none", "no lab \"none\" runs here"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1: "),
    ] {
        let (code, said) = run(&["v1.9.0", wrong])?;
        ensure!(matches!(code, Some(2 | 6 | 7)) && said.contains(expected), "{wrong}: {code:?} {said}");
    }

    // What a release is said to expose, and what a lab of it does: of what is exposed, nothing is another type or lacks a label.
    let prometheus = prometheus()?.prometheus.to_string_lossy().into_owned();
    folder.output(&["up", "--offline", "--small", "--prometheus", &prometheus])?;
    let (_, said) = run(&["v1.9.0", "lab:lab"])?;
    recorded(&folder)?;
    for line in said.lines() {
        ensure!(!line.contains("has a new label") && !line.contains(" and was a ") && !line.contains("other buckets"), "{said}");
    }
    Ok(())
}

/// The series of the lab that runs, recorded, held against themselves, and against what they are not.
fn recorded(folder: &Folder) -> Result<()> {
    let snapshot = folder.path().join("requests.snap");
    let pending = folder.path().join("requests.snap.new");
    let path = snapshot.to_string_lossy().into_owned();
    let record = |more: &[&str]| -> Result<(Option<i32>, String)> {
        let arguments = ["contract", "record", "lab:lab", "--metrics", "kubevirt_(info|virt_.+)", "--snapshot", &path];
        let output = folder.lab(&[&arguments, more].concat()).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, said) = record(&[])?;
    ensure!(code == Some(4) && said.contains("does not exist") && pending.exists() && !snapshot.exists(), "{said}");
    ensure!(record(&["--update"])?.0 == Some(0) && snapshot.exists() && !pending.exists());
    let (code, said) = record(&[])?;
    ensure!(code == Some(0) && said.contains("is as recorded"), "{said}");
    let text = std::fs::read_to_string(&snapshot)?;
    ensure!(text.starts_with("---\nsource: \"lab:lab\"\n") && text.contains("goversion=\"[version]\""), "{text}");
    std::fs::write(&snapshot, text.replace("kubevirt_info", "kubevirt_older"))?;
    let (code, said) = record(&[])?;
    ensure!(
        code == Some(4) && said.contains("- kubevirt_older") && said.contains("+ kubevirt_info") && pending.exists(),
        "{said}"
    );
    let output = folder.lab(&["contract", "record", "lab:lab", "--metrics", "none"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2) && said.contains("lab:lab has no such series"), "{said}");
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
