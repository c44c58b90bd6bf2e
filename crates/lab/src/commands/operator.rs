//! `operator render`: what the operator makes of files, without a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use kubeapi::object;
use operator::{Input, Rejection};
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
    /// The Prometheus object whose configuration is printed.
    #[arg(long, value_name = "NAMESPACE/NAME", required_unless_present = "alertmanager")]
    prometheus: Option<String>,
    /// The Alertmanager object whose configuration is printed.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "prometheus")]
    alertmanager: Option<String>,
    /// Print the rule files instead of the configuration.
    #[arg(long, requires = "prometheus")]
    rules: bool,
}

/// A place in a file, after its name.
fn shown(at: Option<(usize, usize)>) -> String {
    at.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"))
}

/// What an API server would say to an object of the operator's kinds. Nulls are taken out first, as it does.
fn complaints(object: &mut Value) -> Vec<apiserver::Complaint> {
    let Some(schema) = operator::types::schema_of(object) else { return Vec::new() };
    apiserver::without_nulls(object, &schema);
    apiserver::complaints(object, &schema)
}

/// Where an object has what a Helm template leaves when it is not rendered: a JSON pointer, and the text.
fn template(value: &Value, at: &str) -> Option<(String, String)> {
    const OF_HELM: [&str; 6] = [".Values", ".Release", ".Chart", ".Capabilities", "include \"", "{{-"];
    match value {
        Value::String(text) => {
            let is_template = text.contains("{{") && OF_HELM.iter().any(|word| text.contains(word));
            is_template.then(|| (at.to_owned(), text.clone()))
        }
        Value::Array(list) => list.iter().enumerate().find_map(|(index, element)| template(element, &format!("{at}/{index}"))),
        Value::Object(fields) => fields
            .iter()
            .find_map(|(name, field)| template(field, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")))),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Says why there is no configuration.
fn failure(kind: &str, owner: &Value, why: Option<String>) -> Failure {
    Failure::new(Exit::Usage, format!("{kind} {}: {}", object::key(owner), why.unwrap_or_default()))
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
        let mut unreadable = Vec::new();
        for file in &self.files {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::new(Exit::Usage, format!("{name}: cannot be read: {error}")))?;
            let read = wire::yaml::placed_manifests(&text)
                .map_err(|error| Failure::new(Exit::Usage, format!("{name}{}: {}", shown(error.at), error.message)))?;
            for (mut object, places) in read {
                // Annotations of rules are templates, too, but of Prometheus.
                let is_ours = operator::types::schema_of(&object).is_some() && object::kind(&object) != "PrometheusRule";
                let checked = if is_ours { &object } else { &object["metadata"] };
                if let Some((pointer, text)) = template(checked, if is_ours { "" } else { "/metadata" }) {
                    let at = shown(places.at(&pointer));
                    let why = format!("{text:?} is a template that has not been rendered");
                    let failure = Failure::new(Exit::Usage, format!("{name}{at}: {why}"));
                    return Err(failure.hint("render the chart first (helm template), and read what that prints").into());
                }
                for complaint in complaints(&mut object) {
                    let at = shown(places.at(&complaint.pointer));
                    let told = format!("{name}{at}: {} {}: {}", object::kind(&object), object::key(&object), complaint.message);
                    if complaint.undecodable {
                        unreadable.push(told);
                    } else {
                        eprintln!("{told}");
                    }
                }
                objects.push(object);
            }
        }
        if unreadable.is_empty() { Ok(objects) } else { Err(Failure::new(Exit::Usage, unreadable.join("\n")).into()) }
    }

    /// The object of a kind that is meant.
    fn owner(kind: &str, named: &str, objects: &[Value]) -> Result<Value> {
        let of_kind = || objects.iter().filter(|object| object::kind(object) == kind);
        of_kind().find(|found| object::key(found) == named).cloned().ok_or_else(|| {
            let there: Vec<String> = of_kind().map(object::key).collect();
            let failure = Failure::new(Exit::Usage, format!("there is no {kind} {named:?} in these files"));
            match there.as_slice() {
                [] => failure.hint(format!("add the file of the {kind} object")),
                there => failure.hint(format!("there are: {}", there.join(", "))),
            }
            .into()
        })
    }

    fn run(self) -> Result<Exit> {
        let mut objects = self.objects()?;
        let (kind, named) = match (&self.prometheus, &self.alertmanager) {
            (Some(named), _) => ("Prometheus", named),
            (None, named) => ("Alertmanager", named.as_ref().context("--prometheus or --alertmanager is needed")?),
        };
        let owner = Self::owner(kind, named, &objects)?;
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
        let tell = |rejected: &[Rejection]| {
            for rejection in rejected {
                eprintln!("{} {} is rejected: {}", rejection.kind, rejection.key, rejection.reason);
            }
        };
        if kind == "Alertmanager" {
            let compiled = operator::compile_alertmanager(&owner, &input);
            tell(&compiled.rejected);
            let Some(config) = compiled.config.filter(|_| compiled.failed.is_none()) else {
                return Err(failure(kind, &owner, compiled.failed).into());
            };
            say_text!(wire::yaml::to_string(&config)?);
            return Ok(Exit::Success);
        }
        let compiled = operator::compile(&owner, &input);
        tell(&compiled.rejected);
        if compiled.failed.is_some() && !self.rules {
            return Err(failure(kind, &owner, compiled.failed).into());
        }
        if !self.rules {
            say_text!(wire::yaml::to_string(&compiled.config)?);
            return Ok(Exit::Success);
        }
        let files = compiled.rules;
        tell(&files.rejected);
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
