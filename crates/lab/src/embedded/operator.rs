//! The operator's loop: it watches monitoring objects and keeps what the compiler makes of them.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Client, Gr};
use cluster::{Informer, record_event};
use kubeapi::object;
use operator::{Input, Rejection, alertmanager_objects, compile, compile_alertmanager, owned_objects};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

const MONITORING: &str = "monitoring.coreos.com";
const PROMETHEUSES: Gr = Gr::of(MONITORING, "prometheuses");
const ALERTMANAGERS: Gr = Gr::of(MONITORING, "alertmanagers");
/// What an object was made from, so that it is written again only when that changes (the real operator's annotation).
const INPUT_HASH: &str = "prometheus-operator-input-hash";

fn values(informer: &Informer) -> Vec<Value> {
    informer.objects().map(|object| (**object).clone()).collect()
}

/// The versions that a lab has. Objects that ask for others get these: a configuration must fit the program that reads it.
pub(crate) struct Versions {
    pub(crate) prometheus: String,
    pub(crate) alertmanager: Option<String>,
}

/// An object as it would be if it asked for the version that there is; whoever asks for another is told.
fn fitted(client: &Client, owner: &Value, version: &str, told: &mut Vec<String>) -> Value {
    let asked = owner["spec"]["version"].as_str().map(|asked| asked.trim_start_matches('v'));
    if let Some(asked) = asked.filter(|asked| *asked != version) {
        let message = format!("this lab has version {version}, which runs in place of {asked}");
        let key = format!("{} {}", object::key(owner), message);
        if !told.contains(&key) {
            record_event(client, owner, "prometheus-operator", "Warning", "OtherVersion", &message);
            told.push(key);
        }
    }
    let mut fitted = owner.clone();
    fitted["spec"]["version"] = version.into();
    fitted
}

pub(crate) async fn run(client: Client, versions: Versions, fast_alerts: bool, stop: CancellationToken) {
    // The kinds are defined a moment after the lab starts.
    while !client.served().iter().any(|(group, plural)| group == MONITORING && plural == "prometheuses") {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
    }
    let mut prometheuses = Informer::new(&client, PROMETHEUSES);
    let mut monitors = Informer::new(&client, Gr::of(MONITORING, "servicemonitors"));
    let mut rules = Informer::new(&client, Gr::of(MONITORING, "prometheusrules"));
    let mut namespaces = Informer::new(&client, Gr::core("namespaces"));
    let mut more = ["podmonitors", "probes", "scrapeconfigs"].map(|plural| Informer::new(&client, Gr::of(MONITORING, plural)));
    let mut secrets = Informer::new(&client, Gr::core("secrets"));
    let mut config_maps = Informer::new(&client, Gr::core("configmaps"));
    let mut sets = Informer::new(&client, Gr::of("apps", "statefulsets"));
    let mut alertmanagers = Informer::new(&client, ALERTMANAGERS);
    let mut alertmanager_configs = Informer::new(&client, Gr::of(MONITORING, "alertmanagerconfigs"));
    let mut told: Vec<String> = Vec::new();
    loop {
        for informer in [&mut prometheuses, &mut monitors, &mut rules, &mut namespaces, &mut sets] {
            informer.sync();
        }
        for informer in more.iter_mut().chain([&mut secrets, &mut config_maps, &mut alertmanagers, &mut alertmanager_configs]) {
            informer.sync();
        }
        let [pod_monitors, probes, scrape_configs] = more.each_ref().map(values);
        let input = Input {
            namespaces: values(&namespaces),
            service_monitors: values(&monitors),
            pod_monitors,
            probes,
            scrape_configs,
            rules: values(&rules),
            alertmanager_configs: values(&alertmanager_configs),
            secrets: values(&secrets),
            config_maps: values(&config_maps),
            fast_alerts,
        };
        for prometheus in prometheuses.objects().filter(|prometheus| !object::is_deleting(prometheus)) {
            let fitted = &fitted(&client, prometheus, &versions.prometheus, &mut told);
            reconcile(&client, fitted, &input, &mut told);
            let key = format!("{}/prometheus-{}", object::namespace(prometheus), object::name(prometheus));
            report(&client, PROMETHEUSES, prometheus, sets.get(&key));
        }
        for alertmanager in alertmanagers.objects().filter(|alertmanager| !object::is_deleting(alertmanager)) {
            let Some(version) = &versions.alertmanager else { continue };
            let fitted = &fitted(&client, alertmanager, version, &mut told);
            reconcile_alertmanager(&client, fitted, &input, &mut told);
            let key = format!("{}/alertmanager-{}", object::namespace(alertmanager), object::name(alertmanager));
            report(&client, ALERTMANAGERS, alertmanager, sets.get(&key));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = prometheuses.changed() => {}
            () = monitors.changed() => {}
            () = rules.changed() => {}
            () = namespaces.changed() => {}
            () = any_changed(&mut more) => {}
            () = secrets.changed() => {}
            () = config_maps.changed() => {}
            () = sets.changed() => {}
            () = alertmanagers.changed() => {}
            () = alertmanager_configs.changed() => {}
        }
    }
}

async fn any_changed(informers: &mut [Informer; 3]) {
    let [first, second, third] = informers;
    tokio::select! {
        () = first.changed() => {}
        () = second.changed() => {}
        () = third.changed() => {}
    }
}

/// Writes an Event about each object that was left out, once.
fn tell(client: &Client, owner: &Value, input: &Input, rejected: &[&Rejection], told: &mut Vec<String>) {
    for rejection in rejected {
        let message = format!("{} {} was rejected: {}", rejection.kind, rejection.key, rejection.reason);
        if !told.contains(&message) {
            let all = [
                &input.service_monitors,
                &input.pod_monitors,
                &input.probes,
                &input.scrape_configs,
                &input.rules,
                &input.alertmanager_configs,
            ];
            let mut all = all.into_iter().flatten();
            let about = all.find(|object| object::kind(object) == rejection.kind && object::key(object) == rejection.key);
            record_event(
                client,
                about.unwrap_or(owner),
                "prometheus-operator",
                "Warning",
                "InvalidConfiguration",
                &rejection.reason,
            );
            told.push(message);
        }
    }
}

fn reconcile(client: &Client, prometheus: &Value, input: &Input, told: &mut Vec<String>) {
    let compiled = compile(prometheus, input);
    let rejected: Vec<&Rejection> = compiled.rejected.iter().chain(&compiled.rules.rejected).collect();
    tell(client, prometheus, input, &rejected, told);
    match owned_objects(prometheus, &compiled) {
        Ok(objects) => objects.into_iter().for_each(|wanted| keep(client, wanted)),
        Err(error) => tracing::warn!(%error, "cannot write a configuration"),
    }
}

fn reconcile_alertmanager(client: &Client, alertmanager: &Value, input: &Input, told: &mut Vec<String>) {
    let compiled = compile_alertmanager(alertmanager, input);
    tell(client, alertmanager, input, &compiled.rejected.iter().collect::<Vec<_>>(), told);
    let Some(config) = compiled.config else { return };
    match alertmanager_objects(alertmanager, &config) {
        Ok(objects) => objects.into_iter().for_each(|wanted| keep(client, wanted)),
        Err(error) => tracing::warn!(%error, "cannot write a configuration"),
    }
}

/// The resource of a kind that the operator owns.
fn resource(kind: &str) -> Option<Gr> {
    Some(match kind {
        "Secret" => Gr::core("secrets"),
        "ConfigMap" => Gr::core("configmaps"),
        "Service" => Gr::core("services"),
        "StatefulSet" => Gr::of("apps", "statefulsets"),
        _ => return None,
    })
}

/// Creates or replaces an object, unless it was made from the same input.
fn keep(client: &Client, mut wanted: Value) {
    let hash: String = Sha256::digest(wanted.to_string()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    wanted["metadata"]["annotations"][INPUT_HASH] = hash.as_str().into();
    let Some(gr) = resource(object::kind(&wanted)) else { return };
    let present = client.find(gr, object::namespace(&wanted), object::name(&wanted)).ok().flatten();
    if present.is_some_and(|present| object::annotation(&present, INPUT_HASH) == Some(&hash)) {
        return;
    }
    if let Err(error) = client.put(gr, &wanted) {
        tracing::warn!(%error, object = object::key(&wanted), "cannot keep an object");
    }
}

/// Writes replicas and conditions into a Prometheus or Alertmanager object.
fn report(client: &Client, gr: Gr, prometheus: &Value, set: Option<&Arc<Value>>) {
    let wanted = prometheus["spec"]["replicas"].as_i64().unwrap_or(1);
    let number = |key: &str| set.and_then(|set| set["status"][key].as_i64()).unwrap_or(0);
    let ready = number("readyReplicas");
    let available = if ready >= wanted { "True" } else { "False" };
    let old = &prometheus["status"];
    if old["availableReplicas"] == ready
        && old["replicas"] == number("replicas")
        && object::condition(prometheus, "Available") == Some(available)
    {
        return;
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let generation = &prometheus["metadata"]["generation"];
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "", "message": "", "lastTransitionTime": now,
               "observedGeneration": generation})
    };
    let mut changed = prometheus.clone();
    changed["status"] = json!({
        "replicas": number("replicas"),
        "updatedReplicas": number("updatedReplicas"),
        "availableReplicas": ready,
        "unavailableReplicas": (wanted - ready).max(0),
        "paused": false,
        "conditions": [condition("Available", available), condition("Reconciled", "True")],
    });
    if let Some(metadata) = changed["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let _ = client.update_status(gr, &changed);
}
