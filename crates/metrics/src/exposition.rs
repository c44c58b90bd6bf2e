//! Reading the text exposition format 0.0.4.

use std::collections::BTreeMap;

use crate::registry::Kind;
use crate::series::{Labels, Sample, Series};

/// A page that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// Samples in the order of the page.
    pub samples: Vec<Sample>,
    /// Types by family name.
    pub kinds: BTreeMap<String, Kind>,
    /// Help texts by family name.
    pub help: BTreeMap<String, String>,
}

impl Exposition {
    /// The samples of one metric name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.series.name == name)
    }
}

/// A page that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in bytes.
    pub column: usize,
    /// What is wrong.
    pub why: String,
}

/// Reads a page.
///
/// # Errors
/// At the first line that is not of the format.
pub fn parse(text: &str) -> Result<Exposition, ParseError> {
    let mut page = Exposition::default();
    for (index, line) in text.split('\n').enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            continue;
        }
        if let Some(comment) = trimmed.strip_prefix('#') {
            read_comment(&mut page, comment.trim_start());
            continue;
        }
        let mut cursor = Cursor { line, at: line.len() - line.trim_start().len() };
        let sample = read_sample(&mut cursor).map_err(|why| ParseError { line: index + 1, column: cursor.at + 1, why })?;
        page.samples.push(sample);
    }
    Ok(page)
}

fn read_comment(page: &mut Exposition, comment: &str) {
    let mut parts = comment.splitn(3, char::is_whitespace);
    match (parts.next(), parts.next(), parts.next()) {
        (Some("TYPE"), Some(name), Some(kind)) => {
            let kind = match kind.trim() {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                "summary" => Kind::Summary,
                _ => Kind::Untyped,
            };
            page.kinds.insert(name.to_owned(), kind);
        }
        (Some("HELP"), Some(name), text) => {
            let text = text.unwrap_or_default().replace("\\n", "\n").replace("\\\\", "\\");
            page.help.insert(name.to_owned(), text);
        }
        _ => {}
    }
}

struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    fn word(&mut self, good: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|character| !good(character)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn take(&mut self, character: char) -> bool {
        let found = self.rest().starts_with(character);
        if found {
            self.at += character.len_utf8();
        }
        found
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == ':'
}

fn read_sample(cursor: &mut Cursor<'_>) -> Result<Sample, String> {
    let name = cursor.word(is_name);
    if name.is_empty() || name.starts_with(|character: char| character.is_ascii_digit()) {
        return Err("expected a metric name".to_owned());
    }
    cursor.skip_space();
    let mut labels = Labels::new();
    if cursor.take('{') {
        loop {
            cursor.skip_space();
            if cursor.take('}') {
                break;
            }
            let label = cursor.word(is_name);
            if label.is_empty() {
                return Err("expected a label name or '}'".to_owned());
            }
            cursor.skip_space();
            if !cursor.take('=') {
                return Err("expected '='".to_owned());
            }
            cursor.skip_space();
            let value = read_quoted(cursor)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("label {label:?} comes twice"));
            }
            cursor.skip_space();
            if !cursor.take(',') && !cursor.rest().starts_with('}') {
                return Err("expected ',' or '}'".to_owned());
            }
        }
        cursor.skip_space();
    }
    let start = cursor.at;
    let number = cursor.word(|character| !character.is_whitespace());
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        text => text.parse().map_err(|_| {
            cursor.at = start;
            format!("{text:?} is no number")
        })?,
    };
    cursor.skip_space();
    let timestamp = cursor.rest().trim();
    if !timestamp.is_empty() && timestamp.parse::<i64>().is_err() {
        return Err(format!("{timestamp:?} is no timestamp"));
    }
    Ok(Sample { series: Series { name: name.to_owned(), labels }, value })
}

fn read_quoted(cursor: &mut Cursor<'_>) -> Result<String, String> {
    if !cursor.take('"') {
        return Err("expected '\"'".to_owned());
    }
    let mut value = String::new();
    let mut characters = cursor.rest().char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                cursor.at += at + 1;
                return Ok(value);
            }
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, other @ ('\\' | '"'))) => value.push(other),
                Some((_, other)) => {
                    value.push('\\');
                    value.push(other);
                }
                None => break,
            },
            other => value.push(other),
        }
    }
    cursor.at = cursor.line.len();
    Err("label value has no end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Family, Registry};

    #[test]
    fn errors_have_line_and_column() {
        for (text, expected) in [
            ("a 1\nb{x=\"1\" y=\"2\"} 3", "line 2, column 9: expected ',' or '}'"),
            ("a one", "line 1, column 3: \"one\" is no number"),
            ("a{x=\"y} 1", "line 1, column 10: label value has no end"),
            ("{} 1", "line 1, column 1: expected a metric name"),
            ("a{x=\"1\",x=\"2\"} 1", "line 1, column 14: label \"x\" comes twice"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    proptest::proptest! {
        /// What the registry writes is read back.
        #[test]
        fn round_trip(values in proptest::collection::btree_map("[a-z<>\\\\\"\n ]{0,6}", -1e9f64..1e9, 1..6)) {
            let registry = Registry::default();
            registry.declare(Family {
                name: "m".to_owned(), kind: Kind::Gauge, help: "a \\ b".to_owned(),
                labels: vec!["l".to_owned()], buckets: vec![],
            });
            for (label, value) in &values {
                registry.set("m", &[("l", label)], *value);
            }
            let page = parse(&registry.page()).unwrap();
            let read: BTreeMap<String, f64> =
                page.samples.iter().map(|sample| (sample.series.label("l").to_owned(), sample.value)).collect();
            proptest::prop_assert_eq!(read, values);
            proptest::prop_assert_eq!(page.help["m"].as_str(), "a \\ b");
        }

        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = parse(&text);
        }
    }
}
