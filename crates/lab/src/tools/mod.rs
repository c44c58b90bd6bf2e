//! The programs that a lab needs and does not build: Prometheus and promtool.
//!
//! They are looked for in this order: a path that is given; PATH, if the program passes a real check; the cache; the
//! upstream release, verified against its checksums; on Debian and its kin the package of a newer suite, fetched by apt in a
//! state of its own. What was found once is found again without the network.

mod apt;
mod check;
mod upstream;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

pub use check::{Fitness, check};

use crate::exit::{Exit, Failure};

/// Where a tool came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A flag or variable.
    Given,
    /// The search path.
    Path,
    /// Fetched before.
    Cache,
    /// Fetched now.
    Fetched,
}

/// Prometheus and promtool that fit.
#[derive(Clone, Debug, Serialize)]
pub struct Prometheus {
    /// The server.
    pub prometheus: PathBuf,
    /// The checker.
    pub promtool: PathBuf,
    /// Its version, such as `2.53.3`.
    pub version: String,
    /// Where they came from.
    pub source: Source,
}

/// What the search may do.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A Prometheus that is given; promtool is looked for beside it.
    pub given: Option<PathBuf>,
    /// Whether the network may not be used.
    pub offline: bool,
}

/// Where fetched programs are kept: `$LAB_CACHE_DIR`, else the user's cache folder.
pub fn cache_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    variable("LAB_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("kubevirt-lab")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/kubevirt-lab")))
        .unwrap_or_else(|| std::env::temp_dir().join("kubevirt-lab"))
}

/// A program on the search path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn pair(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("prometheus"), folder.join("promtool"))
}

fn fitting(prometheus: PathBuf, promtool: PathBuf, source: Source) -> Result<Prometheus, String> {
    match check(&prometheus, &promtool) {
        Fitness::Fits { version } => Ok(Prometheus { prometheus, promtool, version, source }),
        Fitness::Unfit { why } => Err(why),
    }
}

/// Finds Prometheus and promtool, fetching them if need be; `progress` is told what is being done.
///
/// # Errors
/// When there are none and none can be fetched; the error says what was tried.
pub async fn find(search: &Search, progress: &dyn Fn(&str)) -> Result<Prometheus> {
    let mut tried = Vec::new();
    if let Some(given) = &search.given {
        let folder = given.parent().unwrap_or(Path::new("."));
        let promtool = Some(folder.join("promtool")).filter(|path| path.is_file()).or_else(|| on_path("promtool"));
        let promtool = promtool.unwrap_or_else(|| folder.join("promtool"));
        return fitting(given.clone(), promtool, Source::Given).map_err(|why| {
            Failure::new(Exit::EnvironmentMissing, format!("{} does not fit: {why}", given.display()))
                .hint("give another one with --prometheus, or none to have one fetched")
                .into()
        });
    }
    match (on_path("prometheus"), on_path("promtool")) {
        (Some(prometheus), Some(promtool)) => match fitting(prometheus, promtool, Source::Path) {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(format!("PATH: {why}")),
        },
        _ => tried.push("PATH: no prometheus with promtool".to_owned()),
    }
    let cache = cache_folder();
    match cached(&cache) {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(format!("cache {}: {why}", cache.display())),
    }
    if search.offline {
        return Err(missing(&tried, "--offline was given; run once without it, or give a Prometheus with --prometheus"));
    }
    match upstream::fetch(&cache, progress).await {
        Ok(folder) => match fetched(&folder) {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(format!("upstream release: {why}")),
        },
        Err(error) => tried.push(format!("upstream release: {error:#}")),
    }
    match apt::fetch(&cache, progress).await {
        Ok(folder) => match fetched(&folder) {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(format!("Debian package: {why}")),
        },
        Err(error) => tried.push(format!("Debian package: {error:#}")),
    }
    Err(missing(&tried, "install Prometheus 2.53 or newer, or give one with --prometheus PATH"))
}

fn fetched(folder: &Path) -> Result<Prometheus, String> {
    let (prometheus, promtool) = pair(folder);
    fitting(prometheus, promtool, Source::Fetched)
}

/// What the cache holds, newest version first.
pub fn cached(cache: &Path) -> Result<Prometheus, String> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(cache)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("prometheus-")))
        .filter(|path| path.join("prometheus").is_file())
        .collect();
    folders.sort();
    let mut why = "empty".to_owned();
    for folder in folders.iter().rev() {
        let (prometheus, promtool) = pair(folder);
        match fitting(prometheus, promtool, Source::Cache) {
            Ok(found) => return Ok(found),
            Err(unfit) => why = unfit,
        }
    }
    Err(why)
}

fn missing(tried: &[String], hint: &str) -> anyhow::Error {
    Failure::new(
        Exit::EnvironmentMissing,
        format!("no Prometheus with kubernetes_sd was found\n  tried {}", tried.join("\n  tried ")),
    )
    .hint(hint)
    .into()
}
