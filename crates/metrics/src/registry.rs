//! Metrics of a simulated program: families are declared from a catalogue, samples go to whatever is declared.
//!
//! The page is byte for byte what client_golang writes: families sorted by name, series by label values, numbers as Go
//! formats them. A family that a release's catalogue does not have takes no samples, and labels that it does not have are
//! dropped, so the code that observes is the same for every release.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::series::write_labels;

/// The type of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Any value.
    #[default]
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Observations with quantiles.
    Summary,
    /// Not said.
    Untyped,
}

impl Kind {
    /// The word in a TYPE line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }
}

/// A family as a catalogue declares it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its help text.
    pub help: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Upper bounds of its buckets, without +Inf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<f64>,
}

enum Value {
    Number(f64),
    Histogram { counts: Vec<u64>, sum: f64, count: u64 },
    Summary { quantiles: Vec<(f64, f64)>, sum: f64, count: u64 },
}

struct State {
    family: Family,
    series: BTreeMap<Vec<String>, Value>,
}

/// All families of one program.
#[derive(Default)]
pub struct Registry {
    families: Mutex<BTreeMap<String, State>>,
}

impl Registry {
    /// Declares a family; it is not on the page until it has a series.
    pub fn declare(&self, mut family: Family) {
        family.labels.sort();
        let mut families = self.families.lock().expect("no panic while held");
        families.entry(family.name.clone()).or_insert_with(|| State { family, series: BTreeMap::new() });
    }

    fn with(&self, name: &str, labels: &[(&str, &str)], change: impl FnOnce(&Family, &mut Value)) {
        let mut families = self.families.lock().expect("no panic while held");
        let Some(state) = families.get_mut(name) else { return };
        let key: Vec<String> = state
            .family
            .labels
            .iter()
            .map(|wanted| labels.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value).to_owned())
            .collect();
        let family = &state.family;
        let value = state.series.entry(key).or_insert_with(|| match family.kind {
            Kind::Histogram => Value::Histogram { counts: vec![0; family.buckets.len()], sum: 0.0, count: 0 },
            Kind::Summary => Value::Summary { quantiles: Vec::new(), sum: 0.0, count: 0 },
            Kind::Counter | Kind::Gauge | Kind::Untyped => Value::Number(0.0),
        });
        change(family, value);
    }

    /// Adds to a counter or gauge; 0 makes the series appear.
    pub fn add(&self, name: &str, labels: &[(&str, &str)], amount: f64) {
        self.with(name, labels, |_, value| {
            if let Value::Number(number) = value {
                *number += amount;
            }
        });
    }

    /// Sets a gauge.
    pub fn set(&self, name: &str, labels: &[(&str, &str)], to: f64) {
        self.with(name, labels, |_, value| {
            if let Value::Number(number) = value {
                *number = to;
            }
        });
    }

    /// Observes a value in a histogram.
    pub fn observe(&self, name: &str, labels: &[(&str, &str)], observed: f64) {
        self.with(name, labels, |family, value| {
            if let Value::Histogram { counts, sum, count } = value {
                for (bound, bucket) in family.buckets.iter().zip(counts) {
                    *bucket += u64::from(observed <= *bound);
                }
                *sum += observed;
                *count += 1;
            }
        });
    }

    /// Makes a histogram's or summary's series appear without an observation.
    pub fn touch(&self, name: &str, labels: &[(&str, &str)]) {
        self.with(name, labels, |_, _| {});
    }

    /// Sets a summary.
    pub fn set_summary(&self, name: &str, labels: &[(&str, &str)], values: &[(f64, f64)], new_sum: f64, new_count: u64) {
        self.with(name, labels, |_, value| {
            if let Value::Summary { quantiles, sum, count } = value {
                *quantiles = values.to_vec();
                *sum = new_sum;
                *count = new_count;
            }
        });
    }

    /// Takes a series away.
    pub fn remove(&self, name: &str, labels: &[(&str, &str)]) {
        let mut families = self.families.lock().expect("no panic while held");
        let Some(state) = families.get_mut(name) else { return };
        let fits = |wanted: &(&str, &str), values: &[String]| {
            let index = state.family.labels.iter().position(|label| label == wanted.0);
            index.is_none_or(|index| values[index] == wanted.1)
        };
        state.series.retain(|values, _| !labels.iter().all(|wanted| fits(wanted, values)));
    }

    /// The page in text format 0.0.4, of what was observed alone.
    pub fn page(&self) -> String {
        self.collected(&[]).unwrap_or_default()
    }

    /// The page with what collectors tell besides.
    ///
    /// # Errors
    /// When a series comes twice: then there is no page at all, as with client_golang.
    pub fn collected(&self, collectors: &[&dyn Collector]) -> Result<String, Twice> {
        let families = self.families.lock().expect("no panic while held");
        let mut out = String::with_capacity(64 * 1024);
        for state in families.values() {
            let family = &state.family;
            let start = out.len();
            let _ = writeln!(out, "# HELP {} {}", family.name, family.help.replace('\\', "\\\\").replace('\n', "\\n"));
            let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind.as_str());
            let head = out.len();
            for (values, value) in &state.series {
                write_value(&mut out, family, values, value);
            }
            if !collectors.is_empty() {
                let mut samples = Samples { out: &mut out, family, seen: Seen::default(), twice: None };
                for collector in collectors {
                    collector.collect(family, &mut samples);
                }
                if let Some(twice) = samples.twice {
                    return Err(twice);
                }
            }
            if out.len() == head {
                out.truncate(start);
            }
        }
        Ok(out)
    }
}

/// Something that tells series at the moment when it is asked, and keeps none.
pub trait Collector: Send + Sync {
    /// Tells what it has of a family.
    fn collect(&self, family: &Family, samples: &mut Samples<'_>);
}

/// A series that a page would have had twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("collected metric \"{name}\" {{ {labels}}} was collected before with the same name and label values")]
pub struct Twice {
    name: String,
    labels: String,
}

/// Hashes of the label sets that were written.
#[derive(Default)]
struct Seen {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

/// Where a collector writes a family's series.
pub struct Samples<'a> {
    out: &'a mut String,
    family: &'a Family,
    seen: Seen,
    twice: Option<Twice>,
}

impl Samples<'_> {
    /// A series: labels in order of their names, with those left out that are empty.
    pub fn push<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>, value: f64) {
        self.push_at(labels, value, None);
    }

    /// The same with a timestamp in milliseconds since 1970. A series may come more than once, at different times.
    pub fn push_at<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>, value: f64, timestamp: Option<i64>) {
        let start = self.out.len();
        self.out.push_str(&self.family.name);
        let open = self.out.len();
        for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
            self.out.push(if self.out.len() == open { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value);
            self.out.push('"');
        }
        if self.out.len() > open {
            self.out.push('}');
        }
        let hash = self.seen.hasher.hash_one((&self.out[open..], timestamp));
        if !self.seen.hashes.insert(hash) && self.twice.is_none() {
            let labels = self.out[open..].trim_matches(['{', '}']).split("\",").filter(|text| !text.is_empty());
            let labels: String = labels
                .filter_map(|pair| pair.split_once("=\""))
                .map(|(name, value)| format!("label:{{name:\"{name}\" value:\"{}\"}} ", value.trim_end_matches('"')))
                .collect();
            self.twice = Some(Twice { name: self.family.name.clone(), labels });
        }
        if self.twice.is_some() {
            self.out.truncate(start);
            return;
        }
        self.out.push(' ');
        if value.fract() == 0.0 && value.abs() < 1e15 {
            let _ = write!(self.out, "{}", value as i64);
        } else {
            self.out.push_str(&go_float(value));
        }
        if let Some(timestamp) = timestamp {
            let _ = write!(self.out, " {timestamp}");
        }
        self.out.push('\n');
    }
}

pub(crate) fn escape(out: &mut String, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.push_str(value);
        return;
    }
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn line(out: &mut String, name: &str, family: &Family, values: &[String], extra: Option<(&str, String)>, number: &str) {
    out.push_str(name);
    let extra = extra.map(|(name, value)| (name.to_owned(), value));
    // client_golang drops empty label values from nothing: they are written as they are. The extra label comes last.
    let labels = family.labels.iter().zip(values).chain(extra.iter().map(|(name, value)| (name, value)));
    if !family.labels.is_empty() || extra.is_some() {
        let _ = write_labels(out, labels);
    }
    out.push(' ');
    out.push_str(number);
    out.push('\n');
}

fn write_value(out: &mut String, family: &Family, values: &[String], value: &Value) {
    match value {
        Value::Number(number) => line(out, &family.name, family, values, None, &go_float(*number)),
        Value::Histogram { counts, sum, count } => {
            let bucket = format!("{}_bucket", family.name);
            for (bound, count) in family.buckets.iter().zip(counts) {
                line(out, &bucket, family, values, Some(("le", go_float(*bound))), &count.to_string());
            }
            line(out, &bucket, family, values, Some(("le", "+Inf".to_owned())), &count.to_string());
            line(out, &format!("{}_sum", family.name), family, values, None, &go_float(*sum));
            line(out, &format!("{}_count", family.name), family, values, None, &count.to_string());
        }
        Value::Summary { quantiles, sum, count } => {
            for (quantile, value) in quantiles {
                line(out, &family.name, family, values, Some(("quantile", go_float(*quantile))), &go_float(*value));
            }
            line(out, &format!("{}_sum", family.name), family, values, None, &go_float(*sum));
            line(out, &format!("{}_count", family.name), family, values, None, &count.to_string());
        }
    }
}

/// A number as Go's `strconv.FormatFloat(v, 'g', -1, 64)` writes it: shortest digits, exponent below 1e-4 and from 1e21.
pub fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (2.856e-5, "2.856e-05"),
            (1.5e300, "1.5e+300"),
            (123_456_789.0, "123456789"),
            (1e20, "100000000000000000000"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(go_float(value), expected);
        }
    }

    #[test]
    fn a_collector_adds_its_series_and_no_series_comes_twice() {
        struct Told(&'static [(&'static str, f64)]);
        impl Collector for Told {
            fn collect(&self, family: &Family, samples: &mut Samples<'_>) {
                if family.name == "b" {
                    for (name, value) in self.0 {
                        samples.push([("empty", ""), ("name", name)].into_iter(), *value);
                    }
                }
            }
        }
        let registry = Registry::default();
        for name in ["a", "b"] {
            registry.declare(Family { name: name.to_owned(), help: "h".to_owned(), ..Family::default() });
        }
        let page = registry.collected(&[&Told(&[("x\"y", 1.5), ("", 2.0)])]).unwrap();
        assert_eq!(page, "# HELP b h\n# TYPE b gauge\nb{name=\"x\\\"y\"} 1.5\nb 2\n");
        assert_eq!(registry.collected(&[&Told(&[])]).unwrap(), "");
        let twice = registry.collected(&[&Told(&[("x", 1.0), ("y", 1.0), ("x", 2.0)])]).unwrap_err();
        assert_eq!(
            twice.to_string(),
            "collected metric \"b\" { label:{name:\"name\" value:\"x\"} } was collected before with the same name and label values"
        );
        struct Timed;
        impl Collector for Timed {
            fn collect(&self, family: &Family, samples: &mut Samples<'_>) {
                if family.name == "a" {
                    samples.push_at([("x", "1")].into_iter(), 1.0, Some(1000));
                    samples.push_at([("x", "1")].into_iter(), 2.0, Some(6000));
                }
            }
        }
        let page = registry.collected(&[&Timed]).unwrap();
        assert_eq!(page, "# HELP a h\n# TYPE a gauge\na{x=\"1\"} 1 1000\na{x=\"1\"} 2 6000\n");
        registry.set("a", &[], 1.0);
        registry.remove("a", &[]);
        assert_eq!(registry.page(), "");
    }

    #[test]
    fn the_page_is_sorted_and_has_only_what_was_observed() {
        let registry = Registry::default();
        let family = |name: &str, kind, labels: &[&str], buckets: &[f64]| Family {
            name: name.to_owned(),
            kind,
            help: "h".to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            buckets: buckets.to_vec(),
        };
        registry.declare(family("b_total", Kind::Counter, &["method", "code"], &[]));
        registry.declare(family("a_seconds", Kind::Histogram, &[], &[0.1, 1.0]));
        registry.declare(family("never", Kind::Gauge, &[], &[]));
        registry.add("b_total", &[("code", "200"), ("method", "GET"), ("host", "dropped")], 2.0);
        registry.add("b_total", &[("code", "<error>"), ("method", "GET")], 1.0);
        registry.observe("a_seconds", &[], 0.5);
        registry.add("undeclared", &[], 1.0);
        assert_eq!(
            registry.page(),
            "# HELP a_seconds h\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{le=\"0.1\"} 0\na_seconds_bucket{le=\"1\"} 1\na_seconds_bucket{le=\"+Inf\"} 1\n\
             a_seconds_sum 0.5\na_seconds_count 1\n\
             # HELP b_total h\n# TYPE b_total counter\n\
             b_total{code=\"200\",method=\"GET\"} 2\nb_total{code=\"<error>\",method=\"GET\"} 1\n"
        );
    }
}
