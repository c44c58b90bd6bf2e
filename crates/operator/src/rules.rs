//! PrometheusRule objects to rule files, packed into ConfigMaps of half a mebibyte.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kubeapi::object;
use serde_json::{Value, json};

use crate::compile::{Input, Rejection};
use crate::scrape::duration;
use crate::selection::select;
use crate::version::Version;

/// What a ConfigMap of rules holds at most, in bytes (prometheus-operator `pkg/prometheus/rules.go`: half of 1 MiB).
const LIMIT: usize = 524_288;
/// ConfigMaps that are mounted at least, so that more rules need no new pods (facts/kube-prometheus.md §3.7).
const RESERVED: usize = 3;

/// Rule files in their ConfigMaps.
#[derive(Clone, Debug, Default)]
pub struct RuleFiles {
    /// Each ConfigMap's files.
    pub bins: Vec<BTreeMap<String, String>>,
    /// What was left out, and why.
    pub rejected: Vec<Rejection>,
}

impl RuleFiles {
    /// The ConfigMaps that pods mount, those still empty included.
    pub fn mounts(&self, workload: &str) -> Vec<String> {
        (0..self.bins.len().max(RESERVED)).map(|index| format!("{workload}-rulefiles-{index}")).collect()
    }
}

/// The files of all rules that a Prometheus selects, in order of their names, first fit.
pub(crate) fn rule_files(prometheus: &Value, input: &Input) -> RuleFiles {
    let selected = select(prometheus, "PrometheusRule", &input.namespaces, &input.rules);
    let version = Version::of(&prometheus["spec"]);
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut rejected = Vec::new();
    for rule in selected {
        let name = format!("{}-{}-{}.yaml", object::namespace(rule), object::name(rule), object::uid(rule));
        let written = groups(&rule["spec"]["groups"], version).and_then(|mut groups| {
            if input.fast_alerts {
                hurry(&mut groups);
            }
            let text = wire::yaml::to_string(&json!({"groups": groups})).map_err(|error| error.to_string())?;
            if text.len() <= LIMIT { Ok(text) } else { Err(format!("the rules are longer than {LIMIT} bytes")) }
        });
        match written {
            Ok(text) => drop(files.insert(name, text)),
            Err(reason) => rejected.push(Rejection { kind: "PrometheusRule".to_owned(), key: object::key(rule), reason }),
        }
    }
    let mut bins: Vec<(usize, BTreeMap<String, String>)> = Vec::new();
    for (name, text) in files {
        let size = text.len();
        match bins.iter_mut().find(|(used, _)| used + size <= LIMIT) {
            Some((used, bin)) => {
                *used += size;
                bin.insert(name, text);
            }
            None => bins.push((size, BTreeMap::from([(name, text)]))),
        }
    }
    RuleFiles { bins: bins.into_iter().map(|(_, bin)| bin).collect(), rejected }
}

/// Groups as this version of Prometheus reads them: what it does not know yet is taken out (facts/kube-prometheus.md §3.7).
///
/// # Errors
/// What Prometheus' own reading of rules (`rulefmt`) would not take, but for expressions, which only Prometheus can read.
fn groups(groups: &Value, version: Version) -> Result<Value, String> {
    let mut groups = groups.clone();
    let mut names = Vec::new();
    for group in groups.as_array_mut().into_iter().flatten() {
        let name = group["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err("groupname must not be empty".to_owned());
        }
        if names.contains(&name) {
            return Err(format!("groupname: {name:?} is repeated in the same file"));
        }
        names.push(name.clone());
        without(group, &[("partial_response_strategy", false)]);
        without(
            group,
            &[("limit", version.at_least(2, 31)), ("query_offset", version.at_least(2, 53)), ("labels", version.at_least(3, 0))],
        );
        for (index, rule) in group["rules"].as_array_mut().into_iter().flatten().enumerate() {
            without(rule, &[("keep_firing_for", version.at_least(2, 42))]);
            check_rule(rule).map_err(|why| format!("group {name:?}, rule {index}: {why}"))?;
        }
    }
    Ok(groups)
}

/// Makes alerts come soon, in the way in which KubeVirt's own tests do (`ReduceAlertPendingTime` in `tests/libmonitoring`): no
/// pending time, ranges of a minute at most, and thresholds of five minutes become none.
fn hurry(groups: &mut Value) {
    static RANGE: LazyLock<regex::Regex> = LazyLock::new(|| regex::Regex::new(r"\[([0-9]+[a-z0-9]*)\]").expect("a pattern"));
    let groups = groups.as_array_mut().into_iter().flatten();
    for rule in groups.flat_map(|group| group["rules"].as_array_mut().into_iter().flatten()) {
        if !rule["for"].is_null() {
            rule["for"] = "0s".into();
        }
        if let Some(expression) = rule["expr"].as_str() {
            let shorter = RANGE.replace_all(expression, |found: &regex::Captures<'_>| {
                let long = duration(&found[1]).is_some_and(|range| range > 60_000);
                if long { "[1m]".to_owned() } else { found[0].to_owned() }
            });
            rule["expr"] = shorter.replace(">= 300", ">= 0").into();
        }
    }
}

fn without(of: &mut Value, fields: &[(&str, bool)]) {
    if let Some(map) = of.as_object_mut() {
        for (field, _) in fields.iter().filter(|(_, keep)| !keep) {
            map.remove(*field);
        }
    }
}

fn check_rule(rule: &Value) -> Result<(), String> {
    let text = |key: &str| rule[key].as_str().unwrap_or_default();
    match (text("record").is_empty(), text("alert").is_empty()) {
        (true, true) => return Err("one of 'record' or 'alert' must be set".to_owned()),
        (false, false) => return Err("only one of 'record' and 'alert' must be set".to_owned()),
        (false, true) if !rule["for"].is_null() => return Err("invalid field 'for' in recording rule".to_owned()),
        (false, true) if !rule["annotations"].is_null() => return Err("invalid field 'annotations' in recording rule".to_owned()),
        _ => {}
    }
    // An expression may be a number: `expr: 1`.
    if text("expr").trim().is_empty() && !rule["expr"].is_number() {
        return Err("field 'expr' must be set in rule".to_owned());
    }
    for key in ["for", "keep_firing_for"] {
        if let Some(time) = rule[key].as_str()
            && duration(time).is_none()
        {
            return Err(format!("{key}: not a valid duration string: {time:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_selected_and_named() {
        let prometheus = json!({"metadata": {"namespace": "monitoring", "name": "k8s"},
            "spec": {"ruleSelector": {}, "ruleNamespaceSelector": {}}});
        let rule = json!({"metadata": {"namespace": "kubevirt", "name": "r", "uid": "u"},
            "spec": {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up == 0"}]}]}});
        let input = Input { namespaces: vec![json!({"metadata": {"name": "kubevirt"}})], rules: vec![rule], ..Input::default() };
        let files = rule_files(&prometheus, &input);
        assert!(files.bins[0]["kubevirt-r-u.yaml"].contains("up == 0"));
        assert_eq!(files.mounts("prometheus-k8s").len(), RESERVED);
        let none = json!({"metadata": {"namespace": "kubevirt", "name": "k8s"}, "spec": {}});
        assert!(rule_files(&none, &input).bins.is_empty());
    }

    #[test]
    fn what_prometheus_would_not_read_is_rejected_and_what_it_does_not_know_is_taken_out() {
        let old = Version::of(&json!({"version": "2.40.0"}));
        let group =
            |rule: Value| json!([{"name": "g", "partial_response_strategy": "warn", "query_offset": "1m", "rules": [rule]}]);
        let kept = groups(&group(json!({"alert": "A", "expr": "up", "keep_firing_for": "5m"})), old).unwrap();
        assert_eq!(kept, json!([{"name": "g", "rules": [{"alert": "A", "expr": "up"}]}]));
        for (rule, expected) in [
            (json!({"expr": "up"}), "one of 'record' or 'alert'"),
            (json!({"alert": "A", "record": "r", "expr": "up"}), "only one of"),
            (json!({"record": "r", "expr": "up", "for": "1m"}), "invalid field 'for'"),
            (json!({"alert": "A", "expr": ""}), "field 'expr'"),
            (json!({"alert": "A", "expr": "up", "for": "soon"}), "not a valid duration"),
        ] {
            let error = groups(&group(rule), old).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(groups(&json!([{"name": "g"}, {"name": "g"}]), old).unwrap_err().contains("repeated"));
    }

    #[test]
    fn fast_alerts_have_short_ranges_and_no_pending_time() {
        let mut groups = json!([{"name": "g", "rules": [
            {"alert": "A", "expr": "rate(a[5m]) / rate(b[30s]) >= 300 and c[1h:10m] offset 5m", "for": "5m"},
            {"record": "r", "expr": "sum(x[1m])"},
        ]}]);
        hurry(&mut groups);
        assert_eq!(
            groups[0]["rules"],
            json!([
                {"alert": "A", "expr": "rate(a[1m]) / rate(b[30s]) >= 0 and c[1h:10m] offset 5m", "for": "0s"},
                {"record": "r", "expr": "sum(x[1m])"},
            ])
        );
    }
}
