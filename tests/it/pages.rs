//! Pages of the documentation that are made of data and of what commands say. `LAB_WRITE_DOCS=1` writes them anew.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use kubevirt::Release;
use lab::scenarios;
use libtest_mimic::Trial;

use crate::bench::{Folder, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("docs/releases.md is what the commands say", releases),
        trial("docs/regressions.md has every regression", regressions),
    ]
}

/// Holds a page against its file, or writes it.
fn hold(name: &str, page: &str) -> Result<()> {
    let path = root().join("docs").join(name);
    if std::env::var_os("LAB_WRITE_DOCS").is_some() {
        return Ok(std::fs::write(path, page)?);
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(page.lines()).find(|(old, new)| old != new);
    ensure!(
        written == page,
        "docs/{name} is not what there is: {differing:?}; LAB_WRITE_DOCS=1 cargo test --workspace --test it docs/ writes it anew"
    );
    Ok(())
}

fn releases() -> Result<()> {
    let mut page = String::from(
        "# Releases of KubeVirt\n\nWhat the embedded lab simulates, and what differs from one to the next. The data is in `crates/kubevirt/releases/`: the first release \
         whole, each later one by its difference; `schemas/release.schema.json` is their schema, for editors. `cargo xtask lab up --kubevirt RELEASE` runs one; `cargo xtask contract diff A B` tells two apart, \
         and that is where the lists below are from.\n\n`cargo xtask lab releases` lists them, too. Help texts, and summaries and descriptions of alerts, are in our \
         words. What a release's rules do and those of its neighbours do not is in `tests/it/rules/RELEASE.yaml`, a file for promtool that each \
         release is held to; `cargo xtask rules test FILE --kubevirt RELEASE` runs any other. Families are counted with those of Go and the process.\n\n\
         | release | Go | namespace | API | components: families | recording rules | alerts | defined kinds | data compared with |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let tags = Release::in_order();
    for tag in &tags {
        let release = Release::load(tag)?;
        let mut components = Vec::new();
        for (name, component) in &release.components {
            components.push(format!("{name}: {}", release.families(component)?.len()));
        }
        let rules = lab::manifests::rules(&release)?;
        let alerts = rules.values().flatten().filter(|rule| rule.alert).count();
        let records = rules.values().flatten().count() - alerts;
        let api = release.api_version.rsplit('/').next().unwrap_or_default();
        let (go, namespace, kinds) = (&release.go_version, &release.namespace, release.definitions.len());
        let compared = release.compared_with.join(", ");
        writeln!(
            page,
            "| {tag} | {go} | {namespace} | {api} | {} | {records} | {alerts} | {kinds} | {compared} |",
            components.join(", ")
        )?;
    }
    let folder = Folder::new()?;
    for pair in tags.windows(2) {
        let output = folder.lab(&["contract", "diff", pair[0], pair[1], "--format", "markdown"]).output()?;
        ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        page.push('\n');
        page.push_str(&String::from_utf8(output.stdout)?);
    }
    hold("releases.md", &page)
}

fn regressions() -> Result<()> {
    let mut page = String::from(
        "# Regressions\n\nWhat went wrong with the monitoring of KubeVirt, one scenario a file in `scenarios/regressions/`. Each has two variants. The *broken* one has the \
         regression: by a defect that is a switch of the simulation, by an object that is as it was, or by a release. There the expectation that is named must fail, and say \
         what is named. The *mended* one must pass. `cargo xtask scenario run scenarios/regressions` runs them all, each test of them is one of `cargo test`.\n\n\
         To look at one: `cargo xtask scenario run scenarios/regressions/NAME.yaml`.\n",
    );
    let mut count = 0;
    for path in scenarios::files(&root().join("scenarios/regressions")) {
        let loaded = scenarios::load(&path).map_err(|problems| anyhow::anyhow!("{}: {problems:?}", path.display()))?;
        let scenario = &loaded.scenario;
        let (Some(regression), Some(variants)) = (&scenario.regression, &scenario.variants) else {
            anyhow::bail!("{}: a regression names its sources, and has a broken and a mended variant", path.display());
        };
        let (broken, mended) = (&variants.broken, &variants.mended);
        count += 1;
        writeln!(page, "\n## {}\n\n{}\n", loaded.name, scenario.description.split_whitespace().collect::<Vec<_>>().join(" "))?;
        writeln!(page, "- Sources: {}", regression.sources.join(", "))?;
        writeln!(page, "- Symptom: {}", regression.symptom)?;
        writeln!(page, "- Cause: {}", regression.cause)?;
        for (word, variant) in [("Broken", broken), ("Mended", mended)] {
            let mut by = Vec::new();
            by.extend(variant.kubevirt.iter().map(|release| format!("KubeVirt {release}")));
            by.extend(variant.defects.iter().map(|defect| format!("the defect `{defect}`")));
            let steps: Vec<&str> = variant.steps.iter().map(|step| step.value.word()).collect();
            by.extend((!steps.is_empty()).then(|| format!("steps of its own ({})", steps.join(", "))));
            if by.is_empty() {
                by.push(if variant.expect.is_empty() { "nothing is otherwise" } else { "what is expected" }.to_owned());
            }
            writeln!(page, "- {word} by: {}", by.join(", "))?;
        }
        for failing in &broken.fails {
            writeln!(page, "- Fails when broken: `{}`, and the report says `{}`", failing.value.expect, failing.value.says)?;
        }
    }
    writeln!(page, "\n{count} regressions.")?;
    hold("regressions.md", &page)
}
