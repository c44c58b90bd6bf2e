//! Expectations, each of exactly one kind and with a subject that exists.

use std::collections::BTreeMap;

use super::Resolver;
use super::steps::One;
use crate::file::{
    AlertsExpectedFile, ContractFile, CountFile, ExpectationFile, LogsFile, NotificationFile, ObjectsFile, PageFile, QueryFile,
    RulesFile, TargetsFile, WhyFile,
};
use crate::model::{
    AlertCheck, Check, ContractCheck, Expectation, LogCheck, NotificationCheck, ObjectCheck, PageCheck, Placed, QueryCheck,
    Releases, RuleCheck, TargetCheck, WhyCheck,
};
use crate::place::{Located, Place};
use crate::releases::same;
use crate::word::{AlertState, LabelPatterns, NotificationStatus, Pattern, RuleHealth, Text, Written};

/// What is expected, as it was written.
pub(super) enum Kind {
    Query(QueryFile),
    Targets(TargetsFile),
    Alerts(AlertsExpectedFile),
    Notification(NotificationFile),
    Rules(RulesFile),
    Logs(LogsFile),
    Why(WhyFile),
    Page(PageFile),
    Object(ObjectsFile),
    Contract(ContractFile),
}

impl Resolver<'_> {
    pub(super) fn expectations(
        &mut self,
        written: Vec<Located<ExpectationFile>>,
        releases: &Releases,
    ) -> Vec<Placed<Expectation>> {
        let mut expectations = Vec::new();
        for Located { at, value } in written {
            if let Some(expectation) = self.expectation(at, value, releases) {
                expectations.push(Placed { at, value: expectation });
            }
        }
        expectations
    }

    fn expectation(&mut self, at: Option<Place>, written: ExpectationFile, releases: &Releases) -> Option<Expectation> {
        let ExpectationFile {
            query,
            targets,
            alerts,
            notification,
            rules,
            logs,
            why,
            page,
            object,
            contract,
            within,
            hold,
            only,
        } = written;
        let (within, hold) = (self.read_some(within.as_ref()), self.read_some(hold.as_ref()));
        let mut named = Vec::new();
        for release in &only {
            match self.releases.iter().find(|known| same(known, &release.value)) {
                Some(known) => named.push(known.clone()),
                None => {
                    let message = format!(
                        "the scenario does not run on KubeVirt {}, so this is never looked at; it runs on {}",
                        release.value,
                        self.releases.join(", ")
                    );
                    self.problem(release.at, message);
                }
            }
        }
        let one = One::of([
            query.map(Kind::Query),
            targets.map(Kind::Targets),
            alerts.map(Kind::Alerts),
            notification.map(Kind::Notification),
            rules.map(Kind::Rules),
            logs.map(Kind::Logs),
            why.map(Kind::Why),
            page.map(Kind::Page),
            object.map(Kind::Object),
            contract.map(Kind::Contract),
        ]);
        let One::Just(kind) = one else {
            let all = "query, targets, alerts, notification, rules, logs, why, page, object, contract";
            self.problem(at, format!("an expectation needs one of {all}"));
            return None;
        };
        let on = if named.is_empty() { releases.clone() } else { Releases::Each(named.clone()) };
        Some(Expectation { check: self.check(at, kind, &on)?, within, hold, only: named })
    }

    /// What is expected; nothing, and a problem, where it could not fail or cannot be.
    pub(super) fn check(&mut self, at: Option<Place>, written: Kind, on: &Releases) -> Option<Check> {
        match written {
            Kind::Query(query) => self.query_check(query, on).map(Check::Query),
            Kind::Targets(targets) => self.target_check(at, &targets).map(Check::Targets),
            Kind::Alerts(alerts) => self.alert_check(at, alerts).map(Check::Alerts),
            Kind::Notification(notification) => self.notification_check(notification).map(Check::Notification),
            Kind::Rules(rules) => self.rule_check(at, rules).map(Check::Rules),
            Kind::Logs(logs) => self.log_check(at, logs).map(Check::Logs),
            Kind::Why(why) => {
                let (ask, contains) = (self.read(&why.ask), self.read(&why.contains));
                Some(Check::Why(WhyCheck { ask: ask?.0, contains: contains?.0 }))
            }
            Kind::Page(page) => self.page_check(at, page).map(Check::Page),
            Kind::Object(object) => self.object_check(at, object).map(Check::Object),
            Kind::Contract(contract) => self.contract_check(at, contract, on).map(Check::Contract),
        }
    }

    fn patterns(&mut self, written: &BTreeMap<String, Written<Pattern>>) -> LabelPatterns {
        written.iter().filter_map(|(name, pattern)| Some((name.clone(), self.read(pattern)?))).collect()
    }

    /// Texts of a list, all of which must say something.
    fn texts(&mut self, written: &[Written<Text>]) -> Vec<String> {
        written.iter().filter_map(|text| self.read(text)).map(|text| text.0).collect()
    }

    fn query_check(&mut self, written: QueryFile, on: &Releases) -> Option<QueryCheck> {
        let QueryFile { expr, equals, at_least, at_most, series, labels } = written;
        let expression = self.read(&expr)?.0;
        self.query(expr.at, &expression, &labels, on);
        if equals.is_some() && (at_least.is_some() || at_most.is_some()) {
            self.problem(expr.at, "`equals` says it all; leave `atLeast` and `atMost` out");
        }
        if let (Some(least), Some(most)) = (at_least, at_most)
            && least > most
        {
            self.problem(expr.at, format!("no value is at least {least} and at most {most}"));
        }
        if series == Some(0) && (equals.is_some() || at_least.is_some() || at_most.is_some() || !labels.is_empty()) {
            self.problem(expr.at, "`series: 0` leaves no series whose value or labels could be looked at; leave one of them out");
        }
        Some(QueryCheck { expr: expression, equals, at_least, at_most, series, labels: self.patterns(&labels) })
    }

    fn target_check(&mut self, at: Option<Place>, written: &TargetsFile) -> Option<TargetCheck> {
        let TargetsFile { count, all_up } = written;
        if *all_up == Some(false) {
            self.problem(at, "`allUp: false` expects nothing; write `allUp: true`, or `count: N`");
            return None;
        }
        match (all_up.is_some(), count) {
            (false, None) => {
                self.problem(at, "`targets: {}` expects nothing; write `allUp: true`, or `count: N`");
                None
            }
            (true, None) => Some(TargetCheck::AllUp),
            (all_up, Some(CountFile::Word(word))) if word == "expected" => {
                Some(if all_up { TargetCheck::AllUp } else { TargetCheck::Expected })
            }
            (_, Some(CountFile::Word(word))) => {
                self.problem(at, format!("invalid count {word:?}; expected a number, or \"expected\""));
                None
            }
            (true, Some(CountFile::Number(0))) => {
                self.problem(at, "no target is up where there is none; write `count: 0` alone");
                None
            }
            (true, Some(CountFile::Number(count))) => Some(TargetCheck::AllUpOf(*count)),
            (false, Some(CountFile::Number(count))) => Some(TargetCheck::Count(*count)),
        }
    }

    fn alert_check(&mut self, at: Option<Place>, written: AlertsExpectedFile) -> Option<AlertCheck> {
        let AlertsExpectedFile { names, state, labels } = written;
        let read = self.read::<AlertState>(&state);
        if names.is_empty() {
            self.problem(at, "no alert is named, so nothing is expected; write `names: [ALERT]`");
            return None;
        }
        for name in &names {
            self.rule(name.at, &name.text);
        }
        let names = self.texts(&names);
        if read == Some(AlertState::Inactive) && !labels.is_empty() {
            self.problem(state.at, "an inactive alert has no labels; leave them out");
        }
        Some(AlertCheck { names, state: read?, labels: self.patterns(&labels) })
    }

    fn notification_check(&mut self, written: NotificationFile) -> Option<NotificationCheck> {
        let NotificationFile { alert, status, labels, count } = written;
        let status = self.read_some::<NotificationStatus>(status.as_ref());
        let name = self.read(&alert)?;
        self.rule(alert.at, &name.0);
        Some(NotificationCheck { alert: Pattern::new(name.0), status, labels: self.patterns(&labels), count })
    }

    fn rule_check(&mut self, at: Option<Place>, written: RulesFile) -> Option<RuleCheck> {
        let RulesFile { health, names, count, firing } = written;
        let health = self.read::<RuleHealth>(&health);
        if let Some(pattern) = &names {
            self.rule(pattern.at, &pattern.text);
        }
        if count == Some(0) {
            self.problem(at, "rules that are not there have no health; expect the metric that they record to be absent instead");
        }
        for name in firing.iter().flatten() {
            self.rule(name.at, &name.text);
        }
        let firing = firing.map(|names| self.texts(&names));
        let names = self.read_some(names.as_ref()).map(|text| Pattern::new(text.0));
        Some(RuleCheck { health: health?, names, count, firing })
    }

    fn log_check(&mut self, at: Option<Place>, written: LogsFile) -> Option<LogCheck> {
        let LogsFile { pod, container, contains, count } = written;
        if contains.is_empty() {
            self.problem(at, "`contains` is empty, and every line has nothing in it; write what a line must contain");
            return None;
        }
        let parts = self.texts(&contains);
        Some(LogCheck { pod: self.read(&pod)?.0, container, contains: parts, count })
    }

    fn page_check(&mut self, at: Option<Place>, written: PageFile) -> Option<PageCheck> {
        let PageFile { pod, metric, labels, series, at_most_series, equals, sum_at_least, content_type, at_once } = written;
        let name = self.read(&metric);
        self.metric(&metric, &labels);
        if at_once == Some(0) {
            self.problem(at, "`atOnce: 0` asks nobody; write 1 or more");
        }
        if series.is_some() && at_most_series.is_some() {
            self.problem(at, "`series` says it all; leave `atMostSeries` out");
        }
        if series == Some(0) && (equals.is_some() || sum_at_least.is_some()) {
            self.problem(at, "`series: 0` leaves no value to look at; leave one of them out");
        }
        let prefix = self.read(&pod)?.0;
        let releases = self.releases.clone();
        let components: Vec<String> = releases.iter().flat_map(|release| self.catalogue.components(release)).collect();
        if !components.iter().any(|component| prefix.starts_with(component.as_str()) || component.starts_with(&prefix)) {
            let near = crate::catalogue::meant(&prefix, components.iter().map(String::as_str));
            self.problem(pod.at, format!("no component of KubeVirt has pods that begin with {prefix:?}{near}"));
        }
        Some(PageCheck {
            pod: prefix,
            metric: name?.0,
            labels: self.patterns(&labels),
            series,
            at_most_series,
            equals,
            sum_at_least,
            content_type: self.read_some(content_type.as_ref()).map(|text| text.0),
            at_once: at_once.unwrap_or(1).max(1),
        })
    }

    fn object_check(&mut self, at: Option<Place>, written: ObjectsFile) -> Option<ObjectCheck> {
        let ObjectsFile { group, resource, namespace, name, fields, contains, count } = written;
        self.resource(at, &group, &resource);
        if count == Some(0) && !fields.is_empty() && contains.is_some() {
            self.problem(at, "an object that is not there has no fields or text; expect one of them");
        }
        Some(ObjectCheck {
            group,
            resource,
            namespace,
            name,
            fields: self.patterns(&fields),
            contains: self.read_some(contains.as_ref()).map(|text| text.0),
            count,
        })
    }

    fn contract_check(&mut self, at: Option<Place>, written: ContractFile, on: &Releases) -> Option<ContractCheck> {
        if written.reads.is_empty() {
            self.problem(at, "`reads` is empty, so nothing is checked; write the expressions");
            return None;
        }
        for expression in &written.reads {
            self.syntax(expression.at, &expression.text, on);
        }
        Some(ContractCheck { reads: self.texts(&written.reads) })
    }
}
