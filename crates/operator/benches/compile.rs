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

/// The compiler that remembers: from nothing, after nothing changed, and after one object changed.
fn incremental(prometheus: &Value, input: &Input) {
    let shelf = |objects: &[Value]| -> Objects {
        objects.iter().map(|object| (kubeapi::object::key(object), Arc::new(object.clone()))).collect()
    };
    let none = Objects::new();
    let namespaces = shelf(&input.namespaces);
    let mut monitors = shelf(&input.service_monitors);
    let world = |monitors| World {
        namespaces: &namespaces,
        service_monitors: monitors,
        pod_monitors: &none,
        probes: &none,
        scrape_configs: &none,
        rules: &none,
        alertmanager_configs: &none,
        secrets: &none,
        config_maps: &none,
        fast_alerts: false,
    };
    println!("first_ms {:.1}", median(|| drop(Compiler::default().update(prometheus, world(&monitors)))));
    let mut compiler = Compiler::default();
    compiler.update(prometheus, world(&monitors));
    println!("unchanged_ms {:.2}", median(|| drop(compiler.update(prometheus, world(&monitors)))));
    let mut port = 0;
    let changed = median(|| {
        port += 1;
        if let Some(monitor) = monitors.get_mut("ns1/m1") {
            let mut other = (**monitor).clone();
            other["spec"]["endpoints"][0]["port"] = format!("p{port}").into();
            *monitor = Arc::new(other);
        }
        assert!(compiler.update(prometheus, world(&monitors)));
    });
    println!("changed_ms {changed:.2}");
}
