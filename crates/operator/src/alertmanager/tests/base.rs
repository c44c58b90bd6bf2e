//! The user's own configuration: what makes it unusable, how it is printed anew, what lies beside it.

use super::*;

/// What a base becomes when objects are selected; or why it cannot be.
fn made(version: &str, text: &str) -> Result<Value, String> {
    let out = compiled(
        json!({"version": version, "alertmanagerConfigSelector": {}}),
        vec![secret("alertmanager-main", ALERTMANAGER_KEY, text)],
    );
    let before = "provision alertmanager configuration: ";
    match out.failed {
        Some(why) => Err(why.strip_prefix(before).map(str::to_owned).unwrap_or(why)),
        None => Ok(out.config.unwrap()),
    }
}

#[test]
fn what_alertmanager_would_refuse() {
    let tree = "route: {receiver: r}\nreceivers: [{name: r}]\n";
    let with = |receiver: &str| format!("route: {{receiver: r}}\nreceivers: [{{name: r, {receiver}}}]\n");
    for (text, expected) in [
        (" \n".to_owned(), "no route provided in config"),
        ("receivers: [{name: r}]".to_owned(), "no routes provided"),
        ("route: {}".to_owned(), "root route must specify a default receiver"),
        ("route: {receiver: r, matchers: [a=b]}\nreceivers: [{name: r}]".to_owned(), "root route must not have any matchers"),
        ("route: {receiver: r, match: {a: b}}\nreceivers: [{name: r}]".to_owned(), "root route must not have any matchers"),
        (
            "route: {receiver: r, mute_time_intervals: [a]}\nreceivers: [{name: r}]".to_owned(),
            "root route must not have any mute time intervals",
        ),
        ("route: {receiver: r, continue: true}\nreceivers: [{name: r}]".to_owned(), "cannot have continue in root route"),
        ("route: {receiver: x}".to_owned(), "undefined receiver \"x\" used in route"),
        (
            "route: {receiver: r, routes: [{receiver: y}]}\nreceivers: [{name: r}]".to_owned(),
            "undefined receiver \"y\" used in route",
        ),
        (
            "route: {receiver: r, routes: [{active_time_intervals: [y]}]}\nreceivers: [{name: r}]".to_owned(),
            "undefined time interval \"y\" used in route",
        ),
        ("route: {receiver: r}\nreceivers: [{name: r}, {name: r}]".to_owned(), "notification config name \"r\" is not unique"),
        ("route: {receiver: r}\nreceivers: [{}]".to_owned(), "missing name in receiver"),
        (format!("{tree}mute_time_intervals: [{{name: a}}]\ntime_intervals: [{{name: a}}]"), "time interval \"a\" is not unique"),
        (
            format!("{tree}global:\n  smtp_port: 1"),
            "yaml: unmarshal errors:\n  line 4: field smtp_port not found in type config.plain",
        ),
        (
            format!("{tree}tracing: {{}}"),
            "yaml: unmarshal errors:\n  line 3: field tracing not found in type alertmanager.alertmanagerConfig",
        ),
        (with("slack_configs: [{chanel: a}]"), "yaml: unmarshal errors:\n  line 2: field chanel not found in type config.plain"),
        (with("slack_configs: {}"), "yaml: unmarshal errors:\n  line 2: cannot unmarshal !!map into []*config.SlackConfig"),
        (with("slack_configs: [{channel: a}]"), "no global Slack API URL set either inline or in a file"),
        (
            with("slack_configs: [{api_url: http://a/, api_url_file: b}]"),
            "at most one of api_url & api_url_file must be configured",
        ),
        (with("email_configs: [{to: a, from: b}]"), "no global SMTP smarthost set"),
        (with("email_configs: [{to: a, smarthost: 'h:25'}]"), "no global SMTP from set"),
        (with("email_configs: [{to: a, smarthost: h}]"), "address h: missing port in address"),
        (with("opsgenie_configs: [{}]"), "no global OpsGenie API Key set either inline or in a file"),
        (with("pagerduty_configs: [{}]"), "missing service or routing key in PagerDuty config"),
        (with("webhook_configs: [{}]"), "one of url or url_file must be configured"),
        (with("webhook_configs: [{url: nowhere}]"), "unsupported scheme \"\" for URL"),
        (with("slack_configs: [{api_url: 'http://a', actions: [{}]}]"), "missing type in Slack action configuration"),
        (
            with("opsgenie_configs: [{api_key: a, responders: [{type: x}]}]"),
            "opsGenieConfig responder {   x} has to have at least one of id, username or name specified",
        ),
        (
            with("webhook_configs: [{url: 'http://a', http_config: {basic_auth: {username: a}, bearer_token: b}}]"),
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        ),
        (format!("{tree}inhibit_rules: [{{source_matchers: ['a=~(']}}]"), "error parsing regexp: missing closing ): `^(?:()$`"),
        (format!("{tree}route: {{}}"), "yaml: unmarshal errors:\n  line 3: field route already set in type config.plain"),
        ("foo".to_owned(), "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `foo` into config.plain"),
        (format!("{tree}time_intervals: [{{name: a, time_intervals: [{{months: [foo]}}]}}]"), "foo is not a valid month"),
        (
            format!("{tree}time_intervals: [{{name: a, time_intervals: [{{days_of_month: ['0']}}]}}]"),
            "0 is not a valid day of the month: out of range",
        ),
        (with("webex_configs: [{room_id: a}]"), "missing webex_configs.http_config.authorization"),
        ("route: {receiver: r, group_by: [a, a]}\nreceivers: [{name: r}]".to_owned(), "duplicated label \"a\" in group_by"),
        ("route: {receiver: r, group_interval: 0s}\nreceivers: [{name: r}]".to_owned(), "group_interval cannot be zero"),
        ("route: {receiver: r, group_wait: x}\nreceivers: [{name: r}]".to_owned(), "not a valid duration string: \"x\""),
        ("route: {receiver: r, routes: [{matchers: [foo]}]}\nreceivers: [{name: r}]".to_owned(), "bad matcher format: foo"),
    ] {
        assert_eq!(made("0.29.0", &text).unwrap_err(), format!("failed to initialize from secret: {expected}"), "{text}");
    }
    let unreadable = made("0.29.0", "a: [").unwrap_err();
    assert!(unreadable.starts_with("failed to initialize from secret: yaml: "), "{unreadable}");
}

#[test]
fn it_is_printed_anew() {
    for (version, text, expected) in [
        (
            "0.29.0",
            "global: {resolve_timeout: 300s, http_config: {tls_config: {}}, smtp_from: '', smtp_require_tls: false}
route: {receiver: r, continue: false, routes: [], group_by: []}
receivers:
  - name: r
    slack_configs: [{api_url: http://a/, short_fields: false, send_resolved: false, text: null}]
    webhook_configs: [{url: http://b/, max_alerts: 0, timeout: 90s, http_config: {oauth2: {client_id: a, token_url: b}}}]
    pagerduty_configs: [{routing_key: 5, details: {a: 1, b: true}}]",
            "global: {resolve_timeout: 5m, http_config: {tls_config: {insecure_skip_verify: false}}, smtp_require_tls: false}
route: {receiver: r}
receivers:
  - name: r
    slack_configs: [{api_url: http://a/, send_resolved: false}]
    webhook_configs: [{url: http://b/, timeout: 1m30s, http_config: {oauth2: {client_id: a, client_secret: '', token_url: b}}}]
    pagerduty_configs: [{routing_key: '5', details: {a: '1', b: 'true'}}]
templates: []",
        ),
        (
            "0.29.0",
            "route: {receiver: r, routes: [{match: {a: 1}, mute_time_intervals: [n]}]}
receivers: [{name: r}]
time_intervals: [{name: n, time_intervals: [{months: ['january:march', may], days_of_month: ['5:5'], weekdays: [Monday], location: Europe/Paris}]}]
templates: [/a/*.tmpl]",
            "route: {receiver: r, routes: [{match: {a: '1'}, mute_time_intervals: [n]}]}
receivers: [{name: r}]
time_intervals: [{name: n, time_intervals: [{months: ['1:3', '5'], days_of_month: ['5'], weekdays: [monday], location: Europe/Paris}]}]
templates: [/a/*.tmpl]",
        ),
        (
            "0.24.0",
            "global: {smtp_auth_password_file: a, smtp_tls_config: {}, opsgenie_api_key_file: b}
route: {receiver: r}
receivers: [{name: r, opsgenie_configs: [{api_key_file: c}], victorops_configs: [{routing_key: a, api_key: b}]}]
time_intervals: [{name: n, time_intervals: [{location: Europe/Paris, years: ['2030']}]}]",
            "global: {opsgenie_api_key_file: b}
route: {receiver: r}
receivers: [{name: r, opsgenie_configs: [{api_key_file: c}], victorops_configs: [{routing_key: a, api_key: b}]}]
time_intervals: [{name: n, time_intervals: [{years: ['2030']}]}]
templates: []",
        ),
    ] {
        assert_eq!(made(version, text), Ok(yaml(expected)), "{version} {text}");
    }
    let old = made("0.24.0", "route: {receiver: r}\nreceivers: [{name: r, discord_configs: [{webhook_url: http://a/}]}]");
    let said = "failed to generate Alertmanager configuration: invalid syntax in receivers config; discord integration is available in \
                Alertmanager >= 0.25.0";
    assert_eq!(old, Err(said.to_owned()));
}

#[test]
fn what_lies_beside_it_is_kept() {
    let secret = json!({"kind": "Secret", "metadata": {"name": "own", "namespace": "ns1"},
        "data": {"slack.tmpl": "YQ=="}, "stringData": {"b.tmpl": "b", ALERTMANAGER_KEY: "route: {receiver: r}\nreceivers: [{name: r}]"}});
    let expected = BTreeMap::from([("slack.tmpl".to_owned(), "YQ==".to_owned()), ("b.tmpl".to_owned(), "Yg==".to_owned())]);
    for spec in [json!({"configSecret": "own"}), json!({"configSecret": "own", "alertmanagerConfigSelector": {}})] {
        let out = compiled(spec, vec![secret.clone()]);
        assert_eq!((out.beside, &out.config.unwrap()["route"]["receiver"]), (expected.clone(), &json!("r")));
    }
    // Without the key there is the default, and the rest is kept all the same.
    let mut keyless = secret;
    keyless["stringData"] = json!({"b.tmpl": "b"});
    let out = compiled(json!({"configSecret": "own", "alertmanagerConfigSelector": {}}), vec![keyless]);
    assert_eq!((out.beside, &out.config.unwrap()["route"]["receiver"]), (expected, &json!("null")));
}
