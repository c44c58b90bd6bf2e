//! Normal form: series with volatile label values replaced, so that two runs give the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regex::Regex;

use crate::exposition::ParseError;
use crate::series::{Labels, Series};

/// Replaces what differs between runs: pod hashes, addresses, the API server's host.
pub struct Normaliser {
    rules: Vec<(&'static str, Regex, &'static str)>,
}

impl Default for Normaliser {
    fn default() -> Self {
        // The alphabet of generated names has no vowels (apimachinery `pkg/util/rand`), so words of people stay whole.
        let rules = [
            ("pod", r"^(.+)-[bcdfghjklmnpqrstvwxz2456789]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$", "$1-*"),
            ("pod", r"^(virt-handler|node-exporter)-[bcdfghjklmnpqrstvwxz2456789]{5}$", "$1-*"),
            ("instance", r"^\d+\.\d+\.\d+\.\d+:(\d+)$", "<address>:$1"),
            ("host", r"^\d+\.\d+\.\d+\.\d+:\d+$", "<apiserver>"),
            ("url", r"^https://\d+\.\d+\.\d+\.\d+(:\d+)?/", "https://<apiserver>/"),
            ("node", r"^.+$", "<node>"),
            ("goversion", r"^.+$", "<version>"),
            ("kubeversion", r"^.+$", "<version>"),
            // Prometheus 3 writes le="1.0" where 2 writes le="1".
            ("le", r"^(-?\d+)\.0$", "$1"),
            ("quantile", r"^(-?\d+)\.0$", "$1"),
        ];
        Self {
            rules: rules
                .into_iter()
                .map(|(label, pattern, replacement)| (label, Regex::new(pattern).expect("a constant"), replacement))
                .collect(),
        }
    }
}

impl Normaliser {
    /// Whether values of this label may be replaced.
    pub(crate) fn touches(&self, label: &str) -> bool {
        self.rules.iter().any(|(of, ..)| *of == label)
    }

    /// A label's value in normal form.
    pub(crate) fn value<'a>(&self, label: &str, value: &'a str) -> std::borrow::Cow<'a, str> {
        let mut found = std::borrow::Cow::Borrowed(value);
        for (_, pattern, replacement) in self.rules.iter().filter(|(of, ..)| *of == label) {
            if let std::borrow::Cow::Owned(new) = pattern.replace(&found, *replacement) {
                found = new.into();
            }
        }
        found
    }

    /// A series in normal form.
    pub fn series(&self, series: &Series) -> Series {
        let mut labels = series.labels.clone();
        for (label, value) in &mut labels {
            if let std::borrow::Cow::Owned(new) = self.value(label, value) {
                *value = new;
            }
        }
        Series { name: series.name.clone(), labels }
    }
}

/// Writes series for people and for snapshots: one block a name, labels that all its series share once, the rest a line
/// each, sorted; bucket bounds of a histogram are gathered in one line.
pub fn render(series: &[Series]) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Labels>> = BTreeMap::new();
    for one in series {
        by_name.entry(&one.name).or_default().push(&one.labels);
    }
    let mut out = String::new();
    for (name, all) in by_name {
        let shared: BTreeMap<&String, &String> = all[0]
            .iter()
            .filter(|(label, value)| *label != "le" && all.iter().all(|labels| labels.get(*label) == Some(*value)))
            .collect();
        let _ = writeln!(out, "{name}");
        if !shared.is_empty() {
            out.push_str("  all ");
            let _ = crate::series::write_labels(&mut out, shared.iter().map(|(name, value)| (*name, *value)));
            out.push('\n');
        }
        let mut lines: BTreeMap<Vec<(&String, &String)>, BTreeSet<Bound<'_>>> = BTreeMap::new();
        for labels in &all {
            let own = labels.iter().filter(|(label, _)| !shared.contains_key(label) && *label != "le").collect();
            let bounds = lines.entry(own).or_default();
            if let Some(bound) = labels.get("le") {
                bounds.insert(Bound(bound));
            }
        }
        for (own, bounds) in lines {
            out.push_str("  ");
            let _ = crate::series::write_labels(&mut out, own.into_iter());
            if !bounds.is_empty() {
                let bounds: Vec<&str> = bounds.iter().map(|bound| bound.0).collect();
                let _ = write!(out, " le {}", bounds.join(" "));
            }
            out.push('\n');
        }
    }
    out
}

/// Reads what [`render`] has written.
///
/// # Errors
/// When it is something else; the line is the text's.
pub fn read(text: &str) -> Result<Vec<Series>, ParseError> {
    let mut series = Vec::new();
    let (mut name, mut shared) = ("", "");
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: &str| ParseError { line: index + 1, column: 1, why: why.to_owned() };
        let inner = |labels: &str| labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map(str::to_owned);
        let Some(rest) = line.strip_prefix("  ") else {
            (name, shared) = (line.trim_end(), "");
            continue;
        };
        if name.is_empty() {
            return Err(wrong("labels without a metric before them"));
        }
        if let Some(all) = rest.strip_prefix("all ") {
            shared = all;
            continue;
        }
        let (own, bounds) = if rest.ends_with('}') { (rest, "") } else { rest.rsplit_once(" le ").unwrap_or((rest, "")) };
        let own = inner(own).ok_or_else(|| wrong("expected labels in braces"))?;
        let shared =
            if shared.is_empty() { String::new() } else { inner(shared).ok_or_else(|| wrong("expected labels in braces"))? };
        let both: Vec<&str> = [shared.as_str(), own.as_str()].into_iter().filter(|labels| !labels.is_empty()).collect();
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
        for bound in bounds.split_whitespace() {
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
    fn volatile_values_go_and_words_stay() {
        let normal = Normaliser::default();
        for (label, value, expected) in [
            ("pod", "virt-api-69c9ccc49f-wvbvz", "virt-api-*"),
            ("pod", "virt-handler-qpxjh", "virt-handler-*"),
            ("pod", "prometheus-k8s-0", "prometheus-k8s-0"),
            ("instance", "127.9.1.2:8443", "<address>:8443"),
            ("host", "10.96.0.1:443", "<apiserver>"),
            ("url", "https://10.96.0.1:443/api/v1/pods", "https://<apiserver>/api/v1/pods"),
            ("le", "1.0", "1"),
            ("le", "0.5", "0.5"),
            ("code", "200", "200"),
        ] {
            assert_eq!(normal.series(&series("m", &[(label, value)])).label(label), expected, "{label}={value}");
        }
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

    proptest::proptest! {
        #[test]
        fn normal_form_is_a_fixed_point(value in ".{0,30}") {
            let normal = Normaliser::default();
            for label in ["pod", "instance", "host", "url", "le"] {
                let once = normal.series(&series("m", &[(label, &value)]));
                proptest::prop_assert_eq!(&normal.series(&once), &once);
            }
        }
    }
}
