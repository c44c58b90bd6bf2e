//! How each part of an object merges: from the table of built-in types, from a definition's schema, or, without either,
//! deduced from the value (maps by field, lists as a whole).

use serde_json::Value;

use crate::resource::Resource;
use crate::types::{self, Field, Kind, Merge, Shape, Type};

/// A place in an object.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// A struct of the table, under the JSON name of its field.
    Struct(&'static Type),
    /// A list or map of the table.
    Many(&'static Field),
    /// A scalar, or a struct or map that is replaced as a whole.
    Leaf,
    /// A node of a definition's schema.
    Schema(&'a Value),
    /// A custom object, or one embedded in it.
    Object(&'a Value),
    /// Nothing is known.
    Free,
}

/// How a list or map is owned and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation<'a> {
    /// By field.
    Granular,
    /// As a whole.
    Atomic,
    /// A list of distinct scalars.
    Set,
    /// A list of objects with these keys.
    Keys(Keys<'a>),
}

/// The keys of an associative list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys<'a> {
    Table(&'static [&'static str]),
    Schema(&'a [Value]),
}

impl<'a> Keys<'a> {
    pub(crate) fn names(self) -> impl Iterator<Item = &'a str> {
        let (table, schema) = match self {
            Keys::Table(names) => (names, &[] as &[Value]),
            Keys::Schema(names) => (&[] as &[&str], names),
        };
        table.iter().copied().chain(schema.iter().filter_map(Value::as_str))
    }
}

impl<'a> Node<'a> {
    /// The root of a resource's objects.
    pub(crate) fn root(resource: &'a Resource) -> Self {
        match &resource.custom {
            Some(version) => Node::Object(&version["schema"]["openAPIV3Schema"]),
            None => resource.built_in.map_or(Node::Free, Node::Struct),
        }
    }

    /// How a value here merges.
    pub(crate) fn relation(self, value: &Value) -> Relation<'a> {
        let deduced = if value.is_array() { Relation::Atomic } else { Relation::Granular };
        match self {
            Node::Struct(_) | Node::Object(_) => Relation::Granular,
            Node::Leaf => Relation::Atomic,
            Node::Free => deduced,
            Node::Many(field) => match (field.merge, field.shape) {
                (Merge::Atomic, _) | (Merge::Default, Shape::List) => Relation::Atomic,
                (Merge::Set, _) => Relation::Set,
                (Merge::Keys(keys), _) => Relation::Keys(Keys::Table(keys)),
                (Merge::Default, _) => Relation::Granular,
            },
            Node::Schema(schema) if value.is_array() => {
                match (schema["x-kubernetes-list-type"].as_str(), schema["x-kubernetes-list-map-keys"].as_array()) {
                    (Some("set"), _) => Relation::Set,
                    (Some("map"), Some(keys)) => Relation::Keys(Keys::Schema(keys)),
                    _ => Relation::Atomic,
                }
            }
            Node::Schema(schema) if schema["x-kubernetes-map-type"] == "atomic" => Relation::Atomic,
            Node::Schema(_) => deduced,
        }
    }

    /// The place of a field.
    pub(crate) fn child(self, name: &str) -> Node<'a> {
        match self {
            Node::Struct(of) => of.field(name).map_or(Node::Free, Node::of_field),
            Node::Many(field) => Node::of_kind(field.kind),
            Node::Leaf => Node::Leaf,
            Node::Object(_) if name == "metadata" => Node::Struct(types::object_meta()),
            Node::Object(_) if matches!(name, "apiVersion" | "kind") => Node::Leaf,
            Node::Object(schema) | Node::Schema(schema) => {
                let by_name = &schema["properties"][name];
                let of = if by_name.is_object() { by_name } else { &schema["additionalProperties"] };
                Node::of_schema(of)
            }
            Node::Free => Node::Free,
        }
    }

    /// The place of the elements of a list.
    pub(crate) fn element(self) -> Node<'a> {
        match self {
            Node::Many(field) => Node::of_kind(field.kind),
            Node::Schema(schema) => Node::of_schema(&schema["items"]),
            Node::Struct(_) | Node::Leaf | Node::Object(_) | Node::Free => Node::Free,
        }
    }

    /// Whether a field is one of a struct, not an entry of a map.
    pub(crate) fn declares(self, name: &str) -> bool {
        match self {
            Node::Struct(of) => of.field(name).is_some() || matches!(name, "apiVersion" | "kind"),
            Node::Object(schema) => matches!(name, "metadata" | "apiVersion" | "kind") || schema["properties"][name].is_object(),
            Node::Schema(schema) => schema["properties"][name].is_object(),
            Node::Many(_) | Node::Leaf | Node::Free => false,
        }
    }

    /// What a key of an element is where the element leaves it out.
    pub(crate) fn key_default(self, key: &str) -> Option<Value> {
        match self {
            // `+default="TCP"` of ContainerPort and ServicePort: the only key with a default in the built-in kinds.
            Node::Many(_) => (key == "protocol").then(|| "TCP".into()),
            Node::Schema(schema) => schema["items"]["properties"][key].get("default").cloned(),
            Node::Struct(_) | Node::Leaf | Node::Object(_) | Node::Free => None,
        }
    }

    fn of_schema(schema: &'a Value) -> Node<'a> {
        if !schema.is_object() || schema["x-kubernetes-int-or-string"] == true {
            return Node::Free;
        }
        if schema["x-kubernetes-embedded-resource"] == true { Node::Object(schema) } else { Node::Schema(schema) }
    }

    fn of_field(field: &'static Field) -> Node<'a> {
        match field.shape {
            Shape::List | Shape::Map => Node::Many(field),
            Shape::One if field.merge == Merge::Atomic => Node::Leaf,
            Shape::One => Node::of_kind(field.kind),
        }
    }

    fn of_kind(kind: Kind) -> Node<'a> {
        match kind {
            Kind::Message(name) => types::find(name).map_or(Node::Free, |of| match name {
                // `+structType=atomic` types.
                "core.v1.LocalObjectReference"
                | "core.v1.ObjectReference"
                | "core.v1.TypedLocalObjectReference"
                | "core.v1.ConfigMapKeySelector"
                | "core.v1.SecretKeySelector"
                | "core.v1.ObjectFieldSelector"
                | "core.v1.ResourceFieldSelector"
                | "core.v1.NodeSelector"
                | "core.v1.NodeSelectorTerm"
                | "core.v1.TopologySelectorTerm"
                | "core.v1.SecretReference"
                | "rbac.v1.RoleRef"
                | "rbac.v1.Subject"
                | "meta.v1.LabelSelector"
                | "networking.v1.IngressClassParametersReference" => Node::Leaf,
                _ => Node::Struct(of),
            }),
            Kind::String
            | Kind::Int32
            | Kind::Int64
            | Kind::Bool
            | Kind::Double
            | Kind::Bytes
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::Raw
            | Kind::Strings => Node::Leaf,
        }
    }
}
