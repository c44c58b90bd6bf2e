//! The first release is told whole, each later one by its difference to the one before: a merge patch (RFC 7386) in YAML, with one
//! word more. `was: NAME` in an entry says that the entry of that name has this one now; what stands beside `was` has changed on the
//! way. So a rename keeps type, labels and buckets without being told them again, and [`renames`] can say when a metric got its name.
//!
//! What is known by name is a map in the files, so that one entry can be changed; the program reads lists.

use std::sync::OnceLock;

use serde::Serialize;
use serde_json::{Map, Value};

/// The files, oldest first.
pub(super) const FILES: &[&str] = &[
    include_str!("../../releases/v0.11.0.yaml"),
    include_str!("../../releases/v0.21.0.yaml"),
    include_str!("../../releases/v0.46.0.yaml"),
    include_str!("../../releases/v0.59.0.yaml"),
    include_str!("../../releases/v1.2.0.yaml"),
    include_str!("../../releases/v1.3.0.yaml"),
    include_str!("../../releases/v1.4.0.yaml"),
    include_str!("../../releases/v1.5.0.yaml"),
    include_str!("../../releases/v1.6.0.yaml"),
    include_str!("../../releases/v1.7.0.yaml"),
    include_str!("../../releases/v1.8.0.yaml"),
    include_str!("../../releases/v1.9.0.yaml"),
    include_str!("../../releases/main.yaml"),
];

/// What holds patches itself: its entries are taken as they are.
const OPAQUE: &str = "objects";

/// A metric or rule that has another name since a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rename {
    /// The name that it had.
    pub before: String,
    /// The name that it has.
    pub after: String,
    /// The release that is the first of ours with it.
    pub release: String,
    /// The change upstream, such as `kubevirt#11676`; empty where none is known.
    pub source: String,
}

/// A release as its file and those before make it.
pub(super) struct Link {
    /// Its tag.
    pub(super) tag: String,
    /// Everything about it, with lists where the files have maps.
    pub(super) whole: Value,
}

struct Chain {
    links: Vec<Link>,
    renames: Vec<Rename>,
}

/// All releases, oldest first.
///
/// # Errors
/// When a file cannot be read or does not fit the one before: a bug of this crate.
pub(super) fn links() -> Result<&'static [Link], String> {
    chain().map(|chain| chain.links.as_slice())
}

/// All renames, oldest first.
///
/// # Errors
/// As for [`links`].
pub(super) fn renames() -> Result<&'static [Rename], String> {
    chain().map(|chain| chain.renames.as_slice())
}

fn chain() -> Result<&'static Chain, String> {
    static CHAIN: OnceLock<Result<Chain, String>> = OnceLock::new();
    CHAIN.get_or_init(|| build(FILES)).as_ref().map_err(Clone::clone)
}

fn build(files: &[&str]) -> Result<Chain, String> {
    let mut chain = Chain { links: Vec::new(), renames: Vec::new() };
    let mut whole = Value::Object(Map::new());
    for (index, text) in files.iter().enumerate() {
        let mut patch: Value = wire::yaml::strict(text).map_err(|error| format!("release {}: {}", index + 1, error.message))?;
        let tag = patch["release"].as_str().ok_or(format!("file {} names no release", index + 1))?.to_owned();
        let after = patch.as_object_mut().and_then(|patch| patch.remove("after"));
        let before = chain.links.last().map(|link| link.tag.as_str());
        if after.as_ref().and_then(Value::as_str) != before {
            return Err(format!("{tag} is told to be after {after:?}, but comes after {before:?}"));
        }
        let mut merge = Merge { release: &tag, renames: &mut chain.renames };
        merge.apply(&mut whole, patch, &tag)?;
        let mut listed = whole.clone();
        list(&mut listed);
        chain.links.push(Link { tag, whole: listed });
    }
    Ok(chain)
}

struct Merge<'a> {
    release: &'a str,
    renames: &'a mut Vec<Rename>,
}

impl Merge<'_> {
    /// RFC 7386 §2, after what has another name was moved there. `place` is where we are, for errors.
    fn apply(&mut self, target: &mut Value, patch: Value, place: &str) -> Result<(), String> {
        let Value::Object(patch) = patch else {
            *target = patch;
            return Ok(());
        };
        if !target.is_object() {
            *target = Value::Object(Map::new());
        }
        let Some(target) = target.as_object_mut() else { return Ok(()) };
        for (name, mut value) in patch {
            let place = format!("{place}.{name}");
            if let Some(moved) = self.moved(target, &name, &mut value, &place)? {
                target.insert(name.clone(), moved);
            }
            if value.is_object() && place.rsplit('.').nth(1) == Some(OPAQUE) {
                target.insert(name, value);
            } else if value.is_null() {
                target.remove(&name).ok_or_else(|| format!("{place} is taken away but was not there"))?;
            } else {
                self.apply(target.entry(name).or_insert(Value::Null), value, &place)?;
            }
        }
        Ok(())
    }

    /// The entry that has this name now.
    fn moved(
        &mut self,
        target: &mut Map<String, Value>,
        name: &str,
        value: &mut Value,
        place: &str,
    ) -> Result<Option<Value>, String> {
        let Some(fields) = value.as_object_mut() else { return Ok(None) };
        let Some(was) = fields.remove("was") else { return Ok(None) };
        let source = fields.remove("source").and_then(|source| source.as_str().map(str::to_owned)).unwrap_or_default();
        let before = was.as_str().unwrap_or_default().to_owned();
        let moved = target.remove(&before).ok_or_else(|| format!("{place} was {before:?}, which was not there"))?;
        let rename = Rename { before, after: name.to_owned(), release: self.release.to_owned(), source };
        if !self.renames.contains(&rename) {
            self.renames.push(rename);
        }
        Ok(Some(moved))
    }
}

/// Makes lists of the maps that the program reads as lists: families, informers, definitions.
fn list(whole: &mut Value) {
    let named = |(name, mut entry): (String, Value)| {
        entry["name"] = name.into();
        entry
    };
    let into_list = |value: &mut Value, entry: &dyn Fn((String, Value)) -> Value| {
        if let Value::Object(map) = value.take() {
            *value = map.into_iter().map(entry).collect();
        }
    };
    for group in whole["groups"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        into_list(group, &named);
    }
    for component in whole["components"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        for (field, value) in component.as_object_mut().into_iter().flatten() {
            match field.as_str() {
                "families" => into_list(value, &named),
                "informers" | "leaderInformers" => into_list(value, &|(_, entry)| entry),
                _ => {}
            }
        }
    }
    if let Some(definitions) = whole.get_mut("definitions") {
        into_list(definitions, &|(name, mut entry)| {
            if let Some((plural, group)) = name.split_once('.') {
                (entry["plural"], entry["group"]) = (plural.into(), group.into());
            }
            entry
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(files: &[&str]) -> Result<(Value, Vec<Rename>), String> {
        let mut chain = build(files)?;
        Ok((chain.links.pop().unwrap().whole, chain.renames))
    }

    #[test]
    fn a_later_release_is_told_by_its_difference() {
        let first = "release: a\ngroups: {g: {old: {type: counter, labels: [x]}, gone: {type: gauge}}}\nqps: 1";
        let second = "release: b\nafter: a\ngroups: {g: {new: {was: old, source: 'up#1', labels: [x, y]}, gone: null}}\nqps: 2";
        let (whole, renames) = last(&[first, second]).unwrap();
        assert_eq!(whole["groups"], serde_json::json!({"g": [{"name": "new", "type": "counter", "labels": ["x", "y"]}]}));
        assert_eq!((&whole["qps"], &whole["release"]), (&2.into(), &"b".into()));
        let rename =
            Rename { before: "old".to_owned(), after: "new".to_owned(), release: "b".to_owned(), source: "up#1".to_owned() };
        assert_eq!(renames, [rename]);
    }

    #[test]
    fn a_difference_that_does_not_fit_is_told_with_its_place() {
        let first = "release: a\ngroups: {g: {m: {type: gauge}}}";
        for (second, expected) in [
            ("release: b\nafter: c", "b is told to be after"),
            ("release: b", "b is told to be after None"),
            ("release: b\nafter: a\ngroups: {g: {n: {was: o}}}", "b.groups.g.n was \"o\", which was not there"),
            ("release: b\nafter: a\ngroups: {g: {n: null}}", "b.groups.g.n is taken away but was not there"),
            ("after: a", "file 2 names no release"),
        ] {
            let error = last(&[first, second]).unwrap_err();
            assert!(error.contains(expected), "{second}: {error}");
        }
    }
}
