//! Routes, inhibitions and intervals of objects: what makes them invalid, and what old versions get.

use super::*;

/// Why an object is left out.
fn refused(version: &str, spec: &str) -> String {
    let mut spec = yaml(spec);
    if spec["receivers"].is_null() {
        spec["receivers"] = json!([{"name": "r"}]);
    }
    let out = compiled(json!({"version": version, "alertmanagerConfigSelector": {}}), vec![configured("o", spec)]);
    out.rejected.first().map_or_else(|| format!("{:?}", out.failed), |rejected| rejected.reason.clone())
}

#[test]
fn objects_that_cannot_be_used() {
    for (version, spec, expected) in [
        ("0.29.0", "{route: {receiver: r}, receivers: [{name: r}, {name: r}]}", "\"r\" receiver is not unique: %!w(<nil>)"),
        ("0.29.0", "{route: {}}", "root route must define a receiver"),
        ("0.29.0", "{route: {receiver: r, routes: [{receiver: x}]}}", "route[0]: receiver \"x\" not found"),
        ("0.29.0", "{route: {receiver: r, groupBy: [a, a]}}", "duplicate values not permitted in route 'groupBy': [a a]"),
        ("0.29.0", "{route: {receiver: r, muteTimeIntervals: [x]}}", "mute time interval \"x\" not found"),
        ("0.29.0", "{route: {receiver: r, activeTimeIntervals: [x]}}", "time interval \"x\" not found"),
        (
            "0.29.0",
            "{route: {receiver: r, routes: [{receiver: r, group_by: [a]}]}}",
            "route[0]: json: unknown field \"group_by\"",
        ),
        (
            "0.29.0",
            "{route: {receiver: r, routes: [{receiver: r, routes: [{groupInterval: x}]}]}}",
            "route[0]: route[0]: groupInterval x does not match required regex: \
             ^(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?$",
        ),
        (
            "0.29.0",
            "{route: {receiver: r, matchers: [{name: ' ', value: a, matchType: '='}]}}",
            "matcher[0]: matcher 'name' is required",
        ),
        (
            "0.29.0",
            "{route: {receiver: r, matchers: [{name: a, matchType: '~'}]}}",
            "matcher[0]: invalid 'matchType' '~' provided'",
        ),
        (
            "0.29.0",
            "{route: {receiver: r}, inhibitRules: [{targetMatch: [{name: '', matchType: '='}]}]}",
            "invalid targetMatchers[0] in inhibitRule[0] in config o: matcher 'name' is required",
        ),
        (
            "0.21.0",
            "{route: {receiver: r, matchers: [{name: a, value: b, matchType: '='}]}}",
            "invalid syntax in route config for 'matchers' comparison based matching is supported in Alertmanager >= 0.22.0 only \
             (matchers=[a=\"b\"]) (receiver=r)",
        ),
        (
            "0.21.0",
            "{route: {receiver: r}, inhibitRules: [{targetMatch: [{name: a, value: b, matchType: '='}]}]}",
            "'sourceMatch' and/or 'targetMatch' are using matching syntax which is supported in Alertmanager >= 0.22.0 only \
             (sourceMatch=[], targetMatch=[a=\"b\"])",
        ),
        (
            "0.29.0",
            "{route: {receiver: r}, muteTimeIntervals: [{name: x, timeIntervals: [{daysOfMonth: [{start: 1}]}]}]}",
            "mute time interval[0] is invalid: mute time interval is invalid - day of month range at 0 is invalid: \
             0 is not a valid day of the month: out of range",
        ),
    ] {
        assert_eq!(refused(version, spec), expected, "{version} {spec}");
    }
}

#[test]
fn matchers_are_escaped_as_alertmanager_reads_them() {
    let spec = json!({"route": {"receiver": "r", "matchers": [{"name": "a", "value": "\"\\\t\u{301}\n", "matchType": "=~"}]},
        "receivers": [{"name": "r"}]});
    let out = compiled(json!({"alertmanagerConfigSelector": {}}), vec![configured("o", spec)]);
    assert_eq!(out.config.unwrap()["route"]["routes"][0]["matchers"][0], "a=~\"\\\"\\\\\t\u{301}\\n\"");
}

#[test]
fn old_versions_get_what_they_know() {
    let spec = yaml(
        "{route: {receiver: r, muteTimeIntervals: [n], activeTimeIntervals: [n], groupInterval: 5m, continue: false}, receivers: [{name: r}],
          inhibitRules: [{sourceMatch: [{name: namespace, value: 'x.*', regex: true}], targetMatch: [{name: a, value: b}]}],
          muteTimeIntervals: [{name: n, timeIntervals: [{years: ['2030']}]}]}",
    );
    for (version, route, inhibition, intervals) in [
        (
            "0.21.0",
            "{receiver: ns1/o/r, group_interval: 5m, match: {namespace: ns1}, continue: true}",
            "{source_match: {namespace: ns1}, source_match_re: {}, target_match: {a: b, namespace: ns1}}",
            false,
        ),
        (
            "0.23.0",
            "{receiver: ns1/o/r, group_interval: 5m, matchers: ['namespace=\"ns1\"'], mute_time_intervals: [ns1/o/n], continue: true}",
            "{source_matchers: ['namespace=~\"x.*\"', 'namespace=\"ns1\"'], target_matchers: ['a=\"b\"', 'namespace=\"ns1\"']}",
            true,
        ),
    ] {
        let out = compiled(json!({"version": version, "alertmanagerConfigSelector": {}}), vec![configured("o", spec.clone())]);
        let config = out.config.unwrap_or_else(|| panic!("{:?}", out.failed));
        assert_eq!(config["route"]["routes"][0], yaml(route), "{version}");
        let mut expected = yaml(inhibition);
        // What is empty is not written.
        expected.as_object_mut().unwrap().retain(|_, value| !crate::config::is_empty(value));
        assert_eq!(config["inhibit_rules"][0], expected, "{version}");
        assert_eq!(config["mute_time_intervals"].is_array(), intervals, "{version}");
    }
}

#[test]
fn selectors_that_cannot_be_read_leave_nothing() {
    let out =
        compiled(json!({"alertmanagerConfigSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}), Vec::new());
    let why = out.failed.unwrap();
    assert!(why.starts_with("provision alertmanager configuration: failed to select AlertmanagerConfig objects: "), "{why}");
}

#[test]
fn versions_that_the_operator_does_not_run() {
    for (version, expected) in [
        ("v0.14.0", "unsupported Alertmanager version \"v0.14.0\""),
        ("1.0.0", "unsupported Alertmanager version \"1.0.0\""),
        ("latest", "failed to parse alertmanager version: Invalid character(s) found in number \"latest\""),
    ] {
        let failed = compiled(json!({"version": version}), Vec::new()).failed;
        assert_eq!(failed, Some(format!("provision alertmanager configuration: {expected}")));
    }
}
