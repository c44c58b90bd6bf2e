//! What is wrong with a manifest that cannot be read, in words that say what to do.

use super::YamlError;
use super::places::{self, BadKey};

/// The error of a reader, better said where it is known what the matter is.
pub(super) fn explained(text: &str, error: YamlError) -> YamlError {
    if let Some(template) = template(text, error.at) {
        return template;
    }
    let bad = places::read(text).ok().and_then(|documents| documents.iter().find_map(places::Places::bad_key));
    bad.map_or(error, |bad| bad_key(&bad))
}

fn bad_key(bad: &BadKey) -> YamlError {
    let at = Some(bad.at).filter(|(line, _)| *line > 0);
    let message = match (&bad.name, bad.before) {
        (Ok(name), Some((line, _))) => format!(
            "key {name:?} is given twice, in line {line} and in line {}; kubectl silently takes the last one: remove one of them",
            bad.at.0
        ),
        (Ok(name), None) => format!("key {name:?} is no key"),
        (Err(what), _) => format!("{what} is no key of an object; kubectl refuses it, too"),
    };
    YamlError { message, at }
}

/// The line in which a template begins that has not been rendered, if that is why a text cannot be read: braces where a value or a line
/// begins are a mapping in YAML, and no template is one.
fn template(text: &str, at: Option<(usize, usize)>) -> Option<YamlError> {
    let last = at.map_or(usize::MAX, |(line, _)| line);
    let candidates = text.lines().enumerate().take(last).filter_map(|(index, line)| Some((index + 1, begins(line)?, line)));
    // The line of the error itself, or the last one before it.
    let (line, column, whole) = candidates.last()?;
    let action = whole[column..].split_once("}}").map_or(whole[column..].trim(), |(action, _)| action).trim();
    let action = if whole[column..].contains("}}") { format!("{action} }}}}") } else { action.to_owned() };
    let of_alert =
        ["$labels", "$value", ".Labels", ".Value", ".CommonLabels", ".CommonAnnotations", ".GroupLabels", ".Alerts", ".Status"]
            .iter()
            .any(|known| action.contains(known));
    // `.Value` is also the beginning of `.Values`.
    let message = if of_alert && !action.contains(".Values") {
        format!("a text that begins with {{{{ must be quoted: write '{action} …' between quotes")
    } else {
        format!(
            "{action} is a template that has not been rendered: render the chart first (helm template), and read what that prints"
        )
    };
    Some(YamlError { message, at: Some((line, column + 1)) })
}

/// Where in a line a template begins as the whole line, or as the beginning of a value or an element.
fn begins(line: &str) -> Option<usize> {
    let content = line.trim_start();
    let indent = line.len() - content.len();
    if content.starts_with("{{") {
        return Some(indent);
    }
    if content.starts_with('#') {
        return None;
    }
    let column = line.find(": {{").map(|at| at + 2).or_else(|| line.find("- {{").map(|at| at + 2))?;
    // Inside quotes it is a text.
    let before = &line[..column];
    let quoted = before.matches('"').count() % 2 == 1 || before.matches('\'').count() % 2 == 1;
    (!quoted).then_some(column)
}

#[cfg(test)]
mod tests {
    use super::super::manifests;

    fn message(text: &str) -> String {
        let error = manifests(text).expect_err(text);
        let (line, column) = error.at.expect(text);
        format!("{line}:{column}: {}", error.message)
    }

    #[test]
    fn a_key_that_comes_twice_is_named_with_both_lines() {
        for (text, expected) in [
            ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "5:3: key \"c\" is given twice, in line 3 and in line 5; kubectl silently"),
            ("a: 1\n---\nlist:\n- x: 1\n  \"x\": 2\n", "5:3: key \"x\" is given twice, in line 4 and in line 5;"),
            ("on: 1\nyes: 2\n", "2:1: key \"true\" is given twice, in line 1 and in line 2;"),
        ] {
            let found = message(text);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn what_is_no_key() {
        for (text, expected) in [
            ("a:\n  ~: v\n", "2:3: null is no key of an object; kubectl refuses it, too"),
            ("18446744073709551615: v\n", "1:1: a number of more than 63 bits is no key of an object; kubectl refuses it, too"),
            ("? [a]\n: v\n", "1:3: a list is no key of an object; kubectl refuses it, too"),
            ("{a: b}: v\n", "1:1: a mapping is no key of an object; kubectl refuses it, too"),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn a_template_is_known_by_its_braces() {
        let render =
            "is a template that has not been rendered: render the chart first (helm template), and read what that prints";
        for (text, expected) in [
            ("kind: A\nspec:\n  interval: {{ .Values.interval }}\n", format!("3:13: {{{{ .Values.interval }}}} {render}")),
            ("{{- if .Values.on }}\nkind: A\n{{- end }}\n", format!("1:1: {{{{- if .Values.on }}}} {render}")),
            (
                "labels:\n  {{- include \"labels\" . | nindent 4 }}\n",
                format!("2:3: {{{{- include \"labels\" . | nindent 4 }}}} {render}"),
            ),
            ("a:\n- {{ .x }}\n- {{ .y }}\n", format!("2:3: {{{{ .x }}}} {render}")),
            (
                "annotations:\n  summary: {{ $labels.pod }} is down\n",
                "2:12: a text that begins with {{ must be quoted: write '{{ $labels.pod }} …' between quotes".to_owned(),
            ),
        ] {
            assert_eq!(message(text), expected);
        }
        // Braces that are no template's fault.
        assert!(!message("a: \"{{ x }}\"\nb: [1\n").contains("template"));
        assert!(manifests("a: 'x {{ .Values.y }}'\nb: {c: {d: 1}}\n").is_ok());
    }
}
