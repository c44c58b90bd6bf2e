//! YAML in two dialects. *Manifests* are read as kubectl reads them (`0644` is 420, `yes` is true) and without a size
//! budget: a bundle of custom resource definitions has more than a quarter of a million nodes. *Scenario* files are
//! read strictly. Writing quotes every scalar that a YAML 1.1 reader would take for something else.

mod explain;
mod manifest;
mod places;

use serde::de::DeserializeOwned;
use serde_json::Value;

use explain::explained;
use manifest::Manifest;
pub use places::{Places, first_placed, placed_manifests};

/// A YAML text could not be read; the message holds line and column.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, with a snippet of the text where that helps.
    pub message: String,
    /// Line and column, both from 1, where known.
    pub at: Option<(usize, usize)>,
}

impl YamlError {
    /// The message without its place, for whoever writes the place in front.
    pub fn without_place(&self) -> &str {
        match self.message.rsplit_once(" at line ") {
            Some((head, _)) if self.at.is_some() => head,
            Some(_) | None => &self.message,
        }
    }
}

fn error(error: &serde_yaml::Error) -> YamlError {
    let at = error.location().map(|location| (location.line() as usize, location.column() as usize));
    YamlError { message: error.to_string(), at }
}

/// How manifests are read. Keys that come twice are refused by who reads them, in words that name both places.
fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        legacy_octal_numbers: true,
        budget: None,
        with_snippet: false,
        duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::PassThrough,
    }
}

/// All documents of a text, read as kubectl reads manifests.
fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let read = serde_yaml::from_multiple_with_options(text, options());
    let documents: Vec<Manifest> = read.map_err(|source| explained(text, error(&source)))?;
    Ok(documents.into_iter().map(|Manifest(document)| document).collect())
}

/// Whether a document is a `List`, which stands for its items.
fn is_list(document: &Value) -> bool {
    document["kind"] == "List"
}

/// Reads all documents of a manifest file; empty ones are left out, `List` objects are unpacked.
///
/// # Errors
/// When the text is not YAML.
pub fn manifests(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut objects = Vec::new();
    for mut document in documents(text)? {
        if is_list(&document) {
            if let Value::Array(items) = document["items"].take() {
                objects.extend(items);
            }
        } else if !document.is_null() {
            objects.push(document);
        }
    }
    Ok(objects)
}

/// Reads the first document of a text as manifests are read; null if there is none.
///
/// # Errors
/// When the text is not YAML.
pub fn first_document(text: &str) -> Result<Value, YamlError> {
    Ok(documents(text)?.into_iter().next().unwrap_or_default())
}

/// Reads one document strictly into a type: only `true` and `false` are booleans, a key may not come twice.
///
/// # Errors
/// When the text is not YAML or does not fit the type.
pub fn strict<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    serde_yaml::from_str_with_options(text, options).map_err(|source| error(&source))
}

/// A value with the place in the file where it begins.
pub type Located<T> = serde_yaml::Spanned<T>;

/// Line and column of a value, from 1.
pub fn place<T>(value: &Located<T>) -> Option<(usize, usize)> {
    let location = value.referenced;
    Some((usize::try_from(location.line()).ok()?, usize::try_from(location.column()).ok()?)).filter(|(line, _)| *line > 0)
}

/// Writes a value as YAML that any reader takes back as the same value.
///
/// # Errors
/// When the value cannot be written (a map whose keys are no scalars).
pub fn to_string<T: serde::Serialize>(value: &T) -> Result<String, YamlError> {
    serde_yaml::to_string(value).map_err(|source| YamlError { message: source.to_string(), at: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_like_values() {
        // sigs.k8s.io/yaml: YAML 1.1, then JSON.
        for (key, expected) in [
            ("on", "true"),
            ("Off", "false"),
            ("y", "true"),
            ("N", "false"),
            ("yes", "true"),
            ("010", "8"),
            ("0x10", "16"),
            ("10_000", "10000"),
            ("+1", "1"),
            ("1.0", "1"),
            ("0.5", "0.5"),
            ("3.14159265358979", "3.1415927"),
            ("12e03", "12000"),
            ("1234567.0", "1.234567e+06"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-07"),
            ("2001-01-01", "2001-01-01"),
            ("'on'", "on"),
            ("\"1\"", "1"),
            ("!!str on", "on"),
        ] {
            let found = manifests(&format!("{key}: v\n")).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(found, [serde_json::json!({expected: "v"})], "{key}");
        }
    }

    #[test]
    fn values_are_read_as_kubectl_reads_them() {
        let text = "[y, No, ON, 010, 0x10, 10_000, 1e3, 1.0, 0.5, '5', ~, 2001-01-01, 1:30]";
        let expected = serde_json::json!([true, false, true, 8, 16, 10_000, 1000, 1, 0.5, "5", null, "2001-01-01", "1:30"]);
        assert_eq!(first_document(text).unwrap().to_string(), expected.to_string());
    }
}
