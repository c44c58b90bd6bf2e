//! What a scenario changes of a cluster is put back after it.
//!
//! A cluster outlives scenarios, and the next one must find what the first one found. Each change is noted on disk before it is made, so
//! that even one whose scenario was killed is put back by the next command that runs scenarios there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use install::{Api, ApiError};
use kubeapi::object;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::state::write_secret;

const FILE: &str = "changed.json";
/// The beginning and the end of the names of files of single commands.
const SEPARATE: [&str; 2] = ["changed-", ".json"];

/// A change, and what is needed to put it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    /// This object of a collection was deleted.
    Deleted { collection: String, object: Value },
    /// What is at this path was made, or changed from what it was before.
    Applied { path: String, before: Option<Value> },
}

/// The changes that are not put back yet.
pub(crate) struct Changes {
    file: PathBuf,
    list: Mutex<Vec<Change>>,
}

/// An object as it would be created: without what the server writes.
fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    if let Some(metadata) = bare["metadata"].as_object_mut() {
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation", "managedFields", "deletionTimestamp"] {
            metadata.remove(field);
        }
    }
    if let Some(fields) = bare.as_object_mut() {
        fields.remove("status");
    }
    bare
}

/// Whether somebody makes it anew by himself: pods, and what else has an owner.
fn comes_back(object: &Value) -> bool {
    object::kind(object) == "Pod" || object::controller(object).is_some()
}

impl Changes {
    /// The changes of a lab, those of an earlier command included.
    pub(crate) fn of(folder: &Path) -> Self {
        Self::in_file(folder.join(FILE))
    }

    /// The changes of one command, which are put back without those of others.
    ///
    /// # Errors
    /// When the system gives no random number.
    pub(crate) fn separate(folder: &Path) -> Result<Self> {
        let ([begin, end], word) = (SEPARATE, wire::random_token()?);
        Ok(Self { file: folder.join(format!("{begin}{word}{end}")), list: Mutex::default() })
    }

    /// All changes that are not put back yet, whatever command made them.
    pub(crate) fn all(folder: &Path) -> Vec<Self> {
        let is_separate =
            |name: &str| SEPARATE[0].len() < name.len() && name.starts_with(SEPARATE[0]) && name.ends_with(SEPARATE[1]);
        let names =
            std::fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut files: Vec<PathBuf> = names.filter(|name| is_separate(name)).map(|name| folder.join(name)).collect();
        files.sort();
        files.push(folder.join(FILE));
        files.into_iter().map(Self::in_file).collect()
    }

    fn in_file(file: PathBuf) -> Self {
        let list = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file, list: Mutex::new(list) }
    }

    async fn note(&self, change: Change) -> Result<()> {
        let mut list = self.list.lock().await;
        list.push(change);
        write_secret(&self.file, &serde_json::to_vec(&*list)?)
    }

    /// Notes that an object is about to be deleted.
    ///
    /// # Errors
    /// When the disk does not let us; then nothing should be deleted.
    pub(crate) async fn deleting(&self, collection: &str, object: &Value) -> Result<()> {
        if comes_back(object) {
            return Ok(());
        }
        self.note(Change::Deleted { collection: collection.to_owned(), object: bare(object) }).await
    }

    /// Notes that what is at a path is about to be made or changed.
    ///
    /// # Errors
    /// As [`Self::deleting`].
    pub(crate) async fn applying(&self, path: &str, before: Option<&Value>) -> Result<()> {
        self.note(Change::Applied { path: path.to_owned(), before: before.map(bare) }).await
    }

    /// Puts everything back, the last change first; how many there were. What fails stays noted.
    ///
    /// # Errors
    /// When the server refuses, or the disk does not let us.
    pub(crate) async fn put_back(&self, api: &Api) -> Result<usize> {
        let mut list = self.list.lock().await;
        let count = list.len();
        while let Some(change) = list.last() {
            one(api, change)
                .await
                .with_context(|| format!("what a scenario has changed cannot be put back; see {}", self.file.display()))?;
            list.pop();
            write_secret(&self.file, &serde_json::to_vec(&*list)?)?;
        }
        if count > 0 {
            std::fs::remove_file(&self.file)?;
        }
        Ok(count)
    }
}

async fn one(api: &Api, change: &Change) -> Result<(), ApiError> {
    match change {
        Change::Deleted { collection, object } => match api.create(collection, object).await {
            // Somebody was faster.
            Err(error) if error.code() != 409 => Err(error),
            _ => Ok(()),
        },
        Change::Applied { path, before: None } => api.delete(path).await.map(|_| ()),
        Change::Applied { path, before: Some(before) } => match api.replace(path, before).await {
            Err(error) if error.code() == 404 => {
                let collection = path.rsplit_once('/').map_or(path.as_str(), |(collection, _)| collection);
                api.create(collection, before).await.map(|_| ())
            }
            replaced => replaced.map(|_| ()),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn changes_survive_the_command_that_made_them() {
        let folder = tempfile::tempdir().unwrap();
        let changes = Changes::of(folder.path());
        let role = json!({"kind": "Role", "metadata": {"name": "r", "uid": "1", "resourceVersion": "5", "labels": {"a": "b"}}, "rules": []});
        let pod = json!({"kind": "Pod", "metadata": {"name": "p"}});
        let owned =
            json!({"kind": "ReplicaSet", "metadata": {"name": "s", "ownerReferences": [{"controller": true, "uid": "2"}]}});
        for object in [&role, &pod, &owned] {
            changes.deleting("/roles", object).await.unwrap();
        }
        changes.applying("/roles/new", None).await.unwrap();
        let later = Changes::of(folder.path());
        let object = json!({"kind": "Role", "metadata": {"name": "r", "labels": {"a": "b"}}, "rules": []});
        let expected = [
            Change::Deleted { collection: "/roles".to_owned(), object },
            Change::Applied { path: "/roles/new".to_owned(), before: None },
        ];
        assert_eq!(*later.list.lock().await, expected);
    }
}
