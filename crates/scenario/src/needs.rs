//! What a scenario needs of the lab that it runs on, beyond what every lab has.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::{Check, Placed, Scenario, State, Step, Wait};

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
    /// What the release that runs there has, by heart.
    Catalogue,
}

impl Need {
    /// The need in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Faults => "faults on the Kubernetes API",
            Self::FastAlerts => "alerts without pending times (alerts.fast)",
            Self::Ledger => "a ledger of every request",
            Self::Notifications => "a receiver of Alertmanager's notifications",
            Self::Defects => "components with defects, which are simulated (given.defects)",
            Self::Catalogue => "known list of what the release there has",
            Self::Refusals => "refused connections (a proxy can only reset what the kernel has accepted)",
        }
    }

    /// Whether nothing of the scenario means anything without it; the others are a line each that is left out.
    pub fn is_essential(self) -> bool {
        match self {
            Self::Faults | Self::FastAlerts | Self::Refusals | Self::Defects => true,
            Self::Ledger | Self::Notifications | Self::Catalogue => false,
        }
    }
}

impl Scenario {
    /// What it needs.
    pub fn needs(&self) -> BTreeSet<Need> {
        let mut needs = BTreeSet::new();
        for Placed { value: step, .. } in &self.steps {
            match step {
                Step::Fault(rule) => {
                    needs.insert(Need::Faults);
                    if rule.effect.phase() == faults::Phase::Dial {
                        needs.insert(Need::Refusals);
                    }
                }
                Step::ClearFault(_) | Step::ClearFaults => {
                    needs.insert(Need::Faults);
                }
                Step::Wait(Wait { state: State::FaultSpent(_), .. }) => {
                    needs.insert(Need::Faults);
                }
                Step::Wait(Wait { state: State::Holds(check), .. }) => needs.extend(of_check(check)),
                Step::Wait(Wait { state: State::Up, .. }) | Step::Delete(_) | Step::Apply(_) => {}
            }
        }
        needs.extend(self.expect.iter().filter_map(|expectation| of_check(&expectation.value.check)));
        if !self.given.defects.is_empty() {
            needs.insert(Need::Defects);
        }
        if self.given.fast_alerts {
            needs.insert(Need::FastAlerts);
        }
        if self.reconcile.is_some() {
            needs.insert(Need::Ledger);
        }
        needs
    }
}

/// What an expectation needs.
pub(crate) fn of_check(check: &Check) -> Option<Need> {
    match check {
        Check::Notification(_) => Some(Need::Notifications),
        Check::Contract(_) => Some(Need::Catalogue),
        Check::Query(_)
        | Check::Targets(_)
        | Check::Alerts(_)
        | Check::Rules(_)
        | Check::Logs(_)
        | Check::Why(_)
        | Check::Page(_)
        | Check::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::scenario;

    #[test]
    fn needs_are_read_off_a_scenario() {
        let of = |text: &str| -> Vec<Need> { scenario(&format!("description: d\n{text}")).needs().into_iter().collect() };
        let armed = "{fault: {name: a, match: {}, effect: {reset: {}}}}";
        assert_eq!(of("steps: [{wait: {up: true}}]"), []);
        assert_eq!(of(&format!("steps: [{armed}, {{clearFaults: true}}]\nreconcile: true")), [Need::Faults, Need::Ledger]);
        assert_eq!(
            of(&format!("steps: [{armed}, {{wait: {{faultSpent: a}}}}]\ngiven: {{alerts: {{fast: true}}}}")),
            [Need::Faults, Need::FastAlerts]
        );
        assert_eq!(
            of("steps: [{fault: {name: a, match: {}, effect: {refuse: {}}}}, {wait: {up: true}}]"),
            [Need::Faults, Need::Refusals]
        );
        assert_eq!(of("steps: [{wait: {up: true}}]\nexpect: [{notification: {alert: VirtAPIDown}}]"), [Need::Notifications]);
        assert_eq!(of("steps: [{wait: {up: true}}]\nexpect: [{contract: {reads: [up]}}]"), [Need::Catalogue]);
    }
}
