//! Whole configurations: what objects become, what is left out, what leaves nothing.

mod base;
mod global;
mod receivers;
mod routes;

use super::*;

/// A YAML text as a value.
fn yaml(text: &str) -> Value {
    wire::yaml::strict(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The Secrets and ConfigMaps that the rows of tables refer to.
fn keys() -> Vec<Value> {
    let authority = wire::pki::CertificateAuthority::new("a").unwrap();
    let own = authority.client("b", None).unwrap();
    vec![
        json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "ns1"}, "stringData": {
            "k": "abc\n", "empty": "", "url": "http://a/b\n", "nourl": "nowhere", "user": "me", "bot": "https://slack.com/api/chat.postMessage",
            "key": own.key_pem, "crt": own.certificate_pem, "bad": "x",
        }}),
        json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns1"}, "data": {"ca": authority.certificate_pem()}}),
    ]
}

fn secret(name: &str, key: &str, text: &str) -> Value {
    json!({"kind": "Secret", "metadata": {"name": name, "namespace": "ns1"}, "stringData": {key: text}})
}

fn configured(name: &str, spec: Value) -> Value {
    json!({"kind": "AlertmanagerConfig", "metadata": {"name": name, "namespace": "ns1"}, "spec": spec})
}

fn compiled(spec: Value, mut objects: Vec<Value>) -> CompiledAlertmanager {
    let alertmanager = json!({"kind": "Alertmanager", "metadata": {"name": "main", "namespace": "ns1"}, "spec": spec});
    objects.push(json!({"kind": "Namespace", "metadata": {"name": "ns1"}}));
    compile_alertmanager(&alertmanager, &Input::of(objects))
}

#[test]
fn each_object_gets_a_route_confined_to_its_namespace_before_those_of_the_base() {
    let base = "route: {receiver: 'null', routes: [{receiver: dog, matchers: [alertname=Watchdog]}]}\nreceivers: [{name: 'null'}, {name: dog}]";
    let hook = json!({
        "route": {"receiver": "hook", "groupBy": ["job"], "matchers": [{"name": "severity", "value": "critical", "matchType": "="}],
            "routes": [{"receiver": "hook", "matchers": [{"name": "a", "value": "b.*", "regex": true}], "muteTimeIntervals": ["night"]}]},
        "receivers": [{"name": "hook", "webhookConfigs": [
            {"urlSecret": {"name": "urls", "key": "hook"}, "sendResolved": false, "maxAlerts": 0,
             "httpConfig": {"authorization": {"credentials": {"name": "urls", "key": "token"}}}}]}],
        "inhibitRules": [{"sourceMatch": [{"name": "a", "value": "x", "matchType": "!="}], "targetMatch": [{"name": "b", "value": "y"}],
            "equal": ["node"]}],
        "muteTimeIntervals": [{"name": "night", "timeIntervals": [
            {"times": [{"startTime": "22:00", "endTime": "24:00"}], "weekdays": ["Saturday"], "daysOfMonth": [{"start": 1, "end": 10}]}]}],
    });
    let made = compiled(
        json!({"alertmanagerConfigSelector": {}}),
        vec![
            secret("alertmanager-main", "alertmanager.yaml", base),
            configured("amc", hook),
            json!({"kind": "Secret", "metadata": {"name": "urls", "namespace": "ns1"},
                "stringData": {"hook": "http://example.com/hook\n", "token": "t"}}),
        ],
    );
    assert_eq!(made.rejected, Vec::new());
    let expected = json!({
        "route": {"receiver": "null", "routes": [
            {"receiver": "ns1/amc/hook", "group_by": ["job"], "matchers": ["severity=\"critical\"", "namespace=\"ns1\""], "continue": true,
             "routes": [{"receiver": "ns1/amc/hook", "matchers": ["a=~\"b.*\""], "mute_time_intervals": ["ns1/amc/night"]}]},
            {"receiver": "dog", "matchers": ["alertname=Watchdog"]},
        ]},
        "receivers": [{"name": "null"}, {"name": "dog"}, {"name": "ns1/amc/hook", "webhook_configs": [
            {"url": "http://example.com/hook", "send_resolved": false, "http_config": {"authorization": {"type": "Bearer", "credentials": "t"}}}]}],
        "inhibit_rules": [{"source_matchers": ["a!=\"x\"", "namespace=\"ns1\""], "target_matchers": ["b=\"y\"", "namespace=\"ns1\""],
            "equal": ["node"]}],
        "mute_time_intervals": [{"name": "ns1/amc/night", "time_intervals": [
            {"times": [{"start_time": "22:00", "end_time": "24:00"}], "weekdays": ["saturday"], "days_of_month": ["1:10"]}]}],
        "templates": [],
    });
    assert_eq!(made.config, Some(expected));
}

#[test]
fn strategies_and_old_versions() {
    let spec = json!({"route": {"receiver": "r", "matchers": [{"name": "a", "value": "b"}]}, "receivers": [{"name": "r"}]});
    let route = |more: Value| {
        let mut own = json!({"alertmanagerConfigSelector": {}});
        own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        compiled(own, vec![configured("x", spec.clone())]).config.unwrap()["route"]["routes"][0].clone()
    };
    let name = "ns1/x/r";
    for (more, expected) in [
        (json!({}), json!({"receiver": name, "matchers": ["a=\"b\"", "namespace=\"ns1\""], "continue": true})),
        (json!({"version": "v0.21.0"}), json!({"receiver": name, "match": {"a": "b", "namespace": "ns1"}, "continue": true})),
        (
            json!({"alertmanagerConfigMatcherStrategy": {"type": "None"}}),
            json!({"receiver": name, "matchers": ["a=\"b\""], "continue": true}),
        ),
        (
            json!({"alertmanagerConfigMatcherStrategy": {"type": "OnNamespaceExceptForAlertmanagerNamespace"}}),
            json!({"receiver": name, "matchers": ["a=\"b\""], "continue": true}),
        ),
    ] {
        assert_eq!(route(more.clone()), expected, "{more}");
    }
}

#[test]
fn what_cannot_be_used_is_left_out_with_the_reason() {
    let url = |url: &str| json!({"route": {"receiver": "r"}, "receivers": [{"name": "r", "webhookConfigs": [{"url": url}]}]});
    for (spec, expected) in [
        (json!({"route": {"receiver": "other"}, "receivers": [{"name": "r"}]}), "receiver \"other\" not found"),
        (json!({"route": {"receiver": "r"}, "receivers": [{"name": "r"}, {"name": "r"}]}), "not unique"),
        (
            json!({"route": {"receiver": "r", "muteTimeIntervals": ["nigth"]}, "receivers": [{"name": "r"}]}),
            "\"nigth\" not found",
        ),
        (
            json!({"route": {"receiver": "r", "groupBy": ["...", "a"]}, "receivers": [{"name": "r"}]}),
            "'...' must be a sole value in route 'groupBy': [... a]",
        ),
        (url("nowhere"), "invalid 'url': validate url from string failed for nowhere: unsupported scheme"),
        (
            json!({"route": {"receiver": "r"}, "receivers": [{"name": "r", "slackConfigs": [{"apiURL": {"name": "no", "key": "k"}}]}]}),
            "secrets \"no\" not found",
        ),
    ] {
        let made = compiled(
            json!({"alertmanagerConfigSelector": {}}),
            vec![configured("bad", spec), configured("good", url("http://a/"))],
        );
        assert!(made.rejected[0].reason.contains(expected), "{:?}", made.rejected);
        assert_eq!(made.config.unwrap()["route"]["routes"][0]["receiver"], "ns1/good/r");
    }
    let broken = compiled(
        json!({"alertmanagerConfigSelector": {}}),
        vec![secret("alertmanager-main", "alertmanager.yaml", "route: {receiver: a, continue: true}")],
    );
    assert!(
        broken.config.is_none()
            && broken.failed.as_ref().is_some_and(|why| why.contains("undefined receiver \"a\" used in route")),
        "{broken:?}"
    );
    // Nobody is selected: the Secret goes as it is, and without one there is a configuration that notifies nobody.
    assert_eq!(compiled(json!({}), Vec::new()).config.unwrap()["route"]["receiver"], "null");
}
