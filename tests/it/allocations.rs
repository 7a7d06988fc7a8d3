//! Accepting a key allocates for the identity's insertion into the extensions, and for nothing else.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Ready;

use http::{Extensions, Request, Response};
use tower::{Layer as _, Service as _};
use tower_api_key::{ApiKeyLayer, Identity, MemoryStore, Transport};

use crate::support::with_key;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
pub(crate) struct Counting;

#[allow(
    unsafe_code,
    reason = "a global allocator cannot be written without it; every call is passed on"
)]
// SAFETY: the system's allocator does the work; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What some work gives, and how often it allocates.
pub(crate) fn allocations<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.get();
    let result = work();
    (result, COUNT.get() - before)
}

/// Allocates nothing by itself.
fn inner() -> impl tower::Service<
    Request<()>,
    Response = Response<()>,
    Error = Infallible,
    Future = Ready<Result<Response<()>, Infallible>>,
> + Clone {
    tower::service_fn(|request: Request<()>| {
        assert!(request.extensions().get::<Identity>().is_some());
        let mut response = Response::new(());
        // Room for the two headers that the layer adds, as a real service's response has.
        response.headers_mut().reserve(8);
        std::future::ready(Ok(response))
    })
}

async fn accepting(extensions: Extensions) -> usize {
    let store = MemoryStore::new();
    let (_manager, key) = with_key(store.clone()).await;
    let layer = ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https());
    let mut service = layer.layer(inner());
    let mut request = Request::builder().header("api-key", key).body(()).unwrap();
    *request.extensions_mut() = extensions;

    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let (answered, with_layer) = allocations(|| {
        let mut call = std::pin::pin!(service.call(request));
        call.as_mut().poll(&mut context).is_ready()
    });
    assert!(answered, "memory answers at once");
    let ((), of_the_response) = allocations(|| {
        let mut response = Response::new(());
        response.headers_mut().reserve(8);
    });
    with_layer - of_the_response
}

#[derive(Clone)]
struct Already;

#[tokio::test]
async fn accepting_allocates_once_where_the_request_has_extensions() {
    let mut extensions = Extensions::new();
    extensions.insert(Already);
    assert_eq!(accepting(extensions).await, 1, "the identity's box");
}

#[tokio::test]
async fn accepting_allocates_three_times_where_the_request_has_none() {
    assert_eq!(accepting(Extensions::new()).await, 3, "the map, its table, the identity's box");
}
