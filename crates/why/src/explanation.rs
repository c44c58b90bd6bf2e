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
    /// Whether it is decided by objects alone. One that is broken now ends what is still there, as soon as Prometheus or its operator
    /// hears of it.
    pub(crate) fn is_of_objects(self) -> bool {
        match self {
            Self::Accepted
            | Self::Selected
            | Self::NamespaceSelected
            | Self::Permitted
            | Self::Matched
            | Self::Port
            | Self::Endpoints => true,
            Self::Exposed
            | Self::Monitored
            | Self::Configured
            | Self::Discovered
            | Self::Kept
            | Self::Scraped
            | Self::Evaluated
            | Self::Ingested
            | Self::Labelled
            | Self::Fresh => false,
        }
    }

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
        /// Links that are broken by now, of which what runs has not heard yet: the series will end.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        ending: Vec<Broken>,
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
            Verdict::There { series, ending } => {
                if !self.links.is_empty() {
                    writeln!(f)?;
                }
                writeln!(f, "It is there: {series} series.")?;
                if !ending.is_empty() {
                    writeln!(f, "It will end: a link is broken by now, and what runs has not heard of it yet.\n")?;
                }
                ending.iter().try_for_each(|broken| broken.show(f))
            }
            Verdict::Unexplained(text) => writeln!(f, "\n{text}"),
            Verdict::Broken(all) => all.iter().try_for_each(|broken| broken.show(f)),
        }
    }
}

impl Broken {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  BROKEN  {}: {}", self.link.text(), self.what)?;
        if !self.object.is_empty() {
            writeln!(f, "          object  {}", self.object)?;
        }
        if !self.field.is_empty() {
            writeln!(f, "          field   {}", self.field)?;
        }
        for detail in &self.details {
            writeln!(f, "          {detail}")?;
        }
        writeln!(f, "          fix     {}", self.fix)
    }
}
