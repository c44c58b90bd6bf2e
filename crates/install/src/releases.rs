//! Which releases of Kubernetes, kube-prometheus and KubeVirt fit together: the data of `releases.yaml`, and the choice of three.

use std::fmt;

use serde::Deserialize;

const DATA: &str = include_str!("releases.yaml");

/// A minor of Kubernetes, such as 1.36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Minor(u32, u32);

impl Minor {
    /// The minor of a version as clusters and people write it: `1.36`, `v1.36.1`, `v1.36.1-gke.1`.
    pub fn of(version: &str) -> Option<Self> {
        let mut parts = version.trim_start_matches('v').split('.');
        let digits = |part: &str| part.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|text| text.parse().ok());
        Some(Self(digits(parts.next()?)?, digits(parts.next()?)?))
    }
}

impl TryFrom<String> for Minor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::of(&text).ok_or_else(|| format!("{text:?} is no version"))
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}", self.0, self.1)
    }
}

/// A release and the minors of Kubernetes that it is made for.
#[derive(Clone, Debug, Deserialize)]
pub struct Release {
    /// Its tag.
    pub release: String,
    /// The oldest and the newest minor.
    pub kubernetes: (Minor, Minor),
    /// The Prometheus that it runs, for kube-prometheus.
    #[serde(default)]
    pub prometheus: String,
    /// The prometheus-operator that it runs, for kube-prometheus.
    #[serde(default)]
    pub operator: String,
    /// How its Prometheus discovers by itself: `Endpoints` or `EndpointSlice`.
    #[serde(default)]
    pub discovery: String,
    /// What virt-operator starts by default besides [`OF_EVERY_KUBEVIRT`], for KubeVirt: `NAME` with the release's tag, or `NAME:TAG`.
    #[serde(default)]
    pub deploys: Vec<String>,
}

/// What virt-operator of every known release starts or runs virtual machines with, from the registry and with the tag of its own image
/// (KubeVirt `pkg/virt-operator/resource/generate/components`).
pub const OF_EVERY_KUBEVIRT: [&str; 6] =
    ["virt-api", "virt-controller", "virt-handler", "virt-launcher", "virt-exportproxy", "virt-exportserver"];

impl Release {
    /// Whether it is made for a minor.
    pub fn fits(&self, minor: Minor) -> bool {
        self.kubernetes.0 <= minor && minor <= self.kubernetes.1
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Node {
    minor: Minor,
    node: String,
}

/// The table.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Releases {
    kube_prometheus: Vec<Release>,
    kubevirt: Vec<Release>,
    kubernetes: Vec<Node>,
}

/// What the user named; what is `None` is chosen.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A version of Kubernetes, with or without its patch.
    pub kubernetes: Option<String>,
    /// A tag of kube-prometheus.
    pub kube_prometheus: Option<String>,
    /// A tag of KubeVirt.
    pub kubevirt: Option<String>,
}

/// Three releases that fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triple {
    /// The version of Kubernetes, with its patch where a node image of that version is known.
    pub kubernetes: String,
    /// The tag of kube-prometheus.
    pub kube_prometheus: String,
    /// The tag of KubeVirt.
    pub kubevirt: String,
}

impl fmt::Display for Triple {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Kubernetes {} · kube-prometheus {} · KubeVirt {}", self.kubernetes, self.kube_prometheus, self.kubevirt)
    }
}

/// No three releases fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Misfit {
    /// What does not fit with what.
    pub message: String,
    /// What to do.
    pub hint: String,
}

fn tagged(text: &str) -> String {
    if text.starts_with('v') { text.to_owned() } else { format!("v{text}") }
}

/// Those of a list that a person means: a tag, or the releases of a minor (`v1.9`). What the table does not have is an error.
fn meant<'a>(name: &str, list: &'a [Release], wanted: Option<&String>) -> Result<Vec<&'a Release>, Misfit> {
    let Some(wanted) = wanted else { return Ok(list.iter().collect()) };
    let wanted = tagged(wanted);
    let exact: Vec<&Release> = list.iter().filter(|release| release.release == wanted).collect();
    // A patch that the table has not is made for what its minor is made for.
    let of_minor = || list.iter().filter(|release| Minor::of(&release.release) == Minor::of(&wanted)).collect();
    let found: Vec<&Release> = if exact.is_empty() { of_minor() } else { exact };
    if found.is_empty() {
        let known: Vec<&str> = list.iter().map(|release| release.release.as_str()).collect();
        return Err(Misfit {
            message: format!("nothing is known of {name} {wanted}"),
            hint: format!("known are: {}; --any-release installs others without this check", known.join(", ")),
        });
    }
    Ok(found)
}

impl Releases {
    /// The table that is built in.
    ///
    /// # Panics
    /// Never: a test reads the same text.
    pub fn known() -> Self {
        wire::yaml::strict(DATA).unwrap_or_else(|error| unreachable!("releases.yaml: {error}"))
    }

    /// What virt-operator of a release starts by default besides [`OF_EVERY_KUBEVIRT`]; of a release that is not in the table, nothing
    /// is known.
    pub fn deployed_by(&self, kubevirt: &str) -> &[String] {
        self.kubevirt.iter().find(|known| known.release == kubevirt).map_or(&[], |known| &known.deploys)
    }

    /// The newest three that fit together and are what is wanted: KubeVirt first, then Kubernetes, then kube-prometheus.
    ///
    /// # Errors
    /// When a release is not in the table, or no three fit.
    pub fn choose(&self, wanted: &Wanted) -> Result<Triple, Misfit> {
        let kubevirts = meant("KubeVirt", &self.kubevirt, wanted.kubevirt.as_ref())?;
        let stacks = meant("kube-prometheus", &self.kube_prometheus, wanted.kube_prometheus.as_ref())?;
        let minors: Vec<(Minor, String)> = match &wanted.kubernetes {
            None => self.kubernetes.iter().map(|node| (node.minor, node.node.clone())).collect(),
            Some(text) => {
                let minor = Minor::of(text).ok_or_else(|| Misfit {
                    message: format!("{text:?} is no version of Kubernetes"),
                    hint: "write it as 1.36 or v1.36.1".to_owned(),
                })?;
                let patched = text.matches('.').count() > 1;
                let known = self.kubernetes.iter().find(|node| node.minor == minor).map(|node| node.node.clone());
                vec![(minor, if patched { tagged(text) } else { known.unwrap_or_else(|| tagged(text)) })]
            }
        };
        for kubevirt in &kubevirts {
            for (minor, version) in &minors {
                let stack = stacks.iter().find(|stack| stack.fits(*minor));
                if let Some(stack) = stack.filter(|_| kubevirt.fits(*minor)) {
                    let asked = |wanted: &Option<String>, found: &Release| {
                        wanted.as_deref().map_or_else(|| found.release.clone(), tagged)
                    };
                    return Ok(Triple {
                        kubernetes: version.clone(),
                        kube_prometheus: full(asked(&wanted.kube_prometheus, stack), stack),
                        kubevirt: full(asked(&wanted.kubevirt, kubevirt), kubevirt),
                    });
                }
            }
        }
        Err(self.misfit(wanted, &kubevirts, &stacks, &minors))
    }

    /// Whether three releases that a cluster and a user bring fit; the reason if not.
    ///
    /// # Errors
    /// When one is not made for the cluster's Kubernetes.
    pub fn check(&self, kubernetes: &str, wanted: &Wanted) -> Result<Triple, Misfit> {
        self.choose(&Wanted { kubernetes: Some(kubernetes.to_owned()), ..wanted.clone() })
    }

    fn misfit(&self, wanted: &Wanted, kubevirts: &[&Release], stacks: &[&Release], minors: &[(Minor, String)]) -> Misfit {
        let told = |name: &str, wanted: Option<&String>, list: &[&Release]| {
            let release = list.first().filter(|_| wanted.is_some())?;
            Some(format!(
                "{name} {} is made for Kubernetes {} to {}",
                release.release, release.kubernetes.0, release.kubernetes.1
            ))
        };
        let mut parts: Vec<String> = [
            told("KubeVirt", wanted.kubevirt.as_ref(), kubevirts),
            told("kube-prometheus", wanted.kube_prometheus.as_ref(), stacks),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut hint = "leave one of them out, and the newest that fits is taken".to_owned();
        if let (Some(_), Some((minor, _))) = (&wanted.kubernetes, minors.first()) {
            parts.insert(0, format!("Kubernetes {minor}"));
            let fitting = |list: &[Release]| {
                let names: Vec<&str> =
                    list.iter().filter(|release| release.fits(*minor)).map(|release| release.release.as_str()).collect();
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            };
            hint = format!(
                "for Kubernetes {minor} there are KubeVirt {} and kube-prometheus {}; --any-release installs without this check",
                fitting(&self.kubevirt),
                fitting(&self.kube_prometheus)
            );
        }
        Misfit { message: format!("these releases do not fit together: {}", parts.join("; ")), hint }
    }
}

/// A tag with its patch: a person who says `v1.9` gets the table's release of it.
fn full(asked: String, found: &Release) -> String {
    if asked.matches('.').count() > 1 { asked } else { found.release.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(kubernetes: &str, kube_prometheus: &str, kubevirt: &str) -> Result<String, String> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let wanted = Wanted { kubernetes: some(kubernetes), kube_prometheus: some(kube_prometheus), kubevirt: some(kubevirt) };
        Releases::known().choose(&wanted).map(|triple| triple.to_string()).map_err(|misfit| misfit.message)
    }

    #[test]
    fn the_newest_three_that_fit_are_chosen() {
        for (kubernetes, stack, kubevirt, chosen) in [
            ("", "", "", "Kubernetes v1.36.1 · kube-prometheus v0.18.0 · KubeVirt v1.9.0"),
            ("", "", "1.5", "Kubernetes v1.32.2 · kube-prometheus v0.16.0 · KubeVirt v1.5.0"),
            ("", "v0.16.0", "", "Kubernetes v1.34.8 · kube-prometheus v0.16.0 · KubeVirt v1.9.0"),
            ("1.33", "", "", "Kubernetes v1.33.1 · kube-prometheus v0.18.0 · KubeVirt v1.8.0"),
            ("v1.35.0", "", "v1.8.4", "Kubernetes v1.35.0 · kube-prometheus v0.18.0 · KubeVirt v1.8.4"),
        ] {
            assert_eq!(choose(kubernetes, stack, kubevirt).as_deref(), Ok(chosen));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (kubernetes, stack, kubevirt, message) in [
            ("", "", "v0.11.0", "nothing is known of KubeVirt v0.11.0"),
            ("abc", "", "", "\"abc\" is no version of Kubernetes"),
            (
                "1.36",
                "",
                "v1.5.0",
                "these releases do not fit together: Kubernetes 1.36; KubeVirt v1.5.0 is made for Kubernetes 1.30 to 1.32",
            ),
            (
                "",
                "v0.13.0",
                "v1.9.0",
                "these releases do not fit together: KubeVirt v1.9.0 is made for Kubernetes 1.34 to 1.36; \
                 kube-prometheus v0.13.0 is made for Kubernetes 1.26 to 1.28",
            ),
        ] {
            assert_eq!(choose(kubernetes, stack, kubevirt), Err(message.to_owned()));
        }
    }
}
