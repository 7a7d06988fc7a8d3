use proptest::prelude::*;

use super::super::Scheme;
use super::super::hashing::Hashing;
use super::*;

fn key(text: &str) -> KeyText<'_> {
    KeyText::parse(text.as_bytes()).unwrap()
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn in_hex(digest: &KeyDigest) -> String {
    hex::encode(digest.as_bytes())
}

/// What a scheme makes of a text.
fn of(scheme: Scheme, text: &str) -> Option<KeyDigest> {
    Hashing::default().accepting(scheme).older(key(text)).pop()
}

fn seam() -> Scheme {
    Scheme::prefixed_api_key("mycompany").unwrap()
}

/// Laravel: `hash('sha256', $plainTextToken)` of what comes after the `|`. In Python:
/// `hashlib.sha256(b"MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd").hexdigest()`.
#[test]
fn a_sanctum_token_has_the_digest_of_its_row() {
    let column = "a562857f72a13e7a84132b0f45587eed402c778b6b1d9b4f5177b3c0a3a2addd";
    let row = ForeignDigest::sanctum("17", bytes(column)).unwrap();
    let text = "17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd";
    assert!(of(Scheme::sanctum(), text).unwrap().matches(row.digest()));
    // Stores hold it: it may never change.
    let kept = "6686dc2cae6bdd086e3a7fc7714be16bc6b77874b35eeb8d36cd5019d88dedcd";
    assert_eq!(in_hex(row.digest()), kept);
    for other in [
        "18|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
        "017|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
        "17||MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
        "17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5QD",
    ] {
        assert!(!of(Scheme::sanctum(), other).unwrap().matches(row.digest()), "{other}");
    }
    for none in ["MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd", "17|", "|secret", "|"] {
        assert!(of(Scheme::sanctum(), none).is_none(), "{none}");
    }
    let long = format!("{}|secret", "1".repeat(65));
    assert!(of(Scheme::sanctum(), &long).is_none());
}

/// Seam: `longTokenHash` is the SHA-256 of the long token. In Python:
/// `hashlib.sha256(b"51FwqftsmMDHHbJAMEXXHCgG").hexdigest()`, which is what its README shows.
#[test]
fn a_prefixed_api_key_has_the_digest_of_its_row() {
    let column = "d70d981d87b449c107327c2a2afbf00d4b58070d6ba571aac35d7ea3e7c79f37";
    let row = ForeignDigest::prefixed_api_key("BRTRKFsL", bytes(column)).unwrap();
    let text = "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG";
    assert!(of(seam(), text).unwrap().matches(row.digest()));
    let kept = "cf45659d36e6424c1f7edc913cf8388cc9dec60ebc5397b0127cd60430fe68d7";
    assert_eq!(in_hex(row.digest()), kept);
    for other in [
        "mycompany_BRTRKFsl_51FwqftsmMDHHbJAMEXXHCgG",
        "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgg",
    ] {
        assert!(!of(seam(), other).unwrap().matches(row.digest()), "{other}");
    }
    for none in [
        "another_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
        "mycompanyBRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
        "mycompany_BRTRKFsL51FwqftsmMDHHbJAMEXXHCgG",
        "mycompany_BRTRKFsL_",
        "mycompany__51FwqftsmMDHHbJAMEXXHCgG",
        "mycompany_BRTRKFsL_51FwqftsmMDH_HbJAMEXXHCgG",
        "mycompany_",
        "mycompany",
    ] {
        assert!(of(seam(), none).is_none(), "{none}");
    }
}

/// Django: `hashed_key` is `sha512$$` and the SHA-512 of the whole key. In Python:
/// `hashlib.sha512(b"sYQbCzRe.zmcwk2DpOQyKyz3NsNKdxRJ2mlBrzvNc").hexdigest()`.
#[test]
fn a_django_key_has_the_digest_of_its_row() {
    let column = "691557df2670e2c215631c7e4885192996b582d1ee97ee34b1996247cc87f742\
                  7be905d2a2b1a4a694c0d65cfb81e409659951415ebb96e461f06a3c2583c534";
    let row = ForeignDigest::sha512(bytes(column));
    let text = "sYQbCzRe.zmcwk2DpOQyKyz3NsNKdxRJ2mlBrzvNc";
    assert!(of(Scheme::sha512(), text).unwrap().matches(row.digest()));
    let kept = "41cfcf5351b71985ebd311676c9de0d49d92504e848492820de66e3e7263d0d9";
    assert_eq!(in_hex(row.digest()), kept);
    let other = "sYQbCzRf.zmcwk2DpOQyKyz3NsNKdxRJ2mlBrzvNc";
    assert!(!of(Scheme::sha512(), other).unwrap().matches(row.digest()));
}

#[test]
fn a_plain_sha_256_is_the_digest_itself() {
    let native = KeyDigest::of(key("any-text"));
    assert!(ForeignDigest::sha256(*native.as_bytes()).digest().matches(&native));
}

#[test]
fn what_is_public_of_a_text_is_what_it_begins_with() {
    assert_eq!(ForeignDigest::sanctum("17", [0; 32]).unwrap().selector(), Some("17|"));
    assert_eq!(ForeignDigest::sha256([0; 32]).selector(), None);
}

#[test]
fn odd_selectors_are_refused() {
    for odd in ["", "a b", "é", "a\n", "a|b", &"1".repeat(65)] {
        assert!(ForeignDigest::sanctum(odd, [0; 32]).is_err(), "{odd:?}");
    }
    for odd in ["", "a b", "é", "a\0", "a_b", &"1".repeat(65)] {
        assert!(ForeignDigest::prefixed_api_key(odd, [0; 32]).is_err(), "{odd:?}");
    }
    for odd in ["", "a b", &"a".repeat(65)] {
        assert!(Scheme::prefixed_api_key(odd).is_err(), "{odd:?}");
    }
}

proptest! {
    /// No part of what a system keeps can be taken for a part of another's.
    #[test]
    fn every_part_counts(a in "[a-zA-Z0-9]{1,64}", b in "[a-zA-Z0-9]{1,64}", x: [u8; 32], y: [u8; 32]) {
        let sanctum = |id: &str, token| ForeignDigest::sanctum(id, token).unwrap().digest;
        let seam = |id: &str, token| ForeignDigest::prefixed_api_key(id, token).unwrap().digest;
        prop_assert_eq!(sanctum(&a, x).matches(&sanctum(&b, y)), (&a, x) == (&b, y));
        prop_assert_eq!(seam(&a, x).matches(&seam(&b, y)), (&a, x) == (&b, y));
        prop_assert!(!sanctum(&a, x).matches(&seam(&a, x)));
        let mut both = [0; 64];
        both[..32].copy_from_slice(&x);
        both[32..].copy_from_slice(&y);
        prop_assert!(!ForeignDigest::sha512(both).digest.matches(&sanctum(&a, x)));
    }

    /// A text and its row, as each system makes them.
    #[test]
    fn texts_and_rows_meet(id in "[1-9][0-9]{0,9}", short in "[1-9A-HJ-NP-Za-km-z]{8}", secret in "[0-9A-Za-z]{24,40}") {
        let hash: [u8; 32] = Sha256::digest(&secret).into();
        let row = ForeignDigest::sanctum(&id, hash).unwrap();
        let text = format!("{id}|{secret}");
        prop_assert!(of(Scheme::sanctum(), &text).unwrap().matches(row.digest()));
        let row = ForeignDigest::prefixed_api_key(&short, hash).unwrap();
        let text = format!("mycompany_{short}_{secret}");
        prop_assert!(of(seam(), &text).unwrap().matches(row.digest()));
    }
}
