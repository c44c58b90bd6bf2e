//! Versions of Prometheus and Alertmanager, on which the output depends.

use std::cmp::Ordering;

/// A semantic version; what is left out is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    /// Whether it is a pre-release, which comes before the version itself.
    before: bool,
}

/// What prometheus-operator 0.87.1 runs where no version is asked for (`pkg/operator/defaults.go`).
const DEFAULT: Version = Version::new(3, 7, 3);

/// The same for Alertmanager.
const DEFAULT_ALERTMANAGER: Version = Version::new(0, 29, 0);

impl Version {
    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch, before: false }
    }

    /// That of a Prometheus object.
    ///
    /// # Errors
    /// When it is none that the operator knows.
    pub(crate) fn checked(spec: &serde_json::Value) -> Result<Self, String> {
        let Some(text) = spec["version"].as_str().filter(|text| !text.is_empty()) else { return Ok(DEFAULT) };
        let version = Self::parse(text).ok_or_else(|| format!("failed to parse Prometheus version: {text:?}"))?;
        if matches!(version.major, 2 | 3) { Ok(version) } else { Err(format!("unsupported Prometheus version {text:?}")) }
    }

    /// That of a Prometheus object; the default for one that cannot be read.
    pub(crate) fn of(spec: &serde_json::Value) -> Self {
        Self::checked(spec).unwrap_or(DEFAULT)
    }

    /// That of an Alertmanager object.
    pub(crate) fn of_alertmanager(spec: &serde_json::Value) -> Self {
        spec["version"].as_str().and_then(Self::parse).unwrap_or(DEFAULT_ALERTMANAGER)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('v');
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let (numbers, before) = text.split_once('-').map_or((text, false), |(numbers, _)| (numbers, true));
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next().unwrap_or(Some(0))?,
            patch: parts.next().unwrap_or(Some(0))?,
            before,
        };
        parts.next().is_none().then_some(version)
    }

    /// Whether it is this one or newer.
    pub(crate) fn at_least(self, major: u32, minor: u32) -> bool {
        self >= Self::new(major, minor, 0)
    }

    /// Whether it is this one or newer: major, minor and patch.
    pub(crate) fn since(self, (major, minor, patch): (u32, u32, u32)) -> bool {
        self >= Self::new(major, minor, patch)
    }

    /// Its first number.
    pub(crate) fn major(self) -> u32 {
        self.major
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &Self| (version.major, version.minor, version.patch, !version.before);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        for (text, expected) in [
            ("v2.53.3", Some(Version::new(2, 53, 3))),
            ("3", Some(Version::new(3, 0, 0))),
            ("3.5.0-rc.1", Some(Version { before: true, ..Version::new(3, 5, 0) })),
            ("2.54.1+build", Some(Version::new(2, 54, 1))),
            ("x", None),
            ("3.5.0.1", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        let new = |text: &str| Version::parse(text).unwrap();
        assert!(new("3.0.0").at_least(2, 99) && !new("2.9.0").at_least(2, 10));
        assert!(!new("3.0.0-rc.1").at_least(3, 0) && new("3.0.0-rc.1") > new("2.99.0"));
        assert!(new("2.54.1").since((2, 54, 1)) && !new("2.54.0").since((2, 54, 1)));
        let spec = |version: &str| serde_json::json!({"version": version});
        assert!(Version::checked(&spec("4.0.0")).unwrap_err().contains("unsupported"));
        assert!(Version::checked(&spec("new")).unwrap_err().contains("failed to parse"));
    }
}
