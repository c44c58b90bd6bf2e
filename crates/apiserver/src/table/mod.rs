//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. Columns and cells follow k8s.io/kubernetes
//! `pkg/printers/internalversion/printers.go`; custom resources print their `additionalPrinterColumns`.

use jiff::Timestamp;
use kubeapi::object;
use serde_json::{Value, json};

use crate::resource::Resource;
use built_in::{age, cells, columns, list, text};

mod built_in;

/// The age of a time as kubectl words it (`k8s.io/apimachinery/pkg/util/duration.HumanDuration`).
pub fn human_duration(seconds: i64) -> String {
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10800 => format!("{minutes}m"),
        10800..28800 => two(hours, "h", minutes % 60, "m"),
        28800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", hours / 24),
        63_072_000..252_288_000 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// Looks a printer column's simple JSONPath up: `.a.b`, `.a[0].b`, `.a[?(@.type=="Ready")].status`.
pub(crate) fn json_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            if end > 0 {
                value = value.get(tail[..end].replace("\\", "").as_str())?;
            }
            rest = &tail[end..];
        } else if let Some(tail) = rest.strip_prefix('[') {
            let end = tail.find(']')?;
            let inside = &tail[..end];
            rest = &tail[end + 1..];
            value = if let Some(filter) = inside.strip_prefix("?(@.").and_then(|text| text.strip_suffix(')')) {
                let (field, wanted) = filter.split_once("==")?;
                let wanted = wanted.trim().trim_matches(['"', '\'']);
                value.as_array()?.iter().find(|item| item[field.trim()] == wanted)?
            } else if let Ok(index) = inside.parse::<usize>() {
                value.get(index)?
            } else {
                value.get(inside.trim_matches(['"', '\'']))?
            };
        } else {
            return None;
        }
    }
    Some(value)
}

fn custom_columns(version: &Value) -> Vec<Value> {
    let mut columns = vec![json!({"name": "Name", "type": "string", "format": "name", "priority": 0, "description": ""})];
    let printed: Vec<&Value> = list(&version["additionalPrinterColumns"]).collect();
    if printed.is_empty() {
        columns.push(json!({"name": "Age", "type": "date", "format": "", "priority": 0, "description": ""}));
    }
    for column in printed {
        columns.push(json!({
            "name": column["name"],
            "type": column["type"],
            "format": text(&column["format"]),
            "description": text(&column["description"]),
            "priority": column["priority"].as_i64().unwrap_or(0),
        }));
    }
    columns
}

fn custom_cells(version: &Value, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![object::name(object).into()];
    let printed: Vec<&Value> = list(&version["additionalPrinterColumns"]).collect();
    if printed.is_empty() {
        cells.push(age(now, &object["metadata"]["creationTimestamp"]).into());
    }
    for column in printed {
        let value = json_path(object, text(&column["jsonPath"])).cloned().unwrap_or(Value::Null);
        cells.push(match column["type"].as_str() {
            Some("date") if !value.is_null() => age(now, &value).into(),
            Some("string") if !value.is_null() && !value.is_string() => value.to_string().into(),
            _ => value,
        });
    }
    cells
}

/// Column definitions of a resource.
pub(crate) fn column_definitions(resource: &Resource) -> Vec<Value> {
    match &resource.custom {
        Some(version) => custom_columns(version),
        None => columns(resource)
            .iter()
            .map(|(name, kind, format, priority)| {
                json!({"name": name, "type": kind, "format": format, "priority": priority, "description": ""})
            })
            .collect(),
    }
}

/// The row of one object; `include` is `Metadata` (what kubectl asks for), `Object` or `None`.
pub(crate) fn row(resource: &Resource, object: &Value, include: &str, now: Timestamp) -> Value {
    let cells = match &resource.custom {
        Some(version) => custom_cells(version, object, now),
        None => cells(resource, object, now),
    };
    let mut row = json!({"cells": cells});
    match include {
        "None" => {}
        "Object" => row["object"] = object.clone(),
        _ => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
    }
    row
}

/// A whole table.
pub(crate) fn table(resource: &Resource, objects: &[Value], metadata: Value, include: &str, now: Timestamp) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": column_definitions(resource),
        "rows": objects.iter().map(|object| row(resource, object, include, now)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_as_kubectl_words_them() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (295, "4m55s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (3 * 86400, "3d"),
            (3 * 86400 + 3600, "3d1h"),
            (30 * 86400, "30d"),
            (800 * 86400, "2y70d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn simple_paths() {
        let object = json!({"spec": {"list": [{"type": "A", "v": 1}, {"type": "B", "v": 2}]}});
        assert_eq!(json_path(&object, ".spec.list[1].v"), Some(&json!(2)));
        assert_eq!(json_path(&object, ".spec.list[?(@.type==\"B\")].v"), Some(&json!(2)));
        assert_eq!(json_path(&object, ".spec.none.x"), None);
    }
}
