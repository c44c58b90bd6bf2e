//! Every scenario file is a test on every release that it names; its snapshots lie in `snapshots/` under the same stem. Files
//! that are wrong are held against what is said about them.

use lab::scenarios::{self, Job};
use libtest_mimic::{Failed, Trial};

use crate::bench::{block_on, completed, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial("malformed scenarios are refused with file, line and column", malformed)];
    trials.push(trial("no snapshot is left without its scenario", unreferenced));
    trials.push(trial("scenario files fit the JSON schema that editors have", schema));
    for path in scenarios::files(&root().join("scenarios")) {
        match scenarios::load(&path) {
            Err(problems) => {
                let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                trials.push(Trial::test(format!("scenarios/{}", path.display()), move || Err(Failed::from(text))));
            }
            Ok(loaded) => {
                for job in loaded.jobs() {
                    let name = format!("scenarios/{}", job.title());
                    trials.push(Trial::ignorable_test(name, move || completed(run(&job))).with_kind("embedded"));
                }
            }
        }
    }
    trials
}

fn run(job: &Job) -> anyhow::Result<()> {
    let prometheus = prometheus()?;
    // What there is to see of one that fails.
    let artifacts = std::env::var_os("LAB_ARTIFACTS").map(std::path::PathBuf::from);
    let report = block_on(scenarios::run(job, &prometheus, artifacts.as_deref()));
    anyhow::ensure!(report.passed(), "{report}");
    for snapshot in &report.snapshots {
        hold(&scenarios::snapshot_name(&job.name, &job.release, &snapshot.name), &snapshot.text);
    }
    Ok(())
}

pub(crate) fn hold(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(false);
    settings.bind(|| insta::assert_snapshot!(name.to_owned(), text));
}

fn schema() -> anyhow::Result<()> {
    let schema: serde_json::Value = serde_json::from_slice(&std::fs::read(root().join("schemas/scenario.schema.json"))?)?;
    let validator = jsonschema::validator_for(&schema)?;
    for path in scenarios::files(&root().join("scenarios")) {
        let file: serde_json::Value = wire::yaml::strict(&std::fs::read_to_string(&path)?)?;
        let errors: Vec<String> =
            validator.iter_errors(&file).map(|error| format!("{} {error}", error.instance_path())).collect();
        anyhow::ensure!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
    anyhow::ensure!(!validator.is_valid(&serde_json::json!({"name": "a", "expekt": []})), "an unknown word was taken for good");
    Ok(())
}

fn malformed() -> anyhow::Result<()> {
    let folder = root().join("tests/it/malformed");
    let mut said = String::new();
    for path in scenarios::files(&folder) {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match scenarios::load(&path) {
            Ok(_) => anyhow::bail!("{file} was taken for good"),
            Err(problems) => {
                for problem in problems {
                    said.push_str(&problem.to_string().replace(&format!("{}/", folder.display()), ""));
                    said.push('\n');
                }
            }
        }
    }
    hold("malformed", &said);
    Ok(())
}

fn unreferenced() -> anyhow::Result<()> {
    let mut known = ["malformed", "operator-render", "operator-render-alertmanager"].map(str::to_owned).to_vec();
    for path in scenarios::files(&root().join("scenarios")) {
        if let Ok(loaded) = scenarios::load(&path) {
            for release in loaded.scenario.given.kubevirt.to_run() {
                for snapshot in &loaded.scenario.snapshots {
                    known.push(scenarios::snapshot_name(&loaded.name, release, &snapshot.value.name));
                }
            }
        }
    }
    for entry in std::fs::read_dir(root().join("snapshots"))?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = file.strip_suffix(".snap") {
            anyhow::ensure!(known.iter().any(|one| one == name), "snapshots/{file} belongs to no scenario; remove it");
        }
    }
    Ok(())
}
