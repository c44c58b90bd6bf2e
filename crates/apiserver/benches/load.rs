//! A client that loads an API server over TLS and prints a line for each figure; `cargo xtask bench apiserver` runs it.
//!
//!     cargo bench -p apiserver --bench load -- ADDRESS TOKEN
//!
//! It is a process of its own, as clients are: it shares the machine's cores with the server and nothing else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use wire::{Connection, Dial};

const WATCHERS: usize = 1000;
const EVENTS: usize = 50;
const PODS: usize = 10_000;
const OBJECTS: usize = 100_000;
/// Connections that create objects.
const WRITERS: usize = 16;
/// Requests whose median is a figure.
const SAMPLES: usize = 2000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Target {
    dial: Dial,
    token: String,
}

impl Target {
    async fn open(&self) -> Result<Connection, Failure> {
        Ok(Connection::open(&self.dial).await?)
    }

    fn request(&self, method: &str, path: &str, body: String) -> Result<Request<wire::Body>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "bench")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json");
        Ok(request.body(wire::full(body))?)
    }

    async fn create(&self, on: &Connection, path: &str, object: &serde_json::Value) -> Result<(), Failure> {
        let response = on.send(self.request("POST", path, object.to_string())?).await?;
        let status = response.status();
        response.into_body().collect().await?;
        if status == 201 { Ok(()) } else { Err(format!("{path}: {status}").into()) }
    }

    /// How long a GET takes until its last byte is here, and how many bytes there are.
    async fn get(&self, on: &Connection, path: &str) -> Result<(Duration, usize), Failure> {
        let began = Instant::now();
        let mut body = on.send(self.request("GET", path, String::new())?).await?.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame?.data_ref().map_or(0, bytes::Bytes::len);
        }
        Ok((began.elapsed(), size))
    }

    /// Creates `count` objects over several connections.
    async fn fill(&self, path: &'static str, count: usize, object: fn(usize) -> serde_json::Value) -> Result<(), Failure> {
        let writers = (0..WRITERS).map(|writer| {
            let target = self.clone();
            tokio::spawn(async move {
                let connection = target.open().await?;
                for number in (writer..count).step_by(WRITERS) {
                    target.create(&connection, path, &object(number)).await?;
                }
                Ok::<_, Failure>(())
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await??;
        }
        Ok(())
    }

    /// The median of many GETs of one object, in microseconds.
    async fn median_get(&self, path: &str) -> Result<f64, Failure> {
        let connection = self.open().await?;
        let mut taken = Vec::new();
        for _ in 0..SAMPLES {
            taken.push(self.get(&connection, path).await?.0);
        }
        taken.sort();
        Ok(taken[SAMPLES / 2].as_secs_f64() * 1e6)
    }

    /// Watchers that each have a connection; how long events take to reach them, in milliseconds: median, 99 of 100, worst.
    async fn watchers(&self) -> Result<[f64; 3], Failure> {
        const PATH: &str = "/api/v1/namespaces/default/secrets";
        let (seen, mut arrivals) = mpsc::unbounded_channel::<Instant>();
        for _ in 0..WATCHERS {
            let (target, seen) = (self.clone(), seen.clone());
            let connection = target.open().await?;
            let request = target.request("GET", &format!("{PATH}?watch=true"), String::new())?;
            let mut body = connection.send(request).await?.into_body();
            tokio::spawn(async move {
                let _connection = connection;
                while let Some(Ok(frame)) = body.frame().await {
                    let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                    for _ in 0..lines {
                        let _ = seen.send(Instant::now());
                    }
                }
            });
        }
        let writer = self.open().await?;
        let mut delays = Vec::new();
        for event in 0..EVENTS {
            let began = Instant::now();
            self.create(&writer, PATH, &json!({"metadata": {"name": format!("e-{event}")}})).await?;
            for _ in 0..WATCHERS {
                let arrived = arrivals.recv().await.ok_or("the watches ended")?;
                delays.push(arrived.duration_since(began).as_secs_f64() * 1e3);
            }
        }
        delays.sort_by(f64::total_cmp);
        let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
        Ok([at(0.5), at(0.99), at(1.0)])
    }
}

fn pod(number: usize) -> serde_json::Value {
    json!({
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": "web", "index": number.to_string()}},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"name": "metrics", "containerPort": 8443}],
            "env": [{"name": "A", "value": "b"}], "resources": {"requests": {"cpu": "10m", "memory": "20Mi"}}}]},
    })
}

async fn run(target: Target) -> Result<Vec<(&'static str, f64)>, Failure> {
    let [median, p99, worst] = target.watchers().await?;
    target.fill("/api/v1/namespaces/default/pods", PODS, pod).await?;
    let connection = target.open().await?;
    let mut lists = Vec::new();
    let mut size = 0;
    for _ in 0..11 {
        let (taken, bytes) = target.get(&connection, "/api/v1/pods").await?;
        lists.push(taken);
        size = bytes;
    }
    lists.sort();
    target.fill("/api/v1/namespaces/default/configmaps", 10, map).await?;
    let one = "/api/v1/namespaces/default/configmaps/map-1";
    let before = target.median_get(one).await?;
    target.fill("/api/v1/namespaces/default/configmaps", OBJECTS, |number| map(number + 10)).await?;
    let after = target.median_get(one).await?;
    Ok(vec![
        ("watch_p50_ms", median),
        ("watch_p99_ms", p99),
        ("watch_worst_ms", worst),
        ("list_ms", lists[lists.len() / 2].as_secs_f64() * 1e3),
        ("list_mb", size as f64 / 1e6),
        ("get_few_us", before),
        ("get_many_us", after),
    ])
}

fn map(number: usize) -> serde_json::Value {
    json!({"metadata": {"name": format!("map-{number}")}, "data": {"a": "b"}})
}

fn main() -> Result<(), Failure> {
    // `cargo test` and `cargo bench` add flags of their own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [address, token] = &arguments[..] else {
        println!("not run: it wants ADDRESS and TOKEN of a server; see `cargo xtask bench apiserver`");
        return Ok(());
    };
    wire::install_crypto_provider();
    let tls = Some(wire::pki::unverified_client_config());
    let address: SocketAddr = address.trim_start_matches("https://").parse()?;
    let target = Target { dial: Dial { address, source: None, tls, server_name: None }, token: token.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (figure, value) in runtime.block_on(run(target))? {
        println!("{figure} {value}");
    }
    Ok(())
}
