// E0277
use tower_api_key::KeyDigest;

fn shown(digest: &KeyDigest) -> String {
    format!("{digest}")
}

fn main() {}
