//! Looking at a lab: whether what is expected holds now.
//!
//! Something that is absent as it should be holds only together with what shows that it could have been there ([`Held::Absent`]):
//! an alert is inactive only if its rule is loaded and was evaluated, a series is missing only if its metric exists, a log has no such
//! line only if there is a log. There is no way to say "absent" without it.

mod cluster;
mod prometheus;
mod selectors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{Labels, RuleState, Sample};

use crate::catalogue::fill;
use crate::lab::Lab;
use crate::model::Check;
use crate::word::{LabelPatterns, Pattern};

/// How often a state is looked at.
pub(crate) const EVERY: Duration = Duration::from_millis(100);

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Something is there.
    There(String),
    /// Something is not there.
    Absent {
        /// What was seen instead.
        seen: String,
        /// What shows that it could have been there.
        otherwise: String,
    },
}

/// It holds, or what was seen last.
pub(crate) type Look = Result<Held, String>;

impl Held {
    /// Something is absent, and this shows that it could have been there, or why nothing shows it.
    pub(crate) fn absent(seen: String, otherwise: Result<String, String>) -> Look {
        match otherwise {
            Ok(otherwise) => Ok(Self::Absent { seen, otherwise }),
            Err(why) => Err(format!("{seen}, but nothing shows that it could have been otherwise: {why}")),
        }
    }
}

/// A deadline that counts the time in which the machine had time for the lab.
pub(crate) struct Patience<'a> {
    lab: &'a dyn Lab,
    within: Duration,
    spent: Duration,
    last: Duration,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(lab: &'a dyn Lab, within: Duration) -> Self {
        Self { lab, within, spent: Duration::ZERO, last: lab.now() }
    }

    pub(crate) fn is_over(&mut self) -> bool {
        let now = self.lab.now();
        self.spent += now.saturating_sub(self.last).div_f64(self.lab.patience().max(f64::MIN_POSITIVE));
        self.last = now;
        self.spent >= self.within
    }
}

/// Looks until it holds; the error quotes the last look.
pub(crate) async fn eventually<F, Fut>(lab: &dyn Lab, within: Duration, mut look: F) -> Look
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Look>,
{
    let (mut patience, began) = (Patience::new(lab, within), lab.now());
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(last) if patience.is_over() => {
                let took = lab.now().saturating_sub(began);
                let stretched = if took > within.mul_f64(1.5) {
                    format!(" (waited {:.0} s: the machine is slow)", took.as_secs_f64())
                } else {
                    String::new()
                };
                return Err(format!("not within {} s{stretched}; last seen: {last}", within.as_secs_f64()));
            }
            Err(_) => lab.pause(EVERY).await,
        }
    }
}

/// A lab with what was seen of it since something was last done to it.
pub(crate) struct Session<'a> {
    lab: &'a dyn Lab,
    /// The instants of evaluations that were seen, by rule.
    evaluations: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(lab: &'a dyn Lab) -> Self {
        Self { lab, evaluations: Mutex::default() }
    }

    /// Something was done: what was seen before shows nothing any more.
    pub(crate) fn acted(&self) {
        self.evaluations.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Prometheus' rules. Each time they are asked for, their evaluations are noted.
    async fn rules(&self) -> Result<Vec<RuleState>, String> {
        let rules = self.lab.rules().await.map_err(|error| error.to_string())?;
        let mut seen = self.evaluations.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.iter().filter(|rule| rule.was_evaluated()) {
            seen.entry(rule.name.clone()).or_default().insert(rule.last_evaluation.clone());
        }
        Ok(rules)
    }

    /// What shows that rules could have brought something: they are loaded, and were evaluated without an error since something was
    /// last done.
    fn evaluated(&self, rules: &[&RuleState]) -> Result<String, String> {
        if rules.is_empty() {
            return Err("no such rule is loaded".to_owned());
        }
        if let Some(ill) = rules.iter().find(|rule| rule.health != "ok") {
            return Err(format!("the rule {} is {} {}", ill.name, ill.health, ill.last_error).trim_end().to_owned());
        }
        let seen = self.evaluations.lock().unwrap_or_else(PoisonError::into_inner);
        // The first instant may be from before the last step.
        let count = |rule: &RuleState| seen.get(&rule.name).map_or(0, BTreeSet::len).saturating_sub(1);
        let least = rules.iter().map(|rule| count(rule)).min().unwrap_or_default();
        if least == 0 {
            let late = rules.iter().find(|rule| count(rule) == 0).map_or("", |rule| rule.name.as_str());
            return Err(format!("the rule {late} was not evaluated again yet"));
        }
        let times = if least == 1 { "once".to_owned() } else { format!("{least} times") };
        Ok(match rules {
            [_] => format!("the rule is loaded, evaluated {times}"),
            many => format!("{} rules are loaded, evaluated {times}", many.len()),
        })
    }

    /// Whether it holds now.
    pub(crate) async fn look(&self, check: &Check) -> Look {
        match check {
            Check::Query(query) => self.query(query).await,
            Check::Targets(targets) => self.targets(*targets).await,
            Check::Alerts(alerts) => self.alerts(alerts).await,
            Check::Notification(wanted) => self.notification(wanted).await,
            Check::Rules(wanted) => self.rules_as(wanted).await,
            Check::Logs(logs) => self.logs(logs).await,
            Check::Why(why) => self.why(why).await,
            Check::Page(page) => self.page(page).await,
            Check::Object(object) => self.object(object).await,
            Check::Contract(contract) => self.contract(contract).await,
        }
    }

    fn fits(&self, pattern: &Pattern, value: &str) -> bool {
        faults::glob(&fill(pattern.text(), self.lab), value)
    }

    /// Whether labels have all that is wanted of them.
    fn labels_fit(&self, wanted: &LabelPatterns, labels: &Labels) -> bool {
        wanted.iter().all(|(name, pattern)| self.fits(pattern, labels.get(name).map_or("", String::as_str)))
    }
}

/// Samples, a line each, as many as a person reads.
fn list(samples: &[Sample]) -> String {
    const SHOWN: usize = 10;
    if samples.is_empty() {
        return "no series".to_owned();
    }
    let mut lines: Vec<String> =
        samples.iter().take(SHOWN).map(|sample| format!("{} {}", sample.series, metrics::go_float(sample.value))).collect();
    if samples.len() > SHOWN {
        lines.push(format!("and {} more", samples.len() - SHOWN));
    }
    lines.join("\n")
}
