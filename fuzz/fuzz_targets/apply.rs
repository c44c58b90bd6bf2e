//! Server-side apply by two managers onto a Deployment, of JSON that is grown from the input with names that a Deployment has.
//! Each request has an answer that is no panic, and applying the same twice changes nothing.
#![no_main]

use std::sync::OnceLock;

use apiserver::ApiServer;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const NAMES: [&str; 16] = [
    "replicas", "selector", "matchLabels", "template", "metadata", "labels", "spec", "containers", "name", "image", "ports",
    "containerPort", "protocol", "env", "value", "a",
];

/// A value that the next bytes describe.
fn grow(bytes: &mut impl Iterator<Item = u8>, depth: u8) -> Value {
    let Some(byte) = bytes.next() else { return Value::Null };
    let name = |byte: u8| NAMES[usize::from(byte) % NAMES.len()];
    match byte % 8 {
        0 => Value::Null,
        1 => (byte > 128).into(),
        2 => i64::from(byte).into(),
        3 => name(byte >> 3).into(),
        4 if depth > 0 => (0..byte >> 6).map(|_| grow(bytes, depth - 1)).collect(),
        _ if depth > 0 => {
            let mut map = Map::new();
            for _ in 0..=(byte >> 6) {
                let Some(key) = bytes.next() else { break };
                map.insert(name(key).to_owned(), grow(bytes, depth - 1));
            }
            map.into()
        }
        _ => json!({}),
    }
}

fuzz_target!(|input: &[u8]| {
    static SERVER: OnceLock<(ApiServer, tokio::runtime::Runtime)> = OnceLock::new();
    let (server, runtime) = SERVER.get_or_init(|| {
        let server = ApiServer::builder().seed(1).build().expect("a server");
        (server, tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"))
    });
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let send = |method: &str, query: &str, body: String| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}{query}"))
            .header("authorization", format!("Bearer {}", server.admin_token()))
            .header("content-type", if method == "PATCH" { "application/apply-patch+yaml" } else { "application/json" })
            .body(wire::full(body))
            .expect("a request");
        runtime.block_on(async {
            let answer = server.handle(request).await.expect("an answer");
            let code = answer.status().as_u16();
            (code, wire::collect(answer.into_body(), 1 << 24).await.expect("a body"))
        })
    };
    let mut bytes = input.iter().copied();
    for manager in ["a", "b", "a"] {
        let mut spec = json!({"selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}});
        match grow(&mut bytes, 5) {
            Value::Object(grown) if bytes.next().is_none_or(|byte| byte % 4 > 0) => {
                grown.into_iter().for_each(|(key, value)| spec["template"]["spec"]["containers"][0][key] = value);
            }
            grown => spec = grown,
        }
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}).to_string();
        let query = format!("?fieldManager={manager}&force=true");
        let (code, first) = send("PATCH", &query, object.clone());
        if code < 300 {
            let (again, second) = send("PATCH", &query, object);
            assert_eq!((again, &second), (200, &first), "applying the same twice changed it");
        }
    }
    send("DELETE", "", String::new());
});
