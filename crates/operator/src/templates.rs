//! Whether Prometheus could parse the templates of an alert's labels and annotations (`model/rulefmt/rulefmt.go`, `testTemplateParsing`;
//! Go's `text/template`). Only what is certainly wrong is refused: functions and variables that are not there, blocks, parentheses, texts
//! and actions that are not closed.

/// What Prometheus 3.7.3 (`template/template.go`) and Go's templates know by name.
const FUNCTIONS: [&str; 44] = [
    "and",
    "args",
    "call",
    "eq",
    "externalURL",
    "first",
    "ge",
    "graphLink",
    "gt",
    "html",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "index",
    "js",
    "label",
    "le",
    "len",
    "lt",
    "match",
    "ne",
    "not",
    "now",
    "or",
    "parseDuration",
    "pathPrefix",
    "print",
    "printf",
    "println",
    "query",
    "reReplaceAll",
    "safeHtml",
    "slice",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "tmpl",
    "urlquery",
    "value",
];
const MORE_FUNCTIONS: [&str; 4] = ["toDuration", "toLower", "toTime", "toUpper"];

const KEYWORDS: [&str; 6] = ["break", "continue", "nil", "template", "true", "false"];

/// The variables that Prometheus declares.
const VARIABLES: [&str; 4] = ["labels", "externalLabels", "externalURL", "value"];

/// A part of an action.
enum Token<'a> {
    Word(&'a str),
    Variable(&'a str),
    /// `:=`
    Declare,
    Open,
    Close,
}

/// Whether a text is a template that can be parsed.
///
/// # Errors
/// What is wrong, in Go's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let mut declared: Vec<&str> = Vec::new();
    let mut blocks = 0_usize;
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("{{") {
        let inner = behind.strip_prefix("- ").unwrap_or(behind);
        if inner.starts_with("/*") {
            rest = inner.split_once("*/").and_then(|(_, end)| end.split_once("}}")).ok_or("unclosed comment")?.1;
            continue;
        }
        let (tokens, end) = action(behind)?;
        rest = &behind[end..];
        let mut depth = 0_usize;
        for (index, token) in tokens.iter().enumerate() {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.checked_sub(1).ok_or("unexpected right paren")?,
                Token::Declare => {}
                Token::Variable(name) => {
                    // `$i, $x := range` declares both.
                    if tokens[index..].iter().any(|later| matches!(later, Token::Declare)) {
                        declared.push(name);
                    } else if !name.is_empty() && !VARIABLES.contains(name) && !declared.contains(name) {
                        return Err(format!("undefined variable \"${name}\""));
                    }
                }
                Token::Word(word) => match *word {
                    "if" | "range" | "with" | "define" | "block" if index == 0 || matches!(tokens[0], Token::Word("else")) => {
                        blocks += 1
                    }
                    "else" if blocks > 0 => {}
                    "end" => blocks = blocks.checked_sub(1).ok_or("unexpected {{end}}")?,
                    "else" => return Err("unexpected {{else}}".to_owned()),
                    word if KEYWORDS.contains(&word) || FUNCTIONS.contains(&word) || MORE_FUNCTIONS.contains(&word) => {}
                    // A declared variable's range, as in `$x := range query "up"`.
                    "range" | "if" | "with" => blocks += 1,
                    word => return Err(format!("function {word:?} not defined")),
                },
            }
        }
        if depth > 0 {
            return Err("unclosed left paren".to_owned());
        }
        // `{{ else if … }}` goes on with the block that is open.
        if tokens.len() > 1 && matches!(tokens[0], Token::Word("else")) && matches!(tokens[1], Token::Word("if" | "with")) {
            blocks -= 1;
        }
    }
    if blocks > 0 { Err("unexpected EOF".to_owned()) } else { Ok(()) }
}

/// The parts of an action that matter, and where it ends.
fn action(text: &str) -> Result<(Vec<Token<'_>>, usize), String> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    let word_end = |from: usize| {
        let length = text[from..].find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        length.map_or(text.len(), |length| from + length)
    };
    while at < bytes.len() {
        let letter = text[at..].chars().next().unwrap_or(' ');
        match letter {
            '}' if text[at..].starts_with("}}") => return Ok((tokens, at + 2)),
            '"' | '\'' => {
                let mut end = at + 1;
                loop {
                    match bytes.get(end) {
                        None | Some(b'\n') => return Err("unterminated quoted string".to_owned()),
                        Some(b'\\') => end += 2,
                        Some(byte) if *byte == bytes[at] => break,
                        Some(_) => end += 1,
                    }
                }
                at = end + 1;
            }
            '`' => at += 2 + text[at + 1..].find('`').ok_or("unterminated raw quoted string")?,
            '(' | ')' => {
                tokens.push(if letter == '(' { Token::Open } else { Token::Close });
                at += 1;
            }
            ':' if text[at..].starts_with(":=") => {
                tokens.push(Token::Declare);
                at += 2;
            }
            '$' => {
                let end = word_end(at + 1);
                tokens.push(Token::Variable(&text[at + 1..end]));
                at = end;
            }
            // Fields, and what is behind the point of a number.
            '.' => at = word_end(at + 1),
            '0'..='9' => at = word_end(at),
            _ if letter.is_alphabetic() || letter == '_' => {
                let end = word_end(at);
                tokens.push(Token::Word(&text[at..end]));
                at = end;
            }
            _ => at += letter.len_utf8(),
        }
    }
    Err("unclosed action".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_parsed() {
        for text in [
            "",
            "no template { } }}",
            "{{ $value | humanize }} of {{ $labels.pod }} at {{ .Value }}",
            "{{ if gt $value 5.0 }}a{{ else if eq $labels.x \"}} end\" }}b{{ else }}c{{ end }}",
            "{{ range query \"up\" }}{{ .Labels.instance }}{{ end }}",
            "{{ range $i, $x := query `up` }}{{ $x.Value }}{{ $i }}{{ end }}",
            "{{ with $x := first (query \"up\") }}{{ $x | value | printf \"%.2f\" }}{{ end }}",
            "{{- /* a comment with foo */ -}}{{- toUpper \"a\\\"b\" -}}",
            "{{ define \"a\" }}x{{ end }}{{ template \"a\" . }}{{ 1e3 }}{{ $ }}{{ true }}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_cannot() {
        for (text, expected) in [
            ("{{ $value", "unclosed action"),
            ("{{ humanise $value }}", "function \"humanise\" not defined"),
            ("{{ $value | toFixed 2 }}", "function \"toFixed\" not defined"),
            ("{{ $label.pod }}", "undefined variable \"$label\""),
            ("{{ if $value }}x", "unexpected EOF"),
            ("x{{ end }}", "unexpected {{end}}"),
            ("{{ else }}", "unexpected {{else}}"),
            ("{{ (len $labels }}", "unclosed left paren"),
            ("{{ len $labels) }}", "unexpected right paren"),
            ("{{ \"a }}", "unterminated quoted string"),
            ("{{/* x }}", "unclosed comment"),
        ] {
            assert_eq!(check(text), Err(expected.to_owned()), "{text}");
        }
    }
}
