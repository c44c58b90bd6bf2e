//! Metrics as text and as series: the exposition format, normal form and diff, relabelling, and Prometheus' HTTP API.
//!
//! Architecture invariant: this crate knows neither Kubernetes nor KubeVirt, and opens no files.

mod diff;
mod exposition;
pub mod go_regex;
mod names;
mod normal;
mod order;
mod prometheus;
mod record;
mod registry;
pub mod relabel;
mod scan;
mod series;

pub use diff::diff;
pub use exposition::{Exposition, ParseError, Part, each, help_text, parse};
pub use names::nearest;
pub use normal::{Normaliser, read, render};
pub use prometheus::{ActiveAlert, Client, Fetch, FetchError, Fetched, HttpError, RuleState, Target, Targets};
pub use record::Recorder;
pub use registry::{Collector, Family, Kind, Registry, Samples, Twice, go_float};
pub use scan::text;
pub use series::{Labels, Sample, Series};
