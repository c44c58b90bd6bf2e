//! Alertmanager and AlertmanagerConfig objects to `alertmanager.yml`, as operator 0.87.1 makes it (prometheus-operator
//! `pkg/alertmanager`); fields that only its successors know become what those make of them.
//!
//! A base (the user's Secret, or an AlertmanagerConfig that the Alertmanager names) is read, checked and printed anew; then each selected
//! object adds its routes, receivers and intervals. An object that cannot be used is left out with the reason; what is wrong with the
//! base, or comes to light too late, leaves nothing to write.

mod check;
mod fields;
mod global;
mod http;
mod integrations;
mod intervals;
mod receivers;
mod route;
mod schema;
mod text;
mod types;
mod validate;
mod versions;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubeapi::{LabelSelector, object};
use serde_json::{Map, Value, json};

use crate::assets::{Assets, Store};
use crate::compile::{Input, Rejection};
use crate::selection::select;
use crate::version::Version;
use fields::Fault;
use schema::{Faults, Type};

/// The key of a user's own configuration in its Secret.
pub const ALERTMANAGER_KEY: &str = "alertmanager.yaml";

/// Where the templates of an `alertmanagerConfiguration` are mounted.
const TEMPLATES: &str = "/etc/alertmanager/templates";

/// The version that runs where the object names none.
const DEFAULT_VERSION: &str = "0.29.0";

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

/// A version of Alertmanager, also as messages have it.
struct Release {
    version: Version,
    text: String,
}

impl Release {
    fn of(spec: &Value) -> Result<Self, String> {
        let given = spec["version"].as_str().filter(|given| !given.is_empty()).unwrap_or(DEFAULT_VERSION);
        let plain = given.trim().trim_start_matches('v');
        let end = plain.find(['-', '+']).unwrap_or(plain.len());
        let mut numbers: Vec<&str> = plain[..end].split('.').collect();
        if let Some(odd) = numbers.iter().find(|number| number.parse::<u32>().is_err()) {
            return Err(format!("failed to parse alertmanager version: Invalid character(s) found in number {odd:?}"));
        }
        numbers.resize(3, "0");
        let version = Version::of_alertmanager(spec);
        if version.at_least(1, 0) || !version.at_least(0, 15) {
            return Err(format!("unsupported Alertmanager version {given:?}"));
        }
        Ok(Self { version, text: format!("{}{}", numbers.join("."), &plain[end..]) })
    }

    /// Whether it is 0.N or newer.
    fn at_least(&self, minor: u32) -> bool {
        self.version.at_least(0, minor)
    }

    /// The message about something that came with 0.N. The quote at one end alone is upstream's.
    fn lacks(&self, name: &str, minor: u32) -> String {
        format!("{name}' is available in Alertmanager >= 0.{minor}.0 only - current {}", self.text)
    }
}

/// An AlertmanagerConfig while it is converted.
#[derive(Clone, Copy)]
struct Of<'a> {
    object: &'a Value,
    assets: Assets<'a>,
    release: &'a Release,
}

impl Of<'_> {
    fn namespace(&self) -> &str {
        object::namespace(self.object)
    }

    /// A name that no other object's collides with.
    fn named(&self, name: &str) -> String {
        if name.is_empty() { String::new() } else { format!("{}/{name}", object::key(self.object)) }
    }
}

/// A reason as an error.
fn told<T>(why: &str) -> Result<T, String> {
    Err(why.to_owned())
}

fn extend(config: &mut Map<String, Value>, key: &str, value: Value) {
    match config.entry(key).or_insert_with(|| json!([])) {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    }
}

/// What one AlertmanagerConfig adds.
struct Part {
    route: Option<Map<String, Value>>,
    receivers: Vec<Map<String, Value>>,
    inhibit_rules: Vec<Map<String, Value>>,
    intervals: Vec<Value>,
    /// What comes to light only when it is added.
    failed: Option<String>,
}

/// What was converted, printed as its type has it.
fn tidy(of: &Type, made: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut faults = Faults::of(None);
    let tidied = of.read("", &Value::Object(made), &mut faults);
    faults.told().map(|()| tidied)
}

/// The names in a list of an object.
fn names<'v>(spec: &'v Value, list: &str) -> Vec<&'v str> {
    spec[list].as_array().into_iter().flatten().map(|one| one["name"].as_str().unwrap_or_default()).collect()
}

/// Checks an object and converts what it holds.
fn part(of: Of<'_>) -> Result<Part, String> {
    let spec = &of.object["spec"];
    let list = |key: &str| spec[key].as_array().into_iter().flatten();
    let receiver_names = names(spec, "receivers");
    for (index, receiver) in list("receivers").enumerate() {
        if let Some(twice) = receiver_names.get(index).filter(|name| receiver_names[..index].contains(name)) {
            // The end is what Go makes of an error that is none.
            return Err(format!("{twice:?} receiver is not unique: %!w(<nil>)"));
        }
        receivers::check(receiver)?;
    }
    let mut intervals = Vec::new();
    for (index, interval) in list("muteTimeIntervals").enumerate() {
        let name = of.named(interval["name"].as_str().unwrap_or_default());
        let made = intervals::convert(name, interval);
        intervals.push(made.map_err(|why| format!("mute time interval[{index}] is invalid: {why}"))?);
    }
    let route = Some(&spec["route"]).filter(|route| route.is_object());
    if let Some(route) = route {
        route::check(route, &receiver_names, &names(spec, "muteTimeIntervals"), true)?;
    }
    let (mut receivers, mut failed) = (Vec::new(), None);
    for receiver in list("receivers") {
        match receivers::convert(of, receiver) {
            Ok(mut made) => {
                made.insert("name".to_owned(), of.named(receiver["name"].as_str().unwrap_or_default()).into());
                receivers.push(tidy(&types::RECEIVER, made)?);
            }
            Err(Fault::Reject(why)) => return Err(why),
            Err(Fault::Fail(why)) => drop(failed.get_or_insert(why)),
        }
    }
    route.map_or(Ok(()), |route| route::check_version(of, route))?;
    route::check_inhibitions(of)?;
    Ok(Part {
        route: route.map(|from| route::convert(of, from)),
        receivers,
        inhibit_rules: list("inhibitRules").map(|rule| route::convert_inhibition(of, rule)).collect(),
        intervals,
        failed,
    })
}

/// A configuration while it grows, with what surrounds it.
struct Builder<'a> {
    alertmanager: &'a Value,
    config: Map<String, Value>,
    routes: Vec<Value>,
}

impl Builder<'_> {
    /// Adds what an object brings; the base's own inhibitions and routes are not confined to a namespace.
    fn add(&mut self, of: Of<'_>, mut part: Part) -> Result<(), String> {
        for mut rule in part.inhibit_rules {
            route::confine_inhibition(self.alertmanager, of, &mut rule);
            extend(&mut self.config, "inhibit_rules", tidy(&types::INHIBIT_RULE, rule)?.into());
        }
        // What has no route is reached by nothing.
        let Some(route) = &mut part.route else { return Ok(()) };
        route::confine(self.alertmanager, of, route);
        self.routes.push(tidy(&types::ROUTE, std::mem::take(route))?.into());
        self.add_receivers(part.receivers, part.intervals, part.failed)
    }

    fn add_receivers(
        &mut self,
        receivers: Vec<Map<String, Value>>,
        intervals: Vec<Value>,
        failed: Option<String>,
    ) -> Result<(), String> {
        for receiver in receivers {
            receivers::check_mail(&receiver, &self.config.get("global").cloned().unwrap_or_default())?;
            extend(&mut self.config, "receivers", receiver.into());
        }
        failed.map_or(Ok(()), Err)?;
        intervals.into_iter().for_each(|interval| extend(&mut self.config, "mute_time_intervals", interval));
        Ok(())
    }

    /// The whole, with the routes of objects before those of the base, for every one of them goes on to the next.
    fn finish(mut self, release: &Release) -> Result<Value, String> {
        if let (false, Some(root)) = (self.routes.is_empty(), self.config.get_mut("route").and_then(Value::as_object_mut)) {
            if let Some(Value::Array(own)) = root.remove("routes") {
                self.routes.extend(own);
            }
            root.insert("routes".to_owned(), self.routes.into());
        }
        // The operator always writes the list, be it empty.
        self.config.entry("templates").or_insert_with(|| json!([]));
        versions::fit(&types::CONFIG, &mut self.config, release.version)?;
        Ok(Value::Object(self.config))
    }
}

/// The user's own Secret: its configuration, if there is one, and what lies beside it.
fn own_secret(alertmanager: &Value, secrets: &[Value]) -> (Option<String>, BTreeMap<String, String>) {
    let default = format!("alertmanager-{}", object::name(alertmanager));
    let name = alertmanager["spec"]["configSecret"].as_str().filter(|name| !name.is_empty()).unwrap_or(&default);
    let own = |secret: &&Value| object::namespace(secret) == object::namespace(alertmanager) && object::name(secret) == name;
    let Some(secret) = secrets.iter().find(own) else { return (None, BTreeMap::new()) };
    let texts =
        |field: &str| secret[field].as_object().into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)));
    let mut all: BTreeMap<String, String> = texts("data").map(|(key, value)| (key.clone(), value.to_owned())).collect();
    all.extend(texts("stringData").map(|(key, value)| (key.clone(), STANDARD.encode(value))));
    let config = all.remove(ALERTMANAGER_KEY).and_then(|encoded| STANDARD.decode(encoded).ok());
    let text = config.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (text.filter(|text| !text.is_empty()), all)
}

/// A configuration that notifies nobody.
fn nobody() -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("route".to_owned(), json!({"receiver": "null"}));
    config.insert("receivers".to_owned(), json!([{"name": "null"}]));
    config
}

/// Whether a route may be the root of all.
fn check_root(route: Option<&Map<String, Value>>) -> Result<(), String> {
    let Some(route) = route else { return told("root route must exist") };
    let is = |fields: &[&str]| fields.iter().any(|field| versions::given(route, field));
    told(if is(&["continue"]) {
        "cannot have continue in root route"
    } else if !is(&["receiver"]) {
        "root route's receiver must exist"
    } else if is(&["matchers", "match", "match_re"]) {
        "'matchers' not permitted on root route"
    } else if is(&["mute_time_intervals"]) {
        "'mute_time_intervals' not permitted on root route"
    } else if is(&["active_time_intervals"]) {
        "'active_time_intervals' not permitted on root route"
    } else {
        return Ok(());
    })
}

/// The base that an AlertmanagerConfig is, with the global part and the templates that stand in the Alertmanager object.
fn base_of_object(alertmanager: &Value, of: Of<'_>) -> Result<Map<String, Value>, String> {
    let part = part(of)?;
    let mut builder = Builder { alertmanager, config: Map::new(), routes: Vec::new() };
    let global = &alertmanager["spec"]["alertmanagerConfiguration"]["global"];
    if global.is_object() {
        let mut whole = Map::new();
        whole.insert("global".to_owned(), global::convert(of, global)?.into());
        builder.config = tidy(&types::CONFIG, whole)?;
    }
    for rule in part.inhibit_rules {
        extend(&mut builder.config, "inhibit_rules", tidy(&types::INHIBIT_RULE, rule)?.into());
    }
    let route = part.route.map(|route| tidy(&types::ROUTE, route)).transpose()?;
    builder.add_receivers(part.receivers, part.intervals, part.failed)?;
    let mut config = builder.config;
    check_root(route.as_ref())?;
    config.insert("route".to_owned(), route.unwrap_or_default().into());
    versions::fit(&types::CONFIG, &mut config, of.release.version)?;
    Ok(config)
}

/// The files of templates that an Alertmanager object names.
fn templates(alertmanager: &Value) -> Vec<Value> {
    let all = alertmanager["spec"]["alertmanagerConfiguration"]["templates"].as_array().into_iter().flatten();
    let keys = all.flat_map(|one| ["configMap", "secret"].into_iter().filter_map(|kind| one[kind]["key"].as_str()));
    keys.map(|key| format!("{TEMPLATES}/{key}").into()).collect()
}

/// Whether the selectors can be read.
fn check_selectors(spec: &Value) -> Result<(), String> {
    for field in ["alertmanagerConfigNamespaceSelector", "alertmanagerConfigSelector"] {
        if !spec[field].is_null() {
            LabelSelector::from_object(&spec[field])
                .map_err(|error| format!("failed to select AlertmanagerConfig objects: {error}"))?;
        }
    }
    Ok(())
}

/// What lies beside the user's configuration, by key.
type Beside = BTreeMap<String, String>;

/// The base, and what lies beside it.
fn base(
    alertmanager: &Value,
    input: &Input,
    of: impl Fn(&'_ str) -> Result<Map<String, Value>, String>,
) -> Result<(Map<String, Value>, Beside), String> {
    if let Some(name) = alertmanager["spec"]["alertmanagerConfiguration"]["name"].as_str() {
        let mut config = of(name)?;
        config.insert("templates".to_owned(), templates(alertmanager).into());
        return Ok((config, Beside::new()));
    }
    let (text, beside) = own_secret(alertmanager, &input.secrets);
    let Some(text) = text else { return Ok((nobody(), beside)) };
    Ok((check::load(&text).map_err(|why| format!("failed to initialize from secret: {why}"))?, beside))
}

fn provision(
    alertmanager: &Value,
    input: &Input,
    store: &Store<'_>,
    rejected: &mut Vec<Rejection>,
) -> Result<(Value, Beside), String> {
    let spec = &alertmanager["spec"];
    let release = Release::of(spec)?;
    let named = spec["alertmanagerConfiguration"]["name"].as_str();
    if spec["alertmanagerConfigSelector"].is_null() && named.is_none() {
        // The configuration is the user's own business, and goes as it is.
        let (text, beside) = own_secret(alertmanager, &input.secrets);
        let Some(text) = text else { return Ok((nobody().into(), beside)) };
        return Ok((wire::yaml::strict(&text).map_err(|error| format!("cannot read {ALERTMANAGER_KEY:?}: {error}"))?, beside));
    }
    check_selectors(spec)?;
    let of = |object| Of { object, assets: store.assets(), release: &release };
    let is_base =
        |found: &Value| object::namespace(found) == object::namespace(alertmanager) && named == Some(object::name(found));
    let mut parts = Vec::new();
    for object in select(alertmanager, "AlertmanagerConfig", &input.namespaces, &input.alertmanager_configs) {
        // The base is not added to itself.
        if is_base(object) {
            continue;
        }
        match part(of(object)) {
            Ok(part) => parts.push((object, part)),
            Err(reason) => {
                rejected.push(Rejection { kind: "AlertmanagerConfig".to_owned(), key: object::key(object), reason });
            }
        }
    }
    let (config, beside) = base(alertmanager, input, |name| {
        let Some(object) = input.alertmanager_configs.iter().find(|found| is_base(found)) else {
            return Err(format!(
                "failed to get global AlertmanagerConfig: alertmanagerconfigs.monitoring.coreos.com {name:?} not found"
            ));
        };
        base_of_object(alertmanager, of(object))
            .map_err(|why| format!("failed to initialize from global AlertmanagerConfig: {why}"))
    })?;
    let mut builder = Builder { alertmanager, config, routes: Vec::new() };
    let failed = |why: String| format!("failed to generate Alertmanager configuration: {why}");
    for (object, part) in parts {
        let key = object::key(object);
        builder.add(of(object), part).map_err(|why| failed(format!("AlertmanagerConfig {key}: {why}")))?;
    }
    Ok((builder.finish(&release).map_err(failed)?, beside))
}

/// Compiles the configuration of one Alertmanager object.
pub fn compile_alertmanager(alertmanager: &Value, input: &Input) -> CompiledAlertmanager {
    let (store, mut rejected) = (Store::new(&input.secrets, &input.config_maps), Vec::new());
    let (config, beside, failed) = match provision(alertmanager, input, &store, &mut rejected) {
        Ok((config, beside)) => (Some(config), beside, None),
        Err(why) => (None, Beside::new(), Some(format!("provision alertmanager configuration: {why}"))),
    };
    CompiledAlertmanager { config, rejected, failed, files: store.take_files(), beside }
}

#[cfg(test)]
mod tests;
