//! Files with dashboards and rules, and those of the same folders that hold neither.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contract::{Contents, Reader, readers};
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// How names of files end that can hold dashboards or rules.
const ENDS: [&str; 5] = ["json", "rule", "rules", "yaml", "yml"];
/// Those of files that hold dashboards once they are rendered.
const SOURCES: [&str; 3] = ["jsonnet", "libsonnet", "cue"];

/// A file that was not read.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotRead {
    /// Where.
    pub(super) file: PathBuf,
    /// Line and column, from 1, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<(usize, usize)>,
    /// Why.
    pub(super) why: String,
}

impl std::fmt::Display for NotRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        write!(f, "{}{place}: not read: {}", self.file.display(), self.why)
    }
}

/// All files that were given, and those of folders.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Those with a dashboard or a rule.
    pub(super) read: Vec<(PathBuf, Contents)>,
    /// Those of which nobody knows whether they read series.
    pub(super) not_read: Vec<NotRead>,
    /// Those that hold only what never reads series, such as a Deployment.
    pub(super) never_read: Vec<PathBuf>,
    /// What they hold.
    pub(super) kinds: BTreeSet<String>,
}

impl Files {
    /// All readers, with the number of their file among those that were read.
    pub(super) fn readers(&self) -> impl Iterator<Item = (usize, &Reader)> {
        self.read
            .iter()
            .enumerate()
            .flat_map(|(number, (_, contents))| contents.readers.iter().map(move |reader| (number, reader)))
    }

    /// One line about files that never read series; nothing where there are none.
    pub(super) fn about_never_read(&self) -> Option<String> {
        let kinds: Vec<&str> = self.kinds.iter().map(String::as_str).collect();
        match self.never_read.len() {
            0 => None,
            1 => Some(format!("1 file holds no dashboard or rule: {}", kinds.join(", "))),
            count => Some(format!("{count} files hold no dashboard or rule: {}", kinds.join(", "))),
        }
    }
}

/// The text of a file, whatever byte order mark it begins with.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    let sixteen = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).map_err(|_| "it is not UTF-16".to_owned())
    };
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => sixteen(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => sixteen(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()),
    }
}

/// The files to read: those that are given, and those of folders, but for hidden ones. What cannot be listed is not read.
fn listed(paths: &[PathBuf], files: &mut Files) -> Vec<(PathBuf, bool)> {
    let ends = |path: &Path, among: &[&str]| path.extension().is_some_and(|end| among.iter().any(|known| end == *known));
    let mut found = Vec::new();
    // A link may lead back to a folder that it is in.
    let mut seen = BTreeSet::new();
    let mut left: Vec<(PathBuf, bool)> = paths.iter().rev().map(|path| (path.clone(), true)).collect();
    while let Some((path, given)) = left.pop() {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden && !given {
            continue;
        }
        if path.is_dir() {
            if !path.canonicalize().is_ok_and(|whole| seen.insert(whole)) {
                continue;
            }
            match std::fs::read_dir(&path) {
                Ok(entries) => {
                    let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                    inside.sort();
                    left.extend(inside.into_iter().rev().map(|path| (path, false)));
                }
                Err(error) => files.not_read.push(NotRead { file: path, at: None, why: error.to_string() }),
            }
        } else if given || ends(&path, &ENDS) {
            found.push((path, given));
        } else if ends(&path, &SOURCES) {
            let why = "it has to be rendered first".to_owned();
            files.not_read.push(NotRead { file: path, at: None, why });
        }
    }
    found
}

/// What reads metrics, by file.
///
/// # Errors
/// When a file that was given itself cannot be read. One of a folder is among those that were not read.
pub(super) fn read(paths: &[PathBuf]) -> Result<Files> {
    let mut files = Files::default();
    for (file, given) in listed(paths, &mut files) {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if given => {
                return Err(Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display())).into());
            }
            Err(error) => {
                files.not_read.push(NotRead { file, at: None, why: error.to_string() });
                continue;
            }
        };
        let wrong = |at, why: String| NotRead { file: file.clone(), at, why };
        let found = text(bytes).map_err(|why| wrong(None, why));
        let found = found.and_then(|text| readers(&text).map_err(|error| wrong(error.at, error.message)));
        match found {
            Err(wrong) if given => {
                let place = wrong.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
                return Err(Failure::new(Exit::Usage, format!("{}{place}: {}", file.display(), wrong.why)).into());
            }
            Err(mut wrong) => {
                wrong.why = wrong.why.lines().next().unwrap_or_default().to_owned();
                files.not_read.push(wrong);
            }
            Ok(contents) if contents.found > 0 || !contents.readers.is_empty() => files.read.push((file, contents)),
            // What is empty is no kind of anything.
            Ok(contents) if contents.without.iter().all(|one| one.never_reads) => {
                files.never_read.push(file);
                let kinds = contents.without.into_iter().map(|one| one.what);
                files.kinds.extend(kinds);
            }
            Ok(contents) => {
                let kinds: Vec<String> = contents.without.into_iter().map(|one| one.what).collect();
                let why = format!("no dashboard or rule ({})", kinds.join(", "));
                files.not_read.push(NotRead { file, at: None, why });
            }
        }
    }
    if files.read.is_empty() {
        let mut message = "no file has a dashboard or a rule".to_owned();
        for one in &files.not_read {
            message = format!("{message}\n{one}");
        }
        let failure = Failure::new(Exit::Usage, message);
        return Err(failure
            .hint("pass dashboards of Grafana or Perses, rule files, or objects of Kubernetes that hold them")
            .into());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks() {
        let with =
            |mark: &[u8], unit: fn(u16) -> [u8; 2]| [mark, &"up".encode_utf16().flat_map(unit).collect::<Vec<u8>>()].concat();
        assert_eq!(text(with(&[0xff, 0xfe], u16::to_le_bytes)).unwrap(), "up");
        assert_eq!(text(with(&[0xfe, 0xff], u16::to_be_bytes)).unwrap(), "up");
        assert_eq!(text(b"\xef\xbb\xbfup".to_vec()).unwrap(), "\u{feff}up");
        assert!(text(vec![0xc3, 0x28]).is_err());
    }

    #[test]
    fn folders_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("a/board.json", "{\"panels\": []}");
        put("b/rules.yml", "groups: [{name: g, rules: []}]");
        put("b/deployment.yaml", "{apiVersion: apps/v1, kind: Deployment}");
        put("b/scaled.yaml", "{apiVersion: keda.sh/v1alpha1, kind: ScaledObject}");
        put("b/chart.yaml", "a: {{ .Values.x }}\nb: [");
        put("c/board.jsonnet", "{}");
        put("c/readme.md", "# x");
        put(".github/workflow.yaml", "on: push");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("c/again")).unwrap();
        let files = read(&[folder.path().to_owned()]).unwrap();
        let name = |path: &Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
        assert_eq!(files.read.iter().map(|(path, _)| name(path)).collect::<Vec<_>>(), ["a/board.json", "b/rules.yml"]);
        let mut not_read: Vec<String> = files.not_read.iter().map(|one| name(&one.file)).collect();
        not_read.sort();
        assert_eq!(not_read, ["b/chart.yaml", "b/scaled.yaml", "c/board.jsonnet"]);
        assert!(
            files
                .not_read
                .iter()
                .any(|one| one.to_string().ends_with("scaled.yaml: not read: no dashboard or rule (ScaledObject)"))
        );
        assert_eq!(files.about_never_read().as_deref(), Some("1 file holds no dashboard or rule: Deployment"));
        // One that was given itself has to be in order.
        let error = read(&[folder.path().join("b/chart.yaml")]).unwrap_err().to_string();
        assert!(error.contains("chart.yaml:"), "{error}");
        let error = read(&[folder.path().join("b/scaled.yaml")]).unwrap_err().to_string();
        assert!(error.starts_with("no file has a dashboard or a rule\n"), "{error}");
    }
}
