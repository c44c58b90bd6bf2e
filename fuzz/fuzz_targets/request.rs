//! Any request: method, path and query, content type, body. None may panic, and each has an answer.
#![no_main]

use std::sync::OnceLock;

use apiserver::ApiServer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, String, u8, Vec<u8>)| {
    static SERVER: OnceLock<(ApiServer, tokio::runtime::Runtime)> = OnceLock::new();
    let (server, runtime) = SERVER.get_or_init(|| {
        let server = ApiServer::builder().seed(1).build().expect("a server");
        (server, tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"))
    });
    let (method, path, kind, body) = input;
    let method = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"][usize::from(method) % 7];
    let kind = [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ][usize::from(kind) % 7];
    let request = http::Request::builder()
        .method(method)
        .uri(format!("/{path}"))
        .header("authorization", format!("Bearer {}", server.admin_token()))
        .header("content-type", kind)
        .body(wire::full(body));
    if let Ok(request) = request {
        let answer = runtime.block_on(server.handle(request)).expect("an answer");
        assert_ne!(answer.status(), 500, "a panic is answered with 500");
    }
});
