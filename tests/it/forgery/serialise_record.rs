// E0277
use tower_api_key::KeyRecord;

fn serialised(record: &KeyRecord) -> String {
    serde_json::to_string(record).unwrap()
}

fn main() {}
