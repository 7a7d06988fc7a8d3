// E0277
use tower_api_key::RevealedKey;

fn shown(key: &RevealedKey) -> String {
    format!("{key}")
}

fn main() {}
