//! What Alertmanager's configuration consists of, as the operator knows it: types as tables of fields, each with how it is printed.
//!
//! A base configuration is read through these tables and printed anew, and what AlertmanagerConfigs become goes the same way. So what
//! is empty vanishes, what is not known is refused, and a version that does not know a field does not get it ([`super::versions`]).

use serde_json::{Map, Value};

use super::intervals;
use super::text::{check_url, duration, host_port, print_duration};
use super::versions::Rule;
use crate::config::is_empty;

/// How a field is read and printed.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Left out when empty.
    Text,
    /// A text that is printed even if it is empty, once it is given.
    TextGiven,
    /// A text that is always printed.
    TextAlways,
    /// A URL of the web; left out when empty.
    Url,
    /// `host:port`; left out when empty.
    Host,
    /// Left out when false.
    Switch,
    /// Printed when given, true or false.
    SwitchGiven,
    /// Always printed.
    SwitchAlways,
    /// Always printed, null when it is not given.
    SwitchOrNull,
    /// Left out when zero.
    Number,
    /// Printed in its canonical form.
    Duration,
    /// A list of texts; left out when empty.
    Texts,
    /// A map of texts; left out when empty.
    Map,
    /// Anything that is not empty.
    Any,
    /// Printed when given, even if nothing is in it.
    One(&'static Type),
    /// Left out when nothing is in it.
    Filled(&'static Type),
    /// A list; left out when empty.
    Many(&'static Type),
    /// Named time intervals.
    Intervals,
}

/// A type: the name that messages have for it, its fields by how they are printed (names with blanks between them), and what versions
/// make of them.
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(Kind, &'static str)],
    pub(super) rules: &'static [Rule],
}

/// Fields that Alertmanager knows and the operator does not: the type, the field.
const FOREIGN: [(&str, &str); 7] = [
    ("alertmanagerConfig", "tracing"),
    ("alertmanagerConfig", "event_recorder"),
    ("receiver", "labels"),
    ("inhibitRule", "name"),
    ("discordConfig", "webhook_url_file"),
    ("msTeamsConfig", "webhook_url_file"),
    ("mattermostConfig", "type"),
];

/// What is wrong with a text, while it is read.
pub(super) struct Faults<'a> {
    /// The text, to name lines; none where an object was converted, which has been checked before.
    text: Option<&'a str>,
    /// What does not fit the types, all of it.
    unfit: Vec<String>,
    /// What the operator's own types do not know.
    foreign: Vec<String>,
    /// The first value that cannot be.
    wrong: Option<String>,
}

impl<'a> Faults<'a> {
    pub(super) fn of(text: Option<&'a str>) -> Self {
        Self { text, unfit: Vec::new(), foreign: Vec::new(), wrong: None }
    }

    /// Whether this is a text of the user's.
    fn strict(&self) -> bool {
        self.text.is_some()
    }

    /// The place of a field: the first line that it is in. The text itself is at the first.
    fn line(&self, field: &str) -> String {
        let is_in = |line: &str| {
            line.match_indices(field).any(|(at, _)| {
                let after = line[at + field.len()..].trim_start_matches(['"', '\'', ' ']);
                line[..at].chars().next_back().is_none_or(|before| " -{,\"'".contains(before)) && after.starts_with(':')
            })
        };
        let found = match self.text {
            None => None,
            Some(_) if field.is_empty() => Some(0),
            Some(text) => text.lines().position(is_in),
        };
        found.map_or_else(String::new, |index| format!("line {}: ", index + 1))
    }

    fn unknown(&mut self, of: &Type, field: &str) {
        let line = self.line(field);
        if FOREIGN.contains(&(of.name, field)) {
            self.foreign.push(format!("{line}field {field} not found in type alertmanager.{}", of.name));
        } else {
            self.unfit.push(format!("{line}field {field} not found in type config.plain"));
        }
    }

    fn mismatch(&mut self, field: &str, value: &Value, wanted: &str) {
        let found = match value {
            Value::Object(_) => "!!map".to_owned(),
            Value::Array(_) => "!!seq".to_owned(),
            Value::String(text) => format!("!!str `{text}`"),
            Value::Bool(_) => format!("!!bool `{value}`"),
            other => format!("!!int `{other}`"),
        };
        let line = self.line(field);
        self.unfit.push(format!("{line}cannot unmarshal {found} into {wanted}"));
    }

    /// Notes a value that cannot be; the first one is told.
    pub(super) fn wrong(&mut self, why: String) {
        self.wrong.get_or_insert(why);
    }

    /// What there is to tell: of Alertmanager's first, then of the operator's.
    pub(super) fn told(self) -> Result<(), String> {
        if let Some(why) = self.wrong {
            return Err(why);
        }
        let all = if self.unfit.is_empty() { self.foreign } else { self.unfit };
        if all.is_empty() { Ok(()) } else { Err(format!("yaml: unmarshal errors:\n  {}", all.join("\n  "))) }
    }
}

impl Type {
    /// Alertmanager's own name for a pointer to it.
    fn in_messages(&self) -> String {
        let (first, rest) = self.name.split_at(1);
        format!("*config.{}{rest}", first.to_uppercase())
    }

    fn kind(&self, field: &str) -> Option<Kind> {
        self.fields.iter().find(|(_, names)| names.split_whitespace().any(|name| name == field)).map(|(kind, _)| *kind)
    }

    /// What a value of this type is, printed anew.
    pub(super) fn read(&self, field: &str, value: &Value, faults: &mut Faults<'_>) -> Map<String, Value> {
        let mut out = Map::new();
        let empty = Map::new();
        let given = match value {
            Value::Object(given) => given,
            Value::Null => &empty,
            other => {
                faults.mismatch(field, other, "config.plain");
                &empty
            }
        };
        for (name, value) in given {
            let Some(kind) = self.kind(name) else {
                faults.unknown(self, name);
                continue;
            };
            if let Some(printed) = kind.print(name, value, faults) {
                out.insert(name.clone(), printed);
            }
        }
        for (kind, names) in self.fields {
            let Some(always) = kind.absent() else { continue };
            for name in names.split_whitespace() {
                out.entry(name).or_insert_with(|| always.clone());
            }
        }
        out
    }
}

impl Kind {
    /// What is printed where the field is not given.
    fn absent(self) -> Option<Value> {
        match self {
            Self::TextAlways => Some("".into()),
            Self::SwitchAlways => Some(false.into()),
            Self::SwitchOrNull => Some(Value::Null),
            Self::Text
            | Self::TextGiven
            | Self::Url
            | Self::Host
            | Self::Switch
            | Self::SwitchGiven
            | Self::Number
            | Self::Duration
            | Self::Texts
            | Self::Map
            | Self::Any
            | Self::One(_)
            | Self::Filled(_)
            | Self::Many(_)
            | Self::Intervals => None,
        }
    }

    fn print(self, field: &str, value: &Value, faults: &mut Faults<'_>) -> Option<Value> {
        if value.is_null() {
            return None;
        }
        match self {
            Self::Text | Self::TextGiven | Self::TextAlways | Self::Url | Self::Host | Self::Duration => {
                let text = scalar(value).or_else(|| {
                    faults.mismatch(field, value, "string");
                    None
                })?;
                self.print_text(field, text, faults)
            }
            Self::Switch | Self::SwitchGiven | Self::SwitchAlways | Self::SwitchOrNull => {
                let Some(on) = switch(value) else {
                    faults.mismatch(field, value, "bool");
                    return None;
                };
                (on || !matches!(self, Self::Switch)).then(|| on.into())
            }
            Self::Number => {
                let Some(number) = value.as_i64() else {
                    faults.mismatch(field, value, "int64");
                    return None;
                };
                (number != 0).then(|| number.into())
            }
            Self::Texts => {
                let texts: Vec<Value> = list(field, "string", value, faults).iter().filter_map(scalar).map(Value::from).collect();
                (!texts.is_empty()).then(|| texts.into())
            }
            Self::Map => print_map(field, value, faults),
            Self::Any => Some(value.clone()).filter(|value| !is_empty(value)),
            Self::One(of) => Some(of.read(field, value, faults).into()),
            Self::Filled(of) => Some(of.read(field, value, faults)).filter(|map| !map.is_empty()).map(Value::Object),
            Self::Many(of) => {
                let all: Vec<Value> =
                    list(field, &of.in_messages(), value, faults).iter().map(|one| of.read(field, one, faults).into()).collect();
                (!all.is_empty()).then(|| all.into())
            }
            Self::Intervals => {
                let all: Vec<Value> =
                    list(field, "config.TimeInterval", value, faults).iter().map(|one| intervals::reprint(one, faults)).collect();
                (!all.is_empty()).then(|| all.into())
            }
        }
    }

    fn print_text(self, field: &str, text: String, faults: &mut Faults<'_>) -> Option<Value> {
        if text.is_empty() && !matches!(self, Self::TextGiven | Self::TextAlways) {
            return None;
        }
        // Alertmanager reads these as durations, and the operator as texts.
        let is_time = matches!(field, "group_wait" | "group_interval" | "repeat_interval") && faults.strict();
        let checked = match self {
            Self::Url if faults.strict() => check_url(&text),
            Self::Host => host_port(&text).and_then(|(_, port)| {
                if port.is_empty() { Err(format!("address {text:?}: port cannot be empty")) } else { Ok(()) }
            }),
            Self::Duration => match duration(&text) {
                Ok(length) => return Some(print_duration(length).into()),
                Err(why) => Err(why),
            },
            Self::Url
            | Self::Text
            | Self::TextGiven
            | Self::TextAlways
            | Self::Switch
            | Self::SwitchGiven
            | Self::SwitchAlways
            | Self::SwitchOrNull
            | Self::Number
            | Self::Texts
            | Self::Map
            | Self::Any
            | Self::One(_)
            | Self::Filled(_)
            | Self::Many(_)
            | Self::Intervals => match (is_time, field) {
                (false, _) => Ok(()),
                (true, "group_wait") => duration(&text).map(drop),
                (true, _) => duration(&text).and_then(|length| match length {
                    0 => Err(format!("{field} cannot be zero")),
                    _ => Ok(()),
                }),
            },
        };
        if let Err(why) = checked {
            faults.wrong(why);
        }
        Some(text.into())
    }
}

fn print_map(field: &str, value: &Value, faults: &mut Faults<'_>) -> Option<Value> {
    let Value::Object(given) = value else {
        faults.mismatch(field, value, "map[string]string");
        return None;
    };
    let text = |value: &Value| scalar(value).map_or_else(|| value.clone(), Value::from);
    let printed: Map<String, Value> = given.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    (!printed.is_empty()).then(|| printed.into())
}

fn list<'v>(field: &str, of: &str, value: &'v Value, faults: &mut Faults<'_>) -> &'v [Value] {
    value.as_array().map_or_else(
        || {
            faults.mismatch(field, value, &format!("[]{of}"));
            &[][..]
        },
        Vec::as_slice,
    )
}

/// A scalar as the text that YAML takes it for where a text is wanted.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

/// A switch, also in the words of old YAML.
fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some(true),
            "no" | "off" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}
