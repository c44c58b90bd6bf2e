//! `lab query`.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{Output, Which};
use crate::exit::{Exit, Failure};

#[derive(Args)]
pub(super) struct Query {
    #[command(flatten)]
    which: Which,
    /// A PromQL expression.
    expression: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Query {
    pub(super) async fn run(self) -> Result<Exit> {
        let samples = super::prometheus_of(&self.which.dir()?)
            .await?
            .query(&self.expression)
            .await
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let document: Vec<_> = samples.iter().map(|sample| json!({"series": sample.series, "value": sample.value})).collect();
        if self.output.json(&document) {
            return Ok(Exit::Success);
        }
        for sample in &samples {
            say!("{} {}", sample.series, metrics::go_float(sample.value));
        }
        if samples.is_empty() {
            eprintln!("no series");
        }
        Ok(Exit::Success)
    }
}
