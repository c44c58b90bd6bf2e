//! The upstream release archive, verified against the release's own checksums before anything of it is unpacked.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::Kit;

const BASE: &str = "https://github.com/prometheus";
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

/// Fetches, verifies and unpacks; the folder with the programs.
pub(crate) async fn fetch(kit: &Kit, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let variable = format!("LAB_{}_RELEASES", kit.project.to_uppercase());
    let base = std::env::var(variable).unwrap_or_else(|_| format!("{BASE}/{}/releases/download", kit.project));
    fetch_from(kit, &base, cache, progress).await
}

async fn fetch_from(kit: &Kit, base: &str, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let platform = platform().context("there is no release for this system")?;
    let (title, version) = (kit.name, kit.version);
    let name = format!("{}-{version}.{platform}", kit.project);
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(Duration::from_secs(20)).build()?;
    let sums = get(&client, &format!("{base}/v{version}/sha256sums.txt"), |_, _| {}).await?;
    let sums = String::from_utf8_lossy(&sums).into_owned();
    let archive_name = format!("{name}.tar.gz");
    let expected = sums
        .lines()
        .find_map(|line| {
            line.split_once(char::is_whitespace).filter(|(_, file)| file.trim().trim_start_matches('*') == archive_name)
        })
        .map(|(sum, _)| sum.to_owned())
        .with_context(|| format!("the release has no checksum for {archive_name}"))?;
    let archive = get(&client, &format!("{base}/v{version}/{archive_name}"), |done, total| {
        progress(&match total {
            Some(total) => format!("fetching {title} {version}: {} of {} MB", done / 1_000_000, total / 1_000_000),
            None => format!("fetching {title} {version}: {} MB", done / 1_000_000),
        });
    })
    .await?;
    let found: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        bail!("{archive_name} has checksum {found}, the release says {expected}; nothing of it was used");
    }
    progress(&format!("unpacking {title}"));
    unpack(kit, &archive, &name, cache)
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

/// Takes the programs out of the archive, and nothing else.
fn unpack(kit: &Kit, archive: &[u8], name: &str, cache: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(cache)?;
    let staging = tempfile::tempdir_in(cache)?;
    let mut files = tar::Archive::new(GzDecoder::new(archive));
    let mut found = 0;
    for entry in files.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let program = kit.programs.iter().find(|program| path == Path::new(name).join(program));
        let Some(program) = program else { continue };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let target = staging.path().join(program);
        std::fs::write(&target, bytes)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
        found += 1;
    }
    if found != kit.programs.len() {
        bail!("the archive does not hold {}", kit.programs.join(" and "));
    }
    let folder = cache.join(format!("{}-{}", kit.project, kit.version));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(staging.keep(), &folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::tools::PROMETHEUS;

    /// An archive as upstream makes it, with a file that is not wanted and a path that must not be followed.
    fn archive(name: &str) -> Vec<u8> {
        let mut files = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (path, content) in [("LICENSE", "x"), ("prometheus", "server"), ("promtool", "checker"), ("sub/promtool", "other")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            files.append_data(&mut header, format!("{name}/{path}"), content.as_bytes()).unwrap();
        }
        files.into_inner().unwrap().finish().unwrap()
    }

    /// A server that stands in for the release page: it has one archive and says this checksum of it.
    fn serve(archive: Vec<u8>, sums: String, stop: &CancellationToken) -> String {
        let listener = wire::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let handler = move |request: http::Request<hyper::body::Incoming>| {
            let body = match request.uri().path() {
                path if path.ends_with("sha256sums.txt") => sums.clone().into_bytes(),
                _ => archive.clone(),
            };
            async move { Ok(wire::text(StatusCode::OK, body)) }
        };
        tokio::spawn(wire::serve(listener, None, Arc::new(handler), Arc::new(()), stop.clone()));
        base
    }

    #[tokio::test]
    async fn an_archive_is_used_only_if_its_checksum_is_the_releases() {
        wire::install_crypto_provider();
        let Some(platform) = platform() else { return };
        let kit = &PROMETHEUS;
        let name = format!("prometheus-{}.{platform}", kit.version);
        let archive = archive(&name);
        let sum: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        let stop = CancellationToken::new();
        let cache = tempfile::tempdir().unwrap();

        let wrong = serve(archive.clone(), format!("{}  {name}.tar.gz\n", "0".repeat(64)), &stop);
        let error = fetch_from(kit, &wrong, cache.path(), &|_| {}).await.unwrap_err().to_string();
        assert!(error.contains("nothing of it was used"), "{error}");
        let none = serve(archive.clone(), "abc  other.tar.gz\n".to_owned(), &stop);
        assert!(fetch_from(kit, &none, cache.path(), &|_| {}).await.unwrap_err().to_string().contains("no checksum"));
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);

        let good = serve(archive, format!("{sum}  {name}.tar.gz\n"), &stop);
        let folder = fetch_from(kit, &good, cache.path(), &|_| {}).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("promtool")).unwrap(), "checker");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
        stop.cancel();
    }
}
