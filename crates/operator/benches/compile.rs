//! How long the compiler takes for many ServiceMonitors: `compile COUNT` prints times in milliseconds, each the median of some runs.

use std::time::Instant;

use operator::{Input, compile};
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
    let namespaces = (0..50).map(|number| json!({"kind": "Namespace", "metadata": {"name": format!("ns{number}")}}));
    let input =
        Input { namespaces: namespaces.collect(), service_monitors: (0..count).map(monitor).collect(), ..Input::default() };
    let compiled = compile(&prometheus, &input);
    assert_eq!(compiled.config["scrape_configs"].as_array().map(Vec::len), Some(count));
    println!("compile_ms {:.1}", median(|| drop(compile(&prometheus, &input))));
    println!("write_ms {:.1}", median(|| drop(wire::yaml::to_string(&compiled.config))));
}
