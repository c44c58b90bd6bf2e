//! The types of the objects that the operator reads, as a table, and the structural schemas that follow from it.
//!
//! The compiler reads objects as JSON, by path: a field that it does not know survives whatever is done with the object. That what
//! it reads has the type it is read as is ensured where objects come in. In a cluster the API server refuses, defaults and prunes by
//! the schemas of the definitions, and the lab's definitions get theirs from here ([`complete`]); files are held against the same
//! schemas by `operator render`.

use std::collections::HashMap;
use std::sync::LazyLock;

use kubeapi::object;
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("table.txt");
const GROUP: &str = "monitoring.coreos.com";

/// A field of a type, or (without a name) what is said of the type as a whole.
struct Row {
    name: &'static str,
    of: &'static str,
    marks: Vec<&'static str>,
    words: &'static str,
}

struct Type {
    row: Row,
    fields: Vec<Row>,
}

/// The types of the table by their names.
static TYPES: LazyLock<HashMap<&'static str, Type>> = LazyLock::new(|| {
    let mut types: HashMap<&'static str, Type> = HashMap::new();
    let mut at = "";
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let (line, words) = line.split_once(" # ").unwrap_or((line, ""));
        let mut parts = line.split_whitespace();
        let first = parts.next().unwrap_or_default();
        if line.starts_with(' ') {
            let row = Row { name: first, of: parts.next().unwrap_or_default(), marks: parts.collect(), words };
            if let Some(of) = types.get_mut(at) {
                of.fields.push(row);
            }
        } else {
            at = first;
            let row = Row { name: "", of: first, marks: parts.collect(), words };
            types.insert(at, Type { row, fields: Vec::new() });
        }
    }
    types
});

/// One unit of a duration after the other, each at most once.
fn units(of: &[&str]) -> String {
    let units: String = of.iter().map(|unit| format!("([0-9]+{unit})?")).collect();
    format!("^(0|{units})$")
}

/// The schema of a scalar or of a type of the table; `None` where there is no such type.
fn base(of: &str) -> Option<Value> {
    let pattern = |pattern: String| json!({"type": "string", "pattern": pattern});
    Some(match of {
        "string" => json!({"type": "string"}),
        "bool" => json!({"type": "boolean"}),
        "int32" | "int64" => json!({"type": "integer", "format": of}),
        "number" => json!({"type": "number"}),
        "intstr" => json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}),
        "duration" => pattern(units(&["y", "w", "d", "h", "m", "s", "ms"])),
        "goduration" => pattern(units(&["h", "m", "s", "ms"])),
        "bytesize" => pattern("^(0|([0-9]*[.])?[0-9]+([KMGTPE]i?)?B)$".to_owned()),
        "url" => pattern("^https?://.+$".to_owned()),
        "any" => json!({"x-kubernetes-preserve-unknown-fields": true}),
        "object" => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        name => structure(TYPES.get(name)?)?,
    })
}

/// An object of values that are moved in: `json!` would copy each, and with it all that is below, at every level.
fn object_of<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn structure(of: &Type) -> Option<Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for row in &of.fields {
        properties.insert(row.name.to_owned(), field(row)?);
        if row.marks.contains(&"required") {
            required.push(row.name);
        }
    }
    let mut schema = object_of([("type", "object".into()), ("properties", properties.into())]);
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    mark(&mut schema, &of.row);
    Some(schema)
}

fn field(row: &Row) -> Option<Value> {
    let mut schema = shaped(row.of)?;
    mark(&mut schema, row);
    Some(schema)
}

/// A type with its lists and maps around it.
fn shaped(of: &str) -> Option<Value> {
    Some(if let Some(of) = of.strip_prefix('*') {
        object_of([("type", "array".into()), ("items", shaped(of)?)])
    } else if let Some(of) = of.strip_prefix('%') {
        object_of([("type", "object".into()), ("additionalProperties", shaped(of)?)])
    } else {
        base(of)?
    })
}

fn mark(schema: &mut Value, row: &Row) {
    if !row.words.is_empty() {
        schema["description"] = row.words.into();
    }
    let is_list = schema["type"] == "array";
    for mark in &row.marks {
        let (name, value) = mark.split_once('=').unwrap_or((mark, ""));
        let number = || value.parse::<i64>().map_or(Value::Null, Value::from);
        let choices = || Value::from(value.split('|').collect::<Vec<_>>());
        match name {
            "enum" => schema["enum"] = choices(),
            "each" => schema["items"]["enum"] = choices(),
            "min" => schema["minimum"] = number(),
            "max" => schema["maximum"] = number(),
            "minlength" => schema["minLength"] = number(),
            "minitems" => schema["minItems"] = number(),
            "default" => schema["default"] = serde_json::from_str(value).unwrap_or_else(|_| value.into()),
            "set" => schema["x-kubernetes-list-type"] = "set".into(),
            "map" => {
                schema["x-kubernetes-list-type"] = "map".into();
                schema["x-kubernetes-list-map-keys"] = value.split(',').collect::<Vec<_>>().into();
            }
            "atomic" if is_list => schema["x-kubernetes-list-type"] = "atomic".into(),
            "atomic" => schema["x-kubernetes-map-type"] = "atomic".into(),
            _ => {}
        }
    }
}

/// The structural schema of a kind of `monitoring.coreos.com`; `None` for one that the operator does not read.
pub fn schema(version: &str, kind: &str) -> Option<Value> {
    let mut schema = structure(TYPES.get(format!("{version}.{kind}").as_str())?)?;
    for name in ["apiVersion", "kind"] {
        schema["properties"][name] = json!({"type": "string"});
    }
    schema["properties"]["metadata"] = json!({"type": "object"});
    Some(schema)
}

/// The schema that an object is held against, if its kind is one of the table's.
pub fn schema_of(object: &Value) -> Option<Value> {
    let (group, version) = object["apiVersion"].as_str()?.split_once('/')?;
    if group == GROUP { schema(version, object::kind(object)) } else { None }
}

/// Gives a CustomResourceDefinition of the group the schemas of its kind; what is not in the table keeps its open one.
pub fn complete(definition: &mut Value) {
    if object::kind(definition) != "CustomResourceDefinition" || definition["spec"]["group"] != GROUP {
        return;
    }
    let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
        if let Some(schema) = version["name"].as_str().and_then(|name| schema(name, &kind)) {
            version["schema"] = object_of([("openAPIV3Schema", schema)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_type_and_known_marks() {
        let known = ["required", "enum", "each", "min", "max", "minlength", "minitems", "default", "set", "map", "atomic"];
        for (name, of) in TYPES.iter() {
            assert!(!of.fields.is_empty(), "{name} has no fields");
            for row in of.fields.iter().chain([&of.row]) {
                let scalar = row.of.trim_start_matches(['*', '%']);
                assert!(TYPES.contains_key(scalar) || base(scalar).is_some(), "{name}.{}: no type {scalar}", row.name);
                for mark in &row.marks {
                    let mark = mark.split('=').next().unwrap_or_default();
                    assert!(known.contains(&mark), "{name}.{}: {mark}", row.name);
                }
            }
        }
    }

    #[test]
    fn every_type_is_used() {
        let roots = [
            "Prometheus",
            "ServiceMonitor",
            "PodMonitor",
            "Probe",
            "PrometheusRule",
            "Alertmanager",
            "ScrapeConfig",
            "AlertmanagerConfig",
        ];
        for name in TYPES.keys() {
            let used = TYPES.values().flat_map(|of| &of.fields).any(|row| row.of.trim_start_matches(['*', '%']) == *name);
            let root = name.split('.').next_back().is_some_and(|kind| roots.contains(&kind));
            assert!(used || root, "{name}");
        }
    }

    #[test]
    fn a_kind_has_a_schema_and_others_keep_theirs() {
        let endpoint = &schema("v1", "ServiceMonitor").unwrap()["properties"]["spec"]["properties"]["endpoints"]["items"];
        assert_eq!(endpoint["properties"]["scheme"]["enum"][1], "https");
        assert_eq!(endpoint["properties"]["relabelings"]["items"]["properties"]["action"]["default"], "replace");
        let definition = |kind: &str| {
            let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            let mut definition = json!({"kind": "CustomResourceDefinition", "spec": {
                "group": GROUP, "names": {"kind": kind}, "versions": [{"name": "v1", "schema": {"openAPIV3Schema": open}}],
            }});
            complete(&mut definition);
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
        };
        assert_eq!(definition("Probe"), schema("v1", "Probe").unwrap());
        assert_eq!(definition("ThanosRuler")["x-kubernetes-preserve-unknown-fields"], true);
    }
}
