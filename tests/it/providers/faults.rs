//! Faults on real clusters. The proxy runs in the cluster for real: as a process of a lab that is the cluster, by the image that its Deployment
//! names. What is done to a node of kind is played.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use install::Api;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::played::{asked, kind_cases, stand_in, with_path};
use super::{Guest, api, block_on, host, inventory, ran};
use crate::bench::{Folder, NotRun, root, trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("faults on a cluster: KubeVirt goes through the proxy, is counted exactly, and goes back", through_the_proxy),
        trial("faults on a node of kind (stand-ins play kind and docker)", node),
        trial("a cluster whose clock is wrong is told of", skew),
    ]
}

const IMAGE: &str = "lab.local/fault-proxy:dev";

/// That the program that the image stands for lies beside the lab's.
fn has_proxy() -> Result<()> {
    match Path::new(env!("CARGO_BIN_EXE_lab-e2e")).with_file_name("lab-fault-proxy").is_file() {
        true => Ok(()),
        false => Err(NotRun("lab-fault-proxy is not built; `cargo build --workspace --bins` builds it".to_owned()).into()),
    }
}

/// What lasts of a cluster: not the pods and revisions that a rollout leaves.
fn lasting(api: &Api) -> Result<Vec<String>> {
    let mut all = inventory(api)?;
    all.retain(|line| !["Pod ", "ReplicaSet ", "ControllerRevision "].iter().any(|kind| line.starts_with(kind)));
    Ok(all)
}

fn kubevirt_spec(api: &Api) -> Result<Value> {
    let found = block_on(api.get("/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt"))?;
    Ok(found.context("no KubeVirt")?["spec"].clone())
}

fn through_the_proxy() -> Result<()> {
    has_proxy()?;
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    let api = api(&kubeconfig)?;
    let empty = inventory(&api)?;
    let guest = Guest::existing(&folder, "guest", &kubeconfig)?;
    guest.up()?;
    let (before, spec) = (lasting(&api)?, kubevirt_spec(&api)?);

    // Nothing is there yet, and nobody knows where an image would come from.
    let (_, said) = ran(folder.lab(&["fault", "list", "--name", "guest"]), 6)?;
    ensure!(said.contains("lab \"guest\" has no fault proxy on its cluster"), "{said}");
    let (_, said) = ran(folder.lab(&["fault", "install", "--name", "guest", "--archive", "/nowhere.tar"]), 7)?;
    ensure!(said.contains("there is no image of the fault proxy"), "{said}");
    // An image that the cluster does not have: the wait says so, and KubeVirt is left alone.
    let (_, said) =
        ran(folder.lab(&["fault", "install", "--name", "guest", "--image", "example.com/none:1", "--timeout", "3"]), 5)?;
    ensure!(said.contains("ImagePullBackOff") && kubevirt_spec(&api)? == spec, "{said}");

    let install = ["fault", "install", "--name", "guest", "--image", IMAGE];
    folder.output(&install)?;
    let led = kubevirt_spec(&api)?;
    ensure!(led["customizeComponents"]["patches"].as_array().is_some_and(|patches| patches.len() >= 3), "{led}");
    ensure!(!inventory(&api)?.iter().any(|line| line.starts_with("CertificateSigningRequest ")), "the request is left");

    // A scenario of faults, whose counts are exact here too.
    let scenario = root().join("scenarios/blog-error-code.yaml").to_string_lossy().into_owned();
    let snapshots = root().join("snapshots").to_string_lossy().into_owned();
    let run = [
        "scenario",
        "run",
        &scenario,
        "--kubevirt",
        "v1.9.0",
        "--provider",
        "existing",
        "--lab",
        "guest",
        "--snapshots",
        &snapshots,
    ];
    let said = folder.output(&run)?;
    ensure!(said.contains("ok    the ledger equals the counters"), "{said}");
    // One that a proxy cannot run says why.
    let refused = root().join("scenarios/blog-dial-refused.yaml").to_string_lossy().into_owned();
    let run = ["scenario", "run", &refused, "--kubevirt", "v1.9.0", "--provider", "existing", "--lab", "guest"];
    let output = folder.lab(&run).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("not runnable there: it needs refused connections"), "{said}");
    ensure!(output.status.code() == Some(10), "{:?}", output.status);
    let said = folder.output(&["ledger", "--name", "guest", "--reconcile", "2s"])?;
    ensure!(said.starts_with("components: "), "{said}");

    let status: Value = serde_json::from_str(&folder.output(&["status", "--name", "guest", "--output", "json"])?)?;
    ensure!(status["faultProxy"] == true, "{status}");
    let exported = folder.path().join("exported");
    folder.output(&["export", "--name", "guest", &exported.to_string_lossy()])?;
    let ledger: Value = serde_json::from_slice(&std::fs::read(exported.join("ledger.json"))?)?;
    ensure!(
        ledger.as_array().is_some_and(|entries| entries.iter().any(|entry| !entry["rule"].is_null())),
        "no fault in the ledger"
    );

    around(&folder, &api)?;

    // And back.
    folder.output(&["fault", "remove", "--name", "guest"])?;
    ensure!(kubevirt_spec(&api)? == spec, "{}", kubevirt_spec(&api)?);
    ensure!(lasting(&api)? == before, "{:?}", lasting(&api)?);
    // A lab that goes takes its proxy with it.
    folder.output(&install)?;
    folder.output(&["down", "--name", "guest"])?;
    ensure!(inventory(&api)? == empty, "{:?}", inventory(&api)?);
    Ok(())
}

/// Faults that need no proxy: rights that are gone, an account that is throttled.
fn around(folder: &Folder, api: &Api) -> Result<()> {
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kubevirt-handler";
    let bound = block_on(api.get(path))?.context("no binding")?;
    folder.output(&["fault", "rights", "--name", "guest", "clusterrolebinding/kubevirt-handler"])?;
    ensure!(block_on(api.get(path))?.is_none());
    let said = folder.output(&["fault", "restore", "--name", "guest"])?;
    let again = block_on(api.get(path))?.context("it is not back")?;
    ensure!(said.contains("everything is as before") && again["subjects"] == bound["subjects"], "{said}{again}");
    ensure!(again["metadata"]["labels"] == bound["metadata"]["labels"], "{again}");
    for (wrong, why) in
        [("clusterrolebinding/none", "there is no clusterrolebinding/none"), ("pod/x", "names no role or binding")]
    {
        let (_, said) = ran(folder.lab(&["fault", "rights", "--name", "guest", wrong]), 2)?;
        ensure!(said.contains(why), "{said}");
    }

    folder.output(&["fault", "throttle", "--name", "guest", "kubevirt/kubevirt-controller"])?;
    let mut deadline = wire::patience::Deadline::after(Duration::from_secs(60));
    loop {
        let totals =
            folder.output(&["ledger", "--name", "guest", "--totals", "--client", "virt-controller", "--output", "json"])?;
        let totals: Value = serde_json::from_str(&totals)?;
        let throttled = |total: &Value| total[0]["code"] == "429";
        if totals["totals"].as_array().context("no totals")?.iter().any(throttled) {
            break;
        }
        ensure!(!deadline.is_over(), "nobody was answered 429: {totals}");
    }
    folder.output(&["fault", "restore", "--name", "guest"])?;
    ensure!(!inventory(api)?.iter().any(|line| line.starts_with("FlowSchema ")), "the FlowSchema is left");

    let (_, said) = ran(folder.lab(&["fault", "node", "--name", "guest", "pause"]), 2)?;
    ensure!(said.contains("only a node of kind can be stopped"), "{said}");
    Ok(())
}

/// The archive of an image, as `docker save` writes it, with nothing in it.
fn archive(path: &Path) -> Result<()> {
    let shell = xshell::Shell::new()?;
    let folder = path.with_extension("d");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("manifest.json"), json!([{"RepoTags": [IMAGE]}]).to_string())?;
    Ok(xshell::cmd!(shell, "tar -C {folder} -cf {path} manifest.json").quiet().run()?)
}

fn node() -> Result<()> {
    has_proxy()?;
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    stand_in(folder.path(), "kind", &kind_cases(&kubeconfig))?;
    let docker = "'pause guest-control-plane') touch paused;;\n'unpause guest-control-plane') rm paused;;\n\
         'inspect --format {{.State.Paused}} guest-control-plane') [ -e paused ] && echo true || echo false;;\n\
         'exec guest-control-plane iptables -C INPUT '*) [ -e dropped ];;\n'exec guest-control-plane iptables -I INPUT '*) touch dropped;;\n\
         'exec guest-control-plane iptables -D INPUT '*) rm dropped;;";
    let bin = stand_in(folder.path(), "docker", docker)?;
    let guest = Guest::new(&folder, "guest", &["--provider", "kind", "--kubernetes", "1.36"])?;
    ran(with_path(guest.command(&[]), &bin), 0)?;

    let image = folder.path().join("image.tar");
    archive(&image)?;
    let image = image.to_string_lossy().into_owned();
    let run = |arguments: &[&str], code: i32| ran(with_path(folder.lab(&[arguments, &["--name", "guest"]].concat()), &bin), code);
    run(&["fault", "install", "--archive", &image], 0)?;
    ensure!(asked(&folder)?.contains(&format!("load image-archive {image} --name guest")), "{:?}", asked(&folder)?);
    let (out, _) = run(&["fault", "list"], 0)?;
    ensure!(out.contains("DECIDED"), "{out}");

    let is = |name: &str| folder.path().join(name).exists();
    run(&["fault", "node", "pause"], 0)?;
    ensure!(is("paused"));
    run(&["fault", "node", "drop"], 0)?;
    ensure!(is("dropped"));
    let (out, _) = run(&["fault", "restore"], 0)?;
    ensure!(out.contains("everything is as before") && !is("paused") && !is("dropped"), "{out}");
    let (out, _) = run(&["fault", "node", "drop", "--for", "1s"], 0)?;
    ensure!(out.contains("the node is as before") && !is("dropped"), "{out}");
    let rule = "exec guest-control-plane iptables -I INPUT -p tcp --dport 6443 -m comment --comment kubevirt-lab -j DROP";
    ensure!(asked(&folder)?.iter().any(|line| line == rule), "{:?}", asked(&folder)?);
    let (out, _) = run(&["fault", "restore"], 0)?;
    ensure!(out.contains("there was nothing to put back"), "{out}");
    let (_, said) = run(&["fault", "node", "drop", "--for", "soon"], 2)?;
    ensure!(said.contains("--for soon: use a time such as 30s"), "{said}");
    ran(with_path(folder.lab(&["down", "--name", "guest"]), &bin), 0)?;
    Ok(())
}

/// A server that knows its version and nothing else, and whose clock is an hour ahead.
fn skew() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                let mut first = String::new();
                while reader.read_line(&mut first).is_ok_and(|read| read > 0) {
                    let mut header = String::new();
                    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
                        header.clear();
                    }
                    let found = first.contains(" /version");
                    let body = if found {
                        r#"{"gitVersion": "v1.36.1"}"#
                    } else {
                        r#"{"kind": "Status", "code": 403, "message": "no"}"#
                    };
                    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
                    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
                    let code = if found { "200 OK" } else { "403 Forbidden" };
                    let head = format!(
                        "HTTP/1.1 {code}\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    if (&stream).write_all(format!("{head}{body}").as_bytes()).is_err() {
                        return;
                    }
                    first.clear();
                }
            });
        }
    });
    let folder = Folder::new()?;
    let kubeconfig = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "late",
        "clusters": [{"name": "late", "cluster": {"server": url}}], "users": [{"name": "late", "user": {}}],
        "contexts": [{"name": "late", "context": {"cluster": "late", "user": "late"}}],
    });
    std::fs::write(&kubeconfig, config.to_string())?;
    let kubeconfig = kubeconfig.to_string_lossy();
    let arguments = ["up", "--provider", "existing", "--kubeconfig", &kubeconfig, "--context", "late", "--kubernetes", "1.36"];
    let (_, said) = ran(folder.lab(&arguments), 7)?;
    ensure!(said.contains("warning: the cluster's clock is 3") && said.contains(" s ahead of this machine's"), "{said}");
    ensure!(said.contains("cannot look at the cluster: no"), "{said}");
    Ok(())
}
