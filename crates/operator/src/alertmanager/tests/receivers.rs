//! Receivers: one row per rule, with what it becomes or why it is refused.

use super::*;

/// What a receiver becomes in a version, without its name; or why there is none.
fn made(version: &str, receiver: &str) -> Result<Value, String> {
    let mut receiver = yaml(receiver);
    receiver["name"] = "r".into();
    let spec = json!({"route": {"receiver": "r"}, "receivers": [receiver]});
    let mut objects = keys();
    objects.push(configured("o", spec));
    let out = compiled(json!({"version": version, "alertmanagerConfigSelector": {}}), objects);
    if let Some(why) = out.failed {
        return Err(format!("FAIL {}", why.trim_start_matches("provision alertmanager configuration: ")));
    }
    if let Some(rejected) = out.rejected.first() {
        return Err(rejected.reason.clone());
    }
    let mut receiver = out.config.unwrap()["receivers"][1].clone();
    assert_eq!(receiver.as_object_mut().unwrap().remove("name"), Some("ns1/o/r".into()));
    Ok(receiver)
}

fn hold(rows: &[(&str, &str, &str)]) {
    for (version, receiver, expected) in rows {
        match made(version, receiver) {
            Ok(made) => assert_eq!(made, yaml(expected), "{version} {receiver}"),
            Err(why) => assert_eq!(why, *expected, "{version} {receiver}"),
        }
    }
}

#[test]
fn secrets_are_written_to_the_last_byte_and_urls_without_space() {
    hold(&[
        ("0.29.0", "pagerdutyConfigs: [{routingKey: {name: s, key: k}}]", r#"pagerduty_configs: [{routing_key: "abc\n"}]"#),
        ("0.29.0", "slackConfigs: [{apiURL: {name: s, key: url}}]", "slack_configs: [{api_url: http://a/b}]"),
        ("0.29.0", "discordConfigs: [{apiURL: {name: s, key: url}}]", "discord_configs: [{webhook_url: http://a/b}]"),
        ("0.29.0", "webhookConfigs: [{urlSecret: {name: s, key: url}}]", "webhook_configs: [{url: http://a/b}]"),
        ("0.29.0", "msteamsConfigs: [{webhookUrl: {name: s, key: url}}]", r#"msteams_configs: [{webhook_url: "http://a/b\n"}]"#),
        (
            "0.29.0",
            "msteamsv2Configs: [{webhookURL: {name: s, key: url}}]",
            r#"msteamsv2_configs: [{webhook_url: "http://a/b\n"}]"#,
        ),
        (
            "0.29.0",
            "slackConfigs: [{apiURL: {name: s, key: nourl}}]",
            "failed to validate API URL: validate url from string failed with error: unsupported scheme \"\" for URL",
        ),
        (
            "0.29.0",
            "webhookConfigs: [{urlSecret: {name: s, key: nourl}}]",
            "failed to validate URL: validate url from string failed with error: unsupported scheme \"\" for URL",
        ),
    ]);
}

#[test]
fn what_is_missing_is_named() {
    hold(&[
        (
            "0.29.0",
            "pagerdutyConfigs: [{routingKey: {name: no, key: k}}]",
            "unable to get secret \"no\": secrets \"no\" not found",
        ),
        ("0.29.0", "opsgenieConfigs: [{apiKey: {name: s, key: no}}]", "key \"no\" in secret \"s\" not found"),
        (
            "0.29.0",
            "discordConfigs: [{apiURL: {name: s, key: no}}]",
            "failed to retrieve API URL: key \"no\" in secret \"s\" not found",
        ),
        (
            "0.29.0",
            "rocketchatConfigs: [{token: {name: s, key: no}, tokenID: {name: s, key: k}}]",
            "failed to retrieve RocketChat token: key \"no\" in secret \"s\" not found",
        ),
        // The operator does not look at this one before it is too late.
        (
            "0.29.0",
            "msteamsConfigs: [{webhookUrl: {name: s, key: no}}]",
            "FAIL failed to generate Alertmanager configuration: AlertmanagerConfig ns1/o: MSTeamsConfig[0]: key \"no\" in secret \"s\" not found",
        ),
    ]);
}

#[test]
fn what_each_kind_must_have() {
    let of = |kind: &str, why: &str| format!("failed to validate '{kind}' - receiver r: {why}");
    for (receiver, kind, why) in [
        ("pagerdutyConfigs: [{}]", "pagerDutyConfig", "one of 'routingKey' or 'serviceKey' is required"),
        ("webhookConfigs: [{}]", "webhookConfig", "one of 'url' or 'urlSecret' must be specified"),
        ("telegramConfigs: [{chatID: 1}]", "telegramConfig", "mandatory field botToken or botTokenfile is empty"),
        ("telegramConfigs: [{botToken: {name: s, key: k}, chatID: 0}]", "telegramConfig", "mandatory field \"chatID\" is empty"),
        ("pushoverConfigs: [{token: {name: s, key: k}}]", "pushOverConfig", "one of userKey or userKeyFile must be configured"),
        (
            "pushoverConfigs: [{userKeyFile: a, tokenFile: b, html: true, monospace: true}]",
            "pushOverConfig",
            "html and monospace options are mutually exclusive",
        ),
        (
            "opsgenieConfigs: [{responders: [{type: team}]}]",
            "opsGenieConfig",
            "responder must have at least an ID, a Name or an Username defined",
        ),
        (
            "opsgenieConfigs: [{responders: [{type: crowd, id: a}]}]",
            "opsGenieConfig",
            "opsGenieConfig responder &{a   crowd} type does not match valid options ^(team|teams|user|escalation|schedule)$",
        ),
        (
            "opsgenieConfigs: [{apiURL: x}]",
            "opsGenieConfig",
            "invalid 'apiURL': validate url from string failed for x: unsupported scheme \"\" for URL",
        ),
        ("slackConfigs: [{actions: [{text: a, url: b}]}]", "slackConfig", "missing type in Slack action configuration"),
        ("slackConfigs: [{actions: [{type: a, text: b}]}]", "slackConfig", "missing name or url in Slack action configuration"),
        (
            "slackConfigs: [{actions: [{type: a, text: b, url: c, confirm: {}}]}]",
            "slackConfig",
            "missing text in Slack confirmation configuration",
        ),
        ("slackConfigs: [{fields: [{value: a}]}]", "slackConfig", "missing title in Slack field configuration"),
        ("emailConfigs: [{from: a}]", "emailConfig", "missing 'to' address"),
        ("emailConfigs: [{to: a, smarthost: b}]", "emailConfig", "invalid 'smarthost' b: address b: missing port in address"),
        (
            "emailConfigs: [{to: a, headers: [{key: Subject, value: a}, {key: subject, value: b}]}]",
            "emailConfig",
            "duplicate header \"subject\"",
        ),
        ("victoropsConfigs: [{}]", "victorOpsConfig", "missing 'routingKey' key"),
        (
            "victoropsConfigs: [{routingKey: a, customFields: [{key: entity_id, value: b}]}]",
            "victorOpsConfig",
            "usage of reserved word \"entity_id\" is not allowed in custom fields",
        ),
        ("snsConfigs: [{}]", "snsConfig", "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config"),
        (
            "snsConfigs: [{targetARN: a, topicARN: b}]",
            "snsConfig",
            "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config",
        ),
    ] {
        assert_eq!(made("0.29.0", receiver).unwrap_err(), of(kind, why), "{receiver}");
    }
    hold(&[
        ("0.29.0", "pushoverConfigs: [{userKeyFile: a, tokenFile: b}]", "mandatory field userKey is empty"),
        (
            "0.29.0",
            "pushoverConfigs: [{userKey: {name: s, key: k}, token: {name: s, key: empty}}]",
            "mandatory field userKey is empty",
        ),
        (
            "0.29.0",
            "snsConfigs: [{topicARN: a, sigv4: {accessKey: {name: s, key: k}}}]",
            "both accessKey and secretKey should be provided",
        ),
        (
            "0.29.0",
            "emailConfigs: [{to: a, from: b}]",
            "FAIL failed to generate Alertmanager configuration: AlertmanagerConfig ns1/o: EmailConfig[0]: SMTP smarthost is a mandatory field, \
             it is neither specified at global config nor at receiver level",
        ),
        (
            "0.29.0",
            "webexConfigs: [{apiURL: \"http://a/\"}]",
            "FAIL failed to generate Alertmanager configuration: mandatory field \"room_id\" is empty",
        ),
    ]);
}

#[test]
fn what_is_off_or_empty() {
    hold(&[
        (
            "0.29.0",
            r#"emailConfigs: [{to: a, from: b, smarthost: "h:25", html: "", text: x, requireTLS: false, tlsConfig: {}}]"#,
            r#"email_configs: [{to: a, from: b, smarthost: "h:25", html: "", text: x, require_tls: false, tls_config: {insecure_skip_verify: false}}]"#,
        ),
        (
            "0.29.0",
            "slackConfigs: [{channel: '', shortFields: false, linkNames: true, fields: [{title: t, value: v, short: false}], stray: x}]",
            "slack_configs: [{link_names: true, fields: [{title: t, value: v}]}]",
        ),
        (
            "0.29.0",
            "rocketchatConfigs: [{token: {name: s, key: user}, tokenID: {name: s, key: user}, fields: [{title: t, value: v}], actions: [{text: a}]}]",
            "rocketchat_configs: [{token: me, token_id: me, short_fields: false, link_names: false, fields: [{short: null, title: t, value: v}], \
             actions: [{text: a, is_webview: false, msg_in_chat_window: false}]}]",
        ),
        (
            "0.29.0",
            "pushoverConfigs: [{userKey: {name: s, key: user}, token: {name: s, key: user}, sound: x, tokenFile: y, retry: 60s, expire: 24h, ttl: 60s}]",
            "pushover_configs: [{user_key: me, token: me, retry: 1m, expire: 1d, ttl: 60s}]",
        ),
        (
            "0.29.0",
            "webhookConfigs: [{url: http://a/, timeout: 60s, maxAlerts: 0}]",
            "webhook_configs: [{url: http://a/, timeout: 1m}]",
        ),
        ("0.29.0", "webhookConfigs: [{url: http://a/, timeout: ''}]", "webhook_configs: [{url: http://a/}]"),
        (
            "0.29.0",
            "pagerdutyConfigs: [{routingKey: {name: s, key: user}, pagerDutyLinkConfigs: [{href: http://a, alt: Runbook}], \
             pagerDutyImageConfigs: [{src: b, alt: c}], details: [{key: a, value: b}]}]",
            "pagerduty_configs: [{routing_key: me, links: [{href: http://a, text: Runbook}], images: [{src: b, alt: c}], details: {a: b}}]",
        ),
        (
            "0.33.0",
            "snsConfigs: [{topicARN: a, attributes: {AWS.SNS.SMS.SenderID: x}, useAWSHTTPClient: true, \
             sigv4: {region: b, accessKey: {name: s, key: user}, secretKey: {name: s, key: user}, roleArn: c, externalId: d, useFIPSSTSEndpoint: true}}]",
            "sns_configs: [{topic_arn: a, attributes: {AWS.SNS.SMS.SenderID: x}, use_aws_http_client: true, \
             sigv4: {region: b, access_key: me, secret_key: me, role_arn: c, external_id: d}}]",
        ),
        ("0.29.0", "snsConfigs: [{topicARN: a, sigv4: {region: ''}}]", "sns_configs: [{topic_arn: a}]"),
        (
            "0.30.0",
            "emailConfigs: [{to: a, from: b, smarthost: 'h:25', threading: {threadByDate: Daily}}]",
            "email_configs: [{to: a, from: b, smarthost: 'h:25', threading: {enabled: true, thread_by_date: daily}}]",
        ),
    ]);
}

#[test]
fn what_versions_do_not_know_is_refused() {
    let lacks = |name: &str, minor: u32, version: &str| {
        format!("{name}' is available in Alertmanager >= 0.{minor}.0 only - current {version}")
    };
    for (version, receiver, expected) in [
        ("v0.23.0", "telegramConfigs: [{botToken: {name: s, key: k}, chatID: 1}]", lacks("telegramConfigs", 24, "0.23.0")),
        ("v0.24", "discordConfigs: [{apiURL: {name: s, key: url}}]", lacks("discordConfigs", 25, "0.24.0")),
        ("0.24.0", "webexConfigs: [{roomID: a}]", lacks("webexConfigs", 25, "0.24.0")),
        (
            "0.27.0",
            "rocketchatConfigs: [{token: {name: s, key: k}, tokenID: {name: s, key: k}}]",
            lacks("rocketChatConfigs", 28, "0.27.0"),
        ),
        ("0.25.0", "telegramConfigs: [{botTokenFile: a, chatID: 1}]", lacks("botTokenFile", 26, "0.25.0")),
        ("0.28.1", "slackConfigs: [{messageText: hi}]", lacks("messageText", 31, "0.28.1")),
        ("0.31.0", "slackConfigs: [{updateMessage: true}]", lacks("updateMessage", 32, "0.31.0")),
        ("0.31.0", "webhookConfigs: [{url: http://a/, payload: {a: b}}]", lacks("payload", 32, "0.31.0")),
        ("0.29.0", "emailConfigs: [{to: a, threading: {threadByDate: None}}]", lacks("threading", 30, "0.29.0")),
        ("0.30.0", "emailConfigs: [{to: a, forceImplicitTLS: true}]", lacks("forceImplicitTLS", 31, "0.30.0")),
        ("0.32.0", "snsConfigs: [{topicARN: a, useAWSHTTPClient: false}]", lacks("useAWSHTTPClient", 33, "0.32.0")),
        (
            "0.25.0",
            "msteamsConfigs: [{webhookUrl: {name: s, key: url}}]",
            "invalid syntax in receivers config; msteams integration is only available in Alertmanager >= 0.26.0".to_owned(),
        ),
        (
            "0.27.0",
            "msteamsv2Configs: [{webhookURL: {name: s, key: url}}]",
            "invalid syntax in receivers config; msteamsv2 integration is only available in Alertmanager >= 0.28.0".to_owned(),
        ),
        (
            "0.23.0",
            "opsgenieConfigs: [{responders: [{type: teams, id: a}]}]",
            "'teams' set in 'opsgenieResponder' but supported in Alertmanager >= 0.24.0 only".to_owned(),
        ),
        (
            "0.21.0",
            "webhookConfigs: [{url: http://a/, httpConfig: {authorization: {credentials: {name: s, key: k}}}}]",
            "'authorization' config set in 'httpConfig' but supported in Alertmanager >= 0.22.0 only - current 0.21.0".to_owned(),
        ),
        (
            "0.24.0",
            "webhookConfigs: [{url: http://a/, httpConfig: {proxyUrl: http://p, noProxy: a}}]",
            "'ProxyConfig' config set in 'httpConfig' but supported in Alertmanager >= 0.25.0 only - current 0.24.0".to_owned(),
        ),
        (
            "0.32.0",
            "slackConfigs: [{apiURL: {name: s, key: url}, updateMessage: true}]",
            "FAIL failed to generate Alertmanager configuration: update_message' can only be used with bot tokens. \
             api_url must be set to https://slack.com/api/chat.postMessage"
                .to_owned(),
        ),
    ] {
        assert_eq!(made(version, receiver).unwrap_err(), expected, "{version} {receiver}");
    }
}

#[test]
fn what_versions_do_not_know_is_left_out() {
    let pushover =
        "pushoverConfigs: [{userKey: {name: s, key: user}, token: {name: s, key: user}, device: a, ttl: 1m, monospace: true}]";
    let discord = "discordConfigs: [{apiURL: {name: s, key: url}, content: a, username: b, avatarURL: http://c, title: d}]";
    hold(&[
        (
            "0.21.0",
            "webhookConfigs: [{url: http://a/, httpConfig: {followRedirects: true}}]",
            "webhook_configs: [{url: http://a/, http_config: {}}]",
        ),
        (
            "0.24.0",
            "webhookConfigs: [{url: http://a/, httpConfig: {enableHttp2: true}}]",
            "webhook_configs: [{url: http://a/, http_config: {}}]",
        ),
        (
            "0.24.0",
            "webhookConfigs: [{url: http://a/, httpConfig: {tlsConfig: {minVersion: TLS12, maxVersion: TLS13}}}]",
            "webhook_configs: [{url: http://a/, http_config: {tls_config: {insecure_skip_verify: false}}}]",
        ),
        (
            "0.25.0",
            "webhookConfigs: [{url: http://a/, httpConfig: {proxyUrl: http://p, noProxy: a}}]",
            "webhook_configs: [{url: http://a/, http_config: {proxy_url: http://p}}]",
        ),
        ("0.27.0", "webhookConfigs: [{url: http://a/, timeout: 5s}]", "webhook_configs: [{url: http://a/}]"),
        (
            "0.23.0",
            "opsgenieConfigs: [{apiKey: {name: s, key: user}, actions: a, entity: b, updateAlerts: false}]",
            "opsgenie_configs: [{api_key: me}]",
        ),
        (
            "0.24.0",
            "opsgenieConfigs: [{actions: a, entity: b, updateAlerts: false}]",
            "opsgenie_configs: [{actions: a, entity: b, update_alerts: false}]",
        ),
        ("0.24.0", "pagerdutyConfigs: [{routingKey: {name: s, key: user}, source: a}]", "pagerduty_configs: [{routing_key: me}]"),
        (
            "0.29.0",
            "pagerdutyConfigs: [{routingKey: {name: s, key: user}, timeout: 90s}]",
            "pagerduty_configs: [{routing_key: me}]",
        ),
        (
            "0.30.0",
            "pagerdutyConfigs: [{routingKey: {name: s, key: user}, timeout: 90s}]",
            "pagerduty_configs: [{routing_key: me, timeout: 1m30s}]",
        ),
        ("0.25.0", pushover, "pushover_configs: [{user_key: me, token: me, monospace: false}]"),
        ("0.28.0", pushover, "pushover_configs: [{user_key: me, token: me, device: a, ttl: 1m, monospace: false}]"),
        ("0.29.0", pushover, "pushover_configs: [{user_key: me, token: me, device: a, ttl: 1m, monospace: true}]"),
        (
            "0.25.0",
            "telegramConfigs: [{botToken: {name: s, key: user}, chatID: -1, messageThreadID: 5, disableNotifications: true}]",
            "telegram_configs: [{bot_token: me, chat_id: -1, disable_notifications: true}]",
        ),
        ("0.27.0", discord, "discord_configs: [{webhook_url: http://a/b, title: d}]"),
        (
            "0.28.0",
            discord,
            "discord_configs: [{webhook_url: http://a/b, title: d, content: a, username: b, avatar_url: http://c}]",
        ),
        (
            "0.26.0",
            "msteamsConfigs: [{webhookUrl: {name: s, key: bot}, summary: a, text: b}]",
            "msteams_configs: [{webhook_url: https://slack.com/api/chat.postMessage, text: b}]",
        ),
    ]);
}

#[test]
fn how_clients_speak_http() {
    let of = |http: &str| made("0.29.0", &format!("webhookConfigs: [{{url: http://a/, httpConfig: {http}}}]"));
    let wrong = |why: &str| format!("failed to validate 'webhookConfig' - receiver r: {why}");
    for (http, why) in [
        (
            "{basicAuth: {}, bearerTokenSecret: {name: s, key: k}}",
            "at most one of basicAuth, oauth2, bearerTokenSecret must be configured",
        ),
        ("{authorization: {}, bearerTokenSecret: {name: s, key: k}}", "authorization is not compatible with bearerTokenSecret"),
        ("{authorization: {}, basicAuth: {}}", "at most one of basicAuth, oauth2 & authorization must be configured"),
        ("{oauth2: {}, basicAuth: {}}", "at most one of basicAuth, oauth2 & authorization must be configured"),
        ("{authorization: {type: Basic}}", "authorization type cannot be set to \"basic\", use \"basicAuth\" instead"),
        ("{authorization: {}}", "authorization credentials are required"),
        ("{oauth2: {}}", "OAuth2 tokenURL must be specified"),
        ("{oauth2: {tokenUrl: a}}", "OAuth2 clientID must be specified"),
        ("{tlsConfig: {cert: {secret: {name: s, key: crt}}}}", "client cert specified without client key"),
        ("{tlsConfig: {minVersion: TLS13, maxVersion: TLS12}}", "maxVersion must more than or equal to minVersion"),
        (
            "{proxyFromEnvironment: true, proxyUrl: http://p}",
            "if proxyFromEnvironment is configured, proxyUrl must not be configured",
        ),
        ("{proxyFromEnvironment: true, noProxy: a}", "if proxyFromEnvironment is configured, noProxy must not be configured"),
        ("{noProxy: a}", "if noProxy is configured, proxyUrl must also be configured"),
        (
            "{proxyConnectHeader: {A: [{name: s, key: k}]}}",
            "if proxyConnectHeader is configured, proxyUrl or proxyFromEnvironment must also be configured",
        ),
    ] {
        assert_eq!(of(http).unwrap_err(), wrong(why), "{http}");
    }
    for (http, why) in [
        (
            "{basicAuth: {username: {name: s, key: no}}}",
            "failed to get basic auth username: key \"no\" in secret \"s\" not found",
        ),
        (
            "{authorization: {credentials: {name: s, key: no}}}",
            "failed to get authorization token of type \"\": key \"no\" in secret \"s\" not found",
        ),
        (
            "{oauth2: {tokenUrl: a, clientId: {configMap: {name: no, key: k}}, clientSecret: {name: s, key: k}}}",
            "failed to get oauth2 client id: unable to get configmap \"no\": configmaps \"no\" not found",
        ),
        (
            "{tlsConfig: {ca: {secret: {name: x, key: y}}}}",
            "failed to get ca \"<secret=x,key=y>\": unable to get secret \"x\": secrets \"x\" not found",
        ),
        ("{tlsConfig: {ca: {secret: {name: s, key: bad}}}}", "ca <secret=s,key=bad>: failed to decode PEM block"),
        (
            "{tlsConfig: {cert: {secret: {name: s, key: crt}}, keySecret: {name: s, key: bad}}}",
            "cert <secret=s,key=crt>, key <s/bad>: tls: failed to find any PEM data in key input",
        ),
    ] {
        assert_eq!(of(http).unwrap_err(), why, "{http}");
    }
    for (http, expected) in [
        ("{basicAuth: {username: {name: s, key: user}, password: {name: s, key: empty}}}", "{basic_auth: {username: me}}"),
        ("{basicAuth: {username: {name: s, key: empty}, password: {name: s, key: empty}}}", "{}"),
        ("{authorization: {credentials: {name: s, key: user}}}", "{authorization: {type: Bearer, credentials: me}}"),
        ("{authorization: {credentials: {name: s, key: empty}}}", "{}"),
        ("{bearerTokenSecret: {name: s, key: k}}", r#"{bearer_token: "abc\n"}"#),
        ("{proxyURL: http://a, proxyUrl: http://b, proxyFromEnvironment: false}", "{proxy_url: http://a}"),
        (
            "{proxyUrl: http://b, proxyConnectHeader: {A: [{name: s, key: user}]}}",
            "{proxy_url: http://b, proxy_connect_header: {A: [me]}}",
        ),
        (
            "{oauth2: {tokenUrl: a, clientId: {secret: {name: s, key: user}}, clientSecret: {name: s, key: user}, proxyUrl: http://p, tlsConfig: {}}}",
            "{oauth2: {token_url: a, client_id: me, client_secret: me, proxy_url: http://p}}",
        ),
        (
            "{followRedirects: false, tlsConfig: {ca: {configMap: {name: c, key: ca}}, serverName: a}}",
            "{follow_redirects: false, tls_config: {ca_file: /etc/alertmanager/certs/1_ns1_c_ca, server_name: a, insecure_skip_verify: false}}",
        ),
    ] {
        let expected = yaml(expected);
        assert_eq!(of(http).unwrap()["webhook_configs"][0]["http_config"], expected, "{http}");
    }
}

#[test]
fn certificates_are_kept_to_be_mounted() {
    let tls = "{ca: {configMap: {name: c, key: ca}}, cert: {secret: {name: s, key: crt}}, keySecret: {name: s, key: key}}";
    let mut objects = keys();
    let receiver = yaml(&format!("{{name: r, webhookConfigs: [{{url: http://a/, httpConfig: {{tlsConfig: {tls}}}}}]}}"));
    objects.push(configured("o", json!({"route": {"receiver": "r"}, "receivers": [receiver]})));
    let out = compiled(json!({"alertmanagerConfigSelector": {}}), objects);
    let names: Vec<&str> = out.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["0_ns1_s_crt", "0_ns1_s_key", "1_ns1_c_ca"]);
    assert!(out.files["0_ns1_s_key"].starts_with("-----BEGIN PRIVATE KEY-----"));
}
