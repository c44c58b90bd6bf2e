//! Watches: nothing lost, doubled or out of order while many write.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver::{Gr, WatchEvent};
use serde_json::json;

use crate::{get, post, server};

const CONFIG_MAPS: Gr = Gr::core("configmaps");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_change_is_shown_once_and_in_order() {
    let server = Arc::new(server());
    let mut watcher = server.client().watch(CONFIG_MAPS).unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let client = server.client();
            tokio::task::spawn_blocking(move || {
                let mut written = 0;
                for round in 0..60 {
                    let name = format!("c{}", (writer * 7 + round) % 13);
                    let object = json!({"metadata": {"name": name, "namespace": "default"}, "data": {"w": writer.to_string()}});
                    written += match round % 3 {
                        0 => usize::from(client.create(CONFIG_MAPS, &object).is_ok()),
                        1 => {
                            let patch = json!({"data": {format!("{writer}-{round}"): "x"}});
                            usize::from(client.merge(CONFIG_MAPS, "default", &name, "", &patch).is_ok())
                        }
                        _ => usize::from(client.delete(CONFIG_MAPS, "default", &name, None).is_ok()),
                    };
                }
                written
            })
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let mut shown = 0;
    let mut last = 0;
    let mut present: BTreeMap<String, u64> = BTreeMap::new();
    while shown < written {
        for event in watcher.next().await.unwrap() {
            let (WatchEvent::Added(stored) | WatchEvent::Modified(stored) | WatchEvent::Deleted(stored)) = &event else {
                continue;
            };
            let object = stored.value();
            if object["metadata"]["namespace"] != "default" || object["metadata"]["name"] == "kube-root-ca.crt" {
                continue;
            }
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            assert!(version > last, "{name}: {version} after {last}");
            last = version;
            shown += 1;
            match event {
                WatchEvent::Added(_) => assert!(present.insert(name, version).is_none()),
                WatchEvent::Modified(_) => assert!(present.insert(name, version).is_some()),
                WatchEvent::Deleted(_) => assert!(present.remove(&name).is_some()),
                WatchEvent::Bookmark { .. } => {}
            }
        }
    }
    let listed: BTreeMap<String, u64> = server
        .client()
        .list(CONFIG_MAPS, "default")
        .iter()
        .map(|object| {
            let text = |key: &str| object["metadata"][key].as_str().unwrap().to_owned();
            (text("name"), text("resourceVersion").parse().unwrap())
        })
        .collect();
    assert_eq!(present, listed);
}

#[tokio::test]
async fn a_watch_from_before_the_log_is_told_410() {
    let server = server();
    let path = "/api/v1/namespaces/default/configmaps";
    let first = post(&server, path, json!({"metadata": {"name": "c"}})).await.version();
    let client = server.client();
    for round in 0..5000 {
        client.merge(CONFIG_MAPS, "default", "c", "", &json!({"data": {"x": round.to_string()}})).unwrap();
    }
    let answer = get(&server, &format!("{path}?watch=true&timeoutSeconds=1&resourceVersion={first}")).await;
    assert_eq!((answer.code, answer.body["type"].as_str()), (200, Some("ERROR")));
    assert_eq!((answer.body["object"]["code"].as_i64(), answer.body["object"]["reason"].as_str()), (Some(410), Some("Expired")));
}
