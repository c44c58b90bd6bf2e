//! Snapshots as people decide on them: recorded, listed, accepted and rejected, in a terminal and without one.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::bench::{Folder, root, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a snapshot is recorded, reviewed and the same again", reviewed),
        trial("snapshots that no scenario takes are listed", unreferenced),
    ]
}

const PAGE: &str = "kubevirt_vmi_info{name=\"web\",node=\"worker\",vmi_pod=\"virt-launcher-web-x7k2p\"} 1\nup 1\n";

/// Exit code, standard output, standard error.
fn run(folder: &Folder, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = folder.lab(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

struct Recorded {
    folder: Folder,
    page: PathBuf,
    snapshot: PathBuf,
}

impl Recorded {
    fn new() -> Result<Self> {
        let folder = Folder::new()?;
        let (page, snapshot) = (folder.path().join("page.txt"), folder.path().join("snapshots/vms.snap"));
        Ok(Self { folder, page, snapshot })
    }

    fn record(&self, page: &str) -> Result<(Option<i32>, String)> {
        std::fs::write(&self.page, page)?;
        let (page, snapshot) = (self.page.to_string_lossy(), self.snapshot.to_string_lossy());
        let arguments = ["contract", "record", &page, "--metrics", "kubevirt_.*", "--snapshot", &snapshot];
        run(&self.folder, &arguments).map(|(code, _, said)| (code, said))
    }

    fn review(&self, more: &[&str]) -> Result<(Option<i32>, String, String)> {
        let snapshots = self.folder.path().join("snapshots").to_string_lossy().into_owned();
        run(&self.folder, &[&["contract", "review", &snapshots], more].concat())
    }
}

fn reviewed() -> Result<()> {
    let of = Recorded::new()?;
    let pending = of.snapshot.with_extension("snap.new");

    // New: pending, listed, and nothing is decided without a terminal.
    let (code, said) = of.record(PAGE)?;
    ensure!(code == Some(4) && said.contains("does not exist") && pending.exists() && !of.snapshot.exists(), "{code:?} {said}");
    let (code, listed, hint) = of.review(&[])?;
    ensure!(code == Some(4) && listed.ends_with("vms.snap (new, +3 -0)\n") && pending.exists(), "{code:?} {listed}");
    ensure!(hint.starts_with("1 snapshot is pending;"), "{hint}");
    let (code, listed, _) = of.review(&["--output", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    ensure!(
        code == Some(4) && listed[0]["state"] == "new" && listed[0]["source"] == of.page.to_string_lossy().as_ref(),
        "{listed}"
    );

    // Accepted; another run, whose machines made up other names, is the same.
    let (code, said, _) = of.review(&["--accept"])?;
    ensure!(code == Some(0) && said.ends_with("1 accepted, 0 rejected\n") && !pending.exists(), "{code:?} {said}");
    let text = std::fs::read_to_string(&of.snapshot)?;
    ensure!(
        text.ends_with("---\nkubevirt_vmi_info\n  all {name=\"web\",node=\"[node-1]\",vmi_pod=\"virt-launcher-web-*\"}\n  {}\n"),
        "{text}"
    );
    let (code, said) = of.record(&PAGE.replace("worker", "other").replace("x7k2p", "bbbbb"))?;
    ensure!(code == Some(0) && said.contains("is as recorded"), "{code:?} {said}");
    let (code, said, _) = of.review(&[])?;
    ensure!(code == Some(0) && said == "no snapshot is pending\n", "{code:?} {said}");

    // Another: rejected, and the snapshot is what it was.
    let other = PAGE.replace("name=\"web\"", "name=\"web\",phase=\"running\"");
    let (code, said) = of.record(&other)?;
    ensure!(code == Some(4) && said.contains("+   all {name=\"web\",node=\"[node-1]\",phase=\"running\""), "{code:?} {said}");
    let (code, said, _) = of.review(&["--reject"])?;
    ensure!(code == Some(0) && said.ends_with("0 accepted, 1 rejected\n") && !pending.exists(), "{code:?} {said}");
    ensure!(std::fs::read_to_string(&of.snapshot)? == text);

    // What is wrong is said.
    for (arguments, expected) in [
        (&["--accept", "--reject"][..], "cannot be used with"),
        (&["nowhere"], "cannot read nowhere: there is no such file or folder"),
        (&[of.page.to_str().unwrap_or_default()], "expected a folder, FILE.snap or FILE.snap.new"),
    ] {
        let (code, _, said) = of.review(arguments)?;
        ensure!(code == Some(2) && said.contains(expected), "{arguments:?}: {code:?} {said}");
    }
    in_a_terminal(&of, &other)
}

/// `script` (util-linux) gives the program a terminal.
fn in_a_terminal(of: &Recorded, other: &str) -> Result<()> {
    if !Path::new("/usr/bin/script").exists() {
        eprintln!("left out: a review in a terminal, for which there is no `script` here");
        return Ok(());
    }
    of.record(other)?;
    let program = of.folder.lab(&[]).get_program().to_string_lossy().into_owned();
    let snapshots = of.folder.path().join("snapshots").to_string_lossy().into_owned();
    let review = |answers: &str| -> Result<(Option<i32>, String)> {
        let mut command = assert_cmd::Command::new("/usr/bin/script");
        command.args(["-qec", &format!("'{program}' contract review '{snapshots}'"), "/dev/null"]);
        let output = command.env_remove("NO_COLOR").write_stdin(answers).timeout(std::time::Duration::from_secs(60)).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let (code, said) = review("s\n")?;
    ensure!(code == Some(4) && said.contains("1 left pending") && said.contains("\x1b[32m+   all"), "{code:?} {said}");
    let (code, said) = review("a\n")?;
    ensure!(code == Some(0) && said.contains("1 accepted"), "{code:?} {said}");
    ensure!(of.record(other)?.0 == Some(0));
    Ok(())
}

fn unreferenced() -> Result<()> {
    let folder = Folder::new()?;
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let scenarios = root().join("scenarios").to_string_lossy().into_owned();
    std::fs::write(at("blog-error-code@v1.9.0.error-series.snap"), "")?;
    std::fs::write(at("blog-error-code@v1.9.0.gone.snap"), "")?;
    std::fs::write(at("malformed.snap"), "")?;
    let arguments = ["contract", "review", &at(""), "--unreferenced", "--scenarios", &scenarios];
    let (code, said, counts) = run(&folder, &arguments)?;
    ensure!(
        code == Some(4) && said.lines().count() == 1 && said.ends_with("blog-error-code@v1.9.0.gone.snap\n"),
        "{code:?} {said}"
    );
    ensure!(counts.contains("1 snapshot no scenario takes; 1 other is not named"), "{counts}");
    std::fs::remove_file(at("blog-error-code@v1.9.0.gone.snap"))?;
    let (code, said, _) = run(&folder, &arguments)?;
    ensure!(code == Some(0) && said.is_empty(), "{code:?} {said}");
    // A scenario that cannot be read may take any.
    std::fs::write(at("broken.yaml"), "steps: 5\n")?;
    let (code, _, said) = run(&folder, &["contract", "review", &at(""), "--unreferenced", "--scenarios", &at("")])?;
    ensure!(code == Some(2) && said.contains("broken.yaml:1:8"), "{code:?} {said}");
    Ok(())
}
