use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// 43 base62 digits, each another one.
const DIGITS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

/// Whole keys whose checksums were computed by another program.
const PINNED: &str = "acme_live_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1Jvx2D";
const PINNED_WITHOUT_ENVIRONMENT: &str = "acme_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1cfhE7";

fn assembled(prefix: &str, environment: Option<&str>, random: &str) -> ApiKey {
    let environment: Option<Environment> = environment.map(|text| text.parse().unwrap());
    ApiKey::assemble(&prefix.parse().unwrap(), environment.as_ref(), random)
}

/// Any text with the checksum that would be right for it, so that only the grammar can refuse it.
fn signed(body: &str) -> String {
    let checksum = checksum(body.as_bytes());
    format!("{body}{}", std::str::from_utf8(&checksum).unwrap())
}

fn is_admitted(format: KeyFormat, text: &[u8]) -> bool {
    KeyText::parse(text).is_ok_and(|key| format.admits(key))
}

fn is_native(text: &str) -> bool {
    is_admitted(KeyFormat::Checked, text.as_bytes())
}

fn visible_ascii() -> impl Iterator<Item = u8> {
    0x21..=0x7e
}

#[test]
fn the_crc_is_the_one_of_zip_and_ethernet() {
    // The check value that catalogues print for CRC-32/ISO-HDLC.
    assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
}

#[test]
fn the_checksum_is_the_crc_in_base62_with_the_most_significant_digit_first() {
    // 0xcbf43926 = ((((3·62 + 45)·62 + 35)·62 + 27)·62 + 22)·62 + 14
    assert_eq!(&checksum(b"123456789"), b"3jZRME");
    // The CRC of nothing is 0.
    assert_eq!(&checksum(b""), b"000000");
}

#[test]
fn the_text_of_a_key_is_pinned() {
    let key = assembled("acme", Some("live"), DIGITS);
    assert_eq!(key.reveal().as_str(), PINNED);
    let key = assembled("acme", None, DIGITS);
    assert_eq!(key.reveal().as_str(), PINNED_WITHOUT_ENVIRONMENT);
}

#[test]
fn the_pinned_keys_are_admitted() {
    for key in [PINNED, PINNED_WITHOUT_ENVIRONMENT] {
        assert!(is_native(key), "{key}");
        assert!(is_admitted(KeyFormat::Any, key.as_bytes()), "{key}");
    }
}

#[test]
fn a_byte_is_worth_its_place_among_the_digits() {
    for byte in 0..=u8::MAX {
        let place = BASE62.iter().position(|&digit| digit == byte);
        let (value, is_digit) = base62_value(byte);
        assert_eq!(place, is_digit.then_some(value.into()), "{byte}");
    }
}

/// What is no digit is not worth 62 either: "10" has the value that "0-" would have.
#[test]
fn a_checksum_is_written_in_base62_and_in_nothing_else() {
    let texts = (0..).map(|number| signed(&format!("acme_{number:043}")));
    let mut texts = texts.filter(|text| text.ends_with('0') && !text.ends_with("00"));
    let text = texts.next().unwrap();
    let mut carried = text.clone().into_bytes();
    let [.., before, last] = carried.as_mut_slice() else { unreachable!() };
    *before = BASE62[usize::from(base62_value(*before).0) - 1];
    *last = b'-';
    assert!(is_native(&text));
    assert!(!is_admitted(KeyFormat::Checked, &carried), "{text}");
}

#[test]
fn a_number_with_anything_but_digits_in_it_is_none() {
    assert_eq!(read_base62(b"00000z"), Some(61));
    for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphanumeric()) {
        for (one, two) in (0..6).flat_map(|one| (0..6).map(move |two| (one, two))) {
            let mut digits = *b"000000";
            (digits[one], digits[two]) = (other, other);
            assert_eq!(read_base62(&digits), None, "{other:#x} at {one} and {two}");
        }
    }
}

#[test]
fn every_change_of_one_character_is_refused() {
    for key in [PINNED, PINNED_WITHOUT_ENVIRONMENT] {
        for position in 0..key.len() {
            let mut changed = key.as_bytes().to_vec();
            for replacement in visible_ascii().filter(|&byte| byte != key.as_bytes()[position]) {
                changed[position] = replacement;
                let admitted = is_admitted(KeyFormat::Checked, &changed);
                assert!(!admitted, "{}", String::from_utf8_lossy(&changed));
            }
        }
    }
}

#[test]
fn two_neighbours_that_changed_places_are_refused() {
    for position in 0..PINNED.len() - 1 {
        let mut swapped = PINNED.as_bytes().to_vec();
        swapped.swap(position, position + 1);
        assert!(!is_admitted(KeyFormat::Checked, &swapped), "at {position}");
    }
}

#[test]
fn every_key_that_lost_its_end_or_its_beginning_is_refused() {
    for cut in 1..PINNED.len() {
        assert!(!is_native(&PINNED[..cut]), "{}", &PINNED[..cut]);
        assert!(!is_native(&PINNED[cut..]), "{}", &PINNED[cut..]);
    }
}

#[test]
fn a_key_with_one_more_character_is_refused() {
    for extra in visible_ascii().map(char::from) {
        assert!(!is_native(&format!("{PINNED}{extra}")), "{extra} behind");
        assert!(!is_native(&format!("{extra}{PINNED}")), "{extra} in front");
    }
}

#[test]
fn the_shortest_and_the_longest_beginnings_are_admitted() {
    for head in ["ab_", "ab_1_", "a1_0_", "abcdefghijklmnop_", "abcdefghijklmnop_0123456789abcdef_"]
    {
        assert!(is_native(&signed(&format!("{head}{DIGITS}"))), "{head:?}");
    }
}

#[test]
fn texts_of_other_shapes_are_refused() {
    for text in ["x", "000001", "acme_live_", "sk-1234567890abcdef", "____________"] {
        assert!(!is_native(text), "{text}");
        assert!(is_admitted(KeyFormat::Any, text.as_bytes()), "{text}");
    }
}

#[test]
fn the_format_any_admits_every_visible_character_at_every_length() {
    for byte in visible_ascii() {
        for length in [1, 2, 49, 55, 255, 256] {
            assert!(is_admitted(KeyFormat::Any, &vec![byte; length]));
        }
    }
}

#[test]
fn formats_are_checked_unless_told_otherwise() {
    assert_eq!(KeyFormat::default(), KeyFormat::Checked);
}

#[test]
fn a_key_text_has_1_to_256_bytes() {
    let parsed = |length| KeyText::parse(&vec![b'x'; length]).map(|key| key.as_bytes().len());
    assert_eq!(parsed(0), Err(InvalidText::empty("API key")));
    assert_eq!(parsed(1), Ok(1));
    assert_eq!(parsed(256), Ok(256));
    for length in [257, 300 * 1024] {
        assert_eq!(parsed(length), Err(InvalidText::too_long("API key", 256)));
    }
}

#[test]
fn a_key_text_has_visible_ascii_only_wherever_the_other_byte_is() {
    for byte in (0..=0x20).chain(0x7f..=0xff) {
        for position in 0..3 {
            let mut text = *b"key";
            text[position] = byte;
            let error = KeyText::parse(&text).unwrap_err();
            let rule = InvalidText::characters("API key", "visible ASCII only");
            assert_eq!(error, rule, "{byte:#x} at {position}");
        }
    }
}

#[test]
fn a_key_text_is_taken_as_it_is() {
    let text: Vec<u8> = visible_ascii().collect();
    assert_eq!(KeyText::parse(&text).unwrap().as_bytes(), text);
}

#[test]
fn the_refusal_of_a_key_text_does_not_repeat_it() {
    for text in ["secret with spaces".to_owned(), "secret".repeat(100)] {
        let error = KeyText::parse(text.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}

#[test]
fn debug_shows_nothing_of_a_key() {
    let shown = |value: &dyn fmt::Debug| format!("{value:?} {value:#?}");
    let key = || assembled("acme", Some("live"), DIGITS);
    assert_eq!(shown(&key()), "ApiKey(…) ApiKey(…)");
    assert_eq!(shown(&key().reveal()), "RevealedKey(…) RevealedKey(…)");
    assert_eq!(shown(&key().text()), "KeyText(…) KeyText(…)");
}

#[test]
fn the_hint_is_the_beginning_and_the_last_four_characters() {
    assert_eq!(assembled("acme", Some("live"), DIGITS).hint().as_str(), "acme_live_…vx2D");
    assert_eq!(assembled("acme", None, DIGITS).hint().as_str(), "acme_…fhE7");
}

#[test]
fn the_text_to_be_hashed_is_the_text_that_is_shown() {
    let key = assembled("acme", Some("live"), DIGITS);
    assert_eq!(key.text().as_bytes(), PINNED.as_bytes());
}

proptest! {
    #[test]
    fn every_assembled_key_is_native(
        prefix in "[a-z][a-z0-9]{1,15}",
        environment in proptest::option::of("[a-z0-9]{1,16}"),
        random in "[0-9A-Za-z]{43}",
    ) {
        let key = assembled(&prefix, environment.as_deref(), &random);
        prop_assert!(KeyFormat::Checked.admits(key.text()));
        prop_assert!(KeyFormat::Any.admits(key.text()));
    }

    #[test]
    fn a_change_of_one_character_of_any_key_is_refused(
        environment in proptest::option::of("[a-z0-9]{1,16}"),
        random in "[0-9A-Za-z]{43}",
        position in any::<prop::sample::Index>(),
        replacement in 0x21_u8..=0x7e,
    ) {
        let key = assembled("acme", environment.as_deref(), &random).reveal();
        let mut changed = key.as_str().as_bytes().to_vec();
        let position = position.index(changed.len());
        prop_assume!(changed[position] != replacement);
        changed[position] = replacement;
        prop_assert!(!is_admitted(KeyFormat::Checked, &changed));
    }

    #[test]
    fn the_hint_holds_nothing_of_the_random_digits(random in "[0-9A-Za-z]{43}") {
        let key = assembled("acme", Some("live"), &random);
        let hint = key.hint();
        let text = key.reveal();
        let tail = hint.as_str().strip_prefix("acme_live_…").unwrap();
        prop_assert_eq!(tail, &text.as_str()[text.as_str().len() - 4..]);
    }

    #[test]
    fn any_bytes_are_judged_by_length_and_alphabet_alone(bytes in vec(any::<u8>(), 0..300)) {
        let fits = matches!(bytes.len(), 1..=256) && bytes.iter().all(|b| (0x21..=0x7e).contains(b));
        prop_assert_eq!(is_admitted(KeyFormat::Any, &bytes), fits);
        prop_assert!(!is_admitted(KeyFormat::Checked, &bytes));
    }

    #[test]
    fn texts_that_look_like_keys_never_panic(text in "[a-z_0-9A-Z]{0,120}") {
        // All but impossible to hit by chance: 1 in 2^32, and the shape beside.
        prop_assert!(!is_native(&text));
    }
}
