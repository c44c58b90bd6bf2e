//! Which labels of objects kube-state-metrics shows (`--metric-labels-allowlist`), and what they are called then.
//!
//! Without the flag there is not one `kube_*_labels` series, since 2.10: an alert that multiplies by one is never silent for the
//! reason that its author had in mind.

use std::collections::BTreeMap;

use serde_json::Value;

/// Allowed labels by resource (`pods`, `nodes`, …).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(BTreeMap<String, Vec<String>>);

/// A flag's value that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowListError {
    /// It is not of the form.
    #[error("{0:?} is no allow-list: write resource=[label,…],resource=[*]")]
    Form(String),
    /// kube-state-metrics has no such resource.
    #[error("resource {wanted} does not exist. Available resources: {known}")]
    Resource {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
}

impl AllowList {
    /// Reads `pods=[*],nodes=[kubernetes.io/os,topology.kubernetes.io/zone]`. `*=[…]` is about every resource, whatever else the
    /// flag says (`internal/store/builder.go` `allowList`).
    ///
    /// # Errors
    /// When it is not of that form, or names a resource that is not one of `resources`.
    pub fn parse(flag: &str, resources: &[&str]) -> Result<Self, AllowListError> {
        let form = || AllowListError::Form(flag.to_owned());
        let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut rest = flag.trim();
        while !rest.is_empty() {
            let (name, after) = rest.split_once("=[").ok_or_else(form)?;
            let (labels, after) = after.split_once(']').ok_or_else(form)?;
            let labels: Vec<String> = match labels.trim() {
                "" => Vec::new(),
                labels => labels.split(',').map(|label| label.trim().to_owned()).collect(),
            };
            let name = name.trim();
            if name.is_empty()
                || name.contains([',', '[', ']'])
                || labels.iter().any(|label| label.is_empty() || label.contains('['))
            {
                return Err(form());
            }
            if name != "*" && !resources.contains(&name) {
                return Err(AllowListError::Resource { wanted: name.to_owned(), known: resources.join(",") });
            }
            lists.insert(name.to_owned(), labels);
            rest = match after.strip_prefix(',') {
                Some("") => return Err(form()),
                Some(more) => more,
                None if after.is_empty() => after,
                None => return Err(form()),
            };
        }
        if let Some(all) = lists.remove("*") {
            lists = resources.iter().map(|resource| ((*resource).to_owned(), all.clone())).collect();
        }
        Ok(Self(lists))
    }

    /// What is allowed of a resource's objects; nothing is the default.
    pub fn of(&self, resource: &str) -> &[String] {
        self.0.get(resource).map_or(&[], Vec::as_slice)
    }
}

/// The labels of an object that are allowed, as `label_…` and value, in the order of the objects' own keys.
///
/// `*` as the first entry allows all. Keys become snake case, whatever is no letter or digit becomes `_`; keys that become the same get
/// `_conflict1`, `_conflict2` (`internal/store/utils.go`).
pub(crate) fn shown(labels: &Value, allowed: &[String]) -> Vec<(String, String)> {
    let all = allowed.first().is_some_and(|first| first == "*");
    let map = labels.as_object().into_iter().flatten();
    let mut kept: Vec<(&String, &str)> = map
        .filter(|(key, _)| all || allowed.contains(key))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .collect();
    kept.sort();
    let names: Vec<String> = kept.iter().map(|(key, _)| format!("label_{}", snake_case(key))).collect();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = Vec::with_capacity(kept.len());
    for (name, (_, value)) in names.iter().zip(&kept) {
        let twins = names.iter().filter(|other| *other == name).count();
        let count = seen.entry(name).or_default();
        *count += 1;
        let name = if twins > 1 { format!("{name}_conflict{count}") } else { name.clone() };
        out.push((name, (*value).to_owned()));
    }
    out
}

fn snake_case(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    let mut before = '_';
    for character in key.chars() {
        let character = if character.is_ascii_alphanumeric() { character } else { '_' };
        if character.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
        before = character;
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RESOURCES: [&str; 3] = ["pods", "nodes", "persistentvolumeclaims"];

    #[test]
    fn flags_are_read_or_refused() {
        for (flag, pods, nodes) in [
            ("", vec![], vec![]),
            ("pods=[*]", vec!["*"], vec![]),
            ("nodes=[a, b/c],pods=[]", vec![], vec!["a", "b/c"]),
            ("*=[*]", vec!["*"], vec!["*"]),
            ("pods=[x],*=[y]", vec!["y"], vec!["y"]),
        ] {
            let list = AllowList::parse(flag, &RESOURCES).unwrap();
            assert_eq!((list.of("pods").to_vec(), list.of("nodes").to_vec()), (owned(&pods), owned(&nodes)), "{flag}");
        }
        for (flag, expected) in [
            ("pods", "is no allow-list"),
            ("pods=*", "is no allow-list"),
            ("pods=[a", "is no allow-list"),
            ("pods=[a],", "is no allow-list"),
            ("pods=[a,]", "is no allow-list"),
            ("pods=[a]nodes=[b]", "is no allow-list"),
            ("=[a]", "is no allow-list"),
            ("apples=[*]", "resource apples does not exist. Available resources: pods,nodes,persistentvolumeclaims"),
        ] {
            let error = AllowList::parse(flag, &RESOURCES).unwrap_err().to_string();
            assert!(error.contains(expected), "{flag}: {error}");
        }
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn labels_become_names() {
        let labels = json!({"kubevirt.io/schedulable": "true", "app": "x", "camelCase": "y", "a.b": "1", "a-b": "2"});
        for (allowed, expected) in [
            (vec![], vec![]),
            (vec!["app", "not-there"], vec![("label_app", "x")]),
            (
                vec!["*"],
                vec![
                    ("label_a_b_conflict1", "2"),
                    ("label_a_b_conflict2", "1"),
                    ("label_app", "x"),
                    ("label_camel_case", "y"),
                    ("label_kubevirt_io_schedulable", "true"),
                ],
            ),
            (vec!["a.b"], vec![("label_a_b", "1")]),
            // Only the first can stand for all.
            (vec!["app", "*"], vec![("label_app", "x")]),
        ] {
            let expected: Vec<(String, String)> =
                expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(shown(&labels, &owned(&allowed)), expected, "{allowed:?}");
        }
    }
}
