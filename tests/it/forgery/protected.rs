// E0599
use tower_api_key::axum::protect;
use tower_api_key::{ApiKeyLayer, MemoryStore};

fn main() {
    let protected = protect(axum::Router::new(), ApiKeyLayer::new(MemoryStore::new()));
    let _ = protected.route("/open", axum::routing::get(|| async {}));
}
