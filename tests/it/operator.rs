//! What the operator makes of files: held against a snapshot, and read by the real promtool.

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::bench::{Folder, NotRun, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("operator render, read by promtool", render),
        trial("every configuration of the compiler's cases, read by promtool", cases),
        trial("operator render of an Alertmanager, read by amtool", render_alertmanager),
        trial("operator render refuses what it cannot read", refused),
        trial(
            "operator render reads files as a cluster would, and leaves rules out that cannot be parsed",
            read_as_a_cluster_does,
        ),
    ]
}

const MONITORS: &str = "tests/it/operator/monitors.yaml";

fn render() -> Result<()> {
    let folder = Folder::new()?;
    let file = root().join(MONITORS);
    let arguments = ["operator", "render", file.to_str().unwrap_or_default(), "--prometheus", "monitoring/lab"];
    let output = folder.lab(&arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (config, rejected) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let rules = folder.output(&[&arguments[..], &["--rules"]].concat())?;
    crate::scenarios::hold("operator-render", &format!("{config}---\n{rules}---\n{rejected}"));
    // The files that it names are those of a pod.
    let promtool = &prometheus()?.promtool;
    let (config_file, rule_file) = (folder.path().join("prometheus.yml"), folder.path().join("rules.yml"));
    std::fs::write(&config_file, config.replace("/etc/prometheus/rules/", "/nowhere/"))?;
    std::fs::write(&rule_file, rules)?;
    for (what, more, file) in [("config", "--syntax-only", &config_file), ("rules", "--lint=none", &rule_file)] {
        let checked = std::process::Command::new(promtool).args(["check", what, more]).arg(file).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        ensure!(checked.status.success(), "promtool check {what}: {said}");
    }
    Ok(())
}

/// The compiler's own cases say what must be in a configuration; whether Prometheus reads the whole, promtool says. Each is made
/// for the version that there is; what cannot be made for it is left to the cases.
fn cases() -> Result<()> {
    let folder = Folder::new()?;
    let read = |name: &str| std::fs::read_to_string(root().join("crates/operator/tests/it").join(name));
    let cases = wire::yaml::first_document(&read("cases.yaml")?)?;
    let common = read("common.yaml")?;
    let tools = prometheus()?;
    let (promtool, version) = (&tools.promtool, &tools.version);
    let (mut checked, mut unread) = (0, Vec::new());
    for case in cases.as_array().into_iter().flatten() {
        let name = case["case"].as_str().unwrap_or_default();
        if case["unread"].is_string() {
            continue;
        }
        let mut spec = json!({});
        for kind in ["serviceMonitor", "podMonitor", "probe", "scrapeConfig", "rule"] {
            spec[format!("{kind}Selector")] = json!({});
            spec[format!("{kind}NamespaceSelector")] = json!({});
        }
        for (key, value) in case["prometheus"].as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec["version"] = version.as_str().into();
        let object = |kind: &str, namespace: &str, name: &str, spec: &Value| {
            json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec}).to_string()
        };
        let mut text = format!("{common}---\n{}\n", object("Prometheus", "monitoring", "k8s", &spec));
        for kind in ["ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig", "PrometheusRule"] {
            if case[kind].is_object() {
                text.push_str(&format!("---\n{}\n", object(kind, "a", "m", &case[kind])));
            }
        }
        let (manifests, config) = (folder.path().join("case.yaml"), folder.path().join("prometheus.yml"));
        std::fs::write(&manifests, text)?;
        let arguments = ["operator", "render", manifests.to_str().unwrap_or_default(), "--prometheus", "monitoring/k8s"];
        let made = folder.lab(&arguments).output()?;
        if !made.status.success() {
            continue;
        }
        std::fs::write(&config, made.stdout)?;
        let told = std::process::Command::new(promtool).args(["check", "config", "--syntax-only"]).arg(&config).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        // Debian's Prometheus is built without some clouds and registries.
        if let Some(lacking) =
            said.lines().find(|line| line.contains("_sd_configs not found") || line.contains("azuread not found"))
        {
            eprintln!("not run: {name}: this Prometheus is built without it ({})", lacking.trim());
            continue;
        }
        if !told.status.success() {
            unread.push(format!("{name}: {said}"));
        }
        checked += 1;
    }
    ensure!(unread.is_empty(), "{}", unread.join("\n"));
    ensure!(checked > 40, "only {checked} cases were checked");
    Ok(())
}

fn render_alertmanager() -> Result<()> {
    let folder = Folder::new()?;
    let file = root().join("tests/it/operator/alertmanager.yaml");
    let arguments = ["operator", "render", file.to_str().unwrap_or_default(), "--alertmanager", "monitoring/main"];
    let output = folder.lab(&arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (config, rejected) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    crate::scenarios::hold("operator-render-alertmanager", &format!("{config}---\n{rejected}"));
    let found = match prometheus()?.alertmanager {
        Ok(found) => found.alertmanager.with_file_name("amtool"),
        Err(why) => {
            bail!(NotRun(format!("amtool has not read it, since there is no Alertmanager: {why}")));
        }
    };
    let config_file = folder.path().join("alertmanager.yml");
    std::fs::write(&config_file, config)?;
    let checked = std::process::Command::new(found).arg("check-config").arg(&config_file).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    ensure!(checked.status.success() && said.contains("SUCCESS"), "amtool: {said}");
    Ok(())
}

/// Nulls count as absent, keys are YAML 1.1, and a rule with an unknown function takes its object alone.
fn read_as_a_cluster_does() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.path().join("f.yaml");
    let text = "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: k8s, namespace: a}\n\
        spec: {serviceMonitorSelector: {}, ruleSelector: {}, scrapeInterval: null}\n---\n\
        apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: m, namespace: a}\nspec:\n  selector: {}\n  \
        endpoints:\n  - port: web\n    interval:\n    relabelings:\n    params:\n      on: ['1']\n---\n\
        apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: typo, namespace: a}\n\
        spec: {groups: [{name: g, rules: [{record: r, expr: 'rat(x[5m])'}]}]}\n---\n\
        apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: good, namespace: a}\n\
        spec: {groups: [{name: g, rules: [{record: good, expr: 'rate(x[5m])'}]}]}\n";
    std::fs::write(&file, text)?;
    let arguments = ["operator", "render", file.to_str().unwrap_or_default(), "--prometheus", "a/k8s"];
    let output = folder.lab(&arguments).output()?;
    let (config, said) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.success(), "{said}");
    let config = wire::yaml::first_document(&config)?;
    let job = &config["scrape_configs"][0];
    ensure!(job["job_name"] == "serviceMonitor/a/m/0" && job["params"] == json!({"true": ["1"]}), "{job}");
    ensure!(job["scrape_interval"].is_null() && config["global"]["scrape_interval"] == "30s", "{config}");
    let output = folder.lab(&[&arguments[..], &["--rules"]].concat()).output()?;
    let (rules, said) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(rules.contains("record: good") && !rules.contains("rat("), "{rules}");
    let expected =
        "PrometheusRule a/typo is rejected: group \"g\", rule 0: could not parse expression: 1:1: parse error: unknown function";
    ensure!(said.contains(expected), "{said}");
    Ok(())
}

fn refused() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.path().join("f.yaml");
    for (text, name, expected) in [
        ("a: [", "a/b", "f.yaml:"),
        ("kind: Prometheus\nmetadata: {name: x, namespace: y}\n", "a/b", "there is no Prometheus \"a/b\" in these files"),
        ("kind: A\nspec:\n  a: 1\n  a: 2\n", "a/b", "f.yaml:4:3: key \"a\" is given twice, in line 3 and in line 4"),
        ("kind: A\nspec:\n  interval: {{ .Values.interval }}\n", "a/b", "f.yaml:3:13: {{ .Values.interval }} is a template"),
        ("kind: A\nmetadata:\n  name: '{{ .Release.Name }}-x'\n", "a/b", "f.yaml:3:9: \"{{ .Release.Name }}-x\" is a template"),
    ] {
        std::fs::write(&file, text)?;
        let output = folder.lab(&["operator", "render", file.to_str().unwrap_or_default(), "--prometheus", name]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(expected), "{said}");
    }
    Ok(())
}
