//! In axum: no way past the layer, and the caller as an argument.

use ::axum::Router;
use ::axum::body::Body;
use ::axum::routing::{get, post};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_api_key::axum::{Protected, protect, test_endpoint};
use tower_api_key::{ApiKeyLayer, Identity, MemoryStore, Rejection, RejectionKind, Transport};

use crate::support::{Log, with_key};

fn router() -> Router {
    let nested = Router::new().route("/inner", get(async || "inner"));
    let layered = Router::new().route("/layered", get(async || "layered"));
    Router::new()
        .route("/", get(async |caller: Identity| caller.account().to_string()))
        .route("/post", post(async || "posted"))
        .nest("/nested", nested)
        .nest_service("/service", Router::new().fallback(async || "service"))
        .merge(layered.route_layer(::axum::middleware::from_fn(
            async |request: Request<Body>, next: ::axum::middleware::Next| next.run(request).await,
        )))
        .fallback(async || (StatusCode::NOT_FOUND, "own fallback"))
}

fn open_transport(store: MemoryStore) -> ApiKeyLayer {
    ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https())
}

async fn ask(
    service: Protected,
    method: &str,
    path: &str,
    key: Option<&str>,
) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("api-key", key);
    }
    let response = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn nothing_of_a_protected_router_answers_without_a_key() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    for router in [router(), Router::new()] {
        let service = protect(router, open_transport(store.clone()));
        for method in
            ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "BREW"]
        {
            for path in [
                "/",
                "/post",
                "/nested/inner",
                "/nested",
                "/nested/",
                "/nested/none",
                "/service/x",
                "/layered",
                "/none",
                "//",
                "/%2e%2e",
                "/post/",
                "/?api-key=x",
            ] {
                let (status, _) = ask(service.clone(), method, path, None).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                let (status, _) = ask(service.clone(), method, path, Some(&key)).await;
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path} with a key");
            }
        }
    }
}

#[tokio::test]
async fn handlers_answer_verified_callers_as_ever() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let service = protect(router(), open_transport(store));
    for (method, path, status, body) in [
        ("GET", "/", 200, "admin@example.com"),
        ("GET", "/nested/inner", 200, "inner"),
        ("GET", "/none", 404, "own fallback"),
        ("GET", "/post", 405, ""),
        ("POST", "/post", 200, "posted"),
    ] {
        let answer = ask(service.clone(), method, path, Some(&key)).await;
        assert_eq!(answer, (StatusCode::from_u16(status).unwrap(), body.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_protected_router_fits_beside_open_routes() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let app = Router::new()
        .route("/healthz", get(async || "ok"))
        .fallback_service(protect(router(), open_transport(store)));
    let ask = async |path: &str, key: &str| {
        let request = Request::builder().uri(path).header("api-key", key).body(Body::empty());
        app.clone().oneshot(request.unwrap()).await.unwrap().status()
    };
    assert_eq!(ask("/healthz", "none").await, StatusCode::OK);
    assert_eq!(ask("/healthz-internal", "none").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/", "none").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/", &key).await, StatusCode::OK);
}

#[tokio::test]
async fn the_rejection_is_in_the_response_for_outer_layers() {
    let service = protect(router(), ApiKeyLayer::new(MemoryStore::new()));
    let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.kind(), RejectionKind::NotHttps);
}

#[tokio::test]
async fn an_extractor_without_the_layer_says_what_to_do_and_not_to_strangers() {
    let (log, _guard) = Log::capture();
    let app = Router::new()
        .route("/must", get(async |caller: Identity| caller.account().to_string()))
        .route("/may", get(async |caller: Option<Identity>| caller.is_some().to_string()));
    let ask = async |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, body) = ask("/must").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, r#"{"message":"Something is wrong on our side.","type":"api_error"}"#);
    assert_eq!(log.lines("serve its route through tower_api_key::axum::protect").len(), 1);
    assert_eq!(ask("/may").await, (StatusCode::OK, "false".to_owned()));
}

#[tokio::test]
async fn an_optional_identity_is_there_behind_the_layer() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let may = get(async |caller: Option<Identity>| caller.is_some().to_string());
    let service = protect(Router::new().route("/", may), open_transport(store));
    assert_eq!(ask(service, "GET", "/", Some(&key)).await, (StatusCode::OK, "true".to_owned()));
}

#[tokio::test]
async fn the_test_endpoint_says_whose_key_it_is() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let named = test_endpoint(|caller| format!("\"{}\"", caller.account()));
    let service = protect(Router::new().route("/test", named), open_transport(store));
    let (status, body) = ask(service.clone(), "GET", "/test", Some(&key)).await;
    let expected = r#"{"message":"The API key is valid for account: \"admin@example.com\""}"#;
    assert_eq!((status, body.as_str()), (StatusCode::OK, expected));
    let (status, body) = ask(service.clone(), "GET", "/test", Some("acme_wrong")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("Invalid API key."));
    assert_eq!(ask(service, "POST", "/test", Some(&key)).await.0, StatusCode::METHOD_NOT_ALLOWED);
}
