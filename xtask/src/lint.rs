//! Clippy over the workspace, with one rule that Clippy cannot limit to a workspace: a `match` over one of our own enums has no
//! catch-all arm, so that a new variant is a list of compiler errors.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::tidy::sources;

/// Clippy's name for the rule. It finds catch-all arms over every enum, those of other crates included.
const RULE: &str = "clippy::wildcard_enum_match_arm";

/// Names of enums that the workspace and a crate that it uses both have; here the name means the other crate's.
const FOREIGN: [&str; 1] = ["Value"];

/// Where catch-all arms stay: a parser answers every token that it does not expect with one error, whatever tokens there are.
const PARSERS: [&str; 1] = ["crates/promql/src/"];

/// The names of the enums that the workspace's sources declare.
fn own_enums(root: &Path) -> Result<BTreeSet<String>> {
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        for line in std::fs::read_to_string(&file)?.lines() {
            names.extend(declared(line).filter(|name| !FOREIGN.contains(name)).map(str::to_owned));
        }
    }
    Ok(names)
}

/// The enum that a line declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
    let rest = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("enum ")?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().filter(|name| !name.is_empty())
}

/// The enum whose variants Clippy proposes in place of a catch-all arm, such as `Value` of `serde_json::Value::Null | …`; `Self` is
/// always one of ours.
fn proposed(suggestion: &str) -> Option<&str> {
    let first = suggestion.split('|').next()?.trim();
    let path = first.split_once('@').map_or(first, |(_, path)| path.trim());
    let path = path.split(['(', '{']).next()?.trim();
    let (of, _variant) = path.rsplit_once("::")?;
    of.rsplit("::").next()
}

/// What one line of Clippy's output means.
enum Line {
    /// A catch-all arm over this enum, in this file: what is printed of it.
    CatchAll { of: Option<String>, file: String, rendered: String },
    /// Anything else that people are to see.
    Other(String),
    /// Progress of the build.
    Nothing,
}

fn read(line: &str) -> Line {
    let Ok(parsed) = serde_json::from_str::<Value>(line) else { return Line::Other(line.to_owned()) };
    if parsed["reason"] != "compiler-message" {
        return Line::Nothing;
    }
    let message = &parsed["message"];
    let rendered = message["rendered"].as_str().unwrap_or_default().to_owned();
    if message["code"]["code"] != RULE {
        return Line::Other(rendered);
    }
    let suggestions =
        message["children"].as_array().into_iter().flatten().filter_map(|child| child["spans"].as_array()).flatten();
    let of = suggestions.filter_map(|span| span["suggested_replacement"].as_str()).find_map(proposed).map(str::to_owned);
    let file = message["spans"][0]["file_name"].as_str().unwrap_or_default().to_owned();
    Line::CatchAll { of, file, rendered }
}

/// Runs Clippy with warnings denied; fails too if a `match` over one of our own enums has a catch-all arm.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let own = own_enums(root)?;
    let mut clippy: Command = crate::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--message-format=json-diagnostic-rendered-ansi", "--"]);
    clippy.args(["-D", "warnings", "--force-warn", RULE]).stdout(Stdio::piped());
    let mut child = clippy.spawn().context("cannot run cargo clippy")?;
    let output = child.stdout.take().context("cargo clippy has no output")?;
    let mut catch_alls = BTreeSet::new();
    for line in BufReader::new(output).lines() {
        match read(&line?) {
            Line::CatchAll { of, file, rendered } => {
                let is_ours = of.as_ref().is_none_or(|of| of == "Self" || own.contains(of));
                if is_ours && !PARSERS.iter().any(|parser| file.starts_with(parser)) {
                    catch_alls.insert(rendered);
                }
            }
            Line::Other(rendered) => eprintln!("{rendered}"),
            Line::Nothing => {}
        }
    }
    for rendered in &catch_alls {
        eprintln!("{rendered}");
    }
    let passed = child.wait()?.success();
    println!("{} catch-all arms over own enums", catch_alls.len());
    Ok(if passed && catch_alls.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_are_found_where_they_are_declared() {
        for (line, expected) in [
            ("pub enum Effect {", Some("Effect")),
            ("    pub(crate) enum Step<'a> {", Some("Step")),
            ("enum Value;", Some("Value")),
            ("// an enum of ours", None),
            ("let enum_name = 1;", None),
        ] {
            assert_eq!(declared(line), expected, "{line}");
        }
    }

    #[test]
    fn the_enum_of_a_proposal_is_its_path_without_the_variant() {
        for (suggestion, expected) in [
            ("Effect::Drop | Effect::Refuse { .. }", Some("Effect")),
            ("serde_json::Value::Null", Some("Value")),
            ("other @ Self::A(_) | other @ Self::B", Some("Self")),
            ("Known", None),
        ] {
            assert_eq!(proposed(suggestion), expected, "{suggestion}");
        }
    }
}
