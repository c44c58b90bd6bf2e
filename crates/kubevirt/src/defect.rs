//! Defects that KubeVirt or client-go has had, as switches of the simulation: each does what the real one did, at the place where the
//! real one was. They are off unless a scenario asks for them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A defect. The name in files is the variant's in kebab-case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defect {
    /// Clients of KubeVirt's own resources are built before the counting hook is there: their requests are not counted
    /// (kubevirt#12096).
    ClientsBeforeHooks,
    /// Somebody else registered with client-go first: latencies and waits have no samples (kubevirt#14282).
    MetricsRegisteredTwice,
    /// Guests without an agent show addresses without names, each the same series: the page is an HTTP 500 (kubevirt#13346).
    AddressesWithoutNames,
    /// virt-handler's certificate is not there: each handshake fails (kubevirt#16255).
    CertificateMissing,
    /// Latencies take a LIST for a GET (kubevirt#12716).
    ListAsGet,
    /// Latencies have the URL as it is, with names and values in it (kubernetes#111750).
    UrlNotTemplated,
    /// Latencies have `/{prefix}` for every URL (maistra/istio-operator#1824).
    UrlCollapsed,
    /// Metrics of work queues are registered once, for the first queue (kubevirt#15533).
    QueuesRegisteredOnce,
    /// Work queues have no names, so they have no metrics (kubevirt#6012).
    QueuesWithoutNames,
    /// The work queue of a virt-operator that does not lead holds an item for ever (kubevirt#9675).
    DepthOnFollower,
    /// VMIs are counted without their phase (kubevirt#6412).
    PhaseUnknown,
    /// The `code` label of a request that failed is the error's text (kubernetes#25274).
    ErrorTextAsCode,
    /// Answers of 400 and more are not counted (kubernetes#18920).
    FailuresUncounted,
    /// The page has no Content-Type (prometheus#15485).
    NoContentType,
    /// Pages of VMs are collected one at a time; who comes meanwhile gets none of them (kubevirt#2826).
    OneCollection,
    /// A virt-controller that does not lead exports VMIs too (kubevirt#12209, kubevirt#17130).
    FollowerExports,
    /// Requests are counted for other names of components than their own (kubernetes/dns#200): the metric moved and nobody feeds it.
    RequestsUnfed,
    /// ServiceMonitor and rules are not made although monitoring is configured (kubevirt#18759).
    MonitorNotMade,
    /// The ServiceMonitor goes into a fixed namespace, whatever `monitorNamespace` says (kubevirt#3086).
    MonitorNamespaceIgnored,
}

impl Defect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ClientsBeforeHooks,
        Self::MetricsRegisteredTwice,
        Self::AddressesWithoutNames,
        Self::CertificateMissing,
        Self::ListAsGet,
        Self::UrlNotTemplated,
        Self::UrlCollapsed,
        Self::QueuesRegisteredOnce,
        Self::QueuesWithoutNames,
        Self::DepthOnFollower,
        Self::PhaseUnknown,
        Self::ErrorTextAsCode,
        Self::FailuresUncounted,
        Self::NoContentType,
        Self::OneCollection,
        Self::FollowerExports,
        Self::RequestsUnfed,
        Self::MonitorNotMade,
        Self::MonitorNamespaceIgnored,
    ];

    /// The name in files.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// The defect of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|defect| defect.name() == name)
    }
}

/// Which defects there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defects(BTreeSet<Defect>);

impl Defects {
    /// Whether there is this one.
    pub fn has(&self, defect: Defect) -> bool {
        self.0.contains(&defect)
    }
}

impl FromIterator<Defect> for Defects {
    fn from_iter<T: IntoIterator<Item = Defect>>(defects: T) -> Self {
        Self(defects.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_has_a_name_of_its_own() {
        let names: BTreeSet<String> = Defect::ALL.iter().map(|defect| defect.name()).collect();
        assert_eq!(names.len(), Defect::ALL.len());
        assert_eq!(Defect::named("clients-before-hooks"), Some(Defect::ClientsBeforeHooks));
        assert_eq!(Defect::named("nonsense"), None);
    }
}
