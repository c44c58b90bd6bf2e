//! A unit-test file as promtool is given it: with other rule files, and with as many annotations as are compared.
//!
//! promtool compares all annotations or fails, and those of the simulated releases are worded by this project. So annotations that
//! are not compared are taken out on both sides. The text of the file is changed in place and keeps its lines: promtool names lines where
//! it cannot read a file, and a file that is read and written again would lose scalars such as `values: 0x10`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clap::ValueEnum;
use regex::Regex;
use serde::Serialize;
use serde_json::Value;
use wire::yaml::{Places, YamlError};

/// The annotation that is the same here and upstream.
const RUNBOOK: &str = "runbook_url";

/// Which annotations are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Annotations {
    /// None.
    None,
    /// `runbook_url` and no other.
    Runbooks,
    /// All, as promtool does by itself.
    All,
}

/// A unit-test file that could be read.
pub(super) struct TestFile {
    text: String,
    document: Value,
    places: Places,
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// The byte at a line and a column, both from 1 and counted in characters.
fn offset(text: &str, (line, column): (usize, usize)) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let (at, _) = text[start..].char_indices().nth(column.checked_sub(1)?)?;
    Some(start + at)
}

/// The end of a flow collection that begins at a byte.
fn flow_end(text: &str, start: usize) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    let mut letters = text[start..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some('"'), '\\') => {
                letters.next();
            }
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth = depth.checked_sub(1)?,
            (None, _) => {}
        }
        if quote.is_none() && depth == 0 {
            return Some(start + at + letter.len_utf8());
        }
    }
    None
}

/// The end of what stands below a key in block style: the lines that are indented deeper, or that list something at its own indent.
fn block_end(text: &str, key: usize, column: usize) -> usize {
    let first = text[key..].find('\n').map_or(text.len(), |end| key + end + 1);
    let mut end = first;
    let mut at = first;
    for line in text[first..].split_inclusive('\n') {
        at += line.len();
        let (body, indent) = (line.trim(), line.len() - line.trim_start_matches(' ').len());
        let is_below = indent + 1 > column || (indent + 1 == column && (body == "-" || body.starts_with("- ")));
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        if !is_below {
            break;
        }
        end = at;
    }
    end
}

impl TestFile {
    /// Reads a file; only the first document counts, as promtool reads it.
    pub(super) fn read(text: String) -> Result<Self, YamlError> {
        let (document, places) = wire::yaml::first_placed(&text)?;
        Ok(Self { text, document, places })
    }

    /// How many expectations there are.
    pub(super) fn cases(&self) -> usize {
        list(&self.document, "tests")
            .map(|test| list(test, "alert_rule_test").count() + list(test, "promql_expr_test").count())
            .sum()
    }

    /// The annotations that are expected, each as a JSON pointer and what it points at.
    fn annotations(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        for (test, of_test) in list(&self.document, "tests").enumerate() {
            for (case, of_case) in list(of_test, "alert_rule_test").enumerate() {
                for (alert, expected) in list(of_case, "exp_alerts").enumerate() {
                    if let Some(annotations) = expected.get("exp_annotations") {
                        found.push((
                            format!("/tests/{test}/alert_rule_test/{case}/exp_alerts/{alert}/exp_annotations"),
                            annotations,
                        ));
                    }
                }
            }
        }
        found
    }

    /// Whether an alert is expected to name its runbook: then each is, since promtool compares all annotations.
    pub(super) fn names_runbooks(&self) -> bool {
        self.annotations().iter().any(|(_, annotations)| annotations[RUNBOOK].is_string())
    }

    /// The namespace that most series of KubeVirt's components have.
    pub(super) fn namespace(&self) -> Option<String> {
        static LABEL: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r#"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:"([^"]*)"|'([^']*)')"#).expect("a constant expression")
        });
        let is_component = |value: &str| {
            ["virt-api", "virt-controller", "virt-handler", "virt-operator"].iter().any(|component| value.starts_with(component))
        };
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for series in list(&self.document, "tests").flat_map(|test| list(test, "input_series")) {
            let text = series["series"].as_str().unwrap_or_default();
            let labels: BTreeMap<&str, &str> = LABEL
                .captures_iter(text)
                .filter_map(|found| Some((found.get(1)?.as_str(), found.get(2).or(found.get(3))?.as_str())))
                .collect();
            let of_component =
                ["pod", "deployment", "daemonset"].iter().any(|label| labels.get(label).is_some_and(|value| is_component(value)));
            // What virt-controller and virt-handler show of a machine has the machine's namespace.
            let of_machine = text.starts_with("kubevirt_vm");
            if let Some(namespace) = labels.get("namespace").filter(|_| of_component && !of_machine) {
                *counts.entry((*namespace).to_owned()).or_default() += 1;
            }
        }
        let most = counts.values().max().copied()?;
        counts.into_iter().find(|(_, count)| *count == most).map(|(namespace, _)| namespace)
    }

    /// Puts another value where a key has one; the text keeps its lines.
    fn replaced(&self, text: &mut String, pointer: &str, value: &str) -> Option<()> {
        let key_at = self.places.key_at(pointer)?;
        let (key, at) = (offset(text, key_at)?, offset(text, self.places.at(pointer)?)?);
        let first = text[at..].chars().next()?;
        let (start, end) = match first {
            '{' | '[' => (at, flow_end(text, at)?),
            // An alias, such as *runbooks.
            '*' => (at, at + text[at..].find([' ', ',', '}', ']', '\r', '\n']).unwrap_or(text.len() - at)),
            _ => (key + text[key..].find(':')? + 1, block_end(text, key, key_at.1)),
        };
        let lines = text[start..end].matches('\n').count();
        // The value stands on the first line, the others are left empty.
        text.replace_range(start..end, &format!(" {value}{}", "\n".repeat(lines)));
        Some(())
    }

    /// The text that promtool is given. Nothing where the file is written in a way that cannot be changed in place.
    pub(super) fn prepared(&self, rule_files: &[String], kept: Annotations) -> Option<String> {
        let mut text = self.text.clone();
        let mut edits: Vec<(String, String)> = Vec::new();
        for (pointer, annotations) in self.annotations().into_iter().filter(|_| kept != Annotations::All) {
            let runbook = annotations.get(RUNBOOK).filter(|_| kept == Annotations::Runbooks);
            edits.push((pointer, runbook.map_or_else(|| "{}".to_owned(), |url| format!("{{{RUNBOOK}: {url}}}"))));
        }
        let files = serde_json::to_string(rule_files).ok()?;
        let has_files = self.document.get("rule_files").is_some();
        if has_files {
            edits.push(("/rule_files".to_owned(), files.clone()));
        }
        // From the end to the start: no change moves what is still to be changed.
        edits.sort_by_key(|(pointer, _)| std::cmp::Reverse(self.places.key_at(pointer)));
        for (pointer, value) in &edits {
            self.replaced(&mut text, pointer, value)?;
        }
        if !has_files {
            let at = offset(&text, self.places.at("")?)?;
            match text[at..].chars().next()? {
                '{' => text.insert_str(at + 1, &format!("\"rule_files\": {files}, ")),
                _ => text.push_str(&format!("\nrule_files: {files}\n")),
            }
        }
        // What was changed must still mean the same; a file that does not is one of a kind that nobody thought of.
        let mut expected = self.document.clone();
        expected["rule_files"] = serde_json::json!(rule_files);
        for (pointer, annotations) in self.annotations() {
            let runbook = annotations.get(RUNBOOK).filter(|_| kept == Annotations::Runbooks);
            let value = runbook.map_or_else(|| serde_json::json!({}), |url| serde_json::json!({RUNBOOK: url}));
            if kept != Annotations::All
                && let Some(place) = expected.pointer_mut(&pointer)
            {
                *place = value;
            }
        }
        let read = wire::yaml::first_placed(&text).ok()?.0;
        (read == expected).then_some(text)
    }
}

/// Groups of rules with as many annotations as are compared.
pub(super) fn rules(mut groups: Value, kept: Annotations) -> Value {
    for rule in groups.as_array_mut().into_iter().flatten().flat_map(|group| group["rules"].as_array_mut().into_iter().flatten())
    {
        let Some(annotations) = rule.get_mut("annotations").and_then(Value::as_object_mut) else { continue };
        annotations.retain(|name, _| match kept {
            Annotations::None => false,
            Annotations::Runbooks => name == RUNBOOK,
            Annotations::All => true,
        });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# a test\nrule_files:\n- a.yaml\n- b.yaml\nevaluation_interval: 1m\ntests:\n  - input_series:\n      - {series: 'up{pod=\"virt-api-1\",namespace=\"ci\"}', values: 0x10}\n      - {series: 'kubevirt_vmi_info{pod=\"virt-controller-1\",namespace=\"a\"}', values: 1}\n      - {series: 'kubevirt_vmi_info{pod=\"virt-controller-1\",namespace=\"a\"}', values: 1}\n    alert_rule_test:\n      - eval_time: 5m\n        alertname: A\n        exp_alerts:\n          - exp_annotations:\n              summary: \"a: { b\"\n              # why\n              runbook_url: \"https://r/A\"\n            exp_labels:\n              severity: x\n          - exp_labels: {a: b}\n            exp_annotations: {summary: 'it''s }', runbook_url: https://r/A}\n";

    #[test]
    fn annotations_that_are_not_compared_go_and_lines_stay() {
        let file = TestFile::read(BLOCK.to_owned()).unwrap();
        assert_eq!((file.cases(), file.names_runbooks(), file.namespace().as_deref()), (1, true, Some("ci")));
        for (kept, expected) in [
            (Annotations::None, ["exp_annotations: {}", "exp_annotations:  {}"]),
            (
                Annotations::Runbooks,
                ["exp_annotations: {runbook_url: \"https://r/A\"}", "exp_annotations:  {runbook_url: \"https://r/A\"}"],
            ),
            (Annotations::All, ["- exp_annotations:\n", "exp_annotations: {summary: 'it''s }'"]),
        ] {
            let text = file.prepared(&["/r.json".to_owned()], kept).unwrap();
            assert!(text.contains("rule_files: [\"/r.json\"]\n") && text.contains("values: 0x10"), "{text}");
            assert!(expected.iter().all(|part| text.contains(part)), "{kept:?}: {text}");
            let line = |text: &str, word: &str| text.lines().position(|line| line.contains(word));
            for word in ["evaluation_interval", "alertname: A", "severity: x", "a: b"] {
                assert_eq!(line(&text, word), line(BLOCK, word), "{word}: {text}");
            }
        }
    }

    #[test]
    fn other_ways_to_write_a_file() {
        for (text, expected) in [
            ("tests: []\n", Some("tests: []\n\nrule_files: [\"r\"]\n")),
            ("{\"tests\": []}", Some("{\"rule_files\": [\"r\"], \"tests\": []}")),
            ("rule_files: [a,\n  b]\ntests: []\n", Some("rule_files:  [\"r\"]\n\ntests: []\n")),
            (
                "tests:\n- alert_rule_test:\n  - exp_alerts: [{exp_annotations: &a {summary: x}}, {exp_annotations: *a}]\nrule_files: []\n",
                None,
            ),
        ] {
            let file = TestFile::read(text.to_owned()).unwrap();
            let prepared = file.prepared(&["r".to_owned()], Annotations::None);
            match expected {
                Some(expected) => assert_eq!(prepared.as_deref(), Some(expected), "{text}"),
                None => assert!(prepared.is_none_or(|text| text.contains("rule_files:  [\"r\"]")), "{text}"),
            }
        }
        assert!(TestFile::read("tests: [\n".to_owned()).is_err());
    }

    #[test]
    fn rules_keep_what_is_compared() {
        let groups = serde_json::json!([{"name": "g", "rules": [{"alert": "A", "expr": "a", "annotations": {"summary": "s", "runbook_url": "u"}}]}]);
        for (kept, expected) in [
            (Annotations::None, serde_json::json!({})),
            (Annotations::Runbooks, serde_json::json!({"runbook_url": "u"})),
            (Annotations::All, serde_json::json!({"summary": "s", "runbook_url": "u"})),
        ] {
            assert_eq!(rules(groups.clone(), kept)[0]["rules"][0]["annotations"], expected);
        }
    }
}
