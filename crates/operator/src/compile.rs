//! A Prometheus object and the objects it selects, compiled to `prometheus.yml`.

use std::collections::BTreeMap;

use kubeapi::object;
use serde_json::{Map, Value, json};

use crate::assets::Assets;
use crate::rules::{RuleFiles, rule_files};
use crate::scrape::{self, Config, Scope};
use crate::selection::select;
use crate::version::Version;
use crate::{pod_monitor, probe, scrape_config, service_monitor};

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
    let mut config = Map::new();
    config.insert("global".to_owned(), global(prometheus));
    let rules = rule_files(prometheus, input);
    if !spec["ruleSelector"].is_null() {
        let mounts = rules.mounts(&workload_name(prometheus));
        let paths: Vec<String> = mounts.iter().map(|name| format!("/etc/prometheus/rules/{name}/*.yaml")).collect();
        config.insert("rule_files".to_owned(), json!(paths));
    }
    let mut rejected = Vec::new();
    let mut scrape_configs = Vec::new();
    let version = Version::of(spec);
    let assets = Assets { secrets: &input.secrets, config_maps: &input.config_maps };
    for (kind, objects, compile) in input.monitors() {
        for monitor in select(prometheus, kind, &input.namespaces, objects) {
            let compiled = scrape_class(spec, &monitor["spec"]).and_then(|class| {
                let namespace = object::namespace(monitor);
                compile(Scope { spec, version, assets, namespace, class }, monitor)
            });
            match compiled {
                Ok(configs) => scrape_configs.extend(configs),
                Err(reason) => rejected.push(Rejection { kind: kind.to_owned(), key: object::key(monitor), reason }),
            }
        }
    }
    match additional(spec, &assets, object::namespace(prometheus)) {
        Ok(more) => scrape_configs.extend(more),
        Err(reason) => {
            let kind = "Prometheus".to_owned();
            rejected.push(Rejection { kind, key: object::key(prometheus), reason });
        }
    }
    config.insert("scrape_configs".to_owned(), Value::Array(scrape_configs));
    if let Some(alerting) = alerting(prometheus) {
        config.insert("alerting".to_owned(), alerting);
    }
    Compiled { config: Value::Object(config), rules, rejected, files: BTreeMap::new(), failed: None }
}

/// The scrape class of a monitor: the one that it names, or the default one; null for none.
fn scrape_class<'a>(prometheus_spec: &'a Value, monitor_spec: &Value) -> Result<&'a Value, String> {
    let classes = prometheus_spec["scrapeClasses"].as_array().map_or(&[][..], Vec::as_slice);
    match monitor_spec["scrapeClass"].as_str() {
        None => Ok(classes.iter().find(|class| class["default"] == true).unwrap_or(&Value::Null)),
        Some(name) => {
            let found = classes.iter().find(|class| class["name"] == name);
            found.ok_or_else(|| format!("scrapeClass {name:?} not found in Prometheus scrapeClasses"))
        }
    }
}

/// `additionalScrapeConfigs`: YAML of the user's, as it is.
fn additional(spec: &Value, assets: &Assets<'_>, namespace: &str) -> Result<Vec<Value>, String> {
    let reference = &spec["additionalScrapeConfigs"];
    if !reference.is_object() {
        return Ok(Vec::new());
    }
    let text = match assets.secret(namespace, reference) {
        Err(_) if reference["optional"] == true => return Ok(Vec::new()),
        text => text?,
    };
    let mut documents =
        wire::yaml::manifests(&text).map_err(|error| format!("unmarshalling additional scrape configs failed: {error}"))?;
    match documents.pop() {
        Some(Value::Array(configs)) => Ok(configs),
        None => Ok(Vec::new()),
        Some(_) => Err("unmarshalling additional scrape configs failed: it is no list".to_owned()),
    }
}

fn global(prometheus: &Value) -> Value {
    let spec = &prometheus["spec"];
    let mut labels = Map::new();
    let name = |key: &str, default: &str| spec[key].as_str().unwrap_or(default).to_owned();
    for (key, value) in spec["externalLabels"].as_object().into_iter().flatten() {
        labels.insert(key.clone(), value.clone());
    }
    let of_prometheus = name("prometheusExternalLabelName", "prometheus");
    if !of_prometheus.is_empty() {
        labels.insert(of_prometheus, object::key(prometheus).into());
    }
    let of_replica = name("replicaExternalLabelName", "prometheus_replica");
    if !of_replica.is_empty() {
        labels.insert(of_replica, "$(POD_NAME)".into());
    }
    let mut global = json!({
        "scrape_interval": spec["scrapeInterval"].as_str().unwrap_or("30s"),
        "external_labels": labels,
        "evaluation_interval": spec["evaluationInterval"].as_str().unwrap_or("30s"),
    });
    for (from, to) in [("scrapeTimeout", "scrape_timeout"), ("queryLogFile", "query_log_file")] {
        if let Some(text) = spec[from].as_str() {
            global[to] = text.into();
        }
    }
    let version = Version::of(spec);
    let mut limits = Config::default();
    scrape::global_limits(spec, version, &mut limits);
    if version.at_least(2, 49) {
        limits.set("scrape_protocols", spec["scrapeProtocols"].clone());
    }
    if version.at_least(2, 53) {
        limits.set("rule_query_offset", spec["ruleQueryOffset"].clone());
    }
    if let (Value::Object(global), Value::Object(limits)) = (&mut global, limits.finish()) {
        global.extend(limits);
    }
    global
}

fn alerting(prometheus: &Value) -> Option<Value> {
    let spec = &prometheus["spec"];
    let of_replica = spec["replicaExternalLabelName"].as_str().unwrap_or("prometheus_replica");
    let role = discovery_role(&Value::Null, spec, Version::of(spec));
    let managers: Vec<Value> = spec["alerting"]["alertmanagers"]
        .as_array()?
        .iter()
        .map(|manager| {
            let port = match &manager["port"] {
                Value::Number(number) => number.to_string(),
                port => port.as_str().unwrap_or_default().to_owned(),
            };
            let namespace = manager["namespace"].as_str().unwrap_or_else(|| object::namespace(prometheus));
            json!({
                "kubernetes_sd_configs": [{"role": role, "namespaces": {"names": [namespace]}}],
                "api_version": manager["apiVersion"].as_str().unwrap_or("v2"),
                "relabel_configs": [
                    {"action": "keep", "source_labels": ["__meta_kubernetes_service_name"], "regex": manager["name"]},
                    {"action": "keep", "source_labels": [format!("__meta_kubernetes_{}_port_name", meta_prefix(role))], "regex": port},
                ],
            })
        })
        .collect();
    let mut alerting = json!({"alertmanagers": managers});
    if !of_replica.is_empty() {
        alerting["alert_relabel_configs"] = json!([{"action": "labeldrop", "regex": of_replica}]);
    }
    Some(alerting)
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
