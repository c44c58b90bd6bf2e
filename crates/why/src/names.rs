//! Names that were others once.

use serde::{Deserialize, Serialize};

/// A metric that has another name since a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// Its name before.
    pub before: String,
    /// Its name since.
    pub after: String,
    /// Since when, and where that is written.
    pub since: String,
}
