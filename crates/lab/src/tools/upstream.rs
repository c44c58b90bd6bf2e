//! The upstream release archive, verified against the release's own checksums before anything of it is unpacked.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

/// The version that is fetched: the long-term release of 2025.
const VERSION: &str = "3.5.0";
const BASE: &str = "https://github.com/prometheus/prometheus/releases/download";
/// How long a server may take to answer at all.
const CONNECT: Duration = Duration::from_secs(5);

fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-amd64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "x86_64") => Some("darwin-amd64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// Fetches, verifies and unpacks; the folder with both programs.
pub(crate) async fn fetch(cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let platform = platform().context("there is no release for this system")?;
    let base = std::env::var("LAB_PROMETHEUS_RELEASES").unwrap_or_else(|_| BASE.to_owned());
    let name = format!("prometheus-{VERSION}.{platform}");
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(Duration::from_secs(20)).build()?;
    let sums = get(&client, &format!("{base}/v{VERSION}/sha256sums.txt"), |_, _| {}).await?;
    let sums = String::from_utf8_lossy(&sums).into_owned();
    let archive_name = format!("{name}.tar.gz");
    let expected = sums
        .lines()
        .find_map(|line| {
            line.split_once(char::is_whitespace).filter(|(_, file)| file.trim().trim_start_matches('*') == archive_name)
        })
        .map(|(sum, _)| sum.to_owned())
        .with_context(|| format!("the release has no checksum for {archive_name}"))?;
    let archive = get(&client, &format!("{base}/v{VERSION}/{archive_name}"), |done, total| {
        progress(&match total {
            Some(total) => format!("fetching Prometheus {VERSION}: {} of {} MB", done / 1_000_000, total / 1_000_000),
            None => format!("fetching Prometheus {VERSION}: {} MB", done / 1_000_000),
        });
    })
    .await?;
    let found: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        bail!("{archive_name} has checksum {found}, the release says {expected}; nothing of it was used");
    }
    progress("unpacking Prometheus");
    unpack(&archive, &name, cache)
}

async fn get(client: &reqwest::Client, url: &str, told: impl Fn(u64, Option<u64>)) -> Result<Vec<u8>> {
    let response = client.get(url).send().await.with_context(|| format!("cannot reach {url}"))?.error_for_status()?;
    let total = response.content_length();
    let mut bytes = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.with_context(|| format!("{url} broke off"))?);
        told(bytes.len() as u64, total);
    }
    Ok(bytes)
}

/// Takes the two programs out of the archive, and nothing else.
fn unpack(archive: &[u8], name: &str, cache: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(cache)?;
    let staging = tempfile::tempdir_in(cache)?;
    let mut files = tar::Archive::new(GzDecoder::new(archive));
    let mut found = 0;
    for entry in files.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let program = ["prometheus", "promtool"].into_iter().find(|program| path == Path::new(name).join(program));
        let Some(program) = program else { continue };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let target = staging.path().join(program);
        std::fs::write(&target, bytes)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
        found += 1;
    }
    if found != 2 {
        bail!("the archive does not hold prometheus and promtool");
    }
    let folder = cache.join(format!("prometheus-{VERSION}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(staging.keep(), &folder)?;
    Ok(folder)
}
