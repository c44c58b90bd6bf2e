//! What Prometheus and Alertmanager show.

use metrics::{RuleState, Series};
use wire::{counted, counted_as};

use super::selectors::{self, Selected};
use super::{Held, Look, Session, list};
use crate::catalogue::fill;
use crate::lab::Notification;
use crate::model::{AlertCheck, NotificationCheck, QueryCheck, RuleCheck, TargetCheck};
use crate::word::{AlertState, NotificationStatus, Pattern};

impl Session<'_> {
    pub(super) async fn query(&self, wanted: &QueryCheck) -> Look {
        let expression = fill(&wanted.expr, self.lab);
        let samples = self.lab.query(expression.clone()).await.map_err(|error| error.to_string())?;
        let count_fits = wanted.series.map_or(!samples.is_empty(), |count| samples.len() == count);
        let value_fits = |value: f64| {
            wanted.equals.is_none_or(|wanted| value == wanted)
                && wanted.at_least.is_none_or(|least| value >= least)
                && wanted.at_most.is_none_or(|most| value <= most)
        };
        let fits = count_fits
            && samples.iter().all(|sample| {
                value_fits(sample.value)
                    && wanted.labels.iter().all(|(name, pattern)| self.fits(pattern, sample.series.label(name)))
            });
        let seen = list(&samples);
        if !fits {
            return Err(seen);
        }
        let selected = Selected::of(&expression)?;
        if samples.is_empty() || selected.of_nothing {
            let otherwise = self.could_be_selected(&selected).await;
            return Held::absent(seen, otherwise);
        }
        Ok(Held::There(seen))
    }

    /// What shows that an expression could have selected something.
    async fn could_be_selected(&self, selected: &Selected) -> Result<String, String> {
        if selected.selectors.is_empty() {
            return Err("the expression selects no series at all".to_owned());
        }
        let mut shown: Vec<String> = Vec::new();
        for selector in &selected.selectors {
            let name = selectors::name(selector);
            let evidence = match name {
                Some("ALERTS" | "ALERTS_FOR_STATE") => {
                    let rules = self.rules().await?;
                    let meant = |rule: &&RuleState| {
                        !rule.state.is_empty()
                            && selectors::matchers(selector, "alertname").all(|matcher| matcher.is_match(&rule.name))
                    };
                    self.evaluated(&rules.iter().filter(meant).collect::<Vec<_>>())?
                }
                Some(name) => self.metric_could_be(name).await?,
                None => {
                    let of_name: Vec<String> = selectors::matchers(selector, "__name__").map(ToString::to_string).collect();
                    self.there_are(&format!("{{{}}}", of_name.join(","))).await?
                }
            };
            if !shown.contains(&evidence) {
                shown.push(evidence);
            }
        }
        Ok(shown.join("; "))
    }

    /// What shows that a metric could have series: it has some, a rule records it, or the release or a target declares it.
    async fn metric_could_be(&self, name: &str) -> Result<String, String> {
        let selector = format!("{{__name__={name:?}}}");
        let nothing = match self.there_are(&selector).await {
            Ok(some) => return Ok(some),
            Err(nothing) => nothing,
        };
        let rules = self.rules().await?;
        let recording: Vec<&RuleState> = rules.iter().filter(|rule| rule.name == name && rule.state.is_empty()).collect();
        if !recording.is_empty() {
            return self.evaluated(&recording).map(|evaluated| format!("{name} is recorded: {evaluated}"));
        }
        if self.lab.declares(name) {
            return Ok(format!("the release declares {name}"));
        }
        if self.lab.is_exposed(name).await.map_err(|error| error.to_string())? {
            return Ok(format!("a target declares {name}"));
        }
        Err(format!("{nothing}, no rule records it, and neither the release nor a target declares it"))
    }

    /// That a selector has series now, or had some in the last hour.
    async fn there_are(&self, selector: &str) -> Result<String, String> {
        let count = format!("count(last_over_time({selector}[1h]))");
        let samples = self.lab.query(count).await.map_err(|error| error.to_string())?;
        match samples.first() {
            Some(sample) if sample.value >= 1.0 => {
                Ok(format!("{} of {selector} in the last hour", counted_as(sample.value as usize, "series", "series")))
            }
            Some(_) | None => Err(format!("{selector} had no series in the last hour")),
        }
    }

    pub(super) async fn targets(&self, wanted: TargetCheck) -> Look {
        let targets = self.lab.targets().await.map_err(|error| error.to_string())?;
        let up = targets.iter().filter(|target| target.health == "up").count();
        let down: Vec<String> = targets
            .iter()
            .filter(|target| target.health != "up")
            .map(|target| format!("{} {} {}", target.scrape_url, target.health, target.last_error))
            .collect();
        let mut seen = format!("{up} of {} targets up", targets.len());
        if !down.is_empty() {
            seen = format!("{seen}\n{}", down.join("\n"));
        }
        let pods = self.lab.scraped_pods().await.map_err(|error| error.to_string())?;
        let all_up = up == targets.len() && up == pods && up > 0;
        let holds = match wanted {
            TargetCheck::AllUp => all_up,
            TargetCheck::Count(count) => targets.len() == count,
            TargetCheck::Expected => targets.len() == pods && pods > 0,
            TargetCheck::AllUpOf(count) => all_up && targets.len() == count,
        };
        if !holds {
            return Err(if pods == targets.len() { seen } else { format!("{seen}; {pods} pods have metrics") });
        }
        if targets.is_empty() {
            let otherwise = match pods {
                0 => Err("no pod with metrics runs".to_owned()),
                pods => Ok(format!("{} with metrics", counted_as(pods, "pod runs", "pods run"))),
            };
            return Held::absent(seen, otherwise);
        }
        Ok(Held::There(seen))
    }

    pub(super) async fn alerts(&self, wanted: &AlertCheck) -> Look {
        let rules = self.rules().await?;
        let state = match wanted.state {
            AlertState::Inactive | AlertState::Resolved => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        };
        let mut seen = Vec::new();
        let mut fine = true;
        let mut meant = Vec::new();
        for name in &wanted.names {
            // Two alerts may share a name: all of them are meant.
            let of_name: Vec<&RuleState> = rules.iter().filter(|rule| rule.name == *name && !rule.state.is_empty()).collect();
            if of_name.is_empty() {
                fine = false;
                seen.push(format!("{name} is no alert of Prometheus"));
                continue;
            }
            let in_state = match wanted.state {
                AlertState::Inactive | AlertState::Resolved => of_name.iter().all(|rule| rule.state == state),
                AlertState::Pending | AlertState::Firing => of_name.iter().any(|rule| rule.state == state),
            };
            let healthy = of_name.iter().all(|rule| rule.health == "ok");
            let with_labels =
                of_name.iter().flat_map(|rule| &rule.alerts).any(|alert| self.labels_fit(&wanted.labels, &alert.labels));
            fine &= in_state && healthy && (wanted.labels.is_empty() || state == "inactive" || with_labels);
            for rule in &of_name {
                let mut shown = format!("{name} {} ({})", rule.state, rule.health);
                for alert in &rule.alerts {
                    shown =
                        format!("{shown}\n  {} {}", Series { name: String::new(), labels: alert.labels.clone() }, alert.state);
                }
                seen.push(shown);
            }
            if wanted.state == AlertState::Resolved {
                let fired = format!("count_over_time(ALERTS{{alertname={name:?},alertstate=\"firing\"}}[1h])");
                let fired = self.lab.query(fired).await.map_err(|error| error.to_string())?;
                let fired = fired.iter().any(|sample| self.labels_fit(&wanted.labels, &sample.series.labels));
                fine &= fired;
                seen.push(format!("{name} has {}fired", if fired { "" } else { "not " }));
            }
            meant.extend(of_name);
        }
        let seen = seen.join("\n");
        match wanted.state {
            _ if !fine => Err(seen),
            AlertState::Inactive => Held::absent(seen, self.evaluated(&meant)),
            // It has fired in this very lab.
            AlertState::Resolved | AlertState::Pending | AlertState::Firing => Ok(Held::There(seen)),
        }
    }

    pub(super) async fn rules_as(&self, wanted: &RuleCheck) -> Look {
        let rules = self.rules().await?;
        let meant = |name: &str| wanted.names.as_ref().is_none_or(|pattern| self.fits(pattern, name));
        let rules: Vec<&RuleState> = rules.iter().filter(|rule| meant(&rule.name)).collect();
        let mut ill = rules.iter().filter(|rule| rule.health != wanted.health.word());
        let mut firing: Vec<&str> = rules.iter().filter(|rule| rule.state == "firing").map(|rule| rule.name.as_str()).collect();
        firing.sort_unstable();
        firing.dedup();
        let shown = if firing.is_empty() { "none".to_owned() } else { firing.join(", ") };
        let seen = format!("{} rules, firing: {shown}", rules.len());
        if let Some(rule) = ill.next() {
            return Err(format!("{seen}\n{} is {} {}", rule.name, rule.health, rule.last_error));
        }
        let count_fits = wanted.count.map_or(!rules.is_empty(), |count| rules.len() == count);
        let firing_fits = wanted.firing.as_ref().is_none_or(|names| {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            names == firing
        });
        if !count_fits || !firing_fits {
            return Err(seen);
        }
        // That no other alert fires is a negative, too.
        match &wanted.firing {
            Some(_) => Held::absent(seen, self.evaluated(&rules)),
            None => Ok(Held::There(seen)),
        }
    }

    pub(super) async fn notification(&self, wanted: &NotificationCheck) -> Look {
        let all = self.lab.notifications().await.map_err(|error| error.to_string())?;
        let of_alert: Vec<&Notification> =
            all.iter().filter(|one| self.fits(&wanted.alert, one.labels.get("alertname").map_or("", String::as_str))).collect();
        let fits = |one: &&&Notification| {
            wanted.status.is_none_or(|status| one.status == NotificationStatus::word(status))
                && self.labels_fit(&wanted.labels, &one.labels)
        };
        let fitting = of_alert.iter().filter(fits).count();
        let shown =
            |one: &&Notification| format!("{} {}", one.status, Series { name: String::new(), labels: one.labels.clone() });
        let seen = if of_alert.is_empty() {
            format!("{}, none of {}", counted(all.len(), "notification"), wanted.alert)
        } else {
            of_alert.iter().map(shown).collect::<Vec<_>>().join("\n")
        };
        if !wanted.count.map_or(fitting > 0, |count| fitting == count) {
            return Err(seen);
        }
        if fitting == 0 {
            return Held::absent(seen, self.could_be_notified(&wanted.alert).await);
        }
        Ok(Held::There(seen))
    }

    /// What shows that Alertmanager could have been asked to notify of an alert.
    async fn could_be_notified(&self, alert: &Pattern) -> Result<String, String> {
        let managers = self.lab.alertmanagers().await.map_err(|error| error.to_string())?;
        if managers == 0 {
            return Err("Prometheus knows no Alertmanager".to_owned());
        }
        let rules = self.rules().await?;
        let meant: Vec<&RuleState> = rules.iter().filter(|rule| !rule.state.is_empty() && self.fits(alert, &rule.name)).collect();
        let evaluated = self.evaluated(&meant)?;
        Ok(format!("{evaluated}; Prometheus knows {}", counted(managers, "Alertmanager")))
    }
}
