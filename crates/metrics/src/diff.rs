//! What differs between two texts, line by line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

/// How many lines of a difference are shown. Nobody reads more, and a terminal takes long for a million.
const SHOWN: usize = 1_000;

/// How long the least difference is looked for; after that one that is larger is good enough.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines that one text has and the other has not, as `-` and `+` lines in order; empty where they are equal. Of more than a thousand
/// the rest is counted.
pub fn diff(expected: &str, found: &str) -> String {
    diff_of(expected, found, SHOWN, PATIENCE)
}

fn diff_of(expected: &str, found: &str, shown: usize, patience: Duration) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let (in_old, in_new) = kept(&old, &new, patience);
    let mut out = String::new();
    let (mut left_out_old, mut left_out_new, mut count) = (0usize, 0usize, 0usize);
    let mut tell = |mark: char, line: &str| {
        count += 1;
        if count <= shown {
            let _ = writeln!(out, "{mark} {line}");
        } else if mark == '-' {
            left_out_old += 1;
        } else {
            left_out_new += 1;
        }
    };
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && !in_old[i] {
            tell('-', old[i]);
            i += 1;
        } else if j < new.len() && !in_new[j] {
            tell('+', new[j]);
            j += 1;
        } else {
            // Both keep the line.
            (i, j) = (i + 1, j + 1);
        }
    }
    let left_out = left_out_old + left_out_new;
    if left_out > 0 {
        let lines = if left_out == 1 { "line" } else { "lines" };
        let _ = writeln!(out, "{left_out} more {lines} left out: {left_out_old} with -, {left_out_new} with +");
    }
    out
}

/// Which lines of each text the other keeps, in the same order.
fn kept(old: &[&str], new: &[&str], patience: Duration) -> (Vec<bool>, Vec<bool>) {
    let mut numbers: HashMap<&str, (u32, bool)> = HashMap::with_capacity(old.len());
    for line in old {
        let next = numbers.len() as u32;
        numbers.entry(line).or_insert((next, false));
    }
    for line in new {
        if let Some((_, in_both)) = numbers.get_mut(line) {
            *in_both = true;
        }
    }
    // Lines that only one text has are no part of what they share: without them little is left, mostly.
    let shared = |lines: &[&str]| -> (Vec<u32>, Vec<u32>) {
        let numbered = lines.iter().enumerate().filter_map(|(place, line)| {
            let (number, in_both) = numbers.get(line)?;
            in_both.then_some((place as u32, *number))
        });
        numbered.unzip()
    };
    let ((old_places, old_numbers), (new_places, new_numbers)) = (shared(old), shared(new));
    drop(numbers);
    let (mut in_old, mut in_new) = (vec![false; old.len()], vec![false; new.len()]);
    let deadline = Instant::now() + patience;
    for op in capture_diff_slices_deadline(Algorithm::Myers, &old_numbers, &new_numbers, Some(deadline)) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            for step in 0..len {
                in_old[old_places[old_index + step] as usize] = true;
                in_new[new_places[new_index + step] as usize] = true;
            }
        }
    }
    (in_old, in_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_went_and_what_came() {
        for (old, new, expected) in [
            ("a\nb\nc\n", "a\nx\nc\n", "- b\n+ x\n"),
            ("a\n", "a\n", ""),
            ("", "a\nb\n", "+ a\n+ b\n"),
            ("a\nb\n", "", "- a\n- b\n"),
            ("a\nb\nc\nd\n", "c\nd\na\nb\n", "+ c\n+ d\n- c\n- d\n"),
            ("a\na\nb\n", "a\nb\nb\n", "- a\n+ b\n"),
        ] {
            assert_eq!(diff(old, new), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn what_is_more_than_anybody_reads_is_counted() {
        assert_eq!(diff_of("a\nb\n", "c\n", 2, PATIENCE), "- a\n- b\n1 more line left out: 0 with -, 1 with +\n");
        assert_eq!(diff_of("a\nb\n", "c\nd\n", 1, PATIENCE), "- a\n3 more lines left out: 1 with -, 2 with +\n");
    }

    #[test]
    fn large_texts_take_no_table() {
        let page = |label: &str| (0..200_000).map(|number| format!("  {{{label}=\"{number}\"}}\n")).collect::<String>();
        let found = diff(&page("a"), &page("b"));
        assert_eq!(found.lines().count(), SHOWN + 1);
        assert!(found.ends_with("399000 more lines left out: 199000 with -, 200000 with +\n"), "{}", &found[found.len() - 80..]);
        // Every line is in both, and elsewhere.
        let turned: String = page("a").lines().rev().map(|line| format!("{line}\n")).collect();
        assert!(diff_of(&page("a"), &turned, 5, Duration::from_millis(20)).contains("more lines left out"));
    }

    proptest::proptest! {
        #[test]
        fn a_diff_leads_from_one_text_to_the_other(old in "([a-d]\n){0,12}", new in "([a-d]\n){0,12}") {
            let found = diff(&old, &new);
            let count = |mark: &str| found.lines().filter(|line| line.starts_with(mark)).count();
            let lines = |text: &str| text.lines().count();
            proptest::prop_assert_eq!(lines(&old) - count("- "), lines(&new) - count("+ "));
            proptest::prop_assert_eq!(found.is_empty(), old == new);
        }
    }
}
