//! The functions that Prometheus knows (version 3.7.3, `promql/parser/functions.go`).

use crate::ValueType::{self, InstantVector, RangeVector, Scalar, String};

/// A function of PromQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments. The last one is that of all that follow, if there may be more.
    pub arguments: &'static [ValueType],
    /// How many of the arguments may be left out at the end.
    pub optional: usize,
    /// Whether more arguments may follow, of the type of the last.
    pub repeats: bool,
    /// The type of its value.
    pub returns: ValueType,
    /// Whether it must be switched on.
    pub experimental: bool,
}

impl Function {
    /// The fewest arguments.
    pub fn fewest(&self) -> usize {
        self.arguments.len() - self.optional
    }

    /// The most arguments; none where there may be any number.
    pub fn most(&self) -> Option<usize> {
        (!self.repeats).then_some(self.arguments.len())
    }
}

const fn plain(name: &'static str, arguments: &'static [ValueType]) -> Function {
    Function { name, arguments, optional: 0, repeats: false, returns: InstantVector, experimental: false }
}

/// A function of one instant vector.
const fn of_vector(name: &'static str) -> Function {
    plain(name, &[InstantVector])
}

/// A function of one range vector.
const fn of_range(name: &'static str) -> Function {
    plain(name, &[RangeVector])
}

/// A function of one instant vector, which is `vector(time())` where it is left out.
const fn of_time(name: &'static str) -> Function {
    Function { optional: 1, ..of_vector(name) }
}

const fn experimental(function: Function) -> Function {
    Function { experimental: true, ..function }
}

const fn scalar(function: Function) -> Function {
    Function { returns: Scalar, ..function }
}

/// The last argument may be left out, or be there any number of times.
const fn repeating(function: Function) -> Function {
    Function { optional: 1, repeats: true, ..function }
}

const fn optional(function: Function) -> Function {
    Function { optional: 1, ..function }
}

/// In order of their names.
const FUNCTIONS: [Function; 82] = [
    of_vector("abs"),
    of_vector("absent"),
    of_range("absent_over_time"),
    of_vector("acos"),
    of_vector("acosh"),
    of_vector("asin"),
    of_vector("asinh"),
    of_vector("atan"),
    of_vector("atanh"),
    of_range("avg_over_time"),
    of_vector("ceil"),
    of_range("changes"),
    plain("clamp", &[InstantVector, Scalar, Scalar]),
    plain("clamp_max", &[InstantVector, Scalar]),
    plain("clamp_min", &[InstantVector, Scalar]),
    of_vector("cos"),
    of_vector("cosh"),
    of_range("count_over_time"),
    of_time("day_of_month"),
    of_time("day_of_week"),
    of_time("day_of_year"),
    of_time("days_in_month"),
    of_vector("deg"),
    of_range("delta"),
    of_range("deriv"),
    experimental(plain("double_exponential_smoothing", &[RangeVector, Scalar, Scalar])),
    of_vector("exp"),
    experimental(of_range("first_over_time")),
    of_vector("floor"),
    of_vector("histogram_avg"),
    of_vector("histogram_count"),
    plain("histogram_fraction", &[Scalar, Scalar, InstantVector]),
    plain("histogram_quantile", &[Scalar, InstantVector]),
    of_vector("histogram_stddev"),
    of_vector("histogram_stdvar"),
    of_vector("histogram_sum"),
    of_time("hour"),
    of_range("idelta"),
    of_range("increase"),
    experimental(optional(plain("info", &[InstantVector, InstantVector]))),
    of_range("irate"),
    repeating(plain("label_join", &[InstantVector, String, String, String])),
    plain("label_replace", &[InstantVector, String, String, String, String]),
    of_range("last_over_time"),
    of_vector("ln"),
    of_vector("log10"),
    of_vector("log2"),
    experimental(of_range("mad_over_time")),
    of_range("max_over_time"),
    of_range("min_over_time"),
    of_time("minute"),
    of_time("month"),
    scalar(plain("pi", &[])),
    plain("predict_linear", &[RangeVector, Scalar]),
    of_range("present_over_time"),
    plain("quantile_over_time", &[Scalar, RangeVector]),
    of_vector("rad"),
    of_range("rate"),
    of_range("resets"),
    optional(plain("round", &[InstantVector, Scalar])),
    scalar(of_vector("scalar")),
    of_vector("sgn"),
    of_vector("sin"),
    of_vector("sinh"),
    of_vector("sort"),
    experimental(repeating(plain("sort_by_label", &[InstantVector, String]))),
    experimental(repeating(plain("sort_by_label_desc", &[InstantVector, String]))),
    of_vector("sort_desc"),
    of_vector("sqrt"),
    of_range("stddev_over_time"),
    of_range("stdvar_over_time"),
    of_range("sum_over_time"),
    of_vector("tan"),
    of_vector("tanh"),
    scalar(plain("time", &[])),
    of_vector("timestamp"),
    experimental(of_range("ts_of_first_over_time")),
    experimental(of_range("ts_of_last_over_time")),
    experimental(of_range("ts_of_max_over_time")),
    experimental(of_range("ts_of_min_over_time")),
    plain("vector", &[Scalar]),
    of_time("year"),
];

/// The function of a name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|index| &FUNCTIONS[index])
}

/// All functions, in order of their names.
pub fn functions() -> &'static [Function] {
    &FUNCTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found_by_name() {
        assert!(FUNCTIONS.is_sorted_by(|one, other| one.name < other.name));
        assert_eq!(function("rate").map(|rate| rate.arguments), Some(&[RangeVector][..]));
        assert_eq!(function("histogram_quantiles"), None);
        assert_eq!(function("label_join").map(|join| (join.fewest(), join.most())), Some((3, None)));
        assert_eq!(function("round").map(|round| (round.fewest(), round.most())), Some((1, Some(2))));
    }
}
