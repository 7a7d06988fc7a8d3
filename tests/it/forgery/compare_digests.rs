// E0369
use tower_api_key::KeyDigest;

fn compared(ours: &KeyDigest, theirs: &KeyDigest) -> bool {
    *ours == *theirs
}

fn main() {}
