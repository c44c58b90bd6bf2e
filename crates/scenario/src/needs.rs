//! What a scenario needs of the lab that it runs on, beyond what every lab has.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::file::{Scenario, Wait};

/// Something that not every provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Need {
    /// Faults on the Kubernetes API.
    Faults,
    /// Alerts without pending times.
    FastAlerts,
    /// The ledger of every request.
    Ledger,
    /// What Alertmanager has sent.
    Notifications,
    /// Connections that are refused before they are made.
    Refusals,
    /// Components with defects.
    Defects,
}

impl Need {
    /// The need in words.
    pub fn told(self) -> &'static str {
        match self {
            Self::Faults => "faults on the Kubernetes API",
            Self::FastAlerts => "alerts without pending times (alerts.fast)",
            Self::Ledger => "a ledger of every request",
            Self::Notifications => "a receiver of Alertmanager's notifications",
            Self::Defects => "components with defects, which are simulated (given.defects)",
            Self::Refusals => "refused connections (a proxy can only reset what the kernel has accepted)",
        }
    }

    /// Whether nothing of the scenario means anything without it; the others are a line each that is left out.
    pub fn is_essential(self) -> bool {
        matches!(self, Self::Faults | Self::FastAlerts | Self::Refusals | Self::Defects)
    }
}

impl Scenario {
    /// What it needs.
    pub fn needs(&self) -> BTreeSet<Need> {
        let mut needs = BTreeSet::new();
        let told = |wait: &Wait| wait.notification.is_some();
        for step in &self.steps {
            let of_faults = step.fault.is_some() || step.clear_fault.is_some() || step.clear_faults.is_some();
            if of_faults || step.wait.as_ref().is_some_and(|wait| wait.fault_spent.is_some()) {
                needs.insert(Need::Faults);
            }
            if step.fault.as_ref().is_some_and(|fault| fault.effect.refuse.is_some() || fault.effect.drop.is_some()) {
                needs.insert(Need::Refusals);
            }
            if step.wait.as_ref().is_some_and(told) {
                needs.insert(Need::Notifications);
            }
        }
        if !self.given.defects.is_empty() {
            needs.insert(Need::Defects);
        }
        if self.given.alerts.fast {
            needs.insert(Need::FastAlerts);
        }
        if self.reconcile {
            needs.insert(Need::Ledger);
        }
        if self.expect.iter().any(|expectation| expectation.notification.is_some()) {
            needs.insert(Need::Notifications);
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_off_a_scenario() {
        let of = |text: &str| -> Vec<Need> {
            let text = format!("description: d\n{text}");
            let scenario: Scenario = serde_yaml::from_str(&text).unwrap();
            scenario.needs().into_iter().collect()
        };
        assert_eq!(of("steps: [{wait: {up: true}}]"), []);
        assert_eq!(of("steps: [{clearFaults: true}]\nreconcile: true"), [Need::Faults, Need::Ledger]);
        assert_eq!(of("steps: [{wait: {faultSpent: a}}]\ngiven: {alerts: {fast: true}}"), [Need::Faults, Need::FastAlerts]);
        assert_eq!(of("steps: [{fault: {name: a, match: {}, effect: {refuse: {}}}}]"), [Need::Faults, Need::Refusals]);
        assert_eq!(of("steps: []\nexpect: [{notification: {alert: A}}]"), [Need::Notifications]);
    }
}
