//! What is exposed, by family: type, help text, labels, bucket bounds, and how many series there are.

use std::collections::{BTreeMap, BTreeSet};

use metrics::{Exposition, Kind, Labels, Series};

use crate::at_hand::AtHand;
use crate::rules::Rules;
use crate::schema::Schema;
use crate::values::Values;
use crate::{Recording, recorded};

/// The labels that Prometheus adds to what a page has, those of the target.
pub const OF_TARGET: [&str; 7] = ["container", "endpoint", "instance", "job", "namespace", "pod", "service"];

/// A family of metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shaped {
    /// Its type, where it is known.
    pub kind: Option<Kind>,
    /// Its help text; empty where it is not known.
    pub help: String,
    /// Its labels, without `le` and `quantile`.
    pub labels: BTreeSet<String>,
    /// What is known of their values; of labels that are not here nothing is.
    pub values: BTreeMap<String, Values>,
    /// How names of further labels begin, which come from objects of users.
    pub open: BTreeSet<String>,
    /// The upper bounds of a histogram's buckets but for the infinite one, ascending; empty where they are not known.
    pub bounds: Vec<f64>,
    /// How many series it has; those of a histogram count as one each. Nothing where it is a catalogue and no page.
    pub series: Option<usize>,
}

/// All families, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Their names without the suffixes of histograms and summaries.
    pub families: BTreeMap<String, Shaped>,
    /// Whether labels of targets are among the labels, as Prometheus has them.
    pub with_target: bool,
    /// Recording rules and alerts, where they are known.
    pub rules: Option<Rules>,
}

/// The suffixes of a histogram's or summary's parts.
pub(crate) const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// A finite number as bits whose order is that of the numbers: signs turned.
pub(crate) fn finite_bits(number: f64) -> Option<u64> {
    let bits = number.to_bits();
    number.is_finite().then_some(if number.is_sign_negative() { !bits } else { bits | 1 << 63 })
}

/// The number of such bits.
pub(crate) fn of_bits(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

impl Shape {
    /// That of a page of metrics.
    pub fn of_page(page: &Exposition) -> Self {
        let series = page.samples.iter().map(|sample| &sample.series);
        let mut shape = Self::gathered(series, |name| page.kinds.get(name).copied(), false);
        for (name, family) in &mut shape.families {
            if let Some(help) = page.help.get(name) {
                family.help.clone_from(help);
            }
        }
        // A family that was declared and has no series is exposed all the same.
        for (name, kind) in &page.kinds {
            let help = page.help.get(name).cloned().unwrap_or_default();
            shape.families.entry(name.clone()).or_insert_with(|| Shaped {
                kind: Some(*kind),
                help,
                series: Some(0),
                ..Shaped::default()
            });
        }
        shape
    }

    /// That of a list of series, as Prometheus has them. Histograms are known by their buckets, other types not at all.
    pub fn of_series(series: &[Series]) -> Self {
        let histograms: BTreeSet<&str> = series
            .iter()
            .filter(|one| one.labels.contains_key("le"))
            .filter_map(|one| one.name.strip_suffix("_bucket"))
            .collect();
        let summaries: BTreeSet<&str> =
            series.iter().filter(|one| one.labels.contains_key("quantile")).map(|one| one.name.as_str()).collect();
        let kind = |name: &str| {
            let histogram = histograms.contains(name).then_some(Kind::Histogram);
            histogram.or_else(|| summaries.contains(name).then_some(Kind::Summary))
        };
        Self::gathered(series.iter(), kind, true)
    }

    fn gathered<'a>(series: impl Iterator<Item = &'a Series>, kind: impl Fn(&str) -> Option<Kind>, with_target: bool) -> Self {
        let mut families: BTreeMap<String, (Shaped, BTreeSet<Labels>, BTreeSet<u64>)> = BTreeMap::new();
        let mut values: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for one in series {
            let whole = PARTS.iter().find_map(|part| one.name.strip_suffix(part));
            let composed = |name: &&str| matches!(kind(name), Some(Kind::Histogram | Kind::Summary));
            let name = whole.filter(composed).unwrap_or(&one.name);
            let (family, seen, bounds) = families.entry(name.to_owned()).or_default();
            family.kind = kind(name);
            let mut labels = one.labels.clone();
            bounds.extend(labels.remove("le").and_then(|text| text.parse().ok()).and_then(finite_bits));
            labels.remove("quantile");
            family.labels.extend(labels.keys().cloned());
            for (label, value) in labels.iter().filter(|(label, _)| Values::are_few(label)) {
                let known = values.entry((name.to_owned(), label.clone())).or_default();
                // One more than few is enough to know that there are many.
                if known.len() <= Values::FEW && !known.contains(value) {
                    known.insert(value.clone());
                }
            }
            seen.insert(labels);
        }
        for ((name, label), found) in values {
            let values = Values::seen(&label, found);
            if let Some((family, ..)) = families.get_mut(&name).filter(|_| values != Values::Any) {
                family.values.insert(label, values);
            }
        }
        let families = families.into_iter().map(|(name, (mut family, seen, bounds))| {
            family.series = Some(seen.len());
            family.bounds = bounds.into_iter().map(of_bits).collect();
            (name, family)
        });
        Self { families: families.collect(), with_target, rules: None }
    }

    /// The same without the labels of targets, for comparison with what has none.
    #[must_use]
    pub fn without_target(&self) -> Self {
        let mut shape = self.clone();
        for family in shape.families.values_mut() {
            family.labels.retain(|label| !OF_TARGET.contains(&label.as_str()));
            family.values.retain(|label, _| !OF_TARGET.contains(&label.as_str()));
        }
        shape.with_target = false;
        shape
    }

    /// What readers find in it: each metric by the names of its series, with the labels that a scrape adds, and what rules record.
    pub fn schema(&self) -> Schema {
        let mut schema = Schema::default();
        for (name, family) in &self.families {
            let own = family.labels.iter().map(|label| (label.clone(), family.values.get(label).cloned().unwrap_or_default()));
            let open = family.open.iter().map(|start| (format!("{start}*"), Values::Any));
            let of_target = OF_TARGET.map(|label| (label.to_owned(), Values::Any));
            let labels: Vec<(String, Values)> = own.chain(open).chain(of_target).collect();
            match family.kind {
                Some(Kind::Histogram) => {
                    let bound = ("le".to_owned(), bounds(&family.bounds));
                    schema.record_values(&format!("{name}_bucket"), labels.iter().cloned().chain([bound]));
                }
                Some(Kind::Summary) => {
                    schema.record_values(name, labels.iter().cloned().chain([("quantile".to_owned(), Values::Any)]));
                }
                Some(Kind::Counter | Kind::Gauge | Kind::Untyped) | None => schema.record_values(name, labels.iter().cloned()),
            }
            if matches!(family.kind, Some(Kind::Histogram | Kind::Summary)) {
                for part in ["sum", "count"] {
                    schema.record_values(&format!("{name}_{part}"), labels.iter().cloned());
                }
            }
        }
        let recordings: Vec<Recording<'_>> = self
            .rules
            .iter()
            .flatten()
            .flat_map(|(name, rules)| rules.iter().filter(|rule| !rule.alert).map(move |rule| (name, rule)))
            .map(|(name, rule)| (name.as_str(), rule.expression.as_str(), rule.labels.iter().map(String::as_str).collect()))
            .collect();
        if !recordings.is_empty() {
            let found = recorded(&recordings, &AtHand::from(schema.clone()));
            schema.extend(&found);
        }
        schema
    }
}

/// The values of `le` of these bounds, as client_golang writes them and as Prometheus 3 stores them.
fn bounds(bounds: &[f64]) -> Values {
    if bounds.is_empty() {
        return Values::Any;
    }
    let written = bounds.iter().flat_map(|bound| {
        let text = metrics::go_float(*bound);
        let stored = if text.contains(['.', 'e']) { text.clone() } else { format!("{text}.0") };
        [text, stored]
    });
    Values::Closed(written.chain(["+Inf".to_owned()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\na_seconds_bucket{x=\"1\",le=\"0.5\"} 1\n\
         a_seconds_bucket{x=\"1\",le=\"10\"} 2\na_seconds_bucket{x=\"1\",le=\"+Inf\"} 2\na_seconds_sum{x=\"1\"} 3\na_seconds_count{x=\"1\"} 2\n\
         # HELP b_total How often.\n# TYPE b_total counter\nb_total{x=\"1\",y=\"2\"} 1\nb_total{x=\"2\",y=\"2\"} 1\n\
         # TYPE c summary\nc{quantile=\"0.5\"} 1\nc_sum 1\nc_count 1\n# TYPE d gauge\n# TYPE e_count gauge\ne_count 1\n";

    fn labels(family: &Shaped) -> Vec<&str> {
        family.labels.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_page_has_families() {
        let shape = Shape::of_page(&metrics::parse(PAGE).unwrap());
        assert_eq!(shape.families.keys().collect::<Vec<_>>(), ["a_seconds", "b_total", "c", "d", "e_count"]);
        let a = &shape.families["a_seconds"];
        assert_eq!(
            (a.kind, a.bounds.as_slice(), a.series, labels(a)),
            (Some(Kind::Histogram), &[0.5, 10.0][..], Some(1), vec!["x"])
        );
        let b = &shape.families["b_total"];
        assert_eq!((b.help.as_str(), b.series, labels(b)), ("How often.", Some(2), vec!["x", "y"]));
        assert_eq!((shape.families["d"].series, shape.families["c"].series), (Some(0), Some(1)));
        let schema = shape.schema();
        for name in ["a_seconds_bucket", "a_seconds_sum", "b_total", "c", "c_count", "e_count"] {
            assert!(schema.labels(name).is_some_and(|labels| labels.contains("pod")), "{name}");
        }
        assert_eq!(b.values["y"], Values::Seen(BTreeSet::from(["2".to_owned()])));
        let le = schema.known("a_seconds_bucket").map(|labels| labels["le"].clone());
        assert_eq!(le, Some(Values::Closed(["0.5", "10", "10.0", "+Inf"].map(str::to_owned).into())));
    }

    #[test]
    fn rules_record_the_labels_that_they_leave() {
        let groups = "[{rules: [{record: first, expr: 'sum by (x) (second)'}, {record: second, expr: 'sum by (x, y) (b_total)', labels: {z: w}},\
             {record: far, expr: other_total}]}]";
        let mut shape = Shape::of_page(&metrics::parse(PAGE).unwrap());
        shape.rules = Some(crate::rules(&wire::yaml::first_document(groups).unwrap()));
        let schema = shape.schema();
        for (name, expected) in [("first", Some(vec!["x"])), ("second", Some(vec!["x", "y", "z"])), ("far", None)] {
            assert!(schema.contains(name));
            assert_eq!(schema.labels(name).map(|labels| labels.into_iter().collect()), expected, "{name}");
        }
    }

    #[test]
    fn series_without_types_are_known_by_their_parts() {
        let mut series: Vec<Series> = metrics::parse(PAGE).unwrap().samples.into_iter().map(|sample| sample.series).collect();
        for one in &mut series {
            one.labels.insert("pod".to_owned(), "p".to_owned());
        }
        let shape = Shape::of_series(&series);
        assert_eq!(shape.families.keys().collect::<Vec<_>>(), ["a_seconds", "b_total", "c", "e_count"]);
        assert_eq!(shape.families["b_total"].kind, None);
        assert!(shape.families["b_total"].labels.contains("pod"));
        assert!(!shape.without_target().families["b_total"].labels.contains("pod"));
    }
}
