//! The types of Alertmanager's receivers: fields, how they are printed, since when a version knows them.

use serde_json::{Map, Value};

use super::schema::{Kind, Type};
use super::types::{HTTP, SIGNED, TLS};
use super::versions::{Rule, given};
use crate::version::Version;

use Kind::{
    Any, Duration, Host, Many, Map as TextMap, Number, One, Switch, SwitchAlways, SwitchGiven, SwitchOrNull, Text, TextAlways,
    TextGiven, Texts, Url,
};
use Rule::{Check, Need, Not, Over, Since, Whole};

/// What a receiver has whatever it is.
const RESOLVED: (Kind, &str) = (SwitchGiven, "send_resolved");
const CLIENT: (Kind, &str) = (One(&HTTP), "http_config");

pub(super) static OPSGENIE: Type = Type {
    name: "opsgenieConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Text, "api_key api_key_file message description source tags note priority entity actions"),
        (Url, "api_url"),
        (TextMap, "details"),
        (Many(&RESPONDER), "responders"),
        (SwitchGiven, "update_alerts"),
    ],
    rules: &[Since(24, "actions entity update_alerts api_key_file"), Over("api_key", "api_key_file")],
};

static RESPONDER: Type = Type { name: "opsgenieResponder", fields: &[(Text, "id name username type")], rules: &[Check(teams)] };

fn teams(responder: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    if version.at_least(0, 24) || responder.get("type").is_none_or(|kind| kind != "teams") {
        return Ok(());
    }
    Err("'teams' set in 'opsgenieResponder' but supported in Alertmanager >= 0.24.0 only".to_owned())
}

pub(super) static PAGERDUTY: Type = Type {
    name: "pagerdutyConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (
            Text,
            "service_key service_key_file routing_key routing_key_file client client_url description \
             severity class component group source",
        ),
        (Url, "url"),
        (TextMap, "details"),
        (Many(&IMAGE), "images"),
        (Many(&LINK), "links"),
        (Duration, "timeout"),
    ],
    rules: &[
        Since(25, "source routing_key_file service_key_file"),
        Since(30, "timeout"),
        Over("service_key", "service_key_file"),
        Over("routing_key", "routing_key_file"),
    ],
};

static IMAGE: Type = Type { name: "pagerdutyImage", fields: &[(Text, "src alt href")], rules: &[] };
static LINK: Type = Type { name: "pagerdutyLink", fields: &[(Text, "href text")], rules: &[] };

pub(super) static SLACK: Type = Type {
    name: "slackConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "api_url app_url"),
        (
            Text,
            "api_url_file app_token app_token_file channel username color title title_link pretext text \
             footer fallback callback_id icon_emoji icon_url image_url thumb_url \
             message_text",
        ),
        (Many(&SLACK_FIELD), "fields"),
        (Switch, "short_fields link_names"),
        (SwitchGiven, "update_message"),
        (Texts, "mrkdwn_in"),
        (Many(&SLACK_ACTION), "actions"),
        (Duration, "timeout"),
    ],
    rules: &[
        Since(22, "api_url_file"),
        Since(30, "timeout app_token app_token_file app_url"),
        Since(31, "message_text"),
        Since(32, "update_message"),
        Over("api_url", "api_url_file"),
        Over("app_token", "app_token_file"),
        Check(updates),
    ],
};

/// Only a bot can change what it has said.
fn updates(slack: &mut Map<String, Value>, _: Version) -> Result<(), String> {
    let bot = "https://slack.com/api/chat.postMessage";
    let other = slack.get("api_url").and_then(Value::as_str).is_some_and(|url| url != bot);
    if slack.get("update_message") == Some(&Value::Bool(true)) && other {
        return Err(format!("update_message' can only be used with bot tokens. api_url must be set to {bot}"));
    }
    Ok(())
}

static SLACK_FIELD: Type = Type { name: "slackField", fields: &[(Text, "title value"), (Switch, "short")], rules: &[] };
static SLACK_ACTION: Type =
    Type { name: "slackAction", fields: &[(Text, "type text url style name value"), (One(&CONFIRM), "confirm")], rules: &[] };
static CONFIRM: Type = Type { name: "slackConfirmationField", fields: &[(Text, "text title ok_text dismiss_text")], rules: &[] };

pub(super) static WEBHOOK: Type = Type {
    name: "webhookConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "url"),
        (Text, "url_file"),
        (Number, "max_alerts"),
        (Duration, "timeout"),
        (Any, "payload"),
    ],
    rules: &[Since(26, "url_file"), Since(28, "timeout"), Since(32, "payload"), Over("url", "url_file")],
};

pub(super) static WECHAT: Type = Type {
    name: "weChatConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "api_url"),
        (Text, "api_secret api_secret_file corp_id agent_id to_user to_party to_tag message message_type"),
    ],
    rules: &[Since(31, "api_secret_file"), Over("api_secret", "api_secret_file")],
};

pub(super) static EMAIL: Type = Type {
    name: "emailConfig",
    fields: &[
        RESOLVED,
        (
            Text,
            "to from hello auth_username auth_password auth_password_file auth_secret auth_secret_file \
             auth_identity",
        ),
        (Host, "smarthost"),
        (TextMap, "headers"),
        (TextGiven, "html text"),
        (SwitchGiven, "require_tls force_implicit_tls"),
        (One(&TLS), "tls_config"),
        (One(&THREADING), "threading"),
    ],
    rules: &[
        Since(25, "auth_password_file"),
        Since(30, "threading"),
        Since(31, "auth_secret_file force_implicit_tls"),
        Over("auth_password", "auth_password_file"),
        Over("auth_secret", "auth_secret_file"),
    ],
};

static THREADING: Type =
    Type { name: "emailThreadingConfig", fields: &[(SwitchGiven, "enabled"), (Text, "thread_by_date")], rules: &[] };

pub(super) static PUSHOVER: Type = Type {
    name: "pushoverConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (
            Text,
            "user_key user_key_file token token_file title message url url_title ttl device sound \
             priority",
        ),
        (Duration, "retry expire"),
        (SwitchGiven, "html monospace"),
    ],
    rules: &[
        Since(26, "user_key_file token_file device"),
        Since(27, "ttl"),
        Need("user_key user_key_file", "missing mandatory field user_key or user_key_file"),
        Need("token token_file", "missing mandatory field token or token_file"),
        Over("user_key", "user_key_file"),
        Over("token", "token_file"),
        Check(monospace),
    ],
};

fn monospace(pushover: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    let on = |map: &Map<String, Value>, field: &str| map.get(field) == Some(&Value::Bool(true));
    if on(pushover, "monospace") && !version.at_least(0, 29) {
        pushover.insert("monospace".to_owned(), false.into());
    }
    if on(pushover, "html") && on(pushover, "monospace") {
        return Err("either monospace or html must be configured".to_owned());
    }
    Ok(())
}

pub(super) static VICTOROPS: Type = Type {
    name: "victorOpsConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "api_url"),
        (
            Text,
            "api_key api_key_file routing_key message_type state_message entity_display_name \
             monitoring_tool",
        ),
        (TextMap, "custom_fields"),
    ],
    rules: &[Since(25, "api_key_file"), Over("api_key", "api_key_file")],
};

pub(super) static SNS: Type = Type {
    name: "snsConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Text, "api_url topic_arn phone_number target_arn subject message"),
        (SIGNED, "sigv4"),
        (TextMap, "attributes"),
        (Switch, "use_aws_http_client"),
    ],
    rules: &[Since(33, "use_aws_http_client")],
};

pub(super) static TELEGRAM: Type = Type {
    name: "telegramConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "api_url"),
        (Text, "bot_token bot_token_file chat_id_file message parse_mode"),
        (Number, "chat_id message_thread_id"),
        (Switch, "disable_notifications"),
    ],
    rules: &[
        Whole(24, "invalid syntax in receivers config; telegram integration is available in Alertmanager >= 0.24.0"),
        Since(26, "bot_token_file message_thread_id"),
        Since(31, "chat_id_file"),
        Need("chat_id chat_id_file", "mandatory field \"chatID\" is empty"),
        Over("chat_id", "chat_id_file"),
        Check(bot_token),
        Over("bot_token", "bot_token_file"),
    ],
};

/// From 0.31 on the token may stand in the global part.
fn bot_token(telegram: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    if version.at_least(0, 31) || given(telegram, "bot_token") || given(telegram, "bot_token_file") {
        return Ok(());
    }
    Err("missing mandatory field botToken or botTokenFile".to_owned())
}

pub(super) static DISCORD: Type = Type {
    name: "discordConfig",
    fields: &[RESOLVED, CLIENT, (Url, "webhook_url"), (Text, "title message content username avatar_url")],
    rules: &[
        Whole(25, "invalid syntax in receivers config; discord integration is available in Alertmanager >= 0.25.0"),
        Since(28, "content username avatar_url"),
    ],
};

pub(super) static WEBEX: Type = Type {
    name: "webexConfig",
    fields: &[RESOLVED, CLIENT, (Url, "api_url"), (Text, "message"), (TextAlways, "room_id")],
    rules: &[
        Whole(25, "invalid syntax in receivers config; webex integration is available in Alertmanager >= 0.25.0"),
        Need("room_id", "mandatory field \"room_id\" is empty"),
    ],
};

pub(super) static MSTEAMS: Type = Type {
    name: "msTeamsConfig",
    fields: &[RESOLVED, CLIENT, (Url, "webhook_url"), (Text, "title summary text")],
    rules: &[
        Whole(26, "invalid syntax in receivers config; msteams integration is only available in Alertmanager >= 0.26.0"),
        Need("webhook_url", "mandatory field \"webhook_url\" is empty"),
        Since(27, "summary"),
    ],
};

pub(super) static MSTEAMS_V2: Type = Type {
    name: "msTeamsV2Config",
    fields: &[RESOLVED, CLIENT, (Url, "webhook_url"), (Text, "webhook_url_file title text")],
    rules: &[
        Whole(28, "invalid syntax in receivers config; msteams v2 integration is available in Alertmanager >= 0.28.0"),
        Need("webhook_url webhook_url_file", "no webhook_url or webhook_url_file provided"),
        Not(["webhook_url", "webhook_url_file"], "both webhook_url and webhook_url_file cannot be set at the same time"),
    ],
};

pub(super) static JIRA: Type = Type {
    name: "jiraConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "api_url"),
        (
            Text,
            "api_type project summary description priority issue_type reopen_transition \
             resolve_transition wont_fix_resolution",
        ),
        (Texts, "labels"),
        (Duration, "reopen_duration"),
        (Any, "fields"),
    ],
    rules: &[
        Whole(28, "invalid syntax in receivers config; jira integration is available in Alertmanager >= 0.28.0"),
        Since(29, "api_type"),
        Need("project", "missing project in jira_config"),
        Need("issue_type", "missing issue_type in jira_config"),
    ],
};

pub(super) static ROCKETCHAT: Type = Type {
    name: "rocketChatConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "api_url"),
        (TextGiven, "token token_id"),
        (
            Text,
            "token_file token_id_file channel color title title_link text emoji icon_url image_url \
             thumb_url",
        ),
        (Many(&ROCKETCHAT_FIELD), "fields"),
        (SwitchAlways, "short_fields link_names"),
        (Many(&ROCKETCHAT_ACTION), "actions"),
    ],
    rules: &[
        Whole(28, "invalid syntax in receivers config; rocketchat integration is available in Alertmanager >= 0.28.0"),
        Not(["token", "token_file"], "at most one of token & token_file must be configured"),
        Not(["token_id", "token_id_file"], "at most one of token_id & token_id_file must be configured"),
    ],
};

static ROCKETCHAT_FIELD: Type =
    Type { name: "rocketchatAttachmentField", fields: &[(SwitchOrNull, "short"), (Text, "title value")], rules: &[] };
static ROCKETCHAT_ACTION: Type = Type {
    name: "rocketchatAttachmentAction",
    fields: &[
        (Text, "type text url image_url webview_height_ratio msg msg_processing_type"),
        (SwitchAlways, "is_webview msg_in_chat_window"),
    ],
    rules: &[],
};

pub(super) static MATTERMOST: Type = Type {
    name: "mattermostConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "webhook_url"),
        (Text, "webhook_url_file channel username icon_url icon_emoji"),
        ATTACHED,
        (Many(&ATTACHED_FIELD), "fields"),
        (Many(&ATTACHMENT), "attachments"),
        (Any, "props priority"),
    ],
    rules: &[
        Whole(30, "invalid syntax in receivers config; mattermost integration is available in Alertmanager >= 0.30.0"),
        Since(
            32,
            "fallback color pretext author_name author_link author_icon title title_link thumb_url \
             footer footer_icon image_url fields",
        ),
        Over("webhook_url", "webhook_url_file"),
    ],
};

/// What a message of Mattermost and each attachment of it have.
const ATTACHED: (Kind, &str) = (
    Text,
    "fallback color pretext text author_name author_link author_icon title title_link thumb_url footer \
     footer_icon image_url",
);
static ATTACHMENT: Type =
    Type { name: "mattermostAttachmentConfig", fields: &[ATTACHED, (Many(&ATTACHED_FIELD), "fields")], rules: &[] };
static ATTACHED_FIELD: Type = Type { name: "mattermostField", fields: &[(Text, "title value"), (Switch, "short")], rules: &[] };

pub(super) static INCIDENTIO: Type = Type {
    name: "incidentioConfig",
    fields: &[
        RESOLVED,
        CLIENT,
        (Url, "url"),
        (Text, "url_file alert_source_token alert_source_token_file"),
        (Number, "max_alerts"),
        (Duration, "timeout"),
    ],
    rules: &[
        Whole(29, "invalid syntax in receivers config; incident.io integration is available in Alertmanager >= 0.29.0"),
        Need("url url_file", "one of url or url_file must be configured"),
        Not(["url", "url_file"], "at most one of url & url_file must be configured"),
    ],
};
