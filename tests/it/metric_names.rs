//! Every metric that a release documents is in its data, with that type and a description. `tests/it/metric_names.yaml` has their names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use kubevirt::Release;
use libtest_mimic::Trial;

use crate::bench::{root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("metrics: every release has what it documents", documented)]
}

/// Types that the release's own pages have, by name: of metrics, and nothing of what rules record.
fn known(release: &Release) -> Result<BTreeMap<String, Option<(String, bool)>>> {
    let records = release.rules.keys().map(|key| key.split('/').next().unwrap_or(key));
    let mut known: BTreeMap<_, _> = records.map(|name| (name.to_owned(), None)).collect();
    for component in release.components.values() {
        for family in release.families(component)? {
            let kind = format!("{:?}", family.kind).to_lowercase();
            known.insert(family.name, Some((kind, !family.help.is_empty())));
        }
    }
    Ok(known)
}

fn documented() -> Result<()> {
    type Listed = BTreeMap<String, BTreeMap<String, Vec<String>>>;
    let text = std::fs::read_to_string(root().join("tests/it/metric_names.yaml"))?;
    let listed: Listed = wire::yaml::strict(&text)?;
    let with_rules: BTreeSet<&str> =
        Release::known().into_iter().filter(|tag| Release::load(tag).is_ok_and(|release| !release.rules.is_empty())).collect();
    ensure!(listed.keys().map(String::as_str).collect::<BTreeSet<_>>() == with_rules, "a release with rules is not listed");
    let mut documented: BTreeMap<String, String> = BTreeMap::new();
    let mut missing = Vec::new();
    for tag in Release::in_order().into_iter().filter(|tag| with_rules.contains(tag)) {
        for (kind, names) in listed.get(tag).context("listed above")? {
            for name in names {
                match kind.as_str() {
                    "gone" => {
                        ensure!(documented.remove(name).is_some(), "{tag}: {name} is gone but was not there");
                    }
                    kind => {
                        documented.insert(name.clone(), kind.to_owned());
                    }
                }
            }
        }
        let known = known(&Release::load(tag)?)?;
        for (name, kind) in &documented {
            let is_there = match known.get(name) {
                // What a rule records has no type of its own.
                Some(None) => true,
                Some(Some((found, has_help))) => *has_help && (kind == "untyped" || kind == found),
                None => false,
            };
            if !is_there {
                missing.push(format!("{tag}: {name} ({kind}): {:?}", known.get(name)));
            }
        }
    }
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    ensure!(documented.len() > 150, "only {} metrics are documented", documented.len());
    Ok(())
}
