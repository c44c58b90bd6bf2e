//! Runs a provider's program: found on the search path, given arguments and nothing of a shell, its output told line by line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use xshell::{Shell, cmd};

use super::Told;
use crate::exit::{Exit, Failure};
use crate::tools;

/// A program of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// The program at a path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, variables: Vec::new() }
    }

    /// A program on the search path.
    ///
    /// # Errors
    /// When there is none; `hint` says where it is to be had.
    pub(crate) fn find(name: &str, hint: &str) -> Result<Self> {
        match tools::on_path(name) {
            Some(path) => Ok(Self::at(path)),
            None => bail!(Failure::new(Exit::EnvironmentMissing, format!("{name} is not on the search path")).hint(hint)),
        }
    }

    /// The same program with a variable in its environment.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Runs it for its answer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<Output> {
        self.run(arguments, None, &|_| {}).await
    }

    /// Runs it, tells each line of its standard error as it comes, and gives it `input` to read.
    ///
    /// Whoever drops the future ends the program, and all that it has started.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn run(&self, arguments: &[&str], input: Option<&str>, told: Told<'_>) -> Result<Output> {
        let shell = Shell::new().context("no working directory")?;
        let (path, arguments) = (&self.path, arguments.iter().map(OsString::from).collect::<Vec<_>>());
        let prepared = cmd!(shell, "{path} {arguments...}").envs(self.variables.iter().map(|(name, value)| (*name, value)));
        let mut command = tokio::process::Command::from(std::process::Command::from(prepared));
        command
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C in the terminal is for us, and we end the whole group.
            .process_group(0)
            .kill_on_drop(true);
        // Nobody goes on making a cluster of which nobody knows.
        cluster::die_with_parent(&mut command);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?;
        let group = Group(child.id());
        if let (Some(text), Some(mut to)) = (input, child.stdin.take()) {
            // A program that does not read to the end says so by its exit.
            let _ = to.write_all(text.as_bytes()).await;
        }
        let (out, err) = (child.stdout.take().context("no output")?, child.stderr.take().context("no errors")?);
        let read_out = async {
            let mut text = String::new();
            let _ = tokio::io::AsyncReadExt::read_to_string(&mut BufReader::new(out), &mut text).await;
            text
        };
        let read_err = async {
            let mut text = String::new();
            let mut lines = BufReader::new(err).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                told(&line);
                text.push_str(&line);
                text.push('\n');
            }
            text
        };
        let (out, err, status) = tokio::join!(read_out, read_err, child.wait());
        group.forget();
        Ok(Output { ok: status?.success(), out, err })
    }
}

/// The processes that a program and its children are.
struct Group(Option<u32>);

impl Group {
    /// They have ended.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group.cast_signed()), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

impl Output {
    /// All that it said.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.err, self.out)
    }

    /// What a command said that kind ran and that failed; kind quotes it after its own complaint.
    pub(crate) fn quoted(&self) -> Option<&str> {
        let quoted = self.err.split_once("\nCommand Output:")?.1;
        let lines = || quoted.lines().map(str::trim).filter(|line| !line.is_empty());
        let is_reason =
            |line: &&str| ["error", "[error", "fatal", "failed"].iter().any(|word| line.to_ascii_lowercase().starts_with(word));
        lines().find(is_reason).or_else(|| lines().next_back())
    }

    /// The line that says what went wrong.
    pub(crate) fn complaint(&self) -> String {
        let lines = || self.err.lines().chain(self.out.lines()).map(str::trim).filter(|line| !line.is_empty());
        let marked = lines().find(|line| ["ERROR:", "error:", "X ", "❌"].iter().any(|mark| line.starts_with(mark)));
        let line = marked.or_else(|| lines().next_back()).unwrap_or("it said nothing");
        line.trim_start_matches("ERROR:")
            .trim_start_matches("error:")
            .trim_start_matches("X ")
            .trim_start_matches('❌')
            .trim()
            .to_owned()
    }
}

/// The first number of the form `1.2.3` in a text.
pub(crate) fn version_in(text: &str) -> Option<(u32, u32, u32)> {
    text.split(|letter: char| !(letter.is_ascii_digit() || letter == '.')).find_map(|word| {
        let mut parts = word.split('.').map(str::parse);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some((major, minor, patch)),
            _ => None,
        }
    })
}

/// What a complaint about the container engine means, if it is one: one line, and what to do.
pub(crate) fn engine_trouble(said: &str, engine: &str) -> Option<Failure> {
    let failure =
        |message: &str, hint: &str| Some(Failure::new(Exit::EnvironmentMissing, message.to_owned()).hint(hint.to_owned()));
    if said.contains("permission denied") && said.contains("sock") {
        return failure(
            &format!("no permission on {engine}'s socket"),
            "add yourself to its group (`sudo usermod -aG docker $USER`, then log in again), or use the embedded lab",
        );
    }
    if said.contains("Cannot connect to the Docker daemon") || said.contains("failed to get docker info") {
        return failure(&format!("{engine} does not run"), "start it (`sudo systemctl start docker`), or use the embedded lab");
    }
    // What is not found inside of a node is another matter.
    if said.contains(&format!("exec: \"{engine}\": executable file not found in $PATH")) {
        return failure(&format!("{engine} is not on the search path"), "install it, or use the embedded lab");
    }
    if said.contains("no space left on device") {
        return failure(&format!("{engine} has no disk space left"), "free some (`docker system df`, `docker system prune`)");
    }
    if said.contains("cannot allocate memory") || said.contains("out of memory") {
        return failure(&format!("{engine} has too little memory"), "a lab needs about 8 GB; see docs/providers.md");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(err: &str) -> Output {
        Output { ok: false, out: String::new(), err: err.to_owned() }
    }

    #[test]
    fn the_line_that_complains_is_found() {
        for (err, wanted) in [
            (
                "cgroup v1 is deprecated\nERROR: failed to create cluster: node(s) already exist\n",
                "failed to create cluster: node(s) already exist",
            ),
            ("😄  minikube v1.37.0\n❌  Exiting due to MK_USAGE: no\n", "Exiting due to MK_USAGE: no"),
            ("only this\n\n", "only this"),
            ("", "it said nothing"),
        ] {
            assert_eq!(said(err).complaint(), wanted);
        }
    }

    #[test]
    fn what_a_command_of_kind_said_is_found() {
        for (err, wanted) in [
            ("ERROR: failed to create cluster: x\n", None),
            (
                "ERROR: failed: command \"docker exec\" failed\nCommand Output: I1130 a\nerror: cannot pull\nmore\n",
                Some("error: cannot pull"),
            ),
            ("ERROR: failed: command \"docker run\" failed\nCommand Output: 0123\nlast\n\n", Some("last")),
        ] {
            assert_eq!(said(err).quoted(), wanted, "{err}");
        }
    }

    #[test]
    fn trouble_of_the_engine_is_one_line() {
        for (text, wanted) in [
            ("Cannot connect to the Docker daemon at unix:///nosuch.sock. Is the docker daemon running?", "docker does not run"),
            (
                "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
                "no permission on docker's socket",
            ),
            ("exec: \"docker\": executable file not found in $PATH", "docker is not on the search path"),
            ("write /var/lib: no space left on device", "docker has no disk space left"),
            ("fork: cannot allocate memory", "docker has too little memory"),
        ] {
            assert_eq!(engine_trouble(text, "docker").map(|failure| failure.message).as_deref(), Some(wanted));
        }
        for other in [
            "node(s) already exist",
            "command \"docker exec a-control-plane\" failed: exec: \"crictl\": executable file not found in $PATH",
        ] {
            assert!(engine_trouble(other, "docker").is_none(), "{other}");
        }
    }

    #[test]
    fn versions_are_read() {
        for (text, wanted) in
            [("kind v0.33.0 go1.27.2 linux/amd64\n", Some((0, 33, 0))), ("v1.37.0", Some((1, 37, 0))), ("nothing", None)]
        {
            assert_eq!(version_in(text), wanted);
        }
    }

    #[tokio::test]
    async fn a_program_is_run_without_a_shell() {
        let program = Program::at("/bin/echo".into());
        let output = program.ask(&["$HOME", "a b; c"]).await.unwrap();
        assert!(output.ok);
        assert_eq!(output.out, "$HOME a b; c\n");
        let cat = Program::at("/bin/cat".into());
        assert_eq!(cat.run(&["-"], Some("given"), &|_| {}).await.unwrap().out, "given");
    }
}
