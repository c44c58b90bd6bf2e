//! Decoding as Go's typed decoder does it: wrong types are errors, unknown fields are told and dropped, nulls and empty
//! maps and lists vanish.

use serde_json::Value;

use super::{Field, Kind, Path, Shape, Type, find, object_meta};

/// What was found in a body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// Paths of fields that the type does not have.
    pub(crate) unknown: Vec<String>,
}

/// Lists and maps that Go writes even where they are empty, besides the required ones.
const KEPT_EMPTY: [&str; 4] = ["rules", "endpoints", "subsets", "finalizers"];

/// Checks an object against its type and brings it into the form that typed decoding leaves.
///
/// # Errors
/// The message of Go's decoder for the first value of a wrong type.
pub(crate) fn check(object: &mut Value, of: &'static Type) -> Result<Findings, String> {
    let mut findings = Findings::default();
    message(object, of, &Path::Root, &mut findings)?;
    Ok(findings)
}

/// Checks only the metadata of an object whose type is not built in.
pub(crate) fn check_metadata(metadata: &mut Value) -> Result<Findings, String> {
    let mut findings = Findings::default();
    message(metadata, object_meta(), &Path::Field(&Path::Root, "metadata"), &mut findings)?;
    Ok(findings)
}

fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `v1.PodSpec` as Go prints it.
fn go_message(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, rest)| rest)
}

fn go_type(field: &Field) -> String {
    let one = match field.kind {
        Kind::String => "string",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Bool => "bool",
        Kind::Double => "float64",
        Kind::Bytes => "[]uint8",
        Kind::Strings => "[]string",
        Kind::Message(name) => go_message(name),
        Kind::Time | Kind::MicroTime | Kind::Duration | Kind::Quantity | Kind::IntOrString | Kind::Raw => "string",
    };
    match field.shape {
        Shape::One => one.to_owned(),
        Shape::List => format!("[]{one}"),
        Shape::Map => format!("map[string]{one}"),
    }
}

fn message(value: &mut Value, of: &'static Type, at: &Path<'_>, findings: &mut Findings) -> Result<(), String> {
    let Some(fields) = value.as_object_mut() else {
        return Err(format!("json: cannot unmarshal {} into Go value of type {}", json_name(value), go_message(of.name)));
    };
    let mut gone = Vec::new();
    for (name, value) in fields.iter_mut() {
        if matches!(at, Path::Root) && matches!(name.as_str(), "apiVersion" | "kind") {
            continue;
        }
        let Some(field) = of.field(name) else {
            findings.unknown.push(Path::Field(at, name).to_string());
            gone.push(name.clone());
            continue;
        };
        if value.is_null() {
            gone.push(name.clone());
            continue;
        }
        many(value, of, field, &Path::Field(at, name), findings)?;
        let is_empty = match (&*value, field.shape) {
            (Value::Array(list), _) => list.is_empty(),
            (Value::Object(map), Shape::Map) => map.is_empty(),
            _ => false,
        };
        if is_empty && !field.required && !KEPT_EMPTY.contains(&field.name) {
            gone.push(name.clone());
        }
    }
    for name in gone {
        fields.remove(&name);
    }
    Ok(())
}

fn mismatch(value: &Value, of: &Type, field: &Field, at: &Path<'_>, wanted: &str) -> String {
    let struct_name = of.name.rsplit('.').next().unwrap_or_default();
    let found = match value {
        Value::Number(number) if field.kind != Kind::String => format!("number {number}"),
        _ => json_name(value).to_owned(),
    };
    format!("json: cannot unmarshal {found} into Go struct field {struct_name}.{} of type {wanted}", at.fields())
}

fn many(
    value: &mut Value,
    of: &'static Type,
    field: &'static Field,
    at: &Path<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    match field.shape {
        Shape::One => one(value, of, field, at, findings),
        Shape::List => {
            let Value::Array(list) = value else { return Err(mismatch(value, of, field, at, &go_type(field))) };
            for (index, element) in list.iter_mut().enumerate() {
                one(element, of, field, &Path::Index(at, index), findings)?;
            }
            Ok(())
        }
        Shape::Map => {
            let Value::Object(map) = value else { return Err(mismatch(value, of, field, at, &go_type(field))) };
            for (key, element) in map.iter_mut() {
                if element.is_null() && field.kind == Kind::String {
                    // Go decodes null into the zero value.
                    *element = Value::String(String::new());
                }
                one(element, of, field, &Path::Key(at, key), findings)?;
            }
            Ok(())
        }
    }
}

fn one(
    value: &mut Value,
    of: &'static Type,
    field: &'static Field,
    at: &Path<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    let wrong = |value: &Value, wanted: &str| Err(mismatch(value, of, field, at, wanted));
    match field.kind {
        Kind::String if !value.is_string() => wrong(value, "string"),
        Kind::Bool if !value.is_boolean() => wrong(value, "bool"),
        Kind::Double if !value.is_number() => wrong(value, "float64"),
        Kind::Int32 | Kind::Int64 => {
            let wanted = if field.kind == Kind::Int32 { "int32" } else { "int64" };
            let Some(number) = value.as_i64().or_else(|| whole(value)) else { return wrong(value, wanted) };
            if field.kind == Kind::Int32 && i32::try_from(number).is_err() {
                return wrong(value, wanted);
            }
            if !value.is_i64() {
                *value = number.into();
            }
            Ok(())
        }
        Kind::Bytes => {
            use base64::Engine as _;
            let Some(text) = value.as_str() else { return wrong(value, "[]uint8") };
            match base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', '\r'], "")) {
                Ok(_) => Ok(()),
                Err(_) => Err(format!(
                    "illegal base64 data at input byte {}",
                    text.bytes()
                        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')))
                        .unwrap_or(0)
                )),
            }
        }
        Kind::Time | Kind::MicroTime => match value.as_str() {
            Some(text) if text.parse::<jiff::Timestamp>().is_ok() => Ok(()),
            Some(text) => {
                Err(format!("parsing time {0:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0:?} as \"2006\"", text))
            }
            None if value.is_null() => Ok(()),
            None => wrong(value, "string"),
        },
        Kind::Quantity => match value {
            Value::Number(number) => {
                *value = number.to_string().into();
                Ok(())
            }
            Value::String(text) if is_quantity(text) => Ok(()),
            Value::String(_) => {
                Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned())
            }
            _ => wrong(value, "string"),
        },
        Kind::IntOrString if !value.is_string() && value.as_i64().is_none() => wrong(value, "int32"),
        Kind::Duration if !value.is_string() => wrong(value, "string"),
        Kind::Strings if !value.is_array() => wrong(value, "[]string"),
        Kind::Message(name) => {
            if !value.is_object() {
                return wrong(value, go_message(name));
            }
            match find(name) {
                Some(of) => message(value, of, at, findings),
                None => Ok(()),
            }
        }
        Kind::String | Kind::Bool | Kind::Double | Kind::IntOrString | Kind::Duration | Kind::Strings | Kind::Raw => Ok(()),
    }
}

/// A whole number written as a float, such as `1.0`.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    (value.as_i64().is_none() && number.fract() == 0.0 && number.abs() < 2_147_483_648.0).then_some(number as i64)
}

/// apimachinery `pkg/api/resource` `ParseQuantity`.
fn is_quantity(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let digits = number.chars().any(|character| character.is_ascii_digit()) && number.matches('.').count() <= 1;
    let exponent = |rest: &str| {
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        !rest.is_empty() && rest.chars().all(|character| character.is_ascii_digit())
    };
    digits
        && (matches!(suffix, "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei")
            || suffix.strip_prefix(['e', 'E']).is_some_and(exponent))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        for (kind, object, message) in [
            (
                "core.v1.ConfigMap",
                json!({"data": {"a": 1}}),
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            (
                "apps.v1.Deployment",
                json!({"spec": {"replicas": "x"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "core.v1.Pod",
                json!({"spec": {"containers": [{"image": {}}]}}),
                "json: cannot unmarshal object into Go struct field Container.spec.containers.image of type string",
            ),
            ("core.v1.Pod", json!({"spec": []}), "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        ] {
            let mut object = object;
            assert_eq!(check(&mut object, find(kind).unwrap()).unwrap_err(), message);
        }
    }

    #[test]
    fn unknown_fields_are_named_and_dropped_and_nulls_vanish() {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": null, "annotations": {}},
            "spec": {"containers": [{"name": "c", "imag": "x"}], "nope": 1, "volumes": []}});
        let findings = check(&mut pod, find("core.v1.Pod").unwrap()).unwrap();
        assert_eq!(findings.unknown, ["spec.containers[0].imag", "spec.nope"]);
        assert_eq!(
            pod,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}})
        );
    }

    #[test]
    fn quantities_by_table() {
        for good in ["1", "100m", "1.5Gi", "-2", "1e3", "5E", "5E+3", ".5"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "x", "1x", "1..2", "Gi", "1 Gi", "1e"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }
}
