//! Receivers of AlertmanagerConfigs: Alertmanager's own words for them, secrets filled in.
//!
//! A field has the same name in snake case, but for those of [`NAMES`]; a reference to a Secret becomes what the Secret holds; a list of
//! keys and values becomes a map.

use serde_json::{Map, Value, json};

use crate::alertmanager::Of;
use crate::config::Config;
use crate::credentials::Credentials;

/// Lists of a receiver, and what Alertmanager calls them.
const KINDS: [(&str, &str); 15] = [
    ("opsgenieConfigs", "opsgenie_configs"),
    ("pagerdutyConfigs", "pagerduty_configs"),
    ("discordConfigs", "discord_configs"),
    ("slackConfigs", "slack_configs"),
    ("webhookConfigs", "webhook_configs"),
    ("wechatConfigs", "wechat_configs"),
    ("emailConfigs", "email_configs"),
    ("pushoverConfigs", "pushover_configs"),
    ("victoropsConfigs", "victorops_configs"),
    ("snsConfigs", "sns_configs"),
    ("telegramConfigs", "telegram_configs"),
    ("webexConfigs", "webex_configs"),
    ("msteamsConfigs", "msteams_configs"),
    ("msteamsv2Configs", "msteamsv2_configs"),
    ("rocketchatConfigs", "rocketchat_configs"),
];

/// Fields whose names are not those in snake case: the receivers' list (or none for all), the field, its name.
const NAMES: [(&str, &str, &str); 16] = [
    ("", "enableHttp2", "enable_http2"),
    ("webhookConfigs", "urlSecret", "url"),
    ("discordConfigs", "apiURL", "webhook_url"),
    ("msteamsConfigs", "webhookUrl", "webhook_url"),
    ("msteamsv2Configs", "webhookURL", "webhook_url"),
    ("pagerdutyConfigs", "pagerDutyImageConfigs", "images"),
    ("pagerdutyConfigs", "pagerDutyLinkConfigs", "links"),
    ("telegramConfigs", "botToken", "bot_token"),
    ("telegramConfigs", "chatID", "chat_id"),
    ("telegramConfigs", "disableNotifications", "disable_notifications"),
    ("victoropsConfigs", "customFields", "custom_fields"),
    ("wechatConfigs", "agentID", "agent_id"),
    ("wechatConfigs", "corpID", "corp_id"),
    ("webexConfigs", "roomID", "room_id"),
    ("pushoverConfigs", "urlTitle", "url_title"),
    ("slackConfigs", "callbackId", "callback_id"),
];

/// `apiURL` as `api_url`: each run of capitals is one word.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, letter) in letters.iter().enumerate() {
        if letter.is_ascii_uppercase() {
            let before = index.checked_sub(1).and_then(|before| letters.get(before));
            let after = letters.get(index + 1);
            let begins = before.is_some_and(|before| !before.is_ascii_uppercase())
                || (before.is_some() && after.is_some_and(char::is_ascii_lowercase));
            if begins {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push(*letter);
        }
    }
    out
}

fn named(kind: &str, field: &str) -> String {
    let special = NAMES.iter().find(|(of, from, _)| *from == field && (of.is_empty() || *of == kind));
    special.map_or_else(|| snake(field), |(_, _, to)| (*to).to_owned())
}

/// Whether a value is a reference to a key of a Secret.
fn is_secret(value: &Value) -> bool {
    let known = |field: &String| matches!(field.as_str(), "key" | "name" | "optional");
    value.as_object().is_some_and(|fields| fields.contains_key("key") && fields.contains_key("name") && fields.keys().all(known))
}

/// Whether a value is a list of `{key, value}`.
fn is_pairs(value: &Value) -> bool {
    let pair = |item: &Value| {
        item.as_object().is_some_and(|pair| pair.len() == 2 && pair.contains_key("key") && pair.contains_key("value"))
    };
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(pair))
}

/// Switches and numbers that are not written when they are off, as the operator's own types have it.
const OFF: [&str; 5] = ["linkNames", "shortFields", "short", "disableNotifications", "maxAlerts"];

/// Alertmanager leaves out what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Where the operator mounts certificates in an Alertmanager's pod; in that of a Prometheus they are elsewhere.
fn tls(of: Of<'_>, value: &Value) -> Value {
    let mut config = Config::new(of.version);
    Credentials { assets: of.assets, namespace: of.namespace(), read: true }.tls(&mut config, value);
    let mut made = config.finish()["tls_config"].clone();
    for (_, field) in made.as_object_mut().into_iter().flatten() {
        if let Some(path) = field.as_str().and_then(|path| path.strip_prefix("/etc/prometheus/certs/")) {
            *field = format!("/etc/alertmanager/certs/{path}").into();
        }
    }
    made
}

fn http_config(of: Of<'_>, from: &Value) -> Result<Value, String> {
    let mut out = Map::new();
    let secret = |reference: &Value| of.assets.secret(of.namespace(), reference);
    for (field, value) in from.as_object().into_iter().flatten() {
        match field.as_str() {
            "basicAuth" => {
                let part = |name: &str| if value[name].is_object() { secret(&value[name]) } else { Ok(String::new()) };
                let (username, password) = (part("username")?, part("password")?);
                out.insert("basic_auth".to_owned(), json!({"username": username, "password": password}));
            }
            "authorization" => {
                let kind = value["type"].as_str().filter(|kind| !kind.is_empty()).unwrap_or("Bearer");
                out.insert("authorization".to_owned(), json!({"type": kind, "credentials": secret(&value["credentials"])?}));
            }
            "bearerTokenSecret" => drop(out.insert("bearer_token".to_owned(), secret(value)?.into())),
            "tlsConfig" => drop(out.insert("tls_config".to_owned(), tls(of, value))),
            "oauth2" => {
                let id = of.assets.either(of.namespace(), &value["clientId"])?.unwrap_or_default();
                let mut oauth2 = json!({
                    "client_id": id, "client_secret": secret(&value["clientSecret"])?, "token_url": value["tokenUrl"],
                });
                for (field, name) in [("scopes", "scopes"), ("endpointParams", "endpoint_params")] {
                    if !is_empty(&value[field]) {
                        oauth2[name] = value[field].clone();
                    }
                }
                out.insert("oauth2".to_owned(), oauth2);
            }
            "proxyURL" | "proxyUrl" => drop(out.insert("proxy_url".to_owned(), value.clone())),
            other if !is_empty(value) => drop(out.insert(named("", other), value.clone())),
            _ => {}
        }
    }
    Ok(Value::Object(out))
}

/// The fields of one configuration.
fn fields(of: Of<'_>, kind: &str, from: &Value) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (field, value) in from.as_object().into_iter().flatten() {
        if is_empty(value) || (OFF.contains(&field.as_str()) && (*value == false || *value == 0)) {
            continue;
        }
        let name = named(kind, field);
        let made = match field.as_str() {
            "httpConfig" => http_config(of, value)?,
            "tlsConfig" => tls(of, value),
            _ if is_secret(value) => of.assets.secret(of.namespace(), value)?.trim().into(),
            _ if is_pairs(value) => {
                let pairs = value.as_array().into_iter().flatten();
                pairs.map(|pair| (pair["key"].as_str().unwrap_or_default().to_owned(), pair["value"].clone())).collect()
            }
            _ => match value {
                Value::Array(list) => {
                    let item = |item: &Value| {
                        if item.is_object() { fields(of, kind, item).map(Value::Object) } else { Ok(item.clone()) }
                    };
                    Value::Array(list.iter().map(item).collect::<Result<_, _>>()?)
                }
                Value::Object(_) => fields(of, kind, value)?.into(),
                other => other.clone(),
            },
        };
        out.insert(name, made);
    }
    // A Secret's URL goes before one that is written.
    if kind == "webhookConfigs" && from["urlSecret"].is_object() {
        out.insert("url".to_owned(), of.assets.secret(of.namespace(), &from["urlSecret"])?.trim().into());
    }
    Ok(out)
}

/// Whether a URL could be one that is posted to.
fn is_url(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && !rest.is_empty() && !rest.contains(' '))
}

/// A receiver without its name.
///
/// # Errors
/// Why the operator would reject the object.
pub(crate) fn receiver(of: Of<'_>, from: &Value) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (kind, name) in KINDS {
        // The field of the API is spelled as upstream's JSON has it; older manifests differ in capitals.
        let given = from.as_object().into_iter().flatten().find(|(field, _)| field.eq_ignore_ascii_case(kind));
        let Some(list) = given.and_then(|(_, value)| value.as_array()).filter(|list| !list.is_empty()) else { continue };
        let mut made = Vec::new();
        for (index, one) in list.iter().enumerate() {
            let told = |why: String| format!("{kind}[{index}]: {why}");
            let one = fields(of, kind, one).map_err(told)?;
            check(kind, &one).map_err(told)?;
            made.push(Value::Object(one));
        }
        out.insert(name.to_owned(), made.into());
    }
    Ok(out)
}

/// What must be there, and what must be a URL.
fn check(kind: &str, made: &Map<String, Value>) -> Result<(), String> {
    let required: &[&str] = match kind {
        "webhookConfigs" => &["url"],
        "emailConfigs" => &["to"],
        "pushoverConfigs" => &["user_key", "token"],
        "telegramConfigs" => &["chat_id"],
        "webexConfigs" => &["room_id"],
        "discordConfigs" | "msteamsConfigs" | "msteamsv2Configs" => &["webhook_url"],
        "victoropsConfigs" => &["routing_key"],
        _ => &[],
    };
    for field in required {
        if !made.contains_key(*field) {
            return Err(format!("mandatory field {field:?} is empty"));
        }
    }
    for field in ["url", "api_url", "webhook_url"] {
        if let Some(text) = made.get(field).and_then(Value::as_str)
            && !is_url(text)
            && !text.contains("{{")
        {
            // The text may be a Secret's.
            return Err(format!("invalid {field}: it is no URL"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_snake_case() {
        for (name, expected) in [
            ("sendResolved", "send_resolved"),
            ("apiURL", "api_url"),
            ("titleLink", "title_link"),
            ("iconURL", "icon_url"),
            ("mrkdwnIn", "mrkdwn_in"),
            ("requireTLS", "require_tls"),
            ("forceImplicitTLS", "force_implicit_tls"),
            ("html", "html"),
            ("clientURL", "client_url"),
            ("topicARN", "topic_arn"),
        ] {
            assert_eq!(snake(name), expected);
        }
    }
}
