//! What the operator says about objects that it leaves out.

use crate::compile::Rejection;

/// An Event about a rejected object; its type is `Warning`, its reason [`INVALID`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionEvent {
    /// The controller that reports it.
    pub controller: &'static str,
    /// What it was doing.
    pub action: &'static str,
    /// What it says.
    pub note: String,
}

/// The reason of every Event about a rejected object.
pub const INVALID: &str = "InvalidConfiguration";

/// The Event that tells of a rejection; none about a workload itself, whose conditions tell.
pub fn rejection_event(rejection: &Rejection) -> Option<RejectionEvent> {
    let Rejection { kind, key, reason } = rejection;
    let name = key.rsplit('/').next().unwrap_or(key);
    let because = "was rejected due to invalid configuration";
    Some(match kind.as_str() {
        "Prometheus" | "Alertmanager" => return None,
        "AlertmanagerConfig" => RejectionEvent {
            controller: "alertmanager-controller",
            action: "SelectingAlertmanagerConfigResources",
            note: format!("{kind} {name} {because}: {reason}"),
        },
        // What is wrong with a rule is only in the operator's log.
        "PrometheusRule" => RejectionEvent {
            controller: "prometheus-controller",
            action: "SelectingPrometheusRuleResources",
            note: format!("{kind} {name} {because}: invalid rule"),
        },
        _ => RejectionEvent {
            controller: "prometheus-controller",
            action: "SelectingConfigurationResources",
            note: format!("\"{key}\" {because}: {reason}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_words() {
        for (kind, expected) in [
            ("ServiceMonitor", Some("\"a/x\" was rejected due to invalid configuration: why")),
            ("ScrapeConfig", Some("\"a/x\" was rejected due to invalid configuration: why")),
            ("PrometheusRule", Some("PrometheusRule x was rejected due to invalid configuration: invalid rule")),
            ("AlertmanagerConfig", Some("AlertmanagerConfig x was rejected due to invalid configuration: why")),
            ("Prometheus", None),
        ] {
            let rejection = Rejection { kind: kind.to_owned(), key: "a/x".to_owned(), reason: "why".to_owned() };
            assert_eq!(rejection_event(&rejection).map(|event| event.note).as_deref(), expected);
        }
    }
}
