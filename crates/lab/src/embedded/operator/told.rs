//! What selected objects are told: Events about those that were left out, and bindings in the status of all.

use std::collections::BTreeMap;

use apiserver::Client;
use cluster::{Report, report_event};
use kubeapi::object;
use operator::{Compiler, Rejection, Verdict, bindings, rejection_event};
use serde_json::{Value, json};

use super::Informers;

/// The kinds that have bindings.
const BOUND: [&str; 5] = ["ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig", "PrometheusRule"];

/// What was told about each object that is left out, by its kind and key. An object that is used again is forgotten, so that it is told
/// again when it is broken anew.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(String, String), String>);

impl Told {
    pub(super) fn tell(&mut self, client: &Client, owner: &Value, informers: &Informers, rejected: &[&Rejection]) {
        let mut now = BTreeMap::new();
        for rejection in rejected {
            let place = (rejection.kind.clone(), rejection.key.clone());
            let is_new = self.0.get(&place) != Some(&rejection.reason);
            now.insert(place, rejection.reason.clone());
            let about = informers.of(&rejection.kind).and_then(|(_, informer)| informer.get(&rejection.key));
            if let (true, Some(about), Some(event)) = (is_new, about, rejection_event(rejection)) {
                tracing::warn!(kind = rejection.kind, key = rejection.key, reason = rejection.reason, "an object is left out");
                report_event(
                    client,
                    &Report {
                        regarding: about,
                        related: owner,
                        controller: event.controller,
                        action: event.action,
                        reason: operator::INVALID,
                        note: &event.note,
                    },
                );
            }
        }
        self.0 = now;
    }
}

/// Writes an object's bindings after a Prometheus has looked at it, where they change; whether that could be done.
fn write(client: &Client, kind: &str, about: &Value, prometheus: (&str, &str), verdict: &Verdict, informers: &Informers) -> bool {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (Some(bindings), Some((gr, _))) = (bindings(about, prometheus, verdict, &now), informers.of(kind)) else { return true };
    // The version guards the binding of another Prometheus that was written meanwhile.
    let patch = json!({
        "metadata": {"resourceVersion": about["metadata"]["resourceVersion"]}, "status": {"bindings": bindings},
    });
    match client.merge(gr, object::namespace(about), object::name(about), "status", &patch) {
        Ok(_) => true,
        Err(status) if status.code == 404 => true,
        Err(status) => {
            tracing::debug!(%status, kind, key = object::key(about), "cannot write a binding");
            false
        }
    }
}

/// Brings the bindings of all objects up to date with what a Prometheus made of them; whether that could be done.
pub(super) fn bind(client: &Client, prometheus: &Value, compiler: &Compiler, informers: &Informers) -> bool {
    let of = (object::namespace(prometheus), object::name(prometheus));
    let mut done = true;
    for (kind, about, verdict) in compiler.verdicts() {
        done &= write(client, kind, about, of, verdict, informers);
    }
    done
}

/// Removes the bindings of a Prometheus that is gone.
pub(super) fn unbind(client: &Client, prometheus: (&str, &str), informers: &Informers) {
    for kind in BOUND {
        let Some((_, informer)) = informers.of(kind) else { continue };
        for about in informer.objects() {
            write(client, kind, about, prometheus, &Verdict::Unselected, informers);
        }
    }
}
