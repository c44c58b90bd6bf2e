//! Expressions with variables of dashboards.
//!
//! A dashboard puts its variables into the text of an expression, so one can stand anywhere: for a number (`topk($n, …)`), a duration
//! (`[$__rate_interval]`, `offset $shift`), matchers (`{$matchers}`), a label, an operator, or a part of a metric's name. Only names and
//! labels are looked for, so any value of the right sort will do: [`parse`] puts values of each sort in until the text is PromQL. Names and
//! labels get a placeholder that is known again; [`Name`] matches it with anything.
//!
//! The ways to write one are those of Grafana (`public/app/features/variables/utils.ts`, `variableRegex`); those of Perses are among them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use promql_parser::parser::Expr;
use regex::Regex;

/// How a placeholder begins; its number and an underscore follow.
const PLACEHOLDER: &str = "__of_dashboard_";
/// How many texts are tried for one expression at most.
const MAX_TRIES: usize = 1500;
/// `offset` after a function or an aggregation, where PromQL has it after selectors alone: a mistake that hides nothing of what is read.
static MISPLACED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\)\s*offset\s+-?\s*[0-9][0-9a-z]*").expect("a constant expression"));
/// How many values of one variable are tried at most.
const MAX_VALUES: usize = 5;

/// `$name`, `[[name]]`, `[[name:format]]`, `${name}`, `${name.field}`, `${name:format}`.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$([A-Za-z0-9_]+)|\[\[([A-Za-z0-9_]+)(?::[A-Za-z0-9_]+)?\]\]|\$\{([A-Za-z0-9_]+)(?:\.[^:^}]+)?(?::[^}]+)?\}")
        .expect("a constant expression")
});
static HELD: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("{PLACEHOLDER}([0-9]+)_")).expect("a constant expression"));
static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new("^[A-Za-z_:][A-Za-z0-9_:]*$").expect("a constant expression"));

/// The variables of a dashboard whose values are written in it, with these values. Others may be used too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, Vec<String>>);

/// Whether a text has a placeholder.
pub(crate) fn has_placeholder(text: &str) -> bool {
    text.contains(PLACEHOLDER)
}

/// An expression that could be read.
pub(crate) struct Parsed {
    pub(crate) expression: Expr,
    pub(crate) held: Held,
    /// Whether a variable stands outside of strings.
    pub(crate) has_variables: bool,
    /// What is wrong with it, where it could be read but for that.
    pub(crate) wrong: Option<String>,
}

/// The variables by the numbers of their placeholders: each as it is written, with its values where they are known.
#[derive(Clone, Default)]
pub(crate) struct Held(Vec<(String, Vec<String>)>);

impl Held {
    /// A text with its variables as they were written.
    pub(crate) fn written(&self, text: &str) -> String {
        let variable =
            |found: &regex::Captures<'_>| self.variable(&found[1]).map_or_else(String::new, |(name, _)| format!("${name}"));
        HELD.replace_all(text, variable).into_owned()
    }

    fn variable(&self, number: &str) -> Option<&(String, Vec<String>)> {
        number.parse::<usize>().ok().and_then(|number| self.0.get(number))
    }

    /// A text as a regular expression in which variables are anything, or any of their values; nothing where nothing but variables of
    /// which no value is known is in it.
    pub(crate) fn pattern(&self, text: &str) -> Option<Regex> {
        let (mut pattern, mut end, mut says) = ("^(?:".to_owned(), 0, false);
        for found in HELD.captures_iter(text) {
            let whole = found.get(0)?;
            says |= whole.start() > end;
            pattern.push_str(&regex::escape(&text[end..whole.start()]));
            end = whole.end();
            match self.variable(&found[1]) {
                Some((_, values)) if !values.is_empty() => {
                    says = true;
                    let values: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
                    pattern.push_str(&format!("(?:{})", values.join("|")));
                }
                _ => pattern.push_str("[A-Za-z0-9_:]*"),
            }
        }
        pattern.push_str(&regex::escape(&text[end..]));
        pattern.push_str(")$");
        (says || end < text.len()).then(|| Regex::new(&pattern).ok()).flatten()
    }
}

/// A part of an expression.
enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn split(expression: &str) -> Vec<Part<'_>> {
    let (mut parts, mut end) = (Vec::new(), 0);
    for found in VARIABLE.captures_iter(expression) {
        let Some((whole, name)) = found.get(0).zip((1..4).find_map(|group| found.get(group))) else { continue };
        // `$1` is what a regular expression has found.
        if name.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        parts.push(Part::Text(&expression[end..whole.start()]));
        parts.push(Part::Variable(name.as_str()));
        end = whole.end();
    }
    parts.push(Part::Text(&expression[end..]));
    parts
}

/// What is open at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// `(`, of a function or around an expression.
    Paren,
    /// `(`, around labels.
    Labels,
    /// `{`.
    Matchers,
    /// `[`.
    Range,
}

/// Where a place is, from left to right.
#[derive(Default)]
struct Place {
    quote: Option<char>,
    comment: bool,
    escaped: bool,
    open: Vec<Open>,
    /// The word that ends here or has ended before spaces, or the last sign.
    word: String,
    /// Whether something stands between the word and the place.
    apart: bool,
}

impl Place {
    fn pass(&mut self, text: &str) {
        for letter in text.chars() {
            if self.comment {
                self.comment = letter != '\n';
                continue;
            }
            if let Some(quote) = self.quote {
                if self.escaped {
                    self.escaped = false;
                } else if letter == '\\' && quote != '`' {
                    self.escaped = true;
                } else if letter == quote {
                    self.quote = None;
                }
                (self.word, self.apart) = (quote.to_string(), false);
                continue;
            }
            match letter {
                '#' => self.comment = true,
                '"' | '\'' | '`' => self.quote = Some(letter),
                '(' => {
                    let of_labels = ["by", "without", "on", "ignoring", "group_left", "group_right"];
                    let open =
                        if of_labels.contains(&self.word.to_ascii_lowercase().as_str()) { Open::Labels } else { Open::Paren };
                    self.open.push(open);
                }
                '{' => self.open.push(Open::Matchers),
                '[' => self.open.push(Open::Range),
                ')' | '}' | ']' => {
                    self.open.pop();
                }
                _ => {}
            }
            let in_word = letter.is_alphanumeric() || letter == '_' || letter == ':' || letter == '.';
            if letter.is_whitespace() {
                self.apart = true;
            } else if in_word && !self.apart && self.word.chars().all(|letter| letter.is_alphanumeric() || "_:.".contains(letter))
            {
                self.word.push(letter);
            } else {
                (self.word, self.apart) = (letter.to_string(), false);
            }
        }
    }

    fn passed_variable(&mut self) {
        if self.quote.is_none() && !self.comment {
            (self.word, self.apart) = ("$".to_owned(), false);
        }
    }
}

/// What may stand for a variable at a place, the likeliest first. `next` is what follows it.
fn candidates(place: &Place, next: &str, next_is_variable: bool, name: &str, values: &[String], held: &str) -> Vec<String> {
    if place.quote.is_some() || place.comment {
        return vec![held.to_owned()];
    }
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let after = next.chars().next();
    let sign = next.trim_start().chars().next().unwrap_or(' ');
    let touches_after =
        next_is_variable || after.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':');
    let before = place.word.chars().last().filter(|_| !place.apart);
    let touches_before = before.is_some_and(|letter| letter.is_alphanumeric() || "_:$.".contains(letter));
    let after_digit = before.is_some_and(|letter| letter.is_ascii_digit() || letter == '.')
        && place.word.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    let matcher = format!("{held}=\"{held}\"");
    let text = format!("\"{held}\"");
    let mut found = match place.open.last() {
        Some(Open::Range) if touches_after && sign != ':' => list(&["5", "5m"]),
        Some(Open::Range) if touches_before && place.word != ":" => list(&["m", "5", "5m"]),
        Some(Open::Range) => list(&["5m", "5m:1m", "5"]),
        Some(Open::Labels) => vec![held.to_owned()],
        Some(Open::Matchers) if place.word == "=" || place.word == "~" => vec![text],
        Some(Open::Matchers) if matches!(sign, '"' | '\'' | '`') && place.word != "," => {
            vec!["=".to_owned(), "=~".to_owned(), matcher]
        }
        Some(Open::Matchers) if touches_before && !place.word.starts_with('$') || touches_after => vec![held.to_owned(), matcher],
        Some(Open::Matchers) if matches!(sign, '=' | '!') => vec![held.to_owned(), matcher],
        Some(Open::Matchers) if place.word == "\"" => vec![format!(",{matcher}"), matcher],
        Some(Open::Matchers) => vec![matcher.clone(), format!("{matcher},"), held.to_owned()],
        Some(Open::Paren) | None => {
            let unit = after.is_some_and(|letter| "smhdwy".contains(letter));
            if place.word == "offset" || place.word == "-" && unit {
                if touches_after { list(&["5"]) } else { list(&["5m", "5"]) }
            } else if after_digit {
                list(&["5", "m"])
            } else if touches_before || touches_after && !unit {
                vec![held.to_owned(), "5".to_owned(), "5m".to_owned()]
            } else if sign == '{' || sign == '[' {
                vec![held.to_owned()]
            } else if sign == '(' || next.trim_start().starts_with("by") || next.trim_start().starts_with("without") {
                list(&["sum", "rate", "abs", "==", "and", "topk"])
            } else if !values.is_empty() && values.iter().all(|value| WORD.is_match(value)) {
                vec![held.to_owned()]
            } else {
                let rest =
                    vec![held.to_owned(), "5m".to_owned(), text, "==".to_owned(), "and".to_owned(), format!(" by ({held})")];
                [list(&["5"]), rest].concat()
            }
        }
    };
    if matches!(name, "__interval_ms" | "__range_ms" | "__range_s" | "__from" | "__to") && !touches_before {
        found.insert(0, "300000".to_owned());
    }
    // What it is known to hold goes first, unless it can be a name or a part of one: of names each is looked for.
    let part = (touches_before || touches_after) && !after_digit && place.open.last() != Some(&Open::Range);
    if !part && !values.iter().all(|value| WORD.is_match(value)) {
        found.splice(0..0, values.iter().take(MAX_VALUES).cloned());
    }
    found
}

/// Reads a text, with a mistake that does not matter for what it reads; the mistake comes along.
fn leniently(text: &str) -> Result<(Expr, Option<String>), String> {
    promql_parser::parser::parse(text).map(|expression| (expression, None)).or_else(|why| {
        let without = MISPLACED.replace_all(text, ")");
        match promql_parser::parser::parse(&without) {
            Ok(expression) if without != text => Ok((expression, Some(why))),
            Ok(_) | Err(_) => Err(why),
        }
    })
}

/// Reads an expression; variables of dashboards are what they have to be.
///
/// # Errors
/// When it cannot be read whatever its variables are; the text is the parser's, of the likeliest try.
pub(crate) fn parse(expression: &str, variables: Option<&Variables>) -> Result<Parsed, String> {
    let Some(known) = variables else {
        let whole = |(expression, wrong)| Parsed { expression, held: Held::default(), has_variables: false, wrong };
        return leniently(expression).map(whole);
    };
    let parts = split(expression);
    let mut held = Held::default();
    let mut place = Place::default();
    // Each place of a variable: what may stand there. Places with the same variable and the same choice are chosen for at once.
    let mut units: Vec<(&str, Vec<String>)> = Vec::new();
    let mut places: Vec<usize> = Vec::new();
    let mut has_variables = false;
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Text(text) => place.pass(text),
            Part::Variable(name) => {
                let values = known.0.get(*name).cloned().unwrap_or_default();
                let number = held.0.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
                    held.0.push(((*name).to_owned(), values.clone()));
                    held.0.len() - 1
                });
                let next = match parts.get(index + 1) {
                    Some(Part::Text(text)) => *text,
                    Some(Part::Variable(_)) | None => "",
                };
                let next_is_variable = next.is_empty() && matches!(parts.get(index + 2), Some(Part::Variable(_)));
                has_variables |= place.quote.is_none() && !place.comment;
                let holder = format!("{PLACEHOLDER}{number}_");
                let unit = (*name, candidates(&place, next, next_is_variable, name, &values, &holder));
                places.push(units.iter().position(|known| *known == unit).unwrap_or_else(|| {
                    units.push(unit);
                    units.len() - 1
                }));
                place.passed_variable();
            }
        }
    }
    let filled = |choice: &[usize]| {
        let mut places = places.iter();
        let texts = parts.iter().map(|part| match part {
            Part::Text(text) => *text,
            Part::Variable(_) => places.next().map_or("", |unit| units[*unit].1[choice[*unit]].as_str()),
        });
        texts.collect::<String>()
    };
    let mut tried = 0;
    let mut attempt = |choice: &[usize]| {
        tried += 1;
        if tried > MAX_TRIES { None } else { Some(leniently(&filled(choice))) }
    };
    let done = |(expression, wrong)| Parsed { expression, held: held.clone(), has_variables, wrong };
    let mut choice = vec![0; units.len()];
    let first = match attempt(&choice) {
        Some(Ok(expression)) => return Ok(done(expression)),
        Some(Err(why)) => why,
        None => String::new(),
    };
    // One place is other than it looks, then two.
    for one in 0..units.len() {
        for of_one in 1..units[one].1.len() {
            choice[one] = of_one;
            if let Some(Ok(expression)) = attempt(&choice) {
                return Ok(done(expression));
            }
        }
        choice[one] = 0;
    }
    for one in 0..units.len() {
        for other in one + 1..units.len() {
            for (of_one, of_other) in (1..units[one].1.len()).flat_map(|a| (1..units[other].1.len()).map(move |b| (a, b))) {
                (choice[one], choice[other]) = (of_one, of_other);
                match attempt(&choice) {
                    Some(Ok(expression)) => return Ok(done(expression)),
                    Some(Err(_)) => {}
                    None => return Err(unread(&first, &held, has_variables)),
                }
            }
            (choice[one], choice[other]) = (0, 0);
        }
    }
    Err(unread(&first, &held, has_variables))
}

fn unread(why: &str, held: &Held, has_variables: bool) -> String {
    let why = held.written(why);
    if has_variables { format!("no value of its variables makes it PromQL: {why}") } else { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(expression: &str) -> Result<String, String> {
        let known = Variables(BTreeMap::from([
            ("kind".to_owned(), vec!["memory".to_owned(), "cpu".to_owned()]),
            ("selector".to_owned(), vec!["a=\"b\", c=~\"d\"".to_owned()]),
            ("limit".to_owned(), vec!["7".to_owned(), "8".to_owned()]),
        ]));
        parse(expression, Some(&known)).map(|parsed| parsed.held.written(&parsed.expression.to_string()))
    }

    #[test]
    fn a_variable_can_stand_anywhere() {
        for (expression, expected) in [
            // Durations.
            ("rate(a[$__rate_interval])", "rate(a[5m])"),
            ("rate(a[[[range]]])", "rate(a[5m])"),
            ("rate(a[${n}m])", "rate(a[5m])"),
            ("rate(a[1$unit])", "rate(a[1m])"),
            ("rate(a[${n}${unit}])", "rate(a[5m])"),
            ("max_over_time(a[$range:$step])", "max_over_time(a[5m:5m])"),
            ("max_over_time(a[${range}:])", "max_over_time(a[5m:])"),
            ("increase(a[${__range_s}s]) / $__range_s", "increase(a[3d11h20m]) / 300000"),
            ("rate(a[5m] offset $shift)", "rate(a[5m] offset 5m)"),
            ("rate(a[5m]) offset $shift", "rate(a[5m])"),
            ("a offset -$shift", "a offset -5s"),
            ("a offset ${days}d", "a offset 5d"),
            // Numbers.
            ("topk($top, a)", "topk(5, a)"),
            ("topk(${top:raw}, sum by (b) (a))", "topk(5, sum by (b) (a))"),
            ("a > $threshold", "a > 5"),
            ("histogram_quantile(0.$q, a)", "histogram_quantile(0.5, a)"),
            ("quantile_over_time($quantile, a[5m])", "quantile_over_time(5, a[5m])"),
            ("a * [[factor]]", "a * 5"),
            ("a @ $__to", "a @ 300000.000"),
            ("rate(a[$__interval]) * $__interval_ms / 1000", "rate(a[5m]) * 300000 / 1000"),
            ("a > ${limit}", "a > 7"),
            // Matchers.
            ("sum(a{$matchers})", "sum(a{$matchers=\"$matchers\"})"),
            ("a{b=\"c\", $matchers}", "a{$matchers=\"$matchers\",b=\"c\"}"),
            ("a{b=\"c\"$matchers}", "a{$matchers=\"$matchers\",b=\"c\"}"),
            ("a{$matchers, b=\"c\"}", "a{$matchers=\"$matchers\",b=\"c\"}"),
            ("a{$matchers b=\"c\"}", "a{$matchers=\"$matchers\",b=\"c\"}"),
            ("a{$label=~\"$value\"}", "a{$label=~\"$value\"}"),
            ("a{${label}!=\"x\"}", "a{$label!=\"x\"}"),
            ("a{x_$label=\"x\"}", "a{x_$label=\"x\"}"),
            ("a{b=$value}", "a{b=\"$value\"}"),
            ("a{b=~${value:doublequote}}", "a{b=~\"$value\"}"),
            ("a{b$op\"c\"}", "a{b=\"c\"}"),
            ("a{$selector}", "a{a=\"b\",c=~\"d\"}"),
            // Strings.
            ("a{b=\"$x\",c=~\"${y:regex}\",d=\"[[z]]\"}", "a{b=\"$x\",c=~\"$y\",d=\"$z\"}"),
            ("a{b=~\"x$\",c=~\"[[:alpha:]]+\"}", "a{b=~\"x$\",c=~\"[[:alpha:]]+\"}"),
            (
                "label_replace(a, \"b\", \"$1${2}\", \"c\", \"(.*)-$x\")",
                "label_replace(a, \"b\", \"$1${2}\", \"c\", \"(.*)-$x\")",
            ),
            ("a{b=\"\\\"$x\"} # isn't $y\n> $z", "a{b=\"\\\"$x\"} > 5"),
            // Labels, names, functions, operators.
            ("sum by ($group, b) (a)", "sum by ($group, b) (a)"),
            ("a / on(${on:csv}) group_left($more) b", "a / on ($on) group_left ($more) b"),
            ("rate(${prefix}_total[5m])", "rate($prefix_total[5m])"),
            ("vmi_${kind}_bytes{b=\"c\"}", "vmi_$kind_bytes{b=\"c\"}"),
            ("$metric{b=\"c\"}", "$metric{b=\"c\"}"),
            ("sum(rate($metric[5m]))", "sum(rate($metric[5m]))"),
            ("sum($metric) by (b)", "sum by (b) ($metric)"),
            ("$aggregation(a)", "sum(a)"),
            ("$aggregation by (b) (a)", "sum by (b) (a)"),
            ("${function}(a[5m])", "rate(a[5m])"),
            ("a $op b", "a == b"),
            ("sum(a) $grouping", "sum by ($grouping) (a)"),
            ("a_[[part]]:sum", "a_$part:sum"),
        ] {
            assert_eq!(read(expression).as_deref(), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_no_value_makes_promql_is_not_read() {
        for expression in ["sum(a{$x)", "a $x b $y c $z d", "rate(a[$x)", "a b $x", "{{ $x }}"] {
            let why = read(expression).unwrap_err();
            assert!(why.starts_with("no value of its variables makes it PromQL: "), "{expression}: {why}");
            assert!(!has_placeholder(&why), "{why}");
        }
        // Rules have no variables.
        assert!(parse("a{$x}", None).is_err());
        assert!(read("sum(").is_err_and(|why| !why.contains("variables")));
        let many: String = (0..60).map(|number| format!("a {{ $v{number} ")).collect();
        assert!(read(&many).is_err());
    }

    #[test]
    fn names_with_variables_are_patterns() {
        let known = Variables(BTreeMap::from([("kind".to_owned(), vec!["memory".to_owned(), "cpu".to_owned()])]));
        for (expression, fits, does_not) in [
            ("vmi_${part}_bytes", Some("vmi_memory_bytes"), "vmi_memory"),
            ("vmi_${kind}_bytes", Some("vmi_cpu_bytes"), "vmi_disk_bytes"),
            ("${kind}", Some("cpu"), "disk"),
            ("${metric}{a=\"b\"}", None, ""),
        ] {
            let parsed = parse(expression, Some(&known)).unwrap();
            let Expr::VectorSelector(selector) = &parsed.expression else { panic!("{expression}") };
            let pattern = parsed.held.pattern(selector.name.as_deref().unwrap_or_default());
            assert_eq!(
                pattern.as_ref().map(|pattern| pattern.is_match(fits.unwrap_or_default())),
                fits.map(|_| true),
                "{expression}"
            );
            assert!(pattern.is_none_or(|pattern| !pattern.is_match(does_not)), "{expression}");
        }
    }
}
