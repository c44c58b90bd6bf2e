//! Which releases there are, which one a name means, and which is nearest to one that is not there.

use super::{Release, chain};

/// Major, minor and patch of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u64; 3]);

impl Version {
    /// Of `v1.9.0`, `1.9` or `v1.9.0-rc.1`; nothing of a branch.
    fn of(tag: &str) -> Option<Self> {
        let numbers = tag.trim_start_matches('v').split('-').next()?;
        let mut version = [0; 3];
        for (index, number) in numbers.split('.').enumerate() {
            *version.get_mut(index)? = number.parse().ok()?;
        }
        Some(Self(version))
    }
}

/// No such release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It is not simulated.
    #[error("KubeVirt {wanted} is not simulated; the nearest is {nearest}; there are {}", .known.join(", "))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// The one that is most like it.
        nearest: &'static str,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// Its data is broken: a bug of this crate.
    #[error("the data of KubeVirt {release} is broken: {why}")]
    Broken {
        /// Which.
        release: String,
        /// Where and why.
        why: String,
    },
}

impl Release {
    /// The tags of all releases, newest first; a branch such as `main` comes after them.
    pub fn known() -> Vec<&'static str> {
        let (tags, branches): (Vec<_>, Vec<_>) = Self::in_order().into_iter().rev().partition(|tag| Version::of(tag).is_some());
        [tags, branches].concat()
    }

    /// All releases and branches, oldest first: each is written as its difference to the one before.
    pub fn in_order() -> Vec<&'static str> {
        chain::links().unwrap_or_default().iter().map(|link| link.tag.as_str()).collect()
    }

    /// The tag of the newest release: what a lab runs where none is named.
    pub fn default_tag() -> &'static str {
        Self::known().first().copied().unwrap_or_default()
    }

    /// The known release that a name means: the very one, with or without the `v`, or the newest patch of a minor release such as `1.7`.
    pub(super) fn meant(name: &str) -> Result<&'static str, ReleaseError> {
        let known = Self::known();
        let bare = |tag: &str| tag.trim_start_matches('v').to_owned();
        if let Some(exact) = known.iter().find(|tag| bare(tag) == bare(name)) {
            return Ok(exact);
        }
        let of_minor = |tag: &&&str| bare(tag).rsplit_once('.').is_some_and(|(minor, _)| minor == bare(name));
        if let Some(newest) = known.iter().find(of_minor) {
            return Ok(newest);
        }
        // The nearest is the last one that is not newer, or else the oldest; of what is no version it is the newest.
        let newest = known.first().copied().unwrap_or_default();
        let nearest = Version::of(name).map_or(newest, |wanted| {
            let versions = || known.iter().filter_map(|tag| Some((*tag, Version::of(tag)?)));
            let not_newer = versions().find(|(_, version)| *version <= wanted).or_else(|| versions().next_back());
            not_newer.map_or(newest, |(tag, _)| tag)
        });
        Err(ReleaseError::Unknown { wanted: name.to_owned(), nearest, known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_release_or_has_a_nearest() {
        for (name, tag) in [("1.9.0", "v1.9.0"), ("1.7", "v1.7.0"), ("v1.4", "v1.4.0"), ("main", "main"), ("0.59", "v0.59.0")] {
            assert_eq!(Release::load(name).unwrap().release, tag, "{name}");
        }
        for (name, nearest) in [
            ("v9", "v1.9.0"),
            ("1.7.3", "v1.7.0"),
            ("v1.1.0", "v0.59.0"),
            ("v0.1", "v0.11.0"),
            ("devel", "v1.9.0"),
            ("", "v1.9.0"),
        ] {
            let error = Release::load(name).unwrap_err().to_string();
            let expected =
                format!("KubeVirt {name} is not simulated; the nearest is {nearest}; there are v1.9.0, v1.8.0, v1.7.0");
            assert!(error.starts_with(&expected) && error.ends_with(", main"), "{error}");
        }
        assert_eq!((Release::default_tag(), Release::in_order().last()), ("v1.9.0", Some(&"main")));
    }

    /// Lists are inherited whole, so a release without its own word would claim what holds for another.
    #[test]
    fn every_release_says_what_it_was_compared_with() {
        const KNOWN: [&str; 5] = ["sources", "rule generator", "promtool tests", "metrics page", "recorded pages"];
        assert!(chain::FILES.iter().all(|text| text.contains("\ncomparedWith: [")));
        for tag in Release::known() {
            let release = Release::load(tag).unwrap();
            let compared = &release.compared_with;
            assert!(compared.iter().all(|what| KNOWN.contains(&what.as_str())), "{tag}: {compared:?}");
            assert_eq!(compared.iter().any(|what| what == "promtool tests"), !release.rules.is_empty(), "{tag}");
        }
    }
}
