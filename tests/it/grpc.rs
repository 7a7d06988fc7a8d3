//! gRPC: a real client of tonic's, and a real service of tonic's behind the layer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;
use tower_api_key::axum::{Protected, protect};
use tower_api_key::middleware::Grpc;
use tower_api_key::{
    ApiKeyLayer, Fingerprint, KeyStore, Lookup, MemoryStore, NewKey, Refusal, StoreError, Transport,
};

use crate::support::{Program, account, soon, text, with_key};

fn layer(store: impl KeyStore) -> ApiKeyLayer {
    ApiKeyLayer::new(store)
        .with_renderer(Grpc::new())
        .with_transport(Transport::insecure_on_loopback())
}

fn service(layer: ApiKeyLayer) -> Protected {
    let (_, health) = tonic_health::server::health_reporter();
    protect(tonic::service::Routes::new(health).into_axum_router(), layer)
}

/// A service on a port of its own, and a client of it.
async fn client(layer: ApiKeyLayer) -> HealthClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = service(layer).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { ::axum::serve(listener, service).await });
    HealthClient::new(Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy())
}

/// What a call is told: nothing but that it is served, or why not.
async fn call(client: &mut HealthClient<Channel>, key: Option<&str>) -> Result<i32, Status> {
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    if let Some(key) = key {
        request.metadata_mut().insert("api-key", key.parse().unwrap());
    }
    soon(client.check(request)).await.map(|answer| answer.into_inner().status)
}

fn assert_refused(answer: Result<i32, Status>, code: Code, refusal: Refusal) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, refusal.message()), "{status:?}");
}

#[tokio::test]
async fn a_client_sees_the_code_and_the_message() {
    let store = MemoryStore::new();
    let (manager, key) = with_key(store.clone()).await;
    let mut plain = client(layer(store.clone())).await;
    assert_eq!(call(&mut plain, Some(&key)).await.unwrap(), 1);
    assert_refused(call(&mut plain, None).await, Code::Unauthenticated, Refusal::MissingKey);
    let wrong = format!("{}!", &key[..key.len() - 1]);
    let wrong = call(&mut plain, Some(&wrong)).await;
    assert_refused(wrong, Code::Unauthenticated, Refusal::InvalidKey);

    let mut scoped =
        client(layer(store.clone()).with_required_scope("health".parse().unwrap())).await;
    assert_refused(
        call(&mut scoped, Some(&key)).await,
        Code::PermissionDenied,
        Refusal::MissingScope,
    );
    let new = NewKey::new("x".parse().unwrap()).with_scopes("health".parse().unwrap());
    let allowed = text(manager.create(&account("b"), new).await.unwrap());
    assert_eq!(call(&mut scoped, Some(&allowed)).await.unwrap(), 1);

    let tls_only = layer(store).with_transport(Transport::tls());
    let in_the_clear = call(&mut client(tls_only).await, Some(&key)).await;
    assert_refused(in_the_clear, Code::Unauthenticated, Refusal::NotHttps);
}

struct Down;

impl KeyStore for Down {
    fn find(&self, _: Fingerprint) -> Lookup {
        Lookup::ready(Err(StoreError::unavailable("test", "the disk is on fire")))
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_unavailable_and_never_unauthenticated() {
    let (_, key) = with_key(MemoryStore::new()).await;
    let answer = call(&mut client(layer(Down)).await, Some(&key)).await;
    assert_refused(answer, Code::Unavailable, Refusal::Unavailable);
}

async fn answer(content_type: &str) -> http::Response<::axum::body::Body> {
    let layer = layer(MemoryStore::new()).with_transport(Transport::dangerously_assume_https());
    let request =
        Request::post("/grpc.health.v1.Health/Check").header("content-type", content_type);
    service(layer).oneshot(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn only_a_401_has_a_challenge_and_every_refusal_stays_out_of_caches() {
    let grpc = answer("application/grpc").await;
    assert_eq!(
        (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
        (200, &"16".parse().unwrap())
    );
    assert!(!grpc.headers().contains_key("www-authenticate"));
    let web = answer("application/grpc-web").await;
    assert_eq!(web.status(), 401);
    assert!(web.headers().contains_key("www-authenticate"));
    for answer in [grpc, web] {
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert_eq!(answer.headers()["vary"], "API-Key");
        let is_grpc = answer.status() == 200;
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().is_empty(), is_grpc);
    }
}

#[tokio::test]
async fn the_example_serves_who_has_a_key() {
    let mut program = Program::start("grpc", &["127.0.0.1:0"]);
    let refused = program.line(|line| line.starts_with("without a key"));
    assert!(refused.contains("Unauthenticated") && refused.contains("No API key"), "{refused}");
    assert_eq!(program.line(|line| line.starts_with("with a key")), "with a key: Serving");
    let line = program.line(|line| line.starts_with("grpcurl"));
    let key = line.split('\'').nth(1).unwrap().split_once(": ").unwrap().1;
    let address = line.split(' ').find(|word| word.starts_with("127.")).unwrap();
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    assert_eq!(call(&mut HealthClient::new(channel), Some(key)).await.unwrap(), 1);
}
