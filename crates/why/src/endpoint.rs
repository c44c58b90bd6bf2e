//! Monitors' endpoints, and what they would lead to.

use kubeapi::{LabelSelector, object};
use serde_json::Value;

use crate::facts::Facts;
use crate::question::MonitorKind;

/// A pod that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Focus<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    /// Its port that has the metric.
    pub(crate) port: u16,
}

/// A monitor's endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint<'a> {
    pub(crate) kind: MonitorKind,
    pub(crate) monitor: &'a Value,
    pub(crate) index: usize,
}

impl<'a> Endpoint<'a> {
    /// All endpoints of a monitor; one for kinds that have no list of them.
    pub(crate) fn of(kind: MonitorKind, monitor: &'a Value) -> Vec<Self> {
        let count = match Self::list(kind) {
            Some(list) => monitor["spec"][list].as_array().map_or(0, Vec::len),
            None => 1,
        };
        (0..count.max(1)).map(|index| Self { kind, monitor, index }).collect()
    }

    fn list(kind: MonitorKind) -> Option<&'static str> {
        match kind {
            MonitorKind::ServiceMonitor => Some("endpoints"),
            MonitorKind::PodMonitor => Some("podMetricsEndpoints"),
            MonitorKind::Probe | MonitorKind::ScrapeConfig => None,
        }
    }

    /// The name of its job in the configuration.
    pub(crate) fn job(self) -> String {
        let (namespace, name) = (object::namespace(self.monitor), object::name(self.monitor));
        match Self::list(self.kind) {
            Some(_) => format!("{}/{namespace}/{name}/{}", self.kind.job(), self.index),
            None => format!("{}/{namespace}/{name}", self.kind.job()),
        }
    }

    pub(crate) fn spec(self) -> &'a Value {
        match Self::list(self.kind) {
            Some(list) => &self.monitor["spec"][list][self.index],
            None => &self.monitor["spec"],
        }
    }

    /// A field of the endpoint, with its path.
    pub(crate) fn path(self, field: &str) -> String {
        match Self::list(self.kind) {
            Some(list) => format!("spec.{list}[{}].{field}", self.index),
            None => format!("spec.{field}"),
        }
    }

    /// Whether it names no port.
    pub(crate) fn takes_every_port(self) -> bool {
        let spec = self.spec();
        let names =
            |field: &str| spec[field].as_str().is_some_and(|name| !name.is_empty()) || spec[field].as_i64().unwrap_or(0) != 0;
        Self::list(self.kind).is_some() && !["port", "targetPort", "portNumber"].into_iter().any(names)
    }

    pub(crate) fn object(self) -> String {
        format!("{} {}", self.kind.name(), object::key(self.monitor))
    }

    /// The namespaces in which it looks; nothing for all.
    pub(crate) fn namespaces(self, prometheus: &Value) -> Option<Vec<&'a str>> {
        let own = vec![object::namespace(self.monitor)];
        let selector = &self.monitor["spec"]["namespaceSelector"];
        if prometheus["spec"]["ignoreNamespaceSelectors"] == true {
            return Some(own);
        }
        if selector["any"] == true {
            return None;
        }
        let names: Vec<&str> = selector["matchNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        Some(if names.is_empty() { own } else { names })
    }

    pub(crate) fn looks_into(self, prometheus: &Value, namespace: &str) -> bool {
        self.namespaces(prometheus).is_none_or(|names| names.contains(&namespace))
    }

    pub(crate) fn selector(self) -> LabelSelector {
        LabelSelector::from_object(&self.monitor["spec"]["selector"]).unwrap_or_default()
    }

    /// What it selects of Services (ServiceMonitor) or pods (PodMonitor).
    pub(crate) fn matched(self, facts: &'a Facts) -> Vec<&'a Value> {
        let selector = self.selector();
        self.candidates(facts).iter().filter(|found| self.takes(facts, &selector, found)).collect()
    }

    fn takes(self, facts: &Facts, selector: &LabelSelector, found: &Value) -> bool {
        self.looks_into(&facts.prometheus, object::namespace(found)) && selector.matches(&found["metadata"]["labels"])
    }

    fn candidates(self, facts: &'a Facts) -> &'a [Value] {
        if self.kind == MonitorKind::PodMonitor { &facts.pods } else { &facts.services }
    }

    /// Whether it leads to a pod, if all its links hold.
    pub(crate) fn aims_at(self, facts: &Facts, pod: &Value) -> bool {
        match self.kind {
            MonitorKind::ServiceMonitor => self.matched(facts).into_iter().any(|service| leads_to(service, pod)),
            MonitorKind::PodMonitor => self.takes(facts, &self.selector(), pod),
            MonitorKind::Probe | MonitorKind::ScrapeConfig => false,
        }
    }
}

/// Whether a Service has a pod behind it.
pub(crate) fn leads_to(service: &Value, pod: &Value) -> bool {
    let selector = LabelSelector::from_map(&service["spec"]["selector"]);
    object::namespace(service) == object::namespace(pod) && !selector.is_empty() && selector.matches(&pod["metadata"]["labels"])
}

/// The monitoring objects of a kind.
pub(crate) fn monitors(facts: &Facts, kind: MonitorKind) -> &[Value] {
    match kind {
        MonitorKind::ServiceMonitor => &facts.input.service_monitors,
        MonitorKind::PodMonitor => &facts.input.pod_monitors,
        MonitorKind::Probe => &facts.input.probes,
        MonitorKind::ScrapeConfig => &facts.input.scrape_configs,
    }
}
