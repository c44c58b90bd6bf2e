//! What promtool says of a unit-test file, and how many cases of it passed.
//!
//! promtool names only what failed: a line for each expectation that is not met, and one for each test that it cannot carry out
//! (`cmd/promtool/unittest.go`). So whoever counts passed cases subtracts, which is only right where every test was carried out.

use serde::Serialize;

/// What became of a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Expectations in the file.
    pub(super) cases: usize,
    /// Those that were met; nothing where a test was not carried out.
    pub(super) passed: Option<usize>,
    /// Those that were not met.
    pub(super) failed: usize,
    /// Errors of tests that were not carried out, such as an expression that cannot be evaluated.
    pub(super) errors: usize,
}

/// Whether promtool could not read the file itself.
pub(super) fn is_unreadable(said: &str) -> bool {
    said.lines().any(|line| line.trim_start().starts_with("yaml: "))
}

/// Counts what promtool said of a file with so many cases.
pub(super) fn count(said: &str, cases: usize, succeeded: bool) -> Counts {
    let failed = said.lines().filter(|line| is_expectation(line)).count();
    let errors = said.lines().filter(|line| is_error(line)).count();
    // An end without a word that is known is an error, too.
    let errors = if !succeeded && failed + errors == 0 { 1 } else { errors };
    Counts { cases, passed: (errors == 0).then(|| cases.saturating_sub(failed)), failed, errors }
}

/// An alert or an expression that is not as expected.
fn is_expectation(line: &str) -> bool {
    line.starts_with("    alertname: ") || line.starts_with("    expr: ")
}

/// Any other message: what belongs to an expectation is indented deeper.
fn is_error(line: &str) -> bool {
    const KNOWN: [&str; 4] = ["Unit Testing:", "  SUCCESS", "  FAILED:", "    name: "];
    let indent = line.len() - line.trim_start().len();
    indent < 8 && !line.trim().is_empty() && !is_expectation(line) && !KNOWN.iter().any(|known| line.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_counted() {
        let failing = "Unit Testing:  a.yaml\n  FAILED:\n    name: one,\n    alertname: A, time: 5m, \n        exp:[], \n        got:[\n            1]\n\n    expr: \"a\", time: 5m,\n        exp: {} 1\n        got: nil\n";
        let broken = "Unit Testing:  a.yaml\n  FAILED:\n    rule: r, time: 0s, err: found duplicate series for the match group\n";
        for (said, succeeded, expected) in [
            ("Unit Testing:  a.yaml\n  SUCCESS\n", true, (Some(5), 0, 0)),
            (failing, false, (Some(3), 2, 0)),
            (broken, false, (None, 0, 1)),
            ("Unit Testing:  a.yaml\n  FAILED:\nsomething else\n", false, (None, 0, 1)),
        ] {
            let found = count(said, 5, succeeded);
            assert_eq!((found.passed, found.failed, found.errors), expected, "{said}");
        }
        assert!(is_unreadable("  FAILED:\nyaml: unmarshal errors:\n  line 3: field x not found") && !is_unreadable(failing));
    }
}
