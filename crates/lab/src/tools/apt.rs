//! Programs from a newer suite of the Debian archive that this system's apt is set up with.
//!
//! apt does the work, in a state folder of its own: its lists, its cache, its sources. It checks the archive's signatures with
//! the system's keyring; the packages are unpacked into the cache folder and nothing is installed, so no root is needed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use super::Kit;

/// A source of the system: where, and which keyring.
struct Mirror {
    uri: String,
    keyring: Option<String>,
}

/// Reads the first Debian mirror out of the system's sources.
fn mirror() -> Option<Mirror> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let mut parts: Vec<PathBuf> =
        std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).find_map(|text| parse_sources(&text))
}

/// The mirror of a sources file, in either of apt's formats; only one that serves Debian's own suites.
fn parse_sources(text: &str) -> Option<Mirror> {
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("deb ")) {
        let rest = line.trim_start_matches("deb ").trim();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest.trim()),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next())
            && is_debian(uri, suite)
        {
            let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            return Some(Mirror { uri: uri.to_owned(), keyring: keyring.map(str::to_owned) });
        }
    }
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
        };
        if let (Some(uris), Some(suites)) = (field("URIs"), field("Suites")) {
            let uri = uris.split_whitespace().next().unwrap_or_default();
            if suites.split_whitespace().any(|suite| is_debian(uri, suite)) {
                return Some(Mirror { uri: uri.to_owned(), keyring: field("Signed-By").filter(|path| path.starts_with('/')) });
            }
        }
    }
    None
}

fn is_debian(uri: &str, suite: &str) -> bool {
    uri.trim_end_matches('/').ends_with("/debian")
        && matches!(suite, "bookworm" | "trixie" | "forky" | "bullseye" | "stable" | "testing" | "sid" | "unstable")
}

/// Fetches and unpacks; the folder with the programs.
pub(crate) async fn fetch(kit: &'static Kit, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    if crate::tools::on_path("apt-get").is_none() || crate::tools::on_path("dpkg-deb").is_none() {
        bail!("this system has no apt");
    }
    let mirror = mirror().context("apt is not set up with a Debian mirror here")?;
    let mut last = None;
    for suite in kit.suites {
        progress(&format!("fetching {} from Debian {suite} (apt checks the signatures)", kit.name));
        let (cache, uri, keyring) = (cache.to_owned(), mirror.uri.clone(), mirror.keyring.clone());
        let work = tokio::task::spawn_blocking(move || from_suite(kit, &cache, &uri, keyring.as_deref(), suite));
        match work.await? {
            Ok(folder) => return Ok(folder),
            Err(error) => last = Some(error.context(format!("suite {suite}"))),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no suite was tried")))
}

fn from_suite(kit: &Kit, cache: &Path, uri: &str, keyring: Option<&str>, suite: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(cache)?;
    let state = tempfile::tempdir_in(cache)?;
    let root = state.path();
    for folder in ["lists/partial", "archives/partial", "packages", "unpacked"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let signed = keyring.unwrap_or("/usr/share/keyrings/debian-archive-keyring.gpg");
    std::fs::write(root.join("sources.list"), format!("deb [signed-by={signed}] {uri} {suite} main\n"))?;
    std::fs::write(root.join("status"), "")?;
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    let options: Vec<String> = [
        ("Dir::Etc::SourceList", path("sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
        ("Dir::State", path("")),
        ("Dir::State::Lists", path("lists")),
        ("Dir::State::Status", path("status")),
        ("Dir::Cache", path("")),
        ("Dir::Cache::Archives", path("archives")),
        ("Dir::Cache::pkgcache", String::new()),
        ("Dir::Cache::srcpkgcache", String::new()),
        ("APT::Sandbox::User", String::new()),
        ("APT::Get::List-Cleanup", "0".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
        ("Acquire::Retries", "2".to_owned()),
        // Hooks of the system, such as those of image builders, are not for us.
        ("APT::Update::Post-Invoke", String::new()),
    ]
    .into_iter()
    .flat_map(|(key, value)| ["-o".to_owned(), format!("{key}={value}")])
    .collect();
    let shell = Shell::new()?;
    shell.change_dir(root.join("packages"));
    let options = &options;
    run(cmd!(shell, "apt-get {options...} update -qq"))?;
    let packages = kit.packages;
    run(cmd!(shell, "apt-get {options...} download -qq {packages...}"))?;
    for entry in std::fs::read_dir(root.join("packages"))?.flatten() {
        let (package, target) = (entry.path(), root.join("unpacked"));
        run(cmd!(shell, "dpkg-deb -x {package} {target}"))?;
    }
    let folder = cache.join(format!("{}-debian-{suite}", kit.project));
    let staging = root.join("ready");
    std::fs::create_dir_all(&staging)?;
    for (packaged, program) in kit.packaged.iter().zip(kit.programs) {
        let from = root.join("unpacked/usr/bin").join(packaged);
        let target = staging.join(program);
        std::fs::copy(&from, &target).with_context(|| format!("the package has no {program}"))?;
        // Programs that do not name the folder read nothing from it.
        if let Some((path, name)) = kit.data
            && let Some(moved) = relocate(&std::fs::read(&target)?, path, name)
        {
            std::fs::write(&target, moved)?;
        }
    }
    if let Some((path, name)) = kit.data {
        copy_files(&root.join("unpacked").join(path.trim_start_matches('/')), &staging.join(name))?;
    }
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&staging, &folder)?;
    Ok(folder)
}

/// Copies the plain files of a folder.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("the package has no {}", from.display()))?.flatten() {
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A program whose constant `path` names the folder `name` of its working folder instead, in as many bytes. Debian's Alertmanager reads
/// its templates from a folder that only an installed package has, and no flag changes that.
fn relocate(program: &[u8], path: &str, name: &str) -> Option<Vec<u8>> {
    let room = path.len().checked_sub(name.len())?;
    let here: String = "./".chars().cycle().take(room.checked_sub(1)? / 2 * 2).collect();
    let replacement = format!("{here}{}{name}", "/".repeat(room - here.len()));
    // Longer paths that begin so are other constants.
    let at = (0..program.len().saturating_sub(path.len()))
        .find(|&at| program[at..].starts_with(path.as_bytes()) && program[at + path.len()] != b'/')?;
    let mut moved = program.to_vec();
    moved[at..at + path.len()].copy_from_slice(replacement.as_bytes());
    Some(moved)
}

/// Runs a command; a failure holds the last line that it wrote.
fn run(command: xshell::Cmd<'_>) -> Result<()> {
    let text = command.to_string();
    let output = command.quiet().ignore_status().output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    bail!("{}: {line}", text.split_whitespace().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_path_is_replaced_by_one_of_the_same_length() {
        let program = b"x/usr/share/y/ui/..x/usr/share/ytail";
        let moved = relocate(program, "/usr/share/y", "data").unwrap();
        assert_eq!(moved.len(), program.len());
        assert_eq!(&moved[20..32], b"./././//data");
        assert_eq!((&moved[..20], &moved[32..]), (&program[..20], &program[32..]));
        assert!(relocate(b"nothing", "/usr/share/y", "data").is_none());
    }

    #[test]
    fn both_formats_of_sources_are_read_and_others_mirrors_left_alone() {
        let old = "# x\ndeb https://other.example/apt stable main\ndeb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main\n";
        let found = parse_sources(old).unwrap();
        assert_eq!((found.uri.as_str(), found.keyring.as_deref()), ("http://m.example/debian", Some("/k.gpg")));
        let new = "Types: deb\n# note\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nSigned-By: /k.gpg\n";
        assert_eq!(parse_sources(new).unwrap().keyring.as_deref(), Some("/k.gpg"));
        assert!(parse_sources("deb https://other.example/apt cloud main\n").is_none());
    }
}
