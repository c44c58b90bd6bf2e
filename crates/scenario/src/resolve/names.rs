//! Names that a scenario uses: what a release has of them, and what the scenario's own steps bring besides.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Resolver;
use crate::catalogue::{Reads, meant};
use crate::file::StepFile;
use crate::model::Releases;
use crate::place::{Located, Place};
use crate::word::{Pattern, Written};

/// What the steps of a scenario apply.
#[derive(Default)]
pub(super) struct Brought {
    /// Names of recording rules and alerts.
    rules: BTreeSet<String>,
    /// Whether targets or labels come of it that no release tells of.
    relabels: bool,
    /// Kinds of custom resources, as `(group, plural)`.
    definitions: BTreeSet<(String, String)>,
}

/// Kinds whose objects decide over targets and labels.
const RELABELLING: [&str; 5] = ["ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig", "Prometheus"];

impl Brought {
    pub(super) fn by<'a>(steps: impl Iterator<Item = &'a Located<StepFile>>) -> Self {
        let mut brought = Self::default();
        for object in steps.filter_map(|step| step.value.apply.as_ref()) {
            let kind = object["kind"].as_str().unwrap_or_default();
            brought.relabels |= RELABELLING.contains(&kind);
            if kind == "PrometheusRule" {
                let groups = object["spec"]["groups"].as_array().into_iter().flatten();
                let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
                let names = rules.filter_map(|rule| rule["record"].as_str().or(rule["alert"].as_str()));
                brought.rules.extend(names.map(str::to_owned));
            }
            if kind == "CustomResourceDefinition" {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                brought.definitions.insert((text(&object["spec"]["group"]), text(&object["spec"]["names"]["plural"])));
            }
        }
        brought
    }
}

/// Whether a metric could be KubeVirt's; what else there is a release does not say.
fn is_kubevirts(metric: &str) -> bool {
    metric.contains("kubevirt")
}

impl Resolver<'_> {
    /// A text with a release's words in place of `{namespace}` and `{requests}`.
    fn filled(&self, release: &str, text: &str) -> String {
        let (namespace, requests) = self.catalogue.words(release);
        text.replace("{requests}", &requests).replace("{namespace}", &namespace)
    }

    /// Checks a query: its syntax and types on each release, its metrics on all of them together, its labels.
    pub(super) fn query(
        &mut self,
        at: Option<Place>,
        expression: &str,
        labels: &BTreeMap<String, Written<Pattern>>,
        on: &Releases,
    ) {
        let mut missing: Option<Vec<(String, String)>> = None;
        let mut result_labels: Option<BTreeSet<String>> = Some(BTreeSet::new());
        for release in on.all() {
            let Reads { missing: lacking, findings, labels } =
                match self.catalogue.reads(release, &self.filled(release, expression)) {
                    Ok(reads) => reads,
                    Err(why) => return self.problem(at, format!("invalid PromQL {expression:?}: {why}")),
                };
            // A metric that only some of the releases have is what a scenario may be about.
            missing = Some(match missing {
                None => lacking,
                Some(before) => before.into_iter().filter(|(name, _)| lacking.iter().any(|(other, _)| other == name)).collect(),
            });
            if !self.brought.relabels && on.all().len() == 1 {
                for finding in findings {
                    self.problem(at, format!("{finding} (KubeVirt {release})"));
                }
            }
            result_labels = result_labels.zip(labels).map(|(mut all, some)| {
                all.extend(some);
                all
            });
        }
        for (name, why) in missing.unwrap_or_default() {
            if is_kubevirts(&name) && !self.brought.rules.contains(&name) && !self.any_release_has(&name) {
                self.problem(at, why);
            }
        }
        if let Some(known) = result_labels.filter(|known| !self.brought.relabels && !known.is_empty()) {
            for (label, written) in labels {
                if !known.contains(label) && label != "__name__" {
                    let near = meant(label, known.iter().map(String::as_str));
                    self.problem(written.at, format!("the result has no label {label}{near}"));
                }
            }
        }
    }

    /// Checks the syntax and types of an expression alone.
    pub(super) fn syntax(&mut self, at: Option<Place>, expression: &str, on: &Releases) {
        for release in on.all() {
            if let Err(why) = self.catalogue.reads(release, &self.filled(release, expression)) {
                return self.problem(at, format!("invalid PromQL {expression:?}: {why}"));
            }
        }
    }

    /// Whether any release that the scenario runs on, in whichever variant, has a metric.
    fn any_release_has(&self, metric: &str) -> bool {
        self.releases.iter().any(|release| self.catalogue.metrics(release).contains(metric))
    }

    /// Checks a metric of a component's page, and the labels that are asked of it.
    pub(super) fn metric(&mut self, metric: &Written<crate::word::Text>, labels: &BTreeMap<String, Written<Pattern>>) {
        let name = &metric.text;
        if is_kubevirts(name) && !self.any_release_has(name) {
            let known: BTreeSet<String> = self.releases.iter().flat_map(|release| self.catalogue.metrics(release)).collect();
            let near = meant(name, known.iter().map(String::as_str));
            let releases = self.releases.join(", ");
            return self.problem(metric.at, format!("KubeVirt {releases} has no metric {name}{near}"));
        }
        let of_releases: Vec<BTreeSet<String>> =
            self.releases.iter().filter_map(|release| self.catalogue.labels(release, name)).collect();
        if of_releases.is_empty() {
            return;
        }
        let known: BTreeSet<&String> = of_releases.iter().flatten().collect();
        for (label, written) in labels {
            if !known.contains(label) && !matches!(label.as_str(), "le" | "quantile") {
                let near = meant(label, known.iter().map(|name| name.as_str()));
                self.problem(written.at, format!("{name} has no label {label}{near}"));
            }
        }
    }

    /// Checks the name of a rule, or a pattern of names; alerts of the scenario's own rules and of kube-prometheus are known, too.
    pub(super) fn rule(&mut self, at: Option<Place>, pattern: &str) {
        let mut known: BTreeSet<String> = self.releases.iter().flat_map(|release| self.catalogue.rules(release)).collect();
        known.extend(self.brought.rules.iter().cloned());
        if known.is_empty() || known.iter().any(|name| faults::glob(pattern, name)) {
            return;
        }
        let near = meant(pattern, known.iter().map(String::as_str));
        self.problem(at, format!("there is no rule {pattern:?} in KubeVirt {}{near}", self.releases.join(", ")));
    }

    /// Checks a kind of objects.
    pub(super) fn resource(&mut self, at: Option<Place>, group: &str, plural: &str) {
        let known = self.catalogue.resources();
        let wanted = (group.to_owned(), plural.to_owned());
        if known.contains(&wanted) || self.brought.definitions.contains(&wanted) {
            return;
        }
        let shown = |group: &str, plural: &str| if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let of_other_group: Vec<String> =
            known.iter().filter(|(_, name)| name == plural).map(|(group, name)| shown(group, name)).collect();
        let advice = if of_other_group.is_empty() {
            let plurals: BTreeSet<&str> = known.iter().map(|(_, name)| name.as_str()).collect();
            meant(plural, plurals)
        } else {
            format!("; there is {}", of_other_group.join(", "))
        };
        self.problem(at, format!("there is no resource {}{advice}", shown(group, plural)));
    }
}
