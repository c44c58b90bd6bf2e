//! Reading a page of metrics whole.

use std::collections::BTreeMap;

use crate::registry::Kind;
use crate::scan::{Line, Pair, Scanner, unescaped};
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
    /// What was left out.
    pub notices: Vec<String>,
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

/// What a line of a page says.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A family's type.
    Type(&'a str, Kind),
    /// A family's help text, with its escapes.
    Help(&'a str, &'a str),
    /// A sample: its metric, and its labels' names and values, these with their escapes and in the order of the page.
    Sample(&'a str, &'a [(&'a str, &'a str, bool)]),
}

/// Reads a page and keeps nothing of it: each line is handed on as it is read. What is left out is returned.
///
/// # Errors
/// As [`parse`].
pub fn each(text: &str, take: &mut dyn FnMut(Part<'_>)) -> Result<Vec<String>, ParseError> {
    let mut scanner = Scanner::new(text);
    while let Some(line) = scanner.next()? {
        take(match line {
            Line::Type(name, kind) => Part::Type(name, kind),
            Line::Help(name, help) => Part::Help(name, help),
            Line::Sample { name, .. } => Part::Sample(name, &scanner.labels),
        });
    }
    Ok(scanner.notices)
}

/// A help text without its escapes.
pub fn help_text(raw: &str) -> String {
    raw.replace("\\n", "\n").replace("\\\\", "\\")
}

/// Reads a page; what is decided where it is odd is told in `scan.rs`.
///
/// # Errors
/// At the first line that is not of the format.
pub fn parse(text: &str) -> Result<Exposition, ParseError> {
    let mut page = Exposition::default();
    let mut scanner = Scanner::new(text);
    while let Some(line) = scanner.next()? {
        match line {
            Line::Type(name, kind) => {
                page.kinds.insert(name.to_owned(), kind);
            }
            Line::Help(name, help) => {
                page.help.insert(name.to_owned(), help_text(help));
            }
            Line::Sample { name, value, .. } => {
                let label = |(name, raw, escaped): &Pair<'_>| ((*name).to_owned(), unescaped(raw, *escaped).into_owned());
                let labels: Labels = scanner.labels.iter().map(label).collect();
                page.samples.push(Sample { series: Series { name: name.to_owned(), labels }, value });
            }
        }
    }
    page.notices = scanner.notices;
    Ok(page)
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
            ("1a 1", "line 1, column 1: expected a metric name"),
            ("a 1\n# EOF\nb 1", "line 3, column 1: there is something after # EOF"),
            ("a 1 soon", "line 1, column 5: \"soon\" is no timestamp"),
            ("a infinit", "line 1, column 3: \"infinit\" is no number"),
            ("a 0x10", "line 1, column 3: \"0x10\" is no number"),
            ("a 0x1p4", "line 1, column 3: \"0x1p4\" is no number"),
            ("a 1_000", "line 1, column 3: \"1_000\" is no number"),
            ("a +nan", "line 1, column 3: \"+nan\" is no number"),
            ("a 1e400", "line 1, column 3: \"1e400\" is no number"),
            ("a 1 inf", "line 1, column 5: \"inf\" is no timestamp"),
            ("a", "line 1, column 2: \"\" is no number"),
            ("a{x} 1", "line 1, column 4: expected '='"),
            ("a{=\"y\"} 1", "line 1, column 3: expected a label name or '}'"),
            ("a{x=\"1\",x=\"2\"} 1", "line 1, column 14: label \"x\" comes twice"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_odd_is_decided() {
        let samples = |text: &str| {
            let page = parse(text).unwrap();
            let told: Vec<String> = page.samples.iter().map(|sample| format!("{} {}", sample.series, sample.value)).collect();
            (told, page.notices)
        };
        for (text, expected) in [
            ("a NaN\nb +Inf\nc -Inf\nd -1.5e3", vec!["a NaN", "b inf", "c -inf", "d -1500"]),
            // Go takes them in any case, as Python and C print them.
            (
                "a nan\nb inf\nc -inf\nd +Infinity\ne NAN\nf -INFINITY\ng iNf",
                vec!["a NaN", "b inf", "c -inf", "d inf", "e NaN", "f -inf", "g inf"],
            ),
            ("a 1.\nb .5\nc +1E3\nd -0", vec!["a 1", "b 0.5", "c 1000", "d -0"]),
            // Timestamps are read and not kept, of milliseconds or of seconds.
            ("a 1 1700000000000\nb 2 1700000000.5\nc 3 -5", vec!["a 1", "b 2", "c 3"]),
            // OpenMetrics: exemplars, units, an end.
            (
                "# UNIT a seconds\na_total 1 # {trace_id=\"x\"} 0.5 1.0\nb_total 2 5 # {} 1\n# EOF\n\n",
                vec!["a_total 1", "b_total 2"],
            ),
            (r#"a{x="\d \n \\"} 1"#, vec!["a{x=\"\\\\d \\n \\\\\"} 1"]),
            ("{\"a.b\",\"c.d\"=\"e\"} 1", vec!["a.b{c.d=\"e\"} 1"]),
            ("a{} 1\nb{x=\"1\",} 2\n  c  3", vec!["a 1", "b{x=\"1\"} 2", "c 3"]),
        ] {
            assert_eq!(samples(text).0, expected, "{text}");
        }
        let native = samples("a 1\nh {count:1,sum:2,schema:0}\nb 2");
        assert_eq!((native.0.len(), native.1[0].as_str()), (2, "line 2: h is a native histogram and left out"));
        let long = format!("a{{x=\"{}\"}} 1", "y".repeat(1 << 20));
        assert_eq!(parse(&long).unwrap().samples[0].series.label("x").len(), 1 << 20);
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        for (bytes, expected) in [
            (&b"a 1\nb \xff 2"[..], "line 2, column 3: this byte is not UTF-8"),
            (b"\x0a\x05abc\x00d", "line 2, column 5: this is no text; is it protobuf, or compressed?"),
        ] {
            assert_eq!(crate::scan::text(bytes).unwrap_err().to_string(), expected);
        }
        assert_eq!(crate::scan::text("ä 1".as_bytes()).unwrap(), "ä 1");
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
