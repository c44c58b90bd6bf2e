//! Relabelling rules that all monitors share: those that a user writes, those that a selector becomes, sharding.

use serde_json::{Map, Value, json};

use crate::config::{filled, is_empty};
use crate::version::Version;

/// Label names of Prometheus have no other characters.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

/// Whether a label may have a name: letters, digits and underscores before Prometheus 3.0, anything since.
pub(crate) fn is_label_name(name: &str, version: Version) -> bool {
    let names = if version.at_least(3, 0) { metrics::relabel::Names::Utf8 } else { metrics::relabel::Names::Legacy };
    names.allow(name)
}

/// Whether the operator would take a rule (prometheus-operator `pkg/prometheus/resource_selector.go`).
pub(crate) fn check_rule(rule: &Value, version: Version) -> Result<(), String> {
    let named = filled(&rule["action"]).unwrap_or("replace");
    let action = named.to_lowercase();
    let equal = matches!(action.as_str(), "keepequal" | "dropequal");
    let case = matches!(action.as_str(), "lowercase" | "uppercase");
    if case && !version.at_least(2, 36) {
        return Err(format!("{named} relabel action is only supported from Prometheus version 2.36.0"));
    }
    if equal && !version.at_least(2, 41) {
        return Err(format!("{named} relabel action is only supported from Prometheus version 2.41.0"));
    }
    let regex = filled(&rule["regex"]);
    if let Some(regex) = regex {
        metrics::go_regex::check(regex)
            .map_err(|why| format!("invalid regex {regex} for relabel configuration: error parsing regexp: {why}"))?;
    }
    let modulus = rule["modulus"].as_u64().unwrap_or(0);
    if action == "hashmod" && modulus == 0 {
        return Err("relabel configuration for hashmod requires non-zero modulus".to_owned());
    }
    let target = rule["targetLabel"].as_str().unwrap_or_default();
    let replacement = rule["replacement"].as_str();
    if equal || case || matches!(action.as_str(), "replace" | "hashmod") {
        if target.is_empty() {
            return Err(format!("relabel configuration for {named} action needs targetLabel value"));
        }
        if !is_label_name(target, version) {
            return Err(format!("{target:?} is invalid 'target_label' for {named} action"));
        }
    }
    let other_replacement = replacement.is_some_and(|text| text != "$1");
    if (equal || case) && other_replacement {
        return Err(format!("'replacement' can not be set for {named} action"));
    }
    if action == "labelmap"
        && let Some(name) = replacement.filter(|name| !is_label_name(name, version))
    {
        return Err(format!("{name:?} is invalid 'replacement' for {named} action"));
    }
    // Defaults that are written out do no harm.
    let other_separator = rule["separator"].as_str().is_some_and(|text| text != ";");
    if equal && (regex.is_some_and(|regex| regex != "(.*)") || modulus != 0 || other_separator) {
        return Err(format!("{named} action requires only 'source_labels' and `target_label`, and no other fields"));
    }
    let sources = !is_empty(&rule["sourceLabels"]);
    if matches!(action.as_str(), "labeldrop" | "labelkeep")
        && (sources || !target.is_empty() || modulus != 0 || other_separator || other_replacement)
    {
        return Err(format!("{named} action requires only 'regex', and no other fields"));
    }
    Ok(())
}

/// Whether the operator would take all rules of a list; the message names the first that it would not.
pub(crate) fn check_list(list: &Value, version: Version) -> Result<(), String> {
    for (number, rule) in list.as_array().into_iter().flatten().enumerate() {
        check_rule(rule, version).map_err(|why| format!("[{number}]: {why}"))?;
    }
    Ok(())
}

/// A rule of the user's, in Prometheus' words.
pub(crate) fn user_rule(rule: &Value) -> Value {
    let mut out = Map::new();
    for (from, to) in [("sourceLabels", "source_labels"), ("targetLabel", "target_label"), ("regex", "regex")] {
        if !is_empty(&rule[from]) {
            out.insert(to.to_owned(), rule[from].clone());
        }
    }
    // An empty one of these is not none.
    for name in ["separator", "replacement"] {
        if !rule[name].is_null() {
            out.insert(name.to_owned(), rule[name].clone());
        }
    }
    if rule["modulus"].as_u64().is_some_and(|modulus| modulus != 0) {
        out.insert("modulus".to_owned(), rule["modulus"].clone());
    }
    // The API server writes the default into stored objects; files do not have it.
    let action = filled(&rule["action"]).unwrap_or("replace");
    out.insert("action".to_owned(), action.to_lowercase().into());
    Value::Object(out)
}

/// A list of rules of the user's.
pub(crate) fn user_rules(rules: &Value) -> impl Iterator<Item = Value> + '_ {
    rules.as_array().into_iter().flatten().map(user_rule)
}

/// A rule that copies a label where it is there.
pub(crate) fn copy(source: String, target: String) -> Value {
    json!({"source_labels": [source], "target_label": target, "regex": "(.+)", "replacement": "${1}"})
}

/// The strings of a list.
pub(crate) fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A label selector on objects of a role (`service`, `pod`, `ingress`) as rules. Values are not escaped, as the operator does not
/// escape them.
pub(crate) fn selector_rules(selector: &Value, of: &str) -> Vec<Value> {
    let label = |key: &str| format!("__meta_kubernetes_{of}_label_{}", sanitize(key));
    let present = |key: &str| format!("__meta_kubernetes_{of}_labelpresent_{}", sanitize(key));
    let mut rules = Vec::new();
    let mut labels: Vec<(&String, &Value)> = selector["matchLabels"].as_object().into_iter().flatten().collect();
    labels.sort_by_key(|(key, _)| *key);
    for (key, value) in labels {
        rules.push(json!({
            "action": "keep", "source_labels": [label(key), present(key)],
            "regex": format!("({});true", value.as_str().unwrap_or_default()),
        }));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = strings(&expression["values"]).collect();
        let values = format!("({});true", values.join("|"));
        rules.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => json!({"action": "keep", "source_labels": [label(key), present(key)], "regex": values}),
            "NotIn" => json!({"action": "drop", "source_labels": [label(key), present(key)], "regex": values}),
            "Exists" => json!({"action": "keep", "source_labels": [present(key)], "regex": "true"}),
            _ => json!({"action": "drop", "source_labels": [present(key)], "regex": "true"}),
        });
    }
    rules
}

/// A selector as the API server reads it in a query: requirements by the names of their labels.
pub(crate) fn label_selector(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = strings(&expression["values"]).collect();
        values.sort_unstable();
        let text = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort_by(|(one, _), (other, _)| one.cmp(other));
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    texts.join(",")
}

/// Shards share targets by the hash of a label; with one shard every target is kept.
pub(crate) fn sharding(shards: u64, by: &str) -> [Value; 3] {
    [
        json!({
            "source_labels": [by, "__tmp_hash"], "target_label": "__tmp_hash", "regex": "(.+);",
            "replacement": "$1", "action": "replace",
        }),
        json!({"source_labels": ["__tmp_hash"], "target_label": "__tmp_hash", "modulus": shards, "action": "hashmod"}),
        json!({
            "source_labels": ["__tmp_hash", "__tmp_disable_sharding"], "regex": "$(SHARD);|.+;.+", "action": "keep",
        }),
    ]
}

/// Spreads targets over shards by their address, unless the rules spread them already.
pub(crate) fn shared(rules: &mut Vec<Value>, shards: u64) {
    if !rules.iter().any(|rule| rule["action"] == "hashmod") {
        rules.extend(sharding(shards, "__address__"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_label_value_matches_only_the_empty_value() {
        let rules = selector_rules(&json!({"matchLabels": {"prometheus.kubevirt.io": ""}}), "service");
        assert_eq!(rules[0]["regex"], "();true");
        assert_eq!(rules[0]["source_labels"][1], "__meta_kubernetes_service_labelpresent_prometheus_kubevirt_io");
    }

    #[test]
    fn a_selector_in_a_query_is_sorted_by_its_labels() {
        let selector = json!({"matchLabels": {"b": "x"}, "matchExpressions": [
            {"key": "a", "operator": "Exists"}, {"key": "c", "operator": "In", "values": ["2", "1"]}]});
        assert_eq!(label_selector(&selector), "a,b=x,c in (1,2)");
    }

    #[test]
    fn rules_that_prometheus_would_refuse_are_refused() {
        let new = Version::of(&json!({"version": "3.5.0"}));
        let old = Version::of(&json!({"version": "2.35.0"}));
        for (rule, version, expected) in [
            (
                json!({"action": "keep", "regex": "("}),
                new,
                Some("invalid regex ( for relabel configuration: error parsing regexp: missing closing )"),
            ),
            (json!({"action": "keep", "regex": "foo{bar|[[]|\\Qa.b\\E"}), new, None),
            (json!({"action": "hashmod", "targetLabel": "x"}), new, Some("non-zero modulus")),
            (json!({"action": "replace"}), new, Some("needs targetLabel")),
            (
                json!({"sourceLabels": ["a"], "targetLabel": "app.io/name"}),
                old,
                Some("\"app.io/name\" is invalid 'target_label' for replace"),
            ),
            (json!({"sourceLabels": ["a"], "targetLabel": "app.io/name"}), new, None),
            (json!({"action": "labelmap", "replacement": "a-b"}), old, Some("invalid 'replacement' for labelmap")),
            (
                json!({"action": "Lowercase", "sourceLabels": ["a"], "targetLabel": "b"}),
                old,
                Some("Lowercase relabel action is only supported from Prometheus version 2.36.0"),
            ),
            (json!({"action": "keepequal", "sourceLabels": ["a"], "targetLabel": "b"}), old, Some("2.41.0")),
            (json!({"action": "keepequal", "targetLabel": "b", "regex": "(.*)", "separator": ";"}), new, None),
            (
                json!({"action": "keepequal", "sourceLabels": ["a"], "targetLabel": "b", "regex": "x"}),
                new,
                Some("no other fields"),
            ),
            (json!({"action": "labeldrop", "regex": "x", "targetLabel": "b"}), new, Some("requires only 'regex'")),
            (json!({"action": "labeldrop", "regex": "x", "separator": ";", "replacement": "$1", "modulus": 0}), new, None),
            (
                json!({"action": "uppercase", "sourceLabels": ["a"], "targetLabel": "b", "replacement": "x"}),
                new,
                Some("can not be set"),
            ),
            (json!({"sourceLabels": ["a"], "targetLabel": "b"}), new, None),
        ] {
            let found = check_rule(&rule, version).err();
            match expected {
                None => assert_eq!(found, None),
                Some(expected) => assert!(found.clone().unwrap_or_default().contains(expected), "{rule}: {found:?}"),
            }
        }
    }
}
