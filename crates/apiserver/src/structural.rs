//! Structural schemas of CustomResourceDefinitions: pruning, defaults, validation, CEL rules.
//!
//! Follows k8s.io/apiextensions-apiserver `pkg/apiserver/schema` and `validation`, with the words of kube-openapi.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use kube_cel::{CompiledSchema, ErrorKind, RootContext, Validator, compile_schema};
use serde_json::{Map, Value};

/// (field, reason, message) as `Status::invalid` takes them.
pub(crate) type Causes = Vec<(String, &'static str, String)>;

/// Takes out what the schema does not have; the paths of it.
pub(crate) fn prune(object: &mut Value, schema: &Value) -> Vec<String> {
    let mut gone = Vec::new();
    if schema.is_object() {
        prune_at(object, schema, true, "", &mut gone);
    }
    gone
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

fn prune_at(value: &mut Value, schema: &Value, is_object_root: bool, at: &str, gone: &mut Vec<String>) {
    let is_root = is_object_root || schema["x-kubernetes-embedded-resource"] == true;
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let additional = &schema["additionalProperties"];
            fields.retain(|name, value| {
                if is_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                if let Some(of) = properties.and_then(|properties| properties.get(name)) {
                    prune_at(value, of, false, &path, gone);
                    return true;
                }
                if additional.is_object() {
                    prune_at(value, additional, false, &path, gone);
                    return true;
                }
                if additional == true || preserves(schema) {
                    return true;
                }
                gone.push(path);
                false
            });
        }
        Value::Array(list) if schema["items"].is_object() => {
            for (index, element) in list.iter_mut().enumerate() {
                prune_at(element, &schema["items"], false, &format!("{at}[{index}]"), gone);
            }
        }
        _ => {}
    }
}

/// Sets what is missing and has a default; nulls that may not be null fall back to it too.
pub(crate) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, of) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = of.get("default")
                    && fields.get(name).is_none_or(|value| value.is_null() && of["nullable"] != true)
                {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    self::default(value, of);
                }
            }
            let additional = &schema["additionalProperties"];
            if additional.is_object() {
                let known = schema["properties"].as_object();
                for (name, value) in fields.iter_mut() {
                    if known.is_none_or(|known| !known.contains_key(name)) {
                        self::default(value, additional);
                    }
                }
            }
        }
        Value::Array(list) if schema["items"].is_object() => {
            for element in list {
                self::default(element, &schema["items"]);
            }
        }
        _ => {}
    }
}

/// Takes out nulls of fields that may not be null, at any depth; one that has a default gets it. Nulls in lists stay, and are refused
/// (apiextensions-apiserver `pkg/apiserver/schema/defaulting/prune.go`, `PruneNonNullableNullsWithoutDefaults`).
pub fn without_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let additional = Some(&schema["additionalProperties"]).filter(|of| of.is_object());
            fields.retain(|name, value| {
                let Some(of) = properties.and_then(|properties| properties.get(name)).or(additional) else { return true };
                if value.is_null() && of["nullable"] != true {
                    let Some(default) = of.get("default") else { return false };
                    *value = default.clone();
                }
                without_nulls(value, of);
                true
            });
        }
        Value::Array(list) if schema["items"].is_object() => {
            for element in list {
                without_nulls(element, &schema["items"]);
            }
        }
        _ => {}
    }
}

/// Every way in which an object breaks its schema, in the schema's order.
pub(crate) fn validate(object: &Value, schema: &Value) -> Causes {
    let mut causes = Causes::new();
    if schema.is_object() {
        validate_at(object, schema, "", true, &mut causes);
    }
    causes
}

/// What is wrong with an object of a file, by its schema.
pub struct Complaint {
    /// JSON pointer to the field.
    pub pointer: String,
    /// What is wrong with it, as the API server would say it.
    pub message: String,
    /// Whether the value has another type than the field: no typed program could read it.
    pub undecodable: bool,
}

/// What an API server would say to an object: the fields that it would drop, then the reasons for which it would refuse the rest.
pub fn complaints(object: &Value, schema: &Value) -> Vec<Complaint> {
    let mut known = object.clone();
    let dropped = prune(&mut known, schema).into_iter().map(|path| Complaint {
        pointer: pointer(&path),
        message: format!("unknown field \"{path}\""),
        undecodable: false,
    });
    default(&mut known, schema);
    without_nulls(&mut known, schema);
    let refused = validate(&known, schema).into_iter().map(|(path, reason, message)| Complaint {
        pointer: pointer(&path),
        message: format!("{path}: {message}"),
        undecodable: reason == "FieldValueTypeInvalid",
    });
    dropped.chain(refused).collect()
}

/// The JSON type as kube-openapi names it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// A path as messages name it; the root is "<nil>" in the real server's list of causes.
fn shown(at: &str) -> &str {
    if at.is_empty() { "<nil>" } else { at }
}

fn validate_at(value: &Value, schema: &Value, at: &str, is_object_root: bool, causes: &mut Causes) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let invalid = |causes: &mut Causes, message: String| {
        causes.push((shown(at).to_owned(), "FieldValueInvalid", format!("Invalid value: {value}: {at} in body {message}")));
    };
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let found = type_name(value);
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match wanted {
        "" => !int_or_string || matches!(found, "integer" | "string"),
        "integer" => found == "integer" || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => matches!(found, "integer" | "number"),
        wanted => found == wanted,
    };
    if !fits {
        let wanted = if wanted.is_empty() { "integer,string" } else { wanted };
        causes.push((
            shown(at).to_owned(),
            "FieldValueTypeInvalid",
            format!("Invalid value: \"{found}\": {at} in body must be of type {wanted}: \"{found}\""),
        ));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let text = |value: &Value| Value::from(value.as_str().map_or_else(|| value.to_string(), str::to_owned)).to_string();
        let listed: Vec<String> = allowed.iter().map(text).collect();
        causes.push((
            shown(at).to_owned(),
            "FieldValueNotSupported",
            format!("Unsupported value: {}: supported values: {}", text(value), listed.join(", ")),
        ));
    }
    match value {
        Value::Number(number) => validate_number(number.as_f64().unwrap_or(0.0), schema, causes, &invalid),
        Value::String(text) => validate_string(text, schema, at, causes, &invalid),
        Value::Array(list) => validate_list(value, list, schema, at, causes, &invalid),
        Value::Object(fields) => validate_fields(fields, schema, at, is_object_root, causes, &invalid),
        Value::Null | Value::Bool(_) => {}
    }
    let passes = |of: &Value| {
        let mut inner = Causes::new();
        validate_at(value, of, at, is_object_root, &mut inner);
        inner.is_empty()
    };
    let branches = |name: &str| schema[name].as_array().into_iter().flatten();
    if schema["allOf"].is_array() && !branches("allOf").all(passes) {
        for of in branches("allOf") {
            validate_at(value, of, at, is_object_root, causes);
        }
        invalid(causes, "must validate all the schemas (allOf)".to_owned());
    }
    if schema["anyOf"].is_array() && !branches("anyOf").any(passes) {
        invalid(causes, "must validate at least one schema (anyOf)".to_owned());
    }
    if schema["oneOf"].is_array() {
        match branches("oneOf").filter(|of| passes(of)).count() {
            1 => {}
            0 => invalid(causes, "must validate one and only one schema (oneOf). Found none valid".to_owned()),
            count => invalid(causes, format!("must validate one and only one schema (oneOf). Found {count} valid alternatives")),
        }
    }
    if schema["not"].is_object() && passes(&schema["not"]) {
        invalid(causes, "must not validate the schema (not)".to_owned());
    }
}

fn validate_number(number: f64, schema: &Value, causes: &mut Causes, invalid: &dyn Fn(&mut Causes, String)) {
    if let Some(minimum) = schema["minimum"].as_f64() {
        if schema["exclusiveMinimum"] == true && number <= minimum {
            invalid(causes, format!("should be greater than {minimum}"));
        } else if number < minimum {
            invalid(causes, format!("should be greater than or equal to {minimum}"));
        }
    }
    if let Some(maximum) = schema["maximum"].as_f64() {
        if schema["exclusiveMaximum"] == true && number >= maximum {
            invalid(causes, format!("should be less than {maximum}"));
        } else if number > maximum {
            invalid(causes, format!("should be less than or equal to {maximum}"));
        }
    }
    if let Some(factor) = schema["multipleOf"].as_f64().filter(|factor| *factor > 0.0)
        && (number / factor).fract() != 0.0
    {
        invalid(causes, format!("should be a multiple of {factor}"));
    }
}

fn validate_string(text: &str, schema: &Value, at: &str, causes: &mut Causes, invalid: &dyn Fn(&mut Causes, String)) {
    let length = text.chars().count() as u64;
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        invalid(causes, format!("should be at least {least} chars long"));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        causes.push((shown(at).to_owned(), "FieldValueTooLong", format!("Too long: may not be more than {most} bytes")));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && compiled(pattern).is_some_and(|regex| !regex.is_match(text))
    {
        invalid(causes, format!("should match '{pattern}'"));
    }
    if let Some(format) = schema["format"].as_str()
        && !has_format(text, format)
    {
        invalid(causes, format!("must be of type {format}: {}", Value::from(text)));
    }
}

/// A pattern of a schema, compiled once. Definitions bring few; should they be many, all are forgotten and compiled anew.
fn compiled(pattern: &str) -> Option<regex::Regex> {
    static PATTERNS: LazyLock<Mutex<HashMap<String, Option<regex::Regex>>>> = LazyLock::new(Mutex::default);
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = patterns.get(pattern) {
        return regex.clone();
    }
    if patterns.len() > MAX_PATTERNS {
        patterns.clear();
    }
    let regex = regex::Regex::new(pattern).ok();
    patterns.insert(pattern.to_owned(), regex.clone());
    regex
}

/// How many compiled patterns are kept.
const MAX_PATTERNS: usize = 4096;

/// The formats that the real server checks and that definitions use; any other is taken as it is.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "uuid" => {
            let parts: Vec<&str> = text.split('-').collect();
            let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
            (lengths == [8, 4, 4, 4, 12] || lengths == [32])
                && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        }
        "hostname" => !text.is_empty() && text.len() <= 253,
        _ => true,
    }
}

fn validate_list(
    value: &Value,
    list: &[Value],
    schema: &Value,
    at: &str,
    causes: &mut Causes,
    invalid: &dyn Fn(&mut Causes, String),
) {
    let count = list.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
        invalid(causes, format!("should have at least {least} items"));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        causes.push((shown(at).to_owned(), "FieldValueTooMany", message));
    }
    let duplicates = |of: &dyn Fn(&Value) -> String| {
        let mut seen = HashSet::new();
        (0..list.len()).filter(|index| !seen.insert(of(&list[*index]))).collect::<Vec<_>>()
    };
    if schema["uniqueItems"] == true && !duplicates(&Value::to_string).is_empty() {
        invalid(causes, "shouldn't contain duplicates".to_owned());
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let repeated = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => duplicates(&Value::to_string),
        Some("map") => duplicates(&|item| keys.iter().map(|key| format!("{}\n", item[*key])).collect()),
        _ => Vec::new(),
    };
    for index in repeated {
        let shown: Value = if keys.is_empty() {
            value[index].clone()
        } else {
            keys.iter().map(|key| ((*key).to_owned(), value[index][*key].clone())).collect::<Map<_, _>>().into()
        };
        causes.push((format!("{at}[{index}]"), "FieldValueDuplicate", format!("Duplicate value: {shown}")));
    }
    if schema["items"].is_object() {
        for (index, element) in list.iter().enumerate() {
            validate_at(element, &schema["items"], &format!("{at}[{index}]"), false, causes);
        }
    }
}

fn validate_fields(
    fields: &Map<String, Value>,
    schema: &Value,
    at: &str,
    is_object_root: bool,
    causes: &mut Causes,
    invalid: &dyn Fn(&mut Causes, String),
) {
    let count = fields.len() as u64;
    if let Some(least) = schema["minProperties"].as_u64().filter(|least| count < *least) {
        invalid(causes, format!("should have at least {least} properties"));
    }
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| count > *most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        causes.push((shown(at).to_owned(), "FieldValueTooMany", message));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            causes.push((join(at, name), "FieldValueRequired", "Required value".to_owned()));
        }
    }
    let properties = schema["properties"].as_object();
    let is_root = is_object_root || schema["x-kubernetes-embedded-resource"] == true;
    for (name, value) in fields {
        // Metadata is checked as ObjectMeta, not by the schema.
        if is_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(of) = properties.and_then(|properties| properties.get(name)) {
            validate_at(value, of, &join(at, name), false, causes);
        } else if schema["additionalProperties"].is_object() {
            validate_at(value, &schema["additionalProperties"], &join(at, name), false, causes);
        }
    }
}

/// The CEL rules of a definition's version, compiled once.
pub(crate) struct Rules(CompiledSchema);

impl Rules {
    /// The rules of a schema, if it has any.
    pub(crate) fn compile(schema: &Value) -> Option<Arc<Self>> {
        has_rules(schema).then(|| Arc::new(Self(compile_schema(schema))))
    }

    /// What an object breaks.
    pub(crate) fn check(&self, api_version: &str, kind: &str, object: &Value, old: Option<&Value>) -> Causes {
        thread_local! {
            // The functions are registered once for each thread: a validator may move between threads, but not be shared.
            static VALIDATOR: Validator = Validator::new();
        }
        let context = RootContext {
            api_version: api_version.to_owned(),
            api_group: api_version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default(),
            kind: kind.to_owned(),
        };
        let found = VALIDATOR.with(|validator| validator.validate_compiled_with_context(&self.0, object, old, Some(&context)));
        found
            .err()
            .into_iter()
            .flat_map(kube_cel::ValidationErrors::into_vec)
            .map(|error| {
                let at = error.field_path.trim_start_matches('.').to_owned();
                let value = object.pointer(&pointer(&at)).map_or("object", type_name);
                let reason = match error.reason.as_deref() {
                    Some("FieldValueRequired") => "FieldValueRequired",
                    Some("FieldValueForbidden") => "FieldValueForbidden",
                    Some("FieldValueDuplicate") => "FieldValueDuplicate",
                    _ => "FieldValueInvalid",
                };
                let message = if error.kind == ErrorKind::ValidationFailure && error.message.is_empty() {
                    format!("failed rule: {}", error.rule)
                } else {
                    error.message
                };
                let message = match reason {
                    "FieldValueRequired" => format!("Required value: {message}"),
                    "FieldValueForbidden" => format!("Forbidden: {message}"),
                    "FieldValueDuplicate" => format!("Duplicate value: \"{value}\""),
                    _ => format!("Invalid value: \"{value}\": {message}"),
                };
                (shown(&at).to_owned(), reason, message)
            })
            .collect()
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| name == "x-kubernetes-validations" || has_rules(value)),
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}

/// A path of a message as a JSON pointer: `spec.list[1].x` is `/spec/list/1/x`.
pub(crate) fn pointer(path: &str) -> String {
    if path.is_empty() || path == "<nil>" {
        return String::new();
    }
    format!("/{}", path.replace('[', ".").replace(']', "").replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
            "port": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "default": "x"}}}},
        }, "x-kubernetes-validations": [{"rule": "self.size != 7", "message": "seven is taken"}]}}})
    }

    #[test]
    fn pruned_and_defaulted() {
        let mut object = json!({"apiVersion": "a/v1", "metadata": {"x": 1}, "top": 1,
            "spec": {"size": 1, "nope": 1, "free": {"any": 1}, "list": [{"k": "a", "z": 1}]}});
        assert_eq!(prune(&mut object, &schema()), ["spec.list[0].z", "spec.nope", "top"]);
        default(&mut object, &schema());
        assert_eq!(object["spec"], json!({"size": 1, "mode": "a", "free": {"any": 1}, "list": [{"k": "a", "v": "x"}]}));
    }

    #[test]
    fn nulls_are_as_good_as_absent() {
        let of = |more: Value| {
            let mut schema = json!({"type": "object", "properties": {
                "plain": {"type": "string"}, "may": {"type": "string", "nullable": true}, "mode": {"type": "string", "default": "a"},
                "deep": {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
            for (name, value) in more.as_object().into_iter().flatten() {
                schema["properties"][name] = value.clone();
            }
            schema
        };
        for (object, expected) in [
            (json!({"plain": null, "may": null}), json!({"may": null})),
            (json!({"mode": null}), json!({"mode": "a"})),
            (json!({"deep": {"list": null}}), json!({"deep": {}})),
            (json!({"deep": {"list": [{"k": null}, null]}}), json!({"deep": {"list": [{}, null]}})),
            (json!({"map": {"x": null, "y": "z"}}), json!({"map": {"y": "z"}})),
            (json!({"free": {"x": null}, "unknown": null}), json!({"free": {"x": null}, "unknown": null})),
        ] {
            let mut found = object.clone();
            without_nulls(&mut found, &of(json!({})));
            assert_eq!(found, expected, "{object}");
        }
        let told = complaints(&json!({"plain": null, "deep": {"list": [null]}}), &of(json!({})));
        let told: Vec<&str> = told.iter().map(|complaint| complaint.message.as_str()).collect();
        assert_eq!(told, ["deep.list[0]: Invalid value: \"null\": deep.list[0] in body must be of type object: \"null\""]);
    }

    #[test]
    fn broken_objects_are_told_every_cause() {
        for (spec, causes) in [
            (json!({}), vec!["spec.size: Required value"]),
            (json!({"size": 0}), vec!["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]),
            (
                json!({"size": 1, "port": true}),
                vec!["spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\""],
            ),
            (
                json!({"size": 1, "name": "ABCD"}),
                vec![
                    "spec.name: Too long: may not be more than 3 bytes",
                    "spec.name: Invalid value: \"ABCD\": spec.name in body should match '^[a-z]+$'",
                ],
            ),
            (json!({"size": 1, "list": [{"k": "a"}, {"k": "a"}]}), vec!["spec.list[1]: Duplicate value: {\"k\":\"a\"}"]),
            (
                json!({"size": 2, "mode": null}),
                vec!["spec.mode: Invalid value: \"null\": spec.mode in body must be of type string: \"null\""],
            ),
        ] {
            let found: Vec<String> = validate(&json!({"spec": spec}), &schema())
                .into_iter()
                .map(|(field, _, message)| format!("{field}: {message}"))
                .collect();
            assert_eq!(found, causes);
        }
    }

    #[test]
    fn rules_are_evaluated() {
        let rules = Rules::compile(&schema()).unwrap();
        let found = rules.check("a/v1", "A", &json!({"spec": {"size": 7}}), None);
        assert_eq!(found, [("spec".to_owned(), "FieldValueInvalid", "Invalid value: \"object\": seven is taken".to_owned())]);
        assert!(rules.check("a/v1", "A", &json!({"spec": {"size": 8}}), None).is_empty());
    }
}
