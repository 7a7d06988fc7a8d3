use std::cell::Cell;

use proptest::prelude::*;

use super::*;

thread_local! {
    /// How many digests of today's scheme this thread has made.
    pub(crate) static MADE: Cell<usize> = const { Cell::new(0) };
}

const TEXT: &str = "acme_live_example";

fn key(text: &str) -> KeyText<'_> {
    KeyText::parse(text.as_bytes()).unwrap()
}

fn pepper() -> Pepper {
    Pepper::new((0..32).collect()).unwrap()
}

fn in_hex(digest: &KeyDigest) -> String {
    hex::encode(digest.as_bytes())
}

#[test]
fn without_a_pepper_it_is_the_sha_256_of_the_text() {
    let digest = Hashing::default().digest(key(TEXT));
    assert!(digest.matches(&KeyDigest::of(key(TEXT))));
    assert!(Hashing::default().older(key(TEXT)).is_empty());
}

/// In Python: `hmac.new(bytes(range(32)), b"acme_live_example", hashlib.sha256).hexdigest()`.
#[test]
fn with_a_pepper_it_is_the_hmac_of_the_text() {
    let expected = "3a6ab87d696f26582aca9e858930e168834ab9b847bfc6bf61cf3d9fb78035cc";
    assert_eq!(in_hex(&Hashing::peppered(pepper()).digest(key(TEXT))), expected);
    let other = Pepper::new((1..33).collect()).unwrap();
    assert_ne!(in_hex(&Hashing::peppered(other).digest(key(TEXT))), expected);
}

#[test]
fn a_foreign_key_is_found_where_its_form_is_looked_for() {
    let sha256 = ForeignDigest::sha256([1; 32]);
    let sha512 = ForeignDigest::sha512([1; 64]);
    let (plain, peppered) = (Hashing::default(), Hashing::peppered(pepper()));
    assert!(plain.finds(&sha256) && !plain.finds(&sha512));
    assert!(!peppered.finds(&sha256) && !peppered.finds(&sha512));
    assert!(peppered.clone().accepting(Scheme::sha256()).finds(&sha256));
    let both = peppered.accepting(Scheme::sha512());
    assert!(both.finds(&sha512) && !both.finds(&sha256));
}

#[test]
fn a_short_pepper_is_refused() {
    for length in [0, 1, 31] {
        let refused = Pepper::new(vec![7; length]).unwrap_err();
        assert_eq!(refused.to_string(), "pepper: at least 32 bytes");
    }
    for length in [32, 33, 64, 65, 1000] {
        let long = Pepper::new(vec![7; length]).unwrap();
        let _ = Hashing::peppered(long).digest(key(TEXT));
    }
}

#[test]
fn nothing_prints_a_pepper() {
    let pepper = Pepper::new(b"a pepper that nobody may ever see".to_vec()).unwrap();
    let hashing = Hashing::peppered(pepper.clone()).accepting(Scheme::peppered(pepper.clone()));
    let printed = format!("{pepper:?} {hashing:?} {hashing:#?}");
    assert!(!printed.contains("nobody") && !printed.contains("97, 32"), "{printed}");
}

#[test]
fn older_schemes_are_in_the_order_in_which_they_were_named() {
    let hashing = Hashing::default()
        .accepting(Scheme::peppered(pepper()))
        .accepting(Scheme::sanctum())
        .accepting(Scheme::sha512())
        .accepting(Scheme::sha256());
    let older = hashing.older(key(TEXT));
    assert_eq!(older.len(), 3, "the text is none of Sanctum's");
    assert!(older[0].matches(&pepper().digest(key(TEXT))));
    assert!(older[2].matches(&KeyDigest::of(key(TEXT))));
}

#[test]
fn only_what_would_be_found_may_be_imported() {
    let sha256 = ForeignDigest::sha256([1; 32]);
    let sanctum = ForeignDigest::sanctum("1", [1; 32]).unwrap();
    let plain = Hashing::default();
    assert!(plain.finds(&sha256) && !plain.finds(&sanctum));
    let peppered = Hashing::peppered(pepper());
    assert!(!peppered.finds(&sha256), "nobody looks for a digest without the pepper");
    let both = peppered.accepting(Scheme::sha256()).accepting(Scheme::sanctum());
    assert!(both.finds(&sha256) && both.finds(&sanctum));
}

proptest! {
    #[test]
    fn no_text_is_too_odd_for_a_scheme(text in "[!-~]{1,256}", prefix in "[!-~]{1,64}") {
        let hashing = Hashing::peppered(pepper())
            .accepting(Scheme::sha256())
            .accepting(Scheme::sha512())
            .accepting(Scheme::sanctum())
            .accepting(Scheme::prefixed_api_key(&prefix).unwrap());
        let older = hashing.older(key(&text));
        prop_assert!((2..=4).contains(&older.len()));
        // Each scheme's digests are its own.
        let today = hashing.digest(key(&text));
        let mut all: Vec<_> = older.iter().chain([&today]).map(in_hex).collect();
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), older.len() + 1);
    }
}
