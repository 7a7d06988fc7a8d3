// E0451
use tower_api_key::Connection;

fn main() {
    let _ = Connection { peer: None, is_tls: true };
}
