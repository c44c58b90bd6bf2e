//! What is particular to one effect.

use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::bench::{Bench, ask, request};

const LIST: &str = "/api/v1/namespaces/a/pods";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_answered_while_it_is_old_enough() {
    let bench = Bench::start("h2");
    bench.arm(json!({"effect": {"stale": {"age": 0.2}}}));
    let connection = bench.connect().await.unwrap();
    let first = ask(&connection, "GET", LIST).await;
    assert!(first.body.starts_with(b"{\"kind\":\"List\",\"number\":1}"), "nothing is old enough");
    tokio::time::sleep(Duration::from_millis(250)).await;
    let second = ask(&connection, "GET", LIST).await;
    assert_eq!(second.body, first.body);
    assert_eq!(bench.asked.load(Ordering::SeqCst), 2, "what will be the past is asked for all the same");
    let other = ask(&connection, "GET", "/api/v1/namespaces/b/pods").await;
    assert!(other.body.starts_with(b"{\"kind\":\"List\",\"number\":3}"), "of another request there is no past");
    bench.proxy.engine().clear(None);
    let fresh = ask(&connection, "GET", LIST).await;
    assert!(fresh.body.starts_with(b"{\"kind\":\"List\",\"number\":4}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_to_go_finishes_what_is_under_way() {
    for protocol in ["http/1.1", "h2"] {
        let bench = Bench::start(protocol);
        bench.arm(json!({"effect": {"goaway": {}}, "budget": {"first": 1}}));
        let connection = bench.connect().await.unwrap();
        let seen = ask(&connection, "GET", LIST).await;
        assert!(seen.whole && seen.code == "200", "{protocol}");
        let gone = async {
            while !connection.is_closed().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.expect(protocol);
        assert_eq!(bench.ask("GET", LIST).await.code, "200");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_reset_with_the_code_and_the_connection_stays() {
    let bench = Bench::start("h2");
    let connection = bench.connect().await.unwrap();
    for (code, reason) in [
        ("REFUSED_STREAM", h2::Reason::REFUSED_STREAM),
        ("ENHANCE_YOUR_CALM", h2::Reason::ENHANCE_YOUR_CALM),
        ("HTTP_1_1_REQUIRED", h2::Reason::HTTP_1_1_REQUIRED),
    ] {
        bench.arm(json!({"effect": {"reset": {"code": code}}, "budget": {"first": 1}}));
        let error = connection.send(request("GET", LIST)).await.unwrap_err();
        let source = error.source().and_then(|source| source.downcast_ref::<h2::Error>()).unwrap();
        assert_eq!(source.reason(), Some(reason));
        assert_eq!(ask(&connection, "GET", LIST).await.code, "200", "the connection is still good");
    }
    // The whole connection takes what else is under way with it.
    bench.arm(json!({"match": {"namespace": "z"}, "effect": {"hang": {}}}));
    let hanging = async { connection.send(request("GET", "/api/v1/namespaces/z/pods")).await.is_err() };
    let breaking = async {
        while bench.proxy.ledger().snapshot().under_way.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let rule = json!({"name": "all", "effect": {"reset": {"connection": true}}});
        bench.proxy.engine().add(jiff::Timestamp::now(), serde_json::from_value(rule).unwrap()).unwrap();
        ask(&connection, "GET", LIST).await.code
    };
    let (hanging, code) = tokio::join!(hanging, breaking);
    assert!(hanging && code == "<error>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_numbered_on_their_connection() {
    for protocol in ["http/1.1", "h2"] {
        let bench = Bench::start(protocol);
        bench.arm(json!({"match": {"nthOnConnection": [1, "3.."]}, "effect": {"status": {"code": 503}}}));
        for _ in 0..2 {
            let connection = bench.connect().await.unwrap();
            let mut codes = Vec::new();
            for _ in 0..4 {
                codes.push(ask(&connection, "GET", LIST).await.code);
            }
            assert_eq!(codes, ["503", "200", "503", "503"], "{protocol}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_exact_over_many_connections() {
    let bench = Bench::start("h2");
    bench.arm(json!({"effect": {"status": {"code": 500}}, "budget": {"first": 100}}));
    let connections = futures_util::future::join_all((0..8).map(|_| bench.connect())).await;
    let asking = connections.iter().flatten().map(|connection| async move {
        let mut failures = 0;
        for _ in 0..50 {
            failures += u64::from(ask(connection, "GET", LIST).await.code == "500");
        }
        failures
    });
    let failures: u64 = futures_util::future::join_all(asking).await.into_iter().sum();
    assert_eq!(failures, 100);
    assert_eq!(bench.proxy.ledger().snapshot().by_rule["fault"], 100);
}
