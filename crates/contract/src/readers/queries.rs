//! The queries of variables, as expressions that need the same.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What a variable's query reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// An expression that needs the same.
    Expression(String),
    /// No series by name.
    Nothing,
    /// It is of a form that is not known.
    Unknown,
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a constant expression")
}

/// A query of Grafana's Prometheus data source (`packages/grafana-prometheus/src/metric_find_query.ts`).
pub(super) fn of_grafana(query: &str) -> Asked {
    static LABEL_NAMES: LazyLock<Regex> = LazyLock::new(|| regex(r"(?s)^label_names\((.*)\)\s*$"));
    static LABEL_VALUES: LazyLock<Regex> =
        LazyLock::new(|| regex(r"(?s)^label_values\((?:(.+),\s*)?([A-Za-z_$\[{][A-Za-z0-9_$:.\[\]{}]*)\s*\)\s*$"));
    static METRICS: LazyLock<Regex> = LazyLock::new(|| regex(r"(?s)^metrics\((.+)\)\s*$"));
    static RESULT: LazyLock<Regex> = LazyLock::new(|| regex(r"(?s)^query_result\((.+)\)\s*$"));
    let query = query.trim();
    let inner = |found: &regex::Captures<'_>, group: usize| found.get(group).map_or("", |text| text.as_str().trim()).to_owned();
    if query.is_empty() {
        return Asked::Nothing;
    }
    if let Some(found) = LABEL_NAMES.captures(query) {
        let selector = inner(&found, 1);
        return if selector.is_empty() { Asked::Nothing } else { Asked::Expression(selector) };
    }
    if let Some(found) = LABEL_VALUES.captures(query) {
        let (selector, label) = (inner(&found, 1), inner(&found, 2));
        return if selector.is_empty() { Asked::Nothing } else { Asked::Expression(format!("count by ({label}) ({selector})")) };
    }
    if let Some(found) = METRICS.captures(query) {
        let wanted = inner(&found, 1).replace('\\', "\\\\").replace('"', "\\\"");
        return Asked::Expression(format!("{{__name__=~\".*(?:{wanted}).*\"}}"));
    }
    if let Some(found) = RESULT.captures(query) {
        return Asked::Expression(inner(&found, 1));
    }
    // Anything else is a selector, of which the series are shown.
    if query.contains('(') && !query.contains('{') { Asked::Unknown } else { Asked::Expression(query.to_owned()) }
}

/// The query of a variable, which is a text or has one.
pub(super) fn text(query: &Value) -> Option<&str> {
    let parts = ["query", "expr", "__legacyStringValue"];
    query.as_str().or_else(|| parts.iter().find_map(|part| query[*part].as_str()))
}

/// The values that a variable of a dashboard can have, where the dashboard has them: those of lists, constants and texts.
pub(super) fn values(kind: &str, variable: &Value) -> Vec<String> {
    let query = variable["query"].as_str().unwrap_or_default();
    let listed = || {
        let options = variable["options"].as_array().into_iter().flatten().filter_map(|option| option["value"].as_str());
        let written = query.split(',').map(|value| value.split_once(" : ").map_or(value, |(_, value)| value).trim());
        let all: Vec<String> =
            written.chain(options).filter(|value| !value.is_empty() && !value.starts_with('$')).map(str::to_owned).collect();
        all
    };
    let current = || {
        let current = &variable["current"]["value"];
        current.as_str().or_else(|| variable["value"].as_str()).into_iter().chain([query]).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut found = match kind.to_ascii_lowercase().trim_end_matches("variable") {
        "custom" | "interval" => listed(),
        "constant" | "textbox" | "text" => current(),
        _ => Vec::new(),
    };
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|value| !value.is_empty() && seen.insert(value.clone()));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn queries_of_variables() {
        let expression = |text: &str| Asked::Expression(text.to_owned());
        for (query, expected) in [
            ("label_values(up, pod)", expression("count by (pod) (up)")),
            ("label_values(up{a=\"b\",c=~\"$d\"}, pod)", expression("count by (pod) (up{a=\"b\",c=~\"$d\"})")),
            ("label_values(sum by (a, b) (up), b) ", expression("count by (b) (sum by (a, b) (up))")),
            ("label_values(up, $label)", expression("count by ($label) (up)")),
            ("label_values(up, ${label})", expression("count by (${label}) (up)")),
            ("label_values(\n  up,\n  pod\n)", expression("count by (pod) (up)")),
            ("label_values(namespace)", Asked::Nothing),
            ("label_names()", Asked::Nothing),
            ("label_names(up)", expression("up")),
            ("metrics(kubevirt_)", expression("{__name__=~\".*(?:kubevirt_).*\"}")),
            ("query_result(topk($n, sum by (a) (b{c=\"(\"})))", expression("topk($n, sum by (a) (b{c=\"(\"}))")),
            ("up{job=\"a\"}", expression("up{job=\"a\"}")),
            ("", Asked::Nothing),
            ("label_vals(up, pod)", Asked::Unknown),
        ] {
            assert_eq!(of_grafana(query), expected, "{query}");
        }
    }

    #[test]
    fn values_that_are_written_in_a_dashboard() {
        for (kind, variable, expected) in [
            ("custom", json!({"query": "a, b : c,d", "options": [{"value": "a"}, {"value": "$__all"}]}), vec!["a", "c", "d"]),
            (
                "interval",
                json!({"query": "1m,10m", "options": [{"value": "$__auto_interval_x"}, {"value": "1m"}]}),
                vec!["1m", "10m"],
            ),
            ("constant", json!({"query": "kubevirt"}), vec!["kubevirt"]),
            ("textbox", json!({"query": "", "current": {"value": "job=\"x\""}}), vec!["job=\"x\""]),
            ("TextVariable", json!({"value": "7"}), vec!["7"]),
            ("query", json!({"query": "label_values(up, pod)"}), vec![]),
        ] {
            assert_eq!(values(kind, &variable), expected, "{kind}");
        }
    }
}
