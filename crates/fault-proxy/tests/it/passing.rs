//! What passes is what it was.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::{Bench, start};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_reads_and_watches_pass() {
    let bench = Bench::start().await;
    let _program = bench.run(&[]);
    let client = bench.client();
    let mut watch = client.request("GET", &format!("{MAPS}?watch=true")).send().await.unwrap();
    let map = json!({"metadata": {"name": "a"}, "data": {"x": "é".repeat(10_000)}}).to_string();
    let create = || client.request("POST", MAPS).header("content-type", "application/json").body(map.clone());
    assert_eq!(create().send().await.unwrap().status(), 201);
    assert_eq!(create().send().await.unwrap().status(), 409);
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n") || !String::from_utf8_lossy(&seen).contains("\"name\":\"a\"") {
        let chunk = tokio::time::timeout(Duration::from_secs(10), watch.chunk()).await.unwrap().unwrap().unwrap();
        seen.extend_from_slice(&chunk);
    }
    let (status, read) = client.get(&format!("{MAPS}/a")).await;
    assert_eq!((status, read["data"]["x"].as_str().map(str::len)), (200, Some(20_000)));
    let table =
        client.request("GET", MAPS).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1").send().await.unwrap();
    assert_eq!(table.json::<serde_json::Value>().await.unwrap()["kind"], "Table");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_long_for_the_server_costs_the_proxy_nothing() {
    let bench = Bench::start().await;
    let program = bench.run(&[]);
    let client = bench.client();
    let long = "x".repeat(100 * 1024 * 1024);
    let body = json!({"metadata": {"name": "long"}, "data": {"x": long}}).to_string();
    // The server stops reading; whether its 413 or the closed connection is seen first is the client's luck without a proxy too.
    let answer = client.request("POST", MAPS).header("content-type", "application/json").body(body).send().await;
    assert!(answer.map_or(413, |response| response.status().as_u16()) == 413);
    assert_eq!(client.get(MAPS).await.0, 200);
    assert!(program.memory() < 80.0, "{} MB", program.memory());
}

/// Stands for a server that changes the protocol, which the embedded one does only for pods that run: it answers with 101, and
/// then sends back what it gets.
async fn echo(listener: tokio::net::TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.contains("upgrade: echo/1") && head.contains("connection: upgrade"), "{head}");
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n").await.unwrap();
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgraded_connections_are_joined() {
    wire::install_crypto_provider();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(echo(listener));
    let folder = tempfile::tempdir().unwrap();
    let program = start(folder.path(), &["--upstream", &upstream]);
    let address = program.url().trim_start_matches("https://");
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(wire::pki::unverified_client_config());
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = "POST /api/v1/namespaces/a/pods/p/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let long = vec![7; 1 << 20];
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = long.clone();
    let writing = tokio::spawn(async move { write.write_all(&sent).await.map(|()| write) });
    let mut back = vec![0; long.len()];
    read.read_exact(&mut back).await.unwrap();
    assert!(back == long);
    drop((writing.await.unwrap().unwrap(), read));
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap();
    let entries = program.control(folder.path(), "/ledger").await;
    assert_eq!((&entries[0]["verb"], &entries[0]["code"]), (&"connect".into(), &"101".into()));
}
