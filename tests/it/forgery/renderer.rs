// E0599
use bytes::Bytes;
use http::{HeaderMap, Response};
use tower_api_key::{ApiKeyLayer, MemoryStore, Refusal};

fn main() {
    // A renderer is not told why a key is invalid.
    let _ = ApiKeyLayer::new(MemoryStore::new()).with_renderer(
        |refusal: Refusal, _: &HeaderMap| match refusal {
            Refusal::DeletedKey => Response::new(Bytes::from_static(b"deleted")),
            _ => Response::new(Bytes::new()),
        },
    );
}
