//! Dashboards of Grafana's schema version 2 (`apps/dashboard/kinds/v2beta1` and `v2alpha1`): elements, variables and annotations, each
//! with its `kind` and `spec`.

use std::sync::Arc;

use serde_json::Value;

use super::grafana::{Language, language};
use super::{Gatherer, queries};
use crate::variables::Variables;

/// Whether something is the `spec` of such a dashboard.
pub(super) fn is_dashboard(spec: &Value) -> bool {
    spec["elements"].is_object() && (spec["layout"].is_object() || spec["title"].is_string())
}

/// The language of a query: of version v2beta1 its `group`, of v2alpha1 its `kind`, besides what a data source says.
fn of_query(query: &Value, around: &Value) -> Language {
    let plugin = match query["kind"].as_str() {
        Some("DataQuery") | None => query["group"].as_str().unwrap_or_default(),
        Some(kind) => kind,
    };
    match language(plugin) {
        Language::Unknown => language(around["datasource"]["type"].as_str().unwrap_or_default()),
        known @ (Language::PromQl | Language::Other) => known,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Gatherer<'_> {
    pub(super) fn grafana_v2(&mut self, dashboard: &Value) {
        self.contents.found += 1;
        let known = list(&dashboard["variables"]).filter_map(|variable| {
            let (kind, spec) = (variable["kind"].as_str()?, &variable["spec"]);
            let values = queries::values(kind, spec);
            (!values.is_empty()).then(|| (spec["name"].as_str().unwrap_or_default().to_owned(), values))
        });
        self.variables = Some(Arc::new(Variables(known.collect())));
        for (key, element) in dashboard["elements"].as_object().into_iter().flatten() {
            let spec = &element["spec"];
            let name = format!("panel {:?}", spec["title"].as_str().unwrap_or(key));
            match element["kind"].as_str() {
                Some("Panel") => {
                    for panel_query in list(&spec["data"]["spec"]["queries"]) {
                        let (around, query) = (&panel_query["spec"], &panel_query["spec"]["query"]);
                        if of_query(query, around) != Language::Other {
                            self.add_expression(name.clone(), query["spec"]["expr"].as_str().unwrap_or_default());
                        }
                    }
                }
                Some("LibraryPanel") => self.add_unreadable(name, "it is a library panel, which the file does not have"),
                Some(kind) => self.add_unreadable(name, format!("elements of kind {kind} are not known")),
                None => self.add_unreadable(name, "it has no kind"),
            }
        }
        for annotation in list(&dashboard["annotations"]) {
            let spec = &annotation["spec"];
            if of_query(&spec["query"], spec) != Language::Other {
                let name = format!("annotation {:?}", spec["name"].as_str().unwrap_or_default());
                self.add_expression(name, spec["query"]["spec"]["expr"].as_str().unwrap_or_default());
            }
        }
        for variable in list(&dashboard["variables"]).filter(|variable| variable["kind"] == "QueryVariable") {
            let spec = &variable["spec"];
            if of_query(&spec["query"], spec) == Language::Other {
                continue;
            }
            let name = format!("variable {:?}", spec["name"].as_str().unwrap_or_default());
            let query = queries::text(&spec["query"]["spec"]).or_else(|| queries::text(&spec["query"]));
            self.grafana_variable(name, query.or_else(|| spec["definition"].as_str()));
        }
        self.variables = None;
    }
}
