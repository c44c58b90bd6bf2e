//! kind: a cluster in containers of Docker or podman.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::command::{Output, Program, engine_trouble, version_in};
use super::{Size, Told};
use crate::exit::{Exit, Failure};
use crate::tools;

/// The oldest kind that the generated configuration was written for.
const OLDEST: (u32, u32, u32) = (0, 24, 0);
/// Since when kind configures the kubeadm of Kubernetes 1.36, which no longer reads v1beta3 (kind `kubeadm/config.go`).
const FOR_1_36: (u32, u32, u32) = (0, 32, 0);

/// Where a node has its mark: a folder of the lab's, so that a node that is half made can be told from somebody else's.
const MARK: &str = "/kubevirt-lab";

/// A cluster that is to be made.
pub(crate) struct Making<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// The version of Kubernetes.
    pub(crate) kubernetes: &'a str,
    /// What it is given.
    pub(crate) size: &'a Size,
    /// Where its kubeconfig goes.
    pub(crate) kubeconfig: &'a Path,
    /// The folder of this machine that marks its node as the lab's.
    pub(crate) mark: &'a Path,
    /// Where all goes that kind says, if it fails.
    pub(crate) log: &'a Path,
    /// Whether a node that could not be made stays, to be looked into.
    pub(crate) retain: bool,
}

/// How a node's container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// It runs.
    Running,
    /// All its processes are stopped.
    Paused,
    /// It has ended, as after a restart of the machine.
    Stopped,
}

/// The program `kind`.
pub(crate) struct Kind {
    program: Program,
    engine: String,
    version: (u32, u32, u32),
}

fn shown((major, minor, patch): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{patch}")
}

impl Kind {
    /// Finds kind and checks its version.
    ///
    /// # Errors
    /// When it is missing, too old, or the engine is none of kind's.
    pub(crate) async fn find(driver: Option<&str>, offline: bool, told: Told<'_>) -> Result<Self> {
        let engine = driver.unwrap_or("docker").to_owned();
        if !["docker", "podman"].contains(&engine.as_str()) {
            bail!(Failure::new(Exit::Usage, format!("kind has no driver {engine:?}")).hint("it has docker and podman"));
        }
        let program = match tools::kind(offline, told).await {
            Ok(path) => Program::at(path),
            Err(why) => bail!(
                Failure::new(Exit::EnvironmentMissing, format!("kind is not there: {why}"))
                    .hint("install it from https://kind.sigs.k8s.io, or use the embedded lab: leave --provider out")
            ),
        };
        let program = if engine == "podman" { program.with("KIND_EXPERIMENTAL_PROVIDER", "podman") } else { program };
        let output = program.ask(&["version"]).await?;
        match version_in(&output.out) {
            Some(version) if version >= OLDEST => Ok(Self { program, engine, version }),
            Some(version) => bail!(
                Failure::new(Exit::EnvironmentMissing, format!("kind {} is too old", shown(version)))
                    .hint(format!("{} or newer is needed", shown(OLDEST)))
            ),
            None => {
                bail!(Failure::new(Exit::EnvironmentMissing, format!("kind does not tell its version: {}", output.complaint())))
            }
        }
    }

    fn failed(&self, what: &str, output: &Output) -> Failure {
        let said = output.said();
        let known = engine_trouble(&said, &self.engine).or_else(|| image_trouble(&said)).or_else(|| node_trouble(&said));
        known.unwrap_or_else(|| {
            let quoted = output.quoted().map_or_else(String::new, |quoted| format!(": {quoted}"));
            Failure::new(Exit::LabFailed, format!("kind {what}: {}{quoted}", output.complaint()))
        })
    }

    /// Whether a cluster of that name is there.
    ///
    /// # Errors
    /// When kind or its engine fails.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        let output = self.program.ask(&["get", "clusters"]).await?;
        if !output.ok {
            bail!(self.failed("get clusters", &output));
        }
        Ok(output.out.lines().any(|line| line.trim() == name))
    }

    /// Makes a cluster; its kubeconfig goes where it is wanted, and nowhere else.
    ///
    /// # Errors
    /// When it cannot be made; nothing of it is left then, unless it is to be retained. What kind said is in the log.
    pub(crate) async fn create(&self, making: &Making<'_>, told: Told<'_>) -> Result<()> {
        let Making { name, kubernetes, .. } = *making;
        if install::Minor::of(kubernetes) >= install::Minor::of("1.36") && self.version < FOR_1_36 {
            let message = format!("kind {} cannot make a cluster of Kubernetes {kubernetes}", shown(self.version));
            bail!(
                Failure::new(Exit::EnvironmentMissing, message)
                    .hint(format!("take kind {} or newer, or an older Kubernetes: --kubernetes 1.35", shown(FOR_1_36)))
            );
        }
        let config = config(name, kubernetes, making.size, making.mark)?;
        let text = wire::yaml::to_string(&config).map_err(|error| anyhow::anyhow!("{error}"))?;
        let path = making.kubeconfig.to_string_lossy();
        let mut arguments = vec!["create", "cluster", "--name", name, "--config", "-", "--kubeconfig", &path, "--wait", "180s"];
        if making.retain {
            arguments.push("--retain");
        }
        let stages = |line: &str| {
            if let Some(stage) = stage(line) {
                told(&stage);
            }
        };
        let output = self.program.run(&arguments, Some(&text), &stages).await?;
        if output.ok {
            return Ok(());
        }
        std::fs::write(making.log, output.said())?;
        let mut failure = self.failed("create cluster", &output);
        let look = format!("all that kind said is in {}", making.log.display());
        let retain = if making.retain { "" } else { "; --retain keeps the node, to be looked into" };
        let hint = failure.hint.take().map_or_else(|| format!("{look}{retain}"), |hint| format!("{hint}; {look}"));
        bail!(failure.hint(hint))
    }

    /// Whether the node of a cluster, whole or half made, was made with this mark.
    ///
    /// # Errors
    /// When the engine cannot be started.
    pub(crate) async fn is_marked(&self, name: &str, mark: &Path) -> Result<bool> {
        let format = "{{range .Mounts}}{{.Destination}}={{.Source}}\n{{end}}";
        let mounts = self.ask_engine(&["inspect", "--type", "container", "--format", format, &node(name)]).await?.out;
        Ok(mounts.lines().any(|mount| mount.trim() == format!("{MARK}={}", mark.display())))
    }

    /// How the node of a cluster is; one that the engine does not know is left to the API server's answer.
    ///
    /// # Errors
    /// When the engine cannot be started.
    pub(crate) async fn state(&self, name: &str) -> Result<NodeState> {
        let inspect = ["inspect", "--type", "container", "--format", "{{.State.Status}}", &node(name)];
        Ok(match self.ask_engine(&inspect).await?.out.trim() {
            "paused" => NodeState::Paused,
            "exited" | "created" | "dead" => NodeState::Stopped,
            _ => NodeState::Running,
        })
    }

    /// Starts a node that has ended.
    ///
    /// # Errors
    /// When the engine cannot.
    pub(crate) async fn start(&self, name: &str) -> Result<()> {
        self.engine(&["start", &node(name)]).await.map(|_| ())
    }

    /// What the engine answers; nothing where this machine has none.
    async fn ask_engine(&self, arguments: &[&str]) -> Result<Output> {
        match super::bundle::engine(&self.engine) {
            Ok(engine) => engine.ask(arguments).await,
            Err(_) => Ok(Output::default()),
        }
    }

    /// Whether the network is there that kind makes for its first cluster and never removes.
    ///
    /// # Errors
    /// When the engine cannot be started.
    pub(crate) async fn has_network(&self) -> Result<bool> {
        Ok(self.ask_engine(&["network", "inspect", NETWORK]).await?.ok)
    }

    /// Removes that network, unless another cluster uses it.
    ///
    /// # Errors
    /// When kind or the engine does not answer.
    pub(crate) async fn remove_network(&self) -> Result<()> {
        let output = self.program.ask(&["get", "clusters"]).await?;
        let last = output.ok && output.out.trim().is_empty();
        if last && self.has_network().await? {
            // The engine refuses while a container is in it: then it is still needed.
            self.ask_engine(&["network", "rm", NETWORK]).await?;
        }
        Ok(())
    }

    /// Writes the kubeconfig of a cluster that is there.
    ///
    /// # Errors
    /// When kind cannot.
    pub(crate) async fn kubeconfig(&self, name: &str) -> Result<String> {
        let output = self.program.ask(&["get", "kubeconfig", "--name", name]).await?;
        if !output.ok {
            bail!(self.failed("get kubeconfig", &output));
        }
        Ok(output.out)
    }

    /// Gives the engine the node image out of an archive.
    ///
    /// # Errors
    /// When the engine cannot load it.
    pub(crate) async fn load_node(&self, archive: &Path) -> Result<()> {
        let engine = super::bundle::engine(&self.engine)?;
        let output = engine.ask(&["load", "--input", &archive.to_string_lossy()]).await?;
        if !output.ok {
            bail!(self.failed("node image", &output));
        }
        Ok(())
    }

    /// Puts the images of an archive into the nodes.
    ///
    /// # Errors
    /// When kind cannot.
    pub(crate) async fn load(&self, name: &str, archive: &Path) -> Result<()> {
        let output = self.program.ask(&["load", "image-archive", &archive.to_string_lossy(), "--name", name]).await?;
        if !output.ok {
            bail!(self.failed("load image-archive", &output));
        }
        Ok(())
    }

    /// Stops every process of the node, as a machine that hangs: the API server, the kubelet, and all pods.
    ///
    /// # Errors
    /// When the engine cannot.
    pub(crate) async fn pause(&self, name: &str) -> Result<()> {
        self.engine(&["pause", &node(name)]).await.map(|_| ())
    }

    /// Makes the node drop what comes for the API server, from pods and from this machine: nobody is refused, nobody is answered.
    ///
    /// # Errors
    /// When the engine cannot, or the node has no iptables.
    pub(crate) async fn drop_packets(&self, name: &str) -> Result<()> {
        if self.rule(name, "-C").await.is_ok() {
            return Ok(());
        }
        self.rule(name, "-I").await
    }

    /// Takes a pause and dropped packets back; whether there were any.
    ///
    /// # Errors
    /// When the engine cannot.
    pub(crate) async fn restore(&self, name: &str) -> Result<bool> {
        let paused = self.engine(&["inspect", "--format", "{{.State.Paused}}", &node(name)]).await?.trim() == "true";
        if paused {
            self.engine(&["unpause", &node(name)]).await?;
        }
        let dropped = self.rule(name, "-C").await.is_ok();
        if dropped {
            self.rule(name, "-D").await?;
        }
        Ok(paused || dropped)
    }

    /// Adds (`-I`), deletes (`-D`) or looks for (`-C`) the rule that drops packets for the API server.
    async fn rule(&self, name: &str, action: &str) -> Result<()> {
        let node = node(name);
        let rule = ["-p", "tcp", "--dport", "6443", "-m", "comment", "--comment", "kubevirt-lab", "-j", "DROP"];
        let mut arguments = vec!["exec", &node, "iptables", action, "INPUT"];
        arguments.extend(rule);
        self.engine(&arguments).await.map(|_| ())
    }

    async fn engine(&self, arguments: &[&str]) -> Result<String> {
        super::bundle::must(&super::bundle::engine(&self.engine)?, &self.engine, arguments).await
    }

    /// Deletes a cluster.
    ///
    /// # Errors
    /// When kind cannot.
    pub(crate) async fn delete(&self, name: &str, kubeconfig: &Path) -> Result<()> {
        let path = kubeconfig.to_string_lossy();
        let output = self.program.ask(&["delete", "cluster", "--name", name, "--kubeconfig", &path]).await?;
        if !output.ok {
            bail!(self.failed("delete cluster", &output));
        }
        Ok(())
    }
}

/// The network of all clusters of kind.
const NETWORK: &str = "kind";

/// The container of a cluster's only node.
fn node(name: &str) -> String {
    format!("{name}-control-plane")
}

/// A stage that kind says it is at: ` • Preparing nodes 📦  ...` is `Preparing nodes`.
fn stage(line: &str) -> Option<String> {
    let line = line.trim().strip_prefix('•')?.trim();
    let words: Vec<&str> = line.split_whitespace().filter(|word| word.is_ascii() && *word != "...").collect();
    Some(words.join(" ").to_lowercase())
}

fn image_trouble(said: &str) -> Option<Failure> {
    let image = said.split("failed to pull image \"").nth(1)?.split(['"', '@']).next()?;
    Some(
        Failure::new(Exit::EnvironmentMissing, format!("the node image {image} cannot be had"))
            .hint("see that the registry can be reached, load it by hand (`docker load`), or give a --bundle that holds it"),
    )
}

/// A node whose container the engine does not start: kind's own line is its whole command.
fn node_trouble(said: &str) -> Option<Failure> {
    if !said.contains(" run --name ") || !said.contains("--privileged") {
        return None;
    }
    let why = said.split("Command Output:").nth(1).unwrap_or_default();
    let why = why.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
    Some(
        Failure::new(Exit::EnvironmentMissing, format!("the node's container does not start: {why}"))
            .hint("kind needs privileged containers; where they are not allowed, use the embedded lab"),
    )
}

/// The configuration of a cluster.
fn config(name: &str, kubernetes: &str, size: &Size, mark: &Path) -> Result<Value> {
    let patch = |value: Value| wire::yaml::to_string(&value).map_err(|error| anyhow::anyhow!("{error}"));
    // kubeadm writes extra arguments as a map until v1beta3 and as a list since; a patch applies to the version that it names.
    let everywhere = json!({"bind-address": "0.0.0.0"});
    let listed = json!([{"name": "bind-address", "value": "0.0.0.0"}]);
    let controller =
        json!([{"name": "bind-address", "value": "0.0.0.0"}, {"name": "enable-hostpath-provisioner", "value": "true"}]);
    let cluster = |version: &str, controller: &Value, scheduler: &Value| {
        patch(json!({
            "kind": "ClusterConfiguration", "apiVersion": format!("kubeadm.k8s.io/{version}"),
            "controllerManager": {"extraArgs": controller}, "scheduler": {"extraArgs": scheduler},
        }))
    };
    let patches = vec![
        cluster("v1beta3", &everywhere, &everywhere)?,
        cluster("v1beta4", &controller, &listed)?,
        // The default minute would pass before a change of a configuration reaches Prometheus.
        patch(json!({"kind": "KubeletConfiguration", "syncFrequency": "10s"}))?,
    ];
    let given = size.mounts.iter().map(|(host, node)| json!({"hostPath": host, "containerPath": node}));
    let mark = json!({"hostPath": mark, "containerPath": MARK, "readOnly": true});
    let mounts: Vec<Value> = given.chain([mark]).collect();
    let node = json!({
        "role": "control-plane", "image": format!("kindest/node:{kubernetes}"), "kubeadmConfigPatches": patches, "extraMounts": mounts,
    });
    let mut networking = json!({"apiServerAddress": "127.0.0.1"});
    if let Some(port) = size.api_port {
        networking["apiServerPort"] = port.into();
    }
    let mut config = json!({
        "kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "name": name, "networking": networking, "nodes": [node],
    });
    if !size.feature_gates.is_empty() {
        config["featureGates"] = gates(&size.feature_gates)?;
    }
    Ok(config)
}

fn gates(given: &[String]) -> Result<Value> {
    let mut gates = json!({});
    for gate in given {
        let parsed = gate.split_once('=').and_then(|(name, on)| Some((name, on.parse::<bool>().ok()?)));
        let Some((name, on)) = parsed else {
            bail!(Failure::new(Exit::Usage, format!("{gate:?} is no feature gate")).hint("write NAME=true or NAME=false"));
        };
        gates[name] = on.into();
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_named() {
        assert_eq!(
            stage(" • Ensuring node image (kindest/node:v1.36.2) 🖼️  ...").as_deref(),
            Some("ensuring node image (kindest/node:v1.36.2)")
        );
        assert_eq!(stage(" • Preparing nodes 📦   ...").as_deref(), Some("preparing nodes"));
        assert_eq!(stage(" ✓ Preparing nodes 📦 "), None);
        assert_eq!(stage("Creating cluster \"lab\" ..."), None);
    }

    #[test]
    fn trouble_of_a_node_is_one_line() {
        let pull = "ERROR: failed to create cluster: failed to pull image \"kindest/node:v1.37.0@sha256:abc\": command \"docker pull\" failed";
        assert_eq!(image_trouble(pull).unwrap().message, "the node image kindest/node:v1.37.0 cannot be had");
        let run = "ERROR: failed to create cluster: command \"docker run --name lab-control-plane --privileged\" failed with error: exit status 126\n\
                   Command Output: 0123\ndocker: Error response from daemon: operation not permitted\n";
        let message = "the node's container does not start: docker: Error response from daemon: operation not permitted";
        assert_eq!(node_trouble(run).unwrap().message, message);
        assert!(node_trouble(pull).is_none());
    }

    #[test]
    fn a_cluster_is_described() {
        let size = Size {
            cpus: None,
            memory: None,
            disk: None,
            feature_gates: vec!["A=true".to_owned()],
            mounts: vec![("/tmp/x".into(), "/x".to_owned())],
            api_port: Some(7443),
            driver: None,
        };
        insta::assert_snapshot!(
            wire::yaml::to_string(&config("lab", "v1.36.1", &size, Path::new("/labs/lab/mark")).unwrap()).unwrap()
        );
        let bad = Size { feature_gates: vec!["A".to_owned()], ..size };
        assert!(config("lab", "v1.36.1", &bad, Path::new("/m")).unwrap_err().to_string().contains("no feature gate"));
    }
}
