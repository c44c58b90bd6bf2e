//! How often a rule acts, and when.
//!
//! A rule sees its matching requests one after the other, numbered from 1. What it does to the n-th depends on the number, the
//! time and its seed alone, so a run can be repeated, and counts are exact whatever comes at the same time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Matcher;

/// How often. What is left out does not limit; what is set must all agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Budget {
    /// So many times and no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Every k-th matching request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Exactly these matching requests, counted from 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ordinals: Vec<u64>,
    /// This share of the matching requests, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// What the random choices begin with; one is chosen, and shown, where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// At most so many in each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u64>,
    /// Not before so many seconds after it was armed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// Not after so many seconds after it was armed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<f64>,
    /// Not before a request that this matches has come; what it matches is not acted upon itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_request: Option<Box<Matcher>>,
    /// Not any more once a request that this matches has come; what it matches is not acted upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_request: Option<Box<Matcher>>,
    /// Count and limit each client by itself: `first: 1` is then once for each client.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub per_client: bool,
}

/// What has been counted, of all clients or of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Count {
    /// Matching requests.
    pub(crate) seen: u64,
    /// Those of them that were decided over.
    pub(crate) hits: u64,
    /// The second in which it decided last, and how often in it.
    second: (i64, u64),
}

/// A number between 0 and 1 that depends on seed and number alone (splitmix64).
pub(crate) fn random(seed: u64, number: u64) -> f64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Budget {
    /// Counts a matching request; whether the rule decides over it. `elapsed`: seconds since it was armed.
    pub(crate) fn takes(&self, count: &mut Count, elapsed: f64) -> bool {
        count.seen += 1;
        let number = count.seen;
        let second = elapsed.floor() as i64;
        let this_second = if count.second.0 == second { count.second.1 } else { 0 };
        let takes = self.first.is_none_or(|first| count.hits < first)
            && self.every.is_none_or(|every| every > 0 && number.is_multiple_of(every))
            && (self.ordinals.is_empty() || self.ordinals.contains(&number))
            && self.probability.is_none_or(|share| random(self.seed.unwrap_or_default(), number) < share)
            && self.from.is_none_or(|from| elapsed >= from)
            && self.until.is_none_or(|until| elapsed < until)
            && self.per_second.is_none_or(|most| this_second < most);
        if takes {
            count.hits += 1;
            count.second = (second, this_second + 1);
        }
        takes
    }

    /// The most hits that there can ever be.
    pub fn most(&self) -> Option<u64> {
        let ordinals = (!self.ordinals.is_empty()).then_some(self.ordinals.len() as u64);
        let least = [self.first, ordinals].into_iter().flatten().min();
        least.filter(|_| !self.per_client)
    }

    /// What is wrong with it by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.every == Some(0) {
            return Err("every: 0 is never; use 1 for each".to_owned());
        }
        if self.ordinals.contains(&0) {
            return Err("ordinals are counted from 1".to_owned());
        }
        if self.probability.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err("a probability lies between 0 and 1".to_owned());
        }
        if self.seed.is_some() && self.probability.is_none() {
            return Err("a seed is for a probability; set one, or leave the seed out".to_owned());
        }
        let times = [self.from, self.until];
        if times.iter().flatten().any(|time| !time.is_finite() || *time < 0.0) {
            return Err("from and until are seconds after the fault is armed, 0 or more".to_owned());
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            return Err(format!("from {from} is not before until {until}"));
        }
        if self.first == Some(0) || self.per_second == Some(0) {
            return Err("a budget of 0 is never; leave the fault out".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &str, elapsed: impl Fn(u64) -> f64) -> Vec<u64> {
        let budget: Budget = serde_json::from_str(budget).unwrap();
        budget.check().unwrap();
        let mut count = Count::default();
        (1..=20).filter(|number| budget.takes(&mut count, elapsed(*number))).collect()
    }

    #[test]
    fn schedules_by_table() {
        for (budget, expected) in [
            (r#"{"first": 2}"#, vec![1, 2]),
            (r#"{"every": 7}"#, vec![7, 14]),
            (r#"{"every": 7, "first": 1}"#, vec![7]),
            (r#"{"ordinals": [1, 3, 20, 40]}"#, vec![1, 3, 20]),
            (r#"{"ordinals": [1, 3, 20], "first": 2}"#, vec![1, 3]),
            // Four requests a second here.
            (r#"{"perSecond": 1}"#, vec![1, 4, 8, 12, 16, 20]),
            (r#"{"from": 2, "until": 3}"#, vec![8, 9, 10, 11]),
            (r#"{"probability": 0}"#, vec![]),
        ] {
            assert_eq!(taken(budget, |number| number as f64 / 4.0), expected, "{budget}");
        }
        assert_eq!(taken("{}", |_| 0.0).len(), 20);
    }

    #[test]
    fn a_seed_repeats_its_choices_and_keeps_to_the_share() {
        let with = |seed: u64| taken(&format!(r#"{{"probability": 0.5, "seed": {seed}}}"#), |_| 0.0);
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
        let share = (1..100_000).filter(|number| random(3, *number) < 0.2).count() as f64 / 1e5;
        assert!((share - 0.2).abs() < 0.01, "{share}");
    }

    #[test]
    fn budgets_that_cannot_be_are_refused() {
        for (budget, why) in [
            (r#"{"every": 0}"#, "every: 0"),
            (r#"{"ordinals": [0]}"#, "from 1"),
            (r#"{"probability": 1.5}"#, "between 0 and 1"),
            (r#"{"seed": 1}"#, "a seed is for"),
            (r#"{"from": 3, "until": 2}"#, "not before"),
            (r#"{"from": -1}"#, "0 or more"),
            (r#"{"first": 0}"#, "never"),
        ] {
            let budget: Budget = serde_json::from_str(budget).unwrap();
            assert!(budget.check().unwrap_err().contains(why), "{budget:?}");
        }
    }
}
