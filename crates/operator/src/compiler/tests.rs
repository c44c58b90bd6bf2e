//! The compiler's memory gives what compiling anew gives, and recompiles only what it must.

use serde_json::json;

use super::*;

#[derive(Default)]
struct Cluster {
    objects: BTreeMap<&'static str, Objects>,
    empty: Objects,
}

impl Cluster {
    fn put(&mut self, kind: &'static str, namespace: &str, name: &str, rest: Value) {
        let mut object = rest;
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = namespace.into();
        let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
        self.objects.entry(kind).or_default().insert(key, Arc::new(object));
    }

    fn remove(&mut self, kind: &'static str, key: &str) {
        self.objects.entry(kind).or_default().remove(key);
    }

    fn world(&self) -> World<'_> {
        let of = |kind: &str| self.objects.get(kind).unwrap_or(&self.empty);
        World {
            namespaces: of("Namespace"),
            service_monitors: of("ServiceMonitor"),
            pod_monitors: of("PodMonitor"),
            probes: of("Probe"),
            scrape_configs: of("ScrapeConfig"),
            rules: of("PrometheusRule"),
            alertmanager_configs: of("AlertmanagerConfig"),
            secrets: of("Secret"),
            config_maps: of("ConfigMap"),
            fast_alerts: false,
        }
    }

    /// What compiling everything anew gives.
    fn anew(&self, prometheus: &Value) -> Compiled {
        compile(
            prometheus,
            &Input::of(self.objects.values().flat_map(Objects::values).map(|object| (**object).clone()).collect()),
        )
    }
}

fn prometheus() -> Value {
    json!({"kind": "Prometheus", "metadata": {"name": "k8s", "namespace": "m"}, "spec": {
        "version": "v3.5.0", "serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {}, "podMonitorSelector": {},
        "podMonitorNamespaceSelector": {}, "ruleSelector": {}, "ruleNamespaceSelector": {},
        "additionalScrapeConfigs": {"name": "more", "key": "k", "optional": true}}})
}

fn monitor(port: &str) -> Value {
    json!({"spec": {"selector": {}, "endpoints": [{"port": port}]}})
}

fn protected(secret: &str) -> Value {
    let credentials = json!({"name": secret, "key": "token"});
    json!({"spec": {"selector": {}, "endpoints": [{"port": "a", "authorization": {"credentials": credentials}}]}})
}

#[test]
fn every_step_gives_what_compiling_anew_gives() {
    let mut cluster = Cluster::default();
    let mut compiler = Compiler::default();
    type Step = fn(&mut Cluster);
    let steps: [(&str, Step, bool); 14] = [
        ("namespaces", |cluster| cluster.put("Namespace", "", "a", json!({})), true),
        ("a monitor", |cluster| cluster.put("ServiceMonitor", "a", "x", monitor("one")), true),
        ("nothing", |_| {}, false),
        ("one before it", |cluster| cluster.put("ServiceMonitor", "a", "b", monitor("two")), true),
        (
            "another kind",
            |cluster| cluster.put("PodMonitor", "a", "p", json!({"spec": {"podMetricsEndpoints": [{"port": "z"}]}})),
            true,
        ),
        ("one without its secret", |cluster| cluster.put("ServiceMonitor", "a", "s", protected("no")), true),
        ("a foreign secret", |cluster| cluster.put("Secret", "a", "other", json!({"stringData": {"token": "t"}})), false),
        ("its secret", |cluster| cluster.put("Secret", "a", "no", json!({"stringData": {"token": "t"}})), true),
        (
            "additional ones",
            |cluster| cluster.put("Secret", "m", "more", json!({"stringData": {"k": "- job_name: mine\n"}})),
            true,
        ),
        ("a change", |cluster| cluster.put("ServiceMonitor", "a", "x", monitor("three")), true),
        (
            "a status alone",
            |cluster| {
                let mut object = monitor("three");
                object["status"] = json!({"bindings": []});
                cluster.put("ServiceMonitor", "a", "x", object);
            },
            false,
        ),
        (
            "a rule",
            |cluster| {
                let rules = json!({"spec": {"groups": [{"name": "g", "rules": [{"record": "r", "expr": "1"}]}]}});
                cluster.put("PrometheusRule", "a", "r", rules);
            },
            true,
        ),
        ("one fewer", |cluster| cluster.remove("ServiceMonitor", "a/b"), true),
        ("no namespace", |cluster| cluster.remove("Namespace", "a"), true),
    ];
    for (step, change, expected) in steps {
        change(&mut cluster);
        assert_eq!(compiler.update(&prometheus(), cluster.world()), expected, "{step}");
        let (found, anew) = (compiler.compiled().unwrap(), cluster.anew(&prometheus()));
        assert_eq!(found.config, anew.config, "{step}");
        assert_eq!(found.rejected, anew.rejected, "{step}");
        assert_eq!(found.rules.bins, anew.rules.bins, "{step}");
        assert_eq!(found.files, anew.files, "{step}");
    }
}

#[test]
fn every_object_has_its_verdict() {
    let mut cluster = Cluster::default();
    cluster.put("Namespace", "", "a", json!({}));
    cluster.put("ServiceMonitor", "a", "bad", protected("no"));
    cluster.put("ServiceMonitor", "a", "good", monitor("one"));
    cluster.put("Probe", "a", "other", json!({"spec": {}}));
    cluster.put("PrometheusRule", "a", "r", json!({"spec": {"groups": [{"name": ""}]}}));
    let mut compiler = Compiler::default();
    compiler.update(&prometheus(), cluster.world());
    let found: Vec<(&str, &str, &Verdict)> =
        compiler.verdicts().map(|(kind, object, verdict)| (kind, object::name(object), verdict)).collect();
    assert!(matches!(found[0], ("ServiceMonitor", "bad", Verdict::Rejected(_))), "{found:?}");
    assert_eq!(found[1], ("ServiceMonitor", "good", &Verdict::Accepted));
    assert_eq!(found[2], ("Probe", "other", &Verdict::Unselected));
    assert_eq!(found[3], ("PrometheusRule", "r", &Verdict::Rejected("invalid rule".to_owned())));
}

#[test]
fn an_alertmanager_is_compiled_again_when_what_it_reads_changes() {
    let alertmanager =
        json!({"kind": "Alertmanager", "metadata": {"name": "main", "namespace": "m"}, "spec": {"version": "0.28.1"}});
    let mut cluster = Cluster::default();
    let mut compiler = AlertmanagerCompiler::default();
    assert!(compiler.update(&alertmanager, cluster.world()));
    assert!(!compiler.update(&alertmanager, cluster.world()));
    cluster.put("Secret", "m", "other", json!({}));
    assert!(!compiler.update(&alertmanager, cluster.world()));
    cluster.put(
        "Secret",
        "m",
        "alertmanager-main",
        json!({"stringData": {"alertmanager.yaml": "route: {receiver: a}\nreceivers: [{name: a}]\n"}}),
    );
    assert!(compiler.update(&alertmanager, cluster.world()));
    assert_eq!(compiler.compiled().unwrap().config.as_ref().unwrap()["route"]["receiver"], "a");
}
