//! Alertmanager and AlertmanagerConfig objects to `alertmanager.yml` (prometheus-operator `pkg/alertmanager/amcfg.go`).

use std::collections::BTreeMap;

use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::assets::{Assets, Store};
use crate::compile::{Input, Rejection};
use crate::receiver::receiver;
use crate::selection::select;
use crate::version::Version;

/// The key of a user's own configuration in its Secret.
pub const ALERTMANAGER_KEY: &str = "alertmanager.yaml";

/// What came out.
#[derive(Clone, Debug)]
pub struct CompiledAlertmanager {
    /// The configuration, to be written as YAML; nothing when there can be none.
    pub config: Option<Value>,
    /// What was left out, and why.
    pub rejected: Vec<Rejection>,
    /// What is wrong with the Alertmanager object itself, if something is: the operator then writes nothing, and what there was stays.
    pub failed: Option<String>,
    /// Certificates and keys that the configuration names, by the name of their file in `/etc/alertmanager/certs`.
    pub files: BTreeMap<String, String>,
    /// What lies beside the user's own configuration in its Secret, templates mostly: keys and values in base64.
    pub beside: BTreeMap<String, String>,
}

/// Since when matchers are lists of expressions.
const MATCHERS: (u32, u32) = (0, 22);

/// An AlertmanagerConfig while it is converted.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) object: &'a Value,
    pub(crate) assets: Assets<'a>,
    pub(crate) version: Version,
}

impl Of<'_> {
    pub(crate) fn namespace(&self) -> &str {
        object::namespace(self.object)
    }

    /// A name that no other object's collides with.
    fn named(&self, name: &str) -> String {
        if name.is_empty() { String::new() } else { format!("{}/{name}", object::key(self.object)) }
    }

    fn names(&self, list: &Value) -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(|name| self.named(name)).collect()
    }
}

/// How a matcher is written, such as `severity="critical"`.
fn matcher(of: &Value) -> String {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let operator = match text("matchType") {
        "" if of["regex"] == true => "=~",
        "" => "=",
        operator => operator,
    };
    format!("{}{operator}{:?}", text("name"), text("value"))
}

/// Matchers under the names that a version knows: one list, or a map of values and one of regular expressions.
fn matchers(of: Of<'_>, list: &Value, names: [&str; 3], into: &mut Map<String, Value>) {
    let [matchers, equal, regex] = names;
    for one in list.as_array().into_iter().flatten() {
        if !one["matchType"].is_null() || of.version.at_least(MATCHERS.0, MATCHERS.1) {
            extend(into, matchers, matcher(one).into());
            continue;
        }
        let map = if one["regex"] == true { regex } else { equal };
        let entry = into.entry(map).or_insert_with(|| json!({}));
        entry[one["name"].as_str().unwrap_or_default()] = one["value"].as_str().unwrap_or_default().into();
    }
}

fn route(of: Of<'_>, from: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    let receiver = from["receiver"].as_str().unwrap_or_default();
    if !receiver.is_empty() {
        out.insert("receiver".to_owned(), of.named(receiver).into());
    }
    for (key, name) in [
        ("groupBy", "group_by"),
        ("groupWait", "group_wait"),
        ("groupInterval", "group_interval"),
        ("repeatInterval", "repeat_interval"),
    ] {
        let empty = from[key].is_null() || from[key] == "" || from[key].as_array().is_some_and(Vec::is_empty);
        if !empty {
            out.insert(name.to_owned(), from[key].clone());
        }
    }
    matchers(of, &from["matchers"], ["matchers", "match", "match_re"], &mut out);
    if from["continue"] == true {
        out.insert("continue".to_owned(), true.into());
    }
    let children: Vec<Value> = from["routes"].as_array().into_iter().flatten().map(|child| route(of, child).into()).collect();
    if !children.is_empty() {
        out.insert("routes".to_owned(), children.into());
    }
    for (key, name, since) in
        [("muteTimeIntervals", "mute_time_intervals", (0, 22)), ("activeTimeIntervals", "active_time_intervals", (0, 24))]
    {
        let names = of.names(&from[key]);
        if !names.is_empty() && of.version.at_least(since.0, since.1) {
            out.insert(name.to_owned(), names.into());
        }
    }
    out
}

fn inhibit_rule(of: Of<'_>, from: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    matchers(of, &from["targetMatch"], ["target_matchers", "target_match", "target_match_re"], &mut out);
    matchers(of, &from["sourceMatch"], ["source_matchers", "source_match", "source_match_re"], &mut out);
    if from["equal"].as_array().is_some_and(|list| !list.is_empty()) {
        out.insert("equal".to_owned(), from["equal"].clone());
    }
    out
}

fn time_interval(of: Of<'_>, from: &Value) -> Value {
    let range = |range: &Value| match (&range["start"], &range["end"]) {
        (start, end) if end.is_null() || end == 0 => start.to_string(),
        (start, end) => format!("{start}:{end}"),
    };
    let one = |interval: &Value| {
        let mut out = Map::new();
        let mut set = |key: &str, list: Vec<Value>| {
            if !list.is_empty() {
                out.insert(key.to_owned(), list.into());
            }
        };
        let list = |key: &str| interval[key].as_array().into_iter().flatten();
        set("times", list("times").map(|time| json!({"start_time": time["startTime"], "end_time": time["endTime"]})).collect());
        let lower = |value: &Value| Value::from(value.as_str().unwrap_or_default().to_lowercase());
        set("weekdays", list("weekdays").map(lower).collect());
        set("days_of_month", list("daysOfMonth").map(|days| range(days).into()).collect());
        set("months", list("months").map(lower).collect());
        set("years", list("years").cloned().collect());
        Value::Object(out)
    };
    let intervals: Vec<Value> = from["timeIntervals"].as_array().into_iter().flatten().map(one).collect();
    json!({"name": of.named(from["name"].as_str().unwrap_or_default()), "time_intervals": intervals})
}

/// What one AlertmanagerConfig adds.
struct Part {
    route: Option<Map<String, Value>>,
    receivers: Vec<Value>,
    inhibit_rules: Vec<Map<String, Value>>,
    mute_time_intervals: Vec<Value>,
}

/// The receivers that a route and its children name.
fn named_receivers<'a>(route: &'a Value, into: &mut Vec<&'a str>) {
    into.extend(route["receiver"].as_str().filter(|name| !name.is_empty()));
    for child in route["routes"].as_array().into_iter().flatten() {
        named_receivers(child, into);
    }
}

/// What Alertmanager would refuse in a route or its children, for then it would refuse the whole file.
fn check_route(route: &Value, intervals: &[&str]) -> Result<(), String> {
    let texts = |key: &str| route[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    for key in ["muteTimeIntervals", "activeTimeIntervals"] {
        if let Some(missing) = texts(key).find(|name| !intervals.contains(name)) {
            return Err(format!("{key}: mute time interval {missing:?} not found"));
        }
    }
    let mut grouped: Vec<&str> = texts("groupBy").collect();
    let count = grouped.len();
    if count > 1 && grouped.contains(&"...") {
        return Err("groupBy: cannot have wildcard group_by ('...') and other labels at the same time".to_owned());
    }
    grouped.sort_unstable();
    grouped.dedup();
    if grouped.len() < count {
        return Err("groupBy: duplicated label".to_owned());
    }
    for matcher in route["matchers"].as_array().into_iter().flatten() {
        if matcher["name"].as_str().unwrap_or_default().is_empty() {
            return Err("matchers: a matcher has no name".to_owned());
        }
        if !matches!(matcher["matchType"].as_str().unwrap_or_default(), "" | "=" | "!=" | "=~" | "!~") {
            return Err(format!("matchers: unknown matchType {}", matcher["matchType"]));
        }
    }
    route["routes"].as_array().into_iter().flatten().try_for_each(|child| check_route(child, intervals))
}

fn part(of: Of<'_>) -> Result<Part, String> {
    let spec = &of.object["spec"];
    let list = |key: &str| spec[key].as_array().into_iter().flatten();
    let mut receivers = Vec::new();
    let mut names = Vec::new();
    for from in list("receivers") {
        let name = from["name"].as_str().unwrap_or_default();
        if names.contains(&name) {
            return Err(format!("{name:?} receiver is not unique"));
        }
        names.push(name);
        let mut out = receiver(of, from)?;
        out.insert("name".to_owned(), of.named(name).into());
        receivers.push(out.into());
    }
    let from = &spec["route"];
    if from.is_object() {
        let mut wanted = Vec::new();
        named_receivers(from, &mut wanted);
        if from["receiver"].as_str().unwrap_or_default().is_empty() {
            return Err("root route must define a receiver".to_owned());
        }
        if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
            return Err(format!("receiver {missing:?} not found"));
        }
        let intervals: Vec<&str> = list("muteTimeIntervals").filter_map(|interval| interval["name"].as_str()).collect();
        check_route(from, &intervals)?;
    }
    Ok(Part {
        route: from.is_object().then(|| route(of, from)),
        receivers,
        inhibit_rules: list("inhibitRules").map(|rule| inhibit_rule(of, rule)).collect(),
        mute_time_intervals: list("muteTimeIntervals").map(|from| time_interval(of, from)).collect(),
    })
}

/// Confines routes and inhibitions to alerts of the object's own namespace, as the Alertmanager wishes it.
fn confine(alertmanager: &Value, of: Of<'_>, part: &mut Part) {
    let namespace = of.namespace();
    let confined = match alertmanager["spec"]["alertmanagerConfigMatcherStrategy"]["type"].as_str() {
        Some("None") => false,
        Some("OnNamespaceExceptForAlertmanagerNamespace") => namespace != object::namespace(alertmanager),
        _ => true,
    };
    let modern = of.version.at_least(MATCHERS.0, MATCHERS.1);
    let own = format!("namespace={namespace:?}");
    if confined {
        for rule in &mut part.inhibit_rules {
            for side in ["source", "target"] {
                if modern {
                    let key = format!("{side}_matchers");
                    if rule.get(&key).and_then(Value::as_array).is_none_or(|list| !list.iter().any(|one| *one == own)) {
                        extend(rule, &key, own.as_str().into());
                    }
                } else {
                    rule.entry(format!("{side}_match")).or_insert_with(|| json!({}))["namespace"] = namespace.into();
                }
            }
        }
    }
    if let Some(route) = &mut part.route {
        if confined && modern {
            extend(route, "matchers", own.into());
        } else if confined {
            route.entry("match").or_insert_with(|| json!({}))["namespace"] = namespace.into();
        }
        // Alerts go on to the routes of the others, and to those of the base.
        route.insert("continue".to_owned(), true.into());
    }
}

/// The configuration that others are added to: that of the Secret, or one that notifies nobody.
fn base(alertmanager: &Value, assets: Assets<'_>) -> Result<Value, String> {
    let namespace = object::namespace(alertmanager);
    let own = format!("alertmanager-{}", object::name(alertmanager));
    let name = alertmanager["spec"]["configSecret"].as_str().filter(|name| !name.is_empty()).unwrap_or(&own);
    let nobody = || json!({"route": {"receiver": "null"}, "receivers": [{"name": "null"}]});
    let Ok(text) = assets.secret(namespace, &json!({"name": name, "key": ALERTMANAGER_KEY})) else { return Ok(nobody()) };
    if text.trim().is_empty() {
        return Ok(nobody());
    }
    wire::yaml::strict(&text).map_err(|error| format!("secret {name:?}, key {ALERTMANAGER_KEY:?}: {error}"))
}

fn check_base(config: &Value) -> Result<(), String> {
    let route = &config["route"];
    let empty = |key: &str| route[key].is_null() || route[key].as_array().is_some_and(Vec::is_empty);
    let said = if !route.is_object() {
        "root route must exist"
    } else if route["continue"] == true {
        "cannot have continue in root route"
    } else if route["receiver"].as_str().unwrap_or_default().is_empty() {
        "root route's receiver must exist"
    } else if !["matchers", "match", "match_re"].into_iter().all(empty) {
        "'matchers' not permitted on root route"
    } else if !empty("active_time_intervals") {
        "'active_time_intervals' not permitted on root route"
    } else if !empty("mute_time_intervals") {
        "'mute_time_intervals' not permitted on root route"
    } else {
        return Ok(());
    };
    Err(format!("check AlertmanagerConfig root route failed: {said}"))
}

/// Compiles the configuration of one Alertmanager object.
pub fn compile_alertmanager(alertmanager: &Value, input: &Input) -> CompiledAlertmanager {
    let spec = &alertmanager["spec"];
    let version = Version::of_alertmanager(spec);
    let store = Store::new(&input.secrets, &input.config_maps);
    let assets = store.assets();
    let mut rejected = Vec::new();
    let failed = |rejected: Vec<Rejection>, reason: String| CompiledAlertmanager {
        config: None,
        rejected,
        failed: Some(reason),
        files: BTreeMap::new(),
        beside: BTreeMap::new(),
    };
    let named = spec["alertmanagerConfiguration"]["name"].as_str();
    let mut config = match named {
        None => match base(alertmanager, assets) {
            Ok(config) => config,
            Err(reason) => return failed(rejected, reason),
        },
        Some(name) => {
            let own = |found: &&Value| object::namespace(found) == object::namespace(alertmanager) && object::name(found) == name;
            let Some(object) = input.alertmanager_configs.iter().find(own) else {
                return failed(rejected, format!("failed to get global AlertmanagerConfig: {name:?} not found"));
            };
            match part(Of { object, assets, version }) {
                Err(reason) => return failed(rejected, reason),
                Ok(part) => {
                    let mut config = Map::new();
                    config.insert("route".to_owned(), part.route.map_or(Value::Null, Value::Object));
                    config.insert("receivers".to_owned(), part.receivers.into());
                    let rules: Vec<Value> = part.inhibit_rules.into_iter().map(Value::Object).collect();
                    for (key, list) in [("inhibit_rules", rules), ("mute_time_intervals", part.mute_time_intervals)] {
                        if !list.is_empty() {
                            config.insert(key.to_owned(), list.into());
                        }
                    }
                    Value::Object(config)
                }
            }
        }
    };
    // Without a selector the configuration is the user's own business, and goes as it is.
    if spec["alertmanagerConfigSelector"].is_null() && named.is_none() {
        return CompiledAlertmanager {
            config: Some(config),
            rejected,
            failed: None,
            files: BTreeMap::new(),
            beside: BTreeMap::new(),
        };
    }
    if let Err(reason) = check_base(&config) {
        return failed(rejected, reason);
    }
    let mut routes = Vec::new();
    for object in select(alertmanager, "AlertmanagerConfig", &input.namespaces, &input.alertmanager_configs) {
        // The base is not added to itself.
        if named == Some(object::name(object)) && object::namespace(object) == object::namespace(alertmanager) {
            continue;
        }
        let of = Of { object, assets, version };
        match part(of) {
            Err(reason) => {
                rejected.push(Rejection { kind: "AlertmanagerConfig".to_owned(), key: object::key(object), reason });
            }
            Ok(mut part) => {
                confine(alertmanager, of, &mut part);
                let Value::Object(config) = &mut config else { continue };
                for rule in part.inhibit_rules {
                    extend(config, "inhibit_rules", Value::Object(rule));
                }
                // What has no route is reached by nothing.
                let Some(route) = part.route else { continue };
                routes.push(Value::Object(route));
                part.receivers.into_iter().for_each(|receiver| extend(config, "receivers", receiver));
                part.mute_time_intervals.into_iter().for_each(|interval| extend(config, "mute_time_intervals", interval));
            }
        }
    }
    if !routes.is_empty() {
        // The base's own routes come last, for every one of these goes on to the next.
        if let Some(own) = config["route"]["routes"].as_array() {
            routes.extend(own.iter().cloned());
        }
        config["route"]["routes"] = routes.into();
    }
    // The operator always writes the list, be it empty.
    if config["templates"].is_null() {
        config["templates"] = json!([]);
    }
    CompiledAlertmanager { config: Some(config), rejected, failed: None, files: BTreeMap::new(), beside: BTreeMap::new() }
}

fn extend(config: &mut Map<String, Value>, key: &str, value: Value) {
    match config.entry(key).or_insert_with(|| json!([])) {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (json!({"route": {"receiver": "r", "groupBy": ["...", "a"]}, "receivers": [{"name": "r"}]}), "wildcard"),
            (url("nowhere"), "it is no URL"),
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
        assert!(broken.config.is_none() && broken.rejected[0].reason.contains("cannot have continue"), "{broken:?}");
        // Nobody is selected: the Secret goes as it is, and without one there is a configuration that notifies nobody.
        assert_eq!(compiled(json!({}), Vec::new()).config.unwrap()["route"]["receiver"], "null");
    }
}
