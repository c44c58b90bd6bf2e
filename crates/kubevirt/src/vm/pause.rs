//! How long guests have been paused: while they are, their processors stand still.

use std::collections::HashMap;
use std::sync::Mutex;

/// Of one guest: seconds that are over, and since when it is paused now.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    over: f64,
    since: Option<f64>,
}

/// Of all guests of a node, by the uid of their VMI.
#[derive(Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, Pause>>);

impl Pauses {
    /// Notes what a guest is at a time in seconds since 1970.
    pub(crate) fn note(&self, uid: &str, paused: bool, now: f64) {
        let mut pauses = self.0.lock().expect("no panic while held");
        if !paused && !pauses.contains_key(uid) {
            return;
        }
        let pause = pauses.entry(uid.to_owned()).or_default();
        match (paused, pause.since) {
            (true, None) => pause.since = Some(now),
            (false, Some(since)) => *pause = Pause { over: pause.over + now - since, since: None },
            _ => {}
        }
    }

    /// A guest is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().expect("no panic while held").remove(uid);
    }

    /// Seconds that a guest has been paused until now.
    pub(crate) fn of(&self, uid: &str, now: f64) -> f64 {
        let pauses = self.0.lock().expect("no panic while held");
        pauses.get(uid).map_or(0.0, |pause| pause.over + pause.since.map_or(0.0, |since| now - since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_add_up() {
        let pauses = Pauses::default();
        for (paused, now) in [(false, 0.0), (true, 10.0), (true, 12.0), (false, 15.0), (true, 20.0)] {
            pauses.note("a", paused, now);
        }
        assert_eq!((pauses.of("a", 23.0), pauses.of("b", 23.0)), (8.0, 0.0));
        pauses.forget("a");
        assert_eq!(pauses.of("a", 23.0), 0.0);
    }
}
