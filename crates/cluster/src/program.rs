//! What an image name stands for.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::LogWriter;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 137 and 143 for signals, as a shell counts.
    pub code: i32,
    /// `Completed`, `Error`, or a word of the program's own.
    pub reason: String,
}

impl Exit {
    /// The exit that goes with a code.
    pub fn code(code: i32) -> Self {
        Self { code, reason: if code == 0 { "Completed".to_owned() } else { "Error".to_owned() } }
    }
}

/// A volume's folder under the path that the container knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The path in the container.
    pub path: String,
    /// The folder on this machine.
    pub folder: PathBuf,
}

/// Everything that a running container has.
#[derive(Clone)]
pub struct ContainerContext {
    /// Its pod, as it was when it came to the node, without its status.
    pub pod: Arc<Value>,
    /// Its entry in the pod's spec.
    pub container: Arc<Value>,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Where it reaches the API server: the `kubernetes` Service.
    pub api: SocketAddr,
    /// The certificate that signs the API server's.
    pub authority_pem: Arc<str>,
    /// The token of the pod's ServiceAccount; empty without one.
    pub token: Arc<str>,
    /// Environment, field references resolved.
    pub env: BTreeMap<String, String>,
    /// Mounted folders, the ServiceAccount's among them.
    pub mounts: Arc<[Mount]>,
    /// What any container of the pod has mounted.
    pub pod_mounts: Arc<[Mount]>,
    /// Changes whenever the content of a mounted folder changes.
    pub volumes: watch::Receiver<u64>,
    /// Where its output goes.
    pub logs: LogWriter,
    /// Counts the starts of this container from 0.
    pub restarts: u32,
    /// Cancelled when it is to stop.
    pub stop: CancellationToken,
    /// The process that runs in it, once there is one; 0 for a task of this process.
    pub process: Arc<AtomicU32>,
}

impl ContainerContext {
    /// The pod's name.
    pub fn pod_name(&self) -> &str {
        kubeapi::object::name(&self.pod)
    }

    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        kubeapi::object::namespace(&self.pod)
    }

    /// Command and arguments of the spec, `$(VARIABLE)` replaced.
    pub fn arguments(&self) -> Vec<String> {
        ["command", "args"]
            .iter()
            .flat_map(|key| self.container[*key].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .map(|text| self.expand(text))
            .collect()
    }

    fn expand(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (name, value) in &self.env {
            out = out.replace(&format!("$({name})"), value);
        }
        out
    }

    /// The place on this machine of a path in the container, if a volume is mounted there.
    pub fn host_path(&self, path: &str) -> Option<PathBuf> {
        let mount = self
            .mounts
            .iter()
            .filter(|mount| path == mount.path || path.starts_with(&format!("{}/", mount.path.trim_end_matches('/'))))
            .max_by_key(|mount| mount.path.len())?;
        let rest = path[mount.path.trim_end_matches('/').len()..].trim_start_matches('/');
        Some(if rest.is_empty() { mount.folder.clone() } else { mount.folder.join(rest) })
    }

    /// A text with every mounted path in it replaced by its place on this machine.
    pub fn localise(&self, text: &str) -> String {
        localise(&self.mounts, text)
    }

    /// The same for a text that another container of the pod will read.
    pub fn localise_for_pod(&self, text: &str) -> String {
        localise(&self.pod_mounts, text)
    }
}

fn localise(mounts: &[Mount], text: &str) -> String {
    let is_path = |character: char| character.is_alphanumeric() || "/._-".contains(character);
    let mut mounts: Vec<&Mount> = mounts.iter().collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.path.len()));
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(character) = rest.chars().next() {
        // One pass: what was put in is not looked at again, and a path begins where none is going on.
        let found = if character == '/' && !before.is_some_and(is_path) {
            mounts.iter().find_map(|mount| {
                let path = mount.path.trim_end_matches('/');
                let tail = rest.strip_prefix(path)?;
                let whole = tail.chars().next().is_none_or(|next| next == '/' || !is_path(next));
                whole.then_some((mount, tail))
            })
        } else {
            None
        };
        match found {
            Some((mount, tail)) => {
                out.push_str(&mount.folder.to_string_lossy());
                rest = tail;
                before = Some('/');
            }
            None => {
                out.push(character);
                rest = &rest[character.len_utf8()..];
                before = Some(character);
            }
        }
    }
    out
}

/// What runs in a container.
pub trait Program: Send + Sync + 'static {
    /// Runs until it ends by itself or `context.stop` is cancelled; then it has a moment to end before it is dropped.
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit>;

    /// A command to be run beside it, as `kubectl exec` wants; `None` where there is nothing to run one in.
    fn command(&self, _context: &ContainerContext, _command: &[String]) -> Option<tokio::process::Command> {
        None
    }
}

/// The images that this machine "has".
pub trait Images: Send + Sync + 'static {
    /// The program of an image; `None` is an image that cannot be pulled.
    fn find(&self, image: &str) -> Option<Arc<dyn Program>>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn context(mounts: Vec<Mount>) -> ContainerContext {
        ContainerContext {
            pod: Arc::default(),
            container: Arc::new(serde_json::json!({"command": ["run"], "args": ["--name=$(POD_NAME)"]})),
            address: Ipv4Addr::LOCALHOST,
            api: SocketAddr::from(([127, 0, 0, 1], 1)),
            authority_pem: "".into(),
            token: "".into(),
            env: [("POD_NAME".to_owned(), "p-0".to_owned())].into(),
            pod_mounts: mounts.clone().into(),
            mounts: mounts.into(),
            volumes: watch::channel(0).1,
            logs: LogWriter::discard(),
            restarts: 0,
            stop: CancellationToken::new(),
            process: Arc::default(),
        }
    }

    #[test]
    fn paths_are_those_of_the_longest_mount() {
        let mount = |path: &str, folder: &str| Mount { path: path.to_owned(), folder: folder.into() };
        let context = context(vec![mount("/etc/p", "/h/p"), mount("/etc/p/config_out", "/h/out"), mount("/data/", "/h/d")]);
        for (path, expected) in [
            ("/etc/p/x.yaml", Some("/h/p/x.yaml")),
            ("/etc/p/config_out/y", Some("/h/out/y")),
            ("/etc/prometheus", None),
            ("/data", None),
            ("/data/z", Some("/h/d/z")),
        ] {
            assert_eq!(context.host_path(path), expected.map(PathBuf::from), "{path}");
        }
        assert_eq!(context.localise("--config.file=/etc/p/config_out/y"), "--config.file=/h/out/y");
        assert_eq!(context.localise("/x/etc/p /etc/prom /data"), "/x/etc/p /etc/prom /h/d");
        assert_eq!(context.arguments(), ["run", "--name=p-0"]);
    }
}
