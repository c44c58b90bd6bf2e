//! What a version of Alertmanager makes of a configuration: fields that it does not know are left out, what it could not do is refused.
//!
//! The rules stand with the types ([`super::types`]); here they are carried out.

use serde_json::{Map, Value};

use super::schema::{Kind, Type};
use crate::config::is_empty;
use crate::version::Version;

/// What becomes of a type's fields; where there are several names, they have blanks between them.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Versions before 0.N do not know these fields.
    Since(u32, &'static str),
    /// Versions before 0.N do not know the whole, which is refused with these words.
    Whole(u32, &'static str),
    /// Versions before 0.N would not do what this field says, which is refused with these words.
    Field(u32, &'static str, &'static str),
    /// Where the first is given, the second is left out.
    Over(&'static str, &'static str),
    /// One of these must be given.
    Need(&'static str, &'static str),
    /// These must not be given together.
    Not([&'static str; 2], &'static str),
    /// Something else.
    Check(fn(&mut Map<String, Value>, Version) -> Result<(), String>),
}

/// Whether a field is given.
pub(super) fn given(map: &Map<String, Value>, field: &str) -> bool {
    map.get(field).is_some_and(|value| !is_empty(value))
}

impl Rule {
    fn apply(self, map: &mut Map<String, Value>, version: Version) -> Result<(), String> {
        let refused = match self {
            Self::Since(minor, fields) if !version.at_least(0, minor) => {
                fields.split_whitespace().for_each(|field| drop(map.remove(field)));
                None
            }
            Self::Whole(minor, why) if !version.at_least(0, minor) => Some(why),
            Self::Field(minor, field, why) if !version.at_least(0, minor) && given(map, field) => Some(why),
            Self::Over(first, second) if given(map, first) => {
                map.remove(second);
                None
            }
            Self::Need(fields, why) if !fields.split_whitespace().any(|field| given(map, field)) => Some(why),
            Self::Not([first, second], why) if given(map, first) && given(map, second) => Some(why),
            Self::Check(check) => return check(map, version),
            Self::Since(..) | Self::Whole(..) | Self::Field(..) | Self::Over(..) | Self::Need(..) | Self::Not(..) => None,
        };
        refused.map_or(Ok(()), |why| Err(why.to_owned()))
    }
}

/// Fits a value of a type to a version.
///
/// # Errors
/// Why the operator would write no configuration at all.
pub(super) fn fit(of: &Type, map: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    for rule in of.rules {
        rule.apply(map, version)?;
    }
    for (kind, names) in of.fields {
        for name in names.split_whitespace() {
            match (kind, map.get_mut(name)) {
                (Kind::One(inner) | Kind::Filled(inner), Some(Value::Object(value))) => fit(inner, value, version)?,
                (Kind::Many(inner), Some(Value::Array(list))) => {
                    for (index, one) in list.iter_mut().enumerate() {
                        let Value::Object(one) = one else { continue };
                        fit(inner, one, version).map_err(|why| placed(name, index, why))?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A message with the place that the operator names: only for rules and child routes.
fn placed(list: &str, index: usize, why: String) -> String {
    match list {
        "inhibit_rules" => format!("inhibit_rules[{index}]: {why}"),
        "routes" => format!("route[{index}]: {why}"),
        _ => why,
    }
}
