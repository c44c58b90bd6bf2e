//! Pages of metrics in normal form, beside promtool; and pages of many virtual machines.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::server;

/// Series of the large page, and of the one that promtool reads.
const SERIES: u32 = 1_000_000;
const FEW: u32 = 20_000;

/// `contract record` of a million series, and promtool's check of fewer.
pub(super) fn run(root: &Path) -> Result<String> {
    let file = root.join("target/bench-page.txt");
    let path = file.to_string_lossy().into_owned();
    let measured = |count: u32| -> Result<std::collections::BTreeMap<String, f64>> {
        server::client("metrics", "record", &["--write", &path, &count.to_string()])?;
        server::client("metrics", "record", &[&path])
    };
    let mut runs = vec![measured(SERIES)?];
    for _ in 0..4 {
        runs.push(server::client("metrics", "record", &[&path])?);
    }
    let of = |name: &str| {
        let mut values: Vec<f64> = runs.iter().map(|run| run.get(name).copied().unwrap_or_default()).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let few = measured(FEW)?;
    let promtool = promtool(&file);
    std::fs::remove_file(&file).context("the page is there")?;
    let beside = match promtool {
        Some(seconds) => {
            let ours = few.get("all_s").copied().unwrap_or_default();
            format!(
                "| {FEW} series, {:.0} MB: all of it | {ours:.3} s | `promtool check metrics`: {seconds:.2} s |\n",
                few["page_mb"]
            )
        }
        None => {
            "\npromtool is not in PATH or LAB_PROMTOOL, or did not read the page, and was not measured beside it.\n".to_owned()
        }
    };
    Ok(format!(
        "`cargo xtask bench record`: one core, medians of 5; a page of {SERIES} series, {:.0} MB.\n\n| what | measured | wanted |\n|---|---|---|\n\
         | reading and normal form | {:.0} MB/s | at least 200 MB/s |\n| all of it, file and text included | {:.2} s | at most 3 s |\n\
         | peak memory | {:.0} MB | at most 600 MB |\n{beside}",
        of("page_mb"),
        of("read_mb_s"),
        of("all_s"),
        of("peak_mb"),
    ))
}

fn promtool(page: &Path) -> Option<f64> {
    let program = std::env::var_os("LAB_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let input = std::fs::File::open(page).ok()?;
    let began = Instant::now();
    let mut command = Command::new(program);
    // Not `--lint=none`, which old ones do not know: what it finds is told by 3, what it cannot read or do by 1.
    command.args(["check", "metrics"]).stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().ok()?;
    matches!(status.code(), Some(0 | 3)).then(|| began.elapsed().as_secs_f64())
}

/// Ten thousand VMs, and two hundred.
pub(super) fn vms() -> Result<String> {
    let many = server::client("lab", "vms", &["10000"])?;
    let few = server::client("lab", "vms", &["200"])?;
    let of = |from: &std::collections::BTreeMap<String, f64>, name: &str| from.get(name).copied().unwrap_or_default();
    Ok(format!(
        "`cargo xtask bench vms`: a lab without Prometheus, release build, two cores; scrapes over TLS, medians of 9.\n\n\
         | what | measured | wanted |\n|---|---|---|\n\
         | 10,000 VMs: memory of the whole lab | {:.0} MB (empty {:.0} MB) | at most 1,024 MB |\n\
         | scrape of virt-controller (both replicas), {:.0} MB | {:.0} ms | at most 200 ms |\n\
         | until all of them run, at the clients\' own 200 requests a second | {:.0} s | |\n\
         | 200 VMs: scrape of virt-handler, {:.2} MB | {:.1} ms | at most 50 ms |\n",
        of(&many, "full_mb"),
        of(&many, "empty_mb"),
        of(&many, "controller_page_mb"),
        of(&many, "controller_ms"),
        of(&many, "running_s"),
        of(&few, "handler_page_mb"),
        of(&few, "handler_ms"),
    ))
}
