// E0277
use tower_api_key::ApiKey;

fn shown(key: &ApiKey) -> String {
    format!("{key}")
}

fn main() {}
