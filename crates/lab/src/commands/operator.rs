//! `operator render`: what the operator makes of files, without a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use kubeapi::object;
use operator::Input;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

#[derive(Subcommand)]
pub(super) enum Operator {
    /// Print the configuration that the operator would give to a Prometheus.
    Render(Render),
}

#[derive(Args)]
pub(super) struct Render {
    /// Manifests: monitors, rules, Secrets, Namespaces, and the Prometheus object itself.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The Prometheus object.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    prometheus: String,
    /// Print the rule files instead of the configuration.
    #[arg(long)]
    rules: bool,
}

impl Operator {
    pub(super) fn run(self) -> Result<Exit> {
        let Self::Render(render) = self;
        render.run()
    }
}

impl Render {
    fn objects(&self) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        for file in &self.files {
            let name = file.display();
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
            let read = wire::yaml::manifests(&text).map_err(|error| {
                let place = error.at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
                Failure::new(Exit::Usage, format!("{name}{place}: {}", error.message))
            })?;
            objects.extend(read);
        }
        Ok(objects)
    }

    fn run(self) -> Result<Exit> {
        let mut objects = self.objects()?;
        let prometheuses: Vec<Value> = objects.iter().filter(|object| object::kind(object) == "Prometheus").cloned().collect();
        let Some(prometheus) = prometheuses.iter().find(|found| object::key(found) == self.prometheus) else {
            let there: Vec<String> = prometheuses.iter().map(object::key).collect();
            let failure = Failure::new(Exit::Usage, format!("there is no Prometheus {:?} in these files", self.prometheus));
            return Err(failure.hint(format!("there are: {}", there.join(", "))).into());
        };
        // Whoever gives monitors without their Namespaces means that these exist, with the label that every one has.
        let known: Vec<String> = objects
            .iter()
            .filter(|found| object::kind(found) == "Namespace")
            .map(|found| object::name(found).to_owned())
            .collect();
        let mut named: Vec<String> = objects.iter().map(|found| object::namespace(found).to_owned()).collect();
        named.sort_unstable();
        named.dedup();
        for name in named.into_iter().filter(|name| !name.is_empty() && !known.contains(name)) {
            let labels = json!({"kubernetes.io/metadata.name": name});
            objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
        }
        let input = Input::of(objects);
        let compiled = operator::compile(prometheus, &input);
        for rejection in &compiled.rejected {
            eprintln!("{} {} is rejected: {}", rejection.kind, rejection.key, rejection.reason);
        }
        if !self.rules {
            say_text!(wire::yaml::to_string(&compiled.config)?);
            return Ok(Exit::Success);
        }
        let files = compiled.rules;
        for rejection in &files.rejected {
            eprintln!("{} {} is rejected: {}", rejection.kind, rejection.key, rejection.reason);
        }
        let all: Vec<(String, String)> = files.bins.into_iter().flatten().collect();
        for (name, text) in &all {
            if all.len() > 1 {
                say!("# {name}");
            }
            say_text!(text);
        }
        Ok(Exit::Success)
    }
}
