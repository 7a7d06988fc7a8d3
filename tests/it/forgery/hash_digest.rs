// E0277
use tower_api_key::KeyDigest;

fn hashed(digest: KeyDigest) {
    let _ = std::collections::HashSet::from([digest]);
}

fn main() {}
