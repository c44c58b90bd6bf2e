//! The types of the built-in kinds: which fields they have, of what kind, how lists merge, and their protobuf tags.
//!
//! One table (`table.txt`, generated) serves strict decoding, protobuf bodies, strategic merge patch and server-side apply.

mod path;
mod protobuf;
mod strict;

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use path::Path;
pub(crate) use protobuf::decode as decode_protobuf;
pub(crate) use strict::{check, check_metadata};

/// What one value of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 with whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// Go's `1m30s`.
    Duration,
    /// A number with a suffix, or a plain number.
    Quantity,
    IntOrString,
    /// Any JSON.
    Raw,
    /// A list of strings that protobuf wraps in a message.
    Strings,
    Message(&'static str),
}

/// How many values a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    List,
    Map,
}

/// How a list or map is merged by server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Field by field; for lists: replaced as a whole.
    Default,
    /// A map or struct that is replaced as a whole.
    Atomic,
    /// A list of distinct scalars.
    Set,
    /// A list of objects with these keys.
    Keys(&'static [&'static str]),
}

/// A field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) tag: u32,
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) kind: Kind,
    pub(crate) merge: Merge,
    /// The message's fields stand in the parent's JSON object.
    inline: bool,
    /// Go writes it even where it is zero.
    pub(crate) required: bool,
    /// A strategic merge patch merges by the first key.
    pub(crate) patch_by_key: bool,
}

/// A message type.
#[derive(Debug)]
pub(crate) struct Type {
    /// `core.v1.PodSpec`.
    pub(crate) name: &'static str,
    /// Fields by tag, as protobuf has them.
    fields: Vec<Field>,
    /// Fields as JSON has them, sorted by name.
    json: Vec<Field>,
}

impl Type {
    /// The field of that JSON name.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.json.binary_search_by(|field| field.name.cmp(name)).ok().map(|index| &self.json[index])
    }
}

static TABLE: LazyLock<HashMap<String, Type>> = LazyLock::new(|| parse(include_str!("table.txt")));

/// The same by the names as the table writes them, which is how fields refer to types.
static BY_NAME: LazyLock<HashMap<&'static str, &'static Type>> =
    LazyLock::new(|| TABLE.values().map(|of| (of.name, of)).collect());

fn parse(text: &'static str) -> HashMap<String, Type> {
    let mut types: HashMap<String, Type> = HashMap::new();
    let mut current = Vec::new();
    let mut name = None::<&'static str>;
    let mut finish = |name: Option<&'static str>, fields: Vec<Field>| {
        if let Some(name) = name {
            types.insert(name.to_ascii_lowercase(), Type { name, fields, json: Vec::new() });
        }
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix(' ') {
            None => finish(name.replace(line), std::mem::take(&mut current)),
            Some(field) => current.extend(parse_field(field)),
        }
    }
    finish(name, current);
    let names: Vec<String> = types.keys().cloned().collect();
    for name in names {
        let mut json = Vec::new();
        flatten(&types, &name, &mut json);
        json.sort_by_key(|field: &Field| field.name);
        json.dedup_by_key(|field| field.name);
        if let Some(found) = types.get_mut(&name) {
            found.json = json;
        }
    }
    types
}

fn flatten(types: &HashMap<String, Type>, name: &str, out: &mut Vec<Field>) {
    for field in types.get(name).into_iter().flat_map(|found| &found.fields) {
        if let (Kind::Message(of), true) = (field.kind, field.inline) {
            flatten(types, &of.to_ascii_lowercase(), out);
        } else {
            out.push(*field);
        }
    }
}

fn parse_field(line: &'static str) -> Option<Field> {
    let mut words = line.split(' ');
    let (tag, name, of) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (shape, of) = match of.split_at_checked(1)? {
        ("*", rest) => (Shape::List, rest),
        ("%", rest) => (Shape::Map, rest),
        _ => (Shape::One, of),
    };
    let kind = match of {
        "string" => Kind::String,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "bool" => Kind::Bool,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "time" => Kind::Time,
        "microtime" => Kind::MicroTime,
        "duration" => Kind::Duration,
        "quantity" => Kind::Quantity,
        "intstr" => Kind::IntOrString,
        "raw" => Kind::Raw,
        "strings" => Kind::Strings,
        message => Kind::Message(message),
    };
    let mut field = Field { tag, name, shape, kind, merge: Merge::Default, inline: false, required: false, patch_by_key: false };
    for mark in words {
        match mark {
            "inline" => field.inline = true,
            "required" => field.required = true,
            "set" => field.merge = Merge::Set,
            "atomic" => field.merge = Merge::Atomic,
            "nopatch" => field.patch_by_key = false,
            _ => {
                let keys: Vec<&'static str> = mark.strip_prefix("map=")?.split(',').collect();
                field.merge = Merge::Keys(keys.leak());
                field.patch_by_key = true;
            }
        }
    }
    Some(field)
}

/// A type by its name, such as `core.v1.PodSpec`.
pub(crate) fn find(name: &str) -> Option<&'static Type> {
    BY_NAME.get(name).copied().or_else(|| TABLE.get(&name.to_ascii_lowercase()))
}

/// The type of a built-in kind.
pub(crate) fn of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
    find(&format!("{package}.{version}.{kind}"))
}

/// `meta.v1.ObjectMeta`.
pub(crate) fn object_meta() -> &'static Type {
    static FOUND: LazyLock<&'static Type> = LazyLock::new(|| find("meta.v1.ObjectMeta").expect("the table has ObjectMeta"));
    *FOUND
}

/// Structs that Go holds by value: they are in every object, empty at least, so that server-side apply never counts them
/// as added.
pub(crate) fn is_by_value(field: &str) -> bool {
    matches!(
        field,
        "metadata"
            | "spec"
            | "status"
            | "template"
            | "strategy"
            | "updateStrategy"
            | "resources"
            | "jobTemplate"
            | "loadBalancer"
            | "involvedObject"
            | "source"
            | "roleRef"
            | "clientConfig"
            | "scaleTargetRef"
            | "nodeInfo"
            | "daemonEndpoints"
            | "names"
            | "acceptedNames"
            | "target"
            | "regarding"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_how_lists_merge() {
        let merge = |name: &str, field: &str| find(name).unwrap().field(field).unwrap().merge;
        assert_eq!(merge("core.v1.PodSpec", "containers"), Merge::Keys(&["name"]));
        assert_eq!(merge("core.v1.ServiceSpec", "ports"), Merge::Keys(&["port", "protocol"]));
        assert_eq!(merge("core.v1.ServiceSpec", "selector"), Merge::Atomic);
        assert_eq!(merge("meta.v1.ObjectMeta", "finalizers"), Merge::Set);
        assert_eq!(merge("core.v1.Container", "args"), Merge::Default);
        assert_eq!(merge("apps.v1.DeploymentStatus", "conditions"), Merge::Keys(&["type"]));
    }

    #[test]
    fn inlined_fields_stand_in_the_parent() {
        let volume = find("core.v1.Volume").unwrap();
        assert!(volume.field("downwardAPI").is_some() && volume.field("volumeSource").is_none());
        assert!(find("core.v1.Probe").unwrap().field("httpGet").is_some());
        assert!(find("core.v1.PodStatus").unwrap().field("podIPs").is_some());
        assert!(find("core.v1.SecretKeySelector").unwrap().field("name").is_some());
    }

    #[test]
    fn every_message_that_a_field_names_is_there() {
        for (name, found) in TABLE.iter() {
            for field in &found.fields {
                if let Kind::Message(of) = field.kind {
                    assert!(find(of).is_some(), "{name}.{} is a {of}", field.name);
                }
            }
        }
    }
}
