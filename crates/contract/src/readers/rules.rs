//! Rules and alerts: rule files and PrometheusRules, alerts that Grafana manages, and promtool's tests of rules.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::Value;

use super::grafana::{Language, language};
use super::{Gatherer, Query};

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether something is a list of groups of rules. One without rules is nothing that anybody means.
pub(super) fn is_groups(groups: &Value) -> bool {
    groups.as_array().is_some_and(|groups| !groups.is_empty() && groups.iter().all(|group| group["rules"].is_array()))
}

/// Whether something is a rule that Grafana manages: it has queries instead of an expression.
pub(super) fn is_managed(rule: &Value) -> bool {
    rule["data"].is_array() && (rule["title"].is_string() || rule["condition"].is_string())
}

/// Whether a document is a file for `promtool test rules`.
pub(super) fn is_test(document: &Value) -> bool {
    let has = |test: &Value| ["input_series", "promql_expr_test", "alert_rule_test"].iter().any(|field| test[*field].is_array());
    list(&document["tests"]).any(has)
}

/// The labels that `{{ $labels.x }}` shows. `.Labels` may be those of another query.
fn templated(texts: &[&Value]) -> Vec<String> {
    static LABEL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\$labels\.([A-Za-z_][A-Za-z0-9_]*)").expect("a constant expression"));
    let texts = texts.iter().filter_map(|texts| texts.as_object()).flat_map(|texts| texts.values()).filter_map(Value::as_str);
    let found: BTreeSet<String> =
        texts.flat_map(|text| LABEL.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>()).collect();
    found.into_iter().collect()
}

impl Gatherer<'_> {
    pub(super) fn groups(&mut self, groups: &Value) {
        for group in list(groups) {
            self.contents.found += 1;
            let of_group: Vec<String> =
                group["labels"].as_object().into_iter().flat_map(|labels| labels.keys().cloned()).collect();
            for rule in list(&group["rules"]) {
                if is_managed(rule) {
                    self.managed(rule);
                } else {
                    self.rule(rule, &of_group, &group["name"]);
                }
            }
        }
    }

    fn rule(&mut self, rule: &Value, of_group: &[String], group: &Value) {
        let group = group.as_str().unwrap_or_default();
        let name = match (rule["alert"].as_str(), rule["record"].as_str()) {
            (Some(alert), _) => format!("alert {alert}"),
            (None, Some(record)) => format!("rule {record}"),
            (None, None) => return self.add_unreadable(format!("rule of group {group:?}"), "it has neither alert nor record"),
        };
        let query = match &rule["expr"] {
            Value::String(expression) => Query::Expression(expression.clone()),
            Value::Number(number) => Query::Expression(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Query::Unreadable { why: "it has no expression".to_owned() }
            }
        };
        self.add(name, query);
        let Some(reader) = self.contents.readers.last_mut() else { return };
        reader.records = rule["record"].as_str().filter(|_| !rule["alert"].is_string()).map(str::to_owned);
        let own = rule["labels"].as_object().into_iter().flat_map(|labels| labels.keys().cloned());
        reader.labels = own.chain(of_group.iter().cloned()).collect();
        reader.templated = templated(&[&rule["annotations"], &rule["labels"]]);
    }

    /// A rule of Grafana (`pkg/services/ngalert/api/tooling/definitions/provisioning_alert_rules.go`).
    pub(super) fn managed(&mut self, rule: &Value) {
        // Its queries may have the variables of time, and no others.
        self.variables = Some(Arc::default());
        let own = rule["title"].as_str().or_else(|| rule["uid"].as_str()).unwrap_or_default();
        let name = format!("alert {own}");
        for query in list(&rule["data"]) {
            let model = &query["model"];
            let written;
            // Some tools write the model as a text.
            let model = match model.as_str().map(serde_json::from_str::<Value>) {
                Some(Ok(inner)) => {
                    written = inner;
                    &written
                }
                Some(Err(error)) => {
                    self.add_unreadable(name.clone(), format!("the model of a query is no JSON: {error}"));
                    continue;
                }
                None => model,
            };
            let source = &model["datasource"];
            let uid = query["datasourceUid"].as_str().or_else(|| source["uid"].as_str()).unwrap_or_default();
            let of_source = language(source["type"].as_str().unwrap_or_default());
            if matches!(uid, "__expr__" | "-100") || of_source == Language::Other {
                continue;
            }
            match model["expr"].as_str() {
                Some(expression) => self.add_expression(name.clone(), expression),
                None if of_source == Language::PromQl => self.add_unreadable(name.clone(), "a query has no expression"),
                // Without an expression it is another source's.
                None => {}
            }
        }
        self.variables = None;
        if let Some(metric) = rule["record"]["metric"].as_str()
            && let Some(reader) = self.contents.readers.last_mut()
        {
            reader.records = Some(metric.to_owned());
        }
    }

    /// A file for `promtool test rules`: the series that it makes up, and what it asks of them.
    pub(super) fn test(&mut self, document: &Value) {
        self.contents.found += 1;
        for test in list(&document["tests"]) {
            for series in list(&test["input_series"]) {
                match series["series"].as_str() {
                    Some(series) => self.add_expression("input series".to_owned(), series),
                    None => self.add_unreadable("input series".to_owned(), "it has no series"),
                }
            }
            for question in list(&test["promql_expr_test"]) {
                match question["expr"].as_str() {
                    Some(expression) => self.add_expression("test of an expression".to_owned(), expression),
                    None => self.add_unreadable("test of an expression".to_owned(), "it has no expression"),
                }
            }
        }
    }
}
