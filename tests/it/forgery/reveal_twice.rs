// E0382
use tower_api_key::ApiKey;

fn twice(key: ApiKey) {
    let _ = key.reveal();
    let _ = key.reveal();
}

fn main() {}
