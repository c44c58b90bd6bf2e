//! What differs between two pages of a million series, of which not one is the same.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

const SERIES: u32 = 1_000_000;

/// A page whose series have a label of this name.
fn write(path: &Path, label: &str) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "# HELP requests_total Requests.\n# TYPE requests_total counter")?;
    for number in 0..SERIES {
        writeln!(
            out,
            "requests_total{{code=\"200\",{label}=\"res-{}\",namespace=\"ns-{}\",pod=\"app-{}\"}} {number}",
            number / 1_000,
            number % 50,
            number % 1_000,
        )?;
    }
    out.flush()?;
    Ok(())
}

/// Runs the program to its end: the seconds that it took, the most memory that it had, in MB, and its exit code.
fn measured(program: &Path, arguments: &[&str]) -> Result<(f64, f64, Option<i32>)> {
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut most = 0.0_f64;
    loop {
        // The kernel keeps the highest value itself, so that looking now and then misses little.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<f64>().ok());
        most = most.max(kilobytes.unwrap_or_default() / 1024.0);
        if let Some(status) = child.try_wait()? {
            return Ok((began.elapsed().as_secs_f64(), most, status.code()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `contract diff` of two pages, and `contract record` of one with the snapshot of the other.
pub(super) fn run(root: &Path) -> Result<String> {
    let program = root.join("target/release/lab");
    let folder = root.join("target/bench-diff");
    std::fs::create_dir_all(&folder)?;
    let (before, after, snapshot) = (folder.join("before.txt"), folder.join("after.txt"), folder.join("series.snap"));
    write(&before, "resource")?;
    write(&after, "kind")?;
    let [before, after, snap] = [&before, &after, &snapshot].map(|path| path.to_string_lossy().into_owned());
    let diff = measured(&program, &["contract", "diff", &before, &after])?;
    ensure!(diff.2 == Some(8), "contract diff ended with {:?}", diff.2);
    let recorded = measured(&program, &["contract", "record", &before, "--snapshot", &snap, "--update"])?;
    ensure!(recorded.2 == Some(0), "contract record --update ended with {:?}", recorded.2);
    let held = measured(&program, &["contract", "record", &after, "--snapshot", &snap])?;
    ensure!(held.2 == Some(4), "contract record ended with {:?}", held.2);
    std::fs::remove_dir_all(&folder).context("the pages are there")?;
    Ok(format!(
        "`cargo xtask bench diff`: two pages of {SERIES} series each, all of them changed; release build, one run.\n\n\
         | what | measured | wanted |\n|---|---|---|\n\
         | `contract diff` of the pages | {:.1} s | at most 10 s |\n| its peak memory | {:.0} MB | at most 1,024 MB |\n\
         | `contract record --snapshot` of one with the snapshot of the other | {:.1} s | at most 10 s |\n\
         | its peak memory | {:.0} MB | at most 1,024 MB |\n",
        diff.0, diff.1, held.0, held.1,
    ))
}
