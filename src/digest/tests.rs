use std::hash::BuildHasher as _;

use proptest::prelude::*;

use super::*;

/// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn digest_of(text: &[u8]) -> KeyDigest {
    KeyDigest::of(KeyText::parse(text).unwrap())
}

fn in_hex(digest: &KeyDigest) -> String {
    hex_of(digest.as_bytes())
}

fn hex_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn a_digest_is_the_sha_256_of_the_text() {
    assert_eq!(in_hex(&digest_of(b"abc")), ABC);
}

#[test]
fn a_digest_is_of_the_whole_key_with_its_prefix_and_checksum() {
    let key = b"acme_live_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1Jvx2D";
    let expected = "1ae095984410a9def9c3e6adfce0b4f1863ec66ac894701325ea09f44107e302";
    assert_eq!(in_hex(&digest_of(key)), expected);
}

#[test]
fn an_agent_s_hash_is_the_beginning_of_its_sha_256() {
    assert_eq!(AgentHash::of(b"abc").to_string(), ABC[..16]);
    assert_eq!(format!("{:?}", AgentHash::of(b"abc")), format!("AgentHash({})", &ABC[..16]));
    let kept = *AgentHash::of(b"abc").as_bytes();
    assert_eq!(AgentHash::from_bytes(kept), AgentHash::of(b"abc"));
    // Bytes of any kind, and none: "e3b0c442…" is the SHA-256 of nothing.
    assert_eq!(AgentHash::of(b"").to_string(), "e3b0c44298fc1c14");
    assert_ne!(AgentHash::of(&[0xff, 0]), AgentHash::of(&[0xff]));
}

#[test]
fn of_a_long_agent_the_first_kilobyte_is_hashed() {
    let mut agent = vec![b'x'; 5000];
    let whole = AgentHash::of(&agent);
    agent[1024] = b'y';
    assert_eq!(AgentHash::of(&agent), whole);
    assert_eq!(AgentHash::of(&agent[..1024]), whole);
    assert_ne!(AgentHash::of(&agent[..1023]), whole);
    agent[1023] = b'y';
    assert_ne!(AgentHash::of(&agent), whole);
}

#[test]
fn the_same_text_matches() {
    for text in [&b"a"[..], b"abc", &[b'x'; 55], &[b'x'; 56], &[b'x'; 256]] {
        assert!(digest_of(text).matches(&digest_of(text)));
    }
}

#[test]
fn another_text_does_not_match() {
    assert!(!digest_of(b"abc").matches(&digest_of(b"abd")));
    assert!(!digest_of(b"abc").matches(&digest_of(b"ABC")));
}

#[test]
fn a_difference_of_any_single_bit_is_seen() {
    let digest = digest_of(b"abc");
    for bit in 0..256 {
        let mut bytes = *digest.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let other = KeyDigest::from_bytes(bytes);
        assert!(!digest.matches(&other), "bit {bit}");
        assert!(!other.matches(&digest), "bit {bit}, the other way round");
    }
}

#[test]
fn equal_differences_in_two_lanes_do_not_cancel_out() {
    let digest = digest_of(b"abc");
    for (one, other) in [(0, 8), (0, 16), (7, 31), (8, 24), (16, 24)] {
        let mut bytes = *digest.as_bytes();
        bytes[one] ^= 0x80;
        bytes[other] ^= 0x80;
        assert!(!digest.matches(&KeyDigest::from_bytes(bytes)));
    }
}

#[test]
fn a_digest_of_zeros_matches_only_itself() {
    let zeros = KeyDigest::from_bytes([0; 32]);
    assert!(zeros.matches(&KeyDigest::from_bytes([0; 32])));
    assert!(!zeros.matches(&KeyDigest::from_bytes([0xff; 32])));
}

#[test]
fn a_digest_comes_back_as_it_was_kept() {
    let bytes = std::array::from_fn(|at| u8::try_from(at).unwrap());
    assert_eq!(KeyDigest::from_bytes(bytes).as_bytes(), &bytes);
}

#[test]
fn debug_shows_nothing_of_a_digest() {
    let digest = digest_of(b"abc");
    assert_eq!(format!("{digest:?} {digest:#?}"), "KeyDigest(…) KeyDigest(…)");
}

#[test]
fn a_fingerprint_is_the_first_8_bytes() {
    let digest = digest_of(b"abc");
    let fingerprint = digest.fingerprint();
    assert_eq!(fingerprint.as_bytes()[..], digest.as_bytes()[..8]);
    assert_eq!(Fingerprint::from_bytes(*fingerprint.as_bytes()), fingerprint);
}

#[test]
fn a_fingerprint_prints_as_16_hex_digits() {
    let fingerprint = digest_of(b"abc").fingerprint();
    assert_eq!(fingerprint.to_string(), ABC[..16]);
    assert_eq!(format!("{fingerprint:?}"), "Fingerprint(ba7816bf8f01cfea)");
    // Leading zeros stay.
    let small = Fingerprint::from_bytes([0, 0, 0, 0, 0, 0, 0, 0x0a]);
    assert_eq!(small.to_string(), "000000000000000a");
}

#[test]
fn equal_fingerprints_hash_alike_and_others_do_not() {
    let hasher = std::hash::RandomState::new();
    let fingerprint = digest_of(b"abc").fingerprint();
    let same = Fingerprint::from_bytes(*fingerprint.as_bytes());
    assert_eq!(hasher.hash_one(fingerprint), hasher.hash_one(same));
    for byte in 0..8 {
        let mut bytes = *fingerprint.as_bytes();
        bytes[byte] ^= 1;
        let other = Fingerprint::from_bytes(bytes);
        assert_ne!(hasher.hash_one(fingerprint), hasher.hash_one(other));
    }
}

proptest! {
    #[test]
    fn digests_match_exactly_when_their_bytes_are_equal(a: [u8; 32], b: [u8; 32]) {
        let (first, second) = (KeyDigest::from_bytes(a), KeyDigest::from_bytes(b));
        prop_assert_eq!(first.matches(&second), a == b);
        prop_assert!(first.matches(&KeyDigest::from_bytes(a)));
    }

    #[test]
    fn any_difference_whatever_its_bytes_is_seen(
        a: [u8; 32],
        position in 0_usize..32,
        difference in 0_u8..,
    ) {
        let mut b = a;
        b[position] ^= difference;
        let matching = KeyDigest::from_bytes(a).matches(&KeyDigest::from_bytes(b));
        prop_assert_eq!(matching, difference == 0);
    }

    #[test]
    fn a_fingerprint_prints_its_bytes_in_order(bytes: [u8; 8]) {
        let printed = Fingerprint::from_bytes(bytes).to_string();
        prop_assert_eq!(printed, hex_of(&bytes));
    }
}
