//! The programs that a lab needs and does not build: Prometheus and promtool, and Alertmanager, without which nobody is notified.
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

/// What is fetched together.
pub(crate) struct Kit {
    /// For people.
    pub(crate) name: &'static str,
    /// The project upstream; its archives are `PROJECT-VERSION.PLATFORM.tar.gz`.
    pub(crate) project: &'static str,
    /// The version that is fetched upstream.
    pub(crate) version: &'static str,
    /// The programs, by the names that they get here.
    pub(crate) programs: &'static [&'static str],
    /// The same as the packages of Debian have them.
    pub(crate) packaged: &'static [&'static str],
    /// The packages of Debian.
    pub(crate) packages: &'static [&'static str],
    /// The suites of Debian that are asked, one after the other.
    pub(crate) suites: &'static [&'static str],
    /// A folder of files that Debian's program reads at an absolute path, and the folder's name beside our copy.
    pub(crate) data: Option<(&'static str, &'static str)>,
}

/// Prometheus: the long-term release of 2025.
pub(crate) const PROMETHEUS: Kit = Kit {
    name: "Prometheus",
    project: "prometheus",
    version: "3.5.0",
    programs: &["prometheus", "promtool"],
    packaged: &["prometheus", "promtool"],
    packages: &["prometheus", "promtool"],
    // With kubernetes_sd, the steadiest first.
    suites: &["trixie", "sid"],
    data: None,
};

/// Alertmanager, of the same year.
pub(crate) const ALERTMANAGER: Kit = Kit {
    name: "Alertmanager",
    project: "alertmanager",
    version: "0.28.1",
    programs: &["alertmanager", "amtool"],
    packaged: &["prometheus-alertmanager", "amtool"],
    packages: &["prometheus-alertmanager"],
    suites: &["trixie", "sid"],
    data: Some(("/usr/share/prometheus/alertmanager", "templates")),
};

/// kind; upstream's releases are single programs, so only Debian's package is fetched.
const KIND: Kit = Kit {
    name: "kind",
    project: "kind",
    version: "",
    programs: &["kind"],
    packaged: &["kind"],
    packages: &["kind"],
    // The kind of older suites cannot make a cluster of today's Kubernetes.
    suites: &["sid"],
    data: None,
};

/// Finds kind: on PATH, in the cache, or as a package of Debian.
///
/// # Errors
/// When there is none; the text says where it was looked for.
pub(crate) async fn kind(offline: bool, progress: &dyn Fn(&str)) -> Result<PathBuf, String> {
    let cache = cache_folder();
    let cached = || folders(&cache, "kind-").pop().map(|folder| folder.join("kind")).filter(|path| path.is_file());
    if let Some(found) = on_path("kind").or_else(cached) {
        return Ok(found);
    }
    if offline {
        return Err("none in PATH or cache, and --offline was given".to_owned());
    }
    let fetched = apt::fetch(&KIND, &cache, progress).await;
    fetched.map(|folder| folder.join("kind")).map_err(|error| format!("none in PATH or cache; Debian package: {error:#}"))
}

/// An Alertmanager.
#[derive(Clone, Debug, Serialize)]
pub struct Alertmanager {
    /// The server; its checker `amtool` lies beside it.
    pub alertmanager: PathBuf,
    /// Its version, such as `0.28.1`.
    pub version: String,
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
    /// The Alertmanager beside it, or why there is none.
    pub alertmanager: Result<Alertmanager, String>,
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
        Fitness::Fits { version } => {
            Ok(Prometheus { prometheus, promtool, version, source, alertmanager: Err("not looked for".to_owned()) })
        }
        Fitness::Unfit { why } => Err(why),
    }
}

/// Finds Prometheus, promtool and Alertmanager, fetching them if need be; `progress` is told what is being done.
///
/// # Errors
/// When there is no Prometheus and none can be fetched; the error says what was tried. A lab does without Alertmanager.
pub async fn find(search: &Search, progress: &dyn Fn(&str)) -> Result<Prometheus> {
    let mut found = prometheus(search, progress).await?;
    found.alertmanager = find_alertmanager(search, progress).await;
    Ok(found)
}

/// An Alertmanager at a path, if it runs.
fn alertmanager_at(path: PathBuf) -> Result<Alertmanager, String> {
    let version = check::version(&path)?;
    Ok(Alertmanager { alertmanager: path, version })
}

/// The Alertmanager of PATH or of the cache.
///
/// # Errors
/// When there is none; the text says where it was looked for.
pub fn alertmanager() -> Result<Alertmanager, String> {
    if let Some(path) = ["alertmanager", "prometheus-alertmanager"].into_iter().find_map(on_path) {
        return alertmanager_at(path);
    }
    match folders(&cache_folder(), "alertmanager-").pop() {
        Some(folder) => alertmanager_at(folder.join("alertmanager")),
        None => Err("none in PATH or cache".to_owned()),
    }
}

/// Finds an Alertmanager, or fetches one: upstream, or from a newer suite of Debian.
async fn find_alertmanager(search: &Search, progress: &dyn Fn(&str)) -> Result<Alertmanager, String> {
    let cache = cache_folder();
    match alertmanager() {
        Ok(found) => return Ok(found),
        Err(why) if search.offline => return Err(format!("{why}, and --offline was given")),
        Err(_) => {}
    }
    let fetched = match upstream::fetch(&ALERTMANAGER, &cache, progress).await {
        Ok(folder) => Ok(folder),
        Err(first) => {
            let packaged = apt::fetch(&ALERTMANAGER, &cache, progress).await;
            packaged.map_err(|second| format!("upstream release: {first:#}; Debian package: {second:#}"))
        }
    };
    alertmanager_at(fetched?.join("alertmanager"))
}

/// Finds Prometheus and promtool alone, fetching them if need be.
///
/// # Errors
/// As for [`find`].
pub async fn prometheus(search: &Search, progress: &dyn Fn(&str)) -> Result<Prometheus> {
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
    match upstream::fetch(&PROMETHEUS, &cache, progress).await {
        Ok(folder) => match fetched(&folder) {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(format!("upstream release: {why}")),
        },
        Err(error) => tried.push(format!("upstream release: {error:#}")),
    }
    match apt::fetch(&PROMETHEUS, &cache, progress).await {
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

/// The cache's folders whose names begin so, in their order.
fn folders(cache: &Path, start: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(cache)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
        .collect();
    folders.sort();
    folders
}

/// What the cache holds, newest version first.
pub fn cached(cache: &Path) -> Result<Prometheus, String> {
    let folders: Vec<PathBuf> =
        folders(cache, "prometheus-").into_iter().filter(|folder| folder.join("prometheus").is_file()).collect();
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
