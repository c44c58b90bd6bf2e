//! Names that are nearly the one that was asked for.

/// How many letters must change (Levenshtein), or `limit + 1` when it is more than that.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let cost = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()].min(limit + 1)
}

/// A metric's words, without those that releases add and take away.
fn words(name: &str) -> Vec<&str> {
    name.split('_')
        .filter(|word| !matches!(*word, "" | "kubevirt" | "total" | "seconds" | "bytes" | "count" | "sum" | "bucket"))
        .collect()
}

/// The names that are nearest, best first, at most three.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = (wanted.len() / 6).clamp(2, 6);
    let of_wanted = words(wanted);
    let mut found: Vec<(usize, &str)> = names
        .filter(|name| *name != wanted)
        .filter_map(|name| {
            let by_letters = distance(wanted, name, limit);
            if by_letters <= limit {
                return Some((by_letters, name));
            }
            (of_wanted.len() > 1 && words(name) == of_wanted).then_some((limit + 1, name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearly_the_same() {
        let names =
            ["kubevirt_rest_client_requests_total", "kubevirt_vmi_info", "up", "go_goroutines", "kubevirt_vmi_memory_used_bytes"];
        for (wanted, expected) in [
            ("rest_client_requests_total", vec!["kubevirt_rest_client_requests_total"]),
            ("kubevirt_vm_info", vec!["kubevirt_vmi_info"]),
            ("kubevirt_vmi_memory_used", vec!["kubevirt_vmi_memory_used_bytes"]),
            ("node_load1", vec![]),
        ] {
            assert_eq!(nearest(wanted, names.into_iter()), expected, "{wanted}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c]{0,6}", b in "[a-c]{0,6}", c in "[a-c]{0,6}") {
            let of = |a: &str, b: &str| distance(a, b, 20);
            prop_assert_eq!(of(&a, &b), of(&b, &a));
            prop_assert_eq!(of(&a, &b) == 0, a == b);
            prop_assert!(of(&a, &c) <= of(&a, &b) + of(&b, &c));
        }
    }
}
