//! Broken links in facts that are made up: the kinds of monitors and mixtures that no lab shows easily. What a lab can show is tested
//! with a real Prometheus (`tests/it/why.rs`), whose transcripts are `docs/why.md`.

use operator::Input;
use serde_json::{Value, json};
use why::{Explanation, Facts, Question, Review, Verdict, explain, reviews};

/// The facts of a case: objects by their kinds, and a Prometheus that runs what the operator makes of them, unless the case says
/// otherwise.
fn facts(case: &Value) -> Facts {
    let objects: Vec<Value> = case["objects"].as_array().cloned().unwrap_or_default();
    let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).cloned().collect::<Vec<_>>();
    let mut spec = json!({"version": "3.5.0", "serviceAccountName": "prometheus-k8s"});
    for kind in ["serviceMonitor", "podMonitor", "probe", "scrapeConfig"] {
        spec[format!("{kind}Selector")] = json!({});
        spec[format!("{kind}NamespaceSelector")] = json!({});
    }
    for (key, value) in case["prometheus"].as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut facts = Facts {
        prometheus: json!({"kind": "Prometheus", "metadata": {"namespace": "monitoring", "name": "k8s"}, "spec": spec}),
        services: of("Service"),
        endpoints: of("Endpoints"),
        slices: of("EndpointSlice"),
        pods: of("Pod"),
        targets: serde_json::from_value(case["targets"].clone()).unwrap_or_default(),
        version: "3.5.0".to_owned(),
        interval: 30.0,
        input: Input::of(objects),
        ..Facts::default()
    };
    let compiled = operator::compile(&facts.prometheus, &facts.input);
    facts.running = match case["running"].as_str() {
        Some("nothing") => Some(Vec::new()),
        Some("no answer") => None,
        _ => compiled.config["scrape_configs"].as_array().cloned(),
    };
    facts.reload_failed = case["reload failed"].as_str().map(str::to_owned);
    if let Some(resource) = case["denied"].as_str() {
        let needed: Vec<Review> = reviews(&facts);
        facts.denied = needed.into_iter().filter(|review| review.resource == resource).collect();
    }
    facts
}

fn run(case: &Value) -> Result<(), String> {
    let question = Question::parse(case["ask"].as_str().unwrap_or_default()).map_err(|error| error.0)?;
    let found: Explanation = explain(&question, &facts(case));
    let shown = found.to_string();
    let link = match &found.verdict {
        Verdict::Broken(broken) => broken.first().map_or(Value::Null, |broken| json!(broken.link)),
        Verdict::There { .. } | Verdict::Unexplained(_) => Value::Null,
    };
    if link != case["link"] {
        return Err(format!("the link is {link}, wanted {}:\n{shown}", case["link"]));
    }
    for wanted in case["contains"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !shown.contains(wanted) {
            return Err(format!("no {wanted:?} in:\n{shown}"));
        }
    }
    Ok(())
}

#[test]
fn the_first_broken_link_is_named() {
    let cases: Value = wire::yaml::first_document(include_str!("cases.yaml")).expect("cases.yaml is read");
    let mut wrong = Vec::new();
    for case in cases.as_array().expect("a list") {
        if let Err(why) = run(case) {
            wrong.push(format!("{}: {why}", case["case"].as_str().unwrap_or("a case without a name")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
