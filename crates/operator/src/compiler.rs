//! Compiling again only what changed: results are kept by object, with what they were made from.
//!
//! A result holds as long as the object, the Prometheus, the Namespaces, and the Secrets and ConfigMaps that it may have read are the
//! same. Which those are is taken from the names in the objects, a few too many rather than one too few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubeapi::object;
use serde_json::Value;

use crate::alertmanager::{CompiledAlertmanager, compile_alertmanager};
use crate::compile::{Compiled, Input, Rejection, compile};
use crate::selection::selects;
use crate::status::Verdict;

/// Objects of one kind by `NAMESPACE/NAME`, shared with whoever watches them.
pub type Objects = BTreeMap<String, Arc<Value>>;

/// All objects that a compilation may look at.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Namespaces, by their names.
    pub namespaces: &'a Objects,
    /// ServiceMonitors.
    pub service_monitors: &'a Objects,
    /// PodMonitors.
    pub pod_monitors: &'a Objects,
    /// Probes.
    pub probes: &'a Objects,
    /// ScrapeConfigs.
    pub scrape_configs: &'a Objects,
    /// PrometheusRules.
    pub rules: &'a Objects,
    /// AlertmanagerConfigs.
    pub alertmanager_configs: &'a Objects,
    /// Secrets.
    pub secrets: &'a Objects,
    /// ConfigMaps.
    pub config_maps: &'a Objects,
    /// Whether alerts are to come soon.
    pub fast_alerts: bool,
}

/// The list of an input that a monitor belongs into.
type List = fn(&mut Input) -> &mut Vec<Value>;

/// The kinds of monitors in the order of their configurations.
const KINDS: [(&str, List); 4] = [
    ("ServiceMonitor", |input| &mut input.service_monitors),
    ("PodMonitor", |input| &mut input.pod_monitors),
    ("Probe", |input| &mut input.probes),
    ("ScrapeConfig", |input| &mut input.scrape_configs),
];

/// Fields of a Prometheus that the configuration of a single monitor does not depend on.
const ELSEWHERE: &[&str] = &[
    "additionalAlertManagerConfigs",
    "additionalAlertRelabelConfigs",
    "additionalScrapeConfigs",
    "affinity",
    "alerting",
    "containers",
    "initContainers",
    "remoteRead",
    "remoteWrite",
    "ruleSelector",
    "storage",
    "thanos",
    "tracingConfig",
    "volumeMounts",
    "volumes",
];

impl<'a> World<'a> {
    fn monitors(&self) -> [&'a Objects; 4] {
        [self.service_monitors, self.pod_monitors, self.probes, self.scrape_configs]
    }
}

/// Whether two states of an object compile to the same: its status and the times of its fields' owners do not count.
fn is_same(old: &Value, new: &Value) -> bool {
    let metadata = |key: &str| old["metadata"][key] == new["metadata"][key];
    ["name", "namespace", "uid", "labels", "annotations"].into_iter().all(metadata) && old["spec"] == new["spec"]
}

fn holds_the_same(old: &Value, new: &Value) -> bool {
    ["data", "stringData", "binaryData"].into_iter().all(|key| old[key] == new[key])
}

/// Every text under the key `name`: whatever an object may refer to is named there.
fn names<'a>(value: &'a Value, into: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if key == "name" => drop(into.insert(text)),
                    Some(_) => {}
                    None => names(field, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        _ => {}
    }
}

/// The keys of what may be meant by names in some namespaces.
fn keys(values: &[&Value], namespaces: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    values.iter().for_each(|value| names(value, &mut found));
    found.iter().flat_map(|name| namespaces.iter().map(move |namespace| format!("{namespace}/{name}"))).collect()
}

/// Secrets and ConfigMaps as they were read.
#[derive(Default)]
struct Reads(BTreeMap<String, [Option<Arc<Value>>; 2]>);

impl Reads {
    fn look(world: World<'_>, key: &str) -> [Option<Arc<Value>>; 2] {
        [world.secrets.get(key).cloned(), world.config_maps.get(key).cloned()]
    }

    /// The keys under which something else is found now.
    fn changed(&mut self, world: World<'_>) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for (key, old) in &mut self.0 {
            let new = Self::look(world, key);
            let same = old.iter().zip(&new).all(|pair| match pair {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new) || holds_the_same(old, new),
                (old, new) => old.is_none() && new.is_none(),
            });
            if !same {
                changed.insert(key.clone());
            }
            *old = new;
        }
        changed
    }

    /// Puts what is found under these keys into an input, and remembers that it was read.
    fn give(&mut self, keys: &BTreeSet<String>, world: World<'_>, input: &mut Input) {
        input.secrets.clear();
        input.config_maps.clear();
        for key in keys {
            let [secret, map] = Self::look(world, key);
            input.secrets.extend(secret.as_deref().cloned());
            input.config_maps.extend(map.as_deref().cloned());
            if !self.0.contains_key(key) {
                self.0.insert(key.clone(), [secret, map]);
            }
        }
    }
}

/// What came of one monitor.
struct Entry {
    key: String,
    object: Arc<Value>,
    reads: BTreeSet<String>,
    verdict: Verdict,
    rejected: Vec<Rejection>,
    files: BTreeMap<String, String>,
    /// How many scrape configurations it has.
    configs: usize,
}

/// What all compilations of one Prometheus share.
#[derive(Default)]
struct Setting {
    prometheus: Value,
    /// The Prometheus without what single monitors do not depend on.
    slim: Value,
    fast_alerts: bool,
    namespaces: Vec<Arc<Value>>,
    input: Input,
}

impl Setting {
    fn is_current(&self, prometheus: &Value, world: World<'_>) -> bool {
        let namespace = |(old, new): (&Arc<Value>, &Arc<Value>)| {
            Arc::ptr_eq(old, new)
                || (object::name(old) == object::name(new) && old["metadata"]["labels"] == new["metadata"]["labels"])
        };
        self.fast_alerts == world.fast_alerts
            && is_same(&self.prometheus, prometheus)
            && self.namespaces.len() == world.namespaces.len()
            && self.namespaces.iter().zip(world.namespaces.values()).all(namespace)
    }

    fn new(prometheus: &Value, world: World<'_>) -> Self {
        let mut slim = prometheus.clone();
        if let Some(spec) = slim["spec"].as_object_mut() {
            spec.retain(|key, _| !ELSEWHERE.contains(&key.as_str()));
        }
        let namespaces: Vec<Arc<Value>> = world.namespaces.values().cloned().collect();
        let input = Input {
            namespaces: namespaces.iter().map(|namespace| (**namespace).clone()).collect(),
            fast_alerts: world.fast_alerts,
            ..Input::default()
        };
        Self { prometheus: prometheus.clone(), slim, fast_alerts: world.fast_alerts, namespaces, input }
    }
}

/// Compiles one Prometheus object again and again, and each time only what changed since the last.
#[derive(Default)]
pub struct Compiler {
    setting: Setting,
    reads: Reads,
    /// What the Prometheus object itself and its rules may read.
    own_reads: BTreeSet<String>,
    own_rejected: Vec<Rejection>,
    own_files: BTreeMap<String, String>,
    rules: Vec<(Arc<Value>, Verdict)>,
    entries: [Vec<Entry>; 4],
    compiled: Option<Compiled>,
}

impl Compiler {
    /// Brings the result up to date; whether anything of it may have changed.
    pub fn update(&mut self, prometheus: &Value, world: World<'_>) -> bool {
        let is_new = self.compiled.is_none() || !self.setting.is_current(prometheus, world);
        if is_new {
            *self = Self { setting: Setting::new(prometheus, world), ..Self::default() };
        }
        let touched = self.reads.changed(world);
        let own = is_new || !self.own_reads.is_disjoint(&touched) || !self.has_these_rules(world);
        let mut scrape_configs = match &mut self.compiled {
            Some(Compiled { config, .. }) if !own => take_list(&mut config["scrape_configs"]),
            _ => {
                let old = self.compiled.take().map(|mut old| take_list(&mut old.config["scrape_configs"])).unwrap_or_default();
                let monitors: usize = self.entries.iter().flatten().map(|entry| entry.configs).sum();
                let mut compiled = self.compile_own(world);
                let additional = take_list(&mut compiled.config["scrape_configs"]);
                self.compiled = Some(compiled);
                old.into_iter().take(monitors).chain(additional).collect()
            }
        }
        .into_iter();
        let mut changed = own;
        let mut list = Vec::with_capacity(scrape_configs.len() + 1);
        for (index, objects) in world.monitors().into_iter().enumerate() {
            let mut old = std::mem::take(&mut self.entries[index]).into_iter().peekable();
            let mut entries = Vec::with_capacity(objects.len());
            for (key, monitor) in objects {
                while let Some(gone) = old.next_if(|entry| entry.key < *key) {
                    scrape_configs.by_ref().take(gone.configs).for_each(drop);
                    changed = true;
                }
                match old.next_if(|entry| entry.key == *key) {
                    Some(mut entry) if entry.reads.is_disjoint(&touched) && entry.is_of(monitor) => {
                        list.extend(scrape_configs.by_ref().take(entry.configs));
                        entry.object = monitor.clone();
                        entries.push(entry);
                        continue;
                    }
                    Some(stale) => scrape_configs.by_ref().take(stale.configs).for_each(drop),
                    None => {}
                }
                changed = true;
                let (entry, configs) = self.compile_one(index, key, monitor, world);
                list.extend(configs);
                entries.push(entry);
            }
            for gone in old {
                scrape_configs.by_ref().take(gone.configs).for_each(drop);
                changed = true;
            }
            self.entries[index] = entries;
        }
        list.extend(scrape_configs);
        self.finish(list, changed);
        changed
    }

    /// The result of the last update.
    pub fn compiled(&self) -> Option<&Compiled> {
        self.compiled.as_ref()
    }

    /// What was made of every monitor and rule: its kind, the object, and the verdict.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, &Arc<Value>, &Verdict)> {
        let monitors = KINDS.iter().zip(&self.entries);
        let monitors =
            monitors.flat_map(|((kind, _), entries)| entries.iter().map(|entry| (*kind, &entry.object, &entry.verdict)));
        monitors.chain(self.rules.iter().map(|(rule, verdict)| ("PrometheusRule", rule, verdict)))
    }

    fn finish(&mut self, scrape_configs: Vec<Value>, changed: bool) {
        let Some(compiled) = &mut self.compiled else { return };
        compiled.config["scrape_configs"] = scrape_configs.into();
        if changed {
            let entries = || self.entries.iter().flatten();
            let rejected = entries().flat_map(|entry| &entry.rejected).chain(&self.own_rejected);
            compiled.rejected = rejected.cloned().collect();
            let files = entries().flat_map(|entry| &entry.files).chain(&self.own_files);
            compiled.files = files.map(|(name, text)| (name.clone(), text.clone())).collect();
        }
    }

    /// Whether the rules are those that were compiled; those of which only the status is another are taken over.
    fn has_these_rules(&mut self, world: World<'_>) -> bool {
        let same = |((old, _), new): (&(Arc<Value>, Verdict), &Arc<Value>)| Arc::ptr_eq(old, new) || is_same(old, new);
        if self.rules.len() != world.rules.len() || !self.rules.iter().zip(world.rules.values()).all(same) {
            return false;
        }
        for ((old, _), new) in self.rules.iter_mut().zip(world.rules.values()) {
            *old = new.clone();
        }
        true
    }

    /// Compiles everything but the monitors.
    fn compile_own(&mut self, world: World<'_>) -> Compiled {
        let prometheus = &self.setting.prometheus;
        let reads = keys(&[&prometheus["spec"]], &[object::namespace(prometheus)]);
        let input = &mut self.setting.input;
        self.reads.give(&reads, world, input);
        self.own_reads = reads;
        input.rules = world.rules.values().map(|rule| (**rule).clone()).collect();
        let compiled = compile(prometheus, input);
        let rejections: BTreeSet<&str> = compiled.rules.rejected.iter().map(|rejection| rejection.key.as_str()).collect();
        let verdict = |(key, rule): (&String, &Arc<Value>)| {
            let verdict = match selects(prometheus, "PrometheusRule", &input.namespaces, rule) {
                Err(_) => Verdict::Unselected,
                // The reason itself is only in the operator's log.
                Ok(()) if rejections.contains(key.as_str()) => Verdict::Rejected("invalid rule".to_owned()),
                Ok(()) => Verdict::Accepted,
            };
            (rule.clone(), verdict)
        };
        self.rules = world.rules.iter().map(verdict).collect();
        input.rules.clear();
        self.own_rejected = compiled.rejected.clone();
        self.own_files = compiled.files.clone();
        compiled
    }

    fn compile_one(&mut self, index: usize, key: &str, monitor: &Arc<Value>, world: World<'_>) -> (Entry, Vec<Value>) {
        let (kind, list) = KINDS[index];
        let Setting { slim, input, .. } = &mut self.setting;
        let mut entry = Entry {
            key: key.to_owned(),
            object: monitor.clone(),
            reads: BTreeSet::new(),
            verdict: Verdict::Unselected,
            rejected: Vec::new(),
            files: BTreeMap::new(),
            configs: 0,
        };
        if selects(slim, kind, &input.namespaces, monitor).is_err() {
            return (entry, Vec::new());
        }
        let namespaces = [object::namespace(monitor), object::namespace(slim)];
        entry.reads = keys(&[&monitor["spec"], &slim["spec"]], &namespaces);
        self.reads.give(&entry.reads, world, input);
        list(input).push((**monitor).clone());
        let mut compiled = compile(slim, input);
        list(input).clear();
        let configs = take_list(&mut compiled.config["scrape_configs"]);
        entry.configs = configs.len();
        entry.verdict = match compiled.rejected.first() {
            Some(rejection) => Verdict::Rejected(rejection.reason.clone()),
            None => Verdict::Accepted,
        };
        entry.rejected = compiled.rejected;
        entry.files = compiled.files;
        (entry, configs)
    }
}

impl Entry {
    fn is_of(&self, monitor: &Arc<Value>) -> bool {
        Arc::ptr_eq(&self.object, monitor) || is_same(&self.object, monitor)
    }
}

fn take_list(value: &mut Value) -> Vec<Value> {
    value.as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// Compiles one Alertmanager object again when something that it may read has changed.
#[derive(Default)]
pub struct AlertmanagerCompiler {
    setting: Setting,
    reads: Reads,
    configs: Vec<Arc<Value>>,
    compiled: Option<CompiledAlertmanager>,
}

impl AlertmanagerCompiler {
    /// Brings the result up to date; whether anything of it may have changed.
    pub fn update(&mut self, alertmanager: &Value, world: World<'_>) -> bool {
        let same = |(old, new): (&Arc<Value>, &Arc<Value>)| Arc::ptr_eq(old, new) || is_same(old, new);
        let configs = world.alertmanager_configs;
        let is_current = self.compiled.is_some()
            && self.setting.is_current(alertmanager, world)
            && self.configs.len() == configs.len()
            && self.configs.iter().zip(configs.values()).all(same)
            && self.reads.changed(world).is_empty();
        if is_current {
            return false;
        }
        let mut setting = Setting::new(alertmanager, world);
        let mut reads = Reads::default();
        let own = object::namespace(alertmanager);
        let mut all = keys(&[&alertmanager["spec"]], &[own]);
        let default = format!("alertmanager-{}", object::name(alertmanager));
        all.insert(format!("{own}/{}", alertmanager["spec"]["configSecret"].as_str().unwrap_or(&default)));
        all.insert(format!("{own}/{default}"));
        for config in configs.values() {
            all.append(&mut keys(&[&config["spec"]], &[object::namespace(config)]));
        }
        reads.give(&all, world, &mut setting.input);
        setting.input.alertmanager_configs = configs.values().map(|config| (**config).clone()).collect();
        let compiled = compile_alertmanager(alertmanager, &setting.input);
        setting.input = Input::default();
        *self = Self { setting, reads, configs: configs.values().cloned().collect(), compiled: Some(compiled) };
        true
    }

    /// The result of the last update.
    pub fn compiled(&self) -> Option<&CompiledAlertmanager> {
        self.compiled.as_ref()
    }
}

#[cfg(test)]
mod tests;
