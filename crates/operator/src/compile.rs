//! A Prometheus object and the objects it selects, compiled to `prometheus.yml`.

use std::collections::BTreeMap;

use kubeapi::object;
use serde_json::Value;

use crate::alerting::{Additional, alerting};
use crate::assets::{Assets, Store};
use crate::checks::{Checks, within};
use crate::config::{Config, filled};
use crate::global::{global, otlp, storage, tracing};
use crate::relabel::{check_list, shared};
use crate::rules::{RuleFiles, rule_files};
use crate::scrape::{self, Scope};
use crate::selection::select;
use crate::version::Version;
use crate::{alerting, checks, enforcement, pod_monitor, probe, remote, scrape_config, service_monitor};

/// All objects that a compilation looks at.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Namespaces, for namespace selectors.
    pub namespaces: Vec<Value>,
    /// ServiceMonitors of all namespaces.
    pub service_monitors: Vec<Value>,
    /// PodMonitors of all namespaces.
    pub pod_monitors: Vec<Value>,
    /// Probes of all namespaces.
    pub probes: Vec<Value>,
    /// ScrapeConfigs of all namespaces.
    pub scrape_configs: Vec<Value>,
    /// PrometheusRules of all namespaces.
    pub rules: Vec<Value>,
    /// AlertmanagerConfigs of all namespaces.
    pub alertmanager_configs: Vec<Value>,
    /// Secrets that monitors may name.
    pub secrets: Vec<Value>,
    /// ConfigMaps that monitors may name.
    pub config_maps: Vec<Value>,
    /// Whether alerts are to come soon: the rule files get no pending times and ranges of a minute; the objects stay as they are.
    pub fast_alerts: bool,
}

/// Turns one object into scrape configurations, or tells why the operator would not.
type Compile = fn(Scope<'_>, &Value) -> Result<Vec<Value>, String>;

impl Input {
    /// Puts objects where they belong, by their kind; the kinds that are none of these are left out.
    pub fn of(objects: Vec<Value>) -> Self {
        let mut input = Self::default();
        for object in objects {
            match object::kind(&object) {
                "Namespace" => input.namespaces.push(object),
                "ServiceMonitor" => input.service_monitors.push(object),
                "PodMonitor" => input.pod_monitors.push(object),
                "Probe" => input.probes.push(object),
                "ScrapeConfig" => input.scrape_configs.push(object),
                "PrometheusRule" => input.rules.push(object),
                "AlertmanagerConfig" => input.alertmanager_configs.push(object),
                "Secret" => input.secrets.push(object),
                "ConfigMap" => input.config_maps.push(object),
                _ => {}
            }
        }
        input
    }

    /// The kinds that become scrape configurations, in the operator's order: their kind, the objects, and what compiles one.
    fn monitors(&self) -> [(&'static str, &[Value], Compile); 4] {
        [
            ("ServiceMonitor", &self.service_monitors, service_monitor::scrape_configs),
            ("PodMonitor", &self.pod_monitors, pod_monitor::scrape_configs),
            ("Probe", &self.probes, probe::scrape_configs),
            ("ScrapeConfig", &self.scrape_configs, scrape_config::scrape_configs),
        ]
    }
}

/// An object that was selected but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its kind.
    pub kind: String,
    /// `NAMESPACE/NAME`.
    pub key: String,
    /// Why, as the Event says it.
    pub reason: String,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The configuration, to be written as YAML.
    pub config: Value,
    /// The rule files, with the rules that were left out.
    pub rules: RuleFiles,
    /// What was left out, and why.
    pub rejected: Vec<Rejection>,
    /// Certificates and keys that the configuration names, by the name of their file in `/etc/prometheus/certs`.
    pub files: BTreeMap<String, String>,
    /// What is wrong with the Prometheus object itself, if something is: the operator then writes nothing, and what there was stays.
    pub failed: Option<String>,
}

/// The name of the StatefulSet and of what belongs to it.
pub(crate) fn workload_name(prometheus: &Value) -> String {
    format!("prometheus-{}", object::name(prometheus))
}

/// Compiles the configuration of one Prometheus object.
pub fn compile(prometheus: &Value, input: &Input) -> Compiled {
    let spec = &prometheus["spec"];
    let home = object::namespace(prometheus);
    let version = Version::of(spec);
    let store = Store::new(&input.secrets, &input.config_maps);
    let assets = store.assets();
    let rules = rule_files(prometheus, input);
    let mut config = Config::new(version);
    let mut rejected = Vec::new();
    let mut files = BTreeMap::new();
    let mut failed = Version::checked(spec).err();
    let mut fail = |why: Result<(), String>| failed = failed.take().or(why.err());

    fail(check_prometheus(prometheus, assets, &config));
    files.append(&mut store.take_files());
    global(prometheus, &mut config);
    if !spec["ruleSelector"].is_null() {
        let mut mounts = rules.mounts(&workload_name(prometheus));
        mounts.sort();
        let paths: Vec<String> = mounts.iter().map(|name| format!("/etc/prometheus/rules/{name}/*.yaml")).collect();
        config.set("rule_files", paths);
    }
    let mut scrape_configs = Vec::new();
    let whole = Scope { spec, home, version, assets, namespace: home, class: &Value::Null, enforced: None };
    for (kind, objects, compile) in input.monitors() {
        for monitor in select(prometheus, kind, &input.namespaces, objects) {
            let compiled = scrape_class(spec, kind, &monitor["spec"]).and_then(|class| {
                let enforced = enforcement::label(spec, monitor);
                compile(Scope { namespace: object::namespace(monitor), class, enforced, ..whole }, monitor)
            });
            let mut named = store.take_files();
            match compiled {
                Ok(configs) => {
                    scrape_configs.extend(configs);
                    files.append(&mut named);
                }
                Err(reason) => rejected.push(Rejection { kind: kind.to_owned(), key: object::key(monitor), reason }),
            }
        }
    }
    let mut additional = |field: &str, what: [&str; 2]| {
        additional(&assets, home, &spec[field], what).unwrap_or_else(|why| {
            fail(Err(why));
            None
        })
    };
    let scrapes = additional(
        "additionalScrapeConfigs",
        ["scrape configs", "generate additional scrape configs: unmarshalling additional scrape configs"],
    );
    let relabels = additional(
        "additionalAlertRelabelConfigs",
        ["alert relabel configs", "generating alerting configuration failed: unmarshalling additional alerting relabel configs"],
    );
    let managers = additional(
        "additionalAlertManagerConfigs",
        ["alert manager configs", "generating alerting configuration failed: unmarshalling additional alertmanager configs"],
    );
    scrape_configs.extend(scrapes.into_iter().flatten().map(|config| spread(config, whole.shards())));
    config.set("scrape_configs", scrape_configs);
    storage(spec, &mut config);
    alerting(whole, prometheus, Additional { relabel_configs: relabels, managers }, &mut config);
    remote::write(whole.credentials(), spec, &mut config);
    fail(within("failed to generate OTLP configuration", otlp(spec, &mut config)));
    tracing(spec, whole.credentials(), &mut config);
    Compiled { config: config.finish(), rules, rejected, files, failed }
}

/// Checks what the Prometheus object itself says; if it cannot be used, the operator writes no configuration.
fn check_prometheus(prometheus: &Value, assets: Assets<'_>, config: &Config) -> Result<(), String> {
    let spec = &prometheus["spec"];
    let checks = Checks { assets, namespace: object::namespace(prometheus) };
    check_classes(spec, config.version())?;
    remote::check(checks, spec, config.version())?;
    scrape::check_api_server(checks, &spec["apiserverConfig"])?;
    alerting::check(checks, spec, config)?;
    for class in spec["scrapeClasses"].as_array().into_iter().flatten() {
        let name = class["name"].as_str().unwrap_or_default();
        within(&format!("failed to process scrape classes: scrape class {name:?}"), checks.tls(&class["tlsConfig"]))?;
    }
    checks.tls(&spec["tracingConfig"]["tlsConfig"])?;
    within("generating config failed", scrape::check_times(&spec["scrapeInterval"], &Value::Null, &spec["scrapeTimeout"]))
}

/// Checks the scrape classes of a Prometheus object.
fn check_classes(spec: &Value, version: Version) -> Result<(), String> {
    let mut defaults = 0;
    for class in spec["scrapeClasses"].as_array().into_iter().flatten() {
        let of = |what: &str| {
            format!(
                "failed to parse scrape classes: invalid {what} for scrapeClass {}",
                class["name"].as_str().unwrap_or_default()
            )
        };
        within(&of("relabelings"), check_list(&class["relabelings"], version))?;
        within(&of("metric relabelings"), check_list(&class["metricRelabelings"], version))?;
        within(&of("TLS config"), checks::tls(&class["tlsConfig"]))?;
        within(&of("authorization"), checks::of_class(&class["authorization"]))?;
        defaults += usize::from(class["default"] == true);
    }
    if defaults > 1 { Err("failed to parse scrape classes: multiple default scrape classes defined".to_owned()) } else { Ok(()) }
}

/// The scrape class of a monitor: the one that it names, or the default one; null for none.
fn scrape_class<'a>(prometheus_spec: &'a Value, kind: &str, monitor_spec: &Value) -> Result<&'a Value, String> {
    let classes = prometheus_spec["scrapeClasses"].as_array().map_or(&[][..], Vec::as_slice);
    match filled(&monitor_spec["scrapeClass"]) {
        None => Ok(classes.iter().find(|class| class["default"] == true).unwrap_or(&Value::Null)),
        Some(name) => {
            let found = classes.iter().find(|class| class["name"] == name);
            let before = if kind == "ScrapeConfig" { "" } else { "scrapeClassName: " };
            found.ok_or_else(|| format!("{before}scrapeClass {name:?} not found in Prometheus scrapeClasses"))
        }
    }
}

/// A list that a Secret holds as YAML, if there is a reference to one: what it is, and how an error about its text begins.
fn additional(
    assets: &Assets<'_>,
    namespace: &str,
    reference: &Value,
    [what, unreadable]: [&str; 2],
) -> Result<Option<Vec<Value>>, String> {
    if !reference.is_object() {
        return Ok(None);
    }
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (name, key) = (text("name"), text("key"));
    let text = match assets.secret(namespace, reference) {
        Ok(text) => text,
        Err(_) if reference["optional"] == true => return Ok(None),
        Err(_) if assets.find_secret(namespace, name).is_some() => {
            return Err(format!("loading additional {what} from Secret failed: key {key} could not be found in secret {name}"));
        }
        Err(_) => return Err(format!("loading additional {what} from Secret failed: secrets {name:?} not found")),
    };
    let failed = |why: String| format!("generating config failed: {unreadable} failed: {why}");
    let first = wire::yaml::first_document(&text).map_err(|error| failed(error.to_string()))?;
    match first {
        Value::Null => Ok(Some(Vec::new())),
        Value::Array(list) => Ok(Some(list)),
        _ => Err(failed("it is no list".to_owned())),
    }
}

/// A job of the user's: its targets are spread over shards as those of others are.
fn spread(mut config: Value, shards: u64) -> Value {
    if shards > 1 && config.is_object() {
        let mut rules = config["relabel_configs"].as_array().cloned().unwrap_or_default();
        shared(&mut rules, shards);
        config["relabel_configs"] = rules.into();
    }
    config
}

/// The discovery role of a monitor: its own wish, else the Prometheus object's; endpoints by default.
pub(crate) fn discovery_role(monitor_spec: &Value, prometheus_spec: &Value, version: Version) -> &'static str {
    let wanted = monitor_spec["serviceDiscoveryRole"].as_str().or_else(|| prometheus_spec["serviceDiscoveryRole"].as_str());
    if wanted == Some("EndpointSlice") && version.at_least(2, 21) { "endpointslice" } else { "endpoints" }
}

/// How the meta labels of a role's ports begin.
pub(crate) fn meta_prefix(role: &str) -> &'static str {
    if role == "endpointslice" { "endpointslice" } else { "endpoint" }
}
