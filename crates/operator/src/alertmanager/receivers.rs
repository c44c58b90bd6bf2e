//! Receivers of AlertmanagerConfigs to Alertmanager's words, as tables: for each kind what it must have, since when there is it, and
//! what its fields become. What is in no table is not passed on.

use serde_json::{Map, Value};

use super::fields::{Fault, Field, How, convert_fields, copy, field, same, since};
use super::{Of, validate};

const HTTP: Field = same("httpConfig", How::Http(""));
const RESOLVED: Field = copy("sendResolved");
const KEY: How = How::Secret("");

/// A kind of receiver.
pub(super) struct Integration {
    /// The list in the object, and in Alertmanager's file.
    lists: [&'static str; 2],
    /// What messages call it, when it is validated and when it is converted.
    told: [&'static str; 2],
    /// Since which version 0.N it is there, and what precedes that in the message; none for what always was.
    since: Option<(u32, Refusal)>,
    check: fn(&Value) -> Result<(), String>,
    fields: &'static [Field],
}

/// How a kind that a version does not know is refused.
#[derive(Clone, Copy)]
enum Refusal {
    /// `NAME' is available in …
    Available(&'static str),
    /// Words of its own.
    Words(&'static str),
}

/// All kinds, in the order in which the operator looks at them.
static INTEGRATIONS: [Integration; 15] = [
    Integration {
        lists: ["pagerdutyConfigs", "pagerduty_configs"],
        told: ["pagerDutyConfig", "PagerDutyConfig"],
        since: None,
        check: validate::pagerduty,
        fields: &[
            RESOLVED,
            same("routingKey", KEY),
            same("serviceKey", KEY),
            copy("url"),
            copy("client"),
            copy("clientURL"),
            copy("description"),
            copy("severity"),
            copy("class"),
            copy("group"),
            copy("component"),
            same("details", How::Pairs),
            field("pagerDutyImageConfigs", "images", How::Many(&[copy("src"), copy("href"), copy("alt")])),
            field("pagerDutyLinkConfigs", "links", How::Many(&[copy("href"), field("alt", "text", How::Copy)])),
            copy("source"),
            same("timeout", How::Duration("")),
            HTTP,
        ],
    },
    Integration {
        lists: ["opsgenieConfigs", "opsgenie_configs"],
        told: ["opsGenieConfig", "OpsGenieConfigs"],
        since: None,
        check: validate::opsgenie,
        fields: &[
            RESOLVED,
            same("responders", How::Many(&[copy("id"), copy("name"), copy("username"), copy("type")])),
            same("apiKey", KEY),
            copy("apiURL"),
            copy("message"),
            copy("description"),
            copy("source"),
            copy("tags"),
            copy("note"),
            copy("priority"),
            copy("updateAlerts"),
            same("details", How::Pairs),
            copy("entity"),
            copy("actions"),
            HTTP,
        ],
    },
    Integration {
        lists: ["discordConfigs", "discord_configs"],
        told: ["discordConfig", "DiscordConfig"],
        since: Some((25, Refusal::Available("discordConfigs"))),
        check: validate::client,
        fields: &[
            RESOLVED,
            HTTP,
            field("apiURL", "webhook_url", How::SecretUrl("failed to retrieve API URL: ", "failed to validate API URL: ")),
            copy("title"),
            copy("message"),
            copy("content"),
            copy("username"),
            copy("avatarURL"),
        ],
    },
    Integration {
        lists: ["slackConfigs", "slack_configs"],
        told: ["slackConfig", "SlackConfig"],
        since: None,
        check: validate::slack,
        fields: &[
            RESOLVED,
            same("apiURL", How::SecretUrl("", "failed to validate API URL: ")),
            copy("channel"),
            copy("username"),
            copy("color"),
            copy("title"),
            copy("titleLink"),
            copy("pretext"),
            copy("text"),
            same("fields", How::Many(&[copy("title"), copy("value"), copy("short")])),
            copy("shortFields"),
            copy("footer"),
            copy("fallback"),
            copy("callbackId"),
            copy("iconEmoji"),
            copy("iconURL"),
            copy("imageURL"),
            copy("thumbURL"),
            copy("linkNames"),
            copy("mrkdwnIn"),
            same(
                "actions",
                How::Many(&[
                    copy("type"),
                    copy("text"),
                    copy("url"),
                    copy("style"),
                    copy("name"),
                    copy("value"),
                    same("confirm", How::One(&[copy("text"), copy("title"), copy("okText"), copy("dismissText")])),
                ]),
            ),
            same("timeout", How::Duration("")),
            since(31, copy("messageText")),
            since(32, copy("updateMessage")),
            HTTP,
        ],
    },
    Integration {
        lists: ["webhookConfigs", "webhook_configs"],
        told: ["webhookConfig", "WebhookConfig"],
        since: None,
        check: validate::webhook,
        fields: &[
            RESOLVED,
            copy("url"),
            // It goes before one that is written.
            field("urlSecret", "url", How::SecretUrl("", "failed to validate URL: ")),
            copy("maxAlerts"),
            same("timeout", How::Duration("")),
            since(32, copy("payload")),
            HTTP,
        ],
    },
    Integration {
        lists: ["wechatConfigs", "wechat_configs"],
        told: ["weChatConfig", "WeChatConfig"],
        since: None,
        check: validate::api_url,
        fields: &[
            RESOLVED,
            same("apiSecret", KEY),
            copy("apiURL"),
            copy("corpID"),
            copy("agentID"),
            copy("toUser"),
            copy("toParty"),
            copy("toTag"),
            copy("message"),
            copy("messageType"),
            HTTP,
        ],
    },
    Integration {
        lists: ["webexConfigs", "webex_configs"],
        told: ["webexConfig", "WebexConfig"],
        since: Some((25, Refusal::Available("webexConfigs"))),
        check: validate::api_url,
        fields: &[RESOLVED, copy("apiURL"), copy("message"), copy("roomID"), HTTP],
    },
    Integration {
        lists: ["emailConfigs", "email_configs"],
        told: ["emailConfig", "EmailConfig"],
        since: None,
        check: validate::email,
        fields: &[
            RESOLVED,
            copy("to"),
            copy("from"),
            copy("hello"),
            copy("smarthost"),
            copy("authUsername"),
            same("authPassword", KEY),
            same("authSecret", KEY),
            copy("authIdentity"),
            same("headers", How::Pairs),
            copy("html"),
            copy("text"),
            copy("requireTLS"),
            same("tlsConfig", How::Tls),
            since(31, copy("forceImplicitTLS")),
            since(30, same("threading", How::Threading)),
        ],
    },
    Integration {
        lists: ["victoropsConfigs", "victorops_configs"],
        told: ["victorOpsConfig", "VictorOpsConfig"],
        since: None,
        check: validate::victorops,
        fields: &[
            RESOLVED,
            same("apiKey", KEY),
            copy("apiUrl"),
            copy("routingKey"),
            copy("messageType"),
            copy("entityDisplayName"),
            copy("stateMessage"),
            copy("monitoringTool"),
            same("customFields", How::Pairs),
            HTTP,
        ],
    },
    Integration {
        lists: ["pushoverConfigs", "pushover_configs"],
        told: ["pushOverConfig", "PushoverConfig"],
        since: None,
        check: validate::pushover,
        fields: &[
            RESOLVED,
            same("userKey", How::Filled("userKey")),
            same("token", How::Filled("token")),
            copy("title"),
            copy("message"),
            copy("url"),
            copy("urlTitle"),
            copy("ttl"),
            copy("device"),
            copy("priority"),
            same("expire", How::Duration("")),
            same("retry", How::Duration("")),
            copy("html"),
            copy("monospace"),
            HTTP,
        ],
    },
    Integration {
        lists: ["snsConfigs", "sns_configs"],
        told: ["snsConfig", "SNSConfig"],
        since: None,
        check: validate::sns,
        fields: &[
            RESOLVED,
            copy("apiURL"),
            same(
                "sigv4",
                How::One(&[
                    copy("region"),
                    same("accessKey", How::Secret("failed to read SigV4 access-key: ")),
                    same("secretKey", How::Secret("failed to read SigV4 secret-key: ")),
                    copy("profile"),
                    copy("roleArn"),
                    copy("externalId"),
                ]),
            ),
            copy("topicARN"),
            copy("subject"),
            copy("phoneNumber"),
            copy("targetARN"),
            copy("message"),
            copy("attributes"),
            since(33, field("useAWSHTTPClient", "use_aws_http_client", How::Copy)),
            HTTP,
        ],
    },
    Integration {
        lists: ["telegramConfigs", "telegram_configs"],
        told: ["telegramConfig", "TelegramConfig"],
        since: Some((24, Refusal::Available("telegramConfigs"))),
        check: validate::telegram,
        fields: &[
            RESOLVED,
            copy("apiURL"),
            same("botToken", KEY),
            since(26, copy("botTokenFile")),
            copy("chatID"),
            copy("messageThreadID"),
            copy("message"),
            copy("disableNotifications"),
            copy("parseMode"),
            HTTP,
        ],
    },
    Integration {
        lists: ["msteamsConfigs", "msteams_configs"],
        told: ["msteamsConfig", "MSTeamsConfig"],
        since: Some((26, Refusal::Words("msteams integration is only available in Alertmanager >= 0.26.0"))),
        check: validate::client,
        fields: &[RESOLVED, field("webhookUrl", "webhook_url", How::Late), copy("title"), copy("summary"), copy("text"), HTTP],
    },
    Integration {
        lists: ["msteamsv2Configs", "msteamsv2_configs"],
        told: ["msteamsv2Config", "MSTeamsConfigV2"],
        since: Some((28, Refusal::Words("msteamsv2 integration is only available in Alertmanager >= 0.28.0"))),
        check: validate::client,
        fields: &[RESOLVED, field("webhookURL", "webhook_url", KEY), copy("title"), copy("text"), HTTP],
    },
    Integration {
        lists: ["rocketchatConfigs", "rocketchat_configs"],
        told: ["rocketchatConfig", "RocketChatConfig"],
        since: Some((28, Refusal::Available("rocketChatConfigs"))),
        check: validate::api_url,
        fields: &[
            RESOLVED,
            HTTP,
            copy("apiURL"),
            same("token", How::Secret("failed to retrieve RocketChat token: ")),
            same("tokenID", How::Secret("failed to retrieve RocketChat token ID: ")),
            copy("channel"),
            copy("color"),
            copy("title"),
            copy("titleLink"),
            copy("text"),
            same("fields", How::Many(&[copy("title"), copy("value"), copy("short")])),
            copy("shortFields"),
            copy("emoji"),
            copy("iconURL"),
            copy("imageURL"),
            copy("thumbURL"),
            copy("linkNames"),
            same("actions", How::Many(&[copy("text"), copy("url"), copy("msg")])),
        ],
    },
];

/// The list of a receiver; manifests differ in capitals.
fn configs<'v>(receiver: &'v Value, list: &str) -> &'v [Value] {
    let given = receiver.as_object().into_iter().flatten().find(|(field, _)| field.eq_ignore_ascii_case(list));
    given.and_then(|(_, value)| value.as_array()).map_or(&[], Vec::as_slice)
}

/// The order in which the operator validates the kinds, which is not that in which it reads them.
const VALIDATED: [usize; 15] = [0, 1, 3, 4, 5, 7, 8, 9, 10, 11, 6, 2, 12, 14, 13];

/// Whether a receiver has what it must have, whatever the version.
///
/// # Errors
/// What is missing or wrong.
pub(super) fn check(receiver: &Value) -> Result<(), String> {
    let name = receiver["name"].as_str().unwrap_or_default();
    for integration in VALIDATED.iter().filter_map(|index| INTEGRATIONS.get(*index)) {
        let [kind, _] = integration.told;
        for one in configs(receiver, integration.lists[0]) {
            (integration.check)(one).map_err(|why| format!("failed to validate '{kind}' - receiver {name}: {why}"))?;
        }
    }
    Ok(())
}

/// A receiver without its name.
///
/// # Errors
/// Why the object is left out, or why nothing at all is written.
pub(super) fn convert(of: Of<'_>, receiver: &Value) -> Result<Map<String, Value>, Fault> {
    let (mut out, mut failed) = (Map::new(), None);
    for integration in &INTEGRATIONS {
        let [from, to] = integration.lists;
        let list = configs(receiver, from);
        if list.is_empty() {
            continue;
        }
        integration.check_version(of)?;
        let mut all = Vec::new();
        for (index, one) in list.iter().enumerate() {
            validate::late(of, from, one)?;
            let mut made = Map::new();
            match convert_fields(of, integration.fields, one, &mut made) {
                Ok(()) => all.push(Value::Object(made)),
                // What comes to light late does so only when nothing else is wrong.
                Err(Fault::Fail(why)) => drop(failed.get_or_insert(format!("{}[{index}]: {why}", integration.told[1]))),
                Err(reject) => return Err(reject),
            }
        }
        out.insert(to.to_owned(), all.into());
    }
    failed.map_or(Ok(out), |why| Err(Fault::Fail(why)))
}

impl Integration {
    fn check_version(&self, of: Of<'_>) -> Result<(), String> {
        match self.since {
            Some((minor, refusal)) if !of.release.at_least(minor) => Err(match refusal {
                Refusal::Available(name) => of.release.lacks(name, minor),
                Refusal::Words(words) => format!("invalid syntax in receivers config; {words}"),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether a mail has a server and a sender, here or in the global part.
///
/// # Errors
/// What it lacks.
pub(super) fn check_mail(receiver: &Map<String, Value>, global: &Value) -> Result<(), String> {
    let empty = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().is_empty();
    for (index, mail) in receiver.get("email_configs").and_then(Value::as_array).into_iter().flatten().enumerate() {
        for (field, in_global) in [("smarthost", "smtp_smarthost"), ("from", "smtp_from")] {
            if empty(mail, field) && empty(global, in_global) {
                return Err(format!(
                    "EmailConfig[{index}]: SMTP {field} is a mandatory field, it is neither specified at global config nor at receiver level"
                ));
            }
        }
    }
    Ok(())
}
