// E0277
use tower_api_key::KeyDigest;

fn serialised(digest: &KeyDigest) -> String {
    serde_json::to_string(digest).unwrap()
}

fn main() {}
