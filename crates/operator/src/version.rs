//! Versions of Prometheus and Alertmanager, on which the output depends.

/// A version; what is left out is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32);

/// What the operator runs where no version is asked for (facts/kube-prometheus.md §3.9).
const DEFAULT: Version = Version(3, 7);

/// The same for Alertmanager (prometheus-operator `pkg/operator/defaults.go`).
const DEFAULT_ALERTMANAGER: Version = Version(0, 29);

impl Version {
    /// That of a Prometheus object.
    pub(crate) fn of(spec: &serde_json::Value) -> Self {
        spec["version"].as_str().and_then(Self::parse).unwrap_or(DEFAULT)
    }

    /// That of an Alertmanager object.
    pub(crate) fn of_alertmanager(spec: &serde_json::Value) -> Self {
        spec["version"].as_str().and_then(Self::parse).unwrap_or(DEFAULT_ALERTMANAGER)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_start_matches('v').split(['.', '-', '+']);
        let mut number = || parts.next()?.parse::<u32>().ok();
        Some(Self(number()?, number().unwrap_or(0)))
    }

    /// Whether it is this one or newer.
    pub(crate) fn at_least(self, major: u32, minor: u32) -> bool {
        self >= Self(major, minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        for (text, expected) in
            [("v2.53.3", Some(Version(2, 53))), ("3", Some(Version(3, 0))), ("3.5.0-rc.1", Some(Version(3, 5))), ("x", None)]
        {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert!(Version(3, 0).at_least(2, 99) && !Version(2, 9).at_least(2, 10));
    }
}
