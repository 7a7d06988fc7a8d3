// E0624
use tower_api_key::Connection;

fn main() {
    let _ = Connection::tls_ended_here("127.0.0.1:1".parse().unwrap());
}
