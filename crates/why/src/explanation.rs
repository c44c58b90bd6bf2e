//! What is found: the links that hold, and the one that does not.

use std::fmt;

use serde::Serialize;

/// The links of the chain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkName {
    /// Some pod exposes the metric.
    Exposed,
    /// A monitor leads to the pod.
    Monitored,
    /// The operator accepts the object.
    Accepted,
    /// A Prometheus selects it by its labels.
    Selected,
    /// A Prometheus selects its namespace.
    NamespaceSelected,
    /// Its job is in the configuration that runs.
    Configured,
    /// Prometheus may discover in the namespaces.
    Permitted,
    /// A Service (or pod) matches the selector.
    Matched,
    /// It has the port.
    Port,
    /// There are endpoints.
    Endpoints,
    /// Prometheus has discovered them.
    Discovered,
    /// No rule drops the target.
    Kept,
    /// The scrape works.
    Scraped,
    /// The rule that records it is evaluated.
    Evaluated,
    /// No rule or limit drops the series.
    Ingested,
    /// The labels are those that were asked for.
    Labelled,
    /// The samples are not too old.
    Fresh,
}

impl LinkName {
    /// What the link promises, in a word or two.
    pub fn text(self) -> &'static str {
        match self {
            Self::Exposed => "exposed by a pod",
            Self::Monitored => "a monitor leads there",
            Self::Accepted => "accepted",
            Self::Selected => "selected",
            Self::NamespaceSelected => "namespace selected",
            Self::Configured => "in the configuration",
            Self::Permitted => "may be discovered",
            Self::Matched => "something matches",
            Self::Port => "has the port",
            Self::Endpoints => "has endpoints",
            Self::Discovered => "discovered",
            Self::Kept => "kept by relabelling",
            Self::Scraped => "scraped",
            Self::Evaluated => "evaluated",
            Self::Ingested => "kept after the scrape",
            Self::Labelled => "has the labels",
            Self::Fresh => "fresh",
        }
    }
}

/// A link that holds, and how that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Which.
    pub link: LinkName,
    /// What was seen.
    pub seen: String,
}

/// The first link that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which.
    pub link: LinkName,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The object that it is about, `KIND NAMESPACE/NAME`.
    pub object: String,
    /// The field of that object.
    pub field: String,
    /// What to do.
    pub fix: String,
    /// More that helps: before and after, what there is instead.
    pub details: Vec<String>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It is there after all.
    There {
        /// How many series.
        series: usize,
    },
    /// A link is broken.
    Broken(Vec<Broken>),
    /// All links hold, and yet there is nothing; the text says what is left.
    Unexplained(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub question: String,
    /// The links that hold.
    pub links: Vec<Link>,
    /// What came out.
    pub verdict: Verdict,
}

impl Explanation {
    /// The links that are broken.
    pub fn broken(&self) -> &[Broken] {
        match &self.verdict {
            Verdict::Broken(broken) => broken,
            Verdict::There { .. } | Verdict::Unexplained(_) => &[],
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.question)?;
        writeln!(f)?;
        for link in &self.links {
            writeln!(f, "  ok      {}: {}", link.link.text(), link.seen)?;
        }
        match &self.verdict {
            Verdict::There { series } => writeln!(f, "\nIt is there: {series} series."),
            Verdict::Unexplained(text) => writeln!(f, "\n{text}"),
            Verdict::Broken(all) => {
                for broken in all {
                    writeln!(f, "  BROKEN  {}: {}", broken.link.text(), broken.what)?;
                    if !broken.object.is_empty() {
                        writeln!(f, "          object  {}", broken.object)?;
                    }
                    if !broken.field.is_empty() {
                        writeln!(f, "          field   {}", broken.field)?;
                    }
                    for detail in &broken.details {
                        writeln!(f, "          {detail}")?;
                    }
                    writeln!(f, "          fix     {}", broken.fix)?;
                }
                Ok(())
            }
        }
    }
}
