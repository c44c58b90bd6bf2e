//! Dashboards of Grafana in their classic form: panels, rows, annotations, variables, library panels, legacy alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Gatherer, queries};
use crate::variables::Variables;

/// How deep panels may be nested. Rows hold panels, and nothing holds rows.
const MAX_DEPTH: usize = 8;

/// Whether a document is a dashboard.
pub(super) fn is_dashboard(document: &Value) -> bool {
    let is_list = |field: &str| document[field].is_array();
    is_list("panels") || is_list("rows") || document["schemaVersion"].is_number() && document["title"].is_string()
}

/// What language the queries of a data source are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    PromQl,
    /// Another one, or none: arithmetic on other queries, results of another panel.
    Other,
    /// The dashboard does not say.
    Unknown,
}

/// The language of a type of data source.
pub(super) fn language(plugin: &str) -> Language {
    // Those that speak PromQL: Grafana's own, those of Amazon and Azure, and VictoriaMetrics.
    if plugin.is_empty() || plugin.starts_with('$') {
        Language::Unknown
    } else if plugin.contains("prometheus")
        || plugin.contains("victoriametrics-metrics")
        || plugin == "victoriametrics-datasource"
    {
        Language::PromQl
    } else {
        Language::Other
    }
}

/// The data sources of a dashboard that have names of its own: inputs of an export and variables. Each with its type.
struct Sources<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Sources<'a> {
    fn of(dashboard: &'a Value) -> Self {
        let list = |value: &'a Value| value.as_array().into_iter().flatten();
        let inputs = list(&dashboard["__inputs"]).filter_map(|input| input["name"].as_str().zip(input["pluginId"].as_str()));
        let variables = list(&dashboard["templating"]["list"]).filter(|variable| variable["type"] == "datasource");
        let variables = variables.filter_map(|variable| variable["name"].as_str().zip(variable["query"].as_str()));
        Self(inputs.chain(variables).collect())
    }

    /// The language of what a query or a panel names as its source.
    fn language(&self, source: &Value) -> Language {
        let named = |name: &str| {
            let bare = name.trim_start_matches("${").trim_start_matches('$').trim_end_matches('}');
            match name {
                "__expr__" | "-- Dashboard --" | "-- Grafana --" | "grafana" => Language::Other,
                _ => self.0.get(bare).map_or(Language::Unknown, |plugin| language(plugin)),
            }
        };
        match source {
            Value::String(name) => named(name),
            Value::Object(source) => {
                let field = |name: &str| source.get(name).and_then(Value::as_str).unwrap_or_default();
                match (language(field("type")), named(field("uid"))) {
                    (_, Language::Other) => Language::Other,
                    (Language::Unknown, by_name) => by_name,
                    (Language::PromQl | Language::Other, _) if field("uid") == "-- Mixed --" => Language::Unknown,
                    (of_type, _) => of_type,
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Language::Unknown,
        }
    }
}

fn title(of: &Value) -> &str {
    of["title"].as_str().unwrap_or("without a title")
}

/// The variables whose values are written in a dashboard.
fn variables(dashboard: &Value) -> Variables {
    let all = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let known = all.filter_map(|variable| {
        let values = queries::values(variable["type"].as_str()?, variable);
        (!values.is_empty()).then(|| (variable["name"].as_str().unwrap_or_default().to_owned(), values))
    });
    Variables(known.collect())
}

impl Gatherer<'_> {
    pub(super) fn grafana(&mut self, dashboard: &Value) {
        self.contents.found += 1;
        self.variables = Some(Arc::new(variables(dashboard)));
        let sources = Sources::of(dashboard);
        // Panels that several dashboards share come along in an export.
        let elements: BTreeMap<&str, &Value> = dashboard["__elements"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(uid, element)| (element["uid"].as_str().unwrap_or(uid.as_str()), element))
            .chain(
                dashboard["__elements"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|one| (one["uid"].as_str().unwrap_or_default(), one)),
            )
            .collect();
        let mut seen = BTreeSet::new();
        let rows = dashboard["rows"].as_array().into_iter().flatten();
        let lists = std::iter::once(dashboard).chain(rows);
        let mut panels: Vec<(&Value, usize)> =
            lists.flat_map(|of| of["panels"].as_array().into_iter().flatten()).map(|panel| (panel, 0)).collect();
        panels.reverse();
        while let Some((panel, depth)) = panels.pop() {
            if depth > MAX_DEPTH {
                self.add_unreadable(
                    format!("panel {:?}", title(panel)),
                    format!("it is nested more than {MAX_DEPTH} levels deep"),
                );
                continue;
            }
            let inner: Vec<(&Value, usize)> =
                panel["panels"].as_array().into_iter().flatten().map(|panel| (panel, depth + 1)).collect();
            panels.extend(inner.into_iter().rev());
            let library = &panel["libraryPanel"];
            if library.is_object() && !panel["targets"].is_array() {
                let uid = library["uid"].as_str().unwrap_or_default();
                let model = [&library["model"], elements.get(uid).map_or(&Value::Null, |element| &element["model"])];
                seen.insert(uid);
                match model.into_iter().find(|model| model.is_object()) {
                    Some(model) => self.panel(model, &sources),
                    None => {
                        let name = library["name"].as_str().unwrap_or_else(|| title(panel));
                        self.add_unreadable(format!("panel {name:?}"), "it is a library panel, which the file does not have");
                    }
                }
                continue;
            }
            self.panel(panel, &sources);
        }
        for (_, element) in elements.iter().filter(|(uid, _)| !seen.contains(*uid)) {
            self.panel(&element["model"], &sources);
        }
        for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
            let name = format!("annotation {:?}", annotation["name"].as_str().unwrap_or_default());
            if sources.language(&annotation["datasource"]) != Language::Other {
                let expression = annotation["expr"].as_str().or_else(|| annotation["target"]["expr"].as_str());
                self.add_expression(name, expression.unwrap_or_default());
            }
        }
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
            let other = sources.language(&variable["datasource"]) == Language::Other;
            if other || !matches!(variable["type"].as_str(), Some("query") | None) {
                continue;
            }
            let name = format!("variable {:?}", variable["name"].as_str().unwrap_or_default());
            let query = queries::text(&variable["query"]).or_else(|| variable["definition"].as_str());
            self.grafana_variable(name, query);
        }
        self.variables = None;
    }

    /// The query of a variable, if it has one.
    pub(super) fn grafana_variable(&mut self, name: String, query: Option<&str>) {
        match query.map(queries::of_grafana) {
            Some(queries::Asked::Expression(expression)) => self.add_written(name, expression, query.unwrap_or_default()),
            Some(queries::Asked::Nothing) => {}
            Some(queries::Asked::Unknown) => {
                self.add_unreadable(name, format!("{:?} is no query of a variable that is known", query.unwrap_or_default()))
            }
            None => self.add_unreadable(name, "it has no query that is known"),
        }
    }

    /// A panel of a library, on its own.
    pub(super) fn grafana_library_panel(&mut self, model: &Value) {
        self.contents.found += 1;
        self.variables = Some(Arc::default());
        self.panel(model, &Sources(BTreeMap::new()));
        self.variables = None;
    }

    fn panel(&mut self, panel: &Value, sources: &Sources<'_>) {
        let of_panel = sources.language(&panel["datasource"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            let own = match &target["datasource"] {
                Value::Null => of_panel,
                source => match sources.language(source) {
                    Language::Unknown => of_panel,
                    known @ (Language::PromQl | Language::Other) => known,
                },
            };
            if own != Language::Other {
                self.add_expression(format!("panel {:?}", title(panel)), target["expr"].as_str().unwrap_or_default());
            }
        }
    }
}
