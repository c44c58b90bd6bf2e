//! Line by line through a page of metrics, nothing copied: what both [`crate::parse`] and [`crate::Recorder`] read with.
//!
//! The text format 0.0.4 and OpenMetrics 1.0 are read. What is decided where a page is odd:
//! a metric without TYPE is untyped; a value may be NaN or infinite; a timestamp is read and not kept; an escape that is none stands as it
//! is, as Prometheus has it; an exemplar is left out; a native histogram is left out, with a notice; what stands after `# EOF` is an
//! error; a label twice, a broken number, a text that is not UTF-8 is an error with line and column.

use crate::exposition::ParseError;
use crate::registry::Kind;

/// A label: its name, its value as it stands, and whether there is an escape in it.
pub(crate) type Pair<'a> = (&'a str, &'a str, bool);

/// What a line is.
pub(crate) enum Line<'a> {
    /// `# TYPE`
    Type(&'a str, Kind),
    /// `# HELP`, its text as it stands
    Help(&'a str, &'a str),
    /// A sample; its labels are in the scanner.
    Sample {
        /// The metric.
        name: &'a str,
        /// The value.
        value: f64,
        /// As it stands; empty for none.
        timestamp: &'a str,
    },
}

pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// The line's number, from 1.
    pub(crate) line: usize,
    /// Where the line began.
    pub(crate) start: usize,
    /// The labels of the sample that was read last, in the order of the page.
    pub(crate) labels: Vec<Pair<'a>>,
    /// Whether they are in order of their names.
    pub(crate) sorted: bool,
    /// What was left out.
    pub(crate) notices: Vec<String>,
    ended: bool,
}

/// How the value of a native histogram begins.
const NATIVE: &str = "{count:";

/// An error at a column of the line.
struct Wrong(usize, String);

fn wrong<T>(at: usize, why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(at, why.into()))
}

/// Whether a byte may stand in a name; a digit may not stand first.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        table[byte] = letter.is_ascii_alphanumeric() || letter == b'_' || letter == b':';
        byte += 1;
    }
    table
};

fn name_at(line: &str, at: usize) -> &str {
    let bytes = line.as_bytes();
    let mut end = at;
    while end < bytes.len() && NAME[bytes[end] as usize] {
        end += 1;
    }
    &line[at..end]
}

fn skip_space(line: &str, mut at: usize) -> usize {
    let bytes = line.as_bytes();
    while at < bytes.len() && matches!(bytes[at], b' ' | b'\t') {
        at += 1;
    }
    at
}

/// What stands in quotes from here on, the place after it, and whether there is an escape in it.
fn quoted(line: &str, at: usize) -> Result<(&str, usize, bool), Wrong> {
    let bytes = line.as_bytes();
    if bytes.get(at) != Some(&b'"') {
        return wrong(at, "expected '\"'");
    }
    let (mut end, mut escaped) = (at + 1, false);
    loop {
        let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[end.min(bytes.len())..]) else {
            return wrong(bytes.len(), "label value has no end");
        };
        end += found;
        if bytes[end] == b'"' {
            return Ok((&line[at + 1..end], end + 1, escaped));
        }
        escaped = true;
        end += 2;
    }
}

/// A value without its escapes.
pub(crate) fn unescaped(raw: &str, escaped: bool) -> std::borrow::Cow<'_, str> {
    if !escaped {
        return raw.into();
    }
    let mut out = String::with_capacity(raw.len());
    let mut letters = raw.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some(other @ ('\\' | '"')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out.into()
}

/// A number as pages have it: what Go's `strconv.ParseFloat` takes, `nan`, `inf` and `infinity` in any case among it, but neither
/// hexadecimal ones nor underscores (Prometheus `model/textparse/promparse.go`, `parseFloat`).
fn number(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    // Most are whole and short.
    if bytes.len() <= 15 && !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return Some(bytes.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0')) as f64);
    }
    if bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')) {
        // Go finds that too large is out of range, where Rust makes it infinite.
        return text.parse().ok().filter(|number: &f64| number.is_finite());
    }
    let (sign, word) = match bytes.first() {
        Some(b'+') => (1.0, &text[1..]),
        Some(b'-') => (-1.0, &text[1..]),
        _ => (1.0, text),
    };
    if ["inf", "infinity"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
        return Some(sign * f64::INFINITY);
    }
    // With a sign it is no number.
    text.eq_ignore_ascii_case("nan").then_some(f64::NAN)
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 0, start: 0, labels: Vec::new(), sorted: true, notices: Vec::new(), ended: false }
    }

    /// Begins at another place, for a line that was read before.
    pub(crate) fn at(text: &'a str, start: usize) -> Self {
        Self { at: start, ..Self::new(text) }
    }

    /// The next line that says something.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'a>>, ParseError> {
        while self.at < self.text.len() {
            self.start = self.at;
            let rest = &self.text[self.at..];
            let end = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
            let line = &rest[..end];
            self.at += end + 1;
            self.line += 1;
            let first = line.len() - line.trim_start().len();
            if first == line.len() {
                continue;
            }
            let at_line = self.line;
            let told = |Wrong(at, why): Wrong| ParseError { line: at_line, column: at + 1, why };
            if self.ended {
                return Err(told(Wrong(first, "there is something after # EOF".to_owned())));
            }
            let found = if line.as_bytes()[first] == b'#' {
                self.comment(line[first + 1..].trim())
            } else {
                self.sample(line, first).map_err(told)?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn comment(&mut self, comment: &'a str) -> Option<Line<'a>> {
        if comment == "EOF" {
            self.ended = true;
            return None;
        }
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
                Some(Line::Type(name, kind))
            }
            (Some("HELP"), Some(name), text) => Some(Line::Help(name, text.unwrap_or_default())),
            _ => None,
        }
    }

    /// The labels from behind the brace on; the place behind its end. A name in quotes without a value is the metric's, as Prometheus 3
    /// writes names that are no identifiers.
    fn braces(&mut self, line: &'a str, mut at: usize, name: &mut &'a str) -> Result<usize, Wrong> {
        let bytes = line.as_bytes();
        loop {
            at = skip_space(line, at);
            if bytes.get(at) == Some(&b'}') {
                return Ok(at + 1);
            }
            let (label, end) = if bytes.get(at) == Some(&b'"') {
                let (label, end, _) = quoted(line, at)?;
                (label, end)
            } else {
                let label = name_at(line, at);
                (label, at + label.len())
            };
            if label.is_empty() {
                return wrong(at, "expected a label name or '}'");
            }
            let of_metric = bytes[at] == b'"' && name.is_empty();
            at = skip_space(line, end);
            if bytes.get(at) == Some(&b'=') {
                let (value, end, escaped) = quoted(line, skip_space(line, at + 1))?;
                at = end;
                if self.labels.last().is_some_and(|(last, ..)| *last >= label) {
                    if self.labels.iter().any(|(known, ..)| *known == label) {
                        return wrong(at, format!("label {label:?} comes twice"));
                    }
                    self.sorted = false;
                }
                self.labels.push((label, value, escaped));
            } else if of_metric {
                *name = label;
            } else {
                return wrong(at, "expected '='");
            }
            at = skip_space(line, at);
            match bytes.get(at) {
                Some(b',') => at += 1,
                Some(b'}') => {}
                _ => return wrong(at, "expected ',' or '}'"),
            }
        }
    }

    fn sample(&mut self, line: &'a str, first: usize) -> Result<Option<Line<'a>>, Wrong> {
        self.labels.clear();
        self.sorted = true;
        let bytes = line.as_bytes();
        let mut name = name_at(line, first);
        if name.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            return wrong(first, "expected a metric name");
        }
        let mut at = skip_space(line, first + name.len());
        if bytes.get(at) == Some(&b'{') && !line[at..].starts_with(NATIVE) {
            at = skip_space(line, self.braces(line, at + 1, &mut name)?);
        }
        if name.is_empty() {
            return wrong(first, "expected a metric name");
        }
        if line[at..].starts_with(NATIVE) {
            self.notices.push(format!("line {}: {name} is a native histogram and left out", self.line));
            return Ok(None);
        }
        let end = bytes[at..].iter().position(|byte| byte.is_ascii_whitespace()).map_or(line.len(), |length| at + length);
        let text = &line[at..end];
        let Some(value) = number(text) else {
            let shown: String = text.chars().take(40).collect();
            return wrong(at, format!("{shown:?} is no number"));
        };
        let mut rest = line[end..].trim();
        // An exemplar: `# {trace_id="a"} 1`.
        if let Some(exemplar) = rest.find('#') {
            if !rest[exemplar + 1..].trim_start().starts_with('{') {
                return wrong(skip_space(line, end), format!("{rest:?} is no timestamp"));
            }
            rest = rest[..exemplar].trim_end();
        }
        if !rest.is_empty() && number(rest.trim_start_matches('-')).is_none_or(|time| !time.is_finite()) {
            return wrong(skip_space(line, end), format!("{rest:?} is no timestamp"));
        }
        Ok(Some(Line::Sample { name, value, timestamp: rest }))
    }
}

/// A page's text, of its bytes.
///
/// # Errors
/// When they are no text: with the place of the first byte that is not, and what it may be.
pub fn text(bytes: &[u8]) -> Result<&str, ParseError> {
    if let Some(byte) = bytes.iter().take(512).position(|byte| *byte == 0) {
        let line = 1 + bytes[..byte].iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + byte - bytes[..byte].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let why = "this is no text; is it protobuf, or compressed?".to_owned();
        return Err(ParseError { line, column, why });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + memchr::memchr_iter(b'\n', good).count();
        let column = 1 + good.len() - memchr::memrchr(b'\n', good).map_or(0, |end| end + 1);
        ParseError { line, column, why: "this byte is not UTF-8".to_owned() }
    })
}
