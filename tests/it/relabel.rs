//! Relabelling, held against the real one: generated rules on generated labels, by promtool and by ours.

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use libtest_mimic::Trial;
use metrics::Labels;
use metrics::relabel::{Names, Rule, relabel};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::bench::{block_on, prometheus, trial};

/// Lists of rules, and sets of labels for each.
const JOBS: usize = 60;
const TARGETS: usize = 12;
/// How many promtools run at a time.
const AT_ONCE: usize = 6;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("relabelling is that of the real Prometheus", same)]
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

fn label() -> impl Strategy<Value = String> {
    one_of(&["a", "b", "c", "__meta_a", "__meta_b", "__tmp_x", "nothing"])
}

fn regex() -> impl Strategy<Value = String> {
    one_of(&[
        "(.*)",
        "",
        "foo",
        "(f)(o+)",
        "foo|bar",
        "[^;]+;.*",
        "(.+);(.+)",
        "(?i)FOO",
        "x.y",
        ".*[0-9]$",
        "(?P<name>b.*)",
        "\\d+",
        "ba(r|z)?",
    ])
}

/// A rule that Prometheus loads. Two labels are never mapped to one name: which of them wins is not said anywhere.
fn rule() -> impl Strategy<Value = Value> {
    let sources = || prop::collection::vec(label(), 0..3);
    let target = || one_of(&["a", "b", "d", "__tmp_x"]);
    let replacement = one_of(&["$1", "static", "${1}-${2}", "$name", "$1x", "", "$$", "${1}x", "a$", "$0"]);
    let separator = one_of(&[";", "", "--"]);
    prop_oneof![
        4 => (sources(), separator, regex(), target(), replacement).prop_map(|(sources, separator, regex, target, replacement)| {
            json!({"source_labels": sources, "separator": separator, "regex": regex, "target_label": target, "replacement": replacement})
        }),
        1 => (sources(), regex()).prop_map(|(sources, regex)| {
            json!({"source_labels": sources, "regex": regex, "target_label": "${1}_made", "replacement": "v"})
        }),
        1 => (one_of(&["keep", "drop"]), sources(), regex()).prop_map(|(action, sources, regex)| {
            json!({"action": action, "source_labels": sources, "regex": regex})
        }),
        1 => (one_of(&["keepequal", "dropequal"]), label(), target()).prop_map(|(action, source, target)| {
            json!({"action": action, "source_labels": [source], "target_label": target})
        }),
        2 => (sources(), 1u64..1000, target()).prop_map(|(sources, modulus, target)| {
            json!({"action": "hashmod", "source_labels": sources, "modulus": modulus, "target_label": target})
        }),
        1 => one_of(&["__meta_(.+)", "(a|b)", "(.)"]).prop_map(|regex| {
            json!({"action": "labelmap", "regex": regex, "replacement": "m_$1"})
        }),
        1 => one_of(&["a", "[ab]", "__meta_.*", "m_.+"]).prop_map(|regex| json!({"action": "labeldrop", "regex": regex})),
        1 => one_of(&["a|__.+|job", "[b-d]|__[a-z].+"]).prop_map(|regex| json!({"action": "labelkeep", "regex": regex})),
        2 => (one_of(&["lowercase", "uppercase"]), sources(), target()).prop_map(|(action, sources, target)| {
            json!({"action": action, "source_labels": sources, "target_label": target})
        }),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    let value = one_of(&["foo", "bar", "Foo", "baz9", "x.y", "42", "foo;bar", "ÄÖß", "a b"]);
    prop::collection::btree_map(one_of(&["a", "b", "c", "__meta_a", "__meta_b"]), value, 0..5)
}

/// What we say becomes of discovered labels, as far as promtool shows it; nothing when they are dropped.
fn ours(discovered: &Labels, rules: &[Rule]) -> Option<Labels> {
    let mut made = relabel(discovered, rules).ok()?;
    made.retain(|name, _| !name.starts_with("__"));
    let address = discovered.get("__address__").cloned().unwrap_or_default();
    made.entry("instance".to_owned()).or_insert(address);
    Some(made)
}

fn same() -> Result<()> {
    let prometheus = prometheus()?;
    let names = Names::of_version(&prometheus.version);
    let folder = tempfile::tempdir()?;
    let mut runner = TestRunner::deterministic();
    let mut made = |strategy: BoxedStrategy<Value>| -> Result<Value> {
        Ok(strategy.new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?.current())
    };
    let mut jobs = Vec::new();
    for job in 0..JOBS {
        let rules = made(prop::collection::vec(rule(), 1..6).prop_map(Value::Array).boxed())?;
        let mut groups = Vec::new();
        for target in 0..TARGETS {
            let labels = made(labels().prop_map(|labels| json!(labels)).boxed())?;
            groups.push(json!({"targets": [format!("t{target}:80")], "labels": labels}));
        }
        let file = folder.path().join(format!("{job}.json"));
        std::fs::write(&file, json!(groups).to_string())?;
        jobs.push(json!({"job_name": job.to_string(), "file_sd_configs": [{"files": [file]}], "relabel_configs": rules}));
    }
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, json!({"scrape_configs": jobs}).to_string())?;
    let promtool = &prometheus.promtool;
    let config = &config;
    let compared: Vec<usize> = block_on(
        stream::iter(jobs.iter().enumerate())
            .map(|(number, job)| async move {
                let output = tokio::process::Command::new(promtool)
                    .args(["check", "service-discovery", "--timeout", "500ms"])
                    .arg(config)
                    .arg(number.to_string())
                    .output()
                    .await?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let targets: Vec<Value> =
                    serde_json::from_str(&said).with_context(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
                let rules = Rule::read_all(&job["relabel_configs"], names)?;
                for target in &targets {
                    let discovered: Labels = serde_json::from_value(target["discoveredLabels"].clone())?;
                    let theirs: Option<Labels> = serde_json::from_value(target["labels"].clone())?;
                    let theirs = theirs.filter(|labels| !labels.is_empty()).map(|mut labels| {
                        labels.retain(|name, _| !name.starts_with("__"));
                        labels
                    });
                    let ours = ours(&discovered, &rules);
                    ensure!(
                        ours == theirs,
                        "{discovered:?}\nby {:#}\nours {ours:?}\nPrometheus' {theirs:?}",
                        job["relabel_configs"]
                    );
                }
                anyhow::Ok(targets.len())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect(),
    )?;
    let all: usize = compared.iter().sum();
    ensure!(all >= JOBS * TARGETS / 2, "only {all} targets were compared");
    Ok(())
}
