// E0308
use tower_api_key::ApiKey;

fn copied(key: &ApiKey) -> ApiKey {
    key.clone()
}

fn main() {}
