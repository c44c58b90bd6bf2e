//! Which releases of KubeVirt a scenario is for, and which known release stands for the one that a cluster runs.

use crate::model::Releases;

/// Major, minor and patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u64; 3]);

impl Version {
    /// Reads `v1.9.2`, `1.9`, `v1.9.0-rc.1`, `v1.7.2-34-g0123abc`: numbers with dots, and what follows them is left out.
    fn read(text: &str) -> Option<(Self, usize)> {
        let digits = text.trim().trim_start_matches('v');
        let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(digits.len());
        let parts: Vec<u64> =
            digits[..end].trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let mut version = [0; 3];
        // A build is called after its date where it has no version: 20260822.
        let is_date = parts.len() == 1 && parts[0] > 1_000;
        if parts.len() > 3 || is_date {
            return None;
        }
        version[..parts.len()].copy_from_slice(&parts);
        Some((Self(version), parts.len()))
    }

    fn minor(self) -> [u64; 2] {
        [self.0[0], self.0[1]]
    }
}

/// Reads what stands for a release: `any`, a release, or comparisons such as `>=1.5 <1.9`. `known` has the newest first.
///
/// # Errors
/// A fragment that names what was written, and the known releases.
pub(crate) fn fitting(written: &str, known: &[String]) -> Result<Releases, String> {
    let all = || known.join(", ");
    if let Some(exact) = known.iter().find(|release| same(release, written)) {
        return Ok(Releases::Each(vec![exact.clone()]));
    }
    // A minor release means its newest patch that is known; they are sorted.
    if let Some((minor, 2)) = Version::read(written) {
        let of_minor = |release: &&String| Version::read(release).is_some_and(|(version, _)| version.minor() == minor.minor());
        if let Some(newest) = known.iter().find(of_minor) {
            return Ok(Releases::Each(vec![newest.clone()]));
        }
    }
    let fits: Vec<String> = if written.trim() == "any" {
        known.to_vec()
    } else if written.trim_start().starts_with(['<', '>', '=']) {
        let wrong = || format!("invalid range of releases {written:?}; expected e.g. \">=1.5\", \">=1.2 <1.9\", any");
        let mut wanted = Vec::new();
        let mut rest = written.trim();
        while !rest.is_empty() {
            let operators = [">=", "<=", ">", "<", "="];
            let operator = operators.into_iter().find(|operator| rest.starts_with(operator)).ok_or_else(wrong)?;
            rest = rest[operator.len()..].trim_start();
            let end = rest.find(|letter: char| letter.is_whitespace() || letter == ',').unwrap_or(rest.len());
            let (version, parts) = Version::read(&rest[..end]).ok_or_else(wrong)?;
            wanted.push((operator, version, parts));
            rest = rest[end..].trim_start_matches(|letter: char| letter.is_whitespace() || letter == ',');
        }
        let holds = |release: &&String| {
            let Some((version, _)) = Version::read(release) else { return false };
            wanted.iter().all(|(operator, bound, parts)| {
                // A bound of two numbers speaks of the minor release: 1.9.2 is not above 1.9.
                let (mut one, mut two) = (version.0, bound.0);
                for index in *parts..3 {
                    (one[index], two[index]) = (0, 0);
                }
                match *operator {
                    ">=" => one >= two,
                    "<=" => one <= two,
                    ">" => one > two,
                    "<" => one < two,
                    _ => one == two,
                }
            })
        };
        known.iter().filter(holds).cloned().collect()
    } else {
        return Err(format!("KubeVirt {written} is not simulated; there are {}", all()));
    };
    if fits.is_empty() {
        return Err(format!("no known release of KubeVirt is {written}; there are {}", all()));
    }
    Ok(Releases::Fitting { written: written.trim().to_owned(), known: fits })
}

/// Whether two names mean the same release: with or without `v`.
pub(crate) fn same(one: &str, two: &str) -> bool {
    one.trim().trim_start_matches('v') == two.trim().trim_start_matches('v')
}

/// The known release that stands for one that is met somewhere, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The known release.
    pub release: String,
    /// Why it and no other; nothing where it is the very release.
    pub reason: Option<String>,
}

/// Finds the known release that is nearest to what a cluster says that it runs: a patch release, a candidate, a vendor's or a pull
/// request's build. `known` has the newest first; nothing where it is empty.
pub fn nearest_known(met: &str, known: &[String]) -> Option<Stand> {
    if let Some(exact) = known.iter().find(|release| same(release, met)) {
        return Some(Stand { release: exact.clone(), reason: None });
    }
    let stand = |release: &String, why: String| Some(Stand { release: release.clone(), reason: Some(why) });
    let Some((version, _)) = Version::read(met) else {
        return stand(known.first()?, format!("{met:?} names no version, and this is the newest known release"));
    };
    let versions: Vec<(&String, Version)> =
        known.iter().filter_map(|release| Some((release, Version::read(release)?.0))).collect();
    if let Some((release, _)) = versions.iter().find(|(_, one)| one.minor() == version.minor()) {
        return stand(release, format!("{met} is a build of the same minor release"));
    }
    let below = versions.iter().filter(|(_, one)| *one < version).max_by_key(|(_, one)| *one);
    if let Some((release, _)) = below {
        return stand(release, format!("{met} is not known, and this is the last known release before it"));
    }
    let (release, _) = versions.iter().min_by_key(|(_, one)| *one)?;
    stand(release, format!("{met} is older than every known release, and this is the oldest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        ["v1.9.0", "v1.8.0", "v1.5.0", "v0.59.0", "v0.11.0"].map(str::to_owned).to_vec()
    }

    #[test]
    fn ranges_choose_among_the_known() {
        for (written, expected) in [
            ("any", "v1.9.0 v1.8.0 v1.5.0 v0.59.0 v0.11.0"),
            (">=1.5", "v1.9.0 v1.8.0 v1.5.0"),
            (">1.5", "v1.9.0 v1.8.0"),
            (">=v1.5 <1.9", "v1.8.0 v1.5.0"),
            (">=1.5, <=1.8", "v1.8.0 v1.5.0"),
            ("<1", "v0.59.0 v0.11.0"),
            ("=1.8", "v1.8.0"),
            ("v1.8.0", "v1.8.0"),
            ("1.8.0", "v1.8.0"),
        ] {
            assert_eq!(fitting(written, &known()).unwrap().all().join(" "), expected, "{written}");
        }
        for (written, expected) in [
            ("v9.9.9", "KubeVirt v9.9.9 is not simulated; there are v1.9.0, v1.8.0"),
            (">=2", "no known release of KubeVirt is >=2; there are"),
            (">=soon", "invalid range of releases \">=soon\""),
            (">= 1.5 or so", "invalid range of releases"),
        ] {
            let error = fitting(written, &known()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_build_is_matched_with_the_nearest_release() {
        for (met, release, reason) in [
            ("v1.9.0", "v1.9.0", ""),
            ("1.9.0", "v1.9.0", ""),
            ("v1.9.2", "v1.9.0", "same minor release"),
            ("v1.9.0-rc.1", "v1.9.0", "same minor release"),
            ("v1.8.1-34-g0123abc", "v1.8.0", "same minor release"),
            ("v1.7.2-vendor", "v1.5.0", "last known release before it"),
            ("v2.0.0", "v1.9.0", "last known release before it"),
            ("v0.2.0", "v0.11.0", "older than every known release"),
            ("devel", "v1.9.0", "names no version"),
            ("20260822_0123abc", "v1.9.0", "names no version"),
            ("", "v1.9.0", "names no version"),
        ] {
            let stand = nearest_known(met, &known()).unwrap();
            assert_eq!(stand.release, release, "{met}");
            assert!(stand.reason.unwrap_or_default().contains(reason), "{met}");
        }
        assert_eq!(nearest_known("v1.9.0", &[]), None);
    }
}
