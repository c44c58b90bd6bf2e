//! `contract check`: the project's own dashboard on every release, and files that read what is not there, or that cannot be read.
//! `contract diff`: releases, pages, snapshots, and a lab that runs.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::bench::{Folder, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("the dashboards read what every release exposes", dashboards),
        trial("KubeVirt's rules read what the release has", own_rules),
        trial("a dashboard of 2019 is told what is called otherwise today", old_dashboard),
        trial("what was not read is not said to be there", not_read),
        trial("series of other programs are neither there nor missing", others),
        trial("a value that a label never has is as wrong as a label", values),
        trial("what differs between releases, files and a lab, and whom it breaks", differences),
    ]
}

fn dashboards() -> Result<()> {
    let folder = Folder::new()?;
    let grafana = root().join("manifests/grafana");
    let said = folder.output(&["contract", "check", grafana.join("kubevirt-requests.json").to_str().unwrap_or_default()])?;
    ensure!(said.lines().count() == kubevirt::Release::known().len(), "{said}");
    // VMs have the names that they have today since v1.2, and all that the dashboard reads since v1.5.
    let vms = grafana.join("kubevirt-vms.json");
    let of_today = ["--release", "v1.5.0", "--release", "v1.8.0", "--release", "v1.9.0"];
    let said = folder.output(&[&["contract", "check", vms.to_str().unwrap_or_default()], &of_today[..]].concat())?;
    ensure!(said.lines().count() == 3, "{said}");
    Ok(())
}

/// The rules of each release read what it has.
fn own_rules() -> Result<()> {
    let folder = Folder::new()?;
    for tag in kubevirt::Release::known() {
        let rules = kubevirt::Release::load(tag)?.rules.len();
        if rules == 0 {
            continue;
        }
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, folder.output(&["rules", "print", "--kubevirt", tag])?)?;
        let said = folder.output(&["contract", "check", path.to_str().unwrap_or_default(), "--release", tag])?;
        // They read series of kube-state-metrics and cAdvisor, too, of which a release has no page.
        let is_there = format!("{rules} expressions read of KubeVirt {tag} is there; ");
        ensure!(said.contains(&is_there) && said.contains("metrics of others were not looked for: "), "{said}");
    }
    Ok(())
}

/// Runs `contract check` on files that are written: exit code, and what it says on both streams.
fn check(files: &[(&str, &str)], arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let folder = Folder::new()?;
    for (name, text) in files {
        let path = folder.path().join(name);
        path.parent().map(std::fs::create_dir_all).transpose()?;
        std::fs::write(path, text)?;
    }
    // Arguments that begin with `@` are files of the folder.
    let at = |argument: &&str| argument.replace('@', &format!("{}/", folder.path().display()));
    let arguments: Vec<String> = arguments.iter().map(at).collect();
    let all: Vec<&str> = ["contract", "check"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let output = folder.lab(&all).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), said.replace(&format!("{}/", folder.path().display()), "@")))
}

fn board(expressions: &[&str]) -> String {
    let panels: Vec<serde_json::Value> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| serde_json::json!({"title": format!("p{number}"), "targets": [{"expr": expression}]}))
        .collect();
    serde_json::json!({"title": "t", "panels": panels}).to_string()
}

fn not_read() -> Result<()> {
    let fine = board(&["sum(kubevirt_vmi_info)"]);
    let release = ["--release", "v1.9.0"];
    // What is read whatever its variables are, and what is not.
    let with_variables =
        board(&["topk($n, kubevirt_gone_1)", "sum(kubevirt_gone_2{$m})", "rate(kubevirt_gone_3[[[r]]]) offset $o"]);
    let (code, said) = check(&[("d.json", &with_variables)], &[&["@d.json"], &release[..]].concat())?;
    let missing = said.lines().filter(|line| line.contains("there is no metric kubevirt_gone_")).count();
    ensure!(code == Some(8) && missing == 3 && said.contains("3 of 3 expressions ask for what is not there"), "{code:?} {said}");
    let unreadable = board(&["sum(kubevirt_vmi_info)", "sum(kubevirt_vmi_info", "$query"]);
    let (code, said) = check(&[("d.json", &unreadable)], &[&["@d.json"], &release[..]].concat())?;
    ensure!(code == Some(9), "{code:?} {said}");
    ensure!(
        said.contains("@d.json:1: panel \"p1\": not read: ")
            && said.contains("panel \"p2\": not read: what it reads is in a variable"),
        "{said}"
    );
    ensure!(
        said.contains("2 of 3 expressions were not read; what the other 1 reads is there") && !said.contains("all that"),
        "{said}"
    );
    // What is missing comes first.
    let both = board(&["sum(", "kubevirt_gone"]);
    ensure!(check(&[("d.json", &both)], &[&["@d.json"], &release[..]].concat())?.0 == Some(8));

    // Files that nobody knows, beside one that is in order; and such that never read series.
    let scaled = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\n";
    let (code, said) =
        check(&[("f/d.json", &fine), ("f/s.yaml", scaled), ("f/b.yaml", "a: [")], &[&["@f"], &release[..]].concat())?;
    ensure!(code == Some(9) && said.contains("@f/s.yaml: not read: no dashboard or rule (ScaledObject)"), "{code:?} {said}");
    ensure!(said.contains("@f/b.yaml:") && said.contains("all that 1 expression reads is there (KubeVirt v1.9.0)"), "{said}");
    let service = "apiVersion: v1\nkind: Service\n";
    let (code, said) = check(&[("f/d.json", &fine), ("f/s.yaml", service)], &[&["@f"], &release[..]].concat())?;
    ensure!(code == Some(0) && said.contains("1 file holds no dashboard or rule: Service"), "{code:?} {said}");

    // In forms that people have.
    let gone = board(&["kubevirt_gone"]).replace('\'', "''");
    let perses = "panels: {k: {kind: Panel, spec: {display: {name: p0}, queries: [{kind: TimeSeriesQuery, spec: {plugin: \
         {kind: PrometheusTimeSeriesQuery, spec: {query: kubevirt_gone}}}}]}}}";
    for text in [
        format!(
            "apiVersion: v1\nkind: ConfigMapList\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  data:\n    d.json: '{gone}'\n"
        ),
        format!("\u{feff}kind: Dashboard\nspec: {{{perses}}}\n"),
        format!("apiVersion: perses.dev/v1alpha1\nkind: PersesDashboard\nspec: {{{perses}}}\n"),
        format!("apiVersion: perses.dev/v1alpha2\nkind: PersesDashboard\nspec: {{config: {{{perses}}}}}\n"),
        format!("apiVersion: grafana.integreatly.org/v1beta1\nkind: GrafanaDashboard\nspec: {{json: '{gone}'}}\n"),
    ] {
        let (code, said) = check(&[("d.yaml", &text)], &[&["@d.yaml"], &release[..]].concat())?;
        ensure!(code == Some(8) && said.contains(": panel \"p0\": there is no metric kubevirt_gone"), "{text}: {code:?} {said}");
    }
    Ok(())
}

fn others() -> Result<()> {
    let release = ["--release", "v1.9.0"];
    let others =
        board(&["sum(rate(haproxy_requests_total{instance=\"$host\"}[5m]))", "up{job=\"kubelet\", metrics_path=\"/metrics\"}"]);
    let files = [
        ("d.json", others.as_str()),
        ("haproxy.txt", "haproxy_requests_total{code=\"200\"} 1\n"),
        ("other.txt", "haproxy_sessions 1\n"),
        ("kubelet.txt", "kubelet_running_pods 1\n"),
    ];
    let run = |more: &[&str]| check(&files, &[&["@d.json"], &release[..], more].concat());
    let (code, said) = run(&[])?;
    ensure!(
        code == Some(0) && said.contains("@d.json: reads nothing of KubeVirt v1.9.0; 2 metrics of others were not looked for: "),
        "{code:?} {said}"
    );
    ensure!(said.contains("haproxy_requests_total, up of job kubelet") && !said.contains("is there"), "{said}");
    ensure!(run(&["--strict"])?.0 == Some(9));
    // With pages of the others they are looked for.
    let (code, said) = run(&["--series", "@haproxy.txt", "--page", "kubelet=@kubelet.txt", "--strict"])?;
    ensure!(code == Some(0) && said.contains("all that 2 expressions read is there (KubeVirt v1.9.0)"), "{code:?} {said}");
    let (code, said) = run(&["--page", "haproxy=@other.txt"])?;
    ensure!(code == Some(8) && said.contains("there is no metric haproxy_requests_total"), "{code:?} {said}");
    let (code, said) = run(&["--page", "haproxy"])?;
    ensure!(code == Some(2) && said.contains("invalid --page \"haproxy\"; expected JOB=FILE"), "{code:?} {said}");

    // Names that all programs of Kubernetes have: a matcher says whose they are. What annotations show has to be there all the same.
    let rules = "groups:\n- name: g\n  rules:\n\
        \x20 - {alert: A, expr: 'sum(rate(rest_client_requests_total{job=~\"kube-controller-manager|kube-scheduler\",code=~\"5..\"}[5m])) > 0'}\n\
        \x20 - {alert: B, expr: 'workqueue_depth{job=\"apiserver\"} > 100'}\n\
        \x20 - {alert: C, expr: 'sum(workqueue_depth) > 1', annotations: {summary: '{{ $labels.job }}'}}\n";
    let (code, said) = check(&[("r.yaml", rules)], &[&["@r.yaml"], &release[..]].concat())?;
    let told: Vec<&str> = said.lines().filter(|line| line.contains(": alert ")).collect();
    ensure!(
        code == Some(8)
            && told == ["@r.yaml:6: alert C: the result has no label job, which an annotation shows (KubeVirt v1.9.0)"],
        "{code:?} {said}"
    );
    Ok(())
}

fn values() -> Result<()> {
    let rules = "groups:\n- name: g\n  rules:\n\
        \x20 - {alert: A, expr: 'max_over_time(kubevirt_vm_info{status!=\"Running\", name!=\"\"}[10m]) == 1'}\n\
        \x20 - {alert: B, expr: 'kubevirt_vm_info{status=\"Stopped\"} == 1'}\n\
        \x20 - {alert: C, expr: 'kubevirt_vm_info{status=~\"running|paused\", namespace=\"Any\", name=\"Other\"} == 1'}\n";
    let page = "kubevirt_vm_info{name=\"a\",namespace=\"b\",status=\"running\",status_group=\"running\"} 1\n\
         kubevirt_vm_info{name=\"c\",namespace=\"b\",status=\"stopped\",status_group=\"non_running\"} 1\n";
    for against in [["--release", "v1.9.0"], ["--series", "@page.txt"]] {
        let (code, said) = check(&[("r.yaml", rules), ("page.txt", page)], &[&["@r.yaml"], &against[..]].concat())?;
        let told: Vec<&str> = said.lines().filter(|line| line.contains(": alert ")).collect();
        ensure!(code == Some(8) && told.len() == 2, "{against:?}: {code:?} {said}");
        let first = "@r.yaml:4: alert A: kubevirt_vm_info has no status=\"Running\", which status!=\"Running\" excludes; there is running, ";
        ensure!(told[0].starts_with(first), "{said}");
        ensure!(
            told[1].starts_with("@r.yaml:5: alert B: kubevirt_vm_info has no status=\"Stopped\"; there is stopped, "),
            "{said}"
        );
    }
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
    // Only what the difference breaks is blamed on it.
    let before = folder.path().join("before.json");
    std::fs::write(&before, board(&["kubevirt_gone_long_ago", "haproxy_up", "sum("]))?;
    let before = before.to_string_lossy().into_owned();
    let (code, said) = run(&["v0.11.0", "v1.9.0", "--readers", &before])?;
    ensure!(
        code == Some(9) && said.contains("already broken before: panel \"p0\": there is no metric kubevirt_gone_long_ago"),
        "{said}"
    );
    ensure!(
        said.contains("; 0 of 3 readers broken by it, 1 already broken before, 1 not read; 1 metric of others not looked for"),
        "{said}"
    );
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
