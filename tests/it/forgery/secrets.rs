// E0277 E0308 E0369 E0382
use tower_api_key::{ApiKey, KeyDigest, RevealedKey};

fn printed(key: ApiKey, revealed: RevealedKey, digest: KeyDigest) {
    println!("{key} {revealed} {digest}");
}

fn compared(ours: KeyDigest, theirs: KeyDigest) -> bool {
    ours == theirs
}

fn copied(key: &ApiKey) -> ApiKey {
    key.clone()
}

fn twice(key: ApiKey) {
    let _ = key.reveal();
    let _ = key.reveal();
}

fn serialised(digest: &KeyDigest) -> String {
    serde_json::to_string(digest).unwrap()
}

fn main() {}
