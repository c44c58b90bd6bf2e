//! What an expression asks for that is not there.

use std::fmt;

use serde::Serialize;

/// How many values of a label are named.
const NAMED: usize = 6;

/// What is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "camelCase")]
pub enum Finding {
    /// A metric.
    NoMetric {
        /// Its name, or the expression for names.
        metric: String,
        /// Names that are nearly the same.
        nearest: Vec<String>,
    },
    /// A label of a metric that is there.
    NoLabel {
        /// The metric.
        metric: String,
        /// The label.
        label: String,
        /// Where it is asked for, such as `code="404"` or `by (code)`.
        asked: String,
    },
    /// A value of a label that is there.
    NoValue {
        /// The metric.
        metric: String,
        /// The label.
        label: String,
        /// The matcher, such as `status="Running"` or `status!="Running"`.
        asked: String,
        /// The values that there are, the likeliest first.
        values: Vec<String>,
    },
    /// A label of what the expression yields, in an annotation.
    NoTemplateLabel {
        /// The label.
        label: String,
    },
}

impl Finding {
    /// The same without what depends on everything else that is there: two findings with the same subject are about the same mistake.
    pub(crate) fn subject(&self) -> (&'static str, &str, &str, &str) {
        match self {
            Self::NoMetric { metric, nearest: _ } => ("metric", metric, "", ""),
            Self::NoLabel { metric, label, asked } => ("label", metric, label, asked),
            Self::NoValue { metric, label, asked, values: _ } => ("value", metric, label, asked),
            Self::NoTemplateLabel { label } => ("template", "", label, ""),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetric { metric, nearest } if nearest.is_empty() => write!(f, "there is no metric {metric}"),
            Self::NoMetric { metric, nearest } => write!(f, "there is no metric {metric}; nearest is {}", nearest.join(", ")),
            Self::NoLabel { metric, label, asked } => write!(f, "{metric} has no label {label}, which {asked} asks for"),
            Self::NoValue { metric, label, asked, values } => {
                let named = values.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = if values.len() > NAMED { ", …" } else { "" };
                // What is excluded has to be there as well, or the matcher excludes nothing.
                match asked.strip_prefix(label.as_str()).and_then(|rest| rest.strip_prefix('!')) {
                    None => write!(f, "{metric} has no {asked}; there is {named}{more}"),
                    Some(rest) => {
                        let value = rest.trim_start_matches(['=', '~']);
                        let sign = if rest.starts_with('~') { "=~" } else { "=" };
                        write!(f, "{metric} has no {label}{sign}{value}, which {asked} excludes; there is {named}{more}")
                    }
                }
            }
            Self::NoTemplateLabel { label } => write!(f, "the result has no label {label}, which an annotation shows"),
        }
    }
}

/// A metric that was not looked for, because the page of its job is not at hand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NotAtHand {
    /// The metric, or the expression for names.
    pub metric: String,
    /// Its job, as a matcher names it; nothing where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

impl fmt::Display for NotAtHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.job {
            Some(job) => write!(f, "{} of job {job}", self.metric),
            None => f.write_str(&self.metric),
        }
    }
}
