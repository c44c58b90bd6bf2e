//! An expression, walked with the labels that each of its parts has.

use std::collections::BTreeSet;

use promql_parser::label::Matcher;
use promql_parser::parser::{AggregateExpr, BinaryExpr, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde::Serialize;

use crate::schema::Schema;

/// What is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "camelCase")]
pub enum Finding {
    /// A metric.
    NoMetric {
        /// Its name, or the expression for names.
        metric: String,
        /// Names that are nearly the same.
        nearest: Vec<String>,
    },
    /// A label of a metric that is there.
    NoLabel {
        /// The metric.
        metric: String,
        /// The label.
        label: String,
        /// Where it is asked for, such as `code="404"` or `by (code)`.
        asked: String,
    },
    /// A label of what the expression yields, in an annotation.
    NoTemplateLabel {
        /// The label.
        label: String,
    },
    /// The expression cannot be read.
    Unreadable {
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoMetric { metric, nearest } if nearest.is_empty() => write!(f, "there is no metric {metric}"),
            Self::NoMetric { metric, nearest } => write!(f, "there is no metric {metric}; nearest is {}", nearest.join(", ")),
            Self::NoLabel { metric, label, asked } => write!(f, "{metric} has no label {label}, which {asked} asks for"),
            Self::NoTemplateLabel { label } => write!(f, "the result has no label {label}, which an annotation shows"),
            Self::Unreadable { why } => write!(f, "the expression cannot be read: {why}"),
        }
    }
}

/// What was found in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What is not there.
    pub findings: Vec<Finding>,
    /// The labels of the result; nothing when they are not known.
    pub labels: Option<BTreeSet<String>>,
    /// The metrics that are read.
    pub read: BTreeSet<String>,
}

/// What stands for a variable of a dashboard; it reads as a name.
const VARIABLE: &str = "variable__of__dashboard";

/// Replaces the variables of a dashboard: by a duration in brackets, by a name that is known again elsewhere.
fn filled(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression.chars().peekable();
    let (mut quote, mut brackets) = (None, 0usize);
    while let Some(letter) = rest.next() {
        match letter {
            '\\' if quote.is_some() => {
                out.push(letter);
                out.extend(rest.next());
                continue;
            }
            '"' | '\'' | '`' if quote.is_none() => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            '[' if quote.is_none() && rest.peek() != Some(&'[') => brackets += 1,
            ']' if quote.is_none() => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        let braced = letter == '$' && rest.peek() == Some(&'{');
        let old = letter == '[' && rest.peek() == Some(&'[');
        let plain = letter == '$' && rest.peek().is_some_and(|next| next.is_ascii_alphabetic() || *next == '_');
        if !braced && !old && !plain {
            out.push(letter);
            continue;
        }
        if plain {
            while rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_').is_some() {}
        } else {
            let end = if braced { '}' } else { ']' };
            for next in rest.by_ref() {
                if next == end {
                    break;
                }
            }
            if old {
                rest.next_if_eq(&']');
            }
        }
        if quote.is_none() && brackets > 0 {
            out.push_str("5m");
            // Its unit may come after a variable.
            while rest.next_if(char::is_ascii_lowercase).is_some() {}
        } else {
            out.push_str(VARIABLE);
        }
    }
    out
}

/// Walks an expression of PromQL; variables of dashboards stand for anything.
///
/// # Errors
/// When it cannot be read; the text is the parser's.
pub fn check_expression(expression: &str, schema: &Schema) -> Result<Found, String> {
    let text = filled(expression);
    let parsed = match promql_parser::parser::parse(&text) {
        Ok(parsed) => parsed,
        // What a variable holds may be any part of an expression.
        Err(_) if text.contains(VARIABLE) => return Ok(Found::default()),
        Err(why) => return Err(why),
    };
    let mut walk = Walk { schema, found: Found::default() };
    let labels = walk.labels(&parsed);
    walk.found.labels = labels;
    Ok(walk.found)
}

struct Walk<'a> {
    schema: &'a Schema,
    found: Found,
}

type Labels = Option<BTreeSet<String>>;

/// Whether a matcher is met by a series without the label.
fn takes_none(matcher: &Matcher) -> bool {
    matcher.is_match("") || matcher.value.contains(VARIABLE)
}

impl Walk<'_> {
    fn tell(&mut self, finding: Finding) {
        if !self.found.findings.contains(&finding) {
            self.found.findings.push(finding);
        }
    }

    /// The labels of a selector; those that any of its metrics has.
    fn selector(&mut self, selector: &VectorSelector) -> Labels {
        let by_name = selector.matchers.matchers.iter().filter(|matcher| matcher.name == "__name__");
        let name_matchers: Vec<&Matcher> = by_name.collect();
        let takes = |name: &str| {
            selector.name.as_ref().is_none_or(|wanted| wanted == name)
                && name_matchers.iter().all(|matcher| matcher.is_match(name))
        };
        let variable = selector.name.as_ref().is_some_and(|name| name.contains(VARIABLE))
            || name_matchers.iter().any(|matcher| matcher.value.contains(VARIABLE));
        if variable || (selector.name.is_none() && name_matchers.is_empty()) {
            return None;
        }
        let names: Vec<String> = self.schema.names().filter(|name| takes(name)).map(str::to_owned).collect();
        let asked = match (&selector.name, name_matchers.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(matcher)) => format!("{{{matcher}}}"),
            (None, None) => String::new(),
        };
        if names.is_empty() {
            let nearest = metrics::nearest(&asked, self.schema.names()).into_iter().map(str::to_owned).collect();
            self.tell(Finding::NoMetric { metric: asked, nearest });
            return None;
        }
        self.found.read.extend(names.iter().cloned());
        let mut labels = BTreeSet::new();
        for name in &names {
            // One that may have any label has each.
            labels.extend(self.schema.labels(name)?.iter().cloned());
        }
        for matcher in selector.matchers.matchers.iter().filter(|matcher| matcher.name != "__name__") {
            if !labels.contains(&matcher.name) && !takes_none(matcher) {
                self.tell(Finding::NoLabel { metric: asked.clone(), label: matcher.name.clone(), asked: matcher.to_string() });
            }
        }
        Some(labels)
    }

    /// The labels that an aggregation leaves.
    fn aggregated(&mut self, aggregate: &AggregateExpr) -> Labels {
        let inner = self.labels(&aggregate.expr);
        let keeps = matches!(aggregate.op.to_string().as_str(), "topk" | "bottomk" | "limitk" | "limit_ratio");
        match &aggregate.modifier {
            Some(LabelModifier::Include(by)) => {
                self.need(&inner, &by.labels, "by", &aggregate.expr);
                if keeps { inner } else { Some(by.labels.iter().cloned().collect()) }
            }
            Some(LabelModifier::Exclude(without)) if !keeps => {
                inner.map(|labels| labels.into_iter().filter(|label| !without.labels.contains(label)).collect())
            }
            None if !keeps => Some(BTreeSet::new()),
            _ => inner,
        }
    }

    /// Two expressions of which one may be empty: what both look for in vain is missing, and the result has the labels of either.
    fn either(&mut self, binary: &BinaryExpr) -> Labels {
        let is_metric = |finding: &Finding| matches!(finding, Finding::NoMetric { .. });
        let before = std::mem::take(&mut self.found.findings);
        let left = self.labels(&binary.lhs);
        let mut of_left = std::mem::take(&mut self.found.findings);
        let right = self.labels(&binary.rhs);
        let mut of_right = std::mem::replace(&mut self.found.findings, before);
        let (left_gone, right_gone) = (of_left.iter().any(is_metric), of_right.iter().any(is_metric));
        if left_gone != right_gone {
            // As `old_name or new_name` is written for two releases.
            of_left.retain(|finding| !is_metric(finding));
            of_right.retain(|finding| !is_metric(finding));
        }
        of_left.into_iter().chain(of_right).for_each(|finding| self.tell(finding));
        match (left, right) {
            (Some(left), Some(right)) => Some(left.into_iter().chain(right).collect()),
            (Some(one), None) | (None, Some(one)) if left_gone != right_gone => Some(one),
            _ => None,
        }
    }

    /// Labels that must be there.
    fn need(&mut self, available: &Labels, wanted: &[String], asked: &str, of: &Expr) {
        let Some(available) = available else { return };
        let given = |label: &&String| *label == "__name__" || label.contains(VARIABLE);
        for label in wanted.iter().filter(|label| !given(label) && !available.contains(*label)) {
            let metric = first_metric(of).unwrap_or_else(|| "the expression".to_owned());
            self.tell(Finding::NoLabel { metric, label: label.clone(), asked: format!("{asked} ({})", wanted.join(", ")) });
        }
    }

    fn labels(&mut self, expression: &Expr) -> Labels {
        match expression {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Paren(inner) => self.labels(&inner.expr),
            Expr::Unary(inner) => self.labels(&inner.expr),
            Expr::Subquery(inner) => self.labels(&inner.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Some(BTreeSet::new()),
            Expr::Aggregate(aggregate) => {
                let made = self.aggregated(aggregate);
                // `count_values` gives its label besides.
                match aggregate.param.as_deref() {
                    Some(Expr::StringLiteral(label)) => {
                        made.map(|labels| labels.into_iter().chain([label.val.clone()]).collect())
                    }
                    _ => made,
                }
            }
            Expr::Binary(binary) if binary.op.to_string() == "or" => self.either(binary),
            Expr::Binary(binary) => {
                let (left, right) = (self.labels(&binary.lhs), self.labels(&binary.rhs));
                let Some(modifier) = &binary.modifier else {
                    return match (&left, &right) {
                        (Some(labels), _) if labels.is_empty() => right,
                        _ => left,
                    };
                };
                let group = modifier.card.labels().cloned();
                if let Some(LabelModifier::Include(on)) = &modifier.matching {
                    self.need(&left, &on.labels, "on", &binary.lhs);
                    self.need(&right, &on.labels, "on", &binary.rhs);
                }
                match (group, &modifier.matching) {
                    (Some(group), _) => {
                        // What is grouped comes from the other side.
                        let many_to_one = format!("{:?}", modifier.card).starts_with("ManyToOne");
                        let (many, one, of) = if many_to_one { (left, right, &binary.rhs) } else { (right, left, &binary.lhs) };
                        self.need(&one, &group.labels, "group", of);
                        many.map(|many| many.into_iter().chain(group.labels.iter().cloned()).collect())
                    }
                    (None, Some(LabelModifier::Include(on))) if !is_set(&binary.op.to_string()) => {
                        Some(on.labels.iter().cloned().collect())
                    }
                    _ => left,
                }
            }
            Expr::Call(call) => {
                let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
                let all: Vec<Labels> = arguments.iter().map(|argument| self.labels(argument)).collect();
                let text = |index: usize| match arguments.get(index) {
                    Some(Expr::StringLiteral(literal)) => Some(literal.val.clone()),
                    _ => None,
                };
                match call.func.name {
                    "label_replace" | "label_join" => {
                        let sources: Vec<String> = match call.func.name {
                            "label_replace" => text(3).into_iter().filter(|source| !source.is_empty()).collect(),
                            _ => (3..arguments.len()).filter_map(text).collect(),
                        };
                        let inner = all.into_iter().next().flatten();
                        if let Some(of) = arguments.first() {
                            self.need(&inner, &sources, call.func.name, of);
                        }
                        inner.map(|labels| labels.into_iter().chain(text(1)).collect())
                    }
                    "histogram_quantile" => {
                        let inner = all.into_iter().nth(1).flatten();
                        if let Some(of) = arguments.get(1) {
                            self.need(&inner, &["le".to_owned()], "histogram_quantile", of);
                        }
                        inner.map(|labels| labels.into_iter().filter(|label| label != "le").collect())
                    }
                    "absent" | "absent_over_time" => None,
                    "vector" | "scalar" | "time" | "pi" => Some(BTreeSet::new()),
                    _ => {
                        let vector = arguments.iter().zip(all).find(|(argument, _)| !is_literal(argument));
                        vector.map_or_else(|| Some(BTreeSet::new()), |(_, labels)| labels)
                    }
                }
            }
        }
    }
}

fn is_set(operator: &str) -> bool {
    matches!(operator, "and" | "or" | "unless")
}

fn is_literal(expression: &Expr) -> bool {
    matches!(expression, Expr::NumberLiteral(_) | Expr::StringLiteral(_))
}

/// Collects what selectors name, from left to right.
struct Names(Vec<String>);

impl ExprVisitor for Names {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        let selector = match expression {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(matrix) => &matrix.vs,
            _ => return Ok(true),
        };
        let by_matcher = || selector.matchers.matchers.iter().find(|matcher| matcher.name == "__name__");
        self.0.extend(selector.name.clone().or_else(|| by_matcher().map(|matcher| format!("{{{matcher}}}"))));
        Ok(true)
    }
}

fn names(expression: &Expr) -> Vec<String> {
    let mut names = Names(Vec::new());
    let Ok(_) = walk_expr(&mut names, expression);
    names.0
}

/// The metrics that an expression of PromQL asks for, whether they are there or not. One that cannot be read asks for none.
pub(crate) fn asked_for(expression: &str) -> BTreeSet<String> {
    promql_parser::parser::parse(expression).map(|parsed| names(&parsed).into_iter().collect()).unwrap_or_default()
}

/// The first metric of an expression, to name it.
fn first_metric(expression: &Expr) -> Option<String> {
    names(expression).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_dashboards() {
        for (from, to) in [
            ("rate(a[$__rate_interval])", "rate(a[5m])"),
            ("a{b=\"$x\",c=~\"${y:regex}\"}", "a{b=\"V\",c=~\"V\"}"),
            ("a{b=~\"[[x]]\"} > $limit", "a{b=~\"V\"} > V"),
            ("rate(${prefix}_total[${n}m])", "rate(V_total[5m])"),
            ("a{b=~\"x$\"}", "a{b=~\"x$\"}"),
            ("rate(a[5m:$step])", "rate(a[5m:5m])"),
        ] {
            assert_eq!(filled(from), to.replace('V', VARIABLE));
        }
    }
}
