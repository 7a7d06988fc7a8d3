//! hyper and tokio-rustls with an accept loop of one's own, without axum:
//! `cargo run --example hyper_service`.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, service_fn};
use tower_api_key::middleware::ApiKeyService;
use tower_api_key::tls::Acceptor;
use tower_api_key::{ApiKeyLayer, Identity, KeyManager, MemoryStore, NewKey};

type HelloService =
    tower::util::BoxCloneSyncService<Request<Incoming>, Response<Full<Bytes>>, Infallible>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse()?);
    let new = NewKey::new("Production CRM".parse()?);
    let issued = manager.create(&"admin@example.com".parse()?, new).await?;

    let hello = HelloService::new(service_fn(hello));
    let service = ApiKeyLayer::new(store).layer(hello);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3443".into());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let acceptor = Acceptor::new(self_signed()?);
    println!("curl --insecure -H 'API-Key: {}' https://{address}/", issued.reveal().as_str());
    loop {
        let (socket, _) = listener.accept().await?;
        let (acceptor, service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(&acceptor, socket, service).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

/// One connection: TLS ends here, and every request on it carries the evidence.
async fn serve(
    acceptor: &Acceptor,
    socket: TcpStream,
    service: ApiKeyService<HelloService>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (stream, service) = acceptor.accept(socket, service).await?;
    let service = TowerToHyperService::new(service);
    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let caller = request.extensions().get::<Identity>().map(Identity::account);
    let text = caller.map_or_else(String::new, |account| format!("Hello, {account}\n"));
    Ok(Response::new(Full::from(text)))
}

/// A certificate for this run. Bring your own.
fn self_signed() -> Result<Arc<rustls::ServerConfig>, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()])?;
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
