//! What a client does to the server that it should not: the right answer, or the end of its connection, and the others go on.

use apiserver::ApiServer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{get, post};

async fn started() -> ApiServer {
    ApiServer::builder().seed(1).start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// Sends bytes over TLS and reads what comes back until the server closes, or for as long as an answer has a known length.
async fn raw(server: &ApiServer, head: &str, body: impl Iterator<Item = Vec<u8>>) -> String {
    let tls = wire::pki::client_config(&server.authority_pem(), &["http/1.1"]).unwrap();
    let stream = tokio::net::TcpStream::connect(server.address().unwrap()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let head = head.replace("TOKEN", server.admin_token());
    let pieces: Vec<Vec<u8>> = std::iter::once(head.into_bytes()).chain(body).collect();
    let sending = tokio::spawn(async move {
        for piece in pieces {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = writer.flush().await;
        // Held open: an answer must not depend on the client's leaving.
        std::future::pending::<()>().await;
    });
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(std::time::Duration::from_secs(150), reader.read(&mut answer)).await;
    sending.abort();
    let length = read.expect("neither an answer nor the end of the connection").unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_their_answer_and_nobody_else_notices() {
    let server = started().await;
    let post_head = |length: usize| {
        format!(
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer TOKEN\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mib = || vec![b'x'; 1 << 20];
    let chunk = || [b"100000\r\n".to_vec(), mib(), b"\r\n".to_vec()].concat();
    let chunked = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer TOKEN\r\n\
                   Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let get_head = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer TOKEN\r\n\r\n");
    let none = || Vec::<Vec<u8>>::new().into_iter();
    // 100 MB, announced and not.
    assert!(raw(&server, &post_head(100 << 20), (0..100).map(|_| mib())).await.starts_with("HTTP/1.1 413"));
    let end = [b"0\r\n\r\n".to_vec()];
    assert!(raw(&server, chunked, (0..100).map(|_| chunk()).chain(end)).await.starts_with("HTTP/1.1 413"));
    for (body, expected) in [
        (&b"{\"metadata\":{\"name\":\"\xff\xfe\"}}"[..], "HTTP/1.1 400"),
        (b"{\"metadata\":", "HTTP/1.1 400"),
        (b"", "HTTP/1.1 400"),
        (b"{}", "HTTP/1.1 422"),
    ] {
        let answer = raw(&server, &post_head(body.len()), [body.to_vec()].into_iter()).await;
        assert!(answer.starts_with(expected), "{body:?}: {answer}");
    }
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20)).into_bytes();
    assert!(raw(&server, &post_head(deep.len()), [deep].into_iter()).await.starts_with("HTTP/1.1 400"));
    for (path, expected) in [
        ("/api/v1/namespaces/default/../../../etc/passwd", "HTTP/1.1 40"),
        ("/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets", "HTTP/1.1 404"),
        ("/api/v1/namespaces/default/configmaps/%00", "HTTP/1.1 404"),
        ("/api/v1/namespaces/default/configmaps/%ff%fe", "HTTP/1.1 404"),
        ("/api/v1/configmaps?limit=99999999999999999999999", "HTTP/1.1 "),
        ("/api/v1/configmaps?labelSelector=((((", "HTTP/1.1 400"),
        ("/api/v1/configmaps?continue=AAAA", "HTTP/1.1 400"),
    ] {
        let answer = raw(&server, &get_head(path), none()).await;
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
    // Too many and too long headers: an answer or the end, but no waiting for more.
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let answer = raw(&server, &format!("GET /version HTTP/1.1\r\n{many}\r\n"), none()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = "x".repeat(1 << 20);
    let answer = raw(&server, &format!("GET /version HTTP/1.1\r\nX: {long}\r\n\r\n"), none()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(raw(&server, "NONSENSE\r\n\r\n", none()).await.starts_with("HTTP/1.1 400"));

    assert_eq!(post(&server, "/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "a"}})).await.code, 201);
    assert_eq!(get(&server, "/api/v1/namespaces/default/configmaps/a").await.code, 200);
}
