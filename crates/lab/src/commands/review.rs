//! `lab scenario review`: what is pending of snapshots, accepted or rejected one by one, all at once, or listed.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use wire::{counted, counted_as};

use super::Output;
use crate::exit::{Exit, Failure};
use crate::scenarios;
use crate::snapshots::{self, Pending, Read, SnapshotError, State};

/// How many lines of a difference are shown before `d` is asked for.
const LINES: usize = 40;

#[derive(Args)]
pub(crate) struct Review {
    /// Folders with snapshots, or single files (FILE.snap or FILE.snap.new).
    #[arg(default_value = "snapshots")]
    paths: Vec<PathBuf>,
    /// Accept all that is pending.
    #[arg(long)]
    accept: bool,
    /// Reject all that is pending.
    #[arg(long, conflicts_with = "accept")]
    reject: bool,
    /// List snapshots that no scenario takes, instead of what is pending. The command ends with 4 if there are any.
    #[arg(long, conflicts_with_all = ["accept", "reject"])]
    unreferenced: bool,
    /// Where scenarios are, for --unreferenced.
    #[arg(long, default_value = "scenarios", value_name = "DIR", requires = "unreferenced")]
    scenarios: PathBuf,
    /// How the list is printed; json lists and asks nothing.
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["accept", "reject"])]
    output: Output,
}

/// A pending text as it is listed.
#[derive(Serialize)]
struct Listed {
    snapshot: PathBuf,
    pending: PathBuf,
    state: &'static str,
    source: Option<String>,
    /// Lines.
    added: usize,
    removed: usize,
}

/// How many were decided how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    accepted: usize,
    rejected: usize,
    /// Those that were the same as the snapshot.
    settled: usize,
    skipped: usize,
}

/// What a command ends with.
pub(crate) fn failure(error: SnapshotError) -> Failure {
    let exit = match &error {
        SnapshotError::Path { .. } | SnapshotError::Read { .. } => Exit::Usage,
        SnapshotError::Write { .. } => Exit::EnvironmentMissing,
    };
    Failure::new(exit, error.to_string())
}

impl Review {
    pub(crate) fn run(self) -> Result<Exit> {
        if self.unreferenced {
            return self.list_unreferenced();
        }
        let pending = snapshots::pending(&self.paths).map_err(failure)?;
        if pending.is_empty() && self.output == Output::Text {
            say!("no snapshot is pending");
            return Ok(Exit::Success);
        }
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let tally = if self.accept || self.reject {
            self.decide_all(&pending)?
        } else if is_terminal && self.output == Output::Text {
            let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            review(&pending, &mut io::stdin().lock(), &mut io::stdout(), has_colour)?
        } else {
            return self.list(&pending);
        };
        say!("{}", tally.told());
        Ok(tally.exit())
    }

    /// Accepts or rejects all.
    fn decide_all(&self, pending: &[Pending]) -> Result<Tally> {
        let mut tally = Tally::default();
        for one in pending {
            let read = one.read().map_err(failure)?;
            let word = if read.state == State::Binary {
                eprintln!("{}: this snapshot is not text; decide with `cargo insta review`", one.file.display());
                tally.skipped += 1;
                continue;
            } else if self.accept {
                one.accept().map_err(failure)?;
                tally.accepted += 1;
                "accepted"
            } else {
                one.reject().map_err(failure)?;
                tally.rejected += 1;
                "rejected"
            };
            say!("{word} {}", one.snapshot.display());
        }
        Ok(tally)
    }

    /// Lists what is pending, and says that it is.
    fn list(&self, pending: &[Pending]) -> Result<Exit> {
        let mut listed = Vec::new();
        for one in pending {
            let read = one.read().map_err(failure)?;
            let diff = snapshots::diff_around(&read.old, &read.new, 0);
            let lines = |sign: &str| diff.lines().filter(|line| line.starts_with(sign)).count();
            listed.push(Listed {
                snapshot: one.snapshot.clone(),
                pending: one.file.clone(),
                state: word(&read.state),
                source: read.source,
                added: lines("+ "),
                removed: lines("- "),
            });
        }
        let exit = if listed.is_empty() { Exit::Success } else { Exit::SnapshotDiffers };
        if self.output.json(&listed) {
            return Ok(exit);
        }
        for one in &listed {
            say!("{} ({}, +{} -{})", one.snapshot.display(), one.state, one.added, one.removed);
        }
        eprintln!(
            "{} pending; run `lab scenario review` in a terminal to decide one by one, or pass --accept or --reject",
            counted_as(listed.len(), "snapshot is", "snapshots are")
        );
        Ok(exit)
    }

    fn list_unreferenced(&self) -> Result<Exit> {
        let mut taken = BTreeSet::new();
        let mut problems = Vec::new();
        let files = scenarios::files(&self.scenarios);
        if files.is_empty() {
            let failure = Failure::new(Exit::Usage, format!("no scenario file is in {}", self.scenarios.display()));
            return Err(failure.hint("pass the folder with --scenarios DIR").into());
        }
        for file in files {
            match scenarios::load(&file) {
                Ok(loaded) => {
                    for (job, snapshot) in
                        loaded.jobs().iter().flat_map(|job| loaded.scenario.snapshots.iter().map(move |one| (job, one)))
                    {
                        taken.insert(scenarios::snapshot_name(&loaded.name, &job.release, &snapshot.value.name));
                    }
                }
                Err(found) => problems.extend(found.iter().map(ToString::to_string)),
            }
        }
        // Which snapshots a file takes that cannot be read, nobody knows.
        if !problems.is_empty() {
            return Err(Failure::new(Exit::Usage, problems.join("\nerror: ")).into());
        }
        let found = snapshots::unreferenced(&self.paths, &taken).map_err(failure)?;
        if !self.output.json(&found.files) {
            for file in &found.files {
                say!("{}", file.display());
            }
            eprintln!(
                "{} no scenario takes; {} not named SCENARIO@RELEASE.NAME.snap and not checked",
                counted(found.files.len(), "snapshot"),
                counted_as(found.others, "other is", "others are")
            );
        }
        Ok(if found.files.is_empty() { Exit::Success } else { Exit::SnapshotDiffers })
    }
}

impl Tally {
    fn told(&self) -> String {
        let mut said = vec![format!("{} accepted", self.accepted), format!("{} rejected", self.rejected)];
        if self.settled > 0 {
            said.push(format!("{} the same as the snapshot", self.settled));
        }
        if self.skipped > 0 {
            said.push(format!("{} left pending", self.skipped));
        }
        said.join(", ")
    }

    fn exit(&self) -> Exit {
        if self.skipped > 0 { Exit::SnapshotDiffers } else { Exit::Success }
    }
}

fn word(state: &State) -> &'static str {
    match state {
        State::New => "new",
        State::Differs => "differs",
        State::Same => "same",
        State::Binary => "binary",
    }
}

/// Lines of a difference for a terminal: what would control it is escaped.
fn shown(diff: &str, most: usize, has_colour: bool) -> String {
    let mut out = String::new();
    let all = diff.lines().count();
    for line in diff.lines().take(most) {
        let text: String = line
            .chars()
            .flat_map(|letter| -> Box<dyn Iterator<Item = char>> {
                if letter.is_control() && letter != '\t' {
                    Box::new(letter.escape_default())
                } else {
                    Box::new(std::iter::once(letter))
                }
            })
            .collect();
        let colour = match text.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            Some(b'@') => "36",
            _ => "",
        };
        if has_colour && !colour.is_empty() {
            out.push_str(&format!("\x1b[{colour}m{text}\x1b[0m\n"));
        } else {
            out.push_str(&text);
            out.push('\n');
        }
    }
    if all > most {
        out.push_str(&format!("… and {}; d shows all\n", counted(all - most, "line")));
    }
    out
}

/// Asks about each, one after the other; a line's first letter decides. The end of the input is `q`.
fn review(pending: &[Pending], input: &mut dyn BufRead, out: &mut dyn Write, has_colour: bool) -> Result<Tally> {
    let mut tally = Tally::default();
    for (index, one) in pending.iter().enumerate() {
        let read = one.read().map_err(failure)?;
        let source = read.source.as_ref().map(|source| format!(", made by {source}")).unwrap_or_default();
        writeln!(out, "[{}/{}] {} ({}{source})", index + 1, pending.len(), one.snapshot.display(), word(&read.state))?;
        match read.state {
            State::Same => {
                one.reject().map_err(failure)?;
                writeln!(out, "the snapshot has this text already")?;
                tally.settled += 1;
                continue;
            }
            State::Binary => {
                writeln!(out, "this snapshot is not text; decide with `cargo insta review`")?;
                tally.skipped += 1;
                continue;
            }
            State::New | State::Differs => {}
        }
        out.write_all(shown(&snapshots::diff(&read.old, &read.new), LINES, has_colour).as_bytes())?;
        if ask(one, &read, input, out, has_colour, &mut tally)? == Next::Quit {
            tally.skipped += pending.len() - index;
            break;
        }
    }
    Ok(tally)
}

#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Quit,
}

/// Asks about one until it is decided.
fn ask(
    one: &Pending,
    read: &Read,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    has_colour: bool,
    tally: &mut Tally,
) -> Result<Next> {
    loop {
        write!(out, "a(ccept) r(eject) s(kip) d(iff) q(uit)? ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            writeln!(out)?;
            return Ok(Next::Quit);
        }
        match line.trim().to_lowercase().as_str() {
            "a" | "accept" => {
                one.accept().map_err(failure)?;
                tally.accepted += 1;
            }
            "r" | "reject" => {
                one.reject().map_err(failure)?;
                tally.rejected += 1;
            }
            "s" | "skip" => tally.skipped += 1,
            "d" | "diff" => {
                let whole = snapshots::diff_around(&read.old, &read.new, usize::MAX / 2);
                out.write_all(shown(&whole, usize::MAX, has_colour).as_bytes())?;
                continue;
            }
            "q" | "quit" => return Ok(Next::Quit),
            other => {
                writeln!(out, "invalid answer {other:?}; expected a, r, s, d or q")?;
                continue;
            }
        }
        return Ok(Next::Go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Snapshots `one` that differs and `two` that is new, and what the answers make of them.
    fn answered(answers: &str, has_colour: bool) -> (Tally, String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let origin = snapshots::Origin { source: "scenarios/a.yaml".to_owned(), expression: "x".to_owned(), input_file: None };
        let one = folder.path().join("one.snap");
        snapshots::update(&one, "a\nb\n", &origin).unwrap();
        snapshots::compare(&one, "a\nc\x1b\n", &origin).unwrap();
        snapshots::compare(&folder.path().join("two.snap"), "new\n", &origin).unwrap();
        let pending = snapshots::pending(&[folder.path().to_owned()]).unwrap();
        let mut out = Vec::new();
        let tally = review(&pending, &mut answers.as_bytes(), &mut out, has_colour).unwrap();
        let text = String::from_utf8(out).unwrap().replace(&folder.path().display().to_string(), "DIR");
        let mut files: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .map(|entry| format!("{}: {}", entry.file_name().display(), snapshots::read(&entry.path()).unwrap().unwrap()))
            .collect();
        files.sort();
        (tally, text, files)
    }

    #[test]
    fn each_is_asked_about() {
        let (tally, said, files) = answered("x\nd\na\nr\n", false);
        insta::assert_snapshot!(said, @r#"
        [1/2] DIR/one.snap (differs, made by scenarios/a.yaml)
        @@ -1,2 +1,2 @@
          a
        - b
        + c\u{1b}
        a(ccept) r(eject) s(kip) d(iff) q(uit)? invalid answer "x"; expected a, r, s, d or q
        a(ccept) r(eject) s(kip) d(iff) q(uit)? @@ -1,2 +1,2 @@
          a
        - b
        + c\u{1b}
        a(ccept) r(eject) s(kip) d(iff) q(uit)? [2/2] DIR/two.snap (new, made by scenarios/a.yaml)
        @@ -0,0 +1,1 @@
        + new
        a(ccept) r(eject) s(kip) d(iff) q(uit)?
        "#);
        assert_eq!(tally, Tally { accepted: 1, rejected: 1, ..Tally::default() });
        assert_eq!((tally.exit(), tally.told().as_str()), (Exit::Success, "1 accepted, 1 rejected"));
        assert_eq!(files, ["one.snap: a\nc\x1b"]);
    }

    #[test]
    fn what_is_skipped_stays_pending() {
        for (answers, skipped, accepted) in [("", 2, 0), ("q\n", 2, 0), ("s\nACCEPT\n", 1, 1), ("a\nq\n", 1, 1), ("s\ns", 2, 0)] {
            let (tally, _, files) = answered(answers, false);
            assert_eq!((tally.skipped, tally.accepted, tally.exit()), (skipped, accepted, Exit::SnapshotDiffers), "{answers:?}");
            assert_eq!(files.iter().filter(|file| file.contains(".snap.new")).count(), skipped, "{answers:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals() {
        let (_, said, _) = answered("q\n", true);
        assert!(said.contains("\x1b[31m- b\x1b[0m\n\x1b[32m+ c\\u{1b}\x1b[0m\n"), "{said}");
        assert_eq!(shown("+ a\n+ b\n+ c\n", 1, false), "+ a\n… and 2 lines; d shows all\n");
    }
}
