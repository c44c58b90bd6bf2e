//! PrometheusRule objects to rule files, packed into ConfigMaps of half a mebibyte.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kubeapi::object;
use serde_json::{Value, json};

use crate::compile::{Input, Rejection};
use crate::config::{filled, is_empty};
use crate::enforcement;
use crate::relabel::is_label_name;
use crate::scrape::duration;
use crate::selection::select;
use crate::templates;
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

/// The files of all rules that a Prometheus selects, in order of their names. A file that does not fit the last ConfigMap begins
/// a new one; the room that earlier ones have is left (prometheus-operator `makeConfigMapsFromRules`).
pub(crate) fn rule_files(prometheus: &Value, input: &Input) -> RuleFiles {
    let selected = select(prometheus, "PrometheusRule", &input.namespaces, &input.rules);
    let spec = &prometheus["spec"];
    let version = Version::of(spec);
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut rejected = Vec::new();
    for rule in selected {
        let name = rule_file_name(rule);
        let enforced = enforcement::label(spec, rule);
        match file(rule, enforced, version, input.fast_alerts) {
            Ok(text) => drop(files.insert(name, text)),
            Err(reason) => rejected.push(Rejection { kind: "PrometheusRule".to_owned(), key: object::key(rule), reason }),
        }
    }
    let mut bins: Vec<BTreeMap<String, String>> = Vec::new();
    let mut used = LIMIT;
    for (name, text) in files {
        if used + text.len() > LIMIT {
            bins.push(BTreeMap::new());
            used = 0;
        }
        used += text.len();
        if let Some(bin) = bins.last_mut() {
            bin.insert(name, text);
        }
    }
    RuleFiles { bins, rejected }
}

/// The name of the file that a PrometheusRule becomes.
pub fn rule_file_name(rule: &Value) -> String {
    format!("{}-{}-{}.yaml", object::namespace(rule), object::name(rule), object::uid(rule))
}

/// The file of one object.
fn file(rule: &Value, enforced: Option<&str>, version: Version, fast: bool) -> Result<String, String> {
    let mut groups = groups(&rule["spec"]["groups"], version)?;
    if let Some(label) = enforced {
        enforcement::rules(&mut groups, label, object::namespace(rule))?;
    }
    if fast {
        hurry(&mut groups);
    }
    let whole = if is_empty(&groups) { json!({}) } else { json!({"groups": groups}) };
    let text = wire::yaml::to_string(&whole).map_err(|error| error.to_string())?;
    if text.len() <= LIMIT { Ok(text) } else { Err(format!("the rules are longer than {LIMIT} bytes")) }
}

/// Groups as this version of Prometheus reads them: what it does not know yet is taken out (facts/kube-prometheus.md §3.7), and so
/// is what is empty.
///
/// # Errors
/// What Prometheus' own reading of rules (`rulefmt`) would not take.
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
        check_durations(group, &["interval", "query_offset"]).map_err(|why| format!("group {name:?}, {why}"))?;
        check_names(&group["labels"], "label", version).map_err(|why| format!("group {name:?}, {why}"))?;
        for (index, rule) in group["rules"].as_array_mut().into_iter().flatten().enumerate() {
            without(rule, &[("keep_firing_for", version.at_least(2, 42))]);
            check_rule(rule, version).map_err(|why| format!("group {name:?}, rule {index}: {why}"))?;
            without_empty(rule, &["record", "alert", "labels", "annotations"]);
        }
        without_empty(group, &["rules", "labels"]);
    }
    Ok(groups)
}

fn without_empty(of: &mut Value, fields: &[&str]) {
    let empty: Vec<(&str, bool)> = fields.iter().map(|field| (*field, !is_empty(&of[*field]))).collect();
    without(of, &empty);
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

/// Whether durations can be read; an empty one is none.
fn check_durations(of: &Value, fields: &[&str]) -> Result<(), String> {
    for field in fields {
        if let Some(time) = filled(&of[*field])
            && let Err(why) = promql::parse_duration(time)
        {
            return Err(format!("{field}: {why}"));
        }
    }
    Ok(())
}

/// Whether labels or annotations of an alert are templates that Prometheus can parse.
fn check_templates(of: &Value, what: &str) -> Result<(), String> {
    for (name, text) in of.as_object().into_iter().flatten() {
        let text = text.as_str().unwrap_or_default();
        templates::check(text).map_err(|why| format!("{what} {name:?}: error parsing template: {why}"))?;
    }
    Ok(())
}

/// Whether labels or annotations have names that they may have.
fn check_names(of: &Value, what: &str, version: Version) -> Result<(), String> {
    for (name, _) in of.as_object().into_iter().flatten() {
        if !is_label_name(name, version) || (what == "label" && name == "__name__") {
            return Err(format!("invalid {what} name: {name}"));
        }
    }
    Ok(())
}

/// Whether a recorded series may have a name.
fn check_record(name: &str, version: Version) -> Result<(), String> {
    let mut letters = name.chars();
    let legacy = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, '_' | ':'))
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':'));
    if !legacy && !version.at_least(3, 0) {
        return Err(format!("invalid recording rule name: {name}"));
    }
    if name.contains(['{', '}']) {
        return Err(format!("braces present in the recording rule name; should it be in expr?: {name}"));
    }
    Ok(())
}

/// Whether prometheus-operator can read an expression: with the parser that it has built in, experimental functions off, whatever the
/// version of the Prometheus server.
fn check_expression(text: &str) -> Result<(), String> {
    promql::check(text, &promql::Options::default()).map(drop).map_err(|why| format!("could not parse expression: {why}"))
}

fn check_rule(rule: &Value, version: Version) -> Result<(), String> {
    let text = |key: &str| rule[key].as_str().unwrap_or_default();
    let some_time = |key: &str| filled(&rule[key]).is_some_and(|time| duration(time) != Some(0));
    match (text("record").is_empty(), text("alert").is_empty()) {
        (true, true) => return Err("one of 'record' or 'alert' must be set".to_owned()),
        (false, false) => return Err("only one of 'record' and 'alert' must be set".to_owned()),
        (false, true) if some_time("for") => return Err("invalid field 'for' in recording rule".to_owned()),
        (false, true) if some_time("keep_firing_for") => {
            return Err("invalid field 'keep_firing_for' in recording rule".to_owned());
        }
        (false, true) if !is_empty(&rule["annotations"]) => {
            return Err("invalid field 'annotations' in recording rule".to_owned());
        }
        (false, true) => check_record(text("record"), version)?,
        _ => {}
    }
    match &rule["expr"] {
        // An expression may be a number: `expr: 1`.
        Value::Number(_) => {}
        Value::String(expression) if !expression.trim().is_empty() => check_expression(expression)?,
        _ => return Err("field 'expr' must be set in rule".to_owned()),
    }
    check_durations(rule, &["for", "keep_firing_for"])?;
    check_names(&rule["labels"], "label", version)?;
    check_names(&rule["annotations"], "annotation", version)?;
    // Those of a rule that records are texts.
    if text("alert").is_empty() {
        return Ok(());
    }
    check_templates(&rule["labels"], "label")?;
    check_templates(&rule["annotations"], "annotation")
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
            (json!({"alert": "A", "expr": "up", "for": "300y"}), "for: duration out of range"),
            (json!({"alert": "A", "expr": "sum(up"}), "could not parse expression: 1:7: parse error: unclosed left parenthesis"),
            (json!({"alert": "A", "expr": "rat(up[5m])"}), "unknown function with name \"rat\""),
            (json!({"alert": "A", "expr": "mad_over_time(up[5m])"}), "function \"mad_over_time\" is not enabled"),
            (json!({"record": "r", "expr": "limitk(5, up)"}), "limitk() is experimental"),
            (json!({"record": "r", "expr": "a + fill(0) b"}), "unknown function with name \"fill\""),
            (json!({"record": "r", "expr": "rate(up[300y])"}), "duration out of range"),
            (json!({"record": "r", "expr": "rate(up)"}), "expected type range vector"),
            (json!({"record": "a-b", "expr": "up"}), "invalid recording rule name"),
            (json!({"alert": "A", "expr": "up", "labels": {"a-b": "x"}}), "invalid label name: a-b"),
            (
                json!({"alert": "A", "expr": "up", "annotations": {"summary": "{{ $value"}}),
                "annotation \"summary\": error parsing template: unclosed action",
            ),
            (
                json!({"alert": "A", "expr": "up", "annotations": {"summary": "{{ humanise $value }}"}}),
                "function \"humanise\" not defined",
            ),
        ] {
            let error = groups(&group(rule), old).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(groups(&json!([{"name": "g"}, {"name": "g"}]), old).unwrap_err().contains("repeated"));
    }

    #[test]
    fn what_is_empty_is_left_out_and_packing_goes_on_from_the_last() {
        let new = Version::of(&json!({}));
        let kept = groups(
            &json!([{"name": "g", "labels": {}, "rules": [
            {"alert": "", "record": "r", "expr": "1", "annotations": {}, "for": "0s"}]}]),
            new,
        );
        assert_eq!(kept, Ok(json!([{"name": "g", "rules": [{"record": "r", "expr": "1", "for": "0s"}]}])));
        let rule = |name: &str, size: usize| {
            json!({"kind": "PrometheusRule", "metadata": {"namespace": "a", "name": name},
                "spec": {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up", "annotations": {"x": "y".repeat(size)}}]}]}})
        };
        let input = Input {
            namespaces: vec![json!({"metadata": {"name": "a"}})],
            rules: vec![rule("a", 300_000), rule("b", 300_000), rule("c", 100_000)],
            ..Input::default()
        };
        let prometheus = json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {"ruleSelector": {}}});
        let names: Vec<Vec<String>> =
            rule_files(&prometheus, &input).bins.into_iter().map(|bin| bin.into_keys().collect()).collect();
        assert_eq!(names, [vec!["a-a-.yaml"], vec!["a-b-.yaml", "a-c-.yaml"]]);
        let long = Input { rules: vec![rule("a", 600_000)], ..input };
        assert!(rule_files(&prometheus, &long).rejected[0].reason.contains("longer than 524288 bytes"));
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
