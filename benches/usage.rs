//! What counting the use of keys adds to an accepted request: `cargo bench --bench usage`.
//!
//! The two layers, one that counts and one that does not, are called in turn, a thousand requests at a
//! time, so that whatever else the machine does meets both alike. The counts are written every 10 s
//! meanwhile, as in a server.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::{HeaderValue, Request, Response};
use tower::{Layer as _, Service};
use tower_api_key::middleware::ApiKeyService;
use tower_api_key::{
    ApiKeyLayer, KeyManager, MemoryStore, NewKey, Transport, Usage, UsageSettings,
};

const ROUNDS: usize = 3_000;
/// A thousand, so that a round in microseconds is a request in nanoseconds.
const EACH: usize = 1_000;

#[derive(Clone)]
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        drop(black_box(request));
        ready(Ok(Response::new(())))
    }
}

/// An extension that is there already, as under axum.
#[derive(Clone)]
struct Already;

fn requests(keys: &[HeaderValue]) -> Vec<Request<()>> {
    let request = |number: usize| {
        let mut request = Request::new(());
        let headers = request.headers_mut();
        headers.insert("host", HeaderValue::from_static("api.example.com"));
        headers.insert("user-agent", HeaderValue::from_static("example/1.0"));
        headers.insert("accept", HeaderValue::from_static("application/json"));
        let key = HeaderValue::from_bytes(keys[number % keys.len()].as_bytes()).unwrap();
        headers.insert("api-key", key);
        request.extensions_mut().insert(Already);
        request
    };
    (0..EACH).map(request).collect()
}

/// Nanoseconds a request.
fn round(service: &mut ApiKeyService<Inner>, requests: Vec<Request<()>>) -> f64 {
    let mut context = Context::from_waker(Waker::noop());
    let start = Instant::now();
    for request in requests {
        match pin!(service.call(request)).poll(&mut context) {
            Poll::Ready(Ok(response)) => assert!(black_box(response).status().is_success()),
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => unreachable!("memory answers at once"),
        }
    }
    start.elapsed().as_secs_f64() * 1e6
}

/// What a request took in the quietest tenth of all rounds: other work only ever adds time.
fn quiet(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 10]
}

async fn compare(name: &str, key_count: usize) {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap()).with_limit(usize::MAX);
    let account = "admin@example.com".parse().unwrap();
    let mut keys = Vec::new();
    for _ in 0..key_count {
        let new = NewKey::new("Production CRM".parse().unwrap());
        let shown = manager.create(&account, new).await.unwrap().reveal();
        keys.push(HeaderValue::from_str(shown.as_str()).unwrap());
    }
    let usage = Usage::collect(store.clone(), UsageSettings::default());
    let bare = ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https());
    let mut services = [bare.layer(Inner), bare.with_usage(&usage).layer(Inner)];
    let mut taken = [Vec::new(), Vec::new()];
    for number in 0..2 * ROUNDS {
        let which = number % 2;
        let nanoseconds = round(&mut services[which], requests(&keys));
        taken[which].push(nanoseconds);
        tokio::task::yield_now().await;
    }
    usage.close().await;
    let [without, with] = taken.map(quiet);
    println!(
        "{name:<44} {without:>7.1} ns without, {with:>7.1} ns with: {:>5.3} x  aim 1.05",
        with / without
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            compare("an accepted request, one key", 1).await;
            compare("an accepted request, 1,000 keys in turn", 1_000).await;
        }
    });
}
