//! `lab rules`: the rules of each release, held to their behaviour by the real promtool; and what the command says of files that fail,
//! cannot be read, or are about somebody's own rules.
//!
//! `tests/it/rules/RELEASE.yaml` has what a release does and its neighbours do not. Each file is a plain test for promtool.

use anyhow::{Result, ensure};
use kubevirt::Release;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::bench::{Folder, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("rules test: every release does what its file says", every_release),
        trial("rules test: files that fail or cannot be read", refused),
        trial("rules test: namespaces and annotations", compared),
        trial("rules test: rules of one's own", own),
        trial("rules print: promtool reads the rules of every release", printed),
        trial("rules test without a promtool", without),
    ]
}

/// The releases that have rules.
fn with_rules() -> Result<Vec<Release>> {
    let all: Vec<Release> = Release::known().into_iter().map(Release::load).collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(|release| !release.rules.is_empty()).collect())
}

/// Runs `rules test` with the Prometheus of the tests: exit code, standard output, standard error. `@` is the folder.
fn run(folder: &Folder, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let at = format!("{}/", folder.path().display());
    let arguments: Vec<String> = ["rules", "test"].iter().chain(arguments).map(|argument| argument.replace('@', &at)).collect();
    let promtool = prometheus()?.prometheus;
    let mut command = folder.lab(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let output = command.env("LAB_PROMETHEUS", promtool).output()?;
    let [out, err] = [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).replace(&at, "@"));
    Ok((output.status.code(), out, err))
}

fn every_release() -> Result<()> {
    let folder = Folder::new()?;
    for release in with_rules()? {
        let file = root().join("tests/it/rules").join(format!("{}.yaml", release.release));
        let (code, out, err) = run(&folder, &[file.to_str().unwrap_or_default(), "--kubevirt", &release.release])?;
        ensure!(code == Some(0) && out.contains(" 0 failed (rules of KubeVirt "), "{}: {code:?}\n{out}{err}", release.release);
        ensure!(out.contains("in namespace kubevirt; of annotations only runbook_url is compared"), "{out}");
    }
    Ok(())
}

/// A case that passes and one that fails, in a file that says nothing of rules.
const ONE_FAILS: &str = "tests:\n- input_series: []\n  promql_expr_test:\n  - {expr: kubevirt_virt_api_up, eval_time: 1m, exp_samples: [{labels: kubevirt_virt_api_up, value: 0}]}\n  alert_rule_test:\n  - alertname: VirtAPIDown\n    eval_time: 3m\n    exp_alerts:\n    - exp_labels: {severity: none}\n";

fn refused() -> Result<()> {
    let folder = Folder::new()?;
    let at = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    at("fails.yaml", ONE_FAILS)?;
    let (code, out, _) = run(&folder, &["@fails.yaml"])?;
    ensure!(code == Some(11), "{code:?} {out}");
    let summary = "@fails.yaml: 1 of 2 cases passed, 1 failed (rules of KubeVirt v1.9.0 in namespace kubevirt; annotations are not compared)";
    ensure!(out.contains("alertname: VirtAPIDown, time: 3m") && out.contains(summary), "{out}");
    let (code, out, _) = run(&folder, &["@fails.yaml", "--output", "json"])?;
    let told: Value = serde_json::from_str(&out)?;
    let file = &told["files"][0];
    ensure!(
        code == Some(11) && told["passed"] == false && file["passed"] == 1 && file["failed"] == 1 && file["cases"] == 2,
        "{out}"
    );
    // Series that cannot be joined: the cases of that test are never looked at.
    let series = |text: &str| format!("  - {{series: '{text}', values: 1x9}}\n");
    let info = |x: u8| series(&format!("kubevirt_vmi_info{{name=\"a\",namespace=\"n\",x=\"{x}\"}}"));
    let vm = series("kubevirt_vm_info{name=\"a\",namespace=\"n\",status=\"starting\"}");
    let case = "  alert_rule_test:\n  - {alertname: VirtualMachineStuckOnNode, eval_time: 2m, exp_alerts: []}\n";
    at("joins.yaml", &format!("tests:\n- input_series:\n{vm}{}{}{case}", info(1), info(2)))?;
    let (code, out, _) = run(&folder, &["@joins.yaml", "--kubevirt", "v1.8.0"])?;
    let unjudged = "0 of 1 cases failed, and";
    ensure!(code == Some(11) && out.contains("found duplicate series") && out.contains(unjudged), "{code:?} {out}");
    for (text, code, expected) in [
        ("tests:\n- input_serie: []\n", 2, "line 2: field input_serie not found"),
        ("tests: [\n", 2, "yaml: line "),
        ("tests: []\n---\ntests: []\n", 2, "several documents"),
    ] {
        at("wrong.yaml", text)?;
        let (found, out, err) = run(&folder, &["@wrong.yaml"])?;
        ensure!(found == Some(code) && err.contains("@wrong.yaml") && err.contains(expected), "{text}: {found:?} {out}{err}");
    }
    let (code, _, err) = run(&folder, &["@nothing.yaml"])?;
    ensure!(code == Some(2) && err.contains("@nothing.yaml: cannot be read: "), "{err}");
    let (code, _, err) = run(&folder, &["@fails.yaml", "--kubevirt", "v0.1"])?;
    ensure!(code == Some(2) && err.contains("KubeVirt v0.1 is not simulated"), "{err}");
    Ok(())
}

fn compared() -> Result<()> {
    let folder = Folder::new()?;
    let text = "rule_files: [x]\ntests:\n- input_series:\n  - {series: 'up{namespace=\"other\",pod=\"virt-api-1\"}', values: 1x9}\n  promql_expr_test:\n  - {expr: kubevirt_virt_api_up, eval_time: 1m, exp_samples: [{labels: kubevirt_virt_api_up, value: 1}]}\n  alert_rule_test:\n  - alertname: VirtControllerDown\n    eval_time: 15m\n    exp_alerts:\n    - exp_labels: {severity: critical, operator_health_impact: critical, kubernetes_operator_part_of: kubevirt, kubernetes_operator_component: kubevirt}\n      exp_annotations:\n        summary: in other words\n        runbook_url: https://kubevirt.io/monitoring/runbooks/VirtControllerDown\n";
    std::fs::write(folder.path().join("t.yaml"), text)?;
    std::fs::write(folder.path().join("wrong.yaml"), text.replace("runbooks/Virt", "runbooks/Wirt"))?;
    for (arguments, code, expected) in [
        (
            &["@t.yaml"][..],
            0,
            "2 of 2 cases passed, 0 failed (rules of KubeVirt v1.9.0 in namespace other; of annotations only runbook_url",
        ),
        (&["@t.yaml", "--namespace", "kubevirt"], 11, "1 of 2 cases passed, 1 failed"),
        (&["@t.yaml", "--annotations", "all"], 11, "1 of 2 cases passed, 1 failed"),
        (&["@wrong.yaml"], 11, "1 of 2 cases passed, 1 failed"),
        (&["@wrong.yaml", "--annotations", "none"], 0, "annotations are not compared"),
    ] {
        let (found, out, err) = run(&folder, arguments)?;
        ensure!(found == Some(code) && out.contains(expected), "{arguments:?}: {found:?}\n{out}{err}");
    }
    Ok(())
}

fn own() -> Result<()> {
    let folder = Folder::new()?;
    let groups = "groups: [{name: mine, rules: [{alert: NoApi, expr: kubevirt_virt_api_up == 0, annotations: {summary: gone}}]}]";
    std::fs::write(folder.path().join("rules.yaml"), groups)?;
    let object =
        format!("apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {{name: mine}}\nspec: {{{groups}}}\n");
    std::fs::write(folder.path().join("object.yaml"), object)?;
    let test = |alerts: &str| {
        format!("tests:\n- input_series: []\n  alert_rule_test:\n  - {{alertname: NoApi, eval_time: 5m, exp_alerts: {alerts}}}\n")
    };
    std::fs::write(folder.path().join("fires.yaml"), test("[{exp_annotations: {summary: gone}}]"))?;
    std::fs::write(folder.path().join("silent.yaml"), test("[]"))?;
    for (arguments, code) in [
        // The record that the alert reads is the release's.
        (&["@fires.yaml", "--rules", "@rules.yaml", "--kubevirt", "v1.9.0", "--annotations", "all"][..], 0),
        (&["@fires.yaml", "--rules", "@object.yaml", "--kubevirt", "v1.9.0", "--annotations", "all"], 0),
        (&["@silent.yaml", "--rules", "@rules.yaml"], 0),
        (&["@fires.yaml", "--rules", "@rules.yaml"], 11),
        (&["@fires.yaml", "--rules", "@fires.yaml"], 2),
    ] {
        let (found, out, err) = run(&folder, arguments)?;
        ensure!(found == Some(code), "{arguments:?}: {found:?}\n{out}{err}");
    }
    Ok(())
}

fn printed() -> Result<()> {
    let folder = Folder::new()?;
    let promtool = prometheus()?.promtool;
    for release in with_rules()? {
        let text = folder.output(&["rules", "print", "--kubevirt", &release.release, "--namespace", "elsewhere"])?;
        ensure!(text.contains("namespace=\"elsewhere\""), "{text}");
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, text)?;
        let checked = std::process::Command::new(&promtool).args(["check", "rules", "--lint=none"]).arg(&path).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        ensure!(
            checked.status.success() && said.contains(&format!("{} rules found", release.rules.len())),
            "{}: {said}",
            release.release
        );
    }
    Ok(())
}

fn without() -> Result<()> {
    let folder = Folder::new()?;
    std::fs::write(folder.path().join("t.yaml"), ONE_FAILS)?;
    let file = folder.path().join("t.yaml");
    let mut command = folder.lab(&["rules", "test", file.to_str().unwrap_or_default(), "--offline"]);
    let output = command.env_remove("LAB_PROMETHEUS").env("LAB_CACHE_DIR", folder.path()).env("PATH", folder.path()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(7) && said.contains("no Prometheus with kubernetes_sd was found"), "{said}");
    Ok(())
}
