//! `lab releases`: which releases of KubeVirt are known, and what their data was compared with.

use anyhow::Result;
use clap::Args;
use kubevirt::Release;
use serde::Serialize;

use super::{Output, table};
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct Releases {
    /// How the list is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A release as scripts read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    release: String,
    default: bool,
    go_version: String,
    components: Vec<String>,
    metrics: usize,
    rules: usize,
    compared_with: Vec<String>,
}

impl Known {
    fn of(tag: &str) -> Result<Self> {
        let release = Release::load(tag)?;
        let mut metrics = std::collections::BTreeSet::new();
        for component in release.components.values() {
            metrics.extend(release.families(component)?.into_iter().map(|family| family.name));
        }
        Ok(Self {
            default: tag == Release::default_tag(),
            components: release.components.keys().cloned().collect(),
            metrics: metrics.len(),
            rules: release.rules.len(),
            go_version: release.go_version,
            compared_with: release.compared_with,
            release: release.release,
        })
    }

    fn row(self) -> Vec<String> {
        let name = if self.default { format!("{} (default)", self.release) } else { self.release };
        let numbers = [self.components.len(), self.metrics, self.rules].map(|number| number.to_string());
        [vec![name, self.go_version], numbers.to_vec(), vec![self.compared_with.join(", ")]].concat()
    }
}

impl Releases {
    pub(super) fn run(self) -> Result<Exit> {
        let known: Vec<Known> = Release::known().into_iter().map(Known::of).collect::<Result<_>>()?;
        if !self.output.json(&known) {
            let header = ["release", "go", "components", "metrics", "rules", "compared with"];
            say_text!(table(&header, known.into_iter().map(Known::row).collect()));
        }
        Ok(Exit::Success)
    }
}
