//! Where in a file each part of a document stands, for messages about files that people write.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::manifest::Key;
use super::{Located, YamlError, error, place};

/// The places of a document's parts.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct Places(Located<Node>);

enum Node {
    Scalar,
    List(Vec<Places>),
    Map(Vec<(Located<Key>, Places)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

struct Nodes;

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("YAML")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut found = Vec::new();
        while let Some(element) = list.next_element()? {
            found.push(element);
        }
        Ok(Node::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = map.next_entry()? {
            found.push(entry);
        }
        Ok(Node::Map(found))
    }
}

/// Whether a key is that text.
fn is(field: &Located<Key>, name: &str) -> bool {
    matches!(&field.value, Key::Text(text) if text == name)
}

/// The places of all documents of a text.
pub(super) fn read(text: &str) -> Result<Vec<Places>, serde_yaml::Error> {
    serde_yaml::from_multiple_with_options(text, super::options())
}

/// A key at fault: its name or what it is, and where it is; and where it was before, if it comes twice.
pub(super) struct BadKey {
    pub(super) name: Result<String, &'static str>,
    pub(super) at: (usize, usize),
    pub(super) before: Option<(usize, usize)>,
}

impl Places {
    /// The first key that kubectl would refuse, or that comes twice in one mapping.
    pub(super) fn bad_key(&self) -> Option<BadKey> {
        let fields = match &self.0.value {
            Node::Scalar => return None,
            Node::List(list) => return list.iter().find_map(Self::bad_key),
            Node::Map(fields) => fields,
        };
        let mut known: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (key, part) in fields {
            let at = place(key).unwrap_or_default();
            match &key.value {
                Key::Not(what) => return Some(BadKey { name: Err(what), at, before: None }),
                Key::Text(name) => {
                    let before = known.insert(name, at);
                    if before.is_some() {
                        return Some(BadKey { name: Ok(name.clone()), at, before });
                    }
                }
            }
            if let Some(bad) = part.bad_key() {
                return Some(bad);
            }
        }
        None
    }

    fn part(&self, name: &str) -> Option<&Self> {
        match &self.0.value {
            Node::Scalar => None,
            Node::List(list) => list.get(name.parse::<usize>().ok()?),
            Node::Map(fields) => fields.iter().find(|(field, _)| is(field, name)).map(|(_, part)| part),
        }
    }

    /// Line and column, both from 1, of the key of the field that a JSON pointer names; nothing where it names no field.
    pub fn key_at(&self, pointer: &str) -> Option<(usize, usize)> {
        let (owner, name) = pointer.rsplit_once('/')?;
        let mut part = self;
        for name in owner.split('/').skip(1) {
            part = part.part(&name.replace("~1", "/").replace("~0", "~"))?;
        }
        let Node::Map(fields) = &part.0.value else { return None };
        let name = name.replace("~1", "/").replace("~0", "~");
        fields.iter().find(|(field, _)| is(field, &name)).and_then(|(field, _)| place(field))
    }

    /// Line and column, both from 1, of what a JSON pointer (RFC 6901) names, or of the innermost part on the way there.
    pub fn at(&self, pointer: &str) -> Option<(usize, usize)> {
        let mut part = self;
        for name in pointer.split('/').skip(1) {
            let Some(next) = part.part(&name.replace("~1", "/").replace("~0", "~")) else { break };
            part = next;
        }
        place(&part.0)
    }
}

/// The only document of a text, read as manifests are, with the places of its parts.
///
/// # Errors
/// When the text is not YAML, or has no document or several.
pub fn first_placed(text: &str) -> Result<(Value, Places), YamlError> {
    let documents = super::documents(text)?;
    let places = read(text).map_err(|source| error(&source))?;
    let mut found: Vec<_> = documents.into_iter().zip(places).filter(|(document, _)| !document.is_null()).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(YamlError { message: "several documents; expected one".to_owned(), at: None }),
        (None, _) => Err(YamlError { message: "no document; expected one".to_owned(), at: None }),
    }
}

/// The objects of a manifest file as [`super::manifests`] reads them, with the places of their parts.
///
/// # Errors
/// When the text is not YAML.
pub fn placed_manifests(text: &str) -> Result<Vec<(Value, Places)>, YamlError> {
    let documents = super::documents(text)?;
    let places = read(text).map_err(|source| error(&source))?;
    let mut objects = Vec::new();
    for (document, places) in documents.into_iter().zip(places) {
        match (document, places) {
            (Value::Null, _) => {}
            (document, Places(Located { value: Node::Map(fields), .. })) if super::is_list(&document) => {
                let parts = fields.into_iter().find(|(field, _)| is(field, "items")).map(|(_, items)| items.0.value);
                let Some(Node::List(parts)) = parts else { continue };
                let items = document["items"].as_array().cloned().unwrap_or_default();
                objects.extend(items.into_iter().zip(parts));
            }
            other => objects.push(other),
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_a_place() {
        let text = "# two\nkind: A\nspec:\n  ports:\n    - name: web\n      port: 1\n---\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n  a/b: [1, {x: true}]\n";
        let objects = placed_manifests(text).unwrap();
        let kinds: Vec<&str> = objects.iter().filter_map(|(object, _)| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        let at = |index: usize, pointer: &str| objects[index].1.at(pointer);
        assert_eq!(at(0, "/spec/ports/0/port"), Some((6, 13)));
        assert_eq!(at(0, "/spec/ports/0/none/deeper"), at(0, "/spec/ports/0"), "the innermost that is there");
        assert_eq!(at(1, "/kind"), Some((11, 9)));
        assert_eq!(at(2, "/a~1b/1/x"), Some((13, 16)));
        let key_at = |index: usize, pointer: &str| objects[index].1.key_at(pointer);
        assert_eq!((key_at(0, "/spec/ports/0/port"), key_at(2, "/a~1b")), (Some((6, 7)), Some((13, 3))));
        assert_eq!((key_at(0, "/spec/ports/0"), key_at(0, "/none"), key_at(0, "")), (None, None, None));
    }

    #[test]
    fn one_document_is_read_with_its_places() {
        let (document, places) = first_placed("---\na: {b: 1}\n").unwrap();
        assert_eq!((document, places.key_at("/a/b")), (serde_json::json!({"a": {"b": 1}}), Some((2, 5))));
        for (text, message) in [("---\n", "no document"), ("a: 1\n---\nb: 1\n", "several documents")] {
            let error = first_placed(text).err().unwrap();
            assert!(error.message.starts_with(message), "{}", error.message);
        }
    }
}
