//! How long the compiler takes for many ServiceMonitors: `compile COUNT` prints times in milliseconds, each the median of some runs.

use std::sync::Arc;
use std::time::Instant;

use operator::{Compiler, Input, Objects, World, compile};
use serde_json::{Value, json};

/// How often each is measured.
const RUNS: usize = 9;

fn monitor(number: usize) -> Value {
    json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor",
        "metadata": {"name": format!("m{number}"), "namespace": format!("ns{}", number % 50), "labels": {"team": "a"}},
        "spec": {
            "selector": {"matchLabels": {"app": format!("app{number}")}},
            "endpoints": [{"port": "metrics", "scheme": "https", "tlsConfig": {"insecureSkipVerify": true},
                "relabelings": [{"action": "replace", "sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
                "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "go_.*"}]}],
        },
    })
}

fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5000);
    let prometheus = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": "k8s", "namespace": "monitoring"},
        "spec": {"serviceMonitorSelector": {"matchLabels": {"team": "a"}}, "serviceMonitorNamespaceSelector": {}},
    });
    let namespaces: Vec<Value> =
        (0..50).map(|number| json!({"kind": "Namespace", "metadata": {"name": format!("ns{number}")}})).collect();
    let input = Input { namespaces, service_monitors: (0..count).map(monitor).collect(), ..Input::default() };
    let compiled = compile(&prometheus, &input);
    assert_eq!(compiled.config["scrape_configs"].as_array().map(Vec::len), Some(count));
    println!("compile_ms {:.1}", median(|| drop(compile(&prometheus, &input))));
    println!("write_ms {:.1}", median(|| drop(wire::yaml::to_string(&compiled.config))));
    incremental(&prometheus, &input);
}

fn shelf(objects: &[Value]) -> Objects {
    objects.iter().map(|object| (kubeapi::object::key(object), Arc::new(object.clone()))).collect()
}

/// The compiler that remembers: from nothing, after nothing changed, after one object changed, and after a Secret changed that one of
/// them reads, where every one reads its own.
fn incremental(prometheus: &Value, input: &Input) {
    let none = Objects::new();
    let namespaces = shelf(&input.namespaces);
    let mut monitors = shelf(&input.service_monitors);
    fn world<'a>(namespaces: &'a Objects, monitors: &'a Objects, secrets: &'a Objects, none: &'a Objects) -> World<'a> {
        World {
            namespaces,
            service_monitors: monitors,
            pod_monitors: none,
            probes: none,
            scrape_configs: none,
            rules: none,
            alertmanager_configs: none,
            secrets,
            config_maps: none,
            fast_alerts: false,
        }
    }
    let first = median(|| {
        Compiler::default().update(prometheus, world(&namespaces, &monitors, &none, &none));
    });
    println!("first_ms {first:.1}");
    let mut compiler = Compiler::default();
    compiler.update(prometheus, world(&namespaces, &monitors, &none, &none));
    let unchanged = median(|| assert!(!compiler.update(prometheus, world(&namespaces, &monitors, &none, &none))));
    println!("unchanged_ms {unchanged:.2}");
    let mut turn = 0;
    let changed = median(|| {
        turn += 1;
        if let Some(monitor) = monitors.get_mut("ns1/m1") {
            let mut other = (**monitor).clone();
            other["spec"]["endpoints"][0]["port"] = format!("p{turn}").into();
            *monitor = Arc::new(other);
        }
        assert!(compiler.update(prometheus, world(&namespaces, &monitors, &none, &none)));
    });
    println!("changed_ms {changed:.2}");

    let secret = |key: &str, token: &str| {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        json!({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": {"token": token}})
    };
    let mut secrets: Objects = monitors.keys().map(|key| (key.clone(), Arc::new(secret(key, "t")))).collect();
    for monitor in monitors.values_mut() {
        let mut other = (**monitor).clone();
        let credentials = json!({"name": kubeapi::object::name(monitor), "key": "token"});
        other["spec"]["endpoints"][0]["authorization"] = json!({"credentials": credentials});
        *monitor = Arc::new(other);
    }
    compiler.update(prometheus, world(&namespaces, &monitors, &secrets, &none));
    let rotated = median(|| {
        turn += 1;
        secrets.insert("ns1/m1".to_owned(), Arc::new(secret("ns1/m1", &turn.to_string())));
        assert!(compiler.update(prometheus, world(&namespaces, &monitors, &secrets, &none)));
    });
    println!("secret_changed_ms {rotated:.2}");
}
