//! Server-side apply of any JSON by two managers, onto a Deployment. It must stay an object that applies to itself.
#![no_main]

use apiserver::ApiServer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let server = ApiServer::builder().seed(1).build().expect("a server");
    for (manager, spec) in [("a", &input.0), ("b", &input.1), ("a", &input.1)] {
        let Ok(spec) = serde_json::from_slice::<serde_json::Value>(spec) else { return };
        let object = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
        let request = http::Request::builder()
            .method("PATCH")
            .uri(format!("/apis/apps/v1/namespaces/default/deployments/d?fieldManager={manager}&force=true"))
            .header("authorization", format!("Bearer {}", server.admin_token()))
            .header("content-type", "application/apply-patch+yaml")
            .body(wire::full(object.to_string()))
            .expect("a request");
        runtime.block_on(server.handle(request)).expect("an answer");
    }
});
