//! The front of the project: `cargo xtask TASK`.
//!
//! Cheap tasks are done here; heavy ones execute a program that is built only when it is used, so `cargo xtask tidy` never
//! builds kube.

mod bench;
mod image;
mod lint;
mod tidy;
mod types;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Tasks of this repository. `lab`, `scenario`, `fault`, `ledger`, `operator`, `rules` and `apiserver` run the `lab` program; each has its own --help.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring labs up, look at them, take them down.
    #[command(disable_help_flag = true)]
    Lab(External),
    /// Run, check and list scenarios.
    #[command(disable_help_flag = true)]
    Scenario(External),
    /// Inject faults on a lab's Kubernetes API.
    #[command(disable_help_flag = true)]
    Fault(External),
    /// Show what the fault proxy decided.
    #[command(disable_help_flag = true)]
    Ledger(External),
    /// Compile monitoring objects as the operator does, without a lab.
    #[command(disable_help_flag = true)]
    Operator(External),
    /// Hold dashboards and rules against the series that they read.
    #[command(disable_help_flag = true)]
    Contract(External),
    /// Test and print the rules of a release.
    #[command(disable_help_flag = true)]
    Rules(External),
    /// Run the API server alone, with the controllers that belong to it.
    #[command(disable_help_flag = true)]
    Apiserver(External),
    /// Check what the compiler does not: files that grow too long, modules that do not say what they are for.
    Tidy,
    /// Run Clippy with warnings denied, and refuse catch-all arms over the workspace's own enums.
    Lint,
    /// Write generated files: the JSON schemas of scenarios, fault files and releases, the table of built-in types.
    Codegen,
    /// Write the image of the fault proxy, from a static program and nothing else.
    Image(image::Image),
    /// Measure times, speed and memory with a release build, and write docs/benchmarks.md.
    Bench(bench::Bench),
}

/// Everything after the task's name, handed on as it is.
#[derive(clap::Args)]
struct External {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What `cargo run` tells this program about its own package would reach the build scripts, and ring's asks to be run again
    // when it changes: everything above it would be compiled anew after each `cargo test`, and the other way round.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the `lab` program; its path.
fn build_lab() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = target.join("debug/lab");
    let mut build = cargo();
    // The whole workspace's features, so that `cargo test` finds everything compiled.
    build.args(["build", "--workspace", "--bin", "lab"]);
    if program.exists() {
        // The first build takes minutes and shows its progress; later ones are not worth a line.
        build.arg("--quiet");
    }
    anyhow::ensure!(build.status().context("cannot run cargo")?.success(), "the build failed");
    Ok(program)
}

/// Becomes the `lab` program.
fn lab(arguments: &[String]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let error = Command::new(build_lab()?).args(arguments).exec();
    Err(error).context("cannot start the lab program")
}

fn with(first: &str, rest: External) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(rest.arguments).collect()
}

fn run() -> Result<ExitCode> {
    match Cli::parse().task {
        Task::Lab(external) => lab(&external.arguments),
        Task::Scenario(external) => lab(&with("scenario", external)),
        Task::Fault(external) => lab(&with("fault", external)),
        Task::Ledger(external) => lab(&with("ledger", external)),
        Task::Operator(external) => lab(&with("operator", external)),
        Task::Contract(external) => lab(&with("contract", external)),
        Task::Rules(external) => lab(&with("rules", external)),
        Task::Apiserver(external) => lab(&with("apiserver", external)),
        Task::Tidy => tidy::run(&root()),
        Task::Lint => lint::run(&root()),
        Task::Codegen => codegen(),
        Task::Image(image) => image.run(&root()),
        Task::Bench(bench) => bench.run(&root()),
    }
}

fn codegen() -> Result<ExitCode> {
    types::generate(&root())?;
    if std::env::var_os("TYPES_ONLY").is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let program = build_lab()?;
    std::fs::create_dir_all(root().join("schemas"))?;
    for (command, file) in [("scenario", "scenario"), ("fault", "faults"), ("contract", "release")] {
        let output = Command::new(&program).args([command, "schema"]).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(root().join(format!("schemas/{file}.schema.json")), output.stdout)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
