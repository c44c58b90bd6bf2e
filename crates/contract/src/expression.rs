//! An expression, walked with the labels that each of its parts has.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector};
use regex::Regex;

use crate::at_hand::{AtHand, Place, Wanted};
use crate::findings::{Finding, NotAtHand};
use crate::schema::{Known, has, join};
use crate::values::Values;
use crate::variables::{Held, Variables, has_placeholder, parse};

/// How deep an expression may be nested. The deepest in public dashboards has some twenty levels.
const MAX_DEPTH: usize = 200;
/// How many signs and words that nest an expression its text may have, of however few levels.
const MAX_SIGNS: usize = 4000;

/// What was found in an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What is not there.
    pub findings: Vec<Finding>,
    /// The labels of the result, with what is known of their values; nothing when they are not known.
    pub labels: Option<std::collections::BTreeMap<String, Values>>,
    /// The metrics that are read and there.
    pub read: BTreeSet<String>,
    /// The metrics that were not looked for.
    pub not_at_hand: BTreeSet<NotAtHand>,
}

/// The text of the parser, on one line.
fn in_one_line(why: &str) -> String {
    why.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Walks an expression of PromQL. Variables of dashboards stand for what they have to; where `variables` is nothing, there are none.
///
/// # Errors
/// When it cannot be read, or when what it reads is all in variables; the text says why.
pub fn check_expression(expression: &str, variables: Option<&Variables>, at_hand: &AtHand) -> Result<Found, String> {
    if is_too_long(expression) {
        return Err(format!("it has more than {MAX_SIGNS} operators and parentheses"));
    }
    let parsed = match parse(expression, variables) {
        Ok(parsed) => parsed,
        Err(why) => {
            let findings = at_sight(expression, at_hand);
            return if findings.is_empty() { Err(in_one_line(&why)) } else { Ok(Found { findings, ..Found::default() }) };
        }
    };
    let unread = parsed.wrong.as_ref().map(|why| in_one_line(&parsed.held.written(why)));
    let mut walk = Walk { at_hand, held: &parsed.held, found: Found::default(), unread, selectors: 0, depth: 0 };
    let labels = walk.labels(&parsed.expression);
    walk.found.labels = labels;
    if walk.selectors == 0 && parsed.has_variables {
        walk.unread.get_or_insert_with(|| "what it reads is in a variable".to_owned());
    }
    match walk.unread {
        // What is missing is missing, whatever the rest is.
        Some(why) if walk.found.findings.is_empty() => Err(why),
        Some(_) | None => Ok(walk.found),
    }
}

/// What a text that cannot be read names all the same: words outside of strings that only a metric of a page can be, and none is.
fn at_sight(expression: &str, at_hand: &AtHand) -> Vec<Finding> {
    static STRING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|(?m:#.*$)"#).expect("a constant expression"));
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[$A-Za-z_:{][A-Za-z0-9_:]*[$\[{(=!]?").expect("a constant expression"));
    static LABELS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)?").expect("a constant expression")
    });
    let bare = STRING.replace_all(expression, " \"\" ");
    let bare = LABELS.replace_all(&bare, " ");
    let mut findings = Vec::new();
    for word in NAME.find_iter(&bare).map(|found| found.as_str()) {
        // Variables, parts of names with variables in them, functions and labels.
        let name = word.trim_start_matches('{').trim_end_matches('{').trim_end_matches('[');
        if name.contains(['$', '[', '{', '(', '=', '!']) || at_hand.names().any(|known| known == name) || !at_hand.is_owned(name)
        {
            continue;
        }
        let nearest = metrics::nearest(name, at_hand.names()).into_iter().map(str::to_owned).collect();
        let finding = Finding::NoMetric { metric: name.to_owned(), nearest };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// Whether an expression could be nested deeper than the parser's stack allows.
fn is_too_long(expression: &str) -> bool {
    let signs = expression.matches(['(', '+', '-', '*', '/', '%', '^', '<', '>', '=', '[']).count();
    let words = expression.split_whitespace().filter(|word| matches!(*word, "and" | "or" | "unless" | "atan2")).count();
    signs + words > MAX_SIGNS
}

struct Walk<'a> {
    at_hand: &'a AtHand,
    held: &'a Held,
    found: Found,
    /// Why a part of it cannot be read.
    unread: Option<String>,
    selectors: usize,
    depth: usize,
}

type Labels = Option<Known>;

/// Whether a matcher is met by a series without the label.
fn takes_none(matcher: &Matcher) -> bool {
    matcher.is_match("") || has_placeholder(&matcher.value)
}

/// Whether a matcher asks for what its value is not.
fn excludes(matcher: &Matcher) -> bool {
    match matcher.op {
        MatchOp::NotEqual | MatchOp::NotRe(_) => true,
        MatchOp::Equal | MatchOp::Re(_) => false,
    }
}

/// A test of names.
type Takes<'a> = Box<dyn Fn(&str) -> bool + 'a>;

impl Walk<'_> {
    fn report(&mut self, finding: Finding) {
        if !self.found.findings.contains(&finding) {
            self.found.findings.push(finding);
        }
    }

    /// Which names a selector takes; nothing where a variable is all that is said of them.
    fn names<'b>(&self, selector: &'b VectorSelector, by_name: &[&'b Matcher]) -> Option<Takes<'b>> {
        let mut all: Vec<Takes<'b>> = Vec::new();
        let mut says = by_name.is_empty() && selector.name.is_none();
        if let Some(name) = &selector.name {
            if has_placeholder(name) {
                if let Some(pattern) = self.held.pattern(name) {
                    (says, _) = (true, all.push(Box::new(move |name| pattern.is_match(name))));
                }
            } else {
                (says, _) = (true, all.push(Box::new(move |other| name == other)));
            }
        }
        for matcher in by_name.iter().copied() {
            if !has_placeholder(&matcher.value) {
                (says, _) = (true, all.push(Box::new(move |name| matcher.is_match(name))));
            } else if let Some(pattern) = self.held.pattern(&matcher.value).filter(|_| !excludes(matcher)) {
                // In a regular expression only the letters of the pattern are escaped that have no meaning of their own.
                let loose = Regex::new(&pattern.as_str().replace("\\", "")).unwrap_or(pattern);
                (says, _) = (true, all.push(Box::new(move |name| loose.is_match(name))));
            }
        }
        says.then(|| Box::new(move |name: &str| all.iter().all(|takes| takes(name))) as Takes<'b>)
    }

    /// The labels of a selector; those that any of its metrics has.
    fn selector(&mut self, selector: &VectorSelector) -> Labels {
        self.selectors += 1;
        let matchers = &selector.matchers.matchers;
        if !selector.matchers.or_matchers.is_empty() {
            self.unread = Some("\"or\" between matchers is not PromQL".to_owned());
            return None;
        }
        let by_name: Vec<&Matcher> = matchers.iter().filter(|matcher| matcher.name == "__name__").collect();
        let asked = match (&selector.name, by_name.first()) {
            (Some(name), _) => self.held.written(name),
            (None, Some(matcher)) => self.held.written(&format!("{{{matcher}}}")),
            (None, None) => self.held.written(&selector.to_string()),
        };
        let Some(takes) = self.names(selector, &by_name) else {
            self.unread = Some(format!("the name of a metric is a variable: {asked}"));
            return None;
        };
        let named = selector.name.is_some() || !by_name.is_empty();
        if !named && matchers.iter().all(|matcher| has_placeholder(&matcher.name) || has_placeholder(&matcher.value)) {
            self.unread = Some(format!("which metrics it reads is in variables: {asked}"));
            return None;
        }
        // Without a name, it is by its labels that a metric is asked for.
        let fitting = |name: &str| takes(name) && (named || self.could_be(name, matchers));
        let wanted = Wanted { asked: &asked, takes: &fitting, matchers };
        let (found, certain) = match self.at_hand.place(&wanted) {
            Place::There { found, certain } => (found, certain),
            Place::Missing => {
                let nearest = metrics::nearest(&asked, self.at_hand.names()).into_iter().map(str::to_owned).collect();
                self.report(Finding::NoMetric { metric: asked, nearest });
                return None;
            }
            Place::NotAtHand => {
                self.elsewhere(asked, matchers);
                return None;
            }
        };
        let mut labels = Some(Known::new());
        for (schema, name) in &found {
            // One that may have any label has each.
            match (&mut labels, schema.known(name)) {
                (Some(labels), Some(known)) => join(labels, known.iter().map(|(label, values)| (label.clone(), values.clone()))),
                (labels, _) => *labels = None,
            }
        }
        let names: Vec<String> = found.into_iter().map(|(_, name)| name.to_owned()).collect();
        let Some(labels) = labels else {
            self.found.read.extend(names);
            return None;
        };
        let mut findings = Vec::new();
        let asking = matchers.iter().filter(|matcher| matcher.name != "__name__" && !has_placeholder(&matcher.name));
        for matcher in asking {
            let (metric, label) = (asked.clone(), matcher.name.clone());
            let (values, has_it) = (labels.get(&label), has(&labels, &label));
            if !has_it && !takes_none(matcher) {
                findings.push(Finding::NoLabel { metric, label, asked: matcher.to_string() });
            } else if let Some(values) = values.and_then(|values| values.instead_of(matcher)) {
                findings.push(Finding::NoValue { metric, label, asked: matcher.to_string(), values });
            }
        }
        if !certain && !findings.is_empty() {
            // It is another program's of the same name.
            self.elsewhere(asked, matchers);
            return None;
        }
        self.found.read.extend(names);
        findings.into_iter().for_each(|finding| self.report(finding));
        certain.then_some(labels)
    }

    /// Whether a metric has what matchers ask for.
    fn could_be(&self, name: &str, matchers: &[Matcher]) -> bool {
        let known: Vec<_> = self.at_hand.pages.iter().filter(|page| page.schema.contains(name)).collect();
        known.iter().any(|page| {
            let Some(labels) = page.schema.known(name) else { return true };
            let asking = |matcher: &&Matcher| !has_placeholder(&matcher.name) && !takes_none(matcher);
            matchers.iter().filter(asking).all(|matcher| {
                has(labels, &matcher.name) && labels.get(&matcher.name).is_none_or(|values| values.instead_of(matcher).is_none())
            })
        })
    }

    fn elsewhere(&mut self, metric: String, matchers: &[Matcher]) {
        let job = matchers.iter().find(|matcher| matcher.name == "job" && !matcher.is_match(""));
        self.found.not_at_hand.insert(NotAtHand { metric, job: job.map(|matcher| self.held.written(&matcher.value)) });
    }

    /// The labels that an aggregation leaves.
    fn aggregated(&mut self, aggregate: &AggregateExpr) -> Labels {
        let inner = self.labels(&aggregate.expr);
        if let Some(parameter) = &aggregate.param {
            self.labels(parameter);
        }
        let keeps = matches!(aggregate.op.to_string().as_str(), "topk" | "bottomk" | "limitk" | "limit_ratio");
        match &aggregate.modifier {
            Some(LabelModifier::Include(by)) => {
                self.need(&inner, &by.labels, "by", &aggregate.expr);
                if keeps {
                    return inner;
                }
                let values = |label: &String| inner.as_ref().and_then(|inner| inner.get(label)).cloned().unwrap_or_default();
                let all_known = by.labels.iter().all(|label| !has_placeholder(label));
                all_known.then(|| by.labels.iter().map(|label| (label.clone(), values(label))).collect())
            }
            Some(LabelModifier::Exclude(without)) if !keeps => {
                inner.map(|labels| labels.into_iter().filter(|(label, _)| !without.labels.contains(label)).collect())
            }
            None if !keeps => Some(Known::new()),
            Some(LabelModifier::Exclude(_)) | None => inner,
        }
    }

    /// Two expressions of which one may be empty: what both look for and do not find is missing, and the result has the labels of either.
    fn either(&mut self, binary: &BinaryExpr) -> Labels {
        let is_metric = |finding: &Finding| matches!(finding, Finding::NoMetric { .. });
        let before = std::mem::take(&mut self.found.findings);
        let left = self.labels(&binary.lhs);
        let mut of_left = std::mem::take(&mut self.found.findings);
        let right = self.labels(&binary.rhs);
        let mut of_right = std::mem::replace(&mut self.found.findings, before);
        let (left_gone, right_gone) = (of_left.iter().any(is_metric), of_right.iter().any(is_metric));
        // As `old_name or new_name` is written for two releases. `vector(0)` is no other name of anything.
        if left_gone != right_gone && !is_constant(&binary.lhs) && !is_constant(&binary.rhs) {
            of_left.retain(|finding| !is_metric(finding));
            of_right.retain(|finding| !is_metric(finding));
        }
        // The same for a value: `a{b="C"} or a{b="c"}`.
        let (on_left, on_right) = (selectors(&binary.lhs), selectors(&binary.rhs));
        of_left.retain(|finding| !is_alternative(finding, &on_right));
        of_right.retain(|finding| !is_alternative(finding, &on_left));
        of_left.into_iter().chain(of_right).for_each(|finding| self.report(finding));
        match (left, right) {
            (Some(mut left), Some(right)) => {
                join(&mut left, right);
                Some(left)
            }
            (Some(one), None) | (None, Some(one)) if left_gone != right_gone => Some(one),
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// Labels that must be there.
    fn need(&mut self, available: &Labels, wanted: &[String], asked: &str, of: &Expr) {
        let Some(available) = available else { return };
        let given = |label: &&String| *label == "__name__" || has_placeholder(label);
        for label in wanted.iter().filter(|label| !given(label) && !has(available, label)) {
            let metric = first_metric(of).map_or_else(|| "the expression".to_owned(), |name| self.held.written(&name));
            let asked = self.held.written(&format!("{asked} ({})", wanted.join(", ")));
            self.report(Finding::NoLabel { metric, label: label.clone(), asked });
        }
    }

    fn labels(&mut self, expression: &Expr) -> Labels {
        if self.depth >= MAX_DEPTH {
            self.unread = Some(format!("it is nested more than {MAX_DEPTH} levels deep"));
            return None;
        }
        self.depth += 1;
        let labels = match expression {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Paren(inner) => self.labels(&inner.expr),
            Expr::Unary(inner) => self.labels(&inner.expr),
            Expr::Subquery(inner) => self.labels(&inner.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Some(Known::new()),
            Expr::Extension(_) => {
                self.unread = Some("it has a part that is not PromQL".to_owned());
                None
            }
            Expr::Aggregate(aggregate) => {
                let made = self.aggregated(aggregate);
                // `count_values` gives its label besides.
                match aggregate.param.as_deref() {
                    Some(Expr::StringLiteral(label)) => made.map(|labels| with(labels, [label.val.clone()])),
                    Some(_) | None => made,
                }
            }
            Expr::Binary(binary) if binary.op.to_string() == "or" => self.either(binary),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call(call) => self.call(call),
        };
        self.depth -= 1;
        labels
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Labels {
        let (left, right) = (self.labels(&binary.lhs), self.labels(&binary.rhs));
        let Some(modifier) = &binary.modifier else {
            return match (&left, &right) {
                (Some(labels), _) if labels.is_empty() => right,
                (Some(_) | None, _) => left,
            };
        };
        if let Some(LabelModifier::Include(on)) = &modifier.matching {
            self.need(&left, &on.labels, "on", &binary.lhs);
            self.need(&right, &on.labels, "on", &binary.rhs);
        }
        // What is grouped comes from the other side.
        let (group, many, one, of) = match &modifier.card {
            VectorMatchCardinality::ManyToOne(group) => (group, left, right, &binary.rhs),
            VectorMatchCardinality::OneToMany(group) => (group, right, left, &binary.lhs),
            VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {
                return match &modifier.matching {
                    Some(LabelModifier::Include(on)) if !is_set(&binary.op.to_string()) => on
                        .labels
                        .iter()
                        .all(|label| !has_placeholder(label))
                        .then(|| with(Known::new(), on.labels.iter().cloned())),
                    Some(LabelModifier::Include(_) | LabelModifier::Exclude(_)) | None => left,
                };
            }
        };
        self.need(&one, &group.labels, "group", of);
        let known = group.labels.iter().all(|label| !has_placeholder(label));
        many.filter(|_| known).map(|many| with(many, group.labels.iter().cloned()))
    }

    fn call(&mut self, call: &Call) -> Labels {
        let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| &**argument).collect();
        let all: Vec<Labels> = arguments.iter().map(|argument| self.labels(argument)).collect();
        let text = |index: usize| match arguments.get(index) {
            Some(Expr::StringLiteral(literal)) => Some(literal.val.clone()),
            Some(_) | None => None,
        };
        match call.func.name {
            "label_replace" | "label_join" => {
                let sources: Vec<String> = match call.func.name {
                    "label_replace" => text(3).into_iter().filter(|source| !source.is_empty()).collect(),
                    _ => (3..arguments.len()).filter_map(text).collect(),
                };
                let inner = all.into_iter().next().flatten();
                // A label that is there stays as it is where the source is not there and the expression does not take that.
                let stays = inner.as_ref().zip(text(1)).is_some_and(|(labels, made)| has(labels, &made))
                    && text(4)
                        .is_some_and(|wanted| Regex::new(&format!("^(?:{wanted})$")).is_ok_and(|regex| !regex.is_match("")));
                if let Some(of) = arguments.first().filter(|_| !stays) {
                    self.need(&inner, &sources, call.func.name, of);
                }
                inner.map(|labels| with(labels, text(1)))
            }
            "histogram_quantile" => {
                let inner = all.into_iter().nth(1).flatten();
                if let Some(of) = arguments.get(1) {
                    self.need(&inner, &["le".to_owned()], "histogram_quantile", of);
                }
                inner.map(|labels| labels.into_iter().filter(|(label, _)| label != "le").collect())
            }
            // The labels that matchers make, and those of another metric.
            "absent" | "absent_over_time" | "info" => None,
            "vector" | "scalar" | "time" | "pi" => Some(Known::new()),
            _ => {
                let vector = arguments.iter().zip(all).find(|(argument, _)| !is_literal(argument));
                vector.map_or_else(|| Some(Known::new()), |(_, labels)| labels)
            }
        }
    }
}

/// Labels, and some more with any values.
fn with(mut labels: Known, more: impl IntoIterator<Item = String>) -> Known {
    for label in more {
        labels.insert(label, Values::Any);
    }
    labels
}

fn is_set(operator: &str) -> bool {
    matches!(operator, "and" | "or" | "unless")
}

fn is_literal(expression: &Expr) -> bool {
    matches!(expression, Expr::NumberLiteral(_) | Expr::StringLiteral(_))
}

/// Whether it reads no metric, such as `vector(0)`: it stands for nothing, and is no other name of anything.
fn is_constant(expression: &Expr) -> bool {
    first_metric(expression).is_none()
}

/// Whether a finding is that of a value for which another selector of the same metric has one that is there.
fn is_alternative(finding: &Finding, others: &[&VectorSelector]) -> bool {
    let Finding::NoValue { metric, label, asked: _, values } = finding else { return false };
    let same = |selector: &&&VectorSelector| selector.name.as_ref() == Some(metric);
    let mut matchers = others.iter().filter(same).flat_map(|selector| &selector.matchers.matchers);
    matchers.any(|matcher| matcher.name == *label && values.first().is_some_and(|value| matcher.is_match(value)))
}

/// The selectors of an expression, from left to right.
fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    let (mut found, mut left) = (Vec::new(), vec![expression]);
    while let Some(expression) = left.pop() {
        match expression {
            Expr::VectorSelector(selector) => found.push(selector),
            Expr::MatrixSelector(matrix) => found.push(&matrix.vs),
            Expr::Paren(inner) => left.push(&inner.expr),
            Expr::Unary(inner) => left.push(&inner.expr),
            Expr::Subquery(inner) => left.push(&inner.expr),
            Expr::Aggregate(aggregate) => {
                left.push(&aggregate.expr);
                left.extend(aggregate.param.as_deref());
            }
            Expr::Binary(binary) => left.extend([&*binary.rhs, &*binary.lhs]),
            Expr::Call(call) => left.extend(call.args.args.iter().rev().map(|argument| &**argument)),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }
    found
}

fn names(expression: &Expr) -> Vec<String> {
    let named = |selector: &VectorSelector| {
        let by_matcher = || selector.matchers.matchers.iter().find(|matcher| matcher.name == "__name__");
        selector.name.clone().or_else(|| by_matcher().map(|matcher| format!("{{{matcher}}}")))
    };
    selectors(expression).into_iter().filter_map(named).collect()
}

/// The metrics that an expression of PromQL asks for, whether they are there or not. One that cannot be read asks for none.
pub(crate) fn asked_for(expression: &str) -> BTreeSet<String> {
    if is_too_long(expression) {
        return BTreeSet::new();
    }
    promql_parser::parser::parse(expression).map(|parsed| names(&parsed).into_iter().collect()).unwrap_or_default()
}

/// The first metric of an expression, to name it.
fn first_metric(expression: &Expr) -> Option<String> {
    names(expression).into_iter().next()
}
