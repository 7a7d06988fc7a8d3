use super::*;

fn row(text: &str) -> ImportedKey {
    ImportedKey::of_text("a".parse().unwrap(), "A name".parse().unwrap(), text).unwrap()
}

fn of_digest(digest: ForeignDigest) -> ImportedKey {
    ImportedKey::of_digest("a".parse().unwrap(), "A name".parse().unwrap(), digest)
}

#[test]
fn texts_of_less_than_128_bits_are_weak() {
    for weak in [
        "password",
        "correct-horse-battery",
        "hunter2hunter2",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababababababababababababab",
        "12345678901234567890123456789012345678",
        "0123456789abcdef0123456789abcde",
        "MgDYJzCWmVdVyGUqBWzLM",
    ] {
        assert!(is_weak(weak), "{weak}");
    }
    for strong in [
        "0123456789abcdef0123456789abcdef",
        "MgDYJzCWmVdVyGUqBWzLMM",
        "17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
        "sYQbCzRe.zmcwk2DpOQyKyz3NsNKdxRJ2mlBrzvNc",
        "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
        "123456789012345678901234567890123456789",
    ] {
        assert!(!is_weak(strong), "{strong}");
    }
}

#[test]
fn a_hint_is_the_beginning_and_the_end_and_never_much_of_the_secret() {
    for (text, hint) in [
        ("acme_MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd", "acme_…k5Qd"),
        ("MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd", "…k5Qd"),
        ("MgDYJzCWmVdVyGUqBWzLMM", "…"),
        ("acme_MgDYJzCWmVdVyGUqBWzLMM", "acme_…"),
        // Random characters with a '_' among them, as Base64 for URLs has.
        ("MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k_Qd", "…k_Qd"),
        ("Mg_YJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd", "…k5Qd"),
        ("_gDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd", "…k5Qd"),
        ("17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd", "…k5Qd"),
        ("x", "…"),
    ] {
        assert_eq!(row(text).hint().as_str(), hint, "{text}");
    }
    let sanctum = ForeignDigest::sanctum("17", [0; 32]).unwrap();
    assert_eq!(of_digest(sanctum).hint().as_str(), "17|…");
    let seam = ForeignDigest::prefixed_api_key("BRTRKFsL", [0; 32]).unwrap();
    assert_eq!(of_digest(seam).hint().as_str(), "BRTRKFsL_…");
    assert_eq!(of_digest(ForeignDigest::sha256([0; 32])).hint(), Hint::default());
    // The longest that fits, and one that does not: a hint must be one when it is read again.
    for (length, fits) in [(62, true), (64, false)] {
        let id = "1".repeat(length);
        let hint = of_digest(ForeignDigest::sanctum(&id, [0; 32]).unwrap()).hint();
        assert_eq!(hint != Hint::default(), fits, "{length}");
        assert!(!fits || hint.as_str().parse::<Hint>().is_ok());
    }
}

#[test]
fn a_row_does_not_print_its_secret() {
    let printed = format!("{:?}", row("MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd"));
    assert!(!printed.contains("MgDYJ"), "{printed}");
}
