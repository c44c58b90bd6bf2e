//! The label that tells whose namespace an object was in, where a Prometheus enforces one (prometheus-operator
//! `pkg/namespacelabeler`).

use kubeapi::object;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use serde_json::{Value, json};

use crate::config::filled;

/// Resources of the group and their kinds.
const KINDS: [(&str, &str); 5] = [
    ("prometheusrules", "PrometheusRule"),
    ("servicemonitors", "ServiceMonitor"),
    ("podmonitors", "PodMonitor"),
    ("probes", "Probe"),
    ("scrapeconfigs", "ScrapeConfig"),
];

const GROUP: &str = "monitoring.coreos.com";

/// The label that a Prometheus enforces on an object, unless the object is excluded.
pub(crate) fn label<'a>(prometheus_spec: &'a Value, of: &Value) -> Option<&'a str> {
    let label = filled(&prometheus_spec["enforcedNamespaceLabel"])?;
    let is_meant = |reference: &Value| {
        let resource = reference["resource"].as_str().unwrap_or_default();
        let kind = KINDS.iter().find(|(plural, _)| *plural == resource).map(|(_, kind)| *kind);
        filled(&reference["group"]).unwrap_or(GROUP) == GROUP
            && kind == Some(object::kind(of))
            && reference["namespace"] == object::namespace(of)
            && filled(&reference["name"]).is_none_or(|name| name == object::name(of))
    };
    let excluded = prometheus_spec["excludedFromEnforcement"].as_array().into_iter().flatten().any(is_meant);
    let older = prometheus_spec["prometheusRulesExcludedFromEnforce"].as_array().into_iter().flatten();
    let rule = object::kind(of) == "PrometheusRule"
        && older
            .into_iter()
            .any(|named| named["ruleNamespace"] == object::namespace(of) && named["ruleName"] == object::name(of));
    (!excluded && !rule).then_some(label)
}

/// The rule that sets the label of targets and metrics.
pub(crate) fn relabeling(label: &str, namespace: &str) -> Value {
    json!({"target_label": label, "replacement": namespace})
}

/// Enforces a label on the rules of groups: on what they make, and on what they read.
///
/// # Errors
/// When an expression cannot be read.
pub(crate) fn rules(groups: &mut Value, label: &str, namespace: &str) -> Result<(), String> {
    let groups = groups.as_array_mut().into_iter().flatten();
    for rule in groups.flat_map(|group| group["rules"].as_array_mut().into_iter().flatten()) {
        if !rule["labels"].is_object() {
            rule["labels"] = json!({});
        }
        rule["labels"][label] = namespace.into();
        let expression = match &rule["expr"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut parsed = parser::parse(&expression).map_err(|error| format!("failed to parse promql expression: {error}"))?;
        enforce(&mut parsed, label, namespace);
        rule["expr"] = parsed.to_string().into();
    }
    Ok(())
}

fn enforce_selector(selector: &mut VectorSelector, label: &str, namespace: &str) {
    let matchers = &mut selector.matchers;
    matchers.matchers.retain(|matcher| matcher.name != label);
    matchers.matchers.push(Matcher::new(MatchOp::Equal, label, namespace));
}

fn enforce(expression: &mut Expr, label: &str, namespace: &str) {
    match expression {
        Expr::VectorSelector(selector) => enforce_selector(selector, label, namespace),
        Expr::MatrixSelector(matrix) => enforce_selector(&mut matrix.vs, label, namespace),
        Expr::Aggregate(aggregate) => {
            enforce(&mut aggregate.expr, label, namespace);
            if let Some(parameter) = &mut aggregate.param {
                enforce(parameter, label, namespace);
            }
        }
        Expr::Unary(unary) => enforce(&mut unary.expr, label, namespace),
        Expr::Binary(binary) => {
            enforce(&mut binary.lhs, label, namespace);
            enforce(&mut binary.rhs, label, namespace);
        }
        Expr::Paren(paren) => enforce(&mut paren.expr, label, namespace),
        Expr::Subquery(subquery) => enforce(&mut subquery.expr, label, namespace),
        Expr::Call(call) => call.args.args.iter_mut().for_each(|argument| enforce(argument, label, namespace)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_and_make_series_of_their_namespace_alone() {
        for (expression, expected) in [
            ("sum(up) > 0", "sum(up{namespace=\"a\"}) > 0"),
            ("rate(x{namespace=\"b\",y=\"z\"}[5m])", "rate(x{namespace=\"a\",y=\"z\"}[5m])"),
            ("vector(1)", "vector(1)"),
        ] {
            let mut groups = json!([{"rules": [{"record": "r", "expr": expression}]}]);
            rules(&mut groups, "namespace", "a").unwrap();
            let rule = &groups[0]["rules"][0];
            assert_eq!(rule["labels"], json!({"namespace": "a"}));
            let made = rule["expr"].as_str().unwrap().replace(", ", ",");
            assert_eq!(made.replace("y=\"z\",namespace=\"a\"", "namespace=\"a\",y=\"z\""), expected);
        }
        assert!(rules(&mut json!([{"rules": [{"expr": "sum("}]}]), "namespace", "a").is_err());
    }

    #[test]
    fn who_is_excluded() {
        let of = |kind: &str, name: &str| json!({"kind": kind, "metadata": {"namespace": "a", "name": name}});
        let spec = json!({
            "enforcedNamespaceLabel": "ns",
            "excludedFromEnforcement": [{"resource": "servicemonitors", "namespace": "a", "name": "m"}, {"resource": "probes", "namespace": "a"}],
            "prometheusRulesExcludedFromEnforce": [{"ruleNamespace": "a", "ruleName": "r"}],
        });
        for (kind, name, excluded) in [
            ("ServiceMonitor", "m", true),
            ("ServiceMonitor", "n", false),
            ("PodMonitor", "m", false),
            ("Probe", "any", true),
            ("PrometheusRule", "r", true),
        ] {
            assert_eq!(label(&spec, &of(kind, name)).is_none(), excluded, "{kind} {name}");
        }
        assert_eq!(label(&json!({}), &of("Probe", "p")), None);
    }
}
