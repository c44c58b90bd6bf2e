//! Protobuf bodies: client-go's typed clients (and with them kubectl) send built-in kinds so.
//!
//! The envelope is `k8s\0` and a `runtime.Unknown` (apimachinery `pkg/runtime/serializer/protobuf`). Answers are JSON,
//! which every client that sends protobuf accepts too.

use serde_json::{Map, Value};

use super::{Field, Kind, Shape, Type, find, of_kind};

/// How deep messages may nest. JSONSchemaProps is the one type that holds itself.
const MAX_DEPTH: usize = 64;

/// Fields that Go holds by pointer: zero is a value there, where it is nothing elsewhere.
const POINTERS: &[&str] = &[
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "appProtocol",
    "automountServiceAccountToken",
    "backoffLimit",
    "backoffLimitPerIndex",
    "blockOwnerDeletion",
    "completions",
    "controller",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "gracePeriodSeconds",
    "hostUsers",
    "immutable",
    "leaseDurationSeconds",
    "leaseTransitions",
    "maxReplicas",
    "minReplicas",
    "mode",
    "observedGeneration",
    "optional",
    "orphanDependents",
    "parallelism",
    "partition",
    "percentage",
    "periodSeconds",
    "privileged",
    "procMount",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "started",
    "stabilizationWindowSeconds",
    "storageClassName",
    "successfulJobsHistoryLimit",
    "suspend",
    "terminating",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
];

/// The object in an enveloped body.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let body = body.strip_prefix(b"k8s\0").ok_or("provided data does not appear to be a protobuf message")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for entry in Wire(body) {
        match entry? {
            (1, Item::Bytes(inner)) => {
                for entry in Wire(inner) {
                    match entry? {
                        (1, Item::Bytes(text)) => api_version = utf8(text)?,
                        (2, Item::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(inner)) => raw = inner,
            _ => {}
        }
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let of = of_kind(group, version, &kind)
        .or_else(|| find(&format!("meta.v1.{kind}")))
        .ok_or_else(|| format!("no kind \"{kind}\" is registered for version \"{api_version}\""))?;
    let mut object = message(raw, of, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

enum Item<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message in the order of the wire.
struct Wire<'a>(&'a [u8]);

impl Wire<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(number);
            }
        }
        None
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u32, Item<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut read = || -> Option<(u32, Item<'a>)> {
            let key = self.varint()?;
            let item = match key & 7 {
                0 => Item::Varint(self.varint()?),
                1 => {
                    let (bytes, rest) = self.0.split_first_chunk::<8>()?;
                    self.0 = rest;
                    Item::Fixed64(u64::from_le_bytes(*bytes))
                }
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    let (bytes, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    Item::Bytes(bytes)
                }
                5 => {
                    let (bytes, rest) = self.0.split_first_chunk::<4>()?;
                    self.0 = rest;
                    Item::Fixed32(u32::from_le_bytes(*bytes))
                }
                _ => return None,
            };
            Some((u32::try_from(key >> 3).ok()?, item))
        };
        let found = read().ok_or_else(|| "unexpected EOF".to_owned());
        if found.is_err() {
            self.0 = &[];
        }
        Some(found)
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "string field contains invalid UTF-8".to_owned())
}

fn message(bytes: &[u8], of: &'static Type, depth: usize) -> Result<Map<String, Value>, String> {
    if depth > MAX_DEPTH {
        return Err("messages nest too deeply".to_owned());
    }
    let mut out = Map::new();
    for entry in Wire(bytes) {
        let (tag, item) = entry?;
        // Fields of newer versions are skipped, as protobuf has it.
        let Some(field) = of.fields.iter().find(|field| field.tag == tag) else { continue };
        if field.inline
            && let (Kind::Message(name), Item::Bytes(inner)) = (field.kind, &item)
            && let Some(inner_type) = find(name)
        {
            out.extend(message(inner, inner_type, depth + 1)?);
            continue;
        }
        match field.shape {
            Shape::One => {
                if let Some(value) = one(&item, field, depth)?
                    && !is_nothing(&value, field)
                {
                    out.insert(field.name.to_owned(), value);
                }
            }
            Shape::List => {
                let list = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = list.as_array_mut() {
                    // Packed numbers come in one field.
                    match (&item, field.kind) {
                        (Item::Bytes(packed), Kind::Int32 | Kind::Int64) => {
                            let mut rest = Wire(packed);
                            while !rest.0.is_empty() {
                                list.push((rest.varint().ok_or("unexpected EOF")? as i64).into());
                            }
                        }
                        _ => list.push(one(&item, field, depth)?.unwrap_or(Value::Null)),
                    }
                }
            }
            Shape::Map => {
                let Item::Bytes(entry) = item else { return Err("a map entry is not a message".to_owned()) };
                let (mut key, mut value) = (String::new(), None);
                for part in Wire(entry) {
                    match part? {
                        (1, Item::Bytes(text)) => key = utf8(text)?,
                        (2, item) => value = one(&item, field, depth)?,
                        _ => {}
                    }
                }
                let value = value.unwrap_or_else(|| {
                    if matches!(field.kind, Kind::Message(_)) { Value::Object(Map::new()) } else { "".into() }
                });
                let map = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(out)
}

/// A zero that Go would leave out.
fn is_nothing(value: &Value, field: &Field) -> bool {
    let zero = match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Null => true,
        _ => false,
    };
    zero && !field.required && !POINTERS.contains(&field.name)
}

fn one(item: &Item<'_>, field: &Field, depth: usize) -> Result<Option<Value>, String> {
    use base64::Engine as _;
    Ok(Some(match (field.kind, item) {
        (Kind::Int32, Item::Varint(number)) => i64::from(*number as i32).into(),
        (Kind::Int64, Item::Varint(number)) => (*number as i64).into(),
        (Kind::Bool, Item::Varint(number)) => (*number != 0).into(),
        (Kind::Double, Item::Fixed64(bits)) => f64::from_bits(*bits).into(),
        (Kind::Double, Item::Fixed32(bits)) => f64::from(f32::from_bits(*bits)).into(),
        (Kind::String, Item::Bytes(text)) => utf8(text)?.into(),
        (Kind::Bytes, Item::Bytes(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
        (Kind::Time | Kind::MicroTime, Item::Bytes(inner)) => {
            let (mut seconds, mut nanos, mut any) = (0i64, 0i32, false);
            for entry in Wire(inner) {
                match entry? {
                    (1, Item::Varint(number)) => (seconds, any) = (number as i64, true),
                    (2, Item::Varint(number)) => nanos = number as i32,
                    _ => {}
                }
            }
            // Go writes its zero time, in the year 1, for "no time".
            if !any || seconds <= -62_135_596_800 {
                return Ok(None);
            }
            let time = jiff::Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
            let format = if field.kind == Kind::Time { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%6fZ" };
            time.strftime(format).to_string().into()
        }
        (Kind::Duration, Item::Bytes(inner)) => {
            let mut nanos = 0i64;
            for entry in Wire(inner) {
                if let (1, Item::Varint(number)) = entry? {
                    nanos = number as i64;
                }
            }
            format!("{}s", nanos as f64 / 1e9).into()
        }
        (Kind::Quantity, Item::Bytes(inner)) => {
            let mut text = "0".to_owned();
            for entry in Wire(inner) {
                if let (1, Item::Bytes(bytes)) = entry? {
                    text = utf8(bytes)?;
                }
            }
            text.into()
        }
        (Kind::IntOrString, Item::Bytes(inner)) => {
            let (mut is_text, mut number, mut text) = (false, 0i32, String::new());
            for entry in Wire(inner) {
                match entry? {
                    (1, Item::Varint(kind)) => is_text = kind == 1,
                    (2, Item::Varint(value)) => number = value as i32,
                    (3, Item::Bytes(bytes)) => text = utf8(bytes)?,
                    _ => {}
                }
            }
            if is_text { text.into() } else { number.into() }
        }
        (Kind::Strings, Item::Bytes(inner)) => {
            let mut list = Vec::new();
            for entry in Wire(inner) {
                if let (1, Item::Bytes(bytes)) = entry? {
                    list.push(Value::from(utf8(bytes)?));
                }
            }
            list.into()
        }
        // RawExtension, FieldsV1 and JSON hold JSON in their first field.
        (Kind::Raw, Item::Bytes(inner)) => {
            for entry in Wire(inner) {
                if let (1, Item::Bytes(bytes)) = entry? {
                    return serde_json::from_slice(bytes).map(Some).map_err(|error| error.to_string());
                }
            }
            return Ok(None);
        }
        (Kind::Message(name), Item::Bytes(inner)) => {
            let of = find(name).ok_or_else(|| format!("unknown message {name}"))?;
            Value::Object(message(inner, of, depth + 1)?)
        }
        _ => return Err(format!("field {} has the wrong wire type", field.name)),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(tag: u8, inner: &[u8]) -> Vec<u8> {
        [&[tag << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map() {
        let metadata = [bytes(1, b"c"), bytes(3, b"demo"), bytes(8, b"")].concat();
        let data = [bytes(1, b"a"), bytes(2, b"b")].concat();
        let body = envelope("v1", "ConfigMap", &[bytes(1, &metadata), bytes(2, &data)].concat());
        let object = decode(&body).unwrap();
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "demo"}, "data": {"a": "b"}})
        );
    }

    #[test]
    fn pointers_keep_their_zero_and_inlined_messages_are_flat() {
        // Deployment{spec{replicas: 0, minReadySeconds: 0, template{spec{volumes: [{name: v, emptyDir: {}}]}}}}
        let volume = [bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat();
        let template = bytes(2, &bytes(1, &volume));
        let spec = [vec![1 << 3, 0], vec![5 << 3, 0], bytes(3, &template)].concat();
        let body = envelope("apps/v1", "Deployment", &bytes(2, &spec));
        let object = decode(&body).unwrap();
        assert_eq!(object["spec"]["replicas"], 0);
        assert!(object["spec"].get("minReadySeconds").is_none());
        assert_eq!(object["spec"]["template"]["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    }

    #[test]
    fn broken_bodies_are_errors() {
        for body in [&b""[..], b"{}", b"k8s\0", b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"k8s\0\x12\x05a"] {
            assert!(decode(body).is_err(), "{body:?}");
        }
        assert!(decode(&envelope("v1", "Pod", b"\x12\x7f")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let short: Vec<u8> = raw.iter().take(100).copied().collect();
            let _ = decode(&envelope("v1", "Pod", &short));
            let _ = decode(&[b"k8s\0".to_vec(), raw].concat());
        }
    }
}
