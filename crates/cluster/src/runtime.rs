//! What a node answers the API server about its pods: logs, exec, attach, and connections to their ports.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use apiserver::{ExecError, Execution, PodBackend};
use futures_util::future::BoxFuture;
use http::Response;
use kubeapi::{Query, Status, object};
use serde_json::Value;
use tokio::net::TcpStream;
use wire::Body;

use crate::LogStore;
use crate::program::{ContainerContext, Program};

/// A container that runs.
#[derive(Clone)]
struct Running {
    program: Arc<dyn Program>,
    context: ContainerContext,
}

/// The containers of a lab's node, as the API server reaches them.
pub struct Runtime {
    logs: LogStore,
    /// By pod uid and container.
    running: Mutex<HashMap<(String, String), Running>>,
}

/// Takes a container out of the list when it has ended, whatever way it ends.
pub(crate) struct Entry<'a> {
    runtime: &'a Runtime,
    key: (String, String),
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.runtime.running.lock().expect("no panic while held").remove(&self.key);
    }
}

impl Runtime {
    /// A node without containers that keeps logs below a folder.
    pub fn new(logs: LogStore) -> Self {
        Self { logs, running: Mutex::default() }
    }

    pub(crate) fn logs(&self) -> &LogStore {
        &self.logs
    }

    /// Lists a container as running as long as the entry lives.
    pub(crate) fn enter(&self, program: Arc<dyn Program>, context: ContainerContext) -> Entry<'_> {
        let container = context.container["name"].as_str().unwrap_or_default().to_owned();
        let key = (object::uid(&context.pod).to_owned(), container);
        self.running.lock().expect("no panic while held").insert(key.clone(), Running { program, context });
        Entry { runtime: self, key }
    }

    /// The containers that are processes of this machine: uid of the pod, name of the container, number of the process.
    pub fn processes(&self) -> Vec<(String, String, u32)> {
        let running = self.running.lock().expect("no panic while held");
        running
            .iter()
            .map(|((uid, container), running)| (uid.clone(), container.clone(), running.context.process.load(Ordering::Relaxed)))
            .filter(|(.., process)| *process != 0)
            .collect()
    }

    fn find(&self, pod: &Value, container: &str) -> Result<Running, ExecError> {
        let key = (object::uid(pod).to_owned(), container.to_owned());
        let running = self.running.lock().expect("no panic while held").get(&key).cloned();
        running.ok_or_else(|| ExecError::NoContainer(container.to_owned()))
    }

    fn start(&self, pod: &Value, container: &str, command: &[String]) -> Result<Execution, ExecError> {
        let Running { program, context } = self.find(pod, container)?;
        let name = command.first().map(String::as_str).unwrap_or_default();
        let failed = |why: String| {
            let message = "error executing command in container: failed to exec in container: unable to start container process";
            ExecError::Start(format!("{message}: exec: \"{name}\": {why}"))
        };
        let mut process = program.command(&context, command).ok_or_else(|| {
            failed("executable file not found in $PATH (the container is simulated: it has no files)".to_owned())
        })?;
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = process.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed("executable file not found in $PATH".to_owned()),
            _ => failed(error.to_string()),
        })?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(failed("its streams were lost".to_owned()));
        };
        let stop = context.stop.clone();
        let exit = async move {
            tokio::select! {
                status = child.wait() => status.map_or(137, crate::process::exit_code),
                // It ends with its container.
                () = stop.cancelled() => 137,
            }
        };
        Ok(Execution { stdin: Box::pin(stdin), stdout: Box::pin(stdout), stderr: Box::pin(stderr), exit: Box::pin(exit) })
    }
}

impl PodBackend for Runtime {
    fn logs<'a>(&'a self, pod: &'a Value, container: &'a str, query: &'a Query) -> BoxFuture<'a, Result<Response<Body>, Status>> {
        Box::pin(self.logs.answer(pod, container, query))
    }

    fn dial<'a>(&'a self, pod: &'a Value, port: u16) -> BoxFuture<'a, io::Result<TcpStream>> {
        Box::pin(async move {
            // Only what runs here is dialled: a pod's status is something that clients can write.
            let uid = object::uid(pod);
            let address = {
                let running = self.running.lock().expect("no panic while held");
                running.iter().find(|((of, _), _)| of == uid).map(|(_, running)| running.context.address)
            };
            let address = address.ok_or_else(|| io::Error::other("the pod has no running container"))?;
            TcpStream::connect(SocketAddr::new(IpAddr::V4(address), port)).await.map_err(|error| {
                // In Go's words, which end up in kubectl's output.
                let why = match error.kind() {
                    io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    _ => error.to_string(),
                };
                io::Error::new(error.kind(), format!("dial tcp4 {address}:{port}: connect: {why}"))
            })
        })
    }

    fn exec<'a>(
        &'a self,
        pod: &'a Value,
        container: &'a str,
        command: &'a [String],
    ) -> BoxFuture<'a, Result<Execution, ExecError>> {
        Box::pin(async move { self.start(pod, container, command) })
    }

    fn attach<'a>(&'a self, pod: &'a Value, container: &'a str) -> BoxFuture<'a, Result<Execution, ExecError>> {
        Box::pin(async move {
            let running = self.find(pod, container)?;
            let stdout = self.logs.attach(pod, container).ok_or_else(|| ExecError::NoContainer(container.to_owned()))?;
            // What a program writes is one log: nobody can tell its errors apart any more.
            let stop = running.context.stop;
            Ok(Execution {
                stdin: Box::pin(tokio::io::sink()),
                stdout: Box::pin(stdout),
                stderr: Box::pin(tokio::io::empty()),
                exit: Box::pin(async move {
                    stop.cancelled().await;
                    0
                }),
            })
        })
    }
}
