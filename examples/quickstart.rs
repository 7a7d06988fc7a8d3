//! An axum service behind API keys, for a developer's machine: `cargo run --example quickstart`.

use std::error::Error;
use std::net::SocketAddr;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_key::axum::protect;
use tower_api_key::{ApiKeyLayer, Identity, KeyManager, MemoryStore, NewKey, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse()?);
    let new = NewKey::new("Production CRM".parse()?);
    let issued = manager.create(&"admin@example.com".parse()?, new).await?;

    // Plain HTTP, from this machine only. For the real thing: the examples `server`,
    // `hyper_service` and `behind_proxy`.
    let layer = ApiKeyLayer::new(store).with_transport(Transport::insecure_on_loopback());
    let app = protect(Router::new().route("/hello", get(hello)), layer);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    println!("curl -H 'API-Key: {}' http://{address}/hello", issued.reveal().as_str());
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

async fn hello(caller: Identity) -> String {
    format!("Hello, {}\n", caller.account())
}
