//! What the operator demands of each kind of receiver before it reads any Secret.

use serde_json::Value;

use super::text::{host_port, valid_url};
use super::{Of, http, told};

fn text<'v>(of: &'v Value, field: &str) -> &'v str {
    of[field].as_str().unwrap_or_default()
}

fn list<'v>(of: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    of[field].as_array().into_iter().flatten()
}

/// That a field is empty or a URL of the web; what precedes the reason if it is neither.
fn check_url(config: &Value, field: &str, before: &str) -> Result<(), String> {
    match config[field].as_str() {
        None | Some("") => Ok(()),
        Some(url) => valid_url(url).map_err(|why| format!("{before}{why}")),
    }
}

/// Nothing but how it speaks HTTP.
pub(super) fn client(config: &Value) -> Result<(), String> {
    http::check(&config["httpConfig"])
}

/// A URL of the service.
pub(super) fn api_url(config: &Value) -> Result<(), String> {
    check_url(config, "apiURL", "invalid 'apiURL': ")?;
    client(config)
}

pub(super) fn pagerduty(config: &Value) -> Result<(), String> {
    check_url(config, "url", "pagerduty validation failed for 'url': ")?;
    if config["routingKey"].is_null() && config["serviceKey"].is_null() {
        return told("one of 'routingKey' or 'serviceKey' is required");
    }
    client(config)
}

/// Who can be asked to respond.
pub(super) const RESPONDERS: [&str; 5] = ["team", "teams", "user", "escalation", "schedule"];

pub(super) fn opsgenie(config: &Value) -> Result<(), String> {
    for responder in list(config, "responders") {
        let [id, name, username, kind] = ["id", "name", "username", "type"].map(|field| text(responder, field));
        if id.is_empty() && name.is_empty() && username.is_empty() {
            return told("responder must have at least an ID, a Name or an Username defined");
        }
        if !kind.contains("{{") && !RESPONDERS.contains(&kind.to_lowercase().as_str()) {
            return Err(format!(
                "opsGenieConfig responder &{{{id} {name} {username} {kind}}} type does not match valid options ^({})$",
                RESPONDERS.join("|")
            ));
        }
    }
    api_url(config)
}

/// What is looked at only when the rest is good: a kind of responder that came later than the others, keys that belong together.
pub(super) fn late(of: Of<'_>, kind: &str, config: &Value) -> Result<(), String> {
    let teams = || list(config, "responders").any(|responder| responder["type"] == "teams");
    let sigv4 = &config["sigv4"];
    match kind {
        "opsgenieConfigs" if !of.release.at_least(24) && teams() => {
            told("'teams' set in 'opsgenieResponder' but supported in Alertmanager >= 0.24.0 only")
        }
        "snsConfigs" if sigv4["accessKey"].is_null() != sigv4["secretKey"].is_null() => {
            told("both accessKey and secretKey should be provided")
        }
        _ => Ok(()),
    }
}

pub(super) fn slack(config: &Value) -> Result<(), String> {
    for action in list(config, "actions") {
        let missing = ["type", "text"].into_iter().find(|field| text(action, field).is_empty());
        let neither = text(action, "url").is_empty() && text(action, "name").is_empty();
        if let Some(missing) = missing.or(neither.then_some("name or url")) {
            return Err(format!("missing {missing} in Slack action configuration"));
        }
        if action["confirm"].is_object() && text(&action["confirm"], "text").is_empty() {
            return told("missing text in Slack confirmation configuration");
        }
    }
    for field in list(config, "fields") {
        if let Some(missing) = ["title", "value"].into_iter().find(|name| text(field, name).is_empty()) {
            return Err(format!("missing {missing} in Slack field configuration"));
        }
    }
    client(config)
}

pub(super) fn webhook(config: &Value) -> Result<(), String> {
    if config["url"].is_null() && config["urlSecret"].is_null() {
        return told("one of 'url' or 'urlSecret' must be specified");
    }
    if let Some(url) = config["url"].as_str() {
        valid_url(url).map_err(|why| format!("invalid 'url': {why}"))?;
    }
    client(config)
}

pub(super) fn email(config: &Value) -> Result<(), String> {
    if text(config, "to").is_empty() {
        return told("missing 'to' address");
    }
    let smarthost = text(config, "smarthost");
    if !smarthost.is_empty() {
        host_port(smarthost).map_err(|why| format!("invalid 'smarthost' {smarthost}: {why}"))?;
    }
    let mut seen = Vec::new();
    for header in list(config, "headers") {
        let name = text(header, "key").to_lowercase();
        if seen.contains(&name) {
            return Err(format!("duplicate header {name:?}"));
        }
        seen.push(name);
    }
    Ok(())
}

/// Names that VictorOps has for its own fields.
pub(super) const RESERVED: [&str; 7] =
    ["routing_key", "message_type", "state_message", "entity_display_name", "monitoring_tool", "entity_id", "entity_state"];

pub(super) fn victorops(config: &Value) -> Result<(), String> {
    if let Some(name) = list(config, "customFields").map(|field| text(field, "key")).find(|name| RESERVED.contains(name)) {
        return Err(format!("usage of reserved word {name:?} is not allowed in custom fields"));
    }
    if text(config, "routingKey").is_empty() {
        return told("missing 'routingKey' key");
    }
    check_url(config, "apiUrl", &format!("'apiURL' {} invalid: ", text(config, "apiUrl")))?;
    client(config)
}

pub(super) fn pushover(config: &Value) -> Result<(), String> {
    for (key, file) in [("userKey", "userKeyFile"), ("token", "tokenFile")] {
        if config[key].is_null() && config[file].is_null() {
            return Err(format!("one of {key} or {file} must be configured"));
        }
    }
    if config["html"] == true && config["monospace"] == true {
        return told("html and monospace options are mutually exclusive");
    }
    client(config)
}

pub(super) fn sns(config: &Value) -> Result<(), String> {
    let [target, topic, phone] = ["targetARN", "topicARN", "phoneNumber"].map(|field| text(config, field).is_empty());
    // As it is upstream: all three together pass, and two do not.
    if (target != topic) != phone {
        return told("must provide either a Target ARN, Topic ARN, or Phone Number for SNS config");
    }
    client(config)
}

pub(super) fn telegram(config: &Value) -> Result<(), String> {
    if config["botToken"].is_null() && config["botTokenFile"].is_null() {
        return told("mandatory field botToken or botTokenfile is empty");
    }
    if config["chatID"].as_i64().unwrap_or(0) == 0 {
        return told("mandatory field \"chatID\" is empty");
    }
    client(config)
}
