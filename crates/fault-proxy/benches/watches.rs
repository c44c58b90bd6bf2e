//! Opens many watches, each on a connection of its own, and measures how long an event takes to reach all of them.
//!
//!     cargo bench -p fault-proxy --bench watches -- ADDRESS TOKEN COUNT

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use http::Request;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use wire::{Connection, Dial};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATH: &str = "/api/v1/namespaces/default/secrets";
/// Connections that are opened at the same time.
const AT_ONCE: usize = 64;

fn request(method: &str, target: &str, token: &str, body: &str) -> Result<Request<wire::Body>, Failure> {
    let request =
        Request::builder().method(method).uri(target).header("host", "bench").header("content-type", "application/json");
    Ok(request.header("authorization", format!("Bearer {token}")).body(wire::full(body.to_owned()))?)
}

async fn run(address: SocketAddr, token: &str, count: usize) -> Result<(), Failure> {
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let limit = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let began = Instant::now();
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..count {
        // Many addresses, so that ports do not run out.
        let source = Some(IpAddr::from([127, 2, (number / 250) as u8, (number % 250) as u8 + 1]));
        let dial = Dial { address, source, tls: Some(wire::pki::unverified_client_config()), server_name: None };
        let (limit, seen, token) = (limit.clone(), seen.clone(), token.to_owned());
        opening.spawn(async move {
            let _turn = limit.acquire().await?;
            let connection = Connection::open(&dial).await?;
            let response = connection.send(request("GET", &format!("{PATH}?watch=true"), &token, "")?).await?;
            if response.status() != 200 {
                return Err(format!("a watch was answered with {}", response.status()).into());
            }
            let mut body = response.into_body();
            tokio::spawn(async move {
                let _connection = connection;
                while let Some(Ok(frame)) = body.frame().await {
                    let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                    for _ in 0..lines {
                        let _ = seen.send(());
                    }
                }
            });
            Ok::<_, Failure>(())
        });
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    let open = began.elapsed();
    let writer =
        Connection::open(&Dial { address, source: None, tls: Some(wire::pki::unverified_client_config()), server_name: None })
            .await?;
    let began = Instant::now();
    let response = writer.send(request("POST", PATH, token, r#"{"metadata":{"name":"event"}}"#)?).await?;
    if response.status() != 201 {
        return Err(format!("the Secret was answered with {}", response.status()).into());
    }
    for _ in 0..count {
        arrivals.recv().await.ok_or("the watches ended")?;
    }
    println!("open_s {}", open.as_secs_f64());
    println!("event_s {}", began.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), Failure> {
    // `cargo test` and `cargo bench` add flags of their own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [address, token, count] = &arguments[..] else {
        println!("not run: it wants ADDRESS, TOKEN and a number; see `cargo xtask bench faults`");
        return Ok(());
    };
    wire::install_crypto_provider();
    let address = address.trim_start_matches("https://").parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(address, token, count.parse()?))
}
