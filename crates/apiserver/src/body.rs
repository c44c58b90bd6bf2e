//! Request bodies: JSON, YAML and protobuf, read as the real server reads them. What a body has too much (unknown and
//! duplicate fields) is refused, told in `Warning` headers, or ignored, as `fieldValidation` says.

use std::fmt;

use kubeapi::{Query, Status};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::core::Call;
use crate::resource::Resource;
use crate::structural;
use crate::types::{self, Path};

/// What `fieldValidation` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub(crate) fn from_query(query: &Query) -> Self {
        match query.get("fieldValidation") {
            Some("Strict") => Self::Strict,
            Some("Ignore") => Self::Ignore,
            // The default since 1.25 (apiserver `endpoints/handlers/fieldmanager`).
            _ => Self::Warn,
        }
    }
}

/// A body and what is wrong with it that need not stop it.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) value: Value,
    /// Paths of fields that stand there twice.
    duplicates: Vec<String>,
}

/// What stands in the body, whatever it is about.
///
/// # Errors
/// 415 for a content type that is not served, 400 for a body that cannot be read.
pub(crate) fn read(call: &Call<'_>) -> Result<Body, Status> {
    match call.content_type {
        "application/yaml" | "application/x-yaml" | "application/apply-patch+yaml" => from_yaml(call.body),
        "application/vnd.kubernetes.protobuf" => {
            let value = types::decode_protobuf(call.body).map_err(Status::bad_request)?;
            Ok(Body { value, duplicates: Vec::new() })
        }
        "application/json"
        | "application/json-patch+json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/apply-patch+json"
        | "*/*" => from_json(call.body),
        other => Err(Status::new(
            415,
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml, application/vnd.kubernetes.protobuf (got {other})"
            ),
        )),
    }
}

/// The options in the body of a delete; none at all is fine.
pub(crate) fn read_options(call: &Call<'_>) -> Result<Value, Status> {
    if call.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    let value = read(call)?.value;
    if value.is_object() { Ok(value) } else { Err(Status::bad_request("the options in the body are not an object")) }
}

fn from_yaml(body: &[u8]) -> Result<Body, Status> {
    let unreadable = |error: &dyn fmt::Display| Status::bad_request(format!("error decoding YAML: {error}"));
    let text = std::str::from_utf8(body).map_err(|error| unreadable(&error))?;
    // JSON is YAML, and most clients that say YAML send JSON.
    if text.trim_start().starts_with('{')
        && let Ok(body) = from_json(body)
    {
        return Ok(body);
    }
    let mut documents = wire::yaml::manifests(text).map_err(|error| unreadable(&error))?;
    if documents.len() == 1 {
        Ok(Body { value: documents.remove(0), duplicates: Vec::new() })
    } else {
        Err(unreadable(&"the body must hold one document"))
    }
}

pub(crate) fn from_json(body: &[u8]) -> Result<Body, Status> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Node { at: &Path::Root, duplicates: &mut duplicates }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            if body.is_empty() {
                Status::bad_request("EOF")
            } else {
                Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
            }
        })?;
    Ok(Body { value, duplicates })
}

/// Builds a `Value` and notes keys that stand twice in one object; the last one wins, as in Go.
struct Node<'a> {
    at: &'a Path<'a>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) =
            seq.next_element_seed(Node { at: &Path::Index(self.at, out.len()), duplicates: self.duplicates })?
        {
            out.push(value);
        }
        Ok(out.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = Path::Field(self.at, &key);
            let value = map.next_value_seed(Node { at: &at, duplicates: self.duplicates })?;
            if out.contains_key(&key) {
                self.duplicates.push(at.to_string());
            }
            out.insert(key, value);
        }
        Ok(out.into())
    }
}

/// Brings an object into the form of its type: what the type does not have goes, with a complaint by `validation`.
/// Returns warnings.
///
/// # Errors
/// 400 where a value has the wrong type, or where a field is unknown or twice there and `validation` is strict.
pub(crate) fn conform(
    resource: &Resource,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let unusable = |why: &str| {
        Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {why}",
            resource.kind, resource.version, resource.kind
        ))
    };
    let unknown = if let Some(version) = &resource.custom {
        let mut found = types::check_metadata(&mut object["metadata"]).map_err(|why| unusable(&why))?.unknown;
        found.extend(structural::prune(object, &version["schema"]["openAPIV3Schema"]));
        found
    } else if let Some(of) = resource.built_in {
        types::check(object, of).map_err(|why| unusable(&why))?.unknown
    } else {
        Vec::new()
    };
    let complaints: Vec<String> = duplicates
        .iter()
        .map(|path| format!("duplicate field \"{path}\""))
        .chain(unknown.iter().map(|path| format!("unknown field \"{path}\"")))
        .collect();
    match validation {
        _ if complaints.is_empty() => Ok(complaints),
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(complaints),
        FieldValidation::Strict => Err(unusable(&format!("strict decoding error: {}", complaints.join(", ")))),
    }
}

impl Body {
    /// See [`conform`].
    pub(crate) fn conform(&mut self, resource: &Resource, validation: FieldValidation) -> Result<Vec<String>, Status> {
        conform(resource, &mut self.value, &self.duplicates, validation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_and_the_last_one_wins() {
        let body = from_json(br#"{"a": {"b": 1, "b": 2}, "c": [{"d": 1, "d": {"e": 1}}]}"#).unwrap();
        assert_eq!(body.duplicates, ["a.b", "c[0].d"]);
        assert_eq!(body.value["a"]["b"], 2);
    }

    #[test]
    fn what_is_no_json_is_a_bad_request() {
        for body in [&b""[..], b"{", b"{} {}", b"\xff", &[b'['; 10_000]] {
            assert_eq!(from_json(body).unwrap_err().code, 400);
        }
    }
}
