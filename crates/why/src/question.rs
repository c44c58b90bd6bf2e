//! What is asked: a metric with label matchers, or a monitor.

use std::fmt;

use metrics::{Series, relabel};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{Expr, VectorSelector};
use serde::Serialize;

/// A kind of monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum MonitorKind {
    /// A ServiceMonitor.
    ServiceMonitor,
    /// A PodMonitor.
    PodMonitor,
    /// A Probe.
    Probe,
    /// A ScrapeConfig.
    ScrapeConfig,
}

impl MonitorKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ServiceMonitor, Self::PodMonitor, Self::Probe, Self::ScrapeConfig];

    /// The kind as objects have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceMonitor => "ServiceMonitor",
            Self::PodMonitor => "PodMonitor",
            Self::Probe => "Probe",
            Self::ScrapeConfig => "ScrapeConfig",
        }
    }

    /// How the operator begins the names of its jobs.
    pub(crate) fn job(self) -> &'static str {
        match self {
            Self::ServiceMonitor => "serviceMonitor",
            Self::PodMonitor => "podMonitor",
            Self::Probe => "probe",
            Self::ScrapeConfig => "scrapeConfig",
        }
    }

    /// The resource, for kubectl.
    pub(crate) fn resource(self) -> String {
        self.name().to_lowercase()
    }
}

/// A metric with matchers.
#[derive(Clone, Debug)]
pub struct SeriesSelector {
    text: String,
    name: String,
    matchers: Vec<Matcher>,
}

impl SeriesSelector {
    /// The metric's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The matchers on labels.
    pub(crate) fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a matcher takes a value.
pub(crate) fn takes(matcher: &Matcher, value: &str) -> bool {
    matcher.is_match(value)
}

/// The first matcher that a series does not meet.
pub(crate) fn unmet<'a>(matchers: &'a [Matcher], series: &Series) -> Option<&'a Matcher> {
    matchers.iter().find(|matcher| !takes(matcher, series.label(&matcher.name)))
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Why there is no such series.
    Series(SeriesSelector),
    /// Why a monitor yields nothing.
    Monitor {
        /// Its kind.
        kind: MonitorKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// A question that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionError(pub String);

impl fmt::Display for QuestionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QuestionError {}

impl Question {
    /// Reads `metric{label="value"}`, or `servicemonitor/NAMESPACE/NAME` (also `podmonitor`, `probe`, `scrapeconfig`).
    ///
    /// # Errors
    /// When it is neither; the message says what is wrong.
    pub fn parse(text: &str) -> Result<Self, QuestionError> {
        let parts: Vec<&str> = text.split('/').collect();
        if let [kind, rest @ ..] = parts.as_slice()
            && let Some(kind) =
                MonitorKind::ALL.into_iter().find(|known| known.resource() == kind.to_lowercase().trim_end_matches('s'))
        {
            return match rest {
                [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                    Ok(Self::Monitor { kind, namespace: (*namespace).to_owned(), name: (*name).to_owned() })
                }
                _ => Err(QuestionError(format!("{text:?}: write {}/NAMESPACE/NAME", kind.resource()))),
            };
        }
        let parsed = promql_parser::parser::parse(text).map_err(|error| QuestionError(format!("{text:?}: {error}")))?;
        let Expr::VectorSelector(selector) = parsed else {
            return Err(QuestionError(format!("{text:?} is more than one metric with labels; ask about one of its parts")));
        };
        Self::of_selector(text, selector)
    }

    fn of_selector(text: &str, selector: VectorSelector) -> Result<Self, QuestionError> {
        let mut matchers = selector.matchers.matchers;
        let by_label = matchers.iter().find(|matcher| matcher.name == "__name__" && matcher.op == MatchOp::Equal);
        let name = selector.name.or_else(|| by_label.map(|matcher| matcher.value.clone()));
        let Some(name) = name else {
            return Err(QuestionError(format!("{text:?} names no metric")));
        };
        matchers.retain(|matcher| matcher.name != "__name__");
        Ok(Self::Series(SeriesSelector { text: text.to_owned(), name, matchers }))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(selector) => write!(f, "Why is there no {}?", selector.text),
            Self::Monitor { kind, namespace, name } => write!(f, "Why does {} {namespace}/{name} yield nothing?", kind.name()),
        }
    }
}

/// Labels of interest to people: no internal ones.
pub(crate) fn visible(labels: &metrics::Labels) -> String {
    relabel::labels_text(labels, |name| !name.starts_with("__"))
}
