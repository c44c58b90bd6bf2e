//! The tokens of PromQL (Prometheus `promql/parser/lex.go`).

use crate::literal::{quote, quote_first};

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    LessEqual,
    Less,
    GreaterEqual,
    Greater,
    And,
    Or,
    Unless,
}

impl Op {
    pub(crate) fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::LessEqual | Self::Less | Self::GreaterEqual | Self::Greater)
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// How tightly it binds; `^` binds to the right, all others to the left.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal | Self::NotEqual | Self::LessEqual | Self::Less | Self::GreaterEqual | Self::Greater => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::LessEqual => "<=",
            Self::Less => "<",
            Self::GreaterEqual => ">=",
            Self::Greater => ">",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }
}

/// What an aggregation takes besides the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    None,
    Scalar,
    String,
}

/// An aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aggregation {
    pub(crate) name: &'static str,
    pub(crate) parameter: Parameter,
    pub(crate) experimental: bool,
}

const fn aggregation(name: &'static str, parameter: Parameter) -> Aggregation {
    Aggregation { name, parameter, experimental: false }
}

const AGGREGATIONS: [Aggregation; 14] = [
    aggregation("avg", Parameter::None),
    aggregation("bottomk", Parameter::Scalar),
    aggregation("count", Parameter::None),
    aggregation("count_values", Parameter::String),
    aggregation("group", Parameter::None),
    Aggregation { name: "limit_ratio", parameter: Parameter::Scalar, experimental: true },
    Aggregation { name: "limitk", parameter: Parameter::Scalar, experimental: true },
    aggregation("max", Parameter::None),
    aggregation("min", Parameter::None),
    aggregation("quantile", Parameter::Scalar),
    aggregation("stddev", Parameter::None),
    aggregation("stdvar", Parameter::None),
    aggregation("sum", Parameter::None),
    aggregation("topk", Parameter::Scalar),
];

/// A word with a meaning in some places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// What stands for a time or a duration of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    Start,
    End,
    Step,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The end of the expression.
    End,
    /// The lexer can go no further; why is in [`crate::lexer::Tokens::fault`].
    Fault,
    Comma,
    Colon,
    Assign,
    MatchesRegex,
    MatchesNotRegex,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    LeftParen,
    RightParen,
    At,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    Number,
    Duration,
    String,
    Operator(Op),
    Aggregation(Aggregation),
    Keyword(Keyword),
    Edge(Edge),
}

/// A token and where it begins, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) text: &'a str,
}

/// The kind of a word outside braces, whose case does not matter.
pub(crate) fn word(text: &str) -> Kind {
    let lower = text.to_ascii_lowercase();
    if let Some(found) = AGGREGATIONS.iter().find(|aggregation| aggregation.name == lower) {
        return Kind::Aggregation(*found);
    }
    match lower.as_str() {
        "and" => Kind::Operator(Op::And),
        "or" => Kind::Operator(Op::Or),
        "unless" => Kind::Operator(Op::Unless),
        "atan2" => Kind::Operator(Op::Atan2),
        "anchored" => Kind::Keyword(Keyword::Anchored),
        "bool" => Kind::Keyword(Keyword::Bool),
        "by" => Kind::Keyword(Keyword::By),
        "group_left" => Kind::Keyword(Keyword::GroupLeft),
        "group_right" => Kind::Keyword(Keyword::GroupRight),
        "ignoring" => Kind::Keyword(Keyword::Ignoring),
        "offset" => Kind::Keyword(Keyword::Offset),
        "on" => Kind::Keyword(Keyword::On),
        "smoothed" => Kind::Keyword(Keyword::Smoothed),
        "without" => Kind::Keyword(Keyword::Without),
        "start" => Kind::Edge(Edge::Start),
        "end" => Kind::Edge(Edge::End),
        "step" => Kind::Edge(Edge::Step),
        "inf" | "nan" => Kind::Number,
        _ if text.contains(':') => Kind::MetricIdentifier,
        _ => Kind::Identifier,
    }
}

impl Token<'_> {
    /// Whether it may be the name of a metric (`metric_identifier` of the grammar).
    pub(crate) fn names_metric(&self) -> bool {
        match self.kind {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregation(_) | Kind::Edge(_) => true,
            Kind::Operator(op) => op.is_set(),
            Kind::Keyword(keyword) => {
                matches!(keyword, Keyword::By | Keyword::Offset | Keyword::Without | Keyword::Anchored | Keyword::Smoothed)
            }
            _ => false,
        }
    }

    /// Whether it may be a label of a grouping (`maybe_label` of the grammar).
    pub(crate) fn names_label(&self) -> bool {
        match self.kind {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregation(_) | Kind::Edge(_) => true,
            Kind::Operator(op) => op.is_set() || op == Op::Atan2,
            Kind::Keyword(keyword) => keyword != Keyword::Without,
            _ => false,
        }
    }

    /// As Prometheus names it in a message.
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Fault => "error".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(self.text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(self.text)),
            Kind::Number => format!("number {}", quote_first(self.text, 10)),
            Kind::Duration => format!("duration {}", quote_first(self.text, 10)),
            Kind::String => format!("string {}", quote_first(self.text, 10)),
            // Prometheus has no name for it; the number is that of its table of tokens.
            Kind::At => format!("\"<Item 57400>\" <op:{}>", self.text),
            Kind::Operator(_) | Kind::MatchesRegex | Kind::MatchesNotRegex => format!("<op:{}>", self.text),
            Kind::Aggregation(_) => format!("<aggr:{}>", self.text),
            Kind::Keyword(_) => format!("<{}>", self.text),
            Kind::Comma
            | Kind::Colon
            | Kind::Assign
            | Kind::LeftBrace
            | Kind::RightBrace
            | Kind::LeftBracket
            | Kind::RightBracket
            | Kind::LeftParen
            | Kind::RightParen
            | Kind::Edge(_) => quote(self.text),
        }
    }
}
