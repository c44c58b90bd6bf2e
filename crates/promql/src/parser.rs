//! The grammar of PromQL and its rules of types (Prometheus `promql/parser/generated_parser.y`, `parse.go`).
//!
//! Prometheus reads the whole expression first and looks at the types of a tree afterwards. Here each part is summed up in a [`Node`] as soon
//! as it is read: a mistake of grammar ends the reading at once, a mistake of types is kept in the node and reported when the whole
//! expression has been read. So the first message is the same, and there is no tree.

mod span;

use crate::functions::function;
use crate::lexer::{self, Tokens};
use crate::literal::{number, parse_duration, quote, unquote};
use crate::node::{Fault, Modifiers, Node, Offset, Shape};
use crate::token::{Aggregation, Edge, Keyword, Kind, Op, Parameter, Token};
use crate::{Options, Position, PromqlError, ValueType};

/// How deep parentheses, calls and operators may be nested. Prometheus has no bound but its memory.
pub const MOST_NESTED: usize = 200;

/// Longer durations do not fit into Go's `time.Duration`, in seconds.
const LONGEST: f64 = 9_223_372_036.854_776;

/// What Prometheus says of a token that does not fit: where it was, and what was expected.
type Context = (&'static str, &'static str);

const NOWHERE: Context = ("", "");
const AGGREGATION: Context = ("aggregation", "");
const GROUPING: Context = ("grouping opts", "\"(\"");
const GROUPING_LABEL: Context = ("grouping opts", "label");
const GROUPING_END: Context = ("grouping opts", "\",\" or \")\"");
const OFFSET: Context = ("offset", "number, duration, or step()");
const AT: Context = ("@", "timestamp");
const RANGE: Context = ("subquery or range selector", "number, duration, or step()");
const RANGE_END: Context = ("subquery or range", "\":\" or \"]\"");
const STEP: Context = ("subquery selector", "number, duration, or step() or \"]\"");
const STEP_END: Context = ("subquery selector", "\"]\"");
const MATCHER: Context = ("label matching", "identifier or \"}\"");
const MATCHER_OPERATOR: Context = ("label matching", "label matching operator");
const MATCHER_VALUE: Context = ("label matching", "string");
const MATCHER_END: Context = ("label matching", "\",\" or \"}\"");

type Result<T> = std::result::Result<T, Fault>;

/// How two vectors are matched.
#[derive(Debug, Default)]
struct Matching {
    is_bool: bool,
    is_on: bool,
    labels: Vec<String>,
    grouped: bool,
    include: Vec<String>,
}

/// See [`crate::check`].
pub(crate) fn parse(text: &str, options: &Options) -> std::result::Result<ValueType, PromqlError> {
    let tokens = lexer::tokens(text);
    let mut parser = Parser { text, tokens, at: 0, options, context: NOWHERE, depth: 0 };
    let whole = parser.whole().and_then(|node| node.fault.map_or(Ok(node.value), Err));
    whole.map_err(|fault| PromqlError { message: fault.message, position: Position::of(text, fault.at) })
}

struct Parser<'a, 'o> {
    text: &'a str,
    tokens: Tokens<'a>,
    at: usize,
    options: &'o Options,
    /// What is said of a token that does not fit.
    context: Context,
    depth: usize,
}

impl<'a> Parser<'a, '_> {
    fn token(&self) -> Token<'a> {
        self.ahead(0)
    }

    fn ahead(&self, count: usize) -> Token<'a> {
        self.tokens.tokens[(self.at + count).min(self.tokens.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.token();
        self.at += 1;
        token
    }

    fn take(&mut self, kind: Kind) -> bool {
        let found = self.token().kind == kind;
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, kind: Kind) -> Result<Token<'a>> {
        if self.token().kind == kind { Ok(self.next()) } else { Err(self.unexpected()) }
    }

    /// Where the last token ended.
    fn end(&self) -> usize {
        let last = self.tokens.tokens[self.at.saturating_sub(1)];
        last.start + last.text.len()
    }

    /// Runs a part of which Prometheus says where it was.
    fn within<T>(&mut self, context: Context, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = std::mem::replace(&mut self.context, context);
        let result = part(self);
        self.context = outer;
        result
    }

    fn unexpected(&self) -> Fault {
        self.unexpected_in(self.context)
    }

    fn unexpected_in(&self, (place, expected): Context) -> Fault {
        let token = self.token();
        if let (Kind::Fault, Some(fault)) = (token.kind, &self.tokens.fault) {
            return fault.clone();
        }
        let mut message = format!("unexpected {}", token.describe());
        if !place.is_empty() {
            message.push_str(&format!(" in {place}"));
        }
        if !expected.is_empty() {
            message.push_str(&format!(", expected {expected}"));
        }
        Fault::new(token.start, message)
    }

    fn whole(&mut self) -> Result<Node> {
        if self.token().kind == Kind::End {
            return Err(Fault::new(0, "no expression found in input"));
        }
        let node = self.expression(0)?;
        self.expect(Kind::End)?;
        Ok(node)
    }

    /// An expression of operators that bind at least so tightly.
    fn expression(&mut self, least: u8) -> Result<Node> {
        self.depth += 1;
        if self.depth > MOST_NESTED {
            let at = self.token().start;
            return Err(Fault::new(at, format!("expression is nested more than {MOST_NESTED} levels deep")));
        }
        let mut left = self.unary()?;
        while let Kind::Operator(op) = self.token().kind
            && op.precedence() >= least
        {
            self.next();
            let matching = self.matching()?;
            let right = self.expression(if op == Op::Pow { op.precedence() } else { op.precedence() + 1 })?;
            if let Shape::Duration = left.shape {
                return Err(Fault::new(left.start, "experimental duration expression is not enabled"));
            }
            left = self.binary(left, op, &matching, right);
        }
        self.depth -= 1;
        Ok(left)
    }

    /// Signs bind like `*`, so that `-a ^ b` is `-(a ^ b)`.
    fn unary(&mut self) -> Result<Node> {
        let first = self.at;
        while let Kind::Operator(Op::Add | Op::Sub) = self.token().kind {
            self.next();
        }
        let signs = first..self.at;
        if signs.is_empty() {
            return self.postfix();
        }
        let mut node = self.expression(Op::Pow.precedence())?;
        // The innermost sign first.
        for sign in signs.rev() {
            let start = self.tokens.tokens[sign].start;
            let fault = node.fault.take().or_else(|| {
                let found = node.value.name();
                let wrong = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(found)
                );
                (!is_operand(node.value)).then(|| Fault::new(start, wrong))
            });
            node = Node::other(node.value, start, node.end, fault);
        }
        Ok(node)
    }

    /// Ranges and modifiers bind tighter than any operator.
    fn postfix(&mut self) -> Result<Node> {
        let mut node = self.primary()?;
        loop {
            let token = self.token();
            match token.kind {
                Kind::LeftBracket => node = self.brackets(node)?,
                Kind::Keyword(Keyword::Offset) => self.offset(&mut node)?,
                Kind::At => self.at_modifier(&mut node)?,
                Kind::Keyword(Keyword::Anchored | Keyword::Smoothed) => {
                    let what = token.text.to_ascii_lowercase();
                    return Err(Fault::new(node.start, format!("{what} modifier is experimental and not enabled")));
                }
                _ => return Ok(node),
            }
        }
    }

    fn primary(&mut self) -> Result<Node> {
        let token = self.token();
        let following = self.ahead(1);
        let value = |value, parser: &Self| Ok(Node::other(value, token.start, parser.end(), None));
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.seconds()?;
                value(ValueType::Scalar, self)
            }
            Kind::String => {
                self.next();
                value(ValueType::String, self)
            }
            Kind::LeftParen => {
                self.next();
                let inner = self.expression(0)?;
                self.expect(Kind::RightParen)?;
                if let Shape::Duration = inner.shape {
                    return Err(Fault::new(inner.start, "experimental duration expression is not enabled"));
                }
                Ok(Node::other(inner.value, token.start, self.end(), inner.fault))
            }
            Kind::LeftBrace => self.selector(None),
            Kind::Aggregation(aggregation)
                if following.kind == Kind::LeftParen
                    || following.is_keyword(Keyword::By)
                    || following.is_keyword(Keyword::Without) =>
            {
                self.next();
                self.within(AGGREGATION, |parser| parser.aggregation(aggregation, token.start))
            }
            Kind::Identifier if following.kind == Kind::LeftParen => self.call(),
            Kind::Edge(Edge::Step) if following.kind == Kind::LeftParen => {
                self.next();
                self.next();
                self.expect(Kind::RightParen)?;
                let fault = Fault::new(token.start, "unknown node type: *parser.DurationExpr");
                let node = Node::other(ValueType::Scalar, token.start, self.end(), Some(fault));
                Ok(Node { shape: Shape::Duration, ..node })
            }
            _ if token.names_metric() => {
                self.next();
                self.selector(Some(token))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A number, or a duration in seconds.
    fn seconds(&mut self) -> Result<f64> {
        let token = self.next();
        let value = match token.kind {
            Kind::Duration => parse_duration(token.text).map(|duration| duration.as_secs_f64()),
            _ => number(token.text),
        };
        value.map_err(|message| Fault::new(token.start, message))
    }

    /// A selector, with or without a name before its braces.
    fn selector(&mut self, name: Option<Token<'a>>) -> Result<Node> {
        let start = name.map_or(self.token().start, |name| name.start);
        let mut names_inside = Vec::new();
        let mut selects_all = true;
        if self.take(Kind::LeftBrace) && !self.take(Kind::RightBrace) {
            loop {
                let (label, takes_none) = self.matcher()?;
                selects_all &= takes_none;
                names_inside.extend(label);
                let comma = self.take(Kind::Comma);
                if self.take(Kind::RightBrace) {
                    break;
                }
                if !comma {
                    return Err(self.unexpected_in(MATCHER_END));
                }
            }
        }
        let fault = match (name, names_inside.first()) {
            (Some(name), Some(inside)) => {
                let names = format!("{} or {}", quote(name.text), quote(inside));
                Some(Fault::new(start, format!("metric name must not be set twice: {names}")))
            }
            (None, _) if selects_all => {
                let fault = Fault::new(start, "vector selector must contain at least one non-empty matcher");
                Some(Fault { selects_all: true, ..fault })
            }
            _ => None,
        };
        let shape = Shape::Selector { modifiers: Modifiers::default(), named: name.is_some() };
        Ok(Node { shape, value: ValueType::InstantVector, start, end: self.end(), fault })
    }

    /// A matcher of a label: the name of the metric if it is about that, and whether an absent label meets it.
    fn matcher(&mut self) -> Result<(Option<String>, bool)> {
        let label = self.token();
        let is_text = label.kind == Kind::String;
        if !is_text && label.kind != Kind::Identifier {
            return Err(self.unexpected_in(MATCHER));
        }
        self.next();
        let operator = self.token();
        let is_operator =
            matches!(operator.kind, Kind::Assign | Kind::MatchesRegex | Kind::MatchesNotRegex | Kind::Operator(Op::NotEqual));
        if !is_operator {
            if is_text {
                let name = text_of(label);
                let takes_none = name.is_empty();
                return Ok((Some(name), takes_none));
            }
            return Err(self.unexpected_in(MATCHER_OPERATOR));
        }
        self.next();
        if self.token().kind != Kind::String {
            return Err(self.unexpected_in(MATCHER_VALUE));
        }
        let bytes = unquote(self.next().text);
        let is_utf8 = std::str::from_utf8(&bytes).is_ok();
        let value = String::from_utf8_lossy(&bytes).into_owned();
        let takes_none = match operator.kind {
            Kind::MatchesRegex | Kind::MatchesNotRegex => {
                let regex = |why| Fault::new(label.start, format!("error parsing regexp: {why}"));
                if !is_utf8 {
                    return Err(regex(format!("invalid UTF-8: `{value}`")));
                }
                metrics::go_regex::check(&value).map_err(regex)?;
                // One that our engine cannot compile is taken to ask for something.
                let takes_none = metrics::go_regex::compile(&value).is_ok_and(|pattern| pattern.is_match(""));
                takes_none == (operator.kind == Kind::MatchesRegex)
            }
            Kind::Operator(_) => !value.is_empty(),
            _ => value.is_empty(),
        };
        let name = if is_text { text_of(label) } else { label.text.to_owned() };
        Ok(((name == "__name__").then_some(value), takes_none))
    }

    /// The labels of `by`, `without`, `on`, `ignoring` and `group_…`.
    fn grouping(&mut self) -> Result<Vec<String>> {
        if !self.take(Kind::LeftParen) {
            return Err(self.unexpected_in(GROUPING));
        }
        let mut labels = Vec::new();
        if self.take(Kind::RightParen) {
            return Ok(labels);
        }
        loop {
            let token = self.token();
            if token.kind == Kind::String {
                let bytes = unquote(token.text);
                match String::from_utf8(bytes) {
                    Ok(label) if !label.is_empty() => labels.push(label),
                    Ok(_) | Err(_) => {
                        let shown = quote(&text_of(token));
                        return Err(Fault::new(token.start, format!("invalid label name for grouping: {shown}")));
                    }
                }
            } else if token.names_label() {
                labels.push(token.text.to_owned());
            } else {
                return Err(self.unexpected_in(GROUPING_LABEL));
            }
            self.next();
            let comma = self.take(Kind::Comma);
            if self.take(Kind::RightParen) {
                return Ok(labels);
            }
            if !comma {
                return Err(self.unexpected_in(GROUPING_END));
            }
        }
    }

    fn aggregation(&mut self, aggregation: Aggregation, start: usize) -> Result<Node> {
        let grouped_first = self.token().kind != Kind::LeftParen;
        if grouped_first {
            self.next();
            self.grouping()?;
        }
        let arguments = self.arguments()?;
        let mut end = self.end();
        let token = self.token();
        if !grouped_first && (token.is_keyword(Keyword::By) || token.is_keyword(Keyword::Without)) {
            self.next();
            self.grouping()?;
            end = self.end();
        }
        let fault = |message: String| Err(Fault::new(start, message));
        if arguments.is_empty() {
            return fault("no arguments for aggregate expression provided".to_owned());
        }
        if aggregation.experimental && !self.options.experimental_functions {
            let name = aggregation.name;
            let flag = "--enable-feature=promql-experimental-functions";
            return fault(format!("{name}() is experimental and must be enabled with {flag}"));
        }
        let (parameter, of) = match (aggregation.parameter, &arguments[..]) {
            (Parameter::None, [of]) => (None, of),
            (Parameter::Scalar, [parameter, of]) => (Some((parameter, ValueType::Scalar)), of),
            (Parameter::String, [parameter, of]) => (Some((parameter, ValueType::String)), of),
            (wanted, given) => {
                let wanted = if wanted == Parameter::None { 1 } else { 2 };
                let given = given.len();
                let what = "wrong number of arguments for aggregate expression provided";
                return fault(format!("{what}, expected {wanted}, got {given}"));
            }
        };
        let fault = of.expect(ValueType::InstantVector, "aggregation expression");
        let fault = fault.or_else(|| parameter.and_then(|(parameter, wanted)| parameter.expect(wanted, "aggregation parameter")));
        Ok(Node::other(ValueType::InstantVector, start, end, fault))
    }

    /// What is in the parentheses of a call.
    fn arguments(&mut self) -> Result<Vec<Node>> {
        self.expect(Kind::LeftParen)?;
        let mut arguments = Vec::new();
        if self.take(Kind::RightParen) {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(0)?);
            let comma = self.token();
            if self.take(Kind::RightParen) {
                return Ok(arguments);
            }
            if !self.take(Kind::Comma) {
                return Err(self.unexpected());
            }
            if matches!(self.token().kind, Kind::RightParen | Kind::Comma) {
                return Err(Fault::new(comma.start, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn call(&mut self) -> Result<Node> {
        let name = self.next();
        let mut arguments = self.arguments()?;
        let fault = |message| Fault::new(name.start, message);
        let function = function(name.text).ok_or_else(|| fault(format!("unknown function with name {}", quote(name.text))))?;
        if function.experimental && !self.options.experimental_functions {
            return Err(fault(format!("function {} is not enabled", quote(name.text))));
        }
        let (given, fewest) = (arguments.len(), function.fewest());
        let called = format!("in call to {}, got {given}", quote(name.text));
        let count = match function.most() {
            Some(most) if most == fewest && given != most => Some(format!("expected {most} argument(s) {called}")),
            _ if given < fewest => Some(format!("expected at least {fewest} argument(s) {called}")),
            Some(most) if given > most => Some(format!("expected at most {most} argument(s) {called}")),
            _ => None,
        };
        let context = format!("call to function {}", quote(name.text));
        let mut wrong = count.map(fault);
        if function.name == "info"
            && wrong.is_none()
            && let Some(of) = arguments.get_mut(1)
        {
            // Its second argument is labels alone.
            wrong = match of.shape {
                Shape::Selector { named: true, .. } => {
                    Some(Fault::new(of.start, "expected label selectors only, got vector selector instead"))
                }
                Shape::Selector { named: false, .. } => None,
                _ if of.value != ValueType::InstantVector => {
                    let (wanted, found) = (ValueType::InstantVector.name(), of.value.name());
                    Some(fault(format!("expected type {wanted} in {context}, got {found}")))
                }
                _ => Some(Fault::new(of.start, "unexpected error")),
            };
            of.fault = of.fault.take().filter(|fault| !fault.selects_all);
        }
        let last = function.arguments.len().saturating_sub(1);
        let wrong = wrong.or_else(|| {
            let types = function.arguments.get(last).map(|_| (0..).map(|index: usize| function.arguments[index.min(last)]));
            let mut pairs = arguments.iter().zip(types.into_iter().flatten());
            pairs.find_map(|(argument, wanted)| argument.expect(wanted, &context))
        });
        Ok(Node::other(function.returns, name.start, self.end(), wrong))
    }

    fn matching(&mut self) -> Result<Matching> {
        let mut matching = Matching { is_bool: self.take(Kind::Keyword(Keyword::Bool)), ..Matching::default() };
        let token = self.token();
        matching.is_on = token.is_keyword(Keyword::On);
        if !matching.is_on && !token.is_keyword(Keyword::Ignoring) {
            return Ok(matching);
        }
        self.next();
        matching.labels = self.grouping()?;
        let token = self.token();
        if token.is_keyword(Keyword::GroupLeft) || token.is_keyword(Keyword::GroupRight) {
            self.next();
            matching.grouped = true;
            if self.token().kind == Kind::LeftParen {
                matching.include = self.grouping()?;
            }
        }
        Ok(matching)
    }

    fn binary(&self, left: Node, op: Op, matching: &Matching, right: Node) -> Node {
        let (start, end) = (left.start, right.end);
        let both = |wanted| left.value == wanted && right.value == wanted;
        let scalars = both(ValueType::Scalar);
        let value = if scalars { ValueType::Scalar } else { ValueType::InstantVector };
        let own = || {
            let at_operator = |message: String| {
                let space = self.text.as_bytes()[left.end..].iter().take_while(|byte| byte.is_ascii_whitespace());
                Some(Fault::new(left.end + space.count(), message))
            };
            let at_start = |message: String| Some(Fault::new(start, message));
            if matching.is_bool && !op.is_comparison() {
                return at_operator("bool modifier can only be used on comparison operators".to_owned());
            }
            if op.is_comparison() && !matching.is_bool && scalars {
                return at_operator("comparisons between scalars must use BOOL modifier".to_owned());
            }
            let twice = matching.labels.iter().find(|label| matching.is_on && matching.include.contains(label));
            if let Some(label) = twice {
                return at_operator(format!("label {} must not occur in ON and GROUP clause at once", quote(label)));
            }
            let types = "binary expression must contain only scalar and instant vector types";
            if let Some(operand) = [&left, &right].into_iter().find(|operand| !is_operand(operand.value)) {
                return Some(Fault::new(operand.start, types));
            }
            if !both(ValueType::InstantVector) {
                if !matching.labels.is_empty() {
                    return at_start("vector matching only allowed between instant vectors".to_owned());
                }
                if op.is_set() {
                    let op = quote(op.name());
                    return at_start(format!("set operator {op} not allowed in binary scalar expression"));
                }
            } else if op.is_set() && matching.grouped {
                return at_start(format!("no grouping allowed for {} operation", quote(op.name())));
            }
            None
        };
        let fault = left.fault.clone().or_else(|| right.fault.clone()).or_else(own);
        Node::other(value, start, end, fault)
    }

    /// A range or a subquery.
    fn brackets(&mut self, of: Node) -> Result<Node> {
        let bracket = self.next();
        self.within(RANGE, Self::positive_span)?;
        let closing = self.token();
        if self.take(Kind::RightBracket) {
            let Shape::Selector { modifiers, .. } = of.shape else {
                return Err(Fault::new(bracket.start, "ranges only allowed for vector selectors"));
            };
            let forbidden = match (modifiers.offset, modifiers.time) {
                (Offset::Time, _) => "no offset modifiers allowed before range",
                (_, true) => "no @ modifiers allowed before range",
                _ => {
                    let (shape, value) = (Shape::Range(modifiers), ValueType::RangeVector);
                    return Ok(Node { shape, value, start: of.start, end: self.end(), fault: of.fault });
                }
            };
            return Err(Fault::new(bracket.start, forbidden));
        }
        if closing.kind != Kind::Colon {
            return Err(self.unexpected_in(RANGE_END));
        }
        self.next();
        if !self.take(Kind::RightBracket) {
            self.within(STEP, Self::positive_span)?;
            if !self.take(Kind::RightBracket) {
                return Err(self.unexpected_in(STEP_END));
            }
        }
        let fault = of.fault.or_else(|| {
            let message = format!("subquery is only allowed on instant vector, got {} instead", of.value.short());
            (of.value != ValueType::InstantVector).then(|| Fault::new(of.start, message))
        });
        let (shape, value) = (Shape::Subquery(Modifiers::default()), ValueType::RangeVector);
        Ok(Node { shape, value, start: of.start, end: self.end(), fault })
    }
}

/// Whether operators and signs take it.
fn is_operand(value: ValueType) -> bool {
    matches!(value, ValueType::Scalar | ValueType::InstantVector)
}

fn modifiers(of: &mut Node) -> Option<&mut Modifiers> {
    match &mut of.shape {
        Shape::Selector { modifiers, .. } | Shape::Range(modifiers) | Shape::Subquery(modifiers) => Some(modifiers),
        Shape::Duration | Shape::Other => None,
    }
}

/// What a quoted text says; bytes that are no letters are replaced.
fn text_of(token: Token<'_>) -> String {
    String::from_utf8_lossy(&unquote(token.text)).into_owned()
}
