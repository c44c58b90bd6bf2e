//! Routes and inhibitions of AlertmanagerConfigs: what makes them invalid, what they become, and how they are confined to a namespace.

use kubeapi::object;
use serde_json::{Map, Value, json};

use super::text::{DURATION, escape, units};
use super::{Of, extend, told};

fn text<'v>(of: &'v Value, field: &str) -> &'v str {
    of[field].as_str().unwrap_or_default()
}

fn list<'v>(of: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    of[field].as_array().into_iter().flatten()
}

fn texts<'v>(of: &'v Value, field: &str) -> Vec<&'v str> {
    list(of, field).filter_map(Value::as_str).collect()
}

/// How a matcher is written, such as `severity="critical"`.
fn matcher(of: &Value) -> String {
    let operator = match text(of, "matchType") {
        "" if of["regex"] == true => "=~",
        "" => "=",
        operator => operator,
    };
    written(of, operator)
}

fn written(of: &Value, operator: &str) -> String {
    format!("{}{operator}\"{}\"", text(of, "name"), escape(text(of, "value")))
}

/// A list of matchers as messages have it.
fn printed(of: &Value, field: &str) -> String {
    let all: Vec<String> = list(of, field).map(|one| written(one, text(one, "matchType"))).collect();
    format!("[{}]", all.join(" "))
}

fn is_modern(matchers: &Value, field: &str) -> bool {
    list(matchers, field).any(|one| !text(one, "matchType").is_empty())
}

fn check_matcher(matcher: &Value) -> Result<(), String> {
    match text(matcher, "matchType") {
        "" => Ok(()),
        "=" | "!=" | "=~" | "!~" if text(matcher, "name").trim().is_empty() => told("matcher 'name' is required"),
        "=" | "!=" | "=~" | "!~" => Ok(()),
        other => Err(format!("invalid 'matchType' '{other}' provided'")),
    }
}

/// What a route may have; children are free JSON in the definition, so only the operator looks at them.
const FIELDS: [&str; 10] = [
    "receiver",
    "groupBy",
    "groupWait",
    "groupInterval",
    "repeatInterval",
    "matchers",
    "continue",
    "routes",
    "muteTimeIntervals",
    "activeTimeIntervals",
];

/// Whether a route of an object can be: its names are known, its texts can be read.
///
/// # Errors
/// In the operator's words.
pub(super) fn check(route: &Value, receivers: &[&str], intervals: &[&str], top: bool) -> Result<(), String> {
    let receiver = text(route, "receiver");
    if receiver.is_empty() && top {
        return told("root route must define a receiver");
    }
    if !receiver.is_empty() && !receivers.contains(&receiver) {
        return Err(format!("receiver {receiver:?} not found"));
    }
    check_groups(&texts(route, "groupBy"))?;
    for (field, what) in [("muteTimeIntervals", "mute time interval"), ("activeTimeIntervals", "time interval")] {
        if let Some(missing) = texts(route, field).into_iter().find(|name| !intervals.contains(name)) {
            return Err(format!("{what} {missing:?} not found"));
        }
    }
    for field in ["groupInterval", "groupWait", "repeatInterval"] {
        let length = text(route, field);
        if units(length).is_none() {
            return Err(format!("{field} {length} does not match required regex: {DURATION}"));
        }
    }
    for (index, matcher) in list(route, "matchers").enumerate() {
        check_matcher(matcher).map_err(|why| format!("matcher[{index}]: {why}"))?;
    }
    for (index, child) in list(route, "routes").enumerate() {
        if let Some(unknown) = child.as_object().into_iter().flatten().find(|(field, _)| !FIELDS.contains(&field.as_str())) {
            return Err(format!("route[{index}]: json: unknown field {:?}", unknown.0));
        }
    }
    for (index, child) in list(route, "routes").enumerate() {
        check(child, receivers, intervals, false).map_err(|why| format!("route[{index}]: {why}"))?;
    }
    Ok(())
}

fn check_groups(groups: &[&str]) -> Result<(), String> {
    let all = || format!("[{}]", groups.join(" "));
    if groups.iter().enumerate().any(|(index, group)| groups[..index].contains(group)) {
        return Err(format!("duplicate values not permitted in route 'groupBy': {}", all()));
    }
    if groups.contains(&"...") && groups.len() > 1 {
        return Err(format!("'...' must be a sole value in route 'groupBy': {}", all()));
    }
    Ok(())
}

/// Whether the version knows the matchers of a route and its children.
///
/// # Errors
/// That it does not.
pub(super) fn check_version(of: Of<'_>, route: &Value) -> Result<(), String> {
    if of.release.at_least(22) {
        return Ok(());
    }
    if is_modern(route, "matchers") {
        return Err(format!(
            "invalid syntax in route config for 'matchers' comparison based matching is supported in Alertmanager >= 0.22.0 only \
             (matchers={}) (receiver={})",
            printed(route, "matchers"),
            text(route, "receiver")
        ));
    }
    list(route, "routes").try_for_each(|child| check_version(of, child))
}

/// Whether the inhibitions of an object can be.
///
/// # Errors
/// In the operator's words.
pub(super) fn check_inhibitions(of: Of<'_>) -> Result<(), String> {
    for (index, rule) in list(&of.object["spec"], "inhibitRules").enumerate() {
        if !of.release.at_least(22) {
            if is_modern(rule, "sourceMatch") || is_modern(rule, "targetMatch") {
                return Err(format!(
                    "'sourceMatch' and/or 'targetMatch' are using matching syntax which is supported in Alertmanager >= 0.22.0 only \
                     (sourceMatch={}, targetMatch={})",
                    printed(rule, "sourceMatch"),
                    printed(rule, "targetMatch")
                ));
            }
            continue;
        }
        for (side, name) in [("targetMatch", "targetMatchers"), ("sourceMatch", "sourceMatchers")] {
            for (place, matcher) in list(rule, side).enumerate() {
                let whose = object::name(of.object);
                let why = |why: String| format!("invalid {name}[{place}] in inhibitRule[{index}] in config {whose}: {why}");
                check_matcher(matcher).map_err(why)?;
            }
        }
    }
    Ok(())
}

/// Matchers under the names that a version knows: one list, or a map of values and one of regular expressions.
fn matchers(of: Of<'_>, from: &Value, field: &str, names: [&str; 3], into: &mut Map<String, Value>) {
    let [matchers, equal, regex] = names;
    for one in list(from, field) {
        if !text(one, "matchType").is_empty() || of.release.at_least(22) {
            extend(into, matchers, matcher(one).into());
            continue;
        }
        let map = if one["regex"] == true { regex } else { equal };
        into.entry(map).or_insert_with(|| json!({}))[text(one, "name")] = text(one, "value").into();
    }
}

/// A route of an object in Alertmanager's words.
pub(super) fn convert(of: Of<'_>, from: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("receiver".to_owned(), of.named(text(from, "receiver")).into());
    for (field, name) in [
        ("groupBy", "group_by"),
        ("groupWait", "group_wait"),
        ("groupInterval", "group_interval"),
        ("repeatInterval", "repeat_interval"),
        ("continue", "continue"),
    ] {
        out.insert(name.to_owned(), from[field].clone());
    }
    matchers(of, from, "matchers", ["matchers", "match", "match_re"], &mut out);
    let children: Vec<Value> = list(from, "routes").map(|child| convert(of, child).into()).collect();
    out.insert("routes".to_owned(), children.into());
    for (field, name) in [("muteTimeIntervals", "mute_time_intervals"), ("activeTimeIntervals", "active_time_intervals")] {
        let names: Vec<String> = texts(from, field).into_iter().map(|name| of.named(name)).collect();
        out.insert(name.to_owned(), names.into());
    }
    out
}

/// An inhibition of an object in Alertmanager's words.
pub(super) fn convert_inhibition(of: Of<'_>, from: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    matchers(of, from, "targetMatch", ["target_matchers", "target_match", "target_match_re"], &mut out);
    matchers(of, from, "sourceMatch", ["source_matchers", "source_match", "source_match_re"], &mut out);
    out.insert("equal".to_owned(), from["equal"].clone());
    out
}

/// Whether an Alertmanager confines routes and inhibitions to alerts of their object's own namespace.
fn is_confined(alertmanager: &Value, namespace: &str) -> bool {
    match alertmanager["spec"]["alertmanagerConfigMatcherStrategy"]["type"].as_str() {
        Some("None") => false,
        Some("OnNamespaceExceptForAlertmanagerNamespace") => namespace != object::namespace(alertmanager),
        _ => true,
    }
}

/// Confines an inhibition, if that is wished.
pub(super) fn confine_inhibition(alertmanager: &Value, of: Of<'_>, rule: &mut Map<String, Value>) {
    let namespace = of.namespace();
    if !is_confined(alertmanager, namespace) {
        return;
    }
    let own = format!("namespace=\"{}\"", escape(namespace));
    for side in ["source", "target"] {
        if let Some(Value::Object(others)) = rule.get_mut(&format!("{side}_match_re")) {
            others.remove("namespace");
        }
        if !of.release.at_least(22) {
            rule.entry(format!("{side}_match")).or_insert_with(|| json!({}))["namespace"] = namespace.into();
            continue;
        }
        let key = format!("{side}_matchers");
        let is_own = |one: &Value| one.as_str().is_some_and(|one| one.replace(' ', "") == own);
        if rule.get(&key).and_then(Value::as_array).is_none_or(|list| !list.iter().any(is_own)) {
            extend(rule, &key, own.as_str().into());
        }
    }
}

/// Confines a route, if that is wished, and lets alerts go on to the routes of others and to those of the base.
pub(super) fn confine(alertmanager: &Value, of: Of<'_>, route: &mut Map<String, Value>) {
    let namespace = of.namespace();
    if is_confined(alertmanager, namespace) {
        if of.release.at_least(22) {
            extend(route, "matchers", format!("namespace=\"{}\"", escape(namespace)).into());
        } else {
            route.entry("match").or_insert_with(|| json!({}))["namespace"] = namespace.into();
        }
    }
    route.insert("continue".to_owned(), true.into());
}
