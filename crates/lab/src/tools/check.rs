//! Whether a Prometheus can be used: its version, and whether promtool accepts a `kubernetes_sd` block. Debian 12's package
//! is built without it (facts/kube-prometheus.md T1).

use std::path::Path;
use std::sync::Mutex;

use xshell::{Shell, cmd};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It can be used.
    Fits {
        /// Its version.
        version: String,
    },
    /// It cannot.
    Unfit {
        /// Why.
        why: String,
    },
}

const PROBE: &str = "scrape_configs: [{job_name: probe, kubernetes_sd_configs: [{role: pod}]}]\n";

/// Runs both programs.
pub fn check(prometheus: &Path, promtool: &Path) -> Fitness {
    // The answer for a file does not change while we run; starting a Go program twice a test is slow.
    static KNOWN: Mutex<Vec<((std::path::PathBuf, std::path::PathBuf), Fitness)>> = Mutex::new(Vec::new());
    let key = (prometheus.to_owned(), promtool.to_owned());
    let mut known = KNOWN.lock().expect("no panic while held");
    if let Some((_, fitness)) = known.iter().find(|(of, _)| *of == key) {
        return fitness.clone();
    }
    let fitness = match run(prometheus, promtool) {
        Ok(version) => Fitness::Fits { version },
        Err(why) => Fitness::Unfit { why },
    };
    known.push((key, fitness.clone()));
    fitness
}

/// The version that a program of the Prometheus project tells.
///
/// # Errors
/// When it does not start, or tells none.
pub(crate) fn version(program: &Path) -> Result<String, String> {
    let shell = Shell::new().map_err(|error| error.to_string())?;
    let output = cmd!(shell, "{program} --version")
        .quiet()
        .ignore_status()
        .output()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    // Old versions write to stderr.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)
        .map(|word| word.split(['+', '-']).next().unwrap_or(word).to_owned())
        .ok_or_else(|| format!("{} tells no version", program.display()))
}

fn run(prometheus: &Path, promtool: &Path) -> Result<String, String> {
    for program in [prometheus, promtool] {
        if !program.is_file() {
            return Err(format!("{} is not there", program.display()));
        }
    }
    let version = version(prometheus)?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < (2, 45) {
        return Err(format!("{} is version {version}; 2.45 or newer is needed", prometheus.display()));
    }
    let shell = Shell::new().map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("probe.yml");
    std::fs::write(&file, PROBE).map_err(|error| error.to_string())?;
    let output = cmd!(shell, "{promtool} check config --syntax-only {file}")
        .quiet()
        .ignore_status()
        .output()
        .map_err(|error| format!("{} does not start: {error}", promtool.display()))?;
    if output.status.success() {
        return Ok(version);
    }
    Err(format!("{} {version} is built without kubernetes_sd", prometheus.display()))
}
