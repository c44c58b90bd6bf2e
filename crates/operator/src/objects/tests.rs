//! Shapes of the owned objects, by table.

use super::*;
use crate::rules::RuleFiles;

fn compiled() -> Compiled {
    Compiled { config: json!({}), rules: RuleFiles::default(), rejected: Vec::new(), files: BTreeMap::new(), failed: None }
}

fn prometheus(spec: Value) -> Value {
    json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus",
        "metadata": {"name": "k8s", "namespace": "m", "uid": "u", "labels": {"team": "a", "app.kubernetes.io/name": "mine"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "n"}},
        "spec": spec})
}

fn alertmanager(spec: Value) -> Value {
    let mut object = prometheus(spec);
    object["kind"] = "Alertmanager".into();
    object
}

fn names(owned: &Owned) -> Vec<String> {
    owned.objects.iter().map(|object| format!("{} {}", object::kind(object), object::name(object))).collect()
}

fn set(spec: Value) -> Value {
    owned_objects(&prometheus(spec), &compiled()).objects.pop().unwrap()
}

fn alertmanager_set(spec: Value) -> Value {
    let compiled = crate::CompiledAlertmanager {
        config: Some(json!({})),
        rejected: Vec::new(),
        failed: None,
        files: BTreeMap::new(),
        beside: BTreeMap::from([("slack.tmpl".to_owned(), "e30=".to_owned())]),
    };
    let mut owned = crate::alertmanager_objects(&alertmanager(spec), &compiled);
    assert_eq!(owned.objects[0]["data"]["slack.tmpl"], "e30=");
    owned.objects.pop().unwrap()
}

#[test]
fn a_prometheus_owns_these_in_this_order() {
    assert_eq!(
        names(&owned_objects(&prometheus(json!({"shards": 2})), &compiled())),
        [
            "ConfigMap prometheus-k8s-rulefiles-0",
            "Secret prometheus-k8s",
            "Secret prometheus-k8s-tls-assets-0",
            "Secret prometheus-k8s-web-config",
            "Service prometheus-operated",
            "StatefulSet prometheus-k8s",
            "StatefulSet prometheus-k8s-shard-1",
        ]
    );
    let failed = Compiled { failed: Some("creating config failed: x".to_owned()), ..compiled() };
    let owned = owned_objects(&prometheus(json!({})), &failed);
    assert_eq!(names(&owned), ["ConfigMap prometheus-k8s-rulefiles-0"]);
    assert_eq!(owned.failed.as_deref(), Some("creating config failed: x"));
    let clash = owned_objects(&prometheus(json!({"additionalArgs": [{"name": "config.file"}]})), &compiled());
    assert_eq!(
        clash.failed.as_deref(),
        Some(
            "making statefulset failed: make StatefulSet spec: can't set arguments which are already managed by the operator: config.file"
        )
    );
    assert!(names(&clash).contains(&"Secret prometheus-k8s".to_owned()));
}

#[test]
fn what_comes_in_numbers_goes_when_it_is_not_wanted() {
    let owner = prometheus(json!({}));
    let owned = owned_objects(&owner, &compiled());
    let failed = Owned { failed: Some("x".to_owned()), ..owned.clone() };
    for (kind, name, after, after_failure) in [
        ("ConfigMap", "prometheus-k8s-rulefiles-0", false, false),
        ("ConfigMap", "prometheus-k8s-rulefiles-1", true, true),
        ("ConfigMap", "prometheus-k8s-rulefiles-x", false, false),
        ("Secret", "prometheus-k8s-tls-assets-1", true, false),
        ("StatefulSet", "prometheus-k8s-shard-1", true, false),
        ("Secret", "prometheus-k8s-shard-1", false, false),
    ] {
        let mut present = json!({"kind": kind, "metadata": metadata(&owner, name)});
        assert_eq!(owned.is_superfluous(&owner, &present), after, "{kind} {name}");
        assert_eq!(failed.is_superfluous(&owner, &present), after_failure, "{kind} {name}");
        present["metadata"]["ownerReferences"] = json!([]);
        assert!(!owned.is_superfluous(&owner, &present));
    }
}

#[test]
fn certificates_are_spread_over_secrets() {
    let big = "x".repeat(600_000);
    let files = BTreeMap::from([("0_a_b_c".to_owned(), big.clone()), ("0_a_b_d".to_owned(), big)]);
    let assets = tls_assets(&prometheus(json!({})), "prometheus-k8s", &files);
    assert_eq!(assets.iter().map(|asset| asset["data"].as_object().unwrap().len()).collect::<Vec<_>>(), [1, 1]);
    let sources = &tls_volume(&assets)["projected"]["sources"];
    assert_eq!(sources[1], json!({"secret": {"name": "prometheus-k8s-tls-assets-1"}}));
}

#[test]
fn labels_of_the_selector_win() {
    let set = set(json!({"podMetadata": {"labels": {"app.kubernetes.io/name": "x", "a": "b"}, "annotations": {"c": "d"}}}));
    let template = &set["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["app.kubernetes.io/name"], "prometheus");
    assert_eq!(template["metadata"]["labels"]["a"], "b");
    assert_eq!(template["metadata"]["annotations"]["c"], "d");
    assert_eq!(set["metadata"]["labels"]["app.kubernetes.io/name"], "prometheus");
    assert_eq!(set["metadata"]["labels"]["team"], "a");
    assert_eq!(set["metadata"]["annotations"], json!({"note": "n"}));
    for (key, value) in set["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&template["metadata"]["labels"][key], value, "{key}");
    }
}

#[test]
fn a_field_of_the_object_is_found_in_the_set() {
    let wanted = json!({"resources": {"requests": {"storage": "1Gi"}}});
    for (spec, pointer, expected) in [
        (json!({}), "/spec/replicas", json!(1)),
        (json!({"replicas": 0}), "/spec/replicas", json!(0)),
        (json!({"replicas": -1}), "/spec/replicas", json!(1)),
        (json!({"shards": 2}), "/spec/selector/matchLabels/operator.prometheus.io~1shard", json!("1")),
        (json!({"shards": 2}), "/spec/template/spec/containers/1/env/1/value", json!("1")),
        (json!({}), "/spec/template/spec/containers/0/image", json!("quay.io/prometheus/prometheus:v3.7.3")),
        (json!({"version": "2.53.3"}), "/spec/template/spec/containers/0/image", json!("quay.io/prometheus/prometheus:v2.53.3")),
        (json!({"baseImage": "r/p", "tag": "t"}), "/spec/template/spec/containers/0/image", json!("r/p:t")),
        (json!({"baseImage": "r/p", "sha": "1"}), "/spec/template/spec/containers/0/image", json!("r/p@sha256:1")),
        (json!({"baseImage": "r:5000/p:x", "tag": "t"}), "/spec/template/spec/containers/0/image", json!("r:5000/p:x")),
        (json!({"image": "i", "sha": "1"}), "/spec/template/spec/containers/0/image", json!("i")),
        (json!({"imagePullPolicy": "Never"}), "/spec/template/spec/containers/1/imagePullPolicy", json!("Never")),
        (
            json!({}),
            "/spec/template/spec/containers/0/volumeMounts/2",
            json!({"name": "prometheus-k8s-db", "mountPath": "/prometheus"}),
        ),
        (
            json!({"storage": {"volumeClaimTemplate": {"spec": wanted}}}),
            "/spec/volumeClaimTemplates/0/metadata/name",
            json!("prometheus-k8s-db"),
        ),
        (
            json!({"storage": {"volumeClaimTemplate": {"spec": wanted}}}),
            "/spec/template/spec/containers/0/volumeMounts/2/subPath",
            json!("prometheus-db"),
        ),
        (
            json!({"storage": {"volumeClaimTemplate": {"metadata": {"name": "d"}}}}),
            "/spec/template/spec/containers/0/volumeMounts/2/name",
            json!("d"),
        ),
        (
            json!({"secrets": ["My.Secret"]}),
            "/spec/template/spec/containers/0/volumeMounts/3",
            json!({"name": "secret-my-secret", "readOnly": true, "mountPath": "/etc/prometheus/secrets/My.Secret"}),
        ),
        (
            json!({"configMaps": ["c"]}),
            "/spec/template/spec/volumes/3",
            json!({"name": "configmap-c", "configMap": {"name": "c"}}),
        ),
        (
            json!({"containers": [{"name": "prometheus", "image": "mine"}]}),
            "/spec/template/spec/containers/0/image",
            json!("mine"),
        ),
        (json!({"containers": [{"name": "more"}]}), "/spec/template/spec/containers/2/name", json!("more")),
        (json!({"initContainers": [{"name": "first"}]}), "/spec/template/spec/initContainers/1/name", json!("first")),
        (json!({"nodeSelector": {"a": "b"}}), "/spec/template/spec/nodeSelector/a", json!("b")),
        (json!({"terminationGracePeriodSeconds": 5}), "/spec/template/spec/terminationGracePeriodSeconds", json!(5)),
        (json!({"hostNetwork": true}), "/spec/template/spec/dnsPolicy", json!("ClusterFirstWithHostNet")),
        (json!({"minReadySeconds": 9}), "/spec/minReadySeconds", json!(9)),
        (json!({"serviceName": "s"}), "/spec/serviceName", json!("s")),
        (json!({"portName": "http"}), "/spec/template/spec/containers/0/ports/0/name", json!("http")),
        (json!({"portName": "http"}), "/spec/template/spec/containers/0/readinessProbe/httpGet/port", json!("http")),
        (json!({"maximumStartupDurationSeconds": 90}), "/spec/template/spec/containers/0/startupProbe/periodSeconds", json!(45)),
        (
            json!({"routePrefix": "/p"}),
            "/spec/template/spec/containers/1/args/1",
            json!("--reload-url=http://localhost:9090/p/-/reload"),
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "z", "additionalLabelSelectors": "OnResource"}]}),
            "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels/prometheus",
            json!("k8s"),
        ),
    ] {
        let set = set(spec.clone());
        assert_eq!(set.pointer(pointer), Some(&expected), "{spec} {pointer} {set:#}");
    }
}

#[test]
fn a_field_of_an_alertmanager_is_found_in_its_set() {
    for (spec, pointer, expected) in [
        (json!({}), "/spec/template/spec/containers/0/image", json!("quay.io/prometheus/alertmanager:v0.29.0")),
        (json!({"version": "0.28.1"}), "/spec/template/spec/containers/0/image", json!("quay.io/prometheus/alertmanager:0.28.1")),
        (json!({"version": "v0.28.1"}), "/spec/template/metadata/labels/app.kubernetes.io~1version", json!("0.28.1")),
        (json!({"replicas": -1}), "/spec/replicas", json!(0)),
        (json!({}), "/spec/template/spec/containers/0/resources/requests/memory", json!("200Mi")),
        (
            json!({"web": {"tlsConfig": {"keyFile": "/k", "certFile": "/c"}}}),
            "/spec/template/spec/containers/1/args/2",
            json!("--reload-url=https://localhost:9093/-/reload"),
        ),
        (
            json!({"web": {"tlsConfig": {"keyFile": "/k", "certFile": "/c"}}}),
            "/spec/template/spec/containers/0/readinessProbe/httpGet/scheme",
            json!("HTTPS"),
        ),
        (
            json!({"secrets": ["s"]}),
            "/spec/template/spec/containers/1/args/6",
            json!("--watched-dir=/etc/alertmanager/secrets/s"),
        ),
        (
            json!({"alertmanagerConfiguration": {"templates": [{"configMap": {"name": "t", "key": "a"}}, {"secret": {"name": "u", "key": "a"}}]}}),
            "/spec/template/spec/volumes/3/projected/sources",
            json!([{"configMap": {"name": "t", "items": [{"key": "a", "path": "a"}]}}]),
        ),
        (
            json!({"storage": {"emptyDir": {"sizeLimit": "1Gi"}}}),
            "/spec/template/spec/containers/0/volumeMounts/3",
            json!({"name": "alertmanager-k8s-db", "mountPath": "/alertmanager", "subPath": "alertmanager-db"}),
        ),
    ] {
        let set = alertmanager_set(spec.clone());
        assert_eq!(set.pointer(pointer), Some(&expected), "{spec} {pointer} {set:#}");
    }
}

#[test]
fn a_service_of_the_users_must_mean_the_pods() {
    let service = |selector: Value| json!({"spec": {"selector": selector}});
    for (found, expected) in [
        (None, "failed to get custom governing service m/own: services \"own\" not found"),
        (Some(service(json!({"prometheus": "k8s"}))), ""),
        (
            Some(service(json!({"prometheus": "x"}))),
            "custom governing service m/own with selector \"prometheus=x\" does not select",
        ),
    ] {
        let result = governed(&prometheus(json!({"serviceName": "own"})), |key| {
            assert_eq!(key, "m/own");
            found.as_ref()
        });
        assert!(result.err().unwrap_or_default().starts_with(expected));
    }
    let owned = owned_objects(&prometheus(json!({})), &compiled()).without_sets("x".to_owned());
    assert!(!names(&owned).contains(&"StatefulSet prometheus-k8s".to_owned()));
    assert_eq!(owned.failed.as_deref(), Some("x"));
}

#[test]
fn nobody_controls_the_governing_service() {
    let owned = owned_objects(&prometheus(json!({})), &compiled());
    let service = owned.objects.iter().find(|object| object::kind(object) == "Service").unwrap();
    let reference = &service["metadata"]["ownerReferences"][0];
    assert_eq!((&reference["uid"], &reference["controller"]), (&json!("u"), &Value::Null));
    let custom = owned_objects(&prometheus(json!({"serviceName": "own"})), &compiled());
    assert!(!names(&custom).iter().any(|name| name.starts_with("Service ")));
}
