//! Relabelling rules that all monitors share: those that a user writes, those that a selector becomes, sharding.

use serde_json::{Map, Value, json};

use crate::version::Version;

/// Label names of Prometheus have no other characters.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

/// Whether the operator would take a rule (prometheus-operator `pkg/prometheus/resource_selector.go`).
pub(crate) fn check_rule(rule: &Value, version: Version) -> Result<(), String> {
    let action = rule["action"].as_str().unwrap_or("replace").to_lowercase();
    let regex = rule["regex"].as_str();
    if let Some(regex) = regex {
        // Parsing tells as much as compiling, and takes a twentieth of the time.
        regex_syntax::parse(&format!("^(?:{regex})$"))
            .map_err(|_| format!("invalid regex {regex:?} for relabel configuration"))?;
    }
    let target = rule["targetLabel"].as_str().unwrap_or_default();
    let has = |key: &str| !rule[key].is_null();
    match action.as_str() {
        "hashmod" if rule["modulus"].as_u64().unwrap_or(0) == 0 => {
            Err("relabel configuration for hashmod requires non-zero modulus".to_owned())
        }
        "replace" | "hashmod" | "lowercase" | "uppercase" | "keepequal" | "dropequal" if target.is_empty() => {
            Err(format!("relabel configuration for {action} action needs targetLabel value"))
        }
        "lowercase" | "uppercase" if !version.at_least(2, 36) => {
            Err(format!("{action} relabel action is only supported from Prometheus version 2.36.0"))
        }
        "keepequal" | "dropequal" if !version.at_least(2, 41) => {
            Err(format!("{action} relabel action is only supported from Prometheus version 2.41.0"))
        }
        "lowercase" | "uppercase" | "keepequal" | "dropequal" if has("replacement") && rule["replacement"] != "$1" => {
            Err(format!("'replacement' can not be set for {action} action"))
        }
        "keepequal" | "dropequal"
            if has("modulus")
                || has("separator")
                || regex.is_some_and(|regex| regex != "(.*)")
                || rule["sourceLabels"].is_null() =>
        {
            Err(format!("{action} action requires only 'source_labels' and `target_label`, and no other fields"))
        }
        "labeldrop" | "labelkeep"
            if ["sourceLabels", "targetLabel", "modulus", "separator", "replacement"].into_iter().any(has) =>
        {
            Err(format!("{action} action requires only 'regex', and no other fields"))
        }
        "replace" | "hashmod" | "lowercase" | "uppercase" | "keepequal" | "dropequal" | "keep" | "drop" | "labelmap"
        | "labeldrop" | "labelkeep" => Ok(()),
        other => Err(format!("unknown relabel action {other:?}")),
    }
}

/// Whether the operator would take all rules of these lists of an object; the message names the first that it would not.
pub(crate) fn check_lists(object: &Value, lists: &[&str], version: Version) -> Result<(), String> {
    for list in lists {
        for (number, rule) in object[list].as_array().into_iter().flatten().enumerate() {
            check_rule(rule, version).map_err(|why| format!("{list}[{number}]: {why}"))?;
        }
    }
    Ok(())
}

/// A rule of the user's, in Prometheus' words.
pub(crate) fn user_rule(rule: &Value) -> Value {
    let mut out = Map::new();
    for (from, to) in [
        ("sourceLabels", "source_labels"),
        ("separator", "separator"),
        ("targetLabel", "target_label"),
        ("regex", "regex"),
        ("modulus", "modulus"),
        ("replacement", "replacement"),
    ] {
        if !rule[from].is_null() {
            out.insert(to.to_owned(), rule[from].clone());
        }
    }
    // The API server writes the default into stored objects; files do not have it.
    let action = rule["action"].as_str().unwrap_or("replace");
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

/// A selector as the API server reads it in a query.
pub(crate) fn label_selector(selector: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut labels: Vec<(&String, &Value)> = selector["matchLabels"].as_object().into_iter().flatten().collect();
    labels.sort_by_key(|(key, _)| *key);
    parts.extend(labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())));
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = strings(&expression["values"]).collect();
        values.sort_unstable();
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.join(",")
}

/// Shards share targets by the hash of a label; with one shard every target is kept.
pub(crate) fn sharding(prometheus_spec: &Value, by: &str) -> [Value; 3] {
    let shards = prometheus_spec["shards"].as_u64().unwrap_or(1).max(1);
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

/// The label that tells whose namespace an object was in, where a Prometheus enforces one.
pub(crate) fn enforced_namespace(prometheus_spec: &Value, namespace: &str) -> Option<Value> {
    let label = prometheus_spec["enforcedNamespaceLabel"].as_str().filter(|label| !label.is_empty())?;
    Some(json!({"target_label": label, "replacement": namespace}))
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
    fn rules_that_prometheus_would_refuse_are_refused() {
        let new = Version::of(&json!({"version": "3.5.0"}));
        let old = Version::of(&json!({"version": "2.35.0"}));
        for (rule, version, expected) in [
            (json!({"action": "keep", "regex": "("}), new, Some("invalid regex")),
            (json!({"action": "hashmod", "targetLabel": "x"}), new, Some("non-zero modulus")),
            (json!({"action": "replace"}), new, Some("needs targetLabel")),
            (json!({"action": "Lowercase", "sourceLabels": ["a"], "targetLabel": "b"}), old, Some("2.36.0")),
            (json!({"action": "keepequal", "sourceLabels": ["a"], "targetLabel": "b"}), old, Some("2.41.0")),
            (
                json!({"action": "keepequal", "sourceLabels": ["a"], "targetLabel": "b", "regex": "x"}),
                new,
                Some("no other fields"),
            ),
            (json!({"action": "labeldrop", "regex": "x", "targetLabel": "b"}), new, Some("requires only 'regex'")),
            (
                json!({"action": "uppercase", "sourceLabels": ["a"], "targetLabel": "b", "replacement": "x"}),
                new,
                Some("can not be set"),
            ),
            (json!({"action": "bend"}), new, Some("unknown relabel action")),
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
