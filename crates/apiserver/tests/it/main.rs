//! The API server as its users have it: requests in memory where that is enough, sockets and TLS where they matter.

mod access;
mod apply;
mod custom;
mod identity;
mod limits;
mod persistence;
mod protocol;
mod semantics;
mod watch;
mod webhook;

use apiserver::ApiServer;
use http::Request;
use serde_json::Value;

/// What came back: the code, the headers and the body as JSON (null where it is none).
struct Answer {
    code: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    fn version(&self) -> String {
        self.body["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request as an administrator, in memory.
async fn send(server: &ApiServer, method: &str, path: &str, content_type: &str, body: impl ToString) -> Answer {
    send_as(server, Some(server.admin_token()), method, path, content_type, body).await
}

async fn send_as(
    server: &ApiServer,
    token: Option<&str>,
    method: &str,
    path: &str,
    content_type: &str,
    body: impl ToString,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("content-type", content_type);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = server.handle(request.body(wire::full(body.to_string())).unwrap()).await.unwrap();
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = wire::collect(response.into_body(), 1 << 24).await.unwrap();
    Answer { code, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

async fn get(server: &ApiServer, path: &str) -> Answer {
    send(server, "GET", path, "application/json", "").await
}

async fn post(server: &ApiServer, path: &str, body: Value) -> Answer {
    send(server, "POST", path, "application/json", body).await
}

async fn merge(server: &ApiServer, path: &str, body: Value) -> Answer {
    send(server, "PATCH", path, "application/merge-patch+json", body).await
}

async fn apply(server: &ApiServer, path: &str, manager: &str, force: bool, body: Value) -> Answer {
    let path = format!("{path}?fieldManager={manager}&force={force}");
    send(server, "PATCH", &path, "application/apply-patch+yaml", body).await
}

fn server() -> ApiServer {
    ApiServer::builder().seed(1).build().unwrap()
}
