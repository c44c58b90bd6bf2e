//! Objects on disk, for servers that are to be there again: a redb file with every object and the last revision.
//!
//! A write is on disk before it is acknowledged: each is one transaction that is synced. History is not kept; a watch that
//! goes on from before a restart is told 410 and lists again.

use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

/// Object by `STORAGE\0NAMESPACE\0NAME`: its revision and its JSON with apiVersion and kind.
const OBJECTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("objects");

/// `revision`, and the secrets that outlive a restart.
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}: {source}")]
pub struct JournalError {
    path: String,
    source: Box<redb::Error>,
}

pub(crate) struct Journal {
    database: Database,
}

/// One object as it was written.
pub(crate) struct Entry {
    pub(crate) storage: String,
    pub(crate) revision: u64,
    pub(crate) json: Vec<u8>,
}

fn key(storage: &str, namespace: &str, name: &str) -> String {
    format!("{storage}\0{namespace}\0{name}")
}

impl Journal {
    /// Opens the file, or makes it, readable by its owner alone.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let open = || -> Result<Database, redb::Error> {
            let mut options = std::fs::OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
            let database = Database::builder().create_with_backend(FileBackend::new(file)?)?;
            let write = database.begin_write()?;
            write.open_table(OBJECTS)?;
            write.open_table(SETTINGS)?;
            write.commit()?;
            Ok(database)
        };
        match open() {
            Ok(database) => Ok(Self { database }),
            Err(source) => Err(JournalError { path: path.display().to_string(), source: Box::new(source) }),
        }
    }

    /// Everything that was written, and the last revision.
    pub(crate) fn load(&self) -> Result<(u64, Vec<Entry>), redb::Error> {
        let read = self.database.begin_read()?;
        let mut entries = Vec::new();
        for entry in read.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            let storage = key.value().split('\0').next().unwrap_or_default().to_owned();
            let (revision, json) = value.value();
            entries.push(Entry { storage, revision, json: json.to_vec() });
        }
        let revision = self.setting("revision")?.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        Ok((revision.unwrap_or(1), entries))
    }

    /// A setting, if it was set.
    pub(crate) fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(SETTINGS)?.get(name)?.map(|value| value.value().to_vec()))
    }

    /// Keeps a setting.
    pub(crate) fn set(&self, name: &str, value: &[u8]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(SETTINGS)?.insert(name, value)?;
        write.commit()?;
        Ok(())
    }

    /// Writes a version of an object, or with no JSON its end. On disk when it returns.
    pub(crate) fn record(
        &self,
        revision: u64,
        storage: &str,
        namespace: &str,
        name: &str,
        json: Option<&[u8]>,
    ) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut objects = write.open_table(OBJECTS)?;
            let key = key(storage, namespace, name);
            match json {
                Some(json) => objects.insert(key.as_str(), (revision, json))?,
                None => objects.remove(key.as_str())?,
            };
            write.open_table(SETTINGS)?.insert("revision", revision.to_le_bytes().as_slice())?;
        }
        write.commit()?;
        Ok(())
    }
}
