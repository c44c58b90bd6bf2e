//! Dashboards of Perses: panels and variables, each with a plugin (`perses/spec/cue/dashboard`, plugins of `perses/plugins/prometheus`).

use std::sync::Arc;

use serde_json::Value;

use super::Gatherer;
use super::queries::Asked;
use crate::variables::Variables;

/// Whether something is the `spec` of a dashboard of Perses.
pub(super) fn is_dashboard(spec: &Value) -> bool {
    spec["panels"].is_object()
}

/// Plugins whose queries are of another language, or that read nothing.
fn is_other(plugin: &str) -> bool {
    ["Loki", "Tempo", "Pyroscope", "ClickHouse", "VictoriaLogs", "OpenSearch", "SQL", "Splunk", "Static", "Datasource"]
        .iter()
        .any(|start| plugin.starts_with(start))
}

/// What a variable's plugin reads.
fn asked(plugin: &Value) -> Vec<Asked> {
    let spec = &plugin["spec"];
    let matchers = || spec["matchers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let none = |all: Vec<Asked>| if all.is_empty() { vec![Asked::Nothing] } else { all };
    match plugin["kind"].as_str().unwrap_or_default() {
        "PrometheusLabelValuesVariable" => {
            let label = spec["labelName"].as_str().unwrap_or_default();
            none(matchers().map(|selector| Asked::Expression(format!("count by ({label}) ({selector})"))).collect())
        }
        "PrometheusLabelNamesVariable" => none(matchers().map(|selector| Asked::Expression(selector.to_owned())).collect()),
        "PrometheusPromQLVariable" => match spec["expr"].as_str() {
            Some(expression) => vec![Asked::Expression(expression.to_owned())],
            None => vec![Asked::Unknown],
        },
        other if is_other(other) => vec![Asked::Nothing],
        _ => vec![Asked::Unknown],
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The values of a variable that a dashboard has.
fn values(variable: &Value) -> Vec<String> {
    let spec = &variable["spec"];
    let text = |value: &Value| value.as_str().or_else(|| value["value"].as_str()).map(str::to_owned);
    let listed = list(&spec["plugin"]["spec"]["values"]).filter_map(text);
    listed.chain(text(&spec["value"])).filter(|value| !value.is_empty()).collect()
}

impl Gatherer<'_> {
    pub(super) fn perses(&mut self, dashboard: &Value) {
        self.contents.found += 1;
        let known = list(&dashboard["variables"]).filter_map(|variable| {
            let values = values(variable);
            (!values.is_empty()).then(|| (variable["spec"]["name"].as_str().unwrap_or_default().to_owned(), values))
        });
        self.variables = Some(Arc::new(Variables(known.collect())));
        for (key, panel) in dashboard["panels"].as_object().into_iter().flatten() {
            let spec = &panel["spec"];
            let name = format!("panel {:?}", spec["display"]["name"].as_str().filter(|name| !name.is_empty()).unwrap_or(key));
            // Before Perses 0.41 the queries were the plugin's.
            for query in list(&spec["queries"]).chain(list(&spec["plugin"]["spec"]["queries"])) {
                let plugin = &query["spec"]["plugin"];
                let kind = plugin["kind"].as_str().unwrap_or_default();
                match plugin["spec"]["query"].as_str() {
                    Some(expression) if kind.starts_with("Prometheus") => self.add_expression(name.clone(), expression),
                    _ if is_other(kind) => {}
                    Some(_) | None => self.add_unreadable(name.clone(), format!("queries of plugin {kind:?} are not known")),
                }
            }
        }
        for variable in list(&dashboard["variables"]) {
            self.perses_variable(variable);
        }
        for annotation in list(&dashboard["annotations"]) {
            let spec = &annotation["spec"];
            let name = format!("annotation {:?}", spec["display"]["name"].as_str().unwrap_or_default());
            let kind = spec["plugin"]["kind"].as_str().unwrap_or_default();
            match ["expr", "query"].iter().find_map(|field| spec["plugin"]["spec"][*field].as_str()) {
                Some(expression) if kind.starts_with("Prometheus") => self.add_expression(name, expression),
                _ if is_other(kind) => {}
                Some(_) | None => self.add_unreadable(name, format!("annotations of plugin {kind:?} are not known")),
            }
        }
        self.variables = None;
    }

    /// A variable of a dashboard or of a project. Texts read nothing.
    pub(super) fn perses_variable(&mut self, variable: &Value) {
        let spec = &variable["spec"];
        let own = spec["name"].as_str().or_else(|| variable["metadata"]["name"].as_str()).unwrap_or_default();
        let name = format!("variable {own:?}");
        match variable["kind"].as_str() {
            Some("TextVariable") => {}
            Some("ListVariable") => {
                for asked in asked(&spec["plugin"]) {
                    match asked {
                        Asked::Expression(expression) => {
                            let written =
                                expression.split_once(") (").map_or(expression.as_str(), |(_, rest)| rest.trim_end_matches(')'));
                            self.add_written(name.clone(), expression.clone(), written);
                        }
                        Asked::Nothing => {}
                        Asked::Unknown => {
                            let kind = spec["plugin"]["kind"].as_str().unwrap_or_default();
                            self.add_unreadable(name.clone(), format!("variables of plugin {kind:?} are not known"));
                        }
                    }
                }
            }
            kind => self.add_unreadable(name, format!("variables of kind {:?} are not known", kind.unwrap_or_default())),
        }
    }
}
