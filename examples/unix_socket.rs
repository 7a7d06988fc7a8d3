//! On a Unix socket, behind something on the same machine that ends TLS:
//! `cargo run --example unix_socket`.
//!
//! A socket file has no peer address to trust or not. Who may connect is decided by the rights of the
//! file, and by vouching for it the operator says: only what ends TLS.

use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use axum::{Router, routing::get};
use tokio::net::UnixListener;
use tower_api_key::axum::protect;
use tower_api_key::{ApiKeyLayer, Identity, KeyManager, MemoryStore, NewKey, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse()?);
    let new = NewKey::new("Production CRM".parse()?);
    let issued = manager.create(&"admin@example.com".parse()?, new).await?;

    let layer = ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https());
    let app = protect(Router::new().route("/hello", get(hello)), layer);

    let path = std::env::args().nth(1).unwrap_or_else(|| "api.sock".into());
    let listener = UnixListener::bind(&path)?;
    // For the user of this process and, say, nginx in its group.
    std::fs::set_permissions(&path, Permissions::from_mode(0o660))?;
    let key = issued.reveal();
    println!("curl --unix-socket '{path}' -H 'API-Key: {}' http://localhost/hello", key.as_str());
    axum::serve(listener, app.into_make_service()).await?;
    Ok(())
}

async fn hello(caller: Identity) -> String {
    format!("Hello, {}\n", caller.account())
}
