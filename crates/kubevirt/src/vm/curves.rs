//! What a guest does all day: curves that look like a machine's and are the same in every run.
//!
//! Everything is a function of a seed and the seconds since the guest started, so nothing is stored and nothing has to tick: a
//! counter is the integral of its rate, in closed form, and never falls while the guest runs. The seed is made of namespace and
//! name, so the same VM shows the same curve tomorrow. The numbers are made up, in the order of magnitude of a small server.

use std::f64::consts::TAU;

/// Numbers between 0 and 1 that depend on a seed and a word alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The seed of an object.
    pub(crate) fn of(namespace: &str, name: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).with(namespace).with("/").with(name)
    }

    /// The seed of a part of it (FNV-1a).
    pub(crate) fn with(self, word: &str) -> Self {
        Self(word.bytes().fold(self.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// A number from 0 up to 1, of a seed whose last bits are mixed well (splitmix64's finaliser).
    pub(crate) fn unit(self) -> f64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number between two others.
    pub(crate) fn between(self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }
}

/// A wave around a mean: the level of something at a moment, and what has passed through until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wave {
    mean: f64,
    /// Of two waves, each less than half the mean: the sum never falls below 0.
    swings: [f64; 2],
    periods: [f64; 2],
    phases: [f64; 2],
}

impl Wave {
    /// A wave around `mean` with a slow swing of ten to thirty minutes and a fast one of half a minute to two.
    pub(crate) fn new(seed: Seed, mean: f64) -> Self {
        let swing = |word: &str, most: f64| mean * seed.with(word).between(0.1, most);
        Self {
            mean,
            swings: [swing("slow", 0.55), swing("fast", 0.4)],
            periods: [seed.with("slow period").between(600.0, 1800.0), seed.with("fast period").between(30.0, 120.0)],
            phases: [seed.with("slow phase").unit() * TAU, seed.with("fast phase").unit() * TAU],
        }
    }

    fn waves(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        (0..2).map(|index| (self.swings[index], TAU / self.periods[index], self.phases[index]))
    }

    /// The level after so many seconds.
    pub(crate) fn at(&self, seconds: f64) -> f64 {
        self.mean + self.waves().map(|(swing, speed, phase)| swing * (speed * seconds + phase).sin()).sum::<f64>()
    }

    /// The level's integral from 0 to so many seconds.
    pub(crate) fn passed(&self, seconds: f64) -> f64 {
        let of = |(swing, speed, phase): (f64, f64, f64)| swing / speed * (phase.cos() - (speed * seconds + phase).cos());
        self.mean * seconds + self.waves().map(of).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counters_never_fall_and_rates_are_theirs(name in "[a-z]{1,12}", mean in 0.001f64..1e9, start in 0.0f64..1e6) {
            let wave = Wave::new(Seed::of("default", &name), mean);
            let mut before = wave.passed(start);
            for step in 1..200 {
                let now = start + f64::from(step) * 0.5;
                let passed = wave.passed(now);
                prop_assert!(wave.at(now) > 0.0 && passed >= before, "{passed} after {before}");
                let middle = wave.at(now - 0.25) * 0.5;
                prop_assert!((passed - before - middle).abs() <= mean * 0.5 * 0.01 + passed.abs() * 1e-12);
                before = passed;
            }
        }
    }

    #[test]
    fn a_seed_is_the_same_every_time_and_spreads() {
        assert_eq!(Seed::of("a", "b"), Seed::of("a", "b"));
        assert_ne!(Seed::of("a", "b/c"), Seed::of("a/b", "d"));
        let units: Vec<f64> = (0..1000).map(|index| Seed::of("default", &format!("vm-{index}")).unit()).collect();
        let mean = units.iter().sum::<f64>() / 1000.0;
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)) && (0.45..0.55).contains(&mean), "{mean}");
        assert!(units.iter().filter(|unit| **unit < 0.1).count() > 60);
    }
}
