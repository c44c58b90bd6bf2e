//! Which objects a Prometheus selects, and why not the others (facts/kube-prometheus.md §3.1).

use kubeapi::{LabelSelector, object};
use serde_json::Value;

/// Why a Prometheus does not select an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unselected {
    /// The selector of its kind is null, which selects nothing.
    NoSelector {
        /// The field of the Prometheus object.
        field: String,
    },
    /// Its labels do not fit.
    Labels {
        /// The field of the Prometheus object.
        field: String,
        /// The first requirement that is not met, as a query writes it.
        requirement: String,
        /// The label that it is about.
        key: String,
        /// What the object has there.
        found: Option<String>,
    },
    /// The namespace selector is null, which means the Prometheus' own namespace, and the object is in another.
    OtherNamespace {
        /// The field of the Prometheus object.
        field: String,
    },
    /// The labels of its namespace do not fit.
    NamespaceLabels {
        /// The field of the Prometheus object.
        field: String,
        /// The first requirement that is not met.
        requirement: String,
        /// The label that it is about.
        key: String,
        /// What the namespace has there.
        found: Option<String>,
    },
    /// A selector cannot be read.
    Unreadable {
        /// The field of the Prometheus object.
        field: String,
        /// Why.
        why: String,
    },
}

/// The beginning of the selectors' names for a kind of monitoring object: `serviceMonitor` for `serviceMonitorSelector`.
pub(crate) fn prefix(kind: &str) -> &'static str {
    match kind {
        "PodMonitor" => "podMonitor",
        "Probe" => "probe",
        "ScrapeConfig" => "scrapeConfig",
        "PrometheusRule" => "rule",
        "AlertmanagerConfig" => "alertmanagerConfig",
        _ => "serviceMonitor",
    }
}

/// Whether a Prometheus selects an object of a kind, by its labels and those of its namespace.
///
/// # Errors
/// Why it does not.
pub fn selects(prometheus: &Value, kind: &str, namespaces: &[Value], candidate: &Value) -> Result<(), Unselected> {
    let prefix = prefix(kind);
    let (field, namespace_field) = (format!("{prefix}Selector"), format!("{prefix}NamespaceSelector"));
    let spec = &prometheus["spec"];
    if spec[&field].is_null() {
        return Err(Unselected::NoSelector { field });
    }
    let read = |field: &String| {
        let unreadable = |error: kubeapi::SelectorError| Unselected::Unreadable { field: field.clone(), why: error.0 };
        LabelSelector::from_object(&spec[field]).map_err(unreadable)
    };
    if let Some(unmet) = read(&field)?.unmet(&candidate["metadata"]["labels"]) {
        return Err(Unselected::Labels { field, requirement: unmet.requirement, key: unmet.key, found: unmet.found });
    }
    let namespace = object::namespace(candidate);
    if spec[&namespace_field].is_null() {
        let own = namespace == object::namespace(prometheus);
        return if own { Ok(()) } else { Err(Unselected::OtherNamespace { field: namespace_field }) };
    }
    let by_labels = read(&namespace_field)?;
    let known = namespaces.iter().find(|known| object::name(known) == namespace);
    let unmet = match known {
        Some(known) => by_labels.unmet(&known["metadata"]["labels"]),
        None => by_labels.unmet(&Value::Null),
    };
    match unmet {
        _ if known.is_none() => Err(Unselected::OtherNamespace { field: namespace_field }),
        None => Ok(()),
        Some(unmet) => Err(Unselected::NamespaceLabels {
            field: namespace_field,
            requirement: unmet.requirement,
            key: unmet.key,
            found: unmet.found,
        }),
    }
}

/// The objects of a kind that a Prometheus selects, in order of their names.
pub(crate) fn select<'a>(prometheus: &Value, kind: &str, namespaces: &[Value], objects: &'a [Value]) -> Vec<&'a Value> {
    let mut selected: Vec<&Value> =
        objects.iter().filter(|candidate| selects(prometheus, kind, namespaces, candidate).is_ok()).collect();
    selected.sort_by_key(|candidate| object::key(candidate));
    selected
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_keeps_an_object_out_is_named() {
        let namespaces = [json!({"metadata": {"name": "a", "labels": {"team": "x"}}})];
        let monitor = json!({"metadata": {"name": "m", "namespace": "a", "labels": {"app": "web"}}});
        let found = |spec: Value| {
            let prometheus = json!({"metadata": {"name": "k8s", "namespace": "monitoring"}, "spec": spec});
            selects(&prometheus, "ServiceMonitor", &namespaces, &monitor)
        };
        let labels = |requirement: &str, key: &str, found: Option<&str>| Unselected::Labels {
            field: "serviceMonitorSelector".to_owned(),
            requirement: requirement.to_owned(),
            key: key.to_owned(),
            found: found.map(str::to_owned),
        };
        assert_eq!(found(json!({})), Err(Unselected::NoSelector { field: "serviceMonitorSelector".to_owned() }));
        let by =
            |labels: Value| json!({"serviceMonitorSelector": {"matchLabels": labels}, "serviceMonitorNamespaceSelector": {}});
        assert_eq!(found(by(json!({"release": "kp"}))), Err(labels("release=kp", "release", None)));
        assert_eq!(found(by(json!({"app": "db"}))), Err(labels("app=db", "app", Some("web"))));
        assert_eq!(found(by(json!({"app": "web"}))), Ok(()));
        let own = json!({"serviceMonitorSelector": {}});
        assert_eq!(found(own), Err(Unselected::OtherNamespace { field: "serviceMonitorNamespaceSelector".to_owned() }));
        let team = json!({"serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {"matchLabels": {"team": "y"}}});
        assert!(matches!(found(team), Err(Unselected::NamespaceLabels { requirement, .. }) if requirement == "team=y"));
    }
}
