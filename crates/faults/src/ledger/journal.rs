//! The ledger's file: a line of JSON for each request that comes, and one for what became of it.
//!
//! A line is handed to the kernel before the proxy goes on, so a proxy that is killed loses none. The file is written anew when it
//! has grown: what is not kept in full is one line of totals then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, LedgerKey, Outcome};

/// A file that has grown by so many bytes since it was written anew is written anew; so is one of which that failed.
const LONG: u64 = 64 * 1024 * 1024;

/// The longest line: a request's target may have 64 KiB, as JSON at worst six times as many.
const MAX_LINE: u64 = 1024 * 1024;

/// What came before the entries that a file has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Before {
    pub(super) last: u64,
    pub(super) connections: u64,
    /// A line each.
    #[serde(skip)]
    pub(super) totals: Vec<(LedgerKey, u64)>,
    pub(super) by_rule: BTreeMap<String, u64>,
    /// Requests without an outcome whose entries are not kept, a line each.
    #[serde(skip)]
    pub(super) under_way: Vec<(u64, LedgerKey)>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line {
    Before(Box<Before>),
    Total(LedgerKey, u64),
    UnderWay(u64, LedgerKey),
    Open(Box<Entry>),
    Close(u64, Outcome, Timestamp),
}

/// The same, to be written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Written<'a> {
    Before(&'a Before),
    Total(&'a LedgerKey, u64),
    UnderWay(u64, &'a LedgerKey),
    Open(&'a Entry),
    Close(u64, &'a Outcome, Timestamp),
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes that are whole lines.
    length: u64,
    /// The length at which it is written anew.
    long: u64,
    /// Whether writing failed: nothing is written any more, so that what is there stays readable.
    failed: bool,
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

fn line(written: &Written<'_>) -> Vec<u8> {
    let mut line = serde_json::to_vec(written).unwrap_or_default();
    line.push(b'\n');
    line
}

impl Journal {
    /// Reads a file from its beginning and goes on at its end. The last line may be cut off, as a full disk leaves it; then it is
    /// as if it had not been written.
    pub(super) fn open(path: &Path, take: &mut dyn FnMut(Line)) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut whole = 0;
        let file = append(path).map_err(failed)?;
        // Two proxies must not write one ledger; the lock goes with the process.
        file.try_lock().map_err(|_| format!("{}: another proxy writes this ledger", path.display()))?;
        {
            let mut reader = BufReader::new(File::open(path).map_err(failed)?);
            let mut text = Vec::new();
            for number in 1.. {
                text.clear();
                let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut text).map_err(failed)?;
                if text.last() != Some(&b'\n') {
                    if read as u64 == MAX_LINE {
                        return Err(format!("{}:{number}: this is no line of a ledger", path.display()));
                    }
                    break;
                }
                let line = serde_json::from_slice(&text)
                    .map_err(|error| format!("{}:{number}: this is no line of a ledger: {error}", path.display()))?;
                whole += read as u64;
                take(line);
            }
        }
        file.set_len(whole).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, length: whole, long: LONG, failed: false })
    }

    fn write(&mut self, written: &Written<'_>) {
        if self.failed {
            return;
        }
        let line = line(written);
        match self.file.write_all(&line) {
            Ok(()) => self.length += line.len() as u64,
            Err(error) => {
                // A proxy whose disk is full goes on; its record in memory is exact all the same.
                self.failed = true;
                let _ = self.file.set_len(self.length);
                tracing::error!(%error, path = %self.path.display(), "the ledger cannot be written; from here on it will not survive a restart");
            }
        }
    }

    pub(super) fn write_open(&mut self, entry: &Entry) {
        self.write(&Written::Open(entry));
    }

    pub(super) fn write_close(&mut self, number: u64, outcome: &Outcome, now: Timestamp) {
        self.write(&Written::Close(number, outcome, now));
    }

    pub(super) fn is_long(&self) -> bool {
        self.length > self.long && !self.failed
    }

    /// Replaces the file by a short one. Whether or not that succeeds, it is tried again only when the file has grown as much again.
    pub(super) fn rewrite<'a>(&mut self, before: &Before, entries: impl Iterator<Item = &'a Entry>) -> std::io::Result<()> {
        self.long = self.length + LONG;
        let beside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&beside);
        let file = append(&beside)?;
        file.try_lock()?;
        let mut file = BufWriter::new(file);
        file.write_all(&line(&Written::Before(before)))?;
        for (key, count) in &before.totals {
            file.write_all(&line(&Written::Total(key, *count)))?;
        }
        for (number, key) in &before.under_way {
            file.write_all(&line(&Written::UnderWay(*number, key)))?;
        }
        for entry in entries {
            file.write_all(&line(&Written::Open(entry)))?;
        }
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let length = file.metadata()?.len();
        std::fs::rename(&beside, &self.path)?;
        (self.file, self.length, self.long) = (file, length, length + LONG);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::ledger::{Ledger, Opening, Protocol, Word};
    use std::sync::Arc;

    fn opened(ledger: &Ledger, rule: Option<&str>) -> u64 {
        opened_by(ledger, rule, Arc::default())
    }

    fn opened_by(ledger: &Ledger, rule: Option<&str>, client: Arc<Client>) -> u64 {
        let info = kubeapi::RequestInfo::parse("GET", "/api/v1/pods/p/log", None);
        ledger.open(Opening {
            now: Timestamp::UNIX_EPOCH,
            connection: 3,
            on_connection: 1,
            of_client: 1,
            protocol: Protocol::Http2,
            client,
            method: Word::Borrowed("GET"),
            target: "/api/v1/pods/p/log".to_owned(),
            info: Some(&info),
            rule,
            verdict: "reset",
        })
    }

    fn again(path: &Path) -> Ledger {
        Ledger::with_journal(path, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_ledger_goes_on_where_its_file_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = again(&path);
        for status in [200, 500, 200] {
            let number = opened(&ledger, Some("r"));
            ledger.close(number, &Outcome::Passed { status }, Timestamp::UNIX_EPOCH);
        }
        let expected = (ledger.snapshot(), ledger.entries(0, 9));
        drop(ledger);
        let ledger = again(&path);
        assert_eq!((ledger.snapshot(), ledger.entries(0, 9)), expected);
        // One that was under way when the proxy was killed has no answer; a line that was cut off was not written.
        let number = opened(&ledger, None);
        assert_eq!((number, ledger.entries(3, 1)[0].connection), (4, 6), "connections are counted on");
        drop(ledger);
        File::options().append(true).open(&path).unwrap().write_all(b"{\"close\":[4,{\"kind\":").unwrap();
        let ledger = again(&path);
        assert!(ledger.snapshot().under_way.is_empty());
        assert_eq!(ledger.entries(3, 1)[0].outcome, Some(Outcome::Interrupted));
        let errors: u64 = ledger.snapshot().totals.iter().filter(|(key, _)| key.code == "<error>").map(|(_, count)| count).sum();
        assert_eq!(errors, 1);
        let expected = ledger.snapshot();
        drop(ledger);
        assert_eq!(again(&path).snapshot(), expected);
    }

    #[test]
    fn a_file_that_was_shortened_tells_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = again(&path);
        let long = opened(&ledger, None);
        for turn in 0..3 * super::super::KEEP as u64 {
            let number = opened(&ledger, (turn % 3 == 0).then_some("r"));
            ledger.close(number, &Outcome::Passed { status: 200 }, Timestamp::UNIX_EPOCH);
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        let before = size(&path);
        for number in 0..10_000 {
            // More totals than fit in one line.
            let client = Client { user: format!("user-{number}"), ..Client::default() };
            let number = opened_by(&ledger, None, client.into());
            ledger.close(number, &Outcome::Passed { status: 200 }, Timestamp::UNIX_EPOCH);
        }
        ledger.shorten();
        assert!(size(&path) < before);
        ledger.close(long, &Outcome::Cancelled, Timestamp::UNIX_EPOCH);
        let expected = (ledger.snapshot(), ledger.entries(0, usize::MAX));
        let error = Ledger::with_journal(&path, Timestamp::UNIX_EPOCH).err().unwrap();
        assert!(error.contains("another proxy writes"), "{error}");
        drop(ledger);
        let ledger = again(&path);
        assert_eq!((ledger.snapshot(), ledger.entries(0, usize::MAX)), expected);
    }

    #[test]
    fn what_is_no_ledger_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        std::fs::write(&path, "{\"close\":[1,{\"kind\":\"failed\"},\"1970-01-01T00:00:00Z\"]}\nnonsense\n").unwrap();
        let error = Ledger::with_journal(&path, Timestamp::UNIX_EPOCH).err().unwrap();
        assert!(error.contains(":2: this is no line"), "{error}");
    }
}
