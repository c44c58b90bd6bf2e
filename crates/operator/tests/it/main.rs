//! What objects become, case by case: `cases.yaml` has the objects and what is to be found in the configuration. Rules that need
//! no whole object are tested beside the code.

use operator::{Input, compile};
use serde_json::{Value, json};

/// The first place where a part of a value is not as wanted. Lists must be equal; of maps only what is named, where null means
/// that a key is not there.
fn unlike(found: &Value, wanted: &Value, place: &str) -> Option<String> {
    match wanted {
        Value::Object(fields) => fields.iter().find_map(|(key, wanted)| unlike(&found[key], wanted, &format!("{place}.{key}"))),
        _ if found == wanted => None,
        _ => Some(format!("{place} is {found}, wanted {wanted}")),
    }
}

/// Objects that every case may refer to.
fn common() -> Vec<Value> {
    wire::yaml::manifests(include_str!("common.yaml")).expect("common.yaml is read")
}

fn run(case: &Value) -> Result<(), String> {
    let mut spec = json!({"version": "3.5.0"});
    for kind in ["serviceMonitor", "podMonitor", "probe", "scrapeConfig", "rule"] {
        spec[format!("{kind}Selector")] = json!({});
        spec[format!("{kind}NamespaceSelector")] = json!({});
    }
    for (key, value) in case["prometheus"].as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let prometheus = json!({"kind": "Prometheus", "metadata": {"namespace": "monitoring", "name": "k8s"}, "spec": spec});
    let mut objects = common();
    for kind in ["ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig", "PrometheusRule"] {
        if !case[kind].is_null() {
            objects.push(json!({"kind": kind, "metadata": {"namespace": "a", "name": "m"}, "spec": case[kind]}));
        }
    }
    for (key, data) in case["Secret"].as_object().into_iter().flatten() {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        objects.push(json!({"kind": "Secret", "metadata": {"namespace": namespace, "name": name}, "stringData": data}));
    }
    let compiled = compile(&prometheus, &Input::of(objects));
    let rejected: Vec<&str> =
        compiled.rejected.iter().chain(&compiled.rules.rejected).map(|rejection| rejection.reason.as_str()).collect();
    for (what, found, wanted) in
        [("rejected", rejected.first().copied(), &case["rejected"]), ("failed", compiled.failed.as_deref(), &case["failed"])]
    {
        if found != wanted.as_str() {
            return Err(format!("{what}: {found:?}, wanted {wanted}"));
        }
    }
    let job = &compiled.config["scrape_configs"][0];
    let manager = &compiled.config["alerting"]["alertmanagers"][0];
    for (found, wanted) in [(job, &case["job"]), (&compiled.config, &case["config"]), (manager, &case["manager"])] {
        if let Some(why) = unlike(found, wanted, "").filter(|_| !wanted.is_null()) {
            return Err(why);
        }
    }
    let rules: Vec<&Value> = job["relabel_configs"].as_array().into_iter().flatten().collect();
    for wanted in case["relabels"].as_array().into_iter().flatten() {
        if !rules.contains(&wanted) {
            return Err(format!("no rule {wanted} in {rules:?}"));
        }
    }
    if let Some(count) = case["relabel count"].as_u64()
        && rules.len() as u64 != count
    {
        return Err(format!("{} rules: {rules:?}", rules.len()));
    }
    Ok(())
}

#[test]
fn objects_become_what_the_operator_makes_of_them() {
    let cases: Value = wire::yaml::first_document(include_str!("cases.yaml")).expect("cases.yaml is read");
    let mut wrong = Vec::new();
    for case in cases.as_array().expect("a list") {
        if let Err(why) = run(case) {
            wrong.push(format!("{}: {why}", case["case"].as_str().unwrap_or("a case without a name")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.as_array().map_or(0, Vec::len), wrong.join("\n"));
}
