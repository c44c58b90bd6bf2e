//! Where in a text an expression is written.

use std::collections::HashMap;

use serde_json::Value;

/// Finds lines of a text.
pub(super) struct Places<'a> {
    text: &'a str,
    /// Where lines begin.
    lines: Vec<usize>,
    /// Where each expression was found last: two readers can have the same.
    last: HashMap<String, usize>,
}

/// The place of several lines, however they are indented.
fn lines_in(text: &str, expression: &str) -> Option<usize> {
    let mut wanted = expression.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = wanted.next()?;
    let others: Vec<&str> = wanted.collect();
    if others.is_empty() {
        return None;
    }
    text.match_indices(first).map(|(at, _)| at).find(|at| {
        let mut lines = text[at + first.len()..].lines().skip(1).map(str::trim).filter(|line| !line.is_empty());
        others.iter().all(|other| lines.next() == Some(*other))
    })
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(ends).collect(), last: HashMap::new() }
    }

    fn line_at(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// The place of an expression from some place on. A file may write it with escapes, once or twice, in quotes or without, or over several
    /// lines.
    fn find(&self, expression: &str, from: usize) -> Option<usize> {
        let quoted = Value::from(expression).to_string();
        let escaped = quoted.trim_matches('"').to_owned();
        let twice = Value::from(quoted.as_str()).to_string();
        let doubled = format!("'{}'", expression.replace('\'', "''"));
        let first = expression.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        let rest = self.text.get(from..)?;
        if let Some(at) = lines_in(rest, expression) {
            return Some(from + at);
        }
        // The value of a key first: a short expression is part of many words.
        let values = [format!(": {quoted}"), format!(":{quoted}"), format!(": {doubled}"), format!(": {}\n", expression.trim())];
        let anywhere = [quoted, doubled, twice.trim_matches('"').to_owned(), expression.to_owned(), escaped, first.to_owned()];
        let wanted = values.iter().chain(&anywhere).filter(|wanted| !wanted.trim().is_empty());
        wanted
            .filter_map(|wanted| {
                rest.find(wanted.as_str()).map(|at| from + at + wanted.len() - wanted.trim_start_matches([':', ' ']).len())
            })
            .next()
    }

    /// The line of an expression, from 1; of one that comes again, the next one.
    pub(super) fn line_of(&mut self, expression: &str) -> usize {
        let expression = expression.trim();
        let from = self.last.get(expression).map_or(0, |at| at + expression.len());
        let from = (from..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len());
        let Some(at) = self.find(expression, from).or_else(|| self.find(expression, 0)) else { return 1 };
        self.last.insert(expression.to_owned(), at);
        self.line_at(at)
    }

    /// The line of the name that is in quotes in a reader's name, from 1; the first line where it is not found.
    pub(super) fn line_near(&self, name: &str) -> usize {
        let quoted = name.split_once('"').map_or("", |(_, rest)| rest.trim_end_matches('"'));
        if quoted.is_empty() { 1 } else { self.text.find(quoted).map_or(1, |at| self.line_at(at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_expressions() {
        let text = "up: 1\n{\"expr\": \"up\"}\n{\"expr\":\"a{b=\\\"c\\\"}\"}\nexpr: 'x{y=''z''}'\nexpr: |\n  sum(\n    a)\n{\"expr\": \"up\"}\nexpr: plain\n";
        let mut places = Places::new(text);
        for (expression, line) in [
            ("up", 2),
            ("up", 8),
            ("a{b=\"c\"}", 3),
            ("x{y='z'}", 4),
            ("sum(\n  a)\n", 6),
            ("plain", 9),
            ("nowhere", 1),
            ("up", 2),
        ] {
            assert_eq!(places.line_of(expression), line, "{expression}");
        }
        // Two that begin alike.
        let mut places = Places::new("a: |\n  sum(\n    up) > 1\nb: |\n  sum(\n    up) > 2\n");
        assert_eq!((places.line_of("sum(\n  up) > 2\n"), places.line_of("sum(\n  up) > 1\n")), (5, 2));
        let places = Places::new(text);
        assert_eq!((places.line_near("panel \"plain\""), places.line_near("rule")), (9, 1));
    }
}
