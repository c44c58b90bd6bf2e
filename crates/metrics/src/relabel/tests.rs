//! Actions by table, and what holds for every set of labels.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Names, Rule, relabel};
use crate::series::Labels;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn rules(rules: &Value) -> Vec<Rule> {
    Rule::read_all(rules, Names::Utf8).unwrap()
}

/// What comes of `a=foo, b=bar, c=baz, __d=x-y`, as `name=value` with spaces between; `-` when it is dropped.
fn of(rule: Value) -> String {
    let start = labels(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("__d", "x-y")]);
    match relabel(&start, &rules(&json!([rule]))) {
        Ok(labels) => labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
        Err(_) => "-".to_owned(),
    }
}

#[test]
fn actions() {
    let same = "__d=x-y a=foo b=bar c=baz";
    for (rule, expected) in [
        (
            json!({"source_labels": ["a"], "regex": "f(.*)", "target_label": "d", "replacement": "ch${1}-ch${1}"}),
            "__d=x-y a=foo b=bar c=baz d=choo-choo",
        ),
        // No match, no change; the expression must match the whole value.
        (json!({"source_labels": ["a"], "regex": "fo", "target_label": "d"}), same),
        (json!({"source_labels": ["a", "b"], "target_label": "d"}), "__d=x-y a=foo b=bar c=baz d=foo;bar"),
        (json!({"source_labels": ["a", "b"], "separator": "", "target_label": "d"}), "__d=x-y a=foo b=bar c=baz d=foobar"),
        (json!({"target_label": "d", "replacement": "static"}), "__d=x-y a=foo b=bar c=baz d=static"),
        // A group that is none is empty, and an empty value removes the label.
        (json!({"source_labels": ["a"], "regex": "f(.*)", "target_label": "b", "replacement": "$1x"}), "__d=x-y a=foo c=baz"),
        (json!({"source_labels": ["nothing"], "target_label": "b"}), "__d=x-y a=foo c=baz"),
        (
            json!({"source_labels": ["a"], "regex": "(f)(oo)", "target_label": "${1}_$2", "replacement": "v$$"}),
            "__d=x-y a=foo b=bar c=baz f_oo=v$",
        ),
        (json!({"action": "keep", "source_labels": ["a"], "regex": "foo"}), same),
        (json!({"action": "keep", "source_labels": ["a"], "regex": "bar"}), "-"),
        (json!({"action": "Drop", "source_labels": ["a"], "regex": ".*o"}), "-"),
        (json!({"action": "drop", "source_labels": ["nothing"], "regex": ""}), "-"),
        (json!({"action": "keepequal", "source_labels": ["a"], "target_label": "b"}), "-"),
        (json!({"action": "dropequal", "source_labels": ["a"], "target_label": "b"}), same),
        (json!({"action": "dropequal", "source_labels": ["nothing"], "target_label": "nobody"}), "-"),
        // The last eight bytes of the MD5 of "foo", modulo 1000.
        (
            json!({"action": "hashmod", "source_labels": ["a"], "modulus": 1000, "target_label": "d"}),
            "__d=x-y a=foo b=bar c=baz d=696",
        ),
        (json!({"action": "labelmap", "regex": "(a|b)", "replacement": "${1}_2"}), "__d=x-y a=foo a_2=foo b=bar b_2=bar c=baz"),
        (json!({"action": "labelmap", "regex": "__(.+)"}), "__d=x-y a=foo b=bar c=baz d=x-y"),
        (json!({"action": "labeldrop", "regex": "[ab]"}), "__d=x-y c=baz"),
        (json!({"action": "labelkeep", "regex": "[ab]"}), "a=foo b=bar"),
        (json!({"action": "uppercase", "source_labels": ["__d"], "target_label": "a"}), "__d=x-y a=X-Y b=bar c=baz"),
        (json!({"action": "lowercase", "source_labels": ["a"], "target_label": "e"}), "__d=x-y a=foo b=bar c=baz e=foo"),
    ] {
        assert_eq!(of(rule.clone()), expected, "{rule}");
    }
}

#[test]
fn names_depend_on_the_version() {
    let rule = json!({"source_labels": ["a"], "target_label": "$1", "replacement": "v"});
    let start = labels(&[("a", "x-y")]);
    for (version, expected) in [("2.53.3", labels(&[("a", "x-y")])), ("v3.5.0", labels(&[("a", "x-y"), ("x-y", "v")]))] {
        let rule = Rule::read(&rule, Names::of_version(version)).unwrap();
        assert_eq!(relabel(&start, &[rule]).unwrap(), expected, "{version}");
    }
}

#[test]
fn the_rule_that_drops_is_named_with_what_it_saw() {
    let list = rules(&json!([
        {"source_labels": ["a"], "target_label": "b"},
        {"action": "keep", "source_labels": ["b", "c"], "regex": "x;y"},
        {"action": "labeldrop", "regex": ".*"},
    ]));
    let dropped = relabel(&labels(&[("a", "x")]), &list).unwrap_err();
    assert_eq!((dropped.index, dropped.value.as_str()), (1, "x;"));
    assert_eq!(dropped.read_by(&list[1]), labels(&[("b", "x"), ("c", "")]));
    assert_eq!(list[1].describe(), r#"keep source_labels=[b, c] regex="x;y""#);
}

#[test]
fn rules_that_prometheus_does_not_load() {
    for (rule, expected) in [
        (json!({"action": "bend"}), "unknown relabel action"),
        (json!({"regex": "(", "target_label": "a"}), "does not compile"),
        (json!({"source_labels": ["a"]}), "requires 'target_label'"),
        (json!({"action": "hashmod", "target_label": "a"}), "non-zero modulus"),
    ] {
        let error = Rule::read(&rule, Names::Utf8).unwrap_err().to_string();
        assert!(error.contains(expected), "{rule}: {error}");
    }
}

fn any_labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("[a-d_]{1,3}", "[a-zA-Z0-9;ßİ.]{1,4}", 0..6)
}

proptest! {
    #[test]
    fn what_keep_keeps_drop_drops(start in any_labels(), source in "[a-d]", regex in "[a-z.]{0,3}") {
        let rule = |action: &str| rules(&json!([{"action": action, "source_labels": [source], "regex": regex}]));
        prop_assert_eq!(relabel(&start, &rule("keep")).is_ok(), relabel(&start, &rule("drop")).is_err());
    }

    #[test]
    fn labeldrop_and_labelkeep_divide_the_labels(start in any_labels(), regex in "[a-d.]{1,3}") {
        let one = |action: &str| relabel(&start, &rules(&json!([{"action": action, "regex": regex}]))).unwrap();
        let (mut kept, left) = (one("labelkeep"), one("labeldrop"));
        prop_assert_eq!(kept.len() + left.len(), start.len());
        kept.extend(left);
        prop_assert_eq!(kept, start);
    }

    #[test]
    fn hashes_stay_below_the_modulus(start in any_labels(), modulus in 1u64..50) {
        let rule = rules(&json!([{"action": "hashmod", "source_labels": ["a", "b"], "modulus": modulus, "target_label": "h"}]));
        let hash: u64 = relabel(&start, &rule).unwrap()["h"].parse().unwrap();
        prop_assert!(hash < modulus);
    }

    #[test]
    fn no_label_is_empty(start in any_labels(), regex in "[a-d.*()]{0,5}", replacement in "[$a-c{}1]{0,4}") {
        let rule = json!({"source_labels": ["a"], "target_label": "b", "regex": regex, "replacement": replacement});
        if let Ok(rule) = Rule::read(&rule, Names::Utf8) {
            let made = relabel(&start, &[rule]).unwrap();
            prop_assert!(made.values().all(|value| !value.is_empty()));
        }
    }
}
