//! Files of rules.

use wire::yaml::Located;

use super::Rule;

/// Reads a file with a list of rules, or a part of it; `file` is its name for messages.
///
/// # Errors
/// The first thing that is wrong, as `FILE:LINE:COLUMN: …`: no YAML, an unknown word, a rule that cannot work, two of one name.
pub fn read_rules(file: &str, text: &str) -> Result<Vec<Rule>, String> {
    Ok(read_located(file, text)?.into_iter().map(|(_, rule)| rule).collect())
}

/// The same, each rule with its place as `FILE:LINE:COLUMN`.
///
/// # Errors
/// See [`read_rules`].
pub fn read_located(file: &str, text: &str) -> Result<Vec<(String, Rule)>, String> {
    let at = |place: Option<(usize, usize)>| {
        let place = place.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        format!("{file}{place}")
    };
    let located: Vec<Located<Rule>> =
        wire::yaml::strict(text).map_err(|error| format!("{}: {}", at(error.at), error.without_place()))?;
    let mut rules: Vec<(String, Rule)> = Vec::new();
    for rule in located {
        let place = at(wire::yaml::place(&rule));
        let rule = rule.value;
        rule.check().map_err(|error| format!("{place}: {error}"))?;
        if rules.iter().any(|(_, other)| other.name == rule.name) {
            return Err(format!("{place}: there are two faults of the name {:?}", rule.name));
        }
        rules.push((place, rule));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_have_their_place() {
        for (text, expected) in [
            (
                "- {name: a, effect: {reset: {}}}\n- {name: a, effect: {pass: {}}}\n",
                "f.yaml:2:3: there are two faults of the name \"a\"",
            ),
            ("- {name: a, effect: {}}\n", "f.yaml:1:21: an effect is required: one of pass, status"),
            ("- name: a\n  effect: {resett: {}}\n", "f.yaml:2:"),
            ("- name: a\n  match: {nthOfClient: 0}\n  effect: {reset: {}}\n", "f.yaml:"),
            ("5\n", "f.yaml:1:1: "),
        ] {
            let error = read_rules("f.yaml", text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(read_rules("f.yaml", "- {name: a, effect: {reset: {}}}\n").unwrap().len(), 1);
    }
}
