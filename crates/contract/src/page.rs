//! The shape of a page of metrics, made while the page is read: a million series need no more memory than their text and a number each.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher as _;

use metrics::{Kind, ParseError, Part};

use crate::shape::{PARTS, Shape, Shaped, finite_bits, of_bits};
use crate::values::Values;

/// What is known of a metric while a page is read.
#[derive(Default)]
struct Metric {
    labels: BTreeSet<String>,
    /// Values of labels that have few; one more than few is enough to know that there are many.
    values: BTreeMap<String, BTreeSet<String>>,
    /// A hash of each series, bucket bounds and quantiles aside.
    series: HashSet<u64>,
    bounds: BTreeSet<u64>,
}

impl Metric {
    fn absorb(&mut self, other: Self) {
        self.labels.extend(other.labels);
        for (label, values) in other.values {
            let known = self.values.entry(label).or_default();
            let left = (Values::FEW + 1).saturating_sub(known.len());
            known.extend(values.into_iter().take(left));
        }
        self.series.extend(other.series);
        self.bounds.extend(other.bounds);
    }
}

impl Shape {
    /// That of a page of metrics, as [`Shape::of_page`] makes it, and what was left out of the page.
    ///
    /// # Errors
    /// At the first line that is not of the format.
    pub fn of_text(text: &str) -> Result<(Self, Vec<String>), ParseError> {
        let hasher = RandomState::new();
        let mut metrics: HashMap<&str, Metric> = HashMap::new();
        let mut kinds: HashMap<&str, Kind> = HashMap::new();
        let mut help: HashMap<&str, &str> = HashMap::new();
        // The text outlives the scanner's parts, whose names are slices of it.
        let own = |part: &str| -> &str {
            let start = part.as_ptr() as usize - text.as_ptr() as usize;
            &text[start..start + part.len()]
        };
        let notices = metrics::each(text, &mut |part| match part {
            Part::Type(name, kind) => drop(kinds.insert(own(name), kind)),
            Part::Help(name, words) => drop(help.insert(own(name), own(words))),
            Part::Sample(name, pairs) => {
                let metric = metrics.entry(own(name)).or_default();
                // In whatever order the labels stand, it is the same series.
                let mut hash = 0_u64;
                for (label, value, _) in pairs {
                    match *label {
                        "le" => metric.bounds.extend(value.parse().ok().and_then(finite_bits)),
                        "quantile" => {}
                        label => {
                            hash = hash.wrapping_add(hasher.hash_one((label, value)));
                            if !metric.labels.contains(label) {
                                metric.labels.insert(label.to_owned());
                                if Values::are_few(label) {
                                    metric.values.insert(label.to_owned(), BTreeSet::new());
                                }
                            }
                            if let Some(known) = metric.values.get_mut(label)
                                && known.len() <= Values::FEW
                                && !known.contains(&**value)
                            {
                                known.insert((**value).to_owned());
                            }
                        }
                    }
                }
                metric.series.insert(hash);
            }
        })?;
        let mut families: HashMap<&str, Metric> = HashMap::with_capacity(metrics.len());
        for (name, metric) in metrics {
            let whole = PARTS.iter().find_map(|part| name.strip_suffix(part));
            let composed = |name: &&str| matches!(kinds.get(*name), Some(Kind::Histogram | Kind::Summary));
            families.entry(whole.filter(composed).unwrap_or(name)).or_default().absorb(metric);
        }
        // A family that was declared and has no series is exposed all the same.
        for name in kinds.keys() {
            families.entry(name).or_default();
        }
        let shaped = |(name, metric): (&str, Metric)| {
            let seen = metric.values.into_iter().map(|(label, found)| {
                let values = Values::seen(&label, found);
                (label, values)
            });
            let family = Shaped {
                values: seen.filter(|(_, values)| *values != Values::Any).collect(),
                open: BTreeSet::new(),
                kind: kinds.get(name).copied(),
                help: help.get(name).map(|words| metrics::help_text(words)).unwrap_or_default(),
                labels: metric.labels,
                bounds: metric.bounds.into_iter().map(of_bits).collect(),
                series: Some(metric.series.len()),
            };
            (name.to_owned(), family)
        };
        let shape = Self { families: families.into_iter().map(shaped).collect(), with_target: false, rules: None };
        Ok((shape, notices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(page: &str) {
        let (found, notices) = Shape::of_text(page).unwrap();
        let read = metrics::parse(page).unwrap();
        assert_eq!((found, notices), (Shape::of_page(&read), read.notices), "{page}");
    }

    #[test]
    fn the_shape_is_that_of_the_page_that_was_kept() {
        for page in [
            "",
            "# HELP a_seconds How \\\\ long.\\nNow.\n# TYPE a_seconds histogram\na_seconds_bucket{x=\"1\",le=\"0.5\"} 1\n\
             a_seconds_bucket{le=\"-3\",x=\"1\"} 2\na_seconds_bucket{x=\"1\",le=\"+Inf\"} 2\na_seconds_sum{x=\"1\"} 3\na_seconds_count{x=\"1\"} 2\n",
            "# TYPE c summary\nc{quantile=\"0.5\"} 1\nc_sum 1\nc_count 1\n# TYPE d gauge\n# TYPE e_count gauge\ne_count 1\n",
            "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\na{x=\"2\",y=\"1\"} 1\nh {count:1}\n# TYPE a counter\n",
            "h_bucket{le=\"1\"} 1\nh_count 1\n# TYPE h histogram\n",
        ] {
            same(page);
        }
        assert_eq!(Shape::of_text("a one").unwrap_err().column, 3);
    }

    proptest::proptest! {
        #[test]
        fn of_any_page(lines in proptest::collection::vec("(# TYPE [ab] (histogram|gauge|summary))|([ab](_bucket|_sum|_count)?\\{(x=\"[12]\",?)?(le=\"[12]\")?\\} 1)", 0..12)) {
            let page = lines.join("\n");
            if metrics::parse(&page).is_ok() {
                same(&page);
            }
        }
    }
}
