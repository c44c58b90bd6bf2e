//! Tokens, and files that nobody else may read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Writes a file with mode 0600; one that is there is replaced.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let write = || -> std::io::Result<()> {
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?.write_all(text.as_bytes())?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The token in a file; one is made if the file is not there.
pub(crate) fn read_or_make(path: &Path) -> Result<String> {
    if path.exists() {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let token = text.trim();
        ensure!(token.len() >= 16, "{}: a token has 16 characters at least", path.display());
        return Ok(token.to_owned());
    }
    let token = wire::random_token()?;
    write(path, &format!("{token}\n"))?;
    Ok(token)
}
