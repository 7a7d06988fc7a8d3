// E0423 E0624
use std::sync::Arc;
use tower_api_key::{Identity, KeyRecord};

fn main() {
    let _: fn(Arc<KeyRecord>) -> Identity = Identity;
    let _ = Identity::verified;
}
