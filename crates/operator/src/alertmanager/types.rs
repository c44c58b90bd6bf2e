//! The types of Alertmanager's configuration but for its receivers: fields, how they are printed, since when a version knows them.

use serde_json::{Map, Value};

use super::integrations as of;
use super::schema::{Kind, Type};
use super::versions::{Rule, given};
use crate::version::Version;

use Kind::{
    Duration, Filled, Host, Intervals, Many, Map as TextMap, One, Switch, SwitchAlways, SwitchGiven, Text, TextAlways, Texts, Url,
};
use Rule::{Check, Field, Over, Since};

/// The whole file.
pub(super) static CONFIG: Type = Type {
    name: "alertmanagerConfig",
    fields: &[
        (One(&GLOBAL), "global"),
        (One(&ROUTE), "route"),
        (Many(&INHIBIT_RULE), "inhibit_rules"),
        (Many(&RECEIVER), "receivers"),
        (Intervals, "mute_time_intervals time_intervals"),
        (Texts, "templates"),
    ],
    rules: &[Since(22, "mute_time_intervals"), Since(24, "time_intervals"), Check(without_locations)],
};

/// Locations of time intervals came late.
fn without_locations(config: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    if version.at_least(0, 25) {
        return Ok(());
    }
    for list in ["mute_time_intervals", "time_intervals"] {
        for named in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for interval in named["time_intervals"].as_array_mut().into_iter().flatten() {
                interval.as_object_mut().into_iter().for_each(|interval| drop(interval.remove("location")));
            }
        }
    }
    Ok(())
}

static GLOBAL: Type = Type {
    name: "globalConfig",
    fields: &[
        (Duration, "resolve_timeout"),
        (One(&HTTP), "http_config"),
        (
            Text,
            "smtp_from smtp_hello smtp_auth_username smtp_auth_password smtp_auth_password_file \
             smtp_auth_secret smtp_auth_secret_file smtp_auth_identity slack_api_url_file \
             slack_app_token slack_app_token_file hipchat_auth_token opsgenie_api_key \
             opsgenie_api_key_file wechat_api_secret wechat_api_secret_file \
             wechat_api_corp_id victorops_api_key victorops_api_key_file telegram_bot_token \
             telegram_bot_token_file rocketchat_token rocketchat_token_file \
             rocketchat_token_id rocketchat_token_id_file mattermost_webhook_url_file",
        ),
        (Host, "smtp_smarthost"),
        (SwitchGiven, "smtp_require_tls smtp_force_implicit_tls"),
        (One(&TLS), "smtp_tls_config"),
        (
            Url,
            "slack_api_url slack_app_url pagerduty_url hipchat_api_url opsgenie_api_url wechat_api_url \
             victorops_api_url telegram_api_url webex_api_url jira_api_url \
             rocketchat_api_url mattermost_webhook_url",
        ),
    ],
    rules: &[
        Since(22, "slack_api_url_file"),
        Since(24, "opsgenie_api_key_file"),
        Since(25, "smtp_auth_password_file victorops_api_key_file"),
        Since(28, "smtp_tls_config"),
        Since(30, "slack_app_token slack_app_token_file slack_app_url"),
        Since(
            31,
            "wechat_api_secret_file telegram_bot_token telegram_bot_token_file smtp_auth_secret_file \
             smtp_force_implicit_tls",
        ),
        Since(32, "mattermost_webhook_url mattermost_webhook_url_file"),
        Over("slack_api_url", "slack_api_url_file"),
        Over("smtp_auth_password", "smtp_auth_password_file"),
        Over("victorops_api_key", "victorops_api_key_file"),
        Over("slack_app_token", "slack_app_token_file"),
        Over("wechat_api_secret", "wechat_api_secret_file"),
        Over("telegram_bot_token", "telegram_bot_token_file"),
        Over("smtp_auth_secret", "smtp_auth_secret_file"),
        Over("mattermost_webhook_url", "mattermost_webhook_url_file"),
    ],
};

/// A route and its children.
pub(super) static ROUTE: Type = Type {
    name: "route",
    fields: &[
        (Text, "receiver group_wait group_interval repeat_interval"),
        (Texts, "group_by matchers mute_time_intervals active_time_intervals"),
        (TextMap, "match match_re"),
        (Switch, "continue"),
        (Many(&ROUTE), "routes"),
    ],
    rules: &[Check(old_matchers), Since(22, "mute_time_intervals"), Since(24, "active_time_intervals")],
};

fn old_matchers(route: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    if version.at_least(0, 22) || !given(route, "matchers") {
        return Ok(());
    }
    Err(format!(
        "invalid syntax in route config for 'matchers' comparison based matching is supported in Alertmanager >= 0.22.0 only (matchers={})",
        printed(&route["matchers"])
    ))
}

/// A list as Go prints it.
fn printed(list: &Value) -> String {
    let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("[{}]", texts.join(" "))
}

/// An inhibition.
pub(super) static INHIBIT_RULE: Type = Type {
    name: "inhibitRule",
    fields: &[
        (TextMap, "target_match target_match_re source_match source_match_re"),
        (Texts, "target_matchers source_matchers equal"),
    ],
    rules: &[Check(old_inhibitions)],
};

fn old_inhibitions(rule: &mut Map<String, Value>, version: Version) -> Result<(), String> {
    if version.at_least(0, 22) || !(given(rule, "target_matchers") || given(rule, "source_matchers")) {
        return Ok(());
    }
    let side = |key: &str| printed(rule.get(key).unwrap_or(&Value::Null));
    Err(format!(
        "target_matchers and source_matchers matching is supported in Alertmanager >= 0.22.0 only (target_matchers={}, source_matchers={})",
        side("target_matchers"),
        side("source_matchers")
    ))
}

/// A receiver.
pub(super) static RECEIVER: Type = Type {
    name: "receiver",
    fields: &[
        (TextAlways, "name"),
        (Many(&of::OPSGENIE), "opsgenie_configs"),
        (Many(&of::PAGERDUTY), "pagerduty_configs"),
        (Many(&of::SLACK), "slack_configs"),
        (Many(&of::WEBHOOK), "webhook_configs"),
        (Many(&of::WECHAT), "wechat_configs"),
        (Many(&of::EMAIL), "email_configs"),
        (Many(&of::PUSHOVER), "pushover_configs"),
        (Many(&of::VICTOROPS), "victorops_configs"),
        (Many(&of::SNS), "sns_configs"),
        (Many(&of::TELEGRAM), "telegram_configs"),
        (Many(&of::DISCORD), "discord_configs"),
        (Many(&of::WEBEX), "webex_configs"),
        (Many(&of::MSTEAMS), "msteams_configs"),
        (Many(&of::MSTEAMS_V2), "msteamsv2_configs"),
        (Many(&of::JIRA), "jira_configs"),
        (Many(&of::ROCKETCHAT), "rocketchat_configs"),
        (Many(&of::MATTERMOST), "mattermost_configs"),
        (Many(&of::INCIDENTIO), "incidentio_configs"),
    ],
    rules: &[],
};

/// How a client speaks HTTP.
pub(super) static HTTP: Type = Type {
    name: "httpClientConfig",
    fields: &[
        (One(&AUTHORIZATION), "authorization"),
        (One(&BASIC_AUTH), "basic_auth"),
        (One(&OAUTH2), "oauth2"),
        (Text, "bearer_token bearer_token_file proxy_url no_proxy"),
        (One(&TLS), "tls_config"),
        (SwitchGiven, "follow_redirects enable_http2"),
        (Switch, "proxy_from_environment"),
        (Kind::Any, "proxy_connect_header http_headers"),
    ],
    rules: &[
        Field(22, "authorization", "'authorization' set in 'http_config' but supported in Alertmanager >= 0.22.0 only"),
        Field(22, "oauth2", "'oauth2' set in 'http_config' but supported in Alertmanager >= 0.22.0 only"),
        Since(22, "follow_redirects"),
        Since(25, "enable_http2"),
        Since(26, "proxy_from_environment no_proxy proxy_connect_header"),
        Since(28, "http_headers"),
        Check(proxies),
    ],
};

/// Proxy settings that contradict each other.
fn proxies(http: &mut Map<String, Value>, _: Version) -> Result<(), String> {
    let is = |field: &str| given(http, field);
    let why = if is("proxy_connect_header") && !is("proxy_from_environment") && !is("proxy_url") {
        "if 'proxy_connect_header' is configured, 'proxy_url' or 'proxy_from_environment' must also be configured"
    } else if is("proxy_from_environment") && is("proxy_url") {
        "if 'proxy_from_environment' is configured, 'proxy_url' must not be configured"
    } else if is("proxy_from_environment") && is("no_proxy") {
        "if 'proxy_from_environment' is configured, 'no_proxy' must not be configured"
    } else if is("no_proxy") && !is("proxy_url") {
        "if 'no_proxy' is configured, 'proxy_url' must also be configured"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

static AUTHORIZATION: Type = Type { name: "authorization", fields: &[(Text, "type credentials credentials_file")], rules: &[] };

static BASIC_AUTH: Type =
    Type { name: "basicAuth", fields: &[(TextAlways, "username"), (Text, "password password_file username_file")], rules: &[] };

static OAUTH2: Type = Type {
    name: "oauth2",
    fields: &[
        (TextAlways, "client_id client_secret token_url"),
        (Text, "client_secret_file proxy_url no_proxy"),
        (Texts, "scopes"),
        (TextMap, "endpoint_params"),
        (Switch, "proxy_from_environment"),
        (Kind::Any, "proxy_connect_header"),
        (One(&TLS), "tls_config"),
    ],
    rules: &[Since(25, "proxy_url no_proxy proxy_from_environment proxy_connect_header")],
};

/// How a client speaks TLS.
pub(super) static TLS: Type = Type {
    name: "tlsConfig",
    fields: &[(Text, "ca_file cert_file key_file server_name min_version max_version"), (SwitchAlways, "insecure_skip_verify")],
    rules: &[Since(25, "min_version max_version"), Check(tls_versions)],
};

fn tls_versions(tls: &mut Map<String, Value>, _: Version) -> Result<(), String> {
    let text = |field: &str| tls.get(field).and_then(Value::as_str).unwrap_or_default();
    let (least, most) = (text("min_version"), text("max_version"));
    if let Some(unknown) = [least, most].into_iter().find(|one| !matches!(*one, "" | "TLS10" | "TLS11" | "TLS12" | "TLS13")) {
        return Err(format!("unknown TLS version: {unknown}"));
    }
    if !least.is_empty() && !most.is_empty() && least > most {
        return Err(format!("max TLS version {most:?} must be greater than or equal to min TLS version {least:?}"));
    }
    Ok(())
}

/// What a mail server or a service is asked for over more than one channel.
pub(super) static SIGV4: Type = Type {
    name: "sigV4Config",
    fields: &[(Text, "region access_key secret_key profile role_arn external_id")],
    rules: &[Since(33, "external_id")],
};

/// A kind that is left out when nothing is in it.
pub(super) const SIGNED: Kind = Filled(&SIGV4);
