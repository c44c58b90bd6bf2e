//! The JSON schema of release files, for editors. It is that of a whole release, but nothing has to be told and everything can be taken
//! away, for all files but the first tell differences; and an entry of a map may say what it was called before.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::Release;

/// What is no difference, but taken as it stands.
const OPAQUE: &str = "Difference";

/// The schema of the files in `releases`.
pub(super) fn schema() -> Value {
    let mut schema = schema_for!(Release).to_value();
    let mut definitions = schema["$defs"].take();
    let mut named = Vec::new();
    relax(&mut schema, &mut named);
    for (name, definition) in definitions.as_object_mut().into_iter().flatten() {
        if name != OPAQUE {
            relax(definition, &mut named);
        }
    }
    for name in named {
        let definition = &mut definitions[&name];
        if name != OPAQUE && definition["properties"].is_object() {
            definition["properties"]["was"] =
                json!({"description": "The name that the entry had in the release before.", "type": "string"});
            definition["properties"]["source"] =
                json!({"description": "The change upstream that gave it this name, such as `kubevirt#11676`.", "type": "string"});
        }
    }
    schema["$defs"] = definitions;
    schema["title"] = "A release of KubeVirt".into();
    schema["properties"]["after"] =
        json!({"description": "The release that this file is the difference to; the first file has none.", "type": "string"});
    schema["required"] = json!(["release"]);
    schema
}

/// Requires nothing, and lets everything be `null`. Takes down which definitions are entries of maps.
fn relax(schema: &mut Value, named: &mut Vec<String>) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.remove("required");
    for property in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        relax(property, named);
        allow_null(property);
    }
    if let Some(entry) = fields.get_mut("additionalProperties").filter(|entry| entry.is_object()) {
        named.extend(entry["$ref"].as_str().and_then(|place| place.strip_prefix("#/$defs/")).map(str::to_owned));
        relax(entry, named);
        allow_null(entry);
    }
}

fn allow_null(schema: &mut Value) {
    // What takes anything, and what takes null already.
    if schema.is_boolean() || schema["type"].as_array().is_some_and(|types| types.contains(&"null".into())) {
        return;
    }
    let description = schema.as_object_mut().and_then(|fields| fields.remove("description"));
    *schema = json!({"anyOf": [schema.take(), {"type": "null"}]});
    if let Some(description) = description {
        schema["description"] = description;
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::FILES;
    use super::*;

    #[test]
    fn every_file_fits_and_what_is_no_release_does_not() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        for text in FILES {
            let file: Value = wire::yaml::strict(text).unwrap();
            let errors: Vec<String> =
                validator.iter_errors(&file).map(|error| format!("{} {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", file["release"]);
        }
        for (text, fits) in [
            ("{release: a, qps: 1}", false),
            ("{after: a}", false),
            ("{release: b, after: a, groups: {g: {n: {was: o, source: 'up#1'}, gone: null}}}", true),
            ("{release: b, groups: {g: {n: {type: speed}}}}", false),
            ("{release: b, components: {c: {qps: many}}}", false),
            ("{release: b, components: {c: {informers: {i: {path: /a, colour: red}}}}}", false),
            ("{release: b, objects: {o: {absent: true}}}", false),
        ] {
            let file: Value = wire::yaml::strict(text).unwrap();
            assert_eq!(validator.is_valid(&file), fits, "{text}");
        }
    }
}
