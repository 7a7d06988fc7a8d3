//! Runs one of a few things a number of times, for a machine that counts instructions: see
//! `benches/instructions.sh`. Uses only what older versions have too, so that they can be compared.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderValue, Request, Response};
use tower::{Layer as _, Service};
use tower_api_key::{ApiKeyLayer, KeyDigest, KeyManager, KeyText, MemoryStore, NewKey, Transport};

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

fn request(key: &HeaderValue) -> Request<()> {
    let mut request = Request::new(());
    for name in ["host", "user-agent", "accept", "accept-encoding", "content-type"] {
        request.headers_mut().insert(name, HeaderValue::from_static("a"));
    }
    request.headers_mut().insert("api-key", key.clone());
    request.extensions_mut().insert(Already);
    request
}

fn call<S, B>(mut service: S, key: &HeaderValue, times: usize)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        match pin!(service.call(request(key))).poll(&mut context) {
            // What is refused costs something else.
            Poll::Ready(Ok(response)) => assert!(black_box(response).status().is_success()),
            Poll::Pending => unreachable!("memory answers at once"),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    // Without arguments (`cargo bench`, `cargo test`) it only shows that it runs.
    let what = arguments.next().unwrap_or_else(|| "accept".to_owned());
    let times: usize = arguments.next().map_or(1, |times| times.parse().unwrap());

    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let new = NewKey::new("Production CRM".parse().unwrap());
    let new = new.with_environment("live".parse().unwrap());
    let issued = manager.create(&"admin@example.com".parse().unwrap(), new).await.unwrap();
    let text = issued.reveal();
    let key = HeaderValue::from_str(text.as_str()).unwrap();
    let layer = ApiKeyLayer::new(store).with_environment("live".parse().unwrap());
    let layer = layer.with_transport(Transport::dangerously_assume_https());
    match what.as_str() {
        "accept" => call(layer.layer(Inner), &key, times),
        "bare" => call(Inner, &key, times),
        "hash" => {
            for _ in 0..times {
                let text = black_box(text.as_str().as_bytes());
                black_box(KeyDigest::of(KeyText::parse(text).unwrap()));
            }
        }
        other => eprintln!("accept, bare or hash; not {other}"),
    }
}
