//! What Prometheus takes and refuses, in its own words.

use promql::ValueType::{InstantVector, RangeVector, Scalar, String as Text};
use promql::{MOST_NESTED, Options, check};
use proptest::prelude::*;

fn error(expression: &str) -> String {
    match check(expression, &Options::default()) {
        Ok(value) => panic!("{expression:?} is taken: {}", value.name()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_valid_has_its_type() {
    for (expression, expected) in [
        ("up", InstantVector),
        ("rate(http_requests_total{code=~\"5..\"}[5m])", InstantVector),
        ("http_requests_total[5m] offset -1w", RangeVector),
        ("max_over_time(rate(x_total[1m])[1h:30s])", InstantVector),
        ("1 + 2 * 3 ^ -2", Scalar),
        ("time() > bool 5", Scalar),
        ("\"text\"", Text),
        ("# what it is\nsum by (job, instance) (up)", InstantVector),
        ("sum(up) without (job,)", InstantVector),
        ("topk(3, up) / on (job) group_left (team) label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\")", InstantVector),
        ("count_values(\"version\", build_info)", InstantVector),
        ("label_join(up, \"a\", \",\")", InstantVector),
        ("hour() + hour(vector(time()))", InstantVector),
        ("round(up)", InstantVector),
        // Words with a meaning elsewhere, as metrics and as labels.
        ("anchored + smoothed", InstantVector),
        ("sum by (anchored, offset, and, start) (offset offset 5m)", InstantVector),
        ("sum + avg by (by) (by)", InstantVector),
        // Names of any letters.
        ("{\"my.metric\", \"my label\"=\"x\"}", InstantVector),
        // What is worked out when the query runs.
        ("x[step()] offset -max(5m, step())", RangeVector),
        ("x @ end()[5m]", RangeVector),
        ("x @ -1.5e3 offset 5m", InstantVector),
        ("-x ^ 2 atan2 y", InstantVector),
        ("0x1F + 1_000 + 5m + Inf + .5 + 1e3 + 017", Scalar),
        ("x[1h30m15s500ms]", RangeVector),
    ] {
        assert_eq!(check(expression, &Options::default()), Ok(expected), "{expression}");
    }
}

#[test]
fn what_is_wrong_is_said_as_prometheus_says_it() {
    for (expression, expected) in [
        // Functions.
        ("sum(rat(x[5m]))", "1:5: parse error: unknown function with name \"rat\""),
        ("histogram_quantiles(x, \"q\", 0.9)", "1:1: parse error: unknown function with name \"histogram_quantiles\""),
        ("mad_over_time(x[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"),
        ("x + sort_by_label(y, \"a\")", "1:5: parse error: function \"sort_by_label\" is not enabled"),
        (
            "limitk(2, x)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("RATE(x[5m])", "1:1: parse error: unknown function with name \"RATE\""),
        // How many arguments, and of which types.
        ("rate(x)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("rate()", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 0"),
        ("round(x, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"),
        ("label_join(x)", "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1"),
        (
            "label_join(x, \"a\", \"b\", 5)",
            "1:25: parse error: expected type string in call to function \"label_join\", got scalar",
        ),
        ("clamp(x, y, 1)", "1:10: parse error: expected type scalar in call to function \"clamp\", got instant vector"),
        ("rate(x[5m],)", "1:11: parse error: trailing commas not allowed in function call args"),
        ("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar"),
        ("sum()", "1:1: parse error: no arguments for aggregate expression provided"),
        ("topk(x)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("topk(x, y)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"),
        // Operators.
        ("x[5m] > 5", "1:1: parse error: binary expression must contain only scalar and instant vector types"),
        ("1 == 2", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("x + bool y", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("x and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("x or on (a) group_left y", "1:1: parse error: no grouping allowed for \"or\" operation"),
        ("x * on (a) group_left (a) y", "1:3: parse error: label \"a\" must not occur in ON and GROUP clause at once"),
        ("1 + on (a) x", "1:1: parse error: vector matching only allowed between instant vectors"),
        (
            "-x[5m]",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
        ),
        // What newer versions have.
        ("x + fill (0) y", "1:5: parse error: unknown function with name \"fill\""),
        ("x + on (a) fill_left (0) y", "1:12: parse error: unknown function with name \"fill_left\""),
        ("rate(x[5m] smoothed)", "1:6: parse error: smoothed modifier is experimental and not enabled"),
        ("x[5m * 2]", "1:3: parse error: experimental duration expression is not enabled"),
        ("x[(5m)]", "1:4: parse error: experimental duration expression is not enabled"),
        ("(end() - start()) / 2", "1:5: parse error: unexpected \"(\""),
        // Durations.
        ("x[300y]", "1:3: parse error: duration out of range"),
        ("x[0s]", "1:3: parse error: duration must be greater than 0"),
        ("x[5m1h]", "1:3: parse error: not a valid duration string: \"5m1h\""),
        ("x[5hs]", "1:3: parse error: unknown unit \"hs\" in duration \"5hs\""),
        ("rate(x[$__rate_interval])", "1:8: parse error: unexpected character in duration expression: '$'"),
        // Ranges, subqueries, offsets, @.
        ("sum(x)[5m]", "1:7: parse error: ranges only allowed for vector selectors"),
        ("x[5m][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"),
        ("x offset 5m[5m]", "1:12: parse error: no offset modifiers allowed before range"),
        ("x @ 5[5m]", "1:6: parse error: no @ modifiers allowed before range"),
        ("x offset 1m offset 1m", "1:1: parse error: offset may not be set multiple times"),
        ("x @ start() @ 5", "1:1: parse error: @ <timestamp> may not be set multiple times"),
        ("x @ Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        (
            "sum(x) offset soon",
            "1:15: parse error: unexpected identifier \"soon\" in offset, expected number, duration, or step()",
        ),
        // Selectors.
        ("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("x{__name__=\"y\"}", "1:1: parse error: metric name must not be set twice: \"x\" or \"y\""),
        ("x{a=~\"(\"}", "1:3: parse error: error parsing regexp: missing closing ): `(`"),
        ("x{a=\"b\" c=\"d\"}", "1:9: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\""),
        // What is not closed, or closed twice.
        ("sum(rate(x[5m])", "1:16: parse error: unclosed left parenthesis"),
        ("sum(x))", "1:8: parse error: unexpected right parenthesis ')'"),
        ("x{a=\"b\"", "1:8: parse error: unexpected end of input inside braces"),
        ("x{a=\"b}", "1:5: parse error: unterminated quoted string"),
        ("x[5m", "1:5: parse error: unclosed left bracket"),
        // Where, over several lines.
        ("sum(\n  rate(x)\n)", "2:8: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("x y", "1:3: parse error: unexpected identifier \"y\""),
        ("x >", "1:4: parse error: unexpected end of input"),
        ("# nothing", "1:1: parse error: no expression found in input"),
        ("x = 5", "1:3: parse error: unexpected \"=\""),
        ("x && y", "1:3: parse error: unexpected character: '&'"),
    ] {
        assert_eq!(error(expression), expected, "{expression}");
    }
}

#[test]
fn experimental_functions_can_be_switched_on() {
    let options = Options { experimental_functions: true };
    for expression in ["limitk(2, x)", "limit_ratio(0.5, x)", "sort_by_label(x, \"a\", \"b\")", "info(x)", "info(x, {a=\"\"})"] {
        assert_eq!(check(expression, &options), Ok(InstantVector), "{expression}");
    }
    assert!(check("info(x, y)", &options).unwrap_err().message.contains("expected label selectors only"));
    assert!(check("info(x, 5)", &options).unwrap_err().message.contains("got scalar"));
}

#[test]
fn nesting_is_bounded_and_length_is_not() {
    let nested = |depth: usize| format!("{}x{}", "(".repeat(depth), ")".repeat(depth));
    assert!(check(&nested(MOST_NESTED - 1), &Options::default()).is_ok());
    assert!(error(&nested(100_000)).ends_with("expression is nested more than 200 levels deep"));
    let long = format!("({}){}", "-{}-1".repeat(10_000), "[1m:]".repeat(1_000));
    assert!(error(&long).ends_with("vector selector must contain at least one non-empty matcher"));
    assert!(check(&format!("x{}", " + x".repeat(50_000)), &Options::default()).is_ok());
    assert!(check(&format!("{}x", "- ".repeat(50_000)), &Options::default()).is_ok());
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,60}") {
        drop(check(&text, &Options::default()));
    }

    #[test]
    fn any_row_of_tokens_has_an_answer_and_a_position_in_it(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "x", "sum", "rate", "by", "(", ")", "[", "]", "{", "}", "5m", "1", "offset", "@", "end", "step", "min", ",", ":", "+", "-", "^",
        "==", "and", "on", "group_left", "bool", "\"a\"", "a=\"b\"", "=~", " ", "\n", "#",
    ]), 0..24)) {
        let text = tokens.concat();
        if let Err(error) = check(&text, &Options::default()) {
            prop_assert!(error.position.offset <= text.len());
            prop_assert!(error.position.line <= text.lines().count().max(1) + 1);
        }
    }
}
