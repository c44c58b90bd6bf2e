//! Series in normal form as text, for people and for snapshots: written and read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::exposition::ParseError;
use crate::registry::go_float;
use crate::series::{Series, write_labels};

/// Writes series for people and for snapshots: one block a name, labels that all its series share once, the rest a line
/// each, sorted; bucket bounds of a histogram are gathered in one line.
pub fn render(series: &[Series]) -> String {
    write(series.iter().map(|series| (series, &[][..])))
}

/// A line of a block: the values of the series without a bound, and those of each bound.
#[derive(Default)]
struct Written<'a> {
    values: Vec<&'a [f64]>,
    bounds: BTreeMap<Bound<'a>, Vec<&'a [f64]>>,
}

/// Writes series with their values, where there are any: `{code="200"} 5`, several where a series stands for several, and
/// `le 0.5=1 10=2`.
pub(crate) fn write<'a>(series: impl Iterator<Item = (&'a Series, &'a [f64])>) -> String {
    let mut by_name: BTreeMap<&str, Vec<(&Series, &[f64])>> = BTreeMap::new();
    for one in series {
        by_name.entry(&one.0.name).or_default().push(one);
    }
    let mut out = String::new();
    for (name, all) in by_name {
        let is_shared = |label: &String, value: &String| all.iter().all(|(other, _)| other.labels.get(label) == Some(value));
        let first = all[0].0.labels.iter();
        let shared: BTreeMap<&String, &String> =
            first.filter(|(label, value)| *label != "le" && is_shared(label, value)).collect();
        let _ = writeln!(out, "{name}");
        if !shared.is_empty() {
            out.push_str("  all ");
            let _ = write_labels(&mut out, shared.iter().map(|(name, value)| (*name, *value)));
            out.push('\n');
        }
        let mut lines: BTreeMap<Vec<(&String, &String)>, Written<'_>> = BTreeMap::new();
        for (series, values) in &all {
            let own = series.labels.iter().filter(|(label, _)| !shared.contains_key(label) && *label != "le").collect();
            let line = lines.entry(own).or_default();
            match series.labels.get("le") {
                Some(bound) => line.bounds.entry(Bound(bound)).or_default().push(values),
                None => line.values.push(values),
            }
        }
        for (own, line) in lines {
            out.push_str("  ");
            let _ = write_labels(&mut out, own.into_iter());
            for value in line.values.iter().copied().flatten() {
                let _ = write!(out, " {}", go_float(*value));
            }
            if !line.bounds.is_empty() {
                out.push_str(" le");
            }
            for (bound, values) in line.bounds {
                let _ = write!(out, " {}", bound.0);
                for (index, value) in values.into_iter().flatten().enumerate() {
                    let _ = write!(out, "{}{}", if index == 0 { '=' } else { ',' }, go_float(*value));
                }
            }
            out.push('\n');
        }
    }
    out
}

/// The labels at the beginning of a text without their braces, and what follows.
fn split_labels(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{')?;
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted => return Some((&inner[..at], &inner[at + 1..])),
            _ => {}
        }
    }
    None
}

/// Reads what [`render`] has written, with values or without; values are left out.
///
/// # Errors
/// When it is something else; the line is the text's.
pub fn read(text: &str) -> Result<Vec<Series>, ParseError> {
    let mut series = Vec::new();
    let (mut name, mut shared) = ("", "");
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: &str| ParseError { line: index + 1, column: 1, why: why.to_owned() };
        let Some(rest) = line.strip_prefix("  ") else {
            (name, shared) = (line.trim_end(), "");
            continue;
        };
        if name.is_empty() {
            return Err(wrong("labels without a metric before them"));
        }
        if let Some(all) = rest.strip_prefix("all ") {
            (shared, _) = split_labels(all).ok_or_else(|| wrong("expected labels in braces"))?;
            continue;
        }
        let (own, after) = split_labels(rest).ok_or_else(|| wrong("expected labels in braces"))?;
        let mut words = after.split_whitespace().skip_while(|word| *word != "le");
        let bounds: Vec<&str> =
            words.by_ref().skip(1).map(|bound| bound.split_once('=').map_or(bound, |(bound, _)| bound)).collect();
        let both: Vec<&str> = [shared, own].into_iter().filter(|labels| !labels.is_empty()).collect();
        let of_page = |bound: Option<&str>| {
            let bound = bound.map(|bound| format!("le=\"{bound}\""));
            let all: Vec<&str> = both.iter().copied().chain(bound.as_deref()).collect();
            let page = crate::parse(&format!("{name}{{{}}} 1", all.join(",")));
            let page = page.map_err(|error| ParseError { line: index + 1, ..error })?;
            Ok(page.samples.into_iter().map(|sample| sample.series))
        };
        if bounds.is_empty() {
            series.extend(of_page(None)?);
        }
        for bound in bounds {
            series.extend(of_page(Some(bound))?);
        }
    }
    Ok(series)
}

/// A bucket bound, ordered as a number.
#[derive(PartialEq, Eq)]
pub(crate) struct Bound<'a>(pub(crate) &'a str);

impl Bound<'_> {
    fn number(&self) -> f64 {
        match self.0 {
            "+Inf" => f64::INFINITY,
            text => text.parse().unwrap_or(f64::NAN),
        }
    }
}

impl Ord for Bound<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number().total_cmp(&other.number()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for Bound<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { name: name.to_owned(), labels }
    }

    #[test]
    fn what_was_written_is_read() {
        let all = [
            series("h_bucket", &[("job", "j"), ("url", "/a?b={c} le 5"), ("le", "10")]),
            series("h_bucket", &[("job", "j"), ("url", "/a?b={c} le 5"), ("le", "+Inf")]),
            series("up", &[("job", "j"), ("text", "a \"quote\" and \\ and\nlines")]),
            series("up", &[("job", "k")]),
            series("alone", &[]),
        ];
        let text = render(&all);
        let mut found = read(&text).unwrap();
        found.sort();
        let mut expected = all.to_vec();
        expected.sort();
        assert_eq!(found, expected, "{text}");
        assert_eq!(render(&found), text);
        let error = read("up\n  {a=1}\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(read("  {a=\"b\"}\n").is_err());
    }

    #[test]
    fn shared_labels_are_written_once_and_bounds_in_one_line() {
        let all = [
            series("h_bucket", &[("job", "j"), ("verb", "GET"), ("le", "10")]),
            series("h_bucket", &[("job", "j"), ("verb", "GET"), ("le", "2")]),
            series("h_bucket", &[("job", "j"), ("verb", "GET"), ("le", "+Inf")]),
            series("h_bucket", &[("job", "j"), ("verb", "LIST"), ("le", "+Inf")]),
        ];
        assert_eq!(render(&all), "h_bucket\n  all {job=\"j\"}\n  {verb=\"GET\"} le 2 10 +Inf\n  {verb=\"LIST\"} le +Inf\n");
    }
}
