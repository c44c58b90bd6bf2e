//! Images that are programs of this machine.
//!
//! A process gets a group of its own and dies with the lab: by SIGTERM and then SIGKILL when its container is stopped, by the
//! kernel (`PR_SET_PDEATHSIG`) when the lab's process is killed, and by the next start, which reads the pid files, where the
//! system has no such signal.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::LogWriter;
use crate::program::{ContainerContext, Exit, Program};

/// How long a process has after SIGTERM.
const TERMINATION: Duration = Duration::from_millis(700);

type Adapt = dyn Fn(&ContainerContext, Vec<String>) -> Vec<String> + Send + Sync;

/// A program of this machine that stands for an image.
pub struct ProcessProgram {
    path: PathBuf,
    adapt: Box<Adapt>,
    pid_folder: PathBuf,
    folder: Option<PathBuf>,
}

impl ProcessProgram {
    /// A program whose arguments are the container's, after `adapt` made them fit a machine without mount namespaces.
    pub fn new(
        path: PathBuf,
        pid_folder: PathBuf,
        adapt: impl Fn(&ContainerContext, Vec<String>) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { path, adapt: Box::new(adapt), pid_folder, folder: None }
    }

    /// The same with a working folder of its own, for a program that looks for files from there.
    #[must_use]
    pub fn in_folder(mut self, folder: PathBuf) -> Self {
        self.folder = Some(folder);
        self
    }

    async fn start(&self, context: &ContainerContext) -> std::io::Result<Exit> {
        let arguments = (self.adapt)(context, context.arguments());
        let mut command = prepare(&self.path, context);
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        context.process.store(pid, Ordering::Relaxed);
        let pid_file = self.pid_folder.join(pid.to_string());
        let _ = std::fs::create_dir_all(&self.pid_folder);
        let _ = std::fs::write(&pid_file, self.path.to_string_lossy().as_bytes());
        let outputs = [
            child.stdout.take().map(|pipe| tokio::spawn(copy_lines(pipe, context.logs.clone()))),
            child.stderr.take().map(|pipe| tokio::spawn(copy_lines(pipe, context.logs.clone()))),
        ];
        let status = tokio::select! {
            status = child.wait() => status?,
            () = context.stop.cancelled() => {
                let group = Pid::from_raw(pid.cast_signed());
                let _ = killpg(group, Signal::SIGTERM);
                match tokio::time::timeout(TERMINATION, child.wait()).await {
                    Ok(status) => status?,
                    Err(_) => {
                        let _ = killpg(group, Signal::SIGKILL);
                        child.wait().await?
                    }
                }
            }
        };
        context.process.store(0, Ordering::Relaxed);
        let _ = std::fs::remove_file(pid_file);
        for output in outputs.into_iter().flatten() {
            // A grandchild may hold the pipe; the log is not worth waiting for it.
            let _ = tokio::time::timeout(Duration::from_millis(100), output).await;
        }
        Ok(Exit::code(exit_code(status)))
    }
}

/// The exit code as a shell counts: signals from 128 on.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A command with a container's environment, in a group of its own, that does not outlive the lab.
fn prepare(path: &Path, context: &ContainerContext) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(path);
    command
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME" | "TZ" | "LANG")))
        .envs(&context.env)
        .process_group(0);
    die_with_parent(&mut command);
    command
}

impl Program for ProcessProgram {
    fn run(self: Arc<Self>, context: ContainerContext) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            match self.start(&context).await {
                Ok(exit) => exit,
                Err(error) => {
                    context.logs.line(&format!("cannot start {}: {error}", self.path.display()));
                    Exit { code: 128, reason: "StartError".to_owned() }
                }
            }
        })
    }

    /// Programs of the same folder come first, as `promtool` lies beside `prometheus`; then those of this machine.
    fn command(&self, context: &ContainerContext, command: &[String]) -> Option<tokio::process::Command> {
        let (program, arguments) = command.split_first()?;
        let base = Path::new(program).file_name()?;
        let beside = self.path.parent().map(|folder| folder.join(base)).filter(|path| path.is_file());
        let mut process = prepare(&beside.unwrap_or_else(|| program.into()), context);
        process.args(arguments.iter().map(|argument| context.localise(argument)));
        Some(process)
    }
}

async fn copy_lines(pipe: impl AsyncRead + Unpin, logs: LogWriter) {
    let mut lines = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        logs.line(&String::from_utf8_lossy(&line));
    }
}

/// Makes a program that is started end with this one, however this one ends; on Linux alone.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "pre_exec is the only place where a child can ask to die with its parent")]
pub fn die_with_parent(command: &mut tokio::process::Command) {
    // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
    }
}

/// Makes a program that is started end with this one, however this one ends; on Linux alone.
#[cfg(not(target_os = "linux"))]
pub fn die_with_parent(_command: &mut tokio::process::Command) {}

/// Kills processes that a lab left behind when it was killed itself; how many there were.
pub fn kill_leftovers(pid_folder: &Path) -> usize {
    let mut killed = 0;
    for entry in std::fs::read_dir(pid_folder).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let program = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some(pid) = pid
            && !program.is_empty()
            && runs(pid, &program)
        {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            killed += 1;
        }
        let _ = std::fs::remove_file(entry.path());
    }
    killed
}

/// Whether the process still is that program, and not another one that got its number.
fn runs(pid: i32, program: &str) -> bool {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(path) => path == Path::new(program) || path.canonicalize().ok() == Path::new(program).canonicalize().ok(),
        Err(_) => false,
    }
}
