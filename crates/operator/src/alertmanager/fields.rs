//! Fields of objects as tables: what they are called there and in Alertmanager's file, and how their values become Alertmanager's.

use serde_json::{Map, Value, json};

use super::text::{duration, parse_url, snake, valid_secret_url};
use super::{Of, http, told};

/// How a field's value becomes Alertmanager's.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// As it is.
    Copy,
    /// How mails are grouped into threads, which giving it turns on.
    Threading,
    /// What a Secret holds, to the last byte; what precedes the reason when it is missing.
    Secret(&'static str),
    /// The same, but it must not be empty: how messages call the field.
    Filled(&'static str),
    /// The same, but the operator finds out late that it is missing, and then writes nothing at all.
    Late,
    /// A URL in a Secret, without the space around it; what precedes the reasons when it is missing and when it is no URL.
    SecretUrl(&'static str, &'static str),
    /// A URL in a Secret as it is; what precedes the reasons when it is missing and when it cannot be read.
    RawUrl(&'static str, &'static str),
    /// A text that must be readable as a URL; what precedes the reason.
    ParsedUrl(&'static str),
    /// A duration; what precedes the reason when it is none.
    Duration(&'static str),
    /// A list of keys and values as a map.
    Pairs,
    /// `{host, port}` as `host:port`.
    Address,
    /// An `httpConfig`; what precedes the reason.
    Http(&'static str),
    /// A `tlsConfig`, whose certificates are mounted.
    Tls,
    /// A `tlsConfig`, whose certificates are not.
    TlsUnmounted,
    /// An object with fields of its own.
    One(&'static [Field]),
    /// A list of such.
    Many(&'static [Field]),
}

/// A field of an object.
pub(super) struct Field {
    /// Its name there.
    from: &'static str,
    /// Alertmanager's name for it; where there is none, it is the same in snake case.
    to: &'static str,
    how: How,
    /// Objects that use it are refused for versions before 0.N.
    since: u32,
}

/// A field with a name of its own.
pub(super) const fn field(from: &'static str, to: &'static str, how: How) -> Field {
    Field { from, to, how, since: 0 }
}

/// A field whose name is the same in snake case.
pub(super) const fn same(from: &'static str, how: How) -> Field {
    field(from, "", how)
}

/// A field that stays as it is, name and all.
pub(super) const fn copy(from: &'static str) -> Field {
    same(from, How::Copy)
}

/// A field that versions before 0.N do not know, so that objects with it are refused.
pub(super) const fn since(minor: u32, field: Field) -> Field {
    Field { since: minor, ..field }
}

/// Why something cannot be converted.
#[derive(Debug)]
pub(super) enum Fault {
    /// The object is left out.
    Reject(String),
    /// The operator writes nothing at all.
    Fail(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Reject(why)
    }
}

impl Fault {
    /// The reason, whatever it leads to.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Reject(why) | Self::Fail(why) => why,
        }
    }
}

/// Puts what the fields of an object become into a map.
///
/// # Errors
/// Why one of them cannot be converted.
pub(super) fn convert_fields(
    of: Of<'_>,
    fields: &'static [Field],
    from: &Value,
    out: &mut Map<String, Value>,
) -> Result<(), Fault> {
    for field in fields {
        let value = &from[field.from];
        let needed = matches!(field.how, How::Filled(_));
        if value.is_null() && !needed {
            continue;
        }
        if field.since > 0 && !of.release.at_least(field.since) {
            return Err(of.release.lacks(field.from, field.since).into());
        }
        let made = field.how.convert(of, value)?;
        let name = if field.to.is_empty() { snake(field.from) } else { field.to.to_owned() };
        out.insert(name, made);
    }
    Ok(())
}

impl How {
    fn convert(self, of: Of<'_>, value: &Value) -> Result<Value, Fault> {
        let text = value.as_str().unwrap_or_default();
        let secret = |before: &str| of.assets.secret(of.namespace(), value).map_err(|why| format!("{before}{why}"));
        Ok(match self {
            Self::Copy => value.clone(),
            Self::Threading => {
                let by_date = value["threadByDate"].as_str().unwrap_or_default().to_lowercase();
                json!({"enabled": true, "thread_by_date": by_date})
            }
            Self::Secret(before) => secret(before)?.into(),
            Self::Filled(name) if !value.is_object() => told(&format!("mandatory field {name} is empty"))?,
            // Whichever of the two fields it is, the message names this one.
            Self::Filled(_) => match secret("")? {
                empty if empty.is_empty() => told("mandatory field userKey is empty")?,
                filled => filled.into(),
            },
            Self::Late => secret("").map_err(Fault::Fail)?.into(),
            Self::SecretUrl(missing, wrong) => {
                let url = secret(missing)?;
                valid_secret_url(url.trim()).map_err(|why| format!("{wrong}{why}"))?;
                url.trim().into()
            }
            Self::RawUrl(missing, wrong) => {
                let url = secret(missing)?;
                parse_url(&url).map_err(|why| format!("{wrong}{why}"))?;
                url.into()
            }
            Self::ParsedUrl(wrong) => {
                parse_url(text).map_err(|why| format!("{wrong}{why}"))?;
                value.clone()
            }
            Self::Duration(before) => {
                if !text.is_empty() {
                    duration(text).map_err(|why| format!("{before}{why}"))?;
                }
                value.clone()
            }
            Self::Pairs => {
                let pairs = value.as_array().into_iter().flatten();
                pairs.map(|pair| (pair["key"].as_str().unwrap_or_default().to_owned(), pair["value"].clone())).collect()
            }
            Self::Address => {
                let part = |name: &str| match &value[name] {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                format!("{}:{}", part("host"), part("port")).into()
            }
            Self::Http(before) => http::convert(of, value).map_err(|why| format!("{before}{why}"))?,
            Self::Tls => http::tls(of, value, true)?,
            Self::TlsUnmounted => http::tls(of, value, false)?,
            Self::One(fields) => {
                let mut made = Map::new();
                convert_fields(of, fields, value, &mut made)?;
                made.into()
            }
            Self::Many(fields) => {
                let mut all = Vec::new();
                for one in value.as_array().into_iter().flatten() {
                    let mut made = Map::new();
                    convert_fields(of, fields, one, &mut made)?;
                    all.push(Value::Object(made));
                }
                all.into()
            }
        })
    }
}
