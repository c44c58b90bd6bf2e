//! `alertmanagerConfiguration.global` of an Alertmanager object: the global part of its configuration.

use serde_json::{Map, Value};

use super::fields::{Field, How, convert_fields, field, same};
use super::{Of, http};

/// A part of the object with its fields.
struct Group {
    /// The field that it is under; none for those at the top.
    under: &'static str,
    /// What precedes the reasons for which it cannot be.
    told: &'static str,
    /// Since which version 0.N it may be there, and what is said to older ones.
    since: Option<(u32, &'static str)>,
    fields: &'static [Field],
}

const KEY: How = How::Secret("");

/// Those of 0.87, in its order; from its successors, what it does not have.
static GROUPS: [Group; 10] = [
    Group {
        under: "smtp",
        told: "invalid global smtpConfig: ",
        since: None,
        fields: &[
            field("from", "smtp_from", How::Copy),
            field("hello", "smtp_hello", How::Copy),
            field("authUsername", "smtp_auth_username", How::Copy),
            field("authIdentity", "smtp_auth_identity", How::Copy),
            field("requireTLS", "smtp_require_tls", How::Copy),
            field("smartHost", "smtp_smarthost", How::Address),
            field("tlsConfig", "smtp_tls_config", How::TlsUnmounted),
            field("authPassword", "smtp_auth_password", KEY),
            field("authSecret", "smtp_auth_secret", KEY),
        ],
    },
    Group { under: "smtp", told: "", since: None, fields: &[field("forceImplicitTLS", "smtp_force_implicit_tls", How::Copy)] },
    Group {
        under: "",
        told: "",
        since: None,
        fields: &[
            same("httpConfig", How::Http("invalid global httpConfig: ")),
            same("resolveTimeout", How::Duration("parse resolve timeout: ")),
            same("slackApiUrl", How::RawUrl("failed to get Slack API URL: ", "parse slack API URL: ")),
            field(
                "opsGenieApiUrl",
                "opsgenie_api_url",
                How::RawUrl("failed to get OpsGenie API URL: ", "parse OpsGenie API URL: "),
            ),
            field("opsGenieApiKey", "opsgenie_api_key", How::Secret("failed to get OpsGenie API KEY: ")),
            same("pagerdutyUrl", How::ParsedUrl("parse Pagerduty URL: ")),
        ],
    },
    Group {
        under: "telegram",
        told: "invalid global telegram config: ",
        since: Some((24, "telegram integration requires Alertmanager >= 0.24.0")),
        fields: &[field("apiURL", "telegram_api_url", How::ParsedUrl("failed to parse Telegram API URL: "))],
    },
    Group {
        under: "jira",
        told: "invalid global jira config: ",
        since: Some((28, "jira integration requires Alertmanager >= 0.28.0")),
        fields: &[field("apiURL", "jira_api_url", How::ParsedUrl("failed to parse Jira API URL: "))],
    },
    Group {
        under: "rocketChat",
        told: "invalid global rocket chat config: ",
        since: Some((28, "rocket chat integration requires Alertmanager >= 0.28.0")),
        fields: &[
            field("apiURL", "rocketchat_api_url", How::ParsedUrl("failed to parse Rocket Chat API URL: ")),
            field("token", "rocketchat_token", How::Secret("failed to get Rocket Chat Token: ")),
            field("tokenID", "rocketchat_token_id", How::Secret("failed to get Rocket Chat Token ID: ")),
        ],
    },
    Group {
        under: "webex",
        told: "invalid global webex config: ",
        since: Some((25, "webex integration requires Alertmanager >= 0.25.0")),
        fields: &[field("apiURL", "webex_api_url", How::ParsedUrl("parse Webex API URL: "))],
    },
    Group {
        under: "wechat",
        told: "invalid global wechat config: ",
        since: None,
        fields: &[
            field("apiURL", "wechat_api_url", How::ParsedUrl("wechat API URL: ")),
            field("apiSecret", "wechat_api_secret", How::Secret("failed to get WeChat Secret: ")),
            field("apiCorpID", "wechat_api_corp_id", How::Copy),
        ],
    },
    Group {
        under: "victorops",
        told: "invalid global victorops config: ",
        since: None,
        fields: &[
            field("apiURL", "victorops_api_url", How::ParsedUrl("failed to parse VictorOps API URL: ")),
            field("apiKey", "victorops_api_key", How::Secret("failed to get VictorOps Secret: ")),
        ],
    },
    Group {
        under: "mattermost",
        told: "",
        since: None,
        fields: &[field("webhookURL", "mattermost_webhook_url", How::RawUrl("", "failed to parse Mattermost webhook URL: "))],
    },
];

/// What is refused with the version that there is: the field, and since which 0.N.
const LATER: [(&str, &str, u32, &str); 2] = [
    ("smtp", "forceImplicitTLS", 31, "'forceImplicitTLS' integration requires Alertmanager >= 0.31.0"),
    ("mattermost", "webhookURL", 32, "'mattermost' global parameters require Alertmanager >= 0.32.0"),
];

/// The global part in Alertmanager's words. Its Secrets are those of the Alertmanager's namespace.
///
/// # Errors
/// Why there can be none.
pub(super) fn convert(of: Of<'_>, from: &Value) -> Result<Map<String, Value>, String> {
    http::check(&from["httpConfig"]).map_err(|why| format!("httpConfig: {why}"))?;
    for (under, name, minor, words) in LATER {
        if !from[under][name].is_null() && !of.release.at_least(minor) {
            return Err(format!("{words} - current {}", of.release.text));
        }
    }
    let mut out = Map::new();
    for group in &GROUPS {
        let part = if group.under.is_empty() { from } else { &from[group.under] };
        if !part.is_object() {
            continue;
        }
        if let Some((minor, words)) = group.since
            && !of.release.at_least(minor)
        {
            return Err(format!("{}{words}", group.told));
        }
        convert_fields(of, group.fields, part, &mut out).map_err(|fault| format!("{}{}", group.told, fault.reason()))?;
    }
    Ok(out)
}
