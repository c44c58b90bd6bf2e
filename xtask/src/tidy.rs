//! What the compiler does not check: files that grow too long, modules that do not say what they are for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

/// Lines after which a file is usually two things.
const LONG: usize = 760;

/// Every Rust file below a folder, build folders left out.
pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Looks at every Rust file; prints what is wrong.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let mut files = Vec::new();
    sources(root, &mut files);
    files.sort();
    let mut problems = 0;
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        let name = file.strip_prefix(root).unwrap_or(file).display();
        let lines = text.lines().count();
        if lines > LONG {
            println!("{name}: {lines} lines; {LONG} are a lot already");
            problems += 1;
        }
        if !text.starts_with("//!") {
            println!("{name}: does not begin by saying what it is for");
            problems += 1;
        }
    }
    println!("{} files, {problems} problems", files.len());
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
