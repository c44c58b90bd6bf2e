//! Runs the API server alone until it is interrupted: `cargo run -p apiserver --example serve -- 127.0.0.1:0 KUBECONFIG`.

use apiserver::ApiServer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let server = ApiServer::builder().start(address).await?;
    if let Some(path) = arguments.next() {
        std::fs::write(path, server.kubeconfig("serve"))?;
    }
    println!("{}", serde_json::json!({"url": server.url(), "token": server.admin_token()}));
    tokio::signal::ctrl_c().await?;
    Ok(())
}
