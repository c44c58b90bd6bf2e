//! Every effect with every verb over both protocols: what the client sees, what the server was asked, what the ledger says.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kubeapi::Verb;
use serde_json::{Value, json};

use crate::bench::Bench;

fn request(verb: Verb) -> (&'static str, &'static str) {
    let (many, one) = ("/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/pods/p");
    match verb {
        Verb::Get => ("GET", one),
        Verb::List => ("GET", many),
        Verb::Watch => ("GET", "/api/v1/namespaces/a/pods?watch=true"),
        Verb::Create => ("POST", many),
        Verb::Update => ("PUT", one),
        Verb::Patch => ("PATCH", one),
        Verb::Delete => ("DELETE", one),
        Verb::DeleteCollection => ("DELETE", many),
        Verb::Connect => ("POST", "/api/v1/namespaces/a/pods/p/exec"),
    }
}

/// What becomes of the body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Text {
    /// It is the server's.
    Server,
    /// It is another one, and whole.
    Other,
    /// It breaks off, or does not end.
    Broken,
}

use Text::{Broken, Other, Server};

/// An effect, the code that a client counts, the requests that the server sees, the body.
type Row = (Value, &'static str, u64, Text);

/// What must happen with an effect; `on_watch` is what happens with a watch where that is something else.
fn rows() -> Vec<(Row, Option<Text>)> {
    let row = |effect: Value, code, asked, text| ((effect, code, asked, text), None);
    let of_watches = |effect: Value, on_watch| ((effect, "200", 1, Server), Some(on_watch));
    let of_others = |effect: Value, text| ((effect, "200", 1, text), Some(Server));
    let error = "<error>";
    vec![
        row(json!({"pass": {}}), "200", 1, Server),
        row(json!({"goaway": {}}), "200", 1, Server),
        row(json!({"status": {"code": 302}}), "302", 0, Other),
        row(json!({"status": {"code": 404}}), "404", 0, Other),
        row(json!({"status": {"code": 429, "retryAfter": 1}}), "429", 0, Other),
        row(json!({"status": {"code": 500, "headers": {"x-a": "b"}}}), "500", 0, Other),
        row(json!({"status": {"code": 502, "body": "<html>"}}), "502", 0, Other),
        row(json!({"delay": {"for": 0.01}}), "200", 1, Server),
        row(json!({"delay": {"between": [0.001, 0.01], "after": true}}), "200", 1, Server),
        row(json!({"delay": {"normal": [0.005, 0.001]}}), "200", 1, Server),
        row(json!({"bandwidth": {"bytesPerSecond": 20_000}}), "200", 1, Server),
        row(json!({"hang": {}}), error, 0, Broken),
        row(json!({"hang": {"for": 0.01}}), error, 0, Broken),
        row(json!({"refuse": {}}), error, 0, Broken),
        row(json!({"drop": {}}), error, 0, Broken),
        row(json!({"tls": "expired"}), error, 0, Broken),
        row(json!({"tls": "wrongName"}), error, 0, Broken),
        row(json!({"tls": "unknownAuthority"}), error, 0, Broken),
        row(json!({"tls": "abort"}), error, 0, Broken),
        row(json!({"tls": "plainHttp"}), error, 0, Broken),
        row(json!({"reset": {}}), error, 0, Broken),
        row(json!({"reset": {"code": "REFUSED_STREAM"}}), error, 0, Broken),
        row(json!({"reset": {"connection": true}}), error, 0, Broken),
        row(json!({"reset": {"afterHeaders": true}}), "200", 1, Broken),
        row(json!({"reset": {"afterBytes": 5}}), "200", 1, Broken),
        row(json!({"reset": {"afterBytes": 5, "connection": true}}), "200", 1, Broken),
        row(json!({"close": {}}), error, 0, Broken),
        row(json!({"close": {"connection": true}}), error, 0, Broken),
        row(json!({"close": {"afterHeaders": true}}), "200", 1, Broken),
        row(json!({"close": {"afterBytes": 5}}), "200", 1, Broken),
        row(json!({"lose": {}}), error, 1, Broken),
        of_others(json!({"body": "empty"}), Other),
        of_others(json!({"body": "garbled"}), Other),
        of_others(json!({"body": "doubled"}), Other),
        of_others(json!({"body": "html"}), Other),
        of_watches(json!({"watch": {"endAfter": 1}}), Other),
        of_watches(json!({"watch": {"stallAfter": 1}}), Broken),
        of_watches(json!({"watch": {"expireAfter": 1}}), Other),
        of_watches(json!({"watch": {"endAfterSeconds": 9}}), Server),
        of_watches(json!({"watch": {"stallAfterSeconds": 9}}), Server),
        of_watches(json!({"watch": "noBookmarks"}), Other),
        of_watches(json!({"watch": "duplicate"}), Other),
        of_watches(json!({"watch": "reorder"}), Other),
        of_watches(json!({"watch": {"delay": 0.001}}), Server),
        of_watches(json!({"watch": {"rewind": 3}}), Other),
        row(json!({"stale": {"age": 60}}), "200", 1, Server),
    ]
}

async fn every_effect(protocol: &'static str) {
    let bench = Bench::start(protocol);
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for ((effect, code, asked, text), on_watch) in rows() {
        for verb in Verb::ALL {
            bench.arm(json!({"effect": effect}));
            let (method, target) = request(verb);
            let before = (bench.asked.load(Ordering::SeqCst), bench.proxy.ledger().snapshot().last);
            let seen = bench.ask(method, target).await;
            let came = bench.asked.load(Ordering::SeqCst) - before.0;
            let text = on_watch.filter(|_| verb == Verb::Watch).unwrap_or(text);
            let server = format!("{{\"kind\":\"List\",\"number\":{}}}", before.0 + 1);
            let events = seen.body.split(|byte| *byte == b'\n').count();
            let is_server = seen.whole && seen.body.starts_with(server.as_bytes()) && events == 5;
            let found = if !seen.whole {
                Broken
            } else if is_server {
                Server
            } else {
                Other
            };
            // That a client has given up is noticed when its connection has gone.
            while !bench.proxy.ledger().snapshot().under_way.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let entry = bench.proxy.ledger().entries(before.1, 1).pop();
            let noted = entry.as_ref().and_then(|entry| entry.code.clone()).unwrap_or_default();
            if (seen.code.as_str(), came, found) != (code, asked, text) || noted != code {
                wrong.push(format!("{effect} {verb}: {seen:?}, server asked {came}, ledger {noted:?}"));
            }
            let verb = entry.map_or_else(String::new, |entry| entry.verb.to_string());
            *counted.entry((verb, seen.code)).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "{protocol}: {} of {}:\n{}", wrong.len(), rows().len() * Verb::ALL.len(), wrong.join("\n"));
    // The totals are those of the client, for each verb and code.
    let mut totals: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (key, count) in bench.proxy.ledger().snapshot().totals {
        *totals.entry((key.verb.into(), key.code.into())).or_default() += count;
    }
    assert_eq!(totals, counted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_effect_with_every_verb_over_http1() {
    every_effect("http/1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_effect_with_every_verb_over_http2() {
    every_effect("h2").await;
}
