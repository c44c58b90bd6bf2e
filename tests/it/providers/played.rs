//! kind, minikube and docker as far as they can be had: played by stand-ins that say what the real programs were recorded to say, and the
//! real ones beside them where they run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use super::{Guest, host, kubevirt, ran, stack};
use crate::bench::{Folder, NotRun, docker, network, root, trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("a cluster of kind: made, adopted, deleted (a stand-in plays kind)", kind),
        trial("a cluster of kind whose making is interrupted (a stand-in plays kind)", interrupted),
        trial("a cluster of minikube: made and deleted (a stand-in plays minikube)", minikube),
        trial("a bundle holds what a cluster needs (a stand-in plays kind)", bundle),
        trial("a real cluster of kind: made and deleted", real_kind),
    ]
}

/// A program that plays another: it notes what it was asked in `asked`, and answers by the cases of a shell script.
pub(super) fn stand_in(folder: &Path, name: &str, cases: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin)?;
    let path = bin.join(name);
    let state = folder.display();
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\n# A stand-in for {name}: it plays what the real one was recorded to say.\ncd '{state}'\necho \"$*\" >> asked\n\
             argument() {{ want=$1; shift; while [ $# -gt 1 ]; do [ \"$1\" = \"$want\" ] && echo \"$2\"; shift; done; }}\n\
             case \"$*\" in\n{cases}\n*) echo \"ERROR: the stand-in knows no $*\" >&2; exit 1;;\nesac\n"
        ),
    )?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(bin)
}

pub(super) fn with_path(mut command: assert_cmd::Command, bin: &Path) -> assert_cmd::Command {
    let old = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{old}", bin.display()));
    command
}

pub(super) fn asked(folder: &Folder) -> Result<Vec<String>> {
    Ok(std::fs::read_to_string(folder.path().join("asked"))?.lines().map(str::to_owned).collect())
}

/// What kind says of a cluster that this host plays.
pub(super) fn kind_cases(host: &Path) -> String {
    let host = host.display();
    format!(
        "version) echo 'kind v0.33.0 go1.27.2 linux/amd64';;\n\
         'get clusters') [ -e made ] && echo guest || echo 'No kind clusters found.' >&2;;\n\
         'get kubeconfig --name guest') cat '{host}';;\n\
         'create cluster --name guest'*) cat > config; echo ' • Preparing nodes 📦   ...' >&2; touch made; cp '{host}' \"$(argument --kubeconfig \"$@\")\";;\n\
         'load image-archive '*' --name guest') ;;\n\
         'delete cluster --name guest'*) rm made; echo 'Deleting cluster \"guest\" ...' >&2;;"
    )
}

fn kind() -> Result<()> {
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    let cases = kind_cases(&kubeconfig);
    let bin = stand_in(folder.path(), "kind", &cases)?;
    let guest = Guest::new(&folder, "guest", &["--provider", "kind", "--kubernetes", "1.36", "--mount", "/tmp:/host"])?;

    // A cluster of that name that is nobody's lab.
    std::fs::write(folder.path().join("made"), "")?;
    let (_, said) = ran(with_path(guest.command(&[]), &bin), 5)?;
    ensure!(said.contains("there is a kind cluster \"guest\" already, and it was not made by a lab"), "{said}");
    ensure!(!asked(&folder)?.iter().any(|line| line.starts_with("delete")), "{:?}", asked(&folder)?);
    std::fs::remove_file(folder.path().join("made"))?;
    std::fs::remove_dir_all(folder.path().join("state/guest"))?;

    let (out, _) = ran(with_path(guest.command(&["--output", "json"]), &bin), 0)?;
    let shown: Value = serde_json::from_str(&out)?;
    ensure!(shown["provider"] == "kind" && shown["targets"].as_array().is_some_and(|targets| targets.len() == 8), "{shown}");
    let config = std::fs::read_to_string(folder.path().join("config"))?;
    for part in ["image: kindest/node:v1.36.1", "containerPath: /host", "syncFrequency: 10s"] {
        ensure!(config.contains(part), "{part} is not in {config}");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("state/guest/kubeconfig"))?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");

    // Again: adopted, not made anew.
    let (_, said) = ran(with_path(guest.command(&[]), &bin), 0)?;
    ensure!(said.contains("kind cluster \"guest\" is there already"), "{said}");
    ensure!(asked(&folder)?.iter().filter(|line| line.starts_with("create")).count() == 1);

    ran(with_path(folder.lab(&["down", "--name", "guest"]), &bin), 0)?;
    ensure!(!folder.path().join("made").exists() && !folder.path().join("state/guest").exists());
    Ok(())
}

/// Ctrl-C while kind works: kind ends too, the next `up` makes the cluster anew and keeps what kind says, and `down` deletes what there is.
fn interrupted() -> Result<()> {
    let folder = Folder::new()?;
    let cases = "version) echo 'kind v0.33.0';;\n'get clusters') [ -e made ] && echo guest || true;;\n\
                 'create cluster --name guest'*) touch made; [ -e second ] && { printf 'ERROR: failed to create cluster: command \"docker run\" failed\\n\\nCommand Output: one\\nerror: two\\n' >&2; exit 1; }; sleep 600 & echo $! > sleeper; wait;;\n'delete cluster --name guest'*) rm made;;";
    let bin = stand_in(folder.path(), "kind", cases)?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let state = folder.path().join("state");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_lab-e2e"))
        .args(["up", "--name", "guest", "--provider", "kind"])
        .env("LAB_STATE_DIR", &state)
        .env("PATH", &path)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let sleeper = wait_for_file(&folder.path().join("sleeper"))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGINT)?;
    ensure!(child.wait()?.code() == Some(130));
    let gone = || !Path::new("/proc").join(&sleeper).exists();
    let mut deadline = wire::patience::Deadline::after(std::time::Duration::from_secs(10));
    while !gone() && !deadline.is_over() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ensure!(gone(), "what kind has started still runs");

    // The node has the lab's mark, so what is half made is ours to delete.
    let mark = state.join("guest/mark").canonicalize()?;
    let docker =
        format!("'inspect --type container --format {{{{range'*) echo '/kubevirt-lab={}';;\n*) exit 1;;", mark.display());
    let bin = stand_in(folder.path(), "docker", &docker)?;
    std::fs::write(folder.path().join("second"), "")?;
    let (_, said) = ran(with_path(folder.lab(&["up", "--name", "guest", "--provider", "kind"]), &bin), 5)?;
    ensure!(said.contains("deleted a cluster that an interrupted run had left half made"), "{said}");
    ensure!(said.contains("command \"docker run\" failed: error: two"), "{said}");
    let log = std::fs::read_to_string(state.join("guest/kind.log"))?;
    ensure!(log.contains("Command Output: one"), "{log}");
    ran(with_path(folder.lab(&["down", "--name", "guest"]), &bin), 0)?;
    ensure!(!folder.path().join("made").exists() && !state.join("guest").exists());
    Ok(())
}

/// The text of a file, as soon as it has a line.
fn wait_for_file(path: &Path) -> Result<String> {
    let mut deadline = wire::patience::Deadline::after(std::time::Duration::from_secs(30));
    while !deadline.is_over() {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return Ok(text.trim().to_owned());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("{} was not written within 30 s", path.display())
}

fn minikube() -> Result<()> {
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    let host_config = kubeconfig.display();
    let cases = format!(
        "'version --short') echo v1.37.0;;\n\
         'profile list --output json --light') [ -e made ] && echo '{{\"invalid\":[],\"valid\":[{{\"Name\":\"guest\"}}]}}' || echo '{{\"invalid\":[],\"valid\":[]}}';;\n\
         'start --profile=guest'*) touch made; cp '{host_config}' \"$KUBECONFIG\";;\n\
         'delete --profile guest') rm made;;"
    );
    let bin = stand_in(folder.path(), "minikube", &cases)?;
    let guest = Guest::new(
        &folder,
        "guest",
        &["--provider", "minikube", "--driver", "kvm2", "--memory", "10240", "--feature-gate", "A=true"],
    )?;
    let (out, _) = ran(with_path(guest.command(&["--output", "json"]), &bin), 0)?;
    let shown: Value = serde_json::from_str(&out)?;
    ensure!(shown["provider"] == "minikube", "{shown}");
    let lines = asked(&folder)?;
    let start = lines.iter().find(|line| line.starts_with("start")).context("not started")?;
    for flag in ["--driver=kvm2", "--memory=10240", "--feature-gates=A=true", "--kubernetes-version=v1.36.1", "--cpus=2"] {
        ensure!(start.contains(flag), "{flag} is not in {start}");
    }
    ran(with_path(folder.lab(&["down", "--name", "guest"]), &bin), 0)?;
    ensure!(!folder.path().join("made").exists());
    Ok(())
}

/// Images are collected by the real Docker, out of its own store: none can be pulled here. They are empty but for a file.
fn bundle() -> Result<()> {
    docker()?;
    let folder = Folder::new()?;
    let kubeconfig = host(&folder)?;
    let (stack, kubevirt) = (stack(folder.path())?, kubevirt(folder.path())?);
    let (stack, kubevirt) = (stack.to_string_lossy(), kubevirt.to_string_lossy());
    let file = folder.path().join("bundle.tar");
    let file = file.to_string_lossy();
    let make = [
        "bundle",
        &file,
        "--kube-prometheus-manifests",
        &stack,
        "--kubevirt-manifests",
        &kubevirt,
        "--no-pull",
        // The engine is shared with the test of the real kind, which is to find no node image.
        "--no-node",
        "--output",
        "json",
    ];
    // All images that are missing are named at once.
    let (_, said) = ran(folder.lab(&make), 7)?;
    let named = said.split("images are not there: ").nth(1).and_then(|rest| rest.lines().next()).context(said.clone())?;
    ensure!(said.contains("--no-pull"), "{said}");
    let images: Vec<String> = named.split(", ").map(str::to_owned).collect();

    let layer = folder.path().join("layer.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&layer)?);
    tar.append_path_with_name(root().join("LICENSE"), "LICENSE")?;
    tar.into_inner()?;
    for image in &images {
        let imported = std::process::Command::new("docker").args(["import"]).arg(&layer).arg(image).output()?;
        ensure!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }
    let (made, _) = ran(folder.lab(&make), 0)?;
    let _images = Images(images.clone());
    let made: Value = serde_json::from_str(&made)?;
    let sum = made["sha256"].as_str().context("no checksum")?.to_owned();
    for image in ["lab.local/sim/virt-operator:v1.9.0", "lab.local/sim/virt-api:v1.9.0"] {
        ensure!(made["images"].as_array().is_some_and(|all| all.iter().any(|found| found == image)), "{image}: {made}");
    }

    let host_config = kubeconfig.display();
    let cases = format!(
        "version) echo 'kind v0.33.0';;\n'get clusters') [ -e made ] && echo guest || true;;\n\
         'create cluster --name guest'*) cat > config; touch made; cp '{host_config}' \"$(argument --kubeconfig \"$@\")\";;\n\
         'load image-archive '*) tar -tf \"$(argument image-archive \"$@\")\" > loaded;;\n'delete cluster --name guest'*) rm made;;"
    );
    let bin = stand_in(folder.path(), "kind", &cases)?;
    let up = |sum: &str| {
        with_path(
            folder.lab(&[
                "up",
                "--name",
                "guest",
                "--provider",
                "kind",
                "--bundle",
                &file,
                "--bundle-sha256",
                sum,
                "--offline",
                "--output",
                "json",
            ]),
            &bin,
        )
    };
    let (_, said) = ran(up("00"), 2)?;
    ensure!(said.contains("its checksum is"), "{said}");
    let (out, _) = ran(up(&sum), 0)?;
    let shown: Value = serde_json::from_str(&out)?;
    ensure!(shown["kubevirt"] == "v1.9.0" && shown["targets"].as_array().is_some_and(|targets| targets.len() == 8), "{shown}");
    ensure!(std::fs::read_to_string(folder.path().join("loaded"))?.contains("manifest.json"), "no images were loaded");
    ran(with_path(folder.lab(&["down", "--name", "guest"]), &bin), 0)?;

    // Played, the cluster was not deleted with all that was on it: a new one.
    folder.output(&["down", "--name", "host"])?;
    let kubeconfig = host(&folder)?;

    // With a registry (a stand-in plays Docker, for there is none here to push to) everything is to come from there.
    let cases = "'load --input '*|'tag '*|'push --quiet '*) :;;";
    let bin = stand_in(folder.path(), "docker", cases)?;
    let kubeconfig = kubeconfig.to_string_lossy();
    let existing = [
        "up",
        "--name",
        "mirrored",
        "--provider",
        "existing",
        "--kubeconfig",
        &kubeconfig,
        "--context",
        "host",
        "--bundle",
        &file,
        "--registry",
        "registry.example/lab",
        "--timeout",
        "2",
    ];
    let (_, said) = ran(with_path(folder.lab(&existing), &bin), 5)?;
    ensure!(said.contains("Back-off pulling image \"registry.example/lab/") && !said.contains("image \"lab.local/"), "{said}");
    let lines = asked(&folder)?;
    let pushed = "push --quiet registry.example/lab/sim/virt-operator:v1.9.0";
    ensure!(lines.iter().any(|line| line == pushed), "{lines:?}");
    folder.output(&["down", "--name", "mirrored"])?;
    Ok(())
}

/// Images of a test, which go with it.
struct Images(Vec<String>);

impl Drop for Images {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["image", "rm", "--force"]).args(&self.0).output();
    }
}

/// The real kind makes a real cluster, and may pull its node image: only where that is asked for.
fn real_kind() -> Result<()> {
    if std::env::var_os(REAL_CLUSTERS).is_none() {
        bail!(NotRun(format!("it makes a real cluster; set {REAL_CLUSTERS}=1 where kind and its node image are there")));
    }
    docker()?;
    let folder = Folder::new()?;
    let offline: &[&str] = if network() { &[] } else { &["--offline"] };
    let up = [&["up", "--name", "real", "--provider", "kind"], offline].concat();
    let output = folder.lab(&up).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    folder.output(&["down", "--name", "real"])?;
    ensure!(!folder.path().join("state/real").exists());
    Ok(())
}

/// The variable without which no test makes a real cluster.
const REAL_CLUSTERS: &str = "LAB_TEST_REAL_CLUSTERS";
