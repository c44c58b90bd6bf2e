//! Server-side apply: by table, and against a model that is slow and obviously right.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{apply, get, merge, post, send, server};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers}}}})
}

/// The fields that a manager owns, without times.
fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["manager"] == manager).map(|entry| entry["fieldsV1"].clone()).next().unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_container_that_is_no_longer_applied_goes_with_its_defaults() {
    let server = server();
    let path = format!("{DEPLOYMENTS}/d");
    let two = deployment(json!([{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1", "ports": [{"containerPort": 80}]}]));
    let created = apply(&server, &path, "m", false, two).await;
    assert_eq!(created.code, 201, "{}", created.message());
    let containers = &fields(&created.body, "m")["f:spec"]["f:template"]["f:spec"]["f:containers"];
    assert_eq!(
        containers["k:{\"name\":\"b\"}"],
        json!({".": {}, "f:name": {}, "f:image": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}})
    );
    let one = apply(&server, &path, "m", false, deployment(json!([{"name": "a", "image": "i:1"}]))).await;
    let left: Vec<&str> = one.body["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(left, ["a"]);
}

#[tokio::test]
async fn what_another_owns_in_a_removed_element_stays_with_its_key() {
    let server = server();
    let path = format!("{DEPLOYMENTS}/d");
    let container = json!([{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]);
    apply(&server, &path, "one", false, deployment(container)).await;
    let other = apply(&server, &path, "two", false, deployment(json!([{"name": "b", "image": "i:1"}]))).await;
    assert_eq!(other.code, 200, "{}", other.message());
    let after = apply(&server, &path, "one", false, deployment(json!([{"name": "a", "image": "i:1"}]))).await;
    let containers = after.body["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
    assert_eq!(containers.len(), 2, "{containers:?}");
    assert_eq!((containers[1]["name"].as_str(), containers[1]["image"].as_str()), (Some("b"), Some("i:1")));
}

#[tokio::test]
async fn an_update_owns_what_it_changes_and_takes_it_from_others() {
    let server = server();
    let path = format!("{CONFIG_MAPS}/c");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "1"}});
    apply(&server, &path, "m", false, config.clone()).await;
    let updated = merge(&server, &format!("{path}?fieldManager=u"), json!({"data": {"a": "2"}})).await;
    assert_eq!(fields(&updated.body, "m"), json!({"f:data": {"f:b": {}}}));
    assert_eq!(fields(&updated.body, "u"), json!({"f:data": {"f:a": {}}}));
    let conflict = apply(&server, &path, "m", false, config).await;
    assert_eq!(conflict.code, 409);
    assert!(
        conflict.message().starts_with("Apply failed with 1 conflict: conflict with \"u\" using v1 at "),
        "{}",
        conflict.message()
    );
    assert_eq!(conflict.body["details"]["causes"][0]["field"], ".data.a");
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let server = server();
    let path = format!("{DEPLOYMENTS}/d");
    let config = deployment(json!([{"name": "a", "image": "i:1"}]));
    let first = apply(&server, &path, "m", false, config.clone()).await;
    let again = apply(&server, &path, "m", false, config).await;
    assert_eq!(first.version(), again.version());
}

#[tokio::test]
async fn created_and_defaulted_fields_are_owned_as_by_the_real_server() {
    let server = server();
    let created = post(
        &server,
        &format!("{CONFIG_MAPS}?fieldManager=m"),
        json!({"metadata": {"name": "c", "labels": {"x": "1"}}, "data": {"a": "1"}}),
    )
    .await;
    assert_eq!(
        fields(&created.body, "m"),
        json!({"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}})
    );
}

#[tokio::test]
async fn kubectl_takes_over_from_client_side_apply_without_a_conflict() {
    let server = server();
    let config = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": value}});
    let mut first = config("1");
    first["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = config("1").to_string().into();
    post(&server, &format!("{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply"), first).await;
    let other = apply(&server, &format!("{CONFIG_MAPS}/c"), "someone", false, config("2")).await;
    assert_eq!(other.code, 409);
    let taken = apply(&server, &format!("{CONFIG_MAPS}/c"), "kubectl", false, config("2")).await;
    assert_eq!((taken.code, taken.body["data"]["a"].as_str()), (200, Some("2")), "{}", taken.message());
}

#[tokio::test]
async fn status_has_owners_of_its_own() {
    let server = server();
    let path = format!("{DEPLOYMENTS}/d");
    apply(&server, &path, "m", false, deployment(json!([{"name": "a", "image": "i:1"}]))).await;
    let status = merge(&server, &format!("{path}/status?fieldManager=c"), json!({"status": {"replicas": 1}})).await;
    let entry = status.body["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["manager"] == "c")
        .unwrap()
        .clone();
    assert_eq!((entry["subresource"].as_str(), &entry["fieldsV1"]), (Some("status"), &json!({"f:status": {"f:replicas": {}}})));
    let _ = get(&server, &path).await;
}

/// A ConfigMap's data with its owners, as plain sets.
#[derive(Debug, Default)]
struct Model {
    exists: bool,
    data: BTreeMap<String, String>,
    applied: BTreeMap<String, BTreeSet<String>>,
    updated: BTreeMap<String, BTreeSet<String>>,
}

impl Model {
    fn others<'a>(&'a self, manager: &'a str, key: &'a str) -> bool {
        self.applied.iter().any(|(of, keys)| of != manager && keys.contains(key))
            || self.updated.values().any(|keys| keys.contains(key))
    }

    fn apply(&mut self, manager: &str, config: &BTreeMap<String, String>, force: bool) -> bool {
        let conflicts = config.iter().any(|(key, value)| self.others(manager, key) && self.data.get(key) != Some(value));
        if conflicts && !force {
            return false;
        }
        self.exists = true;
        let before = self.applied.get(manager).cloned().unwrap_or_default();
        for key in before.iter().filter(|key| !config.contains_key(*key)) {
            if !self.others(manager, key) {
                self.data.remove(key);
            }
        }
        for (key, value) in config {
            if self.data.get(key) != Some(value) {
                self.data.insert(key.clone(), value.clone());
                for keys in self.applied.values_mut().chain(self.updated.values_mut()) {
                    keys.remove(key);
                }
            }
        }
        self.applied.insert(manager.to_owned(), config.keys().cloned().collect());
        true
    }

    fn update(&mut self, manager: &str, data: &BTreeMap<String, String>) {
        let touched: BTreeSet<String> =
            self.data.keys().chain(data.keys()).filter(|key| self.data.get(*key) != data.get(*key)).cloned().collect();
        for keys in self.applied.values_mut().chain(self.updated.values_mut()) {
            keys.retain(|key| !touched.contains(key));
        }
        self.data.clone_from(data);
        let mine = self.updated.entry(manager.to_owned()).or_default();
        mine.extend(touched.into_iter().filter(|key| data.contains_key(key)));
    }

    fn owned(&self) -> BTreeMap<(String, String), BTreeSet<String>> {
        let of = |operation: &str, sets: &BTreeMap<String, BTreeSet<String>>| {
            let entries = sets.iter().filter(|(_, keys)| !keys.is_empty());
            entries.map(|(manager, keys)| ((manager.clone(), operation.to_owned()), keys.clone())).collect::<Vec<_>>()
        };
        of("Apply", &self.applied).into_iter().chain(of("Update", &self.updated)).collect()
    }
}

fn owned(object: &Value) -> BTreeMap<(String, String), BTreeSet<String>> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries
        .map(|entry| {
            let data = entry["fieldsV1"]["f:data"].as_object().into_iter().flatten();
            let keys = data.filter_map(|(name, _)| name.strip_prefix("f:").map(str::to_owned)).collect::<BTreeSet<_>>();
            ((text(&entry["manager"]), text(&entry["operation"])), keys)
        })
        .filter(|(_, keys): &(_, BTreeSet<String>)| !keys.is_empty())
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Apply(usize, BTreeMap<String, String>, bool),
    Update(usize, BTreeMap<String, String>),
}

fn data() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[a-d]", "[1-3]", 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3usize, data(), any::<bool>()).prop_map(|(manager, data, force)| Step::Apply(manager, data, force)),
        1 => (0..2usize, data()).prop_map(|(manager, data)| Step::Update(manager, data)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn apply_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let server = server();
            let path = format!("{CONFIG_MAPS}/c");
            let mut model = Model::default();
            for step in steps {
                match &step {
                    Step::Apply(manager, data, force) => {
                        let manager = format!("a{manager}");
                        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
                        let answer = apply(&server, &path, &manager, *force, config).await;
                        let fine = model.apply(&manager, data, *force);
                        assert_eq!(answer.code < 300, fine, "{step:?}: {}", answer.message());
                    }
                    Step::Update(manager, data) => {
                        if !model.exists {
                            continue;
                        }
                        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
                        let path = format!("{path}?fieldManager=u{manager}");
                        assert_eq!(send(&server, "PUT", &path, "application/json", body).await.code, 200);
                        model.update(&format!("u{manager}"), data);
                    }
                }
                if model.exists {
                    let object = get(&server, &path).await.body;
                    assert_eq!(object["data"], json!(model.data), "{step:?}");
                    assert_eq!(owned(&object), model.owned(), "{step:?}");
                }
            }
        });
    }
}
