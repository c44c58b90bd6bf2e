//! The command line: parsed here, each command in a file of its own.

/// Prints a line. A reader that went away (`lab status | head`) ends the program quietly.
macro_rules! say {
    () => { $crate::commands::write_out("\n") };
    ($($argument:tt)*) => { $crate::commands::write_out(&format!("{}\n", format_args!($($argument)*))) };
}

/// Prints a text that ends its own lines.
macro_rules! say_text {
    ($text:expr) => {
        $crate::commands::write_out(&$text)
    };
}

mod apiserver;
mod bundle;
mod contract;
mod doctor;
mod down;
mod export;
mod fault;
mod kubeconfig;
mod ledger;
mod logs;
mod notifications;
mod open;
mod operator;
mod query;
mod releases;
mod review;
mod rules;
mod scenario;
mod status;
mod supervise;
mod up;
mod vm;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use contract::{missing_reads, source as contract_source};

use crate::control::Control;
use crate::exit::{Exit, Failure};
use crate::provider::record::ClusterRecord;
use crate::reach;
use crate::state::{LabDir, StateRoot};

/// A lab for KubeVirt monitoring: a cluster with Prometheus and KubeVirt, with faults on its API.
#[derive(Parser)]
#[command(name = "lab", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a lab up and show its targets and first series.
    Up(Box<up::Up>),
    /// Take a lab down and remove what it left.
    Down(down::Down),
    /// Collect the manifests and images of three releases in a file, for a machine without a network.
    Bundle(bundle::BundleCommand),
    /// List the releases of KubeVirt that can be simulated, and what each was compared with.
    Releases(releases::Releases),
    /// Show what runs, where, and what of it is simulated.
    Status(status::Status),
    /// Print a pod's log.
    Logs(logs::Logs),
    /// Create, list and delete virtual machines.
    #[command(subcommand)]
    Vm(vm::Vm),
    /// Ask the lab's Prometheus.
    Query(query::Query),
    /// Open a way to Prometheus, Grafana, Alertmanager or a component's metrics.
    Open(open::Open),
    /// Write objects, logs, events, ledger and what Prometheus knows into a folder, to be looked at elsewhere.
    Export(export::ExportCommand),
    /// Show what Alertmanager has sent to the lab: which alerts fired, and which are over.
    Notifications(notifications::Notifications),
    /// Print the path of the lab's kubeconfig.
    Kubeconfig(kubeconfig::Kubeconfig),
    /// Print a token of an administrator.
    Token(kubeconfig::Token),
    /// Show which tools are there, and whether they fit.
    Doctor(doctor::Doctor),
    /// Inject faults on the lab's Kubernetes API.
    #[command(subcommand)]
    Fault(fault::Fault),
    /// Tell why a series is not there, or why a monitor yields nothing: the first broken link, and what to do.
    Why(why::Why),
    /// Show what the fault proxy decided, request by request.
    Ledger(ledger::Ledger),
    /// Run, check and list scenario files.
    #[command(subcommand)]
    Scenario(scenario::ScenarioCommand),
    /// Compile monitoring objects as the operator does, without a lab.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Hold dashboards and rules against the series that they read.
    #[command(subcommand)]
    Contract(contract::Contract),
    /// Test and print the recording rules and alerts of a release, without a lab.
    #[command(subcommand)]
    Rules(rules::Rules),
    /// Run the API server alone, for tests and tools.
    Apiserver(apiserver::Apiserver),
    /// Run the lab in the foreground (what `up` starts).
    #[command(hide = true)]
    Supervise(supervise::Supervise),
}

/// Writes to standard output, or ends the program if nobody reads it any more.
pub(crate) fn write_out(text: &str) {
    use std::io::Write as _;
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// Which lab.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// The lab's name; several live side by side.
    #[arg(long, default_value = "lab", env = "LAB_NAME")]
    pub(crate) name: String,
}

impl Which {
    pub(crate) fn dir(&self) -> Result<LabDir> {
        StateRoot::from_env().lab(&self.name)
    }
}

/// Which Prometheus is used, by commands that need no more of it than its programs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Programs {
    /// A Prometheus to use; promtool is looked for beside it.
    #[arg(long, env = "LAB_PROMETHEUS", value_name = "PATH")]
    prometheus: Option<PathBuf>,
    /// Do not use the network.
    #[arg(long)]
    offline: bool,
}

impl Programs {
    /// Where the programs are looked for.
    pub(crate) fn search(&self) -> crate::tools::Search {
        crate::tools::Search { given: self.prometheus.clone(), offline: self.offline }
    }
}

/// Which fault proxy: that of a lab, or one that stands alone.
#[derive(Args, Clone, Debug)]
pub(crate) struct Proxied {
    #[command(flatten)]
    which: Which,
    /// The control URL of a fault proxy that stands alone (lab-fault-proxy prints it).
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with = "name")]
    proxy: Option<String>,
    /// The file with its token.
    #[arg(long, value_name = "FILE", requires = "proxy")]
    token_file: Option<PathBuf>,
}

impl Proxied {
    /// Its control endpoint.
    pub(crate) async fn control(&self) -> Result<Control> {
        if let (Some(url), Some(file)) = (&self.proxy, &self.token_file) {
            return Control::of_proxy(url, file);
        }
        let dir = self.which.dir()?;
        match ClusterRecord::of(&dir) {
            Some(_) => crate::provider::proxy::control(&dir).await,
            None => Control::of(&dir.running()?),
        }
    }

    /// The lab that is meant, for what a proxy that stands alone cannot do.
    pub(crate) fn dir(&self) -> Result<LabDir> {
        self.which.dir()
    }
}

/// The Prometheus of a lab: at its address in an embedded one, through the API server elsewhere.
pub(crate) async fn prometheus_of(dir: &LabDir) -> Result<metrics::Client> {
    if let Some(record) = ClusterRecord::of(dir) {
        let cluster = crate::why::Cluster::new(reach::kube_client(&dir.kubeconfig(), None).await?);
        let object = cluster.prometheus_object(Some(&record.prometheus)).await?;
        return Ok(cluster.prometheus(&object));
    }
    dir.running()?;
    let overview = status::overview(&dir.kubeconfig()).await?;
    match overview.prometheus() {
        Some(url) => Ok(metrics::Client::new(&url)),
        None => Err(Failure::new(Exit::LabFailed, "no Prometheus has an address yet").hint("see `lab status`").into()),
    }
}

/// Refuses a lab that is not there, whatever it would run on.
pub(crate) fn reachable(dir: &LabDir) -> Result<()> {
    if ClusterRecord::of(dir).is_some() { Ok(()) } else { dir.running().map(|_| ()) }
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

impl Output {
    /// Prints a value as JSON, if that is wanted; whether it was.
    pub(crate) fn json(self, value: &impl serde::Serialize) -> bool {
        if self == Self::Json
            && let Ok(text) = serde_json::to_string_pretty(value)
        {
            say!("{text}");
        }
        self == Self::Json
    }
}

/// Writes a table without borders.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

async fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Up(command) => command.run().await,
        Command::Down(command) => command.run().await,
        Command::Releases(command) => command.run(),
        Command::Status(command) => command.run().await,
        Command::Logs(command) => command.run().await,
        Command::Vm(command) => command.run().await,
        Command::Query(command) => command.run().await,
        Command::Bundle(command) => command.run().await,
        Command::Open(command) => command.run().await,
        Command::Export(command) => command.run().await,
        Command::Notifications(command) => command.run().await,
        Command::Kubeconfig(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Fault(command) => command.run().await,
        Command::Why(command) => command.run().await,
        Command::Ledger(command) => command.run().await,
        Command::Scenario(command) => command.run().await,
        Command::Operator(command) => command.run(),
        Command::Contract(command) => command.run().await,
        Command::Rules(command) => command.run().await,
        Command::Apiserver(command) => command.run().await,
        Command::Supervise(command) => command.run().await,
    }
}

/// Runs the program; the exit code follows the table in [`crate::exit`].
pub fn main() -> ExitCode {
    wire::install_crypto_provider();
    // kube logs each answer that is an error; those that matter are reported by whoever asked.
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAB_LOG").unwrap_or_else(|_| "warn,kube_client=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return Exit::Failure.into();
        }
    };
    let result = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    match result {
        Ok(exit) => exit.into(),
        Err(error) => report(&error),
    }
}

/// Prints an error once: what, why, and what to do.
fn report(error: &anyhow::Error) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    match failure {
        Some(failure) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = &failure.hint {
                eprintln!("hint: {hint}");
            }
            failure.exit.into()
        }
        None => {
            // A reader that went away is no failure of ours.
            let broken_pipe = error.chain().any(|cause| {
                cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
            });
            if broken_pipe {
                return Exit::Success.into();
            }
            eprintln!("error: {error:#}");
            Exit::Failure.into()
        }
    }
}
