//! Whether Prometheus can read an expression of PromQL, and what type it has.
//!
//! [`check`] answers as the parser of Prometheus 3.7.3 does (Go module version 0.307.3, `promql/parser`), which is the one that
//! prometheus-operator 0.87.1 reads rules with, whatever the version of the Prometheus server. It follows that parser's tokens,
//! grammar and type rules, and says in the same words what is wrong and where.
//!
//! The crate `promql-parser` gives a tree to walk and is used for that elsewhere. It does not decide what is valid: its tree has no
//! positions, it takes functions and modifiers of newer versions (`fill`, `histogram_quantiles`), and it refuses some expressions that
//! Prometheus takes (metrics named `anchored`, `step()` in a range, `x @ end()[5m]`).
//!
//! Architecture invariant: this crate knows neither Kubernetes nor KubeVirt, does no I/O, and needs no more stack for a longer
//! expression: types are worked out while reading, nesting is bounded by [`MOST_NESTED`].

mod error;
mod functions;
mod lexer;
mod literal;
mod node;
mod parser;
mod token;

pub use error::{Position, PromqlError};
pub use functions::{Function, function, functions};
pub use literal::parse_duration;
pub use parser::MOST_NESTED;

/// The type of the value of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// A number.
    Scalar,
    /// A text.
    String,
    /// One sample of each series.
    InstantVector,
    /// A range of samples of each series.
    RangeVector,
}

impl ValueType {
    /// The name that Prometheus' documentation and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "instant vector",
            Self::RangeVector => "range vector",
        }
    }

    /// The name that some messages and the HTTP API use.
    fn short(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "vector",
            Self::RangeVector => "matrix",
        }
    }
}

/// What is switched on besides what Prometheus always knows. The default is what prometheus-operator has: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Experimental functions, and the aggregations `limitk` and `limit_ratio`
    /// (`--enable-feature=promql-experimental-functions`).
    pub experimental_functions: bool,
}

/// The type of the value of an expression.
///
/// # Errors
/// What is wrong with it, and where: the first thing that Prometheus would report.
pub fn check(expression: &str, options: &Options) -> Result<ValueType, PromqlError> {
    parser::parse(expression, options)
}
