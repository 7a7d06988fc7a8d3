//! A stream of events that ends with its key: `cargo run --example streams`, the line that it prints in
//! another terminal, and then a line of input here, which deletes the key.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use axum::{Router, routing::get};
use futures_util::{Stream, stream};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use tokio::net::TcpListener;
use tower_api_key::axum::protect;
use tower_api_key::{
    AccountId, ApiKeyLayer, EndsSettings, Identity, KeyEnds, KeyManager, MemoryStore, NewKey,
    Transport,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse()?);
    let account: AccountId = "admin@example.com".parse()?;
    let issued = manager.create(&account, NewKey::new("Dashboard".parse()?)).await?;
    let id = issued.record().id.clone();

    // One for the service, over the registry that the manager writes to.
    let ends = KeyEnds::watch(store.clone(), EndsSettings::default());
    let api = Router::new().route("/ticks", get(ticks)).with_state(ends);
    let layer = ApiKeyLayer::new(store).with_transport(Transport::insecure_on_loopback());
    let app = protect(api, layer);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    println!("curl --no-buffer -H 'API-Key: {}' http://{address}/ticks", issued.reveal().as_str());
    tokio::spawn(async move {
        let mut line = String::new();
        if BufReader::new(stdin()).read_line(&mut line).await.is_ok_and(|read| read > 0) {
            let deleted = manager.delete(&account, &id).await;
            println!("deleted: {}", deleted.is_ok());
        }
    });
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// The guard is outside of what takes time, and inside of what keeps the connection busy.
async fn ticks(
    State(ends): State<KeyEnds>,
    caller: Identity,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = stream::unfold(0_u64, async |number| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok(Event::default().data(number.to_string())), number + 1))
    });
    Sse::new(ends.guard(&caller, Box::pin(ticks))).keep_alive(KeepAlive::default())
}
