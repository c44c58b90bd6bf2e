//! What an expression selects, and whether its result may come of nothing.

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

/// An expression as far as it matters to what is absent.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// What it selects.
    pub(super) selectors: Vec<VectorSelector>,
    /// Whether it has a result where nothing is selected: `absent(…)`, `… or vector(0)`.
    pub(super) of_nothing: bool,
}

impl ExprVisitor for Selected {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        match expression {
            Expr::VectorSelector(selector) => self.selectors.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.selectors.push(matrix.vs.clone()),
            Expr::Call(call) => self.of_nothing |= matches!(call.func.name, "absent" | "absent_over_time" | "vector"),
            _ => {}
        }
        Ok(true)
    }
}

impl Selected {
    /// Reads an expression.
    ///
    /// # Errors
    /// When it is no PromQL.
    pub(super) fn of(expression: &str) -> Result<Self, String> {
        let parsed = parser::parse(expression)?;
        let mut selected = Self::default();
        walk_expr(&mut selected, &parsed)?;
        Ok(selected)
    }
}

/// The name of the metric that a selector is about, if it is one.
pub(super) fn name(selector: &VectorSelector) -> Option<&str> {
    let by_matcher = || {
        let of_name = selector.matchers.matchers.iter().find(|matcher| matcher.name == "__name__")?;
        matches!(of_name.op, MatchOp::Equal).then_some(of_name.value.as_str())
    };
    selector.name.as_deref().or_else(by_matcher)
}

/// The matchers of a selector for one label.
pub(super) fn matchers<'a>(selector: &'a VectorSelector, label: &'a str) -> impl Iterator<Item = &'a Matcher> {
    selector.matchers.matchers.iter().filter(move |matcher| matcher.name == label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_of_nothing_is_known() {
        for (expression, of_nothing, names) in [
            ("up", false, vec![Some("up")]),
            ("absent(up)", true, vec![Some("up")]),
            ("count(ALERTS{alertname=\"a\"}) or vector(0)", true, vec![Some("ALERTS")]),
            ("rate(a[5m]) / b", false, vec![Some("a"), Some("b")]),
            ("{__name__=\"a\"}", false, vec![Some("a")]),
            ("{__name__=~\"a.*\"}", false, vec![None]),
        ] {
            let selected = Selected::of(expression).unwrap();
            assert_eq!(selected.of_nothing, of_nothing, "{expression}");
            assert_eq!(selected.selectors.iter().map(name).collect::<Vec<_>>(), names, "{expression}");
        }
        assert!(Selected::of("sum(").is_err());
    }
}
