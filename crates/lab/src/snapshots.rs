//! Snapshot files: compared, written and reviewed as insta does it, without Cargo.
//!
//! A snapshot is `FILE.snap`: a header in YAML between two lines `---`, then the text. What differs is written beside it as `FILE.snap.new`,
//! in the same format, so that `cargo insta review` finds it too (insta `src/snapshot.rs`: `from_file`, `save_new`, and `normalize` for what
//! counts as the same). [`compare`] is for those who make snapshots, [`pending`] for those who decide.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use similar::{ChangeTag, TextDiff};

/// How many folders below each other are searched.
const DEPTH: usize = 32;

/// Lines around a difference that are shown.
const CONTEXT: usize = 3;

/// What a header says of the text: shown in reviews, not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// What made it: a scenario file, `lab:NAME`, a URL.
    pub source: String,
    /// What of it this is: the snapshot's name.
    pub expression: String,
    /// The file that a person would edit, if there is one.
    pub input_file: Option<String>,
}

/// A text compared with its snapshot. A diff has the lines of the snapshot with `-`, those of the text with `+`, and a few around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The snapshot has this text.
    Same,
    /// There is no snapshot; the text is pending.
    New {
        /// The whole text, each line with `+`.
        diff: String,
    },
    /// The snapshot has another text; this one is pending.
    Differs {
        /// What differs.
        diff: String,
    },
}

/// A file that cannot be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading failed.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Writing, renaming or removing failed.
    #[error("cannot write {}: {why}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The path of a snapshot has another ending.
    #[error("invalid snapshot {:?}; expected a folder, FILE.snap or FILE.snap.new", path.display().to_string())]
    Path {
        /// The path.
        path: PathBuf,
    },
}

fn cannot_read(path: &Path, error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError::Read { path: path.to_owned(), why: error.to_string() }
}

fn cannot_write(path: &Path, error: &io::Error) -> SnapshotError {
    SnapshotError::Write { path: path.to_owned(), why: error.to_string() }
}

/// A file in its parts.
struct File<'a> {
    /// Lines of the header.
    header: Vec<&'a str>,
    text: &'a str,
}

impl<'a> File<'a> {
    /// Nothing where a header begins and does not end. A file without a header is all text.
    fn parse(content: &'a str) -> Option<Self> {
        let mut rest = content;
        let mut line = || {
            let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            (!line.is_empty()).then(|| line.trim_end())
        };
        if line() != Some("---") {
            return Some(Self { header: Vec::new(), text: content });
        }
        let mut header = Vec::new();
        loop {
            match line()? {
                "---" => break,
                other => header.push(other),
            }
        }
        Some(Self { header, text: rest })
    }

    /// A value of the header.
    fn value(&self, key: &str) -> Option<String> {
        let line = self.header.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
        let unquoted = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
        Some(unquoted.map_or_else(|| line.to_owned(), |_| serde_json::from_str(line).unwrap_or_else(|_| line.to_owned())))
    }
}

/// A text as insta compares it: without spaces at the end, and with line ends of one kind.
fn normalized(text: &str) -> String {
    text.trim_end().replace("\r\n", "\n")
}

/// A value of YAML, in quotes where insta writes quotes (`content/yaml/vendored/emitter.rs`: `need_quotes`).
fn yaml(value: &str) -> String {
    let is_word = ["yes", "no", "true", "false", "on", "off", "null"].contains(&value.to_ascii_lowercase().as_str());
    let is_plain = value.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/')
        && value.chars().all(|letter| letter.is_ascii_alphanumeric() || " _-./@+()*$=".contains(letter))
        && !value.ends_with(' ')
        && !is_word
        && value.parse::<f64>().is_err();
    if is_plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

/// The file of a snapshot with this text.
pub fn file(text: &str, origin: &Origin) -> String {
    let mut out = format!("---\nsource: {}\nexpression: {}\n", yaml(&origin.source), yaml(&origin.expression));
    if let Some(file) = &origin.input_file {
        let _ = writeln!(out, "input_file: {}", yaml(file));
    }
    let _ = writeln!(out, "---\n{}", normalized(text));
    out
}

fn read_file(path: &Path) -> Result<Option<String>, SnapshotError> {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| cannot_read(path, &"it is not text in UTF-8")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

/// The text of a snapshot's file; nothing where there is no file.
///
/// # Errors
/// When it cannot be read, or its header has no end.
pub fn read(path: &Path) -> Result<Option<String>, SnapshotError> {
    let Some(content) = read_file(path)? else { return Ok(None) };
    let file = File::parse(&content).ok_or_else(|| cannot_read(path, &"no line --- ends the header"))?;
    Ok(Some(normalized(file.text)))
}

/// Writes a file whole or not at all.
fn write_file(path: &Path, content: &str) -> Result<(), SnapshotError> {
    let failed = |error: &io::Error| cannot_write(path, error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = std::fs::write(&unfinished, content).and_then(|()| std::fs::rename(&unfinished, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&unfinished);
        failed(&error)
    })
}

fn remove(path: &Path) -> Result<(), SnapshotError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_write(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where a text is pending that `FILE.snap` has not.
pub fn pending_path(path: &Path) -> PathBuf {
    path.with_extension("snap.new")
}

/// Compares a text with its snapshot. What differs is written beside it for a review; what was pending and is settled is removed.
///
/// # Errors
/// When a file cannot be read or written.
pub fn compare(path: &Path, text: &str, origin: &Origin) -> Result<Outcome, SnapshotError> {
    let present = read(path)?;
    let text = normalized(text);
    let pending = pending_path(path);
    if present.as_ref() == Some(&text) {
        remove(&pending)?;
        return Ok(Outcome::Same);
    }
    write_file(&pending, &file(&text, origin))?;
    Ok(match present {
        None => Outcome::New { diff: diff("", &text) },
        Some(present) => Outcome::Differs { diff: diff(&present, &text) },
    })
}

/// Writes a snapshot without a review; whether it is new or another one.
///
/// # Errors
/// When a file cannot be read or written.
pub fn update(path: &Path, text: &str, origin: &Origin) -> Result<bool, SnapshotError> {
    let is_other = read(path)?.is_none_or(|present| present != normalized(text));
    if is_other {
        write_file(path, &file(text, origin))?;
    }
    remove(&pending_path(path))?;
    Ok(is_other)
}

/// What differs, for people: `-` for lines that went, `+` for those that came, a few around them, and where each part begins.
pub fn diff(old: &str, new: &str) -> String {
    diff_around(old, new, CONTEXT)
}

/// The same with so many lines around each difference.
pub fn diff_around(old: &str, new: &str, context: usize) -> String {
    let (old, new) = (normalized(old), normalized(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let compared = TextDiff::from_slices(&old, &new);
    let mut out = String::new();
    for group in compared.grouped_ops(context) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let range = |from: usize, to: usize| format!("{},{}", from + usize::from(to > from), to - from);
        let before = range(first.old_range().start, last.old_range().end);
        let after = range(first.new_range().start, last.new_range().end);
        let _ = writeln!(out, "@@ -{before} +{after} @@");
        for change in group.iter().flat_map(|op| compared.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            let _ = writeln!(out, "{sign} {}", change.value());
        }
    }
    out
}

/// A text that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `FILE.snap`.
    pub snapshot: PathBuf,
    /// `FILE.snap.new`.
    pub file: PathBuf,
}

/// What a pending text is to its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no snapshot yet.
    New,
    /// The snapshot has another text.
    Differs,
    /// The snapshot has this text already.
    Same,
    /// It is no text; `cargo insta review` can show it.
    Binary,
}

/// A pending text, read.
#[derive(Clone, Debug)]
pub struct Read {
    /// What it is to its snapshot.
    pub state: State,
    /// What made it, if its header says so.
    pub source: Option<String>,
    /// The snapshot's text; empty where there is none.
    pub old: String,
    /// The pending text.
    pub new: String,
}

impl Pending {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(&self) -> Result<Read, SnapshotError> {
        let content = read_file(&self.file)?.ok_or_else(|| cannot_read(&self.file, &"it is gone"))?;
        let file = File::parse(&content).ok_or_else(|| cannot_read(&self.file, &"no line --- ends the header"))?;
        let (old, new) = (read(&self.snapshot)?, normalized(file.text));
        let state = match &old {
            _ if file.value("snapshot_kind").as_deref() == Some("binary") => State::Binary,
            None => State::New,
            Some(old) if *old == new => State::Same,
            Some(_) => State::Differs,
        };
        Ok(Read { state, source: file.value("source"), old: old.unwrap_or_default(), new })
    }

    /// Makes it the snapshot.
    ///
    /// # Errors
    /// When a file cannot be read, written or removed.
    pub fn accept(&self) -> Result<(), SnapshotError> {
        let content = read_file(&self.file)?.ok_or_else(|| cannot_read(&self.file, &"it is gone"))?;
        let file = File::parse(&content).ok_or_else(|| cannot_read(&self.file, &"no line --- ends the header"))?;
        // Which line asserted it, only a pending file says.
        let kept = file.header.iter().filter(|line| !line.starts_with("assertion_line:"));
        let header: String = kept.map(|line| format!("{line}\n")).collect();
        let head = if header.is_empty() { String::new() } else { format!("---\n{header}---\n") };
        write_file(&self.snapshot, &format!("{head}{}\n", normalized(file.text)))?;
        remove(&self.file)
    }

    /// Throws it away.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn reject(&self) -> Result<(), SnapshotError> {
        remove(&self.file)
    }
}

/// All files of an ending below a folder, in order. Links to folders and hidden folders are left out.
fn below(folder: &Path, ending: &str) -> Result<BTreeSet<PathBuf>, SnapshotError> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| cannot_read(&folder, &error))? {
            let entry = entry.map_err(|error| cannot_read(&folder, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(|error| cannot_read(&entry.path(), &error))?;
            if kind.is_dir() && !name.starts_with('.') && depth < DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if !kind.is_dir() && name.ends_with(ending) {
                found.insert(entry.path());
            }
        }
    }
    Ok(found)
}

/// What is pending below folders and of single files (`FILE.snap` or `FILE.snap.new`), in order of their paths.
///
/// # Errors
/// When a path is something else or cannot be read.
pub fn pending(paths: &[PathBuf]) -> Result<Vec<Pending>, SnapshotError> {
    let mut found = BTreeSet::new();
    for path in paths {
        let text = path.to_string_lossy();
        if path.is_dir() {
            found.extend(below(path, ".snap.new")?);
        } else if text.ends_with(".snap.new") {
            read_file(path)?.ok_or_else(|| cannot_read(path, &"there is no such file"))?;
            found.insert(path.clone());
        } else if text.ends_with(".snap") && (path.exists() || pending_path(path).exists()) {
            found.extend(Some(pending_path(path)).filter(|pending| pending.exists()));
        } else if path.exists() || text.ends_with(".snap") {
            return Err(SnapshotError::Path { path: path.clone() });
        } else {
            return Err(cannot_read(path, &"there is no such file or folder"));
        }
    }
    Ok(found.into_iter().map(|file| Pending { snapshot: file.with_extension(""), file }).collect())
}

/// Snapshots that no scenario takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreferenced {
    /// Those whose name is that of a scenario's snapshot, and that no scenario takes.
    pub files: Vec<PathBuf>,
    /// How many have another name, so that nobody knows.
    pub others: usize,
}

/// Which snapshots below folders no scenario takes. `taken` are the names, `SCENARIO@RELEASE.NAME`, of those that one takes.
///
/// # Errors
/// When a folder cannot be read.
pub fn unreferenced(folders: &[PathBuf], taken: &BTreeSet<String>) -> Result<Unreferenced, SnapshotError> {
    let mut found = Unreferenced::default();
    for path in folders {
        for file in below(path, ".snap")? {
            let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let is_of_scenario = name.split_once('@').is_some_and(|(scenario, rest)| !scenario.is_empty() && rest.contains('.'));
            match (is_of_scenario, taken.contains(&name)) {
                (_, true) => {}
                (true, false) => found.files.push(file),
                (false, false) => found.others += 1,
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { source: "scenarios/a.yaml".to_owned(), expression: "machines".to_owned(), input_file: None }
    }

    #[test]
    fn a_text_is_compared_accepted_and_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a@v1.9.0.machines.snap");
        let pending_of = || pending(&[folder.path().to_owned()]).unwrap();

        let outcome = compare(&path, "a\nb\n", &origin()).unwrap();
        assert_eq!(outcome, Outcome::New { diff: "@@ -0,0 +1,2 @@\n+ a\n+ b\n".to_owned() });
        assert!(!path.exists());
        let [one] = &pending_of()[..] else { panic!("{:?}", pending_of()) };
        assert_eq!((&one.snapshot, one.read().unwrap().state), (&path, State::New));
        one.accept().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "---\nsource: scenarios/a.yaml\nexpression: machines\n---\na\nb\n");
        assert_eq!(pending_of(), []);

        // Line ends and what stands at the end do not count.
        assert_eq!(compare(&path, "a\r\nb\n\n", &origin()).unwrap(), Outcome::Same);
        let Outcome::Differs { diff } = compare(&path, "a\nc\n", &origin()).unwrap() else { panic!() };
        assert_eq!(diff, "@@ -1,2 +1,2 @@\n  a\n- b\n+ c\n");
        let [one] = &pending_of()[..] else { panic!("{:?}", pending_of()) };
        assert_eq!(one.read().unwrap().state, State::Differs);
        one.reject().unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), "a\nb");

        // What was pending is gone when the snapshot is right again.
        compare(&path, "a\nc\n", &origin()).unwrap();
        compare(&path, "a\nb\n", &origin()).unwrap();
        assert_eq!(pending_of(), []);
        compare(&path, "a\nc\n", &origin()).unwrap();
        assert!(update(&path, "a\nc\n", &origin()).unwrap() && !update(&path, "a\nc", &origin()).unwrap());
        assert_eq!((pending_of(), read(&path).unwrap().unwrap().as_str()), (Vec::new(), "a\nc"));
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, [path]);
    }

    #[test]
    fn insta_reads_what_is_written_and_the_other_way_round() {
        // As insta 1.49 writes it: `assertion_line` only while it is pending.
        let pending_file = "---\nsource: tests/it/scenarios.rs\nassertion_line: 60\nexpression: text\n---\na\n---\nb\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.snap");
        std::fs::write(folder.path().join("x.snap.new"), pending_file).unwrap();
        let [one] = &pending(std::slice::from_ref(&path)).unwrap()[..] else { panic!() };
        let of_it = one.read().unwrap();
        assert_eq!((of_it.source.as_deref(), of_it.new.as_str()), (Some("tests/it/scenarios.rs"), "a\n---\nb"));
        one.accept().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), pending_file.replace("assertion_line: 60\n", ""));

        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder.path());
        settings.set_prepend_module_to_snapshot(false);
        settings.bind(|| insta::assert_snapshot!("x", "a\n---\nb"));
        let odd = Origin {
            source: "http://127.0.0.1:9090".to_owned(),
            expression: "a \"b\" #c".to_owned(),
            input_file: Some("on".to_owned()),
        };
        std::fs::write(&path, file("a\n---\nc\n", &odd)).unwrap();
        settings.bind(|| insta::assert_snapshot!("x", "a\n---\nc"));
        assert_eq!(File::parse(&file("a", &odd)).unwrap().value("expression").unwrap(), odd.expression);
        for (value, expected) in
            [("text", "text"), ("/tmp/a.txt", "/tmp/a.txt"), ("lab:lab", "\"lab:lab\""), ("On", "\"On\""), ("nan", "\"nan\"")]
        {
            assert_eq!(yaml(value), expected);
        }
    }

    #[test]
    fn files_that_are_odd_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("open.snap"), "---\nsource: x\n").unwrap();
        std::fs::write(at("bytes.snap"), [0xff, 0xfe]).unwrap();
        std::fs::write(at("plain.snap"), "a\n").unwrap();
        std::fs::write(at("page.txt"), "a\n").unwrap();
        std::fs::write(at("image.snap.new"), "---\nextension: png\nsnapshot_kind: binary\n---\n").unwrap();
        for (name, expected) in [("open.snap", "no line --- ends the header"), ("bytes.snap", "it is not text in UTF-8")] {
            assert!(compare(&at(name), "a", &origin()).unwrap_err().to_string().ends_with(expected));
            assert!(!pending_path(&at(name)).exists());
        }
        assert_eq!(read(&at("plain.snap")).unwrap().as_deref(), Some("a"));
        for (name, expected) in [
            ("page.txt", "expected a folder, FILE.snap or FILE.snap.new"),
            ("none", "there is no such file or folder"),
            ("none.snap.new", "there is no such file"),
            ("none.snap", "expected a folder, FILE.snap or FILE.snap.new"),
        ] {
            let error = pending(&[at(name)]).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        let found = pending(&[folder.path().to_owned(), at("plain.snap"), at("image.snap.new")]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].read().unwrap().state, State::Binary);
    }

    #[test]
    fn a_snapshot_without_a_scenario_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a@v1.9.0.x.snap", "a@v1.8.0.x.snap", "malformed.snap", "a@v1.9.0.y.snap.new"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = unreferenced(&[folder.path().to_owned()], &["a@v1.9.0.x".to_owned()].into()).unwrap();
        assert_eq!(found, Unreferenced { files: vec![folder.path().join("a@v1.8.0.x.snap")], others: 1 });
    }

    #[test]
    fn a_diff_shows_parts_and_what_is_around_them() {
        let old: String = (0..20).map(|line| format!("{line}\n")).collect();
        let new = old.replace("5\n", "five\n").replace("18\n", "");
        // 15 has a 5 at its end.
        insta::assert_snapshot!(diff_around(&old, &new, 1), @r"
        @@ -5,3 +5,3 @@
          4
        - 5
        + five
          6
        @@ -15,6 +15,5 @@
          14
        - 15
        + 1five
          16
          17
        - 18
          19
        ");
        assert_eq!(diff("a", "a\n"), "");
    }
}
