//! What reads series: panels, annotations and variables of dashboards, rules.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// An expression with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// What it is, such as `panel "404"`.
    pub name: String,
    /// Its line in the file, from 1.
    pub line: usize,
    /// The expression.
    pub expression: String,
    /// The metric that it records.
    pub records: Option<String>,
    /// Labels that a rule adds.
    pub labels: Vec<String>,
    /// Labels that annotations show.
    pub templated: Vec<String>,
}

/// A file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Line and column, from 1, where they are known.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

/// The line of a text that holds an expression, from 1. A file may write it with escapes, or over several lines.
fn line_of(text: &str, expression: &str) -> usize {
    let escaped = Value::from(expression).to_string();
    let escaped = escaped.trim_matches('"');
    let first = expression.lines().next().unwrap_or_default().trim();
    let at = [expression, escaped, first].into_iter().filter(|wanted| !wanted.is_empty()).find_map(|wanted| text.find(wanted));
    at.map_or(1, |at| text[..at].matches('\n').count() + 1)
}

fn of_dashboard(text: &str, dashboard: &Value, found: &mut Vec<Reader>) {
    let mut add = |name: String, expression: &str| {
        found.push(Reader {
            name,
            line: line_of(text, expression),
            expression: expression.to_owned(),
            records: None,
            labels: Vec::new(),
            templated: Vec::new(),
        });
    };
    let mut panels: Vec<&Value> = dashboard["panels"].as_array().into_iter().flatten().collect();
    for row in dashboard["rows"].as_array().into_iter().flatten() {
        panels.extend(row["panels"].as_array().into_iter().flatten());
    }
    let mut index = 0;
    while let Some(panel) = panels.get(index).copied() {
        panels.extend(panel["panels"].as_array().into_iter().flatten());
        index += 1;
        let title = panel["title"].as_str().unwrap_or("without a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Others have expressions too, in languages of their own.
            let source = target["datasource"]["type"].as_str().or_else(|| panel["datasource"]["type"].as_str());
            if source.is_some_and(|source| source != "prometheus") {
                continue;
            }
            if let Some(expression) = target["expr"].as_str().filter(|expression| !expression.is_empty()) {
                add(format!("panel {title:?}"), expression);
            }
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        if let Some(expression) = annotation["expr"].as_str().filter(|expression| !expression.is_empty()) {
            add(format!("annotation {:?}", annotation["name"].as_str().unwrap_or_default()), expression);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let query = variable["query"].as_str().or_else(|| variable["query"]["query"].as_str()).unwrap_or_default();
        if let Some(expression) = of_variable(query) {
            add(format!("variable {:?}", variable["name"].as_str().unwrap_or_default()), &expression);
        }
    }
}

/// `label_values(metric, label)` and `query_result(expr)` as an expression that needs the same.
fn of_variable(query: &str) -> Option<String> {
    let inner = |start: &str| query.trim().strip_prefix(start)?.strip_suffix(')').map(str::trim);
    if let Some(arguments) = inner("label_values(") {
        let (metric, label) = arguments.rsplit_once(',')?;
        return Some(format!("count by ({}) ({})", label.trim(), metric.trim()));
    }
    inner("query_result(").map(str::to_owned)
}

/// The labels that `{{ $labels.x }}` shows. `.Labels` may be those of another query.
fn templated(texts: &Value) -> Vec<String> {
    static LABEL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\$labels\.([A-Za-z_][A-Za-z0-9_]*)").expect("a constant expression"));
    let mut found: Vec<String> = texts
        .as_object()
        .into_iter()
        .flat_map(|texts| texts.values())
        .filter_map(Value::as_str)
        .flat_map(|text| LABEL.captures_iter(text).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn of_groups(text: &str, groups: &Value, found: &mut Vec<Reader>) {
    for group in groups.as_array().into_iter().flatten() {
        for rule in group["rules"].as_array().into_iter().flatten() {
            let expression = match &rule["expr"] {
                Value::String(expression) => expression.clone(),
                Value::Null => continue,
                other => other.to_string(),
            };
            let name = match (rule["alert"].as_str(), rule["record"].as_str()) {
                (Some(alert), _) => format!("alert {alert}"),
                (None, Some(record)) => format!("rule {record}"),
                (None, None) => continue,
            };
            let mut templates = templated(&rule["annotations"]);
            templates.extend(templated(&rule["labels"]));
            found.push(Reader {
                name,
                line: line_of(text, expression.trim()),
                expression,
                records: rule["record"].as_str().map(str::to_owned),
                labels: rule["labels"].as_object().into_iter().flat_map(|labels| labels.keys().cloned()).collect(),
                templated: templates,
            });
        }
    }
}

/// What reads series in a file: a Grafana dashboard (JSON), a rule file, or manifests with PrometheusRules and ConfigMaps of dashboards.
///
/// # Errors
/// When the file is neither JSON nor YAML.
pub fn readers(text: &str) -> Result<Vec<Reader>, ReadError> {
    let mut found = Vec::new();
    if text.trim_start().starts_with('{') {
        let mut document: Value = serde_json::from_str(text)
            .map_err(|error| ReadError { at: Some((error.line(), error.column())), message: error.to_string() })?;
        // What Grafana's API hands out has the dashboard one level down.
        if document["dashboard"].is_object() {
            document = document["dashboard"].take();
        }
        of_dashboard(text, &document, &mut found);
        of_groups(text, &document["groups"], &mut found);
        return Ok(found);
    }
    let documents = wire::yaml::manifests(text).map_err(|error| ReadError { at: error.at, message: error.message })?;
    for document in documents {
        of_groups(text, &document["groups"], &mut found);
        of_groups(text, &document["spec"]["groups"], &mut found);
        for (name, value) in document["data"].as_object().into_iter().flatten() {
            if let Some(dashboard) = value.as_str().filter(|_| name.ends_with(".json"))
                && let Ok(dashboard) = serde_json::from_str(dashboard)
            {
                of_dashboard(text, &dashboard, &mut found);
            }
        }
    }
    Ok(found)
}
