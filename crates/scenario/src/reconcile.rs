//! The ledger against the clients' counters.

use std::collections::BTreeMap;
use std::fmt;

use faults::Snapshot;

use crate::lab::PodPage;

/// Pod and the labels that the counter has: code, method, and resource and verb where the release counts them.
type Key = (String, Vec<(String, String)>);

/// A count on which ledger and counter differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The pod.
    pub pod: String,
    /// The counter's labels.
    pub labels: Vec<(String, String)>,
    /// What the ledger has.
    pub ledger: f64,
    /// What the counter has.
    pub counter: f64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "{} {}: counter {}, ledger {}", self.pod, labels.join(" "), self.counter, self.ledger)
    }
}

/// The labels that KubeVirt's counters have besides `host`.
const LABELS: [&str; 4] = ["code", "method", "resource", "verb"];

/// Compares, for every pod that shows the counter, all its codes with what the proxy recorded of that pod.
///
/// Counters of a pod begin at nought and the ledger knows pods by name, so both are totals of the same life. A client whose
/// counter never appears (built without the hook) is left out; its pod is returned so that a report can name it.
pub fn compare(metric: &str, pages: &[PodPage], ledger: &Snapshot) -> (Vec<Difference>, Vec<String>, f64) {
    let mut counters: BTreeMap<Key, f64> = BTreeMap::new();
    let mut present: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut without = Vec::new();
    for page in pages {
        let mut any = false;
        for sample in page.page.of(metric) {
            any = true;
            let names: Vec<&str> = LABELS.into_iter().filter(|name| sample.series.labels.contains_key(*name)).collect();
            let labels = names.iter().map(|name| ((*name).to_owned(), sample.series.label(name).to_owned())).collect();
            present.insert(&page.pod, names);
            *counters.entry((page.pod.clone(), labels)).or_default() += sample.value;
        }
        if !any {
            without.push(page.pod.clone());
        }
    }
    let mut recorded: BTreeMap<Key, f64> = BTreeMap::new();
    let mut refused: BTreeMap<&str, f64> = BTreeMap::new();
    let mut total = 0.0;
    for (key, count) in &ledger.totals {
        let Some(names) = present.get(key.client.as_str()) else { continue };
        total += *count as f64;
        // A connection that was refused is a request that never left: the client counts it under the request's labels, which
        // the proxy cannot know. It explains one `<error>` of that pod, whichever.
        if key.verb == "dial" {
            *refused.entry(&key.client).or_default() += *count as f64;
            continue;
        }
        let resource = if key.resource.is_empty() { "none" } else { key.resource.as_str() };
        let verb = if key.resource.is_empty() { "none".to_owned() } else { key.verb.to_uppercase() };
        let labels = names
            .iter()
            .map(|name| {
                let value = match *name {
                    "code" => key.code.clone(),
                    "method" => key.method.clone(),
                    "resource" => resource.to_owned(),
                    _ => verb.clone(),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        *recorded.entry((key.client.clone(), labels)).or_default() += *count as f64;
    }
    let mut differences = Vec::new();
    let keys: std::collections::BTreeSet<&Key> = counters.keys().chain(recorded.keys()).collect();
    for key in keys {
        let (counter, ledger) = (counters.get(key).copied().unwrap_or_default(), recorded.get(key).copied().unwrap_or_default());
        let mut ledger = ledger;
        let is_error = key.1.iter().any(|(name, value)| name == "code" && value == "<error>");
        if let Some(left) = refused.get_mut(key.0.as_str()).filter(|_| is_error && counter > ledger) {
            let explained = left.min(counter - ledger);
            *left -= explained;
            ledger += explained;
        }
        if counter != ledger {
            differences.push(Difference { pod: key.0.clone(), labels: key.1.clone(), ledger, counter });
        }
    }
    // Refusals that no counter shows.
    for (pod, left) in refused.into_iter().filter(|(_, left)| *left > 0.0) {
        let labels = vec![("code".to_owned(), "<error>".to_owned()), ("connection".to_owned(), "refused".to_owned())];
        differences.push(Difference { pod: pod.to_owned(), labels, ledger: left, counter: 0.0 });
    }
    (differences, without, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::LedgerKey;

    fn page(pod: &str, text: &str) -> PodPage {
        PodPage { pod: pod.to_owned(), page: metrics::parse(text).unwrap() }
    }

    fn ledger(entries: &[(&str, &str, &str, &str, &str, u64)]) -> Snapshot {
        let totals = entries
            .iter()
            .map(|(client, method, verb, resource, code, count)| {
                let text = |value: &str| value.to_owned();
                let key = LedgerKey {
                    client: text(client),
                    method: text(method),
                    verb: text(verb),
                    resource: text(resource),
                    code: text(code),
                };
                (key, *count)
            })
            .collect();
        Snapshot { totals, ..Snapshot::default() }
    }

    #[test]
    fn equal_counts_leave_no_difference_and_others_are_named() {
        let pages = [
            page(
                "a",
                "m{code=\"200\",method=\"GET\",host=\"h\",resource=\"pods\",verb=\"LIST\"} 2\nm{code=\"<error>\",method=\"GET\",host=\"h\",resource=\"pods\",verb=\"LIST\"} 1\n",
            ),
            page("b", "other 1\n"),
        ];
        let good = ledger(&[
            ("a", "GET", "list", "pods", "200", 2),
            ("a", "GET", "list", "pods", "<error>", 1),
            ("z", "GET", "list", "pods", "200", 9),
        ]);
        let (differences, without, total) = compare("m", &pages, &good);
        assert_eq!((differences, without, total), (Vec::new(), vec!["b".to_owned()], 3.0));
        let bad = ledger(&[("a", "GET", "list", "pods", "200", 3)]);
        let lines: Vec<String> = compare("m", &pages, &bad).0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "a code=200 method=GET resource=pods verb=LIST: counter 2, ledger 3",
                "a code=<error> method=GET resource=pods verb=LIST: counter 1, ledger 0"
            ]
        );
    }

    #[test]
    fn a_refused_connection_explains_one_error_and_no_more() {
        let pages = [page("a", "m{code=\"<error>\",method=\"GET\",host=\"h\",resource=\"none\",verb=\"none\"} 2\n")];
        let dials = |count| ledger(&[("a", "CONNECT", "dial", "", "<error>", count)]);
        assert!(compare("m", &pages, &dials(2)).0.is_empty());
        assert_eq!(compare("m", &pages, &dials(1)).0[0].ledger, 1.0);
        assert_eq!(compare("m", &pages, &dials(3)).0[0].labels[1].1, "refused");
    }

    #[test]
    fn old_releases_count_by_code_and_method_alone() {
        let pages = [page("a", "m{code=\"200\",method=\"GET\",host=\"h\"} 5\n")];
        let both = ledger(&[("a", "GET", "list", "pods", "200", 3), ("a", "GET", "get", "", "200", 2)]);
        assert!(compare("m", &pages, &both).0.is_empty());
    }
}
