//! Behind a proxy that ends TLS: `cargo run --example behind_proxy`.
//!
//! Only the proxies of the list may say that a client came over HTTPS, and only in the one header
//! that the service chose. The proxy must set that header, not append to it. Its word on the client's address
//! is taken too, which it must set, or append to; for nginx:
//!
//! ```text
//! proxy_set_header X-Forwarded-Proto $scheme;
//! proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
//! ```

use std::error::Error;
use std::net::SocketAddr;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_key::axum::protect;
use tower_api_key::{
    ApiKeyLayer, Identity, KeyManager, MemoryStore, NewKey, Transport, TrustedProxies,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse()?);
    let new = NewKey::new("Production CRM".parse()?);
    let issued = manager.create(&"admin@example.com".parse()?, new).await?;

    // Here the proxy runs on this machine. `TrustedProxies::forwarded` reads RFC 7239's header.
    let proxies = TrustedProxies::x_forwarded_proto(["127.0.0.1"])?.with_x_forwarded_for();
    let layer = ApiKeyLayer::new(store).with_transport(Transport::behind(proxies));
    let app = protect(Router::new().route("/hello", get(hello)), layer);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    println!("# as the proxy would forward it:");
    println!(
        "curl -H 'X-Forwarded-Proto: https' -H 'API-Key: {}' http://{address}/hello",
        issued.reveal().as_str()
    );
    // With the peer's address, which the rule is about.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

async fn hello(caller: Identity) -> String {
    format!("Hello, {}\n", caller.account())
}
