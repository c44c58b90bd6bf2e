//! Every scenario file is a test on every release that it names; its snapshots lie in `snapshots/` under the same stem. Files
//! that are wrong are held against what is said about them.

use lab::scenarios::{self, Job};
use libtest_mimic::{Failed, Trial};

use crate::bench::{Folder, block_on, completed, prometheus, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial("malformed scenarios are refused with file, line and column", malformed)];
    trials.push(trial("no snapshot is left without its scenario", unreferenced));
    trials.push(trial("a run that is asked to end writes what is known and leaves nothing", terminated));
    trials.push(trial("exit code, JUnit and summary agree on a run that fails and on one that differs", verdicts));
    trials.push(trial("scenario mutate finds a line on which nothing depends", mutants));
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

/// A scenario of one file in a folder.
fn written(folder: &Folder, name: &str, text: &str) -> anyhow::Result<String> {
    let path = folder.path().join(name);
    std::fs::write(&path, text)?;
    Ok(path.to_string_lossy().into_owned())
}

fn terminated() -> anyhow::Result<()> {
    prometheus()?;
    let folder = Folder::new()?;
    let text = "description: it waits for what never comes\ngiven: {stack: none}\nsteps:\n  - wait: {up: true}\n\
                \x20 - wait: {object: {resource: namespaces, name: never}, within: 1h}\n";
    let (file, junit) = (written(&folder, "endless.yaml", text)?, folder.path().join("junit.xml"));
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary)?;
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_lab-e2e"))
        .args(["scenario", "run", &file, "--offline", "--output", "json", "--junit"])
        .arg(&junit)
        .env("TMPDIR", &temporary)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    // The lab has made its folder when it starts; from then on there is something to leave.
    let mut deadline = wire::patience::Deadline::after(std::time::Duration::from_secs(60));
    while std::fs::read_dir(&temporary)?.next().is_none() {
        anyhow::ensure!(!deadline.is_over() && run.try_wait()?.is_none(), "no lab was started");
        std::thread::yield_now();
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.id().try_into()?), nix::sys::signal::Signal::SIGTERM)?;
    let output = run.wait_with_output()?;
    anyhow::ensure!(output.status.code() == Some(143), "{:?}", output.status);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    anyhow::ensure!(document["summary"]["interrupted"] == 1 && document["runs"][0]["verdict"] == "interrupted", "{document}");
    anyhow::ensure!(std::fs::read_to_string(&junit)?.contains("<error"), "JUnit does not say so");
    let left: Vec<_> = std::fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    anyhow::ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn verdicts() -> anyhow::Result<()> {
    prometheus()?;
    let folder = Folder::new()?;
    let text = "description: a log has no such line, and the pages have series\ngiven: {stack: none}\nsteps:\n  - wait: {up: true}\n\
                expect:\n  - logs: {pod: virt-api, contains: [a line that nobody writes]}\n    within: 1s\n";
    let failing = written(&folder, "failing.yaml", text)?;
    let junit = folder.path().join("junit.xml");
    let run = |file: &str| folder.lab(&["scenario", "run", file, "--offline", "--junit", &junit.to_string_lossy()]).output();
    let output = run(&failing)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.code() == Some(3) && said.contains("1 run: 0 passed, 1 failed"), "{said}");
    let xml = std::fs::read_to_string(&junit)?;
    anyhow::ensure!(xml.contains("<failure") && xml.contains("failing.yaml") && xml.contains("line=\"6\""), "{xml}");
    // The same with a pod that is not there: no log is no proof of an absent line.
    let text = text.replace("pod: virt-api", "pod: virt-apis").replace("writes]}", "writes], count: 0}");
    let output = run(&written(&folder, "nobody.yaml", &text)?)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.code() == Some(3) && said.contains("no pod is called virt-apis*"), "{said}");
    // And a fault that meets nothing.
    let text = "description: a fault of a client that is not there\ngiven: {stack: none}\nsteps:\n  - wait: {up: true}\n\
                \x20 - fault: {name: a, match: {client: {pod: nobody-*}}, effect: {reset: {}}}\n";
    let output = run(&written(&folder, "unmet.yaml", text)?)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.code() == Some(3) && said.contains("it decided over no request"), "{said}");
    Ok(())
}

fn mutants() -> anyhow::Result<()> {
    prometheus()?;
    let folder = Folder::new()?;
    // The fault is armed, met, and matters to nothing that is expected.
    let text = "description: a fault that no line is about\ngiven: {stack: none}\nsteps:\n  - wait: {up: true}\n\
                \x20 - fault: {name: idle, match: {client: {pod: virt-handler-*}, verb: list}, effect: {status: {code: 500}}, budget: {first: 1}}\n\
                \x20 - delete: {resource: pods, namespace: \"{namespace}\", labels: kubevirt.io=virt-handler}\n\
                \x20 - wait: {faultSpent: idle}\n  - wait: {up: true}\n\
                expect:\n  - object: {resource: pods, namespace: \"{namespace}\", fields: {metadata.name: virt-handler-*}, count: 1}\n";
    let file = written(&folder, "idle.yaml", text)?;
    let run = |file: &str| folder.lab(&["scenario", "mutate", file, "--offline"]).output();
    let output = run(&file)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.code() == Some(3), "{:?} {said}", output.status);
    anyhow::ensure!(said.contains("idle.yaml:5:5: survived on KubeVirt") && said.contains("without fault \"idle\""), "{said}");
    let reasons = "survivors:\n  - {mutant: '*fault \"idle\"*', reason: it is armed to be seen in the ledger}\n";
    let output = run(&written(&folder, "reason.yaml", &format!("{text}{reasons}"))?)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success() && said.contains("2 survived for a written reason, 0 survived"), "{said}");
    let stale = "survivors:\n  - {mutant: 'nothing like it', reason: none}\n";
    let output = run(&written(&folder, "stale.yaml", &format!("{text}{stale}"))?)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(
        output.status.code() == Some(3) && said.contains("no mutant survives as \"nothing like it\"; remove it"),
        "{said}"
    );
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
