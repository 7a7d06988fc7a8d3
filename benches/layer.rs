//! What the layer adds to a request, in multiples of one SHA-256 of the key: `cargo bench --bench layer`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

#[allow(unreachable_pub, dead_code, reason = "shared by the benchmarks")]
mod report;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse as _;
use axum::routing::get;
use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};
use tower::{Layer as _, Service};
use tower_api_key::axum::protect;
use tower_api_key::middleware::{Json, RenderRefusal as _};
use tower_api_key::{
    AccountId, ApiKeyLayer, KeyDigest, KeyFormat, KeyManager, KeyRecord, KeyRegistry as _, KeyText,
    MemoryStore, NewKey, Refusal, Rejection, RejectionKind, Transport,
};
use tower_http::validate_request::ValidateRequestHeaderLayer;

/// Requests made ahead of the clock: as few as keep them in the cache, where a server's parser has
/// just put the one that it hands over.
const BATCH: BatchSize = BatchSize::NumIterations(16);

type Answer = Ready<Result<Response<()>, Infallible>>;

/// The inner service: takes a request, answers with nothing, or with the two headers that every answer
/// of a protected service gets.
#[derive(Clone)]
struct Inner<const CACHE_HEADERS: bool>;

const BARE: Inner<false> = Inner;
const WITH_CACHE_HEADERS: Inner<true> = Inner;

impl<B, const CACHE_HEADERS: bool> Service<Request<B>> for Inner<CACHE_HEADERS> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        drop(black_box(request));
        let mut response = Response::new(());
        if CACHE_HEADERS {
            response.headers_mut().insert(header::CACHE_CONTROL, PRIVATE.clone());
            response.headers_mut().insert(header::VARY, KEY_NAME.clone());
        }
        ready(Ok(response))
    }
}

static PRIVATE: HeaderValue = HeaderValue::from_static("private");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
static KEY_NAME: HeaderValue = HeaderValue::from_static("API-Key");
static CHALLENGE: HeaderValue = HeaderValue::from_static(r#"ApiKey realm="api", header="API-Key""#);

/// An extension that is there already, as under axum.
#[derive(Clone)]
struct Already;

/// A request with ten headers beside the key.
fn request(key: Option<&HeaderValue>, extended: bool) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in [
        ("host", "api.example.com"),
        ("user-agent", "example/1.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("content-type", "application/json"),
        ("x-request-id", "8f2c"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("cache-control", "no-cache"),
        ("connection", "keep-alive"),
        ("content-length", "0"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Some(key) = key {
        request.headers_mut().insert("api-key", key.clone());
    }
    if extended {
        request.extensions_mut().insert(Already);
    }
    request
}

/// One call and the end of its response: kept responses would keep the allocator from using their
/// memory again, which is not how a server works.
fn call<S: Service<Request<B>>, B>(service: &mut S, request: Request<B>) {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(response) => drop(black_box(response)),
        Poll::Pending => unreachable!("memory answers at once"),
    }
}

/// What one call is answered: nobody wants to know how fast a mistake is.
fn assert_answers<S, B, R>(service: &mut S, request: Request<B>, expected: StatusCode)
where
    S: Service<Request<B>, Response = Response<R>>,
{
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut context) else {
        unreachable!("memory answers at once")
    };
    assert_eq!(response.status(), expected);
}

fn bench<S, R>(
    criterion: &mut Criterion,
    name: &str,
    mut service: S,
    keys: &[Option<HeaderValue>],
    extended: bool,
) where
    S: Service<Request<()>, Response = Response<R>>,
{
    let expected =
        if name.starts_with("refuse") { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    for key in keys {
        assert_answers(&mut service, request(key.as_ref(), extended), expected);
    }
    let mut next = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(
            || {
                next = (next + 1) % keys.len();
                // A copy of the text: a server's buffer, not the store's memory.
                let key =
                    keys[next].as_ref().map(|key| HeaderValue::from_bytes(key.as_bytes()).unwrap());
                request(key.as_ref(), extended)
            },
            |request| call(&mut service, request),
            BATCH,
        );
    });
}

/// A store with `count` keys, and up to 10,000 of their texts.
async fn filled(count: usize) -> (MemoryStore, Vec<Option<HeaderValue>>) {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let mut keys = Vec::new();
    let real = count.min(10_000);
    for number in 0..count {
        let account: AccountId = format!("account-{}", number / 25).parse().unwrap();
        if number < real {
            let new = NewKey::new("Production CRM".parse().unwrap());
            let new = new.with_environment("live".parse().unwrap());
            let key = manager.create(&account, new).await.unwrap().reveal();
            keys.push(Some(HeaderValue::from_str(key.as_str()).unwrap()));
        } else {
            let digest = KeyDigest::of(KeyText::parse(format!("{number}").as_bytes()).unwrap());
            let id = format!("key_{number}").parse().unwrap();
            let name = "Production CRM".parse().unwrap();
            let record = KeyRecord::new(id, account, name, digest, SystemTime::UNIX_EPOCH);
            let _ = store.insert(Arc::new(record), 25).await.unwrap();
        }
    }
    (store, keys)
}

fn layer(store: MemoryStore) -> ApiKeyLayer {
    let layer = ApiKeyLayer::new(store).with_environment("live".parse().unwrap());
    layer.with_transport(Transport::dangerously_assume_https())
}

/// The same job written by hand, as one would in axum.
async fn by_hand(
    State(keys): State<Arc<HashMap<[u8; 32], Arc<str>>>>,
    headers: HeaderMap,
    mut request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    let key = headers.get("api-key").and_then(|key| KeyText::parse(key.as_bytes()).ok());
    match key.and_then(|key| keys.get(KeyDigest::of(key).as_bytes())) {
        Some(account) => {
            request.extensions_mut().insert(Arc::clone(account));
            next.run(request).await
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn in_axum(criterion: &mut Criterion, store: &MemoryStore, keys: &[Option<HeaderValue>]) {
    let router = || Router::new().route("/", get(async || ()));
    let by_digest: HashMap<[u8; 32], Arc<str>> = keys
        .iter()
        .flatten()
        .map(|key| (*KeyDigest::of(KeyText::parse(key.as_bytes()).unwrap()).as_bytes(), "a".into()))
        .collect();
    let mut bare = router();
    let mut hand = router().layer(from_fn_with_state(Arc::new(by_digest), by_hand));
    let mut protected = protect(router(), layer(store.clone()));
    let setup = || request(keys[0].as_ref(), true).map(|()| axum::body::Body::empty());
    assert_answers(&mut bare, setup(), StatusCode::OK);
    assert_answers(&mut hand, setup(), StatusCode::OK);
    assert_answers(&mut protected, setup(), StatusCode::OK);
    criterion.bench_function("axum_bare", |bencher| {
        bencher.iter_batched(setup, |request| call(&mut bare, request), BATCH);
    });
    criterion.bench_function("axum_by_hand", |bencher| {
        bencher.iter_batched(setup, |request| call(&mut hand, request), BATCH);
    });
    criterion.bench_function("axum_protect", |bencher| {
        bencher.iter_batched(setup, |request| call(&mut protected, request), BATCH);
    });
}

fn refusals(criterion: &mut Criterion, store: &MemoryStore) {
    let value = |text: &'static str| [Some(HeaderValue::from_static(text))];
    let unknown = value("acme_live_000000000000000000000000000000000000000000003YtGRa");
    let service = layer(store.clone()).layer(BARE);
    bench(criterion, "refuse_no_key", service.clone(), &[None], true);
    let mistyped = value("acme_live_000000000000000000000000000000000000000000003YtGRb");
    bench(criterion, "refuse_malformed", service, &mistyped, true);
    let service = layer(store.clone()).with_key_format(KeyFormat::Any).layer(BARE);
    bench(criterion, "refuse_unknown", service, &unknown, true);

    // What any refusal costs: the request is dropped, and a response with its headers, its static
    // body and one extension is built.
    for (name, refusal) in [
        ("response_401_missing", Refusal::MissingKey),
        ("response_401_invalid", Refusal::InvalidKey),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter_batched(
                || request(unknown[0].as_ref(), true),
                |request| {
                    let mut response = Json.render(refusal, request.headers());
                    let headers = response.headers_mut();
                    headers.insert(header::WWW_AUTHENTICATE, CHALLENGE.clone());
                    headers.insert(header::CACHE_CONTROL, NO_STORE.clone());
                    headers.insert(header::VARY, KEY_NAME.clone());
                    response.extensions_mut().insert(Rejection::from(RejectionKind::MissingKey));
                    drop(black_box((request, response)));
                },
                BATCH,
            );
        });
    }
}

fn main() {
    report::forget();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (one, key) = runtime.block_on(filled(1));
    let mut criterion = report::criterion();
    let criterion = &mut criterion;

    let text = key[0].clone().unwrap();
    criterion.bench_function("sha256_of_the_key", |bencher| {
        bencher.iter(|| Sha256::digest(black_box(text.as_bytes())));
    });
    for (name, extended) in [("", false), ("_with_extensions", true)] {
        bench(criterion, &format!("bare{name}"), BARE, &key, extended);
        bench(criterion, &format!("bare_cache_headers{name}"), WITH_CACHE_HEADERS, &key, extended);
        let service = layer(one.clone()).layer(BARE);
        bench(criterion, &format!("accept_1_key{name}"), service, &key, extended);
    }
    refusals(criterion, &one);

    let expected = text.clone();
    let validate = ValidateRequestHeaderLayer::custom(move |request: &mut Request<()>| {
        if request.headers().get("api-key") == Some(&expected) {
            return Ok(());
        }
        let mut refused = Response::new(());
        *refused.status_mut() = StatusCode::UNAUTHORIZED;
        Err(refused)
    });
    bench(criterion, "tower_http_validate", validate.layer(BARE), &key, true);
    in_axum(criterion, &one, &key);

    let (million, keys) = runtime.block_on(filled(1_000_000));
    let service = layer(million).layer(BARE);
    bench(criterion, "accept_1000000_keys", service.clone(), &keys[..1], true);
    bench(criterion, "bare_in_turn", WITH_CACHE_HEADERS, &keys, true);
    bench(criterion, "accept_in_turn", service, &keys, true);
    print_table();
}

fn print_table() {
    let sha = "sha256_of_the_key";
    println!("\n{:<58} {:>11}  {:>8}", "added by the layer", "", "SHA-256s");
    let added = |what, with, base, aim| report::added(what, with, base, sha, aim);
    report::ratio("one SHA-256 of the key (59 bytes, two blocks)", sha, sha, "");
    added(
        "accept, request with extensions, 1 key",
        "accept_1_key_with_extensions",
        "bare_cache_headers_with_extensions",
        "aim 2.5",
    );
    added(
        "accept, request with extensions, 1,000,000 keys",
        "accept_1000000_keys",
        "bare_cache_headers_with_extensions",
        "aim 2.5",
    );
    let in_turn = "  10,000 of the 1,000,000 in turn, out of the cache";
    added(in_turn, "accept_in_turn", "bare_in_turn", "");
    added(
        "accept, request without extensions, 1 key",
        "accept_1_key",
        "bare_cache_headers",
        "aim 3.2",
    );
    added(
        "  the two cache headers of the response, apart",
        "bare_cache_headers_with_extensions",
        "bare_with_extensions",
        "",
    );
    added("refuse, no key", "refuse_no_key", "response_401_missing", "aim 0.5");
    added("refuse, malformed", "refuse_malformed", "response_401_invalid", "");
    added("refuse, unknown", "refuse_unknown", "response_401_invalid", "aim 2");
    added("  building the 401, apart", "response_401_invalid", "bare_with_extensions", "");
    added(
        "tower-http's ValidateRequestHeaderLayer (compares with ==)",
        "tower_http_validate",
        "bare_with_extensions",
        "",
    );
    added("in axum: protect()", "axum_protect", "axum_bare", "");
    added("in axum: the same job by hand in from_fn", "axum_by_hand", "axum_bare", "");
}
