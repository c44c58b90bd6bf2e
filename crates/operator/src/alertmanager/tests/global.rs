//! `alertmanagerConfiguration`: an object as the base, with a global part and templates.

use super::*;

/// The whole configuration with an object as the base; or why there is none.
fn made(version: &str, configuration: &str, base: &str) -> Result<Value, String> {
    let mut objects = keys();
    objects.push(configured("g", yaml(base)));
    let out = compiled(json!({"version": version, "alertmanagerConfiguration": yaml(configuration)}), objects);
    let before = "provision alertmanager configuration: ";
    out.failed.map_or_else(|| Ok(out.config.unwrap()), |why| Err(why.strip_prefix(before).map(str::to_owned).unwrap_or(why)))
}

const BASE: &str = "{route: {receiver: r}, receivers: [{name: r}]}";

#[test]
fn the_global_part_is_converted() {
    for (version, global, expected) in [
        ("0.29.0", "{}", "{}"),
        ("0.29.0", "{resolveTimeout: 300s}", "{resolve_timeout: 5m}"),
        (
            "0.29.0",
            "{smtp: {from: a, hello: b, smartHost: {host: h, port: '25'}, authUsername: c, authIdentity: d, authPassword: {name: s, key: k},
               authSecret: {name: s, key: user}, requireTLS: false, tlsConfig: {ca: {secret: {name: s, key: no}}}}}",
            r#"{smtp_from: a, smtp_hello: b, smtp_smarthost: "h:25", smtp_auth_username: c, smtp_auth_identity: d, smtp_auth_password: "abc\n",
               smtp_auth_secret: me, smtp_require_tls: false, smtp_tls_config: {ca_file: /etc/alertmanager/certs/0_ns1_s_no, insecure_skip_verify: false}}"#,
        ),
        ("0.27.0", "{smtp: {tlsConfig: {}}}", "{}"),
        ("0.29.0", "{slackApiUrl: {name: s, key: bot}}", "{slack_api_url: https://slack.com/api/chat.postMessage}"),
        (
            "0.29.0",
            "{opsGenieApiUrl: {name: s, key: bot}, opsGenieApiKey: {name: s, key: k}}",
            r#"{opsgenie_api_url: https://slack.com/api/chat.postMessage, opsgenie_api_key: "abc\n"}"#,
        ),
        ("0.29.0", "{pagerdutyUrl: http://a/}", "{pagerduty_url: http://a/}"),
        (
            "0.29.0",
            "{telegram: {apiURL: http://a}, webex: {apiURL: http://b}, jira: {apiURL: http://c}}",
            "{telegram_api_url: http://a, webex_api_url: http://b, jira_api_url: http://c}",
        ),
        (
            "0.29.0",
            "{victorops: {apiURL: http://a, apiKey: {name: s, key: user}}, wechat: {apiURL: http://b, apiSecret: {name: s, key: user}, apiCorpID: c}}",
            "{victorops_api_url: http://a, victorops_api_key: me, wechat_api_url: http://b, wechat_api_secret: me, wechat_api_corp_id: c}",
        ),
        (
            "0.29.0",
            "{rocketChat: {apiURL: http://a, token: {name: s, key: user}, tokenID: {name: s, key: user}}}",
            "{rocketchat_api_url: http://a, rocketchat_token: me, rocketchat_token_id: me}",
        ),
        ("0.32.0", "{mattermost: {webhookURL: {name: s, key: bot}}}", "{mattermost_webhook_url: https://slack.com/api/chat.postMessage}"),
        ("0.29.0", "{httpConfig: {followRedirects: false}}", "{http_config: {follow_redirects: false}}"),
    ] {
        let config = made(version, &format!("{{name: g, global: {global}}}"), BASE).unwrap_or_else(|why| panic!("{why}: {global}"));
        assert_eq!(config["global"], yaml(expected), "{version} {global}");
    }
}

#[test]
fn what_leaves_nothing() {
    let of = "failed to initialize from global AlertmanagerConfig: ";
    for (version, global, expected) in [
        ("0.23.0", "{telegram: {}}", "invalid global telegram config: telegram integration requires Alertmanager >= 0.24.0"),
        ("0.29.0", "{slackApiUrl: {name: s, key: no}}", "failed to get Slack API URL: key \"no\" in secret \"s\" not found"),
        (
            "0.29.0",
            "{slackApiUrl: {name: s, key: url}}",
            "parse slack API URL: parse \"http://a/b\\n\": net/url: invalid control character in URL",
        ),
        (
            "0.29.0",
            "{smtp: {authPassword: {name: s, key: no}}}",
            "invalid global smtpConfig: key \"no\" in secret \"s\" not found",
        ),
        ("0.29.0", "{httpConfig: {noProxy: a}}", "httpConfig: if noProxy is configured, proxyUrl must also be configured"),
        (
            "0.30.0",
            "{smtp: {forceImplicitTLS: true}}",
            "'forceImplicitTLS' integration requires Alertmanager >= 0.31.0 - current 0.30.0",
        ),
        (
            "0.31.0",
            "{mattermost: {webhookURL: {name: s, key: bot}}}",
            "'mattermost' global parameters require Alertmanager >= 0.32.0 - current 0.31.0",
        ),
    ] {
        assert_eq!(
            made(version, &format!("{{name: g, global: {global}}}"), BASE),
            Err(format!("{of}{expected}")),
            "{version} {global}"
        );
    }
    for (base, expected) in [
        ("{receivers: [{name: r}]}", "root route must exist"),
        ("{route: {receiver: r, continue: true}, receivers: [{name: r}]}", "cannot have continue in root route"),
        (
            "{route: {receiver: r, matchers: [{name: a, value: b}]}, receivers: [{name: r}]}",
            "'matchers' not permitted on root route",
        ),
        (
            "{route: {receiver: r}, receivers: [{name: r, emailConfigs: [{to: a, smarthost: 'h:25'}]}]}",
            "EmailConfig[0]: SMTP from is a mandatory field, it is neither specified at global config nor at receiver level",
        ),
    ] {
        assert_eq!(made("0.29.0", "{name: g}", base), Err(format!("{of}{expected}")), "{base}");
    }
    assert_eq!(
        made("0.29.0", "{name: x}", BASE),
        Err("failed to get global AlertmanagerConfig: alertmanagerconfigs.monitoring.coreos.com \"x\" not found".to_owned())
    );
}

#[test]
fn mails_take_what_is_global_and_templates_are_named() {
    let config = made(
        "0.29.0",
        "{name: g, global: {smtp: {from: a, smartHost: {host: h, port: '25'}}}, templates: [{configMap: {name: t, key: a.tmpl}}, {secret: {name: t, key: b.tmpl}}]}",
        "{route: {receiver: r}, receivers: [{name: r, emailConfigs: [{to: b}]}], inhibitRules: [{sourceMatch: [{name: a, value: b}]}]}",
    );
    let expected = yaml(
        "global: {smtp_from: a, smtp_smarthost: 'h:25'}
route: {receiver: ns1/g/r}
receivers: [{name: ns1/g/r, email_configs: [{to: b}]}]
inhibit_rules: [{source_matchers: ['a=\"b\"']}]
templates: [/etc/alertmanager/templates/a.tmpl, /etc/alertmanager/templates/b.tmpl]",
    );
    assert_eq!(config, Ok(expected));
}
