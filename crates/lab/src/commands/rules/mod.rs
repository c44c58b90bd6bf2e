//! `lab rules`: the rules of a release by themselves, without a lab.

mod prepare;
mod said;
mod test;

use anyhow::Result;
use clap::{Args, Subcommand};
use kubevirt::{Release, ReleaseError};

use crate::exit::{Exit, Failure};

#[derive(Subcommand)]
pub(super) enum Rules {
    /// Run promtool's unit tests of rules against the rules of a release, or against your own rule files.
    Test(test::Test),
    /// Print the rules of a release as a rule file.
    Print(Print),
}

#[derive(Args)]
pub(super) struct Print {
    /// The release of KubeVirt; the newest if none is named.
    #[arg(long, value_name = "RELEASE")]
    kubevirt: Option<String>,
    /// The namespace that KubeVirt is installed in; that of the release if none is named.
    #[arg(long)]
    namespace: Option<String>,
}

/// The release that is meant.
fn release(named: Option<&str>) -> Result<Release> {
    let tag = named.unwrap_or(Release::default_tag());
    Ok(Release::load(tag).map_err(|error: ReleaseError| Failure::new(Exit::Usage, error.to_string()))?)
}

impl Rules {
    pub(super) async fn run(self) -> Result<Exit> {
        match self {
            Self::Test(test) => test.run().await,
            Self::Print(print) => print.run(),
        }
    }
}

impl Print {
    fn run(self) -> Result<Exit> {
        let release = release(self.kubevirt.as_deref())?;
        let namespace = self.namespace.as_deref().unwrap_or(&release.namespace);
        let groups = serde_json::json!({"groups": release.rule_groups(namespace)});
        say_text!(wire::yaml::to_string(&groups)?);
        Ok(Exit::Success)
    }
}
