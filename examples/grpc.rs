//! A gRPC service behind API keys: tonic's health service, whole. `cargo run --example grpc`, and with
//! another key or none:
//!
//! ```sh
//! grpcurl -plaintext -H 'api-key: acme_…' 127.0.0.1:3000 grpc.health.v1.Health/Check
//! ```

use std::error::Error;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_api_key::axum::protect;
use tower_api_key::middleware::Grpc;
use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore, NewKey, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse()?);
    let new = NewKey::new("Production CRM".parse()?);
    let key = manager.create(&"admin@example.com".parse()?, new).await?.reveal();

    // Any service that tonic generates is added here; each answers with the caller's `Identity` in the
    // request's extensions.
    let (_reporter, health) = tonic_health::server::health_reporter();
    let services = Routes::new(health).into_axum_router();

    // Plain HTTP/2, from this machine only. With TLS in this process: the example `server`.
    let layer = ApiKeyLayer::new(store)
        .with_renderer(Grpc::new())
        .with_transport(Transport::insecure_on_loopback());
    let app = protect(services, layer);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let serving = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .into_future();
    let serving = tokio::spawn(serving);

    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let mut client = HealthClient::new(channel);
    let refused = client.check(HealthCheckRequest::default()).await;
    println!(
        "without a key: {:?}",
        refused.map_err(|status| (status.code(), status.message().to_owned()))
    );

    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("api-key", key.as_str().parse()?);
    let answer = client.check(request).await?.into_inner();
    println!("with a key: {:?}", answer.status());
    println!(
        "grpcurl -plaintext -H 'api-key: {}' {address} grpc.health.v1.Health/Check",
        key.as_str()
    );
    Ok(serving.await??)
}
