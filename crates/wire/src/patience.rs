//! How much longer than they say deadlines are: by a factor that a person gives, and by as much as the machine is overloaded.
//!
//! A deadline is there to end what would never come to an end. On a machine with more work than processors everything takes longer,
//! and a deadline in seconds of the wall would end what is merely slow. So deadlines are counted in time that the machine had for us:
//! [`Deadline`] takes the present [`factor`] each time it is looked at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The name of the variable that sets the factor.
pub const VARIABLE: &str = "LAB_PATIENCE";

/// Thousandths of the factor that a person gave; 0 where none was given yet.
static GIVEN: AtomicU64 = AtomicU64::new(0);
/// Thousandths of the factor that the load asks for, and when it was read, in milliseconds since [`start`].
static LOAD: AtomicU64 = AtomicU64::new(1_000);
static READ_AT: AtomicU64 = AtomicU64::new(0);

/// How often the load is read.
const PERIOD: u64 = 250;
/// The most that the load can stretch a deadline.
const MOST: f64 = 100.0;

fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

/// Sets the factor; `1` is no change.
pub fn set(given: f64) {
    GIVEN.store((given.clamp(0.001, 1_000.0) * 1_000.0) as u64, Ordering::Relaxed);
}

/// Reads a factor as people write it.
///
/// # Errors
/// A fragment that names the value and what was expected.
pub fn parse(text: &str) -> Result<f64, String> {
    let factor = text.trim().parse::<f64>().ok().filter(|factor| (0.001..=1_000.0).contains(factor));
    factor.ok_or_else(|| format!("invalid patience {text:?}; expected a factor such as 2 or 0.5"))
}

/// The factor that was set, else that of the environment, else 1.
fn given() -> f64 {
    match GIVEN.load(Ordering::Relaxed) {
        0 => {
            let of_environment = std::env::var(VARIABLE).ok().and_then(|text| parse(&text).ok()).unwrap_or(1.0);
            set(of_environment);
            of_environment
        }
        thousandths => thousandths as f64 / 1_000.0,
    }
}

/// By how much deadlines are longer now: 1 on a machine that has time for us.
pub fn factor() -> f64 {
    given() * load()
}

/// A time, as much longer as deadlines are now.
pub fn stretched(time: Duration) -> Duration {
    time.mul_f64(factor())
}

/// By how much the machine is overloaded: runnable threads for each processor, smoothed, and at least 1.
fn load() -> f64 {
    let now = u64::try_from(start().elapsed().as_millis()).unwrap_or(u64::MAX);
    let last = READ_AT.load(Ordering::Relaxed);
    if now.saturating_sub(last) >= PERIOD
        && READ_AT.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        && let Some(present) = runnable_for_each_processor()
    {
        let before = LOAD.load(Ordering::Relaxed) as f64 / 1_000.0;
        // It rises at once and falls slowly: what waits now was begun under the load of a moment ago.
        let smoothed = if present > before { present } else { before * 0.8 + present * 0.2 };
        LOAD.store((smoothed.clamp(1.0, MOST) * 1_000.0) as u64, Ordering::Relaxed);
    }
    LOAD.load(Ordering::Relaxed) as f64 / 1_000.0
}

/// Source: `procs_running` of proc_stat(5), the number of threads that run or could run. Not known elsewhere than on Linux.
fn runnable_for_each_processor() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let running: f64 = stat.lines().find_map(|line| line.strip_prefix("procs_running "))?.trim().parse().ok()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Some(running / processors as f64)
}

/// A deadline that counts the time that the machine had for us.
#[derive(Clone, Debug)]
pub struct Deadline {
    left: Duration,
    last: Instant,
}

impl Deadline {
    /// One that is over after this time.
    pub fn after(time: Duration) -> Self {
        Self { left: time, last: Instant::now() }
    }

    /// Whether it is over. It has to be asked now and then: the time since it was asked last counts with the present factor.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.last);
        self.last = now;
        self.spend(passed, factor())
    }

    fn spend(&mut self, passed: Duration, factor: f64) -> bool {
        self.left = self.left.saturating_sub(passed.div_f64(factor));
        self.left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_read_and_bounded() {
        assert_eq!(parse("2"), Ok(2.0));
        assert_eq!(parse(" 0.5 "), Ok(0.5));
        for text in ["", "0", "-1", "soon", "inf", "NaN", "1e9"] {
            assert!(parse(text).unwrap_err().starts_with("invalid patience"), "{text}");
        }
    }

    #[test]
    fn deadlines_are_longer_by_the_factor_and_end() {
        assert!((1.0..=MOST).contains(&load()));
        assert!(Deadline::after(Duration::ZERO).is_over());
        let mut deadline = Deadline::after(Duration::from_secs(10));
        assert!(!deadline.spend(Duration::from_secs(19), 2.0));
        assert!(deadline.spend(Duration::from_secs(1), 2.0));
        assert!(stretched(Duration::from_secs(1)) >= Duration::from_millis(1));
    }
}
