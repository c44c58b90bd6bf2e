//! `lab why`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use why::{Question, Verdict};

use super::{Output, Which};
use crate::exit::{Exit, Failure};
use crate::reach;

#[derive(Args)]
pub(super) struct Why {
    #[command(flatten)]
    which: Which,
    /// A metric, with label matchers if you like, or a monitor: `servicemonitor/NAMESPACE/NAME`.
    question: String,
    /// The cluster of this kubeconfig instead of a lab.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; the current one without it.
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
    /// The Prometheus object, where there are several.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    prometheus: Option<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Why {
    pub(super) async fn run(self) -> Result<Exit> {
        let question = Question::parse(&self.question).map_err(|error| {
            let hint = format!("ask for METRIC{{label=\"value\"}} or KIND/NAMESPACE/NAME, a KIND of {}", crate::why::resources());
            Failure::new(Exit::Usage, error.to_string()).hint(hint)
        })?;
        let kubeconfig = match self.kubeconfig {
            Some(kubeconfig) => kubeconfig,
            None => {
                let dir = self.which.dir()?;
                super::reachable(&dir)?;
                dir.kubeconfig()
            }
        };
        let client = reach::kube_client(&kubeconfig, self.context.as_deref()).await?;
        let explanation = crate::why::explain(client, self.prometheus.as_deref(), &question).await?;
        if !self.output.json(&explanation) {
            say_text!(explanation.to_string());
        }
        // A script learns from the code whether there is something to mend.
        Ok(if matches!(explanation.verdict, Verdict::Broken(_)) { Exit::Failure } else { Exit::Success })
    }
}
