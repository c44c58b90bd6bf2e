//! Metrics as text and as series: the exposition format, normal form and diff, relabelling, and Prometheus' HTTP API.
//!
//! Architecture invariant: this crate knows neither Kubernetes nor KubeVirt, and opens no files.

mod diff;
mod exposition;
mod generated;
pub mod go_regex;
mod names;
mod nodes;
mod normal;
mod order;
mod prometheus;
mod record;
mod redaction;
mod registry;
pub mod relabel;
mod rendering;
mod scan;
mod series;

pub use diff::diff;
pub use exposition::{Exposition, ParseError, Part, each, help_text, parse};
pub use names::nearest;
pub use normal::{Names, Normaliser};
pub use prometheus::{ActiveAlert, Client, Fetch, FetchError, Fetched, HttpError, RuleState, Target, Targets};
pub use record::Recorder;
pub use redaction::{LabelRedaction, Pattern, Redaction, RedactionError, Redactor, Replacement};
pub use registry::{Collector, Family, Kind, Registry, Samples, Twice, go_float};
pub use rendering::{read, render};
pub use scan::text;
pub use series::{Labels, Sample, Series};
